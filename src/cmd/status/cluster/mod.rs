//! `--cluster`: the same of all nodes of a Pacemaker cluster, from what each says of itself.

mod json;

use super::grid::{self, Column};
use super::row::{age, clean};
use super::table::{RED, Style, ports, state_colour};
use super::{Args, style};
use crate::model::{ComponentId, Target};
use crate::node::cluster::{self, ClusterDrift, Picture, Row, Seen, Via};
use crate::sys::error::{EXIT_FINAL, EXIT_NO, EXIT_OK};
use crate::sys::{Deadline, Error, Result, out};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::time::{Duration, SystemTime};

/// How long the whole may take, unless the operator says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Looks at the cluster once, and prints it.
pub fn run(args: &Args) -> Result<u8> {
    if args.timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(Error::Usage { what: "--timeout: it must be longer than nothing".into() });
    }
    let deadline = Deadline::after(args.timeout.unwrap_or(TIMEOUT));
    let targets = args.targets.iter().map(|t| Target::parse(t)).collect::<Result<Vec<_>>>()?;
    let via = match &args.via {
        Some(line) => Via::shell(line)?,
        None => {
            let root = args.common.root.as_ref().map(|root| [OsString::from("--root"), root.clone().into()]);
            Via::Ssh { here: None, arguments: root.into_iter().flatten().collect() }
        }
    };
    let asked_for = |row: &Row| is_asked_for(row, &targets, args);
    let mut picture = cluster::look(&via, args.health, deadline, asked_for)?;
    let at = SystemTime::now();
    let unknown = unknown(&picture, &targets);
    let everything = targets.is_empty() && args.state.is_empty();
    picture.rows.retain(asked_for);
    let shown = |row: &&Row| !everything || !row.is_idle();
    let rows: Vec<&Row> = picture.rows.iter().filter(shown).collect();
    complain(&picture, &unknown);
    let text = match args {
        _ if args.json => json::document(&picture, &unknown, at),
        _ if args.list => list(&rows),
        _ => table(&picture, &rows, everything, style(args)),
    };
    out::print(format_args!("{text}"));
    Ok(exit_code(&picture, &unknown))
}

/// Targets that are on no node.
fn unknown(picture: &Picture, targets: &[Target]) -> Vec<String> {
    let known = |target: &Target| picture.rows.iter().filter_map(|r| r.id.as_ref()).any(|id| target.matches(id));
    let silent = picture.nodes.iter().any(|n| n.silent.is_some());
    let told = if silent { "on no node that answers" } else { "on no node" };
    let text =
        |t: &Target| format!("{t}: {told}: neither declared nor ever started; mcp-status --cluster --list names all");
    targets.iter().filter(|t| !known(t)).map(text).collect()
}

fn is_asked_for(row: &Row, targets: &[Target], args: &Args) -> bool {
    let matches = |id: &ComponentId| targets.iter().any(|t| t.matches(id));
    let meant = targets.is_empty() || row.id.as_ref().is_some_and(matches);
    meant && (args.state.is_empty() || args.state.iter().any(|s| s.name() == row.item.state))
}

/// Says what the answer itself has no room for.
fn complain(picture: &Picture, unknown: &[String]) {
    if !picture.cluster.quorum {
        log::warn!("the cluster has no quorum here: most of its nodes are lost, and nothing may run on the others");
    }
    for node in &picture.nodes {
        let name = clean(&node.member.name);
        if let Some(why) = &node.silent {
            log::warn!("{name}: unreachable: {}", clean(why));
        }
        for problem in &node.problems {
            log::error!("{name}: {}", clean(problem));
        }
    }
    for (id, resource) in &picture.cluster.resources {
        if resource.target.is_none() {
            log::warn!("resource {}: it does not say which component it is: its parameter target", clean(id));
        }
    }
    for row in picture.rows.iter().filter(|r| r.drift.iter().any(|d| is_stuck(*d))) {
        let found = row.resource.as_ref().and_then(|id| Some((id, picture.cluster.resources.get(id)?)));
        match (&row.id, found) {
            (Some(component), Some((id, resource))) => {
                let Some(last) = resource.failures.first() else { continue };
                let way_out = format!("when that is mended: crm_resource --cleanup --resource {id}");
                log::warn!("{component}: {}; {}", clean(&last.words()), clean(&way_out));
            }
            (Some(component), None) => {
                log::warn!("{component}: the cluster has no resource for it; mcp cluster makes one")
            }
            _ => {}
        }
    }
    for line in unknown {
        log::error!("{line}");
    }
}

/// Whether Pacemaker does nothing about it until somebody has seen to it.
fn is_stuck(drift: ClusterDrift) -> bool {
    matches!(drift, ClusterDrift::Nowhere | ClusterDrift::Blocked)
}

