//! What a worker gives up before it reads a byte.
//!
//! With no room for another descriptor it can open no file and no socket: that is as good as an empty network namespace,
//! and costs nothing.

use super::super::limits::{IMAGE_MAX, ZSTD_WINDOW_MAX};
use crate::sys::{Error, Result};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::{prctl, signal::Signal};
use nix::unistd::{Gid, Uid, getppid, setgroups, setresgid, setresuid};

/// Address space. The largest image's tree has some 400 MB, each thread reserves 64 MB for its allocations.
const MEMORY: u64 = 1 << 30;

/// Becomes `user`, without any way back, bound to the life of process `parent`.
pub fn confine(user: Option<u32>, parent: i32) -> Result<()> {
    let failed = |action: &'static str| Error::os::<nix::errno::Errno>(action, "worker");
    if let Some(id) = user {
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        setgroups(&[]).map_err(failed("drop groups of"))?;
        setresgid(gid, gid, gid).map_err(failed("set group of"))?;
        setresuid(uid, uid, uid).map_err(failed("set user of"))?;
    }
    prctl::set_no_new_privs().map_err(failed("confine"))?;
    // Nobody of the same user may look into it.
    prctl::set_dumpable(false).map_err(failed("confine"))?;
    // After the change of user, which forgets it. A parent that was gone before will never be told of.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("confine"))?;
    if getppid().as_raw() != parent {
        return Err(Error::busy("worker", "whoever started it is gone"));
    }
    nix::unistd::chdir("/").map_err(failed("confine"))?;
    for (what, limit) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_AS, MEMORY + ZSTD_WINDOW_MAX),
        (Resource::RLIMIT_FSIZE, IMAGE_MAX),
        (Resource::RLIMIT_NOFILE, 0),
    ] {
        setrlimit(what, limit, limit).map_err(failed("limit"))?;
    }
    Ok(())
}
