//! The two messages of `grpc.health.v1.Health/Check`, and gRPC's prefix before each.
//!
//! A message goes as one byte (compressed or not), four of length, and itself. The request is
//! `{ string service = 1; }`, the answer `{ ServingStatus status = 1; }`.

use super::GrpcTrouble;

/// No answer comes near this many bytes: it has two.
pub(super) const MESSAGE_MAX: usize = 4096;
/// Compressed or not, and the length.
pub(super) const PREFIX: usize = 5;

/// `HealthCheckResponse.ServingStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
    /// One that no version of the protocol has yet.
    Other(u64),
}

/// `HealthCheckRequest` for `service`, with its prefix.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.append(&mut message);
    out
}

/// The length of the message that begins with `bytes`, prefix included; `None` while that can't be told.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, GrpcTrouble> {
    let Some(&[compressed, a, b, c, d]) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
    match compressed {
        0 => {}
        1 => return Err(GrpcTrouble::NotGrpc("a compressed message, which nobody asked for".into())),
        _ => return Err(GrpcTrouble::NotGrpc("a damaged message".into())),
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MESSAGE_MAX {
        return Err(GrpcTrouble::NotGrpc(format!("a message of {length} bytes; an answer about health has two")));
    }
    Ok(Some(PREFIX + length))
}

/// Reads `HealthCheckResponse`, without its prefix. Fields that we don't know are left alone.
pub(super) fn response(mut bytes: &[u8]) -> Result<Status, GrpcTrouble> {
    let damaged = || GrpcTrouble::NotGrpc("an answer that is no HealthCheckResponse".into());
    // A field that is not there has its default.
    let mut status = 0;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes).ok_or_else(damaged)?;
        let skipped = match tag & 7 {
            0 => {
                let value = varint(&mut bytes).ok_or_else(damaged)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes).ok_or_else(damaged)?).map_err(|_| damaged())?,
            5 => 4,
            _ => return Err(damaged()),
        };
        // Field 0 is none.
        bytes = if tag >> 3 == 0 { None } else { bytes.get(skipped..) }.ok_or_else(damaged)?;
    }
    Ok(match status {
        0 => Status::Unknown,
        1 => Status::Serving,
        2 => Status::NotServing,
        3 => Status::ServiceUnknown,
        other => Status::Other(other),
    })
}

/// Takes a number in base 128, the lowest digit first; it has 64 bits, so ten digits at most.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&digit, rest) = bytes.split_first()?;
        *bytes = rest;
        // What doesn't fit into 64 bits is cut off, as protobuf says.
        value |= u64::from(digit & 0x7f) << shift;
        if digit & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), b"\0\0\0\0\x05\x0a\x03a.B");
        let long = request(&"x".repeat(200));
        assert_eq!((long[4], &long[5..8], long.len()), (203, &[0x0a, 0xc8, 0x01][..], 208));
    }

    #[test]
    fn answers() {
        assert_eq!(response(b""), Ok(Status::Unknown));
        assert_eq!(response(b"\x08\x01"), Ok(Status::Serving));
        assert_eq!(response(b"\x08\x02"), Ok(Status::NotServing));
        assert_eq!(response(b"\x08\x03"), Ok(Status::ServiceUnknown));
        assert_eq!(response(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok(Status::Other(u64::MAX)));
        // The last one counts; other fields are passed over.
        assert_eq!(response(b"\x08\x02\x12\x03abc\x19abcdefgh\x25abcd\x30\x07\x08\x01"), Ok(Status::Serving));
    }

    #[test]
    fn damaged_answers() {
        for bytes in [
            &b"\x08"[..],
            b"\x08\x81",
            b"\x00\x01",
            b"\x0b",
            b"\x12\x05abc",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x19abc",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"<html>",
        ] {
            assert!(matches!(response(bytes), Err(GrpcTrouble::NotGrpc(_))), "{bytes:?}");
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(length(b"\0\0\0\0").unwrap(), None);
        assert_eq!(length(b"\0\0\0\0\x02\x08").unwrap(), Some(7));
        assert_eq!(length(b"\0\0\0\x10\0").unwrap(), Some(MESSAGE_MAX + PREFIX));
        assert!(length(b"\0\0\0\x10\x01").is_err());
        assert!(length(b"\x01\0\0\0\x02").is_err());
        assert!(length(b"\x02\0\0\0\x02").is_err());
    }
}
