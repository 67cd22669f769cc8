//! One component on its way up, in a thread of its own: started where it doesn't run, asked until it is healthy, and, in
//! the foundation, started again as often as it takes.

use super::handle::Handle;
use super::plan::Member;
use crate::health::{self, Cancel, Check, Forward, Kept, Pace, Reason, Subject, Verdict};
use crate::model::state::{Phase, State};
use crate::model::{ComponentId, Node};
use crate::node::command;
use crate::node::failure::{self, Failure};
use crate::node::probe::ComponentSubject;
use crate::node::recover::{self, Gate, Standing};
use crate::sys::error::{EXIT_FINAL, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result, time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// The first pause before a foundation component is started again…
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// …and the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// One that was healthy for so long is started again as if for the first time.
const STEADY: Duration = Duration::from_secs(60);
/// How long after its start command an init may take to begin with it.
const INIT_GRACE: Duration = Duration::from_secs(5);
/// Where something ran before the boot, a stop of it that begins so soon after was asked for before the boot: by an
/// `mcp-boot --down` that was killed, say. On a busy node no supervisor obeys at once.
const STALE_STOP_MS: u64 = 5000;
/// How long one is asked before its stage is told why it is not healthy, at first…
const FIRST_SLICE: Duration = Duration::from_secs(2);
/// …and at last.
const LONGEST_SLICE: Duration = Duration::from_secs(30);
/// One that is healthy answers within this, as a rule: only the others take more than a single question.
const AT_ONCE: Duration = Duration::from_millis(200);
/// The longest pause between two questions to one that is not healthy.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

/// What is said of one that was stopped meanwhile.
const STOPPED: &str = "it was stopped; start it, or mcp-stop it for good";

/// What a member tells its stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It runs already.
    Already,
    /// It is being started.
    Start,
    /// It is being started again.
    Retry,
    /// It runs, and is being given a supervisor again.
    Adopt,
    /// The start command has done its work.
    Started,
    /// Its supervisor says that it is ready.
    Ready,
    /// It is healthy, by this answer.
    Healthy(String),
    /// It is not healthy yet, or no more, for this reason.
    Unhealthy(String),
    /// It ended; it is started again.
    Died(String),
    /// It ended, and nothing more is tried.
    Ended(String),
    /// It could not be started; it is tried again.
    Failed(String),
    /// It could not be started, and nothing more is tried.
    GaveUp(String),
    /// It shall not run.
    Skipped(String),
}

/// What all members share.
pub struct Shared {
    /// Where everything lives.
    pub paths: Paths,
    /// The node config.
    pub node: Node,
    /// Those that don't fit beside the others.
    pub unfit: BTreeMap<ComponentId, Error>,
    /// Start commands under way at once.
    pub gate: Gate,
    /// First questions under way at once.
    pub asking: Gate,
}

/// One member at work.
pub struct Attempt {
    /// What all share.
    pub shared: Arc<Shared>,
    /// Which it is.
    pub member: Member,
    /// Its place in its stage.
    pub index: usize,
    /// Whether it is tried for ever.
    pub foundation: bool,
    /// The stage's hold.
    pub handle: Arc<Handle>,
    /// Where news go.
    pub news: Sender<(usize, News)>,
    /// Wakes the stage.
    pub wake: Arc<nix::sys::eventfd::EventFd>,
    /// Connections of first questions.
    pub kept: Arc<Kept>,
}

/// What waiting for its health came to.
enum Waited {
    Healthy(String),
    Ended(String),
    /// Its init's supervisor could not start it, and has kept why.
    Failed(Failure),
    /// It ended, and its supervisor is at it.
    Coming,
    /// It stands otherwise than it did, or is in doubt: everything from the beginning.
    Again,
    Over,
}

/// When something began, by all clocks.
struct Moment {
    /// What is in states is compared with this. Nothing is waited for by it.
    wall: String,
    /// The kernel's own time, which all processes share.
    since_kernel_boot_ms: u64,
    at: Instant,
}

impl Moment {
    fn now() -> Moment {
        Moment { wall: time::now(), since_kernel_boot_ms: time::since_boot_ms(), at: Instant::now() }
    }
}

