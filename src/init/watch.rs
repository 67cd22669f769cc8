//! Waiting for the program's end: reaping, passing signals on, answering the power button. Blocks in `poll`.

use super::output::Output;
use super::power::Buttons;
use super::program::PASSED_ON;
use super::report::{Fail, say};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Exit(u8),
    /// By this signal.
    Signal(u8),
}

/// Blocks the signals that init handles and returns the descriptor that tells of them. Before the program starts.
pub fn signals() -> Result<SignalFd, Fail> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    PASSED_ON.iter().for_each(|s| set.add(*s));
    set.thread_block().map_err(Fail::of("block", "signals"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(Fail::of("open", "signalfd"))
}

/// Waits until `program` has ended, reaping whatever else ends.
///
/// A press of the power button becomes `stop_signal`, which may be a real-time signal.
pub fn until_end(
    program: Pid,
    signals: &SignalFd,
    buttons: &mut Buttons,
    output: &mut Option<Output>,
    stop_signal: i32,
) -> Ended {
    loop {
        {
            let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(buttons.fds().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            fds.extend(output.as_ref().and_then(Output::fd).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let _ = poll(&mut fds, PollTimeout::NONE);
        }
        for _ in 0..buttons.presses() {
            // SAFETY: a plain system call.
            unsafe { libc::kill(program.as_raw(), stop_signal) };
        }
        while let Ok(Some(info)) = signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) | Err(_) => {}
                Ok(signal) => {
                    let _ = kill(program, signal);
                }
            }
        }
        if let Some(output) = output {
            output.copy();
        }
        if let Some(ended) = reap(program) {
            // Before the host learns of the end, and looks for the last lines.
            output.iter_mut().for_each(Output::drain);
            return ended;
        }
    }
}

/// Reaps all that has ended; tells how `program` did if it was among them.
fn reap(program: Pid) -> Option<Ended> {
    let mut found = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => found = Some(Ended::Exit(code as u8)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => found = Some(Ended::Signal(signal as u8)),
            Ok(WaitStatus::StillAlive) => return found,
            Ok(_) | Err(Errno::EINTR) => {}
            // No children at all: without its program there is nothing left to wait for.
            Err(_) => return found,
        }
    }
}

/// Kills everything that is left and reaps it, for two seconds at most.
pub fn kill_rest(signals: &SignalFd) {
    let until = Instant::now() + Duration::from_secs(2);
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    loop {
        while let Ok(Some(_)) = signals.read_signal() {}
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return,
                Ok(WaitStatus::StillAlive) => break,
                _ => {}
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            say("processes that SIGKILL didn't end");
            return;
        }
        let timeout = PollTimeout::try_from(left.as_millis() as i32 + 1).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout);
    }
}
