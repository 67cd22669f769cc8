//! The supervisor of a container: one thread that sleeps in `poll` until something happens to it.

use super::adopt::adopt_any;
use super::attend::Attended;
use super::instance::{Instance, remove};
use super::prepare::Prepared;
use crate::model::Version;
use crate::model::state::State;
use crate::supervise::policy::{self, Keeper, Watched};
use crate::supervise::report::{Reporter, Watcher};
use crate::supervise::{self, Asked, Context, Mode, Restarts};
use crate::sys::Result;
use crate::sys::notify::Notify;
use crate::sys::signals::Signals;

/// Starts the watcher of an instance that has just started or was adopted; the flag: its version is on trial. `None`:
/// there is no check, and a start is ready at once.
pub type StartWatcher<'a> = dyn Fn(&Context<'_>, &Instance, Reporter, bool) -> Result<Option<Box<dyn Watcher>>> + 'a;

/// What the caller brings.
pub struct Hooks<'a> {
    /// Works out a start, each time anew.
    pub prepare: &'a dyn Fn(&Context<'_>) -> Result<Prepared>,
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

/// What a run of a container came to.
pub type Outcome = supervise::Outcome<Instance>;

/// Adopts or starts the component and stays with it. The caller holds the component's lock.
pub fn run(
    context: &Context<'_>,
    mode: &Mode,
    hooks: &Hooks<'_>,
    notify: &mut Notify,
    signals: &Signals,
) -> Result<Outcome> {
    policy::run(context, mode, &Containers { context, mode, hooks }, None, notify, signals)
}

/// A container, and whoever asks for its health.
pub struct Live {
    /// The container.
    pub instance: Instance,
    /// Its health, and by when it must be ready.
    pub asked: Asked,
}

struct Containers<'a> {
    context: &'a Context<'a>,
    mode: &'a Mode,
    hooks: &'a Hooks<'a>,
}

impl Keeper for Containers<'_> {
    type Instance = Instance;
    type Live = Live;

    fn adopt(&self, _stop_only: bool) -> Result<Option<Instance>> {
        adopt_any(self.context)
    }

    fn start(&self, before: Restarts) -> Result<Instance> {
        let prepared = (self.hooks.prepare)(self.context)?;
        Instance::start(self.context, prepared, before)
    }

    fn watch(&self, instance: Instance, trial: bool) -> Result<Live> {
        let is_ready = instance.state.ready_at.is_some();
        let begin = |reporter| (self.hooks.watcher)(self.context, &instance, reporter, trial);
        match Asked::begin(self.context, is_ready, begin) {
            Ok(asked) => Ok(Live { instance, asked }),
            Err(e) if instance.is_adopted => Err(e),
            Err(e) => {
                remove(&instance.podman, &instance.state.uuid, &instance.paths)?;
                let _ = instance.finish();
                Err(e)
            }
        }
    }

    fn state(live: &Live) -> &State {
        &live.instance.state
    }

    fn attend(&self, live: Live, first: bool, notify: &mut Notify, signals: &Signals) -> Result<Watched<Instance>> {
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
