//! Who the program runs as: names from the guest's own passwd and group files, or numbers.

/// A user as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Resolves `USER[:GROUP]` as container engines do: a number needs no entry, its group is then 0; a group that is
/// named replaces the entry's and drops the supplementary ones. `passwd` and `group` are the files' texts.
pub fn resolve(spec: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = match spec.split_once(':') {
        Some((u, g)) => (u, Some(g).filter(|g| !g.is_empty())),
        None => (spec, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    // An image without a passwd file has a root all the same.
    let number: Option<u32> = if name == "root" { Some(0) } else { name.parse().ok() };
    let entry = passwd.lines().map(fields).find(|f| match (f.first(), f.get(2), number) {
        (Some(n), _, _) if *n == name => true,
        (_, Some(id), Some(number)) => id.parse() == Ok(number),
        _ => false,
    });
    let field = |at: usize| entry.as_ref().and_then(|f| f.get(at)).copied();
    let id = |at: usize| field(at).and_then(|id| id.parse::<u32>().ok());
    let uid = id(2).or(number).ok_or_else(|| format!("no user {name:?} in the guest's /etc/passwd"))?;
    let mut user = User {
        uid,
        gid: id(3).unwrap_or(0),
        groups: Vec::new(),
        home: field(5).filter(|h| h.starts_with('/')).unwrap_or(if uid == 0 { "/root" } else { "/" }).to_string(),
    };
    match group_name {
        Some(name) => {
            let by_name = group.lines().map(fields).find(|f| f.first() == Some(&name));
            let by_name = by_name.and_then(|f| f.get(2).and_then(|id| id.parse().ok()));
            user.gid = by_name
                .or_else(|| name.parse().ok())
                .ok_or_else(|| format!("no group {name:?} in the guest's /etc/group"))?;
        }
        None => {
            if let Some(login) = field(0) {
                user.groups = group
                    .lines()
                    .map(fields)
                    .filter(|f| f.get(3).is_some_and(|members| members.split(',').any(|m| m == login)))
                    .filter_map(|f| f.get(2)?.parse().ok())
                    .filter(|gid| *gid != user.gid)
                    .take(1024)
                    .collect();
            }
        }
    }
    Ok(user)
}

fn fields(line: &str) -> Vec<&str> {
    line.trim_end().split(':').collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/srv/www:/bin/false\nbroken\n\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nadm:x:4:syslog,www\nssl:x:110:www\nbad:x:zz:www\n";

    fn user(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let u = resolve(spec, PASSWD, GROUP).unwrap();
        (u.uid, u.gid, u.groups, u.home)
    }

    #[test]
    fn names_numbers_and_groups() {
        assert_eq!(user(""), (0, 0, vec![], "/root".into()));
        assert_eq!(user("www"), (33, 34, vec![4, 110], "/srv/www".into()));
        assert_eq!(user("33"), (33, 34, vec![4, 110], "/srv/www".into()));
        assert_eq!(user("www:adm"), (33, 4, vec![], "/srv/www".into()));
        assert_eq!(user("www:77"), (33, 77, vec![], "/srv/www".into()));
        assert_eq!(user("1234"), (1234, 0, vec![], "/".into()));
        assert_eq!(user("1234:56"), (1234, 56, vec![], "/".into()));
        assert_eq!(user(":34"), (0, 34, vec![], "/root".into()));
    }

    #[test]
    fn unknown_ones_are_named() {
        assert!(resolve("nobody", PASSWD, GROUP).unwrap_err().contains("nobody"));
        assert!(resolve("www:none", PASSWD, GROUP).unwrap_err().contains("none"));
        assert!(resolve("broken", PASSWD, GROUP).is_err());
        assert_eq!(resolve("root", "", "").unwrap().uid, 0);
        assert_eq!(resolve("", "", "").unwrap().uid, 0);
    }
}
