//! The supervisor: one thread that sleeps in `poll` until something happens to its VM.

use crate::guest::attend::{Attended, Watched};
use crate::guest::instance::{Context, Instance, Prepared, Restarts, link_current};
use crate::guest::live::{self, Live};
use crate::guest::remains;
use crate::guest::replace;
use crate::guest::request;
use crate::guest::state::{End, EndedBy, Phase, State};
use crate::guest::watch::StartWatcher;
use crate::model::{Port, Restart, Version};
use crate::sys::error::EXIT_RETRY;
use crate::sys::notify::Notify;
use crate::sys::paths::{InstancePaths, Slot};
use crate::sys::signals::{Signal, Signals};
use crate::sys::{Deadline, Result, time};
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After this long up, the next failure counts as the first.
const LONG_UP: Duration = Duration::from_secs(60);
const RESTARTS_KEPT: usize = 16;

/// Works out a start of `context` in a slot; beside the serving instance that has these ports, if any.
pub type Prepare<'a> = dyn Fn(&Context<'_>, Slot, Option<&[Port]>) -> Result<Prepared> + 'a;

/// What the caller brings.
pub struct Hooks<'a> {
    /// Works out a start, each time anew.
    pub prepare: &'a Prepare<'a>,
    /// Starts asking for health.
    pub watcher: &'a StartWatcher<'a>,
    /// An instance of this has become ready.
    pub ready: &'a dyn Fn(&Context<'_>),
    /// What a replace that was asked for shall start.
    pub next: &'a dyn Fn() -> Result<Version>,
    /// The version that a deploy had on trial was no good.
    pub failed: &'a dyn Fn(&Version),
}

/// How a supervised run is to behave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mode {
    /// The restart policy holds, for there is no init that would restart us.
    pub detached: bool,
    /// Stop what runs instead of supervising it.
    pub stop_only: bool,
    /// What is started is on trial: its end before it was ready is not answered by the restart policy.
    pub trial: bool,
    /// Why the version on trial before this one was no good: whoever asked for that is told so when this one is ready.
    pub fallback: Option<String>,
}

/// What a run came to.
pub enum Outcome {
    /// It is over: the last end, which our exit code is made of. `None`: there was nothing to stop.
    Ended(Option<End>),
    /// The version on trial ended before it was ready.
    Failed(End),
    /// What ran is stopped, and this is to be started, on trial.
    Start(Box<Version>),
    /// This has taken the place of what ran, which is gone.
    Replaced(Box<Version>, Box<Instance>),
}

/// Adopts or starts the component and stays with it; `carried` is an instance that runs already. The caller holds the
/// component's lock.
pub fn run(
    context: &Context<'_>,
    mode: &Mode,
    carried: Option<Instance>,
    hooks: &Hooks<'_>,
    notify: &mut Notify,
    signals: &Signals,
) -> Result<Outcome> {
    let mut pause = FIRST_PAUSE;
    let mut restarts = Restarts::default();
    let mut last: Option<Last> = None;
    let mut trial = mode.trial;
    let mut found = match carried {
        Some(instance) => Some(instance),
        None => adopt_any(context, mode.stop_only)?,
    };
    loop {
        let begun = match found.take() {
            Some(instance) => {
                restarts = Restarts { count: instance.state.restarts, at: instance.state.restarted_at.clone() };
                Live::new(context, instance, hooks.watcher)
            }
            None if mode.stop_only => return Ok(Outcome::Ended(None)),
            None => (hooks.prepare)(context, Slot::A, None)
                .and_then(|prepared| Instance::start(context, prepared, restarts.clone()))
                .and_then(|instance| Live::new(context, instance, hooks.watcher)),
        };
        let live = match (begun, &mut last) {
            (Ok(live), _) => live,
            // A restart that can't be made now may be made later; a first start is the caller's to try again.
            (Err(e), Some(last)) if e.exit_code() == EXIT_RETRY => {
                log::warn!("{}: not restarted: {e}; again in {} s", context.id, pause.as_secs());
                match sleep(context, pause, signals) {
                    Slept::Enough => {}
                    Slept::Stop => {
                        last.write(Phase::Ended);
                        return Ok(Outcome::Ended(Some(last.end.clone())));
                    }
                    Slept::Replace => return Ok(Outcome::Start(Box::new((hooks.next)()?))),
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
        let mut run = Attended::new(context, mode, hooks, live, notify, signals);
        if last.is_none() {
            run.started();
        }
        run.begin();
        let began = std::time::Instant::now();
        let paths = run.paths().clone();
        let (state, end) = match run.watch()? {
            Watched::Ended(state, end) => (*state, end),
            Watched::Other(outcome) => return Ok(outcome),
        };
        if trial && state.ready_at.is_none() && end.by != EndedBy::Operator {
            return Ok(Outcome::Failed(end));
        }
        trial = trial && state.ready_at.is_none();
        if !mode.detached || !restart_wanted(context.component.restart, &end) {
            return Ok(Outcome::Ended(Some(end)));
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
        match sleep(context, pause, signals) {
            Slept::Enough => {}
            Slept::Stop => {
                last.write(Phase::Ended);
                return Ok(Outcome::Ended(Some(last.end.clone())));
            }
            Slept::Replace => return Ok(Outcome::Start(Box::new((hooks.next)()?))),
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

/// Adopts the VM that has lost its supervisor, if there is one. Of two, between which a replacement was cut short, the one
/// that serves; the other is ended.
fn adopt_any(context: &Context<'_>, stop_only: bool) -> Result<Option<Instance>> {
    remains::sweep(context)?;
    let files = context.files();
    let current = files.current_slot().unwrap_or(Slot::A);
    let other = if current == Slot::A { Slot::B } else { Slot::A };
    let (mut serving, mut rest) = (Instance::adopt(context, current)?, Instance::adopt(context, other)?);
    if serving.is_none() {
        serving = rest.take();
    }
    let Some(serving) = serving else { return Ok(None) };
    link_current(&files, serving.paths.slot)?;
    if stop_only {
        if let Some(rest) = rest {
            live::end_now(rest);
        }
        return Ok(Some(serving));
    }
    Ok(replace::settle(serving, rest))
}

enum Slept {
    Enough,
    Stop,
    Replace,
}

/// Waits between two starts.
fn sleep(context: &Context<'_>, pause: Duration, signals: &Signals) -> Slept {
    let deadline = Deadline::after(pause);
    loop {
        if let Ok(1..) = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
            match signals.take() {
                Some(Signal::Stop) => return Slept::Stop,
                Some(Signal::Hangup) if means_replace(context) => return Slept::Replace,
                Some(Signal::Hangup) => return Slept::Stop,
                None => {}
            }
        }
        if deadline.passed() {
            return Slept::Enough;
        }
    }
}

/// Whether a SIGHUP asks for a replace. Without a request it is our terminal that closed, where we have one.
pub(super) fn means_replace(context: &Context<'_>) -> bool {
    request::is_pending(&context.files()) || std::fs::File::open("/dev/tty").is_err()
}

/// Why a new version was no good, in lines.
pub fn failure(reason: &str, console: &[String]) -> String {
    let mut text = format!("the new version: {reason}; the last lines of its console:");
    if console.is_empty() {
        text.push_str("\n  (it wrote nothing)");
    }
    for line in console {
        text.push_str("\n  ");
        text.extend(line.chars().map(|c| if c.is_control() { '?' } else { c }));
    }
    text
}
