//! A node of its own for each test, with real guests. When it goes, so must everything that it started.
//!
//! What the guests are made of comes from the environment: `MCP_TEST_OPS` and `MCP_TEST_OPS_HOME` (else `ops` on PATH
//! with its own home), `MCP_TEST_KERNEL` (a folder that scripts/get-guest-kernel laid down). What is missing skips
//! the tests that need it, loudly: each is a line in the file that `MCP_TEST_SKIPPED` names.
#![allow(dead_code)]

mod guests;
mod images;
pub mod podman;
mod registry;

pub use guests::*;
pub use images::*;
pub use podman::{ACT, FakePodman, Podman, in_own_network};
pub use registry::*;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// No call of a program in a test takes longer.
const LIMIT: Duration = Duration::from_secs(90);

static COUNT: AtomicU32 = AtomicU32::new(0);
static PORT: AtomicU16 = AtomicU16::new(0);

/// What a program answered.
#[derive(Debug)]
pub struct Answer {
    pub call: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Answer {
    /// Fails the test unless it exited with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Answer {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Its only line on stderr, the note on KVM aside.
    #[track_caller]
    pub fn one_line(&self) -> &str {
        let lines: Vec<&str> = self.err.lines().filter(|l| !l.contains("no KVM")).collect();
        assert_eq!(lines.len(), 1, "one line wanted: {self:#?}");
        lines[0]
    }
}

/// A node under a folder of its own.
pub struct Node {
    pub root: PathBuf,
}

/// A program of ours: its path.
pub fn program(name: &str) -> PathBuf {
    let path = match name {
        "mcp-pull" => env!("CARGO_BIN_EXE_mcp-pull"),
        "mcp-build" => env!("CARGO_BIN_EXE_mcp-build"),
        "mcp-run-vm" => env!("CARGO_BIN_EXE_mcp-run-vm"),
        "mcp-run-container" => env!("CARGO_BIN_EXE_mcp-run-container"),
        "mcp-run" => env!("CARGO_BIN_EXE_mcp-run"),
        "mcp-boot" => env!("CARGO_BIN_EXE_mcp-boot"),
        "mcp-stop" => env!("CARGO_BIN_EXE_mcp-stop"),
        "mcp-rm" => env!("CARGO_BIN_EXE_mcp-rm"),
        "mcp-health" => env!("CARGO_BIN_EXE_mcp-health"),
        "mcp-status" => env!("CARGO_BIN_EXE_mcp-status"),
        "mcp-record" => env!("CARGO_BIN_EXE_mcp-record"),
        "mcp-units" => env!("CARGO_BIN_EXE_mcp-units"),
        "mcp-logs" => env!("CARGO_BIN_EXE_mcp-logs"),
        other => panic!("no such program: {other}"),
    };
    path.into()
}

/// A port that nobody has, and that no other test of this process is given.
pub fn free_port() -> u16 {
    loop {
        // Below the range that the kernel picks from, else a client of another test may be given it.
        let offset = (std::process::id() as u16).wrapping_mul(37) % 8000;
        let port = 20_000 + (offset + PORT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Node {
    pub fn new() -> Node {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a Unix socket has 107 bytes.
        let root = std::env::temp_dir().join(format!("mcp-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        podman::configure(&root, "vfs");
        Node { root }
    }

    /// A command of ours for this node, not started yet.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command.args(args).env("MCP_ROOT", &self.root).env_remove("MCP_LOG").env_remove("NOTIFY_SOCKET");
        command.envs(podman::environment(&self.root));
        if let Some(init) = guest_init() {
            command.env("MCP_GUEST_INIT", init);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a program of ours to its end.
    pub fn mcp(&self, name: &str, args: &[&str]) -> Answer {
        finish(self.command(name, args), &format!("{name} {}", args.join(" ")))
    }

    /// Writes a service definition.
    pub fn define(&self, name: &str, text: &str) {
        let dir = self.root.join("etc/services");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{name}.toml")), text).unwrap();
    }

    /// Writes the node config.
    pub fn configure(&self, text: &str) {
        fs::create_dir_all(self.root.join("etc")).unwrap();
        fs::write(self.root.join("etc/mcp.toml"), text).unwrap();
    }

    /// The run directory of component `id`.
    pub fn run_dir(&self, id: &str) -> PathBuf {
        self.root.join("run").join(id)
    }

    /// The state of the serving instance.
    pub fn state(&self, id: &str) -> serde_json::Value {
        let path = self.run_dir(id).join("state.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// The process that holds the component's lock, by what it signed; 0 when there is none.
    pub fn supervisor(&self, id: &str) -> i32 {
        signed(&self.run_dir(id).join("lock"))
    }

    /// QEMU of the serving instance; 0 when there is none.
    pub fn qemu(&self, id: &str) -> i32 {
        signed(&self.run_dir(id).join("current/lock"))
    }

    /// All of the component's console, in order.
    pub fn console(&self, id: &str) -> String {
        self.mcp("mcp-logs", &["-n", "all", id]).expect(0).out
    }

    /// Processes whose arguments name our root.
    pub fn processes(&self) -> Vec<String> {
        let mark = format!("{}/", self.root.display());
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let of = |e: fs::DirEntry| {
            let pid: u32 = e.file_name().to_str()?.parse().ok()?;
            // Ours are known by their environment, QEMU by the directory of what it has open.
            let line = fs::read(e.path().join("cmdline")).ok()?;
            let environ = fs::read(e.path().join("environ")).unwrap_or_default();
            let wanted = format!("MCP_ROOT={}\0", self.root.display());
            let has = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).any(|w| w == needle);
            let opens = fs::read_dir(e.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten()
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with(&mark)));
            let ours = has(&environ, wanted.as_bytes()) || opens;
            // What another test is just about to start is a copy of us, with all that is open here, until its exec.
            let is_us = fs::read_link(e.path().join("exe")).ok() == std::env::current_exe().ok();
            (ours && !is_us).then(|| format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " ")))
        };
        entries.filter_map(of).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let before = self.processes();
        let _ = self.mcp("mcp-stop", &["--all"]);
        let left = wait_for(Duration::from_secs(5), || self.processes().is_empty().then_some(())).is_none();
        let processes = self.processes();
        for line in &processes {
            if let Some(Ok(pid)) = line.split(' ').next().map(str::parse) {
                // SAFETY: a plain system call.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        let leftovers = leftovers(&self.root);
        let containers = podman::sweep(&self.root);
        if std::thread::panicking() {
            eprintln!("node {}: processes at the end: {before:#?}", self.root.display());
            for log in find(&self.root.join("log"), &|n| n == "console.log" || n == "supervisor.log") {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(10).collect();
                eprintln!("{}:", log.display());
                tail.iter().rev().for_each(|l| eprintln!("    {l}"));
            }
        }
        let _ = fs::remove_dir_all(&self.root);
        if !std::thread::panicking() {
            assert!(!left, "processes that mcp-stop --all left: {processes:#?}");
            assert!(leftovers.is_empty(), "left after mcp-stop --all: {leftovers:#?}");
            assert!(containers.is_empty(), "left of podman after mcp-stop --all: {containers:#?}");
        }
    }
}

/// Sockets, temporary files and locks below `root`, when nothing runs any more.
pub fn leftovers(root: &Path) -> Vec<PathBuf> {
    let mut found = find(root, &|n| {
        n.ends_with(".sock") && n != "qmp.sock" || n.ends_with(".tmp") || n == "lock" || n.starts_with(".overlay")
    });
    // The component's link may stay; the socket itself may not.
    found.extend(find(root, &|n| n == "qmp.sock").into_iter().filter(|p| p.exists()));
    found.extend(find(&root.join("run/.uids"), &|_| true));
    found
}

/// Files below `dir` whose names are wanted.
pub fn find(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(find(&path, wanted));
        } else if entry.file_name().to_str().is_some_and(wanted) {
            found.push(path);
        }
    }
    found
}

fn signed(lock: &Path) -> i32 {
    let text = fs::read_to_string(lock).unwrap_or_default();
    text.split(' ').next().and_then(|w| w.parse().ok()).unwrap_or(0)
}

/// Runs a command to its end, with a hard limit.
pub fn finish(mut command: Command, call: &str) -> Answer {
    let began = Instant::now();
    let child = command.spawn().unwrap_or_else(|e| panic!("{call}: {e}"));
    wait(child, call, began)
}

/// Waits for a child that was started earlier.
pub fn wait(mut child: Child, call: &str, began: Instant) -> Answer {
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|s| Box::new(s) as _));
    let err = read(child.stderr.take().map(|s| Box::new(s) as _));
    let status = wait_for(LIMIT, || child.try_wait().unwrap());
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{call}: still runs after {LIMIT:?}");
    };
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or(status.signal().map(|n| 128 + n));
    let took = began.elapsed();
    Answer { call: call.to_string(), code, out: out.join().unwrap(), err: err.join().unwrap(), took }
}

/// Asks `what` until it answers, at most for `limit`.
pub fn wait_for<T>(limit: Duration, mut what: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = what() {
            return Some(answer);
        }
        if began.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks until it is so; fails the test when it does not become so in 20 s.
#[track_caller]
pub fn until(what: &str, so: impl FnMut() -> bool) {
    until_within(Duration::from_secs(20), what, so);
}

/// The same with its time limit.
#[track_caller]
pub fn until_within(limit: Duration, what: &str, mut so: impl FnMut() -> bool) {
    assert!(wait_for(limit, || so().then_some(())).is_some(), "not so in {limit:?}: {what}");
}

/// Copies a program that is to be executed. By a process of its own: what this one has had open for writing, a child that
/// another thread just forks has open until it executes its own, and then it is "busy".
pub fn copy_to_run(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let done = Command::new("cp").arg(from.as_ref()).arg(to.as_ref()).status().unwrap();
    assert!(done.success(), "{}", to.as_ref().display());
}

/// The same command, but it gets no inotify: as where others of its user have taken all.
pub fn blind(ours: Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg("echo 0 >/proc/sys/user/max_inotify_instances && exec \"$@\"").arg("sh").arg(ours.get_program());
    command.args(ours.get_args()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in ours.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// One HTTP GET on loopback; the body, or `None` when there was no whole answer within two seconds.
pub fn get(port: u16, path: &str) -> Option<String> {
    get_within(port, path, Duration::from_secs(2))
}

/// The same with its time limit.
pub fn get_within(port: u16, path: &str, limit: Duration) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_string())
}
