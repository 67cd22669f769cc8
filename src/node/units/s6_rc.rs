//! Source definitions for s6-rc: a longrun for each component and one for each stage, its gate, with a logger behind each;
//! a bundle for each stage, and one, `mcp`, for all.
//!
//! The gate of a stage depends on the stage's components, and the next stage's components depend on the gate, so that all
//! goes down in reverse. The gate runs `mcp-boot --stage`: it finds the components running, waits for their health by its
//! rules (the first stage for ever, later ones until their time is up, then it warns and is ready all the same), and has
//! s6-svc start again what ended; s6-rc called from within would wait for the lock of the one that waits for the gate.
//!
//! The components have no `notification-fd`. With one, s6-rc itself would wait for their readiness, take one that does not
//! come in time, or that an operator stopped, for failed, and start nothing that depends on it: one sick component would keep
//! all later stages down. So the gate alone knows readiness.
//!
//! The gate is no oneshot: s6-rc never ends one that it has begun, so a foundation that is waited for would keep s6-rc, its
//! lock, and with it the shutdown of the machine waiting for ever. A longrun is ended by `s6-svc -d`; its `finish` then says
//! that it will not come up, and s6-rc gives up waiting.

use super::UnitFile;
use super::plan::{Plan, Stage, Unit};
use super::s6::{self, FINAL, add, millis};
use super::words::{gate, service};
use std::time::Duration;

/// Where they go by default.
pub const FOLDER: &str = "/etc/mcp/s6-rc";
/// What makes it know of them.
pub const NEXT: &str = "\
s6-rc-compile COMPILED YOUR-SOURCES... {dest}: a new database, COMPILED, of these and your own definitions
s6-rc-update COMPILED: has the running s6-rc take it; what runs and is still wanted runs on
s6-rc -u change mcp: starts all, stage by stage; add mcp to the bundle that your machine brings up at boot
s6-svc -d /run/service/mcp-stage-FIRST in what shuts the machine down, before s6-rc -bDa change: it may still wait for that stage
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
        let name = gate(stage);
        for unit in &stage.units {
            pipeline(&mut files, plan, unit, before.as_deref());
        }
        add_gate(&mut files, plan, stage, before.as_deref());
        let contents = stage.units.iter().map(pipeline_name).chain([format!("mcp-pipeline-{}", stage.name)]);
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
    add(files, &log, logger(plan, &name, &pipeline_name(unit)));
}

/// The logger behind `name`, in the bundle `pipeline` together with it.
fn logger(plan: &Plan, name: &str, pipeline: &str) -> Vec<UnitFile> {
    let mut own = s6::logger(plan, name);
    own.push(typed("longrun"));
    own.push(UnitFile::text("consumer-for", format!("{name}\n")));
    own.push(UnitFile::text("pipeline-name", format!("{pipeline}\n")));
    own
}

/// The gate of `stage`, after the one `before` it, and its logger. Their names have no `_`, which those of components have.
fn add_gate(files: &mut Vec<UnitFile>, plan: &Plan, stage: &Stage, before: Option<&str>) {
    let name = gate(stage);
    let log = format!("mcp-log-{}", stage.name);
    let patience = if stage.foundation { Duration::ZERO } else { stage.timeout + MARGIN };
    let finish = format!(
        "#!/bin/sh\n\
         # $1 is the exit code of run. 125 tells s6 not to start it again, and s6-rc not to wait for it.\n\
         [ \"$(s6-svstat -o wantedup .)\" = true ] || exit 125\n\
         case $1 in\n\
         {FINAL}) exit 125 ;;\n\
         esac\n\
         exit 0\n"
    );
    let mut own = vec![
        typed("longrun"),
        UnitFile::script("run", s6::gate_run(plan, stage, "")),
        UnitFile::script("finish", finish),
        UnitFile::text("notification-fd", "3\n"),
        // None is for ever.
        UnitFile::text("timeout-up", millis(patience)),
        UnitFile::text("producer-for", format!("{log}\n")),
    ];
    own.extend(before.map(depends_on));
    own.extend(stage.units.iter().map(|unit| depends_on(&service(unit))));
    add(files, &name, own);
    add(files, &log, logger(plan, &name, &format!("mcp-pipeline-{}", stage.name)));
}
