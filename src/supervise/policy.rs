//! A supervisor's life: what runs is adopted or started, attended until it ends, and started again where the policy says so.

use super::{Backoff, Context, Mode, Outcome, Restarts, Slept, request};
use crate::model::Version;
use crate::model::state::{self, End, EndedBy, Phase, State};
use crate::sys::Result;
use crate::sys::error::{EXIT_OK, EXIT_RETRY};
use crate::sys::notify::Notify;
use crate::sys::paths::InstancePaths;
use crate::sys::signals::Signals;
use std::time::Instant;

/// What adopts, starts and attends the instances of one version: of a VM, or of a container.
pub trait Keeper {
    /// One that runs.
    type Instance;
    /// One that runs, under watch.
    type Live;

    /// Takes over what has lost its supervisor, if there is anything.
    fn adopt(&self, stop_only: bool) -> Result<Option<Self::Instance>>;

    /// Starts one, after so many restarts. When this fails, nothing of it is left.
    fn start(&self, before: Restarts) -> Result<Self::Instance>;

    /// Puts one under watch, on trial or not. When this fails, one that we started is gone; one that was adopted runs
    /// on.
    fn watch(&self, instance: Self::Instance, trial: bool) -> Result<Self::Live>;

    /// What is known of it.
    fn state(live: &Self::Live) -> &State;

    /// Stays with it until it ends. `first`: it is the first, whose start is told.
    fn attend(
        &self,
        live: Self::Live,
        first: bool,
        notify: &mut Notify,
        signals: &Signals,
    ) -> Result<Watched<Self::Instance>>;

    /// What a replace that was asked for shall start.
    fn next(&self) -> Result<Version>;

    /// The version has become ready.
    fn ready(&self);
}

/// What attending one came to.
pub enum Watched<I> {
    /// It has ended.
    Ended(Box<State>, End, InstancePaths),
    /// Something else goes on.
    Other(Outcome<I>),
}

/// Adopts or starts the component and stays with it; `carried` is an instance that runs already. The caller holds the
/// component's lock.
pub fn run<K: Keeper>(
    context: &Context<'_>,
    mode: &Mode,
    keeper: &K,
    carried: Option<K::Instance>,
    notify: &mut Notify,
    signals: &Signals,
) -> Result<Outcome<K::Instance>> {
    let mut backoff = Backoff::new();
    let files = context.files();
    let mut last: Option<Last> = None;
    let mut trial = mode.trial;
    let mut found = match carried {
        Some(instance) => Some(instance),
        None => {
            // A stop needs nothing that is in the state.
            if !mode.stop_only {
                state::refuse_newer(&files)?;
            }
            keeper.adopt(mode.stop_only)?
        }
    };
    let mut restarts = if found.is_none() { Restarts::of_first(&files) } else { Restarts::default() };
    loop {
        let begun = match found.take() {
            Some(instance) => keeper.watch(instance, trial).inspect(|live| {
                let state = K::state(live);
                restarts = Restarts { count: state.restarts, at: state.restarted_at.clone() };
            }),
            None if mode.stop_only || (mode.adopt_only && last.is_none()) => return Ok(Outcome::Ended(None)),
            None => keeper.start(restarts.clone()).and_then(|instance| keeper.watch(instance, trial)),
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
                    Slept::Replace => return Ok(Outcome::Start(Box::new(keeper.next()?))),
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
        let began = Instant::now();
        let (state, end, paths) = match keeper.attend(live, last.is_none(), notify, signals)? {
            Watched::Ended(state, end, paths) => (*state, end, paths),
            Watched::Other(outcome) => return Ok(outcome),
        };
        if context.component.oneshot && end.is_completion() {
            keeper.ready();
            let mut last = Last { state, end, paths };
            last.state.ready_at = Some(last.end.at.clone());
            last.write(Phase::Ended);
            request::answer(&files, EXIT_OK, "completed");
            notify.ready();
            return Ok(Outcome::Ended(Some(End { console: Vec::new(), ..last.end })));
        }
        // After an adoption alone, no other version is started.
        if trial && !mode.adopt_only && state.ready_at.is_none() && end.by != EndedBy::Operator {
            return Ok(Outcome::Failed(state.why_not_ready(), end));
        }
        trial = trial && state.ready_at.is_none();
        if !mode.restarts || !end.calls_for(context.component.restart) {
            // Of one that was ready it is enough how it ended: its console is where its clients look.
            let console = if state.ready_at.is_some() { Vec::new() } else { end.console };
            return Ok(Outcome::Ended(Some(End { console, ..end })));
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
            Slept::Replace => return Ok(Outcome::Start(Box::new(keeper.next()?))),
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
