//! Asking components whether they are healthy, side by side.

use super::{Condition, Entry, probe};
use crate::health::{self, Reason};
use crate::model::Node;
use crate::model::probed::{Judged, Probed};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, pool, time};
use std::time::{Duration, SystemTime};

/// So many components are asked at once; the rest waits for its turn.
const AT_ONCE: usize = 32;

/// The longest that one is asked, whatever its definition says.
const ONE_AT_MOST: Duration = Duration::from_secs(60);

/// What a component answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is healthy.
    Healthy,
    /// It is not, and why.
    Unhealthy(String),
    /// It could not be asked, and why.
    Unknown(String),
    /// It has no check, or does not run: nothing to ask.
    Unasked,
}

impl Verdict {
    /// Its stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Unhealthy(_) => "unhealthy",
            Verdict::Unknown(_) => "unknown",
            Verdict::Unasked => "none",
        }
    }
}

/// A recorded probe that is older says nothing of now: by then a cron job that probes has missed its turn, too.
pub const RECORDED_AT_MOST: Duration = Duration::from_secs(15 * 60);

/// A verdict, and of when it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What it is.
    pub verdict: Verdict,
    /// When the component was asked.
    pub at: SystemTime,
    /// Since when it is so, where that was recorded: RFC 3339, UTC.
    pub since: Option<String>,
    /// Whether it was recorded by another program, not asked now.
    pub recorded: bool,
}

impl Health {
    /// How long ago it was. A clock that was set back makes it new.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.at).unwrap_or_default()
    }

    /// The verdict, if it is of now: asked for, or recorded a short time ago.
    pub fn of_now(&self, now: SystemTime) -> Option<&Verdict> {
        (!self.recorded || self.age(now) <= RECORDED_AT_MOST).then_some(&self.verdict)
    }
}

/// What the last recorded probe of the living instance of `entry` said; `None`: there was none since it was started.
pub fn recorded(paths: &Paths, entry: &Entry<'_>) -> Option<Health> {
    if !entry.is_alive() || entry.foreign {
        return None;
    }
    let files = paths.component(&entry.id.service, &entry.id.component);
    let probed = Probed::read(&files).map_err(|e| log::warn!("{e}")).ok()??;
    let at = time::parse(&probed.at)?;
    if entry.started().is_some_and(|started| at < started) {
        return None;
    }
    // Where too few have said the same, the last one alone is what is known.
    let (judged, since) = match probed.verdict {
        Some(verdict) => (verdict, probed.since),
        None => (probed.last, Some(probed.first_at)),
    };
    let verdict = match judged {
        Judged::Healthy => Verdict::Healthy,
        Judged::Unhealthy => Verdict::Unhealthy(probed.reason.unwrap_or_default()),
    };
    Some(Health { verdict, at, since, recorded: true })
}

/// Asks the component of `entry` once, by the check of what runs.
pub fn health_of(paths: &Paths, node: &Node, entry: &Entry<'_>, deadline: Deadline) -> Verdict {
    let Some(spec) = entry.spec() else { return Verdict::Unasked };
    let stage = node.stage_health(&entry.id.service);
    match probe::component_probe(paths, &entry.id, spec, stage, deadline) {
        Ok(None) | Ok(Some(health::Verdict::Unhealthy(Reason::NotRunning))) => Verdict::Unasked,
        Ok(Some(health::Verdict::Healthy { .. })) => Verdict::Healthy,
        Ok(Some(health::Verdict::Unhealthy(reason))) => Verdict::Unhealthy(reason.to_string()),
        Err(e) => Verdict::Unknown(e.to_string()),
    }
}

/// Asks all that live, side by side, and answers in the order of `entries`. After `deadline` none is asked any more;
/// one that is being asked then still has its own time, so that nobody is called unhealthy for standing in a queue.
pub fn ask_all(paths: &Paths, node: &Node, entries: &[Entry<'_>], deadline: Deadline) -> Vec<Verdict> {
    let ask = |entry: &Entry<'_>| {
        let lives = matches!(Condition::of(entry), Condition::Running | Condition::Starting) && entry.is_alive();
        match deadline.passed() {
            _ if !lives => Verdict::Unasked,
            true => Verdict::Unknown("not asked: the others took too long".into()),
            false => health_of(paths, node, entry, Deadline::after(ONE_AT_MOST)),
        }
    };
    pool::each(entries, AT_ONCE, ask)
}
