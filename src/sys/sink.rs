//! What a program writes, kept in memory: a pipe would have to be read while the program runs.

use super::{Error, Result, tool};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::fs::File;
use std::io::Seek;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// A file in memory that can't grow past its limit, whatever is written to it: further writes fail.
#[derive(Debug)]
pub struct Sink {
    file: File,
    limit: u64,
}

impl Sink {
    /// An empty one for at most `limit` bytes. They take memory as they are written.
    pub fn new(name: &str, limit: u64) -> Result<Sink> {
        let file = File::from(tool::sealable(name)?);
        file.set_len(limit).map_err(Error::os("size", "file in memory"))?;
        let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(Error::os("seal", "file in memory"))?;
        Ok(Sink { file, limit })
    }

    /// Its end for a program.
    pub fn stdio(&self) -> Result<Stdio> {
        self.file.try_clone().map(Stdio::from).map_err(Error::os("duplicate", "descriptor"))
    }

    /// Bytes that were written: the position is one with that of whoever writes.
    pub fn length(&self) -> u64 {
        (&self.file).stream_position().unwrap_or(0).min(self.limit)
    }

    /// Whether there was no more room. A write that does not fit whole fails whole.
    pub fn is_full(&self) -> bool {
        const WRITE_MAX: u64 = 1 << 17;
        self.limit - self.length() < WRITE_MAX.min(self.limit / 2)
    }

    /// The first `most` bytes of what was written.
    pub fn read(&self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.length().min(most)).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0).map_err(Error::os("read", "file in memory"))?;
        Ok(bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn it_takes_so_much_and_no_more() {
        let sink = Sink::new("x", 1 << 20).unwrap();
        let write = |script: &str| Command::new("sh").args(["-c", script]).stdout(sink.stdio().unwrap()).status();
        assert!(write("echo one; echo two").unwrap().success());
        assert_eq!(sink.read(100).unwrap(), b"one\ntwo\n");
        assert_eq!((sink.read(3).unwrap().as_slice(), sink.is_full()), (&b"one"[..], false));
        assert!(!write("exec cat /dev/zero 2>/dev/null").unwrap().success());
        assert!(sink.is_full() && sink.length() <= 1 << 20);
    }
}
