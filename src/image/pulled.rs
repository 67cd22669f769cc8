//! `image.json`: what `mcp-pull` brought. It lies in a directory of the store; a unikernel's files are in `rootfs/` beside.

use super::oci::{Layer, RunConfig};
use super::store::Store;
use crate::model::{Digest, Document, Runtime};
use crate::sys::{Error, Result, file};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version that this code writes.
pub const SCHEMA: u32 = 1;
const DOCUMENT: Document = Document { what: "image", schema: SCHEMA, remedy: "run mcp-pull" };

/// Its file name.
pub const FILE: &str = "image.json";

/// The folder of a unikernel's files, beside it.
pub const ROOTFS: &str = "rootfs";

/// A thousand layers and some ten thousand files fit.
const SIZE_MAX: u64 = 64 << 20;

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of its directory: made of the manifest's digest and of what was asked for.
    pub key: String,
    /// The reference as it was asked for.
    pub reference: String,
    /// What the reference named: the manifest or an index above it.
    pub tagged: Digest,
    /// The manifest for this machine.
    pub manifest: Digest,
    /// The config.
    pub config: Digest,
    /// For which runtime: unikernel or microvm.
    pub runtime: Runtime,
    /// What the image says it runs.
    pub run: RunConfig,
    /// The layers, the base first. For a unikernel not all of them need be in the store.
    pub layers: Vec<Layer>,
    /// The program and what it needs, for a unikernel.
    pub program: Option<Program>,
}

/// A unikernel's program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The ELF file, absolute in the image, links resolved.
    pub path: String,
    /// Its arguments, argument 0 among them, as the image and the definition say.
    pub argv: Vec<String>,
    /// Its interpreter (the dynamic loader) as the ELF names it; `None`: static.
    pub interpreter: Option<String>,
    /// Libraries, absolute in the image.
    pub libraries: Vec<String>,
    /// Every file of `rootfs/` with the digest of its contents, sorted.
    pub files: Vec<PulledFile>,
    /// What may not work, for people.
    pub warnings: Vec<String>,
}

/// A file of `rootfs/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledFile {
    /// Absolute in the image.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Its contents.
    pub digest: Digest,
}

impl Pulled {
    /// Reads that of the image in `dir`. Errors: not there, damaged, newer.
    pub fn read(dir: &Path) -> Result<Pulled> {
        Pulled::try_read(dir)?.ok_or_else(|| {
            Error::refused(dir.display(), format!("not a pulled image: no {FILE} in it; mcp-pull prints where one is"))
        })
    }

    /// The same; `None` where there is none.
    pub fn try_read(dir: &Path) -> Result<Option<Pulled>> {
        let path = dir.join(FILE);
        let Some(bytes) = file::read_regular(&path, SIZE_MAX)? else { return Ok(None) };
        DOCUMENT.parse(&path, &bytes).map(Some)
    }

    /// Whether all that a build needs is there: a unikernel's files in `dir`, a microvm's layers in `store`. Contents
    /// are not read.
    pub fn is_whole(&self, dir: &Path, store: &Store) -> bool {
        match &self.program {
            Some(program) => program.files.iter().all(|f| {
                let there = std::fs::symlink_metadata(dir.join(ROOTFS).join(f.path.trim_start_matches('/')));
                there.is_ok_and(|t| t.is_file() && t.len() == f.size)
            }),
            None => self.layers.iter().all(|layer| matches!(store.layer(layer), Ok(Some(_)))),
        }
    }

    /// Marks it, and the blobs that a build of it reads, as used now.
    pub fn touch(&self, dir: &Path, store: &Store) {
        store.touch(dir);
        if self.program.is_none() {
            for layer in &self.layers {
                store.touch(&store.blob_path(&layer.blob));
                store.touch(&store.index_path(&layer.blob));
            }
        }
    }
}
