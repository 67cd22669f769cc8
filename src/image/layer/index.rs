//! The index of a layer: its entries in the order of its tar, with the place of each file's contents in it.
//!
//! As a file: eight bytes of magic and version; for each entry a tag, its path (how much of it is that of the one before,
//! then the rest), mode, owner, group, time, attributes and what its kind has; the tag of the end with the trailer; and
//! the SHA-256 of all that. Numbers are LEB128.

mod peek;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use peek::peek;
pub use read::Reader;
pub use write::Writer;

use crate::model::Digest;

/// What an index begins with; the last byte is its version.
const MAGIC: [u8; 8] = *b"mcp-idx\x01";

/// What is in front of each entry, and what closes the file.
mod tag {
    pub const END: u8 = 0;
    pub const DIRECTORY: u8 = 1;
    pub const FILE: u8 = 2;
    pub const SYMLINK: u8 = 3;
    pub const HARDLINK: u8 = 4;
    pub const CHAR_DEVICE: u8 = 5;
    pub const BLOCK_DEVICE: u8 = 6;
    pub const FIFO: u8 = 7;
    pub const WHITEOUT: u8 = 8;
    pub const OPAQUE: u8 = 9;
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below the root, with no `/` in front, no empty part, `.` or `..`. The root itself is empty.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky among them.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// Extended attributes: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file.
    File(Content),
    /// A symbolic link, and its target as it stands there.
    Symlink(Vec<u8>),
    /// Another name of the file at that path, in the form of [`Entry::path`].
    Hardlink(Vec<u8>),
    /// A character device: major and minor.
    CharDevice(u32, u32),
    /// A block device: major and minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// `.wh.NAME`: what the layers below have at this path is gone.
    Whiteout,
    /// `.wh..wh..opq`: all that the layers below have in this directory is gone.
    Opaque,
}

/// Where a file's contents are in the unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its size, holes included.
    pub size: u64,
    /// Pieces that are there: where in the file, where in the unpacked layer, bytes. In order, without overlap; what is
    /// between them is zeros.
    pub pieces: Vec<Piece>,
}

/// See [`Content::pieces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Offset in the file.
    pub at: u64,
    /// Offset in the unpacked layer.
    pub from: u64,
    /// Bytes.
    pub length: u64,
}

/// What closes an index: without it the index is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Digest of the unpacked layer.
    pub diff_id: Digest,
    /// Bytes of the unpacked layer.
    pub size: u64,
    /// Entries.
    pub entries: u64,
}
