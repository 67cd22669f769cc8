//! The table for people.

use super::row::{Row, age, clean};
use crate::model::Port;
use crate::node::Condition;

/// How the table is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Columns of the terminal; `None`: not a terminal, and lines are as long as they are.
    pub width: Option<usize>,
    /// Whether states are coloured.
    pub colour: bool,
    /// Whether HEALTH is a column even where nothing is known of it.
    pub health: bool,
}

struct Column {
    title: &'static str,
    cells: Vec<String>,
    /// The narrowest that it may be made; `None`: it is never cut.
    narrowest: Option<usize>,
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().map(|c| c.chars().count()).chain([self.title.len()]).max().unwrap_or(0)
    }
}

/// The whole table, its lines ending with LF.
pub fn draw(rows: &[Row<'_>], style: Style) -> String {
    let mut columns = columns(rows, style.health || rows.iter().any(|r| r.health.is_some()));
    let mut widths: Vec<usize> = columns.iter().map(Column::width).collect();
    if let Some(width) = style.width {
        fit(&mut columns, &mut widths, width);
    }
    let mut out = String::new();
    let titles: Vec<&str> = columns.iter().map(|c| c.title).collect();
    line(&mut out, &titles, &widths, |_, text| text.to_string());
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|c| c.cells.get(i).map_or("", String::as_str)).collect();
        line(&mut out, &cells, &widths, |column, text| match columns.get(column).map(|c| c.title) {
            Some("STATE") if style.colour => paint(text, state_colour(row.condition)),
            Some("DRIFT") if style.colour && !row.drift.is_empty() => paint(text, 31),
            Some("HEALTH") if style.colour && row.is_unhealthy() => paint(text, 31),
            _ => text.to_string(),
        });
    }
    out
}

fn columns(rows: &[Row<'_>], health: bool) -> Vec<Column> {
    // One word a cell, for awk and cut: an image may have a space in its file name.
    let word = |text: String| if text.is_empty() { "-".into() } else { clean(&text).replace(' ', "\\x20") };
    let column = |title, narrowest, cell: &dyn Fn(&Row<'_>) -> String| Column {
        title,
        cells: rows.iter().map(|row| word(cell(row))).collect(),
        narrowest,
    };
    let mut columns = vec![
        column("SERVICE", None, &|r| r.entry.id.service.clone()),
        column("COMPONENT", None, &|r| r.entry.id.component.clone()),
        column("RUNTIME", None, &|r| r.runtime().unwrap_or_default().to_string()),
        column("STATE", None, &|r| r.state()),
    ];
    if health {
        columns.push(column("HEALTH", None, &|r| r.health().unwrap_or_default()));
    }
    columns.extend([
        column("IMAGE", Some(12), &|r| r.entry.image().unwrap_or_default()),
        column("PORTS", Some(12), &|r| r.ports().iter().map(Port::forwarding).collect::<Vec<_>>().join(",")),
        column("UPTIME", None, &|r| r.uptime.map(age).unwrap_or_default()),
        column("RESTARTS", None, &|r| r.restarts().map(|n| n.to_string()).unwrap_or_default()),
        column("DRIFT", None, &|r| r.drift_names()),
    ]);
    columns
}

/// Cuts what may be cut, the widest first, until a line fits `width`, or nothing is left to cut.
fn fit(columns: &mut [Column], widths: &mut [usize], width: usize) {
    let gaps = 2 * columns.len().saturating_sub(1);
    loop {
        let too_much = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
        let widest = columns
            .iter()
            .zip(widths.iter_mut())
            .filter(|(column, width)| column.narrowest.is_some_and(|n| **width > n))
            .max_by_key(|(_, width)| **width);
        let (true, Some((column, width))) = (too_much > 0, widest) else { break };
        let narrowest = column.narrowest.unwrap_or(0);
        *width = width.saturating_sub(1).max(narrowest);
    }
    for (column, width) in columns.iter_mut().zip(widths.iter()) {
        for cell in &mut column.cells {
            if cell.chars().count() > *width {
                *cell = cell.chars().take(width.saturating_sub(1)).chain(['…']).collect();
            }
        }
    }
}

fn line(out: &mut String, cells: &[&str], widths: &[usize], paint: impl Fn(usize, &str) -> String) {
    let last = cells.len().saturating_sub(1);
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        out.push_str(&paint(i, cell));
        if i < last {
            let pad = width.saturating_sub(cell.chars().count()) + 2;
            out.extend(std::iter::repeat_n(' ', pad));
        }
    }
    out.push('\n');
}

fn state_colour(condition: Condition) -> u8 {
    match condition {
        Condition::Running => 32,
        Condition::Failed => 31,
        Condition::Starting | Condition::Stopping | Condition::Waiting => 33,
        _ => 0,
    }
}

fn paint(text: &str, colour: u8) -> String {
    if colour == 0 { text.to_string() } else { format!("\x1b[{colour}m{text}\x1b[0m") }
}
