//! The process that stays with a component: from one version to the next, for as long as something runs.

mod detach;
mod options;
mod runner;

pub use options::Options;
pub use runner::Runner;

use self::detach::{Caller, Side, detach};
use crate::guest::instance::Instance;
use crate::model::service::PLACED;
use crate::model::state::{End, EndedBy};
use crate::model::{ComponentId, Placement, Record, Target, Version, Wish};
use crate::node::failure;
use crate::node::resolve::{self, Resolved};
use crate::node::start::{self, Start};
use crate::node::stop::set_wish;
use crate::supervise::{Context, Mode, Outcome, ending, failure, request};
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::lock::{self, Lock};
use crate::sys::notify::Notify;
use crate::sys::paths::{ComponentPaths, Paths, Slot};
use crate::sys::pidfd::PidFd;
use crate::sys::signals::Signals;
use crate::sys::{Deadline, Error, Result, file};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How long a process that ends may keep its locks before that can be seen of it…
const ENDING: Duration = Duration::from_millis(100);
/// …and one of which it can be seen.
const DYING: Duration = Duration::from_secs(10);
/// Between two tries to take a lock that nobody seems to have.
const PAUSE: Duration = Duration::from_millis(2);
/// What a detached start may take beyond the component's timeouts.
const SPARE: Duration = Duration::from_secs(30);

/// One component's supervisor.
pub struct Supervisor<'a> {
    /// How we were called.
    pub options: &'a Options,
    /// The context, with the specification that was found at first.
    pub base: Context<'a>,
    /// What was found at first.
    pub found: &'a Resolved,
    /// What runs it.
    pub runner: Runner,
}

/// Does `start`. Where an init started us for `target`, it keeps the reason of a failure for whoever told the init to.
pub fn noting(
    paths: &Paths,
    target: Option<&str>,
    options: &Options,
    start: impl FnOnce() -> Result<u8>,
) -> Result<u8> {
    let result = start();
    if let (Err(e), Some(target), true) = (&result, target, options.recover && !options.detach)
        && let Ok(Target { service, component: Some(component) }) = Target::parse(target)
    {
        failure::note(paths, &ComponentId { service, component }, e);
    }
    result
}

/// Whether an init or a boot has to leave it alone, which is said: the cluster places it, or an operator stopped it.
pub fn shall_be_left_alone(paths: &Paths, found: &Resolved) -> Result<bool> {
    let id = &found.id;
    if found.placement == Placement::Cluster {
        log::warn!("{id}: {PLACED}, so it is not started; mcp-run {id} starts it by hand");
        return Ok(true);
    }
    shall_stay_stopped(paths, id)
}

/// Whether an operator stopped it, which is said.
fn shall_stay_stopped(paths: &Paths, id: &ComponentId) -> Result<bool> {
    let stays = Record::read(paths, id)?.is_some_and(|record| record.wish == Wish::Stop);
    if stays {
        log::warn!("{id}: shall stay stopped, so it is not started; mcp-run {id} changes that");
    }
    Ok(stays)
}