/// The exit code of the whole, as of one node's.
fn exit_code(picture: &Picture, unknown: &[String]) -> u8 {
    let nodes = picture.nodes.iter().map(|n| n.code).filter(|code| *code != EXIT_NO);
    let trouble = nodes.fold(EXIT_OK, crate::cmd::worse);
    let trouble = if unknown.is_empty() { trouble } else { EXIT_FINAL };
    match trouble {
        EXIT_OK if has_drift(picture) || picture.nodes.iter().any(|n| !n.problems.is_empty()) => EXIT_NO,
        code => code,
    }
}

/// Whether anything that is shown differs from what should be.
fn has_drift(picture: &Picture) -> bool {
    let nodes = picture.nodes.iter().any(|n| !n.drift.is_empty());
    nodes || !picture.drift.is_empty() || picture.rows.iter().any(|r| !r.drift_names().is_empty())
}

/// `NODE SERVICE/COMPONENT`, one a line.
fn list(rows: &[&Row]) -> String {
    let line = |row: &&Row| Some(format!("{} {}\n", word(row.node.as_deref()), row.id.as_ref()?));
    rows.iter().filter_map(line).collect()
}

fn word(name: Option<&str>) -> String {
    name.map_or_else(|| "-".into(), |name| clean(name).replace(' ', "\\x20"))
}

/// What a line of the table is of.
enum Line<'a> {
    Node(&'a Seen),
    Component(&'a Row),
}

fn table(picture: &Picture, rows: &[&Row], everything: bool, style: Style) -> String {
    let mut lines = Vec::new();
    for node in &picture.nodes {
        let of_it = || rows.iter().filter(|row| row.node.as_ref() == Some(&node.member.name));
        let notable = node.member.state() != "online" || !node.drift.is_empty();
        if notable || everything && of_it().next().is_none() {
            lines.push(Line::Node(node));
        }
        lines.extend(of_it().map(|row| Line::Component(row)));
    }
    lines.extend(rows.iter().filter(|row| row.node.is_none()).map(|row| Line::Component(row)));
    let health = style.health || rows.iter().any(|row| row.item.health.is_some());
    grid::draw(columns(&lines, health), style.width, style.colour)
}

fn columns(lines: &[Line<'_>], health: bool) -> Vec<Column> {
    let column = |title, narrowest, cell: &dyn Fn(&Row) -> String| {
        let cells = lines.iter().map(|line| match line {
            Line::Node(_) => (String::new(), 0),
            Line::Component(row) => (cell(row), 0),
        });
        Column::new(title, narrowest, cells)
    };
    let painted = |title, cell: &dyn Fn(&Line<'_>) -> (String, u8)| Column::new(title, None, lines.iter().map(cell));
    let red = |text: String| if text.is_empty() { (text, 0) } else { (text, RED) };
    let mut columns = vec![
        painted("NODE", &|line| match line {
            Line::Node(node) => (node.member.name.clone(), 0),
            Line::Component(row) => (row.node.clone().unwrap_or_default(), 0),
        }),
        column("SERVICE", None, &|r| r.item.service.clone().unwrap_or_default()),
        column("COMPONENT", None, &|r| r.item.component.clone()),
        column("RUNTIME", None, &|r| r.item.runtime.clone().unwrap_or_default()),
        painted("STATE", &|line| match line {
            Line::Node(node) => (node.member.state().into(), if node.member.online { 0 } else { RED }),
            Line::Component(row) => (state(row), state_colour(&row.item.state)),
        }),
    ];
    if health {
        columns.push(painted("HEALTH", &|line| match line {
            Line::Component(Row { item, .. }) => match &item.health {
                Some(h) if h.verdict == "unhealthy" => (verdict(h), RED),
                Some(h) => (verdict(h), 0),
                None => Default::default(),
            },
            Line::Node(_) => Default::default(),
        }));
    }
    columns.extend([
        column("IMAGE", Some(12), &|r| r.item.image.clone().unwrap_or_default()),
        column("PORTS", Some(12), &|r| ports(&r.item.ports)),
        column("UPTIME", None, &|r| r.item.uptime_seconds.map(Duration::from_secs).map(age).unwrap_or_default()),
        column("RESTARTS", None, &|r| r.item.restarts.map(|n| n.to_string()).unwrap_or_default()),
        painted("DRIFT", &|line| match line {
            Line::Node(node) => red(node.drift.iter().map(|d| d.name()).collect::<Vec<_>>().join(",")),
            Line::Component(row) => red(row.drift_names().join(",")),
        }),
    ]);
    columns
}

/// The word for it, with the exit code or signal of a failure.
fn state(row: &Row) -> String {
    let end = row.item.end.as_ref().filter(|_| row.item.state == "failed");
    let how = end.and_then(|end| match (end.signal, end.code) {
        (Some(n), _) => Some(Signal::try_from(n).map_or_else(|_| format!("SIG{n}"), |s| s.as_str().to_string())),
        (None, code) => code.map(|code| code.to_string()),
    });
    match how {
        Some(how) => format!("{}({how})", row.item.state),
        None => row.item.state.clone(),
    }
}

fn verdict(health: &cluster::answer::Health) -> String {
    match health.recorded {
        true => format!("{}({})", health.verdict, age(Duration::from_secs(health.age_s))),
        false => health.verdict.clone(),
    }
}
