//! `tar2sqfs`: a tar stream becomes a squashfs, the same bytes for the same tar.

use super::tool::{self, Tool};
use super::{Error, Result, disk};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the superblock begins with.
const MAGIC: &[u8; 4] = b"hsqs";

/// A squashfs that is there and whole, as far as its superblock tells: it says at byte 40 how many bytes are used.
pub fn check(path: &Path) -> Result<()> {
    disk::check_file("root disk", path)?;
    let mut head = [0; 48];
    let file = File::open(path).map_err(Error::path("open", path))?;
    if file.read_exact_at(&mut head, 0).is_err() || head[..4] != *MAGIC {
        return Err(Error::refused(path.display(), "not a squashfs; build it again"));
    }
    let used = head[40..].iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    let size = disk::size(path)?;
    if used > size {
        let reason = format!("truncated: {used} bytes are used, and the file has {size}; build or copy it again");
        return Err(Error::refused(path.display(), reason));
    }
    Ok(())
}

/// Makes the file that it is to write (0600), or empties it.
pub fn create(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).map_err(Error::path("create", path))
}

/// Starts it, as the user `run_as` where that is given and we are root: it makes sense of what may be a stranger's
/// files. It reads `input` and writes `out`, which is handed over open, so that the folder can stay closed to that user.
pub fn start(input: Stdio, out: &File, run_as: Option<u32>) -> Result<Tool> {
    let program = tool::find("tar2sqfs", "squashfs-tools-ng")?;
    let mut command = Command::new(program);
    // Level 1: for 200 MB it takes 0.4 s of a processor and gives 150 MB; its default of 15 takes 16 s and gives 143.
    command.args(["-q", "-s", "-f", "-c", "zstd", "-X", "level=1", "/proc/self/fd/1"]);
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    command.args(["-j", &jobs.to_string()]);
    let object = "squashfs";
    command.stdin(input).stdout(out.try_clone().map_err(Error::os("duplicate", object))?);
    if let Some(uid) = run_as.filter(|_| nix::unistd::geteuid().is_root()) {
        use std::os::unix::process::CommandExt;
        nix::unistd::fchown(out.as_fd(), Some(uid.into()), None).map_err(Error::os("change owner of", object))?;
        command.uid(uid).gid(uid);
    }
    // The command ends here and with it our end of the input: while that is open, who writes it would not notice that
    // its reader has died.
    Tool::start("tar2sqfs", &mut command)
}
