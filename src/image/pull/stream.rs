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

/// What is handed on at once.
pub(super) const CHUNK: usize = 256 << 10;

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

/// Reads until `buffer` is full or `most` bytes are there, so that what follows works on large pieces. How many bytes
/// came, and whether they ended: as they should, or of an error.
fn fill(reader: &mut dyn Read, buffer: &mut [u8], most: u64) -> (usize, Option<std::io::Result<()>>) {
    let limit = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    let mut n = 0;
    while n < limit {
        match reader.read(buffer.get_mut(n..limit).unwrap_or_default()) {
            Ok(0) => return (n, Some(Ok(()))),
            Ok(more) => n += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return (n, Some(Err(e))),
        }
    }
    (n, None)
}
