//! Throw-away overlays: an empty qcow2 image in a file that has no name, so that it is gone with the last QEMU that
//! has it open, however that ends.

use crate::sys::{Error, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const CLUSTER: u64 = 65536;

/// The start of an empty qcow2 image of `size` bytes: header, refcounts, and room for its first table.
/// Format: QEMU's docs/interop/qcow2.txt, version 3.
fn empty_qcow2(size: u64) -> (Vec<u8>, u64) {
    // One entry of the first table maps a cluster of 8-byte entries that map a cluster of data each.
    let per_entry = CLUSTER * (CLUSTER / 8);
    let l1_entries = size.div_ceil(per_entry).max(1);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let (refcount_table, refcount_block, l1_table) = (CLUSTER, 2 * CLUSTER, 3 * CLUSTER);
    let mut image = Vec::new();
    image.extend(0x5146_49fb_u32.to_be_bytes());
    image.extend(3_u32.to_be_bytes());
    image.extend(0_u64.to_be_bytes()); // backing file name: given on the command line instead
    image.extend(0_u32.to_be_bytes());
    image.extend(16_u32.to_be_bytes()); // cluster bits
    image.extend(size.to_be_bytes());
    image.extend(0_u32.to_be_bytes()); // no encryption
    image.extend((l1_entries as u32).to_be_bytes());
    image.extend(l1_table.to_be_bytes());
    image.extend(refcount_table.to_be_bytes());
    image.extend(1_u32.to_be_bytes()); // refcount table clusters
    image.extend(0_u32.to_be_bytes()); // snapshots
    image.extend(0_u64.to_be_bytes());
    image.extend([0_u64.to_be_bytes(); 3].concat()); // feature bits
    image.extend(4_u32.to_be_bytes()); // 16-bit refcounts
    image.extend(104_u32.to_be_bytes()); // header length
    image.resize(refcount_table as usize, 0);
    image.extend(refcount_block.to_be_bytes());
    image.resize(refcount_block as usize, 0);
    for _ in 0..3 + l1_clusters {
        image.extend(1_u16.to_be_bytes());
    }
    (image, (3 + l1_clusters) * CLUSTER)
}

/// Makes an empty overlay for a disk of `size` bytes, as a nameless file in `dir`.
pub fn create(dir: &Path, size: u64) -> Result<File> {
    let file = nameless(dir)?;
    let (head, length) = empty_qcow2(size);
    file.write_all_at(&head, 0).map_err(Error::path("write overlay in", dir))?;
    file.set_len(length).map_err(Error::path("write overlay in", dir))?;
    Ok(file)
}

fn nameless(dir: &Path) -> Result<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match open(dir, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(fd) => Ok(fd.into()),
        Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EISDIR) => {
            // A file system without O_TMPFILE: a name for as short as we can.
            let path = dir.join(format!(".overlay-{}", std::process::id()));
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .map_err(Error::path("create overlay", &path))?;
            crate::sys::file::remove_if_there(&path)?;
            Ok(file)
        }
        Err(e) => Err(Error::path("create overlay in", dir)(e)),
    }
}
