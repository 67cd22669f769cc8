//! A flag that also wakes whoever waits.

use super::peer::{Woken, poll_all};
use crate::sys::{Deadline, Error, Result};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a probe, a wait or a watch in another thread to end. Once set it stays set.
#[derive(Debug)]
pub struct Cancel {
    flag: AtomicBool,
    event: EventFd,
}

impl Cancel {
    /// One that is not set.
    pub fn new() -> Result<Cancel> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(Error::os("create", "an event descriptor"))?;
        Ok(Cancel { flag: AtomicBool::new(false), event })
    }

    /// Sets it and wakes all who wait.
    pub fn set(&self) {
        self.flag.store(true, Ordering::SeqCst);
        // Nobody ever reads it, so the descriptor stays readable. A full counter is readable as well.
        let _ = self.event.write(1);
    }

    /// Waits until it is set, at most until then; returns whether it is set.
    pub fn wait(&self, until: Deadline) -> bool {
        poll_all(None, until, None, Some(self)) == Woken::Cancelled
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    /// Readable once it is set.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
