//! What init has to say: lines on the console for people, lines on the port for the host.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

/// How long the host may take to say that it has the last line, in milliseconds.
const ANSWER_TIMEOUT: u16 = 1000;

/// Why init can't go on: the exit code that stands for it, and one line.
#[derive(Debug)]
pub struct Fail {
    /// 127 no such program, 126 not executable, 125 anything else.
    pub code: u8,
    /// What was tried, on what, and why it failed.
    pub text: String,
}

impl Fail {
    /// A failure of init itself.
    pub fn new(text: impl Into<String>) -> Fail {
        Fail { code: 125, text: text.into() }
    }

    /// For `map_err`: `action` on `object` failed.
    pub fn of(action: &str, object: impl std::fmt::Display) -> impl FnOnce(nix::errno::Errno) -> Fail {
        let what = format!("{action} {object}");
        move |e| Fail::new(format!("{what}: {}", e.desc()))
    }
}

/// One line on the console.
pub fn say(text: &str) {
    // One write, so that lines of the kernel or the program don't land inside it.
    let line = format!("mcp-guest-init: {}\n", one_line(text));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// `text` without anything that would end or garble a line.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The virtio-serial port to the host. Held open for life, which also keeps the guest's programs off it.
pub struct Port(Option<File>);

impl Port {
    /// Opens the port named [`super::PORT`]; one that is not there is said once and then swallows everything.
    pub fn open() -> Port {
        let file = find().and_then(|device| {
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&device).ok()
        });
        if file.is_none() {
            say(&format!("no virtio-serial port {}, so the host learns less", super::PORT));
        }
        Port(file)
    }

    /// Sends one line, unless nobody on the host has the port open. Queued when this returns, not yet taken.
    pub fn send(&self, line: &str) {
        let Some(mut file) = self.0.as_ref() else { return };
        // A write while nobody has the other end open would block until somebody has.
        if self.wait(PollFlags::POLLOUT, PollTimeout::ZERO).contains(PollFlags::POLLHUP) {
            return;
        }
        let _ = file.write_all(format!("{}\n", one_line(line)).as_bytes());
    }

    /// Sends the last line and waits until the host has said that it has it. The kernel's driver never waits for QEMU
    /// to take the bytes, and the machine is halted a moment later.
    pub fn send_last(&self, line: &str) {
        self.send(line);
        let Some(mut file) = self.0.as_ref() else { return };
        let answer = self.wait(PollFlags::POLLIN, ANSWER_TIMEOUT.into());
        if answer.contains(PollFlags::POLLIN) {
            let _ = file.read(&mut [0; 16]);
        }
    }

    fn wait(&self, what: PollFlags, timeout: PollTimeout) -> PollFlags {
        let Some(file) = self.0.as_ref() else { return PollFlags::POLLHUP };
        let mut fds = [PollFd::new(file.as_fd(), what)];
        match poll(&mut fds, timeout) {
            Ok(_) => fds[0].revents().unwrap_or(PollFlags::empty()),
            Err(_) => PollFlags::POLLHUP,
        }
    }
}

/// The port's device file: sysfs knows the names.
fn find() -> Option<String> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|n| n.trim_end() == super::PORT) {
            return Some(format!("/dev/{}", entry.file_name().to_str()?));
        }
    }
    None
}
