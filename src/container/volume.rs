//! Podman's named volumes: made with our labels, by which it is known later whose data they hold.

use super::listing::{self, COMPONENT, ROOT, SERVICE};
use super::podman::{CHANGE, Podman, QUESTION, parse};
use crate::model::ComponentId;
use crate::supervise::Context;
use crate::sys::paths::{InstancePaths, Paths, Slot};
use crate::sys::{Deadline, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One volume, of what `podman volume ls --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// Its name, one for all of podman's storage.
    pub name: String,
    /// Its labels; ours among them where we made it.
    #[serde(deserialize_with = "listing::or_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Volume {
    /// The component that it was made for; `None`: somebody else made it, or another mcp.
    pub fn of(&self, paths: &Paths) -> Option<ComponentId> {
        listing::component_of(&self.labels, paths)
    }

    /// Whether some mcp made it.
    pub fn is_some_mcps(&self) -> bool {
        self.labels.contains_key(ROOT)
    }
}

/// All volumes that podman has.
pub fn list(podman: &Podman) -> Result<Vec<Volume>> {
    let answer = podman.ask("podman", ["volume", "ls", "--format", "json"], Deadline::after(QUESTION))?;
    if answer.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    Ok(parse::<Option<Vec<Volume>>>("podman", &answer)?.unwrap_or_default())
}

/// Makes those of the component's named volumes that are not there. `podman run` would make them too, but with no sign of
/// whose they are. One that is there stays whose it is.
pub fn make(context: &Context<'_>, podman: &Podman) -> Result<()> {
    let mut names: Vec<&str> = context.component.podman_volumes().collect();
    if names.is_empty() {
        return Ok(());
    }
    let there = list(podman)?;
    names.retain(|name| !there.iter().any(|volume| volume.name == *name));
    names.sort_unstable();
    names.dedup();
    let id = context.id;
    let labels =
        [(SERVICE, id.service.clone()), (COMPONENT, id.component.clone()), (ROOT, listing::root_label(context.paths))]
            .map(|(key, value)| format!("{key}={value}"));
    let sign = context.files().instance(Slot::C).podman();
    for name in names {
        let mut args = vec!["volume", "create"];
        args.extend(labels.iter().flat_map(|label| ["--label", label]));
        args.push(name);
        match podman.change(&id.to_string(), args, &sign, Deadline::after(CHANGE)) {
            // Another component that shares it was quicker.
            Err(e) if e.to_string().contains("already exists") => {}
            made => drop(made?),
        }
    }
    Ok(())
}

/// Removes one with its data. One that a container has, whoever's, is an error of podman's.
pub fn remove(podman: &Podman, name: &str, files: &InstancePaths) -> Result<()> {
    let object = format!("volume {name}");
    match podman.change(&object, ["volume", "rm", name], &files.podman(), Deadline::after(CHANGE)) {
        Err(e) if e.to_string().contains("no such volume") => Ok(()),
        removed => removed.map(drop),
    }
}
