//! The record of a boot, `LIB/boot.json`: what mcp-boot did and saw, when. Two views of it are in `node::chart`.
//!
//! A run of mcp-boot over all stages makes a new record. Runs of single stages (`--stage`), one a unit of the init system,
//! belong together: the first one makes the record, those of the other stages join it. All times in it that end in `_ms`
//! are milliseconds since the record's beginning by the kernel's clock since boot, which all processes share and which a
//! step of the wall clock doesn't bend.
//!
//! The record is a diary, nothing depends on it. So it never waits for the disk: after a loss of power the next boot
//! makes a new one anyway.

mod bounds;
mod recorder;
#[cfg(test)]
mod tests;

pub use recorder::{Plan, Recorder};

use super::{Document, HealthKind, Runtime};
use crate::sys::paths::Paths;
use crate::sys::{Result, file, lock, time};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// The version that this code writes.
pub const SCHEMA: u32 = 1;
const DOCUMENT: Document = Document { what: "boot record", schema: SCHEMA, remedy: "" };

/// No record of ours has more bytes: [`bounds`] holds that.
const SIZE_MAX: u64 = 16 << 20;

/// What was booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All stages, by one run.
    Whole,
    /// Single stages, each by a run of its own.
    Stages,
}

/// How a run, or the boot as a whole, came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It isn't over.
    Running,
    /// It came to its end. Stages that timed out may be among it.
    Ready,
    /// It was told to end, or was killed, before it came to its end.
    Interrupted,
    /// It came to its end and counts as failed (`--strict`), or could not go on.
    Failed,
}

/// How a stage came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageOutcome {
    /// Its turn hasn't come, or never came.
    Waiting,
    /// It isn't over.
    Running,
    /// All of its components were healthy.
    Healthy,
    /// Its time was up before all were.
    TimedOut,
    /// The run ended before the stage did.
    Interrupted,
}

/// A kind of thing that happens to a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is being started.
    Start,
    /// The start command has done its work.
    Started,
    /// Its supervisor says that it is ready.
    Ready,
    /// It passed its health check, or has none and is ready.
    Healthy,
    /// It didn't pass its health check.
    Unhealthy,
    /// It ended.
    Died,
    /// It is being started again.
    Retry,
    /// It ran already and was left alone.
    Already,
    /// It ran without a supervisor, and has one again.
    Adopted,
    /// It shall stay stopped.
    Skipped,
    /// It could not be started.
    Failed,
    /// A warning: not healthy in time.
    Warned,
}

/// One thing that happened to a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at_ms: u64,
    /// What.
    pub kind: Kind,
    /// In a few words; empty where the kind says it all. May hold what a guest said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// One component of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// `SERVICE/COMPONENT`.
    pub id: String,
    /// How it runs.
    pub runtime: Runtime,
    /// How often it was started again.
    #[serde(default)]
    pub retries: u32,
    /// How often it died.
    #[serde(default)]
    pub deaths: u32,
    /// What happened, oldest first: the first ones and the last ones.
    pub events: Vec<Event>,
    /// What was left out between the first ones and the last ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

/// Events that a record has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// After so many of [`Component::events`].
    pub after: usize,
    /// How many they were.
    pub count: u32,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Which of [`BootRecord::runs`] it belongs to, from 0.
    pub run: usize,
    /// Its name.
    pub name: String,
    /// The kind of check for components that name none.
    pub health: HealthKind,
    /// How long it waits (not the foundation).
    #[serde(with = "super::duration")]
    pub timeout: Duration,
    /// Whether it waits for ever.
    pub foundation: bool,
    /// When its turn came, if it did.
    pub began_ms: Option<u64>,
    /// When it was over, if it is.
    pub ended_ms: Option<u64>,
    /// How it came out.
    pub outcome: StageOutcome,
    /// Its components, in the order of the plan.
    pub components: Vec<Component>,
}

/// One run of mcp-boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its name, and that of the lock in [`Paths::boot_runs`] that it holds as long as it lives.
    pub id: String,
    /// The one stage that it runs; `None`: all.
    pub stage: Option<String>,
    /// When it began.
    pub began_ms: u64,
    /// When it ended, or was last heard of.
    pub ended_ms: Option<u64>,
    /// How it came out.
    pub outcome: Outcome,
}

/// `LIB/boot.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The kernel's name of its boot, a UUID.
    pub boot_id: String,
    /// When it began by the wall clock: RFC 3339, UTC.
    pub began: String,
    /// When it began by the kernel's clock since boot, in milliseconds: the zero of all other `_ms`.
    pub zero_ms: u64,
    /// When it ended by the wall clock, if it has: RFC 3339, UTC. Not for one that was killed.
    pub ended: Option<String>,
    /// When it ended, or was last heard of.
    pub ended_ms: Option<u64>,
    /// How it came out.
    pub outcome: Outcome,
    /// What was booted.
    pub mode: Mode,
    /// The runs of mcp-boot, oldest first: one, or one a stage.
    pub runs: Vec<Run>,
    /// The stages, in the order of the runs and the plan.
    pub stages: Vec<Stage>,
    /// When it was read, of one that goes on. Not in the file.
    #[serde(skip)]
    pub read_ms: Option<u64>,
}

