//! The same as metrics, in Prometheus' text format.

use super::row::Row;
use super::view::View;
use crate::node::{Condition, Drift, Verdict};
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

/// The whole text.
pub fn text(view: &View<'_>) -> String {
    let rows = &view.rows;
    let mut out = Metrics(String::new());
    out.of_each(rows, "mcp_component_info", "gauge", "Always 1; what the component is.", |row| {
        let runtime = row.runtime().unwrap_or_default();
        let image = row.entry.image().unwrap_or_default();
        Some((vec![("runtime", runtime.to_string()), ("image", image)], 1.0))
    });
    out.of_each(rows, "mcp_component_state", "gauge", "Always 1; the state the component is in.", |row| {
        Some((vec![("state", row.condition.name().to_string())], 1.0))
    });
    out.of_each(rows, "mcp_component_wanted", "gauge", "Whether the component shall run.", |row| {
        Some((vec![], row.entry.wanted()?.into()))
    });
    let known = |row: &Row<'_>| row.condition != Condition::Unknown;
    out.of_each(rows, "mcp_component_up", "gauge", "Whether a VM or container of the component lives.", |row| {
        known(row).then(|| (vec![], row.entry.is_alive().into()))
    });
    out.of_each(rows, "mcp_component_ready", "gauge", "Whether the component runs and was ready.", |row| {
        known(row).then(|| (vec![], (row.condition == Condition::Running).into()))
    });
    out.of_each(rows, "mcp_component_healthy", "gauge", "What the component answered when it was asked last.", |row| {
        match row.health.as_ref()?.verdict {
            Verdict::Healthy => Some((vec![], 1.0)),
            Verdict::Unhealthy(_) => Some((vec![], 0.0)),
            Verdict::Unknown(_) | Verdict::Unasked => None,
        }
    });
    out.of_each(rows, "mcp_component_probe_time_seconds", "gauge", "When the component was asked last.", |row| {
        let at = row.health.as_ref()?.at.duration_since(UNIX_EPOCH).ok()?;
        Some((vec![], at.as_secs_f64()))
    });
    out.of_each(rows, "mcp_component_restarts_total", "counter", "Restarts by the restart policy.", |row| {
        Some((vec![], row.restarts()?.into()))
    });
    out.of_each(
        rows,
        "mcp_component_start_time_seconds",
        "gauge",
        "When the living VM or container was started.",
        |row| {
            let since = row.entry.started()?.duration_since(UNIX_EPOCH).ok()?;
            Some((vec![], since.as_secs_f64()))
        },
    );
    out.of_each(rows, "mcp_component_exit_code", "gauge", "What the last run ended with.", |row| {
        Some((vec![], row.end()?.code?.into()))
    });
    out.head("mcp_component_drift", "gauge", "Always 1; how the component differs from what should be.");
    for row in rows {
        for kind in &row.drift {
            out.sample("mcp_component_drift", Some(row), &[("kind", kind.name().to_string())], 1.0);
        }
    }
    out.head("mcp_drift", "gauge", "Components that differ from what should be, by kind.");
    for kind in Drift::ALL {
        let count = rows.iter().filter(|r| r.drift.contains(&kind)).count();
        out.sample("mcp_drift", None, &[("kind", kind.name().to_string())], count as f64);
    }
    if view.podman.is_some() {
        out.head("mcp_podman_answered", "gauge", "Whether podman told of its containers.");
        out.sample("mcp_podman_answered", None, &[], view.unasked().is_none().into());
    }
    out.head("mcp_definition_problems", "gauge", "Problems in service definitions.");
    out.sample("mcp_definition_problems", None, &[], view.problems.len() as f64);
    out.0
}

struct Metrics(String);

type Sample = (Vec<(&'static str, String)>, f64);

impl Metrics {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn of_each(
        &mut self,
        rows: &[Row<'_>],
        name: &str,
        kind: &str,
        help: &str,
        of: impl Fn(&Row<'_>) -> Option<Sample>,
    ) {
        let samples: Vec<_> = rows.iter().filter_map(|row| Some((row, of(row)?))).collect();
        if samples.is_empty() {
            return;
        }
        self.head(name, kind, help);
        for (row, (labels, value)) in samples {
            self.sample(name, Some(row), &labels, value);
        }
    }

    fn sample(&mut self, name: &str, row: Option<&Row<'_>>, labels: &[(&str, String)], value: f64) {
        let of_row =
            row.map(|r| [("service", r.entry.id.service.clone()), ("component", r.entry.id.component.clone())]);
        let labels: Vec<String> = of_row
            .iter()
            .flatten()
            .chain(labels)
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// A label's value: backslash, quote and newline are escaped, as the format wants.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
