//! The stop ladder of a container: the image's stop signal, SIGKILL.

use crate::model::state::Rung;
use crate::sys::Deadline;
use std::time::Duration;

/// How long the kernel may take over a SIGKILL, before podman itself is asked to end what is left.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long conmon may take to end after its program has: podman tidies up meanwhile.
const TIDYING: Duration = Duration::from_secs(10);

/// A stop under way.
#[derive(Debug, Clone)]
pub struct Ladder {
    /// Whether an operator wanted it, or mcp itself.
    pub by_operator: bool,
    rung: Rung,
    next: Option<Deadline>,
    stop_timeout: Duration,
    started: bool,
    tidies: bool,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing before [`Ladder::due`].
    Wait,
    /// The stop signal.
    Ask,
    /// SIGKILL.
    Kill,
    /// `podman rm --force`: it thaws what is frozen, and knows its own ways.
    Remove,
}

impl Ladder {
    /// A stop that begins now.
    pub fn begin(stop_timeout: Duration, by_operator: bool) -> Ladder {
        let next = Some(Deadline::after(Duration::ZERO));
        Ladder { by_operator, rung: Rung::Term, next, stop_timeout, started: false, tidies: false }
    }

    /// The rung it stands on.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// When [`Ladder::step`] is to be called next; `None` after the last step.
    pub fn due(&self) -> Option<Deadline> {
        self.next
    }

    /// Goes on where time says so.
    pub fn step(&mut self) -> Action {
        if !self.next.is_some_and(|at| at.passed()) {
            return Action::Wait;
        }
        match (self.rung, self.started) {
            (Rung::Term, false) => {
                self.started = true;
                self.next = Some(Deadline::after(self.stop_timeout));
                Action::Ask
            }
            (Rung::Term, true) => {
                self.rung = Rung::Kill;
                self.next = Some(Deadline::after(KILL_TIMEOUT));
                Action::Kill
            }
            _ => {
                self.next = None;
                Action::Remove
            }
        }
    }

    /// Where the next rung is due, and the program has ended on this one: there is nothing left to kill, and what is
    /// waited for is its conmon. Once, and not for ever.
    pub fn tidies(&mut self, has_ended: impl FnOnce() -> bool) -> bool {
        let is_due = self.started && !self.tidies && self.next.is_some_and(|at| at.passed());
        self.tidies |= is_due && has_ended();
        let now = is_due && self.tidies;
        if now {
            self.next = Some(Deadline::after(TIDYING));
        }
        now
    }

    /// The next rung at once: this one is of no use.
    pub fn hurry(&mut self) {
        self.next = Some(Deadline::after(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_in_order() {
        let mut ladder = Ladder::begin(Duration::ZERO, true);
        assert_eq!((ladder.step(), ladder.rung()), (Action::Ask, Rung::Term));
        assert_eq!((ladder.step(), ladder.rung()), (Action::Kill, Rung::Kill));
        assert_eq!(ladder.step(), Action::Wait);
        ladder.hurry();
        assert_eq!((ladder.step(), ladder.rung()), (Action::Remove, Rung::Kill));
        assert!(ladder.due().is_none());
    }

    #[test]
    fn what_has_ended_is_not_killed() {
        let mut ladder = Ladder::begin(Duration::ZERO, true);
        assert!(!ladder.tidies(|| true), "not asked yet");
        assert_eq!(ladder.step(), Action::Ask);
        assert!(!ladder.tidies(|| false));
        assert!(ladder.tidies(|| true));
        assert_eq!((ladder.step(), ladder.rung()), (Action::Wait, Rung::Term));
        ladder.hurry();
        assert!(!ladder.tidies(|| true), "for ever");
        assert_eq!(ladder.step(), Action::Kill);
    }
}
