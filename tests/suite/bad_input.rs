//! What bad input gets: an exit code, and one line with program, object, reason and the way out. Nothing is started
//! and nothing stays.

use crate::fake_qemu::disk;
use crate::harness::{Answer, Node, free_port, skip};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Runs `mcp-run-vm --name demo` with `args` and expects `code` and just `line`.
#[track_caller]
fn refused(node: &Node, args: &[&str], code: i32, line: &str) -> Answer {
    let answer = node.mcp("mcp-run-vm", &[&["--name", "demo"], args].concat());
    told(node, answer, code, line)
}

#[track_caller]
fn told(node: &Node, answer: Answer, code: i32, line: &str) -> Answer {
    let answer = answer.expect(code);
    assert_eq!(answer.one_line(), format!("mcp-run-vm: {line}"), "{answer:#?}");
    assert!(answer.out.is_empty(), "{answer:#?}");
    for dir in ["run/demo/demo/a", "run/demo/demo/lock", "lib/registry"] {
        assert!(!node.root.join(dir).exists(), "{dir} is there after {answer:#?}");
    }
    answer
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A file below the node's root with these bytes; its path.
fn file(node: &Node, name: &str, bytes: &[u8]) -> String {
    let path = node.root.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn no_qemu() {
    let node = Node::new();
    let disk = disk(&node);
    let line = |name: &str| {
        format!(
            "{name}: not found; install it (Debian: apt install qemu-system-x86) or name it as [qemu] binary in \
             mcp.toml"
        )
    };
    node.configure("[qemu]\nbinary = \"/nowhere/qemu\"\n");
    refused(&node, &["--disk", &disk], 100, &line("/nowhere/qemu"));
    node.configure("[qemu]\nbinary = \"qemu-system-none\"\n");
    refused(&node, &["--disk", &disk], 100, &line("qemu-system-none"));
    // Detached, the same line comes from the caller's own stderr.
    refused(&node, &["--disk", &disk, "--detach", "--wait"], 100, &line("qemu-system-none"));
    let text = file(&node, "text", b"no program");
    node.configure(&format!("[qemu]\nbinary = \"{text}\"\n"));
    let line = "not to be executed by the user that QEMU runs as; name another one as [qemu] binary in mcp.toml";
    refused(&node, &["--disk", &disk], 100, &format!("{text}: {line}"));
}

#[test]
fn kvm_that_is_not_there() {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = cpu.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    if flags.split(' ').any(|f| f == "vmx" || f == "svm") && std::path::Path::new("/dev/kvm").exists() {
        skip("kvm_that_is_not_there", "this machine has KVM");
        return;
    }
    let node = Node::new();
    node.configure("[qemu]\naccel = \"kvm\"\n");
    let answer = node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk(&node)]).expect(100);
    let line = answer.one_line();
    assert!(line.starts_with("mcp-run-vm: qemu.accel: kvm was asked for, but "), "{line}");
    assert!(line.ends_with("; set accel = \"auto\" or \"tcg\" in mcp.toml"), "{line}");
    let dry = node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk(&node), "--dry-run"]).expect(100);
    assert_eq!(dry.one_line(), line);
}

