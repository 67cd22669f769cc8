//! The files of an image: its layers applied one over the other, from their indexes, in memory.
//!
//! A name in a directory is a node, what it leads to an inode, as on a disk: hard links are nodes with the same inode.
//! An entry takes some 100 bytes besides its name. Nodes that went are marked, not removed: nobody can make more of them
//! than there are entries.
//!
//! The layers at the bottom may be missing. Then nothing is known of what a directory has from there, unless it is
//! *closed*: made where nothing was or over something else, or opaque. An answer that depends on what isn't known is
//! [`Step::Below`].

mod apply;
mod names;
#[cfg(test)]
mod tests;
mod walk;

pub use walk::{Step, Walked};

use super::super::limits::ENTRIES_MAX;
use super::bad;
use super::index::{Content, Piece, Reader};
use crate::sys::{Error, Result};
use names::{Names, Table};
use std::cell::Cell;
use std::io::Read;

/// A node's number. The root's is 0.
pub type NodeId = u32;
/// An inode's number.
pub type InodeId = u32;

/// No node.
const NONE: u32 = u32::MAX;
/// The inode of a hard link whose target is below the layers that are there.
const UNKNOWN: InodeId = u32::MAX;
/// Parts of all files with holes.
const PIECES_MAX: usize = 2_000_000;

const ROOT: NodeId = 0;

/// The node is gone: nothing is there, in the layers below neither.
const GONE: u8 = 1;
/// A directory, now or once.
const DIRECTORY: u8 = 2;
/// Nothing of the missing layers shows in this directory.
const CLOSED: u8 = 4;
/// It is in the list of its directory.
const LINKED: u8 = 8;
/// `cleared` means something.
const CLEARED: u8 = 16;

/// A name in a directory.
struct Node {
    parent: NodeId,
    /// The next one in the same directory.
    next: NodeId,
    /// The first one in this directory.
    first: NodeId,
    inode: InodeId,
    name: u32,
    depth: u16,
    name_length: u8,
    /// The layer that wrote it last.
    layer: u8,
    /// The layer that last took away all that the layers below it had here.
    cleared: u8,
    flags: u8,
}

impl Node {
    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What a name leads to.
struct Inode {
    what: What,
    /// Offset and length in `names`; none has length 0.
    xattrs: (u32, u32),
    mtime: i64,
    uid: u32,
    gid: u32,
    mode: u16,
    /// The layer whose unpacked bytes are meant.
    layer: u8,
}

/// What an inode is, in few bytes.
#[derive(Clone, Copy)]
enum What {
    Directory,
    /// Size, and where it is in the unpacked layer: in one piece.
    File(u64, u64),
    /// Size, first piece and number of pieces.
    Holes(u64, u32, u32),
    /// Offset and length in `names`.
    Symlink(u32, u32),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// The files of an image, as far as its layers are there.
pub struct Tree {
    names: Names,
    nodes: Vec<Node>,
    inodes: Vec<Inode>,
    pieces: Vec<Piece>,
    table: Table,
    /// The layer that is being applied.
    layer: u8,
    entries: u64,
    /// An entry's place depends on missing layers: nothing can be told.
    unsure: bool,
    /// Bytes of link targets that were followed.
    expanded: Cell<u64>,
}

impl Tree {
    /// An empty tree; `closed`: no layer below the ones to come is missing.
    pub fn new(closed: bool) -> Tree {
        let mut tree = Tree {
            names: Names::default(),
            nodes: Vec::new(),
            inodes: vec![Inode {
                what: What::Directory,
                xattrs: (0, 0),
                mtime: 0,
                uid: 0,
                gid: 0,
                mode: 0o755,
                layer: 0,
            }],
            pieces: Vec::new(),
            table: Table::default(),
            layer: 0,
            entries: 0,
            unsure: false,
            expanded: Cell::new(0),
        };
        let flags = DIRECTORY | LINKED | if closed { CLOSED } else { 0 };
        tree.nodes.push(Node {
            parent: ROOT,
            next: NONE,
            first: NONE,
            inode: 0,
            name: 0,
            depth: 0,
            name_length: 0,
            layer: 0,
            cleared: 0,
            flags,
        });
        tree
    }

