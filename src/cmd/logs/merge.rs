//! Several streams of lines as one, by time.

use super::format::{From, Piece, Sink};
use super::reader::Reader;
use super::records::Records;
use super::source::{Head, Source};
use crate::console::tail::{self, Place};
use crate::console::{LogFile, Series, cri};
use crate::sys::Result;
use std::ops::RangeInclusive;

/// What of a log is asked for. Times are Unix times in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// So many lines at the end of each component; `None`: all.
    pub lines: Option<u64>,
    /// What came then or later.
    pub since: Option<u64>,
    /// What came then or earlier.
    pub until: Option<u64>,
}

impl Wanted {
    /// The times, both ends included.
    fn window(&self) -> RangeInclusive<u64> {
        self.since.unwrap_or(0)..=self.until.unwrap_or(u64::MAX)
    }
}

/// The files of one series and what of them is wanted.
#[derive(Debug)]
pub struct Piecewise {
    /// Which stream it is.
    pub from: From,
    /// Where the files are from.
    pub series: Series,
    /// The files, oldest first.
    pub files: Vec<LogFile>,
    /// What is wanted of them: borders of lines.
    pub places: (Place, Place),
    /// How many lines that is, where lines were counted.
    pub lines: u64,
    wanted: Wanted,
}

impl Piecewise {
    /// Opens what there is now and finds what is wanted of it, without reading what isn't.
    pub fn open(from: From, series: Series, wanted: Wanted) -> Result<Piecewise> {
        let files = series.open()?;
        let mut places = (tail::BEGIN, tail::end(&files));
        if series.is_cri() {
            // What doesn't belong to the window is left out line by line.
            let (begin, lines) = cri::find(&files, &wanted.window(), wanted.lines)?;
            return Ok(Piecewise { from, series, files, places: (begin, places.1), lines, wanted });
        }
        if let Some(until) = wanted.until {
            places.1 = tail::BEGIN;
            for (i, file) in files.iter().enumerate().rev() {
                let offset = file.offset_until(until)?.min(file.length);
                if offset > 0 {
                    // The line that was begun by then, to its end.
                    places.1 = tail::next_line(&files, Place { file: i, offset })?;
                    break;
                }
            }
        }
        if let Some(since) = wanted.since {
            places.0 = places.1;
            for (i, file) in files.iter().enumerate() {
                let offset = file.offset_since(since)?;
                if offset < file.length {
                    // A line that was begun before doesn't count.
                    places.0 = tail::next_line(&files, Place { file: i, offset })?.min(places.1);
                    break;
                }
            }
        }
        let mut lines = 0;
        if let Some(count) = wanted.lines {
            (places.0, lines) = tail::last_lines_from(&files, places.0, places.1, count)?;
        }
        Ok(Piecewise { from, series, files, places, lines, wanted })
    }

    /// A series of which nothing is known yet.
    pub fn nothing(from: From, series: Series) -> Piecewise {
        let wanted = Wanted::default();
        Piecewise { from, series, files: Vec::new(), places: (tail::BEGIN, tail::BEGIN), lines: 0, wanted }
    }

    /// Whether nothing of it is wanted.
    pub fn is_empty(&self) -> bool {
        self.places.0 >= self.places.1
    }

    /// Whether its bytes are shown as they are in the files, unless a style asks for something else.
    pub fn is_as_it_came(&self) -> bool {
        !self.series.is_cri()
    }

    /// Copies it out as it is. What comes later is to go on where it ended.
    pub fn copy(&mut self, sink: &mut Sink) -> Result<()> {
        let (from, to) = self.places;
        let ends_open = tail::byte_before(&self.files, to)?.is_some_and(|b| b != b'\n');
        let out = sink.plain(ends_open.then_some(self.from));
        for (i, file) in self.files.iter().enumerate().take(to.file + 1).skip(from.file) {
            let begin = if i == from.file { from.offset } else { 0 };
            let end = if i == to.file { to.offset } else { file.length };
            out.copy(file, begin, end)?;
        }
        // Not at the end of an empty file: the one before it may still grow.
        let last = (from.file..=to.file).rev().find(|i| self.files.get(*i).is_some_and(|f| f.length > 0));
        let file = last.unwrap_or(from.file);
        let offset = if file == to.file { to.offset } else { self.files.get(file).map_or(0, |f| f.length) };
        self.places.0 = Place { file, offset };
        Ok(())
    }

    /// As a stream of lines.
    pub fn source(self, follow: bool) -> Result<Source> {
        let is_cri = self.series.is_cri();
        let inside = !is_cri && tail::byte_before(&self.files, self.places.0)?.is_some_and(|b| b != b'\n');
        let reader = Reader::new(self.series, self.files, self.places, follow);
        let records = if is_cri { Some(Records::new(&reader, self.wanted.window())?) } else { None };
        let mut source = Source::new(self.from, reader, records);
        if inside {
            source.set_continued();
        }
        Ok(source)
    }
}

/// Shows all whole lines that are there, the oldest first. Returns the sources that have a line without its end.
pub fn show_lines(sources: &mut [Source], sink: &mut Sink, long: Piece) -> Result<Vec<usize>> {
    loop {
        let mut begun = Vec::new();
        let mut first: Option<(u64, usize)> = None;
        let mut second = u64::MAX;
        for (i, source) in sources.iter_mut().enumerate() {
            match source.fill()? {
                Head::Line(time) => match first {
                    Some((earliest, _)) if time >= earliest => second = second.min(time),
                    _ => {
                        second = first.map_or(second, |(earliest, _)| earliest);
                        first = Some((time, i));
                    }
                },
                Head::Begun(_) => begun.push(i),
                Head::Nothing => {}
            }
        }
        let Some((_, i)) = first else { return Ok(begun) };
        if let Some(source) = sources.get_mut(i) {
            source.show(sink, second, long);
        }
    }
}

/// Shows all there is, then what is left without a line feed, oldest first.
pub fn show_all(sources: &mut [Source], sink: &mut Sink, long: Piece) -> Result<()> {
    let mut rest = Vec::new();
    for i in show_lines(sources, sink, long)? {
        if let Some(source) = sources.get_mut(i)
            && let Head::Begun(time) = source.fill()?
        {
            rest.push((time, i));
        }
    }
    rest.sort_unstable();
    for (_, i) in rest {
        if let Some(source) = sources.get_mut(i) {
            source.show_begun(sink, Piece::Last);
        }
    }
    sink.finish();
    Ok(())
}
