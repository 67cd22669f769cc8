//! Writes an index, entry by entry.

use super::{Entry, Kind, MAGIC, Trailer, tag};
use crate::sys::{Error, Result};
use sha2::Digest as _;
use std::io::Write;

/// Bytes that are written at once.
const BUFFER: usize = 64 << 10;

/// Writes an index. Without [`Writer::finish`] it is not whole, and no reader takes it.
pub struct Writer<W> {
    to: W,
    buffer: Vec<u8>,
    hasher: sha2::Sha256,
    before: Vec<u8>,
    entries: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an index.
    pub fn new(to: W) -> Writer<W> {
        let mut buffer = Vec::with_capacity(BUFFER + 8192);
        buffer.extend_from_slice(&MAGIC);
        Writer { to, buffer, hasher: sha2::Sha256::new(), before: Vec::new(), entries: 0 }
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) -> Result<()> {
        let tag = match entry.kind {
            Kind::Directory => tag::DIRECTORY,
            Kind::File(_) => tag::FILE,
            Kind::Symlink(_) => tag::SYMLINK,
            Kind::Hardlink(_) => tag::HARDLINK,
            Kind::CharDevice(..) => tag::CHAR_DEVICE,
            Kind::BlockDevice(..) => tag::BLOCK_DEVICE,
            Kind::Fifo => tag::FIFO,
            Kind::Whiteout => tag::WHITEOUT,
            Kind::Opaque => tag::OPAQUE,
        };
        self.buffer.push(tag);
        let shared = entry.path.iter().zip(&self.before).take_while(|(a, b)| a == b).count();
        self.number(shared as u64);
        self.bytes(&entry.path[shared..]);
        self.before.clone_from(&entry.path);
        self.number(entry.mode.into());
        self.number(entry.uid.into());
        self.number(entry.gid.into());
        // The sign as the lowest bit.
        self.number(((entry.mtime << 1) ^ (entry.mtime >> 63)) as u64);
        self.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
        match &entry.kind {
            Kind::File(content) => {
                self.number(content.size);
                self.number(content.pieces.len() as u64);
                for piece in &content.pieces {
                    self.number(piece.at);
                    self.number(piece.from);
                    self.number(piece.length);
                    self.flush_at(BUFFER)?;
                }
            }
            Kind::Symlink(target) | Kind::Hardlink(target) => self.bytes(target),
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                self.number((*major).into());
                self.number((*minor).into());
            }
            _ => {}
        }
        self.entries += 1;
        self.flush_at(BUFFER)
    }

    /// Closes the index.
    pub fn finish(mut self, trailer: &Trailer) -> Result<()> {
        self.buffer.push(tag::END);
        self.buffer.extend_from_slice(trailer.diff_id.hex().as_bytes());
        self.number(trailer.size);
        self.number(trailer.entries);
        self.flush_at(0)?;
        let digest = self.hasher.finalize();
        self.to.write_all(&digest).and_then(|()| self.to.flush()).map_err(Error::os("write", "index of a layer"))
    }

    fn flush_at(&mut self, limit: usize) -> Result<()> {
        if self.buffer.len() >= limit {
            self.hasher.update(&self.buffer);
            self.to.write_all(&self.buffer).map_err(Error::os("write", "index of a layer"))?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.buffer.extend_from_slice(bytes);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }
}
