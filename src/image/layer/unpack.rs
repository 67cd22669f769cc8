//! A blob unpacked: plain, gzip or zstd, known by its first bytes, whatever its media type says.

#[cfg(test)]
mod tests;

use super::super::limits::{LAYER_MAX, RATIO_FREE, RATIO_MAX, ZSTD_WINDOW_MAX};
use super::super::oci::Packing;
use super::bad;
use super::stream::Fill;
use crate::sys::{Error, Result};
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::{FrameDecoderError, FrameHeaderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::Read;

/// Bytes read from the blob at once.
const CHUNK: usize = 256 << 10;

/// First bytes of what layers are not packed with.
const FOREIGN: [(&[u8], &str); 4] =
    [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK\x03\x04", "zip"), (b"\x04\x22\x4d\x18", "lz4")];

/// The unpacked bytes of a blob.
pub struct Unpack<R> {
    input: Input<R>,
    method: Method,
    given: u64,
}

enum Method {
    Plain,
    Gzip(Box<Decompress>, Member),
    Zstd(Box<FrameDecoder>, bool),
}

/// Where in a gzip file we are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Inside,
    /// One has ended; another may follow.
    Between,
    End,
}

impl<R: Read> Unpack<R> {
    /// Reads the first bytes of `from`. What they show counts; `packing` is what the media type says.
    pub fn new(from: R, packing: Packing) -> Result<Unpack<R>> {
        let mut input = Input { from, bytes: vec![0; CHUNK], start: 0, end: 0, taken: 0, ended: false };
        input.gather(512)?;
        let method = match detect(input.ready())? {
            Packing::Plain => Method::Plain,
            Packing::Gzip => Method::Gzip(Box::new(Decompress::new_gzip(15)), Member::Inside),
            Packing::Zstd => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(ZSTD_WINDOW_MAX);
                Method::Zstd(Box::new(decoder), false)
            }
        };
        let empty = input.ready().is_empty();
        if empty && packing != Packing::Plain {
            return Err(bad("is empty"));
        }
        Ok(Unpack { input, method, given: 0 })
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        match &mut self.method {
            Method::Plain => self.input.read(into).map_err(Error::os("read", "layer")),
            Method::Gzip(inflate, member) => gzip(&mut self.input, inflate, member, into),
            Method::Zstd(decoder, inside) => zstd(&mut self.input, decoder, inside, into),
        }
    }
}

impl<R: Read> Fill for Unpack<R> {
    fn fill(&mut self, into: &mut Vec<u8>) -> Result<()> {
        into.resize(into.capacity().max(512), 0);
        let mut length = 0;
        while length < into.len() {
            match self.read(&mut into[length..])? {
                0 => break,
                n => length += n,
            }
        }
        into.truncate(length);
        self.given += length as u64;
        if self.given > LAYER_MAX {
            return Err(bad(format!("more than {LAYER_MAX} bytes unpacked")));
        }
        if self.given > RATIO_FREE && self.given / RATIO_MAX > self.input.taken {
            return Err(bad(format!("unpacks to more than {RATIO_MAX} times its size")));
        }
        Ok(())
    }
}

/// How a blob that begins with `head` is packed.
fn detect(head: &[u8]) -> Result<Packing> {
    if head.starts_with(b"\x1f\x8b") {
        return Ok(Packing::Gzip);
    }
    if head.starts_with(b"\x28\xb5\x2f\xfd")
        || head.len() > 3 && head[0] & 0xf0 == 0x50 && head[1..4] == *b"\x2a\x4d\x18"
    {
        return Ok(Packing::Zstd);
    }
    if let Some((_, name)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(bad(format!("is packed with {name}; tar, gzip and zstd are what layers have")));
    }
    let tar = head.is_empty() || head.get(..512).is_some_and(super::tar::is_header_or_end);
    if tar { Ok(Packing::Plain) } else { Err(bad("is neither a tar nor packed with gzip or zstd")) }
}

