//! The closure of an image's program, found by a worker and checked here: it reads what strangers made.

use super::super::closure::{Closure, Request};
use super::super::layer::index::Content;
use crate::model::Digest;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result};
use std::collections::BTreeMap;
use std::fs::File;

/// One layer for the closure: both descriptors readable, whatever their position.
pub struct Unpacked {
    /// What [`super::Index`] wrote.
    pub index: File,
    /// The unpacked layer.
    pub plain: File,
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
