//! A guest that writes without end: nothing lost, nothing doubled, and the disk stays bounded.

use crate::harness::{Answer, Image, Node, free_port, get, nanos, until, until_within, wait};
use std::fs;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

fn start<'a>(image: &'a Image, forward: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["--name", "demo", "--disk", &image.disk, "--kernel", &image.kernel, "--port", forward];
    [&args[..], more].concat()
}

/// One GET that may take long.
fn slow_get(port: u16, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Bytes and number of the files in the log directory of demo's first slot.
fn logs(node: &Node) -> (u64, usize) {
    let entries = fs::read_dir(node.root.join("log/demo/demo/a")).unwrap().flatten();
    let sizes: Vec<u64> = entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).collect();
    (sizes.iter().sum(), sizes.len())
}

fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn numbers(text: &str, prefix: &str) -> Vec<usize> {
    text.lines().filter_map(|l| l.strip_prefix(prefix)).map(|n| n.parse().unwrap()).collect()
}

/// Starts `name` and reads what it says from now on.
fn in_background(node: &Node, name: &'static str, args: &[&str]) -> (i32, JoinHandle<Answer>) {
    let child = node.command(name, args).spawn().unwrap();
    (child.id() as i32, std::thread::spawn(move || wait(child, name, Instant::now())))
}

#[test]
fn rotation_loses_and_doubles_no_line() {
    let Some(image) = nanos("rotation_loses_and_doubles_no_line", &[]) else { return };
    let node = Node::new();
    node.configure("[log]\nmax_size = \"64K\"\nkeep = 1000\n");
    let port = free_port();
    let forward = format!("{port}:8080");
    let (_, vm) = in_background(&node, "mcp-run-vm", &start(&image, &forward, &["--console", "stdout"]));
    until("healthy", || node.mcp("mcp-health", &["-q", "demo"]).code == Some(0));
    const LINES: usize = 30_000;
    // Followed meanwhile, too.
    let (follower, followed) = in_background(&node, "mcp-logs", &["-f", "-n", "all", "demo"]);
    let answer = slow_get(port, &format!("/log?lines={LINES}&prefix=n"));
    assert!(answer.contains("200 OK"), "{answer}");
    until("all of it is written", || {
        node.mcp("mcp-logs", &["-n", "1", "demo"]).out.trim_end() == format!("n {LINES:09}")
    });
    assert!(get(port, "/exit?code=0").is_some());
    let ended = vm.join().unwrap().expect(0);
    let text = node.console("demo");
    let wanted: Vec<usize> = (1..=LINES).collect();
    assert!(numbers(&text, "n ") == wanted, "of {LINES} lines {} came", numbers(&text, "n ").len());
    assert!(logs(&node).1 > 6, "it was rotated");
    assert!(ended.out == text, "the copy on stdout: {} bytes, the log: {}", ended.out.len(), text.len());
    // SAFETY: a plain system call.
    unsafe { libc::kill(follower, libc::SIGTERM) };
    let followed = numbers(&followed.join().unwrap().out, "n ");
    assert!(followed == wanted, "{} lines were followed", followed.len());
}

/// Faster than any UART that QEMU emulates: the fake one.
#[test]
fn a_burst_loses_no_line_either_and_takes_no_more_space_than_is_allowed() {
    const LINES: usize = 5_000_000;
    let Some((node, disk)) = crate::fake_qemu::node_with("a_burst", "burst") else { return };
    let config = fs::read_to_string(node.root.join("etc/mcp.toml")).unwrap();
    for (keep, all) in [(3, false), (1000, true)] {
        node.configure(&format!("{config}[log]\nmax_size = \"1M\"\nkeep = {keep}\n"));
        node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk, "--detach", "--wait"]).expect(0);
        let supervisor = node.supervisor("demo/demo");
        let mut most = 0;
        let last = format!("burst {LINES:013}\n");
        until("all of it is written", || {
            most = most.max(logs(&node).0);
            node.mcp("mcp-logs", &["-n", "1", "demo"]).out == last
        });
        assert_eq!(node.supervisor("demo/demo"), supervisor, "the same supervisor");
        assert!(peak(supervisor) < 32 << 10, "{} KiB", peak(supervisor));
        let text = node.console("demo");
        let numbers = numbers(&text, "burst ");
        let first = if all { 1 } else { numbers[0] };
        assert!(numbers.iter().copied().eq(first..=LINES), "{} of {LINES} lines, first {first}", numbers.len());
        if !all {
            // What comes between two looks is on top of max_size: 50 ms each, more on a busy node.
            assert!(most < 40 << 20, "{most} bytes on disk");
            assert!(logs(&node).1 <= 8, "{} files", logs(&node).1);
        }
        node.mcp("mcp-stop", &["demo"]).expect(0);
        node.mcp("mcp-rm", &["demo"]).expect(0);
    }
}

