//! A deadline for a system call that takes none: the call returns EINTR.

use super::{Deadline, Error, Result};
use nix::errno::Errno;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

/// A signal that comes just before the call blocks interrupts nothing: it is sent again after this time.
const AGAIN: Duration = Duration::from_millis(20);

/// Interrupts the blocking system calls of the thread that made it, from its deadline on, until it is dropped.
#[derive(Debug)]
pub struct Alarm {
    timer: libc::timer_t,
    /// The signal goes to one thread.
    of_thread: PhantomData<*const ()>,
}

/// The signal: its handler does nothing, so all that it does is interrupt.
fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn nothing(_: libc::c_int) {}

fn install() -> std::result::Result<(), Errno> {
    static INSTALLED: OnceLock<std::result::Result<(), Errno>> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        // SAFETY: all-zero is a valid sigaction: no flags, so no SA_RESTART, and nothing blocked meanwhile.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        // SAFETY: the handler does nothing, which is safe at any moment. `exec` resets it for children.
        Errno::result(unsafe { libc::sigaction(signal(), &action, ptr::null_mut()) }).map(drop)
    })
}

impl Alarm {
    /// One for `deadline`.
    pub fn at(deadline: Deadline) -> Result<Alarm> {
        // SAFETY: all-zero is a valid sigevent and a valid itimerspec; both are only read during the calls.
        let (mut event, mut times): (libc::sigevent, libc::itimerspec) = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal();
        event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
        // Zero would mean never.
        times.it_value = timespec(deadline.left().max(Duration::from_nanos(1)));
        times.it_interval = timespec(AGAIN);
        let mut timer = ptr::null_mut();
        install()
            // SAFETY: the kernel writes the timer's id to a local variable.
            .and_then(|()| Errno::result(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) }))
            .map_err(Error::os("create", "a timer"))?;
        let alarm = Alarm { timer, of_thread: PhantomData };
        // SAFETY: the timer exists until `alarm` is dropped.
        Errno::result(unsafe { libc::timer_settime(alarm.timer, 0, &times, ptr::null_mut()) })
            .map_err(Error::os("start", "a timer"))?;
        Ok(alarm)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: made by us, deleted once.
        unsafe { libc::timer_delete(self.timer) };
    }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
