//! Source definitions for s6-rc: a longrun for each component with a logger behind it, a oneshot for each stage that is its
//! gate, a bundle for each stage and one, `mcp`, for all.
//!
//! The gate of a stage depends on the stage's longruns, and the next stage's longruns depend on the gate, so that all goes
//! down in reverse. The gate runs `mcp-boot --stage`: it finds the components running, waits for their health by its rules
//! (the first stage for ever, later ones until their time is up, then it warns and is up all the same), and has s6-svc, not
//! s6-rc, start again what ended; s6-rc called from within a oneshot would wait for its own lock.
//!
//! The longruns have no `notification-fd`. With one, s6-rc itself would wait for their readiness, count one that does not
//! come in time, or that an operator stopped, as failed, not start what depends on it, and forget that it runs: one sick
//! component would keep all later stages down, and a shutdown would pass it over. So the gate alone knows readiness.

use super::UnitFile;
use super::plan::{Plan, Stage, Unit};
use super::s6::{self, add, gate, millis, service};
use std::time::Duration;

/// Where they go by default.
pub const FOLDER: &str = "/etc/mcp/s6-rc";
/// What makes it know of them.
pub const NEXT: &str = "\
s6-rc-compile COMPILED YOUR-SOURCES... {dest}: a new database, COMPILED, of these and your own definitions
s6-rc-update COMPILED: has the running s6-rc take it; what runs and is still wanted runs on
s6-rc -u change mcp: starts all, stage by stage; add mcp to the bundle that your machine brings up at boot
mcp-units(1) says more";

/// The bundle of all.
const ALL: &str = "mcp";
/// What a gate may take beyond its stage's time.
const MARGIN: Duration = Duration::from_secs(60);

/// All files.
pub fn files(plan: &Plan) -> Vec<UnitFile> {
    let mut files = Vec::new();
    let mut before = None;
    for stage in &plan.stages {
        let name = gate(&stage.name);
        for unit in &stage.units {
            pipeline(&mut files, plan, unit, before.as_deref());
        }
        add(&mut files, &name, gate_files(plan, stage, before.as_deref()));
        let contents = stage.units.iter().map(pipeline_name).chain([name.clone()]);
        add(&mut files, &bundle_name(&stage.name), bundle(contents));
        before = Some(name);
    }
    for unit in &plan.rest {
        pipeline(&mut files, plan, unit, before.as_deref());
    }
    let all = plan.stages.iter().map(|stage| bundle_name(&stage.name)).chain(plan.rest.iter().map(pipeline_name));
    let all: Vec<String> = all.collect();
    // s6-rc wants something in a bundle.
    if !all.is_empty() {
        add(&mut files, ALL, bundle(all.into_iter()));
    }
    files
}

/// No component's: theirs have a `_`, and a stage's name has none.
fn bundle_name(stage: &str) -> String {
    format!("mcp-bundle-{stage}")
}

/// The bundle of a component and its logger.
fn pipeline_name(unit: &Unit) -> String {
    format!("{}_pipeline", service(unit))
}

fn typed(what: &str) -> UnitFile {
    UnitFile::text("type", format!("{what}\n"))
}

fn depends_on(what: &str) -> UnitFile {
    UnitFile::text(format!("dependencies.d/{what}"), "")
}

fn bundle(contents: impl Iterator<Item = String>) -> Vec<UnitFile> {
    contents.map(|one| UnitFile::text(format!("contents.d/{one}"), "")).chain([typed("bundle")]).collect()
}

/// A component and its logger. `before`: the gate that it waits for.
fn pipeline(files: &mut Vec<UnitFile>, plan: &Plan, unit: &Unit, before: Option<&str>) {
    let name = service(unit);
    let log = format!("{name}_log");
    let mut own = s6::component_files(plan, unit, false);
    own.push(typed("longrun"));
    own.push(UnitFile::text("producer-for", format!("{log}\n")));
    own.push(UnitFile::text("timeout-down", millis(s6::down_time(unit))));
    own.extend(before.map(depends_on));
    add(files, &name, own);
    let mut own = s6::logger(plan, &name);
    own.push(typed("longrun"));
    own.push(UnitFile::text("consumer-for", format!("{name}\n")));
    own.push(UnitFile::text("pipeline-name", format!("{}\n", pipeline_name(unit))));
    add(files, &log, own);
}

/// The gate of `stage`, after the one `before` it.
fn gate_files(plan: &Plan, stage: &Stage, before: Option<&str>) -> Vec<UnitFile> {
    let boot = s6::command(plan, "mcp-boot", quote);
    let patience = if stage.foundation { Duration::ZERO } else { stage.timeout + MARGIN };
    let mut own = vec![
        typed("oneshot"),
        UnitFile::text("up", format!("{boot} --stage {}\n", stage.name)),
        // None is for ever.
        UnitFile::text("timeout-up", millis(patience)),
    ];
    own.extend(before.map(depends_on));
    own.extend(stage.units.iter().map(|unit| depends_on(&service(unit))));
    own
}

/// `text` as one word of execline's.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
