//! Which components there are to show: those with a log folder, a record, or a definition.

use crate::model::load;
use crate::model::name::{ComponentId, Target, is_valid};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The components that `target` means, in order of their names. None: it is not known.
pub fn find(paths: &Paths, target: &Target) -> Result<Vec<ComponentId>> {
    let mut names = BTreeSet::new();
    match &target.component {
        Some(name) => {
            let at = paths.component(&target.service, name);
            if is_there(&at.log)? || is_there(&at.record)? {
                names.insert(name.clone());
            }
        }
        None => {
            names.extend(entries(&paths.log.join(&target.service), |name, is_dir| is_dir.then_some(name))?);
            let registry = paths.lib.join("registry").join(&target.service);
            names.extend(entries(&registry, |name, _| name.strip_suffix(".json"))?);
        }
    }
    // What is declared and was never started has nothing to show, which is no error. A bad definition is none here: it
    // keeps nobody from reading logs.
    if let Some(service) = load::load_one(paths, &target.service).service(&target.service) {
        let wanted = |name: &String| target.component.as_ref().is_none_or(|c| c == name);
        names.extend(service.components.iter().map(|c| c.name.clone()).filter(wanted));
    }
    let id = |component| ComponentId { service: target.service.clone(), component };
    Ok(names.into_iter().map(id).collect())
}

/// Whether there is something; that we may not look is an error, not a no.
fn is_there(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(Error::path("look at", path)(e)),
    }
}

/// What `pick` makes of the names in `dir`, as far as those are names of components.
fn entries(dir: &Path, pick: impl Fn(&str, bool) -> Option<&str>) -> Result<Vec<String>> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(Error::path("read directory", dir)(e)),
    };
    let mut names = Vec::new();
    for entry in listed {
        let entry = entry.map_err(Error::path("read directory", dir))?;
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        let file_name = entry.file_name();
        let name = file_name.to_str().and_then(|name| pick(name, is_dir));
        names.extend(name.filter(|n| is_valid(n)).map(str::to_string));
    }
    Ok(names)
}
