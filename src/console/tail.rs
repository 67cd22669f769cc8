//! Places in the files of a series taken as one stream: line borders, the last lines.

use super::harmless;
use super::{LogFile, Series, cri};
use crate::model::state::Mark;
use crate::sys::paths::InstancePaths;
use crate::sys::{Error, Result};
use std::os::unix::fs::MetadataExt;

/// How many bytes are looked at in one go.
const BLOCK: usize = 64 << 10;

/// A place: the file's position in its series, and an offset into it. Ordered as the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Position among the opened files, 0 for the oldest.
    pub file: usize,
    /// Offset in bytes.
    pub offset: u64,
}

/// The beginning.
pub const BEGIN: Place = Place { file: 0, offset: 0 };

/// The end of an instance's console as of now: where the next one in its slot begins. The caller holds the instance's lock,
/// so that nobody writes or rotates it.
pub fn mark(paths: &InstancePaths) -> Result<Mark> {
    let series = Series::console(paths);
    let path = paths.console();
    let about = std::fs::metadata(&path).map_err(Error::path("stat", &path))?;
    Ok(Mark { number: series.next_number()?, inode: about.ino(), offset: about.len() })
}

/// The place of `mark` among `files`.
pub fn place(mark: &Mark, files: &[LogFile]) -> Place {
    let is_it = |f: &LogFile| match f.number {
        Some(number) => number == mark.number,
        None => f.inode == mark.inode,
    };
    let later = |f: &LogFile| f.number.is_none_or(|number| number > mark.number);
    // Where its own file has gone, all that is left of it is newer.
    let found = files.iter().position(is_it).or_else(|| files.iter().position(later));
    let Some((file, log)) = found.and_then(|at| Some((at, files.get(at)?))) else { return end(files) };
    // A log that somebody has cut short is its own from the beginning.
    let offset = if is_it(log) && mark.offset <= log.length { mark.offset } else { 0 };
    Place { file, offset }
}

/// The end, as of when the files were opened.
pub fn end(files: &[LogFile]) -> Place {
    match files.last() {
        Some(last) => Place { file: files.len() - 1, offset: last.length },
        None => BEGIN,
    }
}

/// Calls `look` with blocks of the bytes between `from` and `to`, the last first, each with the place where it begins,
/// until it answers something.
fn backwards<T>(
    files: &[LogFile],
    from: Place,
    to: Place,
    mut look: impl FnMut(Place, &[u8]) -> Option<T>,
) -> Result<Option<T>> {
    let mut buf = vec![0; BLOCK];
    let upper = files.iter().enumerate().take(to.file + 1).skip(from.file);
    for (position, file) in upper.rev() {
        let low = if position == from.file { from.offset } else { 0 };
        let mut high = if position == to.file { to.offset } else { file.length };
        while high > low {
            let size = (high - low).min(BLOCK as u64);
            let begin = high - size;
            let filled = file.read_at(buf.get_mut(..size as usize).unwrap_or_default(), begin)?;
            let block = buf.get(..filled).unwrap_or_default();
            if let Some(answer) = look(Place { file: position, offset: begin }, block) {
                return Ok(Some(answer));
            }
            high = begin;
        }
    }
    Ok(None)
}

/// The byte before `place`; `None` at the beginning.
pub fn byte_before(files: &[LogFile], place: Place) -> Result<Option<u8>> {
    let mut file = place.file;
    let mut offset = place.offset;
    while offset == 0 {
        let Some(before) = file.checked_sub(1) else { return Ok(None) };
        file = before;
        offset = files.get(before).map_or(0, |f| f.length);
    }
    let mut byte = [0];
    let filled = match files.get(file) {
        Some(f) => f.read_at(&mut byte, offset - 1)?,
        None => 0,
    };
    Ok(byte.first().copied().filter(|_| filled == 1))
}

/// Where the line that `place` lies in ends: `place` itself when a line begins there.
pub fn next_line(files: &[LogFile], place: Place) -> Result<Place> {
    if byte_before(files, place)?.is_none_or(|b| b == b'\n') {
        return Ok(place);
    }
    let mut buf = vec![0; BLOCK];
    for (position, file) in files.iter().enumerate().skip(place.file) {
        let mut at = if position == place.file { place.offset } else { 0 };
        while at < file.length {
            let size = (file.length - at).min(BLOCK as u64) as usize;
            let filled = file.read_at(buf.get_mut(..size).unwrap_or_default(), at)?;
            if filled == 0 {
                break;
            }
            if let Some(i) = memchr::memchr(b'\n', buf.get(..filled).unwrap_or_default()) {
                return Ok(Place { file: position, offset: at + i as u64 + 1 });
            }
            at += filled as u64;
        }
    }
    Ok(end(files))
}

/// Where the last `count` lines between `from` and `to` begin, and how many there really are. Both places are borders of
/// lines; bytes after the last line feed count as a line.
pub fn last_lines_from(files: &[LogFile], from: Place, to: Place, count: u64) -> Result<(Place, u64)> {
    if count == 0 || from >= to {
        return Ok((to, 0));
    }
    // The line feed at the very end ends the last line and begins none.
    let mut begun = 0;
    let mut first = true;
    let mut any = false;
    let found = backwards(files, from, to, |place, block| {
        any |= !block.is_empty();
        for i in memchr::memrchr_iter(b'\n', block) {
            if std::mem::take(&mut first) && i + 1 == block.len() {
                continue;
            }
            begun += 1;
            if begun == count {
                return Some(Place { file: place.file, offset: place.offset + i as u64 + 1 });
            }
        }
        first &= block.is_empty();
        None
    })?;
    Ok(match found {
        Some(place) => (place, count),
        None => (from, begun + u64::from(any)),
    })
}

/// The last `count` lines of an instance's console since `from` (`None`: since ever), across rotated files, from its last
/// `max_bytes` bytes at most. For messages and `state.json`: every line is harmless text; none where the console can't
/// be read.
pub fn last_lines(paths: &InstancePaths, from: Option<&Mark>, count: usize, max_bytes: usize) -> Vec<String> {
    let series = Series::console(paths);
    let Ok(files) = series.open() else { return Vec::new() };
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    // With room for what stands before each line, and for a record that is cut.
    let mut room = if series.is_cri() { 2 * max_bytes + cri::RECORD_MAX } else { max_bytes };
    let from = from.map_or(BEGIN, |mark| place(mark, &files));
    let read = backwards(&files, from, end(&files), |_, block| {
        let cut = block.get(block.len().saturating_sub(room)..).unwrap_or_default();
        room -= cut.len();
        blocks.push(cut.to_vec());
        (room == 0).then_some(())
    });
    if read.is_err() {
        return Vec::new();
    }
    blocks.reverse();
    let mut bytes = blocks.concat();
    if series.is_cri() {
        let border = memchr::memchr(b'\n', &bytes).filter(|_| room == 0).map_or(0, |i| i + 1);
        bytes = cri::contents(bytes.get(border..).unwrap_or_default());
    }
    let bytes = bytes.get(bytes.len().saturating_sub(max_bytes)..).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<String> =
        bytes.rsplit(|b| *b == b'\n').take(count).map(|line| harmless::text(harmless::without_returns(line))).collect();
    lines.reverse();
    lines
}
