//! One worker as a process: started with its descriptors, waited for, its report read and never believed further than it
//! has to be.

use super::ASKED;
use super::job::{Job, MESSAGE_MAX, Report};
use crate::sys::pidfd::PidFd;
use crate::sys::tool::memory;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long one that has reported may take to be gone.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Characters of an error that a worker tells.
const TOLD_MAX: usize = 600;

/// A running worker. Dropping it kills and reaps it.
pub struct Worker {
    child: Child,
    report: File,
    done: bool,
}

impl Worker {
    /// Starts one as `user`. `keep` are the descriptors that `job` names by their numbers.
    pub fn start(user: &User, job: Job, keep: &[BorrowedFd<'_>], stdin: Stdio, stdout: Stdio) -> Result<Worker> {
        let (report, told) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(Error::os("create", "pipe"))?;
        let mut spec = File::from(memory("mcp-job")?);
        let text = serde_json::to_vec(&job).map_err(|e| Error::refused("worker", e.to_string()))?;
        spec.write_all(&text).map_err(Error::os("write", "file in memory"))?;
        let mut inherited: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
        inherited.extend([told.as_raw_fd(), spec.as_raw_fd()]);
        let mut command = Command::new(super::program());
        command
            .arg0("mcp-worker")
            .arg(ASKED)
            .arg(user.other().map_or("-".into(), |id| id.to_string()))
            .arg(std::process::id().to_string())
            .arg(spec.as_raw_fd().to_string())
            .arg(told.as_raw_fd().to_string())
            .env_clear()
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::null())
            .process_group(0);
        // SAFETY: system calls alone, and nothing that allocates.
        unsafe { command.pre_exec(move || hand_over(&inherited)) };
        let child = command.spawn().map_err(Error::os("start", "worker"))?;
        Ok(Worker { child, report: report.into(), done: false })
    }

    /// Its standard input, when that is a pipe; once.
    pub fn input(&mut self) -> Option<File> {
        self.child.stdin.take().map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)))
    }

    /// Waits for its report and its end.
    pub fn finish(&mut self, deadline: Deadline) -> Result<Report> {
        let text = self.read(deadline)?;
        // A worker that says it's done but stays is none that was to be believed.
        let status = self.end(deadline.min(Deadline::after(LAST_WORDS)))?;
        if !status.success() {
            return Err(ended(status));
        }
        match serde_json::from_slice(&text) {
            Ok(Report::Failed { retry, object, reason }) => {
                let (object, reason) = (harmless(&object), harmless(&reason));
                Err(if retry { Error::Busy { object, reason } } else { Error::Refused { object, reason } })
            }
            Ok(report) => Ok(report),
            Err(_) => Err(nonsense()),
        }
    }

    /// All that it reports, until it closes the pipe.
    fn read(&mut self, deadline: Deadline) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut chunk = vec![0; 16 << 10];
        loop {
            match poll(&mut [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
                Ok(0) if deadline.passed() => return Err(Error::busy("worker", "took too long, stopped")),
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(e) => return Err(Error::os("wait for", "worker")(e)),
            }
            match self.report.read(&mut chunk) {
                Ok(0) => return Ok(text),
                Ok(count) => text.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::os("read from", "worker")(e)),
            }
            if text.len() as u64 > MESSAGE_MAX {
                return Err(nonsense());
            }
        }
    }

    fn end(&mut self, deadline: Deadline) -> Result<ExitStatus> {
        let handle = PidFd::open(self.child.id() as i32);
        if let Some(handle) = handle
            && !handle.wait(deadline)?
        {
            return Err(Error::busy("worker", "took too long, stopped"));
        }
        let status = self.child.wait().map_err(Error::os("wait for", "worker"))?;
        self.done = true;
        Ok(status)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// In the child, before `exec`: everything is closed then but `keep`.
fn hand_over(keep: &[RawFd]) -> std::io::Result<()> {
    // Ours are close-on-exec anyway; whoever started us may have left some that aren't. Kernels before 5.11 can't.
    // SAFETY: numbers alone.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    for number in keep {
        // SAFETY: open for as long as the parent's call takes.
        let fd = unsafe { BorrowedFd::borrow_raw(*number) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

/// A report that makes no sense.
pub fn nonsense() -> Error {
    Error::refused("worker", "its answer makes no sense; is the image hostile?")
}

fn ended(status: ExitStatus) -> Error {
    match status.signal() {
        // Somebody else's hand, mostly that of the kernel when memory is short.
        Some(signal @ (libc::SIGKILL | libc::SIGTERM)) => {
            Error::busy("worker", format!("was killed by signal {signal}; is memory short?"))
        }
        Some(signal) => {
            let reason = format!("was killed by signal {signal} while it read the image; is the image hostile?");
            Error::refused("worker", reason)
        }
        None => Error::busy("worker", format!("exited with {}", status.code().unwrap_or_default())),
    }
}

/// What a worker says, for people: short and without anything that a terminal would obey.
pub fn harmless(text: &str) -> String {
    text.chars().take(TOLD_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}
