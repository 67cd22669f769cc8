//! `state.json`: what is known of one instance. Written by its supervisor alone, whole each time.

use super::event::{Earlier, EventKind, InstanceEvent, StopReason};
use super::{Document, Port, Restart};
use crate::sys::error::{EXIT_FINAL, EXIT_NO, EXIT_OK, EXIT_RETRY};
use crate::sys::paths::{ComponentPaths, InstancePaths, Slot};
use crate::sys::pidfd::PidFd;
use crate::sys::{Error, Result, file, lock, time};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The version that this code writes.
pub const SCHEMA: u32 = 2;
const DOCUMENT: Document = Document { what: "state", schema: SCHEMA, remedy: "" };

const SIZE_MAX: u64 = 4 << 20;
const EVENTS_MAX: usize = 32;

/// How far an instance has come, as its supervisor last wrote it. Whether it lives is told by its locks alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Started, not ready yet.
    Starting,
    /// Ready: healthy, or started where no check is known.
    Ready,
    /// On the stop ladder.
    Stopping,
    /// Over; [`State::end`] tells how.
    Ended,
    /// Over, and waiting to be started again by the restart policy.
    Waiting,
}

/// Who ended an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// The program, or the guest's kernel.
    Guest,
    /// An operator: mcp-stop, a signal to the supervisor, a `quit` on the monitor.
    Operator,
    /// We: start timeout, unhealthy.
    Mcp,
    /// Nobody can tell.
    Unknown,
}

/// A rung of the stop ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// The power button, and the guest went by itself.
    Powerdown,
    /// QEMU's `quit`.
    Quit,
    /// SIGTERM, or the image's own stop signal, to a container.
    Term,
    /// SIGKILL.
    Kill,
}

impl Rung {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Powerdown => "powerdown",
            Rung::Quit => "quit",
            Rung::Term => "term",
            Rung::Kill => "kill",
        }
    }
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When: RFC 3339, UTC.
    pub at: String,
    /// Who ended it.
    pub by: EndedBy,
    /// The program's exit code, where it is known.
    pub code: Option<u8>,
    /// The signal that ended the program (or QEMU), where it is known.
    pub signal: Option<i32>,
    /// The rung of the stop ladder that did it, if it was stopped.
    pub rung: Option<Rung>,
    /// In a few words.
    pub reason: String,
    /// The console's last lines.
    pub console: Vec<String>,
}

impl End {
    /// Our own exit code for this end: the program's; 128+n for a signal; 111 where it is unknown or mcp ended it. A
    /// graceful stop that was asked for is 0 where the program went by the SIGTERM it got.
    pub fn exit_code(&self) -> u8 {
        match (self.by, self.rung) {
            (EndedBy::Mcp, _) => return EXIT_RETRY,
            (_, Some(Rung::Quit | Rung::Kill)) => return 137,
            (EndedBy::Operator, Some(Rung::Powerdown | Rung::Term)) if self.went_by_sigterm() => return 0,
            _ => {}
        }
        match (self.code, self.signal) {
            (Some(code), _) => code,
            (None, Some(n)) => 128 + (n & 0x7f) as u8,
            (None, None) if self.rung.is_some() => 0,
            (None, None) => EXIT_RETRY,
        }
    }

    /// Our exit code where an init runs us, which reads it as advice: 0 where the stop was asked for, whatever rung it
    /// took. 100 is ours alone, "do not try again", so a program's own 100 is told as 1.
    pub fn exit_code_for_init(&self) -> u8 {
        match self.exit_code() {
            _ if self.by == EndedBy::Operator => EXIT_OK,
            EXIT_FINAL => EXIT_NO,
            code => code,
        }
    }

    /// Nanos tells a signal as an exit code of its number.
    fn went_by_sigterm(&self) -> bool {
        const SIGTERM: i32 = 15;
        self.signal == Some(SIGTERM) || self.code.is_some_and(|c| i32::from(c) == SIGTERM)
    }

    /// Whether it counts as a failure for `restart = "on-failure"`.
    pub fn failed(&self) -> bool {
        self.exit_code() != 0
    }

    /// Whether the program came to its end by itself, with 0.
    pub fn is_completion(&self) -> bool {
        matches!(self.by, EndedBy::Guest | EndedBy::Unknown) && self.code == Some(0)
    }

