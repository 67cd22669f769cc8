//! The files of an image, laid out the way that `ops image create --package` takes them right.
//!
//! What it does with symbolic links makes this necessary: it looks on the node, not in the image, whether their targets
//! exist, and drops the others; one at the top it replaces by what it points to, wherever that is. So here every link
//! is relative and leads to a place inside, and at the top there are none. And what is in a folder whose name ends with
//! "sysroot" comes to lie somewhere else: that is refused.

use super::home;
use crate::image::limits;
use crate::sys::{Error, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// What was laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Where.
    pub dir: PathBuf,
    /// Bytes of all files, each in whole sectors.
    pub bytes: u64,
    /// Bytes of them that are holes.
    pub holes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

/// Lays out the files of `from` at `to`, which must not be there: as hard links where a stranger may read them, or
/// need not, else as copies.
pub fn stage(from: &Path, to: &Path, for_stranger: bool) -> Result<Staged> {
    let top = from.canonicalize().map_err(Error::path("open", from))?;
    let mut stage =
        Stage { top, for_stranger, staged: Staged { dir: to.to_path_buf(), bytes: 0, holes: 0, entries: 0 } };
    stage.folder(&stage.top.clone(), Path::new(""), 0)?;
    Ok(stage.staged)
}

struct Stage {
    top: PathBuf,
    for_stranger: bool,
    staged: Staged,
}

impl Stage {
    /// Takes the folder `from` in as `at`, which is `depth` parts long.
    fn folder(&mut self, from: &Path, at: &Path, depth: usize) -> Result<()> {
        let to = self.staged.dir.join(at);
        fs::create_dir(&to).map_err(Error::path("create directory", &to))?;
        open_to_all(&to, 0o755)?;
        let refused = |path: &Path, why: &str| {
            let way_out = "; runtime = \"microvm\" would run it";
            Err(Error::refused(format!("/{}", path.display()), format!("{why}{way_out}")))
        };
        if depth > limits::DEPTH_MAX {
            return refused(at, "too deep");
        }
        for entry in fs::read_dir(from).map_err(Error::path("read directory", from))? {
            let entry = entry.map_err(Error::path("read directory", from))?;
            let (path, inside) = (entry.path(), at.join(entry.file_name()));
            if entry.file_name().to_str().is_none() {
                return refused(&inside, "its name is not UTF-8, and ops has no other names");
            }
            if at.as_os_str().as_bytes().ends_with(b"sysroot") {
                return refused(&inside, "ops can't take what is in a folder whose name ends with \"sysroot\"");
            }
            self.staged.entries += 1;
            if self.staged.entries > limits::ENTRIES_MAX {
                return refused(&inside, "more entries than an image may have");
            }
            let about = entry.metadata().map_err(Error::path("stat", &path))?;
            if about.is_dir() {
                self.folder(&path, &inside, depth + 1)?;
            } else if about.is_file() {
                self.file(&path, &about, &inside)?;
            } else if about.is_symlink() {
                self.link(&path, &inside, depth)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, about: &fs::Metadata, at: &Path) -> Result<()> {
        let to = self.staged.dir.join(at);
        self.staged.bytes += about.size().next_multiple_of(512);
        self.staged.holes += about.size().saturating_sub(about.blocks() * 512);
        let readable = !self.for_stranger || about.permissions().mode() & 0o004 != 0;
        // Another file system, or too many links of it already: a copy will do.
        match readable.then(|| fs::hard_link(from, &to)) {
            Some(Ok(())) => Ok(()),
            _ => {
                let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
                let source = fs::OpenOptions::new().read(true).custom_flags(flags).open(from);
                home::copy_of(source.map_err(Error::path("open", from))?, &to)
            }
        }
    }

    /// A link, made relative. One that leads nowhere is left out: `ops` would do so.
    fn link(&mut self, from: &Path, at: &Path, depth: usize) -> Result<()> {
        let target = fs::read_link(from).map_err(Error::path("read link", from))?;
        let Some(real) = resolve(&self.top, at)? else { return Ok(()) };
        if depth == 0 {
            let about = fs::symlink_metadata(&real).map_err(Error::path("stat", &real))?;
            if about.is_dir() {
                return self.folder(&real, at, 1);
            }
            return if about.is_file() { self.file(&real, &about, at) } else { Ok(()) };
        }
        let mut relative = PathBuf::new();
        // Below a folder that took the place of a link, a relative target counts from where the link is in truth.
        let parent = from.parent().and_then(|p| p.strip_prefix(&self.top).ok()).unwrap_or(Path::new(""));
        let moved = at.parent() != Some(parent);
        if target.is_absolute() || moved {
            relative.extend(std::iter::repeat_n("..", depth));
            if target.is_relative() {
                relative.push(parent);
            }
            relative.extend(target.components().filter(|c| *c != Component::RootDir));
        } else {
            // What climbs higher than the root stays at the root.
            let climbs = target.components().take_while(|c| *c == Component::ParentDir).count();
            relative.extend(target.components().skip(climbs.saturating_sub(depth)));
        }
        let to = self.staged.dir.join(at);
        std::os::unix::fs::symlink(&relative, &to).map_err(Error::path("link", &to))
    }
}

impl Staged {
    /// Whether the image has a file at `path`, links followed inside it.
    pub fn has_file(&self, path: &str) -> Result<bool> {
        let at = Path::new(path.trim_start_matches('/'));
        Ok(resolve(&self.dir, at)?.is_some_and(|real| real.is_file()))
    }

    /// Makes the folder `path` where it is missing; links are followed inside the image. Returns where it is in truth.
    /// That a file is in its way is an error about `object`.
    pub fn ensure_folder(&mut self, path: &str, object: &str) -> Result<String> {
        let mut at = PathBuf::new();
        let in_the_way =
            |at: &Path| Err(Error::refused(object, format!("/{} is no folder of the image", at.display())));
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => at.push(name),
                Component::ParentDir => drop(at.pop()),
                _ => continue,
            }
            match resolve(&self.dir, &at)? {
                Some(real) if real.is_dir() => {
                    at = real.strip_prefix(&self.dir).map(Path::to_path_buf).unwrap_or_default();
                }
                Some(_) => return in_the_way(&at),
                None => {
                    let to = self.dir.join(&at);
                    fs::create_dir(&to).map_err(Error::path("create directory", &to))?;
                    open_to_all(&to, 0o755)?;
                    self.entries += 1;
                }
            }
        }
        match at.to_str() {
            Some(at) => Ok(format!("/{at}")),
            None => in_the_way(&at),
        }
    }
}

fn open_to_all(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::path("change mode of", path))
}

