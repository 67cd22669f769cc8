//! What is installed: QEMU, KVM, and what each runtime needs besides.

use super::{Finding, Grade, Patient};
use crate::container::Podman;
use crate::guest::launch::{accel, spawn};
use crate::guest::microvm::initramfs;
use crate::guest::microvm::kernel::find_kernel;
use crate::image::build::parts::Parts;
use crate::model::node::Accel;
use crate::model::{Component, RootMode, Runtime, Source};
use crate::node::containers;
use crate::sys::{Deadline, Result, tool};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The oldest QEMU that has all that VMs are started with: `-sandbox` with `fdset` disks and `chardev-change` to one.
const OLDEST: (u32, u32) = (6, 0);
/// What mcp-get-guest-kernel unpacks kernels and modules with, and their packages.
const UNPACKERS: [(&str, &str); 3] = [("lz4", "lz4"), ("xz", "xz-utils"), ("zstd", "zstd")];
/// Where podman looks for its network program.
const NETAVARK: [&str; 2] = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"];
/// How long a program may take to tell its version: one that has to come from a slow disk takes seconds.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let mut found = qemu(patient);
    found.push(kvm(patient));
    found.push(ops(patient));
    found.extend(microvms(patient));
    found.push(podman(patient));
    found.extend(firewall(patient));
    found
}

/// The grade of what is missing: a failure where a component needs it.
fn missing(needed: bool) -> Grade {
    if needed { Grade::Fail } else { Grade::Note }
}

/// A program that is missing, and who needs it.
fn absent(
    patient: &Patient<'_>,
    id: &'static str,
    error: &crate::sys::Error,
    of: impl Fn(&Component) -> bool,
) -> Finding {
    let who = patient.names_of(of);
    let mut finding = Finding::of_error(id, missing(who.is_some()), error);
    let so = match who {
        Some(who) => format!(", and {who} needs it"),
        None => ", and no component that shall run needs it".into(),
    };
    // What `ops` says of itself has the way out after the need.
    if let Some((what, way)) = finding.text.clone().split_once(", and unikernels need") {
        let more = finding.way_out.take().map(|more| format!("; {more}")).unwrap_or_default();
        finding.way_out = way.split_once(": ").map(|(_, way)| format!("{way}{more}"));
        finding.text = what.into();
    }
    finding.text += &so;
    finding
}

fn qemu(patient: &Patient<'_>) -> Vec<Finding> {
    let program = spawn::find_program(&patient.loaded.node.qemu.binary);
    if let Err(e) = spawn::check_program(&program) {
        return vec![absent(patient, "qemu", &e, Component::is_vm)];
    }
    let needed = missing(patient.names_of(Component::is_vm).is_some());
    let way = "install Debian's qemu-system-x86, or name another program as [qemu] binary in mcp.toml";
    // It tells its version and ends, once it has read the options before that.
    let asked = says(&program, &["-sandbox", "on", "-version"]).and_then(|sandboxed| match sandboxed {
        Some(told) => Ok((Some(told), true)),
        None => says(&program, &["-version"]).map(|told| (told, false)),
    });
    let (told, sandboxed) = match asked {
        Ok(asked) => asked,
        // One that is too slow says nothing of what it can.
        Err(e) => return vec![Finding::of_error("qemu", needed, &e).way_out("try again")],
    };
    let Some(version) = told.as_deref().and_then(|t| t.strip_prefix("QEMU emulator version ")) else {
        let text = "does not tell its version as QEMU does";
        return vec![Finding::new("qemu", needed, program.display(), text).way_out(way)];
    };
    let version = version.split([' ', '\n']).next().unwrap_or_default();
    let mut numbers = version.split('.').map_while(|n| n.parse::<u32>().ok());
    let age = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let mut found = vec![match age >= OLDEST {
        true => Finding::ok("qemu", "qemu", format!("{} {version}", program.display())),
        false => {
            let text = format!("{} is {version}, and {}.{} or later is needed", program.display(), OLDEST.0, OLDEST.1);
            Finding::new("qemu", needed, "qemu", text).way_out(way)
        }
    }];
    if !sandboxed {
        let text = format!("{} was built without seccomp, and no VM is started without its sandbox", program.display());
        found.push(Finding::new("qemu-sandbox", needed, "qemu", text).way_out(way));
    }
    found
}

/// What a program prints, where it ends well. That it can't be run, or takes too long, is an error.
fn says(program: &Path, args: &[&str]) -> Result<Option<String>> {
    let mut command = Command::new(program);
    let sink = crate::sys::sink::Sink::new("mcp-answer", 4096)?;
    command.args(args).stdin(Stdio::null()).stdout(sink.stdio()?).stderr(Stdio::null());
    let status = tool::run_group(&mut command, Deadline::after(PATIENCE))?;
    let text = sink.read(4096)?;
    Ok(status.success().then(|| String::from_utf8_lossy(&text).into_owned()))
}

