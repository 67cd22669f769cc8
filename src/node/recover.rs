//! From the records alone: what shall run and doesn't is started, what lost its supervisor is adopted, what runs is left
//! alone, what an operator stopped stays stopped.

use super::command::{self, Complaints};
use super::resolve::Resolved;
use super::start;
use crate::guest::launch::preflight::QEMU_OWN_MIB;
use crate::model::state::{self, End, EndedBy, State};
use crate::model::{ComponentId, Node, Record, Version, Wish};
use crate::sys::paths::{ComponentPaths, Paths, Slot};
use crate::sys::{Error, Result, lock, memory, pool};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

/// Starts at once, for each processor.
const AT_ONCE: usize = 4;

/// How a component stands, by its locks and its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It runs, and somebody watches it.
    Running,
    /// It does not run, but a supervisor is about to start it (again).
    Coming,
    /// It runs, and nobody watches it.
    Unsupervised,
    /// It shall run, and does not.
    Down,
    /// It is a one-shot that has done its work.
    Completed,
    /// It shall not run, and why.
    Unwanted(&'static str),
    /// Nobody can tell what it shall do, and why.
    Unknown(String),
}

/// How `id` stands. `left_alone`: why nobody here brings it up, by its definition. Starts no process.
pub fn standing(paths: &Paths, id: &ComponentId, left_alone: Option<&'static str>) -> Standing {
    let files = paths.component(&id.service, &id.component);
    let look = || -> Result<Standing> {
        // The instances first: one that a supervisor takes over between the two questions is then seen as watched.
        let alive = state::any_alive(&files)?;
        let supervised = lock::is_held(&files.lock())?;
        if let Some(why) = left_alone {
            return Ok(Standing::Unwanted(why));
        }
        let record = Record::read(paths, id)?.unwrap_or_default();
        if record.wish == Wish::Stop {
            return Ok(Standing::Unwanted("an operator stopped it"));
        }
        // One that a deploy has on trial is yet to be run.
        let is_oneshot = record.candidate.is_none() && record.spec().is_some_and(|spec| spec.oneshot);
        let completed = || instance(&files).0.and_then(|state| state.end).is_some_and(|end| end.is_completion());
        Ok(match (alive, supervised) {
            (false, false) if is_oneshot && completed() => Standing::Completed,
            (true, true) => Standing::Running,
            (false, true) => Standing::Coming,
            (true, false) => Standing::Unsupervised,
            (false, false) => Standing::Down,
        })
    };
    look().unwrap_or_else(|e| Standing::Unknown(e.to_string()))
}

/// The state of the instance that lives, the serving one of several; of none, the last one's that left a state.
pub fn instance(files: &ComponentPaths) -> (Option<State>, bool) {
    let mut last = None;
    for slot in files.current_slot().into_iter().chain(Slot::ALL) {
        let paths = files.instance(slot);
        let state = State::read(&paths).ok().flatten();
        if state::is_alive(&paths).unwrap_or(false) {
            return (state, true);
        }
        last = last.or(state);
    }
    (last, false)
}

/// How it ended at `since` or later, if it has and nobody starts it again. `since` is RFC 3339, UTC.
pub fn ended_since(paths: &Paths, id: &ComponentId, since: &str) -> Option<End> {
    let files = paths.component(&id.service, &id.component);
    let (state, alive) = instance(&files);
    let state = state?;
    let mut end = state.end.filter(|end| end.at.as_str() >= since)?;
    // What it was stopped for is more than how.
    if let Some(why) = state.stopping.filter(|_| end.by == EndedBy::Mcp) {
        end.reason = format!("{}; {}", why, end.reason);
    }
    (!alive && !lock::is_held(&files.lock()).unwrap_or(true)).then_some(end)
}

/// A stop for now.
#[derive(Debug)]
pub struct StoppedForNow {
    /// When what was stopped had been started: RFC 3339, UTC.
    pub started_at: String,
    /// When the stop began, in milliseconds since the kernel booted; `None`: whoever did it told nobody.
    pub since_ms: Option<u64>,
    /// When it was over: RFC 3339, UTC.
    pub ended_at: String,
}

/// How it was stopped for now, if nothing runs and that was what ended it last: by its init, by a signal to its supervisor,
/// or because the node went down. Whoever goes round and starts what is missing leaves it alone; a new boot starts it.
pub fn stopped_for_now(paths: &Paths, id: &ComponentId) -> Option<StoppedForNow> {
    let (state, alive) = instance(&paths.component(&id.service, &id.component));
    let state = state?;
    let end = state.end.filter(|end| !alive && end.by == EndedBy::Operator)?;
    Some(StoppedForNow { started_at: state.started_at, since_ms: state.stopping_since_ms, ended_at: end.at })
}

/// Which of those that are to be started side by side can't be, as each of them alone would not see: those before take
/// the memory, or have the port. In the order given, the first ones win.
pub fn unfit(starts: &[(ComponentId, Version)]) -> BTreeMap<ComponentId, Error> {
    unfit_in(starts, memory::available_mib())
}

