//! Makes bytes from a guest harmless to a terminal.
//!
//! A console can hold escape sequences that recolour, retitle or reprogram a terminal, and invisible characters that
//! reorder what is read. Tab and printable UTF-8 stay; every other byte is shown as `\xNN`.

/// Whether a terminal must not get this character as it is: C0 (but tab), DEL, C1, and what breaks or reorders lines.
pub fn is_harmful(c: char) -> bool {
    match c {
        '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// Appends `bytes` to `out`, harmless.
pub fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    // By far the most lines are plain ASCII.
    if bytes.iter().all(|b| matches!(b, b'\t' | b' '..=b'~')) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        let mut clean = chunk.valid();
        while let Some(at) = clean.find(is_harmful) {
            let (before, rest) = clean.split_at(at);
            out.extend_from_slice(before.as_bytes());
            let width = rest.chars().next().map_or(0, char::len_utf8);
            let (bad, after) = rest.split_at(width);
            escape(out, bad.as_bytes());
            clean = after;
        }
        out.extend_from_slice(clean.as_bytes());
        escape(out, chunk.invalid());
    }
}

/// `bytes` as harmless text.
pub fn text(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    push(&mut out, bytes);
    // It is UTF-8 by now; lossy only so that there is nothing to unwrap.
    String::from_utf8_lossy(&out).into_owned()
}

/// How much of `piece`, the beginning of a line whose rest is to come, can be shown already: a character that isn't
/// whole yet stays back, and so do carriage returns, which are dropped if the line turns out to end there.
pub fn showable(piece: &[u8]) -> usize {
    let mut end = piece.len();
    let ended = |end: usize, pick: fn(u8) -> bool| {
        end.checked_sub(1).and_then(|i| piece.get(i)).is_some_and(|b| pick(*b)).then(|| end - 1)
    };
    while let Some(shorter) = ended(end, |b| b == b'\r') {
        end = shorter;
    }
    // The first byte of a character is at most 3 before its last.
    for back in 1..=3.min(end) {
        match piece.get(end - back) {
            Some(0x80..=0xbf) => {}
            Some(0xc2..=0xf4) if std::str::from_utf8(piece.get(end - back..end).unwrap_or_default()).is_err() => {
                end -= back;
                break;
            }
            _ => break,
        }
    }
    end
}

/// `line` without the carriage returns that a serial console puts before the line feed.
pub fn without_returns(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|b| *b != b'\r').map_or(0, |i| i + 1);
    line.get(..end).unwrap_or(line)
}

fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for b in bytes {
        out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_may_get() {
        assert_eq!(text(b"plain\ttext ~"), "plain\ttext ~");
        assert_eq!(text("Grüße, 世界 👋".as_bytes()), "Grüße, 世界 👋");
        assert_eq!(text(b"\x1b]0;title\x07\x1b[2J"), r"\x1b]0;title\x07\x1b[2J");
        assert_eq!(text("a\u{9b}31mb".as_bytes()), r"a\xc2\x9b31mb");
        assert_eq!(text(b"a\x9bb\xff\xc3"), r"a\x9bb\xff\xc3");
        assert_eq!(text("x\u{202e}y".as_bytes()), r"x\xe2\x80\xaey");
        assert_eq!(text(b"one\rtwo\x00\x7f\x08"), r"one\x0dtwo\x00\x7f\x08");
        for b in 0..=255u8 {
            assert!(!text(&[b]).chars().any(is_harmful), "{b}");
        }
    }

    #[test]
    fn pieces() {
        assert_eq!(showable(b"abc"), 3);
        assert_eq!(showable(b"abc\r\r"), 3);
        assert_eq!(showable("ab世".as_bytes()), 5);
        assert_eq!(showable(&"ab世".as_bytes()[..4]), 2);
        assert_eq!(showable(&"a👋".as_bytes()[..4]), 1);
        assert_eq!(showable(b"\r\r"), 0);
        assert_eq!(showable(b"\xe4"), 0);
        assert_eq!(showable(b"a\x80\x80\x80"), 4);
        assert_eq!(showable(b""), 0);
        assert_eq!(without_returns(b"a\rb\r\r"), b"a\rb");
        assert_eq!(without_returns(b"\r"), b"");
    }
}
