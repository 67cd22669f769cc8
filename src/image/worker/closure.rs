//! The closure of an image's program, found by a worker and checked here: it reads what strangers made.

use super::super::closure::{Closure, Request, What};
use super::super::layer::index::{Content, Piece};
use super::super::layer::path::is_canonical;
use super::super::limits::{LAYER_MAX, PATH_MAX};
use super::job::{Job, Report, ToldPlace};
use super::process::{Worker, harmless, nonsense};
use crate::model::Digest;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// Bytes copied at once.
const CHUNK: usize = 256 << 10;

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
    user: &User,
    layers: &[Unpacked],
    complete: bool,
    request: &Request,
    deadline: Deadline,
) -> Result<Settled> {
    let numbers = layers.iter().map(|l| (l.index.as_raw_fd(), l.plain.as_raw_fd())).collect();
    let job = Job::Closure { layers: numbers, complete, request: Box::new(request.clone()) };
    let keep: Vec<_> = layers.iter().flat_map(|l| [l.index.as_fd(), l.plain.as_fd()]).collect();
    let mut worker = Worker::start(user, job, &keep, Stdio::null(), Stdio::null())?;
    match worker.finish(deadline)? {
        Report::Below if !complete => Ok(Settled::Below),
        Report::Closed { closure, places } => check(closure, places, layers.len()).map(Settled::Done),
        _ => Err(nonsense()),
    }
}

/// What a worker says is as little to be trusted as what it has read.
fn check(mut closure: Closure, told: Vec<ToldPlace>, layers: usize) -> Result<Answer> {
    let absolute = |path: &str| path.strip_prefix('/').is_some_and(|p| !p.is_empty() && is_canonical(p.as_bytes()));
    let plain = |text: &str| !text.chars().any(char::is_control);
    let mut places = BTreeMap::new();
    for place in told {
        let content = Content { size: place.size, pieces: place.pieces.iter().map(ToldPlace::piece).collect() };
        if place.layer >= layers || !in_order(&content) {
            return Err(nonsense());
        }
        places.insert(place.id, Place { layer: place.layer, content });
    }
    let mut directories = BTreeSet::from([""]);
    let mut seen = BTreeSet::new();
    for taken in &closure.entries {
        let path = taken.path.as_str();
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let parent_is_there = parent.is_some_and(|parent| directories.contains(parent));
        if !absolute(path) || !parent_is_there || !seen.insert(path) {
            return Err(nonsense());
        }
        let fine = match &taken.what {
            What::Directory => directories.insert(path),
            What::Symlink(target) => stays_inside(path, target),
            What::File(id, mode) => places.contains_key(id) && mode & !0o777 == 0,
        };
        if !fine {
            return Err(nonsense());
        }
    }
    if !absolute(&closure.program) || !closure.libraries.iter().chain(&closure.interpreter).all(|text| plain(text)) {
        return Err(nonsense());
    }
    for warning in &mut closure.warnings {
        *warning = harmless(warning);
    }
    Ok(Answer { closure, places })
}

/// Whether a link at `path` leads to what is taken along and not out of it: up through real directories, then down.
fn stays_inside(path: &str, target: &str) -> bool {
    let mut parts = target.split('/').peekable();
    let mut up = 0;
    while parts.next_if_eq(&"..").is_some() {
        up += 1;
    }
    let rest: Vec<&str> = parts.collect();
    let depth = path.matches('/').count() - 1;
    let down = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains('\0');
    target.len() < PATH_MAX && up <= depth && up + rest.len() > 0 && rest.iter().all(down)
}

fn in_order(content: &Content) -> bool {
    let mut end = 0;
    content.size <= LAYER_MAX
        && content.pieces.iter().all(|Piece { at, from, length }| {
            let fits = *at >= end && *length <= content.size && *at <= content.size - length;
            let there = from.checked_add(*length).is_some_and(|to| to <= i64::MAX as u64);
            end = at.saturating_add(*length);
            fits && there
        })
}

/// Copies the contents at `content` in `plain` into `into`, which is empty: holes stay holes, and long zeros become some. The digest of them all.
pub fn copy(content: &Content, plain: &File, into: &File) -> Result<Digest> {
    let mut buffer = vec![0; CHUNK];
    let mut hasher = sha2::Sha256::new();
    let mut at = 0;
    for piece in &content.pieces {
        zeros(&mut hasher, piece.at.saturating_sub(at));
        let mut done = 0;
        while done < piece.length {
            let count = (piece.length - done).min(CHUNK as u64) as usize;
            let Some(bytes) = buffer.get_mut(..count) else { break };
            plain.read_exact_at(bytes, piece.from + done).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => nonsense(),
                _ => Error::os("read", "unpacked layer")(e),
            })?;
            hasher.update(&*bytes);
            if bytes.iter().any(|byte| *byte != 0) {
                into.write_all_at(bytes, piece.at + done).map_err(Error::os("write", "file of an image"))?;
            }
            done += count as u64;
        }
        at = piece.at + piece.length;
    }
    zeros(&mut hasher, content.size.saturating_sub(at));
    into.set_len(content.size).map_err(Error::os("write", "file of an image"))?;
    Ok(Digest::finish(hasher))
}

fn zeros(hasher: &mut sha2::Sha256, mut count: u64) {
    const ZEROS: [u8; 4096] = [0; 4096];
    while count > 0 {
        let step = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..step as usize]);
        count -= step;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn long_zeros_take_no_space() {
        let path = |what: &str| std::env::temp_dir().join(format!("mcp-copy-{what}-{}", std::process::id()));
        let mut bytes = vec![0; 4 << 20];
        (bytes[1], bytes[3 << 20]) = (1, 2);
        std::fs::write(path("from"), &bytes).unwrap();
        let content = Content { size: 4 << 20, pieces: vec![Piece { at: 0, from: 0, length: 4 << 20 }] };
        let into = File::create(path("to")).unwrap();
        let digest = copy(&content, &File::open(path("from")).unwrap(), &into).unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert!(std::fs::read(path("to")).unwrap() == bytes);
        assert!(into.metadata().unwrap().blocks() * 512 < 1 << 20);
        for what in ["from", "to"] {
            std::fs::remove_file(path(what)).unwrap();
        }
    }

    #[test]
    fn links_that_lead_out() {
        for (path, target) in
            [("/usr/lib/a", "b"), ("/usr/lib/a", "../../lib64/b"), ("/lib", "usr/lib"), ("/a/b", "..")]
        {
            assert!(stays_inside(path, target), "{path} {target}");
        }
        for (path, target) in [
            ("/a", ".."),
            ("/a/b", "../../c"),
            ("/a", "/etc/passwd"),
            ("/a/b", "c/../../.."),
            ("/a", ""),
            ("/a", "b//c"),
        ] {
            assert!(!stays_inside(path, target), "{path} {target}");
        }
    }
}
