//! One pass over definitions, records and run directories: what is there, and what lives. Starts no process.

use super::containers::Seen;
use crate::model::state::{End, State, is_alive};
use crate::model::{Component, ComponentId, Loaded, Placement, Record, Service, Wish, name};
use crate::sys::lock::{self, Holder};
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result, time};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

/// A file that may be missing or damaged.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<T> {
    /// It is not there.
    Nothing,
    /// It is there and whole.
    Whole(T),
    /// It is there and can't be used: why.
    Damaged(String),
}

impl<T> Found<T> {
    pub(super) fn from_read(read: Result<Option<T>>) -> Found<T> {
        match read {
            Ok(None) => Found::Nothing,
            Ok(Some(value)) => Found::Whole(value),
            Err(e) => Found::Damaged(e.to_string()),
        }
    }

    /// What it holds, if it is whole.
    pub fn get(&self) -> Option<&T> {
        match self {
            Found::Whole(value) => Some(value),
            _ => None,
        }
    }

    /// Why it can't be used, if so.
    pub fn damage(&self) -> Option<&str> {
        match self {
            Found::Damaged(why) => Some(why),
            _ => None,
        }
    }
}

/// What a definition says of one component.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// Its service.
    pub service: &'a Service,
    /// The component itself.
    pub component: &'a Component,
}

/// Everything known of one component.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its name; of one that is [`Entry::foreign`], no service and its name in podman.
    pub id: ComponentId,
    /// What the definitions say; `None`: it is in none.
    pub declared: Option<Declared<'a>>,
    /// Whether its service has a definition that can't be read: then nobody knows whether it is declared.
    pub broken: bool,
    /// What was last started.
    pub record: Found<Record>,
    /// The state of the serving instance, or of the last one.
    pub state: Found<State>,
    /// The slot that `state` is of.
    pub slot: Option<Slot>,
    /// Which slots' instances live, in the order of [`Slot::ALL`]; of a container a hint, until podman was asked.
    pub alive: [bool; 3],
    /// Whether a supervisor holds the component's lock.
    pub supervised: bool,
    /// Who signed that lock, where somebody holds it.
    pub supervisor: Option<Holder>,
    /// What podman says of its container, where it was asked and has one.
    pub container: Option<Seen>,
    /// Whether it is a container and podman could not be asked.
    pub unseen: bool,
    /// Whether it is a container that is no component.
    pub foreign: bool,
}

