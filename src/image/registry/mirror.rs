//! The body of a blob from a mirror. One that breaks off, ends early or hardly comes is the mirror's last of this pull.

use super::Registry;
use crate::sys::Error;
use std::io::{self, ErrorKind, Read};
use std::time::Instant;

/// Fewer bytes in a second are too few.
const RATE_MIN: u128 = 4096;

/// See the module.
pub(super) struct Body {
    registry: Registry,
    /// Which of its mirrors.
    mirror: usize,
    inner: Box<dyn Read + Send>,
    /// Bytes that are still to come.
    rest: u64,
    /// Since when the rate is measured, and the bytes since then. It is measured over the longest silence that is borne.
    since: Instant,
    came: u64,
}

impl Body {
    pub fn new(registry: Registry, mirror: usize, inner: Box<dyn Read + Send>, rest: u64) -> Body {
        Body { registry, mirror, inner, rest, since: Instant::now(), came: 0 }
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(into).and_then(|n| {
            self.rest = self.rest.saturating_sub(n as u64);
            self.came += n as u64;
            let elapsed = self.since.elapsed();
            if n == 0 && !into.is_empty() && self.rest > 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed before the end"));
            }
            if elapsed >= self.registry.0.client.patience.silence {
                if u128::from(self.came) * 1000 < RATE_MIN * elapsed.as_millis() && self.rest > 0 {
                    let told = format!("only {} bytes came in {elapsed:.1?}", self.came);
                    return Err(io::Error::new(ErrorKind::TimedOut, told));
                }
                (self.since, self.came) = (Instant::now(), 0);
            }
            Ok(n)
        });
        match (&result, self.registry.0.mirrors.get(self.mirror)) {
            (Err(e), Some(mirror)) if e.kind() != ErrorKind::Interrupted => {
                mirror.fails(&Error::busy(&self.registry.0.named, e.to_string()));
            }
            _ => {}
        }
        result
    }
}
