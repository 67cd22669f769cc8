//! QEMU's machine protocol over a Unix socket, spoken by hand.
//!
//! A line of JSON each way: greeting, `qmp_capabilities`, commands with ids, events in between. The peer is not
//! trusted: lines are bounded, every wait has a deadline. See QEMU's docs/interop/qmp-spec.

use crate::sys::{Deadline, Error};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest line that is read. `info usernet` with a thousand connections stays below 200 KiB.
const LINE_MAX: usize = 1 << 20;
/// Events kept until somebody asks; a guest can cause them, so they are bounded.
const EVENTS_MAX: usize = 256;
/// The longest line whose event keeps its data. Those that we know have less than a hundred bytes.
const EVENT_DATA_MAX: usize = 4096;
/// How often [`Qmp::pump`] reads at most.
const PUMP_READS: usize = 64;

/// Why a monitor gave no answer.
#[derive(Debug)]
pub enum QmpError {
    /// QEMU closed the connection: the VM ended.
    Closed,
    /// No greeting: another client has the monitor.
    Busy,
    /// No answer before the deadline.
    TimedOut,
    /// Not the protocol.
    Junk(&'static str),
    /// QEMU answered with an error.
    Refused(String),
    /// The socket failed.
    Io(io::Error),
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QmpError::Closed => f.write_str("monitor closed"),
            QmpError::Busy => f.write_str("monitor busy: another client is connected"),
            QmpError::TimedOut => f.write_str("monitor gave no answer in time"),
            QmpError::Junk(what) => write!(f, "monitor does not speak QMP: {what}"),
            QmpError::Refused(why) => write!(f, "QEMU refused: {why}"),
            QmpError::Io(e) => write!(f, "monitor: {}", crate::sys::error::os_reason(e)),
        }
    }
}

impl QmpError {
    /// As an error about `object`.
    pub fn about(self, object: impl fmt::Display) -> Error {
        match self {
            QmpError::Refused(_) | QmpError::Junk(_) => Error::refused(object, self.to_string()),
            _ => Error::busy(object, self.to_string()),
        }
    }
}

impl From<io::Error> for QmpError {
    fn from(e: io::Error) -> QmpError {
        match e.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => QmpError::Closed,
            _ => QmpError::Io(e),
        }
    }
}

/// One event of QEMU's.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `SHUTDOWN`, `RESUME`, …
    pub name: String,
    /// Its data; null when there is none.
    pub data: Value,
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Up to here the buffer holds no newline: a slow long line is not searched again and again.
    searched: usize,
    events: VecDeque<Event>,
    next_id: u64,
    version: (u64, u64, u64),
}

enum Message {
    Event(Event),
    Answer(u64, Result<Value, String>),
    Other,
}

impl Qmp {
    /// Connects to the monitor at `path` and gets ready for commands.
    pub fn connect(path: &Path, deadline: Deadline) -> Result<Qmp, QmpError> {
        Qmp::greet(connect_within(path, deadline)?, deadline)
    }

    /// Connects, and runs one command of the human monitor in the same breath: everything is sent before the greeting
    /// has come, since each turn through QEMU's main loop takes milliseconds on a busy node. QEMU takes the commands
    /// one by one all the same.
    pub fn connect_and_ask(path: &Path, line: &str, deadline: Deadline) -> Result<(Qmp, String), QmpError> {
        let mut qmp = Qmp::fresh(connect_within(path, deadline)?)?;
        let capabilities = qmp.request("qmp_capabilities", Value::Null);
        let command = qmp.request("human-monitor-command", json!({ "command-line": line }));
        qmp.send(format!("{}\n{}\n", capabilities.1, command.1).as_bytes(), None, deadline)?;
        qmp.greeting(deadline)?;
        qmp.answer(capabilities.0, deadline)?;
        let text = text_of(qmp.answer(command.0, deadline)?)?;
        Ok((qmp, text))
    }

