//! The same as a Nagios plugin tells it: one line, performance data, and Nagios's exit codes.

use super::row::Row;
use super::view::View;
use crate::cmd::nagios::{CRITICAL, UNKNOWN, WARNING, plain};
use crate::node::{Condition, Drift};
use crate::sys::error::EXIT_OK;
use crate::sys::{Error, out};

/// So many components are named; of more the number is told.
const NAMED_MAX: usize = 20;

/// Whether somebody has to see to it at once.
fn is_critical(kind: Drift) -> bool {
    matches!(kind, Drift::Missing | Drift::Unhealthy | Drift::CrashLoop)
}

/// Prints the line; Nagios's exit code.
pub fn print(view: &View<'_>) -> u8 {
    let drifted: Vec<&Row<'_>> = view.rows.iter().filter(|r| !r.drift.is_empty()).collect();
    // The worst first: pagers cut lines.
    let (mut worst, mild): (Vec<_>, Vec<_>) =
        drifted.iter().copied().partition(|r| r.drift.iter().any(|kind| is_critical(*kind)));
    let complaints: Vec<String> = view.complaints().collect();
    let (word, code) = match (worst.is_empty(), complaints.is_empty(), drifted.is_empty()) {
        (false, ..) => ("CRITICAL", CRITICAL),
        (true, false, _) => ("UNKNOWN", UNKNOWN),
        (true, true, false) => ("WARNING", WARNING),
        (true, true, true) => ("OK", EXIT_OK),
    };
    worst.extend(mild);
    let mut words: Vec<String> = worst.iter().take(NAMED_MAX).map(|r| differs(r)).collect();
    if worst.len() > NAMED_MAX {
        words.push(format!("{} more", worst.len() - NAMED_MAX));
    }
    words.extend(complaints);
    if words.is_empty() {
        let (count, s) = (view.rows.len(), if view.rows.len() == 1 { "" } else { "s" });
        words.push(format!("{count} component{s}, no drift"));
    }
    let runs = view.rows.iter().filter(|r| r.condition == Condition::Running).count();
    let mut data = vec![format!("components={}", view.rows.len()), format!("running={runs}")];
    for kind in Drift::ALL {
        let count = view.rows.iter().filter(|r| r.drift.contains(&kind)).count();
        data.push(format!("{}={count}", kind.name()));
    }
    out::print(format_args!("MCP {word} - {}|{}\n", plain(&words.join("; ")), data.join(" ")));
    code
}

/// The same for what could not be looked at.
pub fn print_error(error: &Error) -> u8 {
    out::print(format_args!("MCP UNKNOWN - {}\n", plain(&error.to_string())));
    UNKNOWN
}

/// `shop/api: missing (failed(7))`.
fn differs(row: &Row<'_>) -> String {
    format!("{}: {} ({})", row.entry.name(), row.drift_names().replace(',', ", "), row.state())
}
