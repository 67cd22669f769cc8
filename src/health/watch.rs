//! Looking again and again at something that was healthy.

use super::peer::{Limits, poll_all};
use super::probe::probe_within;
use super::{Cancel, Reason, Subject, Verdict};
use crate::sys::Deadline;
use std::time::Duration;

/// How often to look, and when to believe it.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// Pause between probes.
    pub interval: Duration,
    /// How many good ones in a row make it healthy again.
    pub successes: u32,
    /// How many bad ones in a row make it unhealthy.
    pub failures: u32,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is unhealthy, for the last probe's reason.
    Unhealthy(Reason),
    /// It is healthy again.
    Healthy,
}

/// Probes `subject`, taken for healthy at first, each `interval` and tells each change. Ends when `cancel` is set or
/// `tell` gives false.
pub fn watch(subject: &mut dyn Subject, plan: &Watch, cancel: &Cancel, mut tell: impl FnMut(Change) -> bool) {
    let mut healthy = true;
    let mut row = 0;
    loop {
        poll_all(None, Deadline::after(plan.interval), None, Some(cancel));
        if cancel.is_set() {
            return;
        }
        let verdict = match subject.parts() {
            Err(reason) => Verdict::Unhealthy(reason),
            Ok((check, forward)) => {
                let limits = Limits::until(Deadline::after(check.timeout));
                probe_within(check, forward, &Limits { cancel: Some(cancel), ..limits })
            }
        };
        let change = match verdict {
            Verdict::Unhealthy(Reason::Cancelled) => return,
            Verdict::Healthy { .. } if healthy => None,
            Verdict::Healthy { .. } => Some((plan.successes, Change::Healthy)),
            Verdict::Unhealthy(_) if !healthy => None,
            Verdict::Unhealthy(reason) => Some((plan.failures, Change::Unhealthy(reason))),
        };
        let Some((wanted, change)) = change else {
            row = 0;
            continue;
        };
        row += 1;
        if row >= wanted {
            healthy = change == Change::Healthy;
            row = 0;
            if !tell(change) {
                return;
            }
        }
    }
}
