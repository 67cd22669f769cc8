//! Service descriptions for dinit: one for each component, one for each stage, and `mcp` for all of them.
//!
//! dinit starts a service again only once it was up, and can't tell exit codes apart: so the supervisor keeps to the restart
//! policy itself (`--by-policy`), and dinit starts it again where it was killed. What ends otherwise has ended for good.
//!
//! A stage runs `mcp-boot --stage`, which starts the components by `start_command`. It waits as long as it likes, so there is
//! no start timeout. On the way down dinit stops at once all that nothing depends on, and a stage can't depend on its
//! components: it would wait for those that `mcp-boot` no longer waits for, and go down with each. So the stop command of a
//! component waits for what comes after its stage where that is on its way down, too.

use super::UnitFile;
use super::plan::{Plan, Stage, Unit};
use super::words::{gate, ours, service, sh};
use std::fmt::Write;
use std::time::Duration;

/// Where they go by default.
pub const FOLDER: &str = "/etc/dinit.d";
/// What makes it know of them.
pub const NEXT: &str = "\
dinitctl enable mcp starts all of it, now and at each boot
dinitctl reload NAME for a changed service that dinit has loaded already";

/// What mcp-boot --down may take beyond the longest stop of its stage.
const BEYOND: Duration = Duration::from_secs(20);

/// All files.
pub fn files(plan: &Plan) -> Vec<UnitFile> {
    let folder = plan.log.join("dinit_log").display().to_string();
    let make = format!("umask 077; exec mkdir -p {}", sh(&folder));
    let note = "Where the others keep their logs; dinit makes no folders.";
    let mut files = vec![
        UnitFile::text("mcp-log", format!("# {note}\ntype = scripted\ncommand = /bin/sh -c {}\n", word(&make))),
        UnitFile::text("mcp", whole(plan)),
    ];
    for (at, stage) in plan.stages.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| plan.stages.get(at));
        let later = plan.stages.get(at + 1..).unwrap_or_default();
        files.push(UnitFile::text(gate(stage), stage_file(plan, stage, before)));
        files.extend(stage.units.iter().map(|unit| component(plan, unit, before, Some(later))));
    }
    files.extend(plan.rest.iter().map(|unit| component(plan, unit, plan.stages.last(), None)));
    files
}

/// `text` as one word of a service description, in which `$` begins a variable.
fn word(text: &str) -> String {
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '$' => word.push_str("$$"),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

/// Where a service's output goes: a file loses nothing, and is there when dinit's own buffer would be full.
fn log(plan: &Plan, name: &str) -> String {
    let file = plan.log.join("dinit_log").join(format!("{name}.log"));
    format!("depends-on: mcp-log\nlog-type = file\nlogfile = {}\n", word(&file.display().to_string()))
}

/// What a stop of these takes at most.
fn longest(units: &[Unit]) -> Duration {
    units.iter().map(|u| u.stop_time).max().unwrap_or_default() + BEYOND
}

/// `later`: the stages after the component's; `None`: it is in no stage, and goes down first of all.
fn component(plan: &Plan, unit: &Unit, before: Option<&Stage>, later: Option<&[Stage]>) -> UnitFile {
    let name = service(unit);
    let root = plan.root.as_ref().map(|root| format!(" --root {}", word(&root.display().to_string())));
    let mut text = format!("# {}\ntype = process\n", unit.id);
    let _ = writeln!(
        text,
        "command = {}{} --recover --by-policy --notify-fd 3 --console stdout {}",
        word(&plan.program("mcp-run")),
        root.unwrap_or_default(),
        unit.id
    );
    text.push_str("# Up when it is healthy, however long that takes; until then it can be stopped, too.\n");
    text.push_str("ready-notification = pipefd:3\nstart-timeout = 0\noptions: start-interruptible\n");
    text.push_str("# A killed supervisor: the next one takes over what it ran.\n");
    text.push_str("restart = on-failure\nrestart-delay = 0.2\nrestart-limit-interval = 60\nrestart-limit-count = 10\n");
    text.push_str("term-signal = TERM\n");
    let mut time = unit.stop_time + BEYOND;
    if let Some(later) = later {
        let after = later.first().map_or("mcp".into(), gate);
        let wait = format!("case $(dinitctl is-started {after}) in STOPPING) dinitctl stop {after} ;; esac >/dev/null");
        let stop = format!("{wait}; exec {} --for-now {}", ours(plan, "mcp-stop"), unit.id);
        let _ = writeln!(text, "stop-command = /bin/sh -c {}", word(&stop));
        time += longest(&plan.rest) + later.iter().map(|stage| longest(&stage.units)).sum::<Duration>();
    }
    text.push_str("# The whole stop ladder fits in here, and that of what goes down before.\n");
    let _ = writeln!(text, "stop-timeout = {}", time.as_secs());
    text.push_str(&log(plan, &name));
    if let Some(before) = before {
        let _ = writeln!(text, "after: {}", gate(before));
    }
    UnitFile::text(name, text)
}

/// The end of a service that is a start command and a stop command for `units`.
fn scripted(units: &[Unit]) -> String {
    format!("start-timeout = 0\nstop-timeout = {}\noptions: start-interruptible\n", longest(units).as_secs())
}

fn stage_file(plan: &Plan, stage: &Stage, before: Option<&Stage>) -> String {
    let boot = ours(plan, "mcp-boot");
    let name = &stage.name;
    // One that was killed is begun again: it goes on where the stage stands.
    let up = format!("c=137; while test $c = 137; do {boot} --stage {name}; c=$?; done; exit $c");
    let down = format!("exec {boot} --down --stage {name}");
    let mut text = format!("# The stage {name}: up when mcp-boot says so.\ntype = scripted\n");
    let _ = writeln!(text, "command = /bin/sh -c {}\nstop-command = /bin/sh -c {}", word(&up), word(&down));
    text.push_str(&scripted(&stage.units));
    if let Some(before) = before {
        let _ = writeln!(text, "depends-on: {}", gate(before));
    }
    text.push_str(&log(plan, &gate(stage)));
    text
}

/// The service `mcp`: all stages, and after them what is in none.
fn whole(plan: &Plan) -> String {
    let mut text = String::from("# All of this node: its stages, and what is in none.\n");
    if plan.rest.is_empty() {
        text.push_str("type = internal\n");
    } else {
        let status = ours(plan, "mcp-status");
        let start =
            |unit: &Unit| format!("! {status} --wanted {} || dinitctl start --no-wait {}", unit.id, service(unit));
        let start = plan.rest.iter().map(start).collect::<Vec<_>>().join("; ");
        let ids: String = plan.rest.iter().map(|unit| format!(" {}", unit.id)).collect();
        // That some of them don't run is no failure.
        let stop = format!("{} --for-now{ids} || test $? = 1", ours(plan, "mcp-stop"));
        let _ = writeln!(text, "type = scripted\ncommand = /bin/sh -c {}", word(&start));
        let _ = writeln!(text, "stop-command = /bin/sh -c {}", word(&stop));
        text.push_str(&scripted(&plan.rest));
        text.push_str(&log(plan, "mcp"));
    }
    if let Some(last) = plan.stages.last() {
        let _ = writeln!(text, "depends-on: {}", gate(last));
    }
    text
}
