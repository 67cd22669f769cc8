//! What a VM and a supervisor that were killed leave behind. Each step may be cut short too: the next call does it.

use crate::console::last_lines;
use crate::guest::end::{Traces, conclude};
use crate::guest::instance::{LAST_BYTES, LAST_LINES, remove_lock, remove_sockets};
use crate::model::event::EventKind;
use crate::model::state::{Phase, State};
use crate::supervise::{Context, remains};
use crate::sys::lock::{self, Lock};
use crate::sys::paths::{InstancePaths, Slot};
use crate::sys::{Error, Result, file};
use std::fs;

/// Clears away what is left of instances whose VM is gone: writes down that they ended, removes their sockets, locks
/// and half-written files. VMs that live are not touched. The caller holds the component's lock.
pub fn sweep(context: &Context<'_>) -> Result<()> {
    let files = context.files();
    for slot in Slot::VMS {
        let paths = files.instance(slot);
        if paths.run.is_dir() && !lock::is_held(&paths.lock())? {
            bury(&paths, &Traces::default())?;
        }
    }
    remains::sweep(&files)?;
    // Disks that were being made: nobody makes any for this component but whoever holds its lock.
    let roots = context.paths.lib.join("microvm").join(&context.id.service).join(&context.id.component);
    for folder in [roots, files.volumes.clone(), files.disks.clone()] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(b".") && name.ends_with(b".tmp") {
                file::remove_if_there(&entry.path())?;
            }
        }
    }
    // Users whose QEMU is gone. One that is taken meanwhile is held, and stays.
    for entry in fs::read_dir(context.paths.run.join(".uids")).into_iter().flatten().flatten() {
        if !lock::is_held(&entry.path())? {
            remove_lock(&entry.path());
        }
    }
    Ok(())
}

/// Clears away what is left of one instance whose VM is gone, and writes down its end unless that was done.
pub(super) fn bury(paths: &InstancePaths, traces: &Traces) -> Result<()> {
    // A damaged state is told by whoever shows it; here it must not keep the rest from going.
    if let Ok(Some(mut state)) = State::read(paths)
        && !matches!(state.phase, Phase::Ended | Phase::Waiting)
    {
        let end = conclude(traces, last_lines(paths, state.console.as_ref(), LAST_LINES, LAST_BYTES));
        state.phase = Phase::Ended;
        state.add_event(EventKind::Ended { reason: end.reason.clone() });
        state.end = Some(end);
        state.write(paths)?;
    }
    file::remove_if_there(&remains::beside(&paths.state()))?;
    remove_sockets(paths);
    match Lock::try_take(&paths.lock())? {
        Some(lock) => lock.remove(),
        None => Err(Error::busy(paths.lock().display(), "its VM is still there; try again")),
    }
}
