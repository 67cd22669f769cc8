//! What a worker is told, what it does, and what it reports.

use super::super::closure::{Closure, Request, Stop, What, settle};
use super::super::layer::ahead::Ahead;
use super::super::layer::files::Image;
use super::super::layer::index::{Piece, Trailer};
use super::super::layer::merge::merge;
use super::super::layer::scan::scan;
use super::super::layer::tree::Tree;
use super::super::layer::unpack::Unpack;
use super::super::oci::Packing;
use super::confine::confine;
use crate::model::Digest;
use crate::sys::error::EXIT_RETRY;
use crate::sys::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::FileExt;

/// The most that a specification or a report may have.
pub const MESSAGE_MAX: u64 = 64 << 20;

/// What to do. Descriptors by their numbers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    /// Blob on standard input.
    Index { packing: Packing, index: RawFd, plain: Option<RawFd> },
    /// Indexes and unpacked layers, the top one first.
    Closure { layers: Vec<(RawFd, RawFd)>, complete: bool, request: Box<Request> },
    /// Indexes and blobs, the base first; the tar goes to standard output.
    Merge { layers: Vec<(RawFd, RawFd, Packing)> },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    Indexed {
        diff_id: Digest,
        size: u64,
        entries: u64,
    },
    Below,
    Closed {
        closure: Closure,
        places: Vec<ToldPlace>,
    },
    Merged,
    /// Whoever read the tar has gone away.
    ReaderGone,
    Failed {
        retry: bool,
        object: String,
        reason: String,
    },
}

/// Where the contents of a file are.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToldPlace {
    pub id: u64,
    pub layer: usize,
    pub size: u64,
    pub pieces: Vec<(u64, u64, u64)>,
}

impl ToldPlace {
    pub fn piece(told: &(u64, u64, u64)) -> Piece {
        Piece { at: told.0, from: told.1, length: told.2 }
    }
}

impl Report {
    fn of(error: &Error) -> Report {
        let retry = error.exit_code() == EXIT_RETRY;
        let (object, reason) = match error {
            Error::Refused { object, reason } | Error::Busy { object, reason } => (object.clone(), reason.clone()),
            other => ("layer".into(), other.to_string()),
        };
        Report::Failed { retry, object, reason }
    }
}

/// The worker's life; its exit code. All that it has to say is in its report.
pub fn run(user: Option<u32>, parent: i32, job: RawFd, report: RawFd) -> i32 {
    let done = confine(user, parent).and_then(|()| work(read_job(job)?));
    let done = done.unwrap_or_else(|e| Report::of(&e));
    let Ok(mut text) = serde_json::to_vec(&done) else { return 1 };
    text.push(b'\n');
    if descriptor(report).write_all(&text).is_err() { 1 } else { 0 }
}

fn read_job(number: RawFd) -> Result<Job> {
    let mut file = descriptor(number);
    let mut text = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(MESSAGE_MAX).read_to_end(&mut text));
    read.map_err(Error::os("read", "job of a worker"))?;
    serde_json::from_slice(&text).map_err(|e| Error::refused("worker", format!("its job makes no sense: {e}")))
}

/// A descriptor that was handed to us.
fn descriptor(number: RawFd) -> File {
    // SAFETY: whoever started us says that this one is ours; each is named once.
    unsafe { File::from_raw_fd(number) }
}

fn work(job: Job) -> Result<Report> {
    match job {
        Job::Index { packing, index, plain } => {
            let plain = plain.map(|number| Box::new(descriptor(number)) as Box<dyn Write>);
            let Trailer { diff_id, size, entries } =
                scan(Ahead::new(Unpack::new(descriptor(0), packing)?)?, descriptor(index), plain)?;
            Ok(Report::Indexed { diff_id, size, entries })
        }
        Job::Closure { layers, complete, request } => close(&layers, complete, &request),
        Job::Merge { layers } => join(&layers),
    }
}

fn close(layers: &[(RawFd, RawFd)], complete: bool, request: &Request) -> Result<Report> {
    let mut image = Image { tree: Tree::new(complete), layers: Vec::new() };
    // The tree begins at the lowest.
    for (number, (index, plain)) in layers.iter().rev().enumerate() {
        image.tree.apply(number, Positioned { file: descriptor(*index), at: 0 })?;
        image.layers.push(descriptor(*plain));
    }
    let closure = match settle(&image, request) {
        Ok(closure) => closure,
        Err(Stop::Below) if !complete => return Ok(Report::Below),
        Err(Stop::Below) => return Err(Error::refused("image", "depends on layers that it doesn't have")),
        Err(Stop::Failed(e)) => return Err(e),
    };
    let mut ids: Vec<u64> = closure
        .entries
        .iter()
        .filter_map(|taken| match taken.what {
            What::File(id, _) => Some(id),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let place = |id: u64| {
        let (layer, content) = image.tree.content(u32::try_from(id).ok()?)?;
        let pieces = content.pieces.iter().map(|p| (p.at, p.from, p.length)).collect();
        Some(ToldPlace { id, layer: layers.len() - 1 - layer, size: content.size, pieces })
    };
    let places = ids.into_iter().filter_map(place).collect();
    Ok(Report::Closed { closure, places })
}

fn join(layers: &[(RawFd, RawFd, Packing)]) -> Result<Report> {
    let mut tree = Tree::new(true);
    for (number, (index, ..)) in layers.iter().enumerate() {
        tree.apply(number, Positioned { file: descriptor(*index), at: 0 })?;
    }
    let open = |number: usize| {
        let (_, blob, packing) = layers[number];
        Ahead::new(Unpack::new(Positioned { file: descriptor(blob), at: 0 }, packing)?)
    };
    match merge(&tree, open, descriptor(1)) {
        Ok(()) => Ok(Report::Merged),
        Err(Error::Os { source, .. }) if source.kind() == ErrorKind::BrokenPipe => Ok(Report::ReaderGone),
        Err(e) => Err(e),
    }
}

/// A file from its start, whatever its position, which whoever handed it over may share.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