    /// Whether a detached run starts again after it.
    pub fn calls_for(&self, policy: Restart) -> bool {
        match policy {
            // What an operator stopped stays stopped.
            _ if self.by == EndedBy::Operator => false,
            Restart::No => false,
            Restart::OnFailure => self.failed() || self.by == EndedBy::Mcp,
            Restart::Always => true,
        }
    }
}

/// Where in its slot's console an instance begins: before are the lines of those that ran there earlier. It holds
/// whatever is rotated since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The number that the live log gets when it is rotated.
    pub number: u64,
    /// The live log's inode.
    pub inode: u64,
    /// Its length in bytes.
    pub offset: u64,
}

/// What a container is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its name in podman.
    pub name: String,
    /// Digest of its image, in hex.
    pub image: String,
    /// The process that stays with it as long as it runs, podman's conmon, and that writes its log.
    pub conmon: Process,
    /// Where conmon takes orders: a FIFO.
    pub control: PathBuf,
}

/// One process, told from any other that has had its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started: clock ticks since boot, as in /proc/PID/stat.
    pub start_time: u64,
}

impl Process {
    /// The process that has this number now; `None`: there is none.
    pub fn of(pid: i32) -> Option<Process> {
        Some(Process { pid, start_time: lock::start_time(pid)? })
    }

    /// A handle on it; `None`: it has ended.
    pub fn open(&self) -> Option<PidFd> {
        let handle = PidFd::open(self.pid)?;
        // Checked after the handle is there: the number can't be given to another process any more.
        let is_it = lock::start_time(self.pid)? == self.start_time;
        // A zombie has ended: the handle is readable.
        (is_it && !handle.has_ended()).then_some(handle)
    }
}

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Unique to the instance: QEMU's `-uuid`, or podman's id of the container.
    pub uuid: String,
    /// How far it has come.
    pub phase: Phase,
    /// Process id of QEMU, or of the container's first process: a hint for people, never liveness.
    pub pid: i32,
    /// The supervisor's process id: a hint for people, never liveness.
    pub supervisor: i32,
    /// The user QEMU (or podman) runs as.
    pub uid: u32,
    /// When it was started: RFC 3339, UTC.
    pub started_at: String,
    /// When it was ready: RFC 3339, UTC.
    pub ready_at: Option<String>,
    /// Times the restart policy has started it again.
    pub restarts: u32,
    /// When those were, and when a new supervisor started it after a failure: RFC 3339, UTC, the last 16.
    pub restarted_at: Vec<String>,
    /// Digest of the specification it was started from: see `node::drift`.
    pub spec: String,
    /// The accelerator: `kvm` or `tcg`; empty for a container.
    pub accel: String,
    /// Forwarded ports.
    pub ports: Vec<Port>,
    /// Where they are reached while another instance has them: this one is to replace that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scratch: Vec<Port>,
    /// What it boots from, or the container's image.
    pub image: PathBuf,
    /// QEMU's version, or podman's.
    pub qemu: String,
    /// QEMU's argument vector, or podman's.
    pub argv: Vec<String>,
    /// The answer of the health check that made it ready; `None`: it is not ready, or has no check.
    pub ready_answer: Option<String>,
    /// Whether the init of a microVM has started its program.
    #[serde(default)]
    pub program_started: bool,
    /// Whether it was healthy, so that its settle time began.
    #[serde(default)]
    pub settling: bool,
    /// Why it is being stopped, or was.
    pub stopping: Option<StopReason>,
    /// Since when, in milliseconds since the kernel booted; `None`: it is not, or an older `mcp` wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping_since_ms: Option<u64>,
    /// What happened, newest last, at most 32: for people. What decisions depend on has fields of its own.
    pub events: Vec<InstanceEvent>,
    /// Where its console begins in its slot's; `None`: an older `mcp` started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<Mark>,
    /// What a container is known by; `None`: a VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerState>,
    /// How it ended.
    pub end: Option<End>,
}

impl State {
    /// When (RFC 3339, UTC) and by which answer it was found healthy; `None`: it was not, or is ready unasked.
    pub fn proof(&self) -> Option<(&str, &str)> {
        self.ready_at.as_deref().zip(self.ready_answer.as_deref())
    }

