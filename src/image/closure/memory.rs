//! For tests: an image in memory or in a folder, with a line below which nothing is known.
#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use super::{FileRef, Files, Found, Stop};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Files by their real path.
#[derive(Default, Clone)]
pub struct Memory {
    nodes: BTreeMap<Vec<u8>, Node>,
    contents: Vec<Vec<u8>>,
    /// What is not here is in a layer that is not there yet, but for directories named by `opaque`.
    pub partial: bool,
    /// Calls of `read_at`, and the bytes that they gave.
    pub reads: Cell<(u64, u64)>,
    opaque: BTreeSet<Vec<u8>>,
}

#[derive(Clone)]
enum Node {
    Directory,
    Link(Vec<u8>),
    File(usize, u32),
    Other,
}

impl Memory {
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        self.file_mode(path, contents, 0o755);
    }

    pub fn file_mode(&mut self, path: &str, contents: &[u8], mode: u32) {
        self.contents.push(contents.to_vec());
        self.put(path.as_bytes(), Node::File(self.contents.len() - 1, mode));
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.put(path.as_bytes(), Node::Link(target.as_bytes().to_vec()));
    }

    pub fn dir(&mut self, path: &str) {
        self.put(path.as_bytes(), Node::Directory);
    }

    pub fn device(&mut self, path: &str) {
        self.put(path.as_bytes(), Node::Other);
    }

    pub fn opaque(&mut self, path: &str) {
        self.opaque.insert(path.as_bytes().to_vec());
    }

    pub fn remove(&mut self, path: &str) {
        self.nodes.remove(path.as_bytes());
    }

    fn put(&mut self, path: &[u8], node: Node) {
        let mut at = super::walk::parent(path);
        while !at.is_empty() {
            self.nodes.entry(at.to_vec()).or_insert(Node::Directory);
            at = super::walk::parent(at);
        }
        self.nodes.insert(path.to_vec(), node);
    }

    /// All below a folder of the host.
    pub fn take_folder(&mut self, folder: &Path) {
        self.below(folder, "");
    }

    fn below(&mut self, folder: &Path, path: &str) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
            let kind = entry.file_type().unwrap();
            if kind.is_symlink() {
                self.link(&path, std::fs::read_link(entry.path()).unwrap().to_str().unwrap());
            } else if kind.is_dir() {
                self.dir(&path);
                self.below(&entry.path(), &path);
            } else if kind.is_file() {
                use std::os::unix::fs::PermissionsExt;
                let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
                self.file_mode(&path, &std::fs::read(entry.path()).unwrap(), mode);
            }
        }
    }
}

impl Files for Memory {
    fn look(&self, path: &[u8], follow: bool) -> Result<Found, Stop> {
        assert!(!follow, "only plain looks are used");
        assert!(path[0] == b'/' && !path.ends_with(b"/"), "{}", String::from_utf8_lossy(path));
        match self.nodes.get(path) {
            None if self.partial && !self.opaque.contains(super::walk::parent(path)) => Err(Stop::Below),
            None => Ok(Found::Nothing),
            Some(Node::Directory) => Ok(Found::Directory),
            Some(Node::Link(target)) => Ok(Found::Symlink(target.clone())),
            Some(Node::Other) => Ok(Found::Other),
            Some(Node::File(id, mode)) => {
                Ok(Found::File(FileRef { id: *id as u64, size: self.contents[*id].len() as u64, mode: *mode }))
            }
        }
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        if self.partial && !self.opaque.contains(path) {
            return Err(Stop::Below);
        }
        let path = if path == b"/" { b"" } else { path };
        let inside = |p: &&Vec<u8>| super::walk::parent(p) == path;
        Ok(self.nodes.keys().filter(inside).map(|p| super::walk::name(p).to_vec()).collect())
    }

    fn directories(&self, most: usize) -> Vec<Vec<u8>> {
        let directories = self.nodes.iter().filter(|(_, node)| matches!(node, Node::Directory));
        directories.map(|(path, _)| path.clone()).take(most).collect()
    }

    fn read_at(&self, id: u64, offset: u64, into: &mut [u8]) -> Result<usize, Stop> {
        let all = &self.contents[usize::try_from(id).unwrap()];
        let from = usize::try_from(offset).unwrap().min(all.len());
        let length = into.len().min(all.len() - from);
        into[..length].copy_from_slice(&all[from..from + length]);
        let (calls, bytes) = self.reads.get();
        self.reads.set((calls + 1, bytes + length as u64));
        Ok(length)
    }
}