impl Attempt {
    fn tell(&self, news: News) {
        if self.news.send((self.index, news)).is_ok() {
            let _ = self.wake.write(1);
        }
    }

    fn standing(&self) -> Standing {
        recover::standing(&self.shared.paths, self.member.id(), self.member.left_alone)
    }

    /// Brings it up. Returns when there is nothing more to do about it.
    pub fn run(&self) {
        let mut pause = FIRST_PAUSE;
        let mut first = true;
        // Whether it is us who started what runs, or ran. What ends that was there before gets its start.
        let mut started = false;
        let boot = Moment::now();
        while !self.handle.is_over() {
            let began = Moment::now();
            self.handle.settle();
            match self.standing() {
                // Whoever did so while we are at it wants it down: we don't fight, and wait for what they do next.
                Standing::Down if self.was_stopped_since(&boot) => {
                    self.tell(News::Unhealthy(STOPPED.into()));
                    self.handle.rest(Deadline::after(LONGEST_PAUSE));
                    continue;
                }
                Standing::Completed => {
                    self.tell(News::Healthy("completed".into()));
                    if !self.foundation {
                        return;
                    }
                    while !self.handle.is_over() && !self.handle.is_doubted() {
                        self.handle.rest(Deadline::after(LONGEST_PAUSE));
                    }
                    continue;
                }
                Standing::Unwanted(why) => return self.tell(News::Skipped(why.into())),
                Standing::Unknown(why) => {
                    if !self.go_on(News::Failed(why), true, &mut pause) {
                        return;
                    }
                    continue;
                }
                Standing::Running if first => self.tell(News::Already),
                Standing::Running | Standing::Coming => {}
                standing @ (Standing::Unsupervised | Standing::Down) => {
                    let down = standing == Standing::Down;
                    self.tell(match (standing, first) {
                        (Standing::Unsupervised, _) => News::Adopt,
                        (_, true) => News::Start,
                        (_, false) => News::Retry,
                    });
                    if let Err(e) = self.start(first) {
                        first = false;
                        // Whoever was quicker has it now.
                        let taken = matches!(self.standing(), Standing::Running | Standing::Coming);
                        if !taken {
                            // 126 and 127 are a program that can't be run.
                            let is_final =
                                matches!(command::exit_code(&e), EXIT_FINAL | EXIT_NOT_EXECUTABLE | EXIT_NOT_FOUND);
                            let own = format!("{}: ", self.member.id());
                            let why = e.to_string().replace(&own, "");
                            if !self.go_on(News::Failed(why), is_final, &mut pause) {
                                return;
                            }
                            continue;
                        }
                    } else {
                        started |= down;
                        self.tell(News::Started);
                    }
                }
            }
            first = false;
            match self.wait_until_healthy(&began) {
                Ok(Waited::Healthy(detail)) => {
                    self.tell(News::Healthy(detail));
                    if !self.foundation {
                        return;
                    }
                    let since = Instant::now();
                    match self.watch(&began) {
                        Waited::Ended(why) => {
                            // One that dies soon after each start is not started without end.
                            if since.elapsed() > STEADY {
                                pause = FIRST_PAUSE;
                            }
                            self.go_on(News::Died(why), false, &mut pause);
                        }
                        Waited::Coming => self.tell(News::Died("its supervisor starts it again".into())),
                        Waited::Healthy(_) | Waited::Again | Waited::Failed(_) => {}
                        Waited::Over => return,
                    }
                }
                Ok(Waited::Ended(why)) => {
                    // An init that owns it may start it again.
                    let is_final = started && self.shared.node.start_command.is_none();
                    if !self.go_on(News::Died(why), is_final, &mut pause) {
                        return;
                    }
                }
                Ok(Waited::Failed(failure)) => {
                    if !self.go_on(News::Failed(failure.reason), failure.code == EXIT_FINAL, &mut pause) {
                        return;
                    }
                }
                Ok(Waited::Again | Waited::Coming) => {}
                Ok(Waited::Over) => return,
                Err(e) => {
                    if !self.go_on(News::Failed(e.to_string()), true, &mut pause) {
                        return;
                    }
                }
            }
        }
    }

