//! `--console stdout`: a copy of the console log on our standard output, in a thread of its own so that a reader that
//! is slow never holds up the supervisor. Of a container's log what the container wrote.

use super::copied::Copied;
use super::cri::{self, Decoder};
use crate::sys::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the last bytes may take to be read at the end.
const LAST_BYTES: Duration = Duration::from_secs(2);
/// Rotated files that wait for a slow reader. Each is held open, and so takes its space when it has been removed.
const FILES_MAX: usize = 8;

/// What the thread is to do next.
#[derive(Debug, Default)]
struct Work {
    /// There is more in the file.
    more: bool,
    /// The file is complete; go on in these, each from its start.
    next: VecDeque<File>,
    /// Files were left out.
    left_out: bool,
    /// No more will come.
    over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    changed: Condvar,
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The copying thread.
#[derive(Debug)]
pub struct Copy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    done: Receiver<()>,
}

impl Copy {
    /// Copies `file` from byte `offset` on, and tells `copied`. `is_cri`: it is a container's log, and a record that ends
    /// behind `offset` was copied by nobody.
    pub fn start(mut file: File, mut offset: u64, is_cri: bool, copied: Option<Copied>) -> Result<Copy> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let (tell_done, done) = channel();
        let work = move || {
            let mut records = is_cri.then(Records::default);
            if is_cri {
                offset = cri::record_before(&file, offset).unwrap_or(offset);
            }
            let _ = file.seek(SeekFrom::Start(offset));
            run(file, &of_thread, &mut records, copied.as_ref());
            let _ = tell_done.send(());
        };
        let thread = std::thread::Builder::new().spawn(work).map_err(Error::os("start", "a thread"))?;
        Ok(Copy { shared, thread: Some(thread), done })
    }

    /// Tells it that there is more.
    pub fn more(&self) {
        self.shared.work().more = true;
        self.shared.changed.notify_one();
    }

    /// Tells it that the file is complete and `next` follows.
    pub fn switch(&self, next: File) {
        let mut work = self.shared.work();
        if work.next.len() >= FILES_MAX {
            work.next.pop_front();
            if !std::mem::replace(&mut work.left_out, true) {
                log::warn!("copy of the console: its reader is too slow, some of it is left out; the log has it all");
            }
        }
        work.next.push_back(next);
        drop(work);
        self.shared.changed.notify_one();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.shared.work().over = true;
        self.shared.changed.notify_one();
        if self.done.recv_timeout(LAST_BYTES).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Takes a container's log apart.
#[derive(Debug, Default)]
struct Records {
    decoder: Decoder,
    /// The beginning of a record.
    rest: Vec<u8>,
    out: Vec<u8>,
}

impl Records {
    /// What the container wrote according to `chunk`, and to what came before it. `all`: the file ends here.
    fn add(&mut self, chunk: &[u8], all: bool) -> &[u8] {
        self.rest.extend_from_slice(chunk);
        self.out.clear();
        let mut at = 0;
        while let Some(record) = self.decoder.next(self.rest.get(at..).unwrap_or_default(), all) {
            let begin = at;
            at += record.length;
            let content = begin + record.content.start..begin + record.content.end;
            self.out.extend_from_slice(self.rest.get(content).unwrap_or_default());
        }
        self.rest.drain(..at);
        &self.out
    }
}

fn run(mut file: File, shared: &Shared, records: &mut Option<Records>, copied: Option<&Copied>) {
    loop {
        let (next, over) = {
            let idle = |work: &mut Work| !work.more && !work.over && work.next.is_empty();
            let waited = shared.changed.wait_while(shared.work(), idle);
            let mut work = waited.unwrap_or_else(PoisonError::into_inner);
            work.more = false;
            (work.next.pop_front(), work.over)
        };
        // Asked for the next file first: what was written to this one before that is in it now.
        if let Err(e) = to_end(&mut file, records, next.is_some() || over, copied) {
            // That nobody reads standard output any more is no reason to end the VM.
            if e.kind() != ErrorKind::BrokenPipe {
                log::warn!("copy of the console: {}", crate::sys::error::os_reason(&e));
            }
            return;
        }
        match next {
            Some(next) => {
                file = next;
                // It may have been written to before anybody told of it.
                shared.work().more = true;
            }
            None if over => return,
            None => {}
        }
    }
}

/// Copies what is left in `file`; `all`: no more comes.
fn to_end(file: &mut File, records: &mut Option<Records>, all: bool, copied: Option<&Copied>) -> std::io::Result<()> {
    let mut chunk = [0; 16384];
    let inode = file.metadata()?.ino();
    loop {
        let filled = match file.read(&mut chunk) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let bytes = chunk.get(..filled).unwrap_or_default();
        match records {
            Some(records) => write(records.add(bytes, all && filled == 0))?,
            None => write(bytes)?,
        }
        if let Some(copied) = copied.filter(|_| filled > 0) {
            let held = records.as_ref().map_or(0, |records| records.rest.len() as u64);
            copied.set(inode, file.stream_position()?.saturating_sub(held));
        }
        if filled == 0 {
            return Ok(());
        }
    }
}

/// Not through Rust's own standard output: its lock would be held by a write that blocks, and whoever wants to end the
/// process would wait for it.
fn write(mut bytes: &[u8]) -> std::io::Result<()> {
    let stdout = std::io::stdout();
    while !bytes.is_empty() {
        match nix::unistd::write(stdout.as_fd(), bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Whoever shares it with us has made it non-blocking.
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
