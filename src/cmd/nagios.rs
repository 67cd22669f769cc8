//! What Nagios plugins have in common.

/// Exit code: not as it should be.
pub const WARNING: u8 = 1;
/// Exit code: it does not work.
pub const CRITICAL: u8 = 2;
/// Exit code: nobody can tell.
pub const UNKNOWN: u8 = 3;

/// Without the bar that starts performance data, and on one line that no terminal obeys.
pub fn plain(text: &str) -> String {
    let text = text.trim_end().replace('|', "/").replace('\n', "; ");
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
