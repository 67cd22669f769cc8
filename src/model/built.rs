//! `boot.json`: what `mcp-build` made of an image. It lies beside the files that it names.

use super::{Document, Runtime};
use crate::model::Digest;
use crate::sys::{Error, Result, file};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version that this code writes.
pub const SCHEMA: u32 = 1;
const DOCUMENT: Document = Document { what: "build", schema: SCHEMA, remedy: "run mcp-build" };

/// Its file name in the directory of a build.
pub const FILE: &str = "boot.json";

const SIZE_MAX: u64 = 4 << 20;

/// What a start needs to know of a build. Nothing in it is secret: what a unikernel's image holds of an `env_file` is
/// in the disk alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The key made of all inputs, in hex: the name of its directory in the store.
    pub key: String,
    /// How it runs: unikernel or microvm.
    pub runtime: Runtime,
    /// The reference that the image was pulled by.
    pub reference: String,
    /// The image's manifest.
    pub manifest: Digest,
    /// File name of the disk in this directory: a bootable Nanos image, or the squashfs root of a microvm.
    pub disk: String,
    /// File name of the kernel that boots the disk directly (Nanos). A microvm's kernel is the node's.
    pub kernel: Option<String>,
    /// What the image runs, for a microvm: Entrypoint. A unikernel's program is in its disk.
    pub entrypoint: Vec<String>,
    /// Its arguments, for a microvm: Cmd, or what `--arg` said. A component's `args` replace them at start.
    pub cmd: Vec<String>,
    /// `NAME=VALUE`, for a microvm. A component's `env` adds to it at start.
    pub env: Vec<String>,
    /// Working directory, for a microvm; empty: `/`.
    pub workdir: String,
    /// `USER[:GROUP]`, for a microvm; empty: root.
    pub user: String,
    /// StopSignal as the image has it, for a microvm; empty: SIGTERM.
    #[serde(default)]
    pub stop_signal: String,
    /// The volumes that a unikernel's disk expects, in the order of their disks.
    pub volumes: Vec<BuiltVolume>,
    /// TCP and UDP ports that the image says it serves, like `8080/tcp`. For people.
    pub exposed: Vec<String>,
}

/// A volume of a unikernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltVolume {
    /// Its name, which is its file system's label.
    pub name: String,
    /// Where the guest sees it.
    pub path: String,
    /// File name in this directory of an empty one, sparse: a first start copies it.
    pub empty: String,
}

impl Built {
    /// Reads that of the build in `dir`. Errors: not there, damaged, newer.
    pub fn read(dir: &Path) -> Result<Built> {
        let path = dir.join(FILE);
        let bytes = file::read_regular(&path, SIZE_MAX)?.ok_or_else(|| {
            Error::refused(dir.display(), format!("not a build: no {FILE} in it; mcp-build prints where one is"))
        })?;
        let built: Built = DOCUMENT.parse(&path, &bytes)?;
        let names = [Some(&built.disk), built.kernel.as_ref()].into_iter().flatten();
        for name in names.chain(built.volumes.iter().map(|v| &v.empty)) {
            // It may have been copied here from anywhere: no name leads out of the directory.
            if name.is_empty() || name.contains('/') || name == ".." || name == "." {
                return Err(Error::refused(path.display(), format!("names {name:?}, which is no file of its own")));
            }
        }
        Ok(built)
    }
}
