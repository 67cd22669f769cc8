//! PAX extension headers: records of `LENGTH KEY=VALUE`.

use super::super::bad;
use super::number::{decimal, seconds};
use crate::sys::Result;

/// What the kernel takes as the name of an attribute, and as its value.
const XATTR_NAME_MAX: usize = 255;
const XATTR_VALUE_MAX: usize = 65_536;
/// How many of them.
const XATTRS_MAX: usize = 1024;

/// The records that mean something to us.
#[derive(Debug, Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<i64>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Sparse,
}

/// GNU's words on files with holes, in three versions.
#[derive(Debug, Default)]
pub struct Sparse {
    /// 1.0, whose map is in front of the contents.
    pub one: bool,
    /// Size of the file with its holes.
    pub size: Option<u64>,
    /// 0.0 and 0.1: offsets and lengths by turns.
    pub map: Vec<u64>,
}

impl Pax {
    /// Reads the records of one header.
    pub fn parse(mut bytes: &[u8]) -> Result<Pax> {
        let mut pax = Pax::default();
        let (mut major, mut minor, mut real_name) = (None, None, None);
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or_else(|| bad("a broken PAX record"))?;
            bytes = rest;
            let wrong = || bad(format!("a broken PAX record '{}'", super::show(key)));
            let path =
                || if value.contains(&0) { Err(wrong()) } else { Ok((!value.is_empty()).then(|| value.to_vec())) };
            let number = || match value {
                b"" => Ok(None),
                _ => decimal(value).map(Some).ok_or_else(wrong),
            };
            match key {
                b"path" => pax.path = path()?,
                b"GNU.sparse.name" => real_name = path()?,
                b"linkpath" => pax.linkpath = path()?,
                b"size" => pax.size = number()?,
                b"uid" => pax.uid = number()?,
                b"gid" => pax.gid = number()?,
                b"mtime" if value.is_empty() => pax.mtime = None,
                b"mtime" => pax.mtime = Some(seconds(value).ok_or_else(wrong)?),
                b"GNU.sparse.major" => major = number()?,
                b"GNU.sparse.minor" => minor = number()?,
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => pax.sparse.size = number()?,
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    // They come in pairs, in this order.
                    if (pax.sparse.map.len() % 2 == 0) != (key == b"GNU.sparse.offset") {
                        return Err(wrong());
                    }
                    pax.sparse.map.push(decimal(value).ok_or_else(wrong)?);
                }
                b"GNU.sparse.map" if value.is_empty() => {}
                b"GNU.sparse.map" => {
                    let numbers = value.split(|b| *b == b',').map(decimal).collect::<Option<Vec<u64>>>();
                    pax.sparse.map = numbers.ok_or_else(wrong)?;
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        pax.attribute(name, value).ok_or_else(wrong)?;
                    }
                }
            }
        }
        // The other one is for those who don't know of holes.
        pax.path = real_name.or(pax.path);
        pax.sparse.one = match (major, minor) {
            (Some(1), Some(0)) => true,
            (None, None) | (Some(0), _) => false,
            _ => return Err(bad("a file with holes in a way that nobody knows")),
        };
        Ok(pax)
    }

    /// Notes an extended attribute; the last of a name counts.
    fn attribute(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if name.is_empty() || name.len() > XATTR_NAME_MAX || name.contains(&0) || value.len() > XATTR_VALUE_MAX {
            return None;
        }
        self.xattrs.retain(|(other, _)| other != name);
        if self.xattrs.len() == XATTRS_MAX {
            return None;
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Some(())
    }
}

/// The first record: key, value, and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // Twenty digits are more than any length has.
    let blank = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    (equals > 0).then(|| (&record[..equals], &record[equals + 1..], rest))
}
