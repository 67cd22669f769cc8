//! HTTP/2 frames (RFC 9113, section 4): taken from bytes that came, and put into bytes that go.

use super::GrpcTrouble;

/// What goes before all frames of a client (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags, stream.
pub(super) const HEADER: usize = 9;

/// The longest payload that a peer may send, as long as we don't allow more (SETTINGS_MAX_FRAME_SIZE).
pub(super) const PAYLOAD_MAX: usize = 16_384;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// On DATA and HEADERS: the last frame of its stream, but for CONTINUATIONs.
pub(super) const END_STREAM: u8 = 0x1;
/// On SETTINGS and PING: an answer.
pub(super) const ACK: u8 = 0x1;
/// On HEADERS and CONTINUATION: the header block is whole.
pub(super) const END_HEADERS: u8 = 0x4;
/// On DATA and HEADERS: padding at the end, its length at the beginning.
pub(super) const PADDED: u8 = 0x8;
/// On HEADERS: five bytes of priority at the beginning.
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

/// The frame at the beginning of `bytes`, and what comes after it; `None` while it is not whole. A frame that is too long
/// is known by its first three bytes.
pub(super) fn take(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, GrpcTrouble> {
    let Some((length, rest)) = bytes.split_first_chunk::<3>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
    if length > PAYLOAD_MAX {
        return Err(GrpcTrouble::Http2(format!("a frame of {length} bytes; {PAYLOAD_MAX} are allowed")));
    }
    let Some((&[kind, flags, s0, s1, s2, s3], rest)) = rest.split_first_chunk::<6>() else { return Ok(None) };
    let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    // The first bit is reserved, and ignored.
    let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
    Ok(Some((Frame { kind, flags, stream, payload }, rest)))
}

/// Adds a frame to `out`. `payload` has [`PAYLOAD_MAX`] bytes at most.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

impl<'a> Frame<'a> {
    /// The payload without padding and priority.
    pub fn content(&self) -> Result<&'a [u8], GrpcTrouble> {
        let wrong = || GrpcTrouble::Http2(format!("a {} frame with more padding than it is long", name(self.kind)));
        let mut content = self.payload;
        if self.flags & PADDED != 0 {
            let (&padding, rest) = content.split_first().ok_or_else(wrong)?;
            let length = rest.len().checked_sub(padding.into()).ok_or_else(wrong)?;
            content = rest.get(..length).ok_or_else(wrong)?;
        }
        if self.kind == HEADERS && self.flags & WITH_PRIORITY != 0 {
            let short = || GrpcTrouble::Http2("a HEADERS frame that is too short for its priority".into());
            content = content.get(5..).ok_or_else(short)?;
        }
        Ok(content)
    }
}

/// The type of a frame as the RFC calls it.
pub(super) fn name(kind: u8) -> &'static str {
    match kind {
        DATA => "DATA",
        HEADERS => "HEADERS",
        PRIORITY => "PRIORITY",
        RST_STREAM => "RST_STREAM",
        SETTINGS => "SETTINGS",
        PUSH_PROMISE => "PUSH_PROMISE",
        PING => "PING",
        GOAWAY => "GOAWAY",
        WINDOW_UPDATE => "WINDOW_UPDATE",
        CONTINUATION => "CONTINUATION",
        _ => "unknown",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        let mut bytes = Vec::new();
        put(&mut bytes, DATA, END_STREAM, 1, b"abc");
        put(&mut bytes, PING, 0, 0, &[7; 8]);
        for whole in 0..12 {
            assert_eq!(take(&bytes[..whole]).unwrap(), None, "{whole}");
        }
        let (frame, rest) = take(&bytes).unwrap().unwrap();
        assert_eq!(frame, Frame { kind: DATA, flags: END_STREAM, stream: 1, payload: b"abc" });
        let (frame, rest) = take(rest).unwrap().unwrap();
        assert_eq!((frame.kind, frame.stream, frame.payload, rest), (PING, 0, &[7; 8][..], &[][..]));
    }

    #[test]
    fn too_long_a_frame_is_known_by_its_length() {
        assert_eq!(take(&[0, 0x40, 0]).unwrap(), None);
        let told = take(&[0, 0x40, 1]).unwrap_err();
        assert_eq!(told, GrpcTrouble::Http2("a frame of 16385 bytes; 16384 are allowed".into()));
    }

    #[test]
    fn padding_and_priority() {
        let content = |kind, flags, payload: &'static [u8]| Frame { kind, flags, stream: 1, payload }.content();
        assert_eq!(content(DATA, PADDED, b"\x02ab\0\0").unwrap(), b"ab");
        assert_eq!(content(DATA, PADDED, b"\x00").unwrap(), b"");
        assert!(content(DATA, PADDED, b"").is_err());
        assert!(content(DATA, PADDED, b"\x02\0").is_err());
        assert_eq!(content(HEADERS, PADDED | WITH_PRIORITY, b"\x01\0\0\0\0\x05ab\0").unwrap(), b"ab");
        assert!(content(HEADERS, WITH_PRIORITY, b"\0\0\0\0").is_err());
        // On DATA that flag means nothing.
        assert_eq!(content(DATA, WITH_PRIORITY, b"a").unwrap(), b"a");
    }
}
