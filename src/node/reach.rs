//! What a VM's guest reaches on the node's loopback besides components of mcp.

use super::Entry;
use crate::model::{Component, Egress, Port, Protocol};
use crate::sys::listeners::{self, Listener};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// This many listeners are named; of more, the number.
const NAMED_MAX: usize = 5;

/// Whether the guest of `component` reaches the node's loopback.
pub fn is_open(component: &Component) -> bool {
    component.is_vm() && component.egress == Egress::All
}

/// Whether a listener is where `port` is. One on all IPv6 addresses may take IPv4 clients too.
pub fn meets(listener: &Listener, port: &Port) -> bool {
    let (at, wanted) = (listener.at.ip(), port.host_addr().ip());
    let same = at == wanted || at.is_unspecified() || wanted.is_unspecified();
    listener.tcp == (port.protocol == Protocol::Tcp) && listener.at.port() == port.host && same
}

/// The TCP listeners that guests reach on the loopback and that are no port of a component that lives, in words: port and
/// program of at most five. `None`: there are none.
pub fn others(entries: &[Entry<'_>], listeners: &[Listener]) -> Option<String> {
    let found = foreign(&ports(entries), listeners);
    let mut words: Vec<String> = found.iter().take(NAMED_MAX).map(|l| in_words(l)).collect();
    if found.len() > words.len() {
        words.push(format!("and {} more", found.len() - words.len()));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// The host ports of what lives: as it was started, with the scratch ports of a replacement.
fn ports(entries: &[Entry<'_>]) -> Vec<Port> {
    let alive = entries.iter().filter(|e| e.is_alive() || e.supervised);
    alive
        .flat_map(|e| {
            let spec = e.spec().map(|c| c.ports.clone()).unwrap_or_default();
            let state = e.state.get().map(|s| [&s.ports[..], &s.scratch[..]].concat()).unwrap_or_default();
            [spec, state].concat()
        })
        .collect()
}

/// One listener a port; those on a port that the kernel gives out come last: they are rarely a service that is meant to be there.
fn foreign<'l>(ours: &[Port], listeners: &'l [Listener]) -> Vec<&'l Listener> {
    let reached = |l: &&Listener| match l.at.ip() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    let strangers = listeners.iter().filter(|l| l.tcp).filter(reached).filter(|l| !ours.iter().any(|p| meets(l, p)));
    let ephemeral = listeners::ephemeral_ports();
    let by_port: BTreeMap<_, _> = strangers.map(|l| ((ephemeral.contains(&l.at.port()), l.at.port()), l)).collect();
    by_port.into_values().collect()
}

fn in_words(listener: &Listener) -> String {
    match listeners::holder(listener.inode) {
        Some(who) => format!("{} {who}", listener.at.port()),
        None => listener.at.port().to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn foreign_listeners_are_tcp_on_the_loopback_and_no_port_of_ours() {
        let at = |text: &str, tcp| Listener { at: text.parse().unwrap(), tcp, inode: 0 };
        let listeners = [
            at("127.0.0.1:60999", true),
            at("0.0.0.0:22", true),
            at("[::]:22", true),
            at("127.0.0.1:5432", true),
            at("127.0.0.1:8080", true),
            at("192.0.2.7:80", true),
            at("[::1]:631", true),
            at("127.0.0.1:53", false),
        ];
        let ours = [Port::parse("127.0.0.1:8080:80").unwrap(), Port::parse("5432:5432/udp").unwrap()];
        let ports: Vec<u16> = foreign(&ours, &listeners).iter().map(|l| l.at.port()).collect();
        assert_eq!(ports, [22, 5432, 60999]);
    }

    #[test]
    fn others_are_named_up_to_a_bound() {
        let listeners: Vec<Listener> =
            (1..=300).map(|port| Listener { at: ([127, 0, 0, 1], port).into(), tcp: true, inode: 0 }).collect();
        assert_eq!(others(&[], &listeners).unwrap(), "1, 2, 3, 4, 5, and 295 more");
        assert_eq!(others(&[], &[]), None);
    }
}
