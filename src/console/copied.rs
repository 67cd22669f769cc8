//! How far the copy of a console has come: written down after each piece of it, so that the next supervisor begins where the
//! last one was killed, whatever the log's index says by then.

use crate::sys::{Error, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The file that says so: the log's inode and the offset in it, 8 bytes each.
#[derive(Debug)]
pub struct Copied(File);

impl Copied {
    /// Opens it; one that is new says nothing.
    pub fn open(path: &Path) -> Result<Copied> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options.open(path).map(Copied).map_err(Error::path("open", path))
    }

    /// The inode of the log that was copied last, and up to where.
    pub fn get(&self) -> Option<(u64, u64)> {
        let (mut inode, mut offset) = ([0; 8], [0; 8]);
        self.0.read_exact_at(&mut inode, 0).ok()?;
        self.0.read_exact_at(&mut offset, 8).ok()?;
        Some((u64::from_le_bytes(inode), u64::from_le_bytes(offset)))
    }

    /// Up to `offset` it is copied. That it can't be written down costs no more than it did without.
    pub fn set(&self, inode: u64, offset: u64) {
        let mut bytes = [0; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&inode.to_le_bytes());
        second.copy_from_slice(&offset.to_le_bytes());
        let _ = self.0.write_all_at(&bytes, 0);
    }
}
