//! Volumes: `NAME:/PATH[:SIZE]` for VMs, `NAME-OR-HOST-PATH:/PATH[:OPTIONS]` for containers.

use super::problem::quoted;
use super::{Volume, name, size, suggest};
use std::path::{Path, PathBuf};

/// The least and the most that a named disk may have, in bytes.
const SIZE: (u64, u64) = (1 << 20, 16 << 40);

/// What podman takes after a volume.
const OPTIONS: &[&str] = &[
    "ro",
    "rw",
    "z",
    "Z",
    "U",
    "O",
    "copy",
    "nocopy",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "bind",
    "rbind",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "idmap",
];

/// Mount points that the guest's own system needs.
const RESERVED: &[&str] = &["/proc", "/sys", "/dev"];

impl Volume {
    /// Reads a VM's `NAME:/PATH[:SIZE]`. The error says what is wrong.
    pub fn parse_disk(text: &str) -> Result<Volume, String> {
        let about = |reason: String| format!("{}: {reason}", quoted(text));
        let mut parts = text.splitn(3, ':');
        let (Some(label), Some(path)) = (parts.next(), parts.next()) else {
            return Err(about("not NAME:/PATH[:SIZE], like \"data:/srv:1G\"".into()));
        };
        if label.contains('/') || label.starts_with('.') {
            return Err(about(
                "a host path is for containers; a VM's volume is a named disk, NAME:/PATH[:SIZE]".into(),
            ));
        }
        if !name::is_valid(label) {
            return Err(about(format!("{} is not a name: 1 to 32 of a-z, 0-9 and inner '-'", quoted(label))));
        }
        let path = mount_point(path).map_err(about)?;
        if RESERVED.iter().any(|r| path.strip_prefix(r).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))) {
            return Err(about(format!("{path} belongs to the guest's system")));
        }
        let size = match parts.next() {
            None => None,
            Some(text) if text.split(',').all(|o| OPTIONS.contains(&o)) => {
                return Err(about(format!(
                    "{} is an option for containers; a VM's volume has a size there",
                    quoted(text)
                )));
            }
            Some(text) => match size::parse(text) {
                Ok(bytes) if (SIZE.0..=SIZE.1).contains(&bytes) => Some(bytes),
                Ok(_) => {
                    return Err(about(format!("a size is {} to {}", size::format(SIZE.0), size::format(SIZE.1))));
                }
                Err(e) => return Err(about(e)),
            },
        };
        Ok(Volume { name: label.to_string(), path, size, options: None })
    }

    /// Reads a container's `NAME:/PATH[:OPTIONS]` or `HOST-PATH:/PATH[:OPTIONS]`; a host path that begins with `./`
    /// or `../` is below `base`. The error says what is wrong.
    pub fn parse_mount(text: &str, base: &Path) -> Result<Volume, String> {
        let about = |reason: String| format!("{}: {reason}", quoted(text));
        let mut parts = text.splitn(3, ':');
        let (Some(from), Some(path)) = (parts.next(), parts.next()) else {
            return Err(about("not NAME:/PATH[:OPTIONS] or /HOST/PATH:/PATH[:OPTIONS]".into()));
        };
        let name = if from.starts_with('/') || from.starts_with("./") || from.starts_with("../") {
            let path: PathBuf = base.join(from).components().collect();
            match path.to_str() {
                Some(path) if !path.chars().any(char::is_control) => path.to_string(),
                _ => return Err(about("the host path is not plain text".into())),
            }
        } else if is_podman_name(from) {
            from.to_string()
        } else if from.contains('/') {
            return Err(about(format!("{} is neither a name nor a path that begins with / or ./", quoted(from))));
        } else {
            return Err(about(format!("{} is not a volume's name", quoted(from))));
        };
        let path = mount_point(path).map_err(about)?;
        let options = parts.next();
        for option in options.into_iter().flat_map(|o| o.split(',')) {
            let known =
                OPTIONS.contains(&option) || ["upperdir=", "workdir=", "idmap="].iter().any(|p| option.starts_with(p));
            if !known && size::parse(option).is_ok() {
                return Err(about("a size is for the named disks of VMs; podman's volumes have none".into()));
            }
            if !known || option.chars().any(char::is_control) {
                let hint = suggest::hint(option, OPTIONS.iter().copied());
                return Err(about(format!("unknown option {}{hint}", quoted(option))));
            }
        }
        Ok(Volume { name, path, size: None, options: options.map(str::to_string) })
    }
}

/// Podman's and docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
fn is_podman_name(text: &str) -> bool {
    text.len() <= 255
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// An absolute path, without a trailing slash, that is not the root.
fn mount_point(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text.chars().any(char::is_control) {
        return Err(format!("{} is not an absolute path", quoted(text)));
    }
    let path = text.trim_end_matches('/');
    if path.is_empty() {
        return Err("a volume can't take the place of /".into());
    }
    if path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("{} has an empty part, \".\" or \"..\" in it", quoted(text)));
    }
    Ok(path.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let disk = Volume::parse_disk("data:/srv/x/:1G").unwrap();
        assert_eq!((disk.name.as_str(), disk.path.as_str(), disk.size), ("data", "/srv/x", Some(1 << 30)));
        let mount = Volume::parse_mount("./data:/srv:ro,Z", Path::new("/etc/mcp")).unwrap();
        assert_eq!((mount.name.as_str(), mount.options.as_deref()), ("/etc/mcp/data", Some("ro,Z")));
        assert_eq!(Volume::parse_mount("Vol_1.x:/srv", Path::new("/")).unwrap().name, "Vol_1.x");
        for (text, told) in [
            ("data", "not NAME:/PATH"),
            ("/host:/srv", "for containers"),
            ("Data:/srv", "is not a name"),
            ("data:srv", "not an absolute path"),
            ("data:/", "place of /"),
            ("data:/a/../b", "\"..\" in it"),
            ("data:/a//b", "empty part"),
            ("data:/proc", "belongs to the guest"),
            ("data:/dev/shm", "belongs to the guest"),
            ("data:/srv:ro", "option for containers"),
            ("data:/srv:1GB", "is not a size"),
            ("data:/srv:0", "a size is 1M to 16T"),
            ("data:/srv:", "is not a size"),
        ] {
            let error = Volume::parse_disk(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        for (text, told) in [
            ("data", "not NAME:/PATH"),
            ("a/b:/srv", "neither a name nor a path"),
            ("_x:/srv", "not a volume's name"),
            ("data:/srv:1G", "podman's volumes have none"),
            ("data:/srv:rox", "did you mean \"ro\"?"),
        ] {
            let error = Volume::parse_mount(text, Path::new("/")).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