#[test]
fn images_that_are_none() {
    let node = Node::new();
    let root = node.root.display().to_string();
    let kernel = file(&node, "kernel", b"\x7fELF and so on");
    let mut boot = vec![0_u8; 4096];
    boot[510..512].copy_from_slice(&[0x55, 0xaa]);
    // One partition, of a megabyte.
    let mut partition = boot.clone();
    partition[446 + 4] = 0x83;
    partition[446 + 8] = 1;
    partition[446 + 12..446 + 16].copy_from_slice(&2048_u32.to_le_bytes());
    for (name, bytes, line) in [
        ("empty.img", &b""[..], "empty, so not a disk image; build it again"),
        (
            "odd.img",
            &boot[..1000],
            "truncated: 1000 bytes is not a whole number of 512-byte sectors; build or copy it again",
        ),
        (
            "cut.img",
            &partition[..],
            "truncated: a partition ends at byte 1049088, the file at 4096; build or copy it again",
        ),
        ("zero.img", &[0; 4096][..], "not a bootable raw disk image: no boot signature in its first sector"),
    ] {
        let path = file(&node, name, bytes);
        refused(&node, &["--disk", &path], 100, &format!("{path}: {line}"));
    }
    refused(&node, &["--disk", &root], 100, &format!("{root}: is a directory, not a disk image"));
    let gone = format!("{root}/gone.img");
    refused(&node, &["--disk", &gone], 100, &format!("{gone}: disk image missing: no such file"));
    // A persistent one is copied, but not before it was looked at.
    refused(&node, &["--disk", &gone, "--persistent"], 100, &format!("{gone}: disk image missing: no such file"));
    refused(&node, &["--disk", "/dev/null"], 100, "/dev/null: neither a file nor a block device, so not a disk image");
    let image = disk(&node);
    let text = file(&node, "text", b"no kernel");
    refused(
        &node,
        &["--disk", &image, "--kernel", &text],
        100,
        &format!("{text}: neither an ELF kernel nor a Linux bzImage"),
    );
    refused(&node, &["--kernel", &gone], 100, &format!("{gone}: kernel missing: no such file"));
    refused(&node, &["--kernel", &kernel, "--initrd", &gone], 100, &format!("{gone}: initrd missing: no such file"));
    refused(
        &node,
        &["--disk", &image, "--volume", "data:/srv"],
        100,
        &format!(
            "{root}/lib/volumes/demo/demo/data.raw: volume missing, and without it the guest would write into its \
             root disk; put the disk there (a Nanos volume is made by `ops volume create`)"
        ),
    );
}

/// Runs it as an unprivileged user, for whom not all is readable and not every port open.
fn as_nobody(test: &str, node: &Node, args: &[&str]) -> Option<Answer> {
    if !is_root() {
        return Some(node.mcp("mcp-run-vm", args));
    }
    // What is below the checkout may be out of that user's reach.
    let program = node.root.join("mcp-run-vm");
    crate::harness::copy_to_run(crate::harness::program("mcp-run-vm"), &program);
    for dir in [".", "etc", "lib", "run", "log"] {
        let dir = node.root.join(dir);
        fs::create_dir_all(&dir).unwrap();
        let _ = nix::unistd::chown(&dir, Some(65534.into()), Some(65534.into()));
    }
    for (path, mode) in [(&program, 0o755), (&node.root, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"]);
    command.arg(&program).args(args).env("MCP_ROOT", &node.root).env_remove("MCP_LOG");
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    if Command::new("setpriv").arg("--version").output().is_err() {
        skip(test, "no setpriv");
        return None;
    }
    Some(crate::harness::finish(command, &format!("as nobody: mcp-run-vm {}", args.join(" "))))
}

#[test]
fn what_an_ordinary_user_may_not() {
    let test = "what_an_ordinary_user_may_not";
    let node = Node::new();
    let image = disk(&node);
    let secret = file(&node, "secret.img", &fs::read(&image).unwrap());
    if is_root() {
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let Some(answer) = as_nobody(test, &node, &["--name", "demo", "--disk", &secret]) else { return };
        told(&node, answer, 100, &format!("open {secret}: Permission denied"));
    }
    let start: u16 = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(1024);
    if start <= 1 {
        skip(test, "every port is unprivileged here");
        return;
    }
    let args = ["--name", "demo", "--disk", &image, "--port", "127.0.0.1:1:8080", "--health", "none"];
    let Some(answer) = as_nobody(test, &node, &args) else { return };
    let line = "127.0.0.1:1/tcp: a port below 1024 needs root or CAP_NET_BIND_SERVICE; choose a higher host port";
    told(&node, answer, 100, line);
}

#[test]
fn ports_that_are_not_to_be_had() {
    let node = Node::new();
    let image = disk(&node);
    let port = free_port();
    let strangers = (TcpListener::bind(("127.0.0.1", port)).unwrap(), UdpSocket::bind(("127.0.0.1", port)).unwrap());
    for protocol in ["tcp", "udp"] {
        let forward = format!("{port}:8080/{protocol}");
        let line =
            format!("127.0.0.1:{port}/{protocol}: taken by another program; stop that or choose another host port");
        refused(&node, &["--disk", &image, "--port", &forward], 111, &line);
        // One that listens on all addresses has it, too.
        let everywhere = format!("0.0.0.0:{port}:8080/{protocol}");
        let line = line.replace("127.0.0.1:", "0.0.0.0:");
        refused(&node, &["--disk", &image, "--port", &everywhere], 111, &line);
    }
    drop(strangers);
    refused(
        &node,
        &["--disk", &image, "--port", "192.0.2.1:8080:8080"],
        100,
        "192.0.2.1:8080/tcp: this node has no such address; choose one of its own, or 0.0.0.0",
    );
    refused(
        &node,
        &["--disk", &image, "--port", "[::1]:8080:8080"],
        2,
        "--port [::1]:8080:8080: a VM's port is bound to an IPv4 address; IPv6 is for containers",
    );
    let twice = [format!("{port}:8080"), format!("0.0.0.0:{port}:8081")];
    let answer = node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &image, "-p", &twice[0], "-p", &twice[1]]);
    let line = format!("--port 0.0.0.0:{port}:8081: clashes with 127.0.0.1:{port}:8080");
    told(&node, answer, 2, &line);
}

