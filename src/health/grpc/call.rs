//! What is asked for, and what goes along with it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The longest name of a service that is asked for.
pub(in crate::health) const SERVICE_MAX: usize = 256;

/// One call of `grpc.health.v1.Health/Check`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The service that is asked about; empty: the server as a whole.
    pub service: String,
    /// Instead of the host and port that are asked: `:authority`.
    pub authority: Option<String>,
    /// Sent along.
    pub metadata: Vec<Metadata>,
}

/// One `NAME: VALUE` that is sent along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// In lower case.
    pub(super) name: String,
    /// Printable ASCII; in base64 where the name ends with `-bin`.
    pub(super) value: String,
}

/// What we say ourselves, or what HTTP/2 has no place for.
const OURS: [&str; 8] =
    ["content-type", "te", "host", "connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection"];

impl Metadata {
    /// Reads `NAME: VALUE`; what is wrong with it otherwise.
    pub fn parse(text: &str) -> Result<Metadata, String> {
        let (name, value) = text.split_once(':').ok_or("not NAME: VALUE")?;
        let name = name.trim().to_ascii_lowercase();
        let value = value.trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err("a name has letters, digits, '-', '_' and '.'".into());
        }
        if OURS.contains(&name.as_str()) || name.starts_with("grpc-") {
            return Err(format!("{name} is set by gRPC itself"));
        }
        let value = if name.ends_with("-bin") {
            STANDARD_NO_PAD.encode(value)
        } else if value.bytes().all(|b| matches!(b, b' '..=b'~')) {
            value.to_string()
        } else {
            return Err("a value is printable ASCII, unless the name ends with -bin".into());
        };
        Ok(Metadata { name, value })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn metadata() {
        let read = |text| Metadata::parse(text).map(|m| (m.name, m.value));
        assert_eq!(read("Authorization:  Bearer a:b ").unwrap(), ("authorization".into(), "Bearer a:b".into()));
        assert_eq!(read("x-bin: \u{1}é").unwrap(), ("x-bin".into(), "AcOp".into()));
        assert_eq!(read("x:").unwrap(), ("x".into(), String::new()));
        for wrong in ["x", ": y", ":path: /", "a b: c", "te: x", "grpc-timeout: 1S", "x: \u{7}", "x: é"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
