//! `mcp-status --again`: whether an init shall start a component's supervisor again.

use crate::model::state::{End, EndedBy};
use crate::model::{Record, Restart};
use crate::node::Entry;
use crate::sys::error::{EXIT_FINAL, EXIT_NO, EXIT_OK, EXIT_RETRY};
use crate::sys::{Error, Result};

/// The answer to --again for `entry`, whose supervisor has ended with `code`.
pub fn answer(entry: &Entry<'_>, code: i32) -> Result<u8> {
    let Some(wanted) = entry.wanted() else {
        let why = entry.record.damage().unwrap_or("its definition can't be read");
        return Err(Error::refused(&entry.id, why));
    };
    let recorded = entry.record.get().and_then(Record::next).map(|v| v.spec.restart);
    let declared = || entry.declared.map(|d| d.component.restart);
    let policy = recorded.or_else(declared).unwrap_or_default();
    let end = entry.state.get().and_then(|state| state.end.as_ref());
    // One that runs on without a supervisor is to get it again. What another supervises is that one's; and after 100, which
    // says that trying again doesn't help, all is left to whoever mends it.
    let again = match (entry.is_alive(), entry.supervised) {
        // The cluster's, though an init may have a unit of it that is not gone yet.
        _ if entry.is_clusters() => false,
        _ if !wanted || code == i32::from(EXIT_FINAL) => false,
        (true, supervised) => !supervised,
        (false, _) => calls_for(code, end, policy),
    };
    Ok(if again { EXIT_OK } else { EXIT_NO })
}

/// Whether one that shall run and does not is to be started again after a supervisor that ended with `code`.
fn calls_for(code: i32, end: Option<&End>, policy: Restart) -> bool {
    match end {
        // Asked to stop, and wanted all the same: that is how an init restarts a service.
        Some(end) if end.by == EndedBy::Operator => true,
        // It could not be started, which says nothing of how it ended before.
        Some(end) if code == i32::from(EXIT_RETRY) && end.exit_code() != EXIT_RETRY => true,
        Some(end) => end.calls_for(policy),
        None if code == i32::from(EXIT_RETRY) => true,
        None => policy == Restart::Always || (policy == Restart::OnFailure && code != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(by: EndedBy, code: Option<u8>) -> End {
        End { at: String::new(), by, code, signal: None, rung: None, reason: String::new(), console: Vec::new() }
    }

    #[test]
    fn what_calls_for_another_start() {
        use EndedBy::*;
        use Restart::*;
        let guest = |code| Some(end(Guest, Some(code)));
        for (code, end, policy, so) in [
            (111, None, No, true),
            (0, guest(0), OnFailure, false),
            (0, guest(0), Always, true),
            (3, guest(3), OnFailure, true),
            (3, guest(3), No, false),
            // A program's own 100 is told as 1.
            (1, guest(100), OnFailure, true),
            (0, Some(end(Operator, None)), No, true),
            // The port was taken, long after a good end.
            (111, guest(0), OnFailure, true),
            // Nobody saw how an adopted one ended.
            (111, Some(end(Unknown, None)), No, false),
            (111, Some(end(Unknown, None)), OnFailure, true),
            // The supervisor was killed, and what it ran too.
            (256, None, OnFailure, true),
            (-1, None, No, false),
        ] {
            assert_eq!(calls_for(code, end.as_ref(), policy), so, "{code} {end:?} {policy:?}");
        }
    }
}
