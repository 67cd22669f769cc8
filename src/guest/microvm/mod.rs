//! What a microvm boots from: a kernel, an initramfs with our init, a squashfs root, ext4 volumes.
//!
//! ```text
//! LIB/microvm/initramfs-KEY.cpio                     init and modules, shared by all
//! LIB/microvm/SERVICE/COMPONENT/root-KEY.sqfs        the root disk made of a `rootfs` directory
//! LIB/volumes/SERVICE/COMPONENT/NAME.raw             a volume
//! LIB/disks/SERVICE/COMPONENT/root.raw               what the guest wrote to its root, if that is persistent
//! ```

pub mod cpio;
pub mod initramfs;
pub mod kernel;
pub mod module;
pub mod root;

pub mod volume;

pub use initramfs::initrd;
pub use kernel::{GuestKernel, find_kernel};
pub use root::root_squashfs;
pub use volume::{upper, volume};

use crate::init::handover::{self, Handover, Overlay};
use crate::model::{Component, ComponentId, RootMode, signal};
use crate::sys::{Error, Result, file};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The name server of QEMU's user-mode network.
const NAMESERVER: &str = "10.0.2.3";

/// The guest kernel's command line. `-no-reboot` makes QEMU end on the reboot that `panic=-1` asks for.
pub fn command_line() -> String {
    "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check mitigations=off cryptomgr.notests".into()
}

/// The virtio-blk serial of a component's volume number `number`, counted from 0.
pub fn volume_serial(number: usize) -> String {
    format!("vol-{number}")
}

/// What a microvm runs, before the component's own environment is added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The image's environment.
    pub env: Vec<(String, String)>,
    /// Its working directory; empty: `/`.
    pub workdir: String,
    /// `USER[:GROUP]`; empty: root.
    pub user: String,
    /// The image's StopSignal; empty: SIGTERM.
    pub stop_signal: String,
}

/// The node's own, whose search list and options the guest gets too.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const RESOLV_CONF_MAX: u64 = 64 << 10;

/// The guest's resolv.conf, by what the node's says. QEMU's name server asks the node's first one.
fn resolv_conf(node: &str) -> String {
    let first = |line: &&str, words: &[&str]| line.split_whitespace().next().is_some_and(|word| words.contains(&word));
    let mut text = format!("nameserver {NAMESERVER}\n");
    // resolv.conf(5): of search and domain the last one counts, and a domain is a search list of one.
    if let Some(line) = node.lines().rev().find(|line| first(line, &["search", "domain"])) {
        let names: Vec<&str> = line.split_whitespace().skip(1).collect();
        text.push_str(&format!("search {}\n", names.join(" ")));
    }
    for line in node.lines().filter(|line| first(line, &["options"])) {
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// What the guest's init is to do for `component`. Of the environment, `secret`, the lines of the component's
/// `env_file`, wins over its `env`, and that over the program's own.
pub fn handover(
    id: &ComponentId,
    component: &Component,
    program: Program,
    secret: Vec<(String, String)>,
) -> Result<Handover> {
    let mut env: Vec<(String, String)> = Vec::new();
    // The last one of a name counts, in an image that has it twice too.
    for (name, value) in program.env.into_iter().chain(component.env.iter().map(pair)).chain(secret) {
        env.retain(|(n, _)| *n != name);
        env.push((name, value));
    }
    let resolver = file::read_bounded(Path::new(RESOLV_CONF), RESOLV_CONF_MAX).ok().flatten().unwrap_or_default();
    let mut seed = vec![0; 64];
    // SAFETY: a buffer and its length.
    if unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) } != seed.len() as isize {
        return Err(Error::os("read", "random numbers")(std::io::Error::last_os_error()));
    }
    let stop_signal = match (component.stop_signal, program.stop_signal.as_str()) {
        (Some(number), _) => number,
        (None, "") => libc::SIGTERM,
        (None, text) => signal::parse(text).ok_or_else(|| {
            Error::refused(id, format!("its image's StopSignal {text:?} is not a signal; set stop_signal"))
        })?,
    };
    let volumes = component.volumes.iter().enumerate().map(|(number, volume)| handover::Volume {
        serial: volume_serial(number),
        path: volume.path.clone(),
        fstype: "ext4".into(),
    });
    Ok(Handover {
        args: program.args,
        env,
        workdir: component.workdir.clone().unwrap_or(program.workdir),
        user: component.container.user.clone().unwrap_or(program.user),
        stop_signal: stop_signal as u8,
        hostname: id.component.clone(),
        resolv_conf: resolv_conf(&String::from_utf8_lossy(&resolver)),
        tty: component.tty,
        overlay: if component.root == RootMode::Persistent { Overlay::Disk } else { Overlay::Memory },
        volumes: volumes.collect(),
        seed,
    })
}

fn pair((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

/// The first 128 bits of a digest: enough to tell inputs apart that nobody chose to collide.
fn short_hex(digest: Sha256) -> String {
    digest.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// Whether a temporary file is so old that its writer must be dead: none of ours writes for an hour.
fn is_stale(path: &Path) -> bool {
    let age = std::fs::symlink_metadata(path).and_then(|m| m.modified()).ok();
    age.and_then(|m| SystemTime::now().duration_since(m).ok()).is_some_and(|age| age > Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_searches_where_the_node_does() {
        assert_eq!(resolv_conf(""), "nameserver 10.0.2.3\n");
        let node =
            "# x\nnameserver 192.0.2.1\nsearch a.example\noptions ndots:2 edns0\ndomain  b.example\nnameserver ::1\n";
        assert_eq!(resolv_conf(node), "nameserver 10.0.2.3\nsearch b.example\noptions ndots:2 edns0\n");
    }
}