fn gzip<R: Read>(
    input: &mut Input<R>,
    inflate: &mut Decompress,
    member: &mut Member,
    into: &mut [u8],
) -> Result<usize> {
    loop {
        match *member {
            Member::End => return Ok(0),
            Member::Between => {
                // Some writers pad with zeros. Anything else is another member or damage, which the inflater tells.
                while !input.more()?.is_empty() && input.ready()[0] == 0 {
                    let zeros = input.ready().iter().take_while(|b| **b == 0).count();
                    input.take(zeros);
                }
                if input.ready().is_empty() {
                    *member = Member::End;
                } else {
                    *inflate = Decompress::new_gzip(15);
                    *member = Member::Inside;
                }
            }
            Member::Inside => {
                let last = input.more()?.is_empty();
                let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
                let status = inflate
                    .decompress(input.ready(), into, FlushDecompress::None)
                    .map_err(|e| bad(format!("broken gzip: {}", e.message().unwrap_or("bad data"))))?;
                let (took, gave) = (inflate.total_in() - before_in, (inflate.total_out() - before_out) as usize);
                input.take(took as usize);
                if status == Status::StreamEnd {
                    *member = Member::Between;
                }
                if gave > 0 {
                    return Ok(gave);
                }
                if *member == Member::Inside && (last || took == 0) {
                    return Err(bad("broken gzip: ends too early"));
                }
            }
        }
    }
}

fn zstd<R: Read>(
    input: &mut Input<R>,
    decoder: &mut FrameDecoder,
    inside: &mut bool,
    into: &mut [u8],
) -> Result<usize> {
    loop {
        if !*inside {
            if input.more()?.is_empty() {
                return Ok(0);
            }
            match decoder.reset(&mut *input) {
                Ok(()) => *inside = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    input.skip(length.into())?;
                    continue;
                }
                Err(e) => return Err(zstd_error(input, e)),
            }
        }
        while decoder.can_collect() == 0 && !decoder.is_finished() {
            if let Err(e) = decoder.decode_blocks(&mut *input, BlockDecodingStrategy::UptoBlocks(1)) {
                return Err(zstd_error(input, e));
            }
        }
        match decoder.read(into).map_err(|e| bad(format!("broken zstd: {e}")))? {
            0 => *inside = false,
            n => return Ok(n),
        }
    }
}

fn zstd_error<R: Read>(input: &Input<R>, error: FrameDecoderError) -> Error {
    use FrameDecoderError as E;
    match error {
        E::WindowSizeTooBig { requested, .. }
        | E::FrameHeaderError(FrameHeaderError::WindowTooBig { got: requested }) => {
            bad(format!("asks for a zstd window of {requested} bytes; {ZSTD_WINDOW_MAX} is the most"))
        }
        _ if input.ended && input.ready().is_empty() => bad("broken zstd: ends too early"),
        e => bad(format!("broken zstd: {e}")),
    }
}

/// The blob, buffered.
struct Input<R> {
    from: R,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that were used.
    taken: u64,
    ended: bool,
}

impl<R: Read> Input<R> {
    fn ready(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn take(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        self.taken += count as u64;
    }

    /// At least one byte, but at the end.
    fn more(&mut self) -> Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.gather(1)?;
        }
        Ok(self.ready())
    }

    /// Reads until `count` bytes are there; fewer only at the end.
    fn gather(&mut self, count: usize) -> Result<()> {
        while self.end - self.start < count && !self.ended {
            match self.from.read(&mut self.bytes[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::os("read", "layer")(e)),
            }
        }
        Ok(())
    }

    fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let here = self.more()?.len() as u64;
            if here == 0 {
                return Err(bad("broken zstd: ends too early"));
            }
            self.take(here.min(count) as usize);
            count -= here.min(count);
        }
        Ok(())
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let ready = self.more().map_err(std::io::Error::other)?;
        let count = ready.len().min(into.len());
        into[..count].copy_from_slice(&ready[..count]);
        self.take(count);
        Ok(count)
    }
}
