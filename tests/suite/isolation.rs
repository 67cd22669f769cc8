//! What a VM may: no rights, a user of its own, only the network it was given; and what it leaves for others to read.

use crate::harness::{Image, Node, find, free_port, get, get_within, nanos, until, wait_for};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

fn start(node: &Node, name: &str, image: &Image, forward: &str, more: &[&str]) {
    let args = ["--name", name, "--disk", &image.disk, "--kernel", &image.kernel, "--port", forward];
    node.mcp("mcp-run-vm", &[&args[..], more, &["--detach", "--wait"]].concat()).expect(0);
}

/// The words of a field of /proc/PID/status.
fn status(pid: i32, field: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().map(str::to_string).collect()
}

#[test]
fn each_qemu_has_a_user_and_a_session_of_its_own_and_no_rights() {
    let Some(image) = nanos("each_qemu_has_a_user", &[]) else { return };
    let node = Node::new();
    for name in ["one", "two"] {
        start(&node, name, &image, &format!("{}:8080", free_port()), &[]);
    }
    let pids = [node.qemu("one/one"), node.qemu("two/two")];
    for pid in pids {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(pid, set), ["0000000000000000"], "{set}");
        }
        assert_eq!(status(pid, "NoNewPrivs"), ["1"]);
        assert_eq!(status(pid, "Seccomp"), ["2"], "QEMU's sandbox");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_string();
        assert_eq!(session, pid.to_string(), "a session of its own");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "no core dump of the guest's memory");
        let environ = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
        assert!(environ.split_terminator('\0').all(|v| v.starts_with("PATH=")), "{environ:?}");
    }
    let uids = pids.map(|pid| status(pid, "Uid"));
    if nix::unistd::geteuid().is_root() {
        assert_ne!(uids[0], uids[1]);
        for (pid, uid) in pids.into_iter().zip(&uids) {
            assert!(uid.iter().all(|u| u.parse::<u32>().unwrap() > 65535), "{uid:?}");
            assert_eq!(*uid, status(pid, "Gid"), "its group is its own, too");
            assert!(status(pid, "Groups").len() <= 1, "no other group than that of /dev/kvm");
        }
    }
}

#[test]
fn nobody_else_can_read_what_a_vm_leaves() {
    let Some(image) = nanos("nobody_else_can_read", &[]) else { return };
    let node = Node::new();
    start(&node, "demo", &image, &format!("{}:8080", free_port()), &[]);
    for top in ["run", "log", "lib"] {
        let top = node.root.join(top);
        assert_eq!(fs::metadata(&top).unwrap().mode() & 0o777, 0o700, "{}", top.display());
        for path in find(&top, &|_| true) {
            let meta = fs::symlink_metadata(&path).unwrap();
            let folder = fs::metadata(path.parent().unwrap()).unwrap();
            assert_eq!(folder.mode() & 0o777, 0o700, "the folder of {}", path.display());
            if meta.is_file() || meta.file_type().is_socket() {
                assert_eq!(meta.mode() & 0o777, 0o600, "{}", path.display());
            }
            assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw(), "{}", path.display());
        }
    }
}

#[test]
fn without_egress_only_the_forwarded_ports_are_left() {
    let Some(image) = nanos("without_egress", &[]) else { return };
    let node = Node::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let connect = format!("/connect?to=10.0.2.2:{}", listener.local_addr().unwrap().port());
    for (egress, through) in [("all", true), ("none", false)] {
        let port = free_port();
        start(&node, egress, &image, &format!("{port}:8080"), &["--egress", egress]);
        assert!(get(port, "/").is_some(), "the forwarded port works");
        // Whether it came through is for us to say: Nanos calls a connection that it has only begun connected.
        let _ = get_within(port, &connect, Duration::from_secs(5));
        let wait = Duration::from_millis(if through { 10_000 } else { 500 });
        let came = wait_for(wait, || listener.accept().ok()).is_some();
        assert_eq!(came, through, "egress = {egress}");
    }
}

#[test]
fn datagrams_are_forwarded_both_ways() {
    let Some(image) = nanos("datagrams_are_forwarded", &["--udp", "5353"]) else { return };
    let node = Node::new();
    let (tcp, udp) = (free_port(), free_port());
    start(&node, "demo", &image, &format!("{tcp}:8080"), &["--port", &format!("{udp}:5353/udp")]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket.connect(("127.0.0.1", udp)).unwrap();
    let mut answer = [0; 64];
    until("an answer", || {
        socket.send(b"echo this").unwrap();
        socket.recv(&mut answer).is_ok_and(|n| &answer[..n] == b"echo this")
    });
    // The next one's start says who has the port.
    let args = ["--name", "other", "--disk", &image.disk, "--port", &format!("{udp}:53/udp"), "--health", "none"];
    let taken = node.mcp("mcp-run-vm", &args).expect(111);
    let line = format!("mcp-run-vm: 127.0.0.1:{udp}/udp: taken by demo/demo; stop that or choose another host port");
    assert_eq!(taken.one_line(), line);
}

#[test]
fn a_root_is_kept_only_where_that_was_asked_for() {
    let Some(image) = nanos("a_root_is_kept", &[]) else { return };
    let node = Node::new();
    let before = fs::read(&image.disk).unwrap();
    for (name, more, kept) in [("once", &[][..], false), ("keeper", &["--persistent"][..], true)] {
        let port = free_port();
        let forward = format!("{port}:8080");
        start(&node, name, &image, &forward, more);
        assert_eq!(get(port, "/write?path=/note&text=remember").unwrap(), "written\n");
        node.mcp("mcp-stop", &[name]).expect(0);
        start(&node, name, &image, &forward, more);
        let answer = get(port, "/read?path=/note").unwrap();
        assert_eq!(answer == "remember", kept, "{name}: {answer}");
        node.mcp("mcp-stop", &[name]).expect(0);
    }
    assert!(fs::read(&image.disk).unwrap() == before, "the image itself stays as it was");
    assert!(node.root.join("lib/disks/keeper/keeper/root.raw").exists());
    node.mcp("mcp-rm", &["keeper"]).expect(0);
    assert!(!node.root.join("lib/disks/keeper").exists());
}
