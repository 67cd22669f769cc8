//! Service directories for s6, to be copied into the scan directory of s6-svscan.
//!
//! s6 knows no dependencies, so the stages are services of their own. All but the first, and all components of stages, have
//! a `down` file: s6-svscan starts the first stage, whose mcp-boot starts its components (by `start_command`) and waits for
//! them; then it brings the next stage up, and rests. Bringing a stage down does the same in reverse: `finish` brings down
//! what comes after it, the last first, and then the stage's own components. So the foundation's service is the whole node:
//! `s6-svc -wD -d` of it is what a shutdown does, and what it began ends inside the time of `timeout-finish`.
//!
//! A supervisor that hangs is killed by `timeout-kill` only when its stop ladder must be over; what it then leaves is
//! stopped by `finish`.

use super::UnitFile;
use super::plan::{Plan, Stage, Unit};
use super::words::{gate, ours, service, sh};
use std::path::Path;
use std::time::Duration;

/// Where they go by default.
pub const FOLDER: &str = "/etc/mcp/s6";
/// What makes it know of them.
pub const NEXT: &str = "\
cp -R {dest}/. /run/service/ && s6-svscanctl -an /run/service, also from what fills /run/service at each boot: it starts the first stage
s6-svc -wD -d /run/service/mcp-stage-FIRST in what shuts the machine down, before s6-svscan is ended: it stops all stages in reverse
mcp-units(1) says more";

/// What a stop may take beyond its ladder before the supervisor is killed.
const KILL_AFTER: Duration = Duration::from_secs(20);
/// What `finish` may take when it only asks.
const ASKING: Duration = Duration::from_secs(20);

/// Exit codes of mcp-status and mcp-boot after which trying again doesn't help; what else failed, a busy node say, may pass.
pub(super) const FINAL: &str = "1 | 2 | 100 | 126 | 127";

/// All files.
pub fn files(plan: &Plan) -> Vec<UnitFile> {
    let mut files = Vec::new();
    for (at, stage) in plan.stages.iter().enumerate() {
        let name = gate(stage);
        let later = plan.stages.get(at + 1..).unwrap_or_default();
        add(&mut files, &name, stage_files(plan, stage, later));
        add(&mut files, &format!("{name}/log"), logger(plan, &name));
    }
    for unit in plan.units() {
        let name = service(unit);
        add(&mut files, &name, component_files(plan, unit, true));
        add(&mut files, &format!("{name}/log"), logger(plan, &name));
        if !plan.stages.is_empty() {
            files.push(UnitFile::text(format!("{name}/down"), ""));
        }
    }
    files
}

/// Puts `some` below `folder`.
pub(super) fn add(files: &mut Vec<UnitFile>, folder: &str, some: Vec<UnitFile>) {
    files.extend(some.into_iter().map(|one| UnitFile { path: Path::new(folder).join(one.path), ..one }));
}

/// What runs a component. `notified`: s6 is told of its readiness.
pub(super) fn component_files(plan: &Plan, unit: &Unit, notified: bool) -> Vec<UnitFile> {
    let id = &unit.id;
    let notify = if notified { " --notify-fd 3" } else { "" };
    let run = format!(
        "#!/bin/sh\n\
         exec 2>&1\n\
         exec {} --recover{notify} --console stdout {id}\n",
        ours(plan, "mcp-run")
    );
    let finish = format!(
        "#!/bin/sh\n\
         # $1 is the exit code of run, 256 if a signal ended it. 125 tells s6 not to start it again.\n\
         if [ \"$(s6-svstat -o wantedup .)\" = false ]; then\n\
         \x20   # What has lost its supervisor, now or before, shall be down, too.\n\
         \x20   {stop} --for-now --unsupervised {id}\n\
         \x20   exit 0\n\
         fi\n\
         {status} --again {id} --ended \"$1\"\n\
         case $? in\n\
         {FINAL}) exit 125 ;;\n\
         esac\n\
         exit 0\n",
        stop = ours(plan, "mcp-stop"),
        status = ours(plan, "mcp-status"),
    );
    let mut files = vec![
        UnitFile::script("run", run),
        UnitFile::script("finish", finish),
        UnitFile::text("timeout-kill", millis(unit.stop_time + KILL_AFTER)),
        UnitFile::text("timeout-finish", millis(unit.stop_time + ASKING)),
    ];
    if notified {
        files.push(UnitFile::text("notification-fd", "3\n"));
    }
    files
}