impl<'a> Entry<'a> {
    /// An entry with nothing but its name.
    pub fn new(id: ComponentId) -> Entry<'a> {
        Entry {
            id,
            declared: None,
            broken: false,
            record: Found::Nothing,
            state: Found::Nothing,
            slot: None,
            alive: [false; 3],
            supervised: false,
            supervisor: None,
            container: None,
            unseen: false,
            foreign: false,
        }
    }

    /// Its name, for people: a stranger's has no service.
    pub fn name(&self) -> String {
        if self.foreign { self.id.component.clone() } else { self.id.to_string() }
    }

    /// Whether a VM or a container of it lives.
    pub fn is_alive(&self) -> bool {
        self.alive.contains(&true)
    }

    /// Whether the instance in `slot` lives.
    pub fn lives_in(&self, slot: Slot) -> bool {
        Slot::ALL.iter().zip(self.alive).any(|(s, alive)| *s == slot && alive)
    }

    pub(super) fn set_lives_in(&mut self, slot: Slot, lives: bool) {
        for (s, alive) in Slot::ALL.iter().zip(&mut self.alive) {
            if *s == slot {
                *alive = lives;
            }
        }
    }

    /// Digest of what the living instance was started from, where that is known. A container's label tells more than
    /// its state, which may be lost.
    pub fn running(&self) -> Option<&str> {
        let of_state = || self.state.get().map(|s| s.spec.as_str());
        match &self.container {
            _ if !self.is_alive() => None,
            Some(seen) if self.lives_in(Slot::C) => seen.listed.record().or_else(of_state),
            _ => of_state(),
        }
    }

    /// Since when the living instance does.
    pub fn started(&self) -> Option<SystemTime> {
        let told = self.state.get().filter(|_| self.is_alive());
        match self.container.as_ref().filter(|_| self.lives_in(Slot::C)) {
            // A container that was restarted behind our back has another time than we wrote down.
            Some(seen) if told.is_none_or(|s| s.uuid != seen.listed.id) => seen.started(),
            _ => told.and_then(|s| time::parse(&s.started_at)),
        }
    }

    /// How it ended, if it did and has not been started again.
    pub fn end(&self) -> Option<&End> {
        let told = self.state.get().and_then(|s| s.end.as_ref());
        let by_podman = || self.container.as_ref().and_then(|seen| seen.end.as_ref());
        if self.is_alive() || self.unseen { None } else { told.or_else(by_podman) }
    }

    /// Whether it was started without a definition, and has none now.
    pub fn is_adhoc(&self) -> bool {
        self.declared.is_none() && self.record.get().is_some_and(|r| r.adhoc)
    }

    /// What the operator last wished; `None` when it was never started or the record is damaged.
    pub fn wish(&self) -> Option<Wish> {
        self.record.get().map(|r| r.wish)
    }

    /// Whether a cluster manager decides on which node it runs.
    pub fn is_clusters(&self) -> bool {
        self.declared.is_some_and(|d| d.service.placement == Placement::Cluster)
    }

    /// Whether it may run here, though it need not: the cluster may put it here at any time.
    pub fn may_come(&self) -> bool {
        self.is_clusters() && self.declared.is_some_and(|d| d.service.active) && !self.is_alive() && !self.supervised
    }

    /// Whether it shall run here: declared active or ad hoc, and not wished to stay stopped; what the cluster places, where it
    /// runs already. `None` when nobody can tell, since its definition or its record can't be read.
    pub fn wanted(&self) -> Option<bool> {
        match self.declared {
            _ if self.broken => None,
            Some(d) if !d.service.active => Some(false),
            _ if self.may_come() => Some(false),
            _ if self.record.damage().is_some() => None,
            Some(_) => Some(self.wish() != Some(Wish::Stop)),
            None => Some(self.is_adhoc() && self.wish() == Some(Wish::Run)),
        }
    }

    /// The specification that applies: the recorded one of what runs, else the declared one, else the recorded one.
    pub fn spec(&self) -> Option<&Component> {
        let recorded = self.record.get().and_then(Record::spec);
        let declared = self.declared.map(|d| d.component);
        if self.is_alive() { recorded.or(declared) } else { declared.or(recorded) }
    }

    /// What it runs, in a word: the image reference, or the name of the disk, kernel or directory.
    pub fn image(&self) -> Option<String> {
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        match self.spec() {
            Some(spec) => spec.source.name(),
            None => match &self.container {
                Some(seen) => Some(seen.listed.image.clone()).filter(|i| !i.is_empty()),
                None => self.state.get().and_then(|s| name(&s.image)),
            },
        }
    }
}

/// All components that are declared, recorded or have a run directory, in the order of their names.
///
/// Fails when one of the folders themselves can't be read; trouble with one component's files is told in its entry.
pub fn collect<'a>(paths: &Paths, loaded: &'a Loaded) -> Result<Vec<Entry<'a>>> {
    let mut entries: BTreeMap<ComponentId, Entry<'a>> = BTreeMap::new();
    for service in &loaded.services {
        for component in &service.components {
            let id = ComponentId { service: service.name.clone(), component: component.name.clone() };
            let entry = entries.entry(id.clone()).or_insert_with(|| Entry::new(id));
            entry.declared = Some(Declared { service, component });
        }
    }
    for id in ids_below(&paths.lib.join("registry"), ".json")? {
        let record = Found::from_read(Record::read(paths, &id));
        entries.entry(id.clone()).or_insert_with(|| Entry::new(id)).record = record;
    }
    for id in ids_below(&paths.run, "")? {
        look(paths, entries.entry(id.clone()).or_insert_with(|| Entry::new(id)));
    }
    let mut entries: Vec<Entry<'a>> = entries.into_values().collect();
    for entry in &mut entries {
        entry.broken = loaded.broken.binary_search(&entry.id.service).is_ok();
    }
    Ok(entries)
}

