//! The stop ladder: power button, `quit`, SIGKILL.

use crate::model::state::Rung;
use crate::sys::Deadline;
use std::time::Duration;

/// Pause between presses of the power button for a guest that was never ready: one pressed during early boot is lost.
/// To a running program each press is another SIGTERM, so a ready guest gets one.
const PRESS_AGAIN: Duration = Duration::from_secs(1);
/// How long QEMU may take over `quit`.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A stop under way.
#[derive(Debug, Clone)]
pub struct Ladder {
    rung: Rung,
    /// Whether an operator wanted it, or mcp itself.
    pub by_operator: bool,
    press_again: Option<Deadline>,
    next_rung: Deadline,
    started: bool,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing before [`Ladder::due`].
    Wait,
    /// `system_powerdown`.
    PressPowerButton,
    /// `quit`.
    Quit,
    /// SIGKILL.
    Kill,
}

impl Ladder {
    /// A stop that begins now. `was_ready`: the guest takes the power button.
    pub fn begin(stop_timeout: Duration, was_ready: bool, by_operator: bool) -> Ladder {
        Ladder {
            rung: Rung::Powerdown,
            by_operator,
            press_again: (!was_ready).then(|| Deadline::after(PRESS_AGAIN)),
            next_rung: Deadline::after(stop_timeout),
            started: false,
        }
    }

    /// The rung it stands on.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// When [`Ladder::step`] is to be called next; `None` after the last rung.
    pub fn due(&self) -> Option<Deadline> {
        match (self.rung, self.press_again) {
            // A stop that is asked for at the start has nothing else that would wake the event loop.
            _ if !self.started => Some(Deadline::after(Duration::ZERO)),
            (Rung::Kill, _) => None,
            (Rung::Powerdown, Some(again)) => Some(again.min(self.next_rung)),
            _ => Some(self.next_rung),
        }
    }

    /// Goes on where time says so.
    pub fn step(&mut self) -> Action {
        if !self.started {
            self.started = true;
            return Action::PressPowerButton;
        }
        if self.next_rung.passed() {
            return match self.rung {
                Rung::Powerdown => {
                    self.rung = Rung::Quit;
                    self.next_rung = Deadline::after(QUIT_TIMEOUT);
                    Action::Quit
                }
                Rung::Quit => {
                    self.rung = Rung::Kill;
                    Action::Kill
                }
                Rung::Kill | Rung::Term => Action::Wait,
            };
        }
        if self.rung == Rung::Powerdown && self.press_again.is_some_and(|again| again.passed()) {
            self.press_again = Some(Deadline::after(PRESS_AGAIN));
            return Action::PressPowerButton;
        }
        Action::Wait
    }

    /// The next rung after `pause` at the latest: the monitor no longer answers.
    pub fn hurry(&mut self, pause: Duration) {
        self.next_rung = self.next_rung.min(Deadline::after(pause));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_due_at_once() {
        let mut ladder = Ladder::begin(Duration::from_secs(5), true, true);
        assert!(ladder.due().unwrap().passed());
        assert!(matches!(ladder.step(), Action::PressPowerButton));
        assert!(!ladder.due().unwrap().passed());
    }
}
