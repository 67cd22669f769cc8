//! Ports of the node, held between the check that they are free and their use.

use crate::model::state::{self, State};
use crate::model::{ComponentId, Port, Protocol};
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result, filter};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Reserves `ports` for `id`, but those that its serving instance has (`held`).
pub fn all(paths: &Paths, id: &ComponentId, ports: &[Port], held: &[Port]) -> Result<Vec<Reservation>> {
    let is_held = |port: &Port| held.iter().any(|h| h.host_addr() == port.host_addr() && h.protocol == port.protocol);
    let free = ports.iter().filter(|port| !is_held(port));
    free.map(|port| reserve(port, |port| holder_of_ours(paths, id, port))).collect()
}

/// A port that we hold between the check that it is free and its use.
#[derive(Debug)]
pub struct Reservation {
    socket: OwnedFd,
    protocol: Protocol,
}

impl Reservation {
    /// Lets a socket with SO_REUSEADDR (TCP) or SO_REUSEPORT (UDP) bind the port beside the reservation.
    pub fn share(&self) -> nix::Result<()> {
        match self.protocol {
            Protocol::Tcp => setsockopt(&self.socket, sockopt::ReuseAddr, &true),
            Protocol::Udp => setsockopt(&self.socket, sockopt::ReusePort, &true),
        }
    }
}

fn new_socket(port: &Port) -> nix::Result<OwnedFd> {
    let kind = if port.protocol == Protocol::Tcp { SockType::Stream } else { SockType::Datagram };
    let family = if port.bind.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, SockFlag::SOCK_CLOEXEC, None)
}

/// Reserves `port`. `holder` names who has it, where that is known.
pub fn reserve(port: &Port, holder: impl FnOnce(&Port) -> Option<String>) -> Result<Reservation> {
    let address = describe(port);
    let attempt = || -> nix::Result<OwnedFd> {
        let socket = new_socket(port)?;
        // Connections of a former listener that linger in TIME_WAIT don't count.
        if port.protocol == Protocol::Tcp {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(port.host_addr()))?;
        if port.protocol == Protocol::Tcp {
            // With SO_REUSEADDR two may bind; only one can listen. Whoever connects in that moment is not accepted only to
            // be reset: the second try, a second later, is refused.
            filter::drop_all(&socket)?;
            listen(&socket, Backlog::new(0)?)?;
            shutdown_listener(&socket)?;
            // With it, another program that sets it too, as most servers do, could listen on the port.
            setsockopt(&socket, sockopt::ReuseAddr, &false)?;
        }
        Ok(socket)
    };
    match attempt() {
        Ok(socket) => Ok(Reservation { socket, protocol: port.protocol }),
        Err(nix::errno::Errno::EADDRINUSE) => Err(taken(port, holder(port))),
        Err(nix::errno::Errno::EACCES) => Err(Error::refused(
            address,
            "a port below 1024 needs root or CAP_NET_BIND_SERVICE; choose a higher host port",
        )),
        Err(nix::errno::Errno::EADDRNOTAVAIL) => {
            Err(Error::refused(address, "this node has no such address; choose one of its own, or 0.0.0.0"))
        }
        Err(e) => Err(Error::os("bind", address)(e)),
    }
}

/// The error for a port that somebody has.
pub fn taken(port: &Port, holder: Option<String>) -> Error {
    let who = holder.unwrap_or_else(|| "another program".into());
    Error::busy(describe(port), format!("taken by {who}; stop that or choose another host port"))
}

/// A port as people write it.
pub fn describe(port: &Port) -> String {
    format!("{}/{}", port.host_addr(), if port.protocol == Protocol::Tcp { "tcp" } else { "udp" })
}

/// Stops listening. A port that the kernel picked is given up by this, one that was named stays bound.
pub fn shutdown_listener(socket: &OwnedFd) -> nix::Result<()> {
    nix::sys::socket::shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Read)
}

/// The component of ours that has `port`, when it is one.
fn holder_of_ours(paths: &Paths, own: &ComponentId, port: &Port) -> Option<String> {
    let dirs = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| !n.starts_with('.')).collect()
    };
    for service in dirs(&paths.run) {
        for component in dirs(&paths.run.join(&service)) {
            let id = ComponentId { service: service.clone(), component };
            if id == *own {
                continue;
            }
            for slot in Slot::ALL {
                let instance = paths.component(&id.service, &id.component).instance(slot);
                if state::is_alive(&instance).unwrap_or(false)
                    && State::read(&instance)
                        .ok()
                        .flatten()
                        .is_some_and(|s| s.ports.iter().any(|other| other.clashes(port)))
                {
                    return Some(id.to_string());
                }
            }
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn a_reservation_resets_no_client() {
        // Below the ports that the kernel gives to clients, and not the one that another such test takes.
        let first = 20_000 + (std::process::id() % 10_000) as u16;
        let free = (first..32_768).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
        let port = Port::parse(&format!("{free}:80")).unwrap();
        let over = AtomicBool::new(false);
        let (reserved, other) = std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                // One that was dropped would try again after a second.
                let timeout = Duration::from_millis(2);
                let ask = || TcpStream::connect_timeout(&([127, 0, 0, 1], free).into(), timeout).map_err(|e| e.kind());
                let mut asked = std::iter::repeat_with(ask).take_while(|_| !over.load(Ordering::Relaxed));
                asked.find(|answer| !matches!(answer, Err(ErrorKind::ConnectionRefused | ErrorKind::TimedOut)))
            });
            // Another test that forks has it open for a moment longer.
            let reserved = (0..60_000).filter(|_| reserve(&port, |_| None).is_ok()).count();
            over.store(true, Ordering::Relaxed);
            (reserved, client.join().unwrap())
        });
        assert!(reserved > 30_000 && other.is_none(), "{reserved} times, {other:?}");
    }
}
