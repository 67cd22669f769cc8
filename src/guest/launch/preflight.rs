//! What is checked before anything is started. Each problem is one line that says the way out.

use crate::guest::launch::argv::{Boot, Vm};
use crate::guest::monitor::forward::{self, Reservation};
use crate::guest::state::{self, State};
use crate::model::{Component, ComponentId, Port};
use crate::sys::paths::{Paths, Slot};
use crate::sys::{Error, Result};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// What QEMU takes besides the guest's memory, MiB. Measured: about 40 under TCG.
const QEMU_OWN_MIB: u64 = 40;

/// Checks that there is memory for a component, and reserves its ports, but those that its serving instance has (`held`).
pub fn reserve(paths: &Paths, id: &ComponentId, component: &Component, held: &[Port]) -> Result<Vec<Reservation>> {
    check_memory(id, component.memory_mb)?;
    let is_held = |port: &Port| held.iter().any(|h| h.host_addr() == port.host_addr() && h.protocol == port.protocol);
    let free = component.ports.iter().filter(|port| !is_held(port));
    free.map(|port| forward::reserve(port, |port| holder_of_ours(paths, id, port))).collect()
}

/// Checks that what `vm` boots from is there and whole, and that there is room for what it writes.
pub fn check_files(paths: &Paths, vm: &Vm) -> Result<()> {
    vm.paths.check_socket_lengths()?;
    match &vm.boot {
        Boot::Disk(disk) => check_disk(disk, true)?,
        Boot::DiskWithKernel(disk, kernel) => {
            check_disk(disk, false)?;
            check_kernel(kernel)?;
        }
        Boot::Kernel { kernel, initrd, .. } => {
            check_kernel(kernel)?;
            if let Some(initrd) = initrd {
                check_file("initrd", initrd)?;
            }
        }
        Boot::Microvm { kernel, .. } => check_kernel(kernel)?,
    }
    for volume in &vm.volumes {
        if !volume.exists() {
            return Err(Error::refused(
                volume.display(),
                "volume missing, and without it the guest would write into its root disk; put the disk there \
                 (a Nanos volume is made by `ops volume create`)",
            ));
        }
        check_file("volume", volume)?;
    }
    if let Boot::Disk(disk) | Boot::DiskWithKernel(disk, _) = &vm.boot
        && !vm.persistent
    {
        check_space(&paths.lib, file_size(disk)?)?;
    }
    Ok(())
}

fn file_size(path: &Path) -> Result<u64> {
    // A block device's metadata says 0; its end says the truth.
    use std::io::{Seek, SeekFrom};
    let mut file = File::open(path).map_err(Error::path("open", path))?;
    file.seek(SeekFrom::End(0)).map_err(Error::path("seek", path))
}

/// A file of that kind that is there, regular (or a block device), readable and not empty.
fn check_file(kind: &str, path: &Path) -> Result<()> {
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
    if file_size(path)? == 0 {
        return Err(Error::refused(path.display(), format!("empty, so not a {kind}; build it again")));
    }
    Ok(())
}

/// A raw disk image that is whole and, as far as can be seen, bootable.
pub fn check_disk(path: &Path, must_boot: bool) -> Result<()> {
    check_file("disk image", path)?;
    let size = file_size(path)?;
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
        return Ok(());
    }
    // The master boot record's four partitions: first sector and count at bytes 8 and 12 of each entry.
    for entry in sector[446..510].chunks_exact(16) {
        let number = |at: usize| entry[at..at + 4].iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let end = (number(8) + number(12)) * SECTOR;
        // 0xee is GPT's protective entry, which may claim more than the disk has.
        if entry[4] != 0xee && number(12) > 0 && end > size {
            return truncated(format!("a partition ends at byte {end}, the file at {size}"));
        }
    }
    Ok(())
}

fn check_kernel(path: &Path) -> Result<()> {
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

/// Kibibytes of `key` in /proc/meminfo.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.split(':').next() == Some(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn check_memory(id: &ComponentId, memory_mb: u32) -> Result<()> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let needed = u64::from(memory_mb) + QEMU_OWN_MIB;
    let (Some(total), Some(available)) = (meminfo(&text, "MemTotal"), meminfo(&text, "MemAvailable")) else {
        return Ok(());
    };
    let (total, available) = (total / 1024, available / 1024);
    if needed > total {
        return Err(Error::refused(
            id,
            format!("memory_mb: {memory_mb} MiB and QEMU's {QEMU_OWN_MIB} are more than this node has ({total} MiB)"),
        ));
    }
    if needed > available {
        return Err(Error::busy(
            id,
            format!(
                "memory_mb: {memory_mb} MiB and QEMU's {QEMU_OWN_MIB} are more than is free now ({available} MiB); \
                 stop something"
            ),
        ));
    }
    Ok(())
}

/// Room for the overlay of a disk, should the guest overwrite all of it.
fn check_space(dir: &Path, needed: u64) -> Result<()> {
    crate::sys::file::create_dirs(dir)?;
    let stat = nix::sys::statvfs::statvfs(dir).map_err(Error::path("query space of", dir))?;
    if stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
        return Err(Error::refused(dir.display(), "on a read-only file system"));
    }
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    if free < needed {
        return Err(Error::busy(
            dir.display(),
            format!("{} MiB free, and the guest's disk may grow by {}; make room", free / MIB, needed.div_ceil(MIB)),
        ));
    }
    Ok(())
}

/// The component of ours that has `port`, when it is one.
fn holder_of_ours(paths: &Paths, own: &ComponentId, port: &Port) -> Option<String> {
    let dirs = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| !n.starts_with('.')).collect()
    };
    for service in dirs(&paths.run) {
        for component in dirs(&paths.run.join(&service)) {
            let id = ComponentId { service: service.clone(), component };
            if id == *own {
                continue;
            }
            for slot in Slot::ALL {
                let instance = paths.component(&id.service, &id.component).instance(slot);
                if state::is_alive(&instance).unwrap_or(false)
                    && State::read(&instance)
                        .ok()
                        .flatten()
                        .is_some_and(|s| s.ports.iter().any(|other| other.clashes(port)))
                {
                    return Some(id.to_string());
                }
            }
        }
    }
    None
}
