//! hello: the example service, and the guest program of the tests. Needs nothing but the standard library.
//!
//! rustc -O --edition 2024 -C target-feature=+crt-static --target x86_64-unknown-linux-gnu -o hello main.rs
//!
//! A static HTTP server that does on request what programs do by accident: it ends, crashes, floods its console, gets
//! slow, gets unhealthy, ignores SIGTERM. It runs under Linux and as a Nanos unikernel. It is made for tests: whoever
//! can reach its port can end it and can read and write its files.

use std::collections::HashMap;
use std::ffi::{c_char, c_int};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HELP: &str = "\
Usage: hello [OPTIONS]

  --port PORT          listen on TCP PORT (8080)
  --udp PORT           echo datagrams that come to UDP PORT, too
  --heartbeat ADDRESS  send a datagram there (IP:PORT) each 50 ms: when this program started, in nanoseconds
  --listen-delay MS    wait before listening
  --no-listen          never listen
  --graceful           on SIGTERM say so and exit with 0, instead of dying of it
  --ignore-term        ignore SIGTERM
  --exit-after MS      end by itself after MS
  --exit-code N        with this exit code (0)

Paths: / /health /unhealthy /healthy /args /env /cwd /uptime /slow?ms=N /read?path=P /write?path=P&text=T
/connect?to=HOST:PORT /log?lines=N&prefix=P /burst?mb=N /longline?mb=N /ignore-term /exit?code=N /crash?signal=segv|abort
/download?mb=N /cd?path=P; the body of a request, of any length, is read and dropped
";

/// More connections than this at once are turned away.
const CONNECTIONS_MAX: usize = 128;
/// A thread that has served ends when so many wait for connections.
const IDLE_MAX: usize = 4;
/// The longest request head that is read.
const HEAD_MAX: u64 = 16 << 10;
/// The longest file that /read answers with.
const FILE_MAX: u64 = 16 << 20;

const SIGTERM: c_int = 15;
const SIG_IGN: usize = 1;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
    fn write(fd: c_int, bytes: *const u8, count: usize) -> isize;
    fn _exit(code: c_int) -> !;
    fn gethostname(name: *mut c_char, size: usize) -> c_int;
}

struct Options {
    port: u16,
    udp: Option<u16>,
    heartbeat: Option<SocketAddr>,
    listen_delay: Duration,
    no_listen: bool,
    graceful: bool,
    ignore_term: bool,
    exit_after: Option<Duration>,
    exit_code: i32,
}

/// Those that accept and serve.
struct Threads {
    all: AtomicUsize,
    /// Those of them that accept, or are about to. Never 0 for long: nobody else would be accepted.
    idle: AtomicUsize,
}

struct Server {
    listener: TcpListener,
    threads: Threads,
    healthy: AtomicBool,
    started: Instant,
}

fn main() {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("hello: {why}; see hello --help");
            exit(2);
        }
    };
    // SAFETY: the handler calls nothing but write and _exit, which a signal handler may.
    unsafe {
        if options.graceful {
            signal(SIGTERM, stopping as *const () as usize);
        }
        if options.ignore_term {
            signal(SIGTERM, SIG_IGN);
        }
    }
    if let Some(after) = options.exit_after {
        let end = move || {
            thread::sleep(after);
            say(&format!("hello: exiting with {}", options.exit_code));
            exit(options.exit_code);
        };
        if after.is_zero() {
            end();
        }
        thread::spawn(end);
    }
    options.heartbeat.map(|to| thread::spawn(move || beat(to)));
    thread::sleep(options.listen_delay);
    if options.no_listen {
        say("hello: not listening");
        loop {
            thread::park();
        }
    }
    if let Some(port) = options.udp {
        let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap_or_else(|e| fail("bind udp", port, &e));
        thread::spawn(move || echo(&socket));
    }
    let listener = TcpListener::bind(("0.0.0.0", options.port)).unwrap_or_else(|e| fail("listen on", options.port, &e));
    say(&format!("hello: listening on {}", options.port));
    let threads = Threads { all: AtomicUsize::new(1), idle: AtomicUsize::new(1) };
    let server = Server { listener, threads, healthy: AtomicBool::new(true), started: Instant::now() };
    let server = Arc::new(server);
    loop {
        accept(&server);
        // This thread is the program: it goes on.
        server.threads.all.fetch_add(1, Ordering::SeqCst);
        server.threads.idle.fetch_add(1, Ordering::SeqCst);
    }
}

