//! Durations as people write them: `500ms`, `2s`, `1m30s`, `2h`.

use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

/// What a number may be followed by.
const UNITS: [&str; 4] = ["ms", "s", "m", "h"];

/// Reads `500ms`, `2m`, `1h30m`. The error says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let shown = super::problem::quoted(text);
        return Err(format!("{shown} has no unit; write {} for seconds", super::problem::quoted(&format!("{text}s"))));
    }
    // humantime has many more, which surprise: "1M" is a month there, and "1y" 365.25 days.
    let mut units = text.split(|c: char| !c.is_alphabetic()).filter(|unit| !unit.is_empty());
    let parsed = units.all(|unit| UNITS.contains(&unit)).then(|| humantime::parse_duration(text).ok());
    parsed.flatten().ok_or_else(|| {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_four_units_and_no_other() {
        for (text, ms) in
            [("500ms", 500), ("1m30s", 90_000), ("1m 30s", 90_000), ("2h", 7_200_000), ("1.5s", 1500), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        // Months, years, days, weeks, less than a millisecond; long and capital names; what is no number.
        for text in [
            "1M",
            "1y",
            "1d",
            "1w",
            "1month",
            "1us",
            "1ns",
            "1\u{b5}s",
            "1H",
            "1S",
            "1MS",
            "1min",
            "5sec",
            "1hr",
            "1h1M",
            "",
            "s",
            "-1s",
            "1s-",
            "99999999999999999999h",
        ] {
            let told = parse(text).unwrap_err();
            assert!(
                told.ends_with("is not a duration: a number and ms, s, m or h, like \"500ms\" or \"1m30s\""),
                "{told}"
            );
        }
        assert_eq!(parse("10"), Err("\"10\" has no unit; write \"10s\" for seconds".into()));
        assert_eq!(parse(&format(Duration::from_secs(90))), Ok(Duration::from_secs(90)));
    }
}
