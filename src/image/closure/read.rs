//! Bytes of a file of the image, never more than asked for and never more than a limit.

use super::{FileRef, Files, Stop};

/// `length` bytes from `offset` on; `None` where the file doesn't have them all.
pub fn exact(files: &dyn Files, file: &FileRef, offset: u64, length: usize) -> Result<Option<Vec<u8>>, Stop> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= file.size => {}
        _ => return Ok(None),
    }
    let bytes = up_to(files, file, offset, length)?;
    Ok((bytes.len() == length).then_some(bytes))
}

/// At most `length` bytes from `offset` on.
pub fn up_to(files: &dyn Files, file: &FileRef, offset: u64, length: usize) -> Result<Vec<u8>, Stop> {
    let there = usize::try_from(file.size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(there)];
    let mut have = 0;
    while have < bytes.len() {
        match files.read_at(file.id, offset + have as u64, &mut bytes[have..])? {
            0 => break,
            more => have += more.min(bytes.len() - have),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

/// All of a small file; `None` where it is larger than `most`.
pub fn whole(files: &dyn Files, file: &FileRef, most: usize) -> Result<Option<Vec<u8>>, Stop> {
    match file.size <= most as u64 {
        true => Ok(Some(up_to(files, file, 0, most)?)),
        false => Ok(None),
    }
}

/// Whether `needle` stands anywhere in the file's first `most` bytes.
pub fn mentions(files: &dyn Files, file: &FileRef, needle: &[u8], most: u64) -> Result<bool, Stop> {
    const STEP: usize = 256 << 10;
    let finder = memchr::memmem::Finder::new(needle);
    let mut at = 0;
    while at < file.size.min(most) {
        let bytes = up_to(files, file, at, STEP + needle.len())?;
        if finder.find(&bytes).is_some() {
            return Ok(true);
        }
        at += STEP as u64;
    }
    Ok(false)
}