/// Accepts and serves, with one thread more whenever none is left that accepts. A connection that comes alone, as a health
/// check's, finds its thread waiting.
fn accept(server: &Arc<Server>) {
    let threads = &server.threads;
    loop {
        let Ok((stream, _)) = server.listener.accept() else {
            // Out of descriptors, or the client has gone: not before a connection ends will it be better.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if threads.idle.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The new one, which may accept before we go on. Where there is none it is this one that goes on accepting.
            threads.idle.fetch_add(1, Ordering::SeqCst);
            // One accepts beside those that serve.
            if threads.all.fetch_add(1, Ordering::SeqCst) > CONNECTIONS_MAX || !spawn(server) {
                threads.all.fetch_sub(1, Ordering::SeqCst);
                let _ = answer(&stream, 503, b"too many connections\n", false);
                continue;
            }
        }
        let _ = serve(server, &stream);
        drop(stream);
        // Counted in one step: others must not take one for waiting that ends.
        let one_more = |idle| (idle < IDLE_MAX).then_some(idle + 1);
        if threads.idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_err() {
            threads.all.fetch_sub(1, Ordering::SeqCst);
            return;
        }
    }
}

fn spawn(server: &Arc<Server>) -> bool {
    let server = server.clone();
    thread::Builder::new().stack_size(128 << 10).spawn(move || accept(&server)).is_ok()
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        port: 8080,
        udp: None,
        heartbeat: None,
        listen_delay: Duration::ZERO,
        no_listen: false,
        graceful: false,
        ignore_term: false,
        exit_after: None,
        exit_code: 0,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let (name, mut given) = match argument.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (argument, None),
        };
        let mut text = |what: &str| given.take().or_else(|| arguments.next()).ok_or(format!("{name} wants {what}"));
        let mut number = |what: &str| -> Result<u64, String> {
            let text = text(what)?;
            text.parse().map_err(|_| format!("{name} {text:?}: not {what}"))
        };
        let port = |n: u64| u16::try_from(n).map_err(|_| format!("{n}: not a port"));
        match name.as_str() {
            "--port" => options.port = port(number("a port")?)?,
            "--udp" => options.udp = Some(port(number("a port")?)?),
            "--heartbeat" => options.heartbeat = Some(text("IP:PORT")?.parse().map_err(|e| format!("{name}: {e}"))?),
            "--listen-delay" => options.listen_delay = Duration::from_millis(number("milliseconds")?),
            "--no-listen" => options.no_listen = true,
            "--graceful" => options.graceful = true,
            "--ignore-term" => options.ignore_term = true,
            "--exit-after" => options.exit_after = Some(Duration::from_millis(number("milliseconds")?)),
            "--exit-code" => options.exit_code = number("an exit code")? as i32,
            "--help" => {
                print!("{HELP}");
                exit(0);
            }
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
    Ok(options)
}

fn fail(action: &str, port: u16, e: &io::Error) -> ! {
    eprintln!("hello: {action} {port}: {e}");
    exit(1);
}

/// One line to standard output. A closed one is no reason to stop serving.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

extern "C" fn stopping(_signal: c_int) {
    let line = b"hello: stopping\n";
    // SAFETY: both may be called from a signal handler; the bytes live for ever.
    unsafe {
        write(1, line.as_ptr(), line.len());
        _exit(0)
    }
}

/// Tells that this program lives, and since when. A datagram that is lost is followed by another.
fn beat(to: SocketAddr) -> io::Result<()> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos());
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    loop {
        let _ = socket.send_to(format!("{started}").as_bytes(), to);
        thread::sleep(Duration::from_millis(50));
    }
}

fn echo(socket: &UdpSocket) {
    let mut bytes = [0; 2048];
    loop {
        if let Ok((n, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..n], from);
        }
    }
}

