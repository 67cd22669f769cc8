//! A unikernel's files, laid down below one directory: nothing that an image says leads out of it.

use crate::image::closure::{Taken, What};
use crate::image::limits::UNIKERNEL_MAX;
use crate::image::pulled::PulledFile;
use crate::image::worker::{self, Answer, Unpacked};
use crate::sys::{Deadline, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Lays down what `answer` takes along below `root`, an empty directory, from `layers`; the files, sorted. A link is
/// laid down as it is and never followed. Modes are without setuid, setgid and sticky, and let the owner read.
pub(super) fn lay_down(
    root: &Path,
    answer: &Answer,
    layers: &[Unpacked],
    deadline: Deadline,
) -> Result<Vec<PulledFile>> {
    // Holes cost an image nothing, and us the time to hash them.
    let total = answer.places.values().fold(0_u64, |sum, place| sum.saturating_add(place.content.size));
    if total > UNIKERNEL_MAX {
        let reason = format!("the files of its program are {total} bytes, and {UNIKERNEL_MAX} are allowed");
        return Err(Error::refused("unikernel", reason));
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = nix::fcntl::open(root, flags, Mode::empty()).map_err(Error::path("open", root))?;
    let mut files = Vec::new();
    // Most files are in the directory of the one before.
    let mut last: Option<(&str, OwnedFd)> = None;
    for taken in &answer.closure.entries {
        if deadline.passed() {
            return Err(Error::busy(root.display(), "laying down the program's files took too long"));
        }
        let (parent, name) = taken.path.rsplit_once('/').unwrap_or(("", &taken.path));
        if name.is_empty() {
            // The root itself.
            continue;
        }
        if !matches!(&last, Some((path, _)) if *path == parent) {
            let opened = descend(top.as_fd(), parent).map_err(Error::os("open", at(root, parent)))?;
            last = Some((parent, opened));
        }
        let Some((_, folder)) = &last else { continue };
        files.extend(lay(folder.as_fd(), name, root, taken, answer, layers)?);
    }
    files.sort_by(|a: &PulledFile, b| a.path.cmp(&b.path));
    Ok(files)
}

fn lay(
    folder: BorrowedFd<'_>,
    name: &str,
    root: &Path,
    taken: &Taken,
    answer: &Answer,
    layers: &[Unpacked],
) -> Result<Option<PulledFile>> {
    let object = at(root, &taken.path);
    match &taken.what {
        What::Directory => {
            mkdirat(folder, name, Mode::from_bits_truncate(0o755)).map_err(Error::os("create directory", object))?;
        }
        What::Symlink(target) => {
            nix::unistd::symlinkat(target.as_str(), folder, name).map_err(Error::os("create link", object))?;
        }
        What::File(id, mode) => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let opened = openat(folder, name, flags, Mode::from_bits_truncate(0o600));
            let file = File::from(opened.map_err(Error::os("create", &object))?);
            let place = answer.places.get(id);
            let found = place.and_then(|p| Some((p, layers.get(p.layer)?)));
            let (place, layer) = found.ok_or_else(|| Error::refused(&object, "has no contents"))?;
            let digest = worker::copy(&place.content, &layer.plain, &file)?;
            let mode = Mode::from_bits_truncate(mode & 0o777 | 0o400);
            fchmod(&file, mode).map_err(Error::os("change mode of", &object))?;
            return Ok(Some(PulledFile { path: taken.path.clone(), size: place.content.size, digest }));
        }
    }
    Ok(None)
}

/// The directory `path` below `top`, through no link.
fn descend(top: BorrowedFd<'_>, path: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let path = path.trim_start_matches('/');
    if path.is_empty() {
        return openat(top, ".", flags, Mode::empty());
    }
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match openat2(top, path, OpenHow::new().flags(flags).resolve(resolve)) {
        // Before Linux 5.6, or filtered: part by part is as safe, as nobody else writes here.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let mut folder = openat(top, ".", flags, Mode::empty())?;
            for part in path.split('/') {
                if matches!(part, "" | "." | "..") {
                    return Err(Errno::EXDEV);
                }
                folder = openat(&folder, part, flags, Mode::empty())?;
            }
            Ok(folder)
        }
        done => done,
    }
}

/// How messages call a file of the image that is laid down.
fn at(root: &Path, path: &str) -> String {
    format!("{}{path}", root.display())
}