/// The same for one component, which need not be there.
pub fn one<'a>(paths: &Paths, loaded: &'a Loaded, id: &ComponentId) -> Entry<'a> {
    let mut entry = Entry::new(id.clone());
    let component = |s: &'a Service| s.components.iter().find(|c| c.name == id.component);
    entry.declared = loaded.service(&id.service).and_then(|s| Some(Declared { service: s, component: component(s)? }));
    entry.broken = loaded.broken.binary_search(&id.service).is_ok();
    entry.record = Found::from_read(Record::read(paths, id));
    look(paths, &mut entry);
    entry
}

/// Every component that anything is left of on this node, its logs and disks too.
pub fn leftovers(paths: &Paths) -> Result<BTreeSet<ComponentId>> {
    let mut all = BTreeSet::new();
    all.extend(ids_below(&paths.run, "")?);
    all.extend(ids_below(&paths.lib.join("registry"), ".json")?);
    all.extend(ids_below(&paths.lib.join("volumes"), "")?);
    all.extend(ids_below(&paths.lib.join("disks"), "")?);
    all.extend(ids_below(&paths.lib.join("microvm"), "")?);
    all.extend(ids_below(&paths.log, "")?);
    Ok(all)
}

/// Fills in what the run directory and the locks tell.
pub(super) fn look(paths: &Paths, entry: &mut Entry<'_>) {
    let component = paths.component(&entry.id.service, &entry.id.component);
    let mut damage = None;
    let mut note = |asked: Result<bool>| {
        asked.unwrap_or_else(|e| {
            damage.get_or_insert(e.to_string());
            false
        })
    };
    // The VMs first: a supervisor that takes one over between the two questions is then seen, and not its absence.
    entry.alive = Slot::ALL.map(|slot| note(is_alive(&component.instance(slot))));
    entry.supervised = note(lock::is_held(&component.lock()));
    if entry.supervised {
        entry.supervisor = lock::holder(&component.lock());
    }
    let current = component.current_slot();
    let lives = |slot: &Slot| entry.lives_in(*slot);
    entry.slot = current.filter(lives).or_else(|| Slot::ALL.into_iter().find(lives)).or(current);
    if let Some(slot) = entry.slot {
        entry.state = Found::from_read(State::read(&component.instance(slot)));
    }
    if entry.slot.is_none() {
        // Killed before `current` was made: whichever instance left something.
        for slot in Slot::ALL {
            entry.state = Found::from_read(State::read(&component.instance(slot)));
            if entry.state != Found::Nothing {
                entry.slot = Some(slot);
                break;
            }
        }
    }
    if let Some(why) = damage {
        entry.state = Found::Damaged(why);
    }
}

/// The components that have `DIR/SERVICE/COMPONENTsuffix`. Other names are none of ours, and passed over.
fn ids_below(dir: &Path, suffix: &str) -> Result<Vec<ComponentId>> {
    let mut ids = Vec::new();
    for service in names_in(dir)? {
        if !name::is_valid(&service) {
            continue;
        }
        for file in names_in(&dir.join(&service))? {
            if let Some(component) = file.strip_suffix(suffix).filter(|c| name::is_valid(c)) {
                ids.push(ComponentId { service: service.clone(), component: component.to_string() });
            }
        }
    }
    Ok(ids)
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(Error::path("read directory", dir)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::path("read directory", dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}
