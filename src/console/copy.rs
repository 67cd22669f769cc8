//! `--console stdout`: a copy of the console log on our standard output, in a thread of its own so that a reader that
//! is slow never holds up the supervisor.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
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
    /// Copies `file` from byte `offset` on.
    pub fn start(mut file: File, offset: u64) -> Copy {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let (tell_done, done) = channel();
        let thread = std::thread::spawn(move || {
            let _ = file.seek(SeekFrom::Start(offset));
            run(file, &of_thread);
            let _ = tell_done.send(());
        });
        Copy { shared, thread: Some(thread), done }
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

fn run(mut file: File, shared: &Shared) {
    loop {
        let (next, over) = {
            let idle = |work: &mut Work| !work.more && !work.over && work.next.is_empty();
            let waited = shared.changed.wait_while(shared.work(), idle);
            let mut work = waited.unwrap_or_else(PoisonError::into_inner);
            work.more = false;
            (work.next.pop_front(), work.over)
        };
        // Asked for the next file first: what was written to this one before that is in it now.
        if let Err(e) = to_end(&mut file) {
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

/// Copies what is left in `file`. Not through Rust's own standard output: its lock would be held by a write that blocks,
/// and whoever wants to end the process would wait for it.
fn to_end(file: &mut File) -> std::io::Result<()> {
    let stdout = std::io::stdout();
    let mut chunk = [0; 16384];
    loop {
        let mut rest = match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => chunk.get(..n).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        while !rest.is_empty() {
            match nix::unistd::write(stdout.as_fd(), rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                // Whoever shares it with us has made it non-blocking.
                Err(Errno::EAGAIN) => {
                    let _ = poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}
