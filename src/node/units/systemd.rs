//! Files for systemd: units that are the same on every node (scripts/systemd), and drop-ins that say what only the node
//! knows: order, policies and times. The latter alone are what the generator makes.

use super::UnitFile;
use super::plan::{Plan, Stage, Unit};
use crate::model::Restart;
use crate::sys::error::EXIT_FINAL;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Where they go by default.
pub const FOLDER: &str = "/etc/systemd/system";
/// What makes it know of them.
pub const NEXT: &str = "systemctl daemon-reload\nsystemctl enable --now mcp.target";

/// A start may take so much longer than start_timeout and stop_timeout, a replace too.
const SPARE: Duration = Duration::from_secs(30);

/// What a VM and its supervisor have no use for; a container would inherit it. Without ProtectClock=, which up to systemd 252
/// closes all devices but the clock's, /dev/kvm among them: the VMs would be emulated.
const SANDBOX: &str = "NoNewPrivileges=yes\nProtectHostname=yes\nRestrictRealtime=yes\n\
                       RestrictSUIDSGID=yes\nLockPersonality=yes\nSystemCallArchitectures=native\n";

/// It ends between the components and podman's scopes.
const CONTAINERS: &str = "mcp-containers.target";

/// The units that know nothing of the node. `@BINDIR@` in them is the folder of our programs.
const STATIC: &[(&str, &str)] = &[
    ("mcp.target", include_str!("../../../scripts/systemd/mcp.target")),
    ("mcp-boot-stage@.service", include_str!("../../../scripts/systemd/mcp-boot-stage@.service")),
    ("mcp-check.service", include_str!("../../../scripts/systemd/mcp-check.service")),
    ("mcp-component@.service", include_str!("../../../scripts/systemd/mcp-component@.service")),
    ("mcp-containers.target", include_str!("../../../scripts/systemd/mcp-containers.target")),
    ("mcp-reap@.service", include_str!("../../../scripts/systemd/mcp-reap@.service")),
    ("mcp-status.service", include_str!("../../../scripts/systemd/mcp-status.service")),
    ("mcp-status.timer", include_str!("../../../scripts/systemd/mcp-status.timer")),
];

/// All files.
pub fn files(plan: &Plan) -> Vec<UnitFile> {
    let programs = plan.programs.display().to_string();
    let fixed = STATIC.iter().map(|(name, text)| UnitFile::text(*name, text.replace("@BINDIR@", &programs)));
    fixed.chain(of_the_node(plan)).collect()
}

/// What the generator makes: what is this node's alone.
pub fn of_the_node(plan: &Plan) -> Vec<UnitFile> {
    let mut files = Vec::new();
    let mut before: Option<&Stage> = None;
    for (index, stage) in plan.stages.iter().enumerate() {
        files.push(stage_file(plan, index, stage));
        for unit in &stage.units {
            files.extend(unit_files(plan, unit, before, Some(stage)));
        }
        before = Some(stage);
    }
    for unit in &plan.rest {
        files.extend(unit_files(plan, unit, before, None));
    }
    files.push(target_file(plan));
    let own = plan.units().any(|unit| !unit.is_vm).then_some(CONTAINERS);
    // Else systemd stops them side by side with Pacemaker, which finds them dead and starts them again.
    let before: Vec<_> = own.into_iter().chain(plan.placed_containers.then_some("pacemaker.service")).collect();
    if !before.is_empty() {
        files.push(drop_in("libpod-.scope", &format!("[Unit]\nBefore={}\n", before.join(" "))));
    }
    if plan.root.is_some() {
        for unit in ["mcp-check.service", "mcp-status.service"] {
            files.push(drop_in(unit, &environment(plan)));
        }
    }
    files
}

fn stage_name(stage: &Stage) -> String {
    // A stage's name has nothing in it that is to be escaped, if it is not read back as a path.
    format!("mcp-boot-stage@{}.service", stage.name)
}

fn component_name(unit: &Unit) -> String {
    format!("mcp-component@{}.service", unit.escaped)
}

