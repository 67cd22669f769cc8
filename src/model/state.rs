//! `state.json`: what is known of one instance. Written by its supervisor alone, whole each time.

use super::{Port, Restart};
use crate::sys::error::{EXIT_FINAL, EXIT_NO, EXIT_OK, EXIT_RETRY};
use crate::sys::paths::{ComponentPaths, InstancePaths, Slot};
use crate::sys::pidfd::PidFd;
use crate::sys::{Deadline, Error, Result, file, lock, time};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The version that this code writes.
pub const SCHEMA: u32 = 1;
/// Why one is stopped whose place another version takes.
pub const REPLACED: &str = "replaced";

/// The prefix of the event that begins the settle time.
pub const SETTLING: &str = "settling: ";

const SIZE_MAX: u64 = 4 << 20;
const EVENTS_MAX: usize = 32;

/// What is said of one that is ready because it has started.
pub const UNASKED: &str = "started";

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
        (is_it && !handle.wait(Deadline::after(Duration::ZERO))).then_some(handle)
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
    /// What happened, newest last, at most 32: RFC 3339 and a few words.
    pub events: Vec<(String, String)>,
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
        let at = self.ready_at.as_deref()?;
        let word = self.events.iter().rev().find_map(|(_, event)| event.strip_prefix("ready: "))?;
        (word != UNASKED).then_some((at, word))
    }

    /// Reads an instance's state; `None` when there is none.
    pub fn read(paths: &InstancePaths) -> Result<Option<State>> {
        let path = paths.state();
        let Some(bytes) = file::read_bounded(&path, SIZE_MAX)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| Error::refused(path.display(), format!("damaged state: {e}")))
    }

    /// Whether it was stopped for another version's sake, which is no failure of its.
    pub fn was_replaced(&self) -> bool {
        self.events.iter().rev().find_map(|(_, event)| event.strip_prefix("stopping: ")) == Some(REPLACED)
    }

    /// Why an instance that has ended was never ready.
    pub fn why_not_ready(&self) -> String {
        let last = |prefix: &str| self.events.iter().rev().find_map(|(_, event)| event.strip_prefix(prefix));
        let (by, reason) = self.end.as_ref().map_or((EndedBy::Unknown, ""), |end| (end.by, &end.reason));
        match (last("stopping: "), last(SETTLING)) {
            (Some(why), _) if by == EndedBy::Mcp => format!("{why}; {reason}"),
            (_, Some(_)) => format!("was healthy, and ended within its settle time: {reason}"),
            (_, None) => format!("ended before it was ready: {reason}"),
        }
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

    /// Adds an event, now; the oldest goes where there are too many.
    pub fn add_event(&mut self, event: &str) {
        if self.events.len() >= EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push((time::now(), event.to_string()));
    }

    /// Writes it, whole.
    pub fn write(&self, paths: &InstancePaths) -> Result<()> {
        let path = paths.state();
        let bytes = serde_json::to_vec(self).map_err(|e| Error::refused(path.display(), e.to_string()))?;
        file::write_whole(&path, &bytes, false)
    }
}

/// Whether the instance lives. A VM does as long as its QEMU holds the instance's lock. A container can't hold one of
/// ours: podman hands our descriptors on to whatever it starts, name servers shared by all among them. It lives as long as
/// its conmon does, by our state; whoever is about to start, stop or remove one asks podman itself.
pub fn is_alive(paths: &InstancePaths) -> Result<bool> {
    match paths.slot {
        Slot::A | Slot::B => lock::is_held(&paths.lock()),
        Slot::C => Ok(State::read(paths)?.and_then(|s| s.container).is_some_and(|c| c.conmon.open().is_some())),
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