    /// Reads an instance's state; `None` when there is none. A damaged or newer one is an error.
    pub fn read(paths: &InstancePaths) -> Result<Option<State>> {
        let path = paths.state();
        let Some(bytes) = file::read_bounded(&path, SIZE_MAX)? else { return Ok(None) };
        State::parse(&path, &bytes).map(Some)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<State> {
        match DOCUMENT.schema_of(path, bytes)? {
            1 => DOCUMENT.body::<First>(path, bytes)?.migrate().map_err(|e| DOCUMENT.damaged(path, e)),
            _ => DOCUMENT.body(path, bytes),
        }
    }

    /// Whether it was stopped for another version's sake, which is no failure of its.
    pub fn was_replaced(&self) -> bool {
        self.stopping == Some(StopReason::Replaced)
    }

    /// Why an instance that has ended was never ready.
    pub fn why_not_ready(&self) -> String {
        let (by, reason) = self.end.as_ref().map_or((EndedBy::Unknown, ""), |end| (end.by, &end.reason));
        match &self.stopping {
            Some(why) if by == EndedBy::Mcp => format!("{why}; {reason}"),
            _ if self.ready_at.is_some() => reason.to_string(),
            _ => format!("{}: {reason}", self.when_it_ended()),
        }
    }

    /// What an instance that was never ready had reached when it ended.
    pub fn when_it_ended(&self) -> &'static str {
        if self.settling { "was healthy, and ended within its settle time" } else { "ended before it was ready" }
    }

    /// It is ready: since now, unless it has been before. One that is being stopped stays so.
    pub fn becomes_ready(&mut self) {
        if self.ready_at.is_none() {
            self.ready_at = Some(time::now());
        }
        if self.phase == Phase::Starting {
            self.phase = Phase::Ready;
        }
    }

    /// Adds an event, now, and notes the facts that it brings. The oldest event goes where there are too many.
    pub fn add_event(&mut self, kind: EventKind) {
        match &kind {
            // One that is adopted is ready without another answer.
            EventKind::Ready { answer: Some(answer) } => self.ready_answer = Some(answer.clone()),
            EventKind::ProgramStarted => self.program_started = true,
            EventKind::Settling { .. } => self.settling = true,
            EventKind::Stopping { why } => {
                self.stopping = Some(why.clone());
                self.stopping_since_ms = Some(time::since_boot_ms());
            }
            // A stop that its supervisor had begun is over.
            EventKind::Adopted => (self.stopping, self.stopping_since_ms) = (None, None),
            _ => {}
        }
        if self.events.len() >= EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push(InstanceEvent { at: time::now(), kind });
    }

    /// Writes it, whole.
    pub fn write(&self, paths: &InstancePaths) -> Result<()> {
        let path = paths.state();
        let bytes = serde_json::to_vec(self).map_err(|e| Error::refused(path.display(), e.to_string()))?;
        file::write_whole(&path, &bytes, false)
    }
}