    /// Applies the layer whose index is `from` over what is there; it is number `layer`, counted from the lowest.
    pub fn apply<R: Read>(&mut self, layer: usize, from: R) -> Result<()> {
        self.layer = u8::try_from(layer).map_err(|_| bad("an image with too many layers"))?;
        let mut index = Reader::new(from)?;
        while let Some(entry) = index.entry()? {
            self.count()?;
            // Nothing can be told any more; what is left is only read to see that the index is whole.
            if !self.unsure {
                self.add(entry)?;
            }
        }
        Ok(())
    }

    /// One more entry, or a directory that one implies.
    fn count(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(Error::refused("image", format!("more than {ENTRIES_MAX} entries in its layers")));
        }
        Ok(())
    }

    /// What it is, as far as it is known.
    pub fn kind(&self, node: NodeId) -> Option<Kind<'_>> {
        Some(match self.inode(node)?.what {
            What::Directory => Kind::Directory,
            What::File(size, _) | What::Holes(size, ..) => Kind::File(size),
            What::Symlink(at, length) => Kind::Symlink(self.names.get(at, length)),
            What::Char(major, minor) => Kind::Char(major, minor),
            What::Block(major, minor) => Kind::Block(major, minor),
            What::Fifo => Kind::Fifo,
        })
    }

    /// Owner, mode and the like; `None` where that isn't known.
    pub fn about(&self, node: NodeId) -> Option<About> {
        let inode = self.inode(node)?;
        let Inode { mtime, uid, gid, mode, layer, .. } = *inode;
        Some(About { inode: self.nodes[node as usize].inode, mtime, uid, gid, mode: mode.into(), layer: layer.into() })
    }

    /// Extended attributes: names and values.
    pub fn xattrs(&self, node: NodeId) -> Vec<(&[u8], &[u8])> {
        self.inode(node).map(|inode| self.names.pairs(inode.xattrs.0, inode.xattrs.1)).unwrap_or_default()
    }

    /// Where the contents of inode `id` are: the layer, and the place in it. `None` when it is no file.
    pub fn content(&self, id: InodeId) -> Option<(usize, Content)> {
        let inode = self.inodes.get(id as usize)?;
        let content = match inode.what {
            What::File(0, _) => Content { size: 0, pieces: Vec::new() },
            What::File(size, from) => Content { size, pieces: vec![Piece { at: 0, from, length: size }] },
            What::Holes(size, first, count) => {
                let first = first as usize;
                Content { size, pieces: self.pieces.get(first..first + count as usize)?.to_vec() }
            }
            _ => return None,
        };
        Some((inode.layer.into(), content))
    }

    /// What is in the directory `node` now, in no order that means anything.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let mut next = self.nodes[node as usize].first;
        std::iter::from_fn(move || {
            let id = next;
            next = self.nodes.get(id as usize)?.next;
            Some(id)
        })
        .filter(|id| !self.nodes[*id as usize].is(GONE))
    }

    /// Its name.
    pub fn name(&self, node: NodeId) -> &[u8] {
        let node = &self.nodes[node as usize];
        self.names.get(node.name, node.name_length.into())
    }

    /// Its path below the root.
    pub fn path(&self, mut node: NodeId) -> Vec<u8> {
        let mut parts = Vec::new();
        while node != ROOT {
            parts.push(self.name(node));
            node = self.nodes[node as usize].parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// How many inodes there are, those nobody has a name for among them.
    pub fn inodes(&self) -> usize {
        self.inodes.len()
    }

    fn inode(&self, node: NodeId) -> Option<&Inode> {
        self.inodes.get(self.nodes[node as usize].inode as usize)
    }
}

/// What something in the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A file and its size.
    File(u64),
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Metadata of something in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its inode: names with the same one are hard links.
    pub inode: InodeId,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// The layer that has its contents.
    pub layer: usize,
}