fn kvm(patient: &Patient<'_>) -> Finding {
    let wanted = patient.loaded.node.qemu.accel;
    if wanted == Accel::Tcg {
        return Finding::ok("kvm", "kvm", "not used: mcp.toml says accel = \"tcg\"");
    }
    match accel::why_not_kvm(nix::unistd::geteuid().is_root()) {
        None => Finding::ok("kvm", "kvm", "used"),
        Some(why) if wanted == Accel::Kvm => {
            let needed = missing(patient.names_of(Component::is_vm).is_some());
            Finding::new("kvm", needed, "kvm", format!("mcp.toml says accel = \"kvm\", but {why}"))
                .way_out("set accel = \"auto\" or \"tcg\" in mcp.toml")
        }
        Some(why) => Finding::note("kvm", "kvm", format!("not used: {why}; VMs are emulated, several times slower")),
    }
}

fn ops(patient: &Patient<'_>) -> Finding {
    // Disks that are there already need none.
    let needs = |c: &Component| c.runtime == Runtime::Unikernel && matches!(c.source, Source::Image { .. });
    match Parts::find(&patient.loaded.node.ops) {
        Ok(parts) => Finding::ok("ops", "ops", format!("{}, Nanos {}", parts.ops.display(), parts.version)),
        Err(e) => absent(patient, "ops", &e, needs),
    }
}

fn microvms(patient: &Patient<'_>) -> Vec<Finding> {
    let is_microvm = |c: &Component| c.runtime == Runtime::Microvm;
    let mut found = Vec::new();
    if let Some(paths) = patient.paths {
        found.push(match find_kernel(&patient.loaded.node, paths) {
            Ok(kernel) => Finding::ok("guest-kernel", "guest kernel", kernel.kernel.display().to_string()),
            Err(e) => absent(patient, "guest-kernel", &e, is_microvm),
        });
    }
    found.push(match initramfs::find_init() {
        Ok(init) => Finding::ok("guest-init", "guest init", init.display().to_string()),
        Err(e) => absent(patient, "guest-init", &e, is_microvm),
    });
    let packs = |c: &Component| is_microvm(c) && matches!(c.source, Source::Image { .. } | Source::Rootfs { .. });
    let formats = |c: &Component| is_microvm(c) && (!c.volumes.is_empty() || c.root == RootMode::Persistent);
    let mut program = |name: &'static str, package: &str, of: &dyn Fn(&Component) -> bool| {
        found.push(match tool::find(name, package) {
            Ok(path) => Finding::ok(name, name, path.display().to_string()),
            Err(e) => absent(patient, name, &e, of),
        });
    };
    program("tar2sqfs", "squashfs-tools-ng", &packs);
    program("mke2fs", "e2fsprogs", &formats);
    // The kernel that is there has been unpacked; the next one may be compressed another way.
    for (name, package) in UNPACKERS.into_iter().filter(|_| patient.has(Runtime::Microvm)) {
        if let Err(e) = tool::find(name, package) {
            let mut finding = Finding::of_error(name, Grade::Note, &e);
            finding.text += ", and mcp-get-guest-kernel may need it for the next guest kernel";
            found.push(finding);
        }
    }
    found
}

fn podman(patient: &Patient<'_>) -> Finding {
    let node = &patient.loaded.node;
    let is_container = |c: &Component| c.runtime == Runtime::Container;
    let podman = match Podman::find(node) {
        Ok(podman) => podman,
        Err(e) => return absent(patient, "podman", &e, is_container),
    };
    let needed = patient.has(Runtime::Container);
    let asked = podman.version(Deadline::after(PATIENCE)).and_then(|version| works(patient, needed).map(|()| version));
    match asked {
        Ok(version) => Finding::ok("podman", "podman", format!("{} {version}", podman.program().display())),
        Err(e) => Finding::of_error("podman", missing(needed), &e),
    }
}

/// The program by which netavark, podman's network, sets up the firewall of a container; `None` where no netavark is.
fn firewall(patient: &Patient<'_>) -> Option<Finding> {
    /// What `netavark version` prints. One that names no default knows iptables alone.
    #[derive(serde::Deserialize)]
    struct Version {
        #[serde(default)]
        default_fw_driver: String,
    }
    let has_network = |c: &Component| {
        let network = c.container.network.as_deref().unwrap_or_default();
        c.runtime == Runtime::Container && !matches!(network, "host" | "none")
    };
    patient.names_of(has_network)?;
    let netavark = NETAVARK.iter().map(Path::new).find(|path| path.is_file())?;
    let version: Version = serde_json::from_str(&says(netavark, &["version"]).ok()??).ok()?;
    let (name, package) = match version.default_fw_driver.as_str() {
        "nftables" => ("nft", "nftables"),
        "" | "iptables" => ("iptables", "iptables"),
        _ => return None,
    };
    Some(match tool::find(name, package) {
        Ok(path) => Finding::ok("firewall", "firewall", format!("{}, for {}", path.display(), netavark.display())),
        Err(e) => absent(patient, "firewall", &e, has_network),
    })
}

/// Whether podman answers. It lays down a storage when it is first asked, so it is only where it has something to say.
fn works(patient: &Patient<'_>, needed: bool) -> Result<()> {
    match patient.paths.filter(|_| needed) {
        Some(paths) => containers::ask(paths).listed.map(drop),
        None => Ok(()),
    }
}
