//! The supervisor: one thread that sleeps in `poll` until something happens to its VM.

use crate::guest::instance::{Context, Instance, Prepared, Restarts};
use crate::guest::ladder::{Action, Ladder};
use crate::guest::monitor::qmp::QmpError;
use crate::guest::remains;
use crate::guest::state::{End, EndedBy, Phase, State};
use crate::guest::watch::{self, Health, Reports, StartWatcher, Watcher};
use crate::model::{OnUnhealthy, Restart};
use crate::sys::notify::Notify;
use crate::sys::paths::{InstancePaths, Slot};
use crate::sys::signals::{Signal, Signals};
use crate::sys::{Deadline, Error, Result, time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long one monitor command may hold the loop up.
const COMMAND: Duration = Duration::from_secs(2);
/// How long a QEMU that closed its monitor may take to end.
const ENDING: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After this long up, the next failure counts as the first.
const LONG_UP: Duration = Duration::from_secs(60);
const RESTARTS_KEPT: usize = 16;

/// What the caller brings.
pub struct Hooks<'a> {
    /// Works out a start, each time anew.
    pub prepare: &'a dyn Fn() -> Result<Prepared>,
    /// Starts asking for health.
    pub watcher: &'a StartWatcher<'a>,
}

/// How a supervised run is to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// The restart policy holds, for there is no init that would restart us.
    pub detached: bool,
    /// Stop what runs instead of supervising it.
    pub stop_only: bool,
}

