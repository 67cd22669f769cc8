//! Process handles that never name another process by mistake.

use super::{Deadline, Error, Result, lock};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// How long a lock may be held before it is signed.
const SIGN_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle on one process; readable when it has ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// A handle on process `pid` as of now; `None` when there is none.
    pub fn open(pid: i32) -> Option<PidFd> {
        // SAFETY: plain system call; a non-negative result is a new descriptor that is ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // SAFETY: as above.
        (fd >= 0).then(|| PidFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// A handle on the holder that signed a lock, checked by its start time.
    pub fn of_holder(holder: &super::lock::Holder) -> Option<PidFd> {
        let fd = PidFd::open(holder.pid)?;
        // Checked after the handle is there: the number can't be given to another process any more.
        (super::lock::start_time(holder.pid)? == holder.start_time).then_some(fd)
    }

    /// A handle on the process that holds the lock at `path`; `None` when nobody does any more. One that has just taken
    /// it signs it a moment later, and one whose parent was killed under it does so too: that is waited for.
    pub fn of_lock(path: &Path) -> Result<Option<PidFd>> {
        let deadline = Deadline::after(SIGN_TIMEOUT);
        loop {
            if let Some(handle) = lock::holder(path).as_ref().and_then(PidFd::of_holder) {
                return Ok(Some(handle));
            }
            if !lock::is_held(path)? {
                return Ok(None);
            }
            if deadline.passed() {
                return Err(Error::busy(
                    path.display(),
                    "held by a process that can't be found; is it in another pid namespace?",
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends `signal`. That the process has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: plain system call on our own descriptor, no pointers but null.
        let r = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if r == 0 {
            return Ok(());
        }
        let e = std::io::Error::last_os_error();
        if e.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(Error::os("signal", "process")(e)) }
    }

    /// Whether the process ends before the deadline. An error: the kernel can't wait for it.
    pub fn wait(&self, deadline: Deadline) -> Result<bool> {
        loop {
            match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
                Ok(1..) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) if deadline.passed() => return Ok(false),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::os("wait for", "process")(e)),
            }
        }
    }

    /// Whether the process is known to have ended.
    pub fn has_ended(&self) -> bool {
        self.wait(Deadline::after(Duration::ZERO)).unwrap_or(false)
    }

    /// A copy of descriptor `number` of that process. Needs the right to trace it.
    pub fn steal(&self, number: i32) -> std::io::Result<OwnedFd> {
        // SAFETY: plain system call; a non-negative result is a new descriptor that is ours, CLOEXEC set.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: as above.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    #[test]
    fn a_wait_that_the_kernel_refuses_is_an_error_not_a_busy_loop() {
        // SAFETY: the child only makes system calls, formats one error and ends without returning.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // `poll` of more descriptors than a process may have is EINVAL.
                let own = PidFd::open(std::process::id() as i32);
                let limited = setrlimit(Resource::RLIMIT_NOFILE, 0, 0);
                let refused = own.is_some_and(|own| own.wait(Deadline::after(Duration::from_secs(10))).is_err());
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(if refused && limited.is_ok() { 0 } else { 1 }) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            }
        }
    }
}
