//! What is where in an archive: a tar of files that is never unpacked. Only headers are read; names are looked up here
//! and never become paths.

use crate::image::limits::{EXTENSIONS_MAX, LINKS_MAX};
use crate::sys::{Deadline, Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Entries of one archive: each layer has a handful.
const ENTRIES_MAX: usize = 16 << 10;
/// Bytes of all their names.
const NAMES_MAX: usize = 4 << 20;
/// Bytes of a header, and what contents are padded to.
const BLOCK: u64 = 512;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub at: u64,
    pub size: u64,
}

#[derive(Debug)]
enum Node {
    File(Part),
    Link(String),
}

/// The files of an archive by name.
#[derive(Debug, Default)]
pub struct Entries(HashMap<String, Node>);

impl Entries {
    /// Reads the headers of `file`, which messages call `object`.
    pub fn scan(object: &str, file: &File, deadline: Deadline) -> Result<Entries> {
        let refused = |reason: String| Error::refused(object, reason);
        let length = file.metadata().map_err(Error::os("stat", object))?.len();
        let mut nodes = HashMap::new();
        let (mut at, mut names, mut count) = (0, 0, 0);
        let (mut long_name, mut long_link, mut long_size) = (None, None, None);
        let mut block = [0; BLOCK as usize];
        while at < length {
            if deadline.passed() {
                return Err(Error::busy(object, "reading it took too long"));
            }
            if length - at < BLOCK {
                return Err(refused(format!("damaged: it ends inside a header at byte {at}")));
            }
            file.read_exact_at(&mut block, at).map_err(Error::os("read", object))?;
            if block.iter().all(|b| *b == 0) {
                break;
            }
            if !is_header(&block) {
                return Err(refused(no_tar(&block, at)));
            }
            at += BLOCK;
            count += 1;
            if count > ENTRIES_MAX {
                return Err(refused(format!("an archive of more than {ENTRIES_MAX} entries is none of images")));
            }
            let header = tar::Header::from_byte_slice(&block);
            let damaged = || refused(format!("damaged: the header at byte {} has no size", at - BLOCK));
            let mut size = header.entry_size().map_err(|_| damaged())?;
            let kind = header.entry_type().as_byte();
            if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
                size = long_size.take().unwrap_or(size);
            }
            let end = at.checked_add(size).filter(|end| *end <= length);
            let end = end.ok_or_else(|| refused(format!("damaged: what is at byte {at} goes beyond its end")))?;
            match kind {
                b'x' | b'L' | b'K' => {
                    if size > EXTENSIONS_MAX {
                        return Err(refused(format!("has {size} bytes of extension headers at byte {at}")));
                    }
                    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
                    file.read_exact_at(&mut bytes, at).map_err(Error::os("read", object))?;
                    match kind {
                        b'L' => long_name = Some(until_nul(bytes)),
                        b'K' => long_link = Some(until_nul(bytes)),
                        _ => {
                            for extension in tar::PaxExtensions::new(&bytes).flatten() {
                                let value = extension.value_bytes().to_vec();
                                match extension.key_bytes() {
                                    b"path" => long_name = Some(value),
                                    b"linkpath" => long_link = Some(value),
                                    b"size" => long_size = extension.value().ok().and_then(|v| v.parse().ok()),
                                    _ => {}
                                }
                            }
                        }
                    }
                }
                b'g' => {}
                _ => {
                    let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                    let link = long_link.take();
                    let link = link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
                    // Names that aren't UTF-8 can't be asked for: manifest.json is JSON.
                    if let (Some(name), Some(link)) = (plain(&name, ""), String::from_utf8(link).ok()) {
                        names += name.len() + link.len();
                        if names > NAMES_MAX {
                            return Err(refused(format!("its names have more than {NAMES_MAX} bytes")));
                        }
                        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                        let node = match kind {
                            0 | b'0' | b'7' => Some(Node::File(Part { at, size })),
                            b'1' => plain(link.as_bytes(), "").map(Node::Link),
                            b'2' if link.starts_with('/') => plain(link.as_bytes(), "").map(Node::Link),
                            b'2' => plain(link.as_bytes(), folder).map(Node::Link),
                            _ => None,
                        };
                        if let Some(node) = node {
                            nodes.insert(name, node);
                        }
                    }
                }
            }
            // At the very end the padding may be missing.
            at = end.div_ceil(BLOCK) * BLOCK;
        }
        Ok(Entries(nodes))
    }

    /// The file `name`, through links.
    pub fn get(&self, name: &str) -> Option<Part> {
        let mut name = plain(name.as_bytes(), "")?;
        for _ in 0..LINKS_MAX {
            match self.0.get(&name)? {
                Node::File(part) => return Some(*part),
                Node::Link(to) => name.clone_from(to),
            }
        }
        None
    }
}

