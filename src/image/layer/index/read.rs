//! Reads an index. One that is damaged is an error, whatever is in it.

use super::super::super::limits::{ENTRIES_MAX, EXTENSIONS_MAX, LAYER_MAX, PATH_MAX};
use super::super::path::is_canonical;
use super::{Content, Entry, Kind, MAGIC, Piece, Trailer, tag};
use crate::model::Digest;
use crate::sys::{Error, Result};
use sha2::Digest as _;
use std::io::Read;

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// Reads an index.
pub struct Reader<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    hasher: sha2::Sha256,
    path: Vec<u8>,
    entries: u64,
    trailer: Option<Trailer>,
}

fn damaged() -> Error {
    Error::refused("index of a layer", "damaged; pull the image again")
}

impl<R: Read> Reader<R> {
    /// Opens an index.
    pub fn new(from: R) -> Result<Reader<R>> {
        let mut reader = Reader {
            from,
            buffer: Vec::with_capacity(BUFFER),
            start: 0,
            hasher: sha2::Sha256::new(),
            path: Vec::new(),
            entries: 0,
            trailer: None,
        };
        let mut magic = [0; 8];
        for byte in &mut magic {
            *byte = reader.byte()?;
        }
        if magic != MAGIC {
            return Err(Error::refused("index of a layer", "of another version of mcp; pull the image again"));
        }
        Ok(reader)
    }

    /// The next entry; `None` after the last, when the whole was found to be undamaged.
    pub fn entry(&mut self) -> Result<Option<Entry>> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        let tag = self.byte()?;
        if tag == tag::END {
            self.end()?;
            return Ok(None);
        }
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(damaged());
        }
        let shared = self.number()? as usize;
        if shared > self.path.len() {
            return Err(damaged());
        }
        self.path.truncate(shared);
        let rest = self.bytes(PATH_MAX)?;
        self.path.extend_from_slice(&rest);
        if !is_canonical(&self.path) {
            return Err(damaged());
        }
        let mode = self.small()? & 0o7777;
        let (uid, gid) = (self.small()?, self.small()?);
        let mtime = self.number()?;
        let mtime = (mtime >> 1) as i64 ^ -((mtime & 1) as i64);
        let mut xattrs = Vec::new();
        let mut budget = EXTENSIONS_MAX;
        for _ in 0..self.number()? {
            let pair = (self.bytes(EXTENSIONS_MAX as usize)?, self.bytes(EXTENSIONS_MAX as usize)?);
            budget = budget.checked_sub((pair.0.len() + pair.1.len()) as u64 + 1).ok_or_else(damaged)?;
            xattrs.push(pair);
        }
        let kind = match tag {
            tag::DIRECTORY => Kind::Directory,
            tag::FILE => Kind::File(self.content()?),
            tag::SYMLINK => Kind::Symlink(self.bytes(PATH_MAX)?),
            tag::HARDLINK => Kind::Hardlink(self.bytes(PATH_MAX).and_then(canonical)?),
            tag::CHAR_DEVICE => Kind::CharDevice(self.small()?, self.small()?),
            tag::BLOCK_DEVICE => Kind::BlockDevice(self.small()?, self.small()?),
            tag::FIFO => Kind::Fifo,
            tag::WHITEOUT => Kind::Whiteout,
            tag::OPAQUE => Kind::Opaque,
            _ => return Err(damaged()),
        };
        Ok(Some(Entry { path: self.path.clone(), kind, mode, uid, gid, mtime, xattrs }))
    }

    /// What closed the index, once [`Reader::entry`] has come to its end.
    pub fn trailer(&self) -> Option<Trailer> {
        self.trailer
    }

    fn content(&mut self) -> Result<Content> {
        let size = self.number()?;
        let count = self.number()?;
        if size > LAYER_MAX || count > EXTENSIONS_MAX {
            return Err(damaged());
        }
        let mut pieces = Vec::new();
        let mut end = 0;
        for _ in 0..count {
            let piece = Piece { at: self.number()?, from: self.number()?, length: self.number()? };
            if piece.at < end || piece.length == 0 || piece.length > size || piece.at > size - piece.length {
                return Err(damaged());
            }
            if piece.from > 2 * LAYER_MAX {
                return Err(damaged());
            }
            end = piece.at + piece.length;
            pieces.push(piece);
        }
        Ok(Content { size, pieces })
    }

    fn end(&mut self) -> Result<()> {
        let hex = (0..64).map(|_| self.byte().map(char::from)).collect::<Result<String>>()?;
        let diff_id = Digest::from_hex(&hex).ok_or_else(damaged)?;
        let trailer = Trailer { diff_id, size: self.number()?, entries: self.number()? };
        self.hasher.update(&self.buffer[..self.start]);
        self.buffer.drain(..self.start);
        self.start = 0;
        let wanted = std::mem::take(&mut self.hasher).finalize();
        // Not through the buffer's reader: it would hash what it leaves behind.
        let mut told = std::mem::take(&mut self.buffer);
        (&mut self.from).take(33).read_to_end(&mut told).map_err(Error::os("read", "index of a layer"))?;
        if told != wanted[..] || trailer.entries != self.entries {
            return Err(damaged());
        }
        self.trailer = Some(trailer);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8> {
        if self.start == self.buffer.len() {
            self.fill()?;
        }
        let byte = self.buffer.get(self.start).copied().ok_or_else(damaged)?;
        self.start += 1;
        Ok(byte)
    }

    fn fill(&mut self) -> Result<()> {
        self.hasher.update(&self.buffer);
        self.buffer.clear();
        self.start = 0;
        (&mut self.from)
            .take(BUFFER as u64)
            .read_to_end(&mut self.buffer)
            .map_err(Error::os("read", "index of a layer"))?;
        Ok(())
    }

    /// As many bytes as are told, at most `limit`.
    fn bytes(&mut self, limit: usize) -> Result<Vec<u8>> {
        let count = usize::try_from(self.number()?).ok().filter(|n| *n <= limit).ok_or_else(damaged)?;
        let mut bytes = Vec::with_capacity(count.min(BUFFER));
        while bytes.len() < count {
            if self.start == self.buffer.len() {
                self.fill()?;
            }
            let here = &self.buffer[self.start..];
            let here = &here[..here.len().min(count - bytes.len())];
            if here.is_empty() {
                return Err(damaged());
            }
            bytes.extend_from_slice(here);
            self.start += here.len();
        }
        Ok(bytes)
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| damaged())
    }

    fn number(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(damaged());
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }
}

fn canonical(path: Vec<u8>) -> Result<Vec<u8>> {
    if is_canonical(&path) { Ok(path) } else { Err(damaged()) }
}
