//! The clock: whether the time can be right, and whether somebody keeps it so.

use super::{Finding, Patient};
use crate::sys::time;
use std::time::{Duration, SystemTime};

/// Two clocks of one time may differ by so much.
const SLACK: Duration = Duration::from_secs(60);

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let now = SystemTime::now();
    let way = "set the clock, and let something keep it: apt install systemd-timesyncd or chrony";
    let ours = std::env::current_exe().and_then(std::fs::metadata).and_then(|about| about.modified()).ok();
    let recorded = patient.entries.iter().filter_map(|e| e.record.get()).flat_map(|r| r.versions());
    let newest = recorded.filter_map(|version| time::parse(&version.at)).max();
    for (since, what) in [(ours, "this program is from"), (newest, "something was deployed at")] {
        if let Some(since) = since.filter(|since| *since > now + SLACK) {
            let text = format!("it says {}, and {what} {}", time::rfc3339(now), time::rfc3339(since));
            return vec![Finding::fail("clock", "clock", text).way_out(way)];
        }
    }
    vec![match synchronised() {
        Some(false) => {
            let text = "nobody keeps it: the kernel calls it unsynchronised, and certificates and logs go by it";
            Finding::note("clock", "clock", text).way_out("apt install systemd-timesyncd or chrony")
        }
        Some(true) => Finding::ok("clock", "clock", "synchronised"),
        None => Finding::ok("clock", "clock", "plausible"),
    }]
}

/// Whether the kernel has been told lately that the time is right; `None`: it does not say.
fn synchronised() -> Option<bool> {
    // SAFETY: plain numbers, for which zero is a value: with no modes nothing is set.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure.
    let r = unsafe { libc::adjtimex(&raw mut asked) };
    (r >= 0).then_some(asked.status & libc::STA_UNSYNC == 0)
}
