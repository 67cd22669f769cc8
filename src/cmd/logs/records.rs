//! The lines of a container, out of its log's records. They have their own times, to the nanosecond.

use super::format::{From, PART, Piece, Sink};
use super::reader::Reader;
use super::source::Head;
use crate::console::cri::{Decoder, Lines, Open, Record};
use crate::sys::Result;
use std::ops::RangeInclusive;

/// What takes a container's log apart, and what is there of the lines without an end.
#[derive(Debug)]
pub struct Records {
    decoder: Decoder,
    lines: Lines,
    /// Lines that were begun at other times are not shown.
    window: RangeInclusive<u64>,
    /// Ends a line that is to be shown, or is the sign that one has become too long.
    next: Option<Record>,
    /// Nothing more comes: the record at the end counts though it isn't whole.
    all: bool,
    /// The rest is later than what is wanted.
    over: bool,
}

impl Records {
    /// Lines that came in `window`, Unix times in nanoseconds.
    pub fn new(reader: &Reader, window: RangeInclusive<u64>) -> Result<Records> {
        let decoder = Decoder::new(reader.newest_time()?);
        Ok(Records { decoder, lines: Lines::default(), window, next: None, all: false, over: false })
    }

    /// Reads until a line is there, or nothing more is.
    pub fn fill(&mut self, reader: &mut Reader) -> Result<Head> {
        loop {
            self.advance(reader);
            if let Some(record) = &self.next {
                return Ok(Head::Line(self.lines.of(record.stream).nanos));
            }
            if self.over || reader.read()? == 0 {
                if self.over || self.all || reader.follows() {
                    break;
                }
                self.all = true;
            }
        }
        let first = self.lines.rest().into_iter().next();
        Ok(first.map_or(Head::Nothing, |stream| Head::Begun(self.lines.of(stream).nanos)))
    }

    /// Takes in what was read, up to a record that ends a line.
    fn advance(&mut self, reader: &mut Reader) {
        while self.next.is_none()
            && !self.over
            && let Some(mut record) = self.decoder.next(reader.pending(), self.all)
        {
            let open = self.lines.of(record.stream);
            open.begin(record.nanos);
            let is_wanted = self.window.contains(&open.nanos);
            if record.ends && is_wanted {
                self.next = Some(record);
                if reader.follows() {
                    // The clock may be set back later.
                    self.window = 0..=u64::MAX;
                }
                return;
            }
            if record.ends {
                open.end();
            } else if is_wanted {
                open.bytes.extend_from_slice(reader.pending().get(record.content.clone()).unwrap_or_default());
            }
            reader.take(record.length);
            if open.bytes.len() >= PART {
                record.length = 0;
                self.next = Some(record);
            } else if record.nanos > *self.window.end() {
                // What was begun in time is shown to its end.
                self.over = self.lines.rest().is_empty();
            }
        }
    }

    /// Shows the lines that are there, as [`super::source::Source::show`] does.
    pub fn show(&mut self, reader: &mut Reader, from: From, sink: &mut Sink, bound: u64, long: Piece) {
        loop {
            self.advance(reader);
            let Some(record) = &self.next else { return };
            let open = self.lines.of(record.stream);
            if open.nanos > bound && !open.shown {
                return;
            }
            let from = From { stream: record.stream, ..from };
            if record.ends {
                let content = reader.pending().get(record.content.clone()).unwrap_or_default();
                if open.bytes.is_empty() {
                    sink.lines(from, open.nanos, content, open.shown);
                } else {
                    open.bytes.extend_from_slice(content);
                    sink.lines(from, open.nanos, &open.bytes, open.shown);
                }
                open.end();
                reader.take(record.length);
            } else {
                show(open, from, sink, long);
            }
            self.next = None;
        }
    }

    /// Shows the beginnings of lines whose ends aren't there yet.
    pub fn show_begun(&mut self, from: From, sink: &mut Sink, kind: Piece) {
        for stream in self.lines.rest() {
            let open = self.lines.of(stream);
            show(open, From { stream, ..from }, sink, kind);
        }
    }
}

/// Shows what is there of a line, or as much of it as can be.
fn show(open: &mut Open, from: From, sink: &mut Sink, kind: Piece) {
    let length = sink.piece(from, open.nanos, &open.bytes, open.shown, kind);
    open.bytes.drain(..length);
    open.shown |= length > 0;
}
