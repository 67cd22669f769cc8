//! One container of a component, from start or adoption to its end.

use super::conmon::Conmon;
use super::end::{Known, conclude};
use super::inspect::{self, Inspected};
use super::listing;
use super::podman::{CHANGE, Podman};
use super::prepare::{Prepared, image_gone, name_taken};
use super::volume;
use crate::console::rotate::Console;
use crate::console::{last_lines, tail};
use crate::model::event::EventKind;
use crate::model::state::{ContainerState, End, Mark, Phase, Process, Rung, SCHEMA, State};
use crate::supervise::{Context, Restarts, link_current};
use crate::sys::paths::{InstancePaths, Slot};
use crate::sys::pidfd::PidFd;
use crate::sys::{Deadline, Error, Result, file, time};
use std::path::PathBuf;
use std::time::Duration;

/// Console lines that an end quotes, and bytes read for them.
pub(super) const LAST_LINES: usize = 20;
pub(super) const LAST_BYTES: usize = 16 << 10;
/// How long podman may take to see that a container whose conmon has ended is over.
const SETTLING: Duration = Duration::from_secs(5);
/// Between two questions whether it has: the first, and the longest.
const SETTLING_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// How long somebody who removes a container with podman may take from its SIGKILL to its being gone.
const REMOVING: Duration = Duration::from_millis(500);
/// How long the kernel may take over a SIGKILL.
pub(super) const DYING: Duration = Duration::from_secs(5);

/// A living container that we watch.
pub struct Instance {
    /// Its files.
    pub paths: InstancePaths,
    /// What is known of it; written by [`Instance::note`].
    pub state: State,
    /// What is asked about it.
    pub podman: Podman,
    /// The process beside it.
    pub conmon: Conmon,
    /// Its console log.
    pub console: Console,
    /// The rung that we stopped it with, and whether an operator wanted that.
    pub stopped: Option<(Rung, bool)>,
    /// Whether somebody else started it.
    pub is_adopted: bool,
    /// What asks its program to end.
    stop_signal: i32,
    /// Its first process.
    first: Option<PidFd>,
}

impl Instance {
    /// Starts a container. When this fails, nothing of it is left.
    pub fn start(context: &Context<'_>, prepared: Prepared, before: Restarts) -> Result<Instance> {
        let paths = context.files().instance(Slot::C);
        file::create_dirs(&paths.run)?;
        let console = Console::open(&paths, &context.node.log, context.copy_console)?;
        let mark = tail::mark(&paths)?;
        if let Some(secrets) = &prepared.secrets {
            file::write_whole(&paths.env(), secrets.as_bytes(), false)?;
        }
        let Prepared { podman, name, .. } = &prepared;
        let object = context.id.to_string();
        let run = || podman.change(&object, &prepared.argv, &paths.podman(), Deadline::after(CHANGE));
        let mut ran = volume::make(context, podman).and_then(|()| run());
        if ran.as_ref().is_err_and(|e| is_taken(e, name))
            && let Some(id) = listing::remains(podman, name).unwrap_or_default()
        {
            log::info!("{object}: a podman that was killed has left storage, which goes");
            ran = remove(podman, &id, &paths).and_then(|()| run());
        }
        let forgotten = file::remove_if_there(&paths.env());
        let begun = ran.map_err(|e| match e.to_string() {
            _ if is_taken(&e, name) => name_taken(context.id, name),
            text if text.contains("image not known") || text.contains("no such image") => {
                image_gone(context.id, &prepared.image)
            }
            _ => e,
        });
        let begun = begun.and_then(|answer| forgotten.map(|()| String::from_utf8_lossy(&answer).trim().to_string()));
        let begun = begun.and_then(|id| {
            let about = inspect::container(podman, &id)?;
            let about = about.ok_or_else(|| Error::busy(context.id, "its container was removed as it started"))?;
            Instance::of_started(context, &prepared, about, paths.clone(), (console, mark), before)
        });
        // What was made before it failed is of no use to anybody.
        begun.inspect_err(|_| remove_all(context, &prepared.podman, &paths))
    }