/// What a request asks for: its path and its query, decoded.
struct Request {
    path: String,
    query: HashMap<String, String>,
    keep: bool,
}

/// Reads one request; `None` when the client has nothing more to ask.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = reader.take(HEAD_MAX);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut keep = false;
    let mut length = 0u64;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            // Only who asks for it by name: a probe that forgets to close should not hold a thread.
            "connection" => keep = value.trim().eq_ignore_ascii_case("keep-alive"),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    io::copy(&mut reader.take(length), &mut io::sink())?;
    let target = first.split_whitespace().nth(1).unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    Ok(Some(Request { path: path.to_string(), query, keep }))
}

/// Undoes `%41` and `+`.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn answer(mut stream: &TcpStream, status: u16, body: &[u8], keep: bool) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Error",
    };
    let connection = if keep { "keep-alive" } else { "close" };
    let mut whole = head(status, reason, connection, body.len() as u64);
    whole.extend_from_slice(body);
    stream.write_all(&whole)
}

fn head(status: u16, reason: &str, connection: &str, length: u64) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\n\r\n"
    )
    .into_bytes()
}

/// Answers with so many megabytes of zeros, and closes.
fn download(mut stream: &TcpStream, megabytes: u64) -> io::Result<()> {
    stream.write_all(&head(200, "OK", "close", megabytes * 1_000_000))?;
    let chunk = vec![0; 100_000];
    (0..megabytes * 10).try_for_each(|_| stream.write_all(&chunk))
}

fn serve(server: &Server, stream: &TcpStream) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let (status, body) = match request.path.as_str() {
            "/exit" => {
                let code = request.query.get("code").and_then(|c| c.parse().ok()).unwrap_or(0);
                last_words(stream, &format!("exiting with {code}\n"));
                say(&format!("hello: exiting with {code}"));
                exit(code);
            }
            "/crash" => {
                last_words(stream, "crashing\n");
                crash(request.query.get("signal").is_some_and(|s| s == "abort"));
            }
            "/download" => {
                return download(stream, request.query.get("mb").and_then(|n| n.parse().ok()).unwrap_or(1));
            }
            _ => page(server, &request),
        };
        answer(stream, status, &body, request.keep)?;
        if !request.keep {
            break;
        }
    }
    Ok(())
}

/// Answers, and waits until the client has it: the machine that would send it is about to go.
fn last_words(stream: &TcpStream, text: &str) {
    let _ = answer(stream, 200, text.as_bytes(), false);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    // In a thread, since not every kernel has receive timeouts.
    let Ok(mut copy) = stream.try_clone() else { return };
    let (done, closed) = mpsc::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut copy, &mut io::sink());
        let _ = done.send(());
    });
    let _ = closed.recv_timeout(Duration::from_millis(500));
}

fn crash(abort: bool) -> ! {
    if abort {
        std::process::abort();
    }
    // SAFETY: none; that is the point.
    unsafe { std::ptr::write_volatile(8 as *mut u8, 1) };
    exit(1)
}

