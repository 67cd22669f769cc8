//! How the supervisor hears of its guest's health. Who asks the guest is none of our business: the caller brings it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};

/// What a health watcher tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Healthy now, by this answer.
    Healthy(String),
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
    wake: UnixStream,
    /// The watcher's end, too: when the watcher goes, `wake` would be readable for ever, and a supervisor that sleeps
    /// on it would never sleep again.
    _their_end: UnixStream,
}

impl Reports {
    /// The next report, without waiting.
    pub fn take(&mut self) -> Option<Health> {
        let _ = self.wake.read(&mut [0; 16]);
        self.receiver.try_recv().ok()
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// A pair of ends.
pub fn pair() -> std::io::Result<(Reporter, Reports)> {
    let (sender, receiver) = channel();
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let their_end = theirs.try_clone()?;
    Ok((Reporter { sender, wake: theirs }, Reports { receiver, wake: ours, _their_end: their_end }))
}

/// A running watcher; dropping it ends it.
pub trait Watcher {}

/// Starts a watcher for an instance that has just started or was adopted. The flag says whether it is ready already.
/// `None`: there is nothing to ask, and started is ready.
pub type StartWatcher<'a> =
    dyn Fn(&super::instance::Instance, Reporter) -> crate::sys::Result<Option<Box<dyn Watcher>>> + 'a;
