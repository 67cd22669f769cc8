//! Writes the boot record while a run of mcp-boot goes on.
//!
//! A boot never fails for its record's sake: what goes wrong here is one warning, and the run is recorded in memory alone.

use super::{BootRecord, Component, Kind, Mode, Outcome, Run, SCHEMA, SIZE_MAX, Stage, StageOutcome, bounds};
use crate::model::{ComponentId, Runtime};
use crate::sys::lock::{self, Lock};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, file, time, turns};
use log::{debug, warn};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// While things happen, the file is written so often at most.
const PAUSE: Duration = Duration::from_millis(200);

/// A single stage that runs so long after the last thing that the record tells of is a boot of its own.
const APART_MS: u64 = 3_600_000;

/// A record with so many runs takes no further one.
const RUNS_MAX: usize = 64;

/// How long a run that was killed may keep its lock: what it was just starting has that too until its exec.
const DYING: Duration = Duration::from_millis(200);

/// How long the lock of a new run may be in the hands of one who looks whether it is a dead one's.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// One stage as it is planned.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its place in the node config, its name, its timeout and its kind of check.
    pub stage: crate::model::node::Stage,
    /// Whether it waits for ever.
    pub foundation: bool,
    /// Its components, and how they run.
    pub components: Vec<(ComponentId, Runtime)>,
}

/// Keeps the record of one run. Can be shared among threads.
#[derive(Debug)]
pub struct Recorder {
    paths: Paths,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The whole record, as far as we know it.
    record: BootRecord,
    /// Which of its runs is ours.
    run: usize,
    /// When it ended by the wall clock.
    ended: Option<String>,
    /// Held as long as the run lives.
    lock: Option<Lock>,
    /// Whether something happened that the file doesn't tell.
    dirty: bool,
    /// Whether the file is given up.
    given_up: bool,
    /// When the file was last written.
    written: Option<Instant>,
}

impl Recorder {
    /// Begins the record of a run over `plan`: of all stages, or of the one whose name is `only`.
    pub fn begin(paths: &Paths, only: Option<&str>, plan: &[Plan]) -> Recorder {
        let id = fresh_id();
        let run = Run {
            id: id.clone(),
            stage: only.map(str::to_string),
            began_ms: 0,
            ended_ms: None,
            outcome: Outcome::Running,
        };
        let fresh = BootRecord {
            schema: SCHEMA,
            boot_id: time::boot_id(),
            began: time::now(),
            zero_ms: time::since_boot_ms(),
            ended: None,
            ended_ms: None,
            outcome: Outcome::Running,
            mode: if only.is_some() { Mode::Stages } else { Mode::Whole },
            runs: vec![run],
            stages: plan.iter().map(planned).collect(),
            read_ms: None,
        };
        let mut inner = Inner {
            record: fresh,
            run: 0,
            ended: None,
            lock: None,
            dirty: false,
            given_up: false,
            written: Some(Instant::now()),
        };
        if let Err(e) = inner.begin(paths, &id) {
            warn!("this boot is not recorded: {e}");
            inner.given_up = true;
        }
        Recorder { paths: paths.clone(), inner: Mutex::new(inner) }
    }

    /// The turn of stage `name` has come.
    pub fn stage_began(&self, name: &str) {
        let mut inner = self.inner();
        let at = inner.at();
        if let Some(stage) = inner.stage(name) {
            (stage.began_ms, stage.ended_ms, stage.outcome) = (Some(at), None, StageOutcome::Running);
            inner.changed(&self.paths);
        }
    }

