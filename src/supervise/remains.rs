//! What any supervisor or asker that was killed leaves behind. Each step may be cut short too: the next call does it.

use crate::sys::lock::Lock;
use crate::sys::paths::ComponentPaths;
use crate::sys::{Result, file};
use std::path::{Path, PathBuf};

/// Clears away half-written files, and what askers that are gone have left. The caller holds the component's lock.
pub fn sweep(files: &ComponentPaths) -> Result<()> {
    for path in half_written(files) {
        file::remove_if_there(&path)?;
    }
    forget_askers(files)?;
    // The record may be written by a stop that has no lock yet: by its own lock, then.
    let record = beside(&files.record);
    if record.exists()
        && let Ok(Some(lock)) = Lock::try_take(&record)
    {
        let _ = lock.remove();
    }
    Ok(())
}

/// Removes what a killed `mcp-run --replace` asked for, and the answer to it. While an asker lives it holds the lock, and
/// nothing of its is touched.
fn forget_askers(files: &ComponentPaths) -> Result<()> {
    let (request, answer) = (files.replace_request(), files.replace_answer());
    let theirs = [beside(&request), beside(&answer), request, answer];
    let lock = files.replace_lock();
    if !lock.exists() && !theirs.iter().any(|path| path.exists()) {
        return Ok(());
    }
    let Some(turn) = Lock::try_take(&lock)? else { return Ok(()) };
    for path in theirs {
        file::remove_if_there(&path)?;
    }
    turn.remove()
}

/// Temporary files that stand beside what they were to become.
fn half_written(files: &ComponentPaths) -> [PathBuf; 4] {
    [
        beside(&files.current()),
        beside(&files.run.join("qmp.sock")),
        beside(&files.run.join("state.json")),
        beside(&files.log.join("console.log")),
    ]
}

/// The temporary file of `path`.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".tmp");
    name.into()
}
