//! How a VM ended, from what QEMU and the guest left behind. The table is in FACTS; QEMU's isa-debug-exit device ends
//! it with `(code << 1 | 1) & 0xff`.

use crate::model::state::{End, EndedBy, Rung};
use crate::sys::time;

/// What was seen of the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// QEMU's exit code; `None` when a signal ended it or it was not our child.
    pub qemu_code: Option<i32>,
    /// The signal that ended QEMU.
    pub qemu_signal: Option<i32>,
    /// The reason of the SHUTDOWN event: `guest-shutdown`, `host-qmp-quit`, …
    pub shutdown: Option<String>,
    /// What a microvm's init told of the program: exit code, or signal.
    pub program: Option<Program>,
    /// The rung that we stopped it with, and whether an operator wanted that.
    pub stopped: Option<(Rung, bool)>,
}

/// How the program in a microvm ended, or failed to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// It exited with this code.
    Exit(u8),
    /// This signal ended it.
    Signal(i32),
    /// Our init could not go on.
    Failed(String),
}

impl Program {
    /// Reads a line of init's: `exit N`, `signal N`, `fail TEXT`.
    pub fn parse(line: &str) -> Option<Program> {
        let (word, rest) = line.trim().split_once(' ')?;
        match word {
            "exit" => rest.parse().ok().map(Program::Exit),
            "signal" => rest.parse().ok().filter(|n| (1..=64).contains(n)).map(Program::Signal),
            "fail" => Some(Program::Failed(rest.chars().filter(|c| !c.is_control()).take(200).collect())),
            _ => None,
        }
    }
}

/// Draws the conclusion. `console` is what the end quotes.
pub fn conclude(traces: &Traces, console: Vec<String>) -> End {
    let mut end = End {
        at: time::now(),
        by: EndedBy::Guest,
        code: None,
        signal: None,
        rung: traces.stopped.map(|(rung, _)| rung),
        reason: String::new(),
        console,
    };
    match &traces.program {
        Some(Program::Exit(code)) => end.code = Some(*code),
        Some(Program::Signal(n)) => end.signal = Some(*n),
        // isa-debug-exit: always odd. After `cont`, 1 can't be QEMU's own failure to start.
        _ => match traces.qemu_code {
            Some(code) if code & 1 == 1 => end.code = Some((code >> 1) as u8),
            // A guest without debug_exit powers off with 0, whatever its program said.
            Some(0) if traces.shutdown.as_deref() == Some("guest-shutdown") => end.code = Some(0),
            _ => {}
        },
    }
    end.by = match (traces.stopped, traces.shutdown.as_deref()) {
        (Some((_, true)), _) => EndedBy::Operator,
        (Some((_, false)), _) => EndedBy::Mcp,
        (None, Some("host-qmp-quit" | "host-signal" | "host-ui")) => EndedBy::Operator,
        (None, Some(_)) => EndedBy::Guest,
        (None, None) if traces.program.is_some() || end.code.is_some() => EndedBy::Guest,
        (None, None) => EndedBy::Unknown,
    };
    if end.signal.is_none() && end.by == EndedBy::Unknown {
        end.signal = traces.qemu_signal;
    }
    end.reason = reason(traces, &end);
    end
}

fn reason(traces: &Traces, end: &End) -> String {
    if let Some((rung, by_operator)) = traces.stopped {
        let who = if by_operator { "stopped" } else { "stopped by mcp" };
        return format!("{who}: {}", rung.name());
    }
    match (&traces.program, end.code, end.signal) {
        (Some(Program::Failed(text)), ..) => format!("guest init: {text}"),
        (Some(Program::Signal(n)), ..) => format!("program ended by signal {n}"),
        (_, Some(code), _) if end.by == EndedBy::Guest => format!("program exited with {code}"),
        _ => match (traces.shutdown.as_deref(), traces.qemu_signal) {
            (Some("host-qmp-quit"), _) => "quit by its monitor".into(),
            (Some("guest-shutdown"), _) => "the guest shut down; its exit code is not known".into(),
            (Some("guest-reset" | "guest-panic"), _) => "the guest's kernel panicked or asked for a reset".into(),
            (Some("host-signal"), _) => "QEMU ended by a signal to it".into(),
            (Some(other), _) => format!("QEMU shut down: {other}"),
            (None, Some(n)) => format!("QEMU ended by signal {n}"),
            (None, None) => "ended while nobody could see its exit code".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(traces: Traces) -> End {
        conclude(&traces, vec![])
    }

    #[test]
    fn nanos_codes() {
        let debug_exit = |code| end(Traces { qemu_code: Some(code), ..Traces::default() });
        assert_eq!(debug_exit(15).exit_code(), 7);
        assert_eq!(debug_exit(1).exit_code(), 0);
        assert_eq!(debug_exit(255).exit_code(), 127);
        assert_eq!(debug_exit(15).by, EndedBy::Guest);
        let poweroff = end(Traces { qemu_code: Some(0), shutdown: Some("guest-shutdown".into()), ..Traces::default() });
        assert_eq!((poweroff.exit_code(), poweroff.by), (0, EndedBy::Guest));
    }

    #[test]
    fn stops_and_kills() {
        let stopped = |rung, operator| {
            end(Traces {
                qemu_code: Some(0),
                shutdown: Some("guest-shutdown".into()),
                stopped: Some((rung, operator)),
                ..Traces::default()
            })
        };
        assert_eq!(stopped(Rung::Powerdown, true).exit_code(), 0);
        assert_eq!(stopped(Rung::Quit, true).exit_code(), 137);
        assert_eq!(stopped(Rung::Powerdown, false).by, EndedBy::Mcp);
        let killed = end(Traces { qemu_signal: Some(9), ..Traces::default() });
        assert_eq!((killed.exit_code(), killed.by), (137, EndedBy::Unknown));
        // A newer QEMU reports a shutdown by isa-debug-exit; an adopter sees no exit code.
        let told = end(Traces { shutdown: Some("guest-shutdown".into()), ..Traces::default() });
        assert_eq!((told.exit_code(), told.by), (111, EndedBy::Guest));
        let adopted = end(Traces::default());
        assert_eq!((adopted.exit_code(), adopted.by), (111, EndedBy::Unknown));
    }

    #[test]
    fn microvm_words() {
        assert_eq!(Program::parse("exit 200\n"), Some(Program::Exit(200)));
        assert_eq!(Program::parse("signal 11"), Some(Program::Signal(11)));
        assert_eq!(Program::parse("exit 300"), None);
        assert_eq!(Program::parse("signal 0"), None);
        let end = end(Traces { qemu_code: Some(145), program: Some(Program::Exit(200)), ..Traces::default() });
        assert_eq!(end.exit_code(), 200);
    }
}
