//! A container's log: CRI's format, as conmon writes it.
//!
//! A record is a line `TIME STREAM TAG CONTENT`: RFC 3339 with nanoseconds and the local offset, `stdout` or `stderr`, `F`
//! or `P`. With F a line of the container's ends there. With P it goes on in the next record of the same stream, and the
//! line feed is none of the container's: conmon reads up to 8 KiB at a time, and whatever such a read ends with that is
//! no line feed becomes a P (its src/ctr_logging.c, `write_k8s_log`). What is no record is shown as it is.

mod lines;
mod places;
#[cfg(test)]
mod tests;

pub use lines::{Lines, Open, contents};
pub use places::{find, record_before};

use std::ops::Range;

/// A record longer than this comes in parts. conmon's have 8 KiB and 45 bytes at most.
pub const RECORD_MAX: usize = 32 << 10;
/// The time in a header has at most so many bytes, its tag too.
const WORD_MAX: usize = 40;
/// How each time begins: a digit for each 0.
const SHAPE: &[u8] = b"0000-00-00T00:00:00";
/// The shortest header that conmon writes.
const HEADER: usize = 45;

/// Which of a container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Bytes in the log that are no record.
    Other,
}

impl Stream {
    /// All.
    pub const ALL: [Stream; 3] = [Stream::Stdout, Stream::Stderr, Stream::Other];

    /// As it stands in a record.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Stream::Stdout => Some("stdout"),
            Stream::Stderr => Some("stderr"),
            Stream::Other => None,
        }
    }
}

/// A record, or a part of one that is very long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its Unix time in nanoseconds. For what is no record that of the one before.
    pub nanos: u64,
    /// Whose bytes it has.
    pub stream: Stream,
    /// Where in the bytes that were looked at is what the container wrote, its line feed included.
    pub content: Range<usize>,
    /// Whether a line ends here: the content's last byte is a line feed.
    pub ends: bool,
    /// How many bytes it takes.
    pub length: usize,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    nanos: u64,
    stream: Stream,
    is_full: bool,
    length: usize,
}

/// Takes a log apart, record by record. It is handed the bytes that are left each time.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The last time that was read, as text: records that conmon writes at once share it.
    text: Vec<u8>,
    nanos: u64,
    /// What is next is more of a long record.
    inside: Option<Header>,
}

impl Decoder {
    /// For a log whose first bytes have this time if they are no record.
    pub fn new(nanos: u64) -> Decoder {
        Decoder { nanos, ..Decoder::default() }
    }

    /// The record that `bytes` begin with; `None`: it isn't whole yet. `all`: nothing more comes, so what there is of it
    /// counts, unless that is too short to tell.
    pub fn next(&mut self, bytes: &[u8], all: bool) -> Option<Record> {
        let end = memchr::memchr(b'\n', bytes);
        if bytes.is_empty() || (end.is_none() && !all && bytes.len() < RECORD_MAX) {
            return None;
        }
        let length = end.map_or(bytes.len(), |i| i + 1);
        let whole = bytes.get(..length).unwrap_or_default();
        let header = match self.inside.take() {
            Some(header) => Header { length: 0, ..header },
            None => self.header(whole),
        };
        self.inside = (end.is_none() && !all).then_some(header);
        let is_begun = end.is_none() && header.stream == Stream::Other && is_begun(whole);
        let stop = match end {
            Some(end) if !header.is_full => end,
            None if is_begun => 0,
            _ => length,
        };
        Some(Record {
            nanos: header.nanos,
            stream: header.stream,
            content: header.length..stop.max(header.length),
            ends: end.is_some() && header.is_full,
            length,
        })
    }

    /// The header of a record; for what is none one of length 0.
    fn header(&mut self, bytes: &[u8]) -> Header {
        let none = Header { nanos: self.nanos, stream: Stream::Other, is_full: true, length: 0 };
        let Some(time) = word(bytes) else { return none };
        if time != self.text {
            let Some(nanos) = parse_time(time) else { return none };
            self.nanos = nanos;
            self.text.clear();
            self.text.extend_from_slice(time);
        }
        let rest = bytes.get(time.len() + 1..).unwrap_or_default();
        let stream = match rest.get(..7) {
            Some(b"stdout ") => Stream::Stdout,
            Some(b"stderr ") => Stream::Stderr,
            _ => return none,
        };
        // More tags may follow the first, after colons.
        let Some(tag) = rest.get(7..).and_then(word) else { return none };
        let is_full = match tag {
            [b'F'] | [b'F', b':', ..] => true,
            [b'P'] | [b'P', b':', ..] => false,
            _ => return none,
        };
        Header { nanos: self.nanos, stream, is_full, length: time.len() + 1 + 7 + tag.len() + 1 }
    }
}

/// The word that `bytes` begin with, up to a space.
fn word(bytes: &[u8]) -> Option<&[u8]> {
    let start = bytes.get(..WORD_MAX).unwrap_or(bytes);
    memchr::memchr(b' ', start).and_then(|end| start.get(..end))
}

/// Whether these may be the first bytes of a header whose rest is about to be written.
fn is_begun(bytes: &[u8]) -> bool {
    let fits = |(b, shape): (&u8, &u8)| if *shape == b'0' { b.is_ascii_digit() } else { b == shape };
    bytes.len() < HEADER && bytes.iter().zip(SHAPE).all(fits)
}

fn number(digits: Option<&[u8]>) -> Option<u64> {
    let digits = digits.filter(|d| !d.is_empty())?;
    digits.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// Unix nanoseconds of `2026-11-23T07:32:55.104516644+00:00`. By hand, as it is done for each line of a log.
fn parse_time(text: &[u8]) -> Option<u64> {
    let (day, rest) = text.split_at_checked(SHAPE.len())?;
    if !is_begun(day) {
        return None;
    }
    let field = |from: usize, to: usize| number(day.get(from..to));
    let (year, month, date) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    // A u64 of nanoseconds ends in 2554.
    let can_be = (1970..=2553).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&date);
    if !can_be || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix(b".") {
        Some(rest) => {
            let end = rest.iter().position(|b| !b.is_ascii_digit()).filter(|n| *n <= 9)?;
            let (digits, zone) = rest.split_at_checked(end)?;
            (number(Some(digits))? * 10u64.pow(9 - end as u32), zone)
        }
        None => (0, rest),
    };
    let seconds = days(year, month, date) * 86_400 + hour * 3600 + minute * 60 + second;
    let utc = match zone {
        b"Z" => seconds,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let offset = number(Some(&[*h1, *h2]))? * 3600 + number(Some(&[*m1, *m2]))? * 60;
            if *sign == b'+' { seconds.checked_sub(offset)? } else { seconds + offset }
        }
        _ => return None,
    };
    Some(utc * 1_000_000_000 + fraction)
}

/// Days from 1970-01-01 to that day, which is not before it, in the Gregorian calendar. Years are counted from March, so
/// that a leap day is the last of its year.
fn days(year: u64, month: u64, date: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5;
    // 719468 days from 0000-03-01 to 1970-01-01.
    (before + date).saturating_sub(719_468 + 1)
}
