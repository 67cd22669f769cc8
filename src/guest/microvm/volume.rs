//! Disks that keep what the guest writes: ext4 in sparse files.

use crate::model::{ComponentId, size};
use crate::sys::paths::Paths;
use crate::sys::tool::{self, Tool};
use crate::sys::{Deadline, Error, Result, file};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Size of a volume for which none was said, in bytes: 1 GiB, of which only what is written takes space.
pub const DEFAULT_SIZE: u64 = 1 << 30;
/// What ext4 with a journal needs at the least, in bytes.
const SIZE_MIN: u64 = 8 << 20;

/// The disk of volume `name` of a component: made when missing, grown when it has less than `size` bytes. The guest's init
/// grows the file system on it. It never shrinks.
pub fn volume(paths: &Paths, id: &ComponentId, name: &str, size: Option<u64>, deadline: Deadline) -> Result<PathBuf> {
    let folder = paths.component(&id.service, &id.component).volumes;
    let path = make(&folder, &format!("{name}.raw"), name, size.unwrap_or(DEFAULT_SIZE), deadline)?;
    if let Some(size) = size {
        grow(&path, size).map_err(Error::path("grow", &path))?;
    }
    Ok(path)
}

fn grow(path: &Path, size: u64) -> std::io::Result<()> {
    let disk = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    if disk.metadata()?.len() < size {
        disk.set_len(size)?;
        disk.sync_all()?;
        log::info!("{}: grown to {}", path.display(), size::format(size));
    }
    Ok(())
}

/// The disk that takes the guest's writes to its root when that is persistent: made when missing.
pub fn upper(paths: &Paths, id: &ComponentId, size: Option<u64>, deadline: Deadline) -> Result<PathBuf> {
    let folder = paths.component(&id.service, &id.component).disks;
    make(&folder, "root.raw", "root", size.unwrap_or(DEFAULT_SIZE), deadline)
}

/// Whether [`volume`] would find it or could make it.
pub fn check(paths: &Paths, id: &ComponentId, name: &str, size: Option<u64>) -> Result<()> {
    let folder = paths.component(&id.service, &id.component).volumes;
    maker(&folder.join(format!("{name}.raw")), size.unwrap_or(DEFAULT_SIZE)).map(drop)
}

/// Whether [`upper`] would find it or could make it.
pub fn check_upper(paths: &Paths, id: &ComponentId) -> Result<()> {
    maker(&paths.component(&id.service, &id.component).disks.join("root.raw"), DEFAULT_SIZE).map(drop)
}

/// The program that makes a disk of `size` bytes at `path`; `None`: it is there.
fn maker(path: &Path, size: u64) -> Result<Option<PathBuf>> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_file() && m.len() > 0 => return Ok(None),
        Ok(_) => return Err(Error::refused(path.display(), "not a disk of ours; move it away")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::path("stat", path)(e)),
    }
    if size < SIZE_MIN {
        return Err(Error::refused(path.display(), format!("{size} bytes are too few for a volume; at least 8M")));
    }
    tool::find("mke2fs", "e2fsprogs").map(Some)
}

fn make(folder: &Path, file_name: &str, label: &str, size: u64, deadline: Deadline) -> Result<PathBuf> {
    let path = folder.join(file_name);
    let Some(mke2fs) = maker(&path, size)? else { return Ok(path) };
    file::create_dirs(folder)?;
    remove_stale(folder);
    let temporary = folder.join(format!(".{file_name}.{}.tmp", std::process::id()));
    let result = (|| {
        let disk = create(&temporary, size)?;
        format(&mke2fs, &temporary, label, deadline)?;
        disk.sync_all().map_err(Error::path("write", &temporary))?;
        place(&temporary, &path)?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(Error::path("write", folder))
    })();
    let _ = fs::remove_file(&temporary);
    result.map(|()| path)
}

fn create(path: &Path, size: u64) -> Result<File> {
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(Error::path("create", path))?;
    disk.set_len(size).map_err(Error::path("create", path))?;
    Ok(disk)
}

fn format(mke2fs: &Path, disk: &Path, label: &str, deadline: Deadline) -> Result<()> {
    let mut command = Command::new(mke2fs);
    // Everything is written now, which on a sparse file is nothing: otherwise an idle guest would go on zeroing inode
    // tables, and the file would grow to its full size. Nothing is held back for root.
    command.args(["-t", "ext4", "-q", "-F", "-m", "0", "-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=1"]);
    // Labels end at 16 bytes; ours are for people.
    command.arg("-L").arg(label.chars().filter(char::is_ascii).take(16).collect::<String>()).arg("--").arg(disk);
    Tool::start("mke2fs", command.stdin(Stdio::null()).stdout(Stdio::null()))?.succeed(
        &disk.display().to_string(),
        disk,
        deadline,
    )
}

/// Gives the new disk its name unless another one has got it meanwhile, which then counts: it may have data.
fn place(temporary: &Path, path: &Path) -> Result<()> {
    match renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE) {
        Err(e) if e != Errno::EEXIST => Err(Error::path("create", path)(e)),
        _ => Ok(()),
    }
}

/// What killed makers left.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") && super::is_stale(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_that_is_there_stays_and_nothing_half_made_does() {
        let dir = std::env::temp_dir().join(format!("mcp-volume-{}", std::process::id()));
        let paths = Paths::under(&dir);
        let id = ComponentId { service: "shop".into(), component: "db".into() };
        let soon = || Deadline::after(Duration::from_secs(30));
        let path = volume(&paths, &id, "data", Some(64 << 20), soon()).unwrap();
        assert!(path.ends_with("volumes/shop/db/data.raw"));
        // The magic number of ext4's superblock.
        assert_eq!(fs::read(&path).unwrap()[1080..1082], [0x53, 0xef]);
        fs::write(&path, b"precious").unwrap();
        assert_eq!(volume(&paths, &id, "data", None, soon()).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(volume(&paths, &id, "tiny", Some(4096), soon()).unwrap_err().to_string().contains("too few"));
        // mke2fs may have ended before it is looked at. Whichever came first: there is nothing, or a whole disk.
        let files = match volume(&paths, &id, "slow", Some(64 << 20), Deadline::after(Duration::ZERO)) {
            Ok(slow) => {
                assert_eq!(fs::read(slow).unwrap()[1080..1082], [0x53, 0xef]);
                2
            }
            Err(e) => {
                assert!(e.to_string().contains("took too long"), "{e}");
                1
            }
        };
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), files);
        fs::remove_dir_all(dir).unwrap();
    }
}
