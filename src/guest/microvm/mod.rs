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
use crate::model::{Component, ComponentId, RootMode};
use crate::sys::{Error, Result};
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
}

/// What the guest's init is to do for `component`. Of the environment, `secret`, the lines of the component's
/// `env_file`, wins over its `env`, and that over the program's own.
pub fn handover(
    id: &ComponentId,
    component: &Component,
    program: Program,
    secret: Vec<(String, String)>,
) -> Result<Handover> {
    let mut env = program.env;
    for (name, value) in component.env.iter().map(pair).chain(secret) {
        env.retain(|(n, _)| *n != name);
        env.push((name, value));
    }
    let mut seed = vec![0; 64];
    // SAFETY: a buffer and its length.
    if unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) } != seed.len() as isize {
        return Err(Error::os("read", "random numbers")(std::io::Error::last_os_error()));
    }
    let volumes = component.volumes.iter().enumerate().map(|(number, volume)| handover::Volume {
        serial: volume_serial(number),
        path: volume.path.clone(),
        fstype: "ext4".into(),
    });
    Ok(Handover {
        args: program.args,
        env,
        workdir: program.workdir,
        user: program.user,
        hostname: id.component.clone(),
        nameserver: NAMESERVER.into(),
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
