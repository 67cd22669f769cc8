//! Numbers of HTTP/2 and gRPC by their names, and text from a peer made fit to be shown.

use std::fmt::Write;

/// Text of a peer is cut off after so many characters.
const SHOWN_MAX: usize = 200;

/// `PROTOCOL_ERROR` and the like (RFC 9113, section 7), else `0x1f`.
pub(super) fn http2_code(code: u32) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("{code:#x}"), |name| (*name).to_string())
}

/// `UNAVAILABLE` and the like, else `status 42`.
pub(super) fn grpc_status(code: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("status {code}"), |name| (*name).to_string())
}

/// One line, printable and short.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut chars = text.trim().chars();
    for c in chars.by_ref().take(SHOWN_MAX) {
        match c {
            _ if is_plain(c) => out.push(c),
            '\n' | '\r' | '\t' => out.push(' '),
            _ => drop(write!(out, "{}", c.escape_unicode())),
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// Neither a control character nor one that turns the direction of text or can't be seen.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `grpc-message` without its percent-encoding. What is wrongly encoded stays as it is, as gRPC asks for.
pub(in crate::health) fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%'
            && let Some((&[high, low], after)) = rest.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            out.push(first);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_name() {
        assert_eq!(http2_code(0xb), "ENHANCE_YOUR_CALM");
        assert_eq!(http2_code(0xe), "0xe");
        assert_eq!(http2_code(u32::MAX), "0xffffffff");
        assert_eq!(grpc_status(16), "UNAUTHENTICATED");
        assert_eq!(grpc_status(17), "status 17");
    }

    #[test]
    fn what_a_peer_says_is_made_harmless() {
        assert_eq!(shown(b" a\tb\r\nc "), "a b  c");
        assert_eq!(shown(b"\x1b[31mred\0"), "\\u{1b}[31mred\\u{0}");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(shown(b"\xffx"), "\u{fffd}x");
        assert_eq!(shown(&[b'x'; 300]).chars().count(), SHOWN_MAX + 1);
    }

    #[test]
    fn percent_decoding() {
        assert_eq!(percent_decoded(b"a%20b%E2%82%ac"), "a b€".as_bytes());
        assert_eq!(percent_decoded(b"100%"), b"100%");
        assert_eq!(percent_decoded(b"%zz%2"), b"%zz%2");
        assert_eq!(percent_decoded(b"%%41"), b"%A");
    }
}