#[test]
fn a_port_that_two_want_at_once_goes_to_one() {
    let node = Node::new();
    let image = disk(&node);
    let forward = format!("{}:8080", free_port());
    let start = |name: &str| {
        let args = [
            "--name",
            name,
            "--disk",
            &image,
            "--port",
            &forward,
            "--health",
            "none",
            "--detach",
            "--stop-timeout",
            "100ms",
        ];
        node.command("mcp-run-vm", &args).spawn().unwrap()
    };
    for _ in 0..5 {
        let began = std::time::Instant::now();
        let children = ["one", "two", "three"].map(|name| (name, start(name)));
        let answers = children.map(|(name, child)| crate::harness::wait(child, name, began));
        let mut codes = answers.each_ref().map(|a| a.code.unwrap());
        codes.sort_unstable();
        assert_eq!(codes, [0, 111, 111], "{answers:#?}");
        for answer in answers.iter().filter(|a| a.code == Some(111)) {
            assert!(answer.one_line().contains("/tcp: taken by "), "{answer:#?}");
        }
        // The next one is told who has it.
        let args = ["--name", "four", "--disk", &image, "--port", &forward, "--health", "none"];
        let late = node.mcp("mcp-run-vm", &args).expect(111);
        let winner = answers.iter().find(|a| a.code == Some(0)).unwrap();
        assert!(late.one_line().contains(&format!("taken by {0}/{0};", winner.call)), "{late:#?}");
        node.mcp("mcp-stop", &["--all"]);
    }
}

#[test]
fn more_memory_than_there_is() {
    let node = Node::new();
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024;
    let line = format!("demo/demo: memory_mb: 16000000 MiB and QEMU's 40 are more than this node has ({total} MiB)");
    refused(&node, &["--disk", &disk(&node), "--memory", "16000000"], 100, &line);
}

#[test]
fn a_root_that_is_too_long() {
    let node = Node::new();
    let long = node.root.join("x".repeat(100));
    let long = long.to_str().unwrap();
    let socket = format!("{long}/run/demo/demo/b/supervisor.sock");
    let line =
        format!("{socket}: {} bytes, and a Unix socket's path can have 107; choose a shorter --root", socket.len());
    refused(&node, &["--disk", &disk(&node), "--root", long], 100, &line);
    assert!(!node.root.join("x".repeat(100)).exists());
}

#[test]
fn command_lines() {
    let node = Node::new();
    let image = disk(&node);
    for (args, line) in [
        (&["--disk", "x", "--stop-timeout", "35"][..], "invalid value '35' for '--stop-timeout <TIME>': "),
        (&["--disk", "x", "--port", "80"], "invalid value '80' for '--port <PORT>': "),
        (&["--disk", "x", "--memory", "lots"], "invalid value 'lots' for '--memory <MIB>': "),
        (&["--disk", "x", "--memory", "1"], "--vcpus must be 1 to 255, --memory 8 or more MiB"),
        (&["--disk", "x", "--volume", "data:/srv:10X"], "invalid value 'data:/srv:10X' for '--volume <VOLUME>': "),
        (&[], "--name wants --image, --disk, --kernel or --rootfs besides"),
        (&["--disk", "x", "--name", "Demo"], "the argument '--name <NAME>' cannot be used multiple times"),
    ] {
        let answer = node.mcp("mcp-run-vm", &[&["--name", "demo"], args].concat()).expect(2);
        assert!(answer.one_line().starts_with(&format!("mcp-run-vm: {line}")), "{answer:#?}");
    }
    let answer = node.mcp("mcp-run-vm", &["--name", "Demo", "--disk", "x"]).expect(2);
    let line = "mcp-run-vm: --name \"Demo\": must be 1 to 32 of a-z, 0-9 and inner '-'";
    assert_eq!(answer.one_line(), line);
    refused(&node, &["--disk", &image, "--notify-fd", "77"], 2, "--notify-fd 77: no such descriptor is open");
    refused(
        &node,
        &["--disk", &image, "--ready", "healthy"],
        100,
        "demo/demo: --ready healthy: no health check is known; it has no tcp port",
    );
    assert!(!node.run_dir("demo/demo/a").exists());
}

