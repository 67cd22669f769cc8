//! What is checked before anything is started. Each problem is one line that says the way out.

use crate::guest::launch::argv::{Boot, Vm};
use crate::model::{Component, ComponentId, Port};
use crate::supervise::reserve::{self, Reservation};
use crate::sys::disk::{check_disk, check_file, check_kernel};
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, disk, memory};
use std::path::Path;

const MIB: u64 = 1 << 20;
/// What QEMU takes besides the guest's memory, MiB. Measured: about 40 under TCG.
pub const QEMU_OWN_MIB: u64 = 40;

/// Checks that there is memory for a component, and reserves its ports, but those that its serving instance has (`held`).
pub fn reserve(paths: &Paths, id: &ComponentId, component: &Component, held: &[Port]) -> Result<Vec<Reservation>> {
    check_memory(id, component.memory_mb)?;
    reserve::all(paths, id, &component.ports, held)
}

/// Checks that what `vm` boots from is there and whole, and that there is room for what it writes.
pub fn check_files(paths: &Paths, vm: &Vm) -> Result<()> {
    check_whole(vm)?;
    if let Boot::Disk(file) | Boot::DiskWithKernel(file, _) = &vm.boot
        && !vm.persistent
    {
        check_space(&paths.lib, disk::size(file)?)?;
    }
    Ok(())
}

/// Checks that what `vm` boots from is there and whole.
pub fn check_whole(vm: &Vm) -> Result<()> {
    vm.paths.check_socket_lengths()?;
    match &vm.boot {
        Boot::Disk(disk) => drop(check_disk(disk, true)?),
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
    Ok(())
}

/// Whether this node has memory free for a VM of that many MiB.
pub fn check_memory(id: &ComponentId, memory_mb: u32) -> Result<()> {
    check_total_memory(id, memory_mb)?;
    if let Some(available) = memory::available_mib()
        && u64::from(memory_mb) + QEMU_OWN_MIB > available
    {
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

/// Whether this node could ever have that memory free.
pub fn check_total_memory(id: &ComponentId, memory_mb: u32) -> Result<()> {
    match memory::total_mib().filter(|total| u64::from(memory_mb) + QEMU_OWN_MIB > *total) {
        Some(total) => Err(Error::refused(
            id,
            format!("memory_mb: {memory_mb} MiB and QEMU's {QEMU_OWN_MIB} are more than this node has ({total} MiB)"),
        )),
        None => Ok(()),
    }
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
