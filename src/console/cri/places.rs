//! Places in a container's log files taken as one stream: by time, and so many lines before the end. Its lines have their
//! own times, so no index is needed.

use super::{Decoder, RECORD_MAX, Record, Stream};
use crate::console::LogFile;
use crate::console::tail::{self, Place};
use crate::sys::Result;
use std::ops::RangeInclusive;

/// How far apart the two places may be that a time is between.
const NEAR: u64 = 2 * RECORD_MAX as u64;
/// So many bytes are read at once, backwards.
const CHUNK: u64 = 256 << 10;
/// How far back the beginning of a line is looked for whose parts are far apart.
const FAR_BACK: u64 = 1 << 20;

/// The first record at `offset` or, when that may be inside of one, behind it: where, and its time. `None`: not near.
fn first_record(file: &LogFile, offset: u64) -> Result<Option<(u64, u64)>> {
    let mut buf = vec![0; NEAR as usize];
    let filled = file.read_at(&mut buf, offset)?;
    let bytes = buf.get(..filled).unwrap_or_default();
    let mut at = match offset {
        0 => 0,
        _ => memchr::memchr(b'\n', bytes).map_or(filled, |i| i + 1),
    };
    let mut decoder = Decoder::default();
    while let Some(record) = decoder.next(bytes.get(at..).unwrap_or_default(), false) {
        if record.stream != Stream::Other {
            return Ok(Some((offset + at as u64, record.nanos)));
        }
        at += record.length;
    }
    Ok(None)
}

/// Two borders of records: all before the first came earlier than `nanos`, none after the second did.
fn around(files: &[LogFile], nanos: u64) -> Result<(Place, Place)> {
    let mut position = 0;
    for (i, file) in files.iter().enumerate().skip(1) {
        if first_record(file, 0)?.is_some_and(|(_, first)| first < nanos) {
            position = i;
        }
    }
    let Some(file) = files.get(position) else { return Ok((tail::BEGIN, tail::BEGIN)) };
    let (mut low, mut high, mut after) = (0, file.length, file.length);
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        match first_record(file, middle)? {
            Some((at, time)) if time < nanos && at < high => low = at,
            found => {
                high = middle;
                after = found.map_or(after, |(at, _)| at.min(after));
            }
        }
    }
    Ok((Place { file: position, offset: low }, Place { file: position, offset: after }))
}

/// A border of records some way before `place`, for lines that were begun before it.
fn some_way_before(files: &[LogFile], place: Place) -> Result<Place> {
    let (mut before, mut room) = (place, NEAR);
    while room > before.offset
        && let Some(file) = before.file.checked_sub(1)
    {
        room -= before.offset;
        before = Place { file, offset: files.get(file).map_or(0, |f| f.length) };
    }
    before.offset = before.offset.saturating_sub(room);
    if before.offset == 0 { Ok(before) } else { tail::next_line(files, before) }
}

/// Where to begin to read for the lines that came in `window`, of those the last `count`, and how many lines of the window
/// there are from there on (0 where none are counted).
pub fn find(files: &[LogFile], window: &RangeInclusive<u64>, count: Option<u64>) -> Result<(Place, u64)> {
    let from = match *window.start() {
        0 => tail::BEGIN,
        since => some_way_before(files, around(files, since)?.0)?,
    };
    let to = match *window.end() {
        u64::MAX => tail::end(files),
        until => around(files, until + 1)?.1,
    };
    match count {
        None => Ok((from, 0)),
        Some(0) => Ok((tail::end(files), 0)),
        Some(count) => last_lines(files, from, to, window, count),
    }
}

/// A line of one stream, seen from its end.
#[derive(Debug, Clone, Copy)]
struct Begun {
    /// The time of its earliest record so far.
    nanos: u64,
    /// So many lines at least ended after it.
    later: u64,
}

fn last_lines(
    files: &[LogFile],
    from: Place,
    to: Place,
    window: &RangeInclusive<u64>,
    count: u64,
) -> Result<(Place, u64)> {
    let mut streams: [Option<Begun>; Stream::ALL.len()] = [None; 3];
    let (mut found, mut beyond) = (0, 0);
    let mut begin = to;
    backwards(files, from, to, |place, record| {
        begin = place;
        if let Some(line) = streams.get_mut(record.stream as usize) {
            match line {
                Some(begun) if !record.ends => begun.nanos = record.nanos,
                _ => {
                    found += u64::from(line.is_some_and(|l| window.contains(&l.nanos)));
                    // What has no end comes after all that has one.
                    *line = Some(Begun { nanos: record.nanos, later: if record.ends { found } else { 0 } });
                }
            }
        }
        if found >= count {
            beyond += record.length as u64;
        }
        // A stream that wasn't met may have a line that never ended, which comes after all others.
        let is_whole = |line: &Option<Begun>| line.is_some_and(|l| l.later >= count);
        let all_whole = streams.iter().take(2).all(is_whole);
        found < count || (!all_whole && beyond < FAR_BACK)
    })?;
    // Those whose beginning wasn't looked for any further: they are what a reader gets who begins here.
    found += streams.iter().flatten().filter(|line| window.contains(&line.nanos)).count() as u64;
    Ok((begin, found))
}

/// Calls `look` with the records between two of their borders, the last first, and where each begins, as long as it
/// answers yes.
fn backwards(files: &[LogFile], from: Place, to: Place, mut look: impl FnMut(Place, &Record) -> bool) -> Result<()> {
    for (position, file) in files.iter().enumerate().take(to.file + 1).skip(from.file).rev() {
        let low = if position == from.file { from.offset } else { 0 };
        let mut high = if position == to.file { to.offset } else { file.length };
        while high > low {
            let begin = low.max(high.saturating_sub(CHUNK));
            let mut bytes = vec![0; (high - begin) as usize];
            let filled = file.read_at(&mut bytes, begin)?;
            bytes.truncate(filled);
            // From the first border in it; one so long that there is none is taken as it comes.
            let border = memchr::memchr(b'\n', &bytes).map(|i| i + 1).filter(|b| *b < filled && begin > low);
            let mut at = border.unwrap_or(0);
            high = begin + at as u64;
            if position + 1 < files.len() && bytes.last().is_some_and(|b| *b != b'\n') {
                // No record goes on in the next file.
                bytes.push(b'\n');
            }
            let mut decoder = Decoder::default();
            let mut records = Vec::new();
            while let Some(record) = decoder.next(bytes.get(at..).unwrap_or_default(), true) {
                let place = Place { file: position, offset: begin + at as u64 };
                at += record.length;
                records.push((place, record));
            }
            if !records.iter().rev().all(|(place, record)| look(*place, record)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Where the record begins that `offset` lies in, or behind the last line feed before it.
pub fn record_before(file: &std::fs::File, offset: u64) -> std::io::Result<u64> {
    let begin = offset.saturating_sub(RECORD_MAX as u64);
    let mut bytes = vec![0; (offset - begin) as usize];
    let filled = crate::console::index::read_at(file, &mut bytes, begin)?;
    let border = memchr::memrchr(b'\n', bytes.get(..filled).unwrap_or_default());
    Ok(border.map_or(if begin == 0 { 0 } else { offset }, |i| begin + i as u64 + 1))
}
