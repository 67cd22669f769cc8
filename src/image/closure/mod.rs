//! The ELF that an image runs, and all that it needs: read, never executed.
//!
//! It asks for files through [`Files`], which knows the upper layers first. What can't be told without a layer below is
//! [`Stop::Below`]: the caller fetches that layer and asks again.

use crate::image::oci::RunConfig;
use crate::sys::Error;
use serde::{Deserialize, Serialize};

/// Why an answer can't be had.
#[derive(Debug)]
pub enum Stop {
    /// It depends on a layer that is not there yet.
    Below,
    /// It is an error.
    Failed(Error),
}

/// What a path of the image leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing is there.
    Nothing,
    /// A directory.
    Directory,
    /// A symbolic link and its target (only where links are not followed).
    Symlink(Vec<u8>),
    /// A file.
    File(FileRef),
    /// A device, a pipe: nothing that can be taken along.
    Other,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// What [`Files::read_at`] takes.
    pub id: u64,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

/// The merged files of an image, as far as its layers are there. Paths are absolute, with or without links in them.
pub trait Files {
    /// What is at `path`. Links in its directories are followed inside the image; at its end too, where `follow` says
    /// so. More than `limits::LINKS_MAX` of them is [`Found::Nothing`].
    fn look(&self, path: &[u8], follow: bool) -> Result<Found, Stop>;

    /// `path` with all links resolved; `None` where nothing is there.
    fn real(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Stop>;

    /// Names in the directory `path`, sorted.
    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Stop>;

    /// Reads the file `id` from `offset` on; fewer bytes than asked for only at its end.
    fn read_at(&self, id: u64, offset: u64, into: &mut [u8]) -> Result<usize, Stop>;
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What the image says it runs.
    pub run: RunConfig,
    /// What replaces its Cmd.
    pub args: Option<Vec<String>>,
    /// Further paths to take along, files or directories.
    pub include: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// The ELF, absolute, links resolved.
    pub program: String,
    /// Its arguments, argument 0 among them.
    pub argv: Vec<String>,
    /// The dynamic loader as the ELF names it.
    pub interpreter: Option<String>,
    /// Libraries, absolute, as they will be looked for.
    pub libraries: Vec<String>,
    /// Everything to take along, parents before children, sorted by path.
    pub entries: Vec<Taken>,
    /// What may not work, for people.
    pub warnings: Vec<String>,
}

/// Something to take along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Absolute in the image; UTF-8, as all that `ops` takes.
    pub path: String,
    /// What it is.
    pub what: What,
}

/// See [`Taken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(String),
    /// A file: its id, and its permission bits without setuid and setgid.
    File(u64, u32),
}
