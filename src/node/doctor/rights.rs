//! What we may do here: users for QEMU, taking sockets out of it, staying after a logout, open files.

use super::{Finding, Patient};
use crate::model::Component;
use crate::sys::paths::Paths;
use crate::sys::pidfd::PidFd;
use crate::sys::user;
use nix::sys::resource::{Resource, getrlimit};
use std::fs::File;
use std::os::fd::AsRawFd;

/// CAP_SYS_PTRACE, by which root takes a socket out of another user's process.
const CAP_SYS_PTRACE: u32 = 19;
/// Descriptors of a program that watches over no component, and what one more component takes of mcp-boot.
const FILES_OWN: u64 = 64;
const FILES_EACH: u64 = 4;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let own = nix::unistd::geteuid();
    let mut found = Vec::new();
    if own.is_root() {
        found.push(match user::check_range(patient.loaded.node.qemu.uid_range) {
            Ok(()) => Finding::ok("user", "user", "root; each QEMU runs as an unprivileged user of its own"),
            Err(e) => {
                let needed = patient.names_of(Component::is_vm).is_some();
                let grade = if needed { super::Grade::Fail } else { super::Grade::Note };
                Finding::of_error("user", grade, &e)
            }
        });
    } else {
        let text = format!("not root: QEMU runs as user {own} too, and ports below {} are not to be had", first_port());
        found.push(Finding::note("user", "user", text));
        found.extend(patient.paths.map(lingering));
    }
    found.push(sockets(own.is_root()));
    found.push(files(patient));
    found
}

/// The first port that an ordinary user may listen on.
pub(super) fn first_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    text.trim().parse().unwrap_or(1024)
}

fn lingering(paths: &Paths) -> Finding {
    match user::lingers(paths) {
        true => Finding::ok("lingering", "lingering", "the run directory outlives a logout"),
        false => {
            let text =
                format!("{} goes with your last logout, and what runs is then lost sight of", paths.run.display());
            Finding::note("lingering", "lingering", text).way_out("run loginctl enable-linger")
        }
    }
}

/// Whether sockets can be taken out of a QEMU.
fn sockets(root: bool) -> Finding {
    let so = "ports are then QEMU's own, a second client at a time waits a second, and VMs are not replaced in place";
    let file = File::open("/dev/null");
    let own = PidFd::open(std::process::id() as i32);
    let copied = own.zip(file.ok()).is_some_and(|(own, file)| own.steal(file.as_raw_fd()).is_ok());
    let why = if !copied {
        Some("the kernel, or a filter on system calls, does not let us")
    } else if root && !has_capability(CAP_SYS_PTRACE) {
        Some("CAP_SYS_PTRACE is missing")
    } else if !root && ptrace_scope() > 1 {
        Some("/proc/sys/kernel/yama/ptrace_scope is above 1")
    } else {
        None
    };
    match why {
        None => Finding::ok("pidfd-getfd", "sockets", "can be taken out of QEMU"),
        Some(why) => Finding::note("pidfd-getfd", "sockets", format!("can't be taken out of QEMU: {why}; {so}"))
            .way_out("allow pidfd_getfd where this node runs"),
    }
}

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    set.and_then(|s| u64::from_str_radix(s.trim(), 16).ok()).is_some_and(|set| set & (1 << number) != 0)
}

fn ptrace_scope() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn files(patient: &Patient<'_>) -> Finding {
    let wanted = FILES_OWN + FILES_EACH * patient.wanted().count() as u64;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft < wanted => {
            let text = format!("{soft} is the limit, and mcp-boot may want {wanted}");
            Finding::fail("open-files", "open files", text).way_out("raise it (ulimit -n, LimitNOFILE= of the unit)")
        }
        Ok((soft, _)) => Finding::ok("open-files", "open files", format!("{soft} is the limit, {wanted} suffice")),
        Err(e) => Finding::note("open-files", "open files", format!("the limit is not known: {}", e.desc())),
    }
}