/// Version 1: events were pairs of a time and words, and what decisions depend on was among the words.
#[derive(Deserialize)]
struct First {
    events: Vec<(String, String)>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl First {
    fn migrate(mut self) -> serde_json::Result<State> {
        let Earlier { ready_answer, stopping, events } = Earlier::of(self.events);
        self.rest.insert("schema".into(), SCHEMA.into());
        self.rest.insert("events".into(), Vec::<()>::new().into());
        let state: State = serde_json::from_value(self.rest.into())?;
        Ok(State { ready_answer, stopping, events, ..state })
    }
}

/// Refuses instances that run by a newer mcp, whose state this one would lose when it took them over.
pub fn refuse_newer(files: &ComponentPaths) -> Result<()> {
    for slot in Slot::ALL {
        let paths = files.instance(slot);
        let path = paths.state();
        if let Ok(Some(bytes)) = file::read_bounded(&path, SIZE_MAX)
            && let Err(e) = DOCUMENT.schema_of(&path, &bytes)
            && serde_json::from_slice::<Life>(&bytes).is_ok_and(|life| life.schema > SCHEMA)
            && is_alive(&paths)?
        {
            return Err(e);
        }
    }
    Ok(())
}

/// What every schema says of a container's life, so that what a newer mcp has started can be listed and stopped.
#[derive(Deserialize)]
struct Life {
    schema: u32,
    container: Option<ContainerLife>,
}

#[derive(Deserialize)]
struct ContainerLife {
    conmon: Process,
}

/// The process that stays with the container of an instance, by its state of any schema.
fn conmon(paths: &InstancePaths) -> Result<Option<Process>> {
    let path = paths.state();
    let Some(bytes) = file::read_bounded(&path, SIZE_MAX)? else { return Ok(None) };
    let life: Life = DOCUMENT.body(&path, &bytes)?;
    Ok(life.container.map(|container| container.conmon))
}

/// Whether the instance lives. A VM does as long as its QEMU holds the instance's lock. A container can't hold one of
/// ours: podman hands our descriptors on to whatever it starts, name servers shared by all among them. It lives as long as
/// its conmon does, by our state; whoever is about to start, stop or remove one asks podman itself.
pub fn is_alive(paths: &InstancePaths) -> Result<bool> {
    match paths.slot {
        Slot::A | Slot::B => lock::is_held(&paths.lock()),
        Slot::C => Ok(conmon(paths)?.is_some_and(|process| process.open().is_some())),
    }
}

/// Whether any instance of the component lives.
pub fn any_alive(files: &ComponentPaths) -> Result<bool> {
    for slot in Slot::ALL {
        if is_alive(&files.instance(slot))? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn first(events: serde_json::Value) -> Vec<u8> {
        let state = json!({
            "schema": 1, "uuid": "u", "phase": "ready", "pid": 1, "supervisor": 2, "uid": 3,
            "started_at": "2026-11-30T10:00:00Z", "ready_at": "2026-11-30T10:00:01Z", "restarts": 4,
            "restarted_at": ["2026-11-30T09:00:00Z"], "spec": "s", "accel": "kvm", "ports": [], "image": "i",
            "qemu": "7.2.0", "argv": ["q"], "events": events, "end": null,
        });
        serde_json::to_vec(&state).unwrap()
    }

    fn parse(bytes: &[u8]) -> Result<State> {
        State::parse(Path::new("FILE"), bytes)
    }

    #[test]
    fn the_first_schema_is_migrated() {
        let at = "2026-11-30T10:00:01Z";
        let of = |texts: &[&str]| parse(&first(json!(texts.iter().map(|t| (at, t)).collect::<Vec<_>>()))).unwrap();
        let state = of(&["started", "ready: tcp 127.0.0.1:80", "stopping: replaced", "ended by the guest"]);
        assert_eq!((state.schema, state.restarts, state.pid), (SCHEMA, 4, 1));
        assert_eq!(state.proof(), Some((at, "tcp 127.0.0.1:80")));
        assert!(state.was_replaced());
        assert_eq!((state.events.len(), state.events[0].kind.to_string().as_str()), (4, "started"));
        let state = of(&["started", "ready: started", "stopping: stop asked for by a signal"]);
        assert_eq!((state.proof(), &state.stopping), (None, &Some(StopReason::Signal)));
        assert_eq!(of(&["started"]).stopping, None);
        // What is written then is of the new schema.
        assert_eq!(parse(&serde_json::to_vec(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn newer_and_damaged_ones_are_refused() {
        let e = parse(b"{\"schema\":3,\"events\":7}").unwrap_err().to_string();
        assert_eq!(e, "FILE: state of schema 3 was written by a newer mcp; this one reads up to 2");
        assert_eq!(parse(b"{\"schema\":0}").unwrap_err().to_string(), "FILE: damaged state: schema 0");
        assert!(parse(b"{\"schema\":1,\"events\":[]}").unwrap_err().to_string().starts_with("FILE: damaged state: "));
    }

    #[test]
    fn events_that_go_take_no_fact_with_them() {
        let mut state = parse(&first(json!([]))).unwrap();
        state.add_event(EventKind::Ready { answer: Some("tcp".into()) });
        for _ in 0..EVENTS_MAX {
            state.add_event(EventKind::Unhealthy { reason: "refused".into() });
        }
        assert_eq!(state.events.len(), EVENTS_MAX);
        assert!(!state.events.iter().any(|e| matches!(e.kind, EventKind::Ready { .. })));
        assert_eq!(state.proof().map(|(_, answer)| answer), Some("tcp"));
        state.add_event(EventKind::Stopping { why: StopReason::Replaced });
        assert!(state.was_replaced());
        state.add_event(EventKind::Adopted);
        assert!(!state.was_replaced());
    }

    #[test]
    fn kinds_of_events_that_are_not_known_are_no_damage() {
        let event: InstanceEvent = serde_json::from_value(json!({"at": "t", "kind": "teleported", "to": 1})).unwrap();
        assert_eq!(event.kind, EventKind::Unknown);
    }
}
