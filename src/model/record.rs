//! The record of what was last started, and whether it shall run.

use super::{Component, ComponentId};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file, turns};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version that this code writes.
pub const SCHEMA: u32 = 1;

/// No record of ours comes near this many bytes.
const SIZE_MAX: u64 = 1 << 20;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// It shall run.
    Run,
    /// It shall stay stopped.
    Stop,
}

/// `LIB/registry/SERVICE/COMPONENT.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What the operator wants.
    pub wish: Wish,
    /// Whether it was started without a definition.
    pub adhoc: bool,
    /// The specification as started.
    pub spec: Component,
}

impl Record {
    /// Reads the record of `id`; `None` when it was never started. A damaged or newer one is an error.
    pub fn read(paths: &Paths, id: &ComponentId) -> Result<Option<Record>> {
        let path = paths.component(&id.service, &id.component).record;
        file::read_bounded(&path, SIZE_MAX)?.map(|bytes| Record::parse(&path, &bytes)).transpose()
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Record> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let damaged = |e: serde_json::Error| Error::refused(path.display(), format!("damaged record: {e}"));
        let version: Version = serde_json::from_slice(bytes).map_err(damaged)?;
        if version.schema > SCHEMA {
            return Err(Error::refused(
                path.display(),
                format!(
                    "record of schema {} was written by a newer mcp; this one reads up to {SCHEMA}",
                    version.schema
                ),
            ));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// Writes the record of `id`, whole and durable, whatever was there.
    pub fn write(&self, paths: &Paths, id: &ComponentId) -> Result<()> {
        let path = paths.component(&id.service, &id.component).record;
        if let Some(parent) = path.parent() {
            file::create_dirs(parent)?;
        }
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::refused(path.display(), e.to_string()))?;
        turns::update(&path, SIZE_MAX, |_| Ok(Some(bytes)))
    }

    /// Makes the record of `id` what `change` makes of it, whole and durable; `None` leaves it as it is. A start and a
    /// stop may do so at the same time: neither loses what the other wrote.
    pub fn update(
        paths: &Paths,
        id: &ComponentId,
        change: impl FnOnce(Option<Record>) -> Option<Record>,
    ) -> Result<()> {
        let path = paths.component(&id.service, &id.component).record;
        if let Some(parent) = path.parent() {
            file::create_dirs(parent)?;
        }
        turns::update(&path, SIZE_MAX, |old| {
            let old = old.map(|bytes| Record::parse(&path, &bytes)).transpose()?;
            // What stands there already is not written again: a restart waits for no disk.
            let Some(new) = change(old.clone()).filter(|new| old.as_ref() != Some(new)) else { return Ok(None) };
            serde_json::to_vec_pretty(&new).map(Some).map_err(|e| Error::refused(path.display(), e.to_string()))
        })
    }
}
