//! Which instance counts: links in the component's folders.

use crate::sys::paths::{ComponentPaths, Slot};
use crate::sys::{Error, Result, file};
use std::path::{Path, PathBuf};

/// Points the component's links at the serving instance.
pub fn link_current(files: &ComponentPaths, slot: Slot) -> Result<()> {
    let link = |target: &Path, at: PathBuf| -> Result<()> {
        let mut temporary = at.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        file::remove_if_there(&temporary)?;
        std::os::unix::fs::symlink(target, &temporary).map_err(Error::path("link", &temporary))?;
        std::fs::rename(&temporary, &at).map_err(Error::path("rename", &temporary))
    };
    link(Path::new(slot.name()), files.current())?;
    match slot {
        Slot::A | Slot::B => link(Path::new("current/qmp.sock"), files.run.join("qmp.sock"))?,
        // A container has no monitor.
        Slot::C => file::remove_if_there(&files.run.join("qmp.sock"))?,
    }
    link(Path::new("current/state.json"), files.run.join("state.json"))?;
    link(&Path::new(slot.name()).join("console.log"), files.log.join("console.log"))
}
