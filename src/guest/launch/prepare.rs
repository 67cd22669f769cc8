//! From a component's specification to all that its start needs.

use crate::guest::instance::{Context, Prepared, take_user};
use crate::guest::launch::accel;
use crate::guest::launch::argv::{self, Boot, Plan, Vm};
use crate::guest::launch::preflight;
use crate::guest::launch::spawn;
use crate::guest::microvm::{self, GuestKernel};
use crate::init::handover::Handover;
use crate::model::{Egress, RootMode, Source, env_file};
use crate::sys::paths::Slot;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result, file};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Works out a start: chooses, prepares and checks, and starts nothing.
pub fn prepare(context: &Context<'_>, slot: Slot) -> Result<Prepared> {
    let user = take_user(context, slot)?;
    let accel = accel::choose(context.node.qemu.accel, user.other().is_some())?;
    if let Some(note) = &accel.note {
        log::warn!("{note}");
    }
    // What is quickly refused comes before disks are made.
    let binary = spawn::find_program(&context.node.qemu.binary);
    spawn::check_program(&binary)?;
    let reserved = preflight::reserve(context.paths, context.id, context.component)?;
    let told = match context.component.source {
        Source::Rootfs { .. } => Some(handover(context)?),
        _ => None,
    };
    let (boot, kernel) = boot(context, Some(&user))?;
    let vm = vm(context, slot, boot, accel.accel)?;
    preflight::check_files(context.paths, &vm)?;
    let initramfs = match kernel.zip(told) {
        Some((kernel, told)) => Some(microvm::initrd(context.paths, &kernel, &told, user.other())?),
        None => None,
    };
    Ok(Prepared { plan: argv::plan(&vm), vm, binary, accel, user, initramfs, reserved })
}

/// The argument vector as a start would have it, with nothing made or taken for it.
pub fn dry_run(context: &Context<'_>) -> Result<(PathBuf, Plan)> {
    let accel = accel::choose(context.node.qemu.accel, nix::unistd::geteuid().is_root())?;
    let vm = vm(context, Slot::A, boot(context, None)?.0, accel.accel)?;
    vm.paths.check_socket_lengths()?;
    Ok((spawn::find_program(&context.node.qemu.binary), argv::plan(&vm)))
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

/// How long the tools that make disks may take.
const MAKE_TIMEOUT: Duration = Duration::from_secs(600);

/// What is booted, and a microvm's kernel with its modules. With a user it also makes what is missing on the way.
fn boot(context: &Context<'_>, make_as: Option<&User>) -> Result<(Boot, Option<GuestKernel>)> {
    match &context.component.source {
        Source::Disk { disk, kernel } => {
            if make_as.is_some() {
                crate::sys::disk::check_disk(disk, kernel.is_none())?;
            }
            let disk = match context.component.root {
                RootMode::Ephemeral => disk.clone(),
                RootMode::Persistent => private_disk(context, disk, make_as.is_some())?,
            };
            let boot = match kernel {
                Some(kernel) => Boot::DiskWithKernel(disk, kernel.clone()),
                None => Boot::Disk(disk),
            };
            Ok((boot, None))
        }
        Source::Kernel { kernel, initrd, cmdline } => {
            let cmdline = cmdline.clone().unwrap_or_default();
            Ok((Boot::Kernel { kernel: kernel.clone(), initrd: initrd.clone(), cmdline }, None))
        }
        Source::Rootfs { rootfs } => microvm_boot(context, rootfs, make_as),
        Source::Image { .. } => Err(Error::refused(
            context.id,
            "running an image is not there yet; name a disk, kernel or rootfs in its definition instead",
        )),
    }
}

fn microvm_boot(context: &Context<'_>, rootfs: &Path, make_as: Option<&User>) -> Result<(Boot, Option<GuestKernel>)> {
    let (paths, id) = (context.paths, context.id);
    let kernel = microvm::find_kernel(context.node, paths)?;
    let persistent = context.component.root == RootMode::Persistent;
    let deadline = Deadline::after(MAKE_TIMEOUT);
    let (root, upper) = match make_as {
        Some(user) => {
            for volume in &context.component.volumes {
                microvm::volume(paths, id, &volume.name, volume.size, deadline)?;
            }
            let run_as = user.other();
            let root = microvm::root_squashfs(paths, id, rootfs, run_as, deadline)?;
            (root, if persistent { Some(microvm::upper(paths, id, None, deadline)?) } else { None })
        }
        // What a start would make of them.
        None => (rootfs.to_path_buf(), persistent.then(|| context.files().disks.join("root.raw"))),
    };
    let boot = Boot::Microvm {
        kernel: kernel.kernel.clone(),
        initramfs: paths.lib.join("microvm/initramfs"),
        root,
        upper,
        cmdline: microvm::command_line(),
    };
    Ok((boot, Some(kernel)))
}

/// What the guest's init is told.
fn handover(context: &Context<'_>) -> Result<Handover> {
    let component = context.component;
    let secret = component.env_file.as_deref().map(env_file::read).transpose()?.unwrap_or_default();
    let args = component.args.clone().filter(|args| !args.is_empty()).ok_or_else(|| {
        Error::refused(context.id, "a rootfs does not say what to run; name the program and its arguments as args")
    })?;
    microvm::handover(context.id, component, args, secret)
}

/// The component's own copy of its root disk, made at its first start.
fn private_disk(context: &Context<'_>, image: &Path, make: bool) -> Result<PathBuf> {
    let dir = context.files().disks;
    let disk = dir.join("root.raw");
    if disk.exists() || !make {
        return Ok(disk);
    }
    file::create_dirs(&dir)?;
    let temporary = dir.join("root.raw.tmp");
    let copy = || -> std::io::Result<()> {
        // Shares the blocks where the file system can.
        fs::copy(image, &temporary)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &disk)
    };
    copy().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::path("copy to", &disk)(e)
    })?;
    Ok(disk)
}

fn new_uuid() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    fs::read_to_string(path).map(|text| text.trim().to_string()).map_err(Error::path("read", path))
}
