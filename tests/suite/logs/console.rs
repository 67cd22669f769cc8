//! Consoles written as QEMU and a supervisor write them, and calls of `mcp-logs`.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const LIMIT: Duration = Duration::from_secs(60);
/// 2026-11-23T10:00:00Z, the time 0 of these tests.
pub const ZERO: u64 = 1_795_428_000;

/// An MCP_ROOT of its own, gone at the end.
pub struct Site(pub PathBuf);

impl Site {
    pub fn new() -> Site {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mcp-logs-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(&root).unwrap();
        Site(root)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-logs"));
        command.args(args).env("MCP_ROOT", &self.0).env_remove("MCP_LOG").env_remove("NO_COLOR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        finish(self.command(args).spawn().unwrap(), args)
    }

    /// The answer of a call that must go well and say nothing besides.
    pub fn answer(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!((output.code(), output.err.as_str()), (Some(0), ""), "{args:?}");
        String::from_utf8(output.out).unwrap()
    }

    pub fn console(&self, component: &str, slot: &str) -> Console {
        Console::new(self.0.join("log").join(component).join(slot))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub struct Output {
    pub out: Vec<u8>,
    pub err: String,
    pub status: ExitStatus,
}

impl Output {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// Waits for the end of `child`, but not for ever.
pub fn finish(mut child: Child, args: &[&str]) -> Output {
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let status = wait(&mut child, args);
    Output { out: out.join().unwrap(), err: err.join().unwrap(), status }
}

pub fn wait(child: &mut Child, args: &[&str]) -> ExitStatus {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("mcp-logs {args:?} took longer than {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// QEMU's and the supervisor's part: writes a console, indexes and rotates it.
pub struct Console {
    pub dir: PathBuf,
    pub log: File,
    written: u64,
}

impl Console {
    pub fn new(dir: PathBuf) -> Console {
        fs::create_dir_all(&dir).unwrap();
        let log = Console::append(&dir.join("console.log"));
        let written = log.metadata().unwrap().len();
        let console = Console { dir, log, written };
        console.start_index();
        console
    }

    pub fn append(path: &Path) -> File {
        OpenOptions::new().append(true).create(true).open(path).unwrap()
    }

    pub fn start_index(&self) {
        let path = self.dir.join("console.idx");
        if !path.exists() {
            let mut header = b"mcpidx1\n".to_vec();
            header.extend(self.log.metadata().unwrap().ino().to_le_bytes());
            fs::write(path, header).unwrap();
        }
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.log.write_all(bytes.as_ref()).unwrap();
        self.written += bytes.as_ref().len() as u64;
    }

    /// Notes that all so far came by `millis` after [`ZERO`].
    pub fn note(&self, millis: u64) {
        let mut record = self.written.to_le_bytes().to_vec();
        record.extend(((ZERO * 1000 + millis) * 1_000_000).to_le_bytes());
        Console::append(&self.dir.join("console.idx")).write_all(&record).unwrap();
    }

    /// Writes, and notes the time that it really is.
    pub fn write_now(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(bytes);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut record = self.written.to_le_bytes().to_vec();
        record.extend((now.as_nanos() as u64).to_le_bytes());
        Console::append(&self.dir.join("console.idx")).write_all(&record).unwrap();
    }

    pub fn write_at(&mut self, millis: u64, bytes: impl AsRef<[u8]>) {
        self.write(bytes);
        self.note(millis);
    }

    pub fn rename(&self, name: &str, number: u32) {
        fs::rename(self.dir.join(name), self.dir.join(format!("{name}.{number:06}"))).unwrap();
    }

    /// Rotation; `late` goes to the renamed file while the new one is there already.
    pub fn rotate(&mut self, number: u32, late: &[u8]) {
        self.rename("console.log", number);
        self.rename("console.idx", number);
        let new = Console::append(&self.dir.join("console.log"));
        self.log.write_all(late).unwrap();
        self.log = new;
        self.written = 0;
        self.start_index();
    }
}

/// A call with `--follow`, and what it has said so far.
pub struct Following {
    pub child: Child,
    chunks: Receiver<Vec<u8>>,
    said: Vec<u8>,
}

impl Following {
    pub fn start(site: &Site, args: &[&str]) -> Following {
        Following::of(site.command(args))
    }

    pub fn of(mut command: Command) -> Following {
        // A shell starts what it puts into the background with SIGINT ignored, and so all that this starts.
        let heed = || {
            // SAFETY: no handler is installed.
            unsafe { nix::sys::signal::signal(Signal::SIGINT, nix::sys::signal::SigHandler::SigDfl) }?;
            Ok(())
        };
        // SAFETY: one system call, and nothing that allocates.
        unsafe { command.pre_exec(heed) };
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut buf = vec![0; 1 << 16];
            while let Ok(n @ 1..) = stdout.read(&mut buf) {
                if sender.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Following { child, chunks, said: Vec::new() }
    }

    /// Waits until all that was said fulfils `done`.
    pub fn until(&mut self, done: impl Fn(&[u8]) -> bool) -> String {
        let end = Instant::now() + LIMIT;
        while !done(&self.said) {
            match self.chunks.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(chunk) => self.said.extend(chunk),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("only got {:?}", String::from_utf8_lossy(&self.said));
                }
            }
        }
        String::from_utf8_lossy(&self.said).into_owned()
    }

    pub fn until_said(&mut self, text: &str) {
        let said = self.until(|said| said.len() >= text.len());
        assert_eq!(said, text);
    }

    /// Ends it by `signal`; returns what else it said, and stderr.
    pub fn end(mut self, signal: Signal) -> (String, String) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        let status = wait(&mut self.child, &[]);
        assert_eq!(status.signal(), Some(signal as i32));
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let before = self.said.len();
        while let Ok(chunk) = self.chunks.recv_timeout(LIMIT) {
            self.said.extend(chunk);
        }
        (String::from_utf8_lossy(&self.said[before..]).into_owned(), err)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
