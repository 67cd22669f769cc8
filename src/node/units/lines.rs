//! The node's services as lines for scripts: what each component wants of whoever places it.

use super::plan::stop_time;
use crate::guest::launch::preflight::QEMU_OWN_MIB;
use crate::model::{Component, HealthKind, Loaded, Service};
use crate::node::boot::plan::Plan as BootPlan;
use crate::sys::Result;

/// One line for each component of an active service, in the order in which they start, its fields separated by tabs:
/// number and name of the stage, service, component, runtime, placement, bytes of memory that it needs on a node,
/// milliseconds that a start and a stop may take, its volumes separated by commas, and the kind of its health check.
/// What there is none of is a `-`; services that are in no stage come last, with the number after the last stage's.
/// A bad node config is an error; services whose definitions are bad are left out.
pub fn lines(loaded: &Loaded) -> Result<Vec<String>> {
    let stages = &loaded.node.stages;
    if loaded.bars_starts || !stages.is_empty() {
        BootPlan::new(loaded, None)?;
    }
    let mut lines = Vec::new();
    for (number, stage) in stages.iter().enumerate() {
        for service in stage.services.iter().filter_map(|name| loaded.service(name)) {
            lines.extend(of_service(service, number, &stage.name, Some(stage.health)));
        }
    }
    for service in loaded.services.iter().filter(|s| loaded.node.stage_of(&s.name).is_none()) {
        lines.extend(of_service(service, stages.len(), "-", None));
    }
    Ok(lines)
}

fn of_service(service: &Service, number: usize, stage: &str, health: Option<HealthKind>) -> Vec<String> {
    let components = service.components.iter().filter(|_| service.active);
    let line = |component: &Component| {
        let fields = [
            number.to_string(),
            stage.to_string(),
            service.name.clone(),
            component.name.clone(),
            component.runtime.name().to_string(),
            service.placement.name().to_string(),
            memory(component).map_or_else(none, |bytes| bytes.to_string()),
            component.start_timeout.as_millis().to_string(),
            stop_time(component).as_millis().to_string(),
            volumes(component),
            component.effective_health(health).map_or_else(none, |h| kind(h.kind.unwrap_or(HealthKind::Tcp)).into()),
        ];
        fields.join("\t")
    };
    components.map(line).collect()
}

fn none() -> String {
    "-".into()
}

/// Bytes that it takes of a node when the guest has touched all of its memory. A container has no bound.
fn memory(component: &Component) -> Option<u64> {
    component.is_vm().then(|| (u64::from(component.memory_mb) + QEMU_OWN_MIB) << 20)
}

/// The names of its volumes. A host path may hold what would end a field, or the line.
fn volumes(component: &Component) -> String {
    let plain = |name: &String| name.chars().map(|c| if c.is_control() || c == ',' { '?' } else { c }).collect();
    let names: Vec<String> = component.volumes.iter().map(|v| plain(&v.name)).collect();
    if names.is_empty() { none() } else { names.join(",") }
}

fn kind(kind: HealthKind) -> &'static str {
    match kind {
        HealthKind::Tcp => "tcp",
        HealthKind::Http => "http",
        HealthKind::Grpc => "grpc",
        HealthKind::None => "-",
    }
}
