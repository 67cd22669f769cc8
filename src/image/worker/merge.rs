//! The layers of an image merged into one tar by a worker.

use super::super::oci::Packing;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result};
use std::fs::File;
use std::process::Stdio;

/// One layer for the merge: both descriptors readable; the blob from its position on, the index whatever its position.
pub struct Packed {
    /// What [`super::Index`] wrote.
    pub index: File,
    /// The blob.
    pub blob: File,
    /// How the blob is packed, as its media type says.
    pub packing: Packing,
}

/// A worker that writes the merged layers as a tar. Dropping it kills it.
pub struct Merge {}

impl Merge {
    /// Starts it. `layers` has the base first; the tar goes to `out`, which is closed here.
    pub fn start(_user: &User, _layers: &[Packed], _out: Stdio) -> Result<Merge> {
        Err(Error::refused("worker", "not there"))
    }

    /// Waits for its end. Where the reader of the tar has gone away, that is the reader's error, not this one's:
    /// `Ok(false)`.
    pub fn finish(self, _deadline: Deadline) -> Result<bool> {
        Err(Error::refused("worker", "not there"))
    }
}
