//! From what an operator types to components: by their definitions, else by the records of what was started ad hoc.

use crate::model::load::{self, Loaded};
use crate::model::{
    Component, ComponentId, Node, Placement, Problem, Record, Runtime, Service, Source, Target, name, problem,
};
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
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
            load::find(&load::load(paths), target)?;
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
        None => recorded_names(paths, &target.service),
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

/// Names of the components of the service that have a record.
fn recorded_names(paths: &Paths, service: &str) -> Vec<String> {
    let entries = std::fs::read_dir(paths.lib.join("registry").join(service)).into_iter().flatten().flatten();
    entries.filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".json")?.to_string())).collect()
}

/// The components of a target or of the node, found whatever is wrong with the files.
#[derive(Debug, Default)]
pub struct Existing {
    /// The components, each as it runs now where it runs.
    pub found: Vec<(ComponentId, Component)>,
    /// The node config; what could not be read of it has its default.
    pub node: Node,
    /// What is wrong with the files.
    pub problems: Vec<Problem>,
}

/// The components of `target`, or of the node: declared ones, recorded ones, and those whose locks or runtime state show that
/// they were started, whatever is wrong with definitions, node config or records. Stops, checks and listings work on these; a
/// start needs a good definition. A target that is known to none of these is an error.
pub fn existing(paths: &Paths, target: Option<&Target>) -> Result<Existing> {
    let loaded = match target {
        Some(target) => load::load_one(paths, &target.service),
        None => load::load(paths),
    };
    let mut names: BTreeMap<ComponentId, Option<&Component>> = BTreeMap::new();
    for service in target.map_or_else(|| started_services(paths), |t| vec![t.service.clone()]) {
        let is_declared = loaded.service(&service).is_some();
        for component in started_components(paths, &service) {
            let id = ComponentId { service: service.clone(), component };
            // A component without a good definition counts if it runs or the target names it.
            let is_named = target.is_some_and(|t| t.component.is_some());
            if !is_declared || is_named || is_there(paths, &id) {
                names.insert(id, None);
            }
        }
    }
    names.extend(loaded.components().map(|(id, _, component)| (id, Some(component))));
    names.retain(|id, _| target.is_none_or(|t| t.matches(id)));
    if let (true, Some(target)) = (names.is_empty(), target) {
        if loaded.broken.is_empty() {
            return components(paths, target).and(Err(Error::refused(target, "no such component")));
        }
        return Ok(Existing { node: loaded.node, problems: loaded.problems, ..Existing::default() });
    }
    let declared = loaded.components().enumerate().map(|(at, (id, ..))| (id, at));
    let order: BTreeMap<ComponentId, usize> = declared.collect();
    let found = names.into_iter().map(|(id, declared)| {
        let component = to_stop(paths, &id, declared);
        (id, component)
    });
    let mut found: Vec<_> = found.collect();
    // In the order of the definitions, then those that are in none.
    found.sort_by_key(|(id, _)| order.get(id).copied().unwrap_or(usize::MAX));
    Ok(Existing { found, node: loaded.node, problems: loaded.problems })
}

/// Whether it has a supervisor or an instance. Where that is unknown, a stop has to look.
fn is_there(paths: &Paths, id: &ComponentId) -> bool {
    super::stop::is_there(paths, id).unwrap_or(true)
}

/// The specification to stop it by: the recorded one of what runs or has no definition, else the declared one; with neither,
/// what its runtime state tells.
fn to_stop(paths: &Paths, id: &ComponentId, declared: Option<&Component>) -> Component {
    let recorded = || Record::read(paths, id).ok().flatten().and_then(|r| r.current).map(|v| v.spec);
    let recorded = if declared.is_none() || is_there(paths, id) { recorded() } else { None };
    recorded.or_else(|| declared.cloned()).unwrap_or_else(|| {
        let files = paths.component(&id.service, &id.component);
        let is_vm = Slot::VMS.iter().any(|slot| files.instance(*slot).run.is_dir());
        let runtime = if is_vm { Runtime::Unikernel } else { Runtime::Container };
        Component::new(&id.component, runtime, Source::Image { reference: String::new() })
    })
}

/// Whether more is known of one that [`existing`] found than its locks and its runtime state.
pub fn is_known(component: &Component) -> bool {
    component.source.name().is_none_or(|name| !name.is_empty())
}

/// Services of which something was recorded or started.
fn started_services(paths: &Paths) -> Vec<String> {
    let mut names = subdirectories(&paths.lib.join("registry"));
    names.extend(subdirectories(&paths.run));
    names.sort_unstable();
    names.dedup();
    names
}

/// Components of the service of which something was recorded or started.
fn started_components(paths: &Paths, service: &str) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = subdirectories(&paths.run.join(service)).into_iter().collect();
    names.extend(recorded_names(paths, service));
    names
}

/// Those that were started ad hoc and have no definition.
pub fn adhoc(paths: &Paths, loaded: &Loaded) -> Vec<Resolved> {
    let mut services = subdirectories(&paths.lib.join("registry"));
    services.retain(|name| loaded.service(name).is_none() && !loaded.broken.contains(name));
    let is_adhoc = |f: &Resolved| Record::read(paths, &f.id).ok().flatten().is_some_and(|r| r.adhoc);
    services.iter().flat_map(|service| deployed(paths, service)).filter(is_adhoc).collect()
}

/// The components of `service` by their records alone. One that can't be read is reported, and hides no other service.
pub fn deployed(paths: &Paths, service: &str) -> Vec<Resolved> {
    recorded(paths, &Target { service: service.into(), component: None }).unwrap_or_else(|e| {
        log::warn!("{e}");
        Vec::new()
    })
}

/// Names of the folders in `dir` that can be services, sorted.
fn subdirectories(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| name::is_valid(n)).collect();
    names.sort_unstable();
    names
}