    /// These components have joined stage `name`.
    pub fn joined<'a>(&self, name: &str, components: impl Iterator<Item = (&'a ComponentId, Runtime)>) {
        let mut inner = self.inner();
        if let Some(stage) = inner.stage(name) {
            stage.components.extend(components.map(|(id, runtime)| component(id, runtime)));
            inner.changed(&self.paths);
        }
    }

    /// Something happened to the component `id`. The file tells it now, or at the next call after [`Recorder::due`].
    pub fn note(&self, id: &ComponentId, kind: Kind, text: &str) {
        let mut inner = self.inner();
        let at = inner.at();
        let (ours, name) = (inner.run, id.to_string());
        let stages = inner.record.stages.iter_mut().filter(|s| s.run == ours);
        let Some(component) = stages.flat_map(|s| &mut s.components).find(|c| c.id == name) else { return };
        component.push(at, kind, text);
        inner.changed(&self.paths);
    }

    /// The stage `name` is over. The file tells it at once.
    pub fn stage_ended(&self, name: &str, outcome: StageOutcome) {
        let mut inner = self.inner();
        let at = inner.at();
        if let Some(stage) = inner.stage(name) {
            (stage.ended_ms, stage.outcome) = (Some(at), outcome);
            inner.dirty = true;
            inner.flush(&self.paths);
        }
    }

    /// The run is over; a stage that isn't, is interrupted. The file tells it at once.
    pub fn finish(self, outcome: Outcome) {
        let mut inner = self.inner();
        let (at, run) = (inner.at(), inner.run);
        inner.record.end_run(run, outcome, Some(at));
        inner.ended = Some(time::now());
        inner.dirty = true;
        inner.flush(&self.paths);
        if let Some(Err(e)) = inner.lock.take().map(Lock::remove) {
            debug!("{e}");
        }
    }

    /// When [`Recorder::flush`] should be called for what the file doesn't tell yet; `None`: it tells all.
    pub fn due(&self) -> Option<Deadline> {
        let inner = self.inner();
        let pause = inner.written.map_or(Duration::ZERO, |w| PAUSE.saturating_sub(w.elapsed()));
        (inner.dirty && !inner.given_up).then(|| Deadline::after(pause))
    }

    /// Writes what the file doesn't tell yet.
    pub fn flush(&self) {
        self.inner().flush(&self.paths);
    }

    /// The record as it is now.
    pub fn record(&self) -> BootRecord {
        self.inner().record.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked here has left a record that is none the worse.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Now, in the record's time.
    fn at(&self) -> u64 {
        time::since_boot_ms().saturating_sub(self.record.zero_ms)
    }

    /// Our stage of that name.
    fn stage(&mut self, name: &str) -> Option<&mut Stage> {
        let ours = self.run;
        self.record.stages.iter_mut().find(|s| s.run == ours && s.name == name)
    }

    fn changed(&mut self, paths: &Paths) {
        self.dirty = true;
        if self.written.is_none_or(|w| w.elapsed() >= PAUSE) {
            self.flush(paths);
        }
    }

    /// Takes the run's lock and its place in the file: at the end of the record there, or in a new one.
    fn begin(&mut self, paths: &Paths, id: &str) -> Result<()> {
        sweep(&paths.boot_runs());
        let name = paths.boot_runs().join(id);
        let lock = Lock::wait(&name, Deadline::after(LOCK_TIMEOUT))?;
        self.lock = Some(lock.ok_or_else(|| Error::busy(name.display(), "held by another"))?);
        file::create_dirs(&paths.lib)?;
        let path = paths.boot_record();
        let deadline = Deadline::after(DYING);
        loop {
            match self.take_place(paths, &path) {
                Err(Error::Busy { .. }) if !deadline.passed() => std::thread::sleep(DYING / 20),
                placed => return placed,
            }
        }
    }

    /// Takes the place in the file. [`Error::Busy`]: another boot goes on.
    fn take_place(&mut self, paths: &Paths, path: &Path) -> Result<()> {
        turns::replace_soon(path, || {
            match read_old(paths, path)? {
                Some(old) if self.joins(&old) => self.join(old),
                Some(old) if old.outcome == Outcome::Running => {
                    return Err(Error::busy(path.display(), "another boot of this node goes on"));
                }
                Some(old) => file::write_whole(&paths.boot_record_before(), &bounds::to_bytes(&old)?, false)?,
                None => {}
            }
            bounds::to_bytes(&self.record).map(Some)
        })
    }

    /// Whether our run belongs into `old`.
    fn joins(&self, old: &BootRecord) -> bool {
        let Some(Some(name)) = self.record.runs.first().map(|r| &r.stage) else { return false };
        if old.boot_id != self.record.boot_id || old.boot_id.is_empty() || old.runs.len() >= RUNS_MAX {
            return false;
        }
        let over = old
            .stages
            .iter()
            .any(|s| s.name == *name && matches!(s.outcome, StageOutcome::Healthy | StageOutcome::TimedOut));
        let silent_ms = time::since_boot_ms().saturating_sub(old.zero_ms.saturating_add(old.last_ms()));
        // A run that lives would lose its record to ours.
        old.outcome == Outcome::Running || (old.mode == Mode::Stages && !over && silent_ms < APART_MS)
    }

    fn join(&mut self, mut old: BootRecord) {
        let index = old.runs.len();
        let offset = self.record.zero_ms.saturating_sub(old.zero_ms);
        for mut run in self.record.runs.drain(..) {
            run.began_ms = offset;
            old.runs.push(run);
        }
        for mut stage in self.record.stages.drain(..) {
            stage.run = index;
            old.stages.push(stage);
        }
        self.run = index;
        self.record = old;
        self.record.read_ms = None;
        self.record.settle();
    }

    fn flush(&mut self, paths: &Paths) {
        if !self.dirty || self.given_up {
            return;
        }
        if let Err(e) = self.write(paths) {
            warn!("this boot is not recorded any further: {e}");
            self.given_up = true;
        }
        self.dirty = false;
        self.written = Some(Instant::now());
    }

    /// Puts our run and its stages in their places in the file. Runs of other stages write there too.
    fn write(&mut self, paths: &Paths) -> Result<()> {
        let path = paths.boot_record();
        turns::replace_soon(&path, || {
            let there =
                file::read_bounded(&path, SIZE_MAX)?.map(|bytes| BootRecord::parse(&path, &bytes)).transpose()?;
            if let Some(mut there) = there {
                let first = |record: &BootRecord| record.runs.first().map(|r| r.id.clone());
                if there.boot_id != self.record.boot_id || first(&there) != first(&self.record) {
                    return Err(Error::refused(path.display(), "another boot has begun a record"));
                }
                let ours = self.run;
                if let (Some(place), Some(run)) = (there.runs.get_mut(ours), self.record.runs.get(ours)) {
                    *place = run.clone();
                }
                let at = there.stages.iter().position(|s| s.run >= ours).unwrap_or(there.stages.len());
                there.stages.retain(|s| s.run != ours);
                let stages = self.record.stages.iter().filter(|s| s.run == ours).cloned();
                drop(there.stages.splice(at..at, stages));
                there.settle();
                self.record = there;
            }
            if self.record.outcome != Outcome::Running && self.ended.is_some() {
                self.record.ended.clone_from(&self.ended);
            }
            bounds::to_bytes(&self.record).map(Some)
        })
    }
}

