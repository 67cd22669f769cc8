//! The argument vector of QEMU, as a pure function of what is to run.
//!
//! QEMU opens nothing by name: everything it needs is a descriptor with a fixed number, so the vector is the same
//! whatever else we have open, and `--dry-run` can print it.

use crate::model::node::Accel;
use std::path::{Path, PathBuf};

/// Number of the first descriptor handed over. Above what QEMU, its libraries and an init's notification use.
pub const FIRST_FD: i32 = 100;

/// What is booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// A raw disk, by the firmware's boot loader.
    Disk(PathBuf),
    /// A raw disk with its kernel given to the firmware: skips the boot loader.
    DiskWithKernel(PathBuf, PathBuf),
    /// A kernel without a disk.
    Kernel {
        /// The kernel image.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: Option<PathBuf>,
        /// The kernel's command line.
        cmdline: String,
    },
    /// A Linux kernel, our initramfs, and a read-only root disk.
    Microvm {
        /// The kernel image.
        kernel: PathBuf,
        /// What is told of the initramfs in `--dry-run`.
        initramfs: PathBuf,
        /// The root disk.
        root: PathBuf,
        /// The disk that keeps what is written, for a persistent root.
        upper: Option<PathBuf>,
        /// The kernel's command line.
        cmdline: String,
    },
}

impl Boot {
    /// What is shown as the component's image.
    pub fn image(&self) -> &PathBuf {
        match self {
            Boot::Disk(disk) | Boot::DiskWithKernel(disk, _) => disk,
            Boot::Kernel { kernel, .. } => kernel,
            Boot::Microvm { root, .. } => root,
        }
    }

    fn kernel(&self) -> Option<&PathBuf> {
        match self {
            Boot::Disk(_) => None,
            Boot::DiskWithKernel(_, kernel) | Boot::Kernel { kernel, .. } | Boot::Microvm { kernel, .. } => {
                Some(kernel)
            }
        }
    }
}

/// One VM, resolved: no defaults are left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// `SERVICE/COMPONENT`.
    pub name: String,
    /// Unique to the instance.
    pub uuid: String,
    /// KVM or TCG, never auto.
    pub accel: Accel,
    /// The machine type, where the node config names one.
    pub machine: Option<String>,
    /// MiB.
    pub memory_mb: u32,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// What is booted.
    pub boot: Boot,
    /// Whether writes to the (first) disk go to the disk itself instead of a throw-away overlay.
    pub persistent: bool,
    /// Named disks, in order.
    pub volumes: Vec<PathBuf>,
    /// Only the forwarded ports, nothing else in or out.
    pub restrict: bool,
    /// Console log, monitors and guest port.
    pub paths: crate::sys::paths::InstancePaths,
    /// Put at the end.
    pub extra: Vec<String>,
}

/// A descriptor that QEMU is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// A disk image, opened read-only.
    Disk(PathBuf),
    /// A disk image, opened for writing.
    WritableDisk(PathBuf),
    /// A fresh throw-away overlay over a disk.
    Overlay(PathBuf),
    /// The console log, opened for appending.
    Console(PathBuf),
    /// A kernel or initial RAM disk that QEMU opens through /proc/self/fd.
    Boot(PathBuf),
    /// A microvm's initramfs with its hand-over.
    Initramfs(PathBuf),
    /// A listening Unix socket.
    Socket(PathBuf),
}

impl Handed {
    /// What `--dry-run` tells of it.
    pub fn label(&self) -> String {
        match self {
            Handed::Disk(p) | Handed::WritableDisk(p) | Handed::Console(p) | Handed::Boot(p) | Handed::Socket(p) => {
                p.display().to_string()
            }
            Handed::Overlay(p) => format!("throw-away overlay of {}", p.display()),
            Handed::Initramfs(p) => format!("{} and the configuration", p.display()),
        }
    }
}

/// The vector and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// QEMU's arguments, without the program.
    pub args: Vec<String>,
    /// Descriptors, numbered from [`FIRST_FD`] in this order.
    pub handed: Vec<Handed>,
}

