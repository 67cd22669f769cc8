//! The key of a build: a digest of all that goes into it.
//!
//! What is big counts by what tells it apart without reading it: an image by the digests that were checked when it was
//! pulled, programs and kernels by size, inode and time. What is secret counts by a digest with a salt that never leaves
//! the store, as keys are shown and written down.

use crate::image::store::Store;
use crate::model::Digest;
use crate::sys::{Error, Result, file, turns};
use serde::Serialize;

/// Goes into every key: to be raised when the same inputs shall give another build.
const FORM: u32 = 1;

/// Bytes of the salt.
const SALT: u64 = 32;

/// The key of `inputs`, in hex.
pub fn of(inputs: &impl Serialize) -> Result<String> {
    // Canonical: fields in their order, maps sorted, no spaces.
    let text = serde_json::to_string(&(FORM, inputs)).map_err(|e| Error::refused("build", e.to_string()))?;
    Ok(Digest::of(text.as_bytes()).hex())
}

/// What stands for `secret` in a key: empty for nothing; `None` where there is no salt yet and none shall be made.
pub fn of_secret(secret: &[(String, String)], store: &Store, make_salt: bool) -> Result<Option<String>> {
    if secret.is_empty() {
        return Ok(Some(String::new()));
    }
    let path = store.paths().salt();
    if make_salt {
        turns::update(&path, SALT, |old| match old {
            Some(old) if old.len() as u64 == SALT => Ok(None),
            _ => random().map(Some),
        })?;
    }
    let Some(salt) = file::read_regular(&path, SALT)?.filter(|s| s.len() as u64 == SALT) else { return Ok(None) };
    let text = serde_json::to_vec(secret).map_err(|e| Error::refused("env_file", e.to_string()))?;
    Ok(Some(Digest::of(&[salt, text].concat()).hex()))
}

fn random() -> Result<Vec<u8>> {
    let mut bytes = vec![0; SALT as usize];
    // SAFETY: a buffer and its length.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } == bytes.len() as isize {
        true => Ok(bytes),
        false => Err(Error::os("read", "random numbers")(std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::paths::Paths;

    #[test]
    fn secrets_count_and_need_a_salt_of_the_store() {
        let dir = std::env::temp_dir().join(format!("mcp-key-{}", std::process::id()));
        let store = Store::look(&Paths::under(&dir));
        let pair = |value: &str| vec![("A".to_string(), value.to_string())];
        assert_eq!(of_secret(&[], &store, false).unwrap(), Some(String::new()));
        assert_eq!(of_secret(&pair("x"), &store, false).unwrap(), None);
        file::create_dirs(&store.paths().root).unwrap();
        let first = of_secret(&pair("x"), &store, true).unwrap().unwrap();
        assert_eq!(of_secret(&pair("x"), &store, true).unwrap(), Some(first.clone()));
        assert_eq!(of_secret(&pair("x"), &store, false).unwrap(), Some(first.clone()));
        assert_ne!(of_secret(&pair("y"), &store, false).unwrap(), Some(first.clone()));
        assert_ne!(first, Digest::of(br#"[["A","x"]]"#).hex());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
