//! Sizes as people write them: `64K`, `10M`, `1G`, `2T`, or plain bytes. Units are powers of 1024.

const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Reads `10M` as bytes. The error says what was expected.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{} is not a size: a whole number and K, M, G or T, like \"10M\", or plain bytes",
            super::problem::quoted(text)
        )
    };
    let (digits, unit) = match text.chars().last().map(|c| c.to_ascii_uppercase()) {
        Some(last) => match UNITS.iter().find(|(name, _)| *name == last) {
            Some((_, unit)) => (text.get(..text.len() - 1).unwrap_or_default(), *unit),
            None => (text, 1),
        },
        None => return Err(wrong()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .ok_or_else(|| format!("{} is more than any disk has", super::problem::quoted(text)))
}

/// Writes a size so that [`parse`] reads it back, in the largest unit that fits evenly.
pub fn format(bytes: u64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_there_and_back() {
        for (text, bytes) in [("0", 0), ("1", 1), ("64K", 65536), ("10m", 10 << 20), ("1G", 1 << 30), ("2T", 2 << 40)] {
            assert_eq!(parse(text), Ok(bytes));
            assert_eq!(parse(&format(bytes)), Ok(bytes));
        }
        for text in ["", "M", "10MB", "1.5G", "-1", "+1", " 1", "1 G", "10é", "99999999999999999999", "99999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
