//! `image.json`: what `mcp-pull` brought. It lies in a directory of the store; a unikernel's files are in `rootfs/` beside.

use super::oci::{Layer, RunConfig};
use crate::model::{Digest, Runtime};
use serde::{Deserialize, Serialize};

/// The version that this code writes.
pub const SCHEMA: u32 = 1;

/// Its file name.
pub const FILE: &str = "image.json";

/// The folder of a unikernel's files, beside it.
pub const ROOTFS: &str = "rootfs";

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
