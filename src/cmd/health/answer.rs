//! The answer in its forms: lines, JSON, Nagios.

use crate::cmd::nagios::{CRITICAL, UNKNOWN, WARNING, plain};
use crate::health::{Reason, Verdict};
use crate::model::Problem;
use crate::model::probed::Transition;
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::{Error, out};
use serde_json::json;
use std::time::Duration;

/// The version of the JSON object.
pub(super) const SCHEMA: u32 = 1;

/// What was found of one target.
pub(super) struct Answer {
    /// The component's full name, or the URL.
    pub name: String,
    /// What was asked.
    pub check: Option<String>,
    pub outcome: Outcome,
    /// What has changed since the last recorded answer.
    pub news: Option<Transition>,
}

pub(super) enum Outcome {
    /// It has none.
    NoCheck,
    /// It does not run and shall not.
    Rests,
    /// It can't be checked.
    Failed(Error),
    /// It was.
    Judged(Verdict),
}

impl Answer {
    /// Of `outcome`, with nothing to add.
    pub fn new(name: String, outcome: Outcome) -> Answer {
        Answer { name, check: None, outcome, news: None }
    }

    /// Why it could not be checked.
    pub fn failed(&self) -> Option<&Error> {
        match &self.outcome {
            Outcome::Failed(e) => Some(e),
            _ => None,
        }
    }

    fn healthy(&self) -> Option<(&str, Duration)> {
        match &self.outcome {
            Outcome::Judged(Verdict::Healthy { detail, elapsed }) => Some((detail, *elapsed)),
            _ => None,
        }
    }

    fn unhealthy(&self) -> Option<&Reason> {
        match &self.outcome {
            Outcome::Judged(Verdict::Unhealthy(reason)) => Some(reason),
            _ => None,
        }
    }
}

/// The first error's if any could not be checked, else 1 if any is unhealthy.
pub(super) fn exit_code(answers: &[Answer]) -> u8 {
    if let Some(e) = answers.iter().find_map(Answer::failed) {
        return e.exit_code();
    }
    if answers.iter().any(|a| a.unhealthy().is_some()) { EXIT_NO } else { EXIT_OK }
}

/// A line each.
pub(super) fn lines(answers: &[Answer]) {
    for answer in answers {
        let name = &answer.name;
        match &answer.outcome {
            // A complaint, on standard error.
            Outcome::Failed(_) => {}
            Outcome::NoCheck => out::print(format_args!("{name}: no check\n")),
            Outcome::Rests => out::print(format_args!("{name}: stopped, as it shall be\n")),
            Outcome::Judged(Verdict::Healthy { detail, elapsed }) => {
                out::print(format_args!("{name}: healthy: {detail} ({} ms)\n", ms(*elapsed)));
            }
            Outcome::Judged(Verdict::Unhealthy(reason)) => match &answer.check {
                Some(check) => out::print(format_args!("{name}: unhealthy: {check}: {reason}\n")),
                None => out::print(format_args!("{name}: unhealthy: {reason}\n")),
            },
        }
    }
}

/// One object.
pub(super) fn json(answers: &[Answer]) {
    let list: Vec<_> = answers
        .iter()
        .map(|a| {
            let healthy = match a.outcome {
                Outcome::NoCheck | Outcome::Rests | Outcome::Failed(_) => None,
                _ => Some(a.healthy().is_some()),
            };
            json!({
                "target": a.name,
                "healthy": healthy,
                "check": a.check,
                "detail": a.healthy().map(|(detail, _)| detail),
                "elapsed_ms": a.healthy().map(|(_, elapsed)| elapsed.as_micros() as f64 / 1000.0),
                "reason": a.unhealthy().map(Reason::name).or(a.failed().map(|_| "error")),
                "message": a.unhealthy().map(Reason::to_string).or(a.failed().map(Error::to_string)),
            })
        })
        .collect();
    let object = json!({ "schema": SCHEMA, "healthy": exit_code(answers) == EXIT_OK, "targets": list });
    out::print(format_args!("{object}\n"));
}

/// One line with performance data, and Nagios's exit code.
/// What is wrong with files is a warning where all else is well.
pub(super) fn nagios(answers: &[Answer], problems: &[Problem]) -> u8 {
    let bad: Vec<String> = answers.iter().filter_map(|a| a.unhealthy().map(|r| format!("{}: {r}", a.name))).collect();
    let good: Vec<(&Answer, Duration)> =
        answers.iter().filter_map(|a| a.healthy().map(|(_, elapsed)| (a, elapsed))).collect();
    let failed: Vec<String> = answers.iter().filter_map(|a| a.failed().map(Error::to_string)).collect();
    let (mut word, mut text, mut code) = match (bad.is_empty(), good.as_slice()) {
        (false, _) => ("CRITICAL", bad.join("; "), CRITICAL),
        (true, _) if !failed.is_empty() => ("UNKNOWN", failed.join("; "), UNKNOWN),
        (true, []) if answers.iter().any(|a| matches!(a.outcome, Outcome::Rests)) => {
            ("OK", "stopped, as it shall be".to_string(), EXIT_OK)
        }
        (true, []) => ("UNKNOWN", "no check".to_string(), UNKNOWN),
        (true, [(one, elapsed)]) => {
            let detail = one.healthy().map(|(detail, _)| detail).unwrap_or_default();
            ("OK", format!("{}: {detail} ({} ms)", one.name, ms(*elapsed)), EXIT_OK)
        }
        (true, many) => ("OK", format!("{} healthy", many.len()), EXIT_OK),
    };
    if code == EXIT_OK && !problems.is_empty() {
        (word, code) = ("WARNING", WARNING);
    }
    for problem in problems {
        text.push_str(&format!("; {problem}"));
    }
    let times: Vec<String> = match good.as_slice() {
        [(_, elapsed)] if bad.is_empty() => vec![format!("time={:.6}s", elapsed.as_secs_f64())],
        many => many.iter().map(|(a, e)| format!("'{}'={:.6}s", label(&a.name), e.as_secs_f64())).collect(),
    };
    let text = plain(&text);
    match times.is_empty() {
        true => out::print(format_args!("MCP {word} - {text}\n")),
        false => out::print(format_args!("MCP {word} - {text}|{}\n", times.join(" "))),
    }
    code
}

/// The same for what could not be checked at all.
pub(super) fn nagios_error(error: &Error) -> u8 {
    out::print(format_args!("MCP UNKNOWN - {}\n", plain(&error.to_string())));
    UNKNOWN
}

/// Labels have neither quotes nor equal signs.
fn label(name: &str) -> String {
    name.replace(['\'', '=', '|'], "_")
}

fn ms(elapsed: Duration) -> String {
    format!("{:.1}", elapsed.as_micros() as f64 / 1000.0)
}
