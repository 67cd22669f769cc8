//! Whether the guest has completed one connection of ours to a forwarded port.
//!
//! QEMU accepts for the guest, so our side can't tell. QEMU's own list can: its rows have descriptor numbers, and
//! behind one of them is our peer. Which one is found out before QEMU is asked, so that one question is enough: by taking
//! copies of its sockets (pidfd_getfd) and asking them for their peer's address; where that is not allowed (another
//! user's QEMU, Yama's ptrace_scope), by the inode number that /proc/net/tcp and /proc/PID/fd share; where that is not
//! allowed either, by all rows of that forward alike. When in doubt the answer is not "completed".

use crate::guest::monitor::qmp::{Qmp, QmpError};
use crate::guest::monitor::usernet::{Row, State, parse};
use crate::model::Protocol;
use crate::sys::Deadline;
use crate::sys::error::os_reason;
use crate::sys::pidfd::PidFd;
use nix::sys::socket::{SockaddrIn, getpeername};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The command that lists the connections.
const LIST: &str = "info usernet";
/// The state of an open connection in /proc/net/tcp.
const ESTABLISHED: &str = "01";
/// No /proc/net/tcp is read beyond this many bytes.
const TABLE_MAX: u64 = 64 << 20;

/// How far a connection is inside QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The guest has completed it.
    Completed,
    /// The guest has not answered.
    Waiting,
    /// QEMU has not accepted it yet, or has dropped it.
    Missing,
    /// It can't be found out, for this reason.
    Unknown(String),
}

/// Asks one VM's monitor about connections to one of its ports.
#[derive(Debug)]
pub struct Asker {
    monitor: PathBuf,
    pid: i32,
    process: Option<PidFd>,
    guest_port: u16,
    /// A client, and the descriptor in QEMU that was seen to be its.
    known: Option<(SocketAddrV4, i32)>,
}

impl Asker {
    /// For the guest's tcp port `guest_port`. `monitor` is the VM's QMP socket, `pid` its QEMU: a wrong one makes
    /// connections [`Seen::Missing`], no worse.
    pub fn new(monitor: &Path, pid: i32, guest_port: u16) -> Asker {
        Asker { monitor: monitor.to_path_buf(), pid, process: PidFd::open(pid), guest_port, known: None }
    }

    /// Looks for the connection that comes from `client`. One short monitor connection a call, so that others get
    /// their turn.
    pub fn ask(&mut self, client: SocketAddr, deadline: Deadline) -> Seen {
        let SocketAddr::V4(client) = client else {
            return Seen::Unknown("QEMU's user-mode network forwards IPv4 only".into());
        };
        match self.look(client, deadline) {
            Ok(seen) => seen,
            Err(e) => Seen::Unknown(e.to_string()),
        }
    }

    fn look(&mut self, client: SocketAddrV4, deadline: Deadline) -> Result<Seen, QmpError> {
        // Its connections ended with it. The next VM of its slot may listen at its monitor's path, and is slow to answer
        // while it boots.
        if self
            .process
            .as_ref()
            .is_some_and(|process| matches!(process.wait(Deadline::after(Duration::ZERO)), Ok(true)))
        {
            return Ok(Seen::Missing);
        }
        let known = self.known.take().filter(|(of, _)| *of == client).map(|(_, fd)| fd);
        let means = match self.can_steal() {
            true => Means::Copies,
            // Before the rows are listed: what the kernel says was accepted then is among them.
            false => match entry_of(client) {
                Some(entry) if entry.inode != 0 => Means::Inode(entry),
                _ => return Ok(Seen::Missing),
            },
        };
        let fd = match known.map_or_else(|| self.search(client, &means), |fd| Ok(Some(fd))) {
            Ok(Some(fd)) => fd,
            Ok(None) => return Ok(Seen::Missing),
            Err(e) => {
                return Ok(match &means {
                    Means::Inode(entry) => all_alike(&self.list(deadline)?, entry),
                    Means::Copies => Seen::Unknown(format!("QEMU's connections: {}", os_reason(&e))),
                });
            }
        };
        let rows = self.list(deadline)?;
        // It was the client's before this look and is so after it, and QEMU never gives a closed connection a second
        // life: so the look was at the client's.
        let states: Vec<&State> = rows.iter().filter(|r| self.may_be(r) && r.fd == fd).map(|r| &r.state).collect();
        if states.is_empty() || !self.owns(fd, client, &means)? {
            return Ok(Seen::Missing);
        }
        self.known = Some((client, fd));
        Ok(judge(&states))
    }