    /// Takes the greeting on a fresh connection and gets ready for commands.
    pub fn greet(stream: UnixStream, deadline: Deadline) -> Result<Qmp, QmpError> {
        let mut qmp = Qmp::fresh(stream)?;
        qmp.greeting(deadline)?;
        qmp.execute("qmp_capabilities", Value::Null, deadline)?;
        Ok(qmp)
    }

    fn fresh(stream: UnixStream) -> Result<Qmp, QmpError> {
        stream.set_nonblocking(true)?;
        Ok(Qmp { stream, buffer: Vec::new(), searched: 0, events: VecDeque::new(), next_id: 1, version: (0, 0, 0) })
    }

    fn greeting(&mut self, deadline: Deadline) -> Result<(), QmpError> {
        let line = match self.line(deadline) {
            // The connection was queued by the kernel; QEMU has not taken it.
            Err(QmpError::TimedOut) if self.buffer.is_empty() => return Err(QmpError::Busy),
            other => other?,
        };
        let greeting: Value = serde_json::from_slice(&line).map_err(|_| QmpError::Junk("greeting is not JSON"))?;
        let number = |key: &str| greeting.pointer(&format!("/QMP/version/qemu/{key}")).and_then(Value::as_u64);
        match (number("major"), number("minor"), number("micro")) {
            (Some(major), Some(minor), Some(micro)) => self.version = (major, minor, micro),
            _ => return Err(QmpError::Junk("no QMP greeting")),
        }
        Ok(())
    }

    /// QEMU's version: major, minor, micro.
    pub fn version(&self) -> (u64, u64, u64) {
        self.version
    }

    /// Runs a command and returns what it returned.
    pub fn execute(&mut self, command: &str, arguments: Value, deadline: Deadline) -> Result<Value, QmpError> {
        self.run(command, arguments, None, deadline)
    }

    /// Runs a command that takes a descriptor along (`add-fd`, `getfd`).
    pub fn execute_with_fd(
        &mut self,
        command: &str,
        arguments: Value,
        fd: BorrowedFd<'_>,
        deadline: Deadline,
    ) -> Result<Value, QmpError> {
        self.run(command, arguments, Some(fd), deadline)
    }

    /// Runs a command of the human monitor and returns its text.
    pub fn human(&mut self, line: &str, deadline: Deadline) -> Result<String, QmpError> {
        text_of(self.execute("human-monitor-command", json!({ "command-line": line }), deadline)?)
    }

    /// The next event that has arrived, without waiting.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Reads what is there without waiting, for callers that poll [`AsFd`] themselves. Not for ever: the rest of a
    /// flood is for their next turn.
    pub fn pump(&mut self) -> Result<(), QmpError> {
        for _ in 0..PUMP_READS {
            while let Some(line) = self.buffered_line()? {
                self.sort(&line)?;
            }
            if !self.fill()? {
                return Ok(());
            }
        }
        while let Some(line) = self.buffered_line()? {
            self.sort(&line)?;
        }
        Ok(())
    }

