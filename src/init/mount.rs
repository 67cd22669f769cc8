//! File systems: those of the kernel, and the root with its overlay.

use super::disk;
use super::handover::{Handover, Overlay};
use super::report::{Fail, say};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};

/// File systems on disks, which are to be clean at the end: a directory handle on each one's top.
#[derive(Default)]
pub struct OnDisk(Vec<(String, File)>);

const NONE: Option<&str> = None;

/// /proc, /sys and /dev of the initramfs.
pub fn kernel_file_systems() -> Result<(), Fail> {
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    for (kind, path, flags, data) in [
        ("proc", "/proc", hard, NONE),
        ("sysfs", "/sys", hard, NONE),
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, Some("mode=755")),
    ] {
        make_directory(path, 0o755)?;
        match mount(Some(kind), path, Some(kind), flags, data) {
            // A kernel may have mounted devtmpfs by itself.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) => return Err(Fail::of("mount", path)(e)),
        }
    }
    Ok(())
}

/// Mounts the root disk under its overlay and makes that our root.
pub fn root(handover: &Handover, on_disk: &mut OnDisk) -> Result<(), Fail> {
    for path in ["/lower", "/over", "/new"] {
        make_directory(path, 0o755)?;
    }
    let device = disk::find(super::ROOT_SERIAL)?;
    mount(Some(device.as_str()), "/lower", Some("squashfs"), MsFlags::MS_RDONLY, NONE)
        .map_err(Fail::of("mount root disk", &device))?;
    match handover.overlay {
        Overlay::Memory => mount(Some("overlay"), "/over", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .map_err(Fail::of("mount", "tmpfs for the overlay"))?,
        Overlay::Disk => {
            let device = disk::find(super::UPPER_SERIAL)?;
            mount(Some(device.as_str()), "/over", Some("ext4"), MsFlags::MS_NOATIME, NONE)
                .map_err(Fail::of("mount overlay disk", &device))?;
            on_disk.add("overlay", "/over");
        }
    }
    make_directory("/over/upper", 0o755)?;
    make_directory("/over/work", 0o755)?;
    copy_owner("/lower", "/over/upper");
    let data = "lowerdir=/lower,upperdir=/over/upper,workdir=/over/work";
    mount(Some("overlay"), "/new", Some("overlay"), MsFlags::empty(), Some(data))
        .map_err(Fail::of("mount", "overlay"))?;
    for name in ["dev", "proc", "sys"] {
        let target = format!("/new/{name}");
        make_directory(&target, 0o755)?;
        mount(Some(format!("/{name}").as_str()), target.as_str(), NONE, MsFlags::MS_MOVE, NONE)
            .map_err(Fail::of("move mount", name))?;
    }
    chdir("/new").map_err(Fail::of("enter", "the new root"))?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE).map_err(Fail::of("move mount", "the new root"))?;
    chroot(".").map_err(Fail::of("enter", "the new root"))?;
    chdir("/").map_err(Fail::of("enter", "the new root"))
}

/// What a program expects to find below /dev, /sys and /tmp. What fails is passed over: few programs need all of it.
pub fn furnish() {
    let nosuid = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let _ = fs::create_dir("/dev/pts");
    let _ = mount(Some("devpts"), "/dev/pts", Some("devpts"), nosuid, Some("gid=5,mode=620,ptmxmode=666"));
    let _ = fs::create_dir("/dev/shm");
    let _ = mount(Some("shm"), "/dev/shm", Some("tmpfs"), nosuid | MsFlags::MS_NODEV, Some("mode=1777"));
    let _ = mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), nosuid | MsFlags::MS_NODEV, NONE);
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let _ = symlink(format!("/proc/self/fd{target}"), format!("/dev/{name}"));
    }
    if fs::symlink_metadata("/tmp").is_err() && fs::create_dir("/tmp").is_ok() {
        let _ = fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777));
    }
}

/// mkdir -p.
pub fn make_directory(path: &str, mode: u32) -> Result<(), Fail> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|e| Fail::new(format!("create directory {path}: {e}")))
}

fn copy_owner(from: &str, to: &str) {
    if let Ok(m) = fs::metadata(from) {
        let _ = std::os::unix::fs::chown(to, Some(m.uid()), Some(m.gid()));
        let _ = fs::set_permissions(to, fs::Permissions::from_mode(m.mode() & 0o7777));
    }
}

impl OnDisk {
    /// Keeps a handle on the file system at `path`.
    pub fn add(&mut self, name: &str, path: &str) {
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
        if let Ok(fd) = nix::fcntl::open(path, flags, Mode::empty()) {
            self.0.push((name.to_string(), File::from(fd)));
        }
    }

    /// Makes all of them read-only, which leaves clean file systems. By handle: the guest may have mounted over them.
    pub fn close(&self) {
        for (name, top) in self.0.iter().rev() {
            let result = fchdir(top.as_fd())
                .and_then(|()| mount(NONE, ".", NONE, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, NONE));
            if let Err(e) = result {
                say(&format!("leave {name} clean: {}", e.desc()));
            }
        }
    }
}
