//! Keeps a boot record small, whatever happens: a foundation may wait for days, and a guest may say anything.

use super::{BootRecord, Component, Event, Kind, LeftOut, SIZE_MAX};
use crate::sys::{Error, Result};

/// How many of a component's first events are kept, and how many of its last.
const FIRST: usize = 8;
const LAST: usize = 24;

/// The same where the record as a whole would be too large, in the order they are tried.
const SMALLER: [(usize, usize); 3] = [(3, 6), (1, 2), (0, 1)];

/// The longest text of an event, in bytes.
pub const TEXT_MAX: usize = 240;

impl Component {
    /// Adds what happened at `at_ms`. A state that lasts is one event: the same complaint again is none.
    pub(super) fn push(&mut self, at_ms: u64, kind: Kind, text: &str) {
        let text = cut(text);
        let lasts = matches!(kind, Kind::Unhealthy | Kind::Warned);
        if lasts && self.events.last().is_some_and(|e| e.kind == kind && e.text == text) {
            return;
        }
        match kind {
            Kind::Retry => self.retries = self.retries.saturating_add(1),
            Kind::Died => self.deaths = self.deaths.saturating_add(1),
            _ => {}
        }
        self.events.push(Event { at_ms, kind, text });
        self.keep(FIRST, LAST);
    }

    fn keep(&mut self, first: usize, last: usize) {
        let too_many = self.events.len().saturating_sub(first + last);
        if too_many > 0 {
            self.events.drain(first..first + too_many);
            let before = self.left_out.map_or(0, |l| l.count);
            let count = before.saturating_add(u32::try_from(too_many).unwrap_or(u32::MAX));
            self.left_out = Some(LeftOut { after: first, count });
        }
    }
}

/// `text` with at most [`TEXT_MAX`] bytes.
fn cut(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return text.to_string();
    }
    let mut end = TEXT_MAX - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// The record as bytes of a file that can be read back, with fewer events where it would be too large.
pub(super) fn to_bytes(record: &BootRecord) -> Result<Vec<u8>> {
    within(record, SIZE_MAX)
}

/// The same in at most `limit` bytes.
pub(super) fn within(record: &BootRecord, limit: u64) -> Result<Vec<u8>> {
    let refuse = |why: String| Error::refused("boot record", why);
    let write = |record: &BootRecord| serde_json::to_vec(record).map_err(|e| refuse(e.to_string()));
    let fits = |bytes: &Vec<u8>| bytes.len() as u64 <= limit;
    let whole = write(record)?;
    if fits(&whole) {
        return Ok(whole);
    }
    let mut smaller = record.clone();
    for (first, last) in SMALLER {
        smaller.stages.iter_mut().flat_map(|s| &mut s.components).for_each(|c| c.keep(first, last));
        let bytes = write(&smaller)?;
        if fits(&bytes) {
            return Ok(bytes);
        }
    }
    Err(refuse(format!("larger than {limit} bytes even with one event a component")))
}
