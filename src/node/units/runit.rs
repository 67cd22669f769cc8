//! Service directories for runit.
//!
//! runit knows no dependencies, so the stages are services of their own. All but the first, and all components of stages,
//! have a `down` file: runsv starts the first stage, whose mcp-boot starts its components (by `start_command`) and waits for
//! them; then it brings the next stage up, and rests. Bringing a stage down (`sv down`) does the same in reverse: its `finish`
//! brings down what comes after it, the last first, and then the stage's own components. When all of runit goes down at once (`runsvdir` is
//! told so by SIGHUP), each component is stopped by its own runsv, all side by side.
//!
//! Scripts reach their neighbours as `../NAME`, so it doesn't matter which folder runsvdir looks at.

use super::UnitFile;
use super::plan::{Plan, Stage, Unit};
use super::words::{gate, service, sh};
use std::fmt::Write;
use std::time::Duration;

/// Where they go by default.
pub const FOLDER: &str = "/etc/sv";
/// What makes it know of them.
pub const NEXT: &str = "\
ln -s {dest}/mcp-* /etc/service/ (or where SVDIR is) starts the first stage, now and at each boot
sv -w 600 stop mcp-stage-FIRST in what shuts the machine down: it stops all stages in reverse; mcp-units(1) says where";

/// What a stage may take to go down beyond the longest stop in it.
const BEYOND: Duration = Duration::from_secs(20);
/// The longest that sleep(1) everywhere can rest: 68 years.
const REST: &str = "2147483647";

/// All files.
pub fn files(plan: &Plan) -> Vec<UnitFile> {
    let mut files = Vec::new();
    for (at, stage) in plan.stages.iter().enumerate() {
        let later = plan.stages.get(at + 1..).unwrap_or_default();
        let name = gate(stage);
        files.extend([
            UnitFile::script(format!("{name}/run"), stage_run(plan, stage, later.first())),
            UnitFile::script(format!("{name}/finish"), stage_finish(plan, stage, later)),
            UnitFile::script(format!("{name}/check"), "#!/bin/sh\nexec test -e supervise/passed\n"),
        ]);
        logger(&mut files, plan, &name);
        if at > 0 {
            files.push(UnitFile::text(format!("{name}/down"), ""));
        }
    }
    for unit in plan.units() {
        let name = service(unit);
        files.extend([
            UnitFile::script(format!("{name}/run"), run(plan, unit)),
            UnitFile::script(format!("{name}/finish"), finish(plan, unit)),
            UnitFile::script(format!("{name}/check"), check(plan, unit)),
        ]);
        logger(&mut files, plan, &name);
        // Its stage starts it, or the last one. On a node without stages runsv does.
        if !plan.stages.is_empty() {
            files.push(UnitFile::text(format!("{name}/down"), ""));
        }
    }
    files
}

/// What all scripts begin with: what they say goes to the log, too.
fn head(plan: &Plan) -> String {
    format!("#!/bin/sh\nexec 2>&1\n{}", root(plan))
}

fn root(plan: &Plan) -> String {
    let root = plan.root.as_ref().map(|root| format!("export MCP_ROOT={}\n", sh(&root.display().to_string())));
    root.unwrap_or_default()
}

fn run(plan: &Plan, unit: &Unit) -> String {
    format!("{}exec {} --recover --console stdout {}\n", head(plan), sh(&plan.program("mcp-run")), unit.id)
}

fn finish(plan: &Plan, unit: &Unit) -> String {
    format!(
        r#"{head}# $1 is the exit code of run, -1 where a signal ended it.
case $(cat supervise/stat) in
*'want down'* | *'want exit'*)
    # What has lost its supervisor, now or before, shall be down, too.
    {stop} --for-now --unsupervised {id}
    exit 0
    ;;
esac
{status} --again {id} --ended "$1"
case $? in
# It shall not be started again, or nobody can tell; what else failed may pass.
1 | 2 | 100 | 126 | 127) exec sv down . ;;
esac
exit 0
"#,
        head = head(plan),
        stop = sh(&plan.program("mcp-stop")),
        status = sh(&plan.program("mcp-status")),
        id = unit.id,
    )
}

/// sv runs it with its standard output closed.
fn check(plan: &Plan, unit: &Unit) -> String {
    let (status, id) = (sh(&plan.program("mcp-status")), &unit.id);
    let why = "# Running is what its supervisor has found to be healthy.";
    format!("#!/bin/sh\n{}{why}\ntest -n \"$({status} --list --state running {id})\"\n", root(plan))
}

/// The folder that svlogd writes to is named as no service of mcp's can be.
fn logger(files: &mut Vec<UnitFile>, plan: &Plan, name: &str) {
    let folder = sh(&plan.log.join("runit_log").join(name).display().to_string());
    let run = format!(
        "#!/bin/sh\nexec 2>&1\numask 077\nmkdir -p {folder} && ln -sf \"$PWD/config\" {folder}/config || exit\n\
         exec svlogd -tt -b 65536 {folder}\n"
    );
    files.push(UnitFile::script(format!("{name}/log/run"), run));
    let config = "# At most ten old files of a megabyte each, oldest first to go, also when the disk is full.\ns1000000\nn10\nN2\n";
    files.push(UnitFile::text(format!("{name}/log/config"), config));
}

fn stage_run(plan: &Plan, stage: &Stage, next: Option<&Stage>) -> String {
    let then = match next {
        // Its runsv may not be there yet.
        Some(next) => format!("until sv up ../{}; do sleep 1; done\n", gate(next)),
        None => plan
            .rest
            .iter()
            .map(|unit| {
                let status = sh(&plan.program("mcp-status"));
                format!("! {status} --wanted {} || sv up ../{}\n", unit.id, service(unit))
            })
            .collect(),
    };
    format!(
        r#"{head}rm -f supervise/passed
trap 'kill "$!"; exit 143' TERM
{boot} --stage {name} &
wait "$!" || exit
trap - TERM
{then}: >supervise/passed
# Up, with nothing more to do.
exec sleep {REST}
"#,
        head = head(plan),
        boot = sh(&plan.program("mcp-boot")),
        name = stage.name,
    )
}

fn stage_finish(plan: &Plan, stage: &Stage, later: &[Stage]) -> String {
    let longest = |units: &[Unit]| (units.iter().map(|u| u.stop_time).max().unwrap_or_default() + BEYOND).as_secs();
    let boot = sh(&plan.program("mcp-boot"));
    let mut lines = String::new();
    // Each brings down what is after it.
    let mut needed = if plan.rest.is_empty() { 0 } else { longest(&plan.rest) };
    for after in later.iter().rev() {
        needed += longest(&after.units);
        let _ = writeln!(lines, "    sv -w {needed} stop ../{}", gate(after));
    }
    // One that was not up has brought down nothing.
    if !plan.rest.is_empty() {
        let names: String = plan.rest.iter().map(|unit| format!(" ../{}", service(unit))).collect();
        let _ = writeln!(lines, "    sv -w {} stop{names}", longest(&plan.rest));
    }
    for one in later.iter().rev().chain([stage]) {
        let _ = writeln!(lines, "    {boot} --down --stage {}", one.name);
    }
    format!(
        r#"{head}# $1 is the exit code of run, -1 where a signal ended it.
rm -f supervise/passed
case $(cat supervise/stat) in
*'want down'*)
{lines}    exit 0
    ;;
esac
case $1 in
100 | 126 | 127) exec sv down . ;;
esac
exit 0
"#,
        head = head(plan),
    )
}
