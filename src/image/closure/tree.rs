//! What is taken along, as it will lie in `rootfs/`.
//!
//! Files lie at their real paths. A symbolic link on the way to one is taken too, and leads, by a relative path, straight
//! to where it ends: so no link of the rootfs leaves it, whoever follows it. A link in the root itself, as of a merged
//! /usr (`/lib -> usr/lib`), becomes a real directory, since `ops` walks its sysroot from there; each name in it that is
//! taken becomes a link below (`/lib/x86_64-linux-gnu -> ../usr/lib/x86_64-linux-gnu`). Nanos follows those, for the
//! program, its interpreter and all that is opened later. Links that lead to nothing are left out, as `ops` does.

use super::command::WAY_OUT;
use super::walk::{Walked, join, name, parent, parts, relative, show, walk};
use super::{Files, Found, Stop, Taken, What};
use crate::sys::Error;
use std::collections::BTreeMap;

/// Entries of one rootfs: what a unikernel's disk is built of in a moment, and what an answer can be made of in memory.
pub const TAKEN_MAX: usize = 100_000;
/// Bytes of all their paths.
const PATHS_MAX: usize = 16 << 20;

/// What is taken along so far.
pub struct Tree<'a> {
    files: &'a dyn Files,
    entries: BTreeMap<Vec<u8>, Node>,
    /// Links in the root to directories, and where they lead.
    aliases: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    /// What could not be taken, for people.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    Symlink(Vec<u8>),
    File(u64, u32),
}

impl<'a> Tree<'a> {
    /// Nothing yet.
    pub fn new(files: &'a dyn Files) -> Tree<'a> {
        Tree { files, entries: BTreeMap::new(), aliases: BTreeMap::new(), bytes: 0, warnings: Vec::new() }
    }

    /// Takes what is at `path`, with the links that lead there: a file, or a directory without what is in it. The real
    /// path and what is there; `None` where nothing is.
    pub fn take(&mut self, path: &[u8]) -> Result<Option<Walked>, Stop> {
        let Some(walked) = walk(self.files, path)? else { return Ok(None) };
        let mut links = Vec::new();
        for link in &walked.links {
            let new = !self.entries.contains_key(link) && !self.aliases.contains_key(link);
            if new && let Some(end) = walk(self.files, link)? {
                links.push((link.clone(), end));
            }
        }
        match &walked.found {
            Found::File(file) => self.put(&walked.real, Node::File(file.id, file.mode & 0o777))?,
            Found::Directory => self.directory(&walked.real)?,
            _ => return Ok(Some(walked)),
        }
        for (link, end) in links {
            match (parent(&link).is_empty(), &end.found) {
                (true, Found::Directory) => {
                    self.directory(&end.real)?;
                    self.aliases.insert(link, end.real);
                }
                (true, Found::File(file)) => self.put(&link, Node::File(file.id, file.mode & 0o777))?,
                (false, _) => {
                    let way = relative(parent(&link), &end.real);
                    self.put(&link, Node::Symlink(way))?;
                }
                _ => {}
            }
        }
        Ok(Some(walked))
    }

    /// Whether there is room for one more directory, and all above it.
    pub fn has_room(&self) -> bool {
        self.entries.len() + 1024 < TAKEN_MAX && self.bytes + (1 << 20) < PATHS_MAX
    }

    /// Takes the directory `path`, and makes what the image hasn't got of it. What it has there instead stays.
    pub fn make(&mut self, path: &[u8]) -> Result<(), Stop> {
        let mut real = b"/".to_vec();
        let mut missing = false;
        for part in parts(path) {
            let next = join(&real, part);
            // Below what is not there is nothing; where a layer below would have to say, a directory is as good a guess.
            let found = if missing || part == b".." { Ok(None) } else { self.take(&next) };
            match found {
                Ok(Some(Walked { real: there, found: Found::Directory, .. })) => real = there,
                Ok(Some(_)) => return Ok(()),
                Ok(None) | Err(Stop::Below) => {
                    missing = true;
                    real = next;
                }
                Err(failed) => return Err(failed),
            }
        }
        match parts(&real).any(|p| p == b"..") {
            true => Ok(()),
            false => self.directory(&real),
        }
    }

    /// Takes the directory `path`, a real path, without what is in it.
    pub fn directory(&mut self, path: &[u8]) -> Result<(), Stop> {
        if path == b"/" || path.is_empty() {
            return Ok(());
        }
        self.put(path, Node::Directory)
    }

    fn put(&mut self, path: &[u8], node: Node) -> Result<(), Stop> {
        // Parents first; those that are there have theirs.
        let above = parent(path);
        if !above.is_empty() && !self.entries.contains_key(above) {
            self.put(above, Node::Directory)?;
        }
        if std::str::from_utf8(path).is_err() {
            if self.warnings.len() < 16 {
                self.warnings.push(format!("{}: left out: its name is not UTF-8, and ops takes no other", show(path)));
            }
            return Ok(());
        }
        // What is there already stays, and nothing lies below what is no directory.
        if self.entries.contains_key(path) || !above.is_empty() && self.entries.get(above) != Some(&Node::Directory) {
            return Ok(());
        }
        self.bytes += path.len();
        if self.entries.len() >= TAKEN_MAX || self.bytes > PATHS_MAX {
            let reason = format!("more than {TAKEN_MAX} files would be taken along; name less in `include`");
            return Err(Stop::Failed(Error::refused("unikernel", reason)));
        }
        self.entries.insert(path.to_vec(), node);
        Ok(())
    }

    /// The image that it is taken from.
    pub fn files(&self) -> &'a dyn Files {
        self.files
    }

    /// Whether this real path is taken.
    pub fn has(&self, path: &[u8]) -> bool {
        self.entries.contains_key(path)
    }

    /// All of it, sorted by path, and what people should know.
    pub fn finish(mut self) -> Result<(Vec<Taken>, Vec<String>), Stop> {
        for (alias, real) in std::mem::take(&mut self.aliases) {
            self.directory(&alias)?;
            let real = if real == b"/" { Vec::new() } else { real };
            let from = [&real[..], b"/"].concat();
            let below: Vec<Vec<u8>> = self
                .entries
                .range(from.clone()..)
                .map(|(path, _)| path)
                .take_while(|path| path.starts_with(&from))
                .filter(|path| parent(path) == real && **path != alias)
                .cloned()
                .collect();
            for path in below {
                let link = [&alias[..], b"/", name(&path)].concat();
                let way = relative(&alias, &path);
                self.put(&link, Node::Symlink(way))?;
            }
        }
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let mut taken = Vec::with_capacity(self.entries.len());
        for (path, node) in self.entries {
            let what = match node {
                Node::Directory => Some(What::Directory),
                Node::File(id, mode) => Some(What::File(id, mode)),
                Node::Symlink(way) => text(way).map(What::Symlink),
            };
            if memchr::memmem::find(&path, b"sysroot/").is_some() {
                let reason = format!("ops takes no path with \"sysroot/\" in it; {WAY_OUT}");
                return Err(Stop::Failed(Error::refused(show(&path), reason)));
            }
            if let (Some(path), Some(what)) = (text(path), what) {
                taken.push(Taken { path, what });
            }
        }
        Ok((taken, self.warnings))
    }
}
