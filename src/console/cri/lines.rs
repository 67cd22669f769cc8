//! Lines out of records: each stream's parts kept apart until its line ends.

use super::{Decoder, Stream};

/// The line of one stream that has no end yet.
#[derive(Debug, Default)]
pub struct Open {
    /// What is there of it and was not yet shown.
    pub bytes: Vec<u8>,
    /// Its first record's Unix time in nanoseconds.
    pub nanos: u64,
    /// There is such a line.
    pub begun: bool,
    /// Its beginning was shown already.
    pub shown: bool,
}

impl Open {
    /// Its next record came at that time.
    pub fn begin(&mut self, nanos: u64) {
        if !std::mem::replace(&mut self.begun, true) {
            self.nanos = nanos;
        }
    }

    /// The line has ended.
    pub fn end(&mut self) {
        self.bytes.clear();
        self.begun = false;
        self.shown = false;
    }
}

/// The lines without an end, one a stream.
#[derive(Debug, Default)]
pub struct Lines {
    stdout: Open,
    stderr: Open,
    other: Open,
}

impl Lines {
    /// That of a stream.
    pub fn of(&mut self, stream: Stream) -> &mut Open {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
            Stream::Other => &mut self.other,
        }
    }

    /// The streams of which something is left to be shown, the one begun first before the others.
    pub fn rest(&mut self) -> Vec<Stream> {
        let mut streams = Vec::from(Stream::ALL);
        streams.retain(|stream| !self.of(*stream).bytes.is_empty());
        streams.sort_by_key(|stream| self.of(*stream).nanos);
        streams
    }
}

/// What the container wrote according to these records, in the order in which its lines ended; what has no end last.
pub fn contents(mut log: &[u8]) -> Vec<u8> {
    let (mut decoder, mut lines) = (Decoder::default(), Lines::default());
    let mut out = Vec::with_capacity(log.len());
    while let Some(record) = decoder.next(log, true) {
        let content = log.get(record.content).unwrap_or_default();
        let open = lines.of(record.stream);
        if record.ends {
            out.append(&mut open.bytes);
            out.extend_from_slice(content);
            open.end();
        } else {
            open.begin(record.nanos);
            open.bytes.extend_from_slice(content);
        }
        log = log.get(record.length..).unwrap_or_default();
    }
    for (i, stream) in lines.rest().into_iter().enumerate() {
        if i > 0 {
            out.push(b'\n');
        }
        out.append(&mut lines.of(stream).bytes);
    }
    out
}
