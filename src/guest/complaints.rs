//! What QEMU says on standard error, for the supervisor's log. A guest may be able to make QEMU say things without end, so
//! no more than a few lines a second go there.

use std::time::{Duration, Instant};

/// Lines that may come at once.
const BURST: u32 = 32;
/// The time after which there is room for one more.
const ONE_MORE: Duration = Duration::from_millis(250);
/// The most of a line, in characters.
const LINE_MAX: usize = 300;

/// How much may be said, and what was not.
#[derive(Debug)]
pub struct Complaints {
    room: u32,
    /// Since when `room` is that.
    since: Instant,
    dropped: u64,
}

impl Default for Complaints {
    fn default() -> Complaints {
        Complaints { room: BURST, since: Instant::now(), dropped: 0 }
    }
}

impl Complaints {
    /// Logs the lines of `bytes` for which there is room, and how many there were without it.
    pub fn log(&mut self, bytes: &[u8]) {
        self.take(bytes, Instant::now(), |line| log::warn!("qemu: {line}"));
    }

    /// QEMU has ended: logs how many lines were dropped since the last one.
    pub fn end(&mut self) {
        self.tell_dropped(&mut |line| log::warn!("qemu: {line}"));
    }

    fn take(&mut self, bytes: &[u8], now: Instant, mut say: impl FnMut(&str)) {
        while self.room < BURST && now.duration_since(self.since) >= ONE_MORE {
            self.room += 1;
            self.since += ONE_MORE;
        }
        if self.room == BURST {
            self.since = now;
        }
        for line in String::from_utf8_lossy(bytes).lines() {
            if self.room == 0 {
                self.dropped += 1;
                continue;
            }
            self.room -= 1;
            self.tell_dropped(&mut say);
            say(&line.chars().filter(|c| !c.is_control()).take(LINE_MAX).collect::<String>());
        }
    }

    fn tell_dropped(&mut self, say: &mut impl FnMut(&str)) {
        match std::mem::take(&mut self.dropped) {
            0 => {}
            dropped => say(&format!("{dropped} lines dropped")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_what_was_dropped_is_counted() {
        let mut complaints = Complaints::default();
        let began = Instant::now();
        let mut said = Vec::new();
        let mut at = |ms: u64, text: &str| {
            said.clear();
            complaints.take(text.as_bytes(), began + Duration::from_millis(ms), |line| said.push(line.to_string()));
            said.clone()
        };
        assert_eq!(at(0, "one\ntwo\x1b[1m\n"), ["one", "two[1m"]);
        assert_eq!(at(1, &"flood\n".repeat(1000)).len(), BURST as usize - 2);
        assert_eq!(at(2, "more\n"), [""; 0]);
        assert_eq!(at(300, "later\nlatest\n"), ["971 lines dropped", "later"]);
        assert_eq!(at(100_000, &"flood\n".repeat(1000)).len(), BURST as usize + 1);
        complaints.end();
        assert_eq!(complaints.dropped, 0);
    }
}
