//! Durations as people write them: `500ms`, `2s`, `1m30s`, `2h`.

use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

/// Reads `500ms`, `2m`, `1h30m`. The error says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let shown = super::problem::quoted(text);
        return Err(format!("{shown} has no unit; write {} for seconds", super::problem::quoted(&format!("{text}s"))));
    }
    humantime::parse_duration(text).map_err(|_| {
        let shown = super::problem::quoted(text);
        format!("{shown} is not a duration: a number and ms, s, m or h, like \"500ms\" or \"1m30s\"")
    })
}

/// Writes a duration so that [`parse`] reads it back: whole milliseconds in the largest unit that fits evenly.
pub fn format(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, name) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if ms >= unit && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

/// For serde.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For serde.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}
