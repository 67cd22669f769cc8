//! `mcp-health` on URL targets: real peers, good and bad.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What mcp-health answered.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

pub fn health(arguments: &[&str]) -> Run {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-health"))
        .args(arguments)
        .env_remove("MCP_LOG")
        .env("MCP_ROOT", std::env::temp_dir().join("mcp-health-nothing-here"))
        .stdin(Stdio::null())
        .output()
        .expect("run mcp-health");
    let text = |b: Vec<u8>| String::from_utf8(b).expect("UTF-8");
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr), took: started.elapsed() }
}

#[track_caller]
pub fn says(run: &Run, code: i32, words: &str) {
    assert!(
        run.code == Some(code) && (run.out.contains(words) || run.err.contains(words)),
        "wanted {code} and {words:?}, got {:?}\nstdout: {}\nstderr: {}",
        run.code,
        run.out,
        run.err
    );
}

/// Serves every connection by `serve` until the test process ends.
pub fn peer(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads the request, says `answer`, closes.
fn web(answer: &'static [u8]) -> SocketAddr {
    peer(move |mut s| {
        let mut request = [0; 4096];
        let _ = s.read(&mut request);
        let _ = s.write_all(answer);
    })
}

/// A port that nobody listens on, and what keeps others from getting it: the connection that has it.
pub fn closed_port() -> ((TcpListener, TcpStream), u16) {
    let other = TcpListener::bind("127.0.0.1:0").expect("bind");
    let stream = TcpStream::connect(other.local_addr().expect("address")).expect("connect");
    let port = stream.local_addr().expect("address").port();
    ((other, stream), port)
}

#[test]
fn health_tcp() {
    let listening = peer(drop);
    let url = format!("tcp://{listening}");
    let run = health(&[&url]);
    says(&run, 0, &format!("{url}: healthy: tcp {listening} ("));
    assert!(run.out.ends_with(" ms)\n") && run.err.is_empty());
    let (_keep, port) = closed_port();
    let url = format!("tcp://127.0.0.1:{port}");
    says(&health(&[&url]), 1, &format!("{url}: unhealthy: tcp 127.0.0.1:{port}: connection refused\n"));
    says(&health(&[&format!("tcp://localhost:{port}")]), 1, "connection refused");
    // Without a name server the answer is another one.
    let run = health(&["tcp://no-such-host.invalid:80", "--timeout", "5s"]);
    let known = ["no such name: no-such-host.invalid", "name lookup failed", "timed out looking up the name"];
    assert!(run.code == Some(1) && known.iter().any(|k| run.out.contains(k)), "{}", run.out);
}

#[test]
fn health_http_statuses() {
    for (answer, code, words) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..], 0, " 200 ("),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", 0, " 302 ("),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 1, "HTTP status 404 Not Found\n"),
        (b"HTTP/1.1 503\r\n\r\n", 1, "HTTP status 503\n"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 1, "not HTTP: no HTTP/1 status line"),
        (b"", 1, "closed without an answer"),
        (b"\x15\x03\x01\0\x02\x02\x46", 1, "not HTTP: the peer speaks TLS; use https"),
        (b"HTTP/1.1 200 OK\r\nHalf: a", 1, "not HTTP: closed in the middle of the header"),
        (b"HTTP/1.1 200 \x1b[31mRED\r\n\r\n", 1, "not HTTP"),
    ] {
        let run = health(&[&format!("http://{}/x?y", web(answer))]);
        says(&run, code, words);
        assert!(!run.out.contains('\x1b'));
    }
}

#[test]
fn health_http_sends_what_it_should() {
    let (tell, told) = std::sync::mpsc::channel();
    let address = peer(move |mut s| {
        let mut request = [0; 4096];
        let n = s.read(&mut request).unwrap_or(0);
        let _ = tell.send(request[..n].to_vec());
        let _ = s.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    });
    says(&health(&[&format!("http://{address}/healthz?full=1#top")]), 0, "/healthz?full=1 204");
    let request = String::from_utf8(told.recv().expect("request")).expect("text");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        request,
        format!(
            "GET /healthz?full=1 HTTP/1.1\r\nHost: {address}\r\nUser-Agent: mcp-health/{version}\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        )
    );
}

