//! Starting again by the restart policy: after growing pauses.

use super::request;
use crate::model::state::{EndedBy, State};
use crate::sys::Deadline;
use crate::sys::paths::ComponentPaths;
use crate::sys::signals::{Signal, Signals};
use crate::sys::time;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After this long up, the next failure counts as the first.
const LONG_UP: Duration = Duration::from_secs(60);
const RESTARTS_KEPT: usize = 16;

/// Restarts by policy, so far.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    /// How many.
    pub count: u32,
    /// When the last of them were: RFC 3339, UTC.
    pub at: Vec<String>,
}

impl Restarts {
    /// One more, now.
    pub fn add(&mut self) {
        self.count += 1;
        self.note();
    }

    /// For a first start by a new supervisor. Where the run before has failed, this is one more after a failure, whoever
    /// asks for it: an init that restarts its services starts a supervisor each time. It is no restart of ours, so only
    /// its time is told, by which a crash loop is known.
    pub fn of_first(files: &ComponentPaths) -> Restarts {
        let before = files.current_slot().and_then(|slot| State::read(&files.instance(slot)).ok().flatten());
        // Without an end, it was killed together with its supervisor.
        let failed = |s: &State| s.end.as_ref().is_none_or(|end| end.by != EndedBy::Operator && end.failed());
        let Some(before) = before.filter(|s| failed(s) && !s.was_replaced()) else { return Restarts::default() };
        let mut restarts = Restarts { count: 0, at: before.restarted_at };
        restarts.note();
        restarts
    }

    fn note(&mut self) {
        self.at.push(time::now());
        let over = self.at.len().saturating_sub(RESTARTS_KEPT);
        self.at.drain(..over);
    }
}

/// The pauses between starts: 1 s doubling to 60 s.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
}

/// What ended a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// It is over.
    Enough,
    /// A stop came.
    Stop,
    /// A replace is asked for.
    Replace,
}

impl Backoff {
    /// The first pause is to come.
    pub fn new() -> Backoff {
        Backoff { pause: FIRST_PAUSE }
    }

    /// What began at that time has ended: after a long time up, the pauses begin anew.
    pub fn ran_since(&mut self, began: Instant) {
        if began.elapsed() >= LONG_UP {
            self.pause = FIRST_PAUSE;
        }
    }

    /// The next pause.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// Waits it out; the one after it is longer.
    pub fn sleep(&mut self, files: &ComponentPaths, signals: &Signals) -> Slept {
        let deadline = Deadline::after(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        loop {
            if let Ok(1..) = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
                match signals.take() {
                    Some(Signal::Stop) => return Slept::Stop,
                    Some(Signal::Hangup) if request::means_replace(files) => return Slept::Replace,
                    Some(Signal::Hangup) => return Slept::Stop,
                    None => {}
                }
            }
            if deadline.passed() {
                return Slept::Enough;
            }
        }
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}
