//! Paths in a layer: bytes, below the root, with no `/` in front, no empty part, `.` or `..`.

use super::super::limits::{DEPTH_MAX, NAME_MAX, PATH_MAX};

/// The canonical form of a name in a tar; the root is empty. The error says what is wrong.
pub fn canonical(name: &[u8]) -> Result<Vec<u8>, String> {
    let mut path = Vec::with_capacity(name.len());
    let mut depth = 0;
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(format!("{}: leads out of the image with '..'", show(name))),
            _ if part.len() > NAME_MAX => return Err(format!("{}: a name of {} bytes", show(name), part.len())),
            _ if part.contains(&0) => return Err(format!("{}: has a NUL byte", show(name))),
            _ => {}
        }
        depth += 1;
        if depth > DEPTH_MAX {
            return Err(format!("{}: more than {DEPTH_MAX} directories deep", show(name)));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    // The kernel counts the NUL at the end and the `/` in front.
    if path.len() + 2 > PATH_MAX {
        return Err(format!("{}: a path of {} bytes", show(name), path.len()));
    }
    Ok(path)
}

/// Whether `path` is in canonical form.
pub fn is_canonical(path: &[u8]) -> bool {
    path.is_empty()
        || path.len() + 2 <= PATH_MAX
            && !path.contains(&0)
            && path.split(|b| *b == b'/').take(DEPTH_MAX + 1).enumerate().all(|(n, part)| {
                n < DEPTH_MAX && !part.is_empty() && part.len() <= NAME_MAX && part != b"." && part != b".."
            })
}

/// The directory and the name in it; `None` for the root.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => Some((&path[..at], &path[at + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

/// A name for people: short, and with nothing that a terminal would obey.
pub fn show(name: &[u8]) -> String {
    const SHOWN: usize = 120;
    let text = String::from_utf8_lossy(&name[..name.len().min(SHOWN)]);
    let mut text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.len() > SHOWN {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_become_canonical() {
        for (name, path) in [
            ("./", ""),
            ("/", ""),
            ("", ""),
            ("./a//b/./c/", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("a..b/...", "a..b/..."),
        ] {
            let found = canonical(name.as_bytes()).unwrap();
            assert_eq!(found, path.as_bytes());
            assert!(is_canonical(&found));
        }
        assert_eq!(canonical(b"caf\xe9").unwrap(), b"caf\xe9");
    }

    #[test]
    fn names_that_lead_out_or_are_too_long_are_refused() {
        let deep = "d/".repeat(DEPTH_MAX + 1);
        let (long, far) = ("n".repeat(256), "abcdefgh/".repeat(500));
        for name in ["..", "../a", "a/../b", "/..", "a/..", "a\0b", &deep, &long, &far] {
            assert!(canonical(name.as_bytes()).is_err(), "{name}");
        }
        for path in ["/a", "a/", "a//b", ".", "a/..", "a\0", &deep[..deep.len() - 1], &long] {
            assert!(!is_canonical(path.as_bytes()), "{path}");
        }
        assert!(!canonical(b"\x1b[31m/../x").unwrap_err().contains('\x1b'));
    }

    #[test]
    fn splits() {
        assert_eq!(split(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(split(b"a"), Some((&b""[..], &b"a"[..])));
        assert_eq!(split(b""), None);
    }
}