#[test]
fn health_deadline_holds_whatever_the_peer_does() {
    let hang = peer(|s| {
        std::thread::sleep(Duration::from_secs(20));
        drop(s);
    });
    let drip = peer(|mut s| {
        for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            if s.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    for (url, words) in [
        (format!("http://{hang}/"), "timed out waiting for the HTTP answer"),
        (format!("http://{drip}/"), "timed out waiting for the HTTP answer"),
        (format!("https://{hang}/"), "timed out in the TLS handshake"),
    ] {
        let run = health(&["--timeout", "400ms", &url]);
        says(&run, 1, words);
        assert!(run.took > Duration::from_millis(400) && run.took < Duration::from_secs(3), "{url}: {:?}", run.took);
    }
}

#[test]
fn health_a_huge_header_is_cut_off() {
    let flood = peer(|mut s| {
        let _ = s.write_all(b"HTTP/1.1 200 OK\r\n");
        let line = [&b"X: "[..], &[b'x'; 8000], b"\r\n"].concat();
        while s.write_all(&line).is_ok() {}
    });
    says(&health(&[&format!("http://{flood}/")]), 1, "not HTTP: a header of more than 64 KiB");
}

#[test]
fn health_wait_answers_soon_after_it_listens() {
    let port = crate::harness::free_port();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        let at = Instant::now();
        let _ = listener.accept();
        at
    });
    let run = health(&["--wait", "10s", &format!("tcp://127.0.0.1:{port}")]);
    let ended = Instant::now();
    says(&run, 0, "healthy");
    // 20 ms is the aim; this is a busy machine's share on top.
    assert!(ended.duration_since(late.join().expect("listener")) < Duration::from_millis(500));
}

#[test]
fn health_wait_gives_up_with_the_reason() {
    let (_keep, port) = closed_port();
    let run = health(&["--wait", "300ms", &format!("tcp://127.0.0.1:{port}")]);
    says(&run, 1, "connection refused");
    assert!(run.took >= Duration::from_millis(300) && run.took < Duration::from_secs(3));
}

#[test]
fn health_successes_and_failures_in_a_row() {
    let count = std::sync::Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    // Bad, good, good, bad, good, good, good.
    let moody = peer(move |mut s| {
        let _ = s.read(&mut [0; 4096]);
        let answer = match counted.fetch_add(1, Ordering::SeqCst) {
            0 | 3 => "HTTP/1.1 500 No\r\n\r\n",
            _ => "HTTP/1.1 200 Yes\r\n\r\n",
        };
        let _ = s.write_all(answer.as_bytes());
    });
    let url = format!("http://{moody}/");
    says(&health(&["--wait", "10s", "--interval", "10ms", "--successes", "3", &url]), 0, "healthy");
    assert_eq!(count.load(Ordering::SeqCst), 7);
    count.store(0, Ordering::SeqCst);
    says(&health(&["--interval", "10ms", "--failures", "2", &url]), 0, "healthy");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn health_many_targets_side_by_side_in_order() {
    let hang = peer(|s| {
        std::thread::sleep(Duration::from_secs(20));
        drop(s);
    });
    let up = format!("tcp://{}", peer(drop));
    let slow = format!("http://{hang}/");
    let run = health(&["--timeout", "500ms", &slow, &up, &slow, &slow, &slow]);
    assert_eq!(run.code, Some(1));
    let names: Vec<&str> = run.out.lines().filter_map(|l| l.split(": ").next()).collect();
    assert_eq!(names, [&slow, &up, &slow, &slow, &slow]);
    assert!(run.took < Duration::from_millis(1500), "{:?}", run.took);
}

#[test]
fn health_forms_of_the_answer() {
    let up = format!("tcp://{}", peer(drop));
    let (_keep, port) = closed_port();
    let down = format!("tcp://127.0.0.1:{port}");
    let run = health(&["-q", &up]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(0), "", ""));
    let run = health(&["-q", &down]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(1), "", ""));
    let run = health(&["--json", &up, &down]);
    assert_eq!(run.code, Some(1));
    let object: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
    assert_eq!(object["schema"], 1);
    assert_eq!(object["healthy"], false);
    assert_eq!(object["targets"][0]["healthy"], true);
    assert!(object["targets"][0]["elapsed_ms"].as_f64().expect("a number") > 0.0);
    assert_eq!(object["targets"][1]["reason"], "refused");
    let run = health(&["--nagios", &up]);
    says(&run, 0, "MCP OK - tcp://127.0.0.1:");
    assert!(run.out.trim_end().rsplit_once("|time=0.").is_some_and(|(_, t)| t.ends_with('s')), "{}", run.out);
    says(&health(&["--nagios", &down]), 2, "MCP CRITICAL - tcp://127.0.0.1:");
    says(&health(&["--nagios", &down]), 2, "connection refused\n");
    says(&health(&["--nagios", "nothing-of-that-name"]), 3, "MCP UNKNOWN - nothing-of-that-name: ");
}

