//! `console.idx`: when the bytes of a console log came.
//!
//! A header of 16 bytes (`mcpidx1\n`, then the log's inode as u64 LE), then records of 16 bytes: an offset and a Unix
//! time in nanoseconds, both u64 LE. A record says: all bytes below the offset were there by that time, and those since
//! the previous record came after the previous record's time. Bytes beyond the last record are as old as the log's
//! modification time. The file is trusted for nothing but times: a reader skips what can't be.

use crate::sys::{Error, Result};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first bytes of every index.
pub const MAGIC: [u8; 8] = *b"mcpidx1\n";
/// Length of the header in bytes.
pub const HEADER: u64 = 16;
/// Length of a record in bytes.
pub const RECORD: u64 = 16;

/// How many records are read at once.
const BLOCK: u64 = 256;
/// How many are read where one is looked for…
const LOOK_BACK: u64 = 16;
/// …and how many that can't be a search looks past.
const LOOK_BACK_MAX: u64 = 64 << 10;
/// A time further ahead than this is junk, not a clock that was set.
const AHEAD: Duration = Duration::from_secs(86_400);

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// Bytes of the log below this…
    pub offset: u64,
    /// …were there at this Unix time in nanoseconds.
    pub nanos: u64,
}

impl Record {
    /// As it stands in the file.
    pub fn encode(self) -> [u8; RECORD as usize] {
        join(self.offset, self.nanos)
    }

    /// Reads what [`Record::encode`] wrote. Any bytes are a record, though not always one that can be.
    pub fn decode(bytes: [u8; RECORD as usize]) -> Record {
        let (offset, nanos) = split(bytes);
        Record { offset, nanos }
    }
}

/// The header of the index that belongs to the log with this inode.
pub fn encode_header(inode: u64) -> [u8; HEADER as usize] {
    join(u64::from_le_bytes(MAGIC), inode)
}

/// The inode in a header; `None` when it isn't one of ours.
pub fn decode_header(bytes: [u8; HEADER as usize]) -> Option<u64> {
    let (magic, inode) = split(bytes);
    (magic == u64::from_le_bytes(MAGIC)).then_some(inode)
}

/// `time` as a record has it. Times before 1970 count as 0, those after 2554 as the last.
pub fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn join(first: u64, second: u64) -> [u8; 16] {
    (u128::from(second) << 64 | u128::from(first)).to_le_bytes()
}

fn split(bytes: [u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(bytes);
    (both as u64, (both >> 64) as u64)
}

/// Fills `buf` from `offset` as far as the file goes; returns how far.
pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Appends records. There is one writer at a time: the supervisor, which holds the component's lock.
#[derive(Debug)]
pub struct IndexWriter {
    file: File,
    path: PathBuf,
    last: Record,
}

impl IndexWriter {
    /// Opens the index at `path` for the log with this inode, or makes it (0600). A torn last record is cut off. One of
    /// another log, or one that isn't an index, is emptied: call [`super::Series::settle`] first, which gives an index
    /// that a killed rotation left behind to the log it belongs to.
    pub fn open(path: &Path, inode: u64) -> Result<IndexWriter> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(Error::path("open", path))?;
        let mut writer = IndexWriter { file, path: path.to_path_buf(), last: Record::default() };
        writer.repair(inode).map_err(Error::path("repair", path))?;
        Ok(writer)
    }

    fn repair(&mut self, inode: u64) -> io::Result<()> {
        let mut header = [0; HEADER as usize];
        let whole = read_at(&self.file, &mut header, 0)? == header.len();
        if !whole || decode_header(header) != Some(inode) {
            self.file.set_len(0)?;
            return self.file.write_all(&encode_header(inode));
        }
        let length = self.file.metadata()?.len();
        let torn = (length - HEADER) % RECORD;
        if torn != 0 {
            self.file.set_len(length - torn)?;
        }
        // What follows must not fall behind what is there, or a search would go astray.
        let reader = Index { file: self.file.try_clone()?, inode, latest: latest() };
        self.last = reader.search(None, |_| true)?.1.unwrap_or_default();
        Ok(())
    }

    /// The last record, zero when there is none: where to go on after a restart.
    pub fn last(&self) -> Record {
        self.last
    }

    /// Notes that the log had `offset` bytes at `time`. Nothing new is no record; a clock that was set back counts as
    /// standing still. Less than before is believed: what is there was junk then, or the log was cut short.
    pub fn append(&mut self, offset: u64, time: SystemTime) -> Result<()> {
        if offset == self.last.offset {
            return Ok(());
        }
        let record = Record { offset, nanos: nanos(time).max(self.last.nanos) };
        // One write of 16 bytes to a file opened for appending: whole, or (no space, killed) torn at the very end.
        self.file.write_all(&record.encode()).map_err(Error::path("write", &self.path))?;
        self.last = record;
        Ok(())
    }
}

fn latest() -> u64 {
    nanos(SystemTime::now() + AHEAD)
}

/// Reads an index, also one that grows meanwhile.
#[derive(Debug)]
pub struct Index {
    file: File,
    inode: u64,
    latest: u64,
}