    fn list(&self, deadline: Deadline) -> Result<Vec<Row>, QmpError> {
        Ok(parse(&Qmp::connect_and_ask(&self.monitor, LIST, deadline)?.1))
    }

    /// The descriptor in QEMU that is the other end of `client`'s connection.
    fn search(&self, client: SocketAddrV4, means: &Means) -> io::Result<Option<i32>> {
        let entries: io::Result<Vec<_>> = std::fs::read_dir(format!("/proc/{}/fd", self.pid))?.collect();
        // The last ones first: those before are what QEMU has had since its start.
        for entry in entries?.iter().rev() {
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // QEMU's life is told by a lock that it holds, and a copy of that would hold it as well.
            if matches!(means, Means::Copies) && !is_socket(&entry.path())? {
                continue;
            }
            if self.owns(fd, client, means)? {
                return Ok(Some(fd));
            }
        }
        Ok(None)
    }

    fn may_be(&self, row: &Row) -> bool {
        row.protocol == Protocol::Tcp
            && matches!(row.state, State::SynSent | State::Connected)
            && row.destination.port() == self.guest_port
    }

    fn can_steal(&self) -> bool {
        // Descriptor 0 is there (/dev/null) or not; what matters is whether asking is allowed.
        self.process.as_ref().is_some_and(|p| match p.steal(0) {
            Ok(_) => true,
            Err(e) => !matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::ESRCH)),
        })
    }

    /// Whether QEMU's descriptor `fd` is the other end of `client`'s connection. An error: we may not know.
    fn owns(&self, fd: i32, client: SocketAddrV4, means: &Means) -> io::Result<bool> {
        match means {
            Means::Inode(entry) => match std::fs::read_link(format!("/proc/{}/fd/{fd}", self.pid)) {
                Ok(target) => Ok(target.as_os_str() == format!("socket:[{}]", entry.inode).as_str()),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
                Err(e) => Err(e),
            },
            Means::Copies => match self.process.as_ref().map(|p| p.steal(fd)) {
                // Dropped at once: as long as we hold it, QEMU's close would not reach the client.
                Some(Ok(copy)) => Ok(getpeername::<SockaddrIn>(copy.as_raw_fd())
                    .is_ok_and(|peer| SocketAddrV4::new(peer.ip(), peer.port()) == client)),
                Some(Err(e)) if e.raw_os_error() != Some(libc::EBADF) => Err(e),
                _ => Ok(false),
            },
        }
    }
}

/// Whether this entry of a process's descriptors is a socket; one that is gone is none.
fn is_socket(entry: &Path) -> io::Result<bool> {
    match std::fs::read_link(entry) {
        Ok(target) => Ok(target.as_os_str().as_bytes().starts_with(b"socket:")),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// How a descriptor in QEMU is told to be our peer.
enum Means {
    /// By a copy of it.
    Copies,
    /// By its inode's number.
    Inode(Entry),
}

/// Completed if all of these are.
fn judge(states: &[&State]) -> Seen {
    match states {
        [] => Seen::Missing,
        all if all.iter().all(|s| **s == State::Connected) => Seen::Completed,
        _ => Seen::Waiting,
    }
}

/// Ours was accepted before the rows were listed, so it is among them. If the guest has completed every single one
/// of that forward, it has completed ours.
fn all_alike(rows: &[Row], entry: &Entry) -> Seen {
    let port = entry.server.port();
    // Our side is open, so a closing one is not ours.
    let open = |r: &&Row| matches!(r.state, State::SynSent | State::Connected);
    let same = |r: &&Row| r.protocol == Protocol::Tcp && r.source.port() == port && open(r);
    judge(&rows.iter().filter(same).map(|r| &r.state).collect::<Vec<_>>())
}

/// QEMU's side of a connection, as the kernel lists it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Our target.
    server: SocketAddrV4,
    /// 0 as long as nobody has accepted it.
    inode: u64,
}

fn entry_of(client: SocketAddrV4) -> Option<Entry> {
    let bytes = crate::sys::file::read_bounded(Path::new("/proc/net/tcp"), TABLE_MAX).ok()??;
    find_entry(&String::from_utf8_lossy(&bytes), client)
}

/// The line of /proc/net/tcp (proc(5)) whose remote address is `client`.
fn find_entry(table: &str, client: SocketAddrV4) -> Option<Entry> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let server = address(words.next()?)?;
        let remote = address(words.next()?)?;
        let state = words.next()?;
        let inode = words.nth(5)?.parse().ok()?;
        // The client's port may have been another connection's before, which is listed for a minute after its end.
        (remote == client && state == ESTABLISHED).then_some(Entry { server, inode })
    })
}

