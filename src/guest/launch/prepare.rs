//! From a component's specification to all that its start needs.

use crate::guest::instance::{Prepared, take_user};
use crate::guest::launch::accel;
use crate::guest::launch::argv::{self, Boot, Plan, Vm};
use crate::guest::launch::boot::{self, Make};
use crate::guest::launch::preflight;
use crate::guest::launch::spawn;
use crate::guest::microvm;
use crate::model::{Egress, Port, RootMode, Source};
use crate::supervise::Context;
use crate::sys::paths::Slot;
use crate::sys::{Error, Result, user};
use std::fs;
use std::path::{Path, PathBuf};

/// Works out a start: chooses, prepares and checks, and starts nothing. `beside`: the ports of the serving instance, which
/// the new one is to replace.
pub fn prepare(context: &Context<'_>, slot: Slot, beside: Option<&[Port]>) -> Result<Prepared> {
    let user = take_user(context, slot)?;
    let accel = accel::choose(context.node.qemu.accel, user.other().is_some())?;
    if let Some(note) = &accel.note {
        log::warn!("{note}");
    }
    // What is quickly refused comes before disks are made.
    let binary = spawn::find_program(&context.node.qemu.binary);
    spawn::check_program(&binary)?;
    let reserved = preflight::reserve(context.paths, context.id, context.component, beside.unwrap_or_default())?;
    let told = boot::handover(context)?;
    let (boot, kernel) = boot::boot(context, Make::As(&user))?;
    let vm = vm(context, slot, boot, accel.accel)?;
    preflight::check_files(context.paths, &vm)?;
    let initramfs = match kernel.zip(told) {
        Some((kernel, told)) => Some(microvm::initrd(context.paths, &kernel, &told, user.other())?),
        None => None,
    };
    let beside = beside.is_some();
    let plan = argv::plan(&vm);
    Ok(Prepared { plan, vm, binary, accel, user, initramfs, reserved, beside, opens_when_ready: beside })
}

/// The argument vector as a start would have it, with nothing made or taken for it.
pub fn dry_run(context: &Context<'_>) -> Result<(PathBuf, Plan)> {
    let accel = accel::choose(context.node.qemu.accel, nix::unistd::geteuid().is_root())?;
    let vm = vm(context, Slot::A, boot::boot(context, Make::Nothing)?.0, accel.accel)?;
    vm.paths.check_socket_lengths()?;
    Ok((spawn::find_program(&context.node.qemu.binary), argv::plan(&vm)))
}

/// Whether [`prepare`] would come to its end but for what passes: ports, users, memory and space that others have. Nothing is made,
/// taken or started.
pub fn check(context: &Context<'_>) -> Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        user::check_range(context.node.qemu.uid_range)?;
    }
    let accel = accel::choose(context.node.qemu.accel, is_root)?;
    spawn::check_program(&spawn::find_program(&context.node.qemu.binary))?;
    preflight::check_total_memory(context.id, context.component.memory_mb)?;
    let told = boot::handover(context)?;
    let (boot, kernel) = boot::boot(context, Make::Check)?;
    let mut vm = vm(context, Slot::A, boot, accel.accel)?;
    if !matches!(context.component.source, Source::Disk { .. } | Source::Kernel { .. }) {
        // The others are made at the first start.
        vm.volumes.retain(|volume| volume.exists());
    }
    preflight::check_whole(&vm)?;
    match kernel.filter(|_| told.is_some()) {
        Some(kernel) => microvm::initramfs::check(context.paths, &kernel),
        None => Ok(()),
    }
}

fn vm(context: &Context<'_>, slot: Slot, boot: Boot, accel: crate::model::node::Accel) -> Result<Vm> {
    let component = context.component;
    let files = context.files();
    let volume = |v: &crate::model::Volume| files.volumes.join(format!("{}.raw", v.name));
    Ok(Vm {
        name: context.id.to_string(),
        uuid: new_uuid()?,
        accel,
        machine: context.node.qemu.machine.clone(),
        memory_mb: component.memory_mb,
        vcpus: component.vcpus,
        boot,
        persistent: component.root == RootMode::Persistent,
        volumes: component.volumes.iter().map(volume).collect(),
        restrict: component.egress == Egress::None,
        paths: files.instance(slot),
        extra: context.node.qemu.extra_args.clone(),
    })
}

fn new_uuid() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    fs::read_to_string(path).map(|text| text.trim().to_string()).map_err(Error::path("read", path))
}
