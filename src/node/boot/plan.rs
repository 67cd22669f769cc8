//! What a boot is to do, worked out before anything is started.

use crate::model::boot_record;
use crate::model::node::Stage;
use crate::model::{Component, ComponentId, HealthKind, Loaded, Placement, Record, Service, Target, load, suggest};
use crate::node::resolve::{self, Resolved};
use crate::node::stop;
use crate::sys::paths::Paths;
use crate::sys::{self, Error};
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
    /// Its services whose definitions are bad.
    pub bad: Vec<BadService>,
}

/// A service of a stage whose definition can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadService {
    /// Its name.
    pub name: String,
    /// What is wrong with it, a line each.
    pub problems: Vec<String>,
}

/// A whole boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The stages to run, in order.
    pub stages: Vec<StagePlan>,
    /// Services that are in no stage: left alone.
    pub outside: Vec<String>,
    /// What is wrong with files, but for those of the bad services of `stages`.
    pub problems: Vec<String>,
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

impl BadService {
    /// Reads the definition again: its components, or what is wrong now.
    pub fn read_again(&self, paths: &Paths, stage: &Stage) -> Result<Vec<Member>, Vec<String>> {
        let missing = || vec![format!("{}: no such service any more", self.name)];
        let read = members_of(&load::load_one(paths, &self.name), stage, &self.name);
        read.map_err(|problems| if problems.is_empty() { missing() } else { problems })
    }
}

/// All that is wrong with the files of `loaded`, by themselves or in their stages.
pub fn problems(loaded: &Loaded) -> Vec<String> {
    match Plan::of(loaded, None, |stage, service| members_of(loaded, stage, service)) {
        Ok(plan) => plan.all_problems().cloned().collect(),
        // It has no stages.
        Err(_) => loaded.problems.iter().map(ToString::to_string).collect(),
    }
}

/// The components of a service of `stage`; of one whose definition is bad or does not suit the stage, what is wrong.
fn members_of(loaded: &Loaded, stage: &Stage, service: &str) -> Result<Vec<Member>, Vec<String>> {
    let Some(service) = loaded.service(service) else {
        return Err(loaded.problems_of(service).map(ToString::to_string).collect());
    };
    let (mut members, mut problems) = (Vec::new(), Vec::new());
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
        let found = declared((id, service, component));
        members.push(Member { found, left_alone: service.left_alone(), stage_health: stage.health });
    }
    if problems.is_empty() { Ok(members) } else { Err(problems) }
}

fn declared((id, service, component): (ComponentId, &Service, &Component)) -> Resolved {
    Resolved::declared(id, service, component)
}

impl Plan {
    /// The plan of the node that `loaded` describes; of one stage where `only` names it. What is wrong with the node config
    /// is an error, with all that is wrong elsewhere; a bad definition is its own service's alone.
    pub fn new(loaded: &Loaded, only: Option<&str>) -> sys::Result<Plan> {
        let plan = Plan::of(loaded, only, |stage, service| members_of(loaded, stage, service))?;
        if loaded.bars_starts {
            return Err(Error::Definitions { problems: plan.all_problems().cloned().collect() });
        }
        Ok(plan)
    }

    /// The plan of taking the node down, whatever is wrong with its files: of a service whose definition is bad, what its
    /// records, locks and runtime state tell. Where the node config is bad, what runs and is in none of the stages that could
    /// be read stops first.
    pub fn down(paths: &Paths, loaded: &Loaded, only: Option<&str>) -> sys::Result<Plan> {
        let existing = |target: Option<Target>| resolve::existing(paths, target.as_ref()).unwrap_or_default().found;
        let undeclared = |(id, component)| Resolved { id, component, adhoc: false, placement: Placement::Node };
        let member = |found, stage: &Stage| Member { found, left_alone: None, stage_health: stage.health };
        let mut plan = Plan::of(loaded, only, |stage, name| {
            let of_name = Target { service: name.into(), component: None };
            let found: Vec<Resolved> = match loaded.service(name) {
                Some(_) => loaded.components().filter(|(id, ..)| of_name.matches(id)).map(declared).collect(),
                None => existing(Some(of_name)).into_iter().map(undeclared).collect(),
            };
            Ok(found.into_iter().map(|found| member(found, stage)).collect())
        })?;
        if plan.stages.is_empty() && only.is_some() {
            return Err(Error::Definitions { problems: plan.problems });
        }
        if loaded.bars_starts && only.is_none() {
            let name = "-".into();
            let stage = Stage { name, services: Vec::new(), timeout: Duration::ZERO, health: HealthKind::Tcp };
            let mut rest = existing(None);
            rest.retain(|(id, _)| stop::is_there(paths, id).unwrap_or(true) && !plan.members().any(|m| m.id() == id));
            let members = rest.into_iter().map(|one| member(undeclared(one), &stage)).collect();
            plan.stages.push(StagePlan { stage, foundation: false, members, bad: Vec::new() });
        }
        Ok(plan)
    }

    fn of(
        loaded: &Loaded,
        only: Option<&str>,
        members: impl Fn(&Stage, &str) -> Result<Vec<Member>, Vec<String>>,
    ) -> sys::Result<Plan> {
        let stages = &loaded.node.stages;
        // What could not be read is no stage either.
        if stages.is_empty() && !loaded.bars_starts {
            return Err(Error::refused("mcp.toml", "names no stage; add a [[boot.sequence]] with name and services"));
        }
        if let Some(name) = only
            && !loaded.bars_starts
            && !stages.iter().any(|s| s.name == name)
        {
            let hint = suggest::hint(name, stages.iter().map(|s| s.name.as_str()));
            return Err(Error::refused(name, format!("no such stage{hint}")));
        }
        let mut problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        let mut planned = Vec::new();
        for (number, stage) in stages.iter().enumerate() {
            let mut plan =
                StagePlan { stage: stage.clone(), foundation: number == 0, members: Vec::new(), bad: Vec::new() };
            for service in &stage.services {
                match members(stage, service) {
                    Ok(found) => plan.members.extend(found),
                    Err(problems) => plan.bad.push(BadService { name: service.clone(), problems }),
                }
            }
            let of_stage = || plan.bad.iter().flat_map(|b| &b.problems);
            if only.is_none_or(|name| name == stage.name) {
                problems.retain(|p| !of_stage().any(|other| other == p));
                planned.push(plan);
            } else {
                let more: Vec<String> = of_stage().filter(|p| !problems.contains(p)).cloned().collect();
                problems.extend(more);
            }
        }
        let names = loaded.services.iter().map(|s| s.name.clone());
        let outside = names.filter(|name| loaded.node.stage_of(name).is_none()).collect();
        Ok(Plan { stages: planned, outside, problems })
    }

    /// All that is wrong with files.
    pub fn all_problems(&self) -> impl Iterator<Item = &String> {
        self.problems.iter().chain(self.stages.iter().flat_map(|s| &s.bad).flat_map(|b| &b.problems))
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
