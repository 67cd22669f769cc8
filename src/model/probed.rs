//! `probe.json`: what the last probe of a component said, and since when it is so. `mcp-health --record` writes it.

use super::Document;
use crate::sys::paths::ComponentPaths;
use crate::sys::{Error, Result, file, time, turns};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The version that this code writes.
pub const SCHEMA: u32 = 1;
const DOCUMENT: Document = Document { what: "health record", schema: SCHEMA, remedy: "remove it" };

const SIZE_MAX: u64 = 64 << 10;
/// The most of a reason that is kept, in characters: it may have a peer's words in it.
const REASON_MAX: usize = 500;

/// Healthy or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// It is.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl Judged {
    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Judged::Healthy => "healthy",
            Judged::Unhealthy => "unhealthy",
        }
    }
}

/// `probe.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When the last probe was: RFC 3339, UTC.
    pub at: String,
    /// Who made it: the program.
    pub by: String,
    /// What that one probe said.
    pub last: Judged,
    /// Why it is not healthy.
    pub reason: Option<String>,
    /// So many in a row have said the same.
    pub count: u32,
    /// When the first of these was.
    pub first_at: String,
    /// What is believed: the last that so many in a row have said as the check wants; `None`: nothing yet.
    pub verdict: Option<Judged>,
    /// Since when: the first probe in a row that said so.
    pub since: Option<String>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// When it was.
    pub at: SystemTime,
    /// Who made it.
    pub by: &'static str,
    /// What it said.
    pub judged: Judged,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
    /// How many in a row are believed.
    pub wanted: u32,
}

/// It is believed to be other than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// What it was; `None`: nobody knew.
    pub was: Option<Judged>,
    /// What it is.
    pub is: Judged,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
    /// Since when: RFC 3339, UTC.
    pub since: String,
    /// Since when it was what it was.
    pub was_since: Option<String>,
}

impl Probed {
    /// What there is after `probe`, and whether that is news. That something is healthy of which nothing was known is
    /// none.
    pub fn after(before: Option<Probed>, probe: &Probe) -> (Probed, Option<Transition>) {
        let at = time::rfc3339(probe.at);
        let bad = probe.judged == Judged::Unhealthy;
        let reason = bad.then(|| probe.reason.chars().take(REASON_MAX).collect::<String>());
        let row = before.as_ref().filter(|b| b.last == probe.judged);
        let count = row.map_or(1, |b| b.count.saturating_add(1));
        let first_at = row.map_or_else(|| at.clone(), |b| b.first_at.clone());
        let (was, was_since) = before.map_or((None, None), |b| (b.verdict, b.since));
        let mut now = Probed {
            schema: SCHEMA,
            at,
            by: probe.by.to_string(),
            last: probe.judged,
            reason,
            count,
            first_at,
            verdict: was,
            since: was_since.clone(),
        };
        if count < probe.wanted || was == Some(probe.judged) {
            return (now, None);
        }
        now.verdict = Some(probe.judged);
        now.since = Some(now.first_at.clone());
        let news = was.is_some() || bad;
        let transition = Transition {
            was,
            is: probe.judged,
            reason: now.reason.clone().unwrap_or_default(),
            since: now.first_at.clone(),
            was_since,
        };
        (now, news.then_some(transition))
    }

    /// What was recorded of a component; `None`: nothing.
    pub fn read(files: &ComponentPaths) -> Result<Option<Probed>> {
        let path = files.probe();
        file::read_bounded(&path, SIZE_MAX)?.map(|bytes| DOCUMENT.parse(&path, &bytes)).transpose()
    }

    /// Writes `probe` down; the news that it makes. Two who probe at once take turns: each counts, and one of them has
    /// the news.
    pub fn record(files: &ComponentPaths, probe: &Probe) -> Result<Option<Transition>> {
        let path = files.probe();
        let mut news = None;
        turns::update(&path, SIZE_MAX, |old| {
            let before = old.and_then(|bytes| {
                // Nothing depends on it: it begins anew.
                DOCUMENT.parse(&path, &bytes).map_err(|e| log::warn!("{e}; overwritten")).ok()
            });
            let (now, transition) = Probed::after(before, probe);
            news = transition;
            serde_json::to_vec(&now).map(Some).map_err(|e| Error::refused(path.display(), e.to_string()))
        })?;
        Ok(news)
    }

    /// Forgets what was recorded: of something that shall not run there is nothing to say.
    pub fn forget(files: &ComponentPaths) -> Result<()> {
        file::remove_if_there(&files.probe())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// What is told of each probe in turn, a second apart: `+` a good one, `-` a bad one.
    fn told(probes: &str, successes: u32, failures: u32) -> Vec<String> {
        let mut before = None;
        let mut all = Vec::new();
        for (n, c) in probes.chars().enumerate() {
            let judged = if c == '+' { Judged::Healthy } else { Judged::Unhealthy };
            let wanted = if c == '+' { successes } else { failures };
            let at = UNIX_EPOCH + Duration::from_secs(n as u64);
            let probe = Probe { at, by: "test", judged, reason: "refused".into(), wanted };
            let (now, news) = Probed::after(before, &probe);
            if let Some(t) = news {
                let seconds = &t.since[17..19];
                all.push(format!("{n}: {} -> {} since {seconds}", t.was.map_or("?", Judged::name), t.is.name()));
            }
            before = Some(now);
        }
        all
    }

    #[test]
    fn only_changes_are_news() {
        assert_eq!(told("+++", 1, 3), [""; 0]);
        assert_eq!(told("---", 1, 1), ["0: ? -> unhealthy since 00"]);
        assert_eq!(told("---+", 1, 3), ["2: ? -> unhealthy since 00", "3: unhealthy -> healthy since 03"]);
        assert_eq!(told("++--++", 2, 2), ["3: healthy -> unhealthy since 02", "5: unhealthy -> healthy since 04"]);
    }

    #[test]
    fn flapping_is_damped() {
        assert_eq!(told("+-+--+--+", 1, 3), [""; 0]);
        assert_eq!(told("+-+---+", 1, 3), ["5: healthy -> unhealthy since 03", "6: unhealthy -> healthy since 06"]);
    }

    #[test]
    fn a_peer_fills_no_disk() {
        let probe =
            |reason: String| Probe { at: SystemTime::now(), by: "test", judged: Judged::Unhealthy, reason, wanted: 1 };
        let (now, _) = Probed::after(None, &probe("x".repeat(100_000)));
        assert_eq!(now.reason.unwrap().len(), REASON_MAX);
    }
}
