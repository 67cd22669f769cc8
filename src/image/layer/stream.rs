//! The unpacked layer as it goes by: its digest, its copy, and blocks for the tar reader.

use super::bad;
use crate::model::Digest;
use crate::sys::{Error, Result};
use sha2::Digest as _;
use std::io::Write;

/// Bytes of a buffer on its way from the one who unpacks to the one who reads.
pub const BUFFER: usize = 256 << 10;

/// Something that fills buffers.
pub trait Fill {
    /// Replaces what is in `into` by what comes next, as much as its capacity; nothing at the end.
    fn fill(&mut self, into: &mut Vec<u8>) -> Result<()>;
}

impl Fill for &[u8] {
    fn fill(&mut self, into: &mut Vec<u8>) -> Result<()> {
        into.clear();
        let (now, later) = self.split_at(self.len().min(into.capacity()));
        into.extend_from_slice(now);
        *self = later;
        Ok(())
    }
}

/// A layer's unpacked bytes, in order.
pub struct Stream<F> {
    from: F,
    buffer: Vec<u8>,
    start: usize,
    /// Bytes before the buffer.
    before: u64,
    hasher: Option<sha2::Sha256>,
    copy: Option<Box<dyn Write>>,
}

impl<F: Fill> Stream<F> {
    /// Reads `from`; everything is also written to `copy`.
    pub fn new(from: F, copy: Option<Box<dyn Write>>) -> Stream<F> {
        let buffer = Vec::with_capacity(BUFFER);
        Stream { from, buffer, start: 0, before: 0, hasher: Some(sha2::Sha256::new()), copy }
    }

    /// Reads `from` without a digest.
    pub fn undigested(from: F) -> Stream<F> {
        Stream { hasher: None, ..Stream::new(from, None) }
    }

    /// How many bytes have gone by.
    pub fn position(&self) -> u64 {
        self.before + self.start as u64
    }

    /// What is there; nothing at the end alone.
    fn ready(&mut self) -> Result<&[u8]> {
        if self.start == self.buffer.len() {
            self.before += self.buffer.len() as u64;
            self.start = 0;
            self.from.fill(&mut self.buffer)?;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.buffer);
            }
            if let Some(copy) = &mut self.copy {
                copy.write_all(&self.buffer).map_err(Error::os("write", "unpacked layer"))?;
            }
        }
        Ok(&self.buffer[self.start..])
    }

    /// The next block of 512 bytes; `None` at the end. One that is not whole is an error.
    pub fn block(&mut self) -> Result<Option<[u8; 512]>> {
        let mut block = [0; 512];
        let mut length = 0;
        while length < block.len() {
            let ready = self.ready()?;
            if ready.is_empty() {
                return if length == 0 { Ok(None) } else { Err(bad("ends within a tar header")) };
            }
            let count = ready.len().min(block.len() - length);
            block[length..length + count].copy_from_slice(&ready[..count]);
            self.start += count;
            length += count;
        }
        Ok(Some(block))
    }

    /// The next `count` bytes, which the caller has bounded.
    pub fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let missing = count - bytes.len();
            let ready = self.ready()?;
            if ready.is_empty() {
                return Err(bad("ends within an entry"));
            }
            let ready = &ready[..ready.len().min(missing)];
            bytes.extend_from_slice(ready);
            self.start += ready.len();
        }
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, count: u64) -> Result<()> {
        self.pass(count, |_| Ok(()))
    }

    /// Hands `count` bytes to `to`, piece by piece.
    pub fn pass(&mut self, mut count: u64, mut to: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while count > 0 {
            let ready = self.ready()?;
            if ready.is_empty() {
                return Err(bad("ends within an entry"));
            }
            let ready = &ready[..(ready.len() as u64).min(count) as usize];
            to(ready)?;
            let step = ready.len();
            self.start += step;
            count -= step as u64;
        }
        Ok(())
    }

    /// Passes over what fills the block after `size` bytes; the last entry may lack it.
    pub fn pad(&mut self, size: u64) -> Result<()> {
        let padding = size.next_multiple_of(512) - size;
        if padding > 0 && !self.ready()?.is_empty() {
            self.skip(padding)?;
        }
        Ok(())
    }

    /// Reads all that is left: the digest and the size of everything.
    pub fn finish(mut self) -> Result<(Digest, u64)> {
        loop {
            let left = self.ready()?.len();
            if left == 0 {
                break;
            }
            self.start += left;
        }
        if let Some(copy) = &mut self.copy {
            copy.flush().map_err(Error::os("write", "unpacked layer"))?;
        }
        Ok((Digest::finish(self.hasher.unwrap_or_default()), self.before))
    }
}
