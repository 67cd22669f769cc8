//! What a line looks like on its way out: prefix, time, harmless or as it is, or JSON.

use super::output::Output;
use crate::console::cri::Stream;
use crate::console::harmless;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// A line that has no end within so many bytes is shown in parts where lines have to stay whole.
pub const PART: usize = 64 << 10;
const GOES_ON: &[u8] = b" [line goes on]\n";
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "31"];

/// How lines are shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Each with its time.
    pub timestamps: bool,
    /// With nothing in it that a terminal acts on.
    pub sanitize: bool,
    /// Each as a JSON object.
    pub json: bool,
    /// Prefixes in colour.
    pub colour: bool,
}

/// Which stream of lines: the source, and the component it belongs to. What is from one goes on one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct From {
    /// Position among the sources.
    pub source: usize,
    /// Position among the components.
    pub component: usize,
    /// Which of a container's; [`Stream::Other`] for all else.
    pub stream: Stream,
}

impl From {
    /// Source number `source`, of component number `component`.
    pub fn new(source: usize, component: usize) -> From {
        From { source, component, stream: Stream::Other }
    }
}

#[derive(Debug)]
struct Component {
    name: String,
    prefix: Vec<u8>,
    /// So many lines are not shown.
    skip: u64,
}

/// What kind of a piece of a line it is that has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// More of it is to come, and may follow at once.
    Begun,
    /// It is too long, and others must not wait for its end.
    Cut,
    /// Nothing more comes.
    Last,
}

/// Where lines go.
#[derive(Debug)]
pub struct Sink {
    out: Output,
    style: Style,
    components: Vec<Component>,
    /// Whose line stands there without its end.
    open: Option<From>,
    stamp: Stamp,
    header: Vec<u8>,
}

impl Sink {
    /// Shows lines of these components; with prefixes when they are more than one.
    pub fn new(style: Style, names: &[String]) -> Sink {
        let mut sink = Sink {
            out: Output::new(),
            style,
            components: Vec::new(),
            open: None,
            stamp: Stamp::default(),
            header: Vec::new(),
        };
        for name in names {
            sink.add(name);
        }
        sink
    }

    /// One more component.
    pub fn add(&mut self, name: &str) {
        self.components.push(Component { name: name.to_string(), prefix: Vec::new(), skip: 0 });
        if self.components.len() < 2 || self.style.json {
            return;
        }
        let width = self.components.iter().map(|c| c.name.len()).max().unwrap_or(0);
        for (component, colour) in self.components.iter_mut().zip(COLOURS.iter().cycle()) {
            let name = &component.name;
            component.prefix = match self.style.colour {
                true => format!("\x1b[{colour}m{name:width$} |\x1b[0m "),
                false => format!("{name:width$} | "),
            }
            .into_bytes();
        }
    }

    /// Leaves out the next `count` lines of a component.
    pub fn skip(&mut self, component: usize, count: u64) {
        if let Some(c) = self.components.get_mut(component) {
            c.skip = count;
        }
    }

    /// Whether bytes go out as they come.
    pub fn is_plain(&self) -> bool {
        !(self.style.timestamps || self.style.sanitize || self.style.json) && self.components.len() < 2
    }

    /// Standard output itself, for bytes that go out as they are. `ends_open`: they end inside a line of that stream.
    pub fn plain(&mut self, ends_open: Option<From>) -> &mut Output {
        self.open = ends_open;
        &mut self.out
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) {
        self.out.flush();
    }

    /// Ends the line that stands there without its end, unless `from` is to go on with it.
    fn close_but(&mut self, from: From) -> bool {
        if self.open == Some(from) {
            return true;
        }
        if self.open.take().is_some() {
            self.out.buf().push(b'\n');
        }
        false
    }

    /// Shows lines that came at one time: whole ones, each with its line feed. `continued`: the first one is the rest of
    /// a line whose beginning was a piece.
    pub fn lines(&mut self, from: From, nanos: u64, mut lines: &[u8], continued: bool) {
        let Some(component) = self.components.get_mut(from.component) else { return };
        while component.skip > 0 && !lines.is_empty() {
            component.skip -= 1;
            lines = lines.get(line_length(lines)..).unwrap_or_default();
        }
        if lines.is_empty() {
            return;
        }
        if self.close_but(from) && continued && !self.style.json {
            let length = line_length(lines);
            let (first, rest) = lines.split_at(length);
            self.content(first.strip_suffix(b"\n").unwrap_or(first), true);
            self.out.buf().push(b'\n');
            lines = rest;
        }
        self.open = None;
        if self.style.json {
            for line in lines.split_inclusive(|b| *b == b'\n') {
                self.object(from, nanos, line.strip_suffix(b"\n").unwrap_or(line), false);
            }
            return;
        }
        if self.is_plain() {
            self.out.bytes(lines);
            return;
        }
        self.set_header(from, nanos);
        let mut at = 0;
        for end in memchr::memchr_iter(b'\n', lines) {
            let line = lines.get(at..end).unwrap_or_default();
            at = end + 1;
            let buf = self.out.buf();
            buf.extend_from_slice(&self.header);
            match self.style.sanitize {
                true => harmless::push(buf, harmless::without_returns(line)),
                false => buf.extend_from_slice(line),
            }
            buf.push(b'\n');
            self.out.flush_if_full();
        }
    }

