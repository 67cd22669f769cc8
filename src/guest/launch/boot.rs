//! What is booted: from where a component's program comes to a kernel and its disks, made where they are missing.

use crate::guest::launch::argv::Boot;
use crate::guest::launch::disk;
use crate::guest::microvm::{self, GuestKernel, Program};
use crate::init::handover::Handover;
use crate::model::{Built, RootMode, Runtime, Source, env_file};
use crate::supervise::Context;
use crate::sys::disk::check_disk;
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result, squashfs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the tools that make disks may take.
const MAKE_TIMEOUT: Duration = Duration::from_secs(600);

/// What is done about what a first start makes: volumes, a root of its own, the disk of a folder.
#[derive(Debug, Clone, Copy)]
pub enum Make<'a> {
    /// Nothing, and what it is made of is not looked at either.
    Nothing,
    /// Nothing, but it could be made: what it is made of and with is there.
    Check,
    /// It is made; tools run as this user.
    As(&'a User),
}

/// What is booted, and a microvm's kernel with its modules.
pub fn boot(context: &Context<'_>, make: Make<'_>) -> Result<(Boot, Option<GuestKernel>)> {
    match &context.component.source {
        Source::Disk { disk, kernel } => Ok((of_disk(context, disk, kernel.as_deref(), make)?, None)),
        Source::Kernel { kernel, initrd, cmdline } => {
            let cmdline = cmdline.clone().unwrap_or_default();
            Ok((Boot::Kernel { kernel: kernel.clone(), initrd: initrd.clone(), cmdline }, None))
        }
        Source::Rootfs { rootfs } => {
            let root = |user: &User, deadline| {
                microvm::root_squashfs(context.paths, context.id, rootfs, user.other(), deadline)
            };
            let kernel = microvm::find_kernel(context.node, context.paths)?;
            // Before a volume is made.
            if !matches!(make, Make::Nothing) {
                microvm::root::check(context.paths, context.id, rootfs)?;
            }
            of_microvm(context, kernel, rootfs, make, root)
        }
        Source::Image { .. } | Source::Built { .. } => {
            let (dir, built) = read_build(context)?;
            let root = dir.join(&built.disk);
            if built.runtime == Runtime::Microvm {
                let kernel = microvm::find_kernel(context.node, context.paths)?;
                if !matches!(make, Make::Nothing) {
                    squashfs::check(&root)?;
                }
                return of_microvm(context, kernel, &root, make, |_, _| Ok(root.clone()));
            }
            match make {
                Make::Nothing => {}
                Make::Check => drop(disk::check_nanos_volumes(context, &dir, &built)?),
                Make::As(_) => disk::nanos_volumes(context, &dir, &built)?,
            }
            let kernel = built.kernel.as_ref().map(|name| dir.join(name));
            Ok((of_disk(context, &root, kernel.as_deref(), make)?, None))
        }
    }
}

/// The build that `context` runs, which must be there and fit.
fn read_build(context: &Context<'_>) -> Result<(PathBuf, Built)> {
    let id = context.id;
    let dir = context.build().ok_or_else(|| Error::refused(id, format!("never deployed: mcp deploy {id}")))?;
    let built = Built::read(&dir)?;
    if built.runtime != context.component.runtime {
        return Err(Error::refused(
            dir.display(),
            format!("built for another runtime; mcp deploy {id} builds it anew"),
        ));
    }
    Ok((dir, built))
}

fn of_disk(context: &Context<'_>, image: &Path, kernel: Option<&Path>, make: Make<'_>) -> Result<Boot> {
    if !matches!(make, Make::Nothing) {
        check_disk(image, kernel.is_none())?;
    }
    let disk = match context.component.root {
        RootMode::Ephemeral => image.to_path_buf(),
        RootMode::Persistent => disk::private_root(context, image, matches!(make, Make::As(_)))?,
    };
    // Its copy, where it has none yet, would be as the image is.
    let disk = if matches!(make, Make::Check) && !disk.exists() { image.to_path_buf() } else { disk };
    Ok(match kernel {
        Some(kernel) => Boot::DiskWithKernel(disk, kernel.to_path_buf()),
        None => Boot::Disk(disk),
    })
}

fn of_microvm(
    context: &Context<'_>,
    kernel: GuestKernel,
    shown: &Path,
    make: Make<'_>,
    root: impl FnOnce(&User, Deadline) -> Result<PathBuf>,
) -> Result<(Boot, Option<GuestKernel>)> {
    let (paths, id) = (context.paths, context.id);
    let persistent = context.component.root == RootMode::Persistent;
    let deadline = Deadline::after(MAKE_TIMEOUT);
    if let Make::Check = make {
        for volume in &context.component.volumes {
            microvm::volume::check(paths, id, &volume.name, volume.size)?;
        }
        if persistent {
            microvm::volume::check_upper(paths, id)?;
        }
    }
    let (root, upper) = match make {
        Make::As(user) => {
            for volume in &context.component.volumes {
                microvm::volume(paths, id, &volume.name, volume.size, deadline)?;
            }
            let root = root(user, deadline)?;
            (root, if persistent { Some(microvm::upper(paths, id, None, deadline)?) } else { None })
        }
        // What a start would make of them.
        Make::Nothing | Make::Check => {
            (shown.to_path_buf(), persistent.then(|| context.files().disks.join("root.raw")))
        }
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

/// What a microvm's init is told; `None` for another guest.
pub fn handover(context: &Context<'_>) -> Result<Option<Handover>> {
    let component = context.component;
    let own = component.args.clone().filter(|args| !args.is_empty());
    let program = match &component.source {
        Source::Rootfs { .. } => {
            let args: Vec<String> =
                component.entrypoint.iter().flatten().cloned().chain(own.into_iter().flatten()).collect();
            if args.is_empty() {
                let reason = "a rootfs does not say what to run; name the program and its arguments as args";
                return Err(Error::refused(context.id, reason));
            }
            Program { args, ..Program::default() }
        }
        Source::Image { .. } | Source::Built { .. } => {
            let (_, built) = read_build(context)?;
            if built.runtime != Runtime::Microvm {
                return Ok(None);
            }
            let (entrypoint, cmd) = match &component.entrypoint {
                None => (built.entrypoint, built.cmd),
                Some(words) if words.is_empty() => (Vec::new(), built.cmd),
                Some(words) => (words.clone(), Vec::new()),
            };
            let args: Vec<String> = entrypoint.into_iter().chain(own.unwrap_or(cmd)).collect();
            if args.is_empty() {
                let reason = "the image does not say what to run; name the program and its arguments as args";
                return Err(Error::refused(context.id, reason));
            }
            let env = built.env.iter().filter_map(|pair| pair.split_once('='));
            let env = env.map(|(name, value)| (name.to_string(), value.to_string())).collect();
            Program { args, env, workdir: built.workdir, user: built.user, stop_signal: built.stop_signal }
        }
        Source::Disk { .. } | Source::Kernel { .. } => return Ok(None),
    };
    let secret = component.env_file.as_deref().map(env_file::read).transpose()?.unwrap_or_default();
    microvm::handover(context.id, component, program, secret).map(Some)
}
