//! A file with several writers, who take turns.

use super::lock::Lock;
use super::{Deadline, Error, Result, file};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How long another writer of a file may take.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Replaces `path` as [`super::file::write_whole`] does, durably, by what `change` makes of its contents; `None` leaves it as it is.
/// For a file that has several writers: they take turns. `change` sees at most `limit` bytes.
pub fn update(path: &Path, limit: u64, change: impl FnOnce(Option<Vec<u8>>) -> Result<Option<Vec<u8>>>) -> Result<()> {
    turn(path, true, || file::read_bounded(path, limit).and_then(change))
}

/// The same without waiting for the disk, and `change` reads the file itself, so that one that can't be read can be
/// replaced.
pub fn replace_soon(path: &Path, change: impl FnOnce() -> Result<Option<Vec<u8>>>) -> Result<()> {
    turn(path, false, change)
}

fn turn(path: &Path, durable: bool, change: impl FnOnce() -> Result<Option<Vec<u8>>>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    // The temporary file is the lock: after the rename a waiter finds that it has another file, and tries anew.
    let mut lock = Lock::wait(&temporary, Deadline::after(UPDATE_TIMEOUT))?
        .ok_or_else(|| Error::busy(path.display(), "is being written; try again"))?;
    let changed = change();
    let (Ok(Some(bytes)), locked) = (&changed, lock.file()) else {
        lock.remove()?;
        return changed.map(drop);
    };
    let mut write = || -> std::io::Result<()> {
        // A killed writer may have left something.
        locked.set_len(0)?;
        locked.write_all(bytes)?;
        if durable {
            locked.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        path.parent().filter(|_| durable).map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    if let Err(source) = write() {
        let _ = lock.remove();
        return Err(Error::Os { action: "write", object: path.display().to_string(), source });
    }
    Ok(())
}