    fn start(&self, first: bool) -> Result<()> {
        let id = self.member.id();
        // Later ones see for themselves whether there is room by then.
        if let Some(e) = self.shared.unfit.get(id).filter(|_| first) {
            return Err(Error::busy(id, e.to_string()));
        }
        self.shared.gate.pass(|| match self.handle.is_over() {
            true => Err(Error::busy(id, "its stage is over")),
            false => recover::start(&self.shared.paths, &self.shared.node, &self.member.found, false),
        })
    }

    /// Whether somebody wants it down who knew of the boot that began then.
    fn was_stopped_since(&self, boot: &Moment) -> bool {
        let Some(stop) = recover::stopped_for_now(&self.shared.paths, self.member.id()) else { return false };
        stop.started_at >= boot.wall
            || match stop.since_ms {
                Some(since) => since >= boot.since_kernel_boot_ms + STALE_STOP_MS,
                None => stop.ended_at >= boot.wall,
            }
    }

    /// Tells `failure` and waits before the next try; false where there is none.
    fn go_on(&self, failure: News, is_final: bool, pause: &mut Duration) -> bool {
        if is_final && !self.foundation {
            self.tell(match failure {
                News::Failed(why) => News::GaveUp(why),
                News::Died(why) => News::Ended(why),
                other => other,
            });
            return false;
        }
        self.tell(failure);
        let until = Deadline::after(*pause);
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        // A bell that rings meanwhile tells of what is over.
        while !until.passed() && !self.handle.is_over() {
            self.handle.rest(until);
        }
        !self.handle.is_over()
    }

    fn state(&self) -> (Option<State>, bool) {
        let id = self.member.id();
        recover::instance(&self.shared.paths.component(&id.service, &id.component))
    }

    /// By its supervisor's word where that asks, else by asking ourselves.
    fn wait_until_healthy(&self, began: &Moment) -> Result<Waited> {
        let id = self.member.id();
        let by_init = self.shared.node.start_command.is_some();
        let mut slice = FIRST_SLICE;
        let mut pace = Pace::default();
        let mut ready = false;
        loop {
            let until = Deadline::after(slice);
            slice = (slice * 2).min(LONGEST_SLICE);
            // While its supervisor asks, nobody else need do so.
            let (asked_by_supervisor, is_ready) = loop {
                if self.handle.is_over() {
                    return Ok(Waited::Over);
                }
                self.handle.settle();
                let (state, alive) = self.state();
                let starting = state.as_ref().is_some_and(|s| s.phase == Phase::Starting);
                let since = state.as_ref().and_then(|s| s.ready_at.as_deref());
                let is_ready = alive && since.is_some();
                if is_ready && !ready && since.is_some_and(|at| at >= began.wall.as_str()) {
                    ready = true;
                    self.tell(News::Ready);
                }
                match (self.standing(), (state, alive)) {
                    (Standing::Unwanted(_) | Standing::Completed, _) => return Ok(Waited::Again),
                    // An init that takes an order and answers at once may not have begun yet.
                    (Standing::Unsupervised, _) if !(by_init && began.at.elapsed() < INIT_GRACE) => {
                        return Ok(Waited::Again);
                    }
                    (_, (Some(state), true)) => match state.proof().filter(|(at, _)| *at >= began.wall.as_str()) {
                        Some((_, detail)) => return Ok(Waited::Healthy(detail.to_string())),
                        None if !starting => break (false, is_ready),
                        None => {}
                    },
                    (Standing::Down, _) => match recover::ended_since(&self.shared.paths, id, &began.wall) {
                        Some(end) => return Ok(Waited::Ended(end.reason)),
                        None => match failure::since(&self.shared.paths, id, &began.wall) {
                            Some(failure) => return Ok(Waited::Failed(failure)),
                            None if by_init && began.at.elapsed() < INIT_GRACE => {}
                            None => return Ok(Waited::Ended("it is gone".into())),
                        },
                    },
                    _ => {}
                }
                if until.passed() {
                    break (starting, is_ready);
                }
                self.handle.rest(until);
            };
            match self.ask(until, &mut pace, asked_by_supervisor)? {
                // While its supervisor asks, that has the last word.
                Some(Verdict::Healthy { .. }) if asked_by_supervisor => self.handle.rest(Deadline::after(FIRST_SLICE)),
                Some(Verdict::Healthy { detail, .. }) => return Ok(Waited::Healthy(detail)),
                Some(Verdict::Unhealthy(Reason::Cancelled)) => {}
                Some(Verdict::Unhealthy(reason)) => self.tell(News::Unhealthy(reason.to_string())),
                // One that is over was ready, too.
                None if is_ready => return Ok(Waited::Healthy("runs; it has no check".into())),
                None => self.handle.rest(Deadline::after(slice)),
            }
        }
    }

