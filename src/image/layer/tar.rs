//! Entries out of a tar, in all the dialects that layers are written in: v7, ustar, star, GNU, PAX; with the exact place
//! of their contents. Whiteouts (image-spec layer.md) are recognised here.

mod number;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;

use super::super::limits::{EXTENSIONS_MAX, LAYER_MAX, PATH_MAX};
use super::bad;
use super::index::{Content, Entry, Kind, Piece};
use super::path::{canonical, is_canonical, show, split};
use super::stream::{Fill, Stream};
use crate::model::Digest;
use crate::sys::Result;
use ::tar::Header;
use number::number;
use pax::Pax;

/// What whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";
/// What only aufs ever cared for begins with, its word for an opaque directory aside.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The largest device numbers of Linux.
const MAJOR_MAX: u64 = (1 << 12) - 1;
const MINOR_MAX: u64 = (1 << 20) - 1;

/// Reads the entries of a layer.
pub struct Tar<F> {
    stream: Stream<F>,
    /// Sizes of all files so far, holes included.
    sizes: u64,
}

/// What stands in front of an entry and belongs to it.
#[derive(Default)]
struct Ahead {
    pax: Pax,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// Bytes of all that.
    bytes: u64,
}

impl<F: Fill> Tar<F> {
    /// Reads `stream`, of which nothing has been read.
    pub fn new(stream: Stream<F>) -> Tar<F> {
        Tar { stream, sizes: 0 }
    }

    /// The next entry; `None` after the last.
    pub fn entry(&mut self) -> Result<Option<Entry>> {
        let mut ahead = Ahead::default();
        while let Some(block) = self.stream.block()? {
            if is_zero(&block) {
                return self.end(&ahead);
            }
            if !is_header(&block) {
                return Err(bad(format!("no tar header at byte {}", self.stream.position() - 512)));
            }
            let header = Header::from_byte_slice(&block);
            let kind = header.as_old().linkflag[0];
            let size = number(&header.as_old().size, "size")?;
            match kind {
                // Global ones are about nothing that we keep; podman ignores them, too.
                b'x' | b'g' | b'L' | b'K' => {
                    ahead.bytes = ahead.bytes.saturating_add(size);
                    if ahead.bytes > EXTENSIONS_MAX {
                        return Err(bad(format!("an entry with {} bytes of extension headers", ahead.bytes)));
                    }
                    let bytes = self.stream.bytes(size as usize)?;
                    self.stream.pad(size)?;
                    match kind {
                        b'x' => ahead.pax = Pax::parse(&bytes)?,
                        b'L' => ahead.name = Some(until_nul(&bytes).to_vec()),
                        b'K' => ahead.link = Some(until_nul(&bytes).to_vec()),
                        _ => {}
                    }
                }
                _ => match self.make(header, kind, size, &mut ahead)? {
                    Some(entry) => return Ok(Some(entry)),
                    None => ahead = Ahead::default(),
                },
            }
        }
        self.nothing_ahead(&ahead)?;
        Ok(None)
    }

    /// Reads the rest: digest and size of the whole.
    pub fn finish(self) -> Result<(Digest, u64)> {
        self.stream.finish()
    }

    /// After a block of zeros: another one, or nothing, is the end. What comes after that is of no meaning.
    fn end(&mut self, ahead: &Ahead) -> Result<Option<Entry>> {
        self.nothing_ahead(ahead)?;
        match self.stream.block()? {
            Some(block) if !is_zero(&block) => {
                Err(bad(format!("a lone block of zeros at byte {}", self.stream.position() - 1024)))
            }
            _ => Ok(None),
        }
    }

    fn nothing_ahead(&self, ahead: &Ahead) -> Result<()> {
        if ahead.bytes > 0 { Err(bad("ends after an extension header")) } else { Ok(()) }
    }

