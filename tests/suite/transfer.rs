//! Large transfers through the forward of a VM, for each kind of guest: they arrive whole.

use crate::harness::{Node, free_port, microvm, nanos, rootfs};
use mcp::guest::monitor::qmp::Qmp;
use mcp::sys::Deadline;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Megabytes of one transfer. Without the fix a Nanos guest stopped in 4 of 5 of them.
const SIZE: usize = 300;
/// No byte for this long is a stall, however slow the machine is.
const SILENCE: Duration = Duration::from_secs(30);

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.set_write_timeout(Some(SILENCE)).unwrap();
    stream
}

fn upload(port: u16) {
    let mut stream = connect(port);
    write!(stream, "POST /health HTTP/1.1\r\nContent-Length: {}\r\n\r\n", SIZE * 1_000_000).unwrap();
    let chunk = vec![0; 100_000];
    for sent in 0..SIZE * 10 {
        stream.write_all(&chunk).unwrap_or_else(|e| panic!("upload after {} MB: {e}", sent / 10));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap_or_else(|e| panic!("answer to the upload: {e}"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn download(port: u16) {
    let mut stream = connect(port);
    write!(stream, "GET /download?mb={SIZE} HTTP/1.1\r\n\r\n").unwrap();
    let (mut chunk, mut got) = (vec![0; 100_000], 0);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(e) => panic!("download after {} MB: {e}", got / 1_000_000),
        }
    }
    assert!(got > SIZE * 1_000_000, "download ended after {got} bytes");
}

/// Starts the guest of `args` and transfers both ways.
fn transfers(node: &Node, args: &[&str]) {
    let port = free_port();
    let forward = format!("{port}:8080");
    let start = ["--name", "demo", "--port", &forward, "--detach", "--wait"];
    node.mcp("mcp-run-vm", &[&start, args].concat()).expect(0);
    upload(port);
    download(port);
}

/// Virtio devices of the VM whose driver uses event indexes.
fn event_indexes(node: &Node) -> Vec<String> {
    let deadline = || Deadline::after(Duration::from_secs(10));
    let mut monitor = Qmp::connect(&node.run_dir("demo/demo").join("current/qmp.sock"), deadline()).unwrap();
    let mut ask = |command: &str, arguments: Value| monitor.execute(command, arguments, deadline()).unwrap();
    let devices = ask("x-query-virtio", json!({}));
    let devices = devices.as_array().unwrap();
    assert!(devices.len() > 1, "{devices:?}");
    let uses = |device: &&Value| {
        let status = ask("x-query-virtio-status", json!({ "path": device["path"] }));
        status["guest-features"]["transports"].to_string().contains("VIRTIO_RING_F_EVENT_IDX")
    };
    devices.iter().filter(uses).map(|device| device["name"].to_string()).collect()
}

#[test]
fn a_nanos_guest_transfers_300_mb_each_way() {
    let Some(image) = nanos("a_nanos_guest_transfers_300_mb_each_way", &[]) else { return };
    for args in [&["--disk", &image.disk, "--kernel", &image.kernel][..], &["--disk", &image.disk]] {
        let node = Node::new();
        transfers(&node, args);
        // Its virtqueue code stalls with them, whichever device has them.
        assert_eq!(event_indexes(&node), [""; 0]);
    }
}

#[test]
fn a_microvm_transfers_300_mb_each_way() {
    let node = Node::new();
    if microvm("a_microvm_transfers_300_mb_each_way", &node) {
        transfers(&node, &["--rootfs", &rootfs(&node), "--memory", "128", "--", "/hello"]);
    }
}