fn drop_in(unit: &str, text: &str) -> UnitFile {
    let head = "# Made by mcp-units from mcp.toml and the definitions.\n";
    UnitFile::text(Path::new(&format!("{unit}.d")).join("50-mcp.conf"), format!("{head}{text}"))
}

/// The [Service] section's first lines.
fn environment(plan: &Plan) -> String {
    match &plan.root {
        Some(root) => {
            // In a unit file, `%` and `$` stand for other things.
            let root = root.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
            format!("[Service]\nEnvironment=\"MCP_ROOT={root}\"\nReadWritePaths=\"{root}\"\n")
        }
        None => "[Service]\n".into(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// A stage. It wants the one after it: where its mcp-boot is killed, the later stages' jobs fail with it, and its restart
/// brings them along again. The last one starts what is in no stage, which would not wait for a stage that failed.
fn stage_file(plan: &Plan, index: usize, stage: &Stage) -> UnitFile {
    let at = |index: Option<usize>| index.and_then(|i| plan.stages.get(i)).map(stage_name);
    let (before, after) = (at(index.checked_sub(1)), at(index.checked_add(1)));
    let mut text = "[Unit]\n".to_string();
    if let Some(before) = before {
        let _ = writeln!(text, "Requires={before}\nAfter={before}");
    }
    if let Some(after) = &after {
        let _ = writeln!(text, "Wants={after}");
    }
    let _ = write!(text, "\n{}", environment(plan));
    if stage.foundation {
        text.push_str("TimeoutStartSec=infinity\n");
    }
    if after.is_none() && !plan.rest.is_empty() {
        let names: Vec<String> = plan.rest.iter().map(component_name).collect();
        // In an argument a backslash would be read as the beginning of something.
        let names = names.join(" ").replace('\\', "\\\\");
        let _ = writeln!(text, "ExecStartPost=-systemctl --no-block start {names}");
    }
    drop_in(&stage_name(stage), &text)
}

/// A component of `stage`, which follows on the stage `before`. It is started by its stage, not by its place in the order:
/// that makes systemd stop the stages in reverse.
fn unit_files(plan: &Plan, unit: &Unit, before: Option<&Stage>, stage: Option<&Stage>) -> [UnitFile; 2] {
    let mut order = String::new();
    if let Some(before) = before.map(stage_name) {
        let _ = writeln!(order, "After={before}");
    }
    let mut text = format!("[Unit]\n{order}");
    if let Some(stage) = stage.map(stage_name) {
        let _ = writeln!(text, "Before={stage}");
    }
    if !unit.is_vm {
        let _ = writeln!(text, "Wants={CONTAINERS}\nAfter={CONTAINERS}");
    }
    let restart = match unit.restart {
        // A supervisor that was killed is started again all the same: what it ran may run on.
        Restart::No => "on-abnormal",
        Restart::OnFailure => "on-failure",
        Restart::Always => "always",
    };
    let start = seconds(unit.start_timeout + unit.stop_time + SPARE);
    let stop = seconds(unit.stop_time);
    let env = environment(plan);
    let _ = write!(
        text,
        "\n{env}Restart={restart}\nRestartPreventExitStatus={EXIT_FINAL}\nTimeoutStartSec={start}\nTimeoutStopSec={stop}\n"
    );
    if unit.is_vm {
        text.push_str(SANDBOX);
    }
    let reap = format!("[Unit]\n{order}\n{env}TimeoutStopSec={stop}\n");
    [drop_in(&component_name(unit), &text), drop_in(&format!("mcp-reap@{}.service", unit.escaped), &reap)]
}

fn target_file(plan: &Plan) -> UnitFile {
    let names: Vec<String> = match plan.stages.is_empty() {
        true => plan.rest.iter().map(component_name).collect(),
        false => plan.stages.iter().map(stage_name).collect(),
    };
    let mut text = "[Unit]\n".to_string();
    for name in names {
        let _ = writeln!(text, "Wants={name}\nAfter={name}");
    }
    drop_in("mcp.target", &text)
}
