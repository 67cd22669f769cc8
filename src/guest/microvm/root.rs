//! The root disk of a microvm: a directory packed into a squashfs, again only when the directory has changed.

use crate::model::ComponentId;
use crate::sys::paths::Paths;
use crate::sys::tool::{self, Tool};
use crate::sys::{Deadline, Error, Result, file, squashfs};
use sha2::{Digest, Sha256};
use std::fs::{self, DirEntry, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Goes into the key: to be raised when the same directory shall give another disk.
const FORM: &str = "1";

/// The squashfs of the directory `rootfs`, for the component `id`. Same directory: nothing to do, in milliseconds.
/// `tar` reads as we are; `tar2sqfs`, which makes sense of what may be a stranger's files, runs as `run_as` if that
/// is given. Errors: not a directory, `tar2sqfs` missing, the directory changing meanwhile, no space.
pub fn root_squashfs(
    paths: &Paths,
    id: &ComponentId,
    rootfs: &Path,
    run_as: Option<u32>,
    deadline: Deadline,
) -> Result<PathBuf> {
    let rootfs = folder_of(paths, rootfs)?;
    let before = key(&rootfs)?;
    let folder = paths.component(&id.service, &id.component).roots;
    let path = folder.join(format!("root-{before}.sqfs"));
    if path.is_file() {
        return Ok(path);
    }
    file::create_dirs(&folder)?;
    // A name per process: two at once both pack, and the second rename puts the same bytes in place.
    let temporary = folder.join(format!(".root.{}.tmp", std::process::id()));
    let result = pack(&rootfs, &temporary, run_as, deadline).and_then(|()| {
        if key(&rootfs)? != before {
            return Err(Error::busy(rootfs.display(), "changed while it was packed; try again when it is quiet"));
        }
        fs::rename(&temporary, &path).map_err(Error::path("rename", &temporary))
    });
    if let Err(e) = result {
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    remove_others(&folder, &path);
    Ok(path)
}

/// The folder that `rootfs` names, which must be fit to be packed.
fn folder_of(paths: &Paths, rootfs: &Path) -> Result<PathBuf> {
    let rootfs = rootfs.canonicalize().map_err(Error::path("open root file system", rootfs))?;
    if !rootfs.is_dir() {
        return Err(Error::refused(rootfs.display(), "rootfs must be a directory"));
    }
    if paths.lib.canonicalize().is_ok_and(|lib| lib.starts_with(&rootfs)) {
        return Err(Error::refused(rootfs.display(), format!("rootfs holds our own state, {}", paths.lib.display())));
    }
    Ok(rootfs)
}

/// Whether [`root_squashfs`] would find the disk or could make it.
pub fn check(paths: &Paths, id: &ComponentId, rootfs: &Path) -> Result<()> {
    let rootfs = folder_of(paths, rootfs)?;
    let tools = tool::find("tar", "tar").and_then(|_| tool::find("tar2sqfs", "squashfs-tools-ng"));
    let Err(missing) = tools else { return Ok(()) };
    // Not needed for one that is packed: only then the folder is gone through.
    let packed = paths.component(&id.service, &id.component).roots.join(format!("root-{}.sqfs", key(&rootfs)?));
    if packed.is_file() { Ok(()) } else { Err(missing) }
}

/// `tar -c | tar2sqfs`, into a new file at `to`, on disk when this returns.
fn pack(rootfs: &Path, to: &Path, run_as: Option<u32>, deadline: Deadline) -> Result<()> {
    let tar = tool::find("tar", "tar")?;
    let out = squashfs::create(to)?;
    let mut reader = Tool::start(
        "tar",
        Command::new(tar)
            .arg("-C")
            .arg(rootfs)
            .args(["--numeric-owner", "--sort=name", "--one-file-system", "--format=posix", "--sparse"])
            .args(["--xattrs", "--xattrs-include=*", "-c", "."])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )?;
    let mut writer = squashfs::start(reader.take_output().unwrap_or_else(Stdio::null), &out, run_as)?;
    let object = rootfs.display().to_string();
    let written = writer.succeed(&object, to, deadline);
    // When the writer has failed, a broken pipe is all that the reader has to tell.
    if written.is_ok() {
        reader.succeed(&object, to, deadline)?;
    }
    written?;
    out.sync_all().map_err(Error::path("write", to))
}

/// A digest of everything that would change the disk: of each file its path, owner, mode, size, times, link target
/// and device number, in the order of names, on one file system. Contents count by the change time, which any write
/// moves.
pub fn key(rootfs: &Path) -> Result<String> {
    let top = fs::metadata(rootfs).map_err(Error::path("stat", rootfs))?;
    let mut walk = Walk { device: top.dev(), digest: Sha256::new() };
    walk.digest.update(FORM.as_bytes());
    walk.entry(b".", &top, None);
    let mut name = Vec::new();
    walk.folder(rootfs, &mut name)?;
    Ok(super::short_hex(walk.digest))
}

struct Walk {
    device: u64,
    digest: Sha256,
}

impl Walk {
    fn folder(&mut self, folder: &Path, name: &mut Vec<u8>) -> Result<()> {
        let mut entries: Vec<DirEntry> =
            fs::read_dir(folder).and_then(Iterator::collect).map_err(Error::path("read", folder))?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let about = entry.metadata().map_err(Error::path("stat", &path))?;
            let length = name.len();
            name.push(b'/');
            name.extend_from_slice(entry.file_name().as_encoded_bytes());
            let target = if about.is_symlink() {
                Some(fs::read_link(&path).map_err(Error::path("read link", &path))?)
            } else {
                None
            };
            self.entry(name, &about, target.as_deref());
            if about.is_dir() && about.dev() == self.device {
                self.folder(&path, name)?;
            }
            name.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], about: &Metadata, target: Option<&Path>) {
        let mut put = |bytes: &[u8]| {
            self.digest.update((bytes.len() as u64).to_le_bytes());
            self.digest.update(bytes);
        };
        put(name);
        put(target.map_or(&[], |t| t.as_os_str().as_encoded_bytes()));
        // A folder's own size and times say nothing that its entries don't, except that something came and went.
        let content = if about.is_dir() { [0; 5] } else { times(about) };
        let numbers = [about.mode().into(), about.uid().into(), about.gid().into(), about.rdev()];
        for number in numbers.into_iter().chain(content) {
            put(&number.to_le_bytes());
        }
    }
}

fn times(about: &Metadata) -> [u64; 5] {
    [about.size(), about.mtime() as u64, about.mtime_nsec() as u64, about.ctime() as u64, about.ctime_nsec() as u64]
}

/// Earlier disks of this component, and what killed packers left. A running guest keeps its own open.
fn remove_others(folder: &Path, keep: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let old = name.starts_with("root-") && entry.path() != keep;
        if old || (name.starts_with(".root.") && super::is_stale(&entry.path())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Opens a finished disk for QEMU, which gets it as a descriptor.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::path("open", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    fn tree(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mcp-root-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("rootfs/etc")).unwrap();
        fs::write(dir.join("rootfs/etc/hosts"), "here\n").unwrap();
        symlink("etc/hosts", dir.join("rootfs/link")).unwrap();
        dir
    }

    #[test]
    fn the_key_tells_every_change() {
        let dir = tree("key");
        let root = dir.join("rootfs");
        let mut keys = vec![key(&root).unwrap()];
        assert_eq!(key(&root).unwrap(), keys[0]);
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(root.join("etc/hosts"), "other\n").unwrap(),
            &|| fs::set_permissions(root.join("etc/hosts"), fs::Permissions::from_mode(0o600)).unwrap(),
            &|| fs::create_dir(root.join("empty")).unwrap(),
            &|| fs::rename(root.join("etc/hosts"), root.join("etc/host")).unwrap(),
            &|| fs::remove_file(root.join("link")).and_then(|()| symlink("etc/host", root.join("link"))).unwrap(),
            &|| fs::set_permissions(&root, fs::Permissions::from_mode(0o711)).unwrap(),
        ];
        for change in changes {
            change();
            let now = key(&root).unwrap();
            assert!(!keys.contains(&now));
            keys.push(now);
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn packed_once_and_again_when_changed() {
        let dir = tree("pack");
        let (paths, root) = (Paths::under(&dir), dir.join("rootfs"));
        let id = ComponentId { service: "shop".into(), component: "web".into() };
        let soon = || Deadline::after(Duration::from_secs(30));
        let first = root_squashfs(&paths, &id, &root, None, soon()).unwrap();
        assert_eq!(fs::read(&first).unwrap()[..4], *b"hsqs");
        assert_eq!(root_squashfs(&paths, &id, &root, None, soon()).unwrap(), first);
        fs::write(root.join("etc/hosts"), "other\n").unwrap();
        let second = root_squashfs(&paths, &id, &root, None, soon()).unwrap();
        assert_ne!(first, second);
        let left: Vec<_> = fs::read_dir(first.parent().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left, [second]);
        fs::write(root.join("etc/hosts"), "third\n").unwrap();
        // The tools may have ended before they are looked at. Whichever came first: a whole disk, the old or the new.
        match root_squashfs(&paths, &id, &root, None, Deadline::after(Duration::ZERO)) {
            Ok(third) => assert_eq!(fs::read(third).unwrap()[..4], *b"hsqs"),
            Err(e) => assert!(e.to_string().contains("took too long"), "{e}"),
        }
        assert_eq!(fs::read_dir(first.parent().unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_cannot_be_a_root_is_refused() {
        let dir = tree("refused");
        let paths = Paths::under(&dir);
        let id = ComponentId { service: "s".into(), component: "c".into() };
        let told = |root: &Path| {
            root_squashfs(&paths, &id, root, None, Deadline::after(Duration::from_secs(5))).unwrap_err().to_string()
        };
        assert!(told(&dir.join("rootfs/etc/hosts")).contains("must be a directory"));
        assert!(told(&dir.join("none")).contains("No such file"));
        fs::create_dir(&paths.lib).unwrap();
        assert!(told(&dir).contains("our own state"));
        fs::remove_dir_all(dir).unwrap();
    }
}
