//! What a boot is to do, worked out before anything is started.

use crate::model::boot_record;
use crate::model::node::Stage;
use crate::model::{Component, ComponentId, HealthKind, Loaded, Record, suggest};
use crate::node::resolve::Resolved;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result};
use std::time::Duration;

/// One component of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The component, as its definition has it.
    pub found: Resolved,
    /// Why it is left alone, if it is: its service shall not run, or is placed by the cluster.
    pub left_alone: Option<&'static str>,
    /// The kind of check of its stage.
    pub stage_health: HealthKind,
}

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StagePlan {
    /// What the node config says of it.
    pub stage: Stage,
    /// Whether it is the first of all: it waits for ever.
    pub foundation: bool,
    /// Its components, in the order of its services and their definitions.
    pub members: Vec<Member>,
}

/// A whole boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The stages to run, in order.
    pub stages: Vec<StagePlan>,
    /// Services that are in no stage: left alone.
    pub outside: Vec<String>,
}

impl Member {
    /// Its name.
    pub fn id(&self) -> &ComponentId {
        &self.found.id
    }

    /// Its specification as it was recorded, which is what runs; else as its definition has it.
    pub fn spec(&self, paths: &Paths) -> Component {
        let record = Record::read(paths, self.id()).ok().flatten();
        record.and_then(|r| r.next().map(|v| v.spec.clone())).unwrap_or_else(|| self.found.component.clone())
    }
}

impl Plan {
    /// The plan of the node that `loaded` describes; of one stage where `only` names it. All that is wrong in the files,
    /// and with what the stages want of their services, is one error.
    pub fn new(loaded: &Loaded, only: Option<&str>) -> Result<Plan> {
        let stages = &loaded.node.stages;
        let mut problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        // What could not be read is no stage either.
        if stages.is_empty() && problems.is_empty() {
            return Err(Error::refused("mcp.toml", "names no stage; add a [[boot.sequence]] with name and services"));
        }
        if let Some(name) = only
            && problems.is_empty()
            && !stages.iter().any(|s| s.name == name)
        {
            let hint = suggest::hint(name, stages.iter().map(|s| s.name.as_str()));
            return Err(Error::refused(name, format!("no such stage{hint}")));
        }
        let mut planned = Vec::new();
        for (number, stage) in stages.iter().enumerate() {
            let mut members = Vec::new();
            for service in stage.services.iter().filter_map(|name| loaded.service(name)) {
                for component in &service.components {
                    let id = ComponentId { service: service.name.clone(), component: component.name.clone() };
                    if let Some(kind) = unaskable(component, stage.health) {
                        problems.push(format!(
                            "{}: {id}: stage {} wants {kind} checks, and it has no tcp port; add one, or give it \
                             [components.health] kind = \"none\"",
                            service.file.display(),
                            stage.name
                        ));
                    }
                    let found = Resolved::declared(id, service, component);
                    members.push(Member { found, left_alone: service.left_alone(), stage_health: stage.health });
                }
            }
            if only.is_none_or(|name| name == stage.name) {
                planned.push(StagePlan { stage: stage.clone(), foundation: number == 0, members });
            }
        }
        if !problems.is_empty() {
            return Err(Error::Definitions { problems });
        }
        let names = loaded.services.iter().map(|s| s.name.clone());
        let outside = names.filter(|name| loaded.node.stage_of(name).is_none()).collect();
        Ok(Plan { stages: planned, outside })
    }

    /// All components, in the order of their stages.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.stages.iter().flat_map(|s| &s.members)
    }

    /// The longest that the stages after the foundation can take.
    pub fn longest_after_foundation(&self) -> Duration {
        self.stages.iter().filter(|s| !s.foundation).map(|s| s.stage.timeout).sum()
    }

    /// As the boot record wants it.
    pub fn recorded(&self) -> Vec<boot_record::Plan> {
        let member = |m: &Member| (m.found.id.clone(), m.found.component.runtime);
        let stage = |s: &StagePlan| boot_record::Plan {
            stage: s.stage.clone(),
            foundation: s.foundation,
            components: s.members.iter().map(member).collect(),
        };
        self.stages.iter().map(stage).collect()
    }
}

/// The kind of check that a stage wants of a component which names none and has nothing to ask.
fn unaskable(component: &Component, stage: HealthKind) -> Option<&'static str> {
    let own = component.health.as_ref().and_then(|h| h.kind);
    let kind = match own.unwrap_or(stage) {
        HealthKind::Grpc => "grpc",
        HealthKind::Http => "http",
        // A component without a port that is only to be started is fine: a tcp check is everybody's default.
        HealthKind::Tcp | HealthKind::None => return None,
    };
    component.effective_health(Some(stage)).is_none().then_some(kind)
}
