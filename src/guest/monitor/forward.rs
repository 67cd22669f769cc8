//! Forwarded ports: opened through the monitor, then made real listeners.
//!
//! libslirp listens with a backlog of 1, so that a second client waits a second. So each forward is made on a scratch
//! port that the kernel picks; once the guest is ready, its socket is taken out of QEMU, unbound, and bound to its real
//! address with a real backlog. QEMU then needs no right to low ports, and the socket is ours by owner, which a later
//! hand-over needs. Until then a client of the real address is refused at once: QEMU would accept it for a guest that
//! does not listen, and sends the lost SYN again only after 6 s.

use crate::guest::monitor::qmp::{Qmp, QmpError, one_line};
use crate::guest::monitor::usernet::{self, Row, State};
use crate::model::{Port, Protocol};
use crate::supervise::reserve::{describe, shutdown_listener, taken};
use crate::sys::{Deadline, Error, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen, setsockopt, sockopt};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Clients that may wait to be taken.
const BACKLOG: i32 = 128;

/// Opens all `ports` in a QEMU that has just started, each on a port of 127.0.0.1 that the kernel picks. Returns the
/// ports as they are reached.
pub fn open_scratch(qmp: &mut Qmp, ports: &[Port], deadline: Deadline) -> Result<Vec<Port>> {
    let mut known = rows(qmp, deadline)?.iter().map(|r| r.fd).collect::<BTreeSet<_>>();
    let mut scratch = Vec::new();
    for port in ports {
        let row = add_free(qmp, port, &known, deadline)?;
        known.insert(row.fd);
        scratch.push(Port { bind: Ipv4Addr::LOCALHOST.into(), host: row.source.port(), ..*port });
    }
    Ok(scratch)
}

/// Moves the forward `row` to its real address without `pidfd_getfd`. QEMU binds a second socket, so the address must be
/// free.
pub(super) fn reopen(qmp: &mut Qmp, port: &Port, row: &Row, deadline: Deadline) -> Result<()> {
    remove(qmp, port, row, deadline).map_err(|e| e.about(describe(port)))?;
    add(qmp, &format!("{}:{}-:{}", protocol(port), port.host_addr(), port.guest), port, deadline)
}

/// Forwards a port that the kernel picks to the guest's end of `port`.
fn add_free(qmp: &mut Qmp, port: &Port, known: &BTreeSet<i32>, deadline: Deadline) -> Result<Row> {
    add(qmp, &format!("{}:127.0.0.1:0-:{}", protocol(port), port.guest), port, deadline)?;
    let row = rows(qmp, deadline)?
        .into_iter()
        .find(|r| r.state == State::HostForward && !known.contains(&r.fd) && r.destination.port() == port.guest);
    row.ok_or_else(|| Error::busy(describe(port), "QEMU does not show the forward it made"))
}

/// The protocol as QEMU writes it.
fn protocol(port: &Port) -> &'static str {
    if port.protocol == Protocol::Tcp { "tcp" } else { "udp" }
}

/// QEMU's connections and listeners.
pub(super) fn rows(qmp: &mut Qmp, deadline: Deadline) -> Result<Vec<Row>> {
    let text = qmp.human("info usernet", deadline).map_err(|e| e.about("info usernet"))?;
    Ok(usernet::parse(&text))
}

fn add(qmp: &mut Qmp, rule: &str, port: &Port, deadline: Deadline) -> Result<()> {
    let said = qmp.human(&format!("hostfwd_add n0 {rule}"), deadline).map_err(|e| e.about(describe(port)))?;
    match said.trim() {
        "" => Ok(()),
        words => Err(Error::busy(describe(port), format!("QEMU can't forward it: {}", one_line(words)))),
    }
}

/// Closes the forward `row` of `port`: connections that are open go on.
pub(super) fn remove(qmp: &mut Qmp, port: &Port, row: &Row, deadline: Deadline) -> std::result::Result<(), QmpError> {
    qmp.human(&format!("hostfwd_remove n0 {}:{}", protocol(port), row.source), deadline).map(drop)
}

/// Moves a socket of QEMU's from the port that the kernel picked to its real address. `shared`: another VM's socket,
/// which it is to replace, listens there.
pub(super) fn rebind(socket: &OwnedFd, port: &Port, shared: bool) -> Result<()> {
    let move_it = || -> nix::Result<()> {
        match port.protocol {
            Protocol::Tcp => {
                // QEMU's poll may see the shutdown and call accept just when it listens again: a blocking accept
                // would then hold all of QEMU up until the first client comes.
                let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
                fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
                shutdown_listener(socket)?;
                setsockopt(socket, sockopt::ReuseAddr, &true)?;
            }
            Protocol::Udp => {
                disconnect(socket)?;
                // Else our reservation, to which no other can have bound, would be in the way.
                setsockopt(socket, sockopt::ReusePort, &true)?;
            }
        }
        // SO_REUSEPORT shares an address only among sockets of one owner: this one is ours now, not QEMU's.
        let own = nix::unistd::geteuid();
        if own.is_root() {
            nix::unistd::fchown(socket.as_fd(), Some(own), None)?;
        }
        if shared {
            setsockopt(socket, sockopt::ReusePort, &true)?;
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(port.host_addr()))?;
        if port.protocol == Protocol::Tcp {
            listen(socket, Backlog::new(BACKLOG)?)?;
            // For the one that replaces this. Not before it listens: of two starts that have reserved the port at the
            // same moment, this lets only one listen.
            setsockopt(socket, sockopt::ReusePort, &true)?;
        }
        Ok(())
    };
    move_it().map_err(|e| match e {
        nix::errno::Errno::EADDRINUSE => taken(port, None),
        e => Error::os("bind", describe(port))(e),
    })
}

/// Gives up the address of a UDP socket whose port the kernel picked: `connect` to AF_UNSPEC, udp(7).
fn disconnect(socket: &OwnedFd) -> nix::Result<()> {
    // SAFETY: an all-zero sockaddr is one of family AF_UNSPEC; the length is its own.
    let r = unsafe {
        let nowhere: libc::sockaddr = std::mem::zeroed();
        libc::connect(socket.as_raw_fd(), &nowhere, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    nix::errno::Errno::result(r).map(drop)
}
