//! Disks, found by the serial that the host gave them.

use super::report::Fail;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a disk may take to show up. Usually all are there when virtio_blk is loaded.
const PATIENCE: Duration = Duration::from_secs(10);

/// The device file of the disk with `serial`, waiting a while for the kernel to find it.
pub fn find(serial: &str) -> Result<String, Fail> {
    if let Some(device) = look(serial) {
        return Ok(device);
    }
    // Asked for before looking again, so that nothing is missed in between.
    let news = uevents().ok();
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(device) = look(serial) {
            return Ok(device);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait(news.as_ref(), left) {
            return Err(Fail::new(format!("no disk with serial {serial}")));
        }
    }
}

fn look(serial: &str) -> Option<String> {
    for entry in fs::read_dir("/sys/block").ok()?.flatten() {
        if fs::read_to_string(entry.path().join("serial")).is_ok_and(|s| s.trim_end() == serial) {
            let device = format!("/dev/{}", entry.file_name().to_str()?);
            return Path::new(&device).exists().then_some(device);
        }
    }
    None
}

/// The kernel's announcements of new devices.
fn uevents() -> nix::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
    Ok(fd)
}

/// Waits for news; false when there can be none any more.
fn wait(news: Option<&OwnedFd>, left: Duration) -> bool {
    let Some(fd) = news else { return false };
    let timeout = PollTimeout::try_from(left.as_millis().min(60_000) as i32 + 1).unwrap_or(PollTimeout::ZERO);
    if !matches!(poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout), Ok(1..)) {
        return false;
    }
    let mut message = [0; 4096];
    while recv(fd.as_raw_fd(), &mut message, MsgFlags::empty()).is_ok() {}
    true
}
