//! The bytes of one series, all its files as one, read on as they come.

use super::format::PART;
use crate::console::index::nanos;
use crate::console::tail::Place;
use crate::console::{LogFile, Series};
use crate::sys::Result;
use std::collections::VecDeque;
use std::time::SystemTime;

const READ: usize = 256 << 10;

/// What is still to be read, and what was read and is not yet shown.
#[derive(Debug)]
pub struct Reader {
    series: Series,
    /// What is still to be read, the first one being read.
    files: VecDeque<LogFile>,
    offset: u64,
    /// End of the last file; `None`: follow it.
    until: Option<u64>,
    /// The highest number of a rotated file that was seen.
    newest: u64,
    /// The file being read gets no more bytes: the next one has some.
    complete: bool,
    buf: Vec<u8>,
    begin: usize,
    end: usize,
    position: u64,
}

impl Reader {
    /// What `files`, all of `series`, hold between two places; beyond `to` whatever comes when it is to be followed.
    pub fn new(series: Series, files: Vec<LogFile>, places: (Place, Place), follow: bool) -> Reader {
        let (first, to) = places;
        let newest = files.iter().filter_map(|f| f.number).max().unwrap_or(0);
        let last = if follow { files.len() } else { to.file + 1 };
        Reader {
            series,
            files: files.into_iter().take(last).skip(first.file).collect(),
            offset: first.offset,
            until: (!follow).then_some(to.offset),
            newest,
            complete: false,
            buf: vec![0; PART + READ],
            begin: 0,
            end: 0,
            position: 0,
        }
    }

    /// The files it is made of.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Whether nothing was ever logged, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether more may come.
    pub fn follows(&self) -> bool {
        self.until.is_none()
    }

    /// What was read and not yet taken.
    pub fn pending(&self) -> &[u8] {
        self.buf.get(self.begin..self.end).unwrap_or_default()
    }

    /// Takes so many bytes of [`Reader::pending`].
    pub fn take(&mut self, count: usize) {
        self.begin = self.end.min(self.begin + count);
    }

    /// How many bytes were read so far: unchanged means nothing new.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The folder was removed: numbers begin anew when it comes back.
    pub fn start_over(&mut self) {
        self.newest = 0;
    }

    /// Looks for files that were not there before. Returns whether some may have been removed before they were read.
    pub fn rescan(&mut self) -> Result<bool> {
        let found = self.series.open()?;
        let mut known = None;
        for (i, file) in found.iter().enumerate() {
            // What is held open keeps its inode, so the same number is the same file.
            if let Some(ours) = self.files.iter_mut().find(|f| f.inode == file.inode) {
                ours.number = file.number;
                known = Some(i);
            }
        }
        let newest = self.newest;
        // What was live when last seen has the number after the newest by now.
        let last = self.files.back().map(|f| newest + u64::from(f.number.is_none()));
        let is_new = |i: usize, f: &LogFile| match known {
            Some(k) => i > k,
            None => f.number.is_none_or(|n| n > newest),
        };
        let mut lost = false;
        for (i, file) in found.into_iter().enumerate() {
            if let Some(number) = file.number {
                self.newest = self.newest.max(number);
            }
            if is_new(i, &file) {
                let follows_on = |last: u64| file.number.is_none_or(|n| n <= last + 1);
                lost |= known.is_none() && i == 0 && !last.is_none_or(follows_on);
                self.files.push_back(file);
            }
        }
        Ok(lost)
    }

    /// Reads on. 0: nothing more is there (yet). Not to be called when more than a line's part is pending.
    pub fn read(&mut self) -> Result<usize> {
        self.buf.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        loop {
            let is_last = self.files.len() == 1;
            let Some(file) = self.files.front_mut() else { return Ok(0) };
            let room = self.buf.get_mut(self.end..).unwrap_or_default();
            let limit = self.until.filter(|_| is_last).map_or(READ as u64, |u| u.saturating_sub(self.offset));
            let size = room.len().min(limit.min(READ as u64) as usize);
            let filled = file.read_at(room.get_mut(..size).unwrap_or_default(), self.offset)?;
            if filled > 0 {
                self.offset += filled as u64;
                self.position += filled as u64;
                self.end += filled;
                return Ok(filled);
            }
            if !self.next_file()? {
                return Ok(0);
            }
        }
    }

    /// When the last `count` bytes came, all read at once, as runs: up to which [`Reader::position`], and the Unix time
    /// in nanoseconds.
    pub fn times(&mut self, count: usize, mut take: impl FnMut(u64, u64)) -> Result<()> {
        let (from, position) = (self.offset - count as u64, self.position - count as u64);
        let Some(file) = self.files.front_mut() else { return Ok(()) };
        file.times(&self.series, from, self.offset, |end, nanos| take(position + (end - from), nanos))
    }

    /// The time of what is newest in the file that is read next; now, when there is none.
    pub fn newest_time(&self) -> Result<u64> {
        self.files.front().map_or_else(|| Ok(nanos(SystemTime::now())), LogFile::newest_time)
    }

    /// At the end of a file: goes to the next one, or finds that there may be more to read here. False: neither.
    fn next_file(&mut self) -> Result<bool> {
        if self.until.is_some() {
            self.leave_file();
            return Ok(!self.files.is_empty());
        }
        if self.complete {
            self.complete = false;
            self.leave_file();
            return Ok(true);
        }
        if self.files.len() > 2 || self.files.get(1).map_or(Ok(0), LogFile::length_now)? > 0 {
            // QEMU writes to a renamed file until it has been handed the new one. Now it has: what is to be found in
            // the old one was written before this look at the new one, so it is read to its end once more.
            self.complete = true;
            return Ok(true);
        }
        if let Some(file) = self.files.front_mut()
            && file.length_now()? < self.offset
        {
            log::warn!("{}: cut short; going on from its beginning", file.path.display());
            file.rewind();
            self.offset = 0;
            return Ok(true);
        }
        Ok(false)
    }

    fn leave_file(&mut self) {
        self.files.pop_front();
        self.offset = 0;
        // A line goes on in the next file, but no record does: one without its end was torn by a full disk or a crash.
        if self.series.is_cri()
            && !self.files.is_empty()
            && self.pending().last().is_some_and(|b| *b != b'\n')
            && let Some(byte) = self.buf.get_mut(self.end)
        {
            *byte = b'\n';
            self.end += 1;
        }
    }
}
