//! Probing until it is healthy: soon after the guest listens, without spinning and without flooding the guest.

use super::peer::{Limits, Woken, poll_all};
use super::probe::probe_within;
use super::{Cancel, Check, Forward, Hints, Reason, Verdict};
use crate::sys::Deadline;
use std::time::{Duration, Instant};

/// What is probed again and again, though it may come, go and change in between.
pub trait Subject {
    /// The check to make now, with the forward's knowledge for a VM; or why there is nothing to ask.
    fn parts(&mut self) -> Result<(&Check, Option<&mut dyn Forward>), Reason>;

    /// Hears why a probe of it was no success.
    fn found(&mut self, _reason: &Reason) {}
}

/// A check that never changes.
#[derive(Debug)]
pub struct Plain(pub Check);

impl Subject for Plain {
    fn parts(&mut self) -> Result<(&Check, Option<&mut dyn Forward>), Reason> {
        Ok((&self.0, None))
    }
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Pause between good probes, and the longest one between bad ones once things look hopeless.
    pub interval: Duration,
    /// How many good ones in a row are wanted.
    pub successes: u32,
    /// When to give up.
    pub deadline: Deadline,
}

/// Probes until healthy, until the plan's deadline, or until cancelled. The last verdict is the answer.
pub fn wait(subject: &mut dyn Subject, plan: &Plan, hints: Option<&Hints>, cancel: Option<&Cancel>) -> Verdict {
    wait_on(subject, plan, &mut Pace::default(), hints, cancel)
}

/// The same for one that was waited for before, at the pace that was come to by then: it isn't hammered anew.
pub fn wait_on(
    subject: &mut dyn Subject,
    plan: &Plan,
    pace: &mut Pace,
    hints: Option<&Hints>,
    cancel: Option<&Cancel>,
) -> Verdict {
    pace.set_interval(plan.interval);
    let mut good = 0;
    let mut before = None;
    loop {
        if cancel.is_some_and(Cancel::is_set) {
            return Verdict::Unhealthy(Reason::Cancelled);
        }
        let started = Instant::now();
        let patience = Deadline::after(pace.patience());
        let verdict = match subject.parts() {
            Err(reason) => Verdict::Unhealthy(reason),
            Ok((check, forward)) => {
                let limits = Limits {
                    patience,
                    cancel,
                    hints: hints.filter(|_| pace.may_hint()),
                    look_closer: pace.look_closer(),
                    ..Limits::until(plan.deadline.min(Deadline::after(check.timeout)))
                };
                probe_within(check, forward, &limits)
            }
        };
        let (pause, hints) = match &verdict {
            Verdict::Healthy { .. } => {
                good += 1;
                if good >= plan.successes {
                    return verdict;
                }
                (plan.interval, None)
            }
            Verdict::Unhealthy(Reason::Cancelled) => return verdict,
            Verdict::Unhealthy(reason) => {
                log::debug!("not yet: {reason}");
                subject.found(reason);
                good = 0;
                (pace.after(reason, !patience.passed(), started.elapsed()), hints)
            }
        };
        if plan.deadline.passed() {
            return cut_off(verdict, before);
        }
        let pause = pause.max(GAP_MIN.saturating_sub(started.elapsed()));
        rest(Deadline::after(pause).min(plan.deadline), started, pace, hints, cancel);
        if plan.deadline.passed() {
            return verdict;
        }
        before = Some(verdict);
    }
}

/// The last verdict, or the one before where the last probe had no time left to find anything out.
fn cut_off(last: Verdict, before: Option<Verdict>) -> Verdict {
    match (last, before) {
        (Verdict::Unhealthy(Reason::TimedOut(_) | Reason::Unproven(_)), Some(before @ Verdict::Unhealthy(_))) => before,
        (last, _) => last,
    }
}

/// No pause between bad probes grows to less.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Between the starts of two probes, whatever hints come.
const GAP_MIN: Duration = Duration::from_millis(3);

fn rest(until: Deadline, started: Instant, pace: &mut Pace, hints: Option<&Hints>, cancel: Option<&Cancel>) {
    let hints = hints.filter(|_| pace.may_hint());
    if poll_all(None, until, hints, cancel) == Woken::Hint {
        pace.hinted();
        hints.into_iter().for_each(|h| h.drain());
        let gap = Deadline::after(GAP_MIN.saturating_sub(started.elapsed()));
        poll_all(None, gap, None, cancel);
    }
}

/// The longest rest after a question.
const REST_MAX: Duration = Duration::from_millis(250);

/// How long a guest is left alone after a question that took so long. Where many boot side by side each answer takes as
/// many times longer, and each of them shall be asked as many times more seldom, so that all the asking together takes no
/// more than that of one: hence by the square, up to [`REST_MAX`]. 20 ms after 1 ms.
pub(super) fn rest_after(took: Duration) -> Duration {
    let ms = took.as_secs_f64() * 1e3;
    Duration::from_secs_f64((ms * ms * 0.02).min(REST_MAX.as_secs_f64()))
}

