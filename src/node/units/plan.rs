//! What the files of every init are made of: the stages of `mcp.toml` and the components in them, and nothing else.

use crate::model::service::PLACED;
use crate::model::{Component, ComponentId, Loaded, Restart};
use crate::node::boot::plan::Plan as BootPlan;
use crate::node::{command, resolve};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, tool};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What QEMU's `quit`, SIGKILL and a busy node may take after a component's stop_timeout.
const BEYOND_STOP: Duration = Duration::from_secs(10);

/// How long a stop of `component` may take, all rungs of the ladder in it.
pub fn stop_time(component: &Component) -> Duration {
    component.stop_timeout + BEYOND_STOP
}

/// The node, as inits are told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The stages, foundation first.
    pub stages: Vec<Stage>,
    /// Components that this node brings up of services that are in no stage: they start after the last one.
    pub rest: Vec<Unit>,
    /// Whether the cluster may put containers here, which are stopped after Pacemaker.
    pub placed_containers: bool,
    /// The folder of our programs.
    pub programs: PathBuf,
    /// The folder that `--root` or `MCP_ROOT` names; `None`: the system's places.
    pub root: Option<PathBuf>,
    /// Folder of logs: a logger of an init's puts its own files below.
    pub log: PathBuf,
}

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name in `mcp.toml`.
    pub name: String,
    /// Whether it is the first: it waits for ever.
    pub foundation: bool,
    /// How long it waits, else.
    pub timeout: Duration,
    /// Its components that this node brings up.
    pub units: Vec<Unit>,
}

/// One component.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Which.
    pub id: ComponentId,
    /// `SERVICE_COMPONENT`.
    pub name: String,
    /// `SERVICE/COMPONENT`, escaped as systemd-escape does.
    pub escaped: String,
    /// Whether it is a VM; else it is a container.
    pub is_vm: bool,
    /// When it is started again after its end.
    pub restart: Restart,
    /// How long it may take to become ready.
    pub start_timeout: Duration,
    /// How long a stop may take, all rungs of the ladder in it.
    pub stop_time: Duration,
}

impl Unit {
    fn new(id: ComponentId, component: &Component) -> Unit {
        Unit {
            name: id.flat(),
            escaped: command::escape(&id.to_string()),
            is_vm: component.is_vm(),
            restart: component.restart,
            start_timeout: component.start_timeout,
            stop_time: stop_time(component),
            id,
        }
    }
}

impl Plan {
    /// The node that `loaded` describes. A bad node config is an error; that it has no stage is none. Of a service whose
    /// definition is bad, what was deployed keeps its files.
    pub fn new(paths: &Paths, loaded: &Loaded, root: Option<&Path>) -> Result<Plan> {
        let boot = match loaded.node.stages.is_empty() && !loaded.bars_starts {
            true => None,
            false => Some(BootPlan::new(loaded, None)?),
        };
        let deployed = |service: &str| -> Vec<Unit> {
            let found = resolve::deployed(paths, service);
            found.into_iter().map(|found| Unit::new(found.id, &found.component)).collect()
        };
        let stages = boot.iter().flat_map(|b| &b.stages).map(|planned| {
            let active = planned.members.iter().filter(|m| m.left_alone.is_none());
            let units = active.map(|m| Unit::new(m.id().clone(), &m.found.component));
            Stage {
                name: planned.stage.name.clone(),
                foundation: planned.foundation,
                timeout: planned.stage.timeout,
                units: units.chain(planned.bad.iter().flat_map(|bad| deployed(&bad.name))).collect(),
            }
        });
        let stages: Vec<Stage> = stages.collect();
        let unstaged = |name: &str| loaded.node.stage_of(name).is_none();
        let rest = loaded.components().filter(|(_, s, _)| s.left_alone().is_none() && unstaged(&s.name));
        let bad = loaded.broken.iter().filter(|name| unstaged(name)).flat_map(|name| deployed(name));
        let rest = rest.map(|(id, _, component)| Unit::new(id, component)).chain(bad).collect();
        let mut placed = loaded.components().filter(|(_, s, _)| s.left_alone() == Some(PLACED));
        let placed_containers = placed.any(|(_, _, component)| !component.is_vm());
        let own = tool::ours("mcp-run");
        let programs = own.parent().filter(|p| p.is_absolute()).map(Path::to_path_buf);
        let programs = programs.ok_or_else(|| Error::refused("mcp-run", "is not beside mcp-units"))?;
        Ok(Plan {
            stages,
            rest,
            placed_containers,
            programs,
            root: root.map(Path::to_path_buf),
            log: paths.log.clone(),
        })
    }

    /// All components, in the order in which they start.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.stages.iter().flat_map(|s| &s.units).chain(&self.rest)
    }

    /// A program of ours with its whole path.
    pub fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }
}
