//! Files with holes: GNU's old way (type `S`), and its three ways in PAX.

use super::super::super::limits::{EXTENSIONS_MAX, LAYER_MAX};
use super::super::bad;
use super::super::index::{Content, Piece};
use super::super::stream::{Fill, Stream};
use super::number::{decimal, number};
use super::pax::Pax;
use crate::sys::Result;
use ::tar::Header;

/// Where the parts of a file are that are there.
pub struct Map {
    /// Size with holes.
    size: u64,
    /// Offset in the file, and bytes.
    parts: Vec<(u64, u64)>,
    /// Bytes of the stored size that were the map itself.
    used: u64,
}

impl Map {
    /// The contents, which are stored from `from` on; with the map before them they have `stored` bytes.
    pub fn place(self, from: u64, stored: u64) -> std::result::Result<Content, String> {
        let broken = || "a broken map of holes".to_string();
        let mut pieces = Vec::with_capacity(self.parts.len());
        let (mut at, mut sum) = (0, 0);
        for (offset, length) in self.parts {
            let end = offset.checked_add(length).filter(|end| *end <= self.size).ok_or_else(broken)?;
            if offset < at {
                return Err(broken());
            }
            at = end;
            if length > 0 {
                pieces.push(Piece { at: offset, from: from + sum, length });
                sum += length;
            }
        }
        if self.used.checked_add(sum) != Some(stored) || self.size > LAYER_MAX {
            return Err(broken());
        }
        Ok(Content { size: self.size, pieces })
    }
}

/// The map of a header of type `S`, and of the blocks that go on with it.
pub fn gnu<F: Fill>(stream: &mut Stream<F>, header: &Header) -> Result<Map> {
    let bytes = header.as_bytes();
    let size = number(&bytes[483..495], "size")?;
    let mut parts = Vec::new();
    pairs(&bytes[386..482], &mut parts)?;
    let (mut more, mut blocks) = (bytes[482] != 0, 0);
    while more {
        let block = stream.block()?.ok_or_else(|| bad("ends within a tar header"))?;
        blocks += 512;
        if blocks > EXTENSIONS_MAX {
            return Err(bad("a map of holes that is too long"));
        }
        pairs(&block[..504], &mut parts)?;
        more = block[504] != 0;
    }
    Ok(Map { size, parts, used: 0 })
}

/// Offsets and lengths of twelve bytes each, up to the first that is empty.
fn pairs(bytes: &[u8], parts: &mut Vec<(u64, u64)>) -> Result<()> {
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        parts.push((number(&pair[..12], "offset")?, number(&pair[12..], "length")?));
    }
    Ok(())
}

/// The map that a PAX header tells, or announces; `None` for a file without holes.
pub fn pax<F: Fill>(stream: &mut Stream<F>, pax: &mut Pax, stored: u64) -> Result<Option<Map>> {
    let numbers = std::mem::take(&mut pax.sparse.map);
    if pax.sparse.one {
        let size = pax.sparse.size.ok_or_else(|| bad("a file with holes and no size"))?;
        return one(stream, size, stored).map(Some);
    }
    match pax.sparse.size {
        Some(size) if numbers.len().is_multiple_of(2) => {
            let parts = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            Ok(Some(Map { size, parts, used: 0 }))
        }
        None if numbers.is_empty() => Ok(None),
        _ => Err(bad("a broken map of holes")),
    }
}

/// 1.0: decimal lines in front of the contents, padded to whole blocks: how many, then offset and length of each.
fn one<F: Fill>(stream: &mut Stream<F>, size: u64, stored: u64) -> Result<Map> {
    let broken = || bad("a broken map of holes");
    let mut lines = Lines { line: Vec::new(), block: Vec::new(), used: 0 };
    let count = lines.next(stream, stored)?;
    if count > EXTENSIONS_MAX / 4 {
        return Err(broken());
    }
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push((lines.next(stream, stored)?, lines.next(stream, stored)?));
    }
    Ok(Map { size, parts, used: lines.used })
}

struct Lines {
    line: Vec<u8>,
    /// What is left of the last block, backwards.
    block: Vec<u8>,
    used: u64,
}

impl Lines {
    fn next<F: Fill>(&mut self, stream: &mut Stream<F>, stored: u64) -> Result<u64> {
        let broken = || bad("a broken map of holes");
        self.line.clear();
        loop {
            match self.block.pop() {
                Some(b'\n') => return decimal(&self.line).ok_or_else(broken),
                Some(digit) if self.line.len() < 20 => self.line.push(digit),
                Some(_) => return Err(broken()),
                None => {
                    self.used += 512;
                    if self.used > stored || self.used > EXTENSIONS_MAX {
                        return Err(broken());
                    }
                    self.block = stream.block()?.ok_or_else(broken)?.to_vec();
                    self.block.reverse();
                }
            }
        }
    }
}
