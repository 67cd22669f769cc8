//! Taking turns: a lock that another process holds is waited for, and what it made is used.

use crate::sys::lock::{self, Lock};
use crate::sys::{Deadline, Error, Result};
use std::path::Path;
use std::time::Duration;

/// The pauses between two looks at a lock that is held: they grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// Waits for the lock at `path` until `deadline`, and signs it, so that a waiter can say who has it.
pub(super) fn wait(path: &Path, deadline: Deadline) -> Result<Lock> {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(mut lock) = Lock::try_take(path)? {
            // A hint for people: on a full disk there is none.
            let _ = lock.sign("mcp");
            return Ok(lock);
        }
        if deadline.passed() {
            let who = lock::holder(path).map_or_else(|| "another process".into(), |h| format!("process {}", h.pid));
            return Err(Error::busy(path.display(), format!("{who} still works on it; try again")));
        }
        std::thread::sleep(pause.min(deadline.left()));
        pause = (pause * 3 / 2).min(LAST_PAUSE);
    }
}
