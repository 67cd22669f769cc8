//! Signals by name, as images, podman and definitions write them.

use nix::sys::signal::Signal;
use std::str::FromStr;

/// The number of `15`, `SIGTERM`, `TERM`, `SIGRTMIN+3` or `RTMAX-1`, in any case; `None` for anything else.
pub fn parse(text: &str) -> Option<i32> {
    let in_range = |n: i32| (1..=64).contains(&n).then_some(n);
    let text = text.to_uppercase();
    if let Ok(n) = text.parse() {
        return in_range(n);
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let more: i32 = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse().ok()? };
        return libc::SIGRTMIN().checked_add(more).and_then(in_range);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        let less: i32 = if rest.is_empty() { 0 } else { rest.strip_prefix('-')?.parse().ok()? };
        return libc::SIGRTMAX().checked_sub(less).and_then(in_range);
    }
    Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32)
}
