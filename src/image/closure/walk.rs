//! Paths of the image: joined, walked part by part with their links, shown to people.

use super::{FileRef, Files, Found, Stop};
use crate::image::limits::{DEPTH_MAX, LINKS_MAX, PATH_MAX};
use std::collections::VecDeque;

/// Where a path leads.
#[derive(Debug)]
pub struct Walked {
    /// The path with all links resolved.
    pub real: Vec<u8>,
    /// What is there; never a link.
    pub found: Found,
    /// The links on the way, in the order met: real directories, then the link's own name.
    pub links: Vec<Vec<u8>>,
}

/// Follows `path`, absolute, from the root of the image; `None` where nothing is there.
///
/// It asks for one part at a time and never for a path with links or `..` in it: so what `..` means after a link is
/// decided here alone, as the kernel does.
pub fn walk(files: &dyn Files, path: &[u8]) -> Result<Option<Walked>, Stop> {
    if path.len() > PATH_MAX {
        return Ok(None);
    }
    let mut ahead: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
    let mut walked = Walked { real: Vec::new(), found: Found::Directory, links: Vec::new() };
    while let Some(part) = ahead.pop_front() {
        if walked.found != Found::Directory {
            return Ok(None);
        }
        if part == b".." {
            walked.real.truncate(parent(&walked.real).len());
            continue;
        }
        let next = [&walked.real[..], b"/", &part].concat();
        if next.len() > PATH_MAX || ahead.len() > DEPTH_MAX {
            return Ok(None);
        }
        match files.look(&next, false)? {
            Found::Nothing => return Ok(None),
            Found::Symlink(target) => {
                walked.links.push(next);
                if walked.links.len() > LINKS_MAX || target.is_empty() || target.len() > PATH_MAX {
                    return Ok(None);
                }
                if target[0] == b'/' {
                    walked.real.clear();
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    ahead.push_front(part.to_vec());
                }
            }
            found => {
                walked.real = next;
                walked.found = found;
            }
        }
    }
    if walked.real.is_empty() {
        walked.real.push(b'/');
    }
    // A trailing slash is asked of a directory alone.
    match path.ends_with(b"/") && walked.found != Found::Directory {
        true => Ok(None),
        false => Ok(Some(walked)),
    }
}

/// The file that `path` leads to, and its real path.
pub fn file(files: &dyn Files, path: &[u8]) -> Result<Option<(Vec<u8>, FileRef)>, Stop> {
    Ok(match walk(files, path)? {
        Some(Walked { real, found: Found::File(file), .. }) => Some((real, file)),
        _ => None,
    })
}

/// The parts of a path that mean something.
pub fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".")
}

/// `path` itself where it is absolute, else below `base`.
pub fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    match path.first() {
        Some(b'/') => path.to_vec(),
        _ if base.ends_with(b"/") => [base, path].concat(),
        _ => [base, b"/", path].concat(),
    }
}

/// All before the last slash; empty for the root.
pub fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|b| *b == b'/').unwrap_or(0)]
}

/// All behind the last slash.
pub fn name(path: &[u8]) -> &[u8] {
    &path[path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1)..]
}

/// The way from the directory `from` to `to`; both are real paths.
pub fn relative(from: &[u8], to: &[u8]) -> Vec<u8> {
    let (from, to): (Vec<_>, Vec<_>) = (parts(from).collect(), parts(to).collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut way: Vec<&[u8]> = vec![b".."; from.len() - common];
    way.extend(&to[common..]);
    match way.is_empty() {
        true => b".".to_vec(),
        false => way.join(&b'/'),
    }
}

/// For people: control characters and what is not UTF-8 replaced, and never more than a line.
pub fn show(bytes: &[u8]) -> String {
    let text: String =
        String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(300).collect();
    match text.is_empty() {
        true => "\"\"".to_string(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::image::closure::memory::Memory;

    fn real(files: &Memory, path: &str) -> Option<String> {
        walk(files, path.as_bytes()).unwrap().map(|w| String::from_utf8(w.real).unwrap())
    }

    #[test]
    fn links_and_dots_go_as_the_kernel_goes() {
        let mut files = Memory::default();
        files.file("/usr/lib/x/a", b"a");
        files.link("/lib", "usr/lib");
        files.link("/usr/lib/up", "../../../..");
        files.link("/deep", "/lib/x");
        files.link("/loop", "loop");
        assert_eq!(real(&files, "/lib/x/a").as_deref(), Some("/usr/lib/x/a"));
        assert_eq!(real(&files, "/deep/../x/./a").as_deref(), Some("/usr/lib/x/a"));
        assert_eq!(real(&files, "/lib/up/lib//x").as_deref(), Some("/usr/lib/x"));
        assert_eq!(real(&files, "/../..").as_deref(), Some("/"));
        for none in ["/loop", "/lib/x/a/", "/lib/x/a/b", "/lib/x/a/..", "/none"] {
            assert_eq!(real(&files, none), None, "{none}");
        }
        assert_eq!(walk(&files, b"/deep/a").unwrap().unwrap().links, vec![b"/deep".to_vec(), b"/lib".to_vec()]);
    }

    #[test]
    fn relative_ways_stay_inside() {
        assert_eq!(relative(b"/usr/lib", b"/usr/share/z"), b"../share/z");
        assert_eq!(relative(b"/", b"/usr"), b"usr");
        assert_eq!(relative(b"/a/b", b"/a"), b"..");
        assert_eq!(relative(b"/a", b"/a"), b".");
    }
}