/// A value in QEMU's option syntax: a comma is doubled.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

struct Builder {
    args: Vec<String>,
    handed: Vec<Handed>,
    sets: u32,
}

impl Builder {
    fn arg(&mut self, option: &str, value: impl Into<String>) {
        self.args.push(option.to_string());
        self.args.push(value.into());
    }

    fn hand(&mut self, what: Handed) -> i32 {
        self.handed.push(what);
        FIRST_FD + self.handed.len() as i32 - 1
    }

    /// Hands over a file and returns the name under which QEMU opens it.
    fn fdset(&mut self, what: Handed) -> String {
        let fd = self.hand(what);
        self.sets += 1;
        let set = self.sets;
        // The console's set is replaced at each rotation, and found by this word.
        let opaque = if matches!(self.handed.last(), Some(Handed::Console(_))) { ",opaque=console" } else { "" };
        self.arg("-add-fd", format!("fd={fd},set={set}{opaque}"));
        format!("/dev/fdset/{set}")
    }

    fn disk(&mut self, node: &str, serial: &str, path: &Path, kind: DiskKind) {
        let read_only = if kind == DiskKind::Writable { "off" } else { "on" };
        let file = match kind {
            DiskKind::Writable => Handed::WritableDisk(path.to_path_buf()),
            _ => Handed::Disk(path.to_path_buf()),
        };
        let file = self.fdset(file);
        let base = if kind == DiskKind::Overlaid { format!("{node}-base") } else { node.to_string() };
        self.arg("-blockdev", format!("driver=file,node-name={base}-file,filename={file},read-only={read_only}"));
        self.arg("-blockdev", format!("driver=raw,node-name={base},file={base}-file,read-only={read_only}"));
        if kind == DiskKind::Overlaid {
            let over = self.fdset(Handed::Overlay(path.to_path_buf()));
            // What is thrown away need not be flushed.
            self.arg("-blockdev", format!("driver=file,node-name={node}-over,filename={over},cache.no-flush=on"));
            self.arg(
                "-blockdev",
                format!("driver=qcow2,node-name={node},file={node}-over,backing={base},cache.no-flush=on"),
            );
        }
        self.arg("-device", format!("virtio-blk-pci,drive={node},serial={serial}"));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DiskKind {
    ReadOnly,
    Writable,
    Overlaid,
}

/// The argument vector of `vm`.
pub fn plan(vm: &Vm) -> Plan {
    let mut b = Builder { args: Vec::new(), handed: Vec::new(), sets: 0 };
    b.arg("-name", escape(&vm.name));
    b.arg("-uuid", vm.uuid.as_str());
    // q35 boots a given kernel through qboot in half the time that SeaBIOS takes; an image's own boot loader needs
    // SeaBIOS, and pc is the quicker machine for that. What a guest of ours never uses is left off.
    let direct = vm.boot.kernel().is_some();
    let machine = vm.machine.as_deref().unwrap_or(if direct {
        "q35,sata=off,smbus=off,usb=off,vmport=off"
    } else {
        "pc,usb=off,vmport=off"
    });
    b.arg("-machine", machine);
    b.arg("-accel", if vm.accel == Accel::Kvm { "kvm" } else { "tcg" });
    b.arg("-cpu", if vm.accel == Accel::Kvm { "host" } else { "max" });
    b.arg("-smp", vm.vcpus.to_string());
    b.arg("-m", vm.memory_mb.to_string());
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot", "-S"] {
        b.args.push(flag.to_string());
    }
    b.arg("-display", "none");
    b.arg("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    if let Some(kernel) = vm.boot.kernel() {
        b.arg("-bios", "qboot.rom");
        let fd = b.hand(Handed::Boot(kernel.clone()));
        b.arg("-kernel", format!("/proc/self/fd/{fd}"));
    }
    match &vm.boot {
        Boot::Disk(disk) | Boot::DiskWithKernel(disk, _) => {
            let kind = if vm.persistent { DiskKind::Writable } else { DiskKind::Overlaid };
            b.disk("root", "root", disk, kind);
        }
        Boot::Kernel { initrd, cmdline, .. } => {
            if let Some(initrd) = initrd {
                let fd = b.hand(Handed::Boot(initrd.clone()));
                b.arg("-initrd", format!("/proc/self/fd/{fd}"));
            }
            if !cmdline.is_empty() {
                b.arg("-append", cmdline.as_str());
            }
        }
        Boot::Microvm { initramfs, root, upper, cmdline, .. } => {
            let fd = b.hand(Handed::Initramfs(initramfs.clone()));
            b.arg("-initrd", format!("/proc/self/fd/{fd}"));
            b.arg("-append", cmdline.as_str());
            b.disk("root", "root", root, DiskKind::ReadOnly);
            if let Some(upper) = upper {
                b.disk("upper", "upper", upper, DiskKind::Writable);
            }
        }
    }
    for (n, volume) in vm.volumes.iter().enumerate() {
        b.disk(&format!("vol-{n}"), &format!("vol-{n}"), volume, DiskKind::Writable);
    }
    // VMs are IPv4 only: forwards of libslirp are.
    b.arg("-netdev", if vm.restrict { "user,id=n0,ipv6=off,restrict=on" } else { "user,id=n0,ipv6=off" });
    // Nanos (July 2026) loses wake-ups with VIRTIO_F_EVENT_IDX: a transfer then stops for good. It accepts that feature of
    // its network card alone, and Linux drivers are right with it.
    let nanos = matches!(vm.boot, Boot::Disk(_) | Boot::DiskWithKernel(..));
    b.arg("-device", format!("virtio-net-pci,netdev=n0,romfile={}", if nanos { ",event_idx=off" } else { "" }));
    if !matches!(vm.boot, Boot::Microvm { .. }) {
        // A microvm's init gets a seed with its configuration.
        b.arg("-device", "virtio-rng-pci");
    }
    b.arg("-device", "isa-debug-exit");
    let console = b.fdset(Handed::Console(vm.paths.console()));
    b.arg("-chardev", format!("file,id=serial0,path={console},append=on"));
    b.arg("-serial", "chardev:serial0");
    for (id, path) in [("mon0", vm.paths.supervisor()), ("mon1", vm.paths.qmp())] {
        let fd = b.hand(Handed::Socket(path));
        b.arg("-chardev", format!("socket,id={id},fd={fd},server=on,wait=off"));
        b.arg("-mon", format!("chardev={id},mode=control"));
    }
    if matches!(vm.boot, Boot::Microvm { .. }) {
        let fd = b.hand(Handed::Socket(vm.paths.guest()));
        b.arg("-chardev", format!("socket,id=guest0,fd={fd},server=on,wait=off"));
        b.arg("-device", "virtio-serial-pci,max_ports=2");
        b.arg("-device", "virtserialport,chardev=guest0,name=mcp.guest");
    }
    b.args.extend(vm.extra.iter().cloned());
    Plan { args: b.args, handed: b.handed }
}

impl Plan {
    /// One argument a line; a descriptor is followed by what it is.
    pub fn lines(&self) -> Vec<String> {
        let told = |arg: &String| {
            // "/dev/fdset/N", "fd=N" and "/proc/self/fd/N" all name descriptors; the set is told where it is filled.
            let number = |prefix: &str| -> Option<i32> {
                let at = arg.find(prefix)? + prefix.len();
                let digits: String = arg[at..].chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            };
            let fd = number("/proc/self/fd/").or_else(|| number("fd=").filter(|_| !arg.starts_with("driver=")));
            let by_set = number("/dev/fdset/").and_then(|set| {
                let add = self.args.iter().find(|a| a.split(',').nth(1) == Some(&format!("set={set}")))?;
                add.strip_prefix("fd=")?.split(',').next()?.parse::<i32>().ok()
            });
            match by_set.or(fd).and_then(|fd| self.handed.get((fd - FIRST_FD) as usize)) {
                Some(handed) => format!("{arg}  # {}", handed.label()),
                None => arg.clone(),
            }
        };
        self.args.iter().map(told).collect()
    }
}
