//! A TCP connection on which every call ends at one deadline, or at once when we are told to end.

use super::{Cancel, Hints, Reason};
use crate::sys::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What bounds one probe.
pub(super) struct Limits<'a> {
    /// The end of it all.
    pub deadline: Deadline,
    /// Until then a guest that does not answer at all is waited for.
    pub patience: Deadline,
    /// Ends it at once.
    pub cancel: Option<&'a Cancel>,
    /// While a guest does not answer: something happened that makes another look worthwhile.
    pub hints: Option<&'a Hints>,
    /// Whether an end of file is looked into: a guest that accepts and closes at once looks like one that refuses.
    pub look_closer: bool,
    /// Takes the connection of a check that is over, rather than its being closed.
    pub kept: Option<&'a Kept>,
}

impl Limits<'_> {
    /// All the time until `deadline`, for all of it.
    pub fn until(deadline: Deadline) -> Limits<'static> {
        Limits { deadline, patience: deadline, cancel: None, hints: None, look_closer: true, kept: None }
    }
}

/// No more are kept: a process may have 1024 descriptors as a rule, and needs some to ask with.
const KEPT_MAX: usize = 200;

/// Connections whose checks are over, the first 200. Their end keeps a guest as busy as their beginning: where many
/// guests are asked, that can wait until all have answered.
#[derive(Debug)]
pub struct Kept(Mutex<Option<Vec<TcpStream>>>);

impl Default for Kept {
    fn default() -> Kept {
        Kept(Mutex::new(Some(Vec::new())))
    }
}

impl Kept {
    fn add(&self, stream: TcpStream) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_mut().filter(|kept| kept.len() < KEPT_MAX) {
            kept.push(stream);
        }
    }

    /// Closes them all, and from now on each as it comes.
    pub fn close(&self) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nobody who has one more waits for that.
        drop(kept);
    }
}

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The connection has something to say.
    Peer,
    /// A hint came.
    Hint,
    /// We shall end.
    Cancelled,
    /// Nothing until the deadline.
    Nothing,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Peer<'a> {
    stream: TcpStream,
    deadline: Deadline,
    cancel: Option<&'a Cancel>,
}