#[test]
fn a_rotation_that_outlasts_its_deadline_loses_nothing() {
    const LINES: usize = 50_000;
    let Some((node, disk)) = crate::fake_qemu::node_with("a_rotation_that_outlasts", "slow-change") else { return };
    let config = fs::read_to_string(node.root.join("etc/mcp.toml")).unwrap();
    node.configure(&format!("{config}[log]\nmax_size = \"64K\"\nkeep = 1000\n"));
    node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk, "--detach", "--wait"]).expect(0);
    let last = format!("burst {LINES:013}\n");
    until_within(Duration::from_secs(60), "all of it is written", || {
        node.mcp("mcp-logs", &["-n", "1", "demo"]).out == last
    });
    let log = fs::read_to_string(node.root.join("log/demo/demo/supervisor.log")).unwrap();
    assert!(log.contains("console.log: not rotated: "), "{log}");
    let numbers = numbers(&node.console("demo"), "burst ");
    assert!(numbers.iter().copied().eq(1..=LINES), "{} of {LINES} lines", numbers.len());
    assert!(logs(&node).1 > 6, "it was rotated after all");
}

#[test]
fn a_line_without_end_is_rotated_like_any_other() {
    let Some(image) = nanos("a_line_without_end", &[]) else { return };
    let node = Node::new();
    node.configure("[log]\nmax_size = \"64K\"\nkeep = 2\n");
    let port = free_port();
    let forward = format!("{port}:8080");
    node.mcp("mcp-run-vm", &start(&image, &forward, &["--detach", "--wait"])).expect(0);
    assert!(slow_get(port, "/longline?mb=1").contains("200 OK"));
    until("only the newest stay", || logs(&node).1 <= 6 && logs(&node).0 < 400 << 10);
    let tail = node.mcp("mcp-logs", &["-n", "1", "demo"]).expect(0);
    let end: String = tail.out.chars().rev().take(40).collect();
    assert!(end.starts_with("\nxxx") || end.starts_with("xxx"), "{end:?} of {}", tail.out.len());
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("powerdown"), "{stopped:#?}");
}

#[test]
fn a_reader_of_the_copy_that_stops_reading_holds_nobody_up() {
    let Some(image) = nanos("a_reader_that_stops_reading", &[]) else { return };
    let node = Node::new();
    node.configure("[log]\nmax_size = \"64K\"\nkeep = 3\n");
    let port = free_port();
    let forward = format!("{port}:8080");
    // Nobody reads its stdout.
    let mut child = node.command("mcp-run-vm", &start(&image, &forward, &["--console", "stdout"])).spawn().unwrap();
    until("healthy", || node.mcp("mcp-health", &["-q", "demo"]).code == Some(0));
    assert!(slow_get(port, "/burst?mb=1").contains("200 OK"));
    let pid = child.id() as i32;
    until("the old files go", || logs(&node).1 <= 8);
    // A file that is held open for the copy takes its space although it is gone.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!(open < 40, "{open} descriptors");
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.took < Duration::from_secs(10), "{stopped:#?}");
    until("the end", || child.try_wait().unwrap().is_some());
}

#[test]
fn a_qemu_that_complains_without_end_fills_no_disk() {
    let Some((node, disk)) = crate::fake_qemu::node_with("a_qemu_that_complains", "chatter") else { return };
    let config = fs::read_to_string(node.root.join("etc/mcp.toml")).unwrap();
    node.configure(&format!("{config}[log]\nmax_size = \"64K\"\nkeep = 2\n"));
    let dir = node.root.join("log/demo/demo");
    fs::create_dir_all(&dir).unwrap();
    let old: String = (0..8000).map(|n| format!("old {n}\n")).collect();
    let args = ["--name", "demo", "--disk", &disk, "--detach", "--wait"];
    let own = || {
        let entries = fs::read_dir(&dir).unwrap().flatten().filter(|e| e.metadata().is_ok_and(|m| m.is_file()));
        entries.map(|e| e.file_name().into_string().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    for round in 1..=4 {
        // Full already: one that a supervisor before this one has left.
        let mut log = fs::OpenOptions::new().append(true).create(true).open(dir.join("supervisor.log")).unwrap();
        std::io::Write::write_all(&mut log, old.as_bytes()).unwrap();
        node.mcp("mcp-run-vm", &args).expect(0);
        let text = || node.mcp("mcp-logs", &["--supervisor", "-n", "all", "demo"]).expect(0).out;
        until("it is told what was dropped", || text().rsplit("old ").next().unwrap().contains(" lines dropped\n"));
        node.mcp("mcp-stop", &["demo"]).expect(0);
        let text = text();
        let kept = round.min(2);
        assert_eq!(text.matches("old 0\n").count(), kept, "{} bytes", text.len());
        assert_eq!(text.matches("old 7999\n").count(), kept, "{} bytes", text.len());
        assert!(text.matches("chatter").count() < 3000, "{} bytes", text.len());
        assert_eq!(own().len(), kept + 1, "{:?}", own());
        assert!(dir.join("supervisor.log").metadata().unwrap().len() < 64 << 10);
    }
}
