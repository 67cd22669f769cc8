//! An archive as a file that can be read anywhere: the file itself, or what comes through a pipe, kept in the store's
//! folder under no name.

use crate::image::limits::IMAGE_MAX;
use crate::image::store::Store;
use crate::sys::paths::Paths;
use crate::sys::{Deadline, Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// What is copied at once.
const CHUNK: usize = 256 << 10;

/// Opens the archive at `path`, or standard input.
pub(super) fn open(object: &str, path: Option<&Path>, paths: &Paths, deadline: Deadline) -> Result<File> {
    let mut file = match path {
        Some(path) => File::open(path).map_err(Error::path("open", path))?,
        None => {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            File::from(stdin.map_err(Error::os("duplicate", "standard input"))?)
        }
    };
    let about = file.metadata().map_err(Error::os("stat", object))?;
    // A redirected file needs no copy, unless somebody has read of it.
    if about.is_file() && (path.is_some() || file.stream_position().is_ok_and(|at| at == 0)) {
        return Ok(file);
    }
    if about.is_dir() {
        return Err(Error::refused(object, "a directory, not an archive; for an OCI directory write oci:DIR"));
    }
    if path.is_none() && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Error::refused(object, "standard input is a terminal; write podman save IMAGE | …"));
    }
    let store = Store::open(paths)?;
    let mut copy = store.nameless()?;
    let mut buffer = vec![0; CHUNK];
    let mut total = 0_u64;
    loop {
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
            Ok(0) => return Err(Error::busy(object, "the time for it is over, and it has not come to its end")),
            Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(Error::os("wait for", object)(e)),
        }
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::os("read", object)(e)),
        };
        total += n as u64;
        if total > IMAGE_MAX {
            return Err(Error::refused(object, format!("larger than {IMAGE_MAX} bytes")));
        }
        copy.write_all(buffer.get(..n).unwrap_or_default())
            .map_err(Error::path("write a file in", &store.paths().tmp()))?;
    }
    if total == 0 {
        return Err(Error::refused(object, "is empty"));
    }
    Ok(copy)
}