/// How long bringing a component down may take: its ladder, the end of a supervisor that hangs in it, and then the ladder
/// for what that left.
pub(super) fn down_time(unit: &Unit) -> Duration {
    unit.stop_time * 2 + KILL_AFTER + ASKING
}

/// The logger of the service `name`: its folder is named as no service of mcp's can be.
pub(super) fn logger(plan: &Plan, name: &str) -> Vec<UnitFile> {
    let folder = sh(&plan.log.join("s6_log").join(name).display().to_string());
    let run = format!(
        "#!/bin/sh\n\
         umask 077\n\
         mkdir -p {folder} || exit\n\
         # Ten files of a megabyte at most; each line with its time.\n\
         exec s6-log -b -d 3 n9 s1000000 T {folder}\n"
    );
    vec![UnitFile::script("run", run), UnitFile::text("notification-fd", "3\n")]
}

/// `run` of a stage, which does `next` when it is ready.
pub(super) fn gate_run(plan: &Plan, stage: &Stage, next: &str) -> String {
    format!(
        "#!/bin/sh\n\
         exec 2>&1\n\
         boot=\n\
         trap 'test -z \"$boot\" || {{ kill \"$boot\"; wait \"$boot\"; }}; exit 143' TERM\n\
         {boot} --stage {name} --notify-fd 3 &\n\
         boot=$!\n\
         wait \"$boot\" || exit\n\
         trap - TERM\n\
         {next}\
         # Up until it is brought down; woken by nothing but the end of its s6-supervise.\n\
         exec s6-ftrig-wait event x\n",
        boot = ours(plan, "mcp-boot"),
        name = stage.name,
    )
}

fn stage_files(plan: &Plan, stage: &Stage, later: &[Stage]) -> Vec<UnitFile> {
    let boot = ours(plan, "mcp-boot");
    let next = match later.first() {
        // s6-svscan may just be about to begin with it: tried again.
        Some(next) => format!("s6-svc -u ../{} || exit 111\n", gate(next)),
        None => plan.rest.iter().map(|unit| format!("s6-svc -u ../{}\n", service(unit))).collect(),
    };
    let run = gate_run(plan, stage, &next);
    let mut down = String::new();
    if let Some(next) = later.first() {
        down += &format!("    s6-svc -wD -d ../{}\n", gate(next));
    }
    for unit in &plan.rest {
        down += &format!("    s6-svc -wD -d ../{} &\n", service(unit));
    }
    if !plan.rest.is_empty() {
        down += "    wait\n";
    }
    // Those after it, too: a component may run though its stage is down.
    for stage in later.iter().rev().chain([stage]) {
        down += &format!("    {boot} --down --stage {}\n", stage.name);
    }
    let finish = format!(
        "#!/bin/sh\n\
         # $1 is the exit code of run. 125 tells s6 not to start it again.\n\
         exec 2>&1\n\
         if [ \"$(s6-svstat -o wantedup .)\" = false ]; then\n\
         \x20   # Brought down: what comes after it first, in reverse.\n\
         {down}\
         \x20   exit 0\n\
         fi\n\
         case $1 in\n\
         {FINAL}) exit 125 ;;\n\
         esac\n\
         exit 0\n"
    );
    let longest = |units: &[Unit]| units.iter().map(down_time).max().unwrap_or_default();
    let all: Duration = later.iter().chain([stage]).map(|s| longest(&s.units)).chain([longest(&plan.rest)]).sum();
    let mut files = vec![
        UnitFile::script("run", run),
        UnitFile::script("finish", finish),
        UnitFile::text("notification-fd", "3\n"),
        UnitFile::text("timeout-finish", millis(all + ASKING)),
    ];
    if !stage.foundation {
        files.push(UnitFile::text("down", ""));
    }
    files
}

