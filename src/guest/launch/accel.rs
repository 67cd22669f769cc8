//! KVM or not: whether the user that QEMU will run as can use it here.

use crate::model::node::Accel;
use crate::sys::{Error, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const DEVICE: &str = "/dev/kvm";

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// KVM or TCG, never auto.
    pub accel: Accel,
    /// Supplementary group that QEMU needs for it.
    pub group: Option<u32>,
    /// Why it is not KVM, where that was open.
    pub note: Option<String>,
}

/// Chooses for a QEMU that runs as another user (`other_user`) or as ourselves.
pub fn choose(wanted: Accel, other_user: bool) -> Result<Choice> {
    if wanted == Accel::Tcg {
        return Ok(Choice { accel: Accel::Tcg, group: None, note: None });
    }
    match kvm_group(other_user) {
        Ok(group) => Ok(Choice { accel: Accel::Kvm, group, note: None }),
        Err(why) if wanted == Accel::Auto => {
            Ok(Choice { accel: Accel::Tcg, group: None, note: Some(format!("no KVM ({why}): emulating the CPU")) })
        }
        Err(why) => Err(Error::refused(
            "qemu.accel",
            format!("kvm was asked for, but {why}; set accel = \"auto\" or \"tcg\" in mcp.toml"),
        )),
    }
}

/// Why the user that QEMU will run as, another one (`other_user`) or ourselves, can't use KVM; `None`: it can.
pub fn why_not_kvm(other_user: bool) -> Option<String> {
    kvm_group(other_user).err()
}

fn kvm_group(other_user: bool) -> std::result::Result<Option<u32>, String> {
    let meta = std::fs::metadata(DEVICE).map_err(|e| format!("{DEVICE}: {}", crate::sys::error::os_reason(&e)))?;
    // The device may open and even create a VM where no ordinary kernel comes up: the flags must be there too.
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag| flags.lines().find(|l| l.starts_with("flags")).is_some_and(|l| l.split(' ').any(|w| w == flag));
    if !has("vmx") && !has("svm") {
        return Err("the CPU's flags have neither vmx nor svm".into());
    }
    let mode = meta.mode();
    if !other_user {
        return match nix::unistd::access(
            Path::new(DEVICE),
            nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK,
        ) {
            Ok(()) => Ok(None),
            Err(e) => Err(format!("{DEVICE}: {}; add yourself to its group", e.desc())),
        };
    }
    if mode & 0o006 == 0o006 {
        Ok(None)
    } else if mode & 0o060 == 0o060 && meta.gid() != 0 {
        Ok(Some(meta.gid()))
    } else {
        Err(format!(
            "{DEVICE} has mode {:04o} and group {}: an unprivileged QEMU can't open it",
            mode & 0o7777,
            meta.gid()
        ))
    }
}