    /// Asks until it is healthy, at least once, until then; with `once`, to know why it is not, just once. `None`: it has
    /// no check.
    fn ask(&self, until: Deadline, pace: &mut Pace, once: bool) -> Result<Option<Verdict>> {
        let id = self.member.id();
        let paths = &self.shared.paths;
        let spec = self.member.spec(paths);
        let Some(mut subject) = ComponentSubject::new(paths, id, &spec, Some(self.member.stage_health))? else {
            return Ok(None);
        };
        if (once || subject.health().successes <= 1)
            && let Ok((check, forward)) = subject.parts()
        {
            // In turns: fifty guests that are asked at once hold each other up, and all take longer.
            let ask = || health::probe_and_keep(check, forward, Deadline::after(AT_ONCE), &self.kept);
            let verdict = self.shared.asking.pass(ask);
            if once || verdict.is_healthy() {
                return Ok(Some(verdict));
            }
        }
        // Not before: those that answer at once, as a thousand may, take no descriptor for it.
        let cancel = self.handle.fresh()?;
        let hints = subject.hints().map_err(|e| log::debug!("{id}: {e}")).ok();
        let health = subject.health();
        let interval = health.interval.max((until.left() / 8).min(LONGEST_INTERVAL));
        let deadline = until.max(Deadline::after(health.timeout.min(FIRST_SLICE)));
        let plan = health::Plan { interval, successes: health.successes, deadline };
        let mut subject = UntilEnded { subject, of: self, cancel: &cancel };
        let verdict = health::wait_on(&mut subject, &plan, pace, hints.as_ref(), Some(&cancel));
        // Said first: the kernel takes some 10 ms to close an inotify.
        let _ = std::thread::Builder::new().spawn(move || drop(hints));
        Ok(Some(verdict))
    }

    /// Watches one that is healthy until it ends, until it is in doubt, or until the stage is over.
    fn watch(&self, began: &Moment) -> Waited {
        loop {
            if self.handle.is_over() {
                return Waited::Over;
            }
            if self.handle.is_doubted() {
                return Waited::Again;
            }
            match self.standing() {
                Standing::Down => {
                    let end = recover::ended_since(&self.shared.paths, self.member.id(), &began.wall);
                    return Waited::Ended(end.map_or("it is gone".into(), |end| end.reason));
                }
                Standing::Coming => return Waited::Coming,
                Standing::Unwanted(_) | Standing::Unsupervised | Standing::Completed => return Waited::Again,
                Standing::Running | Standing::Unknown(_) => {}
            }
            // Both of them killed at once give no hint.
            self.handle.rest(Deadline::after(LONGEST_INTERVAL));
        }
    }
}

/// Ends the wait when there is nothing left to ask.
struct UntilEnded<'a> {
    subject: ComponentSubject,
    of: &'a Attempt,
    cancel: &'a Cancel,
}

impl Subject for UntilEnded<'_> {
    fn parts(&mut self) -> std::result::Result<(&Check, Option<&mut dyn Forward>), Reason> {
        let gone = || !matches!(self.of.standing(), Standing::Running | Standing::Coming);
        match self.subject.parts() {
            Err(Reason::NotRunning) if gone() => {
                self.cancel.set();
                Err(Reason::NotRunning)
            }
            parts => parts,
        }
    }
}
