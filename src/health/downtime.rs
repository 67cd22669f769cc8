//! Asking over and over, to tell the longest time without an answer.

use super::peer::{Limits, Woken, poll_all};
use super::probe::probe_within;
use super::wait::Pace;
use super::{Cancel, Hints, Reason, Subject, Verdict};
use crate::sys::Deadline;
use std::time::{Duration, Instant};

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(5);
/// No longer between a failure and the next question.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Downtime {
    /// The longest time from one answer to the next, the pauses in between included; from the beginning to the first
    /// one, and from the last one to the end, as well.
    pub longest: Duration,
    /// How often it was asked.
    pub asked: u64,
    /// How often that failed.
    pub failed: u64,
}

/// Probes `subject` until `cancel`, each time on a connection of its own. Whatever was answered before has as long as
/// the check says; one that was not is asked as a wait does it, so that its first answer is seen at once.
pub fn downtime(subject: &mut dyn Subject, hints: Option<&Hints>, cancel: &Cancel) -> Downtime {
    let mut seen = Downtime::default();
    let mut answered = Instant::now();
    let mut pace: Option<Pace> = None;
    while !cancel.is_set() {
        let began = Instant::now();
        let patience = pace.as_ref().map(|pace| Deadline::after(pace.patience()));
        let verdict = match subject.parts() {
            Err(reason) => Verdict::Unhealthy(reason),
            Ok((check, forward)) => {
                let deadline = Deadline::after(check.timeout);
                let limits = Limits {
                    patience: patience.unwrap_or(deadline),
                    cancel: Some(cancel),
                    hints: hints.filter(|_| pace.as_mut().is_some_and(Pace::may_hint)),
                    look_closer: pace.as_mut().is_none_or(Pace::look_closer),
                    ..Limits::until(deadline)
                };
                probe_within(check, forward, &limits)
            }
        };
        if verdict == Verdict::Unhealthy(Reason::Cancelled) {
            break;
        }
        seen.asked += 1;
        let Verdict::Unhealthy(reason) = verdict else {
            seen.longest = seen.longest.max(answered.elapsed());
            answered = Instant::now();
            pace = None;
            poll_all(None, Deadline::after(PAUSE), None, Some(cancel));
            continue;
        };
        log::debug!("no answer: {reason}");
        seen.failed += 1;
        let pace = pace.get_or_insert_with(|| Pace::new(PAUSE_MAX));
        let early = patience.is_some_and(|p| !p.passed());
        let pause =
            pace.after(&reason, early, Duration::ZERO).min(PAUSE_MAX).max(PAUSE.saturating_sub(began.elapsed()));
        let hints = hints.filter(|_| pace.may_hint());
        if poll_all(None, Deadline::after(pause), hints, Some(cancel)) == Woken::Hint {
            pace.hinted();
            hints.into_iter().for_each(Hints::drain);
        }
    }
    seen.longest = seen.longest.max(answered.elapsed());
    seen
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Check, Kind, Plain};
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_longest_gap_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let check = || Check::new(Kind::Tcp, "127.0.0.1", address.port(), Duration::from_secs(1));
        let cancel = Cancel::new().unwrap();
        let gap = Duration::from_millis(200);
        let pause = |d| poll_all(None, Deadline::after(d), None, None);
        let seen = std::thread::scope(|scope| {
            let asker = scope.spawn(|| downtime(&mut Plain(check()), None, &cancel));
            pause(Duration::from_millis(50));
            drop(listener);
            pause(gap);
            let again = TcpListener::bind(address).unwrap();
            pause(Duration::from_millis(50));
            cancel.set();
            let seen = asker.join().unwrap();
            drop(again);
            seen
        });
        assert!(seen.longest >= gap - Duration::from_millis(1), "{seen:?}");
        assert!(seen.failed >= 1 && seen.asked > seen.failed + 1, "{seen:?}");
    }

    #[test]
    fn what_never_answers_was_down_all_the_time() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut subject = Plain(Check::new(Kind::Tcp, "127.0.0.1", port, Duration::from_secs(1)));
        let cancel = Cancel::new().unwrap();
        let seen = std::thread::scope(|scope| {
            let asker = scope.spawn(|| downtime(&mut subject, None, &cancel));
            poll_all(None, Deadline::after(Duration::from_millis(60)), None, None);
            cancel.set();
            asker.join().unwrap()
        });
        assert!(seen.longest >= Duration::from_millis(55) && seen.asked == seen.failed && seen.failed > 0, "{seen:?}");
    }
}
