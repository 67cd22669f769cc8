//! From what an operator types to components: by their definitions, else by the records of what was started ad hoc.

use crate::model::load::{self, Loaded};
use crate::model::state;
use crate::model::{Component, ComponentId, Node, Placement, Record, Service, Target, name, problem};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result};
use std::path::Path;

/// A component as it shall run.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Its full name.
    pub id: ComponentId,
    /// Its specification.
    pub component: Component,
    /// Whether it has no definition, only a record.
    pub adhoc: bool,
    /// Who decides where it runs.
    pub placement: Placement,
}

impl Resolved {
    /// A component as its definition has it.
    pub fn declared(id: ComponentId, service: &Service, component: &Component) -> Resolved {
        Resolved { id, component: component.clone(), adhoc: false, placement: service.placement }
    }
}

/// The node config. Problems in it are an error.
pub fn node(paths: &Paths) -> Result<Node> {
    let (node, problems) = load::load_node(paths);
    problem::unless(problems, node)
}

/// The components that `target` means, in the order of the definition. That it means none is an error.
pub fn components(paths: &Paths, target: &Target) -> Result<(Node, Vec<Resolved>)> {
    let Some((node, service)) = load::try_service(paths, &target.service)? else {
        let found = recorded(paths, target)?;
        if found.is_empty() {
            // The definition is missing: said with the names of those there are.
            let loaded = load::load(paths)?;
            load::find(&loaded, target)?;
        }
        return Ok((node(paths)?, found));
    };
    let placement = service.placement;
    let loaded = Loaded { node, services: vec![service], ..Loaded::default() };
    let found = load::find(&loaded, target)?
        .into_iter()
        .map(|(id, component)| Resolved { id, component: component.clone(), adhoc: false, placement })
        .collect();
    Ok((loaded.node, found))
}

/// The one component that `target` means.
pub fn one(paths: &Paths, target: &Target) -> Result<(Node, Resolved)> {
    let (node, mut found) = components(paths, target)?;
    match (found.pop(), found.as_slice()) {
        (Some(only), []) => Ok((node, only)),
        (Some(last), rest) => {
            let names: Vec<String> = rest.iter().chain([&last]).map(|r| r.id.to_string()).collect();
            Err(Error::Usage {
                what: format!("{target}: names several components; choose one of {}", names.join(", ")),
            })
        }
        (None, _) => Err(Error::refused(target, "no such component")),
    }
}

/// Components of `target` that have a record, sorted by name.
fn recorded(paths: &Paths, target: &Target) -> Result<Vec<Resolved>> {
    let mut names: Vec<String> = match &target.component {
        Some(name) => vec![name.clone()],
        None => {
            let dir = paths.lib.join("registry").join(&target.service);
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".json")?.to_string())).collect()
        }
    };
    names.sort_unstable();
    let mut found = Vec::new();
    for component in names {
        let id = ComponentId { service: target.service.clone(), component };
        if let Some(version) = Record::read(paths, &id)?.and_then(|r| r.current) {
            found.push(Resolved { id, component: version.spec, adhoc: true, placement: Placement::Node });
        }
    }
    Ok(found)
}

/// The components that `target` means, each as it runs now where it runs, else as it shall run.
pub fn as_running(paths: &Paths, target: &Target) -> Result<Vec<(ComponentId, Component)>> {
    let (_, found) = components(paths, target)?;
    found.into_iter().map(|r| running_spec(paths, r)).collect()
}

/// As [`as_running`]; where a definition or the node config is bad, by the records of what was started.
pub fn as_started(paths: &Paths, target: &Target) -> Result<Vec<(ComponentId, Component)>> {
    match as_running(paths, target) {
        Err(bad @ Error::Definitions { .. }) => match recorded(paths, target)? {
            found if found.is_empty() => Err(bad),
            found => found.into_iter().map(|r| running_spec(paths, r)).collect(),
        },
        other => other,
    }
}

/// All components that there are, as [`as_running`] has them: the declared ones, then those started ad hoc. What is wrong in
/// any file is an error, or with `despite` no reason: what was started by a definition that is bad now has its record.
pub fn all(paths: &Paths, despite: bool) -> Result<Vec<(ComponentId, Component)>> {
    let loaded = load::load(paths)?;
    let loaded = if despite { loaded } else { loaded.whole()? };
    let declared = loaded.components().map(|(id, service, c)| Resolved::declared(id, service, c));
    let mut found = declared.collect::<Vec<_>>();
    for service in undeclared(paths, &loaded) {
        found.extend(recorded(paths, &Target { service, component: None })?);
    }
    found.into_iter().map(|r| running_spec(paths, r)).collect()
}

/// Those that were started ad hoc and have no definition. A record that can't be read is said, and hides no other.
pub fn adhoc(paths: &Paths, loaded: &Loaded) -> Vec<Resolved> {
    let mut found = Vec::new();
    for service in undeclared(paths, loaded) {
        let components = recorded(paths, &Target { service, component: None }).unwrap_or_else(|e| {
            log::warn!("{e}");
            Vec::new()
        });
        let is_adhoc = |f: &Resolved| Record::read(paths, &f.id).ok().flatten().is_some_and(|r| r.adhoc);
        found.extend(components.into_iter().filter(is_adhoc));
    }
    found
}

/// Services that have records and no definition.
fn undeclared(paths: &Paths, loaded: &Loaded) -> Vec<String> {
    let mut names = subdirectories(&paths.lib.join("registry"));
    names.retain(|name| loaded.service(name).is_none());
    names
}

fn running_spec(paths: &Paths, found: Resolved) -> Result<(ComponentId, Component)> {
    let files = paths.component(&found.id.service, &found.id.component);
    let runs = state::any_alive(&files)?;
    let record = if runs && !found.adhoc { Record::read(paths, &found.id)? } else { None };
    Ok((found.id, record.and_then(|r| r.current).map_or(found.component, |v| v.spec)))
}

/// Names of the folders in `dir` that can be services, sorted.
fn subdirectories(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| name::is_valid(n)).collect();
    names.sort_unstable();
    names
}