/// A file's contents that is a time in milliseconds.
pub(super) fn millis(time: Duration) -> String {
    format!("{}\n", time.as_millis().min(u128::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::s6_rc;
    use super::*;
    use crate::model::{ComponentId, Restart};
    use std::collections::BTreeSet;

    fn unit(service: &str, component: &str) -> Unit {
        let id = ComponentId { service: service.into(), component: component.into() };
        let (start_timeout, stop_time) = (Duration::from_secs(60), Duration::from_secs(45));
        Unit {
            name: id.flat(),
            escaped: String::new(),
            is_vm: true,
            restart: Restart::No,
            start_timeout,
            stop_time,
            id,
        }
    }

    fn plan(stages: &[(&str, Vec<Unit>)], rest: Vec<Unit>) -> Plan {
        let stage = |(at, (name, units)): (usize, &(&str, Vec<Unit>))| Stage {
            name: name.to_string(),
            foundation: at == 0,
            timeout: Duration::from_secs(60),
            units: units.clone(),
        };
        let stages = stages.iter().enumerate().map(stage).collect();
        Plan {
            stages,
            rest,
            placed_containers: false,
            programs: "/usr/bin".into(),
            root: None,
            log: "/var/log/mcp".into(),
        }
    }

    fn text<'f>(files: &'f [UnitFile], path: &str) -> Option<&'f str> {
        let found = files.iter().find(|f| f.path == Path::new(path))?;
        match &found.content {
            super::super::Content::Text(text, _) => Some(text),
            super::super::Content::Link(_) => None,
        }
    }

    #[test]
    fn without_stages_s6_starts_the_components_itself() {
        let files = files(&plan(&[], vec![unit("a-b", "c")]));
        assert!(text(&files, "mcp-a-b_c/run").is_some() && text(&files, "mcp-a-b_c/down").is_none());
    }

    #[test]
    fn no_supervisor_is_killed_inside_its_ladder() {
        let plan = plan(&[("base", vec![unit("a", "b")])], Vec::new());
        let (s6, s6_rc) = (files(&plan), s6_rc::files(&plan));
        let time = |files, path| text(files, path).and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0);
        assert_eq!(time(&s6, "mcp-a_b/timeout-kill"), 65_000);
        assert_eq!(time(&s6_rc, "mcp-a_b/timeout-down"), 130_000);
        assert_eq!(time(&s6, "mcp-stage-base/timeout-finish"), 150_000);
        // The foundation waits for ever.
        assert_eq!(text(&s6_rc, "mcp-stage-base/timeout-up"), Some("0\n"));
    }

    #[test]
    fn no_two_things_of_s6_rc_have_one_name() {
        let awkward =
            vec![unit("stage-a", "log"), unit("stage-a", "pipeline"), unit("bundle-a", "x"), unit("a", "b-log")];
        let files = s6_rc::files(&plan(&[("a", awkward), ("b", Vec::new())], vec![unit("bundle", "a")]));
        let paths: BTreeSet<_> = files.iter().map(|f| &f.path).collect();
        assert_eq!(paths.len(), files.len());
        // Each folder is one thing, of one type.
        let of_type = files.iter().filter(|f| f.path.ends_with("type")).count();
        assert_eq!(of_type, 5 * 2 + 2 * 2 + 2 + 1);
        // An empty stage still comes after the one before it, and before what follows.
        assert!(text(&files, "mcp-stage-b/dependencies.d/mcp-stage-a").is_some());
        assert!(text(&files, "mcp-bundle_a/dependencies.d/mcp-stage-b").is_some());
    }
}
