//! Files that are always whole: either the old contents or the new, whenever we are killed.

use super::{Error, Result};
use nix::fcntl::FallocateFlags;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Creates `dir` and its parents, each 0700. One that is there already stays as it is.
pub fn create_dirs(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::path("create directory", dir))
}

/// Writes `bytes` to `path`, mode 0600, by way of a temporary file beside it and a rename. `durable` also waits
/// until the disk has it, which state under /run does not need.
pub fn write_whole(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    // One name per target: whoever writes it holds the target's lock, so a leftover of a killed writer is overwritten.
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durable && let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::Os { action: "write", object: path.display().to_string(), source: e }
    })
}

/// Reads the whole of `path`, at most `limit` bytes; `None` when it is not there.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(f) => f,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(Error::path("open", path)(e)),
    };
    // Enough for most at once: an empty one starts with reads of 32 bytes.
    let mut bytes = Vec::with_capacity(4096);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::path("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::refused(path.display(), format!("larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Reads the whole of the regular file `path`, at most `limit` bytes; `None` when it is not there. Never blocks: a
/// named pipe or a device under that name is refused, not waited for.
pub fn read_regular(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Ok(f) => f,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        // A socket.
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {
            return Err(Error::refused(path.display(), "not a regular file"));
        }
        Err(e) => return Err(Error::path("open", path)(e)),
    };
    let about = file.metadata().map_err(Error::path("stat", path))?;
    if about.is_dir() {
        return Err(Error::refused(path.display(), "a directory, not a file"));
    }
    if !about.is_file() {
        return Err(Error::refused(path.display(), "not a regular file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(limit) + 1).unwrap_or(0));
    (&mut file).take(limit + 1).read_to_end(&mut bytes).map_err(Error::path("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::refused(path.display(), format!("larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Removes `path`; that it was not there is no error.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::path("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes `path` and all below it, following no link. That it was not there is no error.
pub fn remove_tree(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::path("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Writes `bytes` to `path`, which a user named, by way of a temporary file and a rename; readable by all. Anything there
/// that is not a file is left alone.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::symlink_metadata(path) {
        // A rename would put a file in the place of the device.
        Ok(there) if !there.is_file() => {
            return Err(Error::refused(path.display(), "not a regular file; \"-\" is standard output"));
        }
        _ => {}
    }
    // Not ending as the name does, so that no collector reads it half written; with our number, since a cron job and an
    // operator may write at once.
    let name = path.file_name().ok_or_else(|| Error::refused(path.display(), "not a file name"))?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::Os { action: "write", object: path.display().to_string(), source: e }
    })
}
/// The data of `source`; its holes stay holes. The kernel shares blocks where the file system can.
pub fn copy_data(mut source: &File, mut target: &File) -> std::io::Result<()> {
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut at = 0;
    // No more data, or a file system that can't tell: then all of it is data.
    while let Some(start) = seek(source, at, libc::SEEK_DATA) {
        let end = seek(source, start, libc::SEEK_HOLE).unwrap_or(size);
        source.seek(SeekFrom::Start(start))?;
        target.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut std::io::Read::take(source, end - start), &mut target)?;
        at = end;
    }
    Ok(())
}

fn seek(file: &File, at: u64, whence: i32) -> Option<u64> {
    // SAFETY: a descriptor that is open.
    let to = unsafe { libc::lseek(file.as_raw_fd(), i64::try_from(at).ok()?, whence) };
    u64::try_from(to).ok()
}

/// Gives the space of long zeros in `file`, open for writing, back to its file system. Contents and size stay the same.
pub fn dig_holes(file: &File) -> std::io::Result<()> {
    const STEP: u64 = 64 << 10;
    let size = file.metadata()?.len();
    let mut block = vec![0; STEP as usize];
    let mut at = 0;
    while let Some(start) = seek(file, at, libc::SEEK_DATA) {
        let end = seek(file, start, libc::SEEK_HOLE).unwrap_or(size);
        at = start;
        while at < end {
            let length = (STEP - at % STEP).min(end - at);
            let bytes = block.get_mut(..length as usize).unwrap_or_default();
            file.read_exact_at(bytes, at)?;
            if bytes.iter().all(|byte| *byte == 0) {
                let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                match nix::fcntl::fallocate(file, mode, at as i64, length as i64) {
                    // A file system without holes: then it is as large as it is.
                    Err(nix::errno::Errno::EOPNOTSUPP) => return Ok(()),
                    done => done?,
                }
            }
            at += length;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn long_zeros_become_holes() {
        let path = std::env::temp_dir().join(format!("mcp-dig-{}", std::process::id()));
        let mut bytes = vec![0; 3_000_001];
        for at in [5, 1_500_000, 3_000_000] {
            bytes[at] = 7;
        }
        fs::write(&path, &bytes).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        file.sync_all().unwrap();
        dig_holes(&file).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20, "{}", file.metadata().unwrap().blocks());
        fs::remove_file(path).unwrap();
    }
}
