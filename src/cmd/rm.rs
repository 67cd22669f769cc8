//! `mcp-rm`: remove what a stopped component left.

use super::Common;
use crate::container::podman::Podman;
use crate::container::{adopt, volume};
use crate::model::state::is_alive;
use crate::model::{ComponentId, Record, Target, load};
use crate::node::containers::Question;
use crate::node::volumes::{Data, Kept, Users};
use crate::node::{container_image, inventory, resolve};
use crate::sys::file::{self, remove_tree};
use crate::sys::lock::{self, Lock};
use crate::sys::paths::{ComponentPaths, Paths, Slot};
use crate::sys::{Error, Result, out};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

const AFTER_HELP: &str = "\
Examples:
  mcp-rm demo                 remove what demo left, but its volumes
  mcp-rm --volumes demo/db    its volumes too: the data is gone

Exit codes: 0 nothing of it is left, 1 nothing of it was there or a file is bad, 2 usage, 100 it runs, 111 try again.";

/// Remove what a stopped component left: state, record, logs, private root disk
#[derive(Debug, clap::Parser)]
#[command(name = "mcp-rm", version, after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// What to remove: SERVICE or SERVICE/COMPONENT
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    targets: Vec<String>,
    /// Remove what every component left
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// Remove named volumes too: the data on them is gone
    #[arg(long)]
    volumes: bool,
}

/// Runs the program and returns its exit code.
pub fn run(args: Args) -> Result<u8> {
    let targets: Vec<Target> = args.targets.iter().map(|t| Target::parse(t)).collect::<Result<_>>()?;
    let paths = Paths::find(args.common.root.as_deref())?;
    let question = Question::begin(&paths, true);
    let mut left = inventory::leftovers(&paths)?;
    let mut errors = Vec::new();
    // A container whose files are lost is known by its labels alone.
    let listed: BTreeSet<ComponentId> = match question.ours() {
        Ok(listed) => listed.into_keys().collect(),
        Err(e) => {
            // With names, those that have files of a container ask again, and say what it says.
            errors.extend(args.all.then_some(e));
            BTreeSet::new()
        }
    };
    left.extend(listed.iter().cloned());
    let loaded = load::load(&paths);
    let declared: Vec<ComponentId> = loaded.components().map(|(id, ..)| id).collect();
    let users = Users::of(&paths, &loaded)?;
    let is_known = |target: &Target| left.iter().chain(&declared).any(|id| target.matches(id));
    let is_wanted = |id: &&ComponentId| args.all || targets.iter().any(|t| t.matches(id));
    let has_data = left.iter().chain(&declared).filter(is_wanted).any(|id| users.has(id) || listed.contains(id));
    let mut data = BTreeMap::new();
    // Volumes may be all that is left, and then podman alone knows whose they are.
    if has_data || args.all || !targets.iter().all(is_known) {
        match Podman::find(&loaded.node).and_then(|podman| users.ask(&paths, &podman)) {
            Ok(found) => data = found,
            Err(e) if has_data && args.volumes => errors.push(e),
            Err(e) if has_data => log::warn!("what podman has of volumes stays: {e}"),
            Err(e) => log::debug!("{e}"),
        }
    }
    left.extend(data.iter().filter(|(_, data)| !data.own.is_empty()).map(|(id, _)| id.clone()));
    let mut chosen: BTreeSet<ComponentId> = match args.all {
        true => left.clone(),
        false => left.iter().filter(|id| targets.iter().any(|t| t.matches(id))).cloned().collect(),
    };
    if !targets.is_empty() {
        // A bad definition elsewhere is no reason to keep anything: what is left tells what there is.
        for target in &targets {
            let named: Vec<_> = declared.iter().filter(|id| target.matches(id)).cloned().collect();
            if named.is_empty() && !chosen.iter().any(|id| target.matches(id)) {
                errors.push(Error::no(target, "no such component: neither declared nor anything left of it"));
            }
            chosen.extend(named);
        }
    }
    for id in chosen {
        let data = data.remove(&id).unwrap_or_default();
        match remove(&paths, &id, &Podmans { container: listed.contains(&id), data }, args.volumes) {
            Ok(removed) => out::print(format_args!("{id} {}\n", if removed { "removed" } else { "nothing" })),
            Err(e) => errors.push(e),
        }
    }
    let bad = super::report_files(&loaded, &paths, &targets);
    Ok(super::worse(super::report_all(&errors), bad))
}

/// What podman has of a component.
struct Podmans {
    /// Whether there is a container of it.
    container: bool,
    /// Its volumes.
    data: Data,
}

