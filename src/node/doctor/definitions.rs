//! What the files say, and what became of it.

use super::{Finding, Patient};
use crate::model::Source;
use crate::node::drift::{self, Drift};
use std::time::SystemTime;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let loaded = patient.loaded;
    let mut found: Vec<Finding> = loaded
        .problems
        .iter()
        .map(|problem| {
            let told = problem.to_string();
            let (place, reason) = told.split_once(": ").unwrap_or(("", &told));
            Finding::fail("definitions", place, reason)
        })
        .collect();
    if let (true, Some(paths)) = (found.is_empty(), patient.paths) {
        found.push(match loaded.services.len() {
            0 => Finding::note("definitions", "definitions", "none: this node is not asked to do anything")
                .way_out(format!("write one to {}/NAME.toml; mcp-service(5) tells how", paths.services.display())),
            n => Finding::ok(
                "definitions",
                "definitions",
                format!("{n} services, {} components", loaded.components().count()),
            ),
        });
    }
    found.extend(stages(patient));
    found.extend(records(patient));
    found.extend(running(patient));
    found
}

/// Active services that no stage names: mcp-boot leaves them alone.
fn stages(patient: &Patient<'_>) -> Option<Finding> {
    let loaded = patient.loaded;
    if loaded.node.stages.is_empty() {
        return None;
    }
    let unstaged = |name: &str| loaded.node.stage_of(name).is_none();
    let outside =
        loaded.services.iter().filter(|s| s.left_alone().is_none() && unstaged(&s.name)).map(|s| s.name.as_str());
    let outside: Vec<&str> = outside.collect();
    match outside.is_empty() {
        true => {
            Some(Finding::ok("stages", "stages", format!("{}, with all active services", loaded.node.stages.len())))
        }
        false => {
            let text = format!("no stage has {}, so mcp-boot does not start it", outside.join(", "));
            Some(Finding::note("stages", "stages", text).way_out("name it under [[boot.sequence]] in mcp.toml"))
        }
    }
}

/// Images that shall run and were never deployed, and records that can't be read.
fn records(patient: &Patient<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for entry in patient.entries.iter().filter(|e| !e.foreign && (e.wanted() != Some(false) || e.may_come())) {
        if let Some(damage) = entry.record.damage() {
            found.push(Finding::fail("record", &entry.id, damage));
        }
    }
    for (entry, component) in patient.wanted().filter(|(e, _)| !e.may_come()) {
        let recorded = entry.record.get().is_some_and(|r| r.current.is_some() || r.candidate.is_some());
        let unread = entry.record.damage().is_some();
        if matches!(component.source, Source::Image { .. }) && !recorded && !unread {
            let way = format!("mcp deploy {}", entry.id.service);
            found.push(Finding::fail("record", &entry.id, "never deployed, so it can't be started").way_out(way));
        }
    }
    found
}

/// What runs without a supervisor, or can't be kept running.
fn running(patient: &Patient<'_>) -> Vec<Finding> {
    let now = SystemTime::now();
    let with = |kind: Drift| -> Vec<String> {
        let has = patient.entries.iter().filter(|e| drift::drift(e, None, now).contains(&kind));
        has.map(crate::node::Entry::name).collect()
    };
    let mut found = Vec::new();
    let (lost, looping) = (with(Drift::Unsupervised), with(Drift::CrashLoop));
    if !lost.is_empty() {
        let text = format!("{}: runs, and nobody watches it", lost.join(", "));
        found.push(Finding::note("unsupervised", "supervision", text).way_out("mcp-run --all"));
    }
    if !looping.is_empty() {
        let text = format!("{}: restarted again and again", looping.join(", "));
        found.push(
            Finding::fail("crash-loop", "supervision", text).way_out(format!("mcp-logs -n 50 {}", looping.join(" "))),
        );
    }
    found
}
