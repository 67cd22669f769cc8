//! What runs a version: a VM's supervision or a container's. A deploy may make the one of the other.

use crate::container::{self, prepare as container_prepare};
use crate::guest::instance::Instance;
use crate::guest::launch::prepare as guest_prepare;
use crate::guest::supervise as guest_supervise;
use crate::model::Version;
use crate::node::{installed, start, watching};
use crate::supervise::{Context, Mode, Outcome};
use crate::sys::notify::Notify;
use crate::sys::paths::Slot;
use crate::sys::signals::Signals;
use crate::sys::{Result, time};

/// Runs versions of one component.
#[derive(Debug, Clone, Copy)]
pub struct Runner {
    /// Whether it has no definition.
    pub adhoc: bool,
    /// Whether readiness means health.
    pub wants_health: bool,
}

impl Runner {
    /// Runs the version of `context` for as long as it lasts; `carried` is a VM that runs already. `next` says what a
    /// replace that is asked for shall start.
    pub fn run(
        &self,
        context: &Context<'_>,
        mode: &Mode,
        carried: Option<Instance>,
        next: &dyn Fn() -> Result<Version>,
        notify: &mut Notify,
        signals: &Signals,
    ) -> Result<Outcome<Instance>> {
        match context.component.is_vm() {
            true => self.run_vm(context, mode, carried, next, notify, signals),
            false => self.run_container(context, mode, next, notify, signals),
        }
    }

    fn run_vm(
        &self,
        context: &Context<'_>,
        mode: &Mode,
        carried: Option<Instance>,
        next: &dyn Fn() -> Result<Version>,
        notify: &mut Notify,
        signals: &Signals,
    ) -> Result<Outcome<Instance>> {
        let prepare = |context: &Context<'_>, slot: Slot, beside: Option<&[_]>| {
            start::check_volumes(context.paths, context.node, context.id, context.component)?;
            let mut prepared = guest_prepare::prepare(context, slot, beside)?;
            prepared.opens_when_ready |= watching::is_awaited(context, self.wants_health);
            start::note_start(context, &version_of(context), self.adhoc)?;
            Ok(prepared)
        };
        let hooks = guest_supervise::Hooks {
            prepare: &prepare,
            watcher: &|context, instance, reporter, trial| {
                watching::start(context, instance.paths.slot, &instance.state, reporter, self.wants_health, trial)
            },
            ready: &|context| start::note_ready(context),
            next,
            check: &|version| installed::check_version(&context.of(version), version, self.wants_health),
            failed: &|version| start::note_failed(context.paths, context.id, version),
        };
        guest_supervise::run(context, mode, carried, &hooks, notify, signals)
    }

    fn run_container(
        &self,
        context: &Context<'_>,
        mode: &Mode,
        next: &dyn Fn() -> Result<Version>,
        notify: &mut Notify,
        signals: &Signals,
    ) -> Result<Outcome<Instance>> {
        let prepare = |context: &Context<'_>| {
            start::check_volumes(context.paths, context.node, context.id, context.component)?;
            let prepared = container_prepare::prepare(context)?;
            start::note_start(context, &version_of(context), self.adhoc)?;
            Ok(prepared)
        };
        let hooks = container::supervise::Hooks {
            prepare: &prepare,
            watcher: &|context, instance, reporter, trial| {
                watching::start(context, instance.paths.slot, &instance.state, reporter, self.wants_health, trial)
            },
            ready: &|context| start::note_ready(context),
            next,
            check: &|version| installed::check_version(&context.of(version), version, self.wants_health),
            failed: &|version| start::note_failed(context.paths, context.id, version),
        };
        Ok(match container::supervise::run(context, mode, &hooks, notify, signals)? {
            Outcome::Ended(end) => Outcome::Ended(end),
            Outcome::Failed(why, end) => Outcome::Failed(why, end),
            // A container is never put in the place of another beside it.
            Outcome::Start(version) | Outcome::Replaced(version, _) => Outcome::Start(version),
        })
    }
}

fn version_of(context: &Context<'_>) -> Version {
    Version { spec: context.component.clone(), pin: context.pin.cloned(), at: time::now() }
}
