//! Unpacks in a thread of its own, so that digest, copy and tar take no time beside it.

use super::stream::{BUFFER, Fill};
use crate::sys::{Error, Result};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Buffers on their way: one being filled, one being read, one between them.
const BUFFERS: usize = 3;

/// What another [`Fill`] gives, prepared ahead.
pub struct Ahead {
    full: Receiver<Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    ended: bool,
}

impl Ahead {
    /// Starts the thread. It ends with `from`, or when nobody reads any more.
    pub fn new(mut from: impl Fill + Send + 'static) -> Result<Ahead> {
        let (to_reader, full) = sync_channel(BUFFERS);
        let (empty, to_filler) = sync_channel::<Vec<u8>>(BUFFERS);
        for _ in 0..BUFFERS {
            let _ = empty.send(Vec::with_capacity(BUFFER));
        }
        let fill = move || {
            for mut buffer in to_filler {
                let filled = from.fill(&mut buffer);
                let last = filled.is_err() || buffer.is_empty();
                if to_reader.send(filled.map(|()| buffer)).is_err() || last {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("unpack".into()).spawn(fill).map_err(Error::os("start", "thread"))?;
        Ok(Ahead { full, empty, ended: false })
    }
}

impl Fill for Ahead {
    fn fill(&mut self, into: &mut Vec<u8>) -> Result<()> {
        if self.ended {
            into.clear();
            return Ok(());
        }
        // A thread that is gone has panicked, and told nobody.
        let next = self.full.recv().unwrap_or_else(|_| Err(super::bad("could not be unpacked")))?;
        self.ended = next.is_empty();
        let used = std::mem::replace(into, next);
        if used.capacity() >= BUFFER {
            let _ = self.empty.send(used);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::stream::Stream;
    use super::*;

    #[test]
    fn nothing_is_lost_and_errors_come_where_they_were() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 3) as u8).collect();
        let leaked: &'static [u8] = bytes.clone().leak();
        let stream = Stream::new(Ahead::new(leaked).unwrap(), None);
        assert_eq!(stream.finish().unwrap(), (crate::model::Digest::of(&bytes), bytes.len() as u64));
        struct Failing(u32);
        impl Fill for Failing {
            fn fill(&mut self, into: &mut Vec<u8>) -> Result<()> {
                self.0 += 1;
                into.resize(10, 0);
                if self.0 > 5 { Err(Error::refused("layer", "cut")) } else { Ok(()) }
            }
        }
        let mut stream = Stream::new(Ahead::new(Failing(0)).unwrap(), None);
        stream.skip(50).unwrap();
        assert_eq!(stream.skip(1).unwrap_err().to_string(), "layer: cut");
        // Given up half way: the thread ends, whatever it has.
        drop(Ahead::new(leaked).unwrap());
    }
}