fn unfit_in(starts: &[(ComponentId, Version)], available: Option<u64>) -> BTreeMap<ComponentId, Error> {
    let mut unfit = BTreeMap::new();
    let mut fit: Vec<&(ComponentId, Version)> = Vec::new();
    let mut left = available;
    for start in starts {
        let (id, version) = start;
        let spec = &version.spec;
        let taken = spec.ports.iter().find_map(|port| {
            let holder = fit.iter().find(|(_, v)| v.spec.ports.iter().any(|other| other.clashes(port)))?;
            Some((port.host_addr(), &holder.0))
        });
        if let Some((at, holder)) = taken {
            unfit.insert(id.clone(), Error::refused(id, format!("port {at}: {holder} has it, by its record")));
            continue;
        }
        if let Some(free) = left.filter(|_| spec.is_vm()) {
            let needed = u64::from(spec.memory_mb) + QEMU_OWN_MIB;
            if needed > free {
                let reason = format!(
                    "memory_mb: {} MiB and QEMU's {QEMU_OWN_MIB} are more than is left ({free} MiB) beside those before it",
                    spec.memory_mb
                );
                unfit.insert(id.clone(), Error::busy(id, reason));
                continue;
            }
            left = Some(free - needed);
        }
        fit.push(start);
    }
    unfit
}

/// What a start of `found` would run. An image that was never deployed is an error.
pub fn version(paths: &Paths, found: &Resolved) -> Result<Version> {
    start::choose(paths, found, true).map(|start| start.version)
}

/// Starts (or adopts) `found` as its record says, through the node's start command, else in the background; returns when
/// that has done its work, or with `ready` when the component is ready.
pub fn start(paths: &Paths, node: &Node, found: &Resolved, ready: bool) -> Result<()> {
    let version = version(paths, found)?;
    let words = node.start_command.clone().unwrap_or_else(|| command::in_background(version.spec.runtime));
    command::spawn(paths, &words, found, &version, Complaints::Kept)?.succeed(ready)
}

/// How many start at once on this node.
fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * AT_ONCE
}

/// Lets so many start at once.
pub struct Gate {
    free: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    /// One for this node.
    pub fn new() -> Gate {
        Gate { free: Mutex::new(at_once()), changed: Condvar::new() }
    }

    /// Does `work` when its turn comes.
    pub fn pass<T>(&self, work: impl FnOnce() -> T) -> T {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.changed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        drop(free);
        let done = work();
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_one();
        done
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

/// What became of a component.
#[derive(Debug)]
pub enum Recovered {
    /// It was started, or adopted.
    Started,
    /// It stands like this, and was left alone.
    LeftAlone(Standing),
}

/// Recovers all of `chosen`, each with why it is left alone, if it is, side by side; answers in their order.
pub fn all(
    paths: &Paths,
    node: &Node,
    chosen: &[(Resolved, Option<&'static str>)],
    ready: bool,
) -> Vec<Result<Recovered>> {
    let stand = |(found, left_alone): &(Resolved, Option<&'static str>)| match standing(paths, &found.id, *left_alone) {
        Standing::Down if stopped_for_now(paths, &found.id).is_some() => {
            Standing::Unwanted("it was stopped for now; its init, mcp-boot or mcp-run starts it")
        }
        standing => standing,
    };
    let standings: Vec<Standing> = chosen.iter().map(stand).collect();
    let down = chosen.iter().zip(&standings).filter(|(_, standing)| **standing == Standing::Down);
    let starts: Vec<_> = down.filter_map(|((f, _), _)| Some((f.id.clone(), version(paths, f).ok()?))).collect();
    let mut unfit = unfit(&starts);
    let work = chosen.iter().zip(standings).map(|((found, _), standing)| (found, standing, unfit.remove(&found.id)));
    pool::each(work, at_once(), |(found, standing, unfit)| match (standing, unfit) {
        (_, Some(e)) => Err(e),
        (Standing::Unknown(why), _) => Err(Error::refused(&found.id, why)),
        (Standing::Down | Standing::Unsupervised, _) => start(paths, node, found, ready).map(|()| Recovered::Started),
        (standing, _) => Ok(Recovered::LeftAlone(standing)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Component, Port, Runtime, Source};

    fn vm(name: &str, memory_mb: u32, ports: &[&str]) -> (ComponentId, Version) {
        let mut spec = Component::new(name, Runtime::Microvm, Source::Rootfs { rootfs: "/r".into() });
        spec.memory_mb = memory_mb;
        spec.ports = ports.iter().map(|p| Port::parse(p).unwrap()).collect();
        let id = ComponentId { service: "s".into(), component: name.into() };
        (id, Version { spec, pin: None, at: String::new() })
    }

    fn told(starts: &[(ComponentId, Version)], available: Option<u64>) -> Vec<String> {
        unfit_in(starts, available).into_values().map(|e| e.to_string()).collect()
    }

    #[test]
    fn the_first_ones_win() {
        let plan =
            [vm("a", 256, &["80:80"]), vm("b", 256, &["127.0.0.1:80:8080"]), vm("c", 512, &[]), vm("d", 64, &[])];
        let port = "s/b: port 127.0.0.1:80: s/a has it, by its record";
        assert_eq!(told(&plan, None), [port]);
        assert_eq!(told(&plan, Some(10_000)), [port]);
        let memory = "s/c: memory_mb: 512 MiB and QEMU's 40 are more than is left (204 MiB) beside those before it";
        assert_eq!(told(&plan, Some(500)), [port, memory]);
    }

    #[test]
    fn containers_take_no_memory_of_ours() {
        let mut container = vm("a", 4096, &[]);
        container.1.spec.runtime = Runtime::Container;
        assert!(told(&[container], Some(100)).is_empty());
    }
}
