//! What can be told of a disk, a kernel or an initrd before a guest is started on it.

use super::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// A file system with less free than this many bytes is full.
const FULL: u64 = 256 << 10;

/// What to say where the file system of `place` is full.
pub fn full(place: &Path) -> Option<String> {
    let there = place.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    let (free, all) = (stat.blocks_available(), stat.blocks());
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let told = || format!("{} of {} KiB free at {}; make room", bytes(free) >> 10, bytes(all) >> 10, there.display());
    (bytes(free) < FULL).then(told)
}

/// A partition of a master boot record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its first byte.
    pub from: u64,
    /// The byte after its last one.
    pub end: u64,
}

/// Bytes of a file or a block device.
pub fn size(path: &Path) -> Result<u64> {
    // A block device's metadata says 0; its end says the truth.
    let mut file = File::open(path).map_err(Error::path("open", path))?;
    file.seek(SeekFrom::End(0)).map_err(Error::path("seek", path))
}

/// A file of that kind that is there, regular (or a block device), readable and not empty.
pub fn check_file(kind: &str, path: &Path) -> Result<()> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Error::refused(path.display(), format!("{kind} missing: no such file")));
        }
        Err(e) => return Err(Error::path("stat", path)(e)),
    };
    if meta.is_dir() {
        return Err(Error::refused(path.display(), format!("is a directory, not a {kind}")));
    }
    if !meta.is_file() && !meta.file_type().is_block_device() {
        return Err(Error::refused(path.display(), format!("neither a file nor a block device, so not a {kind}")));
    }
    if size(path)? == 0 {
        return Err(Error::refused(path.display(), format!("empty, so not a {kind}; build it again")));
    }
    Ok(())
}

/// A raw disk image that is whole and, as far as can be seen, bootable. Returns its partitions, none where it has no
/// boot record and need not have one.
pub fn check_disk(path: &Path, must_boot: bool) -> Result<Vec<Partition>> {
    check_file("disk image", path)?;
    let size = size(path)?;
    let truncated =
        |what: String| Err(Error::refused(path.display(), format!("truncated: {what}; build or copy it again")));
    if size % SECTOR != 0 {
        return truncated(format!("{size} bytes is not a whole number of 512-byte sectors"));
    }
    let mut sector = [0_u8; SECTOR as usize];
    let file = File::open(path).map_err(Error::path("open", path))?;
    file.read_exact_at(&mut sector, 0).map_err(Error::path("read", path))?;
    if sector[510..] != [0x55, 0xaa] {
        if must_boot {
            return Err(Error::refused(
                path.display(),
                "not a bootable raw disk image: no boot signature in its first sector",
            ));
        }
        return Ok(Vec::new());
    }
    // The master boot record's four partitions: first sector and count at bytes 8 and 12 of each entry.
    let mut partitions = Vec::new();
    for entry in sector[446..510].chunks_exact(16) {
        let number = |at: usize| entry[at..at + 4].iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let (from, end) = (number(8) * SECTOR, (number(8) + number(12)) * SECTOR);
        // 0xee is GPT's protective entry, which may claim more than the disk has.
        if entry[4] == 0xee || number(12) == 0 {
            continue;
        }
        if end > size {
            return truncated(format!("a partition ends at byte {end}, the file at {size}"));
        }
        partitions.push(Partition { from, end });
    }
    Ok(partitions)
}

/// A kernel that QEMU can boot by itself.
pub fn check_kernel(path: &Path) -> Result<()> {
    check_file("kernel", path)?;
    let file = File::open(path).map_err(Error::path("open", path))?;
    let mut head = [0_u8; 518];
    let is_elf = file.read_exact_at(&mut head[..4], 0).is_ok() && head[..4] == *b"\x7fELF";
    // Linux's boot protocol: "HdrS" at 0x202.
    let is_linux = file.read_exact_at(&mut head, 0).is_ok() && head[0x202..0x206] == *b"HdrS";
    if is_elf || is_linux {
        return Ok(());
    }
    Err(Error::refused(path.display(), "neither an ELF kernel nor a Linux bzImage"))
}
