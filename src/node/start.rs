//! What a start takes: the version on trial, the recorded one, or what the definition says; and what becomes of a trial.

use super::resolve::Resolved;
use crate::container::{Podman, volume};
use crate::model::state::{self, State};
use crate::model::{Component, ComponentId, FileSystem, Node, Record, Runtime, Source, Version, size};
use crate::supervise::Context;
use crate::sys::disk::SECTOR;
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result, time};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is started.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The version.
    pub version: Version,
    /// Whether a deploy has it on trial.
    pub trial: bool,
}

/// What a start of `found` takes. `recover`: the record counts, not the definition. An image that was never deployed is
/// an error.
pub fn choose(paths: &Paths, found: &Resolved, recover: bool) -> Result<Start> {
    let start = pick(paths, found, recover)?;
    let id = &found.id;
    let is_image = matches!(found.component.source, Source::Image { .. });
    // What runs is not started.
    if running(paths, id)?.is_some() {
        return Ok(start);
    }
    if start.trial {
        log::info!("{id}: starts what a deploy has on trial");
    } else if is_image && !found.adhoc && start.version.spec != found.component {
        log::warn!("{id}: starts as it was deployed; its definition says otherwise: mcp deploy {id} applies it");
    }
    Ok(start)
}

/// The same, with nothing said about it.
pub fn pick(paths: &Paths, found: &Resolved, recover: bool) -> Result<Start> {
    let id = &found.id;
    let record = Record::read(paths, id)?.unwrap_or_default();
    // What runs goes on as what it was started from.
    if let Some(running) = running(paths, id)?
        && let Some(version) = record.versions().find(|v| v.digest() == running.spec)
    {
        let on_trial = record.candidate.as_ref().is_some_and(|c| c.runs_as(version));
        return Ok(Start { version: version.clone(), trial: on_trial && running.ready_at.is_none() });
    }
    if let Some(version) = record.candidate {
        return Ok(Start { version, trial: true });
    }
    let version = match (&found.component.source, record.current) {
        (Source::Image { .. }, None) => return Err(never_deployed(id)),
        (Source::Image { .. }, Some(current)) => current,
        (_, Some(current)) if recover => current,
        // Named on the command line, or nothing has changed: with the time at which it was recorded.
        (_, Some(current)) if current.spec == found.component => current,
        _ => of_definition(&found.component),
    };
    Ok(Start { version, trial: false })
}

/// What a replace of `found` starts: the version on trial, else what the definition says, else what was deployed.
pub fn choose_next(paths: &Paths, found: &Resolved) -> Result<Version> {
    let record = Record::read(paths, &found.id)?.unwrap_or_default();
    if let Some(candidate) = record.candidate {
        return Ok(candidate);
    }
    let local = !matches!(found.component.source, Source::Image { .. });
    match record.current {
        Some(current) if !local || found.adhoc || current.spec == found.component => Ok(current),
        None if !local => Err(never_deployed(&found.id)),
        _ => Ok(of_definition(&found.component)),
    }
}

/// As [`choose_next`]; what is neither on trial nor current is on trial from now on.
pub fn next(paths: &Paths, found: &Resolved) -> Result<Version> {
    let version = choose_next(paths, found)?;
    Record::update(paths, &found.id, |old| {
        let mut record = old.unwrap_or_default();
        if !record.current.as_ref().is_some_and(|c| c.runs_as(&version)) {
            record.candidate = Some(version.clone());
        }
        Some(record)
    })?;
    Ok(version)
}

fn never_deployed(id: &ComponentId) -> Error {
    Error::refused(id, format!("never deployed: mcp deploy {id}"))
}

fn of_definition(component: &Component) -> Version {
    Version { spec: component.clone(), pin: None, at: time::now() }
}

/// The state of what lives, the serving one of two VMs.
fn running(paths: &Paths, id: &ComponentId) -> Result<Option<State>> {
    let files = paths.component(&id.service, &id.component);
    let slots = files.current_slot().into_iter().chain(Slot::ALL);
    for instance in slots.map(|slot| files.instance(slot)) {
        if state::is_alive(&instance)? {
            return Ok(State::read(&instance).ok().flatten());
        }
    }
    Ok(None)
}

/// Writes down that `version` is about to start, unless it is what a deploy has on trial; and the file systems of its
/// volumes, which [`check_volumes`] has passed.
pub fn note_start(context: &Context<'_>, version: &Version, adhoc: bool) -> Result<()> {
    Record::update(context.paths, context.id, |old| {
        // A stop may have come since we began: its wish stays.
        let mut record = Record { adhoc, ..old.unwrap_or_default() };
        let known = [&record.candidate, &record.current];
        if !known.into_iter().flatten().any(|v| v.runs_as(version)) {
            record.promote(version.clone());
        }
        // A container's are podman's, or folders of the node.
        for volume in context.component.volumes.iter().filter(|_| context.component.is_vm()) {
            record.volumes.entry(volume.name.clone()).or_insert_with(|| file_system_of(context.component));
        }
        Some(record)
    })
}

/// It became ready: a version on trial is the current one from now on.
pub fn note_ready(context: &Context<'_>) {
    let told = Record::update(context.paths, context.id, |old| {
        let mut record = old?;
        let pin = context.pin.cloned();
        match record.candidate.take_if(|c| c.spec == *context.component && c.pin == pin) {
            Some(candidate) => record.promote(candidate),
            // A deploy has put another version on trial, or dropped this one: it is the only one that is known to work.
            None if record.current.is_none() => {
                record.current = Some(Version { spec: context.component.clone(), pin, at: time::now() });
            }
            None => return None,
        }
        Some(record)
    });
    if let Err(e) = told {
        log::warn!("{e}");
    }
}