    fn of_started(
        context: &Context<'_>,
        prepared: &Prepared,
        about: Inspected,
        paths: InstancePaths,
        (console, mark): (Console, Mark),
        before: Restarts,
    ) -> Result<Instance> {
        let program = prepared.podman.program().display().to_string();
        let mut state = new_state(context, &about);
        state.restarts = before.count;
        state.restarted_at = before.at;
        state.qemu = prepared.version.clone();
        state.argv = std::iter::once(program).chain(prepared.argv.iter().cloned()).collect();
        state.console = Some(mark);
        state.add_event(EventKind::Started);
        let instance = Instance::of(prepared.podman.clone(), &about, paths, state, console)?;
        instance.state.write(&instance.paths)?;
        link_current(&context.files(), instance.paths.slot)?;
        Ok(instance)
    }

    /// The container that podman tells of in `about`, with that state.
    pub(super) fn of(
        podman: Podman,
        about: &Inspected,
        paths: InstancePaths,
        mut state: State,
        console: Console,
    ) -> Result<Instance> {
        let process = conmon_of(about);
        let conmon = Conmon::open(process, about.control());
        state.container = Some(ContainerState {
            name: about.name.clone(),
            image: about.image.clone(),
            conmon: process,
            control: about.control(),
        });
        let first = first_process(about.state.pid, process);
        Ok(Instance {
            paths,
            state,
            podman,
            conmon,
            console,
            stopped: None,
            is_adopted: false,
            stop_signal: about.stop_signal(),
            first,
        })
    }

    /// Adds an event to the state and writes it. That it can't be written is said, and no reason to leave the container.
    pub fn note(&mut self, event: EventKind) {
        self.state.add_event(event);
        if let Err(e) = self.state.write(&self.paths) {
            log::warn!("{e}");
        }
    }

    /// Looks at its console.
    pub fn look(&mut self) {
        self.console.look(&mut self.conmon);
    }

    /// Asks its program to end.
    pub fn ask_to_end(&self) -> Result<()> {
        self.signal(self.stop_signal)
    }

    /// Kills it.
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Whether its program is known to have ended, which its conmon may not have yet.
    pub fn program_has_ended(&self) -> bool {
        self.first.as_ref().is_some_and(|first| first.has_ended())
    }

    /// By the kernel, which needs no podman; but the processes of a container without root may be of users that are not
    /// ours.
    fn signal(&self, signal: i32) -> Result<()> {
        match self.first.as_ref().map(|first| first.signal(signal)) {
            Some(Ok(())) => Ok(()),
            _ => self.signal_by_podman(signal),
        }
    }

    /// Has podman remove it as it is.
    pub fn remove(&self) -> Result<()> {
        remove(&self.podman, &self.state.uuid, &self.paths)
    }

    fn signal_by_podman(&self, signal: i32) -> Result<()> {
        let signal = signal.to_string();
        let args = ["kill", "--signal", &signal, &self.state.uuid];
        self.podman.ask(&self.state.uuid, args, Deadline::after(DYING)).map(drop)
    }

    /// Its console's last lines.
    pub fn last_lines(&self, lines: usize, bytes: usize) -> Vec<String> {
        last_lines(&self.paths, self.state.console.as_ref(), lines, bytes)
    }

    /// After its conmon has ended: asks how it ended, writes that, and has podman forget it.
    pub fn finish(mut self) -> Result<(State, End)> {
        let removing = if self.stopped.is_none() { REMOVING } else { Duration::ZERO };
        let known = settle(&self.podman, &self.state.uuid, &self.conmon, removing);
        self.console.note();
        let end = conclude(known, self.stopped, self.last_lines(LAST_LINES, LAST_BYTES));
        self.state.phase = Phase::Ended;
        self.state.end = Some(end.clone());
        self.note(EventKind::Ended { reason: end.reason.clone() });
        if let Err(e) = remove(&self.podman, &self.state.uuid, &self.paths) {
            // The next start does it.
            log::warn!("{e}");
        }
        Ok((self.state, end))
    }
}

/// Whether podman says that another container has the name.
fn is_taken(e: &Error, name: &str) -> bool {
    let text = e.to_string();
    text.contains("already in use") && text.contains(name)
}