/// A name that no other run on this node has: process ids come again, with another start time.
fn fresh_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let start = lock::start_time(i32::try_from(pid).unwrap_or(0)).unwrap_or(0);
    format!("{pid}-{start}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn component(id: &ComponentId, runtime: Runtime) -> Component {
    Component { id: id.to_string(), runtime, retries: 0, deaths: 0, events: Vec::new(), left_out: None }
}

fn planned(plan: &Plan) -> Stage {
    Stage {
        run: 0,
        name: plan.stage.name.clone(),
        health: plan.stage.health,
        timeout: plan.stage.timeout,
        foundation: plan.foundation,
        began_ms: None,
        ended_ms: None,
        outcome: StageOutcome::Waiting,
        components: plan.components.iter().map(|(id, runtime)| component(id, *runtime)).collect(),
    }
}

/// The record that is there, its killed runs interrupted. One that can't be read counts as none; a newer one is moved
/// aside, since whoever wrote it can read it.
fn read_old(paths: &Paths, path: &Path) -> Result<Option<BootRecord>> {
    match BootRecord::read(paths) {
        Ok(old) => Ok(old),
        Err(e) => {
            warn!("{e}; it is moved to {}", paths.boot_record_before().display());
            std::fs::rename(path, paths.boot_record_before()).map_err(Error::path("rename", path))?;
            Ok(None)
        }
    }
}

/// Removes locks of runs that were killed.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Ok(Some(dead)) = Lock::try_take(&entry.path())
            && let Err(e) = dead.remove()
        {
            debug!("{e}");
        }
    }
}
