//! `services/NAME.toml`.

use super::{COMPONENT_KEYS, Place, Table, component::component, document};
use crate::model::problem::quoted;
use crate::model::{Component, Placement, Port, Problem, Protocol, Service, name};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

/// The keys at the top of a service definition.
pub const SERVICE_KEYS: &[&str] = &["name", "active", "placement", "components"];

/// A service of more components than this is a mistake.
const COMPONENTS_MAX: usize = 256;

/// Reads a service definition, the contents of `file`: the service, or all of its problems in the order of the lines.
/// Relative paths in it are relative to the folder of `file`, and its name must be the file's without `.toml`.
pub fn parse_service(file: &Path, bytes: &[u8]) -> Result<Service, Vec<Problem>> {
    let (service, mut problems) = document(file, bytes, |top| service(top, file));
    let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    if !name::is_valid(stem) {
        let reason = "the file's name is not a service's: 1 to 32 of a-z, 0-9 and inner '-', and .toml";
        problems.insert(0, Problem::of_file(file, reason));
    }
    match service {
        Some(service) if problems.is_empty() => Ok(service),
        _ => Err(problems),
    }
}

fn service(top: &Table<'_>, file: &Path) -> Service {
    top.only(SERVICE_KEYS, &[(COMPONENT_KEYS, "[[components]]")]);
    let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    if let Some(item) =
        top.required(&["name"], &format!("add name = {}", quoted(if name::is_valid(stem) { stem } else { "…" })))
        && let Some(name) = item.name()
        && name != stem
        && name::is_valid(stem)
    {
        item.problem(format!("{} is not the file's name; write {} or rename the file", quoted(name), quoted(stem)));
    }
    let active = top.get("active").is_none_or(|i| i.bool().unwrap_or(true));
    let places = [Placement::Node, Placement::Cluster].map(|place| (place.name(), place));
    let placement = top.get("placement").and_then(|i| i.choice(&places)).unwrap_or_default();
    let components = components(top);
    Service { name: stem.to_string(), active, placement, components, file: file.to_path_buf() }
}

fn components(top: &Table<'_>) -> Vec<Component> {
    let Some(all) = top.required(&["components"], "add a [[components]] table") else { return Vec::new() };
    let Some(items) = all.tables("[[components]]") else { return Vec::new() };
    if items.len() == 0 {
        all.problem("there are no components; add a [[components]] table");
    }
    if items.len() > COMPONENTS_MAX {
        all.problem(format!("a service has at most {COMPONENTS_MAX} components"));
        return Vec::new();
    }
    let mut components: Vec<Component> = Vec::with_capacity(items.len());
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut hosts = Hosts::default();
    for item in items {
        let Some(table) = item.table("[[components]]") else { continue };
        let name_item = table.required(&["name"], "add name = \"…\"");
        let name = name_item.as_ref().and_then(|i| i.name());
        // A component is told by its name where it has one, else by its number.
        let place = match name {
            Some(name) => Place::Key(&all.place, name),
            None => table.place,
        };
        if let (Some(item), Some(name)) = (&name_item, name) {
            item.once(name, &mut names, "component");
        }
        let table = table.placed(place);
        let component = component(&table, name.unwrap_or_default());
        hosts.add(&table, &component.ports);
        components.push(component);
    }
    components
}

/// The host ports of a file, to find those that clash.
#[derive(Default)]
struct Hosts {
    taken: HashMap<(Protocol, u16), Vec<(Port, usize)>>,
}

impl Hosts {
    fn add(&mut self, table: &Table<'_>, ports: &[Port]) {
        if ports.is_empty() {
            return;
        }
        let Some(item) = table.get("ports") else { return };
        // Ports are only kept where all of them could be read, so that they pair with the file's elements.
        let Some(items) = item.array("").filter(|i| i.len() == ports.len()) else { return };
        for (port, item) in ports.iter().zip(items) {
            let same = self.taken.entry((port.protocol, port.host)).or_default();
            match same.iter().find(|(other, _)| other.clashes(port)) {
                Some((other, at)) => item.problem(format!(
                    "{}/{} on the node is taken by {other} on line {}",
                    port.host_addr(),
                    port.protocol.name(),
                    item.reader.line(*at)
                )),
                None => same.push((*port, item.at())),
            }
        }
    }
}
