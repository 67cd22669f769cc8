//! A layer on its way through a worker that indexes it.

use super::super::layer::index::Trailer;
use super::super::limits::{ENTRIES_MAX, LAYER_MAX};
use super::super::oci::Packing;
use super::job::{Job, Report};
use super::process::{Worker, nonsense};
use crate::sys::user::User;
use crate::sys::{Deadline, Error, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Stdio;
use std::time::Duration;

/// Bytes that may be on their way to the worker. Where that isn't allowed, the pipe stays as it is.
const PIPE: i32 = 1 << 20;
/// How long a worker may take nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// A layer whose index is being made.
pub struct Index {
    worker: Worker,
    input: Option<File>,
}

impl Index {
    /// Starts a worker, as `user`, for a blob that comes piece by piece through [`Index::feed`]. The index is written
    /// to `out` from its position on, the unpacked layer to `plain` where that is wanted.
    pub fn start(user: &User, packing: Packing, out: &File, plain: Option<&File>) -> Result<Index> {
        let mut worker = start(user, packing, Stdio::piped(), out, plain)?;
        let input = worker.input().ok_or_else(nonsense)?;
        let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(PIPE));
        fcntl(&input, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Error::os("set up", "pipe"))?;
        Ok(Index { worker, input: Some(input) })
    }

    /// The same for a blob that lies in a file, from its position on: there is nothing to feed.
    pub fn of_file(user: &User, packing: Packing, blob: &File, out: &File, plain: Option<&File>) -> Result<Index> {
        let blob = blob.try_clone().map_err(Error::os("duplicate", "descriptor"))?;
        Ok(Index { worker: start(user, packing, blob.into(), out, plain)?, input: None })
    }

    /// Hands over the next bytes of the blob. A worker that has given up meanwhile is an error with its reason.
    pub fn feed(&mut self, mut bytes: &[u8], deadline: Deadline) -> Result<()> {
        let Some(mut input) = self.input.as_ref() else { return Err(nonsense()) };
        while !bytes.is_empty() {
            match input.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let limit = deadline.min(Deadline::after(SILENCE));
                    match poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLOUT)], limit.poll_timeout()) {
                        Ok(0) if limit.passed() => return Err(Error::busy("worker", "took too long, stopped")),
                        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                        Err(e) => return Err(Error::os("wait for", "worker")(e)),
                    }
                }
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                    // It reads to the end whatever comes, unless it has failed.
                    return Err(self.worker.finish(deadline).err().unwrap_or_else(nonsense));
                }
                Err(e) => return Err(Error::os("write to", "worker")(e)),
            }
        }
        Ok(())
    }

    /// That was all: waits for the end. Whether `diff_id` is right is for the caller to say.
    pub fn finish(mut self, deadline: Deadline) -> Result<Trailer> {
        drop(self.input.take());
        match self.worker.finish(deadline)? {
            Report::Indexed { diff_id, size, entries } if size <= LAYER_MAX && entries <= ENTRIES_MAX => {
                Ok(Trailer { diff_id, size, entries })
            }
            _ => Err(nonsense()),
        }
    }
}

fn start(user: &User, packing: Packing, blob: Stdio, out: &File, plain: Option<&File>) -> Result<Worker> {
    let job = Job::Index { packing, index: out.as_raw_fd(), plain: plain.map(AsRawFd::as_raw_fd) };
    let keep: Vec<_> = [Some(out), plain].into_iter().flatten().map(AsFd::as_fd).collect();
    Worker::start(user, job, &keep, blob, Stdio::null())
}
