//! The table for people.

use super::grid::{self, Column};
use super::row::{Row, age};
use crate::model::Port;
use crate::node::Condition;

/// The colour of what is wrong.
pub const RED: u8 = 31;

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

/// The whole table, its lines ending with LF.
pub fn draw(rows: &[Row<'_>], style: Style) -> String {
    let health = style.health || rows.iter().any(|r| r.health.is_some());
    grid::draw(columns(rows, health), style.width, style.colour)
}

fn columns(rows: &[Row<'_>], health: bool) -> Vec<Column> {
    let painted = |title, cell: &dyn Fn(&Row<'_>) -> (String, u8)| Column::new(title, None, rows.iter().map(cell));
    let column = |title, narrowest, cell: &dyn Fn(&Row<'_>) -> String| {
        Column::new(title, narrowest, rows.iter().map(|row| (cell(row), 0)))
    };
    let mut columns = vec![
        column("SERVICE", None, &|r| r.entry.id.service.clone()),
        column("COMPONENT", None, &|r| r.entry.id.component.clone()),
        column("RUNTIME", None, &|r| r.runtime().unwrap_or_default().to_string()),
        painted("STATE", &|r| (r.state(), state_colour(r.condition.name()))),
    ];
    if health {
        let colour = |r: &Row<'_>| if r.is_unhealthy() { RED } else { 0 };
        columns.push(painted("HEALTH", &|r| (r.health().unwrap_or_default(), colour(r))));
    }
    columns.extend([
        column("IMAGE", Some(12), &|r| r.entry.image().unwrap_or_default()),
        column("PORTS", Some(12), &|r| ports(r.ports())),
        column("UPTIME", None, &|r| r.uptime.map(age).unwrap_or_default()),
        column("RESTARTS", None, &|r| r.restarts().map(|n| n.to_string()).unwrap_or_default()),
        painted("DRIFT", &|r| (r.drift_names(), if r.drift.is_empty() { 0 } else { RED })),
    ]);
    columns
}

/// Forwarded ports in one word.
pub fn ports(ports: &[Port]) -> String {
    ports.iter().map(Port::forwarding).collect::<Vec<_>>().join(",")
}

/// The colour of a component's state.
pub fn state_colour(state: &str) -> u8 {
    let is = |any: &[Condition]| any.iter().any(|condition| condition.name() == state);
    match state {
        _ if is(&[Condition::Running]) => 32,
        _ if is(&[Condition::Failed]) => RED,
        _ if is(&[Condition::Starting, Condition::Stopping, Condition::Waiting]) => 33,
        _ => 0,
    }
}
