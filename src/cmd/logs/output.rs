//! Standard output for much: few and large writes, and whole files spliced into a pipe.

use crate::console::LogFile;
use crate::sys::{Result, out};
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;

/// What is buffered at most, but for the last line put in.
pub const FULL: usize = 256 << 10;
/// A pipe of this size lets both sides work in long strokes; what an ordinary user may have.
const PIPE: i32 = 1 << 20;

/// Standard output. A closed pipe ends the program with 0, any other failure with 111 and a line.
#[derive(Debug)]
pub struct Output {
    file: File,
    is_pipe: bool,
    buf: Vec<u8>,
}

impl Output {
    /// Takes over standard output.
    pub fn new() -> Output {
        let file = match io::stdout().as_fd().try_clone_to_owned() {
            Ok(fd) => File::from(fd),
            Err(e) => {
                out::settle(Err(e));
                std::process::exit(crate::sys::error::EXIT_RETRY.into());
            }
        };
        let is_pipe = file.metadata().is_ok_and(|m| m.file_type().is_fifo());
        if is_pipe && fcntl(&file, FcntlArg::F_GETPIPE_SZ).is_ok_and(|size| size < PIPE) {
            // Refused when the user has many pipes already: slower, not wrong.
            let _ = fcntl(&file, FcntlArg::F_SETPIPE_SZ(PIPE));
        }
        Output { file, is_pipe, buf: Vec::with_capacity(FULL + (FULL >> 2)) }
    }

    /// The buffer, to be appended to; call [`Output::flush_if_full`] now and then.
    pub fn buf(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }

    /// Writes out what is buffered once it is much.
    pub fn flush_if_full(&mut self) {
        if self.buf.len() >= FULL {
            self.flush();
        }
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) {
        let buf = std::mem::take(&mut self.buf);
        self.write(&buf);
        self.buf = buf;
        self.buf.clear();
    }

    /// Writes out what is buffered, then `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.buf.len() + bytes.len() <= FULL {
            self.buf.extend_from_slice(bytes);
            return;
        }
        self.flush();
        self.write(bytes);
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) => self.settle(e),
            }
        }
    }

    /// What to do with a failed write: nothing when it is worth trying again.
    fn settle(&self, e: io::Error) {
        match e.kind() {
            ErrorKind::Interrupted => {}
            // Somebody who shares the terminal or pipe made it so.
            ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            _ => out::settle(Err(e)),
        }
    }

    /// Copies the bytes of `log` from `from` to `to` as they are, as fast as the kernel can.
    pub fn copy(&mut self, log: &LogFile, from: u64, to: u64) -> Result<()> {
        self.flush();
        let mut at = from;
        let mut splices = self.is_pipe;
        while splices && at < to {
            let mut offset = at as i64;
            // SAFETY: both descriptors are open for the call; the kernel writes only to `offset`.
            let moved = unsafe {
                libc::splice(
                    log.file.as_raw_fd(),
                    &mut offset,
                    self.file.as_raw_fd(),
                    std::ptr::null_mut(),
                    (to - at).min(PIPE as u64) as usize,
                    libc::SPLICE_F_MOVE | libc::SPLICE_F_MORE,
                )
            };
            match moved {
                1.. => at += moved as u64,
                // Cut short since it was measured.
                0 => return Ok(()),
                _ => match io::Error::last_os_error() {
                    // A file system that can't.
                    e if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => splices = false,
                    e => self.settle(e),
                },
            }
        }
        let mut buf = vec![0; if at < to { FULL } else { 0 }];
        while at < to {
            let size = (to - at).min(FULL as u64) as usize;
            let filled = log.read_at(buf.get_mut(..size).unwrap_or_default(), at)?;
            if filled == 0 {
                break;
            }
            self.write(buf.get(..filled).unwrap_or_default());
            at += filled as u64;
        }
        Ok(())
    }

    /// The descriptor, to learn whether its reader has gone.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