impl Supervisor<'_> {
    /// Runs `start`, in the background where that was asked for; returns the exit code. Must be called while there is one
    /// thread.
    pub fn begin(&self, start: Start) -> Result<u8> {
        if !self.options.detach {
            return self.run(start, None, None);
        }
        options::check_lingering(self.base.paths);
        // Longer than the supervisor takes to give up, unless its restart policy makes it go on.
        let spec = &start.version.spec;
        let patience = spec.start_timeout + spec.settle + spec.stop_timeout + SPARE;
        let (files, object) = (self.base.files(), self.base.id.to_string());
        match detach(&files, &self.base.node.log, self.options.wait, patience, &object, || take_lock(&self.base))? {
            Side::Caller(code) => Ok(code),
            Side::Supervisor(caller, lock) => {
                let caller = Rc::new(RefCell::new(caller));
                let result = self.run(start, Some(Rc::clone(&caller)), Some(lock));
                let mut code = match &result {
                    Ok(code) => *code,
                    Err(e) => e.exit_code(),
                };
                if self.options.adopt && matches!(result, Ok(EXIT_OK)) && !caller.borrow().is_told() {
                    log::warn!("{}: not running", self.base.id);
                    code = EXIT_NO;
                } else if (self.options.no_restart || self.options.wait)
                    && code == EXIT_OK
                    && !caller.borrow().is_told()
                {
                    // To whoever places it, a start that leaves nothing running is none; nor is it to whoever waits for it.
                    let what = if self.options.wait { "was ready" } else { "ran" };
                    log::warn!("{}: ended before it {what}", self.base.id);
                    code = EXIT_NO;
                }
                if let Err(e) = result {
                    super::report(super::program(), &e);
                }
                caller.borrow_mut().ended(code);
                Ok(code)
            }
        }
    }

    /// Takes the component's lock, unless it has it, and stays with the component until it ends; returns our exit code.
    /// `caller` waits for us, if we are detached.
    fn run(&self, start: Start, caller: Option<Rc<RefCell<Caller>>>, lock: Option<Lock>) -> Result<u8> {
        let signals = Signals::catch()?;
        let mut lock = lock.map_or_else(|| take_lock(&self.base), Ok)?;
        let signed = lock.sign(crate::cmd::program());
        let ended = signed.and_then(|()| self.supervise(start, caller, &signals));
        remove_traces(&self.base, lock);
        Ok(ended?.map_or(EXIT_OK, |end| told(self.base.id, &end, self.options)))
    }

    fn supervise(&self, start: Start, caller: Option<Rc<RefCell<Caller>>>, signals: &Signals) -> Result<Option<End>> {
        let (paths, id) = (self.base.paths, self.base.id);
        let files = self.base.files();
        let mut notify = Notify::from_environment(self.options.notify_fd);
        let restarts = self.options.by_policy || (caller.is_some() && !self.options.no_restart);
        if let Some(caller) = caller {
            notify = notify.with_waiting(Box::new(move |step| caller.borrow_mut().step(step)));
        }
        if self.options.adopt {
            // --adopt keeps the desired state as it is.
        } else if !self.options.recover {
            set_wish(paths, id, Wish::Run)?;
        } else if shall_stay_stopped(paths, id)? {
            // A stop came while we waited for the lock of the supervisor that it ended.
            return Ok(None);
        }
        let Start { mut version, trial } = start;
        let adopt_only = self.options.adopt;
        let mut mode = Mode { restarts, adopt_only, trial, ..Mode::default() };
        let mut carried = None;
        loop {
            mode.leave = Record::read(paths, id)?.is_some_and(|record| record.leave);
            match self.run_version(&version, &mode, carried.take(), &mut notify, signals) {
                Ok(Outcome::Start(next)) => {
                    version = *next;
                    mode = Mode { trial: true, adopt_only: false, fallback: None, ..mode };
                }
                Ok(Outcome::Replaced(next, instance)) => {
                    version = *next;
                    let trial = instance.state.ready_at.is_none();
                    mode = Mode { trial, adopt_only: false, fallback: None, ..mode };
                    carried = Some(*instance);
                }
                // Where the one on trial before it was no good, that is what is told.
                Ok(Outcome::Ended(Some(end))) if end.by == EndedBy::Operator && mode.fallback.is_none() => {
                    request::call_off(&files);
                    return Ok(Some(end));
                }
                Ok(Outcome::Ended(end)) => {
                    answer_failure(&files, &mode, &end.as_ref().map_or("stopped".into(), ending));
                    return Ok(end);
                }
                Ok(Outcome::Failed(why, end)) => {
                    let text = failure(&why, &end.console);
                    match self.fall_back(&version, &text, &mut notify)? {
                        Some(current) => version = current,
                        None => {
                            // Where we have ended it, that was told then.
                            if end.by != EndedBy::Mcp {
                                log::error!("{id}: {text}");
                            }
                            request::answer(&files, EXIT_NO, &text);
                            // Its last lines were told with that.
                            return Ok(Some(End { console: Vec::new(), ..end }));
                        }
                    }
                    mode = Mode { trial: false, fallback: Some(text), ..mode };
                }
                Err(e) => {
                    // With nothing to fall back on, a deploy may be tried again when the reason is gone.
                    let back = if mode.trial && !mode.adopt_only {
                        self.fall_back(&version, &e.to_string(), &mut notify)?
                    } else {
                        None
                    };
                    let Some(current) = back else {
                        answer_failure(&files, &mode, &e.to_string());
                        return Err(e);
                    };
                    version = current;
                    mode = Mode { trial: false, fallback: Some(format!("the new version: {e}")), ..mode };
                }
            }
        }
    }

    /// Runs one version for as long as it lasts.
    fn run_version(
        &self,
        version: &Version,
        mode: &Mode,
        carried: Option<Instance>,
        notify: &mut Notify,
        signals: &Signals,
    ) -> Result<Outcome<Instance>> {
        let next = || start::next(self.base.paths, &self.found_now()?);
        self.runner.run(&self.base.of(version), mode, carried, &next, notify, signals)
    }

    /// The definition as it is now: it may have changed since we were started.
    fn found_now(&self) -> Result<Resolved> {
        if self.found.adhoc {
            return Ok(self.found.clone());
        }
        let target = Target::parse(&self.found.id.to_string())?;
        resolve::one(self.base.paths, &target).map(|(_, found)| found)
    }

    /// The version on trial was no good, which is said: what was before it, if there was one, is to be started instead.
    fn fall_back(&self, failed: &Version, why: &str, notify: &mut Notify) -> Result<Option<Version>> {
        let (paths, id) = (self.base.paths, self.base.id);
        let current = Record::read(paths, id)?.and_then(|r| r.current);
        // Deployed again: the next start is an ordinary one, which its restart policy answers. What a one-shot of the version
        // before had to do is done.
        if failed.spec.oneshot || current.as_ref().is_some_and(|current| current.runs_as(failed)) {
            start::note_failed(paths, id, failed);
            return Ok(None);
        }
        if current.is_some() {
            log::error!("{id}: {why}");
            log::error!("{id}: back to the version before");
            start::note_failed(paths, id, failed);
            notify.failed();
        }
        Ok(current)
    }
}

