//! `--console stdout`: a copy of the console log on our standard output, in a thread of its own so that a reader that
//! is slow never holds up the supervisor.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the last bytes may take to be read at the end.
const LAST_BYTES: Duration = Duration::from_secs(2);

enum Message {
    /// There is more in the file.
    More,
    /// The file is complete; go on in this one from its start.
    Switch(File),
}

/// The copying thread.
#[derive(Debug)]
pub struct Copy {
    sender: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    done: Receiver<()>,
}

impl Copy {
    /// Copies `file` from byte `offset` on.
    pub fn start(mut file: File, offset: u64) -> Copy {
        let (sender, receiver) = channel();
        let (tell_done, done) = channel();
        let thread = std::thread::spawn(move || {
            let _ = file.seek(SeekFrom::Start(offset));
            run(file, &receiver);
            let _ = tell_done.send(());
        });
        Copy { sender: Some(sender), thread: Some(thread), done }
    }

    /// Tells it that there is more.
    pub fn more(&self) {
        self.send(Message::More);
    }

    /// Tells it that the file is complete and `next` follows.
    pub fn switch(&self, next: File) {
        self.send(Message::Switch(next));
    }

    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender {
            // The thread ends when nobody reads standard output any more; that's no reason to end the VM.
            let _ = sender.send(message);
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.more();
        drop(self.sender.take());
        if self.done.recv_timeout(LAST_BYTES).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn run(mut file: File, receiver: &Receiver<Message>) {
    for message in receiver {
        if let Err(e) = to_end(&mut file) {
            if e.kind() != ErrorKind::BrokenPipe {
                log::warn!("copy of the console: {}", crate::sys::error::os_reason(&e));
            }
            return;
        }
        if let Message::Switch(next) = message {
            file = next;
        }
    }
}

fn to_end(file: &mut File) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let mut chunk = [0; 16384];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return stdout.flush(),
            Ok(n) => stdout.write_all(&chunk[..n])?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
