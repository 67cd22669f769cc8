//! Replace in place: a new instance boots beside the serving one, and takes its ports when it is healthy.
//!
//! The moment at which the new one counts is when the component's `current` link names it. Before, whoever finds both
//! without a supervisor ends the new one; after, it gives the new one what ports it still lacks and ends the old one.

use crate::guest::instance::Instance;
use crate::guest::launch::preflight;
use crate::guest::live::{Live, POLLED, end_now};
use crate::guest::monitor::handover::{Side, connections, hand_over, has_begun, is_possible};
use crate::guest::monitor::qmp::COMMAND_TIMEOUT;
use crate::guest::supervise::Hooks;
use crate::model::event::EventKind;
use crate::model::state::Phase;
use crate::model::{Component, RootMode, Version};
use crate::supervise::asked::unsettled;
use crate::supervise::report::Health;
use crate::supervise::{Context, link_current, reserve};
use crate::sys::paths::Slot;
use crate::sys::{Deadline, Result};
use std::time::Duration;

/// How long handing over may hold the supervisor up.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at whether the old one still has clients: at first, and at the most.
const LOOK_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// A replacement under way.
pub struct Replacement {
    /// What the new one runs.
    pub version: Version,
    /// The new one.
    pub live: Live,
    stage: Stage,
}

enum Stage {
    /// It boots, and the old one serves.
    Booting,
    /// It serves, and the old one has clients left.
    Draining { until: Deadline, look: Deadline, pause: Duration },
    /// It serves, and the old one is on its way out.
    Done,
}

/// What a turn has come to.
pub enum Progress {
    /// It goes on.
    Waiting,
    /// The new one serves.
    Serves,
    /// The new one serves, and the old one has nothing left to do.
    Drained,
    /// The new one was no good, for this reason; `None`: it has ended.
    Failed(Option<String>),
}

/// Why `next` can't boot beside `now`, which has `old`; `None`: it can.
pub fn hindrance(now: &Context<'_>, next: &Context<'_>, old: &mut Instance) -> Option<&'static str> {
    if !next.component.is_vm() {
        return Some("a container takes its place");
    }
    if let Some(reason) = has_one_writer(now.component).or_else(|| has_one_writer(next.component)) {
        return Some(reason);
    }
    let mut side = Side { qmp: &mut old.qmp, qemu: &old.pidfd };
    if !old.state.ports.is_empty() && !is_possible(&mut side, Deadline::after(COMMAND_TIMEOUT)) {
        return Some("its ports can't be handed over: pidfd_getfd is not allowed here");
    }
    if preflight::check_memory(next.id, next.component.memory_mb).is_err() {
        return Some("there is no memory for both");
    }
    None
}

/// Why two VMs of `component` can't run side by side; `None`: they can.
pub fn has_one_writer(component: &Component) -> Option<&'static str> {
    match component {
        c if c.oneshot => Some("a one-shot runs once"),
        c if !c.volumes.is_empty() => Some("a volume can't have two writers"),
        c if c.root == RootMode::Persistent => Some("a persistent root can't have two writers"),
        _ => None,
    }
}

impl Replacement {
    /// Boots `version` beside `old`.
    pub fn begin(base: &Context<'_>, version: Version, old: &Instance, hooks: &Hooks<'_>) -> Result<Replacement> {
        let context = base.of(&version);
        let slot = if old.paths.slot == Slot::A { Slot::B } else { Slot::A };
        let prepared = (hooks.prepare)(&context, slot, Some(&old.state.ports))?;
        let instance = Instance::start(&context, prepared, Default::default())?;
        let live = Live::new(&context, instance, hooks.watcher, true)?;
        Ok(Replacement { version, live, stage: Stage::Booting })
    }

    /// Whether the new one serves already.
    pub fn serves(&self) -> bool {
        !matches!(self.stage, Stage::Booting)
    }

    /// When [`Replacement::turn`] is to be called next.
    pub fn due(&self) -> Option<Deadline> {
        let own = match &self.stage {
            Stage::Draining { until, look, .. } => Some(until.min(*look)),
            _ => None,
        };
        [own, self.live.due()].into_iter().flatten().reduce(Deadline::min)
    }

    /// Goes on, with what was polled of the new one. `old` is the one that serves, or served.
    pub fn turn(
        &mut self,
        base: &Context<'_>,
        happened: [bool; POLLED],
        old: &mut Instance,
        hooks: &Hooks<'_>,
    ) -> Progress {
        let ended = self.live.react(happened);
        if let Stage::Booting = self.stage {
            return self.boot(base, ended, old, hooks);
        }
        while let Some(health) = self.live.asked.take() {
            if let Health::Unhealthy(reason) = health {
                self.live.instance.note(EventKind::Unhealthy { reason });
            }
        }
        let Stage::Draining { until, look, pause } = &mut self.stage else { return Progress::Waiting };
        if !ended && !until.passed() {
            if !look.passed() {
                return Progress::Waiting;
            }
            let open = connections(&mut old.qmp, &old.state.ports, Deadline::after(COMMAND_TIMEOUT)).unwrap_or(0);
            if open > 0 {
                *pause = (*pause * 2).min(LOOK_PAUSE.1);
                *look = Deadline::after(*pause);
                return Progress::Waiting;
            }
        }
        self.stage = Stage::Done;
        Progress::Drained
    }

