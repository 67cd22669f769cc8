//! Gives host ports to a VM that is ready. Ports of the VM that it replaces change hands without a refused or reset
//! connection.
//!
//! Both listen on the address for a moment, as a SO_REUSEPORT group, and a filter of that group gives each new
//! connection to the new one. The old listener goes when nothing waits in it any more. Each step can be done again, so
//! whoever adopts a pair of VMs between which a supervisor died half way goes on from there.

use crate::guest::monitor::forward::{rebind, remove, reopen, rows};
use crate::guest::monitor::qmp::{Qmp, QmpError};
use crate::guest::monitor::usernet::{self, Row, State};
use crate::model::{Port, Protocol};
use crate::supervise::reserve::{Reservation, describe};
use crate::sys::pidfd::PidFd;
use crate::sys::{Deadline, Error, Result, filter};
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How long connections that wait in the old listener may take to be taken.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same where nobody takes the old one's place: those who come meanwhile are lost either way.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);
/// Between two looks at a queue that empties within microseconds.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);
/// No /proc/net/tcp is read beyond this many bytes.
const TABLE_MAX: u64 = 64 << 20;

/// One side of a hand-over.
pub struct Side<'a> {
    /// Its monitor.
    pub qmp: &'a mut Qmp,
    /// Its QEMU.
    pub qemu: &'a PidFd,
}

/// Gives `ports` to `new`, whatever of that was done before. `old` has some of them or none. `reserved` are the
/// reservations of the others.
pub fn hand_over(
    new: &mut Side<'_>,
    mut old: Option<Side<'_>>,
    ports: &[Port],
    mut reserved: Vec<Reservation>,
    deadline: Deadline,
) -> Result<()> {
    for reservation in &reserved {
        reservation.share().map_err(Error::os("share", "a reserved port"))?;
    }
    for port in ports {
        let theirs = match &mut old {
            Some(old) => listener(&rows(old.qmp, deadline)?, port).cloned(),
            None => None,
        };
        let mine = rows(new.qmp, deadline)?;
        if listener(&mine, port).is_none() {
            let row = mine.iter().find(|row| {
                let is_real = ports.iter().any(|other| is_at(row, other));
                row.state == State::HostForward && row.destination.port() == port.guest && !is_real
            });
            let row = row.filter(|row| row.protocol == port.protocol);
            let row = row.ok_or_else(|| Error::busy(describe(port), "the new VM does not forward it"))?;
            match new.qemu.steal(row.fd) {
                Ok(socket) => {
                    rebind(&socket, port, theirs.is_some())?;
                    if theirs.is_some() && port.protocol == Protocol::Tcp {
                        filter::prefer_the_second(&socket).map_err(Error::os("attach a filter to", describe(port)))?;
                    }
                }
                Err(e) if theirs.is_none() => {
                    log::debug!("{}: pidfd_getfd: {e}", describe(port));
                    // A socket of QEMU's own shares its address with no other.
                    reserved.clear();
                    reopen(new.qmp, port, row, deadline)?;
                }
                Err(e) => return Err(Error::os("take over", describe(port))(e)),
            }
        }
        if let (Some(old), Some(row)) = (&mut old, theirs) {
            if port.protocol == Protocol::Tcp {
                let listener = old.qemu.steal(row.fd).map_err(Error::os("look at", describe(port)))?;
                if !wait_until_empty(&listener, port, QUEUE_TIMEOUT) {
                    log::warn!("{}: clients still waited in the old VM when it was closed to them", describe(port));
                }
                // Ours is a second handle on it: while that is open it listens.
                drop(listener);
            }
            remove(old.qmp, port, &row, deadline).map_err(|e| e.about(describe(port)))?;
        }
    }
    drop(reserved);
    Ok(())
}

/// Has new clients of TCP `ports` refused; connections that are open go on. For a guest that goes down: QEMU would accept
/// them until it ends, long after the guest's program did, and a client that is refused can go elsewhere.
pub fn refuse(vm: &mut Side<'_>, ports: &[Port], deadline: Deadline) -> std::result::Result<(), QmpError> {
    let tcp: Vec<_> = ports.iter().filter(|port| port.protocol == Protocol::Tcp).collect();
    if tcp.is_empty() {
        return Ok(());
    }
    let rows = usernet::parse(&vm.qmp.human("info usernet", deadline)?);
    for port in tcp {
        let Some(row) = listener(&rows, port) else { continue };
        if let Ok(socket) = vm.qemu.steal(row.fd) {
            wait_until_empty(&socket, port, CLOSE_TIMEOUT);
        }
        remove(vm.qmp, port, row, deadline)?;
    }
    Ok(())
}

