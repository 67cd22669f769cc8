//! JSON documents that mcp writes and reads again: each carries the number of its schema.

use crate::sys::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::path::Path;

/// One kind of document.
#[derive(Debug, Clone, Copy)]
pub struct Document {
    /// What it is, for messages.
    pub what: &'static str,
    /// The schema that this mcp writes: the newest that it reads. The first is 1.
    pub schema: u32,
    /// What the user can do about one that cannot be read; empty: nothing more than its message says.
    pub remedy: &'static str,
}

impl Document {
    /// The schema of the bytes of the file `path`: 1 to [`Document::schema`]. A damaged and a newer one are errors.
    pub fn schema_of(&self, path: &Path, bytes: &[u8]) -> Result<u32> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| self.damaged(path, e))?;
        match head.schema {
            0 => Err(self.damaged(path, "schema 0")),
            newer if newer > self.schema => {
                let (what, own) = (self.what, self.schema);
                let why = format!("{what} of schema {newer} was written by a newer mcp; this one reads up to {own}");
                Err(self.refused(path, why))
            }
            known => Ok(known),
        }
    }

    /// Reads the bytes of the file `path`. For a document that has had one schema alone.
    pub fn parse<T: DeserializeOwned>(&self, path: &Path, bytes: &[u8]) -> Result<T> {
        self.schema_of(path, bytes)?;
        self.body(path, bytes)
    }

    /// Reads the bytes of the file `path` in the form `T`, whose schema [`Document::schema_of`] has given.
    pub fn body<T: DeserializeOwned>(&self, path: &Path, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|e| self.damaged(path, e))
    }

    /// The error for a document that cannot be read.
    pub fn damaged(&self, path: &Path, why: impl Display) -> Error {
        self.refused(path, format!("damaged {}: {why}", self.what))
    }

    fn refused(&self, path: &Path, why: String) -> Error {
        let gap = if self.remedy.is_empty() { "" } else { "; " };
        Error::refused(path.display(), format!("{why}{gap}{}", self.remedy))
    }
}