    fn run(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<Value, QmpError> {
        let (id, message) = self.request(command, arguments);
        self.send(format!("{message}\n").as_bytes(), fd, deadline)?;
        self.answer(id, deadline)
    }

    fn request(&mut self, command: &str, arguments: Value) -> (u64, Value) {
        let id = self.next_id;
        self.next_id += 1;
        let mut message = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        log::debug!("qmp: {message}");
        (id, message)
    }

    fn answer(&mut self, id: u64, deadline: Deadline) -> Result<Value, QmpError> {
        loop {
            let line = self.line(deadline)?;
            if let Message::Answer(of, answer) = self.sort(&line)?
                && of == id
            {
                return answer.map_err(QmpError::Refused);
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8], mut fd: Option<BorrowedFd<'_>>, deadline: Deadline) -> Result<(), QmpError> {
        while !bytes.is_empty() {
            let fds: Vec<i32> = fd.iter().map(|f| f.as_raw_fd()).collect();
            let control = if fds.is_empty() { vec![] } else { vec![ControlMessage::ScmRights(&fds)] };
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match sendmsg::<()>(self.stream.as_raw_fd(), &[IoSlice::new(bytes)], &control, flags, None) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    fd = None;
                }
                Err(nix::errno::Errno::EAGAIN) => self.wait(PollFlags::POLLOUT, deadline)?,
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
        Ok(())
    }

    fn wait(&self, what: PollFlags, deadline: Deadline) -> Result<(), QmpError> {
        loop {
            let mut fds = [PollFd::new(self.stream.as_fd(), what)];
            match poll(&mut fds, deadline.poll_timeout()) {
                Ok(0) if deadline.passed() => return Err(QmpError::TimedOut),
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(QmpError::Io(e.into())),
            }
        }
    }

    fn line(&mut self, deadline: Deadline) -> Result<Vec<u8>, QmpError> {
        loop {
            if let Some(line) = self.buffered_line()? {
                return Ok(line);
            }
            if !self.fill()? {
                self.wait(PollFlags::POLLIN, deadline)?;
            }
            if deadline.passed() {
                return Err(QmpError::TimedOut);
            }
        }
    }

    fn buffered_line(&mut self) -> Result<Option<Vec<u8>>, QmpError> {
        match self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
            Some(at) => {
                let rest = self.buffer.split_off(self.searched + at + 1);
                self.searched = 0;
                Ok(Some(std::mem::replace(&mut self.buffer, rest)))
            }
            None if self.buffer.len() > LINE_MAX => Err(QmpError::Junk("a line of more than 1 MiB")),
            None => {
                self.searched = self.buffer.len();
                Ok(None)
            }
        }
    }

    /// Reads once without waiting; false when there was nothing.
    fn fill(&mut self) -> Result<bool, QmpError> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(QmpError::Closed),
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    fn sort(&mut self, line: &[u8]) -> Result<Message, QmpError> {
        let mut message = decode(line)?;
        if let Message::Event(event) = &mut message {
            if line.len() > EVENT_DATA_MAX {
                event.data = Value::Null;
            }
            log::debug!("qmp: event {} {}", event.name, event.data);
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(event.clone());
        }
        Ok(message)
    }
}

/// Connects without blocking: where nobody accepts and the queue of the listener is full, `connect` would wait for
/// ever, and poll doesn't know of such queues.
fn connect_within(path: &Path, deadline: Deadline) -> Result<UnixStream, QmpError> {
    let address = UnixAddr::new(path).map_err(io::Error::from)?;
    loop {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(io::Error::from)?;
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => return Ok(fd.into()),
            Err(nix::errno::Errno::EAGAIN) if deadline.passed() => return Err(QmpError::Busy),
            Err(nix::errno::Errno::EAGAIN) => std::thread::sleep(deadline.left().min(Duration::from_millis(5))),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(io::Error::from(e).into()),
        }
    }
}

fn text_of(value: Value) -> Result<String, QmpError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(QmpError::Junk("human-monitor-command returned no text")),
    }
}

fn decode(line: &[u8]) -> Result<Message, QmpError> {
    let Value::Object(mut message) = serde_json::from_slice(line).map_err(|_| QmpError::Junk("a line is not JSON"))?
    else {
        return Err(QmpError::Junk("a line is not an object"));
    };
    if let Some(Value::String(name)) = message.remove("event") {
        return Ok(Message::Event(Event { name, data: message.remove("data").unwrap_or(Value::Null) }));
    }
    let id = message.get("id").and_then(Value::as_u64).unwrap_or(0);
    if let Some(value) = message.remove("return") {
        return Ok(Message::Answer(id, Ok(value)));
    }
    if let Some(error) = message.get("error") {
        let why = error.get("desc").and_then(Value::as_str).unwrap_or("no description");
        return Ok(Message::Answer(id, Err(one_line(why))));
    }
    Ok(Message::Other)
}

/// Text of QEMU's as part of a line of ours: without control characters, at most 300 characters.
pub fn one_line(text: &str) -> String {
    let words = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    words.take(300).collect()
}

impl AsFd for Qmp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// How long one monitor command may take before the monitor counts as hung.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
