//! Host ports: whether what shall run can have its own, and who else is in the guests' reach.

use super::{Finding, Grade, Patient, rights};
use crate::model::Port;
use crate::node::Entry;
use crate::node::reach::{self, meets};
use crate::supervise::reserve;
use crate::sys::listeners::{self, Listener};
use std::net::UdpSocket;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let listeners = listeners::all();
    let mut found = taken(patient, &listeners);
    if found.is_empty() && patient.wanted().any(|(_, c)| !c.ports.is_empty()) {
        found.push(Finding::ok("ports", "ports", "all that are declared can be had"));
    }
    found.extend(in_reach(patient, &listeners));
    found
}

/// Ports of what shall run and does not, that can't be had now.
fn taken(patient: &Patient<'_>, listeners: &[Listener]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (entry, component) in patient.wanted().filter(|(e, _)| !e.is_alive() && !e.supervised) {
        for port in &component.ports {
            let rival = listeners.iter().find(|l| meets(l, port));
            // Asked of the kernel only where there is doubt: to take a port, for a moment, is in the way of a start.
            // An address may come with the component that the cluster puts here.
            if rival.is_none() && (entry.may_come() || may_have(port)) {
                continue;
            }
            let who = |port: &Port| {
                let ours = component_at(patient, entry, port);
                ours.or_else(|| rival.and_then(|l| listeners::holder(l.inode)))
            };
            if let Err(e) = reserve::reserve(port, who) {
                let mut finding = Finding::of_error("ports", Grade::Fail, &e);
                finding.text = format!("{}, and {} wants it", finding.text, entry.id);
                found.push(finding);
            }
        }
    }
    found
}

/// Whether nothing but another listener could be in the way.
fn may_have(port: &Port) -> bool {
    let allowed = nix::unistd::geteuid().is_root() || port.host >= rights::first_port();
    allowed && UdpSocket::bind((port.host_addr().ip(), 0)).is_ok()
}

/// The component of ours that runs and has `port`.
fn component_at(patient: &Patient<'_>, own: &Entry<'_>, port: &Port) -> Option<String> {
    let others = patient.entries.iter().filter(|e| e.id != own.id && e.is_alive());
    let mut having = others.filter(|e| e.spec().is_some_and(|c| c.ports.iter().any(|p| p.clashes(port))));
    having.next().map(Entry::name)
}

/// Who listens where guests reach the node's loopback, and is none of ours.
fn in_reach(patient: &Patient<'_>, listeners: &[Listener]) -> Option<Finding> {
    let guests = patient.names_of(reach::is_open)?;
    let Some(others) = reach::others(patient.entries, listeners) else {
        return Some(Finding::ok("egress", "egress", "nobody else listens where guests could reach it"));
    };
    let text = format!("guests ({guests}) reach this node's loopback as 10.0.2.2, where others listen: {others}");
    Some(Finding::note("egress", "egress", text).way_out("egress = \"none\" closes that"))
}
