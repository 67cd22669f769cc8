//! One stage: its members side by side, until all are healthy or, but for the foundation, its time is up.

use super::bells::Bells;
use super::definitions;
use super::handle::Handle;
use super::member::{Attempt, News, Shared};
use super::plan::{Member, StagePlan};
use super::tell::Teller;
use crate::health::Kept;
use crate::model::ComponentId;
use crate::model::boot_record::StageOutcome;
use crate::sys::signals::{Signal, Signals};
use crate::sys::{Deadline, Error, Result};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::Inotify;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// So often people and the init system are told what is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Those that run already have answered by then, as a rule.
const QUIET: Duration = Duration::from_millis(200);
/// What the init system is to wait beyond what we know of.
const MARGIN: Duration = Duration::from_secs(60);
/// An answer older than this is asked for again before the foundation counts as healthy.
const FRESH: Duration = Duration::from_secs(10);
/// The pause before a member that got no thread is tried again.
const NO_THREAD_PAUSE: Duration = Duration::from_secs(1);
/// What a member's thread needs of stack, in bytes.
const STACK: usize = 512 << 10;

/// How a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Now {
    /// Not healthy yet; what is known of it.
    Waiting(String),
    Healthy(Instant),
    /// It was healthy a while ago, and is asked again.
    Doubted,
    /// Not waited for.
    Skipped,
    /// Nothing more is tried.
    GaveUp(String),
}

/// How a stage came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All that shall run are healthy.
    Healthy,
    /// These are not.
    Unhealthy(Vec<(ComponentId, String)>),
    /// A signal came.
    Interrupted,
}

/// A stage at work.
pub struct Running<'a> {
    plan: &'a mut StagePlan,
    shared: &'a Arc<Shared>,
    signals: &'a Signals,
    tell: &'a mut Teller,
    now: Vec<Now>,
    /// Why those could not be started that could not.
    failed: BTreeMap<usize, String>,
    handles: Vec<Arc<Handle>>,
    sender: Sender<(usize, News)>,
    news: Receiver<(usize, News)>,
    wake: Arc<EventFd>,
    kept: &'a Arc<Kept>,
    bells: Option<Bells>,
    /// Tells when a bad definition of the foundation may have been mended.
    mending: Option<Inotify>,
    /// Until then nothing is watched, unless there is other news: where all that shall run do and are healthy there is no
    /// need.
    quiet: Option<Deadline>,
    began: Instant,
    /// How old an answer may be when the foundation is to count as healthy.
    fresh: Duration,
    /// Members that have no thread yet.
    waiting: VecDeque<Arc<Attempt>>,
}