fn page(server: &Server, request: &Request) -> (u16, Vec<u8>) {
    let text = |text: String| (200, text.into_bytes());
    let lines = |lines: Vec<String>| (200, lines.iter().map(|l| format!("{l}\n")).collect::<String>().into_bytes());
    let number = |name: &str, default: u64| request.query.get(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    match request.path.as_str() {
        "/" => {
            let name = std::env::var("NAME").unwrap_or_else(|_| "world".into());
            text(format!("hello {name}, this is {}\n", hostname()))
        }
        "/health" if server.healthy.load(Ordering::Relaxed) => text("ok\n".into()),
        "/health" => (503, b"unhealthy\n".to_vec()),
        "/unhealthy" | "/healthy" => {
            server.healthy.store(request.path == "/healthy", Ordering::Relaxed);
            text("ok\n".into())
        }
        "/args" => lines(std::env::args().collect()),
        "/env" => lines(
            std::env::vars_os().map(|(n, v)| format!("{}={}", n.to_string_lossy(), v.to_string_lossy())).collect(),
        ),
        "/cwd" => text(match std::env::current_dir() {
            Ok(dir) => format!("{}\n", dir.display()),
            Err(e) => format!("{e}\n"),
        }),
        "/cd" => outcome(change_directory(&request.query)),
        "/uptime" => text(format!("{}\n", server.started.elapsed().as_millis())),
        "/slow" => {
            let pause = Duration::from_millis(number("ms", 1000));
            thread::sleep(pause);
            text(format!("slept {} ms\n", pause.as_millis()))
        }
        "/read" => outcome(read(&request.query)),
        "/write" => outcome(store(&request.query)),
        "/connect" => outcome(connect(&request.query)),
        "/log" => {
            let prefix = request.query.get("prefix").map_or("line", String::as_str);
            outcome(log_lines(prefix, number("lines", 100)))
        }
        "/burst" => outcome(flood(number("mb", 1), true)),
        "/longline" => outcome(flood(number("mb", 1), false)),
        "/ignore-term" => {
            // SAFETY: SIG_IGN is no function that could be called.
            unsafe { signal(SIGTERM, SIG_IGN) };
            text("ignoring SIGTERM\n".into())
        }
        _ => (404, b"no such page\n".to_vec()),
    }
}

fn outcome(result: io::Result<Vec<u8>>) -> (u16, Vec<u8>) {
    match result {
        Ok(body) => (200, body),
        Err(e) => (400, format!("{e}\n").into_bytes()),
    }
}

fn wanted<'a>(query: &'a HashMap<String, String>, name: &str) -> io::Result<&'a String> {
    query.get(name).ok_or_else(|| io::Error::other(format!("wants {name}=")))
}

fn read(query: &HashMap<String, String>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    std::fs::File::open(wanted(query, "path")?)?.take(FILE_MAX).read_to_end(&mut body)?;
    Ok(body)
}

fn store(query: &HashMap<String, String>) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::create(wanted(query, "path")?)?;
    file.write_all(wanted(query, "text")?.as_bytes())?;
    file.sync_all()?;
    Ok(b"written\n".to_vec())
}

fn change_directory(query: &HashMap<String, String>) -> io::Result<Vec<u8>> {
    std::env::set_current_dir(wanted(query, "path")?)?;
    Ok(b"changed\n".to_vec())
}

/// Whether the outside can be reached: by connecting to it.
fn connect(query: &HashMap<String, String>) -> io::Result<Vec<u8>> {
    let address = wanted(query, "to")?.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
    TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    Ok(b"connected\n".to_vec())
}

/// Numbered lines at full speed, written in whole lines.
fn log_lines(prefix: &str, count: u64) -> io::Result<Vec<u8>> {
    let begin = Instant::now();
    let mut out = io::stdout().lock();
    let mut chunk = String::new();
    for i in 1..=count {
        chunk.push_str(&format!("{prefix} {i:09}\n"));
        if chunk.len() >= 8 << 10 || i == count {
            out.write_all(chunk.as_bytes())?;
            chunk.clear();
        }
    }
    out.flush()?;
    Ok(format!("{count} lines in {} ms\n", begin.elapsed().as_millis()).into_bytes())
}

/// Megabytes of console: lines of 100 bytes, or one line without an end.
fn flood(megabytes: u64, in_lines: bool) -> io::Result<Vec<u8>> {
    let begin = Instant::now();
    let mut chunk = vec![b'x'; 10_000];
    if in_lines {
        chunk.iter_mut().skip(99).step_by(100).for_each(|byte| *byte = b'\n');
    }
    let mut out = io::stdout().lock();
    for _ in 0..megabytes * 100 {
        out.write_all(&chunk)?;
    }
    out.flush()?;
    Ok(format!("{megabytes} MB in {} ms\n", begin.elapsed().as_millis()).into_bytes())
}

fn hostname() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the buffer is ours and one byte longer than what is written at most, so it ends with a NUL.
    if unsafe { gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0 {
        return "unnamed".into();
    }
    String::from_utf8_lossy(&name).trim_end_matches('\0').to_string()
}
