//! The supervisor: one thread that sleeps in `poll` until something happens to its VM.

use super::instance::{Context, Instance, Prepared, Restarts};
use super::ladder::{Action, Ladder};
use super::qmp::QmpError;
use super::state::{End, EndedBy, Phase, State};
use super::watch::{self, Health, Reports, StartWatcher, Watcher};
use crate::model::{OnUnhealthy, Restart};
use crate::sys::notify::Notify;
use crate::sys::paths::Slot;
use crate::sys::signals::{Signal, Signals};
use crate::sys::{Deadline, Error, Result, time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long one monitor command may hold the loop up.
const COMMAND: Duration = Duration::from_secs(2);
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
    /// Called once, when the first instance has started or was adopted.
    pub started: &'a mut dyn FnMut(),
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
    hooks: &mut Hooks<'_>,
    notify: &mut Notify,
    signals: &Signals,
) -> Result<Option<End>> {
    let mut pause = FIRST_PAUSE;
    let mut restarts = Restarts::default();
    let mut first = true;
    loop {
        let begun = match adopt_any(context)? {
            Some(instance) => {
                restarts = Restarts { count: instance.state.restarts, at: instance.state.restarted_at.clone() };
                Ok(instance)
            }
            None if mode.stop_only => return Ok(None),
            None => (hooks.prepare)().and_then(|prepared| Instance::start(context, prepared, restarts.clone())),
        };
        let instance = match begun {
            Ok(instance) => instance,
            // A restart that can't be made now may be made later; a first start is the caller's to try again.
            Err(e) if !first && e.exit_code() == crate::sys::error::EXIT_RETRY => {
                log::warn!("{}: not restarted: {e}; again in {} s", context.id, pause.as_secs());
                if sleep(pause, signals) {
                    return Ok(None);
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            Err(e) => return Err(e),
        };
        if std::mem::take(&mut first) {
            (hooks.started)();
            notify.started();
        }
        let began = std::time::Instant::now();
        let (mut state, end) = Run::new(context, instance, hooks.watcher, notify, signals)?.watch(mode.stop_only)?;
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
        state.phase = Phase::Waiting;
        state.write(&context.files().instance(Slot::A))?;
        if sleep(pause, signals) {
            state.phase = Phase::Ended;
            state.write(&context.files().instance(Slot::A))?;
            return Ok(Some(end));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        restarts.count += 1;
        restarts.at.push(time::now());
        if restarts.at.len() > RESTARTS_KEPT {
            restarts.at.remove(0);
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
            Ok(n) if n > 0 && signals.take().is_some() => return true,
            _ if deadline.passed() => return false,
            _ => {}
        }
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
        let (reporter, reports) = watch::pair().map_err(Error::os("create", "a socket pair"))?;
        let watcher = start_watcher(&instance, reporter)?;
        let waits = watcher.is_some() && instance.state.ready_at.is_none();
        let mut run = Run {
            context,
            instance,
            notify,
            signals,
            start_deadline: waits.then(|| Deadline::after(context.component.start_timeout)),
            watcher,
            reports,
            ladder: None,
        };
        if !waits {
            run.ready("started")?;
        }
        Ok(run)
    }

    /// Watches until QEMU has ended.
    fn watch(mut self, stop_now: bool) -> Result<(State, End)> {
        if stop_now {
            self.begin_stop(true, "stop asked for")?;
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
        let console = instance.console.pollable().unwrap_or(process);
        let guest = instance.guest.as_ref().and_then(|g| g.pollable()).unwrap_or(process);
        let stderr = instance.stderr().unwrap_or(process);
        let reports = self.reports.pollable().unwrap_or(process);
        let mut fds = [process, instance.qmp.as_fd(), console, guest, stderr, self.signals.as_fd(), reports]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::os("poll", self.context.id)(e)),
        }
        let [ended, qmp, _, guest, stderr, ..] = fds.map(|fd| fd.any().unwrap_or(false));
        if qmp {
            self.instance.read_events();
        }
        if guest && let Some(port) = &mut self.instance.guest {
            let was_up = port.up;
            port.read();
            if port.up && !was_up {
                // The state file changes with it, which wakes whoever waits for the guest to listen.
                self.instance.note("the guest's program was started")?;
            }
        }
        if stderr {
            self.instance.read_stderr();
        }
        if ended {
            return Ok(true);
        }
        self.instance.console.look(&mut self.instance.qmp);
        self.take_signals()?;
        self.take_reports()?;
        if self.start_deadline.is_some_and(|d| d.passed()) {
            self.start_deadline = None;
            let after = crate::model::duration::format(self.context.component.start_timeout);
            self.complain(&format!("not healthy after start_timeout ({after})"));
            self.begin_stop(false, "not healthy in time")?;
        }
        self.climb()?;
        Ok(false)
    }

    fn complain(&self, what: &str) {
        log::error!("{}: {what}; the console's last lines:", self.context.id);
        let lines = super::console::last_lines(&self.instance.paths, 10, 4096);
        if lines.is_empty() {
            log::error!("  (the guest wrote nothing)");
        }
        for line in lines {
            log::error!("  {line}");
        }
    }

    fn take_signals(&mut self) -> Result<()> {
        match self.signals.take() {
            Some(Signal::Stop) => self.begin_stop(true, "stop asked for by a signal"),
            // The terminal closed.
            Some(Signal::Hangup) if has_terminal() => self.begin_stop(true, "the terminal closed"),
            Some(Signal::Hangup) => {
                log::warn!("{}: SIGHUP: replacing in place is not there yet; nothing done", self.context.id);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn take_reports(&mut self) -> Result<()> {
        while let Some(health) = self.reports.take() {
            match health {
                Health::Healthy(detail) if self.instance.state.ready_at.is_none() => self.ready(&detail)?,
                Health::Healthy(detail) => self.instance.note(&format!("healthy: {detail}"))?,
                Health::Unhealthy(reason) => {
                    self.instance.note(&format!("unhealthy: {reason}"))?;
                    if self.context.component.on_unhealthy == OnUnhealthy::Restart && self.start_deadline.is_none() {
                        self.complain(&format!("unhealthy: {reason}"));
                        self.begin_stop(false, "unhealthy")?;
                    }
                }
            }
        }
        Ok(())
    }

    fn ready(&mut self, detail: &str) -> Result<()> {
        self.start_deadline = None;
        self.notify.ready();
        self.notify.status(&format!("ready: {detail}"));
        if self.instance.state.ready_at.is_none() {
            self.instance.state.ready_at = Some(time::now());
        }
        if self.instance.state.phase == Phase::Starting {
            self.instance.state.phase = Phase::Ready;
        }
        self.instance.note(&format!("ready: {detail}"))?;
        if self.context.component.on_unhealthy == OnUnhealthy::None {
            // Nothing more is asked: the thread goes.
            self.watcher = None;
        }
        crate::sys::memory::trim();
        Ok(())
    }

    fn begin_stop(&mut self, by_operator: bool, why: &str) -> Result<()> {
        if self.ladder.is_some() {
            return Ok(());
        }
        log::info!("{}: {why}", self.context.id);
        self.notify.stopping();
        self.start_deadline = None;
        self.watcher = None;
        let was_ready = self.instance.state.ready_at.is_some();
        self.ladder = Some(Ladder::begin(self.context.component.stop_timeout, was_ready, by_operator));
        self.instance.state.phase = Phase::Stopping;
        self.instance.note(&format!("stopping: {why}"))
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
        match self.instance.qmp.execute(command, Value::Null, Deadline::after(COMMAND)) {
            // It is ending: the process handle will say so.
            Ok(_) | Err(QmpError::Closed) => {}
            Err(e) => {
                log::warn!("{}: {command}: {e}", self.context.id);
                ladder.hurry();
            }
        }
        Ok(())
    }
}

/// Whether we have a controlling terminal.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
