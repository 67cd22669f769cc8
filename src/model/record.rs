//! The record of what was deployed: the registry that DESIGN speaks of.
//!
//! A record has up to three versions of a component. `current` is what a start takes. `candidate` is what a deploy wants to
//! put in its place: it is started in current's stead, and becomes current only when it was healthy; a deploy that is
//! killed at any moment thus leaves something that the next start can go on from. `previous` is what current replaced.

use super::{Component, ComponentId, Digest, Document};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file, turns};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The version that this code writes. Version 1 had one specification and no image.
pub const SCHEMA: u32 = 2;
const DOCUMENT: Document = Document { what: "record", schema: SCHEMA, remedy: "" };

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

/// Exactly which image: what a tag meant when it was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What the reference's tag named then: the manifest, or the index that it was chosen from.
    pub tagged: Digest,
    /// The manifest for this machine.
    pub manifest: Digest,
    /// Key of the build: the name of its directory in the store.
    pub build: String,
}

/// One version of a component, fully resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The specification.
    pub spec: Component,
    /// Which image, where it runs one.
    pub pin: Option<Pin>,
    /// When it was deployed, or first started: RFC 3339, UTC; empty: before records told.
    pub at: String,
}

impl Version {
    /// Tells two versions apart that would run differently.
    pub fn runs_as(&self, other: &Version) -> bool {
        self.spec == other.spec && self.pin == other.pin
    }

    /// Digest of all that decides what runs: of the specification, and of the image where one is pinned.
    pub fn digest(&self) -> String {
        digest(&self.spec, self.pin.as_ref())
    }
}

/// See [`Version::digest`].
pub fn digest(spec: &Component, pin: Option<&Pin>) -> String {
    match pin {
        None => spec.digest(),
        Some(pin) => Digest::of(format!("{} {} {}", spec.digest(), pin.manifest, pin.build).as_bytes()).hex(),
    }
}

/// What a volume's disk was formatted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// A microvm's.
    Ext4,
    /// A Nanos volume's.
    Tfs,
}

impl FileSystem {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Tfs => "Nanos's tfs",
        }
    }
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
    /// What a start takes; `None`: its first deploy has not come to an end.
    pub current: Option<Version>,
    /// What a deploy wants to put in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Version>,
    /// What `current` replaced: where `mcp-record --back` goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Version>,
    /// Whether what is not healthy in time is left as it is, for somebody to look at, until the next deploy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leave: bool,
    /// The file system of each volume that was made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, FileSystem>,
}

/// Version 1.
#[derive(Deserialize)]
struct First {
    wish: Wish,
    adhoc: bool,
    spec: Component,
}

impl From<First> for Record {
    fn from(first: First) -> Record {
        let current = Some(Version { spec: first.spec, pin: None, at: String::new() });
        Record { wish: first.wish, adhoc: first.adhoc, current, ..Record::new() }
    }
}

impl Record {
    /// One with nothing in it, that shall run.
    pub fn new() -> Record {
        Record {
            schema: SCHEMA,
            wish: Wish::Run,
            adhoc: false,
            current: None,
            candidate: None,
            previous: None,
            leave: false,
            volumes: BTreeMap::new(),
        }
    }

    /// What a start takes: the candidate on trial, else the current version.
    pub fn next(&self) -> Option<&Version> {
        self.candidate.as_ref().or(self.current.as_ref())
    }

    /// The version on trial, if it is another than the current one, which may have to settle again.
    pub fn trial(&self) -> Option<&Version> {
        self.candidate.as_ref().filter(|candidate| !self.current.as_ref().is_some_and(|c| c.runs_as(candidate)))
    }

    /// All versions that it has.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        [&self.current, &self.candidate, &self.previous].into_iter().flatten()
    }

    /// The current specification.
    pub fn spec(&self) -> Option<&Component> {
        self.current.as_ref().map(|v| &v.spec)
    }

    /// Makes `version` the current one; what was current is previous then, unless it is the same.
    pub fn promote(&mut self, version: Version) {
        self.candidate.take_if(|c| c.runs_as(&version));
        match self.current.replace(version) {
            Some(old) if self.current.as_ref().is_some_and(|new| !new.runs_as(&old)) => self.previous = Some(old),
            _ => {}
        }
    }

    /// Reads the record of `id`; `None` when it was never started. A damaged or newer one is an error.
    pub fn read(paths: &Paths, id: &ComponentId) -> Result<Option<Record>> {
        let path = paths.component(&id.service, &id.component).record;
        file::read_bounded(&path, SIZE_MAX)?.map(|bytes| Record::parse(&path, &bytes)).transpose()
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Record> {
        match DOCUMENT.schema_of(path, bytes)? {
            1 => DOCUMENT.body::<First>(path, bytes).map(Record::from),
            _ => DOCUMENT.body(path, bytes),
        }
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

impl Default for Record {
    fn default() -> Record {
        Record::new()
    }
}
