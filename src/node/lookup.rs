//! From what an operator types to components.

use crate::model::{Component, ComponentId, Record, Target, name};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result};
use std::io::ErrorKind;
use std::path::Path;

/// The components that `target` means, in the order of their names, each with the specification that was last
/// started. That nothing is meant is an error.
pub fn resolve(paths: &Paths, target: &Target) -> Result<Vec<(ComponentId, Component)>> {
    let names = match &target.component {
        Some(component) => vec![component.clone()],
        None => recorded(paths, &target.service)?,
    };
    let mut found = Vec::new();
    for component in names {
        let id = ComponentId { service: target.service.clone(), component };
        if let Some(record) = Record::read(paths, &id)? {
            found.push((id, record.spec));
        }
    }
    if found.is_empty() {
        return Err(Error::refused(
            target,
            "unknown: neither defined nor ever started; mcp-status lists what there is",
        ));
    }
    Ok(found)
}

/// All components that there are, in the order of their names.
pub fn all(paths: &Paths) -> Result<Vec<(ComponentId, Component)>> {
    let mut found = Vec::new();
    for service in entries(&paths.lib.join("registry"))?.into_iter().filter(|s| name::is_valid(s)) {
        match resolve(paths, &Target { service: service.clone(), component: None }) {
            Ok(components) => found.extend(components),
            // A folder that mcp-rm has left empty.
            Err(_) if recorded(paths, &service)?.is_empty() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// The names of a service's components that have a record.
fn recorded(paths: &Paths, service: &str) -> Result<Vec<String>> {
    let files = entries(&paths.lib.join("registry").join(service))?;
    Ok(files.iter().filter_map(|f| f.strip_suffix(".json")).filter(|n| name::is_valid(n)).map(str::to_string).collect())
}

/// File names in `directory`, sorted; none when it is not there.
fn entries(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let listing = match std::fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(names),
        Err(e) => return Err(Error::path("read directory", directory)(e)),
    };
    for entry in listing {
        let entry = entry.map_err(Error::path("read directory", directory))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