#[test]
fn health_wrong_command_lines() {
    for (arguments, code) in [
        (&["ftp://x/"][..], 2),
        (&["http://user:secret@x/"], 2),
        (&["tcp://x"], 2),
        (&["No Such Name"], 2),
        (&[], 2),
        (&["--timeout", "0s", "tcp://127.0.0.1:1"], 2),
        (&["--wait", "soon", "tcp://127.0.0.1:1"], 2),
        (&["--successes", "0", "tcp://127.0.0.1:1"], 2),
        (&["--ca", "/no/such.pem", "https://127.0.0.1:1/"], 100),
        (&["--ca", "/dev/null", "https://127.0.0.1:1/"], 100),
        (&["grpc://127.0.0.1"], 2),
        (&["--ca", "/dev/null", "grpc://127.0.0.1:1/a.B"], 2),
        (&["--header", "x: y", "tcp://127.0.0.1:1"], 2),
        (&["nothing-of-that-name"], 100),
    ] {
        let run = health(arguments);
        assert_eq!(
            (run.code, run.err.lines().count(), run.out.as_str()),
            (Some(code), 1, ""),
            "{arguments:?} {}",
            run.err
        );
        assert!(run.err.starts_with("mcp-health: "));
    }
}

/// `openssl s_server -www` with certificates made for it, ended with the test.
struct TlsServer {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub fn openssl(folder: &Path, line: &str) -> bool {
    let run = Command::new("openssl").args(line.split(' ')).current_dir(folder).stdin(Stdio::null()).output();
    run.is_ok_and(|o| o.status.success())
}

/// Waits until the certificate of what is asked is past its end: one of 0 days ends in the second in which it began, and
/// openssl makes none that ended earlier.
pub fn until_expired(args: &[&str]) {
    crate::harness::until("the certificate has expired", || health(args).code != Some(0));
}

/// `None`, said loudly, where there is no openssl.
fn tls_server(name: &str, days: &str, more: &[&str]) -> Option<TlsServer> {
    tls_server_with(name, days, more, "basicConstraints=CA:FALSE\nsubjectAltName=DNS:api.example,IP:127.0.0.1\n")
}

/// With these extensions; a certificate that may be a CA's signs itself, and is `own.pem` too.
fn tls_server_with(name: &str, days: &str, more: &[&str], extensions: &str) -> Option<TlsServer> {
    let folder = std::env::temp_dir().join(format!("mcp-health-tls-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("folder");
    if !openssl(&folder, "version") {
        crate::harness::skip(name, "no openssl");
        return None;
    }
    std::fs::write(folder.join("san"), extensions).expect("file");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for line in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=test-ca -days 30"),
        format!("req {key} -keyout key.pem -out csr -subj /CN=server"),
        match extensions.contains("CA:TRUE") {
            true => format!("x509 -req -in csr -signkey key.pem -out cert.pem -extfile san -days {days}"),
            false => format!("x509 -req -in csr -CA ca.pem -CAkey ca.key -out cert.pem -extfile san -days {days}"),
        },
    ] {
        assert!(openssl(&folder, &line), "openssl {line}");
    }
    std::fs::copy(folder.join("cert.pem"), folder.join("own.pem")).expect("copy");
    let port = crate::harness::free_port();
    let process = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-cert", "cert.pem", "-key", "key.pem", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .args(more)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl s_server");
    let server = TlsServer { process, folder, port };
    says(&health(&["--wait", "20s", &format!("tcp://127.0.0.1:{port}")]), 0, "healthy");
    Some(server)
}

#[test]
fn health_tls() {
    let Some(server) = tls_server("good", "30", &[]) else { return };
    let url = format!("https://127.0.0.1:{}/", server.port);
    let ca = server.folder.join("ca.pem");
    let ca = ca.to_str().expect("UTF-8");
    says(&health(&["--ca", ca, &url]), 0, " 200 (");
    says(&health(&["--ca", ca, "--server-name", "api.example", &url]), 0, " 200 (");
    says(&health(&["--ca", ca, "--server-name", "other.example", &url]), 1, "certificate is not for other.example");
    says(&health(&["--ca", ca, &url.replace("127.0.0.1", "localhost")]), 1, "certificate is not for localhost");
    // The server's own certificate is in the file, but not its issuer: it is trusted for itself.
    let own = server.folder.join("cert.pem");
    says(&health(&["--ca", own.to_str().expect("UTF-8"), &url]), 0, " 200 (");
    // This one hangs up; others send an alert.
    says(&health(&[&url.replace("https", "http")]), 1, "closed without an answer");
    let system = Path::new("/etc/ssl/certs/ca-certificates.crt");
    match system.exists() {
        true => says(&health(&[&url]), 1, "unknown issuer"),
        false => says(&health(&[&url]), 100, "ca-certificates"),
    }
}

/// A certificate that is its own CA, named as such: its names and its time count.
#[test]
fn health_of_a_self_signed_certificate_that_is_named() {
    let names = "basicConstraints=CA:TRUE\nsubjectAltName=DNS:api.example,IP:127.0.0.1\n";
    let Some(server) = tls_server_with("self-signed", "30", &[], names) else { return };
    let url = format!("https://127.0.0.1:{}/", server.port);
    let own = server.folder.join("own.pem");
    let own = own.to_str().expect("UTF-8");
    says(&health(&["--ca", own, &url]), 0, " 200 (");
    says(&health(&["--ca", own, "--server-name", "other.example", &url]), 1, "certificate is not for other.example");
    let ca = server.folder.join("ca.pem");
    says(
        &health(&["--ca", ca.to_str().expect("UTF-8"), &url]),
        1,
        "self-signed certificate that is not trusted; name it",
    );
    let Some(expired) = tls_server_with("self-signed-expired", "0", &[], names) else { return };
    let url = format!("https://127.0.0.1:{}/", expired.port);
    let own = expired.folder.join("own.pem");
    let own = own.to_str().expect("UTF-8");
    until_expired(&["--ca", own, &url]);
    says(&health(&["--ca", own, &url]), 1, "certificate has expired");
}

#[test]
fn health_tls_troubles() {
    let plain = web(b"HTTP/1.1 200 OK\r\n\r\n");
    let closing = peer(drop);
    let Some(expired) = tls_server("expired", "0", &[]) else { return };
    let ca = expired.folder.join("ca.pem");
    let ca = ca.to_str().expect("UTF-8");
    let url = format!("https://127.0.0.1:{}/", expired.port);
    until_expired(&["--ca", ca, &url]);
    says(&health(&["--ca", ca, &url]), 1, "certificate has expired");
    says(&health(&["--ca", ca, &format!("https://{plain}/")]), 1, "TLS: the peer does not speak TLS");
    says(&health(&["--ca", ca, &format!("https://{closing}/")]), 1, "TLS: closed in the handshake");
}

#[test]
fn health_a_client_certificate_is_wanted() {
    let Some(server) = tls_server("wants", "30", &["-Verify", "1", "-verify_return_error"]) else { return };
    let ca = server.folder.join("ca.pem");
    let url = format!("https://127.0.0.1:{}/", server.port);
    says(&health(&["--ca", ca.to_str().expect("UTF-8"), &url]), 1, "the peer wants a client certificate");
}