#[test]
fn targets_and_definitions() {
    let node = Node::new();
    let unknown = node.mcp("mcp-run-vm", &["shop"]).expect(100);
    assert!(unknown.one_line().starts_with("mcp-run-vm: shop: "), "{unknown:#?}");
    node.define(
        "shop",
        "name = \"shop\"\n[[components]]\nname = \"api\"\nruntime = \"container\"\nimage = \"localhost/y:1\"\n",
    );
    for (called, program) in [("mcp-run-vm", "mcp-run-vm"), ("mcp-run", "mcp-run-container")] {
        let container = node.mcp(called, &["shop"]).expect(100);
        let line = format!("{program}: shop/api: never deployed: mcp deploy shop/api");
        assert_eq!(container.one_line(), line);
    }
    let misspelt = node.mcp("mcp-run-vm", &["shop/apl"]).expect(100);
    assert!(misspelt.one_line().contains("shop/apl") && misspelt.err.contains("api"), "{misspelt:#?}");
    let secret = node.root.join("secret.env");
    node.define(
        "web",
        &format!(
            "name = \"web\"\n[[components]]\nname = \"web\"\nruntime = \"microvm\"\nrootfs = \"{}\"\n\
             args = [\"/hello\"]\nenv_file = \"{}\"\n",
            node.root.display(),
            secret.display()
        ),
    );
    if crate::harness::microvm("targets_and_definitions", &node) {
        let answer = node.mcp("mcp-run-vm", &["web"]).expect(100);
        let line = format!("mcp-run-vm: {}: env_file missing: no such file", secret.display());
        assert_eq!(answer.one_line(), line);
        fs::write(&secret, "GOOD=1\npassword is hunter2\n").unwrap();
        let answer = node.mcp("mcp-run-vm", &["web"]).expect(100);
        assert_eq!(answer.one_line(), format!("mcp-run-vm: {}:2: not NAME=value", secret.display()));
        assert!(!node.run_dir("web/web/a").exists());
    }
}

#[test]
fn ten_mistakes_are_ten_lines() {
    let node = Node::new();
    node.define(
        "shop",
        "name = \"other\"\nactve = true\n\n[[components]]\nname = \"api\"\nruntime = \"unikernel\"\ndisk = 7\n\
         memory_mb = \"256\"\nvcpus = 0\nports = [\"8080\"]\nstop_timeout = \"0s\"\nstart_timeout = \"soon\"\n\
         egress = \"some\"\nnetwork = \"host\"\n",
    );
    // Another file with a mistake, and a good one, neither of which is in the way.
    node.define("web", "nam = \"web\"\n");
    let answer = node.mcp("mcp-run-vm", &["shop"]).expect(100);
    let lines: Vec<&str> = answer.err.lines().collect();
    assert_eq!(lines.len(), 10, "{answer:#?}");
    let file = node.root.join("etc/services/shop.toml");
    for (line, number) in lines.iter().zip([1, 2, 7, 8, 9, 10, 11, 12, 13, 14]) {
        assert!(line.starts_with(&format!("mcp-run-vm: {}:{number}: ", file.display())), "{line}");
    }
}

#[test]
fn a_node_config_with_mistakes() {
    let node = Node::new();
    node.configure("[qemu]\naccel = \"fast\"\nbinry = \"x\"\n[log]\nmax_size = \"10MB\"\n");
    let answer = node.mcp("mcp-run-vm", &["--name", "demo", "--disk", &disk(&node)]).expect(100);
    let file = node.root.join("etc/mcp.toml").display().to_string();
    let lines: Vec<&str> = answer.err.lines().collect();
    assert_eq!(lines.len(), 3, "{answer:#?}");
    for (line, number) in lines.iter().zip([2, 3, 5]) {
        assert!(line.starts_with(&format!("mcp-run-vm: {file}:{number}: ")), "{line}");
    }
}
