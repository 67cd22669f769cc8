//! One VM attended: everything that can happen to it, and what is done about it.

use crate::guest::instance::Instance;
use crate::guest::ladder::{Action, Ladder};
use crate::guest::live::{Live, POLLED};
use crate::guest::monitor::handover::{Side, refuse};
use crate::guest::monitor::qmp::QmpError;
use crate::guest::replace::{self, Progress, Replacement, hindrance};
use crate::guest::supervise::{Hooks, Outcome};
use crate::model::event::{EventKind, StopReason};
use crate::model::state::Phase;
use crate::model::{OnUnhealthy, Version};
use crate::supervise::asked::unsettled;
use crate::supervise::policy::Watched;
use crate::supervise::report::Health;
use crate::supervise::request::{self, answer};
use crate::supervise::{Context, Mode, failure, link_current};
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::notify::Notify;
use crate::sys::signals::{Signal, Signals};
use crate::sys::{Deadline, Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long one monitor command may hold the loop up.
const COMMAND: Duration = Duration::from_secs(2);
/// How long a QEMU that closed its monitor may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// One instance under watch, and the one that is to replace it, if any.
pub(super) struct Attended<'a> {
    context: &'a Context<'a>,
    mode: &'a Mode,
    hooks: &'a Hooks<'a>,
    live: Live,
    notify: &'a mut Notify,
    signals: &'a Signals,
    ladder: Option<Ladder>,
    replacing: Option<Replacement>,
    /// To be started when this one has stopped.
    next: Option<Version>,
    /// A stop came that is for the one which has taken over.
    stop_next: bool,
}

