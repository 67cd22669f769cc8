//! Taking the node down: the stages in reverse, inside a time that is shared fairly among them.

use super::plan::{Member, Plan, StagePlan};
use crate::model::service::PLACED;
use crate::model::{Node, Placement};
use crate::node::resolve::Resolved;
use crate::node::stop::{self, Manner, Stopped, describe};
use crate::node::{command, recover};
use crate::sys::paths::Paths;
use crate::sys::signals::Signals;
use crate::sys::{Deadline, Error, Result, pool};
use std::time::{Duration, Instant};

/// What a stage takes beyond the longest stop_timeout of its components: QEMU's quit, and a busy node.
const BEYOND: Duration = Duration::from_secs(5);

/// How the stop of one component went.
pub struct Answer {
    /// Its stage.
    pub stage: String,
    /// The component.
    pub id: crate::model::ComponentId,
    /// How: in words, with the rung; or why not. `None`: nothing of it was there.
    pub result: Option<Result<String>>,
    /// How long it took.
    pub took: Duration,
}

/// The longest that a stage should need.
fn weight(stage: &StagePlan) -> Duration {
    let longest = stage.members.iter().map(|m| m.found.component.stop_timeout).max();
    longest.unwrap_or_default() + BEYOND
}

/// The time that all stages need when each component takes all of its stop_timeout.
pub fn whole(plan: &Plan) -> Duration {
    plan.stages.iter().map(weight).sum()
}

/// A stage's share of what is left: as much of it as the stage is of those that are still to be stopped.
fn share(left: Duration, own: Duration, all: Duration) -> Duration {
    left.mul_f64((own.as_secs_f64() / all.as_secs_f64().max(0.001)).min(1.0))
}

/// Stops what runs of `plan`, the last stage first, within `budget`; `tell` hears of each stage's components when they are
/// stopped. Their wishes stay: the next boot starts them again.
pub fn run(paths: &Paths, node: &Node, plan: &Plan, budget: Duration, signals: &Signals, mut tell: impl FnMut(Answer)) {
    let deadline = Deadline::after(budget);
    let mut rest = whole(plan);
    for stage in plan.stages.iter().rev() {
        let own = weight(stage);
        let within = share(deadline.left(), own, rest);
        rest = rest.saturating_sub(own);
        // One that has to wait for its turn has what is left then.
        let until = Deadline::after(within);
        let stop = |member| stop_one(paths, node, stage, member, until, signals);
        let answers = pool::each(&stage.members, stop::AT_ONCE, stop);
        answers.into_iter().for_each(&mut tell);
    }
}

fn stop_one(
    paths: &Paths,
    node: &Node,
    stage: &StagePlan,
    member: &Member,
    deadline: Deadline,
    signals: &Signals,
) -> Answer {
    let began = Instant::now();
    let what = Resolved { component: member.spec(paths), ..member.found.clone() };
    // What its init does not stop, we do: a service of it that is not there must not keep the node up.
    let placed = what.placement == Placement::Cluster;
    if placed && stop::is_there(paths, &what.id).unwrap_or(false) {
        log::warn!("{}: {PLACED}, which has not moved it: where Pacemaker runs on, it may start it again", what.id);
    }
    let by_init = match &node.stop_command {
        Some(words) if !placed && stop::is_there(paths, &what.id).unwrap_or(true) => {
            stop_by_init(paths, words, &what, deadline)
        }
        _ => None,
    };
    let manner = Manner { for_now: true, within: Some(deadline.left()), ..Manner::default() };
    let result = match by_init.map_or_else(|| stop::stop(paths, node, &what, manner, signals), Ok) {
        Ok(Stopped::Ended(end)) => Some(Ok(describe(end.rung, &end.reason))),
        Ok(Stopped::Waiting) => Some(Ok("stopped: it was about to be started again".into())),
        Err(Error::No { .. }) => None,
        Err(e) => Some(Err(e)),
    };
    Answer { stage: stage.stage.name.clone(), id: member.id().clone(), result, took: began.elapsed() }
}

/// Has the init stop it, which else would start it again. `None`: something of it is left.
fn stop_by_init(paths: &Paths, words: &[String], what: &Resolved, deadline: Deadline) -> Option<Stopped> {
    // One that waited to be started again has its old end.
    let last = || recover::ended_since(paths, &what.id, "");
    let before = last();
    if let Err(e) = command::stop(words, &what.id, deadline) {
        log::warn!("{e}");
    }
    if stop::is_there(paths, &what.id).unwrap_or(true) {
        return None;
    }
    let end = last().filter(|end| before.as_ref() != Some(end));
    Some(end.map_or(Stopped::Waiting, |end| Stopped::Ended(Box::new(end))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_fair_and_use_up_no_more_than_there_is() {
        let s = Duration::from_secs;
        assert_eq!(share(s(90), s(30), s(90)), s(30));
        assert_eq!(share(s(10), s(40), s(80)), s(5));
        assert_eq!(share(s(10), s(40), s(40)), s(10));
        assert_eq!(share(Duration::ZERO, s(40), s(40)), Duration::ZERO);
        assert_eq!(share(s(10), s(40), Duration::ZERO), s(10));
    }
}
