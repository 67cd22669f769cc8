//! One stream of lines: the console of one instance, all its files as one, with the time of each line.

use super::format::{From, PART, Piece, Sink};
use crate::console::tail::Place;
use crate::console::{LogFile, Series};
use crate::sys::Result;
use std::collections::VecDeque;

const READ: usize = 256 << 10;

/// Where a source stands after [`Source::fill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// A line (or a part as long as a line may be) is there, begun at that Unix time in nanoseconds.
    Line(u64),
    /// A line has begun at that time, and its end isn't there yet.
    Begun(u64),
    /// Nothing.
    Nothing,
}

/// One stream of lines.
#[derive(Debug)]
pub struct Source {
    from: From,
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
    /// Position of `buf[end]` in the stream of what was read.
    position: u64,
    /// Up to which position of the stream what came when.
    runs: VecDeque<(u64, u64)>,
    /// What is at `buf[begin]` continues a line whose beginning was shown.
    continued: bool,
}

impl Source {
    /// What `files`, all of `series`, hold between two places; beyond `to` whatever comes when it is to be followed.
    pub fn new(from: From, series: Series, files: Vec<LogFile>, places: (Place, Place), follow: bool) -> Source {
        let (first, to) = places;
        let newest = files.iter().filter_map(|f| f.number).max().unwrap_or(0);
        let last = if follow { files.len() } else { to.file + 1 };
        Source {
            from,
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
            runs: VecDeque::new(),
            continued: false,
        }
    }

    /// Which stream it is.
    pub fn from(&self) -> From {
        self.from
    }

    /// The files it is made of.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// What follows continues a line that was begun before.
    pub fn set_continued(&mut self) {
        self.continued = true;
    }

    /// Whether nothing was ever logged, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
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

    /// Reads until a line is there, or nothing more is.
    pub fn fill(&mut self) -> Result<Head> {
        loop {
            let pending = self.buf.get(self.begin..self.end).unwrap_or_default();
            if pending.len() >= PART || memchr::memrchr(b'\n', pending).is_some() {
                return Ok(Head::Line(self.head_time()));
            }
            if self.read()? == 0 {
                return Ok(if self.begin == self.end { Head::Nothing } else { Head::Begun(self.head_time()) });
            }
        }
    }

    /// Reads on. 0: nothing more is there (yet).
    fn read(&mut self) -> Result<usize> {
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
                let (from, to) = (self.offset, self.offset + filled as u64);
                let (runs, position) = (&mut self.runs, self.position);
                file.times(&self.series, from, to, |end, nanos| match runs.back_mut() {
                    Some((last, same)) if *same == nanos => *last = position + (end - from),
                    _ => runs.push_back((position + (end - from), nanos)),
                })?;
                self.offset = to;
                self.position += filled as u64;
                self.end += filled;
                return Ok(filled);
            }
            if !self.next_file()? {
                return Ok(0);
            }
        }
    }

    /// At the end of a file: goes to the next one, or finds that there may be more to read here. False: neither.
    fn next_file(&mut self) -> Result<bool> {
        if self.until.is_some() {
            self.offset = 0;
            return Ok(self.files.pop_front().is_some() && !self.files.is_empty());
        }
        if self.complete {
            self.complete = false;
            self.files.pop_front();
            self.offset = 0;
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

    /// When the line at `begin` came, and the position up to which that holds.
    fn run(&mut self) -> (u64, u64) {
        let at = self.position - (self.end - self.begin) as u64;
        while let Some((end, _)) = self.runs.front()
            && *end <= at
            && self.runs.len() > 1
        {
            self.runs.pop_front();
        }
        self.runs.front().copied().unwrap_or((self.position, 0))
    }

    fn head_time(&mut self) -> u64 {
        self.run().1
    }

    /// Shows the lines that are there, as far as they came no later than `bound`, except one without its end. Lines
    /// that are too long are shown in pieces of the kind `long`.
    pub fn show(&mut self, sink: &mut Sink, bound: u64, long: Piece) {
        while self.begin < self.end {
            let (run_end, time) = self.run();
            if time > bound && !self.continued {
                return;
            }
            let pending = self.buf.get(self.begin..self.end).unwrap_or_default();
            // Lines belong to the run they begin in: up to the end of the one that the run's last byte is in.
            let last = run_end.saturating_sub(self.position - pending.len() as u64).max(1) as usize - 1;
            let beyond = pending.get(last..).and_then(|p| memchr::memchr(b'\n', p)).map(|i| last + i + 1);
            let length = match beyond.or_else(|| memchr::memrchr(b'\n', pending).map(|i| i + 1)) {
                Some(length) => {
                    sink.lines(self.from, time, pending.get(..length).unwrap_or_default(), self.continued);
                    self.continued = false;
                    length
                }
                None if pending.len() >= PART => {
                    let length = sink.piece(self.from, time, pending, self.continued, long);
                    self.continued = true;
                    length
                }
                None => return,
            };
            self.begin += length;
        }
    }

    /// How many bytes were read so far: unchanged means nothing new.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Shows the beginning of a line whose end isn't there yet.
    pub fn show_begun(&mut self, sink: &mut Sink, kind: Piece) {
        let time = self.head_time();
        let pending = self.buf.get(self.begin..self.end).unwrap_or_default();
        if !pending.is_empty() {
            let length = sink.piece(self.from, time, pending, self.continued, kind);
            self.begin += length;
            self.continued |= length > 0;
        }
    }
}