impl<'a> Attended<'a> {
    /// `live`, with nothing under way.
    pub(super) fn new(
        context: &'a Context<'a>,
        mode: &'a Mode,
        hooks: &'a Hooks<'a>,
        live: Live,
        notify: &'a mut Notify,
        signals: &'a Signals,
    ) -> Attended<'a> {
        Attended {
            context,
            mode,
            hooks,
            live,
            notify,
            signals,
            ladder: None,
            replacing: None,
            next: None,
            stop_next: false,
        }
    }

    /// Tells that it has started.
    pub(super) fn started(&mut self) {
        self.notify.started();
    }

    /// Where nothing is to be waited for, it is ready now.
    pub(super) fn begin(&mut self) {
        // One that is only to be stopped opens no port any more.
        if self.live.asked.start_deadline.is_none() && !self.mode.stop_only && !self.context.component.oneshot {
            self.ready(None);
        }
    }

    /// Watches until QEMU has ended.
    pub(super) fn watch(mut self) -> Result<Watched<Instance>> {
        if self.mode.stop_only {
            self.begin_stop(true, StopReason::Asked);
        }
        while !self.turn()? {}
        self.live.asked.no_more();
        self.live.instance.traces.stopped = self.ladder.as_ref().map(|l| (l.rung(), l.by_operator));
        let paths = self.live.instance.paths.clone();
        let (state, end) = self.live.instance.finish()?;
        if self.stop_next {
            self.signals.stop_again();
        }
        if let Some(replacement) = self.replacing {
            let Replacement { version, mut live, .. } = replacement;
            live.asked.no_more();
            link_current(&self.context.files(), live.instance.paths.slot)?;
            // The old one may have ended by itself, or had to, before it gave its ports up.
            if let Some(instance) = replace::take_over(self.context, live.instance, None) {
                return Ok(Watched::Other(Outcome::Replaced(Box::new(version), Box::new(instance))));
            }
            return Ok(Watched::Other(Outcome::Start(Box::new(version))));
        }
        match self.next {
            Some(version) => Ok(Watched::Other(Outcome::Start(Box::new(version)))),
            None => Ok(Watched::Ended(Box::new(state), end, paths)),
        }
    }

    /// Waits for one thing to happen and answers it; true when QEMU has ended.
    fn turn(&mut self) -> Result<bool> {
        let due = [
            self.live.due(),
            self.ladder.as_ref().and_then(Ladder::due),
            self.replacing.as_ref().and_then(Replacement::due),
        ];
        let timeout = due.into_iter().flatten().reduce(Deadline::min).map_or(PollTimeout::NONE, |d| d.poll_timeout());
        let mut fds: Vec<PollFd<'_>> = self.live.polled().into();
        fds.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        if let Some(replacement) = &self.replacing {
            fds.extend(replacement.live.polled());
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::os("poll", self.context.id)(e)),
        }
        let happened = |from: usize| -> [bool; POLLED] {
            std::array::from_fn(|n| fds.get(from + n).and_then(PollFd::any).unwrap_or(false))
        };
        let (own, other) = (happened(0), happened(POLLED + 1));
        drop(fds);
        if self.live.react(own) {
            return Ok(true);
        }
        self.take_signals();
        self.take_reports();
        self.go_on_replacing(other);
        if let Some(detail) = self.live.asked.late(self.context.component) {
            self.not_ready(StopReason::Late { detail });
        }
        self.climb()?;
        Ok(false)
    }

    fn take_signals(&mut self) {
        match self.signals.take() {
            Some(Signal::Stop) => self.stop(StopReason::Signal),
            Some(Signal::Hangup) if request::means_replace(&self.context.files()) => self.begin_replace(),
            Some(Signal::Hangup) => self.stop(StopReason::Hangup),
            None => {}
        }
    }

    /// What an operator wants, whatever is under way.
    fn stop(&mut self, why: StopReason) {
        match self.replacing.take() {
            // The new one serves: it is stopped as soon as the old one is gone.
            Some(replacement) if replacement.serves() => {
                self.replacing = Some(replacement);
                self.stop_next = true;
                self.hurry();
                return;
            }
            Some(replacement) => {
                replacement.live.end_now();
                request::call_off(&self.context.files());
            }
            None => {}
        }
        self.begin_stop(true, why);
    }

    fn hurry(&mut self) {
        self.begin_stop(false, StopReason::Replaced);
        if let Some(ladder) = &mut self.ladder {
            ladder.hurry(ENDING);
        }
    }

    /// Begins to replace the VM: beside it where that can be, else by stopping it first.
    fn begin_replace(&mut self) {
        let files = self.context.files();
        let under_way = self.replacing.as_ref().map(|r| &r.version).or(self.next.as_ref());
        let is_stopping = self.ladder.is_some();
        let Some(version) = request::choose(&files, is_stopping, under_way, self.hooks.next) else { return };
        let next = self.context.of(&version);
        match hindrance(self.context, &next, &mut self.live.instance) {
            None => match Replacement::begin(self.context, version.clone(), &self.live.instance, self.hooks) {
                Ok(replacement) => {
                    self.live.instance.note(EventKind::SuccessorBoots);
                    self.notify.status("a new version boots beside");
                    self.replacing = Some(replacement);
                }
                Err(e) => {
                    (self.hooks.failed)(&version);
                    request::refuse(&files, &e);
                }
            },
            Some(why) => {
                log::info!("{}: {why}: stopped and started", self.context.id);
                if request::may_start(&files, &version, self.hooks.check, self.hooks.failed) {
                    self.next = Some(version);
                    self.begin_stop(false, StopReason::Replaced);
                }
            }
        }
    }

    fn go_on_replacing(&mut self, happened: [bool; POLLED]) {
        let Some(replacement) = &mut self.replacing else { return };
        match replacement.turn(self.context, happened, &mut self.live.instance, self.hooks) {
            Progress::Waiting => {}
            Progress::Serves => {
                self.live.asked.no_more();
                self.notify.status("ready: replaced");
            }
            Progress::Drained => {
                self.live.asked.no_more();
                self.begin_stop(false, StopReason::Replaced);
            }
            Progress::Failed(reason) => {
                let Some(Replacement { version, live, .. }) = self.replacing.take() else { return };
                let ended = live.end_now();
                (self.hooks.failed)(&version);
                let (why, console) = ended.map(|(state, end)| (state.why_not_ready(), end.console)).unwrap_or_default();
                let reason = reason.unwrap_or(why);
                let text = failure(&reason, &console);
                log::error!("{}: {text}", self.context.id);
                self.live.instance.note(EventKind::SuccessorFailed { reason });
                answer(&self.context.files(), EXIT_NO, &format!("{text}\nthe old version serves on"));
            }
        }
    }

    fn take_reports(&mut self) {
        while let Some(health) = self.live.asked.take() {
            match health {
                Health::NotYet(_) => {}
                Health::Settling(answer) => self.settle(answer),
                Health::Healthy(answer) if self.live.instance.state.ready_at.is_none() => self.ready(answer),
                Health::Healthy(answer) => {
                    self.live.instance.note(EventKind::Healthy { answer: answer.unwrap_or_default() });
                }
                Health::Unhealthy(reason) if self.live.asked.start_deadline.is_some() => {
                    let why = StopReason::Unsettled { detail: unsettled(self.context, &reason) };
                    self.not_ready(why);
                }
                Health::Unhealthy(reason) => {
                    self.live.instance.note(EventKind::Unhealthy { reason: reason.clone() });
                    let restarts = self.context.component.on_unhealthy == OnUnhealthy::Restart;
                    if restarts && self.live.asked.start_deadline.is_none() {
                        let why = StopReason::Unhealthy { detail: reason };
                        self.live.complain(self.context, &why.to_string());
                        self.begin_stop(false, why);
                    }
                }
            }
        }
    }

    /// Opens the ports that are still closed. If that fails, stops the VM and returns false.
    fn open_ports(&mut self) -> bool {
        let Err(e) = replace::take_ports(&mut self.live.instance, None) else { return true };
        let why = StopReason::Ports { detail: e.to_string() };
        self.live.complain(self.context, &why.to_string());
        self.begin_stop(false, why);
        false
    }

    /// Begins the settle time: the component is healthy and serves its clients, and is not ready yet.
    fn settle(&mut self, answer: Option<String>) {
        if !self.open_ports() {
            return;
        }
        let component = self.context.component;
        self.live.asked.settles(component);
        self.notify.extend(component.settle + component.start_timeout);
        self.notify.status("healthy; settling");
        self.live.instance.note(EventKind::Settling { answer });
    }

    /// It was not healthy in time: it is stopped, or left as it is, for somebody to look at.
    fn not_ready(&mut self, why: StopReason) {
        self.live.complain(self.context, &why.to_string());
        if self.mode.leave && self.open_ports() {
            self.live.asked.start_deadline = None;
            self.live.instance.note(EventKind::Unhealthy { reason: why.to_string() });
            self.notify.failed();
            request::answer(&self.context.files(), EXIT_NO, &format!("{why}; left as it is"));
            return;
        }
        self.begin_stop(false, why);
    }

    fn ready(&mut self, answer: Option<String>) {
        if !self.open_ports() {
            return;
        }
        let detail = answer.clone().unwrap_or_else(|| "started".into());
        self.live.asked.start_deadline = None;
        // What was on trial is proven before anybody is told.
        (self.hooks.ready)(self.context);
        self.live.instance.state.becomes_ready();
        // Written and answered before it is told: whoever waited for it finds it so, and what is asked after that is not
        // answered by this.
        self.live.instance.note(EventKind::Ready { answer });
        let files = self.context.files();
        match &self.mode.fallback {
            // A replace that was asked for meanwhile has its answer when the new version is ready or fails.
            _ if self.mode.stop_only || self.replacing.is_some() => {}
            Some(failure) => request::answer(&files, EXIT_NO, &format!("{failure}\nthe old version is back")),
            None => request::answer(&files, EXIT_OK, &detail),
        }
        self.notify.ready();
        self.notify.status(&format!("ready: {detail}"));
        if self.context.component.on_unhealthy == OnUnhealthy::None {
            self.live.asked.no_more();
        }
        crate::sys::memory::trim();
    }

    fn begin_stop(&mut self, by_operator: bool, why: StopReason) {
        if by_operator && self.next.take().is_some() {
            request::call_off(&self.context.files());
        }
        if let Some(ladder) = &mut self.ladder {
            // Stopped for good, whatever it was stopped for before.
            if by_operator && !std::mem::replace(&mut ladder.by_operator, true) {
                log::info!("{}: {why}", self.context.id);
                self.notify.stopping();
                self.live.instance.note(EventKind::Stopping { why });
            }
            return;
        }
        log::info!("{}: {why}", self.context.id);
        if self.next.is_none() && self.replacing.is_none() {
            self.notify.stopping();
        }
        self.live.asked.no_more();
        let was_ready = self.live.instance.state.ready_at.is_some();
        self.ladder = Some(Ladder::begin(self.context.component.stop_timeout, was_ready, by_operator));
        self.live.instance.state.phase = Phase::Stopping;
        self.live.instance.note(EventKind::Stopping { why });
    }

    fn climb(&mut self) -> Result<()> {
        let Some(ladder) = &mut self.ladder else { return Ok(()) };
        let instance = &mut self.live.instance;
        let action = ladder.step();
        let command = match action {
            Action::Wait => return Ok(()),
            Action::PressPowerButton => "system_powerdown",
            Action::Quit => "quit",
            Action::Kill => return instance.pidfd.signal(libc::SIGKILL),
        };
        let lost = !instance.monitor_open;
        let deadline = Deadline::after(COMMAND);
        let refused = match action {
            Action::PressPowerButton => {
                let mut vm = Side { qmp: &mut instance.qmp, qemu: &instance.pidfd };
                refuse(&mut vm, &instance.state.ports, deadline)
            }
            _ => Ok(()),
        };
        match refused.and_then(|()| instance.qmp.execute(command, Value::Null, deadline)) {
            Ok(_) => {}
            // It is most likely ending, and the process handle will say so.
            Err(_) if lost => ladder.hurry(ENDING),
            Err(QmpError::Closed) => ladder.hurry(ENDING),
            Err(e) => {
                log::warn!("{}: {command}: {e}", self.context.id);
                ladder.hurry(Duration::ZERO);
            }
        }
        Ok(())
    }
}
