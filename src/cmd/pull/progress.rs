//! Progress: on a terminal one line, written again at most ten times a second; in a log a line now and then.

use crate::image::pull::{Meter, Reading};
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often the line is written.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often a log gets a line.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// A pull that is done by then shows none.
const PATIENCE: Duration = Duration::from_millis(300);
/// The rate is that of so long.
const RATE_OVER: Duration = Duration::from_secs(3);
/// Columns of a terminal that says nothing.
const COLUMNS: usize = 80;

/// What is shown.
pub(super) struct Shown {
    pub(super) quiet: bool,
    /// The image's name.
    pub(super) name: String,
}

/// Does `work` and shows how far it is.
pub(super) fn during<T>(shown: &Shown, meter: &Meter, work: impl FnOnce() -> T) -> T {
    if shown.quiet {
        return work();
    }
    let is_terminal = std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        let (done, wait) = channel::<()>();
        let ticker = std::thread::Builder::new().spawn_scoped(scope, move || {
            let mut line = Line::new(&shown.name);
            let mut pause = if is_terminal { PATIENCE } else { LOG_INTERVAL };
            let mut before = 0;
            while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(pause) {
                let reading = meter.read();
                if !is_terminal {
                    let rate = (reading.fetched - before) / LOG_INTERVAL.as_secs();
                    put(format_args!("{}: {}: {}\n", crate::cmd::program(), shown.name, text(&reading, rate)));
                    before = reading.fetched;
                    continue;
                }
                line.show(&reading);
                pause = INTERVAL;
            }
            line.clear();
        });
        let result = work();
        drop(done);
        if let Ok(ticker) = ticker {
            let _ = ticker.join();
        }
        result
    })
}

struct Line<'a> {
    name: &'a str,
    width: usize,
    /// Columns that it takes now.
    taken: usize,
    /// Bytes at some points in time, the oldest first.
    past: Vec<(Instant, u64)>,
}

impl<'a> Line<'a> {
    fn new(name: &'a str) -> Line<'a> {
        Line { name, width: columns(), taken: 0, past: Vec::new() }
    }

    fn show(&mut self, reading: &Reading) {
        let now = Instant::now();
        self.past.push((now, reading.fetched));
        let old = self.past.iter().take_while(|(at, _)| now.duration_since(*at) > RATE_OVER).count();
        self.past.drain(..old);
        let rate = match self.past.first() {
            Some((at, bytes)) if now > *at => (reading.fetched - bytes) as f64 / now.duration_since(*at).as_secs_f64(),
            _ => 0.0,
        };
        // The name gives way first, then all is cut: a line that wraps could not be written again.
        let text = text(reading, rate as u64);
        let room = self.width.saturating_sub(text.len() + 3);
        let mut line: String = match self.name.chars().count() <= room {
            true => format!("{}: {text}", self.name),
            false => text,
        };
        line = line.chars().take(self.width.saturating_sub(1)).collect();
        let blank = self.taken.saturating_sub(line.chars().count());
        self.taken = line.chars().count();
        put(format_args!("\r{line}{:blank$}", ""));
    }

    fn clear(&mut self) {
        if self.taken > 0 {
            put(format_args!("\r{:1$}\r", "", self.taken));
        }
    }
}

fn text(reading: &Reading, rate: u64) -> String {
    let layers = format!("layer {} of {}", reading.layers_fetched, reading.layers);
    let bytes = format!("{} of {}", bytes(reading.fetched), bytes(reading.wanted.max(reading.fetched)));
    format!("{bytes}, {layers}, {}/s", self::bytes(rate))
}

fn put(text: std::fmt::Arguments<'_>) {
    // Nobody to tell, should it be closed.
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}

fn columns() -> usize {
    // SAFETY: all-zero is a valid winsize, which outlives the call.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let asked = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    match (asked, size.ws_col) {
        (0, 1..) => size.ws_col.into(),
        _ => COLUMNS,
    }
}

/// `5.2 MB`: units of 1000, as networks have them.
pub(super) fn bytes(n: u64) -> String {
    if n < 1000 {
        return format!("{n} B");
    }
    let mut shown = n as f64 / 1000.0;
    let mut unit = "kB";
    for next in ["MB", "GB", "TB"] {
        // It would be rounded to a thousand.
        if shown < 999.95 {
            break;
        }
        (shown, unit) = (shown / 1000.0, next);
    }
    format!("{shown:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        for (n, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (5_242_880, "5.2 MB"),
            (205_300_000, "205.3 MB"),
            (4_000_000_000_000_000, "4000.0 TB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        let reading = Reading { fetched: 1_500_000, wanted: 5_000_000, total: 9_000_000, layers_fetched: 2, layers: 3 };
        assert_eq!(text(&reading, 2_000_000), "1.5 MB of 5.0 MB, layer 2 of 3, 2.0 MB/s");
    }
}
