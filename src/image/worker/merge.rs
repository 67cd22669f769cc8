//! The layers of an image merged into one tar by a worker.

use super::super::oci::Packing;
use super::job::{Job, Report};
use super::process::{Worker, nonsense};
use crate::sys::user::User;
use crate::sys::{Deadline, Result};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Stdio;

/// One layer for the merge: both descriptors readable, whatever their position.
pub struct Packed {
    /// What [`super::Index`] wrote.
    pub index: File,
    /// The blob.
    pub blob: File,
    /// How the blob is packed, as its media type says.
    pub packing: Packing,
}

/// A worker that writes the merged layers as a tar. Dropping it kills it.
pub struct Merge(Worker);

impl Merge {
    /// Starts it. `layers` has the base first; the tar goes to `out`, which is closed here.
    pub fn start(user: &User, layers: &[Packed], out: Stdio) -> Result<Merge> {
        let numbers = layers.iter().map(|l| (l.index.as_raw_fd(), l.blob.as_raw_fd(), l.packing)).collect();
        let keep: Vec<_> = layers.iter().flat_map(|l| [l.index.as_fd(), l.blob.as_fd()]).collect();
        Worker::start(user, Job::Merge { layers: numbers }, &keep, Stdio::null(), out).map(Merge)
    }

    /// Waits for its end. Where the reader of the tar has gone away, that is the reader's error, not this one's:
    /// `Ok(false)`.
    pub fn finish(mut self, deadline: Deadline) -> Result<bool> {
        match self.0.finish(deadline)? {
            Report::Merged => Ok(true),
            Report::ReaderGone => Ok(false),
            _ => Err(nonsense()),
        }
    }
}
