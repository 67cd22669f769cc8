//! That somebody else's work goes on: one line with the time that it takes, written again on a terminal each second, and
//! one after the other into a log.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What is done by then shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the line is written.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a log gets one.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// Columns of it, at most.
const WIDTH: usize = 79;

/// Does `work` and shows that it goes on: `VERB, 3 s: NAME`.
pub(super) fn during<T>(verb: &str, name: &str, work: impl FnOnce() -> T) -> T {
    let is_terminal = std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        let (done, wait) = channel::<()>();
        let ticker = std::thread::Builder::new().spawn_scoped(scope, move || {
            let (began, mut taken) = (Instant::now(), 0);
            let mut pause = if is_terminal { PATIENCE } else { LOG_INTERVAL };
            while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(pause) {
                let line: String = format!("{verb}, {} s: {name}", began.elapsed().as_secs());
                let line: String = line.chars().filter(|c| !c.is_control()).take(WIDTH).collect();
                if !is_terminal {
                    put(format_args!("{}: {line}\n", crate::cmd::program()));
                    continue;
                }
                taken = line.chars().count();
                put(format_args!("\r{line}"));
                pause = INTERVAL;
            }
            if taken > 0 {
                put(format_args!("\r{:taken$}\r", ""));
            }
        });
        let result = work();
        drop(done);
        if let Ok(ticker) = ticker {
            let _ = ticker.join();
        }
        result
    })
}

fn put(text: std::fmt::Arguments<'_>) {
    // Nobody to tell, should it be closed.
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}