impl BootRecord {
    /// Reads the record of the last boot; `None` when none was kept. A run in it that was killed is interrupted. A
    /// damaged or newer record is an error.
    pub fn read(paths: &Paths) -> Result<Option<BootRecord>> {
        BootRecord::read_from(paths, &paths.boot_record())
    }

    /// The same for the boot before that.
    pub fn read_before(paths: &Paths) -> Result<Option<BootRecord>> {
        BootRecord::read_from(paths, &paths.boot_record_before())
    }

    fn read_from(paths: &Paths, path: &Path) -> Result<Option<BootRecord>> {
        let Some(bytes) = file::read_bounded(path, SIZE_MAX)? else { return Ok(None) };
        let mut record = BootRecord::parse(path, &bytes)?;
        record.note_killed(paths)?;
        if record.outcome == Outcome::Running {
            record.read_ms = Some(time::since_boot_ms().saturating_sub(record.zero_ms));
        }
        Ok(Some(record))
    }

    /// Reads the bytes of the file `path`, and no other.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<BootRecord> {
        let record: BootRecord = DOCUMENT.parse(path, bytes)?;
        match record.stages.iter().find(|s| s.run >= record.runs.len()) {
            Some(stage) => {
                Err(DOCUMENT.damaged(path, format_args!("stage of run {}, which it doesn't have", stage.run)))
            }
            None => Ok(record),
        }
    }

    /// The last moment that anything in it tells of; of one that goes on, when it was read.
    pub fn last_ms(&self) -> u64 {
        if let Some(ms) = self.read_ms {
            return ms.max(self.told_ms());
        }
        self.told_ms()
    }

    fn told_ms(&self) -> u64 {
        let runs = self.runs.iter().flat_map(|r| [Some(r.began_ms), r.ended_ms]);
        runs.chain(self.stages.iter().map(|s| Some(s.last_ms()))).flatten().max().unwrap_or(0)
    }

    /// Marks those runs as interrupted that say they run and whose lock nobody holds.
    fn note_killed(&mut self, paths: &Paths) -> Result<()> {
        let here = self.boot_id == time::boot_id();
        for i in 0..self.runs.len() {
            let Some(run) = self.runs.get(i).filter(|r| r.outcome == Outcome::Running) else { continue };
            // A file name: nothing else of a record that somebody wrote by hand.
            let named = run.id.bytes().all(|b| b.is_ascii_digit() || b == b'-') && !run.id.is_empty();
            if !(here && named && lock::is_held(&paths.boot_runs().join(&run.id))?) {
                self.end_run(i, Outcome::Interrupted, None);
            }
        }
        Ok(())
    }

    /// Ends run `index` at `at_ms`, or else when it was last heard of; what of it isn't over is interrupted.
    fn end_run(&mut self, index: usize, outcome: Outcome, at_ms: Option<u64>) {
        let Some(run) = self.runs.get_mut(index) else { return };
        let stages = self.stages.iter_mut().filter(|s| s.run == index);
        let heard = stages.map(|s| s.last_ms()).max().unwrap_or(0).max(run.began_ms);
        let at = at_ms.unwrap_or(heard);
        (run.ended_ms, run.outcome) = (Some(at), outcome);
        for stage in self.stages.iter_mut().filter(|s| s.run == index && s.outcome == StageOutcome::Running) {
            (stage.ended_ms, stage.outcome) = (Some(at), StageOutcome::Interrupted);
        }
        self.settle();
    }

    /// Makes the whole's outcome that of its runs: of the last one of each stage.
    fn settle(&mut self) {
        let last = |run: &&Run| self.runs.iter().rev().find(|r| r.stage == run.stage).is_some_and(|r| r.id == run.id);
        let has = |outcome: Outcome| self.runs.iter().filter(last).any(|r| r.outcome == outcome);
        let order = [Outcome::Running, Outcome::Failed, Outcome::Interrupted];
        self.outcome = order.into_iter().find(|o| has(*o)).unwrap_or(Outcome::Ready);
        self.ended_ms = match self.outcome {
            Outcome::Running => None,
            _ => self.runs.iter().filter_map(|r| r.ended_ms).max(),
        };
        if self.outcome == Outcome::Running {
            self.ended = None;
        }
    }
}

impl Stage {
    /// The last moment that anything in it tells of; 0 where nothing does.
    pub fn last_ms(&self) -> u64 {
        let events = self.components.iter().filter_map(|c| c.events.last()).map(|e| e.at_ms);
        events.chain([self.began_ms, self.ended_ms].into_iter().flatten()).max().unwrap_or(0)
    }
}
