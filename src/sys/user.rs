//! The user that one QEMU runs as: its own, so that no other VM's process can read its memory.

use crate::sys::lock::Lock;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, file};
use sha2::{Digest, Sha256};

/// An unprivileged user, held by a lock that QEMU inherits; or ourselves where we are not root.
#[derive(Debug)]
pub struct User {
    /// User and group id.
    pub uid: u32,
    lock: Option<Lock>,
    /// Whether a QEMU has inherited the lock.
    in_use: bool,
}

impl User {
    /// The lock that QEMU is to inherit; `None` when the user is our own.
    pub fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref()
    }

    /// The user's id where it is not our own.
    pub fn other(&self) -> Option<u32> {
        self.lock.as_ref().map(|_| self.uid)
    }

    /// A QEMU runs as this user: it stays taken until [`User::release`], whatever becomes of us.
    pub fn hand_over(&mut self) {
        self.in_use = true;
    }

    /// The QEMU that ran as this user has ended.
    pub fn release(mut self) {
        self.in_use = false;
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let (Some(lock), false) = (self.lock.take(), self.in_use)
            && let Err(e) = lock.remove()
        {
            log::warn!("{e}");
        }
    }
}

/// Takes a free user of `range` for the instance named `seed`; our own when we are not root.
pub fn take(paths: &Paths, range: (u32, u32), seed: &str) -> Result<User> {
    let own = nix::unistd::geteuid();
    if !own.is_root() {
        return Ok(User { uid: own.as_raw(), lock: None, in_use: false });
    }
    check_range(range)?;
    let (first, last) = range;
    let dir = paths.run.join(".uids");
    file::create_dirs(&dir)?;
    // Trees of different roots know nothing of each other's locks: a start that depends on the root keeps them apart.
    let hash = Sha256::digest(format!("{}\0{seed}", paths.run.display()));
    let start = hash.iter().take(4).fold(0_u64, |n, b| n << 8 | u64::from(*b));
    let count = u64::from(last) - u64::from(first) + 1;
    for n in 0..count.min(4096) {
        let uid = first + ((start + n) % count) as u32;
        if let Some(lock) = Lock::try_take(&dir.join(uid.to_string()))? {
            return Ok(User { uid, lock: Some(lock), in_use: false });
        }
    }
    Err(Error::busy("qemu.uid_range", format!("no user of {first}-{last} is free; widen it in mcp.toml")))
}

/// Whether this node has the users of `range`: a container may have fewer.
pub fn check_range((first, last): (u32, u32)) -> Result<()> {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if [first, last].iter().all(|uid| is_mapped(&map, *uid)) {
        return Ok(());
    }
    Err(Error::refused(
        "qemu.uid_range",
        format!("users {first}-{last} do not exist in this user namespace; set a range that does in mcp.toml"),
    ))
}

/// Whether the run directory of an ordinary user outlives the login.
pub fn lingers(paths: &Paths) -> bool {
    let own = nix::unistd::geteuid();
    let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") else { return true };
    if own.is_root() || !paths.run.starts_with(dir) {
        return true;
    }
    let name = nix::unistd::User::from_uid(own).ok().flatten().map(|u| u.name).unwrap_or_default();
    std::path::Path::new("/var/lib/systemd/linger").join(&name).exists()
}

/// Whether `uid` exists in the user namespace whose /proc/self/uid_map is `map`.
fn is_mapped(map: &str, uid: u32) -> bool {
    map.lines().any(|line| {
        let mut words = line.split_whitespace().map(str::parse::<u64>);
        match (words.next(), words.nth(1)) {
            (Some(Ok(inside)), Some(Ok(length))) => (inside..inside + length).contains(&u64::from(uid)),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::is_mapped;

    #[test]
    fn uid_maps() {
        assert!(is_mapped("         0          0 4294967295\n", 1_900_000_000));
        assert!(!is_mapped("0 100000 65536\n", 1_900_000_000));
        assert!(is_mapped("0 100000 65536\n", 65_535));
        assert!(!is_mapped("junk", 0));
    }
}