impl<'a> Peer<'a> {
    /// Connects to the first of `addresses` that accepts; each gets its share of what is left.
    pub fn connect(addresses: &[SocketAddr], limits: &Limits<'a>) -> Result<Peer<'a>, Reason> {
        let mut found: Option<Reason> = None;
        for (i, address) in addresses.iter().enumerate() {
            let share = limits.deadline.left() / (addresses.len() - i) as u32;
            if share.is_zero() {
                found.get_or_insert(Reason::TimedOut("connecting"));
                break;
            }
            let reason = match TcpStream::connect_timeout(address, share) {
                // The kernel connects a socket with itself when it is given the port it asks for as its own.
                Ok(s) if s.local_addr().ok() == Some(*address) => Reason::Refused,
                Ok(stream) => {
                    let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                    return match ready {
                        Ok(()) => Ok(Peer { stream, deadline: limits.deadline, cancel: limits.cancel }),
                        Err(e) => Err(Reason::Broken(crate::sys::error::os_reason(&e))),
                    };
                }
                Err(e) => refusal(&e),
            };
            // That one family has no route says less than what the other answered.
            if found.as_ref().is_none_or(|r| matches!(r, Reason::Unreachable(_))) {
                found = Some(reason);
            }
        }
        Err(found.unwrap_or(Reason::TimedOut("connecting")))
    }

    /// Leaves it to `kept` to close it.
    pub fn keep(self, kept: &Kept) {
        kept.add(self.stream);
    }

    /// Our own address, by which the other side knows us.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Waits until there is something to read, a hint, or `until`.
    pub fn wait(&self, until: Deadline, hints: Option<&Hints>) -> Woken {
        self.wait_for(PollFlags::POLLIN, until, hints)
    }

    /// Looks at what came without taking it: `Some(0)` is the end of file, `None` nothing yet.
    pub fn peek(&self) -> io::Result<Option<usize>> {
        match self.stream.peek(&mut [0]) {
            Ok(n) => Ok(Some(n)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn wait_for(&self, what: PollFlags, until: Deadline, hints: Option<&Hints>) -> Woken {
        poll_all(Some((self.stream.as_fd(), what)), until, hints, self.cancel)
    }

    fn retry<T>(&self, what: PollFlags, mut call: impl FnMut(&TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            // Before each try: a peer that drips bytes never makes a call wait.
            if self.deadline.passed() {
                return Err(ErrorKind::TimedOut.into());
            }
            match call(&self.stream) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                other => return other,
            }
            if self.wait_for(what, self.deadline, None) != Woken::Peer {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Waits for a descriptor, a hint or the word to end. An error of `poll` itself counts as nothing.
pub(super) fn poll_all(
    peer: Option<(BorrowedFd<'_>, PollFlags)>,
    until: Deadline,
    hints: Option<&Hints>,
    cancel: Option<&Cancel>,
) -> Woken {
    loop {
        let mut fds = Vec::with_capacity(3);
        let mut names = Vec::with_capacity(3);
        if let Some(cancel) = cancel {
            fds.push(PollFd::new(cancel.as_fd(), PollFlags::POLLIN));
            names.push(Woken::Cancelled);
        }
        if let Some((fd, what)) = peer {
            fds.push(PollFd::new(fd, what));
            names.push(Woken::Peer);
        }
        if let Some(hints) = hints {
            fds.push(PollFd::new(hints.as_fd(), PollFlags::POLLIN));
            names.push(Woken::Hint);
        }
        match poll(&mut fds, until.poll_timeout()) {
            Ok(0) if until.passed() => return Woken::Nothing,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => {
                let first = fds.iter().zip(names).find(|(fd, _)| fd.any().unwrap_or(true));
                return first.map_or(Woken::Nothing, |(_, name)| name);
            }
            Err(_) => {
                // Out of memory, as good as only that: don't spin.
                std::thread::sleep(until.left().min(Duration::from_millis(10)));
                return Woken::Nothing;
            }
        }
    }
}

/// Why a connect failed.
fn refusal(e: &io::Error) -> Reason {
    match e.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::ECONNABORTED) => Reason::Refused,
        Some(libc::ETIMEDOUT) => Reason::TimedOut("connecting"),
        None if e.kind() == ErrorKind::TimedOut => Reason::TimedOut("connecting"),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            Reason::Broken(format!("can't connect: {}", crate::sys::error::os_reason(e)))
        }
        _ => Reason::Unreachable(crate::sys::error::os_reason(e)),
    }
}

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(PollFlags::POLLIN, |mut s| s.read(buffer))
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Rust ignores SIGPIPE, so a closed peer is an error and no signal. It may have said why before it closed, an
        // alert of TLS for example, which nobody would read after an error here; so the next read tells.
        match self.retry(PollFlags::POLLOUT, |mut s| s.write(bytes)) {
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Peer<'_> {
    fn as_raw_fd(&self) -> i32 {
        self.stream.as_raw_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A connection, and its other end.
    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let theirs = listener.accept().unwrap().0;
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (ours, theirs)
    }

    fn is_closed(theirs: &TcpStream) -> bool {
        theirs.set_nonblocking(true).unwrap();
        !matches!(theirs.peek(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    fn ends(mut theirs: &TcpStream) -> bool {
        theirs.set_nonblocking(false).unwrap();
        matches!(theirs.read(&mut [0]), Ok(0))
    }

    #[test]
    fn what_is_kept_is_closed_later_and_what_is_too_much_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kept = Kept::default();
        let mut others = Vec::new();
        for _ in 0..KEPT_MAX {
            let (ours, theirs) = pair(&listener);
            kept.add(ours);
            others.push(theirs);
        }
        let (ours, theirs) = pair(&listener);
        kept.add(ours);
        assert!(ends(&theirs));
        assert!(!others.iter().any(is_closed));
        kept.close();
        assert!(others.iter().all(ends));
        let (ours, theirs) = pair(&listener);
        kept.add(ours);
        assert!(ends(&theirs));
        kept.close();
    }
}