    fn boot(&mut self, base: &Context<'_>, ended: bool, old: &mut Instance, hooks: &Hooks<'_>) -> Progress {
        let context = base.of(&self.version);
        if ended {
            return Progress::Failed(None);
        }
        let mut ready = None;
        while let Some(health) = self.live.asked.take() {
            match health {
                Health::NotYet(_) => {}
                Health::Settling(answer) => {
                    self.live.asked.settles(context.component);
                    self.live.instance.note(EventKind::Settling { answer });
                }
                Health::Healthy(answer) => ready = Some(answer),
                Health::Unhealthy(reason) => return Progress::Failed(Some(unsettled(&context, &reason))),
            }
        }
        if ready.is_none() && self.live.asked.start_deadline.is_some() {
            return match self.live.asked.late(context.component) {
                Some(why) => Progress::Failed(Some(why)),
                None => Progress::Waiting,
            };
        }
        self.live.asked.no_more();
        // First its state, so that whoever finds it current finds it ready.
        let new = &mut self.live.instance;
        new.state.becomes_ready();
        new.note(EventKind::Ready { answer: ready.flatten() });
        if let Err(e) = link_current(&context.files(), new.paths.slot) {
            return Progress::Failed(Some(e.to_string()));
        }
        (hooks.ready)(&context);
        old.state.phase = Phase::Stopping;
        old.note(EventKind::Replaced);
        match take_ports(new, Some(old)) {
            Ok(false) => {}
            Ok(true) => new.note(EventKind::HasPorts),
            Err(e) => {
                // The old one's end gives them up, and the rest is done then.
                log::warn!("{}: {e}; the old VM is stopped to free its ports", context.id);
                self.stage = Stage::Done;
                return Progress::Drained;
            }
        }
        let until = Deadline::after(base.component.stop_timeout);
        self.stage = Stage::Draining { until, look: Deadline::after(LOOK_PAUSE.0), pause: LOOK_PAUSE.0 };
        Progress::Serves
    }
}

/// Gives `new` the real ports that it still lacks; `old` may have them, or hold their reservations. Returns whether it
/// lacked any.
pub fn take_ports(new: &mut Instance, mut old: Option<&mut Instance>) -> Result<bool> {
    if new.state.scratch.is_empty() {
        return Ok(false);
    }
    let ports = new.state.ports.clone();
    let mut reserved = std::mem::take(&mut new.reserved);
    if let Some(old) = &mut old {
        reserved.append(&mut old.reserved);
    }
    let mut side = Side { qmp: &mut new.qmp, qemu: &new.pidfd };
    let other = old.map(|old| Side { qmp: &mut old.qmp, qemu: &old.pidfd });
    hand_over(&mut side, other, &ports, reserved, Deadline::after(HAND_OVER_TIMEOUT))?;
    new.state.scratch.clear();
    Ok(true)
}

/// Of VMs that lost their supervisor, keeps `serving` and ends `other`. `serving` gets its ports, or, if it is not ready
/// yet, their reservations.
pub fn take_over(context: &Context<'_>, mut serving: Instance, mut other: Option<Instance>) -> Option<Instance> {
    let deadline = Deadline::after(COMMAND_TIMEOUT);
    let mut side = Side { qmp: &mut serving.qmp, qemu: &serving.pidfd };
    // A hand-over that has begun means that the supervisor had found it ready.
    let waits = !serving.state.scratch.is_empty()
        && serving.state.ready_at.is_none()
        && !has_begun(&mut side, &serving.state.ports, deadline).unwrap_or(true);
    let taken = if waits { Ok(false) } else { take_ports(&mut serving, other.as_mut()) };
    if let Some(other) = other {
        end_now(other);
    }
    if waits {
        // Its own reservations would refuse the new ones. A port that is taken now may be free when the guest is ready.
        serving.reserved.clear();
        let reserved = reserve::all(context.paths, context.id, &serving.state.ports, &[]);
        serving.reserved = reserved.map_err(|e| log::warn!("{e}")).unwrap_or_default();
        return Some(serving);
    }
    match taken.or_else(|_| take_ports(&mut serving, None)) {
        Ok(lacked) => {
            if lacked {
                serving.note(EventKind::HasPorts);
            }
            Some(serving)
        }
        Err(e) => {
            log::warn!("{e}; the VM is started anew");
            end_now(serving);
            None
        }
    }
}
