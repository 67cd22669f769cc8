//! One component as it is shown, and how its values are written.

use crate::model::Port;
use crate::model::state::End;
use crate::node::{Condition, Drift, Entry, Health, Remote, Verdict, drift};
use nix::sys::signal::Signal;
use std::time::{Duration, SystemTime};

/// One component, judged.
pub struct Row<'a> {
    /// What was found.
    pub entry: Entry<'a>,
    /// The word for it.
    pub condition: Condition,
    /// How it differs.
    pub drift: Vec<Drift>,
    /// What it answered when it was asked last.
    pub health: Option<Health>,
    /// What the registry says of its tag, where that was asked.
    pub remote: Option<Remote>,
    /// Since when its VM or container lives.
    pub uptime: Option<Duration>,
    /// When all this was so.
    pub at: SystemTime,
}

impl<'a> Row<'a> {
    /// Judges `entry` at `now`.
    pub fn new(entry: Entry<'a>, health: Option<Health>, remote: Option<Remote>, now: SystemTime) -> Row<'a> {
        let verdict = health.as_ref().and_then(|h| h.of_now(now));
        let mut drift = drift::drift(&entry, verdict, now);
        if matches!(remote, Some(Remote::Moved(_))) && !drift.contains(&Drift::Image) {
            drift.push(Drift::Image);
            drift.sort();
        }
        Row {
            condition: Condition::of(&entry),
            drift,
            // A clock that was set back makes it young, not an error.
            uptime: entry.started().map(|at| now.duration_since(at).unwrap_or_default()),
            health,
            remote,
            at: now,
            entry,
        }
    }

    /// How it ended, if it did and has not been started again.
    pub fn end(&self) -> Option<&End> {
        self.entry.end()
    }

    /// What it answered, with the age of the answer where it was not asked now: `healthy`, `unhealthy(2m5s)`.
    pub fn health(&self) -> Option<String> {
        let health = self.health.as_ref()?;
        let name = health.verdict.name();
        Some(if health.recorded { format!("{name}({})", age(health.age(self.at))) } else { name.to_string() })
    }

    /// Whether it says now that it is not healthy.
    pub fn is_unhealthy(&self) -> bool {
        let verdict = self.health.as_ref().and_then(|h| h.of_now(self.at));
        matches!(verdict, Some(Verdict::Unhealthy(_)))
    }

    /// The word for it, with the exit code or signal of a failure: `running`, `failed(7)`, `failed(SIGKILL)`.
    pub fn state(&self) -> String {
        let how = match (self.condition, self.end()) {
            (Condition::Failed, Some(end)) => ending(end),
            _ => None,
        };
        match how {
            Some(how) => format!("{}({how})", self.condition.name()),
            None => self.condition.name().to_string(),
        }
    }

    /// How it runs: `unikernel`, `microvm` or `container`.
    pub fn runtime(&self) -> Option<&'static str> {
        let of_spec = self.entry.spec().map(|spec| spec.runtime.name());
        of_spec.or(self.entry.container.is_some().then_some("container"))
    }

    /// Its forwarded ports: those that are there while it lives, else those that would be.
    pub fn ports(&self) -> &[Port] {
        let entry = &self.entry;
        match (entry.state.get().filter(|_| entry.is_alive()), &entry.container, entry.spec()) {
            (Some(state), ..) => &state.ports,
            (None, Some(seen), None) => &seen.ports,
            (None, Some(seen), Some(_)) if entry.is_alive() => &seen.ports,
            (None, _, Some(spec)) => &spec.ports,
            (None, None, None) => &[],
        }
    }

    /// Times the restart policy has started it again.
    pub fn restarts(&self) -> Option<u32> {
        self.entry.state.get().map(|s| s.restarts)
    }

    /// Names of the drift kinds, between commas.
    pub fn drift_names(&self) -> String {
        let names: Vec<_> = self.drift.iter().map(|d| d.name()).collect();
        names.join(",")
    }
}

/// The exit code or the name of the signal.
pub fn ending(end: &End) -> Option<String> {
    match (end.signal, end.code) {
        (Some(n), _) => Some(match Signal::try_from(n) {
            Ok(signal) => signal.as_str().to_string(),
            Err(_) => format!("SIG{n}"),
        }),
        (None, Some(code)) => Some(code.to_string()),
        (None, None) => None,
    }
}

/// The two largest units: `3d4h`, `5m12s`, `7s`.
pub fn age(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{}s", s / 60, s % 60),
        3600..86400 => format!("{}h{}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{}h", s / 86400, s % 86400 / 3600),
    }
}

/// `text` with everything made visible that a terminal would obey: it may come from a guest.
pub fn clean(text: &str) -> String {
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if obeyed(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let told = |s| age(Duration::from_secs(s));
        assert_eq!([told(0), told(59), told(61), told(7260), told(90_000)], ["0s", "59s", "1m1s", "2h1m", "1d1h"]);
    }

    #[test]
    fn a_guest_commands_no_terminal() {
        assert_eq!(clean("a\x1b[2Jb\u{9b}c\u{202e}\tä\r"), "a\\u{1b}[2Jb\\u{9b}c\\u{202e} ä\\r");
    }
}