    /// Shows part of a line that has no end yet, and tells how many bytes of it: the others are to come again with what
    /// follows.
    pub fn piece(&mut self, from: From, nanos: u64, bytes: &[u8], continued: bool, kind: Piece) -> usize {
        if self.components.get(from.component).is_none_or(|c| c.skip > 0) {
            return bytes.len();
        }
        let holds_back = kind != Piece::Last && (self.style.sanitize || self.style.json);
        let length = match harmless::showable(bytes) {
            // A line that is long is shown on in any case.
            _ if !holds_back || bytes.len() >= PART => bytes.len(),
            0 => return 0,
            length => length,
        };
        let bytes = bytes.get(..length).unwrap_or(bytes);
        if self.style.json {
            self.object(from, nanos, bytes, kind != Piece::Last);
            return length;
        }
        if !(self.close_but(from) && continued) {
            self.set_header(from, nanos);
            self.out.buf().extend_from_slice(&self.header);
        }
        self.content(bytes, kind == Piece::Last);
        self.open = Some(from);
        if kind == Piece::Cut {
            self.out.buf().extend_from_slice(GOES_ON);
            self.open = None;
        }
        length
    }

    /// Nothing more comes: a line without an end gets one, except where bytes go out as they come.
    pub fn finish(&mut self) {
        if self.open.take().is_some() && !self.is_plain() {
            self.out.buf().push(b'\n');
        }
        self.out.flush();
    }

    fn content(&mut self, bytes: &[u8], ends: bool) {
        match self.style.sanitize {
            true => harmless::push(self.out.buf(), if ends { harmless::without_returns(bytes) } else { bytes }),
            false => self.out.bytes(bytes),
        }
        self.out.flush_if_full();
    }

    fn set_header(&mut self, from: From, nanos: u64) {
        self.header.clear();
        if let Some(component) = self.components.get(from.component) {
            self.header.extend_from_slice(&component.prefix);
        }
        if self.style.timestamps {
            self.header.extend_from_slice(self.stamp.text(nanos));
            self.header.push(b' ');
        }
    }

    fn object(&mut self, from: From, nanos: u64, line: &[u8], partial: bool) {
        let name = self.components.get(from.component).map_or("", |c| &c.name);
        let buf = self.out.buf();
        buf.extend_from_slice(b"{\"time\":\"");
        buf.extend_from_slice(self.stamp.text(nanos));
        buf.extend_from_slice(b"\",\"component\":\"");
        buf.extend_from_slice(name.as_bytes());
        if let Some(stream) = from.stream.name() {
            buf.extend_from_slice(b"\",\"stream\":\"");
            buf.extend_from_slice(stream.as_bytes());
        }
        buf.extend_from_slice(b"\",\"line\":\"");
        let line = if partial { line } else { harmless::without_returns(line) };
        match line.iter().all(|b| matches!(b, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
            true => buf.extend_from_slice(line),
            false => push_json(buf, &String::from_utf8_lossy(line)),
        }
        buf.extend_from_slice(if partial { b"\",\"partial\":true}\n" } else { b"\"}\n" });
        self.out.flush_if_full();
    }

    /// The descriptor of standard output, to learn whether its reader has gone.
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.out.fd()
    }
}

fn line_length(lines: &[u8]) -> usize {
    memchr::memchr(b'\n', lines).map_or(lines.len(), |i| i + 1)
}

/// The inside of a JSON string. Beyond what JSON demands, what a terminal must not get is escaped too.
fn push_json(buf: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    let special = |c: char| matches!(c, '"' | '\\' | '\t') || harmless::is_harmful(c);
    while let Some(at) = rest.find(special) {
        let (before, after) = rest.split_at(at);
        buf.extend_from_slice(before.as_bytes());
        let mut characters = after.chars();
        match characters.next() {
            Some('"') => buf.extend_from_slice(b"\\\""),
            Some('\\') => buf.extend_from_slice(b"\\\\"),
            Some('\t') => buf.extend_from_slice(b"\\t"),
            // All harmful ones are below U+10000.
            Some(c) => buf.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            None => {}
        }
        rest = characters.as_str();
    }
    buf.extend_from_slice(rest.as_bytes());
}

/// The text of a time, formatted anew only when it has changed.
#[derive(Debug, Default)]
struct Stamp {
    millis: Option<u64>,
    text: String,
}

impl Stamp {
    /// RFC 3339, UTC, to the millisecond.
    fn text(&mut self, nanos: u64) -> &[u8] {
        let millis = nanos / 1_000_000;
        if self.millis != Some(millis) {
            self.millis = Some(millis);
            self.text.clear();
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            // A u64 of nanoseconds ends in 2554, and the formatter's years in 9999.
            let _ = write!(self.text, "{}", humantime::format_rfc3339_millis(time));
        }
        self.text.as_bytes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_read_back() {
        for text in ["plain", "a\"b\\c\td\u{1b}[0m\u{9b}\u{202e}\u{7f}\0", "Grüße 👋", ""] {
            let mut buf = vec![b'"'];
            push_json(&mut buf, text);
            buf.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&buf).unwrap(), text);
            assert!(!std::str::from_utf8(&buf).unwrap().chars().any(harmless::is_harmful));
        }
    }

    #[test]
    fn stamps() {
        let mut stamp = Stamp::default();
        assert_eq!(stamp.text(1_764_000_000_123_999_999), b"2025-11-24T16:00:00.123Z");
        assert_eq!(stamp.text(1_764_000_000_124_000_000), b"2025-11-24T16:00:00.124Z");
        assert_eq!(stamp.text(0), b"1970-01-01T00:00:00.000Z");
        assert_eq!(stamp.text(u64::MAX), b"2554-07-21T23:34:33.709Z");
    }
}
