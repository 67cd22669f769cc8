//! The console seen from QEMU: which file it writes to.

use super::qmp::{COMMAND_TIMEOUT, Qmp, QmpError};
use crate::console::rotate::{Writer, open_again};
use crate::sys::{Deadline, Result};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;

/// Descriptor sets of consoles that we add; those of the command line are numbered from 1.
const FIRST_SET: u64 = 1000;
/// By this the sets of consoles are known in QEMU, whoever added them.
pub const OPAQUE: &str = "console";

impl Writer for Qmp {
    fn point_at(&mut self, file: &File, path: &Path) -> Result<()> {
        // QEMU takes from a set only a descriptor of just the access that it wants.
        let file = open_again(file, path, OpenOptions::new().append(true))?;
        let about = |e: QmpError| e.about(path.display());
        let deadline = Deadline::after(COMMAND_TIMEOUT);
        let sets = self.execute("query-fdsets", Value::Null, deadline).map_err(about)?;
        let (ours, highest) = console_sets(&sets);
        let set = FIRST_SET.max(highest + 1);
        let arguments = json!({ "fdset-id": set, "opaque": OPAQUE });
        self.execute_with_fd("add-fd", arguments, file.as_fd(), deadline).map_err(about)?;
        let out = format!("/dev/fdset/{set}");
        let backend = json!({ "type": "file", "data": { "out": out, "append": true } });
        let changed = self.execute("chardev-change", json!({ "id": "serial0", "backend": backend }), deadline);
        let obsolete = match &changed {
            Ok(_) => ours,
            Err(QmpError::Refused(_)) => vec![set],
            // Whether it comes to that, nobody knows.
            Err(_) => Vec::new(),
        };
        for set in obsolete {
            // Else the old file stays open, and its space taken once it is deleted. It makes no difference to what
            // QEMU writes to, and the next rotation tries again.
            if let Err(e) = self.execute("remove-fd", json!({ "fdset-id": set }), deadline) {
                log::warn!("{}: {e}", path.display());
            }
        }
        changed.map(drop).map_err(about)
    }
}

/// From the answer to `query-fdsets`: the sets of consoles, and the highest number of any.
fn console_sets(answer: &Value) -> (Vec<u64>, u64) {
    let sets: &[Value] = answer.as_array().map_or(&[], Vec::as_slice);
    let id = |set: &Value| set.get("fdset-id").and_then(Value::as_u64).unwrap_or(0);
    let is_console = |set: &&Value| {
        let fds = set.get("fds").and_then(Value::as_array);
        fds.is_some_and(|fds| fds.iter().any(|fd| fd.get("opaque").and_then(Value::as_str) == Some(OPAQUE)))
    };
    (sets.iter().filter(is_console).map(id).collect(), sets.iter().map(id).max().unwrap_or(0))
}