/// The state of a container that podman tells of, as far as that goes.
pub(super) fn new_state(context: &Context<'_>, about: &Inspected) -> State {
    State {
        schema: SCHEMA,
        uuid: about.id.clone(),
        phase: Phase::Starting,
        pid: about.state.pid,
        supervisor: std::process::id() as i32,
        uid: nix::unistd::geteuid().as_raw(),
        started_at: time::now(),
        ready_at: None,
        ready_answer: None,
        program_started: false,
        settling: false,
        stopping: None,
        stopping_since_ms: None,
        restarts: 0,
        restarted_at: Vec::new(),
        spec: context.digest(),
        accel: String::new(),
        ports: context.component.ports.clone(),
        scratch: Vec::new(),
        image: PathBuf::from(&about.image),
        qemu: String::new(),
        argv: Vec::new(),
        events: Vec::new(),
        console: None,
        container: None,
        end: None,
    }
}

fn conmon_of(about: &Inspected) -> Process {
    let pid = about.state.conmon_pid;
    // One that has ended already: no process has ever had this start time and none will.
    Process::of(pid).filter(|_| pid > 0).unwrap_or(Process { pid, start_time: 0 })
}

/// A handle on a container's first process. Its parent is its conmon: a number that another process has got by now is found
/// out.
pub(super) fn first_process(pid: i32, conmon: Process) -> Option<PidFd> {
    PidFd::open(pid).filter(|_| is_child(pid, conmon.pid))
}

fn is_child(pid: i32, parent: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let words = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    words.and_then(|mut words| words.nth(1)?.parse().ok()) == Some(parent)
}

/// What podman knows of the end of a container whose conmon has ended. It hears of that when it looks, and conmon's own
/// podman, which cleans up, may be at it. One that was killed may be on its way out: `removing` is for that.
pub(super) fn settle(podman: &Podman, id: &str, conmon: &Conmon, removing: Duration) -> Known {
    let deadline = Deadline::after(SETTLING);
    let removing = Deadline::after(removing);
    let mut pause = SETTLING_PAUSE.0;
    loop {
        match inspect::container(podman, id) {
            Ok(None) => return Known::Removed,
            Ok(Some(about)) if about.state.oom_killed && about.is_over() => return Known::OutOfMemory,
            Ok(Some(about)) if about.is_over() && (!about.was_killed() || removing.passed()) => {
                return Known::Code(about.state.exit_code);
            }
            Ok(Some(about)) if about.never_ran() => return Known::NeverRan,
            Ok(Some(_)) if deadline.passed() => break,
            Ok(Some(_)) => {}
            Err(e) => {
                log::warn!("{e}");
                return Known::Nothing;
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(SETTLING_PAUSE.1);
    }
    debug_assert!(conmon.has_ended());
    // Nobody writes its log, and nobody will see its end.
    Known::Orphaned
}

/// Has podman remove a container, whatever it does, with the volumes that have no name.
pub(super) fn remove(podman: &Podman, id: &str, paths: &InstancePaths) -> Result<()> {
    let args = ["rm", "--force", "--time", "0", "--volumes", "--ignore", id];
    let deadline = Deadline::after(CHANGE);
    let remove = || podman.change(id, args, &paths.podman(), deadline).map(drop);
    match remove() {
        // podman 5 kills a container whose conmon was killed, then fails for want of an exit code. Its next call removes it.
        Err(Error::Refused { .. }) => remove(),
        other => other,
    }
}

/// Removes what a start that failed has made, and its state: that of the container before it stays.
fn remove_all(context: &Context<'_>, podman: &Podman, paths: &InstancePaths) {
    let made = listing::of_component(podman, context.paths, context.id).unwrap_or_default();
    for one in made {
        let removed = remove(podman, &one.id, paths);
        let is_its = State::read(paths).ok().flatten().is_some_and(|state| state.uuid == one.id);
        let forgotten = if is_its { file::remove_if_there(&paths.state()) } else { Ok(()) };
        if let Err(e) = removed.and(forgotten) {
            log::warn!("{e}");
        }
    }
}
