//! Standard output: the answer. A reader that has gone away ends us quietly with 0.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Writes to standard output. A closed pipe ends the program with 0; any other failure with 111 and a line.
pub fn print(text: Arguments<'_>) {
    settle(std::io::stdout().lock().write_fmt(text));
}

/// Writes bytes to standard output, as [`print()`] does.
pub fn bytes(bytes: &[u8]) {
    settle(std::io::stdout().lock().write_all(bytes));
}

/// Pushes out what is buffered.
pub fn flush() {
    settle(std::io::stdout().lock().flush());
}

/// What to do with the result of a write to standard output.
pub fn settle(result: std::io::Result<()>) {
    match result {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => {
            log::error!("write standard output: {}", super::error::os_reason(&e));
            std::process::exit(super::error::EXIT_RETRY.into());
        }
    }
}
