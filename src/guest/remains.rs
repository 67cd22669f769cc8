//! What a VM and a supervisor that were killed leave behind. Each step may be cut short too: the next call does it.

use crate::console::last_lines;
use crate::guest::end::{Traces, conclude};
use crate::guest::instance::{LAST_BYTES, LAST_LINES, remove_lock, remove_sockets};
use crate::model::state::{Phase, State};
use crate::supervise::Context;
use crate::sys::lock::{self, Lock};
use crate::sys::paths::{ComponentPaths, InstancePaths, Slot};
use crate::sys::{Error, Result, file};
use std::fs;
use std::path::{Path, PathBuf};

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
    for path in half_written(&files) {
        file::remove_if_there(&path)?;
    }
    forget_askers(&files)?;
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
    // The record may be written by a stop that has no lock yet: by its own lock, then.
    let record = beside(&files.record);
    if record.exists() {
        remove_lock(&record);
    }
    // Users whose QEMU is gone. One that is taken meanwhile is held, and stays.
    for entry in fs::read_dir(context.paths.run.join(".uids")).into_iter().flatten().flatten() {
        if !lock::is_held(&entry.path())? {
            remove_lock(&entry.path());
        }
    }
    Ok(())
}

/// Removes what a killed `mcp-run --replace` asked for, and the answer to it. While an asker lives it holds the lock, and
/// nothing of its is touched.
fn forget_askers(files: &ComponentPaths) -> Result<()> {
    let (request, answer) = (files.replace_request(), files.replace_answer());
    let theirs = [beside(&request), beside(&answer), request, answer];
    let lock = files.replace_lock();
    if !lock.exists() && !theirs.iter().any(|path| path.exists()) {
        return Ok(());
    }
    let Some(turn) = Lock::try_take(&lock)? else { return Ok(()) };
    for path in theirs {
        file::remove_if_there(&path)?;
    }
    turn.remove()
}

/// Clears away what is left of one instance whose VM is gone, and writes down its end unless that was done.
pub(super) fn bury(paths: &InstancePaths, traces: &Traces) -> Result<()> {
    // A damaged state is told by whoever shows it; here it must not keep the rest from going.
    if let Ok(Some(mut state)) = State::read(paths)
        && !matches!(state.phase, Phase::Ended | Phase::Waiting)
    {
        let end = conclude(traces, last_lines(paths, state.console.as_ref(), LAST_LINES, LAST_BYTES));
        state.phase = Phase::Ended;
        state.events.push((end.at.clone(), end.reason.clone()));
        state.end = Some(end);
        state.write(paths)?;
    }
    file::remove_if_there(&beside(&paths.state()))?;
    remove_sockets(paths);
    match Lock::try_take(&paths.lock())? {
        Some(lock) => lock.remove(),
        None => Err(Error::busy(paths.lock().display(), "its VM is still there; try again")),
    }
}

/// Temporary files that stand beside what they were to become.
fn half_written(files: &ComponentPaths) -> [PathBuf; 4] {
    [
        beside(&files.current()),
        beside(&files.run.join("qmp.sock")),
        beside(&files.run.join("state.json")),
        beside(&files.log.join("console.log")),
    ]
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".tmp");
    name.into()
}
