//! The program's output: a pipe, as container engines give it, which init copies to the console.
//!
//! On a terminal programs colour their logs and draw progress bars; on a pipe they do not.

use super::report::Fail;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{fchown, pipe2};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most that an unprivileged program can make a pipe hold (fs.pipe-max-size).
const PIPE_MAX: usize = 1 << 20;

/// Init's end of the pipe, until the last writer has closed the other one.
pub struct Output {
    reader: Option<File>,
    buffer: Vec<u8>,
}

/// The pipe, and the end that the program gets. It belongs to `uid`, so that the program can open /dev/stdout.
pub fn pipe(uid: u32) -> Result<(Output, OwnedFd), Fail> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(Fail::of("make", "pipe"))?;
    fchown(writer.as_fd(), Some(uid.into()), None).map_err(Fail::of("change owner of", "pipe"))?;
    fcntl(reader.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Fail::of("set up", "pipe"))?;
    Ok((Output { reader: Some(File::from(reader)), buffer: vec![0; 16 << 10] }, writer))
}

impl Output {
    /// Readable when the program has written something, and at the end; `None` after the end.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.reader.as_ref().map(AsFd::as_fd)
    }

    /// Copies one buffer to the console; the number of bytes, 0 where there is nothing.
    pub fn copy(&mut self) -> usize {
        let Some(reader) = &mut self.reader else { return 0 };
        match reader.read(&mut self.buffer) {
            Ok(n @ 1..) => {
                let _ = std::io::stderr().write_all(self.buffer.get(..n).unwrap_or_default());
                n
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            _ => {
                self.reader = None;
                0
            }
        }
    }

    /// Copies all that one that has ended can have left in the pipe. Bounded, because others may still write.
    pub fn drain(&mut self) {
        let mut copied = 0;
        while copied < PIPE_MAX {
            match self.copy() {
                0 => return,
                n => copied += n,
            }
        }
    }
}
