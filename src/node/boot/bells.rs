//! Tells a stage which of its members something has happened to: files that came or went in their run directories. One
//! inotify for all, since a user has 128 and each supervisor needs one.

use crate::model::ComponentId;
use crate::sys::paths::{Paths, Slot};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// The directories of a stage's members, watched.
pub struct Bells {
    inotify: Inotify,
    /// Of each member, in the order of the stage.
    directories: Vec<Vec<PathBuf>>,
    /// Whose bell a watch rings.
    members: BTreeMap<WatchDescriptor, BTreeSet<usize>>,
}

impl Bells {
    /// Watches the members of these names. `None`: it can't be, and members look for themselves, less often.
    pub fn new<'a>(paths: &Paths, members: impl Iterator<Item = &'a ComponentId>) -> Option<Bells> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let inotify = inotify.map_err(|e| log::debug!("inotify: {}", e.desc())).ok()?;
        let of = |id: &ComponentId| {
            let files = paths.component(&id.service, &id.component);
            std::iter::once(files.run.clone()).chain(Slot::ALL.map(|slot| files.instance(slot).run)).collect()
        };
        let mut bells = Bells { inotify, directories: members.map(of).collect(), members: BTreeMap::new() };
        for member in 0..bells.directories.len() {
            bells.watch(member);
        }
        Some(bells)
    }

    /// Those to whom something has happened since the last call.
    pub fn rung(&mut self) -> BTreeSet<usize> {
        let mut rung = BTreeSet::new();
        while let Ok(events) = self.inotify.read_events()
            && !events.is_empty()
        {
            for event in events {
                match self.members.get(&event.wd) {
                    Some(members) => rung.extend(members),
                    // The kernel had no room for all: anything may have happened.
                    None if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) => {
                        rung.extend(0..self.directories.len());
                    }
                    None => {}
                }
            }
        }
        for member in &rung {
            self.watch(*member);
        }
        rung
    }

    /// Watches the directories of `member`; of one that is not there yet, the nearest parent that is.
    fn watch(&mut self, member: usize) {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        for directory in self.directories.get(member).into_iter().flatten() {
            let ancestors: Vec<&Path> = directory.ancestors().collect();
            loop {
                let watched = |(i, dir): (usize, &&Path)| Some((i, self.inotify.add_watch(*dir, flags).ok()?));
                let Some((above, watch)) = ancestors.iter().enumerate().find_map(watched) else { break };
                self.members.entry(watch).or_default().insert(member);
                // One that has appeared since it was looked for would ring no bell.
                let next = above.checked_sub(1).and_then(|i| ancestors.get(i));
                if !next.is_some_and(|dir| dir.is_dir()) {
                    break;
                }
            }
        }
    }
}

impl AsFd for Bells {
    /// Readable when a bell has rung.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_rings_for_what_happens_to_it() {
        let root = std::env::temp_dir().join(format!("mcp-bells-{}", std::process::id()));
        std::fs::create_dir_all(root.join("run")).unwrap();
        let paths = Paths::under(&root);
        let id = |name: &str| ComponentId { service: name.into(), component: "x".into() };
        let ids = [id("a"), id("b"), id("c")];
        let mut bells = Bells::new(&paths, ids.iter()).unwrap();
        assert!(bells.rung().is_empty());
        // Nothing of any is there: the folder above is everybody's.
        std::fs::create_dir_all(root.join("run/a/x/a")).unwrap();
        assert_eq!(bells.rung().len(), 3);
        bells.rung();
        std::fs::write(root.join("run/a/x/a/state.json"), "").unwrap();
        assert_eq!(bells.rung(), BTreeSet::from([0]));
        std::fs::remove_dir_all(root).unwrap();
    }
}
