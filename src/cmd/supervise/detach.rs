//! `--detach`: the supervisor in a process of its own, which tells us how far it has come.

use crate::console::own::OwnLog;
use crate::model::node::Log;
use crate::sys::error::{EXIT_NO, EXIT_OK, EXIT_RETRY};
use crate::sys::lock::Lock;
use crate::sys::notify::Step;
use crate::sys::paths::ComponentPaths;
use crate::sys::{Deadline, Error, Result};
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::{ForkResult, fork, pipe, setsid};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Which of the two we are after the fork.
pub enum Side {
    /// The one that was called; done, with this exit code.
    Caller(u8),
    /// The supervisor, with the component's lock.
    Supervisor(Caller, Lock),
}

/// The supervisor's way to tell its caller.
pub struct Caller {
    pipe: File,
    log: Option<OwnLog>,
    tell_at: Step,
    told: bool,
}

/// Splits in two. The caller waits until the VM has started, or (`wait`) is ready, at most for `patience`. The supervisor
/// inherits what `take_lock` took: where the caller is killed at any moment, either there is no supervisor, or its lock is
/// held, and a stop that comes next finds it. Must be called while there is one thread.
pub fn detach(
    files: &ComponentPaths,
    limits: &Log,
    wait: bool,
    patience: Duration,
    object: &str,
    take_lock: impl FnOnce() -> Result<Lock>,
) -> Result<Side> {
    // The supervisor outlives whatever pipes its caller's caller has open. Nothing of ours is open yet but the
    // standard streams.
    // SAFETY: closes descriptors that no value of ours owns.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    let log = OwnLog::open(files, limits)?;
    let (reader, writer) = pipe().map_err(Error::os("create", "a pipe"))?;
    let lock = take_lock()?;
    // SAFETY: one thread, so the child may do all that we may.
    match unsafe { fork() }.map_err(Error::os("fork", "the supervisor"))? {
        ForkResult::Parent { .. } => {
            // The supervisor still has it.
            drop(lock);
            drop(writer);
            Ok(Side::Caller(wait_for_supervisor(File::from(reader), Deadline::after(patience), object)?))
        }
        ForkResult::Child => {
            drop(reader);
            setsid().map_err(Error::os("start", "a session"))?;
            let null =
                File::options().read(true).write(true).open("/dev/null").map_err(Error::os("open", "/dev/null"))?;
            replace(&null, 0)?;
            replace(&null, 1)?;
            std::env::set_current_dir("/").map_err(Error::os("change directory to", "/"))?;
            let pipe = File::from(writer);
            let _ = nix::fcntl::fcntl(&pipe, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
            let tell_at = if wait { Step::Ready } else { Step::Started };
            Ok(Side::Supervisor(Caller { pipe, log: Some(log), tell_at, told: false }, lock))
        }
    }
}

fn replace(with: &File, number: i32) -> Result<()> {
    // SAFETY: both descriptors are open or standard ones, which are ours to replace.
    let r = unsafe { libc::dup2(with.as_raw_fd(), number) };
    nix::errno::Errno::result(r).map(drop).map_err(Error::os("replace", "a standard stream"))
}

fn wait_for_supervisor(mut pipe: File, deadline: Deadline, object: &str) -> Result<u8> {
    let mut said = Vec::new();
    loop {
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
            Ok(n) if n > 0 => {}
            _ if deadline.passed() => {
                return Err(Error::busy(object, "not ready in time; it is still being tried in the background"));
            }
            _ => continue,
        }
        let mut chunk = [0; 64];
        let n = pipe.read(&mut chunk).map_err(Error::os("read from", "the supervisor"))?;
        said.extend_from_slice(&chunk[..n]);
        match said.as_slice() {
            // Done: one byte, the exit code.
            [code, ..] => return Ok(*code),
            [] if n == 0 => return Err(Error::busy(object, "its supervisor was killed while it started")),
            [] => {}
        }
    }
}

impl Caller {
    /// Goes on without the caller once `step` is what it waits for: from then on stderr is the supervisor's log.
    pub fn step(&mut self, step: Step) {
        match step {
            Step::EndedEarly => self.tell(EXIT_RETRY),
            Step::Failed => self.tell(EXIT_NO),
            _ if step == self.tell_at || step == Step::Ready => self.tell(EXIT_OK),
            _ => {}
        }
    }

    fn tell(&mut self, code: u8) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        // A caller that has gone away no longer wants to know.
        let _ = self.pipe.write_all(&[code]);
        if let Some(Err(e)) = self.log.take().map(OwnLog::begin) {
            log::warn!("{e}");
        }
    }

    /// Whether it knows already how the start went.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// The supervisor has ended with `code`.
    pub fn ended(&mut self, code: u8) {
        self.tell(code);
    }
}
