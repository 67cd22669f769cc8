//! Tells when definitions change on disk.

use crate::sys::paths::Paths;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::path::PathBuf;

/// Watches the folder of definitions and, of the `services` whose files are links, the folders they lead to. `None`: the
/// kernel allows no more watches.
pub fn watch<'a>(paths: &Paths, services: impl Iterator<Item = &'a str>) -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
    let inotify = inotify.map_err(|e| log::debug!("inotify: {}", e.desc())).ok()?;
    // Written, moved here, linked, made readable, or removed.
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE;
    let target = |name: &str| paths.services.join(format!("{name}.toml")).canonicalize().ok();
    let mut folders: Vec<PathBuf> = services.filter_map(|name| Some(target(name)?.parent()?.to_path_buf())).collect();
    folders.push(paths.services.clone());
    let watched = folders.iter().filter(|folder| inotify.add_watch(folder.as_path(), flags).is_ok()).count();
    (watched > 0).then_some(inotify)
}

/// Whether anything has changed since the last call.
pub fn has_changed(inotify: &Inotify) -> bool {
    let mut changed = false;
    while inotify.read_events().is_ok_and(|events| !events.is_empty()) {
        changed = true;
    }
    changed
}