impl Index {
    /// Opens the index at `path`. `None` when there is none, or when it isn't one.
    pub fn open(path: &Path) -> Result<Option<Index>> {
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => return Ok(None),
            Err(e) => return Err(Error::path("open", path)(e)),
        };
        if !file.metadata().map_err(Error::path("stat", path))?.is_file() {
            return Ok(None);
        }
        let mut header = [0; HEADER as usize];
        let filled = read_at(&file, &mut header, 0).map_err(Error::path("read", path))?;
        let inode = decode_header(header).filter(|_| filled == header.len());
        Ok(inode.map(|inode| Index { file, inode, latest: latest() }))
    }

    /// The inode of the log it belongs to.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    fn count(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(HEADER) / RECORD)
    }

    /// Up to `count` records from number `from`, as they stand in the file.
    fn block(&self, from: u64, count: u64) -> io::Result<Vec<Record>> {
        let mut bytes = vec![0; (count.min(BLOCK) * RECORD) as usize];
        let filled = read_at(&self.file, &mut bytes, HEADER + from * RECORD)?;
        bytes.truncate(filled);
        Ok(bytes.chunks_exact(RECORD as usize).filter_map(|c| c.try_into().ok()).map(Record::decode).collect())
    }

    /// Whether a log of `length` bytes can have such a record.
    fn can_be(&self, record: Record, length: u64) -> bool {
        (1..=length).contains(&record.offset) && (1..=self.latest).contains(&record.nanos)
    }

    /// The number of the first record that `before` does not hold for, and the last one that it holds for. Records that
    /// can't be are passed over; where they are many, or out of order, the answer is inexact but found in bounded time.
    fn search(&self, log: Option<&File>, before: impl Fn(Record) -> bool) -> io::Result<(u64, Option<Record>)> {
        let (mut low, mut high) = (0, self.count()?);
        // Asked after the count: a record is written after the bytes that it tells of.
        let length = log.map_or(Ok(u64::MAX), |f| f.metadata().map(|m| m.len()))?;
        let mut best = None;
        let mut patience = LOOK_BACK_MAX;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.last_that_can_be(low, middle, length, &mut patience)? {
                Some((_, record)) if before(record) => {
                    best = Some(record);
                    low = middle + 1;
                }
                Some((number, _)) => high = number,
                None => low = middle + 1,
            }
        }
        Ok((low, best))
    }

    /// The last record that can be among those numbered `low` to `high`, and its number.
    fn last_that_can_be(
        &self,
        low: u64,
        high: u64,
        length: u64,
        patience: &mut u64,
    ) -> io::Result<Option<(u64, Record)>> {
        let mut end = high + 1;
        let mut size = LOOK_BACK;
        while end > low && *patience > 0 {
            let from = low.max(end.saturating_sub(size));
            let block = self.block(from, end - from)?;
            if let Some((i, record)) = block.iter().enumerate().rev().find(|(_, r)| self.can_be(**r, length)) {
                return Ok(Some((from + i as u64, *record)));
            }
            // A power cut may have left pages of zeros.
            *patience = patience.saturating_sub(end - from);
            end = from;
            size = BLOCK;
        }
        Ok(None)
    }

    /// The last record.
    pub fn last(&self, log: &File) -> io::Result<Option<Record>> {
        Ok(self.search(Some(log), |_| true)?.1)
    }

    /// The last record before `nanos`, or at it too.
    pub fn last_before(&self, log: &File, nanos: u64, at_too: bool) -> io::Result<Option<Record>> {
        Ok(self.search(Some(log), |r| r.nanos < nanos || (at_too && r.nanos == nanos))?.1)
    }

    /// A cursor for walking forward from `offset`.
    pub fn cursor(&self, log: &File, offset: u64) -> io::Result<Cursor> {
        let (next, last) = self.search(Some(log), |r| r.offset <= offset)?;
        Ok(Cursor { next, last: last.unwrap_or_default(), ..Cursor::default() })
    }
}

/// Walks an index forward: one read for many records.
#[derive(Debug, Default)]
pub struct Cursor {
    next: u64,
    block: VecDeque<Record>,
    last: Record,
    length: u64,
}

impl Cursor {
    /// When the byte at `offset` came: the first record beyond it. The offset never goes back from one call to the
    /// next. `None` when there is no record yet; there may be one at the next call.
    pub fn record_beyond(&mut self, index: &Index, log: &File, offset: u64) -> io::Result<Option<Record>> {
        while self.last.offset <= offset {
            if self.block.is_empty() {
                let block = index.block(self.next, BLOCK)?;
                self.next += block.len() as u64;
                self.block.extend(block);
            }
            let Some(record) = self.block.pop_front() else { return Ok(None) };
            if record.offset > self.length {
                // Asked after the record was read: its bytes were there before it.
                self.length = log.metadata()?.len();
            }
            // Junk between good records: time and offset only ever grow.
            if index.can_be(record, self.length) && record.offset > self.last.offset && record.nanos >= self.last.nanos
            {
                self.last = record;
            }
        }
        Ok(Some(self.last))
    }
}