/// Adopts or starts the component and stays with it. Returns the last end: what our exit code is made of. The caller
/// holds the component's lock.
pub fn run(
    context: &Context<'_>,
    mode: Mode,
    hooks: &Hooks<'_>,
    notify: &mut Notify,
    signals: &Signals,
) -> Result<Option<End>> {
    let mut pause = FIRST_PAUSE;
    let mut restarts = Restarts::default();
    let mut last: Option<Last> = None;
    loop {
        let begun = match adopt_any(context)? {
            Some(instance) => {
                restarts = Restarts { count: instance.state.restarts, at: instance.state.restarted_at.clone() };
                Run::new(context, instance, hooks.watcher, notify, signals)
            }
            None if mode.stop_only => return Ok(None),
            None => (hooks.prepare)()
                .and_then(|prepared| Instance::start(context, prepared, restarts.clone()))
                .and_then(|instance| Run::new(context, instance, hooks.watcher, notify, signals)),
        };
        let mut run = match (begun, &mut last) {
            (Ok(run), _) => run,
            // A restart that can't be made now may be made later; a first start is the caller's to try again.
            (Err(e), Some(last)) if e.exit_code() == crate::sys::error::EXIT_RETRY => {
                log::warn!("{}: not restarted: {e}; again in {} s", context.id, pause.as_secs());
                if sleep(pause, signals) {
                    last.write(Phase::Ended);
                    return Ok(Some(last.end.clone()));
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            (Err(e), last) => {
                if let Some(last) = last {
                    last.write(Phase::Ended);
                }
                return Err(e);
            }
        };
        if last.is_none() {
            run.notify.started();
        }
        run.begin();
        let began = std::time::Instant::now();
        let (paths, (state, end)) = (run.instance.paths.clone(), run.watch(mode.stop_only)?);
        if !mode.detached || !restart_wanted(context.component.restart, &end) {
            return Ok(Some(end));
        }
        if began.elapsed() >= LONG_UP {
            pause = FIRST_PAUSE;
        }
        log::warn!("{}: {}; restarted in {} s", context.id, end.reason, pause.as_secs());
        if state.ready_at.is_none() {
            notify.ended_early();
        }
        let last = last.insert(Last { state, end, paths });
        last.write(Phase::Waiting);
        if sleep(pause, signals) {
            last.write(Phase::Ended);
            return Ok(Some(last.end.clone()));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        restarts.count += 1;
        restarts.at.push(time::now());
        if restarts.at.len() > RESTARTS_KEPT {
            restarts.at.remove(0);
        }
    }
}

/// The instance before, while it waits to be started again.
struct Last {
    state: State,
    end: End,
    paths: InstancePaths,
}

impl Last {
    /// Writes that it is in `phase`. That it can't be written must not end the supervisor.
    fn write(&mut self, phase: Phase) {
        self.state.phase = phase;
        if let Err(e) = self.state.write(&self.paths) {
            log::warn!("{e}");
        }
    }
}

fn restart_wanted(policy: Restart, end: &End) -> bool {
    match policy {
        // What an operator stopped stays stopped.
        _ if end.by == EndedBy::Operator => false,
        Restart::No => false,
        Restart::OnFailure => end.failed() || end.by == EndedBy::Mcp,
        Restart::Always => true,
    }
}

fn adopt_any(context: &Context<'_>) -> Result<Option<Instance>> {
    remains::sweep(context)?;
    for slot in Slot::ALL {
        if let Some(instance) = Instance::adopt(context, slot)? {
            return Ok(Some(instance));
        }
    }
    Ok(None)
}

/// Waits; true when a signal says to end.
fn sleep(pause: Duration, signals: &Signals) -> bool {
    let deadline = Deadline::after(pause);
    loop {
        match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
            Ok(n) if n > 0 && ends(signals.take()) => return true,
            _ if deadline.passed() => return false,
            _ => {}
        }
    }
}

/// Whether a signal ends a supervisor that has no VM just now.
fn ends(signal: Option<Signal>) -> bool {
    match signal {
        Some(Signal::Stop) => true,
        Some(Signal::Hangup) => has_terminal(),
        None => false,
    }
}

/// One instance under watch.
struct Run<'a> {
    context: &'a Context<'a>,
    instance: Instance,
    notify: &'a mut Notify,
    signals: &'a Signals,
    watcher: Option<Box<dyn Watcher>>,
    reports: Reports,
    start_deadline: Option<Deadline>,
    ladder: Option<Ladder>,
}

impl<'a> Run<'a> {
    fn new(
        context: &'a Context<'a>,
        instance: Instance,
        start_watcher: &StartWatcher<'_>,
        notify: &'a mut Notify,
        signals: &'a Signals,
    ) -> Result<Run<'a>> {
        let adopted = instance.is_adopted();
        let watcher = watch::pair().map_err(Error::os("create", "a socket pair")).and_then(|(reporter, reports)| {
            let watcher = start_watcher(&instance, reporter)?;
            Ok((watcher, reports))
        });
        let (watcher, reports) = match watcher {
            Ok(both) => both,
            Err(e) => {
                // A start that fails leaves nothing running; what ran before us runs on.
                if !adopted {
                    instance.pidfd.signal(libc::SIGKILL)?;
                    let _ = instance.finish();
                }
                return Err(e);
            }
        };
        let waits = watcher.is_some() && instance.state.ready_at.is_none();
        Ok(Run {
            context,
            instance,
            notify,
            signals,
            start_deadline: waits.then(|| Deadline::after(context.component.start_timeout)),
            watcher,
            reports,
            ladder: None,
        })
    }

    /// Where nothing is to be waited for, it is ready now.
    fn begin(&mut self) {
        if self.start_deadline.is_none() {
            self.ready("started");
        }
    }

    /// Watches until QEMU has ended.
    fn watch(mut self, stop_now: bool) -> Result<(State, End)> {
        if stop_now {
            self.begin_stop(true, "stop asked for");
        }
        while !self.turn()? {}
        drop(self.watcher.take());
        self.instance.traces.stopped = self.ladder.as_ref().map(|l| (l.rung(), l.by_operator));
        self.instance.finish()
    }

    /// Waits for one thing to happen and answers it; true when QEMU has ended.
    fn turn(&mut self) -> Result<bool> {
        let due = [self.start_deadline, self.ladder.as_ref().and_then(Ladder::due), self.instance.console.due()];
        let timeout = due.into_iter().flatten().reduce(Deadline::min).map_or(PollTimeout::NONE, |d| d.poll_timeout());
        let instance = &self.instance;
        // One whose descriptor is missing stands for itself as the process handle, which is asked anyway.
        let process = instance.pidfd.as_fd();
        let monitor = instance.monitor().unwrap_or(process);
        let console = instance.console.pollable().unwrap_or(process);
        let guest = instance.guest.as_ref().and_then(|g| g.pollable()).unwrap_or(process);
        let stderr = instance.stderr().unwrap_or(process);
        let reports = self.reports.pollable().unwrap_or(process);
        let mut fds = [process, monitor, console, guest, stderr, self.signals.as_fd(), reports]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::os("poll", self.context.id)(e)),
        }
        let [ended, qmp, _, guest, stderr, ..] = fds.map(|fd| fd.any().unwrap_or(false));
        if qmp && self.instance.monitor_open {
            self.instance.read_events();
        }
        if guest && let Some(port) = &mut self.instance.guest {
            let was_up = port.up;
            port.read();
            if port.up && !was_up {
                // The state file changes with it, which wakes whoever waits for the guest to listen.
                self.instance.note("the guest's program was started");
            }
        }
        if stderr {
            self.instance.read_stderr();
        }
        if ended {
            return Ok(true);
        }
        self.instance.console.look(&mut self.instance.qmp);
        self.take_signals();
        self.take_reports();
        if self.start_deadline.is_some_and(|d| d.passed()) {
            self.start_deadline = None;
            let after = crate::model::duration::format(self.context.component.start_timeout);
            self.complain(&format!("not healthy after start_timeout ({after})"));
            self.begin_stop(false, "not healthy in time");
        }
        self.climb()?;
        Ok(false)
    }

    fn complain(&self, what: &str) {
        log::error!("{}: {what}; the console's last lines:", self.context.id);
        let lines = crate::guest::console::last_lines(&self.instance.paths, 10, 4096);
        if lines.is_empty() {
            log::error!("  (the guest wrote nothing)");
        }
        for line in lines {
            log::error!("  {line}");
        }
    }

    fn take_signals(&mut self) {
        match self.signals.take() {
            Some(Signal::Stop) => self.begin_stop(true, "stop asked for by a signal"),
            // The terminal closed.
            Some(Signal::Hangup) if has_terminal() => self.begin_stop(true, "the terminal closed"),
            Some(Signal::Hangup) => {
                log::warn!("{}: SIGHUP: replacing in place is not there yet; nothing done", self.context.id);
            }
            None => {}
        }
    }

    fn take_reports(&mut self) {
        while let Some(health) = self.reports.take() {
            match health {
                Health::Healthy(detail) if self.instance.state.ready_at.is_none() => self.ready(&detail),
                Health::Healthy(detail) => self.instance.note(&format!("healthy: {detail}")),
                Health::Unhealthy(reason) => {
                    self.instance.note(&format!("unhealthy: {reason}"));
                    if self.context.component.on_unhealthy == OnUnhealthy::Restart && self.start_deadline.is_none() {
                        self.complain(&format!("unhealthy: {reason}"));
                        self.begin_stop(false, "unhealthy");
                    }
                }
            }
        }
    }

    fn ready(&mut self, detail: &str) {
        self.start_deadline = None;
        self.notify.ready();
        self.notify.status(&format!("ready: {detail}"));
        if self.instance.state.ready_at.is_none() {
            self.instance.state.ready_at = Some(time::now());
        }
        if self.instance.state.phase == Phase::Starting {
            self.instance.state.phase = Phase::Ready;
        }
        self.instance.note(&format!("ready: {detail}"));
        if self.context.component.on_unhealthy == OnUnhealthy::None {
            // Nothing more is asked: the thread goes.
            self.watcher = None;
        }
        crate::sys::memory::trim();
    }

    fn begin_stop(&mut self, by_operator: bool, why: &str) {
        if self.ladder.is_some() {
            return;
        }
        log::info!("{}: {why}", self.context.id);
        self.notify.stopping();
        self.start_deadline = None;
        self.watcher = None;
        let was_ready = self.instance.state.ready_at.is_some();
        self.ladder = Some(Ladder::begin(self.context.component.stop_timeout, was_ready, by_operator));
        self.instance.state.phase = Phase::Stopping;
        self.instance.note(&format!("stopping: {why}"));
    }

    fn climb(&mut self) -> Result<()> {
        let Some(ladder) = &mut self.ladder else { return Ok(()) };
        let action = ladder.step();
        let command = match action {
            Action::Wait => return Ok(()),
            Action::PressPowerButton => "system_powerdown",
            Action::Quit => "quit",
            Action::Kill => return self.instance.pidfd.signal(libc::SIGKILL),
        };
        let lost = !self.instance.monitor_open;
        match self.instance.qmp.execute(command, Value::Null, Deadline::after(COMMAND)) {
            Ok(_) => {}
            // It is most likely ending, and the process handle will say so.
            Err(_) if lost => ladder.hurry(ENDING),
            Err(QmpError::Closed) => ladder.hurry(ENDING),
            Err(e) => {
                log::warn!("{}: {command}: {e}", self.context.id);
                ladder.hurry(Duration::ZERO);
            }
        }
        Ok(())
    }
}

/// Whether we have a controlling terminal.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
