//! Makes the index of a layer.

use super::super::limits::ENTRIES_MAX;
use super::bad;
use super::index::{Trailer, Writer};
use super::stream::{Fill, Stream};
use super::tar::Tar;
use crate::sys::Result;
use std::io::Write;

/// Reads the unpacked layer `from`, writes its index to `index` and all of it to `plain`.
pub fn scan<F: Fill>(from: F, index: impl Write, plain: Option<Box<dyn Write>>) -> Result<Trailer> {
    let mut tar = Tar::new(Stream::new(from, plain));
    let mut index = Writer::new(index);
    while let Some(entry) = tar.entry()? {
        if index.entries() == ENTRIES_MAX {
            return Err(bad(format!("more than {ENTRIES_MAX} entries")));
        }
        index.add(&entry)?;
    }
    let entries = index.entries();
    let (diff_id, size) = tar.finish()?;
    let trailer = Trailer { diff_id, size, entries };
    index.finish(&trailer)?;
    Ok(trailer)
}
