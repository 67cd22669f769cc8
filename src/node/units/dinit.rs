//! Service descriptions for dinit: one for each component, one for each stage, and `mcp` for all of them.
//!
//! dinit starts a service again only once it was up, and can't tell exit codes apart: so the supervisor keeps to the restart
//! policy itself (`--by-policy`), and dinit starts it again where it was killed. What ends otherwise has ended for good.
//!
//! A stage is a script that runs `mcp-boot --stage`, which starts the components by `start_command`. It waits as long as it
//! likes, so there is no start timeout. On the way down dinit stops at once all that nothing needs, and a dependency in a
//! file would make the stage wait for components that `mcp-boot` no longer waits for. So a stage takes hold of its components
//! when it starts (`dinitctl add-dep`, the soft kind) and lets go of them when it has stopped them: by then what comes after
//! it is down.

use super::UnitFile;
use super::plan::{Plan, Stage, Unit};
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
    let mut before = None;
    for stage in &plan.stages {
        files.push(UnitFile::text(gate(stage), stage_file(plan, stage, before)));
        files.extend(stage.units.iter().map(|unit| component(plan, unit, before)));
        before = Some(stage);
    }
    files.extend(plan.rest.iter().map(|unit| component(plan, unit, before)));
    files
}

fn gate(stage: &Stage) -> String {
    format!("mcp-stage-{}", stage.name)
}

fn service(unit: &Unit) -> String {
    format!("mcp-{}", unit.name)
}

/// `text` as one word of a shell.
fn sh(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
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

/// One of our programs, as a word of a shell each.
fn ours(plan: &Plan, program: &str) -> String {
    let root = plan.root.as_ref().map(|root| format!(" --root {}", sh(&root.display().to_string())));
    format!("{}{}", sh(&plan.program(program)), root.unwrap_or_default())
}

/// Where a service's output goes: a file loses nothing, and is there when dinit's own buffer would be full.
fn log(plan: &Plan, name: &str) -> String {
    let file = plan.log.join("dinit_log").join(format!("{name}.log"));
    format!("depends-on: mcp-log\nlog-type = file\nlogfile = {}\n", word(&file.display().to_string()))
}

fn component(plan: &Plan, unit: &Unit, before: Option<&Stage>) -> UnitFile {
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
    text.push_str("# The whole stop ladder fits in here.\n");
    let _ = writeln!(text, "term-signal = TERM\nstop-timeout = {}", unit.stop_time.as_secs());
    text.push_str(&log(plan, &name));
    if let Some(before) = before {
        let _ = writeln!(text, "after: {}", gate(before));
    }
    UnitFile::text(name, text)
}

/// Does `what` (add-dep or rm-dep) between `from` and each component that the script's words name.
fn hold(what: &str, from: &str) -> String {
    format!("for it; do dinitctl {what} waits-for {from} \"mcp-${{it%/*}}_${{it#*/}}\" >/dev/null; done")
}

fn ids<'a>(units: impl IntoIterator<Item = &'a Unit>) -> String {
    units.into_iter().map(|unit| format!(" {}", unit.id)).collect()
}

/// The lines of a service that starts and stops `units` by scripts.
fn scripts(start: &str, stop: &str, units: &[Unit]) -> String {
    let longest = units.iter().map(|u| u.stop_time).max().unwrap_or_default() + BEYOND;
    let ids = ids(units);
    format!(
        "type = scripted\ncommand = /bin/sh -c {} sh{ids}\nstop-command = /bin/sh -c {} sh{ids}\n\
         start-timeout = 0\nstop-timeout = {}\noptions: start-interruptible\n",
        word(start),
        word(stop),
        longest.as_secs()
    )
}

fn stage_file(plan: &Plan, stage: &Stage, before: Option<&Stage>) -> String {
    let (name, boot) = (gate(stage), ours(plan, "mcp-boot"));
    let (add, rm) = (hold("add-dep", &name), hold("rm-dep", &name));
    let start = format!("{add}; {boot} --stage {} || {{ code=$?; {rm}; exit $code; }}", stage.name);
    let stop = format!("{boot} --down --stage {}; {rm}", stage.name);
    let mut text = format!("# The stage {}: up when mcp-boot says so.\n", stage.name);
    text.push_str(&scripts(&start, &stop, &stage.units));
    if let Some(before) = before {
        let _ = writeln!(text, "depends-on: {}", gate(before));
    }
    text.push_str(&log(plan, &name));
    text
}

/// The service `mcp`: all stages, and after them what is in none.
fn whole(plan: &Plan) -> String {
    let mut text = String::from("# All of this node: its stages, and what is in none.\n");
    if plan.rest.is_empty() {
        text.push_str("type = internal\n");
    } else {
        let start = format!(
            "{}; for it; do ! {} --wanted \"$it\" || dinitctl start --no-wait \"mcp-${{it%/*}}_${{it#*/}}\"; done",
            hold("add-dep", "mcp"),
            ours(plan, "mcp-status")
        );
        let stop = format!("{} --for-now \"$@\"; {}", ours(plan, "mcp-stop"), hold("rm-dep", "mcp"));
        text.push_str(&scripts(&start, &stop, &plan.rest));
        text.push_str(&log(plan, "mcp"));
    }
    if let Some(last) = plan.stages.last() {
        let _ = writeln!(text, "depends-on: {}", gate(last));
    }
    text
}
