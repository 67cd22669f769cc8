//! Probing a component by name: which address to ask, whether it runs, and whether its guest has answered.

use crate::guest::monitor::handshake::{Asker, Seen};
use crate::health::{Check, Forward, Handshake, Hints, Reason, Subject, Verdict};
use crate::model::state::{self, State};
use crate::model::{Component, ComponentId, Health, HealthKind, Port, Protocol};
use crate::sys::paths::{ComponentPaths, InstancePaths, Paths, Slot};
use crate::sys::{Deadline, Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A component as something to probe. It may start, end and be replaced while it is probed.
pub struct ComponentSubject {
    paths: ComponentPaths,
    /// A given instance; `None`: whichever serves.
    slot: Option<Slot>,
    /// Whether its supervisor asks: a VM whose ports are not open yet is reached on its scratch ports.
    by_supervisor: bool,
    is_vm: bool,
    health: Health,
    check: Check,
    /// The forward of the instance that this identifies.
    forward: Option<(Known, GuestForward)>,
}

/// Identifies an instance: uuid, process id of QEMU, and the port at which it is checked.
type Known = (String, i32, Option<Port>);

/// [`Forward`] by the guest's monitor. While one VM takes another's place, either may have the host port: which one of
/// them took a connection is told by the one that knows it.
struct GuestForward {
    /// Of the instance that serves.
    asker: Asker,
    guest_port: u16,
    /// The other instance; `None`: only the one is asked.
    other: Option<InstancePaths>,
    /// The other one's VM, with the process id of its QEMU.
    known: Option<(i32, Asker)>,
}

impl Forward for GuestForward {
    fn handshake(&mut self, client: SocketAddr, deadline: Deadline) -> Handshake {
        let seen = match self.asker.ask(client, deadline) {
            // A VM that has just ended can't tell either.
            seen @ (Seen::Missing | Seen::Unknown(_)) => match self.ask_other(client, deadline) {
                Some(by_other @ (Seen::Completed | Seen::Waiting)) => by_other,
                _ => seen,
            },
            seen => seen,
        };
        match seen {
            Seen::Completed => Handshake::Established,
            Seen::Waiting => Handshake::Pending,
            Seen::Missing => Handshake::Gone,
            Seen::Unknown(why) => Handshake::Unknown(why),
        }
    }
}

impl GuestForward {
    fn ask_other(&mut self, client: SocketAddr, deadline: Deadline) -> Option<Seen> {
        let other = self.other.as_ref()?;
        if !state::is_alive(other).ok()? {
            return None;
        }
        let pid = State::read(other).ok()??.pid;
        if self.known.as_ref().is_none_or(|(of, _)| *of != pid) {
            self.known = Some((pid, Asker::new(&other.qmp(), pid, self.guest_port)));
        }
        self.known.as_mut().map(|(_, asker)| asker.ask(client, deadline))
    }
}

impl ComponentSubject {
    /// The component `id`, by the check that applies to it; `None` when it has none. `stage` is the kind that its
    /// boot stage names. A check that can't be made is an error.
    pub fn new(
        paths: &Paths,
        id: &ComponentId,
        component: &Component,
        stage: Option<HealthKind>,
    ) -> Result<Option<ComponentSubject>> {
        let Some(health) = component.effective_health(stage) else { return Ok(None) };
        let at = address(id, component, &health)?;
        let check = Check::of_health(id, &health, at)?;
        let paths = paths.component(&id.service, &id.component);
        let is_vm = component.is_vm();
        Ok(Some(ComponentSubject { paths, slot: None, by_supervisor: false, is_vm, health, check, forward: None }))
    }

    /// For the supervisor of the instance in `slot`. `None`: it is the one that serves.
    pub fn by_supervisor(mut self, slot: Option<Slot>) -> ComponentSubject {
        (self.by_supervisor, self.slot) = (true, slot);
        self
    }

    /// Wants at least `successes` good answers in a row, `interval` apart at the most.
    pub fn prove_further(&mut self, successes: u32, interval: std::time::Duration) {
        self.health.successes = self.health.successes.max(successes);
        self.health.interval = self.health.interval.min(interval);
    }

    /// The check as of now.
    pub fn check(&self) -> &Check {
        &self.check
    }

    /// The check, to be changed by what the command line says.
    pub fn check_mut(&mut self) -> &mut Check {
        &mut self.check
    }

    /// What is known of how often and how long.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Hints: its run directories and its console.
    pub fn hints(&self) -> Result<Hints> {
        let instances = Slot::ALL.map(|s| self.paths.instance(s));
        let mut names = vec![self.paths.run.clone()];
        names.extend(instances.iter().map(|i| i.run.clone()));
        Hints::new(names, instances.into_iter().map(|i| i.log).collect())
    }

    /// Finds the running instance, and of a VM who can tell of its connections.
    fn find(&mut self) -> std::result::Result<(), Reason> {
        let serving = |of: &ComponentSubject| of.slot.or_else(|| of.paths.current_slot());
        let broken = |e: Error| Reason::Broken(e.to_string());
        let mut slot = serving(self).ok_or(Reason::NotRunning)?;
        while !state::is_alive(&self.paths.instance(slot)).map_err(broken)? {
            // Its successor may have come, and it gone, since the link was read.
            let now = serving(self).filter(|now| *now != slot);
            slot = now.ok_or(Reason::NotRunning)?;
        }
        let instance = self.paths.instance(slot);
        // Its supervisor is about to write it.
        let state = State::read(&instance).map_err(broken)?.ok_or(Reason::NotRunning)?;
        let guest = self.check.guest_port;
        // An instance that is ready and still lacks its ports replaces one that has them.
        let waits = self.slot.is_some() || state.ready_at.is_none();
        let scratch = forwarded(&state.scratch, guest).filter(|_| waits);
        let port = scratch.or_else(|| forwarded(&state.ports, guest)).copied();
        let known = (state.uuid.clone(), state.pid, port);
        if self.forward.as_ref().is_none_or(|(of, _)| *of != known) {
            let declared = forwarded(&state.ports, guest).filter(|_| scratch.is_some());
            self.meet(&instance, known, declared);
            self.check.closed = scratch.is_some() && !self.by_supervisor;
        }
        Ok(())
    }

    /// Meets the instance that is `known`; `declared`: its port of the definition, where it listens elsewhere for now.
    fn meet(&mut self, instance: &InstancePaths, known: Known, declared: Option<&Port>) {
        let guest = self.check.guest_port;
        // Where it listens now; the specification may say otherwise by the time it is read.
        if let Some(port) = known.2
            && let Ok(mut check) = Check::of_health(&self.paths.run.display(), &self.health, port.host_addr())
            && check.authority() != self.check.authority()
        {
            check.timeout = self.check.timeout;
            check.tls = self.check.tls.clone();
            check.kind = self.check.kind.clone();
            self.check = check;
        }
        let of = |port: &Port| Check::of_health(&self.paths.run.display(), &self.health, port.host_addr()).ok();
        self.check.named = declared.and_then(of).map(|check| (check.host, check.port));
        if !self.is_vm {
            return;
        }
        let asker = Asker::new(&instance.qmp(), known.1, guest);
        let other = Slot::VMS.into_iter().find(|s| self.slot.is_none() && *s != instance.slot);
        let other = other.map(|slot| self.paths.instance(slot));
        let forward = GuestForward { asker, guest_port: guest, other, known: None };
        self.forward = Some((known, forward));
    }
}

impl Subject for ComponentSubject {
    fn parts(&mut self) -> std::result::Result<(&Check, Option<&mut dyn Forward>), Reason> {
        self.find()?;
        Ok((&self.check, self.forward.as_mut().map(|(_, f)| f as &mut dyn Forward)))
    }
}

/// Where on the node the component's checked port is.
fn address(id: &ComponentId, component: &Component, health: &Health) -> Result<SocketAddr> {
    let guest = health.port.unwrap_or_default();
    match forwarded(&component.ports, guest) {
        Some(port) => Ok(port.host_addr()),
        // A container with the node's own network.
        None if !component.is_vm() => Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), guest).into()),
        None => Err(Error::refused(
            id,
            format!("health port {guest}: not among its forwarded tcp ports; add it to ports, or set kind = \"none\""),
        )),
    }
}

fn forwarded(ports: &[Port], guest: u16) -> Option<&Port> {
    ports.iter().find(|p| p.protocol == Protocol::Tcp && p.guest == guest)
}

/// Probes a component once, by `deadline`. `None`: it has no check.
pub fn component_probe(
    paths: &Paths,
    id: &ComponentId,
    component: &Component,
    stage: Option<HealthKind>,
    deadline: Deadline,
) -> Result<Option<Verdict>> {
    let Some(mut subject) = ComponentSubject::new(paths, id, component, stage)? else { return Ok(None) };
    Ok(Some(match subject.parts() {
        Err(reason) => Verdict::Unhealthy(reason),
        Ok((check, forward)) => crate::health::probe(check, forward, deadline),
    }))
}
