//! The supervisor: one thread that sleeps in `poll` until something happens to its VM.

use crate::guest::attend::{Attended, Watched};
use crate::guest::instance::{Instance, Prepared, link_current};
use crate::guest::live::{self, Live};
use crate::guest::remains;
use crate::guest::replace;
use crate::model::state::{End, EndedBy, Phase, State};
use crate::model::{Port, Version};
use crate::supervise::report::{Reporter, Watcher};
use crate::supervise::{self, Backoff, Context, Mode, Restarts, Slept};
use crate::sys::Result;
use crate::sys::error::EXIT_RETRY;
use crate::sys::notify::Notify;
use crate::sys::paths::{InstancePaths, Slot};
use crate::sys::signals::Signals;

/// Starts a watcher for an instance that has just started or was adopted. `None`: there is nothing to ask, and started
/// is ready.
pub type StartWatcher<'a> = dyn Fn(&Context<'_>, &Instance, Reporter) -> Result<Option<Box<dyn Watcher>>> + 'a;

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

/// What a run of a VM came to.
pub type Outcome = supervise::Outcome<Instance>;

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
    let mut backoff = Backoff::new();
    let files = context.files();
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
                log::warn!("{}: not restarted: {e}; again in {} s", context.id, backoff.pause().as_secs());
                match backoff.sleep(&files, signals) {
                    Slept::Enough => {}
                    Slept::Stop => {
                        last.write(Phase::Ended);
                        return Ok(Outcome::Ended(Some(last.end.clone())));
                    }
                    Slept::Replace => return Ok(Outcome::Start(Box::new((hooks.next)()?))),
                }
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
        if !mode.detached || !end.calls_for(context.component.restart) {
            return Ok(Outcome::Ended(Some(end)));
        }
        backoff.ran_since(began);
        log::warn!("{}: {}; restarted in {} s", context.id, end.reason, backoff.pause().as_secs());
        if state.ready_at.is_none() {
            notify.ended_early();
        }
        let last = last.insert(Last { state, end, paths });
        last.write(Phase::Waiting);
        match backoff.sleep(&files, signals) {
            Slept::Enough => {}
            Slept::Stop => {
                last.write(Phase::Ended);
                return Ok(Outcome::Ended(Some(last.end.clone())));
            }
            Slept::Replace => return Ok(Outcome::Start(Box::new((hooks.next)()?))),
        }
        restarts.add();
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
