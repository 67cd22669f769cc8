//! An instance under watch: what of it is polled, and what is done about what happens to it.

use crate::console::last_lines;
use crate::guest::instance::Instance;
use crate::guest::monitor::qmp::{COMMAND_TIMEOUT, Qmp};
use crate::guest::supervise::StartWatcher;
use crate::model::event::EventKind;
use crate::model::state::{End, Rung, State};
use crate::supervise::{Asked, Context};
use crate::sys::{Deadline, Result};
use nix::poll::{PollFd, PollFlags};
use serde_json::Value;
use std::os::fd::AsFd;

/// How many descriptors of an instance are polled.
pub const POLLED: usize = 6;

/// An instance, and whoever asks for its health.
pub struct Live {
    /// The instance.
    pub instance: Instance,
    /// Its health, and by when it must be ready.
    pub asked: Asked,
}

impl Live {
    /// Puts `instance` under watch, on trial or not. When this fails, one that we started is gone; one that was adopted
    /// runs on.
    pub fn new(
        context: &Context<'_>,
        instance: Instance,
        start_watcher: &StartWatcher<'_>,
        trial: bool,
    ) -> Result<Live> {
        let adopted = instance.is_adopted();
        let is_ready = instance.state.ready_at.is_some();
        match Asked::begin(context, is_ready, |reporter| start_watcher(context, &instance, reporter, trial)) {
            Ok(asked) => Ok(Live { instance, asked }),
            Err(e) => {
                if !adopted {
                    instance.pidfd.signal(libc::SIGKILL)?;
                    let _ = instance.finish();
                }
                Err(e)
            }
        }
    }

    /// When it is to be looked at even if nothing happens.
    pub fn due(&self) -> Option<Deadline> {
        [self.asked.start_deadline, self.instance.console.due()].into_iter().flatten().reduce(Deadline::min)
    }

    /// What to poll. One whose descriptor is missing stands for itself as the process handle, which is asked anyway.
    pub fn polled(&self) -> [PollFd<'_>; POLLED] {
        let instance = &self.instance;
        let process = instance.pidfd.as_fd();
        let monitor = instance.monitor().unwrap_or(process);
        let console = instance.console.pollable().unwrap_or(process);
        let guest = instance.guest.as_ref().and_then(|g| g.pollable()).unwrap_or(process);
        let stderr = instance.stderr().unwrap_or(process);
        let reports = self.asked.pollable().unwrap_or(process);
        [process, monitor, console, guest, stderr, reports].map(|fd| PollFd::new(fd, PollFlags::POLLIN))
    }

    /// Answers what happened, in the order of [`Live::polled`]; true when QEMU has ended.
    pub fn react(&mut self, happened: [bool; POLLED]) -> bool {
        let [ended, monitor, _, guest, stderr, _] = happened;
        let instance = &mut self.instance;
        if monitor && instance.monitor_open {
            instance.read_events();
        }
        if guest && let Some(port) = &mut instance.guest {
            let was_up = port.up;
            port.read();
            if port.up && !was_up {
                // The state file changes with it, which wakes whoever waits for the guest to listen.
                instance.note(EventKind::ProgramStarted);
            }
        }
        if stderr {
            instance.read_stderr();
        }
        if !ended {
            instance.console.look(&mut instance.qmp);
        }
        ended
    }

    /// Says in the log what is wrong, with the console's last lines.
    pub fn complain(&self, context: &Context<'_>, what: &str) {
        log::error!("{}: {what}; the console's last lines:", context.id);
        let lines = last_lines(&self.instance.paths, self.instance.state.console.as_ref(), 10, 4096);
        if lines.is_empty() {
            log::error!("  (the guest wrote nothing)");
        }
        for line in &lines {
            log::error!("  {line}");
        }
    }

    /// Ends it without the ladder, if it has not ended: nobody is served by it, or not any more. What is known then.
    pub fn end_now(mut self) -> Option<(State, End)> {
        self.asked.no_more();
        end_now(self.instance)
    }
}

/// Ends an instance that serves nobody, and writes that down. What is known then.
pub fn end_now(mut instance: Instance) -> Option<(State, End)> {
    if !instance.pidfd.has_ended() {
        quit(&mut instance.qmp);
        let ended = |instance: &Instance| instance.pidfd.wait(Deadline::after(COMMAND_TIMEOUT)).unwrap_or(false);
        if !ended(&instance) {
            let _ = instance.pidfd.signal(libc::SIGKILL);
            ended(&instance);
        }
        instance.traces.stopped = Some((Rung::Quit, false));
    }
    instance.finish().map_err(|e| log::warn!("{e}")).ok()
}

fn quit(qmp: &mut Qmp) {
    let _ = qmp.execute("quit", Value::Null, Deadline::after(COMMAND_TIMEOUT));
}
