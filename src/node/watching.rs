//! What a supervisor asks of what it supervises: until it is ready, and after that where the definition wants it watched.

use super::probe::{ComponentSubject, watch_for_supervisor};
use crate::health::{Cancel, Change, Verdict};
use crate::model::state::State;
use crate::model::{Health, OnUnhealthy};
use crate::supervise::Context;
use crate::supervise::report::{Health as Report, Reporter, Watcher};
use crate::sys::paths::Slot;
use crate::sys::{Deadline, Result};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// One that is to replace another has time, as that serves meanwhile: it answers so often, with this pause, before it does.
/// One that ends soon after it began to listen is found out, and the guest's code is warm when its clients come.
const PROOF: (u32, Duration) = (8, Duration::from_millis(25));

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

/// Whether one that is started is ready only when its health check succeeds.
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

/// Starts asking for the health of the instance in `slot`. `None` where there is nothing to ask: no check, or nobody wants to know (`wants_ready` is false, and
/// so is `on_unhealthy`).
pub fn start(
    context: &Context<'_>,
    slot: Slot,
    state: &State,
    reporter: Reporter,
    wants_ready: bool,
) -> Result<Option<Box<dyn Watcher>>> {
    let keep_watching = context.component.on_unhealthy == OnUnhealthy::Restart;
    if !is_asked(context, state.ready_at.is_some(), wants_ready) {
        return Ok(None);
    }
    let stage = context.node.stage_health(&context.id.service);
    let Some(mut subject) = ComponentSubject::new(context.paths, context.id, context.component, stage)? else {
        return Ok(None);
    };
    let beside = context.files().current_slot() != Some(slot);
    subject = subject.by_supervisor(beside.then_some(slot));
    if beside {
        subject.prove_further(PROOF.0, PROOF.1);
    }
    let cancel = Arc::new(Cancel::new()?);
    // The supervisor ends a start that takes too long; this is only so that a wait has an end.
    let deadline = Deadline::after(context.component.start_timeout * 2);
    let thread = {
        let cancel = Arc::clone(&cancel);
        std::thread::spawn(move || {
            let ready = |verdict: Verdict| {
                if let Verdict::Healthy { detail, .. } = verdict {
                    reporter.tell(Report::Healthy(detail));
                }
                true
            };
            let tell = |change| {
                reporter.tell(match change {
                    Change::Healthy => Report::Healthy("healthy again".into()),
                    Change::Unhealthy(reason) => Report::Unhealthy(reason.to_string()),
                });
                true
            };
            watch_for_supervisor(subject, deadline, keep_watching, &cancel, ready, tell);
        })
    };
    Ok(Some(Box::new(Asking { cancel, thread: Some(thread) })))
}