/// Where `at` is, with all links followed as if `top` were the root; `None` where nothing is there.
fn resolve(top: &Path, at: &Path) -> Result<Option<PathBuf>> {
    let mut left: Vec<PathBuf> = vec![at.to_path_buf()];
    let (mut real, mut links) = (top.to_path_buf(), 0);
    while let Some(path) = left.pop() {
        let mut parts = path.components();
        let Some(part) = parts.next() else { continue };
        let rest = parts.as_path().to_path_buf();
        if !rest.as_os_str().is_empty() {
            left.push(rest);
        }
        match part {
            Component::RootDir => real = top.to_path_buf(),
            Component::ParentDir if real != top => drop(real.pop()),
            Component::Normal(name) => {
                real.push::<&OsStr>(name);
                let about = match fs::symlink_metadata(&real) {
                    Ok(about) => about,
                    Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
                    Err(e) => return Err(Error::path("stat", &real)(e)),
                };
                if about.is_symlink() {
                    links += 1;
                    if links > limits::LINKS_MAX {
                        return Ok(None);
                    }
                    left.push(fs::read_link(&real).map_err(Error::path("read link", &real))?);
                    real.pop();
                }
            }
            _ => {}
        }
    }
    Ok(Some(real))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(name: &str) -> (PathBuf, PathBuf) {
        let dir = std::env::temp_dir().join(format!("mcp-sysroot-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let rootfs = dir.join("rootfs");
        for folder in ["usr/lib/x", "usr/share", "etc", "run"] {
            fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        fs::write(rootfs.join("usr/lib/x/libx.so.1"), [7; 600]).unwrap();
        (dir, rootfs)
    }

    #[test]
    fn links_lead_to_places_inside() {
        let (dir, rootfs) = tree("links");
        for (target, at) in [
            ("usr/lib", "lib"),
            ("/usr/lib/x/libx.so.1", "top.so"),
            ("/usr/lib/x/libx.so.1", "usr/share/absolute"),
            ("../../../../../usr/lib/x", "usr/share/climbs"),
            ("../lib/x/libx.so.1", "usr/share/relative"),
            ("/etc/passwd", "usr/share/nowhere"),
            ("/etc/hostname", "leak"),
            ("loop", "usr/share/loop"),
            ("/", "usr/share/root"),
            ("/run", "etc/run"),
            ("../../share", "usr/lib/x/up"),
        ] {
            symlink(target, rootfs.join(at)).unwrap();
        }
        let to = dir.join("out");
        let mut staged = stage(&rootfs, &to, true).unwrap();
        let link = |at: &str| fs::read_link(to.join(at)).unwrap();
        assert_eq!(link("usr/share/absolute"), Path::new("../../usr/lib/x/libx.so.1"));
        assert_eq!(link("usr/share/climbs"), Path::new("../../usr/lib/x"));
        assert_eq!(link("usr/share/relative"), Path::new("../lib/x/libx.so.1"));
        assert_eq!(link("usr/share/root"), Path::new("../.."));
        assert_eq!(link("usr/lib/x/up"), Path::new("../../share"));
        assert_eq!(link("lib/x/up"), Path::new("../../usr/lib/x/../../share"));
        for gone in ["usr/share/nowhere", "usr/share/loop", "leak"] {
            assert!(fs::symlink_metadata(to.join(gone)).is_err(), "{gone}");
        }
        // At the top there are real folders and files.
        assert!(fs::symlink_metadata(to.join("lib")).unwrap().is_dir());
        assert!(fs::symlink_metadata(to.join("top.so")).unwrap().is_file());
        assert_eq!(fs::read(to.join("lib/x/libx.so.1")).unwrap(), [7; 600]);
        // The same file, not a copy.
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(to.join("usr/lib/x/libx.so.1")), inode(rootfs.join("usr/lib/x/libx.so.1")));
        assert_eq!(staged.bytes, 3 * 1024);

        assert!(staged.has_file("/usr/share/absolute").unwrap() && staged.has_file("/lib/x/libx.so.1").unwrap());
        assert!(!staged.has_file("/usr/lib").unwrap() && !staged.has_file("/etc/passwd").unwrap());
        assert_eq!(staged.ensure_folder("/etc/run/data", "data").unwrap(), "/run/data");
        assert_eq!(staged.ensure_folder("/a/../b/c", "data").unwrap(), "/b/c");
        assert!(to.join("run/data").is_dir() && to.join("b/c").is_dir());
        let told = staged.ensure_folder("/top.so/x", "data").unwrap_err().to_string();
        assert_eq!(told, "data: /top.so is no folder of the image");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_a_stranger_may_not_read_is_copied() {
        let (dir, rootfs) = tree("copy");
        let file = rootfs.join("usr/lib/x/libx.so.1");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        stage(&rootfs, &dir.join("out"), true).unwrap();
        let about = fs::metadata(dir.join("out/usr/lib/x/libx.so.1")).unwrap();
        assert_eq!((about.mode() & 0o777, about.nlink()), (0o644, 1));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_ops_would_get_wrong_is_refused() {
        let (dir, rootfs) = tree("refused");
        fs::create_dir_all(rootfs.join("opt/my-sysroot")).unwrap();
        stage(&rootfs, &dir.join("empty"), true).unwrap();
        fs::write(rootfs.join("opt/my-sysroot/x"), "x").unwrap();
        let told = stage(&rootfs, &dir.join("out"), true).unwrap_err().to_string();
        assert!(told.starts_with("/opt/my-sysroot/x: ops can't take") && told.contains("microvm"), "{told}");
        fs::remove_dir_all(rootfs.join("opt")).unwrap();
        fs::write(rootfs.join(OsStr::from_bytes(b"etc/\xff")), "x").unwrap();
        let told = stage(&rootfs, &dir.join("out2"), true).unwrap_err().to_string();
        assert!(told.contains("not UTF-8"), "{told}");
        fs::remove_dir_all(dir).unwrap();
    }
}
