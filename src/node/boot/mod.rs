//! Bringing the node up: stages in order, each waits for the health of its components. The first stage is the foundation:
//! it blocks until it is healthy and is tried for ever; later ones warn when their time is up.

mod bells;
mod definitions;
pub mod down;
pub mod dry_run;
mod handle;
mod member;
pub mod plan;
mod stage;
pub mod tell;

use self::member::Shared;
use self::plan::Plan;
use self::stage::{Ended, Running};
use self::tell::Teller;
use crate::health::Kept;
use crate::model::boot_record::Outcome;
use crate::model::{ComponentId, Node};
use crate::node::recover::{self, Gate, Standing};
use crate::sys::paths::Paths;
use crate::sys::signals::Signals;
use crate::sys::{Error, Result};
use std::sync::Arc;

/// The most components of one stage: each has a thread, so that none that waits holds up one that it waits for.
const MEMBERS_MAX: usize = 1024;

/// How a boot came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Booted {
    /// All stages are over; these components are not healthy.
    Ready(Vec<(ComponentId, String)>),
    /// A signal came first. What runs is left running.
    Interrupted,
}

/// Runs the stages of `plan`. `strict`: something unhealthy makes it a failure in the record. What is mended of the
/// foundation's definitions meanwhile is in `plan` afterwards.
pub fn run(
    paths: &Paths,
    node: &Node,
    plan: &mut Plan,
    strict: bool,
    signals: &Signals,
    tell: Teller,
) -> Result<Booted> {
    if let Some(stage) = plan.stages.iter().find(|s| s.members.len() > MEMBERS_MAX) {
        let (name, count) = (&stage.stage.name, stage.members.len());
        let why = format!("has {count} components, and at most {MEMBERS_MAX} are waited for at the same time");
        return Err(Error::refused(format!("stage {name}"), format!("{why}; split it")));
    }
    let mut tell = tell;
    let mut starts = Vec::new();
    for member in plan.members() {
        if matches!(recover::standing(paths, member.id(), member.left_alone), Standing::Down)
            && let Ok(version) = recover::version(paths, &member.found)
        {
            starts.push((member.id().clone(), version));
        }
    }
    let unfit = recover::unfit(&starts);
    let shared =
        Arc::new(Shared { paths: paths.clone(), node: node.clone(), unfit, gate: Gate::new(), asking: Gate::new() });
    let mut unhealthy = Vec::new();
    let mut kept = Arc::new(Kept::default());
    for stage in &mut plan.stages {
        kept.close();
        kept = Arc::new(Kept::default());
        match Running::begin(stage, &shared, &kept, signals, &mut tell)?.run()? {
            Ended::Healthy => {}
            Ended::Unhealthy(which) => unhealthy.extend(which),
            Ended::Interrupted => {
                tell.interrupted();
                tell.recorder.finish(Outcome::Interrupted);
                return Ok(Booted::Interrupted);
            }
        }
    }
    // The last ones are closed with the process: nobody waits for that.
    std::mem::forget(kept);
    let failed = strict && !unhealthy.is_empty();
    tell.over(unhealthy.len(), failed);
    tell.recorder.finish(if failed { Outcome::Failed } else { Outcome::Ready });
    Ok(Booted::Ready(unhealthy))
}
