//! Stopping a component, whether its supervisor lives or not.

use super::resolve::Resolved;
use crate::container::{self, Podman};
use crate::guest::instance::Instance;
use crate::guest::remains;
use crate::guest::supervise::{self, Hooks};
use crate::model::state::{self, End, Phase, Rung, State};
use crate::model::{ComponentId, Node, Record, Wish};
use crate::supervise::{Context, Mode, Outcome};
use crate::sys::lock::{self, Lock};
use crate::sys::notify::Notify;
use crate::sys::paths::{ComponentPaths, InstancePaths, Paths, Slot};
use crate::sys::pidfd::PidFd;
use crate::sys::signals::Signals;
use crate::sys::{Deadline, Error, Result, time};
use std::time::Duration;

/// What the ladder takes after `stop_timeout`, and some time for a busy node.
const AFTER_STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a supervisor that was killed, or one that just began, may keep the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How many are stopped at the same time. A stop is nearly all waiting, and has a handful of descriptors open: 1024 are
/// what a process has as a rule.
pub const AT_ONCE: usize = 128;

/// How a stop went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It ran, and ended so.
    Ended(Box<End>),
    /// It did not run, but its supervisor was about to start it again.
    Waiting,
}

/// Changes the wish in the component's record, where there is one.
pub fn set_wish(paths: &Paths, id: &ComponentId, wish: Wish) -> Result<()> {
    match Record::read(paths, id)? {
        Some(record) if record.wish != wish => {
            Record::update(paths, id, |old| old.map(|record| Record { wish, ..record }))
        }
        _ => Ok(()),
    }
}

/// How a component is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// Its wish stays what it is: the node goes down, and the component comes up with it again.
    pub for_now: bool,
    /// So long it has, where its own stop_timeout is longer.
    pub within: Option<Duration>,
    /// Podman says that a container of it runs, whatever is left of our own files.
    pub listed: bool,
}

/// Stops a component and, unless it is for now, records that it shall stay so. One that does not run is [`Error::No`].
pub fn stop(paths: &Paths, node: &Node, what: &Resolved, manner: Manner, signals: &Signals) -> Result<Stopped> {
    // A record that can't be read must not keep anybody from stopping what it is about.
    let note = || {
        if !manner.for_now
            && let Err(e) = set_wish(paths, &what.id, Wish::Stop)
        {
            log::warn!("{e}");
        }
    };
    note();
    let context = Context { paths, id: &what.id, component: &what.component, pin: None, node, copy_console: false };
    let files = context.files();
    if !files.run.is_dir() && !manner.listed {
        return Err(Error::no(&what.id, "not running"));
    }
    let idle = last_state(&files).is_none_or(|s| matches!(s.phase, Phase::Ended | Phase::Waiting));
    let all_of_it = what.component.stop_timeout + AFTER_STOP_TIMEOUT;
    let ladder = Deadline::after(manner.within.map_or(all_of_it, |within| within.min(all_of_it)));
    let began = time::now();
    let told = tell_supervisor(&files, ladder)?;
    let Some(lock) = take_lock(&files)? else {
        return Err(Error::busy(&what.id, "its supervisor does not end; try again"));
    };
    // A supervisor that was just starting may have written its first record after ours.
    if told {
        note();
    }
    // A damaged state of a container must not keep it running: podman is asked then.
    let alive = state::any_alive(&files).unwrap_or_else(|e| {
        log::warn!("{e}");
        false
    });
    let mut component = what.component.clone();
    if manner.within.is_some() {
        component.stop_timeout = component.stop_timeout.min(ladder.left());
    }
    let in_time = Context { component: &component, ..context };
    let is_vm = Slot::VMS.into_iter().any(|slot| state::is_alive(&files.instance(slot)).unwrap_or(true));
    let stopped = match alive {
        true if is_vm => stop_unsupervised(&in_time, signals),
        // Its supervisor has ended it, and has left nothing.
        _ if told && ended_since(&files.instance(Slot::C), &began) => Ok(None),
        // What podman has may be more than we know of.
        _ if manner.listed || files.instance(Slot::C).run.is_dir() => stop_containers(&in_time, signals),
        _ => Ok(None),
    };
    // Whatever was killed on the way, by whomever: nothing of it stays.
    remains::sweep(&context)?;
    let result = match stopped? {
        Some(end) => Ok(Stopped::Ended(Box::new(end))),
        // The supervisor stopped it, or it ended by itself while we were about it. What had ended before is not news.
        None if told || alive => {
            let end = last_state(&files).filter(|s| s.phase == Phase::Ended).and_then(|s| s.end);
            let end = end.filter(|end| !idle || end.rung.is_some());
            Ok(end.map_or(Stopped::Waiting, |end| Stopped::Ended(Box::new(end))))
        }
        None => Err(Error::no(&what.id, "not running")),
    };
    lock.remove()?;
    result
}

