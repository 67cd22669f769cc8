//! A VM's forwarded port: whether the guest itself has completed the connection.

use super::peer::{Limits, Peer, Woken};
use super::{Kind, Reason};
use crate::sys::Deadline;
use std::net::SocketAddr;
use std::time::Duration;

/// What is known of one connection inside the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// The guest has completed it.
    Established,
    /// The guest has not answered.
    Pending,
    /// QEMU has no such connection: not yet, or no longer.
    Gone,
    /// It can't be found out, for this reason.
    Unknown(String),
}

/// Knows the connections of one VM.
pub trait Forward {
    /// Whether the guest has completed the connection that comes from `client`, our own address. Answers by
    /// `deadline`.
    fn handshake(&mut self, client: SocketAddr, deadline: Deadline) -> Handshake;
}

/// How the guest took a connection.
pub(super) enum Taken {
    /// It completed it.
    Established,
    /// Nobody can tell; a request that is answered would.
    Unproven(String),
}

/// A guest that refuses does so within some 1 ms of our connect, so before that nobody is asked.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// Looks get rarer up to this.
const LOOK_MAX: Duration = Duration::from_millis(100);
/// One question to the monitor.
const ASK_MAX: Duration = Duration::from_millis(500);

/// Waits until the guest has taken `peer` or shown that it doesn't.
pub(super) fn settle(
    peer: &Peer<'_>,
    forward: &mut dyn Forward,
    kind: &Kind,
    port: u16,
    limits: &Limits<'_>,
) -> Result<Taken, Reason> {
    let client = peer.local().map_err(|e| Reason::Broken(crate::sys::error::os_reason(&e)))?;
    let patience = limits.patience.min(limits.deadline);
    let mut pause = FIRST_LOOK;
    // The last answer that was one.
    let mut known = Handshake::Unknown("no answer from the monitor in time".into());
    loop {
        let woken = peer.wait(Deadline::after(pause).min(patience), limits.hints);
        match woken {
            Woken::Cancelled => return Err(Reason::Cancelled),
            Woken::Peer => return spoken(peer, forward, client, port, limits),
            // One look, and then a new connection: this one's SYN may have been lost before the guest was up.
            Woken::Hint => limits.hints.into_iter().for_each(|h| h.drain()),
            Woken::Nothing => {}
        }
        match forward.handshake(client, Deadline::after(ASK_MAX).min(limits.deadline)) {
            Handshake::Established => return Ok(Taken::Established),
            Handshake::Unknown(why) if matches!(kind, Kind::Http { .. }) => return Ok(Taken::Unproven(why)),
            // A busy monitor, or a question at the last moment, takes nothing back.
            Handshake::Unknown(_) if !matches!(known, Handshake::Unknown(_)) => {}
            answer => known = answer,
        }
        if patience.passed() || woken == Woken::Hint {
            // What came while we asked is worth more than that we got no answer.
            if !matches!(peer.peek(), Ok(None)) {
                return spoken(peer, forward, client, port, limits);
            }
            return Err(match known {
                Handshake::Unknown(why) => Reason::Unproven(why),
                Handshake::Gone => Reason::Unproven(
                    "QEMU has no such connection; does another program listen on the host port?".into(),
                ),
                _ => Reason::GuestSilent(port),
            });
        }
        pause = (pause * 3 / 2).min(LOOK_MAX);
    }
}

/// The connection has data, or its end.
fn spoken(
    peer: &Peer<'_>,
    forward: &mut dyn Forward,
    client: SocketAddr,
    port: u16,
    limits: &Limits<'_>,
) -> Result<Taken, Reason> {
    match peer.peek() {
        // QEMU says nothing of its own: it is the guest's.
        Ok(Some(1..)) => Ok(Taken::Established),
        // The guest's reset of a SYN makes QEMU forget the connection. One that it took and closed stays known as
        // long as our side is open.
        Ok(_) if limits.look_closer => match forward.handshake(client, Deadline::after(ASK_MAX).min(limits.deadline)) {
            Handshake::Established => Ok(Taken::Established),
            _ => Err(Reason::GuestRefuses(port)),
        },
        _ => Err(Reason::GuestRefuses(port)),
    }
}
