//! Peers that a real server never is. Each is told apart, within the deadline, in little memory.

use super::certs::Certs;
use crate::health::{peer, says};
use loona_hpack::Encoder;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

fn header(flags: u8) -> Vec<u8> {
    let fields = [(":status", "200"), ("content-type", "application/grpc")];
    let block = Encoder::new().encode(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
    frame(HEADERS, flags, 1, &block)
}

/// Reads the whole request, then says each of `parts`, and keeps the connection open while the other side does.
fn speaker(parts: Vec<Vec<u8>>) -> SocketAddr {
    peer(move |mut s| {
        await_request(&mut s);
        for part in &parts {
            if s.write_all(part).is_err() {
                return;
            }
        }
        let _ = std::io::copy(&mut s, &mut std::io::sink());
    })
}

/// Until the message: a DATA frame that ends the stream.
fn await_request(s: &mut TcpStream) {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    while !all.windows(9).any(|w| w[3..9] == [DATA, 1, 0, 0, 0, 1]) {
        match s.read(&mut chunk) {
            Ok(n) if n > 0 => all.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
}

/// Says `first`, then `more` until the other side hangs up.
fn flood(first: Vec<u8>, more: Vec<u8>) -> SocketAddr {
    peer(move |mut s| {
        await_request(&mut s);
        let _ = s.write_all(&first);
        while s.write_all(&more).is_ok() {}
    })
}

/// Of a debug build and all that it has for itself: a peer's 16 MB do not fit into it.
const DATA_KIB: u32 = 8 << 10;

/// Asks `address` with a second's time and little memory; the words, and whether they came in time.
#[track_caller]
fn asked(address: SocketAddr, words: &str) -> Duration {
    let began = Instant::now();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -d {DATA_KIB} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_mcp-health")]);
    command.args(["--timeout", "1s", &format!("grpc://{address}/a.B")]);
    command.env_remove("MCP_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let answer = crate::harness::finish(command, "mcp-health");
    assert_eq!(answer.out, format!("grpc://{address}/a.B: unhealthy: grpc {address}/a.B: {words}\n"), "{}", answer.err);
    assert_eq!((answer.code, answer.err.as_str()), (Some(1), ""));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{words}: {took:?}");
    took
}

#[test]
fn grpc_faults_that_hang() {
    let second = Duration::from_secs(1);
    // Not a word.
    assert!(asked(speaker(vec![]), "timed out waiting for the HTTP/2 settings") >= second);
    assert!(asked(speaker(vec![settings()]), "timed out waiting for the gRPC answer") >= second);
    let header = header(4);
    assert!(asked(speaker(vec![settings(), header]), "timed out waiting for the end of the gRPC answer") >= second);
    let half = frame(PING, 0, 0, &[0; 8])[..12].to_vec();
    assert!(asked(speaker(vec![settings(), half]), "timed out waiting for the gRPC answer") >= second);
    // A byte now and then.
    let drip = peer(|mut s| {
        await_request(&mut s);
        let bytes = settings().into_iter().chain(frame(0x77, 0, 0, &[b'x'; 16_000]));
        for byte in bytes {
            if s.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(asked(drip, "timed out waiting for the gRPC answer") >= second);
    // It went away in time, and forgot to.
    let away = frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0bye");
    let words = "the peer ended the connection: GOAWAY NO_ERROR: bye";
    assert!(asked(speaker(vec![settings(), away]), words) >= second);
}

#[test]
fn grpc_faults_of_other_protocols() {
    asked(speaker(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]), "not HTTP/2: the peer speaks HTTP/1");
    let ssh = b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec();
    asked(speaker(vec![ssh]), "not HTTP/2: the answer begins with \"SSH-2.0-OpenSSH_\"");
    let alert = b"\x15\x03\x03\0\x02\x02\x46".to_vec();
    asked(speaker(vec![alert]), "not HTTP/2: the peer speaks TLS; use grpcs (tls = true)");
    asked(speaker(vec![vec![0xff; 40]]), "not HTTP/2: the answer begins with the bytes ff ff ff ff ff ff ff ff");
    asked(peer(drop), "closed without an answer");
    // An HTTP/1 server of the real kind, and a TLS server that knows no HTTP/2.
    let test = "grpc_faults_of_other_protocols";
    let Some(certs) = Certs::new(test) else { return };
    certs.issue("good", "ca", "IP:127.0.0.1", "30");
    let port = crate::harness::free_port().to_string();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}")]);
    command.args(["-cert", &certs.path("good.pem"), "-key", &certs.path("good.key")]);
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    says(&crate::health::health(&["--wait", "20s", &format!("tcp://127.0.0.1:{port}")]), 0, "healthy");
    let run = crate::health::health(&["--ca", &certs.path("ca.pem"), &format!("grpcs://127.0.0.1:{port}")]);
    let _ = server.kill();
    let _ = server.wait();
    says(&run, 1, ": not HTTP/2: the peer does not offer it in the TLS handshake (ALPN h2)\n");
}

#[test]
fn grpc_faults_of_order_and_length() {
    let broken = |parts: Vec<Vec<u8>>, words: &str| asked(speaker(parts), &format!("broken HTTP/2: {words}"));
    let ping = || frame(PING, 0, 0, &[0; 8]);
    broken(vec![ping(), settings()], "the first frame is PING, not SETTINGS");
    broken(vec![settings(), frame(DATA, 0, 1, b"x")], "DATA before HEADERS");
    broken(vec![settings(), frame(HEADERS, 4, 3, &[0x88])], "HEADERS on stream 3, which nobody has opened");
    broken(vec![settings(), frame(CONTINUATION, 4, 1, &[0x88])], "CONTINUATION without HEADERS before it");
    broken(vec![settings(), header(0), ping()], "a PING frame in the middle of a header block");
    broken(vec![settings(), frame(PUSH_PROMISE, 4, 1, &[0; 5])], "PUSH_PROMISE, though push is switched off");
    broken(vec![settings(), frame(PING, 0, 0, &[0; 9])], "PING of 9 bytes");
    broken(vec![settings(), vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1]], "a frame of 16385 bytes; 16384 are allowed");
    broken(vec![settings(), vec![0xff; 9]], "a frame of 16777215 bytes; 16384 are allowed");
    broken(vec![settings(), frame(HEADERS, 4, 1, &[0xbf])], "damaged header block: header index out of bounds");
}

#[test]
fn grpc_faults_that_never_end() {
    let broken = |first: Vec<u8>, more: Vec<u8>, words: &str| {
        let took = asked(flood(first, more), &format!("broken HTTP/2: {words}"));
        assert!(took < Duration::from_secs(1), "{words}: {took:?}");
    };
    broken(settings(), frame(PING, 0, 0, &[0; 8]), "more than 32 PINGs and no answer");
    broken(settings(), settings(), "more than 16 SETTINGS and no answer");
    broken(settings(), frame(0x77, 0, 0, &[0; 16_384]), "more than 256 frames and no answer");
    // 16 MB of a header block, a thousand frames of it.
    let begin = [settings(), frame(HEADERS, 0, 1, &[])].concat();
    broken(begin.clone(), frame(CONTINUATION, 0, 1, &[0; 16_384]), "header blocks of more than 16 KiB");
    broken(begin, frame(CONTINUATION, 0, 1, &[]), "more than 256 frames and no answer");
    // A field of 4,000 bytes, and bytes that each say it again: 48 MB, unpacked.
    let mut bomb = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    bomb.resize(4_006, b'x');
    bomb.resize(16_000, 0xbe);
    let words = "broken HTTP/2: header fields of more than 16 KiB, unpacked";
    asked(speaker(vec![settings(), frame(HEADERS, 4, 1, &bomb)]), words);
    let message = [&[0, 0, 255, 255, 255], &[0; 16_000][..]].concat();
    let words = "not gRPC: a message of 16777215 bytes; an answer about health has two";
    asked(speaker(vec![settings(), header(4), frame(DATA, 0, 1, &message)]), words);
}

#[test]
fn grpc_faults_that_break_off() {
    // A connection that is reset.
    let reset = peer(|mut s| {
        await_request(&mut s);
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = std::mem::size_of::<libc::linger>() as libc::socklen_t;
        // SAFETY: the option's value is the structure that it wants, of that size.
        let set = unsafe {
            let value = std::ptr::from_ref(&linger).cast();
            libc::setsockopt(std::os::fd::AsRawFd::as_raw_fd(&s), libc::SOL_SOCKET, libc::SO_LINGER, value, size)
        };
        assert_eq!(set, 0);
    });
    asked(reset, "closed without an answer");
    let refused = frame(RST_STREAM, 0, 1, &[0, 0, 0, 7]);
    asked(speaker(vec![settings(), refused]), "the peer broke off the call: RST_STREAM REFUSED_STREAM");
    let away = frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0btoo_many_\x1b[31mpings");
    let words = "the peer ended the connection: GOAWAY ENHANCE_YOUR_CALM: too_many_\\u{1b}[31mpings";
    asked(speaker(vec![settings(), away]), words);
    let closing = |bytes: Vec<u8>| {
        peer(move |mut s| {
            await_request(&mut s);
            let _ = s.write_all(&bytes);
        })
    };
    asked(closing(settings()), "closed without an answer");
    asked(
        closing([settings(), frame(PING, 0, 0, &[0; 8])].concat()[..20].to_vec()),
        "broken HTTP/2: closed in the middle of a frame",
    );
    asked(closing([settings(), header(0)].concat()), "broken HTTP/2: closed in the middle of a header block");
    asked(closing([settings(), header(4)].concat()), "broken HTTP/2: closed in the middle of the gRPC answer");
}