/// `0100007F:1F90`: the address as the machine's own number, the port as it is read.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (ip, port) = text.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?;
    Some(SocketAddrV4::new(ip.to_ne_bytes().into(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernels_table() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let SocketAddr::V4(ours) = client.local_addr().unwrap() else { unreachable!() };
        let waiting = entry_of(ours).unwrap();
        assert_eq!((SocketAddr::V4(waiting.server), waiting.inode), (listener.local_addr().unwrap(), 0));
        let accepted = listener.accept().unwrap().0;
        let entry = entry_of(ours).unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", accepted.as_raw_fd())).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("socket:[{}]", entry.inode));
    }

    /// This very process stands for QEMU.
    #[test]
    fn the_descriptor_behind_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let SocketAddr::V4(ours) = client.local_addr().unwrap() else { unreachable!() };
        let asker = Asker::new(Path::new("/nowhere"), std::process::id() as i32, 80);
        assert_eq!(asker.search(ours, &Means::Copies).unwrap(), None);
        let accepted = listener.accept().unwrap().0;
        let fd = accepted.as_raw_fd();
        for means in [Means::Copies, Means::Inode(entry_of(ours).unwrap())] {
            assert_eq!(asker.search(ours, &means).unwrap(), Some(fd));
            assert!(asker.owns(fd, ours, &means).unwrap());
            assert!(!asker.owns(client.as_raw_fd(), ours, &means).unwrap());
        }
        let gone = Means::Inode(entry_of(ours).unwrap());
        drop(accepted);
        for means in [Means::Copies, gone] {
            assert_eq!(asker.search(ours, &means).unwrap(), None);
        }
    }

    /// The next VM of the slot, which boots and does not answer, has the path of its monitor.
    #[test]
    fn a_vm_that_has_ended_has_no_connections_and_is_not_asked() {
        let folder = std::env::temp_dir().join(format!("mcp-ended-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let monitor = folder.join("qmp.sock");
        let busy = std::os::unix::net::UnixListener::bind(&monitor).unwrap();
        busy.set_nonblocking(true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _accepted = listener.accept().unwrap();
        let mut qemu = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut asker = Asker::new(&monitor, qemu.id() as i32, 80);
        qemu.kill().unwrap();
        qemu.wait().unwrap();
        let seen = asker.ask(client.local_addr().unwrap(), Deadline::after(Duration::from_millis(300)));
        assert_eq!(seen, Seen::Missing);
        assert!(busy.accept().is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn only_sockets_are_copied() {
        let (listener, file) = (TcpListener::bind("127.0.0.1:0").unwrap(), std::fs::File::open("/dev/null").unwrap());
        let entry = |fd: i32| PathBuf::from(format!("/proc/self/fd/{fd}"));
        assert!(is_socket(&entry(listener.as_raw_fd())).unwrap());
        assert!(!is_socket(&entry(file.as_raw_fd())).unwrap());
        assert!(!is_socket(&entry(i32::MAX)).unwrap());
    }

    #[test]
    fn junk_tables() {
        let client = "127.0.0.1:1".parse().unwrap();
        for table in ["", "x\n", "x\n0:\n", "x\n0: 0100007F:1F90 0100007F:0001\n", "x\n0: : :\n"] {
            assert_eq!(find_entry(table, client), None, "{table:?}");
        }
    }

    #[test]
    fn all_alike_is_careful() {
        let row = |state: State, fd| Row {
            protocol: Protocol::Tcp,
            state,
            fd,
            source: "127.0.0.1:80".parse().unwrap(),
            destination: "10.0.2.15:8080".parse().unwrap(),
        };
        let entry = Entry { server: "127.0.0.1:80".parse().unwrap(), inode: 7 };
        let listener = row(State::HostForward, 1);
        let (up, syn) = (row(State::Connected, 2), row(State::SynSent, 3));
        assert_eq!(all_alike(std::slice::from_ref(&listener), &entry), Seen::Missing);
        assert_eq!(all_alike(&[up.clone(), listener.clone()], &entry), Seen::Completed);
        assert_eq!(all_alike(&[up, syn, listener], &entry), Seen::Waiting);
    }
}