impl<'a> Running<'a> {
    /// Starts to bring the members of `plan` up. As long as all just run, `kept` takes the connections that they were
    /// asked on.
    pub fn begin(
        plan: &'a mut StagePlan,
        shared: &'a Arc<Shared>,
        kept: &'a Arc<Kept>,
        signals: &'a Signals,
        tell: &'a mut Teller,
    ) -> Result<Running<'a>> {
        tell.stage_began(plan);
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let wake = Arc::new(wake.map_err(Error::os("create", "an event descriptor"))?);
        let (sender, news) = channel();
        let members = std::mem::take(&mut plan.members);
        let mut running = Running {
            plan,
            shared,
            signals,
            tell,
            now: Vec::new(),
            failed: BTreeMap::new(),
            handles: Vec::new(),
            sender,
            news,
            wake,
            kept,
            bells: None,
            mending: None,
            quiet: Some(Deadline::after(QUIET)),
            began: Instant::now(),
            fresh: FRESH,
            waiting: VecDeque::new(),
        };
        running.add(members);
        running.begin_members();
        if running.is_held() {
            running.mending = definitions::watch(&shared.paths, running.plan.bad.iter().map(|bad| bad.name.as_str()));
            // What was mended before it was watched.
            running.read_again();
        }
        Ok(running)
    }

    /// Takes more members.
    fn add(&mut self, members: Vec<Member>) {
        for member in members {
            let handle = Arc::new(Handle::default());
            self.waiting.push_back(Arc::new(Attempt {
                shared: Arc::clone(self.shared),
                member: member.clone(),
                index: self.plan.members.len(),
                foundation: self.plan.foundation,
                handle: Arc::clone(&handle),
                news: self.sender.clone(),
                wake: Arc::clone(&self.wake),
                kept: Arc::clone(self.kept),
            }));
            self.handles.push(handle);
            self.now.push(Now::Waiting("not started yet".into()));
            self.plan.members.push(member);
        }
    }

    /// Whether a bad definition holds the stage: everything else depends on the foundation.
    fn is_held(&self) -> bool {
        self.plan.foundation && !self.plan.bad.is_empty()
    }

    /// Reads the bad definitions of the foundation again. The components of one that is mended join the stage.
    fn read_again(&mut self) {
        let mut joined = false;
        for mut bad in std::mem::take(&mut self.plan.bad) {
            match bad.read_again(&self.shared.paths, &self.plan.stage) {
                Ok(members) => {
                    self.tell.mended(&self.plan.stage.name, &bad.name, &members);
                    self.add(members);
                    joined = true;
                }
                Err(problems) => {
                    if problems != bad.problems {
                        self.tell.bad(&problems);
                        bad.problems = problems;
                    }
                    self.plan.bad.push(bad);
                }
            }
        }
        if joined {
            if self.quiet.is_none() {
                self.bells = Bells::new(&self.shared.paths, self.plan.members.iter().map(Member::id));
            }
            self.begin_members();
        }
        self.say(false);
    }

    /// Gives a thread of its own to each member that has none: most of what a member does is waiting, and a member that
    /// waits must not hold up one that it waits for.
    fn begin_members(&mut self) {
        while let Some(attempt) = self.waiting.pop_front() {
            let own = Arc::clone(&attempt);
            // Not joined: one that hangs in a start command must not hold the boot up.
            if let Err(e) = std::thread::Builder::new().stack_size(STACK).spawn(move || own.run()) {
                if let Some(Now::Waiting(why)) = self.now.get_mut(attempt.index) {
                    *why = format!("no thread for it: {}; it is tried again", Error::os("start", "a thread")(e));
                }
                return self.waiting.push_front(attempt);
            }
        }
    }

    /// Waits for its end.
    pub fn run(mut self) -> Result<Ended> {
        let deadline = (!self.plan.foundation).then(|| Deadline::after(self.plan.stage.timeout));
        let mut say_again = Deadline::after(SAY_AGAIN);
        self.extend(deadline);
        self.say(false);
        let ended = loop {
            self.take_news();
            self.begin_members();
            if self.quiet.is_some_and(|d| d.passed()) && !self.is_settled() {
                self.listen();
            }
            if self.is_settled() && !self.is_held() && !self.doubts() {
                break self.result();
            }
            if deadline.is_some_and(|d| d.passed()) {
                break self.result();
            }
            if self.signals.take() == Some(Signal::Stop) {
                break Ended::Interrupted;
            }
            if say_again.passed() {
                say_again = Deadline::after(SAY_AGAIN);
                self.extend(deadline);
                // Where nothing tells of changes, this does.
                if self.is_held() && self.mending.is_none() {
                    self.read_again();
                }
                self.say(true);
            }
            let again = (!self.waiting.is_empty()).then(|| Deadline::after(NO_THREAD_PAUSE));
            let due = [deadline, self.tell.due(), self.quiet, again, Some(say_again)]
                .into_iter()
                .flatten()
                .reduce(Deadline::min);
            let timeout = due.unwrap_or(say_again).poll_timeout();
            let polled = [self.signals.as_fd(), self.wake.as_fd()].into_iter();
            let polled =
                polled.chain(self.bells.as_ref().map(AsFd::as_fd)).chain(self.mending.as_ref().map(AsFd::as_fd));
            let mut fds: Vec<_> = polled.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(Error::os("poll", &self.plan.stage.name)(e)),
            }
            for member in self.bells.as_mut().map(Bells::rung).unwrap_or_default() {
                if let Some(handle) = self.handles.get(member) {
                    handle.ring();
                }
            }
            if self.mending.as_ref().is_some_and(definitions::has_changed) {
                self.read_again();
            }
            self.tell.catch_up();
        };
        for handle in &self.handles {
            handle.end();
        }
        // The kernel takes some 10 ms to close an inotify: nobody waits for that.
        let bells = self.bells.take();
        let _ = std::thread::Builder::new().stack_size(STACK).spawn(move || drop(bells));
        let (outcome, unhealthy) = match &ended {
            Ended::Healthy => (StageOutcome::Healthy, &[][..]),
            Ended::Unhealthy(which) => (StageOutcome::TimedOut, which.as_slice()),
            Ended::Interrupted => (StageOutcome::Interrupted, &[][..]),
        };
        self.tell.stage_ended(&self.plan.stage.name, outcome, unhealthy, self.began.elapsed());
        Ok(ended)
    }

    fn take_news(&mut self) {
        let _ = self.wake.read();
        let mut changed = false;
        while let Ok((index, news)) = self.news.try_recv() {
            if !matches!(news, News::Already | News::Healthy(_) | News::Skipped(_)) {
                self.listen();
            }
            let (Some(member), Some(now)) = (self.plan.members.get(index), self.now.get_mut(index)) else { continue };
            let next = match &news {
                News::Already => Now::Waiting("not asked yet".into()),
                News::Start | News::Retry | News::Adopt => Now::Waiting("starting".into()),
                News::Started => Now::Waiting("not ready yet".into()),
                News::Ready => Now::Waiting("not asked yet".into()),
                News::Healthy(_) => Now::Healthy(Instant::now()),
                News::Unhealthy(why) | News::Died(why) | News::Failed(why) => Now::Waiting(why.clone()),
                News::GaveUp(why) | News::Ended(why) => Now::GaveUp(why.clone()),
                News::Skipped(_) => Now::Skipped,
            };
            // Said once, however often it is found so, and however often it is tried.
            let is_news = match &news {
                News::Unhealthy(_) => *now != next,
                News::Healthy(_) => *now != Now::Doubted,
                News::Retry => !self.failed.contains_key(&index),
                News::Failed(why) => self.failed.insert(index, why.clone()).as_ref() != Some(why),
                _ => true,
            };
            *now = next;
            if matches!(news, News::Started | News::Healthy(_)) {
                self.failed.remove(&index);
            }
            if is_news || matches!(news, News::Retry | News::Failed(_)) {
                self.tell.note(member.id(), &news);
            }
            if is_news {
                self.tell.member(&self.plan.stage.name, member.id(), &news);
                changed = true;
            }
        }
        if changed {
            self.say(false);
        }
    }

    /// From now on members hear what happens to them. What happened before they see for themselves now.
    fn listen(&mut self) {
        if self.quiet.take().is_none() {
            return;
        }
        self.bells = Bells::new(&self.shared.paths, self.plan.members.iter().map(Member::id));
        self.kept.close();
        self.handles.iter().for_each(|handle| handle.ring());
    }

    fn is_settled(&self) -> bool {
        !self.now.iter().any(|now| matches!(now, Now::Waiting(_) | Now::Doubted))
    }

    /// Has those of the foundation asked again whose answers are old; true when there are such.
    fn doubts(&mut self) -> bool {
        if !self.plan.foundation {
            return false;
        }
        let mut doubts = false;
        for (now, handle) in self.now.iter_mut().zip(&self.handles) {
            if matches!(now, Now::Healthy(at) if at.elapsed() > self.fresh) {
                *now = Now::Doubted;
                handle.doubt();
                doubts = true;
            }
        }
        if doubts {
            // Checks that take long must not make the first answer too old by the time of the last.
            self.fresh *= 2;
        }
        doubts
    }

    fn result(&self) -> Ended {
        let mut unhealthy = Vec::new();
        for (member, now) in self.plan.members.iter().zip(&self.now) {
            if let Now::Waiting(why) | Now::GaveUp(why) = now {
                unhealthy.push((member.id().clone(), why.clone()));
            }
        }
        if unhealthy.is_empty() { Ended::Healthy } else { Ended::Unhealthy(unhealthy) }
    }

    fn extend(&self, deadline: Option<Deadline>) {
        self.tell.extend(deadline.map_or(SAY_AGAIN, |d| d.left()) + MARGIN);
    }

    /// `stage core: 2 of 3 healthy, waiting for mcr/api: guest does not answer on 8443`.
    fn say(&mut self, aloud: bool) {
        let waited = self.now.iter().filter(|now| **now != Now::Skipped).count();
        let healthy = self.now.iter().filter(|now| matches!(now, Now::Healthy(_) | Now::Doubted)).count();
        let mut text = format!("stage {}: {healthy} of {waited} healthy", self.plan.stage.name);
        let waiting = self.plan.members.iter().zip(&self.now).filter_map(|(member, now)| match now {
            Now::Waiting(why) => Some((member.id().to_string(), why.as_str())),
            _ => None,
        });
        let bad = self.plan.bad.iter().filter(|_| self.plan.foundation);
        let mut waiting = bad.map(|bad| (bad.name.clone(), "its definition is bad")).chain(waiting);
        if let Some((id, why)) = waiting.next() {
            text.push_str(&format!(", waiting for {id}: {why}"));
            match waiting.count() {
                0 => {}
                more => text.push_str(&format!(" (and {more} more)")),
            }
        }
        self.tell.status(&text, aloud);
    }
}
