//! Writes a tar: ustar headers, with a PAX one before where ustar has no room.

use super::index::Content;
use super::path::show;
use super::tree::{About, Kind};
use crate::sys::{Error, Result};
use std::io::Write;
use tar::{EntryType, Header};

/// Bytes that are written at once.
const BUFFER: usize = 128 << 10;
/// The largest number in seven octal digits, and in eleven.
const OCTAL_7: u64 = 0o777_7777;
const OCTAL_11: u64 = 0o777_7777_7777;
/// What a squashfs can keep of attributes.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Of no meaning but to the overlay that the layers once were, and harmful in the one that they will be.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// A tar on its way out.
pub struct Emit<W> {
    to: W,
    buffer: Vec<u8>,
    /// Bytes of contents that the last entry still wants, and the padding after them.
    left: u64,
    padding: usize,
}

/// What an entry is written as.
pub struct Subject<'a> {
    /// Below the root; empty for the root.
    pub path: &'a [u8],
    /// Owner, mode and the like.
    pub about: About,
    /// Extended attributes.
    pub xattrs: Vec<(&'a [u8], &'a [u8])>,
}

impl<W: Write> Emit<W> {
    /// Nothing is written yet.
    pub fn new(to: W) -> Emit<W> {
        Emit { to, buffer: Vec::with_capacity(BUFFER + 4096), left: 0, padding: 0 }
    }

    /// Anything but a file.
    pub fn special(&mut self, subject: &Subject<'_>, kind: Kind<'_>) -> Result<()> {
        match kind {
            Kind::Directory => self.entry(subject, EntryType::Directory, b"", 0, (0, 0), Vec::new()),
            Kind::Symlink(target) => self.entry(subject, EntryType::Symlink, target, 0, (0, 0), Vec::new()),
            Kind::Char(major, minor) => self.entry(subject, EntryType::Char, b"", 0, (major, minor), Vec::new()),
            Kind::Block(major, minor) => self.entry(subject, EntryType::Block, b"", 0, (major, minor), Vec::new()),
            Kind::Fifo => self.entry(subject, EntryType::Fifo, b"", 0, (0, 0), Vec::new()),
            Kind::File(_) => self.file(subject, &Content { size: 0, pieces: Vec::new() }),
        }
    }

    /// Another name of the file at `target`.
    pub fn link(&mut self, subject: &Subject<'_>, target: &[u8]) -> Result<()> {
        self.entry(subject, EntryType::Link, target, 0, (0, 0), Vec::new())
    }

    /// A file, whose pieces then come by [`Emit::data`], in order.
    pub fn file(&mut self, subject: &Subject<'_>, content: &Content) -> Result<()> {
        let there: u64 = content.pieces.iter().map(|p| p.length).sum();
        if there == content.size {
            return self.entry(subject, EntryType::Regular, b"", there, (0, 0), Vec::new());
        }
        // GNU's sparse format 1.0: the map in front of the contents.
        let mut map = format!("{}\n", content.pieces.len() + 1);
        for piece in &content.pieces {
            map.push_str(&format!("{}\n{}\n", piece.at, piece.length));
        }
        map.push_str(&format!("{}\n0\n", content.size));
        map.push_str(&"\0".repeat(map.len().next_multiple_of(512) - map.len()));
        let mut records = Vec::new();
        record(&mut records, b"GNU.sparse.major", b"1");
        record(&mut records, b"GNU.sparse.minor", b"0");
        record(&mut records, b"GNU.sparse.name", subject.path);
        record(&mut records, b"GNU.sparse.realsize", content.size.to_string().as_bytes());
        self.entry(subject, EntryType::Regular, b"", there + map.len() as u64, (0, 0), records)?;
        self.data(map.as_bytes())
    }

    /// The next bytes of the file.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.left =
            self.left.checked_sub(bytes.len() as u64).ok_or_else(|| Error::refused("layer", "a broken index"))?;
        self.write(bytes)?;
        if self.left == 0 {
            let padding = std::mem::take(&mut self.padding);
            self.write(&[0; 512][..padding])?;
        }
        Ok(())
    }

    /// The end of the tar.
    pub fn finish(mut self) -> Result<()> {
        self.write(&[0; 1024])?;
        self.flush()?;
        self.to.flush().map_err(Error::os("write", "tar"))
    }

    fn entry(
        &mut self,
        subject: &Subject<'_>,
        kind: EntryType,
        link: &[u8],
        size: u64,
        device: (u32, u32),
        mut records: Vec<u8>,
    ) -> Result<()> {
        let About { uid, gid, mode, mtime, .. } = subject.about;
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        // A squashfs has 32 bits, without a sign.
        header.set_mtime(mtime.clamp(0, i64::from(u32::MAX)) as u64);
        let path = if subject.path.is_empty() { b"./" } else { subject.path };
        let old = header.as_old_mut();
        if !(put(&mut old.name, path) & put(&mut old.linkname, link)) {
            record(&mut records, b"path", path);
            if !link.is_empty() {
                record(&mut records, b"linkpath", link);
            }
        }
        for (key, value) in [("uid", u64::from(uid)), ("gid", u64::from(gid))] {
            if value > OCTAL_7 {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        header.set_uid(u64::from(uid).min(OCTAL_7));
        header.set_gid(u64::from(gid).min(OCTAL_7));
        if size > OCTAL_11 {
            record(&mut records, b"size", size.to_string().as_bytes());
        }
        header.set_size(size.min(OCTAL_11));
        let broken = |_| Error::refused("layer", format!("{}: a broken device", show(path)));
        header.set_device_major(device.0).map_err(broken)?;
        header.set_device_minor(device.1).map_err(broken)?;
        if kind != EntryType::Link {
            for (name, value) in &subject.xattrs {
                if PREFIXES.iter().any(|p| name.starts_with(p)) && !OVERLAY.iter().any(|p| name.starts_with(p)) {
                    record(&mut records, &[b"SCHILY.xattr.", *name].concat(), value);
                }
            }
        }
        if !records.is_empty() {
            let mut pax = Header::new_ustar();
            pax.set_entry_type(EntryType::XHeader);
            put(&mut pax.as_old_mut().name, b"pax");
            pax.set_mode(0o644);
            self.header(&mut pax, records.len() as u64)?;
            self.write(&records)?;
            self.write(&vec![0; records.len().next_multiple_of(512) - records.len()])?;
        }
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.left = size;
        self.padding = (size.next_multiple_of(512) - size) as usize;
        Ok(())
    }

    fn header(&mut self, header: &mut Header, size: u64) -> Result<()> {
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.to.write_all(&self.buffer).map_err(Error::os("write", "tar"))?;
        self.buffer.clear();
        Ok(())
    }
}

/// Puts `text` into a field, as much of it as there is room for. Whether that was all.
fn put(field: &mut [u8], text: &[u8]) -> bool {
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
    count == text.len()
}

/// Adds a record, whose length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
