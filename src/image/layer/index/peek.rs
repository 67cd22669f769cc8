//! Whether an index is that of a certain layer, without reading it: by what it begins and ends with.

use super::{MAGIC, Trailer, tag};
use crate::model::Digest;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The tag, the digest in hex, two numbers of at most ten bytes, and the SHA-256 of it all.
const TAIL_MAX: u64 = 1 + 64 + 20 + 32;

/// The trailer of `index`, where it is of this version and that of a layer that unpacked is `diff_id`. That what is in
/// between is undamaged, only reading it tells.
pub fn peek(index: &File, diff_id: &Digest) -> Option<Trailer> {
    let size = index.metadata().ok()?.len();
    let mut magic = [0; 8];
    index.read_exact_at(&mut magic, 0).ok()?;
    let from = size.saturating_sub(TAIL_MAX).max(8);
    let mut tail = vec![0; usize::try_from(size.checked_sub(from)?).ok()?];
    index.read_exact_at(&mut tail, from).ok()?;
    let tail = tail.get(..tail.len().checked_sub(32)?)?;
    let mut wanted = vec![tag::END];
    wanted.extend_from_slice(diff_id.hex().as_bytes());
    let at = tail.windows(wanted.len()).rposition(|w| w == wanted)?;
    let mut rest = tail.get(at + wanted.len()..)?;
    let mut number = || {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (first, others) = rest.split_first()?;
            rest = others;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    let trailer = Trailer { diff_id: *diff_id, size: number()?, entries: number()? };
    (magic == MAGIC && rest.is_empty()).then_some(trailer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Entry, Kind, Writer};
    use super::*;

    #[test]
    fn only_the_layer_s_own_index() {
        let path = std::env::temp_dir().join(format!("mcp-peek-{}", std::process::id()));
        let (path_of, diff_id) = (b"a".to_vec(), Digest::of(b"layer"));
        let kind = Kind::Directory;
        let entry = Entry { path: path_of, kind, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
        for (entries, size) in [(0, 0), (1, 127), (1, 128), (1, 1 << 35)] {
            let trailer = Trailer { diff_id, size, entries };
            let mut writer = Writer::new(File::create(&path).unwrap());
            for _ in 0..entries {
                writer.add(&entry).unwrap();
            }
            writer.finish(&trailer).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            assert_eq!(peek(&file, &diff_id), Some(trailer));
            assert_eq!(peek(&file, &Digest::of(b"other")), None);
            let length = file.metadata().unwrap().len();
            file.set_len(length - 1).unwrap();
            assert_eq!(peek(&file, &diff_id), None);
            file.write_at(b"x", 0).unwrap();
            assert_eq!(peek(&file, &diff_id), None);
        }
        std::fs::write(&path, "").unwrap();
        assert_eq!(peek(&File::open(&path).unwrap(), &diff_id), None);
        std::fs::remove_file(path).unwrap();
    }
}
