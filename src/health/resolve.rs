//! Names to addresses, with a deadline, which the system's resolver does not know.

use super::Reason;
use crate::sys::Deadline;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

/// Lookups that hang are left behind in their threads; no more than this many at once.
const HANGING_MAX: usize = 32;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// The addresses of `host`, at least one.
pub(super) fn resolve(host: &str, port: u16, deadline: Deadline) -> Result<Vec<SocketAddr>, Reason> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        // RFC 6761: it need not be asked for.
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    if RUNNING.fetch_add(1, Ordering::SeqCst) >= HANGING_MAX {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        return Err(Reason::NameService("earlier lookups still hang".into()));
    }
    let (tell, told) = sync_channel(1);
    let name = host.to_string();
    let thread = std::thread::Builder::new().name("resolve".into()).spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(|all| all.take(ADDRESSES_MAX).collect::<Vec<_>>());
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        let _ = tell.try_send(found);
    });
    if let Err(e) = thread {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        return Err(Reason::NameService(crate::sys::error::os_reason(&e)));
    }
    match told.recv_timeout(deadline.left()) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(Reason::NoSuchName(host.to_string())),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(e)) => Err(reason(host, &e)),
        Err(RecvTimeoutError::Timeout) => Err(Reason::TimedOut("looking up the name")),
        Err(RecvTimeoutError::Disconnected) => Err(Reason::NameService("the resolver gave up".into())),
    }
}

/// std gives getaddrinfo's error as text alone.
fn reason(host: &str, e: &io::Error) -> Reason {
    let text = e.to_string();
    let said = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    // EAI_NONAME and EAI_NODATA of glibc; musl has the first of these texts too.
    if ["Name or service not known", "Name does not resolve", "No address associated with hostname"].contains(&said) {
        return Reason::NoSuchName(host.to_string());
    }
    Reason::NameService(format!("{host}: {}", said.to_lowercase()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn literal_addresses_ask_nobody() {
        let now = Deadline::after(Duration::ZERO);
        assert_eq!(resolve("127.0.0.1", 1, now).unwrap(), vec!["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(resolve("::1", 1, now).unwrap(), vec!["[::1]:1".parse().unwrap()]);
        assert_eq!(resolve("LocalHost", 1, now).unwrap().len(), 2);
    }

    #[test]
    fn what_the_resolver_says_is_told_apart() {
        let said = |text: &str| reason("x", &io::Error::other(format!("failed to lookup address information: {text}")));
        assert_eq!(said("Name or service not known"), Reason::NoSuchName("x".into()));
        let other = said("Temporary failure in name resolution");
        assert_eq!(other, Reason::NameService("x: temporary failure in name resolution".into()));
    }
}
