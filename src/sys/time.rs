//! Wall-clock times as people read them: RFC 3339, UTC. Waiting uses [`super::Deadline`] instead. And the kernel's own
//! time since its boot, which all processes share.

use nix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Now, to the millisecond: `2026-11-23T10:20:30.123Z`.
pub fn now() -> String {
    rfc3339(SystemTime::now())
}

/// `time` to the millisecond.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Reads what [`rfc3339`] wrote, or any RFC 3339 time in UTC.
pub fn parse(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339_weak(text).ok()
}

/// Milliseconds since the kernel booted, the time it slept included (CLOCK_BOOTTIME): no step of the wall clock changes
/// them, and two processes of one boot agree about them.
pub fn since_boot_ms() -> u64 {
    // The clock is there since Linux 2.6.39; without it all happens at once.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The kernel's random name of this boot, a UUID; empty where /proc does not tell.
pub fn boot_id() -> String {
    let read = super::file::read_bounded(Path::new("/proc/sys/kernel/random/boot_id"), 64);
    let bytes = read.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_string()
}
