//! The first bytes of a peer: HTTP/2, or what else.

use super::GrpcTrouble;
use super::frame;
use super::words::shown;

/// Looks at the first bytes that came. A server's first frame is SETTINGS on stream 0 (RFC 9113, section 3.4), and short.
pub(super) fn check(bytes: &[u8]) -> Result<(), GrpcTrouble> {
    const HTTP1: &[u8] = b"HTTP/1.";
    match *bytes {
        // An alert or a handshake record, and TLS's version.
        [0x15 | 0x16] => Ok(()),
        [0x15 | 0x16, 3, ..] => not_http2("the peer speaks TLS; use grpcs (tls = true)"),
        _ if bytes.starts_with(HTTP1) => not_http2("the peer speaks HTTP/1"),
        _ if HTTP1.starts_with(bytes) => Ok(()),
        // A length above 65,535.
        [first, ..] if first != 0 => not_http2(begins(bytes)),
        [_, _, _, kind, _, s0, s1, s2, s3, ..] => {
            let of_connection = (s0 & 0x7f, s1, s2, s3) == (0, 0, 0, 0);
            match kind {
                frame::SETTINGS | frame::GOAWAY if of_connection => Ok(()),
                // Something of HTTP/2: for the reader of frames to judge.
                ..=frame::CONTINUATION if kind != frame::SETTINGS && kind != frame::GOAWAY => Ok(()),
                _ => not_http2(begins(bytes)),
            }
        }
        _ => Ok(()),
    }
}

/// What came before the peer closed was no whole frame.
pub(super) fn cut_off(bytes: &[u8]) -> GrpcTrouble {
    match bytes.len() < frame::HEADER {
        true => GrpcTrouble::NotHttp2(format!("closed after {}", quoted(bytes))),
        false => GrpcTrouble::Http2("closed in the middle of a frame".into()),
    }
}

fn begins(bytes: &[u8]) -> String {
    format!("the answer begins with {}", quoted(bytes))
}

fn quoted(bytes: &[u8]) -> String {
    let start = bytes.get(..16).unwrap_or(bytes);
    let printable = start.iter().filter(|b| b.is_ascii_graphic()).count();
    if printable * 2 > start.len() {
        return format!("{:?}", shown(start));
    }
    let digits: Vec<String> = start.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("the bytes {}", digits.join(" "))
}

fn not_http2(what: impl Into<String>) -> Result<(), GrpcTrouble> {
    Err(GrpcTrouble::NotHttp2(what.into()))
}
