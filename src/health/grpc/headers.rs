//! Header blocks: what goes, and the few fields of what comes that matter.

use super::words::{percent_decoded, shown};
use super::{Call, GrpcTrouble};
use loona_hpack::{Decoder, Encoder};
use std::time::Duration;

/// All header blocks of a connection have this many bytes at most, packed.
pub(super) const BLOCKS_MAX: usize = 16 << 10;
/// The fields of one block have this many, counted as HTTP/2 does: with 32 for each field.
pub(super) const FIELDS_MAX: usize = 16 << 10;
/// What the unpacker remembers: HTTP/2's default.
const TABLE_MAX: usize = 4096;

/// The fields that matter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// `:status`.
    pub status: Option<u16>,
    /// `content-type`, made printable.
    pub content_type: Option<String>,
    /// `grpc-status`.
    pub grpc_status: Option<u32>,
    /// `grpc-message`, decoded and made printable.
    pub grpc_message: String,
}

/// Unpacks the header blocks of one connection.
pub(super) struct Unpacker(Decoder<'static>);

impl Unpacker {
    pub fn new() -> Unpacker {
        let mut decoder = Decoder::new();
        // Otherwise the peer could set any size.
        decoder.set_max_allowed_table_size(TABLE_MAX);
        Unpacker(decoder)
    }

    /// Unpacks a whole block. One byte may stand for a field of 4 KiB, so what doesn't matter is counted and not kept.
    pub fn unpack(&mut self, block: &[u8]) -> Result<Fields, GrpcTrouble> {
        let too_many = || GrpcTrouble::Http2("header fields of more than 16 KiB, unpacked".into());
        // The decoder can't be stopped, and takes some 20 µs for each short string: it makes its Huffman table anew.
        if count(block) * 32 > FIELDS_MAX {
            return Err(too_many());
        }
        let mut fields = Fields::default();
        let mut size = 0_usize;
        let mut wrong = None;
        let unpacked = self.0.decode_with_cb(block, |name, value| {
            size = size.saturating_add(name.len() + value.len() + 32);
            if size <= FIELDS_MAX
                && wrong.is_none()
                && let Err(trouble) = fields.keep(&name, &value)
            {
                wrong = Some(trouble);
            }
        });
        if size > FIELDS_MAX {
            return Err(too_many());
        }
        unpacked.map_err(|e| GrpcTrouble::Http2(format!("damaged header block: {}", lower(&e.to_string()))))?;
        wrong.map_or(Ok(fields), Err)
    }
}

/// How many fields a block has, up to where it is damaged (RFC 7541, section 6).
fn count(mut block: &[u8]) -> usize {
    let mut fields = 0;
    while let Some(&first) = block.first() {
        let passed = match first {
            0x80.. => integer(&mut block, 7).map(|_| 1),
            0x20..=0x3f => integer(&mut block, 5).map(|_| 0),
            _ => literal(&mut block, if first < 0x20 { 4 } else { 6 }).map(|()| 1),
        };
        match passed {
            Some(more) => fields += more,
            None => break,
        }
    }
    fields
}

/// Passes a field over whose value stands in the block, and its name too where it has no index.
fn literal(block: &mut &[u8], prefix: u8) -> Option<()> {
    let strings = if integer(block, prefix)? == 0 { 2 } else { 1 };
    for _ in 0..strings {
        let length = integer(block, 7)?;
        *block = block.get(length..)?;
    }
    Some(())
}

/// Takes a number whose first digit has `prefix` bits (RFC 7541, section 5.1).
fn integer(block: &mut &[u8], prefix: u8) -> Option<usize> {
    let mask = 0xff >> (8 - prefix);
    let (&first, mut rest) = block.split_first()?;
    let mut value = usize::from(first & mask);
    if first & mask == mask {
        for shift in (0..28).step_by(7) {
            let (&digit, after) = rest.split_first()?;
            rest = after;
            value += usize::from(digit & 0x7f) << shift;
            if digit & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

impl Fields {
    fn keep(&mut self, name: &[u8], value: &[u8]) -> Result<(), GrpcTrouble> {
        let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u32>().ok();
        let wrong = |name: &str| GrpcTrouble::NotGrpc(format!("{name} is {:?}", shown(value)));
        match name {
            b":status" => {
                let status = number(value).and_then(|n| u16::try_from(n).ok()).filter(|n| (100..1000).contains(n));
                self.status = Some(status.ok_or_else(|| wrong(":status"))?);
            }
            b"content-type" => self.content_type = Some(shown(value)),
            b"grpc-status" => self.grpc_status = Some(number(value).ok_or_else(|| wrong("grpc-status"))?),
            b"grpc-message" => self.grpc_message = shown(&percent_decoded(value)),
            _ => {}
        }
        Ok(())
    }

    /// Whether `content-type` is one of gRPC's.
    pub fn is_grpc(&self) -> bool {
        let rest = self.content_type.as_deref().and_then(|t| t.strip_prefix("application/grpc"));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
    }
}

/// The header block of the request.
pub(super) fn request(call: &Call, secure: bool, authority: &str, timeout: Duration) -> Vec<u8> {
    let timeout = grpc_timeout(timeout);
    let agent = concat!("mcp-health/", env!("CARGO_PKG_VERSION"));
    let mut fields = vec![
        (":method", "POST"),
        (":scheme", if secure { "https" } else { "http" }),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", &timeout),
    ];
    if !call.metadata.iter().any(|m| m.name == "user-agent") {
        fields.push(("user-agent", agent));
    }
    fields.extend(call.metadata.iter().map(|m| (m.name.as_str(), m.value.as_str())));
    Encoder::new().encode(fields.into_iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

/// Eight digits at most, and a unit.
fn grpc_timeout(timeout: Duration) -> String {
    match timeout.as_millis() {
        ms @ 0..100_000_000 => format!("{}m", ms.max(1)),
        ms => format!("{}S", (ms / 1000).min(99_999_999)),
    }
}

/// Without a capital at the beginning.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Metadata;
    use super::*;

    fn unpack(fields: &[(&str, &str)]) -> Result<Fields, GrpcTrouble> {
        let block = Encoder::new().encode(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
        Unpacker::new().unpack(&block)
    }

    #[test]
    fn what_matters_is_kept() {
        let fields = unpack(&[
            (":status", "200"),
            ("server", "x"),
            ("content-type", "application/grpc+proto"),
            ("grpc-status", "5"),
            ("grpc-message", "no%20such%0aservice"),
        ]);
        let fields = fields.unwrap();
        assert!(fields.is_grpc());
        assert_eq!((fields.status, fields.grpc_status, &*fields.grpc_message), (Some(200), Some(5), "no such service"));
        assert!(!unpack(&[("content-type", "application/grpcx")]).unwrap().is_grpc());
        assert!(unpack(&[("content-type", "application/grpc;x")]).unwrap().is_grpc());
        for wrong in [(":status", "2000"), (":status", "x"), ("grpc-status", ""), ("grpc-status", "-1")] {
            assert!(matches!(unpack(&[wrong]), Err(GrpcTrouble::NotGrpc(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_bomb_is_no_more_than_its_word() {
        // A field of 4,000 bytes, remembered, and named 10,000 times by one byte.
        let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
        block.resize(block.len() + 4000, b'x');
        block.resize(block.len() + 10_000, 0xbe);
        let told = Unpacker::new().unpack(&block).unwrap_err();
        assert_eq!(told, GrpcTrouble::Http2("header fields of more than 16 KiB, unpacked".into()));
    }

    #[test]
    fn fields_are_counted_before_they_are_unpacked() {
        let fields = [(":status", "200"), ("content-type", "application/grpc"), ("x", &"y".repeat(300))];
        let block = Encoder::new().encode(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
        assert_eq!(count(&block), 3);
        // A new size of the table, a name by its index, one by a long index, one never to be kept.
        assert_eq!(count(b"\x3f\xe1\x1f\x88\x5f\x01a\x7f\x00\x01a\x10\x01a\x01b"), 4);
        assert_eq!(count(b"\x88\x40\x05ab"), 1);
        assert_eq!(count(b"\xff\xff\xff\xff\xff\xff"), 0);
        // Six thousand short strings, of which none is unpacked.
        let began = std::time::Instant::now();
        let told = Unpacker::new().unpack(&b"\0\x81\x1f\x81\x1f".repeat(3200)).unwrap_err();
        assert_eq!(told, GrpcTrouble::Http2("header fields of more than 16 KiB, unpacked".into()));
        assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    }

    #[test]
    fn damaged_blocks() {
        for block in
            [&b"\xff\xff\xff\xff\xff\xff"[..], b"\xbe", b"\x80", b"\x40\x7f", b"\x40\x81\xff", b"\x3f\xff\xff\x03"]
        {
            let told = Unpacker::new().unpack(block).unwrap_err().to_string();
            assert!(told.starts_with("broken HTTP/2: damaged header block: "), "{block:?}: {told}");
        }
    }

    #[test]
    fn the_request() {
        let agent = Metadata { name: "user-agent".into(), value: "x/1".into() };
        let call = Call { metadata: vec![agent], ..Call::default() };
        let block = request(&call, true, "h:1", Duration::from_millis(1500));
        let fields = Decoder::new().decode(&block).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields: Vec<String> = fields.iter().map(|(n, v)| format!("{} = {}", text(n), text(v))).collect();
        let wanted = [
            ":method = POST",
            ":scheme = https",
            ":path = /grpc.health.v1.Health/Check",
            ":authority = h:1",
            "te = trailers",
            "content-type = application/grpc",
            "grpc-timeout = 1500m",
            "user-agent = x/1",
        ];
        assert_eq!(fields, wanted);
        assert_eq!(grpc_timeout(Duration::ZERO), "1m");
        assert_eq!(grpc_timeout(Duration::MAX), "99999999S");
    }
}
