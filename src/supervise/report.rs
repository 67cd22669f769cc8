//! How a supervisor hears of the health of what it supervises. Who asks is none of its business: the caller brings it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};

/// What a health watcher tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Healthy now, by this answer, or, without a check, because it runs; the check is repeated after its settle time.
    Settling(Option<String>),
    /// Healthy now, likewise.
    Healthy(Option<String>),
    /// Not healthy yet: what the last probe found, where that differs from the one before.
    NotYet(String),
    /// Not healthy any more, for this reason.
    Unhealthy(String),
}

/// The watcher's end.
#[derive(Debug)]
pub struct Reporter {
    sender: Sender<Health>,
    wake: UnixStream,
}

impl Reporter {
    /// Tells the supervisor.
    pub fn tell(&self, health: Health) {
        if self.sender.send(health).is_ok() {
            let _ = (&self.wake).write(b"!");
        }
    }
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Reports {
    receiver: Receiver<Health>,
    wake: Option<UnixStream>,
}

impl Reports {
    /// The next report, without waiting.
    pub fn take(&mut self) -> Option<Health> {
        // A watcher that has gone leaves an end of file, which would wake us for ever.
        if self.wake.as_mut().is_some_and(|wake| matches!(wake.read(&mut [0; 16]), Ok(0))) {
            self.wake = None;
        }
        self.receiver.try_recv().ok()
    }

    /// What to poll for reading; `None` once nobody is left to report.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(AsFd::as_fd)
    }
}

/// A pair of ends.
pub fn pair() -> std::io::Result<(Reporter, Reports)> {
    let (sender, receiver) = channel();
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((Reporter { sender, wake: theirs }, Reports { receiver, wake: Some(ours) }))
}

/// A running watcher; dropping it ends it.
pub trait Watcher {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_that_has_gone_wakes_nobody() {
        let (reporter, mut reports) = pair().unwrap();
        reporter.tell(Health::Healthy(Some("yes".into())));
        drop(reporter);
        assert_eq!(reports.take(), Some(Health::Healthy(Some("yes".into()))));
        assert!(reports.take().is_none());
        assert!(reports.pollable().is_none());
    }
}