/// The scratch ports of a VM whose state was lost, in the order of `ports`; none where a hand-over has begun.
pub fn scratch_ports(vm: &mut Side<'_>, ports: &[Port], deadline: Deadline) -> Result<Vec<Port>> {
    let rows = rows(vm.qmp, deadline)?;
    if any_listens(&rows, ports) {
        return Ok(Vec::new());
    }
    let scratch = |port: &Port| {
        let is_its = |r: &&Row| {
            r.state == State::HostForward && r.protocol == port.protocol && r.destination.port() == port.guest
        };
        let row = rows.iter().find(is_its)?;
        Some(Port { bind: (*row.source.ip()).into(), host: row.source.port(), ..*port })
    };
    Ok(ports.iter().filter_map(scratch).collect())
}

/// Whether a hand-over of `ports` to `vm` has begun.
pub fn has_begun(vm: &mut Side<'_>, ports: &[Port], deadline: Deadline) -> Result<bool> {
    Ok(any_listens(&rows(vm.qmp, deadline)?, ports))
}

/// Whether one of `ports` is open at its real address.
fn any_listens(rows: &[Row], ports: &[Port]) -> bool {
    ports.iter().any(|port| listener(rows, port).is_some())
}

/// Whether VMs of ours can take sockets out of `qemu` on this node, without which nothing can be handed over.
pub fn is_possible(side: &mut Side<'_>, deadline: Deadline) -> bool {
    let Ok(rows) = rows(side.qmp, deadline) else { return false };
    rows.iter().filter(|row| row.state == State::HostForward).all(|row| side.qemu.steal(row.fd).is_ok())
}

/// How many connections of clients to one of `ports` are open in a VM.
pub fn connections(qmp: &mut Qmp, ports: &[Port], deadline: Deadline) -> Result<usize> {
    let is_ours = |row: &&Row| {
        let open = matches!(row.state, State::Connected | State::HalfClosed | State::SynSent);
        // The guest's own connections go from its address to the world; a client's to one of the guest's ports.
        open && row.protocol == Protocol::Tcp
            && ports.iter().any(|p| row.destination.port() == p.guest && is_at(row, p))
    };
    Ok(rows(qmp, deadline)?.iter().filter(is_ours).count())
}

fn is_at(row: &Row, port: &Port) -> bool {
    let any = port.bind.is_unspecified();
    row.protocol == port.protocol
        && row.source.port() == port.host
        && (any || SocketAddr::V4(row.source).ip() == port.bind)
}

fn listener<'a>(rows: &'a [Row], port: &Port) -> Option<&'a Row> {
    rows.iter().find(|r| r.state == State::HostForward && r.destination.port() == port.guest && is_at(r, port))
}

/// Waits until no connection is in the old listener: neither one that QEMU has not taken, nor one half made. Whether that
/// came to be.
fn wait_until_empty(listener: &OwnedFd, port: &Port, limit: Duration) -> bool {
    let deadline = Deadline::after(limit);
    while !deadline.passed() {
        if queued(listener) == 0 && half_open(port) == 0 && queued(listener) == 0 {
            return true;
        }
        std::thread::sleep(QUEUE_PAUSE);
    }
    false
}

/// Connections that wait to be accepted: `tcpi_unacked` of a listener.
fn queued(listener: &OwnedFd) -> u32 {
    // SAFETY: plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: a buffer and its length.
    let r = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if r == 0 { info.tcpi_unacked } else { 0 }
}

/// Connections to the port whose client has not completed them: state 03 in /proc/net/tcp, in any of its listeners.
fn half_open(port: &Port) -> usize {
    let mut table = String::new();
    let read = std::fs::File::open("/proc/net/tcp").and_then(|f| f.take(TABLE_MAX).read_to_string(&mut table));
    if read.is_err() {
        return 0;
    }
    let local = format!(":{:04X}", port.host);
    let is_half = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|at| at.ends_with(&local)) && words.nth(1) == Some("03")
    };
    table.lines().filter(is_half).count()
}
