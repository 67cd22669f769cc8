//! Taking turns: a lock that another process holds is waited for, and what it made is used.

use crate::sys::lock::{self, Lock};
use crate::sys::{Deadline, Error, Result};
use std::path::Path;

/// Waits for the lock at `path` until `deadline`, and signs it, so that a waiter can say who has it.
pub(super) fn wait(path: &Path, deadline: Deadline) -> Result<Lock> {
    let Some(mut lock) = Lock::wait(path, deadline)? else {
        let who = lock::holder(path).map_or_else(|| "another process".into(), |h| format!("process {}", h.pid));
        return Err(Error::busy(path.display(), format!("{who} still works on it; try again")));
    };
    // A hint for people: on a full disk there is none.
    let _ = lock.sign("mcp");
    Ok(lock)
}
