//! One stream of lines: the console of one instance, with the time of each line. Of a VM they are the bytes as they came,
//! with the index's times; of a container see [`super::records`].

use super::format::{From, PART, Piece, Sink};
use super::reader::Reader;
use super::records::Records;
use crate::console::Series;
use crate::sys::Result;
use std::collections::VecDeque;

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
    reader: Reader,
    /// What takes a container's log apart.
    records: Option<Records>,
    /// Up to which position of the reader what came when.
    runs: VecDeque<(u64, u64)>,
    /// What is pending continues a line whose beginning was shown.
    continued: bool,
}

impl Source {
    /// The lines that `reader` brings. With `records` they are a container's.
    pub fn new(from: From, reader: Reader, records: Option<Records>) -> Source {
        Source { from, reader, records, runs: VecDeque::new(), continued: false }
    }

    /// Which stream it is.
    pub fn from(&self) -> From {
        self.from
    }

    /// The files it is made of.
    pub fn series(&self) -> &Series {
        self.reader.series()
    }

    /// What follows continues a line that was begun before.
    pub fn set_continued(&mut self) {
        self.continued = true;
    }

    /// Whether nothing was ever logged, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// Whether lines of two streams meet in it.
    pub fn is_mixed(&self) -> bool {
        self.records.is_some()
    }

    /// The folder was removed: numbers begin anew when it comes back.
    pub fn start_over(&mut self) {
        self.reader.start_over();
    }

    /// Looks for files that were not there before. Returns whether some may have been removed before they were read.
    pub fn rescan(&mut self) -> Result<bool> {
        self.reader.rescan()
    }

    /// How many bytes were read so far: unchanged means nothing new.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Reads until a line is there, or nothing more is.
    pub fn fill(&mut self) -> Result<Head> {
        if let Some(records) = &mut self.records {
            return records.fill(&mut self.reader);
        }
        loop {
            let pending = self.reader.pending();
            if pending.len() >= PART || memchr::memrchr(b'\n', pending).is_some() {
                return Ok(Head::Line(self.run().1));
            }
            let filled = self.reader.read()?;
            if filled == 0 {
                return Ok(if self.reader.pending().is_empty() { Head::Nothing } else { Head::Begun(self.run().1) });
            }
            let runs = &mut self.runs;
            self.reader.times(filled, |end, nanos| match runs.back_mut() {
                Some((last, same)) if *same == nanos => *last = end,
                _ => runs.push_back((end, nanos)),
            })?;
        }
    }

    /// When the line that is pending came, and the position up to which that holds.
    fn run(&mut self) -> (u64, u64) {
        let at = self.reader.position() - self.reader.pending().len() as u64;
        while let Some((end, _)) = self.runs.front()
            && *end <= at
            && self.runs.len() > 1
        {
            self.runs.pop_front();
        }
        self.runs.front().copied().unwrap_or((self.reader.position(), 0))
    }

    /// Shows the lines that are there, as far as they came no later than `bound`, except one without its end. Lines
    /// that are too long are shown in pieces of the kind `long`.
    pub fn show(&mut self, sink: &mut Sink, bound: u64, long: Piece) {
        if let Some(records) = &mut self.records {
            return records.show(&mut self.reader, self.from, sink, bound, long);
        }
        while !self.reader.pending().is_empty() {
            let (run_end, time) = self.run();
            if time > bound && !self.continued {
                return;
            }
            let pending = self.reader.pending();
            // Lines belong to the run they begin in: up to the end of the one that the run's last byte is in.
            let last = run_end.saturating_sub(self.reader.position() - pending.len() as u64).max(1) as usize - 1;
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
            self.reader.take(length);
        }
    }

    /// Shows the beginning of a line whose end isn't there yet.
    pub fn show_begun(&mut self, sink: &mut Sink, kind: Piece) {
        if let Some(records) = &mut self.records {
            return records.show_begun(self.from, sink, kind);
        }
        let time = self.run().1;
        let pending = self.reader.pending();
        if !pending.is_empty() {
            let length = sink.piece(self.from, time, pending, self.continued, kind);
            self.reader.take(length);
            self.continued |= length > 0;
        }
    }
}
