//! Wall-clock times as people read them: RFC 3339, UTC. Waiting uses [`super::Deadline`] instead.

use std::time::SystemTime;

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
