//! `mcp-status --doctor`, on nodes from which something was really taken away.

use crate::harness::podman::own_mounts;
use crate::harness::{FakePodman, Node, finish, free_port, nanos, skip, until};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// One finding: its grade, what it says, what to do.
fn finding(told: &Value, id: &str, subject: &str) -> (String, String, String) {
    let all = told["findings"].as_array().unwrap();
    let has = |f: &&Value| f["id"] == id && f["subject"].as_str().unwrap().contains(subject);
    let found = all.iter().find(has).unwrap_or_else(|| panic!("no {id} {subject}: {told:#}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_string();
    (text("grade"), text("text"), text("way_out"))
}

/// What is found, with the exit code held against the grades.
fn ask(command: Command) -> Value {
    let answer = finish(command, "mcp-status --doctor --json");
    let told: Value = serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:#?}"));
    let failed = told["findings"].as_array().unwrap().iter().any(|f| f["grade"] == "fail");
    assert_eq!((answer.code, told["ok"].as_bool()), (Some(failed.into()), Some(!failed)), "{answer:#?}");
    assert_eq!((answer.err.as_str(), &told["schema"]), ("", &Value::from(1)));
    told
}

fn doctor(node: &Node) -> Value {
    ask(node.command("mcp-status", &["--doctor", "--json"]))
}

/// Holds one finding against its grade and words in it.
#[track_caller]
fn finds(told: &Value, id: &str, subject: &str, grade: &str, words: &str) {
    let (found, text, way_out) = finding(told, id, subject);
    let all = format!("{text}; {way_out}");
    assert!(found == grade && all.contains(words), "wanted {grade} with {words:?}: {id} {subject} {found}: {all}");
}

fn unikernel(port: u16, more: &str) -> String {
    format!(
        "name = \"demo\"\n{more}\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"/no/disk\"\n\
         ports = [\"127.0.0.1:{port}:80\"]\n"
    )
}

#[test]
fn doctor_counts_what_supervisors_watch() {
    let node = Node::new();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    node.define("demo", &unikernel(free_port(), ""));
    let told = doctor(&node);
    assert!(told["findings"].as_array().unwrap().iter().all(|f| f["id"] != "inotify"), "{told:#}");
    for service in 0..limit.div_ceil(64) {
        let component = |i| format!("[[components]]\nname = \"c{i}\"\nruntime = \"unikernel\"\ndisk = \"/no/disk\"\n");
        let all: String = (0..64).map(component).collect();
        node.define(&format!("s{service}"), &format!("name = \"s{service}\"\n{all}"));
    }
    finds(&doctor(&node), "inotify", "inotify", "note", &format!("a user may have {limit}"));
}

#[test]
fn doctor_of_a_node_with_nothing() {
    let node = Node::new();
    let _ = fs::remove_dir_all(node.root.join("podman"));
    let before = crate::harness::find(&node.root, &|_| true);
    let answer = node.mcp("mcp-status", &["--doctor"]).expect(0);
    assert!(answer.took < Duration::from_secs(3), "{answer:#?}");
    assert!(answer.out.lines().all(|l| l.starts_with("ok    ") || l.starts_with("note  ")), "{answer:#?}");
    assert!(
        answer.out.contains("definitions: none: this node is not asked to do anything; write one to "),
        "{answer:#?}"
    );
    assert_eq!(crate::harness::find(&node.root, &|_| true), before, "it wrote something");
    for dir in ["lib", "run", "log"] {
        assert!(!node.root.join(dir).exists());
        finds(&doctor(&node), dir, dir, "ok", "not there yet, and can be made");
    }
    node.mcp("mcp-status", &["--doctor", "demo"]).expect(2);
    node.mcp("mcp-status", &["--doctor", "--list"]).expect(2);
}

#[test]
fn doctor_as_an_ordinary_user() {
    if !nix::unistd::geteuid().is_root() {
        return skip("doctor_as_an_ordinary_user", "to become another user wants root");
    }
    let node = Node::new();
    // Where every user may read it.
    let program = node.root.join("mcp-status");
    crate::harness::copy_to_run(crate::harness::program("mcp-status"), &program);
    let as_user = |root: Option<&Path>| {
        let mut command = Command::new(&program);
        let mut ours = node.command("mcp-status", &["--doctor", "--json"]);
        ours.env_remove("MCP_ROOT").env_remove("XDG_RUNTIME_DIR");
        command.args(ours.get_args()).uid(65534).gid(65534).env_remove("MCP_ROOT").env_remove("XDG_RUNTIME_DIR");
        root.map(|root| command.env("MCP_ROOT", root));
        command.env("HOME", "/tmp").current_dir("/").stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        ask(command)
    };
    finds(&as_user(None), "directories", "XDG_RUNTIME_DIR", "fail", "not set; set it, or name a folder with --root");
    node.define("demo", &unikernel(81, "").replace("127.0.0.1:81:80", "127.0.0.1:80:80"));
    let told = as_user(Some(&node.root));
    finds(&told, "user", "user", "note", "not root: QEMU runs as user 65534 too");
    finds(&told, "lib", "lib", "fail", "user 65534 can't make it in");
    let first: u16 =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    if first > 80 {
        finds(&told, "ports", "127.0.0.1:80/tcp", "fail", "a port below 1024 needs root or CAP_NET_BIND_SERVICE");
    }
}

#[test]
fn doctor_finds_the_firewall_that_netavark_uses() {
    let test = "doctor_finds_the_firewall_that_netavark_uses";
    let netavark = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"];
    let Some(netavark) = netavark.into_iter().find(|path| Path::new(path).is_file()) else {
        return skip(test, "no netavark: apt-get install netavark");
    };
    if !nix::unistd::geteuid().is_root() {
        return skip(test, "to hide a program needs root");
    }
    let version = Command::new(netavark).arg("version").output().unwrap().stdout;
    let version: Value = serde_json::from_slice(&version).unwrap();
    let (program, package) = match version["default_fw_driver"].as_str() {
        Some("nftables") => ("/usr/sbin/nft", "nftables"),
        _ => ("/usr/sbin/iptables", "iptables"),
    };
    let node = Node::new();
    let text = "name = \"x\"\n[[components]]\nname = \"x\"\nimage = \"localhost/x:1\"\n";
    node.define("x", text);
    own_mounts();
    finds(&doctor(&node), "firewall", "firewall", "ok", program);
    let none: Option<&str> = None;
    nix::mount::mount(Some("/dev/null"), program, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
    let remedy = format!("not found, and x/x needs it; apt install {package}");
    finds(&doctor(&node), "firewall", Path::new(program).file_name().unwrap().to_str().unwrap(), "fail", &remedy);
    // The node's own network needs no rule.
    node.define("x", &format!("{text}network = \"host\"\n"));
    let told = doctor(&node);
    assert!(told["findings"].as_array().unwrap().iter().all(|f| f["id"] != "firewall"), "{told:#}");
    nix::mount::umount2(program, nix::mount::MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn doctor_of_programs() {
    let node = Node::new();
    let without = |more: &str| {
        node.define("demo", &unikernel(81, more));
        let mut command = node.command("mcp-status", &["--doctor", "--json"]);
        ask({
            command.env("PATH", "/nowhere");
            command
        })
    };
    finds(
        &without(""),
        "qemu",
        "qemu",
        "fail",
        "not found, and demo/web needs it; install it (Debian: apt install qemu",
    );
    // What need not run needs nothing.
    finds(&without("active = false"), "qemu", "qemu", "note", "no component that shall run needs it");
    // Programs that are not what they should be.
    node.define("demo", &unikernel(81, ""));
    let fake = node.root.join("qemu");
    for (script, id, words) in [
        ("echo 'QEMU emulator version 4.2.1 (Debian)'", "qemu", "is 4.2.1, and 6.0 or later is needed"),
        ("[ \"$1\" = -version ] && echo 'QEMU emulator version 8.0.0'", "qemu-sandbox", "built without seccomp"),
        ("echo hello", "qemu", "does not tell its version"),
        // From a slow disk: the next question would be answered at once.
        ("[ \"$1\" = -version ] || exec sleep 60; echo 'QEMU emulator version 8.0.0'", "qemu", "took too long"),
    ] {
        fs::write(&fake, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        node.configure(&format!("[qemu]\nbinary = \"{}\"\naccel = \"tcg\"\n", fake.display()));
        let told = doctor(&node);
        finds(&told, id, "qemu", "fail", words);
        finds(&told, "kvm", "kvm", "ok", "mcp.toml says accel");
    }
    let image = "name = \"x\"\n[[components]]\nname = \"x\"\nimage = \"localhost/x:1\"\n";
    node.define("x", image);
    node.define("u", &image.replace("\"x\"", "\"u\"").replace("image", "runtime = \"unikernel\"\nimage"));
    node.define("m", &image.replace("\"x\"", "\"m\"").replace("image", "runtime = \"microvm\"\nimage"));
    node.configure("[podman]\nbinary = \"/no/podman\"\n[ops]\nbinary = \"/no/ops\"\n");
    let told = doctor(&node);
    finds(&told, "podman", "/no/podman", "fail", "not found, and x/x needs it; [podman] binary in mcp.toml names it");
    finds(&told, "ops", "/no/ops", "fail", "no such program, and u/u needs it; install it (https://ops.city)");
    finds(&told, "ops", "/no/ops", "fail", "runtime = \"microvm\" would run it without");
    finds(&told, "guest-kernel", "lib/kernel", "fail", "m/m needs it; run mcp-get-guest-kernel");
    for id in ["x/x", "u/u", "m/m"] {
        finds(&told, "record", id, "fail", "never deployed, so it can't be started; mcp deploy ");
    }
    let podman = FakePodman::new(&node);
    node.configure(&podman.config());
    for (mode, words) in
        [("old", "podman 2.2 is too old"), ("fails:ps", "Permission denied"), ("hang", "does not answer in time")]
    {
        podman.does(mode);
        finds(&doctor(&node), "podman", "podman", "fail", words);
    }
}

#[test]
fn doctor_of_ports() {
    let node = Node::new();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    node.define("demo", &unikernel(port, ""));
    let told = doctor(&node);
    let who = format!("taken by {} (pid {}), and demo/web wants it; stop that", comm(), std::process::id());
    finds(&told, "ports", &format!("127.0.0.1:{port}/tcp"), "fail", &who);
    drop(stranger);
    finds(&doctor(&node), "ports", "ports", "ok", "");
    // In a guest's reach, at another port than its own.
    let stranger = TcpListener::bind("0.0.0.0:0").unwrap();
    let told = doctor(&node);
    let (grade, text, way_out) = finding(&told, "egress", "egress");
    assert!(grade == "note" && way_out == "egress = \"none\" closes that", "{text}");
    assert!(text.contains("guests (demo/web) reach this node's loopback as 10.0.2.2, where others listen: "), "{text}");
    drop(stranger);
    node.define("demo", &(unikernel(port, "") + "egress = \"none\"\n"));
    assert!(!doctor(&node).to_string().contains("10.0.2.2"));
    node.define("demo", &unikernel(port, "").replace("127.0.0.1:", "192.0.2.7:"));
    finds(&doctor(&node), "ports", "192.0.2.7", "fail", "this node has no such address");
}

fn comm() -> String {
    fs::read_to_string("/proc/self/comm").unwrap().trim().to_string()
}

#[test]
fn doctor_of_folders() {
    let node = Node::new();
    let lib = node.root.join("lib");
    fs::create_dir(&lib).unwrap();
    let mode = |mode| fs::set_permissions(&lib, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o750);
    finds(&doctor(&node), "lib", "lib", "fail", "has mode 0750, so others can look into it; chmod 0700 ");
    mode(0o700);
    finds(&doctor(&node), "lib", "lib", "ok", "mode 0700, ours");
    fs::write(node.root.join("log"), "").unwrap();
    finds(&doctor(&node), "log", "log", "fail", "is not a directory");
    fs::remove_file(node.root.join("log")).unwrap();
    let long = node.root.join("x".repeat(90));
    fs::create_dir_all(long.join("etc/services")).unwrap();
    fs::write(long.join("etc/services/demo.toml"), unikernel(81, "")).unwrap();
    let told = ask(node.command("mcp-status", &["--doctor", "--json", "--root", long.to_str().unwrap()]));
    finds(&told, "sockets", "supervisor.sock", "fail", "a Unix socket's path can have 107; choose a shorter --root");
    if !nix::unistd::geteuid().is_root() {
        return skip("doctor_of_folders", "a full file system wants root");
    }
    own_mounts();
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let on = |flags, options: &str| mount(Some("t"), &lib, Some("tmpfs"), flags, Some(options)).unwrap();
    on(MsFlags::empty(), "size=40m,mode=700");
    finds(&doctor(&node), "room", "lib", "ok", "MiB free");
    fs::write(lib.join("filler"), vec![1; 30 << 20]).unwrap();
    finds(&doctor(&node), "room", "lib", "fail", "10 MiB free; make room; mcp-build --gc helps");
    on(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, "size=40m");
    finds(&doctor(&node), "room", "lib", "fail", "on a read-only file system");
    umount2(&lib, MntFlags::MNT_DETACH).unwrap();
    on(MsFlags::empty(), "size=99m,nr_inodes=20,mode=700");
    finds(&doctor(&node), "room", "lib", "fail", "inodes free");
    umount2(&lib, MntFlags::MNT_DETACH).unwrap();
    // Not ours.
    std::os::unix::fs::chown(&lib, Some(65534), None).unwrap();
    finds(&doctor(&node), "lib", "lib", "fail", "belongs to user 65534, and this is user 0; chown 0 ");
}

#[test]
fn doctor_of_definitions_and_inits() {
    let node = Node::new();
    node.define("bad", "name = \"bad\"\nactiv = true\n[[components]]\nname = \"a\"\nports = [\"x\"]\n");
    node.define("demo", &unikernel(81, ""));
    node.configure(
        "[[boot.sequence]]\nname = \"one\"\nservices = [\"nope\"]\n[boot]\ninit = \"systemd\"\n\
         start_command = [\"/no/systemctl\", \"start\"]\n",
    );
    let told = doctor(&node);
    finds(&told, "definitions", "bad.toml:2", "fail", "activ");
    finds(&told, "definitions", "bad.toml:5", "fail", "ports");
    finds(&told, "definitions", "mcp.toml:3", "fail", "no such service");
    finds(&told, "stages", "stages", "note", "no stage has demo, so mcp-boot does not start it");
    finds(&told, "init-command", "start_command", "fail", "/no/systemctl: no such program");
    finds(&told, "units", "units", "note", "mcp-units has written nothing for systemd");
    let systemd = Path::new("/run/systemd/system").is_dir();
    finds(&told, "init", "init", if systemd { "ok" } else { "fail" }, "mcp.toml says systemd");
}

#[test]
fn doctor_of_memory_clock_and_limits() {
    let node = Node::new();
    node.define("demo", &(unikernel(81, "") + "memory_mb = 1048576\n"));
    finds(&doctor(&node), "memory", "memory", "fail", "the VMs that shall run need 1048616 MiB, and this node has ");
    node.define("demo", &unikernel(81, ""));
    let mut command = node.command("mcp-status", &[]);
    let status = crate::harness::program("mcp-status");
    command = {
        let mut sh = Command::new("/bin/sh");
        sh.args(["-c", "ulimit -n 60; exec \"$0\" --doctor --json"]).arg(&status);
        sh.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
        sh.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        sh
    };
    finds(&ask(command), "open-files", "open files", "fail", "60 is the limit, and mcp-boot may want 68; raise it");
}

#[test]
fn doctor_of_what_runs() {
    let Some(image) = nanos("doctor_of_what_runs", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    let text = unikernel(port, "").replace(":80\"", ":8080\"").replace("/no/disk", &image.disk);
    node.define("demo", &(text + &format!("kernel = \"{}\"\nmemory_mb = 128\n", image.kernel)));
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    let told = doctor(&node);
    finds(&told, "ports", "ports", "ok", "");
    finds(&told, "memory", "memory", "ok", "the VMs that shall run need 168");
    assert!(!told.to_string().contains("nobody watches it"));
    let supervisor = node.supervisor("demo/web");
    // SAFETY: a plain system call.
    unsafe { libc::kill(supervisor, libc::SIGKILL) };
    let line = "demo/web: runs, and nobody watches it";
    until("the supervisor is gone", || doctor(&node).to_string().contains(line));
    finds(&doctor(&node), "unsupervised", "supervision", "note", "nobody watches it; mcp-run --all");
    node.mcp("mcp-stop", &["demo"]).expect(0);
    // A record of the future.
    let path = node.root.join("lib/registry/demo/web.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["wish"] = "run".into();
    record["current"]["at"] = "2226-01-01T00:00:00Z".into();
    fs::write(&path, record.to_string()).unwrap();
    finds(&doctor(&node), "clock", "clock", "fail", "something was deployed at 2226-01-01");
    fs::write(&path, "{").unwrap();
    finds(&doctor(&node), "record", "demo/web", "fail", "");
}
