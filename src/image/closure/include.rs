//! Paths that are taken along because somebody said so: files, or directories with all that is in them.

use super::tree::Tree;
use super::walk::{join, show, walk};
use super::{Files, Found, Stop};
use crate::image::limits::DEPTH_MAX;
use crate::sys::Error;
use std::collections::HashSet;

/// Takes what `paths` name; one that is not there is an error.
pub fn take(files: &dyn Files, paths: &[String], tree: &mut Tree) -> Result<(), Stop> {
    for path in paths {
        let absolute = join(b"/", path.as_bytes());
        if !directory(files, &absolute, super::tree::TAKEN_MAX, tree)? {
            let reason = "the definition's `include` names it, and the image has no such file or directory";
            return Err(Stop::Failed(Error::refused(show(&absolute), reason)));
        }
    }
    Ok(())
}

/// Takes `path`, and where it is a directory all that is below, at most `most` names. Links are kept, and what they lead
/// to is taken along: of a directory outside, itself and what is in it. Whether it is there.
pub fn directory(files: &dyn Files, path: &[u8], most: usize, tree: &mut Tree) -> Result<bool, Stop> {
    let Some(top) = walk(files, path)? else { return Ok(false) };
    let mut todo = vec![(top.real, 0)];
    let mut seen = HashSet::new();
    tree.take(path)?;
    let mut names = 0;
    while let Some((path, depth)) = todo.pop() {
        let Some(walked) = tree.take(&path)? else { continue };
        // A link to where it lies itself, or above: nobody means the whole image by it.
        let upwards = walked.real != path && path.starts_with(&walked.real);
        if walked.found != Found::Directory || upwards || depth > DEPTH_MAX || !seen.insert(walked.real.clone()) {
            continue;
        }
        for name in files.list(&walked.real)? {
            names += 1;
            if names > most {
                let reason = format!("has more than {most} files; name less of it");
                return Err(Stop::Failed(Error::refused(show(&walked.real), reason)));
            }
            todo.push((join(&walked.real, &name), depth + 1));
        }
    }
    Ok(true)
}
