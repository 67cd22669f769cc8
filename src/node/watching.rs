//! What a supervisor asks of what it supervises: until it is ready, and after that where the definition wants it watched.

use super::probe::ComponentSubject;
use crate::health::{self, Cancel, Change, Check, Forward, Plan, Reason, Subject, Verdict, Watch};
use crate::model::state::State;
use crate::model::{Health, OnUnhealthy, Runtime};
use crate::supervise::Context;
use crate::supervise::report::{Health as Report, Reporter, Watcher};
use crate::sys::paths::{InstancePaths, Slot};
use crate::sys::{Deadline, Error, Result};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// One that is to replace another has time, as that serves meanwhile: it answers so often, with this pause, before it does.
/// One that ends soon after it began to listen is found out, and the guest's code is warm when its clients come.
const PROOF: (u32, Duration) = (8, Duration::from_millis(25));

/// Between two looks whether a microVM has booted.
const BOOT_PAUSE: Duration = Duration::from_millis(20);

/// The health check that applies to a component on this node.
pub fn health(context: &Context<'_>) -> Option<Health> {
    context.component.effective_health(context.node.stage_health(&context.id.service))
}

/// A thread that asks.
struct Asking {
    cancel: Arc<Cancel>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher for Asking {}

impl Drop for Asking {
    fn drop(&mut self) {
        self.cancel.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether there is anything to ask, for one that is ready already or not.
fn is_asked(context: &Context<'_>, is_ready: bool, wants_ready: bool) -> bool {
    context.component.on_unhealthy == OnUnhealthy::Restart || (!is_ready && wants_ready)
}

/// Whether a started component is ready only when its health check succeeds.
pub fn is_awaited(context: &Context<'_>, wants_ready: bool) -> bool {
    is_asked(context, false, wants_ready) && health(context).is_some()
}

/// Fails as [`start`] would, while nothing is started yet.
pub fn check(context: &Context<'_>, wants_ready: bool) -> Result<()> {
    if is_asked(context, false, wants_ready) {
        let stage = context.node.stage_health(&context.id.service);
        ComponentSubject::new(context.paths, context.id, context.component, stage)?;
    }
    Ok(())
}

/// Starts the thread that checks the instance in `slot`. `trial`: the settle time precedes its readiness. `None`: there is
/// no check and no settle time, or neither `wants_ready` nor `on_unhealthy` needs the check.
pub fn start(
    context: &Context<'_>,
    slot: Slot,
    state: &State,
    reporter: Reporter,
    wants_ready: bool,
    trial: bool,
) -> Result<Option<Box<dyn Watcher>>> {
    let component = context.component;
    // Its end is what makes it ready.
    if component.oneshot {
        return Ok(None);
    }
    let is_ready = state.ready_at.is_some();
    let mut subject = None;
    if is_asked(context, is_ready, wants_ready) {
        let stage = context.node.stage_health(&context.id.service);
        subject = ComponentSubject::new(context.paths, context.id, component, stage)?;
    }
    let settle = Some(component.settle).filter(|settle| trial && !is_ready && !settle.is_zero());
    if subject.is_none() && settle.is_none() {
        return Ok(None);
    }
    // It boots beside the instance that it replaces.
    let beside = context.files().current_slot() != Some(slot);
    let subject = subject.map(|subject| {
        let mut subject = subject.by_supervisor(beside.then_some(slot));
        if beside {
            subject.prove_further(PROOF.0, PROOF.1);
        }
        subject
    });
    let cancel = Arc::new(Cancel::new()?);
    let plan = Asks {
        // The supervisor ends a start that takes too long; this is only so that a wait has an end.
        deadline: Deadline::after(component.start_timeout * 2),
        settle,
        again: component.start_timeout * 9 / 10,
        keep_watching: component.on_unhealthy == OnUnhealthy::Restart,
        booting: (component.runtime == Runtime::Microvm).then(|| context.files().instance(slot)),
    };
    let thread = {
        let cancel = Arc::clone(&cancel);
        std::thread::Builder::new()
            .spawn(move || plan.run(subject, &cancel, |health| reporter.tell(health)))
            .map_err(Error::os("start", "a thread"))?
    };
    Ok(Some(Box::new(Asking { cancel, thread: Some(thread) })))
}

/// The work of the checking thread.
struct Asks {
    /// When to give up waiting for the first success.
    deadline: Deadline,
    /// How long to wait before the check is repeated.
    settle: Option<Duration>,
    /// The longest time for the check after the settle time: the supervisor waits a little longer.
    again: Duration,
    /// Whether to go on checking after readiness.
    keep_watching: bool,
    /// A microVM, whose init tells when it has started the program.
    booting: Option<InstancePaths>,
}

impl Asks {
    /// Waits until `subject` is healthy, and still is after its settle time; then reports each change. Without a `subject`
    /// a component is healthy as long as its program runs.
    fn run(&self, mut subject: Option<ComponentSubject>, cancel: &Cancel, mut tell: impl FnMut(Report)) {
        let mut answer = None;
        if let Some(subject) = &mut subject {
            // Without hints it takes a little longer, no more.
            let hints = subject.hints().map_err(|e| log::info!("no hints of readiness: {e}")).ok();
            let (interval, successes) = (subject.health().interval, subject.health().successes);
            let plan = Plan { interval, successes, deadline: self.deadline };
            let mut telling = Telling { subject, tell: &mut tell, last: None };
            match health::wait(&mut telling, &plan, hints.as_ref(), Some(cancel)) {
                Verdict::Healthy { detail, .. } => answer = Some(detail),
                Verdict::Unhealthy(_) => return,
            }
            if self.settle.is_none() {
                tell(Report::Healthy(answer.clone()));
            }
            // Afterwards: the kernel takes some 10 ms to close them.
            drop(hints);
        } else if self.booting.as_ref().is_some_and(|instance| !self.has_booted(instance, cancel)) {
            return;
        }
        if let Some(settle) = self.settle {
            tell(Report::Settling(answer.clone()));
            if cancel.wait(Deadline::after(settle)) {
                return;
            }
            if let Some(Verdict::Unhealthy(reason)) =
                subject.as_mut().map(|subject| ask_again(subject, self.again, cancel))
            {
                return tell(Report::Unhealthy(reason.to_string()));
            }
            tell(Report::Healthy(answer));
        }
        let Some(mut subject) = subject.filter(|_| self.keep_watching) else { return };
        let health = subject.health();
        let plan = Watch { interval: health.interval, successes: health.successes, failures: health.failures };
        health::watch(&mut subject, &plan, cancel, |change| {
            tell(match change {
                Change::Healthy => Report::Healthy(Some("healthy again".into())),
                Change::Unhealthy(reason) => Report::Unhealthy(reason.to_string()),
            });
            true
        });
    }
}

impl Asks {
    /// Waits until the program in a microVM has been started. False: it was not, or nobody waits any more.
    fn has_booted(&self, instance: &InstancePaths, cancel: &Cancel) -> bool {
        while !self.deadline.passed() {
            // One that can't be read tells nothing either way.
            if State::read(instance).is_ok_and(|state| state.is_some_and(|state| state.program_started)) {
                return true;
            }
            if cancel.wait(Deadline::after(BOOT_PAUSE)) {
                return false;
            }
        }
        false
    }
}

/// One of which the supervisor hears why it is not healthy yet, each time that this changes.
struct Telling<'a> {
    subject: &'a mut ComponentSubject,
    tell: &'a mut dyn FnMut(Report),
    last: Option<Reason>,
}

impl Subject for Telling<'_> {
    fn parts(&mut self) -> std::result::Result<(&Check, Option<&mut dyn Forward>), Reason> {
        self.subject.parts()
    }

    fn found(&mut self, reason: &Reason) {
        if self.last.as_ref() != Some(reason) {
            (self.tell)(Report::NotYet(format!("{}: {reason}", self.subject.check())));
            self.last = Some(reason.clone());
        }
    }
}

/// Repeats the check for at most `limit`, with as many failures allowed as the definition says.
fn ask_again(subject: &mut ComponentSubject, limit: Duration, cancel: &Cancel) -> Verdict {
    let health = subject.health();
    let deadline = Deadline::after((health.timeout + health.interval * health.failures).min(limit));
    let plan = Plan { interval: health.interval, successes: 1, deadline };
    health::wait(subject, &plan, None, Some(cancel))
}
