//! Why a supervisor that an init started could not start its component. An init that takes an order and answers at once has
//! no words for whoever gave the order; this has.

use crate::model::{ComponentId, Document};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file, lock, time};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const SCHEMA: u32 = 1;
const DOCUMENT: Document = Document { what: "failure", schema: SCHEMA, remedy: "" };
const SIZE_MAX: u64 = 64 << 10;

/// What is kept, in the component's run directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    schema: u32,
    /// RFC 3339, UTC.
    at: String,
    /// The supervisor's exit code.
    pub code: u8,
    /// Why.
    pub reason: String,
}

fn path(paths: &Paths, id: &ComponentId) -> PathBuf {
    paths.component(&id.service, &id.component).run.join("failure.json")
}

/// Keeps `error`, with which a supervisor of `id` ended. One that lost to another has nothing to say about the component.
pub fn note(paths: &Paths, id: &ComponentId, error: &Error) {
    let files = paths.component(&id.service, &id.component);
    if lock::is_held(&files.lock()).unwrap_or(true) {
        return;
    }
    let reason = error.to_string().replace(&format!("{id}: "), "");
    let failure = Failure { schema: SCHEMA, at: time::now(), code: error.exit_code(), reason };
    let write = || -> Result<()> {
        file::create_dirs(&files.run)?;
        let bytes = serde_json::to_vec(&failure).map_err(|e| Error::refused(id, e.to_string()))?;
        file::write_whole(&path(paths, id), &bytes, false)
    };
    if let Err(e) = write() {
        log::debug!("{e}");
    }
}

/// The last one, if it came at `since` or later.
pub fn since(paths: &Paths, id: &ComponentId, since: &str) -> Option<Failure> {
    let path = path(paths, id);
    let bytes = file::read_bounded(&path, SIZE_MAX).ok()??;
    DOCUMENT.parse(&path, &bytes).ok().filter(|failure: &Failure| failure.at.as_str() >= since)
}
