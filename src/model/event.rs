//! What happens to an instance, as its runtime state keeps it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why an instance is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum StopReason {
    /// mcp-stop, where there was no supervisor.
    Asked,
    /// A signal to the supervisor.
    Signal,
    /// The supervisor's terminal closed.
    Hangup,
    /// Another version takes its place: no failure.
    Replaced,
    /// It was not healthy within its start_timeout.
    Late {
        /// What the last probe found, and how long that was so; empty: an older `mcp` wrote this.
        #[serde(default)]
        detail: String,
    },
    /// It was healthy, and is not any more.
    Unhealthy {
        /// What the check found; empty: an older `mcp` wrote this.
        #[serde(default)]
        detail: String,
    },
    /// It was healthy, and was not after its settle time.
    Unsettled {
        /// What the check found.
        detail: String,
    },
    /// Its host ports could not be opened.
    Ports {
        /// Why.
        detail: String,
    },
    /// A reason that this mcp does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::Asked => f.write_str("stop asked for"),
            StopReason::Signal => f.write_str("stop asked for by a signal"),
            StopReason::Hangup => f.write_str("the terminal closed"),
            StopReason::Replaced => f.write_str("replaced"),
            StopReason::Late { detail } if detail.is_empty() => f.write_str("not healthy in time"),
            StopReason::Unhealthy { detail } if detail.is_empty() => f.write_str("unhealthy"),
            StopReason::Unhealthy { detail } => write!(f, "unhealthy: {detail}"),
            StopReason::Late { detail } | StopReason::Unsettled { detail } => f.write_str(detail),
            StopReason::Ports { detail } => write!(f, "its ports can't be opened: {detail}"),
            StopReason::Unknown => f.write_str("a reason of a newer mcp"),
        }
    }
}

/// A kind of event, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// It was started.
    Started,
    /// A supervisor took it over.
    Adopted,
    /// Its runtime state was lost, and was made again from what runs.
    Rebuilt,
    /// The init of a microVM has started the program.
    ProgramStarted,
    /// It is healthy, by this answer of its health check or, without one, because it runs; its settle time begins.
    Settling {
        /// The answer.
        answer: Option<String>,
    },
    /// It is ready: by this answer of its health check, or, without one, because it has started.
    Ready {
        /// The answer.
        answer: Option<String>,
    },
    /// It is healthy again.
    Healthy {
        /// The answer of its health check.
        answer: String,
    },
    /// It is not healthy any more.
    Unhealthy {
        /// Why.
        reason: String,
    },
    /// It is being stopped.
    Stopping {
        /// Why.
        why: StopReason,
    },
    /// A new version boots beside it.
    SuccessorBoots,
    /// The new version was no good, so this one serves on.
    SuccessorFailed {
        /// Why.
        reason: String,
    },
    /// A new version serves in its place.
    Replaced,
    /// It has got the host ports of the version before it.
    HasPorts,
    /// It has ended.
    Ended {
        /// How.
        reason: String,
    },
    /// An event of runtime state of schema 1, which had words alone.
    Earlier {
        /// The words.
        text: String,
    },
    /// An event that this mcp does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Started => f.write_str("started"),
            EventKind::Adopted => f.write_str("adopted"),
            EventKind::Rebuilt => f.write_str("state lost and rebuilt"),
            EventKind::ProgramStarted => f.write_str("the guest's program was started"),
            EventKind::Settling { answer } => write!(f, "settling: {}", answer.as_deref().unwrap_or("started")),
            EventKind::Ready { answer } => write!(f, "ready: {}", answer.as_deref().unwrap_or("started")),
            EventKind::Healthy { answer } => write!(f, "healthy: {answer}"),
            EventKind::Unhealthy { reason } => write!(f, "unhealthy: {reason}"),
            EventKind::Stopping { why } => write!(f, "stopping: {why}"),
            EventKind::SuccessorBoots => f.write_str("a new version boots beside"),
            EventKind::SuccessorFailed { reason } => write!(f, "serves on: the new version {reason}"),
            EventKind::Replaced => f.write_str("replaced"),
            EventKind::HasPorts => f.write_str("has the ports"),
            EventKind::Ended { reason } => f.write_str(reason),
            EventKind::Earlier { text } => f.write_str(text),
            EventKind::Unknown => f.write_str("an event of a newer mcp"),
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEvent {
    /// When: RFC 3339, UTC.
    pub at: String,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What the events of schema 1, pairs of time and words, say in fields of schema 2. The words are those that the
/// supervisors of that time wrote.
pub(super) struct Earlier {
    /// The answer that made it ready.
    pub ready_answer: Option<String>,
    /// Why it is, or was, stopped.
    pub stopping: Option<StopReason>,
    /// The events.
    pub events: Vec<InstanceEvent>,
}

impl Earlier {
    pub fn of(pairs: Vec<(String, String)>) -> Earlier {
        let last = |prefix: &str| pairs.iter().rev().find_map(|(_, text)| text.strip_prefix(prefix));
        let stopping = last("stopping: ").map(|why| {
            let known = [StopReason::Signal, StopReason::Hangup, StopReason::Replaced];
            let [late, unhealthy] = [String::new(), String::new()];
            let known = known
                .into_iter()
                .chain([StopReason::Late { detail: late }, StopReason::Unhealthy { detail: unhealthy }]);
            known.into_iter().find(|reason| reason.to_string() == why).unwrap_or(StopReason::Asked)
        });
        let ready_answer = last("ready: ").filter(|answer| *answer != "started").map(str::to_string);
        let event = |(at, text)| InstanceEvent { at, kind: EventKind::Earlier { text } };
        Earlier { ready_answer, stopping, events: pairs.into_iter().map(event).collect() }
    }
}
