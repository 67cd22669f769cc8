//! How times, outcomes and kinds are said, in both views.

use super::row::{End, Row};
use crate::console::harmless;
use crate::model::HealthKind;
use crate::model::boot_record::{BootRecord, Kind, Mode, Outcome, Run, Stage, StageOutcome};

/// `20 ms`, `1.2 s`, `12.5 s`, `10 min 3 s`, `2 h 5 min`, `3 d 4 h`: three figures at most, or the two largest units.
pub fn span(ms: u64) -> String {
    let text = even(ms);
    match text.split_once(" s") {
        Some((figures, "")) if figures.contains('.') => {
            format!("{} s", figures.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// The same with all three figures, for a column of them: `1.20 s`.
fn even(ms: u64) -> String {
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    // Rounded first, so that nothing is said to have taken 60 s.
    let s = ms.saturating_add(500) / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..9995 => format!("{} s", fraction(ms.saturating_add(5) / 10, 2)),
        9995..59_950 => format!("{} s", fraction(ms.saturating_add(50) / 100, 1)),
        _ if s < 3600 => two(s / 60, "min", s % 60, "s"),
        _ if s < 86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// The same in one word: `1.20s`, `10m3s`.
pub fn short(ms: u64) -> String {
    even(ms).replace("min", "m").replace(' ', "")
}

/// A moment to the millisecond: `315 ms`, `1.315 s`, `10:00.820`, `3 d 0:10:00.820`.
pub fn moment(ms: u64) -> String {
    let (s, rest) = (ms / 1000, ms % 1000);
    let (days, h, min) = (s / 86_400, s % 86_400 / 3600, s % 3600 / 60);
    let clock = format!("{:02}.{rest:03}", s % 60);
    match (days, h) {
        _ if ms < 1000 => format!("{ms} ms"),
        _ if ms < 60_000 => format!("{s}.{rest:03} s"),
        (0, 0) => format!("{min}:{clock}"),
        (0, _) => format!("{h}:{min:02}:{clock}"),
        _ => format!("{days} d {h}:{min:02}:{clock}"),
    }
}

/// `n` divided by ten to the `digits`.
fn fraction(n: u64, digits: u32) -> String {
    let one = 10_u64.pow(digits);
    format!("{}.{:0width$}", n / one, n % one, width = digits as usize)
}

/// `text` on one line, with everything visible that a terminal would obey or XML can't hold.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in harmless::text(text.as_bytes()).chars() {
        match c {
            '\t' => out.push(' '),
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// `text` in at most `most` characters.
pub fn fit(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The same, cut in the middle: a component's name differs from its neighbours' in its end.
pub fn fit_middle(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_string();
    }
    let head = most / 2;
    let tail = most.saturating_sub(head + 1);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

/// `1 retry`, `3 retries`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// What happened to a component.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Start => "start",
        Kind::Started => "started",
        Kind::Ready => "ready",
        Kind::Healthy => "healthy",
        Kind::Unhealthy => "not healthy",
        Kind::Died => "died",
        Kind::Retry => "started again",
        Kind::Already => "ran already",
        Kind::Adopted => "ran without a supervisor, adopted",
        Kind::Skipped => "stays stopped",
        Kind::Failed => "could not be started",
        Kind::Warned => "warning",
    }
}

/// What a stage waits for, and how long: `waits for ever, grpc`.
pub fn gate(stage: &Stage) -> String {
    let check = match stage.health {
        HealthKind::Tcp => "tcp",
        HealthKind::Http => "http",
        HealthKind::Grpc => "grpc",
        HealthKind::None => "no check",
    };
    let timeout = u64::try_from(stage.timeout.as_millis()).unwrap_or(u64::MAX);
    match stage.foundation {
        true => format!("waits for ever, {check}"),
        false => format!("waits {} at most, {check}", span(timeout)),
    }
}

/// How a stage came out: `healthy after 1.2 s`.
pub fn stage_outcome(stage: &Stage) -> String {
    let word = match stage.outcome {
        StageOutcome::Waiting => return "not reached".into(),
        StageOutcome::Running => return "still going on".into(),
        StageOutcome::Healthy => "healthy",
        StageOutcome::TimedOut => "timed out",
        StageOutcome::Interrupted => "interrupted",
    };
    match (stage.began_ms, stage.ended_ms) {
        (Some(began), Some(ended)) => format!("{word} after {}", span(ended.saturating_sub(began))),
        _ => word.to_string(),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "still going on",
        Outcome::Ready => "ready",
        Outcome::Interrupted => "interrupted",
        Outcome::Failed => "failed",
    }
}

/// How the boot came out: `ready after 7.81 s`.
pub fn boot_outcome(record: &BootRecord) -> String {
    let word = outcome(record.outcome);
    match record.ended_ms.or(record.read_ms) {
        Some(ms) => format!("{word} after {}", span(ms)),
        None => word.to_string(),
    }
}

/// When it began: `2026-11-23 10:20:30 UTC`; as it stands in the record where that is no time.
pub fn began(record: &BootRecord) -> String {
    match crate::sys::time::parse(&record.began) {
        Some(at) => humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', " UTC"),
        None => clean(&record.began),
    }
}

/// How many of what: `4 stages, 30 components: 29 healthy, 1 not healthy; 3 retries`.
pub fn census(record: &BootRecord, rows: &[Vec<Row<'_>>]) -> String {
    let all = || rows.iter().flatten();
    let stages = count(rows.len() as u64, "stage", "stages");
    let components = count(all().count() as u64, "component", "components");
    let of = |wanted: fn(&End) -> bool, name: &str| {
        let n = all().filter(|r| wanted(&r.end)).count();
        (n > 0).then(|| format!("{n} {name}"))
    };
    let parts = [
        of(|e| matches!(e, End::Healthy), "healthy"),
        of(|e| matches!(e, End::Unhealthy | End::Died | End::Failed), "not healthy"),
        of(|e| matches!(e, End::Open), "under way"),
        of(|e| matches!(e, End::Skipped), "kept stopped"),
        of(|e| matches!(e, End::Untouched), "not reached"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let sum = |pick: fn(&Row<'_>) -> u32| all().map(|r| u64::from(pick(r))).sum::<u64>();
    let (retries, deaths) = (sum(|r| r.of.retries), sum(|r| r.of.deaths));
    let mut out = format!("{stages}, {components}");
    if !parts.is_empty() {
        out += &format!(": {}", parts.join(", "));
    }
    let troubles = [
        (retries > 0).then(|| count(retries, "retry", "retries")),
        (deaths > 0).then(|| count(deaths, "death", "deaths")),
    ];
    let troubles: Vec<String> = troubles.into_iter().flatten().collect();
    if !troubles.is_empty() {
        out += &format!("; {}", troubles.join(", "));
    }
    if record.mode == Mode::Stages {
        let runs: Vec<&Run> = record.runs.iter().filter(|r| r.stage.is_some()).collect();
        out += &format!("; stage by stage, {}", count(runs.len() as u64, "run", "runs"));
    }
    out
}
