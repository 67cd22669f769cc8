//! The supervisor: one thread that sleeps in `poll` until something happens to its VM.

use crate::guest::attend::Attended;
use crate::guest::instance::{Instance, Prepared};
use crate::guest::live::{self, Live};
use crate::guest::remains;
use crate::guest::replace;
use crate::model::state::State;
use crate::model::{Port, Version};
use crate::supervise::policy::{self, Keeper};
use crate::supervise::report::{Reporter, Watcher};
use crate::supervise::{self, Context, Mode, Restarts, link_current};
use crate::sys::Result;
use crate::sys::notify::Notify;
use crate::sys::paths::Slot;
use crate::sys::signals::Signals;

/// Starts the watcher of an instance that has just started or was adopted; the flag: its version is on trial. `None`:
/// there is no check, and a start is ready at once.
pub type StartWatcher<'a> = dyn Fn(&Context<'_>, &Instance, Reporter, bool) -> Result<Option<Box<dyn Watcher>>> + 'a;

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
    /// Why a version could not start here, as far as that can be known while another one runs.
    pub check: &'a dyn Fn(&Version) -> Result<()>,
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
    policy::run(context, mode, &Vms { context, mode, hooks }, carried, notify, signals)
}

struct Vms<'a> {
    context: &'a Context<'a>,
    mode: &'a Mode,
    hooks: &'a Hooks<'a>,
}

impl Keeper for Vms<'_> {
    type Instance = Instance;
    type Live = Live;

    fn adopt(&self, stop_only: bool) -> Result<Option<Instance>> {
        adopt_any(self.context, stop_only)
    }

    fn start(&self, before: Restarts) -> Result<Instance> {
        let prepared = (self.hooks.prepare)(self.context, Slot::A, None)?;
        Instance::start(self.context, prepared, before)
    }

    fn watch(&self, instance: Instance, trial: bool) -> Result<Live> {
        Live::new(self.context, instance, self.hooks.watcher, trial)
    }

    fn state(live: &Live) -> &State {
        &live.instance.state
    }

    fn attend(
        &self,
        live: Live,
        first: bool,
        notify: &mut Notify,
        signals: &Signals,
    ) -> Result<policy::Watched<Instance>> {
        let mut run = Attended::new(self.context, self.mode, self.hooks, live, notify, signals);
        if first {
            run.started();
        }
        run.begin();
        run.watch()
    }

    fn next(&self) -> Result<Version> {
        (self.hooks.next)()
    }

    fn ready(&self) {
        (self.hooks.ready)(self.context);
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
    Ok(replace::take_over(context, serving, rest))
}
