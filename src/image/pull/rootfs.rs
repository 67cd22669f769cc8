//! A unikernel's files, laid down below one directory: nothing that an image says leads out of it.

use crate::image::closure::{Taken, What};
use crate::image::limits::{HOLES_RATIO_MAX, RATIO_FREE, UNIKERNEL_MAX};
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
    // ops writes holes out as zeros.
    let pieces = answer.places.values().flat_map(|place| &place.content.pieces);
    let there = pieces.fold(0_u64, |sum, piece| sum.saturating_add(piece.length));
    if total > RATIO_FREE && total / HOLES_RATIO_MAX > there {
        let reason = format!(
            "the files of its program are {total} bytes, of which {there} are no holes; from {} MiB on at most \
             {HOLES_RATIO_MAX} times that many are allowed",
            RATIO_FREE >> 20
        );
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::image::closure::Closure;
    use crate::image::layer::index::{Content, Piece};
    use crate::image::worker::Place;
    use crate::model::Digest;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::Duration;

    struct Case {
        dir: std::path::PathBuf,
        layers: Vec<Unpacked>,
    }

    impl Case {
        fn new(name: &str) -> Case {
            let dir = std::env::temp_dir().join(format!("mcp-rootfs-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("rootfs")).unwrap();
            fs::create_dir_all(dir.join("outside")).unwrap();
            fs::write(dir.join("plain"), "headerhello").unwrap();
            let plain = || File::open(dir.join("plain")).unwrap();
            let layers = vec![Unpacked { index: plain(), plain: plain() }];
            Case { dir, layers }
        }

        fn lay(&self, entries: &[(&str, What)]) -> Result<Vec<PulledFile>> {
            let entries = entries.iter().map(|(path, what)| Taken { path: path.to_string(), what: what.clone() });
            let closure = Closure {
                program: "/app".into(),
                argv: Vec::new(),
                interpreter: None,
                libraries: Vec::new(),
                entries: entries.collect(),
                warnings: Vec::new(),
            };
            let pieces = vec![Piece { at: 0, from: 6, length: 5 }];
            let hello = Place { layer: 0, content: Content { size: 5, pieces } };
            let huge = Place { layer: 0, content: Content { size: UNIKERNEL_MAX, pieces: Vec::new() } };
            let lost = Place { layer: 7, content: Content { size: 0, pieces: Vec::new() } };
            let wants = |id| closure.entries.iter().any(|e| matches!(e.what, What::File(n, _) if n == id));
            let places =
                [(1, hello), (2, huge), (3, lost)].into_iter().filter(|(id, _)| *id == 1 || wants(*id)).collect();
            let deadline = Deadline::after(Duration::from_secs(10));
            lay_down(&self.dir.join("rootfs"), &Answer { closure, places }, &self.layers, deadline)
        }
    }

    impl Drop for Case {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn files_links_and_modes() {
        let case = Case::new("good");
        let files = case
            .lay(&[
                ("/lib", What::Symlink("usr/lib".into())),
                ("/usr", What::Directory),
                ("/usr/lib", What::Directory),
                ("/usr/lib/libx.so", What::File(1, 0o4111)),
                ("/app", What::File(1, 0o755)),
            ])
            .unwrap();
        let digest = Digest::of(b"hello");
        let file = |path: &str| PulledFile { path: path.into(), size: 5, digest };
        assert_eq!(files, [file("/app"), file("/usr/lib/libx.so")]);
        let library = case.dir.join("rootfs/lib/libx.so");
        assert_eq!(fs::read_to_string(&library).unwrap(), "hello");
        assert_eq!(fs::metadata(library).unwrap().permissions().mode() & 0o7777, 0o511);
    }

    #[test]
    fn nothing_leads_out() {
        let out = |case: &Case| case.dir.join("outside").display().to_string();
        for entries in [
            // What a worker that was taken over might say: checked before us, and safe without that.
            |out: String| vec![("/a", What::Symlink(out)), ("/a/x", What::File(1, 0o644))],
            |_| vec![("/a", What::Symlink("../outside".into())), ("/a/x", What::File(1, 0o644))],
            |_| vec![("/a", What::Symlink("../outside".into())), ("/a/b", What::Directory)],
            |_| vec![("/../outside/x", What::File(1, 0o644))],
            |_| vec![("/a", What::Symlink("../outside/x".into())), ("/a", What::File(1, 0o644))],
            |_| vec![("/none/x", What::File(1, 0o644))],
            |_| vec![("/x", What::File(3, 0o644))],
            |_| vec![("/x", What::File(9, 0o644))],
            |_| vec![("/x", What::File(1, 0o644)), ("/y", What::File(2, 0o644))],
        ] {
            let case = Case::new("out");
            let entries = entries(out(&case));
            case.lay(&entries).unwrap_err();
            assert_eq!(fs::read_dir(case.dir.join("outside")).unwrap().count(), 0, "{entries:?}");
            assert_eq!(fs::metadata(case.dir.join("rootfs")).unwrap().nlink(), 2, "{entries:?}");
        }
    }
}
