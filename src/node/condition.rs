//! The one word for how a component is.

use super::{Entry, Found};
use crate::model::Wish;
use crate::model::state::{EndedBy, Phase};

/// How a component is. The names are stable: scripts and metrics use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Nothing of it is here: not started since the node booted.
    Absent,
    /// A supervisor is at work, and it is not ready yet.
    Starting,
    /// Its VM or container lives and was ready.
    Running,
    /// On the stop ladder.
    Stopping,
    /// It ended, and its supervisor starts it again after a pause.
    Waiting,
    /// Stopped by an operator, or wished to stay stopped.
    Stopped,
    /// Its program ended by itself, with 0.
    Exited,
    /// The same of a one-shot: it has done its work.
    Completed,
    /// Its program ended with anything else, mcp gave it up, or it was killed.
    Failed,
    /// It is a container, and podman could not be asked.
    Unknown,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 10] = [
        Condition::Absent,
        Condition::Starting,
        Condition::Running,
        Condition::Stopping,
        Condition::Waiting,
        Condition::Stopped,
        Condition::Exited,
        Condition::Completed,
        Condition::Failed,
        Condition::Unknown,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Condition::Absent => "absent",
            Condition::Starting => "starting",
            Condition::Running => "running",
            Condition::Stopping => "stopping",
            Condition::Waiting => "waiting",
            Condition::Stopped => "stopped",
            Condition::Exited => "exited",
            Condition::Completed => "completed",
            Condition::Failed => "failed",
            Condition::Unknown => "unknown",
        }
    }

    /// What the locks tell, and where they leave it open, what the state says.
    pub fn of(entry: &Entry<'_>) -> Condition {
        if entry.unseen && !entry.is_alive() {
            return Condition::Unknown;
        }
        let state = entry.state.get();
        let phase = state.map(|s| s.phase);
        if entry.is_alive() {
            return match phase {
                Some(Phase::Starting) => Condition::Starting,
                Some(Phase::Stopping) => Condition::Stopping,
                // The VM is there before its state is written.
                None | Some(Phase::Ended | Phase::Waiting) if entry.supervised && entry.state.damage().is_none() => {
                    Condition::Starting
                }
                _ => Condition::Running,
            };
        }
        if entry.supervised {
            // A state that another supervisor wrote is the last run's.
            let own = match (state, &entry.supervisor) {
                (Some(s), Some(holder)) => s.supervisor == holder.pid,
                _ => true,
            };
            match phase {
                Some(Phase::Waiting) if own => return Condition::Waiting,
                Some(Phase::Ended) if own => {}
                Some(Phase::Stopping) if own => return Condition::Stopping,
                _ => return Condition::Starting,
            }
        }
        ended(entry)
    }
}

/// Neither an instance nor, but for its last moment, a supervisor.
fn ended(entry: &Entry<'_>) -> Condition {
    if entry.wish() == Some(Wish::Stop) {
        return Condition::Stopped;
    }
    match entry.end() {
        Some(end) if end.by == EndedBy::Operator => Condition::Stopped,
        // Nobody of ours has seen a container's end, but podman tells the code.
        Some(end) if end.is_completion() && entry.spec().is_some_and(|spec| spec.oneshot) => Condition::Completed,
        Some(end) if end.is_completion() => Condition::Exited,
        Some(_) => Condition::Failed,
        None if entry.state == Found::Nothing => Condition::Absent,
        // Without an end: instance and supervisor were both killed, or the node went down under them.
        None => Condition::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::drift::tests::{entry, running, state};

    #[test]
    fn locks_come_before_words() {
        let declared = running();
        let mut e = entry(&declared);
        assert_eq!(Condition::of(&e), Condition::Absent);
        e.supervised = true;
        assert_eq!(Condition::of(&e), Condition::Starting);
        e.alive = [true, false, false];
        assert_eq!(Condition::of(&e), Condition::Starting);
        for (phase, told) in [
            (Phase::Starting, Condition::Starting),
            (Phase::Ready, Condition::Running),
            (Phase::Stopping, Condition::Stopping),
            (Phase::Ended, Condition::Starting),
        ] {
            e.state = Found::Whole(state(phase, None));
            assert_eq!(Condition::of(&e), told, "{phase:?}");
        }
        e.supervised = false;
        assert_eq!(Condition::of(&e), Condition::Running);
    }

    #[test]
    fn ends() {
        let declared = running();
        for (by, code, told) in [
            (EndedBy::Guest, Some(0), Condition::Exited),
            (EndedBy::Guest, Some(7), Condition::Failed),
            (EndedBy::Guest, None, Condition::Failed),
            (EndedBy::Operator, Some(0), Condition::Stopped),
            (EndedBy::Mcp, None, Condition::Failed),
            (EndedBy::Unknown, None, Condition::Failed),
        ] {
            let mut e = entry(&declared);
            e.state = Found::Whole(state(Phase::Ended, Some((by, code))));
            assert_eq!(Condition::of(&e), told, "{by:?} {code:?}");
        }
        let mut e = entry(&declared);
        e.state = Found::Whole(state(Phase::Ready, None));
        assert_eq!(Condition::of(&e), Condition::Failed);
        e.state = Found::Damaged("half".into());
        assert_eq!(Condition::of(&e), Condition::Failed);
    }

    #[test]
    fn a_new_supervisor_is_not_the_old_end() {
        let declared = running();
        let mut e = entry(&declared);
        e.supervised = true;
        e.state = Found::Whole(state(Phase::Ended, Some((EndedBy::Guest, Some(3)))));
        let holder = |pid| crate::sys::lock::Holder { pid, start_time: 1, program: "mcp-run-vm".into() };
        e.supervisor = Some(holder(4711));
        assert_eq!(Condition::of(&e), Condition::Starting);
        e.supervisor = Some(holder(2));
        assert_eq!(Condition::of(&e), Condition::Failed);
    }
}
