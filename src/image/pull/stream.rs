//! The bytes of a blob from its source, taken up where they broke off.

use crate::image::oci::{Descriptor, Layer};
use crate::image::source::Source;
use crate::sys::{Deadline, Error, Result};
use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// So often it is tried again without a byte of progress.
const TRIES_MAX: u32 = 5;
/// The first pause before that; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What is handed on at once, where it comes fast.
pub(super) const CHUNK: usize = 256 << 10;
/// Where it comes slowly, it is handed on after so long.
const LINGER: Duration = Duration::from_millis(100);

/// Hands all bytes of the layer's blob from `from` on to `sink`, in order. A break is mended: the rest is asked for
/// again, as long as there is progress. `stop` ends it early.
pub(super) fn stream(
    source: &mut dyn Source,
    layer: &Layer,
    from: u64,
    deadline: Deadline,
    stop: &AtomicBool,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let what = Descriptor {
        media_type: String::new(),
        digest: layer.blob,
        size: layer.size,
        platform: None,
        annotations: Default::default(),
    };
    let mut buffer = vec![0; CHUNK];
    let mut at = from;
    let mut tries = 0;
    while at < layer.size {
        let began = at;
        let broken = match source.blob(&what, at, deadline) {
            Ok(blob) if blob.from > at => {
                return Err(Error::refused(layer.blob, format!("asked from byte {at} on, came from {}", blob.from)));
            }
            Ok(blob) => {
                let mut skip = at - blob.from;
                let mut reader = blob.reader;
                loop {
                    if stop.load(Ordering::Relaxed) {
                        return Err(Error::busy(layer.blob, "another layer failed"));
                    }
                    if deadline.passed() {
                        return Err(late(layer, at));
                    }
                    let (n, end) = fill(&mut *reader, &mut buffer, skip + (layer.size - at));
                    let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(n);
                    skip -= skipped as u64;
                    let fresh = buffer.get(skipped..n).unwrap_or_default();
                    if !fresh.is_empty() {
                        sink(fresh)?;
                        at += fresh.len() as u64;
                    }
                    if at >= layer.size {
                        return Ok(());
                    }
                    match end {
                        Some(Err(e)) => break Error::os("fetch", layer.blob)(e),
                        Some(Ok(())) => {
                            let reason = format!("broke off after {at} of {} bytes", layer.size);
                            break Error::busy(layer.blob, reason);
                        }
                        None => {}
                    }
                }
            }
            Err(e) if e.exit_code() == crate::sys::error::EXIT_RETRY => e,
            Err(e) => return Err(e),
        };
        tries = if at > began { 0 } else { tries + 1 };
        if tries == TRIES_MAX {
            return Err(broken);
        }
        log::info!("{broken}; trying again from byte {at}");
        let pause = FIRST_PAUSE * 2_u32.pow(tries);
        if pause > deadline.left() {
            return Err(if deadline.passed() { late(layer, at) } else { broken });
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

fn late(layer: &Layer, at: u64) -> Error {
    let reason =
        format!("only {at} of {} bytes have come in the time allowed; the next pull goes on there", layer.size);
    Error::busy(layer.blob, reason)
}

/// Reads until `buffer` is full, `most` bytes are there or some time has passed, so that what follows works on large
/// pieces. How many bytes came, and whether they ended: as they should, or of an error.
fn fill(reader: &mut dyn Read, buffer: &mut [u8], most: u64) -> (usize, Option<std::io::Result<()>>) {
    let limit = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    let mut n = 0;
    let linger = Deadline::after(LINGER);
    while n < limit && (n == 0 || !linger.passed()) {
        match reader.read(buffer.get_mut(n..limit).unwrap_or_default()) {
            Ok(0) => return (n, Some(Ok(()))),
            Ok(more) => n += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return (n, Some(Err(e))),
        }
    }
    (n, None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::image::oci::Packing;
    use crate::image::source::Blob;
    use crate::model::Digest;
    use std::io::Cursor;

    const BYTES: &[u8] = b"0123456789abcdefghij";

    /// Gives so many bytes at each try, from where it was asked to or from 0; then an error of that kind.
    struct Drips {
        pieces: Vec<(usize, Option<ErrorKind>)>,
        ranges: bool,
        asked: Vec<u64>,
    }

    struct Piece(Cursor<Vec<u8>>, Option<ErrorKind>);

    impl Read for Piece {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match (self.0.read(into)?, self.1) {
                (0, Some(kind)) if !into.is_empty() => Err(kind.into()),
                (n, _) => Ok(n),
            }
        }
    }

    impl Source for Drips {
        fn resolve(&mut self, _: Deadline) -> Result<Descriptor> {
            Err(Error::refused("x", "not asked"))
        }

        fn document(&mut self, _: &Descriptor, _: Deadline) -> Result<Vec<u8>> {
            Err(Error::refused("x", "not asked"))
        }

        fn blob(&mut self, _: &Descriptor, from: u64, _: Deadline) -> Result<Blob> {
            self.asked.push(from);
            let (length, end) = match self.pieces.is_empty() {
                true => return Err(Error::busy("x", "away")),
                false => self.pieces.remove(0),
            };
            let from = if self.ranges { from } else { 0 };
            let rest = &BYTES[usize::try_from(from).unwrap()..];
            let piece = rest[..length.min(rest.len())].to_vec();
            Ok(Blob { from, reader: Box::new(Piece(Cursor::new(piece), end)) })
        }

        fn again(&self) -> Option<Box<dyn Source + Send>> {
            None
        }
    }

    fn drain(drips: &mut Drips, from: u64, limit: Duration) -> (Result<()>, Vec<u8>) {
        let digest = Digest::of(BYTES);
        let layer = Layer { blob: digest, size: BYTES.len() as u64, packing: Packing::Plain, diff_id: digest };
        let mut got = Vec::new();
        let deadline = Deadline::after(limit);
        let done = stream(drips, &layer, from, deadline, &AtomicBool::new(false), &mut |bytes| {
            got.extend_from_slice(bytes);
            Ok(())
        });
        (done, got)
    }

    #[test]
    fn breaks_are_mended_where_they_are() {
        for ranges in [true, false] {
            let pieces = vec![(3, None), (7, Some(ErrorKind::ConnectionReset)), (99, None)];
            let mut drips = Drips { pieces, ranges, asked: Vec::new() };
            let (done, got) = drain(&mut drips, 2, Duration::from_secs(20));
            done.unwrap();
            assert_eq!(got, &BYTES[2..]);
            // Without ranges the first piece ends at 3, the second at 7.
            assert_eq!(drips.asked, if ranges { [2, 5, 12] } else { [2, 3, 7] });
        }
    }

    #[test]
    fn it_gives_up_without_progress_or_time() {
        let mut none = Drips { pieces: Vec::new(), ranges: true, asked: Vec::new() };
        let (done, _) = drain(&mut none, 0, Duration::from_millis(700));
        assert_eq!(done.unwrap_err().to_string(), "x: away");
        assert!((2..=3).contains(&none.asked.len()), "{:?}", none.asked);
        let mut little = Drips { pieces: vec![(1, None)], ranges: true, asked: Vec::new() };
        let (done, got) = drain(&mut little, 0, Duration::ZERO);
        assert!(done.unwrap_err().to_string().contains("in the time allowed"));
        assert!(got.is_empty());
    }
}