/// Removes what is left of `id`; false when nothing was. Killed half way, the next call finishes it: the record and the run
/// directory, by which the component is known, go last.
fn remove(paths: &Paths, id: &ComponentId, podmans: &Podmans, volumes: bool) -> Result<bool> {
    let files = paths.component(&id.service, &id.component);
    let there = |path: &Path| fs::symlink_metadata(path).is_ok();
    let own = &podmans.data.own;
    let data = there(&files.volumes) || !own.is_empty();
    let say_kept = || match volumes {
        true => {
            say_not_own(id, &podmans.data.kept);
            Ok(())
        }
        false => say_kept(id, &files, own),
    };
    let goes = [&files.run, &files.log, &files.record, &files.disks, &files.roots].into_iter().any(|p| there(p));
    if !(goes || podmans.container || volumes && data) {
        say_kept()?;
        return Ok(false);
    }
    let lock = take_lock(id, &files)?;
    remove_containers(paths, id, &files, podmans.container)?;
    // All steps are tried, and the first trouble is told: what can go is gone then.
    let mut steps = vec![remove_tree(&files.log), remove_tree(&files.disks), remove_tree(&files.roots)];
    if volumes {
        steps.push(remove_tree(&files.volumes));
        steps.extend(own.iter().map(|name| remove_volume(paths, name, &files)));
    }
    for slot in Slot::ALL {
        steps.push(remove_tree(&files.instance(slot).run));
    }
    steps.into_iter().collect::<Result<Vec<()>>>()?;
    release(paths, id);
    // What a start that was killed while it wrote left behind goes with it.
    file::remove_if_there(&files.record.with_extension("json.tmp"))?;
    file::remove_if_there(&files.record)?;
    empty_run(&files.run, &files.lock())?;
    lock.remove()?;
    // A start that was waiting for the lock may have made its own in there: then the directory stays, and is its.
    remove_if_empty(&files.run)?;
    for path in [&files.run, &files.log, &files.record, &files.disks, &files.roots, &files.volumes] {
        if let Some(service) = path.parent() {
            remove_if_empty(service)?;
        }
    }
    say_kept()?;
    Ok(true)
}

fn remove_volume(paths: &Paths, name: &str, files: &ComponentPaths) -> Result<()> {
    let podman = Podman::find(&resolve::node(paths)?)?;
    volume::remove(&podman, name, &files.instance(Slot::C))
}

/// Removes containers that are over and that a supervisor which was killed has left. One that runs is refused.
fn remove_containers(paths: &Paths, id: &ComponentId, files: &ComponentPaths, listed: bool) -> Result<()> {
    let instance = files.instance(Slot::C);
    if !listed && !instance.run.is_dir() {
        return Ok(());
    }
    let podman = match resolve::node(paths).and_then(|node| Podman::find(&node)) {
        Ok(podman) => podman,
        // Whatever podman has of it, a start will find by its labels.
        Err(e) => {
            log::warn!("{id}: what podman has of it stays: {e}");
            return Ok(());
        }
    };
    match adopt::remove_over(&podman, paths, id, &instance)? {
        0 => Ok(()),
        _ => Err(Error::refused(id, format!("its container runs, without a supervisor; mcp-stop {id} first"))),
    }
}

/// Takes our names from images of podman's, where the component was a container at any time that its record knows. No
/// trouble of podman's keeps anything else from being removed.
fn release(paths: &Paths, id: &ComponentId) {
    let record = Record::read(paths, id).ok().flatten().unwrap_or_default();
    if record.versions().all(|version| version.spec.is_vm()) {
        return;
    }
    let released = resolve::node(paths).and_then(|node| {
        let podman = Podman::find(&node)?;
        container_image::release(paths, &podman, id, &[])
    });
    if let Err(e) = released {
        log::warn!("{id}: names of its images stay in podman's storage: {e}");
    }
}

/// Takes the component's lock, so that nothing starts it meanwhile, and makes sure that no instance of it lives.
fn take_lock(id: &ComponentId, files: &ComponentPaths) -> Result<Lock> {
    file::create_dirs(&files.run)?;
    let Some(mut lock) = Lock::try_take(&files.lock())? else {
        let who = match lock::holder(&files.lock()) {
            Some(holder) => format!("{}, process {}, has its lock", holder.program, holder.pid),
            None => "its lock is held".into(),
        };
        return Err(Error::refused(id, format!("it runs ({who}); mcp-stop {id} first")));
    };
    for slot in Slot::ALL {
        if is_alive(&files.instance(slot))? {
            let what = if slot == Slot::C { "container" } else { "VM" };
            return Err(Error::refused(id, format!("its {what} runs, without a supervisor; mcp-stop {id} first")));
        }
    }
    lock.sign(super::program())?;
    Ok(lock)
}

/// Removes all in `run` but the lock.
fn empty_run(run: &Path, lock: &Path) -> Result<()> {
    for entry in fs::read_dir(run).map_err(Error::path("read directory", run))? {
        let path = entry.map_err(Error::path("read directory", run))?.path();
        if path != lock {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

fn remove_if_empty(dir: &Path) -> Result<()> {
    match fs::remove_dir(dir) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(Error::path("remove directory", dir)(e))
        }
        _ => Ok(()),
    }
}

/// A volume is data, not state: where it is kept, and how to be rid of it. `own`: those that podman keeps.
fn say_kept(id: &ComponentId, files: &ComponentPaths, own: &[String]) -> Result<()> {
    let disks = disks(&files.volumes)?;
    let kept = [(files.volumes.display().to_string(), disks.as_slice()), ("podman".into(), own)];
    for (place, names) in kept.into_iter().filter(|(_, names)| !names.is_empty()) {
        let reason = format!("kept its volumes in {place}: {}; mcp-rm --volumes {id} removes them", names.join(", "));
        super::report(super::program(), &Error::no(id, reason));
    }
    Ok(())
}

/// The volumes that are not its own alone, and why they stay.
fn say_not_own(id: &ComponentId, kept: &[Kept]) {
    for Kept { name, why } in kept {
        super::report(super::program(), &Error::no(id, format!("kept podman's volume {name}: {why}")));
    }
}

/// Names of the disks in `dir`, which goes where it has none.
fn disks(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::path("read directory", dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::path("read directory", dir))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    if names.is_empty() {
        remove_if_empty(dir)?;
    }
    Ok(names)
}
