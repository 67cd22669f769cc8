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
    scan_some(from, index, plain, ENTRIES_MAX)
}

fn scan_some<F: Fill>(from: F, index: impl Write, plain: Option<Box<dyn Write>>, most: u64) -> Result<Trailer> {
    let mut tar = Tar::new(Stream::new(from, plain));
    let mut index = Writer::new(index);
    while let Some(entry) = tar.entry()? {
        if index.entries() == most {
            return Err(bad(format!("more than {most} entries")));
        }
        index.add(&entry)?;
    }
    let entries = index.entries();
    let (diff_id, size) = tar.finish()?;
    let trailer = Trailer { diff_id, size, entries };
    index.finish(&trailer)?;
    Ok(trailer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn so_many_entries_and_no_more() {
        let mut tar = ::tar::Builder::new(Vec::new());
        for n in 0..10 {
            let mut header = ::tar::Header::new_ustar();
            header.set_size(0);
            tar.append_data(&mut header, n.to_string(), &b""[..]).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let (mut index, plain) = (Vec::new(), Box::new(std::io::sink()));
        let trailer = scan_some(tar.as_slice(), &mut index, Some(plain), 10).unwrap();
        assert_eq!((trailer.entries, trailer.size), (10, tar.len() as u64));
        let error = scan_some(tar.as_slice(), Vec::new(), None, 9).unwrap_err();
        assert_eq!(error.to_string(), "layer: more than 9 entries");
    }
}
