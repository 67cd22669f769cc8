//! Asking components whether they are healthy, side by side.

use super::{Condition, Entry};
use crate::sys::Deadline;
use crate::sys::paths::Paths;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// So many components are asked at once; the rest waits for its turn.
const AT_ONCE: usize = 32;

/// What a component answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is healthy.
    Healthy,
    /// It is not, and why.
    Unhealthy(String),
    /// It has no check, or does not run: nothing to ask.
    Unasked,
}

impl Verdict {
    /// Its stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Unhealthy(_) => "unhealthy",
            Verdict::Unasked => "none",
        }
    }
}

/// Asks the component of `entry` once.
pub fn health_of(_paths: &Paths, _entry: &Entry<'_>, _deadline: Deadline) -> Verdict {
    Verdict::Unasked
}

/// Asks all that live, side by side, and answers in the order of `entries`.
pub fn ask_all(paths: &Paths, entries: &[Entry<'_>], deadline: Deadline) -> Vec<Verdict> {
    let verdicts = Mutex::new(vec![Verdict::Unasked; entries.len()]);
    let living: Vec<usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, e)| matches!(Condition::of(e), Condition::Running | Condition::Starting) && e.is_alive())
        .map(|(i, _)| i)
        .collect();
    let next = AtomicUsize::new(0);
    let ask = || {
        while let Some((index, entry)) =
            living.get(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((*i, entries.get(*i)?)))
        {
            let verdict = health_of(paths, entry, deadline);
            let mut all = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = all.get_mut(index) {
                *slot = verdict;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..living.len().min(AT_ONCE) {
            // No thread to be had: this one does the asking.
            if std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, ask).is_err() {
                ask();
            }
        }
    });
    verdicts.into_inner().unwrap_or_else(PoisonError::into_inner)
}
