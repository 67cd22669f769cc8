//! How a container ended, from what podman and we saw.

use crate::model::state::{End, EndedBy, Rung};
use crate::sys::time;

/// What podman knows of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The code that conmon wrote down: the program's, or 128 and the signal that ended it.
    Code(i32),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// Somebody has removed the container.
    Removed,
    /// Its conmon was killed, and what was left of it had to be.
    Orphaned,
    /// It never ran.
    NeverRan,
    /// Podman does not answer.
    Nothing,
}

/// Draws the conclusion. `stopped`: the rung that we stopped it with, and whether an operator wanted that. `console` is
/// what the end quotes.
pub fn conclude(known: Known, stopped: Option<(Rung, bool)>, console: Vec<String>) -> End {
    let (code, signal) = match known {
        // As shells and conmon have it. A program that exits with such a code by itself can't be told apart.
        Known::Code(code @ 129..=192) => (None, Some(code - 128)),
        Known::Code(code) => (u8::try_from(code).ok(), None),
        Known::OutOfMemory => (None, Some(libc::SIGKILL)),
        _ => (None, None),
    };
    let by = match (stopped, known) {
        (Some((_, true)), _) => EndedBy::Operator,
        (Some((_, false)), _) => EndedBy::Mcp,
        (None, Known::Code(_) | Known::OutOfMemory) => EndedBy::Guest,
        (None, Known::Removed) => EndedBy::Operator,
        (None, _) => EndedBy::Unknown,
    };
    let reason = match (stopped, known, signal) {
        (Some((rung, by_operator)), ..) => {
            format!("{}: {}", if by_operator { "stopped" } else { "stopped by mcp" }, rung.name())
        }
        (None, Known::OutOfMemory, _) => "killed: out of memory".into(),
        (None, Known::Removed, _) => "removed with podman".into(),
        (None, Known::Orphaned, _) => "its conmon was killed, so it was too".into(),
        (None, Known::NeverRan, _) => "never ran".into(),
        (None, Known::Nothing, _) => "ended, and podman does not tell how".into(),
        (None, Known::Code(_), Some(n)) => format!("program ended by signal {n}"),
        (None, Known::Code(code), None) => format!("program exited with {code}"),
    };
    End { at: time::now(), by, code, signal, rung: stopped.map(|(rung, _)| rung), reason, console }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let end = |known, stopped| conclude(known, stopped, vec![]);
        let told = |end: &End| (end.by, end.exit_code(), end.reason.clone());
        let guest = EndedBy::Guest;
        assert_eq!(told(&end(Known::Code(3), None)), (guest, 3, "program exited with 3".into()));
        assert_eq!(told(&end(Known::Code(143), None)), (guest, 143, "program ended by signal 15".into()));
        assert_eq!(told(&end(Known::Code(255), None)), (guest, 255, "program exited with 255".into()));
        assert_eq!(told(&end(Known::OutOfMemory, None)), (guest, 137, "killed: out of memory".into()));
        assert_eq!(told(&end(Known::Code(-1), None)), (guest, 111, "program exited with -1".into()));
        let term = Some((Rung::Term, true));
        let operator = EndedBy::Operator;
        assert_eq!(told(&end(Known::Code(0), term)), (operator, 0, "stopped: term".into()));
        assert_eq!(told(&end(Known::Code(143), term)), (operator, 0, "stopped: term".into()));
        assert_eq!(told(&end(Known::Code(7), term)), (operator, 7, "stopped: term".into()));
        assert_eq!(told(&end(Known::Code(137), Some((Rung::Kill, true)))), (operator, 137, "stopped: kill".into()));
        let mcp = end(Known::Code(0), Some((Rung::Term, false)));
        assert_eq!(told(&mcp), (EndedBy::Mcp, 111, "stopped by mcp: term".into()));
        assert_eq!(end(Known::Removed, None).by, operator);
        assert_eq!(end(Known::Nothing, None).exit_code(), 111);
    }
}