/// `text`, beginning in `folder`, without `.`, `..` and doubled slashes; `None` for what leads out or isn't UTF-8.
fn plain(text: &[u8], folder: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in std::str::from_utf8(text).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(memchr::memchr(0, &bytes).unwrap_or(bytes.len()));
    bytes
}

/// Whether the checksum is right.
fn is_header(block: &[u8; BLOCK as usize]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let told = tar::Header::from_byte_slice(block).cksum().ok();
    let sum = block.iter().enumerate().map(|(n, b)| if CHECKSUM.contains(&n) { 32 } else { u32::from(*b) }).sum();
    told == Some(sum)
}

fn no_tar(block: &[u8], at: u64) -> String {
    let packed = match block {
        _ if at > 0 => return format!("damaged: no header at byte {at}"),
        [0x1f, 0x8b, ..] => "zcat",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstdcat",
        [0xfd, b'7', b'z', b'X', ..] => "xzcat",
        [b'B', b'Z', b'h', ..] => "bzcat",
        _ => return "no tar archive; podman save and docker save make them".into(),
    };
    format!("packed; write {packed} FILE | mcp-pull docker-archive:-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};
    use std::time::Duration;

    /// A file without a name.
    pub fn file(bytes: &[u8]) -> File {
        let mut file = File::from(crate::sys::tool::memory("test").unwrap());
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    /// One entry of a tar.
    pub fn add(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, link: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        if kind.is_file() {
            tar.append_data(&mut header, name, bytes).unwrap();
        } else {
            tar.append_link(&mut header, name, link).unwrap();
        }
    }

    fn scan(bytes: &[u8]) -> Result<Entries> {
        Entries::scan("x", &file(bytes), Deadline::after(Duration::from_secs(60)))
    }

    #[test]
    fn names_and_links() {
        use tar::EntryType as Kind;
        let long = format!("{}/layer.tar", "d".repeat(150));
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, Kind::Regular, "./a.tar", "", b"aa");
        add(&mut tar, Kind::Regular, &long, "", b"long");
        add(&mut tar, Kind::Symlink, "id/layer.tar", "../a.tar", b"");
        add(&mut tar, Kind::Link, "hard", "id/layer.tar", b"");
        add(&mut tar, Kind::Symlink, "out", "../../etc/passwd", b"");
        add(&mut tar, Kind::Symlink, "loop", "loop", b"");
        let bytes = tar.into_inner().unwrap();
        let entries = scan(&bytes).unwrap();
        let text = |name: &str| entries.get(name).map(|p| &bytes[p.at as usize..(p.at + p.size) as usize]);
        assert_eq!(text("a.tar"), Some(&b"aa"[..]));
        assert_eq!(text(&long), Some(&b"long"[..]));
        assert_eq!((text("id/layer.tar"), text("/hard")), (text("a.tar"), text("a.tar")));
        for none in ["out", "loop", "b", "../a.tar", ""] {
            assert_eq!(text(none), None, "{none}");
        }
    }

    #[test]
    fn any_bytes_are_an_archive_or_not() {
        let told = |bytes: &[u8]| scan(bytes).unwrap_err().to_string();
        assert!(told(&[b"\x1f\x8b".to_vec(), vec![0; 510]].concat()).contains("zcat FILE"));
        assert!(told(&[7; 1024]).contains("no tar archive"));
        assert!(told(b"short").contains("inside a header"));
        let mut tar = tar::Builder::new(Vec::new());
        for name in ["a", &"n".repeat(200)] {
            add(&mut tar, tar::EntryType::Regular, name, "", &[1; 700]);
        }
        let good = tar.into_inner().unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state >> 8).unwrap() % bytes.len();
                bytes[at] = (state & 0xff) as u8;
                // With a good checksum, else nothing behind it is reached.
                let start = at / 512 * 512;
                let sum: u32 =
                    (0..512).map(|n| if (148..156).contains(&n) { 32 } else { u32::from(bytes[start + n]) }).sum();
                bytes[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            let _ = scan(&bytes);
        }
    }
}
