//! What is inside a layer is read by a worker: this very program again, as a user with no rights, with nothing but the
//! descriptors that it was handed. Here is the side of those who ask.
//!
//! A worker is killed when the thread that started it ends, and when its handle is dropped.

use super::closure::{Closure, Request};
use super::layer::index::{Content, Trailer};
use super::oci::Packing;
use crate::model::Digest;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

/// One layer for the closure: both descriptors readable, whatever their position.
pub struct Unpacked {
    /// What [`Index`] wrote.
    pub index: File,
    /// The unpacked layer.
    pub plain: File,
}

/// One layer for the merge: both descriptors readable, whatever their position.
pub struct Packed {
    /// What [`Index`] wrote.
    pub index: File,
    /// The blob.
    pub blob: File,
    /// How the blob is packed, as its media type says.
    pub packing: Packing,
}

/// What became of the question for a closure.
pub enum Settled {
    /// It can't be told without the next layer below.
    Below,
    /// The answer.
    Done(Answer),
}

/// A closure, every path of it checked: canonical, parents before children.
pub struct Answer {
    /// What to take along.
    pub closure: Closure,
    /// Where the contents of its files are, by their ids.
    pub places: BTreeMap<u64, Place>,
}

/// Where a file's contents are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which of the layers that were given: a position in that list.
    pub layer: usize,
    /// Where in that layer's unpacked file.
    pub content: Content,
}

/// A layer on its way through a worker that indexes it.
pub struct Index {}

impl Index {
    /// Starts a worker, as `user`, for a blob that comes piece by piece through [`Index::feed`]. The index is written
    /// to `out` from its position on, the unpacked layer to `plain` where that is wanted.
    pub fn start(_user: &User, _packing: Packing, _out: &File, _plain: Option<&File>) -> Result<Index> {
        Err(Error::refused("worker", "not there"))
    }

    /// The same for a blob that lies in a file, from its position on: there is nothing to feed.
    pub fn of_file(_user: &User, _packing: Packing, _blob: &File, _out: &File, _plain: Option<&File>) -> Result<Index> {
        Err(Error::refused("worker", "not there"))
    }

    /// Hands over the next bytes of the blob. A worker that has given up meanwhile is an error with its reason.
    pub fn feed(&mut self, _bytes: &[u8], _deadline: Deadline) -> Result<()> {
        Err(Error::refused("worker", "not there"))
    }

    /// That was all: waits for the end. Whether `diff_id` is right is for the caller to say.
    pub fn finish(self, _deadline: Deadline) -> Result<Trailer> {
        Err(Error::refused("worker", "not there"))
    }
}

/// The closure of an image's program. `layers` has the top one first; `complete`: the last of them is the image's base.
pub fn closure(
    _user: &User,
    _layers: &[Unpacked],
    _complete: bool,
    _request: &Request,
    _deadline: Deadline,
) -> Result<Settled> {
    Err(Error::refused("worker", "not there"))
}

/// Copies the contents at `content` in `plain` into `into`, which is empty: holes stay holes. The digest of them all.
pub fn copy(_content: &Content, _plain: &File, _into: &File) -> Result<Digest> {
    Err(Error::refused("worker", "not there"))
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

/// Where the arguments ask for a worker, this process is one and never returns. Call it first in `main`.
pub fn main_if_asked() {}

/// Makes `program` the one that is started as a worker, for tests: their own program is none of ours.
pub fn use_program(_program: std::path::PathBuf) {}
