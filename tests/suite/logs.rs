//! `mcp-logs` on console files written as QEMU and a supervisor write them: bytes straight to the log, records of
//! (offset, time) to the index, rotation by rename.

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
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// 2026-11-23T10:00:00Z, the time 0 of these tests.
const ZERO: u64 = 1_795_428_000;

/// An MCP_ROOT of its own, gone at the end.
struct Site(PathBuf);

impl Site {
    fn new() -> Site {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mcp-logs-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(&root).unwrap();
        Site(root)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-logs"));
        command.args(args).env("MCP_ROOT", &self.0).env_remove("MCP_LOG").env_remove("NO_COLOR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        finish(self.command(args).spawn().unwrap(), args)
    }

    /// The answer of a call that must go well and say nothing besides.
    fn answer(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!((output.code(), output.err.as_str()), (Some(0), ""), "{args:?}");
        String::from_utf8(output.out).unwrap()
    }

    fn console(&self, component: &str, slot: &str) -> Console {
        Console::new(self.0.join("log").join(component).join(slot))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Output {
    out: Vec<u8>,
    err: String,
    status: ExitStatus,
}

impl Output {
    fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// Waits for the end of `child`, but not for ever.
fn finish(mut child: Child, args: &[&str]) -> Output {
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

fn wait(child: &mut Child, args: &[&str]) -> ExitStatus {
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
struct Console {
    dir: PathBuf,
    log: File,
    written: u64,
}

impl Console {
    fn new(dir: PathBuf) -> Console {
        fs::create_dir_all(&dir).unwrap();
        let log = Console::append(&dir.join("console.log"));
        let written = log.metadata().unwrap().len();
        let console = Console { dir, log, written };
        console.start_index();
        console
    }

    fn append(path: &Path) -> File {
        OpenOptions::new().append(true).create(true).open(path).unwrap()
    }

    fn start_index(&self) {
        let path = self.dir.join("console.idx");
        if !path.exists() {
            let mut header = b"mcpidx1\n".to_vec();
            header.extend(self.log.metadata().unwrap().ino().to_le_bytes());
            fs::write(path, header).unwrap();
        }
    }

    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.log.write_all(bytes.as_ref()).unwrap();
        self.written += bytes.as_ref().len() as u64;
    }

    /// Notes that all so far came by `millis` after [`ZERO`].
    fn note(&self, millis: u64) {
        let mut record = self.written.to_le_bytes().to_vec();
        record.extend(((ZERO * 1000 + millis) * 1_000_000).to_le_bytes());
        Console::append(&self.dir.join("console.idx")).write_all(&record).unwrap();
    }

    fn write_at(&mut self, millis: u64, bytes: impl AsRef<[u8]>) {
        self.write(bytes);
        self.note(millis);
    }

    fn rename(&self, name: &str, number: u32) {
        fs::rename(self.dir.join(name), self.dir.join(format!("{name}.{number:06}"))).unwrap();
    }

    /// Rotation; `late` goes to the renamed file while the new one is there already.
    fn rotate(&mut self, number: u32, late: &[u8]) {
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
struct Following {
    child: Child,
    chunks: Receiver<Vec<u8>>,
    said: Vec<u8>,
}

impl Following {
    fn start(site: &Site, args: &[&str]) -> Following {
        let mut child = site.command(args).spawn().unwrap();
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
    fn until(&mut self, done: impl Fn(&[u8]) -> bool) -> String {
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

    fn until_said(&mut self, text: &str) {
        let said = self.until(|said| said.len() >= text.len());
        assert_eq!(said, text);
    }

    /// Ends it by `signal`; returns what else it said, and stderr.
    fn end(mut self, signal: Signal) -> (String, String) {
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

#[test]
fn what_is_not_there() {
    let site = Site::new();
    let output = site.run(&["nope", "also/nope"]);
    assert_eq!((output.code(), output.out.as_slice()), (Some(100), &b""[..]));
    let lines: Vec<&str> = output.err.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("mcp-logs: nope: no such component: "), "{lines:?}");
    assert!(lines[1].starts_with("mcp-logs: also/nope: no such component: "), "{lines:?}");

    // Known, but nothing was logged yet.
    fs::create_dir_all(site.0.join("lib/registry/demo")).unwrap();
    fs::write(site.0.join("lib/registry/demo/api.json"), "{}").unwrap();
    for args in
        [&["demo"][..], &["demo/api"], &["-t", "-n", "5", "demo"], &["--json", "demo"], &["--supervisor", "demo"]]
    {
        assert_eq!(site.answer(args), "");
    }
    site.console("demo/web", "a");
    assert_eq!(site.answer(&["demo"]), "");
}

#[test]
fn usage() {
    let site = Site::new();
    site.console("demo/demo", "a");
    for args in [
        &[][..],
        &["Not-A-Name"],
        &["-n", "x", "demo"],
        &["-n", "-1", "demo"],
        &["--since", "yesterday", "demo"],
        &["--until", "2026-11-23T10:00:00+25:00", "demo"],
        &["--since", "1m", "--until", "2m", "demo"],
        &["--follow", "--until", "1m", "demo"],
        &["--raw", "--sanitize", "demo"],
        &["--raw", "--json", "demo"],
    ] {
        let output = site.run(args);
        assert_eq!((output.code(), output.out.len(), output.err.lines().count()), (Some(2), 0, 1), "{args:?}");
        assert!(output.err.starts_with("mcp-logs: "), "{}", output.err);
    }
    let help = site.answer(&["--help"]);
    assert!(help.starts_with("Show and follow the consoles\n"));
}

#[test]
fn all_files_as_one_stream_byte_for_byte() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let mut all = Vec::new();
    let parts: [&[u8]; 5] = [b"one\n\n\ntwo\nth", b"", b"ree\n\0\x1b[31m\xff\xfe\r\n", b"\n", b"no end"];
    for (i, part) in parts.into_iter().enumerate() {
        console.write_at(i as u64, part);
        all.extend(part);
        if i < 4 {
            console.rotate(i as u32 + 1, b"late ");
            all.extend(b"late ");
        }
    }
    let output = site.run(&["demo"]);
    assert_eq!((output.code(), output.out), (Some(0), all.clone()));
    // To a file, too.
    let path = site.0.join("copy");
    let mut child = site.command(&["demo/demo"]).stdout(File::create(&path).unwrap()).spawn().unwrap();
    assert!(wait(&mut child, &[]).success());
    assert_eq!(fs::read(path).unwrap(), all);
}

#[test]
fn last_lines() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let line = |i: u32| format!("line {i}{}\n", ".".repeat(i as usize % 200));
    let all: Vec<String> = (0..3000).map(line).collect();
    for (i, line) in all.iter().enumerate() {
        // Some lines are torn by a rotation.
        let (first, second) = line.split_at(if i % 700 == 699 { 4 } else { line.len() });
        console.write(first);
        if !second.is_empty() {
            console.rotate(i as u32 / 700 + 1, b"");
            console.write(second);
        }
    }
    for n in [0, 1, 2, 10, 200, 201, 1500, 2999, 3000, 3001, 9999] {
        let want = all[all.len().saturating_sub(n)..].concat();
        assert_eq!(site.answer(&["-n", &n.to_string(), "demo"]), want, "{n}");
        let stamped = site.answer(&["-t", "-n", &n.to_string(), "demo"]);
        let bare: String = stamped.split_inclusive('\n').map(|l| &l[25..]).collect();
        assert_eq!(bare, want, "-t {n}");
    }
    assert_eq!(site.answer(&["-n", "all", "demo"]), all.concat());
    console.write("no end");
    assert_eq!(site.answer(&["--lines", "2", "demo"]), format!("{}no end", all[2999]));
    console.write("\n\n\n");
    assert_eq!(site.answer(&["-n3", "demo"]), "no end\n\n\n");
}

#[test]
fn since_and_until() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    console.write_at(1000, "one\n");
    console.write_at(2000, "two\nthree begins, ");
    console.write_at(3000, "goes on, ");
    console.rotate(1, b"");
    console.write_at(4000, "ends\nfour\n");
    console.rotate(2, b"");
    console.write_at(5000, "five\n");
    let three = "three begins, goes on, ends\n";
    for (since, until, want) in [
        ("10:00:00", "10:00:09", format!("one\ntwo\n{three}four\nfive\n")),
        ("10:00:01", "10:00:01", "one\n".to_string()),
        ("10:00:01.001", "10:00:03", format!("two\n{three}")),
        ("10:00:02", "10:00:02", format!("two\n{three}")),
        ("10:00:02.001", "10:00:04", "four\n".to_string()),
        ("10:00:03", "10:00:03.999", String::new()),
        ("10:00:04.5", "10:00:05", "five\n".to_string()),
        ("10:00:05.001", "10:00:06", String::new()),
        ("09:00:00", "09:59:59", String::new()),
    ] {
        let time = |t: &str| format!("2026-11-23T{t}Z");
        let args = ["--since", &time(since), "--until", &time(until), "demo"];
        assert_eq!(site.answer(&args), want, "{since} to {until}");
        let lines = want.split_inclusive('\n').count();
        let args = ["--since", &time(since), "--until", &time(until), "-n", "1", "demo"];
        assert_eq!(site.answer(&args), want.split_inclusive('\n').skip(lines.max(1) - 1).collect::<String>());
    }
    let output = site.answer(&["--until", "2026-11-23T11:00:01+01:00", "demo"]);
    assert_eq!(output, "one\n");
    assert_eq!(site.answer(&["--until", "2026-11-23T05:30:01-04:30", "demo"]), "one\n");
    assert_eq!(site.answer(&["--until", "2026-11-23", "demo"]), "");
    // What has no record has the file's time, which is now.
    site.console("new/new", "a").write("just now\n");
    assert_eq!(site.answer(&["--since", "1m", "new"]), "just now\n");
    assert_eq!(site.answer(&["--until", "1m", "new"]), "");
}

#[test]
fn timestamps_and_json() {
    let site = Site::new();
    let mut console = site.console("demo/api", "a");
    console.write_at(0, "first\n\nsec");
    console.write_at(1, "ond\r\n\"quoted\" \\ \t\x1b[0m\u{9b}ü\n");
    console.write(b"\xff");
    console.note(3_599_999);
    let first = "2026-11-23T10:00:00.000Z";
    assert_eq!(
        String::from_utf8_lossy(&site.run(&["-t", "demo"]).out),
        format!(
            "{first} first\n{first} \n{first} second\r\n2026-11-23T10:00:00.001Z \"quoted\" \\ \t\x1b[0m\u{9b}ü\n\
             2026-11-23T10:59:59.999Z \u{fffd}\n"
        )
    );
    let json = site.answer(&["--json", "demo"]);
    let lines: Vec<serde_json::Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let texts: Vec<&str> = lines.iter().map(|l| l["line"].as_str().unwrap()).collect();
    assert_eq!(texts, ["first", "", "second", "\"quoted\" \\ \t\x1b[0m\u{9b}ü", "\u{fffd}"]);
    assert_eq!(json.lines().next().unwrap(), format!(r#"{{"time":"{first}","component":"demo/api","line":"first"}}"#));
    assert!(!json.contains(['\x1b', '\u{9b}']));
}

#[test]
fn several_components_by_time() {
    let site = Site::new();
    let mut api = site.console("demo/api", "a");
    let mut database = site.console("demo/database", "a");
    let mut other = site.console("other/other", "a");
    for i in 0..4 {
        api.write_at(i * 1000, format!("a{i}\n"));
        database.write_at(i * 1000 + 500, format!("d{i}\n"));
        if i == 2 {
            database.rotate(1, b"");
        }
    }
    other.write_at(1200, "elsewhere\nand more\n");
    api.write_at(10_000, "no end");
    assert_eq!(
        site.answer(&["demo"]),
        "demo/api      | a0\ndemo/database | d0\ndemo/api      | a1\ndemo/database | d1\n\
         demo/api      | a2\ndemo/database | d2\ndemo/api      | a3\ndemo/database | d3\ndemo/api      | no end\n"
    );
    assert_eq!(
        site.answer(&["-n", "2", "demo/api", "other", "demo/api"]),
        "other/other | elsewhere\nother/other | and more\ndemo/api    | a3\ndemo/api    | no end\n"
    );
    assert_eq!(
        site.answer(&["-t", "-n1", "demo/database", "other"]),
        "other/other   | 2026-11-23T10:00:01.200Z and more\ndemo/database | 2026-11-23T10:00:03.500Z d3\n"
    );
}

#[test]
fn two_instances_are_one_component() {
    let site = Site::new();
    let mut a = site.console("demo/demo", "a");
    let mut b = site.console("demo/demo", "b");
    a.write_at(0, "a0\na1\n");
    b.write_at(1000, "b0\n");
    a.write_at(2000, "a2\n");
    b.write_at(3000, "b1\nb2\n");
    assert_eq!(site.answer(&["demo"]), "a0\na1\nb0\na2\nb1\nb2\n");
    assert_eq!(site.answer(&["-n", "4", "demo"]), "b0\na2\nb1\nb2\n");
    assert_eq!(site.answer(&["-n", "0", "demo"]), "");
    assert_eq!(
        site.answer(&["--since", "2026-11-23T10:00:01Z", "-n", "3", "--until", "2026-11-23T10:00:02Z", "demo"]),
        "b0\na2\n"
    );
}

#[test]
fn a_rotation_killed_half_way() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    console.write_at(0, "one\n");
    console.rotate(1, b"");
    console.write_at(1000, "two\n");
    // Renamed the log, and no more.
    console.rename("console.log", 2);
    let want = "2026-11-23T10:00:00.000Z one\n2026-11-23T10:00:01.000Z two\n";
    assert_eq!(site.answer(&["-t", "demo"]), want);
    // Began the new log, the index not yet renamed.
    let new = Console::append(&console.dir.join("console.log"));
    assert_eq!(site.answer(&["-t", "demo"]), want);
    drop(new);
    console.rename("console.idx", 2);
    assert_eq!(site.answer(&["-t", "demo"]), want);
}

#[test]
fn control_bytes() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let nasty = b"\x1b]0;own\x07\x1b[2J\tok \xc2\x9b31m \xff \xc3\xbc \xe2\x80\xae\r\r\nnext\rover\r\nend\r";
    console.write(nasty);
    let clean = "\\x1b]0;own\\x07\\x1b[2J\tok \\xc2\\x9b31m \\xff ü \\xe2\\x80\\xae\nnext\\x0dover\nend\n";
    assert_eq!(site.run(&["demo"]).out, nasty);
    assert_eq!(site.answer(&["--sanitize", "demo"]), clean);
    assert_eq!(on_terminal(&site, &["demo"], &[]), clean.replace('\n', "\r\n"));
    let raw = on_terminal(&site, &["--no-sanitize", "demo"], &[]);
    assert!(raw.starts_with("\x1b]0;own\x07"), "{raw:?}");

    site.console("demo/other", "a").write("x\n");
    let coloured = on_terminal(&site, &["-n1", "demo"], &[("TERM", "xterm")]);
    assert!(coloured.contains("\x1b[33mdemo/other |\x1b[0m x\r\n"), "{coloured:?}");
    for quiet in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!on_terminal(&site, &["demo"], &[quiet]).contains('\x1b'));
    }
    assert!(!site.answer(&["--sanitize", "demo"]).contains('\x1b'));
}

/// What a terminal would get.
fn on_terminal(site: &Site, args: &[&str], variables: &[(&str, &str)]) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = site.command(args);
    command.env_remove("TERM").envs(variables.iter().copied()).stdout(Stdio::from(pty.slave));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut said = Vec::new();
    // Ends with EIO when the last one on the other side is gone.
    let _ = File::from(pty.master).read_to_end(&mut said);
    assert!(wait(&mut child, args).success());
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let length = 48 << 20;
    console.write("x");
    console.log.set_len(length).unwrap();
    let bounded = |args: &[&str]| {
        let mut command = site.command(args);
        // SAFETY: only a system call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                use nix::sys::resource::{Resource, setrlimit};
                setrlimit(Resource::RLIMIT_DATA, 16 << 20, 16 << 20).map_err(Into::into)
            });
        }
        let output = finish(command.spawn().unwrap(), args);
        assert_eq!((output.code(), output.err.as_str()), (Some(0), ""), "{args:?}");
        output.out
    };
    assert_eq!(bounded(&["demo"]).len() as u64, length);
    assert_eq!(bounded(&["-n", "1", "demo"]).len() as u64, length);
    let stamped = bounded(&["-t", "demo"]);
    assert_eq!((stamped.len() as u64, stamped.last()), (length + 26, Some(&b'\n')));
    console.log.set_len(3 << 20).unwrap();
    assert_eq!(bounded(&["--sanitize", "demo"]).len(), ((3 << 20) - 1) * 4 + 2);
    let json = bounded(&["--json", "demo"]);
    let mut total = 0;
    for line in String::from_utf8(json).unwrap().lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        total += value["line"].as_str().unwrap().len();
    }
    assert_eq!(total, 3 << 20);