    /// The entry of `header`; `None` for one that means nothing.
    fn make(&mut self, header: &Header, kind: u8, size: u64, ahead: &mut Ahead) -> Result<Option<Entry>> {
        let pax = &mut ahead.pax;
        let raw = pax.path.take().or(ahead.name.take()).unwrap_or_else(|| name(header));
        let kind = if kind == 0 && raw.ends_with(b"/") { b'5' } else { kind };
        let path = canonical(&raw).map_err(bad)?;
        let link = pax.linkpath.take().or(ahead.link.take());
        let link = link.unwrap_or_else(|| until_nul(&header.as_old().linkname).to_vec());
        let kind = match kind {
            // `7` is a contiguous file, which POSIX allows to be an ordinary one.
            0 | b'0' | b'7' | b'S' => Kind::File(self.content(header, kind, pax.size.unwrap_or(size), pax, &path)?),
            b'1' => Kind::Hardlink(hardlink(&path, &link)?),
            b'2' => Kind::Symlink(symlink(&path, link)?),
            b'3' | b'4' => device(header, kind)?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(bad(format!(
                    "{}: an entry of unknown type '{}'",
                    show(&path),
                    char::from(other).escape_default()
                )));
            }
        };
        let old = header.as_old();
        let id = |told: Option<u64>, field: &[u8], what: &str| -> Result<u32> {
            let id = told.map_or_else(|| number(field, what), Ok)?;
            u32::try_from(id)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| bad(format!("{}: {what} {id}", show(&path))))
        };
        let entry = Entry {
            mode: (number(&old.mode, "mode")? & 0o7777) as u32,
            uid: id(pax.uid, &old.uid, "owner")?,
            gid: id(pax.gid, &old.gid, "group")?,
            mtime: pax.mtime.map_or_else(|| number::signed(&old.mtime, "time"), Ok)?,
            xattrs: std::mem::take(&mut pax.xattrs),
            path,
            kind,
        };
        whiteout(entry)
    }

    /// The contents of a file whose header has just been read; they are passed over.
    fn content(&mut self, header: &Header, kind: u8, size: u64, pax: &mut Pax, path: &[u8]) -> Result<Content> {
        let about = |reason: String| bad(format!("{}: {reason}", show(path)));
        if size > LAYER_MAX {
            return Err(about(format!("a file of {size} bytes")));
        }
        let map = match kind {
            b'S' => Some(sparse::gnu(&mut self.stream, header)?),
            _ => sparse::pax(&mut self.stream, pax, size)?,
        };
        let from = self.stream.position();
        let content = match map {
            None if size == 0 => Content { size, pieces: Vec::new() },
            None => Content { size, pieces: vec![Piece { at: 0, from, length: size }] },
            Some(map) => map.place(from, size).map_err(about)?,
        };
        self.sizes = self.sizes.saturating_add(content.size);
        if self.sizes > LAYER_MAX {
            return Err(about(format!("files of more than {LAYER_MAX} bytes, holes included")));
        }
        // A 1.0 map is part of what the header calls the size.
        let left = content.pieces.iter().map(|p| p.length).sum();
        self.stream.skip(left)?;
        self.stream.pad(left)?;
        Ok(content)
    }
}

/// A whiteout for what is named like one.
fn whiteout(mut entry: Entry) -> Result<Option<Entry>> {
    let Some((parent, name)) = split(&entry.path) else { return Ok(Some(entry)) };
    if name == OPAQUE {
        entry.path = parent.to_vec();
        entry.kind = Kind::Opaque;
    } else if name.starts_with(AUFS) || entry.path.starts_with(AUFS) {
        return Ok(None);
    } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        let path = [parent, hidden].join(&b'/');
        let path = path.strip_prefix(b"/").unwrap_or(&path);
        if hidden.is_empty() || !is_canonical(path) {
            return Err(bad(format!("{}: a whiteout of nothing", show(&entry.path))));
        }
        entry.path = path.to_vec();
        entry.kind = Kind::Whiteout;
    }
    Ok(Some(entry))
}

fn hardlink(path: &[u8], link: &[u8]) -> Result<Vec<u8>> {
    let target = canonical(link).map_err(bad)?;
    if target.is_empty() || target == path {
        return Err(bad(format!("{}: a hard link to {}", show(path), show(link))));
    }
    Ok(target)
}

fn symlink(path: &[u8], target: Vec<u8>) -> Result<Vec<u8>> {
    if target.is_empty() || target.len() >= PATH_MAX || target.contains(&0) {
        return Err(bad(format!("{}: a symbolic link to {} bytes of path", show(path), target.len())));
    }
    Ok(target)
}

fn device(header: &Header, kind: u8) -> Result<Kind> {
    // The same place in both dialects.
    let bytes = header.as_bytes();
    let major = number(&bytes[329..337], "device number")?;
    let minor = number(&bytes[337..345], "device number")?;
    if major > MAJOR_MAX || minor > MINOR_MAX {
        return Err(bad(format!("a device {major}:{minor}")));
    }
    let (major, minor) = (major as u32, minor as u32);
    Ok(if kind == b'3' { Kind::CharDevice(major, minor) } else { Kind::BlockDevice(major, minor) })
}

/// The name in a header, its prefix before it where the dialect has one.
fn name(header: &Header) -> Vec<u8> {
    let (bytes, name) = (header.as_bytes(), until_nul(&header.as_old().name));
    let prefix: &[u8] = match &bytes[257..265] {
        // star has times at the end of the field.
        b"ustar\x0000" if bytes[508..] == *b"tar\0" => &bytes[345..476],
        b"ustar\x0000" => &bytes[345..500],
        _ => b"",
    };
    let prefix = until_nul(prefix);
    if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|b| *b == 0)
}

/// Whether a block has a header's checksum, which some have computed of signed bytes.
fn is_header(block: &[u8]) -> bool {
    let Ok(told) = number(&block[148..156], "checksum") else { return false };
    let with_blanks = |n: usize, b: u8| if (148..156).contains(&n) { b' ' } else { b };
    let bytes = || block.iter().enumerate().map(|(n, b)| with_blanks(n, *b));
    let unsigned: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|b| i64::from(b as i8)).sum();
    told == unsigned || i64::try_from(told) == Ok(signed)
}

/// Whether a tar may begin with this block.
pub fn is_header_or_end(block: &[u8]) -> bool {
    is_zero(block) || is_header(block)
}
