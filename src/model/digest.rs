//! Content digests: `sha256:` and 64 hex digits, as OCI writes them.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;

/// A SHA-256, the one algorithm that every registry has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// What a hasher has come to.
    pub fn finish(hasher: sha2::Sha256) -> Digest {
        Digest(hasher.finalize().into())
    }

    /// Reads `sha256:HEX`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Digest, String> {
        let bad = || "a digest is sha256: and 64 lower-case hex digits".to_string();
        match text.strip_prefix("sha256:") {
            Some(hex) => Digest::from_hex(hex).ok_or_else(bad),
            None if text.starts_with("sha512:") || text.starts_with("blake3:") => {
                Err("only sha256 digests are supported".into())
            }
            None => Err(bad()),
        }
    }

    /// Reads 64 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut out = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Digest(out))
    }

    /// Its 64 hex digits: a file's name in the store.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        Digest::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Digest;

    #[test]
    fn only_whole_sha256_digests() {
        let text = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(Digest::parse(&text).map(|d| d.to_string()), Ok(text.clone()));
        assert_eq!(Digest::of(b"").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for bad in ["", "sha256:", "sha256:0A", &text[..70], &text.to_uppercase(), &text.replace("sha256", "md5")] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
        assert!(Digest::parse("sha512:00").unwrap_err().contains("only sha256"));
    }
}