    // Beside another component it is cut into parts that say so, and loses nothing.
    site.console("demo/other", "a").write("short\n");
    let text = String::from_utf8(bounded(&["demo"])).unwrap();
    let mut whole = 0;
    let mut parts = 0;
    for line in text.lines() {
        let Some(part) = line.strip_prefix("demo/demo  | ") else {
            assert_eq!(line, "demo/other | short");
            continue;
        };
        parts += 1;
        whole += part.strip_suffix(" [line goes on]").unwrap_or(part).len();
    }
    assert!((10..=48).contains(&parts), "{parts}");
    assert_eq!(whole, 3 << 20);
}

#[test]
fn a_closed_standard_output_is_no_error() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    for i in 0..100_000 {
        console.write(format!("line {i}\n"));
    }
    for args in
        [&["demo"][..], &["-t", "demo"], &["--json", "demo"], &["-f", "demo"], &["-f", "-n", "all", "-t", "demo"]]
    {
        let mut child = site.command(args).spawn().unwrap();
        let mut first = [0; 4];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        // With --follow nothing is written any more, and it ends all the same.
        let status = wait(&mut child, args);
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((status.code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn follow_loses_and_doubles_nothing_across_rotation() {
    for args in [&["-f", "-n", "all", "demo"][..], &["-f", "-t", "-n", "all", "demo"]] {
        let site = Site::new();
        let mut console = site.console("demo/demo", "a");
        console.write("n 0\n");
        let mut following = Following::start(&site, args);
        following.until(|said| said.ends_with(b"n 0\n"));
        let count: u32 = 60_000;
        let writer = std::thread::spawn(move || {
            let mut rotations = 0;
            for i in 1..=count {
                let line = format!("n {i}\n");
                if i % 1500 == 0 {
                    // In the middle of a line, with some of it still going to the old file.
                    rotations += 1;
                    console.write(&line.as_bytes()[..1]);
                    console.note(u64::from(i));
                    console.rotate(rotations, &line.as_bytes()[1..2]);
                    console.write(&line.as_bytes()[2..]);
                    // The oldest ones go, but only those that were read for sure.
                    if rotations > 30 {
                        fs::remove_file(console.dir.join(format!("console.log.{:06}", rotations - 30))).unwrap();
                    }
                } else {
                    console.write(&line);
                }
                if i % 100 == 0 {
                    console.note(u64::from(i));
                }
            }
        });
        let last = format!("n {count}\n");
        let said = following.until(|said| said.ends_with(last.as_bytes()));
        writer.join().unwrap();
        let mut next = 0;
        for line in said.lines() {
            let line = if args.contains(&"-t") { &line[25..] } else { line };
            assert_eq!(line, format!("n {next}"));
            next += 1;
        }
        assert_eq!(next, count + 1);
        let (rest, err) = following.end(Signal::SIGTERM);
        assert_eq!((rest.as_str(), err.as_str()), ("", ""));
    }
}

#[test]
fn follow_waits_for_what_is_not_there_and_for_what_comes_back() {
    let site = Site::new();
    let mut following = Following::start(&site, &["-f", "demo/api", "other"]);
    // Nothing of the site is there yet but its folder.
    wait_for_watch(&following);
    let mut api = site.console("demo/api", "a");
    api.write("first\n");
    following.until_said("first\n");
    // Restart: the same files, appended to.
    let mut again = site.console("demo/api", "a");
    again.write("second\n");
    following.until_said("first\nsecond\n");
    // Replaced in place: the other slot.
    let mut b = site.console("demo/api", "b");
    b.write("third\n");
    following.until_said("first\nsecond\nthird\n");
    // Removed and deployed anew.
    fs::remove_dir_all(site.0.join("log/demo")).unwrap();
    let mut new = site.console("demo/api", "a");
    new.write("fourth\n");
    following.until_said("first\nsecond\nthird\nfourth\n");
    // A second component: from now on it is said whose line it is.
    site.console("other/other", "a").write("fifth\n");
    new.write("sixth\n");
    let four = "first\nsecond\nthird\nfourth\n".len();
    let said = following.until(|said| said.len() >= four + 40);
    let mut both: Vec<&str> = said[four..].lines().collect();
    both.sort_unstable();
    assert_eq!(both, ["demo/api    | sixth", "other/other | fifth"]);
    let (_, err) = following.end(Signal::SIGINT);
    assert_eq!(
        err,
        "mcp-logs: demo/api: nothing there yet; waiting for it\nmcp-logs: other: nothing there yet; waiting for it\n"
    );
}

/// Until the process sleeps in poll: all its watches are there.
fn wait_for_watch(following: &Following) {
    let path = format!("/proc/{}/wchan", following.child.id());
    let stat = format!("/proc/{}/syscall", following.child.id());
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let asleep = fs::read_to_string(&path).is_ok_and(|w| w.contains("poll"))
            || fs::read_to_string(&stat).is_ok_and(|s| s.starts_with("7 "));
        if asleep {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("it never waited");
}

#[test]
fn follow_begins_with_the_last_ten() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let all: Vec<String> = (0..50).map(|i| format!("line {i}\n")).collect();
    console.write_at(1000, all.concat());
    let mut following = Following::start(&site, &["-f", "demo"]);
    following.until_said(&all[40..].concat());
    console.write_at(2000, "more\n");
    following.until_said(&format!("{}more\n", all[40..].concat()));
    let mut all_since = Following::start(&site, &["--follow", "--since", "2026-11-23T10:00:00Z", "demo"]);
    all_since.until_said(&format!("{}more\n", all.concat()));
    let mut none = Following::start(&site, &["-f", "-n0", "-t", "demo"]);
    wait_for_watch(&none);
    console.write_at(3000, "new\n");
    let said = none.until(|said| said.ends_with(b"new\n"));
    assert!(said.lines().count() == 1 && said.ends_with("Z new\n"), "{said}");
}

#[test]
fn follow_shows_a_prompt_and_mixes_no_lines() {
    let site = Site::new();
    let mut api = site.console("demo/api", "a");
    let mut following = Following::start(&site, &["-f", "--sanitize", "demo/api"]);
    wait_for_watch(&following);
    api.write("login: ");
    following.until_said("login: ");
    // A character in two halves, and a line feed long after its carriage return.
    api.write(b"root\xc3");
    following.until_said("login: root");
    api.write(b"\xbc\r");
    following.until_said("login: rootü");
    api.write("\n");
    following.until_said("login: rootü\n");
    api.write("x\x1b\ry\n");
    following.until_said("login: rootü\nx\\x1b\\x0dy\n");

    let mut web = site.console("demo/web", "a");
    let mut both = Following::start(&site, &["-f", "-n0", "demo"]);
    wait_for_watch(&both);
    let began = Instant::now();
    api.write("half");
    let said = both.until(|said| said.ends_with(b"half"));
    assert!(began.elapsed() >= Duration::from_millis(200), "shown before it was quiet");
    assert_eq!(said, "demo/api | half");
    web.write("line\n");
    both.until_said("demo/api | half\ndemo/web | line\n");
    api.write(" and half\n");
    both.until_said("demo/api | half\ndemo/web | line\ndemo/api |  and half\n");
}

#[test]
fn follow_with_json_holds_lines_whole() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let mut following = Following::start(&site, &["-f", "--json", "demo"]);
    wait_for_watch(&following);
    console.write("in ");
    console.write("pieces");
    console.write_at(0, "\n");
    let said = following.until(|said| said.ends_with(b"\n"));
    let value: serde_json::Value = serde_json::from_str(said.trim_end()).unwrap();
    assert_eq!(value["line"], "in pieces");
}

#[test]
fn follow_sleeps_when_nothing_happens() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    console.write("half a line");
    site.console("demo/other", "a");
    let mut following = Following::start(&site, &["-f", "demo"]);
    following.until(|said| said.ends_with(b"half a line"));
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", following.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    wait_for_watch(&following);
    let before = switches();
    // The thing under test is that time passes and nothing happens.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(switches(), before);
}

#[test]
fn a_log_cut_short_is_said() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    console.write("a long first line\n");
    let mut following = Following::start(&site, &["-f", "demo"]);
    following.until_said("a long first line\n");
    console.log.set_len(0).unwrap();
    console.write("short\n");
    following.until_said("a long first line\nshort\n");
    let (_, err) = following.end(Signal::SIGTERM);
    assert!(err.contains("cut short"), "{err}");
}

#[test]
fn the_supervisors_own_log() {
    let site = Site::new();
    site.console("demo/demo", "a").write("console\n");
    let path = site.0.join("log/demo/demo/supervisor.log");
    fs::write(&path, "started\n").unwrap();
    assert_eq!(site.answer(&["--supervisor", "demo"]), "started\n");
    let mut following = Following::start(&site, &["--supervisor", "-f", "demo"]);
    following.until_said("started\n");
    Console::append(&path).write_all(b"ready\n").unwrap();
    following.until_said("started\nready\n");
}
