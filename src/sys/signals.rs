//! Signals as something to poll for.

use super::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a signal means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Hangup,
}

/// SIGTERM, SIGINT and SIGHUP, caught. Nothing is blocked, so children inherit nothing.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    sender: UnixStream,
    stop: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
    /// The number of the last one.
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Catches them from now on.
    pub fn catch() -> Result<Signals> {
        let signals = || -> std::io::Result<Signals> {
            let (wake, sender) = UnixStream::pair()?;
            wake.set_nonblocking(true)?;
            let signals = Signals { wake, sender, stop: Arc::default(), hangup: Arc::default(), last: Arc::default() };
            for (number, flag) in [(SIGTERM, &signals.stop), (SIGINT, &signals.stop), (SIGHUP, &signals.hangup)] {
                // The flag first: whoever is woken finds it set.
                signal_hook::flag::register_usize(number, Arc::clone(&signals.last), number as usize)?;
                signal_hook::flag::register(number, Arc::clone(flag))?;
                signal_hook::low_level::pipe::register(number, signals.sender.try_clone()?)?;
            }
            Ok(signals)
        };
        signals().map_err(Error::os("catch", "signals"))
    }

    /// What has come, if anything; a stop before a hangup.
    pub fn take(&self) -> Option<Signal> {
        let _ = (&self.wake).read(&mut [0; 64]);
        if self.stop.swap(false, Ordering::SeqCst) {
            return Some(Signal::Stop);
        }
        self.hangup.swap(false, Ordering::SeqCst).then_some(Signal::Hangup)
    }

    /// Ends this process as the last signal would have done uncaught, so that whoever waits for us sees that.
    pub fn die(&self) -> ! {
        let number = self.last.load(Ordering::SeqCst) as i32;
        let _ = signal_hook::low_level::emulate_default_handler(number);
        std::process::exit(128 + number)
    }

    /// As if a stop came (again): for whoever took one that is for somebody else.
    pub fn stop_again(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = (&self.sender).write(b"!");
    }
}

impl AsFd for Signals {
    /// Readable when a signal has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