/// It was no good: it is on trial no more.
pub fn note_failed(paths: &Paths, id: &ComponentId, version: &Version) {
    let told = Record::update(paths, id, |old| {
        let mut record = old?;
        record.candidate.take_if(|c| c.runs_as(version))?;
        Some(record)
    });
    if let Err(e) = told {
        log::warn!("{e}");
    }
}

fn file_system_of(component: &Component) -> FileSystem {
    if component.runtime == Runtime::Microvm { FileSystem::Ext4 } else { FileSystem::Tfs }
}

/// Refuses a volume that has the file system of another runtime, is a VM's disk where a container would find an empty
/// volume of podman's, or a volume of podman's where a VM would find an empty disk.
pub fn check_volumes(paths: &Paths, node: &Node, id: &ComponentId, spec: &Component) -> Result<()> {
    let wanted = file_system_of(spec);
    let volumes = paths.component(&id.service, &id.component).volumes;
    if !spec.is_vm() {
        let mut disks = spec.podman_volumes().map(|name| volumes.join(format!("{name}.raw")));
        return match disks.find(|disk| disk.is_file()) {
            Some(disk) => Err(Error::refused(
                disk.display(),
                format!(
                    "is a VM's disk, which a container can't use: go back to the runtime before, name another volume, or \
                     give the data up with mcp-rm --volumes {id}"
                ),
            )),
            None => Ok(()),
        };
    }
    let mut new = Vec::new();
    for volume in &spec.volumes {
        let disk = volumes.join(format!("{}.raw", volume.name));
        let Some(found) = file_system_on(&disk) else {
            new.push(volume.name.as_str());
            continue;
        };
        if found != wanted {
            return Err(Error::refused(
                disk.display(),
                format!(
                    "has {}, and runtime = \"{}\" wants {}: go back to the runtime before, name another volume, or give \
                     the data up with mcp-rm --volumes {id}",
                    found.name(),
                    if wanted == FileSystem::Ext4 { "microvm" } else { "unikernel" },
                    wanted.name()
                ),
            ));
        }
    }
    check_podmans(paths, node, id, &new)
}

/// Refuses a volume whose disk can't become as large as it shall be: none can shrink, and a unikernel's can't grow either.
pub fn check_sizes(paths: &Paths, id: &ComponentId, spec: &Component) -> Result<()> {
    let files = paths.component(&id.service, &id.component);
    for volume in spec.volumes.iter().filter(|_| spec.is_vm()) {
        let disk = std::fs::metadata(files.volumes.join(format!("{}.raw", volume.name)));
        let (Some(wanted), Ok(has)) = (volume.size, disk.map(|about| about.len())) else { continue };
        let (name, has_text, wanted_text) = (&volume.name, size::format(has), size::format(wanted));
        let why = match spec.runtime {
            Runtime::Microvm if has <= wanted => continue,
            Runtime::Microvm => "can't shrink",
            _ if has == wanted.next_multiple_of(SECTOR) => continue,
            _ => "is a unikernel's, which can't change its size",
        };
        let why =
            format!("volume {name}: has {has_text}, and {why} to {wanted_text}; leave its size, or take another name");
        return Err(Error::refused(id, why));
    }
    Ok(())
}

/// Refuses a disk of these names, which are not there yet, where podman keeps a volume of the name for the component.
/// Podman is asked only about one that its record has as a container.
fn check_podmans(paths: &Paths, node: &Node, id: &ComponentId, names: &[&str]) -> Result<()> {
    let record = if names.is_empty() { None } else { Record::read(paths, id)? };
    let specs: Vec<&Component> = record.iter().flat_map(Record::versions).map(|version| &version.spec).collect();
    if specs.iter().all(|spec| spec.is_vm()) {
        return Ok(());
    }
    let podman = match Podman::find(node) {
        Ok(podman) => podman,
        // It is out of the container's reach too.
        Err(e) => {
            log::warn!("{id}: whether podman has a volume of it is not known: {e}");
            return Ok(());
        }
    };
    let was_named = |name: &str| specs.iter().any(|spec| spec.podman_volumes().any(|of| of == name));
    for volume in volume::list(&podman)?.iter().filter(|volume| names.contains(&volume.name.as_str())) {
        let (name, owner) = (&volume.name, volume.of(paths));
        if owner.as_ref() != Some(id) && !was_named(name) {
            continue;
        }
        let way = match owner {
            Some(owner) if owner == *id => Some(format!("mcp-rm --volumes {id}")),
            None if !volume.is_some_mcps() => Some(format!("podman volume rm {name}")),
            // Others have data in it.
            _ => None,
        };
        let way = match way {
            Some(way) => format!("go back to the runtime before, name another volume, or give the data up with {way}"),
            None => "go back to the runtime before, or name another volume".into(),
        };
        return Err(Error::refused(
            format!("{id}: volume {name}"),
            format!("is podman's, which a VM can't use: {way}"),
        ));
    }
    Ok(())
}

/// What the disk says of itself: ext4's magic number is at byte 1080. `None`: there is no such disk.
fn file_system_on(disk: &Path) -> Option<FileSystem> {
    let mut magic = [0; 2];
    let file = std::fs::File::open(disk).ok()?;
    file.read_exact_at(&mut magic, 1080).ok()?;
    Some(if magic == [0x53, 0xef] { FileSystem::Ext4 } else { FileSystem::Tfs })
}
