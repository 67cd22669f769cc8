//! Containers whose supervisor died: taken over, or buried. What there is podman tells; the state is a hint.

use super::conmon::Conmon;
use super::end::{Known, conclude};
use super::inspect;
use super::instance::{DYING, Instance, LAST_BYTES, LAST_LINES, first_process, new_state, remove, settle};
use super::listing::{self, Listed};
use super::podman::{self, Podman, QUESTION};
use crate::console::last_lines;
use crate::console::rotate::Console;
use crate::model::ComponentId;
use crate::model::event::EventKind;
use crate::model::state::{End, Phase, Process, Rung, State};
use crate::supervise::{Context, link_current, remains};
use crate::sys::paths::{InstancePaths, Paths, Slot};
use crate::sys::{Deadline, Error, Result, file};
use std::time::Duration;

/// Takes over the container that has lost its supervisor, if there is one, and clears away what is left of others. The
/// caller holds the component's lock.
pub fn adopt_any(context: &Context<'_>) -> Result<Option<Instance>> {
    let paths = context.files().instance(Slot::C);
    remains::sweep(&context.files())?;
    sweep(&paths)?;
    let podman = Podman::find(context.node)?;
    podman.version(Deadline::after(QUESTION))?;
    let listed = listing::of_component(&podman, context.paths, context.id)?;
    let known = State::read(&paths).ok().flatten();
    let (mut running, over): (Vec<_>, Vec<_>) = listed.into_iter().partition(Listed::is_running);
    for one in over {
        bury(&podman, &paths, &one.id)?;
    }
    // There is one, by its name. Should there be more, the one that we know of serves.
    let of_state = |one: &Listed| known.as_ref().is_some_and(|state| state.uuid == one.id);
    running.sort_by_key(|one| (of_state(one), one.started_at));
    let serving = running.pop();
    for one in running {
        log::warn!("{}: a second container of it runs; removed: {}", context.id, one.id);
        remove(&podman, &one.id, &paths)?;
    }
    // One that podman knows nothing of any more.
    if let Some(state) = State::read(&paths).ok().flatten()
        && !matches!(state.phase, Phase::Ended | Phase::Waiting)
        && serving.as_ref().is_none_or(|one| one.id != state.uuid)
    {
        write_end(&paths, state, Known::Removed, None)?;
    }
    serving.map(|one| adopt(context, podman, paths, &one.id)).transpose()
}

/// Clears away what a supervisor that was killed left half done.
pub fn sweep(paths: &InstancePaths) -> Result<()> {
    podman::wait_for_last(&paths.podman())?;
    for path in [paths.env(), remains::beside(&paths.env()), remains::beside(&paths.state())] {
        file::remove_if_there(&path)?;
    }
    Ok(())
}

/// Removes the component's containers that are over; how many run. The caller holds the component's lock.
pub fn remove_over(podman: &Podman, paths: &Paths, id: &ComponentId, files: &InstancePaths) -> Result<usize> {
    sweep(files)?;
    let (running, over): (Vec<_>, Vec<_>) =
        listing::of_component(podman, paths, id)?.into_iter().partition(Listed::is_running);
    for one in over {
        remove(podman, &one.id, files)?;
    }
    Ok(running.len())
}

fn adopt(context: &Context<'_>, podman: Podman, paths: InstancePaths, id: &str) -> Result<Instance> {
    let about = inspect::container(&podman, id)?;
    let about = about.ok_or_else(|| Error::busy(context.id, "its container was just removed; try again"))?;
    file::create_dirs(&paths.run)?;
    let state = State::read(&paths).ok().flatten().filter(|s| s.uuid == about.id);
    let mut state = state.unwrap_or_else(|| {
        let mut state = new_state(context, &about);
        state.started_at = about.state.started_at.clone();
        state.spec = String::new();
        state.add_event(EventKind::Rebuilt);
        state
    });
    state.supervisor = std::process::id() as i32;
    state.end = None;
    if !matches!(state.phase, Phase::Starting | Phase::Ready) {
        state.phase = if state.ready_at.is_some() { Phase::Ready } else { Phase::Starting };
    }
    let console = Console::open(&paths, &context.node.log, context.copy_console)?;
    let mut instance = Instance::of(podman, &about, paths, state, console)?;
    instance.is_adopted = true;
    // A supervisor killed in the middle of a rotation may have left conmon with the old file.
    if let Err(e) = instance.console.reattach(&mut instance.conmon) {
        log::warn!("{e}");
    }
    instance.note(EventKind::Adopted);
    link_current(&context.files(), instance.paths.slot)?;
    Ok(instance)
}

/// Writes down how a container that nobody supervised ended, unless that was done, and removes it.
fn bury(podman: &Podman, paths: &InstancePaths, id: &str) -> Result<()> {
    if let Some(state) = State::read(paths).ok().flatten()
        && state.uuid == id
        && !matches!(state.phase, Phase::Ended | Phase::Waiting)
    {
        let conmon = state.container.as_ref().map_or(Process { pid: 0, start_time: 0 }, |c| c.conmon);
        let known = settle(podman, id, &Conmon::open(conmon, paths.run.join("ctl")), Duration::ZERO);
        write_end(paths, state, known, None)?;
    }
    remove(podman, id, paths)
}

fn write_end(paths: &InstancePaths, mut state: State, known: Known, stopped: Option<(Rung, bool)>) -> Result<End> {
    let end = conclude(known, stopped, last_lines(paths, state.console.as_ref(), LAST_LINES, LAST_BYTES));
    state.phase = Phase::Ended;
    state.add_event(EventKind::Ended { reason: end.reason.clone() });
    state.end = Some(end.clone());
    state.write(paths)?;
    Ok(end)
}

/// Stops the container that the state tells of, with no help of podman's, which is gone or hangs: by its first process.
/// `None`: there is none. What podman has of it stays until a start finds it. The caller holds the component's lock.
pub fn stop_by_state(context: &Context<'_>) -> Result<Option<End>> {
    let paths = context.files().instance(Slot::C);
    let Some(state) = State::read(&paths)? else { return Ok(None) };
    let Some(container) = state.container.clone() else { return Ok(None) };
    let conmon = Conmon::open(container.conmon, container.control);
    if conmon.has_ended() {
        return Ok(None);
    }
    let Some(first) = first_process(state.pid, container.conmon) else {
        return Err(Error::busy(context.id, "its first process can't be found"));
    };
    let rungs = [(libc::SIGTERM, context.component.stop_timeout, Rung::Term), (libc::SIGKILL, DYING, Rung::Kill)];
    for (signal, patience, rung) in rungs {
        first.signal(signal)?;
        if conmon.wait(Deadline::after(patience))? {
            return write_end(&paths, state, Known::Nothing, Some((rung, true))).map(Some);
        }
    }
    Err(Error::busy(context.id, "can't be killed"))
}