/// Sends SIGTERM to the supervisor and waits for its end, at last with SIGKILL. False when there is none.
fn tell_supervisor(files: &ComponentPaths, ladder: Deadline) -> Result<bool> {
    if !lock::is_held(&files.lock())? {
        return Ok(false);
    }
    let Some(supervisor) = PidFd::of_lock(&files.lock())? else { return Ok(true) };
    supervisor.signal(libc::SIGTERM)?;
    if !supervisor.wait(ladder)? {
        log::warn!("{}: its supervisor does not end; killed", files.run.display());
        supervisor.signal(libc::SIGKILL)?;
        supervisor.wait(Deadline::after(LOCK_TIMEOUT))?;
    }
    Ok(true)
}

/// The component's lock, for ourselves.
fn take_lock(files: &ComponentPaths) -> Result<Option<Lock>> {
    let mut lock = Lock::wait(&files.lock(), Deadline::after(LOCK_TIMEOUT))?;
    if let Some(lock) = &mut lock {
        lock.sign("mcp-stop")?;
    }
    Ok(lock)
}

fn stop_containers(context: &Context<'_>, signals: &Signals) -> Result<Option<End>> {
    let never = || Error::refused(context.id, "shall stop, not start");
    let hooks = container::supervise::Hooks {
        prepare: &|_| Err(never()),
        watcher: &|_, _, _, _| Ok(None),
        ready: &|_| {},
        next: &|| Err(never()),
        check: &|_| Err(never()),
        failed: &|_| {},
    };
    let mode = Mode { stop_only: true, ..Mode::default() };
    match container::supervise::run(context, &mode, &hooks, &mut Notify::default(), signals) {
        Ok(Outcome::Ended(end)) => Ok(end),
        Ok(Outcome::Failed(_, end)) => Ok(Some(end)),
        Ok(Outcome::Start(_) | Outcome::Replaced(..)) => Ok(None),
        Err(e) => {
            log::warn!("{e}");
            match container::adopt::stop_by_state(context)? {
                // Whether podman has one that we don't know of, nobody can tell.
                None if Podman::find(context.node).is_ok() => Err(e),
                end => Ok(end),
            }
        }
    }
}

fn stop_unsupervised(context: &Context<'_>, signals: &Signals) -> Result<Option<End>> {
    let never = || Error::refused(context.id, "shall stop, not start");
    let hooks = Hooks {
        prepare: &|_, _, _| Err(never()),
        watcher: &|_, _, _, _| Ok(None),
        ready: &|_| {},
        next: &|| Err(never()),
        check: &|_| Err(never()),
        failed: &|_| {},
    };
    let mode = Mode { stop_only: true, ..Mode::default() };
    match supervise::run(context, &mode, None, &hooks, &mut Notify::default(), signals) {
        Ok(Outcome::Ended(end)) => Ok(end),
        Ok(Outcome::Failed(_, end)) => Ok(Some(end)),
        Ok(Outcome::Start(_) | Outcome::Replaced(..)) => Ok(None),
        Err(e) => {
            log::warn!("{e}; killed");
            Instance::kill(context).map(Some)
        }
    }
}

/// Whether the instance has ended at `since` or later.
fn ended_since(instance: &InstancePaths, since: &str) -> bool {
    let state = State::read(instance).ok().flatten().filter(|state| state.phase == Phase::Ended);
    state.and_then(|state| state.end).is_some_and(|end| end.at.as_str() >= since)
}

/// The state of the serving instance.
fn last_state(files: &ComponentPaths) -> Option<State> {
    let slot = files.current_slot()?;
    State::read(&files.instance(slot)).ok().flatten()
}

/// A rung as people read it, with the time it took.
pub fn describe(rung: Option<Rung>, reason: &str) -> String {
    match rung {
        Some(rung) => format!("stopped: {}", rung.name()),
        None => format!("ended: {reason}"),
    }
}

/// Whether a component has a supervisor, a VM or a container.
pub fn is_there(paths: &Paths, id: &ComponentId) -> Result<bool> {
    let files = paths.component(&id.service, &id.component);
    Ok(lock::is_held(&files.lock())? || state::any_alive(&files)?)
}

/// Whether it runs, and nobody watches it.
pub fn is_unsupervised(paths: &Paths, id: &ComponentId) -> Result<bool> {
    let files = paths.component(&id.service, &id.component);
    Ok(state::any_alive(&files)? && !lock::is_held(&files.lock())?)
}
