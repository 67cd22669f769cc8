//! One container attended: everything that can happen to it, and what is done about it.

use super::instance::Instance;
use super::ladder::{Action, Ladder};
use super::supervise::{Hooks, Live, Outcome};
use crate::model::event::{EventKind, StopReason};
use crate::model::state::Phase;
use crate::model::{OnUnhealthy, Version};
use crate::supervise::asked::unsettled;
use crate::supervise::policy::Watched;
use crate::supervise::report::Health;
use crate::supervise::request;
use crate::supervise::{Context, Mode};
use crate::sys::error::{EXIT_NO, EXIT_OK};
use crate::sys::notify::Notify;
use crate::sys::signals::{Signal, Signals};
use crate::sys::{Deadline, Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

/// One container under watch.
pub(super) struct Attended<'a> {
    context: &'a Context<'a>,
    mode: &'a Mode,
    hooks: &'a Hooks<'a>,
    live: Live,
    notify: &'a mut Notify,
    signals: &'a Signals,
    ladder: Option<Ladder>,
    /// To be started when this one has stopped.
    next: Option<Version>,
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
        Attended { context, mode, hooks, live, notify, signals, ladder: None, next: None }
    }

    /// Tells that it has started.
    pub(super) fn started(&mut self) {
        self.notify.started();
    }

    /// Where nothing is to be waited for, it is ready now.
    pub(super) fn begin(&mut self) {
        if self.live.asked.start_deadline.is_none() && !self.context.component.oneshot {
            self.ready(None);
        }
    }

    /// Watches until it has ended.
    pub(super) fn watch(mut self) -> Result<Watched<Instance>> {
        if self.mode.stop_only {
            self.begin_stop(true, StopReason::Asked);
        }
        while !self.turn()? {}
        self.live.asked.no_more();
        self.live.instance.stopped = self.ladder.as_ref().map(|l| (l.rung(), l.by_operator));
        let paths = self.live.instance.paths.clone();
        let (state, end) = self.live.instance.finish()?;
        match self.next {
            Some(version) => Ok(Watched::Other(Outcome::Start(Box::new(version)))),
            None => Ok(Watched::Ended(Box::new(state), end, paths)),
        }
    }

    /// Waits for one thing to happen and answers it; true when its conmon has ended.
    fn turn(&mut self) -> Result<bool> {
        let Live { instance, asked } = &self.live;
        let Some(conmon) = instance.conmon.pollable() else { return Ok(true) };
        let due = [asked.start_deadline, instance.console.due(), self.ladder.as_ref().and_then(Ladder::due)];
        let timeout = due.into_iter().flatten().reduce(Deadline::min).map_or(PollTimeout::NONE, |d| d.poll_timeout());
        // One whose descriptor is missing stands for itself as conmon's handle, which is asked anyway.
        let console = instance.console.pollable().unwrap_or(conmon);
        let reports = asked.pollable().unwrap_or(conmon);
        let mut fds = [conmon, self.signals.as_fd(), console, reports].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::os("poll", self.context.id)(e)),
        }
        if fds[0].any().unwrap_or(false) {
            return Ok(true);
        }
        self.live.instance.look();
        match self.signals.take() {
            Some(Signal::Stop) => self.begin_stop(true, StopReason::Signal),
            Some(Signal::Hangup) if request::means_replace(&self.context.files()) => self.begin_replace(),
            Some(Signal::Hangup) => self.begin_stop(true, StopReason::Hangup),
            None => {}
        }
        self.take_reports();
        if let Some(detail) = self.live.asked.late(self.context.component) {
            self.not_ready(StopReason::Late { detail });
        }
        self.climb();
        Ok(false)
    }

    /// A container is stopped and started: nothing hands its ports over.
    fn begin_replace(&mut self) {
        let is_stopping = self.ladder.is_some();
        let chosen = request::choose(&self.context.files(), is_stopping, self.next.as_ref(), self.hooks.next);
        let Some(version) = chosen else { return };
        if request::may_start(&self.context.files(), &version, self.hooks.check, self.hooks.failed) {
            self.next = Some(version);
            self.begin_stop(false, StopReason::Replaced);
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
                        self.complain(&why.to_string());
                        self.begin_stop(false, why);
                    }
                }
            }
        }
    }

    /// Begins the settle time: the component is healthy and serves its clients, and is not ready yet.
    fn settle(&mut self, answer: Option<String>) {
        let component = self.context.component;
        self.live.asked.settles(component);
        self.notify.extend(component.settle + component.start_timeout);
        self.notify.status("healthy; settling");
        self.live.instance.note(EventKind::Settling { answer });
    }

    /// It was not healthy in time: it is stopped, or left as it is, for somebody to look at.
    fn not_ready(&mut self, why: StopReason) {
        self.complain(&why.to_string());
        if self.mode.leave {
            self.live.asked.start_deadline = None;
            self.live.instance.note(EventKind::Unhealthy { reason: why.to_string() });
            self.notify.failed();
            request::answer(&self.context.files(), EXIT_NO, &format!("{why}; left as it is"));
            return;
        }
        self.begin_stop(false, why);
    }

    fn ready(&mut self, answer: Option<String>) {
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
            _ if self.mode.stop_only => {}
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
        if self.next.is_none() {
            self.notify.stopping();
        }
        self.live.asked.no_more();
        self.ladder = Some(Ladder::begin(self.context.component.stop_timeout, by_operator));
        self.live.instance.state.phase = Phase::Stopping;
        self.live.instance.note(EventKind::Stopping { why });
    }

    fn climb(&mut self) {
        let Some(ladder) = &mut self.ladder else { return };
        let instance = &self.live.instance;
        if ladder.tidies(|| instance.program_has_ended()) {
            return;
        }
        let done = match ladder.step() {
            Action::Wait => return,
            Action::Ask => instance.ask_to_end(),
            Action::Kill => instance.kill(),
            Action::Remove => instance.remove(),
        };
        // It may have ended just now, which its conmon's end says.
        if let Err(e) = done
            && !instance.conmon.has_ended()
        {
            log::warn!("{}: {e}", self.context.id);
            if ladder.due().is_some() {
                ladder.hurry();
            }
        }
    }

    /// Says in the log what is wrong, with the console's last lines.
    fn complain(&self, what: &str) {
        log::error!("{}: {what}; the console's last lines:", self.context.id);
        let lines = self.live.instance.last_lines(10, 4096);
        if lines.is_empty() {
            log::error!("  (it wrote nothing)");
        }
        for line in &lines {
            log::error!("  {line}");
        }
    }
}
