//! What a microvm's init says over its virtio-serial port: `up`, `exit N`, `signal N`, `fail TEXT`, a line each.

use crate::guest::end::Program;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The longest line; a guest may send anything.
const LINE_MAX: usize = 512;

/// Our end of the port.
#[derive(Debug)]
pub struct GuestPort {
    stream: UnixStream,
    line: Vec<u8>,
    open: bool,
    /// Whether the guest's network is configured.
    pub up: bool,
    /// How its program ended, once told.
    pub program: Option<Program>,
}

impl GuestPort {
    /// Connects to the port's socket.
    pub fn connect(path: &Path) -> std::io::Result<GuestPort> {
        let stream = UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        Ok(GuestPort { stream, line: Vec::new(), open: true, up: false, program: None })
    }

    /// What to poll for reading, until the guest's side is closed.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.stream.as_fd())
    }

    /// Reads what is there, at most 64 KiB, without waiting.
    pub fn read(&mut self) {
        let mut chunk = [0; 4096];
        for _ in 0..16 {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    chunk[..n].iter().for_each(|byte| self.take(*byte));
                    continue;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => self.open = false,
            }
            return;
        }
    }

    fn take(&mut self, byte: u8) {
        if byte != b'\n' {
            if self.line.len() < LINE_MAX {
                self.line.push(byte);
            }
            return;
        }
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        log::debug!("guest: {}", line.escape_debug());
        match line.trim() {
            "up" => self.up = true,
            other => {
                if let Some(program) = Program::parse(other) {
                    self.program = Some(program);
                    // Init waits for this before it halts the machine.
                    let _ = (&self.stream).write(b"\n");
                }
            }
        }
    }
}