/// How long to pause, by what was found.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    /// The last probe's kind of failure, how many such there were in a row, and since when.
    mood: Mood,
    row: u32,
    since: Instant,
    /// Whether a hint is behind the next probe.
    fresh: bool,
    /// Hints that may still be acted on, and when that was last counted.
    hints: f64,
    counted: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Refused, by the node or by the guest: the answer took a millisecond and left nothing behind.
    Refused,
    /// The guest did not answer at all: a half-open connection is left behind in QEMU, which delivers it to the guest
    /// later.
    Silent,
    /// Nothing there to ask; hints tell when there is.
    Absent,
    /// All else: it answers, but not well.
    Other,
}

/// Console lines and new files are the best sign that a guest has come further, but a guest may write a million lines:
/// this many hints at once, and this many a second.
const HINTS_BURST: f64 = 10.0;
const HINTS_PER_SECOND: f64 = 5.0;

impl Default for Pace {
    fn default() -> Pace {
        Pace::new(Duration::ZERO)
    }
}

impl Pace {
    fn set_interval(&mut self, interval: Duration) {
        self.interval = interval.max(INTERVAL_MIN);
    }

    /// For pauses that come to be as long as `interval`.
    pub(super) fn new(interval: Duration) -> Pace {
        let now = Instant::now();
        Pace {
            interval: interval.max(INTERVAL_MIN),
            mood: Mood::Silent,
            row: 0,
            since: now,
            fresh: true,
            hints: HINTS_BURST,
            counted: now,
        }
    }

    /// How long a connection that the guest does not answer is held: its answer may still come, but a new one gets
    /// through sooner once the guest is up (QEMU sends a lost SYN again only after 6 s). So 30 ms at first, doubling
    /// to a quarter of a second for 5 s, which makes some 25 half-open connections; then half a second. QEMU drops
    /// half-open ones after 75 s, so the last step, after 30 s, keeps them well below a hundred.
    pub(super) fn patience(&self) -> Duration {
        if self.mood != Mood::Silent {
            return Duration::from_millis(30);
        }
        let longest = match self.since.elapsed().as_secs() {
            0..5 => Duration::from_millis(250),
            5..30 => Duration::from_millis(500),
            _ => self.interval.max(Duration::from_secs(2)),
        };
        (Duration::from_millis(30) * (1 << self.row.min(10))).min(longest)
    }

    /// Whether an end of file is looked into: the first ones, after a hint, then now and then.
    pub(super) fn look_closer(&mut self) -> bool {
        let fresh = std::mem::take(&mut self.fresh);
        fresh || self.mood != Mood::Refused || self.row.is_power_of_two() || self.row.is_multiple_of(16)
    }

    /// The pause after a bad probe that took so long. `early`: a silent one ended before its time, by a hint.
    pub(super) fn after(&mut self, reason: &Reason, early: bool, took: Duration) -> Duration {
        let mood = match reason {
            Reason::Refused | Reason::GuestRefuses(_) => Mood::Refused,
            Reason::GuestSilent(_) => Mood::Silent,
            Reason::NotRunning => Mood::Absent,
            _ => Mood::Other,
        };
        if mood != self.mood {
            (self.mood, self.row, self.since) = (mood, 0, Instant::now());
        }
        self.row = self.row.saturating_add(1);
        match mood {
            // A guest that refuses is a few milliseconds from listening, as a rule. Where not, it isn't hammered: a
            // probe costs some 0.2 ms of ours and of the guest's.
            Mood::Refused => match self.since.elapsed().as_millis() {
                0..2_000 => rest_after(took).max(Duration::from_millis(5)),
                2_000..30_000 => rest_after(took).max(Duration::from_millis(20)),
                _ => self.interval,
            },
            // The connection was held instead.
            Mood::Silent => {
                if early {
                    self.hinted();
                    self.row = 0;
                }
                Duration::ZERO
            }
            // A lock that is given up gives no hint, hence not for ever.
            Mood::Absent => self.interval.max(Duration::from_secs(1)),
            Mood::Other => (Duration::from_millis(20) * (1 << self.row.min(10))).min(self.interval),
        }
    }

    /// Whether a hint may be acted on now.
    pub(super) fn may_hint(&mut self) -> bool {
        let now = Instant::now();
        let earned = now.duration_since(self.counted).as_secs_f64() * HINTS_PER_SECOND;
        self.hints = (self.hints + earned).min(HINTS_BURST);
        self.counted = now;
        self.hints >= 1.0
    }

    /// One was.
    pub(super) fn hinted(&mut self) {
        self.fresh = true;
        // Looking whether it runs asks nothing of anybody, and a start makes many files.
        if self.mood != Mood::Absent {
            self.hints = (self.hints - 1.0).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_grows_with_the_square_and_has_an_end() {
        let us = Duration::from_micros;
        let table = [
            (us(0), us(0)),
            (us(400), us(3_200)),
            (us(1_000), us(20_000)),
            (us(3_000), us(180_000)),
            (us(3_600), REST_MAX),
            (Duration::from_secs(10), REST_MAX),
            (Duration::MAX, REST_MAX),
        ];
        for (took, rest) in table {
            assert!(rest_after(took).abs_diff(rest) < us(1), "{took:?}: {:?}", rest_after(took));
        }
        let rests: Vec<Duration> = (0..5_000).step_by(50).map(|n| rest_after(us(n))).collect();
        assert!(rests.is_sorted(), "{rests:?}");
    }
}