fn answer_failure(files: &ComponentPaths, mode: &Mode, why: &str) {
    match &mode.fallback {
        Some(text) => request::answer(files, EXIT_NO, &format!("{text}\nand the old version did not come back: {why}")),
        None => request::answer(files, EXIT_NO, why),
    }
}

/// Takes the component's lock, or says who has it. A holder that was just killed is given the time that its end takes.
fn take_lock(context: &Context<'_>) -> Result<Lock> {
    let path = context.files().lock();
    let (soon, deadline) = (Deadline::after(ENDING), Deadline::after(DYING));
    loop {
        if let Some(lock) = Lock::try_take(&path)? {
            return Ok(lock);
        }
        let holder = lock::holder(&path);
        let until = if holder.as_ref().is_some_and(|h| lock::is_dying(h.pid)) { deadline } else { soon };
        match holder.as_ref().and_then(PidFd::of_holder) {
            Some(process) if !until.passed() && process.wait(until)? => std::thread::sleep(PAUSE),
            None if !until.passed() => std::thread::sleep(PAUSE),
            Some(_) if holder.as_ref().is_some_and(|h| h.program != crate::cmd::program()) => {
                let who = holder.map(|h| format!("{} (pid {})", h.program, h.pid)).unwrap_or_default();
                return Err(Error::busy(context.id, format!("{who} is at work on it; try again when that has ended")));
            }
            _ => {
                let id = context.id;
                let who = match holder {
                    Some(holder) => format!("{} (pid {})", holder.program, holder.pid),
                    None => "another process".into(),
                };
                return Err(Error::refused(id, format!("already supervised by {who}; mcp-stop {id} stops it")));
            }
        }
    }
}

/// Says how it ended; the exit code that goes with it. Where we restart it ourselves, an end that we come back with is final,
/// and must not look like a failure to an init that starts failures again.
fn told(id: &ComponentId, end: &End, options: &Options) -> u8 {
    let code = match options.recover && !options.detach {
        true if options.by_policy => EXIT_OK,
        true => end.exit_code_for_init(),
        false => end.exit_code(),
    };
    match end.exit_code() {
        // One that was waited for, and was not ready, has failed all the same.
        EXIT_OK if end.rung.is_none() && (!options.wait || end.console.is_empty()) => {
            log::info!("{id}: {}", end.reason)
        }
        // Whoever stopped it, or has seen its console, knows.
        _ if end.rung.is_some() || options.copies_console() => log::warn!("{id}: {}", end.reason),
        _ => log::warn!("{id}: {}", ending(end)),
    }
    code
}

/// Gives the component's lock up. The run directory stays: it tells of the end.
fn remove_traces(context: &Context<'_>, lock: Lock) {
    if let Err(e) = lock.remove() {
        log::warn!("{}: {e}", context.id);
    }
    // A start that failed has left nothing to tell.
    let files = context.files();
    if !Slot::ALL.iter().any(|slot| files.instance(*slot).state().exists()) {
        for slot in Slot::ALL {
            let _ = file::remove_if_there(&files.instance(slot).console_copied());
            let _ = std::fs::remove_dir(files.instance(slot).run);
        }
        let _ = std::fs::remove_dir(&files.run);
    }
}
