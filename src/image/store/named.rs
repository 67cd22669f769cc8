//! What a reference was pulled as: the way from a tag that has not moved to the image, without asking for a manifest.

use super::{Making, Store, sync};
use crate::model::{Digest, Runtime};
use crate::sys::{Error, Result, file};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The version that this code writes.
const SCHEMA: u32 = 1;

const SIZE_MAX: u64 = 64 << 10;

/// `refs/HEX.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The version of its form.
    pub schema: u32,
    /// The reference.
    pub reference: String,
    /// For which runtime it was pulled.
    pub runtime: Runtime,
    /// What the reference named then: a manifest or an index.
    pub tagged: Digest,
    /// The directory in `images/`.
    pub key: String,
    /// When, RFC 3339.
    pub at: String,
}

impl Named {
    /// A new one, as of now.
    pub fn new(reference: &str, runtime: Runtime, tagged: Digest, key: &str) -> Named {
        let (reference, key) = (reference.to_string(), key.to_string());
        Named { schema: SCHEMA, reference, runtime, tagged, key, at: crate::sys::time::now() }
    }
}

impl Store {
    /// Where it is told what the request named `request` (its digest) was pulled as.
    fn named_path(&self, request: &Digest) -> PathBuf {
        self.paths.refs().join(format!("{}.json", request.hex()))
    }

    /// What the request was last pulled as. One that can't be read counts as none: the next pull writes it anew.
    pub fn named(&self, request: &Digest) -> Result<Option<Named>> {
        let bytes = file::read_regular(&self.named_path(request), SIZE_MAX)?;
        let named: Option<Named> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
        Ok(named.filter(|n| n.schema == SCHEMA))
    }

    /// Writes down what the request was pulled as; `turn` is that at its image.
    pub fn name(&self, request: &Digest, named: &Named, turn: &Making) -> Result<()> {
        let target = self.named_path(request);
        let temporary = turn.aside("ref");
        let bytes = serde_json::to_vec(named).map_err(|e| Error::refused(target.display(), e.to_string()))?;
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let mut file = options.open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            std::fs::rename(&temporary, &target)
        };
        if let Err(e) = write() {
            file::remove_if_there(&temporary)?;
            return Err(Error::path("write", &target)(e));
        }
        sync(&self.paths.refs())
    }
}
