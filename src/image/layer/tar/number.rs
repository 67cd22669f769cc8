//! Numbers in tar headers: octal, or base 256 where octal has no room.

use super::super::bad;
use crate::sys::Result;

/// A number of a header's field that can't be negative.
pub fn number(field: &[u8], what: &str) -> Result<u64> {
    u64::try_from(signed(field, what)?).map_err(|_| bad(format!("a negative {what} in a tar header")))
}

/// A number of a header's field.
pub fn signed(field: &[u8], what: &str) -> Result<i64> {
    let wrong = || bad(format!("a broken {what} in a tar header"));
    if let [first @ 0x80..=0xff, rest @ ..] = field {
        // Two's complement in the bits after the first.
        let mut value = i128::from(first & 0x7f);
        if first & 0x40 != 0 {
            value -= 0x80;
        }
        for byte in rest {
            value = value.checked_mul(256).ok_or_else(wrong)? + i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_| wrong());
    }
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let digits = &digits[..digits.iter().position(blank).unwrap_or(digits.len())];
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|v| v + i64::from(digit - b'0')).ok_or_else(wrong),
        _ => Err(wrong()),
    })
}

/// A number in decimal digits, as PAX has them.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Whole seconds of a time in decimal digits that may have a sign and a fraction: the second it lies in.
pub fn seconds(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let more = negative && fraction.iter().any(|d| *d != b'0');
    if negative { (-whole).checked_sub(more.into()) } else { Some(whole) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        assert_eq!(number(b"0000644\0", "x").unwrap(), 0o644);
        assert_eq!(number(b"  644 \0\0", "x").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0", "x").unwrap(), 0);
        assert_eq!(number(b"777777777777", "x").unwrap(), 0o777_777_777_777);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x10\0\0\0\0", "x").unwrap(), 1 << 36);
        assert_eq!(signed(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", "x").unwrap(), -2);
        assert!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe", "x").is_err());
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "x").is_err());
        assert!(number(b"0000648\0", "x").is_err());
        assert!(number(b"-1\0", "x").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(seconds(b"1700000000.999"), Some(1_700_000_000));
        assert_eq!(seconds(b"-1.5"), Some(-2));
        assert_eq!(seconds(b"-1.0"), Some(-1));
        assert_eq!(seconds(b"-1"), Some(-1));
        for text in ["", "-", "1.x", "1e3", "99999999999999999999", "--1", ".5"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }
}
