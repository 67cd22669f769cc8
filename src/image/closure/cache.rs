//! `/etc/ld.so.cache`, as ldconfig(8) of the image wrote it (glibc, sysdeps/generic/dl-cache.h): parsed, never trusted.

/// Bytes of a cache; Debian's with everything installed has some hundred thousand.
pub const CACHE_MAX: usize = 4 << 20;

const OLD: &[u8] = b"ld.so-1.7.0\0";
const NEW: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// Entries of an old cache that may stand before the new one.
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;

/// A cache that is one.
#[derive(Debug)]
pub struct Cache {
    /// From the new format's header on; what its offsets count from.
    bytes: Vec<u8>,
    count: usize,
}

/// Where a library is, by the cache.
#[derive(Debug, PartialEq, Eq)]
pub struct Cached<'a> {
    /// Absolute.
    pub path: &'a [u8],
    /// For processors with more than x86-64 has at the least.
    pub variant: bool,
}

impl Cache {
    /// `None` for what the loader would ignore too: an unknown format, or one of the other byte order.
    pub fn parse(mut bytes: Vec<u8>) -> Option<Cache> {
        if bytes.starts_with(OLD) {
            let end = OLD_HEADER.checked_add(number(&bytes, 12)?.checked_mul(OLD_ENTRY)?)?;
            let start = end.checked_next_multiple_of(8)?;
            if start > bytes.len() {
                return None;
            }
            bytes.drain(..start);
        }
        // 0: written before the byte order was; 2: little.
        if !bytes.starts_with(NEW) || !matches!(bytes.get(28)? & 3, 0 | 2) {
            return None;
        }
        let count = number(&bytes, NEW.len())?;
        let end = HEADER.checked_add(count.checked_mul(ENTRY)?)?;
        (end <= bytes.len()).then_some(Cache { bytes, count })
    }

    /// All places of the library `name` for this machine, best first as they stand.
    pub fn places<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = Cached<'a>> {
        (0..self.count).filter_map(move |n| {
            let at = HEADER + n * ENTRY;
            // For libc6, and libc6 on x86-64 (FLAG_ELF_LIBC6 | FLAG_X8664_LIB64).
            if !matches!(number(&self.bytes, at)?, 1 | 0x303) {
                return None;
            }
            let key = self.bytes.get(number(&self.bytes, at + 4)?..)?;
            if !key.starts_with(name) || key.get(name.len()) != Some(&0) {
                return None;
            }
            let path = self.bytes.get(number(&self.bytes, at + 8)?..)?;
            let path = &path[..memchr::memchr(0, path)?];
            let hwcap = self.bytes.get(at + 16..at + 24)?;
            path.starts_with(b"/").then(|| Cached { path, variant: hwcap.iter().any(|b| *b != 0) })
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(four.try_into().ok()?)).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A cache of these libraries: name, path, hwcap.
    pub fn cache(entries: &[(&str, &str, u64)], old: bool) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut table = Vec::new();
        let base = HEADER + entries.len() * ENTRY;
        for (name, path, hwcap) in entries {
            let mut string = |text: &str| {
                let at = u32::try_from(base + strings.len()).unwrap();
                strings.extend_from_slice(text.as_bytes());
                strings.push(0);
                at.to_le_bytes()
            };
            table.extend(0x303_u32.to_le_bytes());
            table.extend(string(name));
            table.extend(string(path));
            table.extend(0_u32.to_le_bytes());
            table.extend(hwcap.to_le_bytes());
        }
        let mut all = Vec::new();
        if old {
            all.extend_from_slice(OLD);
            all.extend(1_u32.to_le_bytes());
            all.extend([7; OLD_ENTRY]);
            all.resize(all.len().next_multiple_of(8), 0);
        }
        all.extend_from_slice(NEW);
        all.extend(u32::try_from(entries.len()).unwrap().to_le_bytes());
        all.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
        all.extend([2, 0, 0, 0]);
        all.extend([0; 16]);
        all.extend(table);
        all.extend(strings);
        all
    }

    #[test]
    fn a_name_is_found_in_both_formats() {
        for old in [false, true] {
            let cache = Cache::parse(cache(
                &[
                    ("libz.so.1", "/lib/v3/libz.so.1", 1 << 62 | 1),
                    ("libz.so.1", "/lib/libz.so.1", 0),
                    ("libz.so.11", "/lib/libz.so.11", 0),
                    ("liby.so", "relative", 0),
                ],
                old,
            ))
            .unwrap();
            let found: Vec<_> = cache.places(b"libz.so.1").map(|c| (c.path, c.variant)).collect();
            assert_eq!(found, [(&b"/lib/v3/libz.so.1"[..], true), (&b"/lib/libz.so.1"[..], false)]);
            assert_eq!(cache.places(b"liby.so").count(), 0);
            assert_eq!(cache.places(b"").count(), 0);
        }
    }

    #[test]
    fn no_byte_of_it_is_believed() {
        let good = cache(&[("libz.so.1", "/lib/libz.so.1", 0), ("liba.so", "/lib/liba.so", 0)], true);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                if let Some(cache) = Cache::parse(bad) {
                    assert!(cache.places(b"libz.so.1").count() <= 2);
                }
            }
            let _ = Cache::parse(good[..at].to_vec()).map(|c| c.places(b"libz.so.1").count());
        }
    }
}
