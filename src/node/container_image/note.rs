//! What a reference was last pulled as: podman knows its names, but not which index a tag named.

use crate::container::image;
use crate::container::podman::Podman;
use crate::model::{Digest, Pin, Reference};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file, time, turns};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The version that this code writes.
const SCHEMA: u32 = 1;
/// No note comes near this many bytes.
const SIZE_MAX: u64 = 64 << 10;

/// `LIB/containers/pulled/HEX.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    schema: u32,
    /// The reference.
    pub reference: String,
    /// Exactly which image that was.
    pub pin: Pin,
    /// When, RFC 3339.
    pub at: String,
}

impl Note {
    /// A new one, as of now.
    pub fn new(reference: &Reference, pin: &Pin) -> Note {
        Note { schema: SCHEMA, reference: reference.to_string(), pin: pin.clone(), at: time::now() }
    }
}

fn path(paths: &Paths, reference: &str) -> PathBuf {
    paths.containers_pulled().join(format!("{}.json", Digest::of(reference.as_bytes()).hex()))
}

/// What the reference was last pulled as. One that can't be read counts as none: the next pull writes it anew.
pub fn read(paths: &Paths, reference: &Reference) -> Result<Option<Note>> {
    let bytes = file::read_regular(&path(paths, &reference.to_string()), SIZE_MAX)?;
    let note: Option<Note> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
    Ok(note.filter(|n| n.schema == SCHEMA))
}

/// Writes it down.
pub fn write(paths: &Paths, note: &Note) -> Result<()> {
    file::create_dirs(&paths.containers_pulled())?;
    let path = path(paths, &note.reference);
    let bytes = serde_json::to_vec(note).map_err(|e| Error::refused(path.display(), e.to_string()))?;
    turns::update(&path, SIZE_MAX, |old| {
        let known = old.and_then(|b| serde_json::from_slice::<Note>(&b).ok());
        let same = known.is_some_and(|n| n.schema == SCHEMA && n.pin == note.pin);
        Ok((!same).then_some(bytes))
    })
}

/// Forgets what tells of images that podman has no more. Only where there are notes is podman asked.
pub fn clean(paths: &Paths, podman: &dyn Fn() -> Result<Podman>) -> Result<()> {
    let mut asked = None;
    for entry in std::fs::read_dir(paths.containers_pulled()).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let bytes = file::read_regular(&path, SIZE_MAX)?;
        let note: Option<Note> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
        let podman = match &mut asked {
            Some(podman) => podman,
            none => none.insert(podman()?),
        };
        if !note.is_some_and(|n| image::exists(podman, &n.pin.build).unwrap_or(true)) {
            file::remove_if_there(&path)?;
        }
    }
    Ok(())
}
