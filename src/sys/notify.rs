//! Telling whoever started us that we are ready.

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long a datagram may wait for room in its receiver's queue.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// How far a start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The VM has started.
    Started,
    /// It is ready.
    Ready,
    /// It ended before it was ready, and is going to be started again.
    EndedEarly,
    /// What a deploy had on trial was no good; the version before is started instead.
    Failed,
}

/// Where readiness is told.
#[derive(Default)]
pub struct Notify {
    systemd: Option<SocketAddr>,
    descriptor: Option<File>,
    waiting: Option<Box<dyn FnMut(Step)>>,
}

/// Whether descriptor `number` is open, and so may be taken over.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD on any number is harmless.
    number >= 0 && unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0
}

impl Notify {
    /// From `NOTIFY_SOCKET` (systemd's sd_notify(3)), and an s6 or dinit notification descriptor where one is named,
    /// which is ours from then on. The caller has checked that it is open ([`is_open`]).
    pub fn from_environment(descriptor: Option<RawFd>) -> Notify {
        let systemd = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok(),
            [b'/', ..] => SocketAddr::from_pathname(&name).ok(),
            _ => None,
        });
        // SAFETY: the number was named on our command line as ours to write to and close.
        let descriptor = descriptor.map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        if let Some(file) = &descriptor {
            let _ = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
        }
        Notify { systemd, descriptor, waiting: None }
    }

    /// Besides, each step to `waiting`.
    pub fn with_waiting(mut self, waiting: Box<dyn FnMut(Step)>) -> Notify {
        self.waiting = Some(waiting);
        self
    }

    fn systemd(&self, text: &str) {
        let Some(address) = &self.systemd else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            // A receiver that reads nothing must not hold a supervisor up.
            socket.set_write_timeout(Some(SEND_TIMEOUT))?;
            socket.send_to_addr(text.as_bytes(), address)
        });
        if let Err(e) = sent {
            log::warn!("notify: {}", super::error::os_reason(&e));
        }
    }

    fn step(&mut self, step: Step) {
        if let Some(waiting) = &mut self.waiting {
            waiting(step);
        }
    }

    /// The VM has started.
    pub fn started(&mut self) {
        self.step(Step::Started);
    }

    /// It is ready: told once, then the descriptors are closed.
    pub fn ready(&mut self) {
        self.systemd("READY=1");
        if let Some(mut file) = self.descriptor.take() {
            let _ = file.write_all(b"\n");
        }
        self.step(Step::Ready);
    }

    /// It ended before it was ready, and is going to be started again.
    pub fn ended_early(&mut self) {
        self.step(Step::EndedEarly);
    }

    /// What a deploy had on trial was no good; the version before is started instead.
    pub fn failed(&mut self) {
        self.step(Step::Failed);
    }

    /// What we are about, in a few words.
    pub fn status(&self, text: &str) {
        self.systemd(&format!("STATUS={text}"));
    }

    /// It may take so long from now: systemd is to wait for it that long, whatever its unit says.
    pub fn extend(&self, more: Duration) {
        self.systemd(&format!("EXTEND_TIMEOUT_USEC={}", more.as_micros()));
    }

    /// On the way down.
    pub fn stopping(&self) {
        self.systemd("STOPPING=1");
    }
}
