//! The files of an image for whoever looks for an ELF and its libraries: the tree, and the unpacked layers.

use super::super::closure::{FileRef, Files, Found, Stop};
use super::index::Content;
use super::tree::{InodeId, Kind, NodeId, Tree, Walked};
use crate::sys::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A tree and the unpacked layers that its files are in.
pub struct Image {
    /// The tree.
    pub tree: Tree,
    /// By the numbers that the tree has for them.
    pub layers: Vec<File>,
}

impl Image {
    /// Where `path` leads; `None` where nothing is.
    fn walk(&self, path: &[u8], follow: bool) -> Result<Option<NodeId>, Stop> {
        if self.tree.is_unsure() {
            return Err(Stop::Below);
        }
        match self.tree.walk(path, follow, false) {
            Walked::To(node) => Ok(Some(node)),
            Walked::Below => Err(Stop::Below),
            Walked::Missing(..) | Walked::Blocked | Walked::Loop => Ok(None),
        }
    }

    /// Reads a file's contents from `offset` on; holes are zeros.
    fn read(&self, layer: usize, content: &Content, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let cut = || Error::refused("layer", "its unpacked copy is damaged; pull the image again");
        let file = self.layers.get(layer).ok_or_else(cut)?;
        let length = content.size.saturating_sub(offset).min(into.len() as u64);
        let (into, end) = (&mut into[..length as usize], offset + length);
        into.fill(0);
        let first = content.pieces.partition_point(|piece| piece.at + piece.length <= offset);
        for piece in content.pieces[first..].iter().take_while(|piece| piece.at < end) {
            let (from, to) = (piece.at.max(offset), (piece.at + piece.length).min(end));
            let into = &mut into[(from - offset) as usize..(to - offset) as usize];
            file.read_exact_at(into, piece.from + (from - piece.at)).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => cut(),
                _ => Error::os("read", "unpacked layer")(e),
            })?;
        }
        Ok(length as usize)
    }
}

impl Files for Image {
    fn look(&self, path: &[u8], follow: bool) -> Result<Found, Stop> {
        let Some(node) = self.walk(path, follow)? else { return Ok(Found::Nothing) };
        let (kind, about) = (self.tree.kind(node), self.tree.about(node));
        let (Some(kind), Some(about)) = (kind, about) else { return Err(Stop::Below) };
        Ok(match kind {
            Kind::Directory => Found::Directory,
            Kind::Symlink(target) => Found::Symlink(target.to_vec()),
            Kind::File(size) => Found::File(FileRef { id: about.inode.into(), size, mode: about.mode }),
            Kind::Char(..) | Kind::Block(..) | Kind::Fifo => Found::Other,
        })
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        let Some(node) = self.walk(path, true)? else { return Ok(Vec::new()) };
        if self.tree.kind(node) != Some(Kind::Directory) {
            return Ok(Vec::new());
        }
        if !self.tree.is_closed(node) {
            return Err(Stop::Below);
        }
        let mut names: Vec<Vec<u8>> = self.tree.children(node).map(|id| self.tree.name(id).to_vec()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn directories(&self, most: usize) -> Vec<Vec<u8>> {
        let (mut paths, mut level) = (Vec::new(), vec![(Vec::new(), 0)]);
        while !level.is_empty() && paths.len() < most {
            let mut next = Vec::new();
            for (path, directory) in level {
                let directories = self.tree.children(directory).filter(|n| self.tree.kind(*n) == Some(Kind::Directory));
                // Of a hostile image not all are held in memory.
                let directories = directories.take(most - next.len());
                next.extend(directories.map(|node| ([&path[..], b"/", self.tree.name(node)].concat(), node)));
            }
            next.sort_unstable();
            paths.extend(next.iter().map(|(path, _)| path.clone()));
            level = next;
        }
        paths.truncate(most);
        paths
    }

    fn read_at(&self, id: u64, offset: u64, into: &mut [u8]) -> Result<usize, Stop> {
        let found = InodeId::try_from(id).ok().and_then(|id| self.tree.content(id));
        let (layer, content) = found.ok_or_else(|| Stop::Failed(Error::refused("image", "no such file")))?;
        self.read(layer, &content, offset, into).map_err(Stop::Failed)
    }
}
