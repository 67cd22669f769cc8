//! What a boot would do, as text: nothing is started.

use super::plan::{Member, Plan};
use crate::model::{Component, HealthKind, Node, duration};
use crate::node::command;
use crate::node::recover::{self, Standing};
use crate::sys::paths::Paths;
use std::fmt::Write;

/// Stages, gates, commands, ports, memory in total and the longest time it can take.
pub fn text(paths: &Paths, node: &Node, plan: &Plan) -> String {
    let mut out = String::new();
    let (mut memory, mut ports, mut starts) = (0, 0, 0);
    let mut to_start = Vec::new();
    for stage in &plan.stages {
        let gate = match stage.foundation {
            true => "the foundation: waits until all are healthy, for ever".to_string(),
            false => format!("waits {} at most, then warns and goes on", duration::format(stage.stage.timeout)),
        };
        let _ = writeln!(out, "stage {}: {gate}", stage.stage.name);
        let waits = if stage.foundation { "waited for until it is mended" } else { "left out" };
        for bad in &stage.bad {
            let _ = writeln!(out, "  {}: its definition is bad: {waits}", bad.name);
        }
        for member in &stage.members {
            let spec = member.spec(paths);
            let standing = recover::standing(paths, member.id(), member.left_alone);
            let _ = write!(out, "  {}: {}", member.id(), spec.runtime.name());
            if spec.is_vm() {
                let _ = write!(out, ", {} MiB", spec.memory_mb);
            }
            let _ = writeln!(out, ", {}", gate_of(member, &spec));
            for port in &spec.ports {
                let _ = writeln!(out, "    port {}", port.forwarding());
            }
            let action = match standing {
                Standing::Running => "runs already: left alone".into(),
                Standing::Coming => "its supervisor is at it: left alone".into(),
                Standing::Completed => "completed: left alone".into(),
                Standing::Unwanted(why) => format!("left alone: {why}"),
                Standing::Unknown(why) => format!("can't be started: {why}"),
                Standing::Unsupervised | Standing::Down => match recover::version(paths, &member.found) {
                    Err(e) => format!("can't be started: {e}"),
                    Ok(version) => {
                        let words = node.start_command.clone();
                        let words = words.unwrap_or_else(|| command::in_background(version.spec.runtime));
                        starts += 1;
                        if standing == Standing::Down {
                            to_start.push((member.id().clone(), version));
                        }
                        format!("runs: {}", command::words_for(&words, member.id()).join(" "))
                    }
                },
            };
            let _ = writeln!(out, "    {action}");
            if member.left_alone.is_none() {
                memory += if spec.is_vm() { u64::from(spec.memory_mb) } else { 0 };
                ports += spec.ports.len();
            }
        }
    }
    for error in recover::unfit(&to_start).values() {
        let _ = writeln!(out, "does not fit: {error}");
    }
    if !plan.outside.is_empty() {
        let _ = writeln!(out, "in no stage, left alone: {}", plan.outside.join(", "));
    }
    let _ = writeln!(
        out,
        "in all: {} components, of which {starts} to start; {memory} MiB for VMs; {ports} ports",
        plan.members().count()
    );
    let after = duration::format(plan.longest_after_foundation());
    let _ = match plan.stages.iter().any(|s| s.foundation) {
        true => writeln!(out, "longest time: the foundation's, which has no limit, and {after}"),
        false => writeln!(out, "longest time: {after}"),
    };
    out
}

fn gate_of(member: &Member, spec: &Component) -> String {
    let Some(health) = spec.effective_health(Some(member.stage_health)) else {
        return "healthy when started: it has no check".into();
    };
    let port = health.port.unwrap_or_default();
    match health.kind.unwrap_or(HealthKind::Tcp) {
        HealthKind::Grpc if health.service.is_empty() => format!("healthy by grpc on {port}"),
        HealthKind::Grpc => format!("healthy by grpc on {port}, {}", health.service),
        HealthKind::Http => format!("healthy by http on {port}{}", health.path),
        HealthKind::Tcp | HealthKind::None => format!("healthy by tcp on {port}"),
    }
}
