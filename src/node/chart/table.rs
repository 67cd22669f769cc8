//! The table for a terminal.

use super::row::{self, End, Row};
use super::words::{self, short};
use crate::model::boot_record::{BootRecord, Stage, StageOutcome};

/// How the table is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Columns of the terminal; `None`: not a terminal, and lines are as long as they are.
    pub width: Option<usize>,
    /// Whether outcomes are coloured.
    pub colour: bool,
}

/// Columns: all but the last, which is as wide as there is room.
const TITLES: [&str; 8] = ["COMPONENT", "RUNTIME", "START", "STARTED", "READY", "HEALTHY", "RETRIES", "LAST"];
const ID: usize = 0;
const LAST: usize = 7;
/// Numbers stand to the right.
const NUMBERS: std::ops::Range<usize> = 2..7;
/// The narrowest that names and last words are made.
const NARROWEST: usize = 12;

/// The boot in lines that end with LF: one for the whole, one a stage, one a component. A stage's time counts from
/// the boot's beginning, a component's from its stage's. `host` is the node's name, if it has one.
pub fn text(record: &BootRecord, host: &str, style: Style) -> String {
    let rows = row::rows(record, record.last_ms());
    let cells: Vec<Vec<[String; 8]>> =
        record.stages.iter().zip(&rows).map(|(stage, rows)| rows.iter().map(|r| cells(stage, r)).collect()).collect();
    let mut widths = TITLES.map(|t| t.chars().count());
    for cells in cells.iter().flatten() {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if let Some(width) = style.width {
        fit(&mut widths, width);
    }
    let of = if host.is_empty() { String::new() } else { format!(" of {}", words::clean(host)) };
    let mut out = Lines { text: String::new(), style };
    out.add(&format!("boot{of}, {}: {}", words::began(record), words::boot_outcome(record)), 1);
    out.add(&words::census(record, &rows), 0);
    let titles = TITLES.map(str::to_string);
    let any = cells.iter().any(|c| !c.is_empty());
    if any {
        out.add("times of components count from the beginning of their stage", 0);
        out.add("", 0);
        out.add(&line(&titles, &widths), 0);
    }
    for ((stage, rows), cells) in record.stages.iter().zip(&rows).zip(&cells) {
        out.add(&headline(stage, rows), stage_colour(stage));
        for (row, cells) in rows.iter().zip(cells) {
            out.add(&line(cells, &widths), row_colour(row));
        }
    }
    out.text
}

struct Lines {
    text: String,
    style: Style,
}

impl Lines {
    /// Adds a line, cut to the width.
    fn add(&mut self, line: &str, colour: u8) {
        let line = self.style.width.map_or(line.to_string(), |width| words::fit(line, width));
        match colour {
            0 => self.text.push_str(&line),
            _ if !self.style.colour => self.text.push_str(&line),
            colour => self.text.push_str(&format!("\x1b[{colour}m{line}\x1b[0m")),
        }
        self.text.push('\n');
    }
}

fn headline(stage: &Stage, rows: &[Row<'_>]) -> String {
    let healthy = rows.iter().filter(|r| r.end == End::Healthy).count();
    let wanted = rows.iter().filter(|r| r.end != End::Skipped).count();
    let outcome = words::stage_outcome(stage);
    let count = match stage.outcome {
        StageOutcome::Waiting => String::new(),
        _ => format!(", {healthy} of {wanted} healthy"),
    };
    let began = stage.began_ms.map_or(String::new(), |ms| format!(" at {}", short(ms)));
    format!("stage {}{began} ({}): {outcome}{count}", words::clean(&stage.name), words::gate(stage))
}

fn cells(stage: &Stage, row: &Row<'_>) -> [String; 8] {
    let began = stage.began_ms.unwrap_or(0);
    let time = |ms: Option<u64>| ms.map_or("-".to_string(), |ms| short(ms.saturating_sub(began)));
    let started = row.of.events.iter().rev().find(|e| e.kind == crate::model::boot_record::Kind::Started);
    [
        format!("  {}", words::clean(&row.of.id)),
        row.of.runtime.name().to_string(),
        time(row.start),
        time(started.map(|e| e.at_ms)),
        time(row.ready),
        time(row.healthy),
        row.of.retries.to_string(),
        row.last(),
    ]
}

/// Makes the last words narrower, then the names, until a line fits.
fn fit(widths: &mut [usize; 8], width: usize) {
    for column in [LAST, ID] {
        let whole = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        let too_much = whole.saturating_sub(width);
        if let Some(w) = widths.get_mut(column) {
            *w = (*w).min(w.saturating_sub(too_much).max(NARROWEST));
        }
    }
}

fn line(cells: &[String; 8], widths: &[usize; 8]) -> String {
    let mut out = String::new();
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = match i {
            ID => words::fit_middle(cell, *width),
            _ => words::fit(cell, *width),
        };
        if i > 0 {
            out.push_str("  ");
        }
        let pad = width.saturating_sub(cell.chars().count());
        let pad = std::iter::repeat_n(' ', pad);
        if NUMBERS.contains(&i) {
            out.extend(pad);
            out.push_str(&cell);
        } else if i == LAST {
            out.push_str(&cell);
        } else {
            out.push_str(&cell);
            out.extend(pad);
        }
    }
    out
}

fn stage_colour(stage: &Stage) -> u8 {
    match stage.outcome {
        StageOutcome::Healthy => 32,
        StageOutcome::TimedOut | StageOutcome::Interrupted => 31,
        StageOutcome::Running => 33,
        StageOutcome::Waiting => 0,
    }
}

fn row_colour(row: &Row<'_>) -> u8 {
    match row.end {
        End::Unhealthy | End::Died | End::Failed => 31,
        End::Open => 33,
        End::Healthy | End::Skipped | End::Untouched => 0,
    }
}
