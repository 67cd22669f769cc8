//! Against peers that are threads.

use super::*;
use std::io::Write;

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(200))
}

fn peer(says: &'static [u8]) -> Result<Qmp, QmpError> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let writer = std::thread::spawn(move || {
        let _ = theirs.write_all(says);
        theirs
    });
    let result = Qmp::greet(ours, soon());
    drop(writer.join());
    result
}

const GREETING: &str = r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":2,"major":7},"package":""},"capabilities":[]}}"#;

#[test]
fn greeting_capabilities_and_events() {
    let text = format!("{GREETING}\n{{\"event\":\"STOP\"}}\n{{\"return\":{{}},\"id\":1}}\n");
    let mut qmp = peer(Box::leak(text.into_boxed_str()).as_bytes()).unwrap();
    assert_eq!(qmp.version(), (7, 2, 2));
    assert_eq!(qmp.take_event(), Some(Event { name: "STOP".into(), data: Value::Null }));
}

#[test]
fn silence_is_busy() {
    assert!(matches!(peer(b""), Err(QmpError::Busy)));
}

#[test]
fn a_full_queue_is_busy() {
    let directory = std::env::temp_dir().join(format!("mcp-qmp-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("qmp.sock");
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    nix::sys::socket::bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    assert!(matches!(Qmp::connect(&path, soon()), Err(QmpError::Busy)));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn half_a_line_times_out() {
    assert!(matches!(peer(b"{\"QMP\""), Err(QmpError::TimedOut)));
}

#[test]
fn junk_is_named() {
    assert!(matches!(peer(b"SSH-2.0\r\n"), Err(QmpError::Junk("greeting is not JSON"))));
    assert!(matches!(peer(b"{}\n"), Err(QmpError::Junk("no QMP greeting"))));
}

#[test]
fn a_line_without_end_is_cut_off() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let writer = std::thread::spawn(move || {
        let chunk = [b'x'; 65536];
        while theirs.write_all(&chunk).is_ok() {}
    });
    let result = Qmp::greet(ours, Deadline::after(Duration::from_secs(10)));
    assert!(matches!(result, Err(QmpError::Junk("a line of more than 1 MiB"))));
    writer.join().unwrap();
}
