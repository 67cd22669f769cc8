//! What is special to the microvm: Linux boots in some four seconds, so each boot serves several checks.

use crate::harness::{Node, find, finish, free_port, get, get_within, leftovers, microvm, rootfs, skip, until, wait};
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A node with a kernel and a root file system, for one component on one port.
struct Bench {
    node: Node,
    rootfs: String,
    port: u16,
}

impl Bench {
    fn new(test: &str) -> Option<Bench> {
        let node = Node::new();
        if !microvm(test, &node) {
            return None;
        }
        Some(Bench { rootfs: rootfs(&node), node, port: free_port() })
    }

    fn args(&self, options: &[&str], program: &[&str]) -> Vec<String> {
        let forward = format!("{}:8080", self.port);
        let first = ["--name", "demo", "--rootfs", &self.rootfs, "--port", &forward, "--memory", "128"];
        let all = first.iter().chain(options).chain(&["--"]).chain(program);
        all.map(|a| a.to_string()).collect()
    }

    /// Starts it in the background; it is healthy when this returns.
    fn detach(&self, options: &[&str], program: &[&str]) {
        let args = self.args(&[&["--detach", "--wait"], options].concat(), program);
        self.node.mcp("mcp-run-vm", &args.iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
    }

    /// Runs it in the foreground to its end, which `end` brings about once it is healthy. Fails unless `code` is what
    /// mcp-run-vm exits with.
    fn run(&self, options: &[&str], program: &[&str], code: i32, end: impl FnOnce()) {
        let args = self.args(options, program);
        let began = Instant::now();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let child = self.node.command("mcp-run-vm", &args).spawn().unwrap();
        // What was never started is no target yet.
        until("known", || self.node.root.join("lib/registry/demo/demo.json").exists());
        self.node.mcp("mcp-health", &["-q", "--wait", "60s", "demo"]).expect(0);
        end();
        wait(child, "mcp-run-vm", began).expect(code);
    }

    #[track_caller]
    fn get(&self, path: &str) -> String {
        get_within(self.port, path, Duration::from_secs(20)).unwrap_or_else(|| panic!("no answer to {path}"))
    }

    /// The component's packed root disks.
    fn disks(&self) -> Vec<PathBuf> {
        find(&self.node.root.join("lib/microvm"), &|n| n.ends_with(".sqfs"))
    }
}

fn contains(file: &Path, needle: &str) -> bool {
    fs::read(file).unwrap_or_default().windows(needle.len()).any(|w| w == needle.as_bytes())
}

#[test]
fn what_it_is_given_and_the_exit_code_it_gives() {
    let Some(bench) = Bench::new("what_it_is_given") else { return };
    let secret = "hunter2-and-more";
    let env_file = bench.node.root.join("secret.env");
    fs::write(&env_file, format!("# a comment\nTOKEN={secret}\nNAME=file\n")).unwrap();
    let options = ["--env", "NAME=option", "--env", "GREETING=a=b c", "--env-file", env_file.to_str().unwrap()];
    let options = [&options[..], &["--egress", "none"]].concat();
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    // More than 127, which isa-debug-exit could not tell apart.
    bench.run(&options, &["/hello"], 200, || {
        let env = bench.get("/env");
        for line in [&format!("TOKEN={secret}"), "NAME=file", "GREETING=a=b c", "HOSTNAME=demo", "HOME=/root"] {
            assert!(env.lines().any(|l| l == line), "{line} is not in {env}");
        }
        assert_eq!((bench.get("/cwd").as_str(), bench.get("/args").as_str()), ("/\n", "/hello\n"));
        assert!(bench.get("/").contains("hello file, this is demo"));
        let qemu = bench.node.qemu("demo/demo");
        for file in ["cmdline", "environ"] {
            assert!(!contains(&PathBuf::from(format!("/proc/{qemu}/{file}")), secret), "secret in {file}");
        }
        let told = bench.node.mcp("mcp-status", &["-v", "demo"]).expect(0);
        assert!(!told.out.contains(secret) && told.out.contains("demo"), "{told:#?}");
        for file in find(&bench.node.root, &|n| n != "secret.env") {
            assert!(file.is_symlink() || !contains(&file, secret), "secret in {}", file.display());
        }
        let answer = get(bench.port, &format!("/connect?to=10.0.2.2:{}", outside.local_addr().unwrap().port()));
        assert_ne!(answer.as_deref(), Some("connected\n"));
        assert_eq!(outside.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        bench.get("/exit?code=200");
    });
    let end = bench.node.state("demo/demo")["end"].clone();
    assert_eq!((end["by"].as_str(), end["code"].as_u64()), (Some("guest"), Some(200)));
    assert_eq!(end["reason"], "program exited with 200");
}

#[test]
fn volumes_last_and_an_ephemeral_root_does_not() {
    let Some(bench) = Bench::new("volumes_last") else { return };
    let options = ["--volume", "data:/srv/data:32M"];
    bench.detach(&options, &["/hello"]);
    bench.get("/write?path=/srv/data/x&text=kept");
    bench.get("/write?path=/y&text=lost");
    assert_eq!(bench.get("/read?path=/y"), "lost");
    let stopped = bench.node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("stopped: powerdown"), "{stopped:#?}");
    let disks = bench.disks();
    assert_eq!(disks.len(), 1);
    let packed = fs::metadata(&disks[0]).unwrap().modified().unwrap();
    bench.run(&options, &["/hello"], 139, || {
        assert_eq!(bench.get("/read?path=/srv/data/x"), "kept");
        assert!(bench.get("/read?path=/y").contains("No such file"));
        bench.get("/crash?signal=segv");
    });
    let end = bench.node.state("demo/demo")["end"].clone();
    assert_eq!((end["by"].as_str(), end["signal"].as_i64(), end["code"].as_u64()), (Some("guest"), Some(11), None));
    assert_eq!(bench.disks(), disks);
    assert_eq!(fs::metadata(&disks[0]).unwrap().modified().unwrap(), packed, "packed again though nothing changed");
    let kept = bench.node.mcp("mcp-rm", &["demo"]).expect(0);
    assert!(kept.err.contains("data.raw"), "{kept:#?}");
}

#[test]
fn a_persistent_root_lasts_and_the_power_button_is_answered() {
    let Some(bench) = Bench::new("a_persistent_root") else { return };
    let options = ["--persistent", "--stop-timeout", "10s"];
    bench.detach(&options, &["/hello", "--graceful"]);
    bench.get("/write?path=/y&text=kept");
    let stopped = bench.node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("stopped: powerdown"), "{stopped:#?}");
    let end = bench.node.state("demo/demo")["end"].clone();
    assert_eq!((end["by"].as_str(), end["code"].as_u64(), end["signal"].as_i64()), (Some("operator"), Some(0), None));
    assert!(bench.node.console("demo").contains("hello: stopping"));
    let before = bench.disks();
    fs::write(Path::new(&bench.rootfs).join("etc/new"), "new").unwrap();
    bench.detach(&["--persistent", "--stop-timeout", "1s"], &["/hello", "--ignore-term"]);
    assert_eq!((bench.get("/read?path=/y"), bench.get("/read?path=/etc/new")), ("kept".into(), "new".into()));
    let after = bench.disks();
    assert!(after.len() == 1 && after != before, "not packed anew: {before:?} {after:?}");
    let stopped = bench.node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("stopped: quit"), "{stopped:#?}");
}

#[test]
fn no_such_program_is_told() {
    let Some(bench) = Bench::new("no_such_program") else { return };
    let args = bench.args(&[], &["/helo", "x"]);
    let answer = bench.node.mcp("mcp-run-vm", &args.iter().map(String::as_str).collect::<Vec<_>>()).expect(127);
    let told = "demo/demo: guest init: /helo: no such program in the guest; the last lines of its console:\n";
    assert!(answer.err.contains(told), "{answer:#?}");
    let end = bench.node.state("demo/demo")["end"].clone();
    assert_eq!((end["by"].as_str(), end["code"].as_u64()), (Some("guest"), Some(127)));
    assert_eq!(end["reason"], "guest init: /helo: no such program in the guest");
}

#[test]
fn adopted_it_still_tells_its_exit_code() {
    let Some(bench) = Bench::new("adopted") else { return };
    bench.detach(&[], &["/hello"]);
    let (supervisor, qemu) = (bench.node.supervisor("demo/demo"), bench.node.qemu("demo/demo"));
    // SAFETY: a plain system call.
    assert!(supervisor > 0 && unsafe { libc::kill(supervisor, libc::SIGKILL) } == 0);
    until("unsupervised", || bench.node.mcp("mcp-status", &["demo"]).out.contains("unsupervised"));
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    bench.run(&[], &["/hello"], 42, || {
        until("adopted", || ![0, supervisor].contains(&bench.node.supervisor("demo/demo")));
        assert_eq!(bench.node.qemu("demo/demo"), qemu);
        let to = outside.local_addr().unwrap().port();
        assert_eq!(bench.get(&format!("/connect?to=10.0.2.2:{to}")), "connected\n");
        bench.get("/exit?code=42");
    });
    let end = bench.node.state("demo/demo")["end"].clone();
    assert_eq!((end["by"].as_str(), end["code"].as_u64()), (Some("guest"), Some(42)));
}

#[test]
fn the_guest_kernel_is_laid_down_once() {
    let test = "the_guest_kernel_is_laid_down_once";
    let node = Node::new();
    let Some(kernel) = std::env::var_os("MCP_TEST_KERNEL").map(PathBuf::from).filter(|p| p.is_symlink()) else {
        return skip(test, "no guest kernel: set MCP_TEST_KERNEL to what get-guest-kernel laid down");
    };
    let get_kernel = || {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/get-guest-kernel"));
        command.arg(node.root.join("kernel")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, "get-guest-kernel")
    };
    // What was laid down before, under another name, so that most often nothing has to be downloaded.
    let copied = Command::new("cp").arg("-RH").arg(&kernel).arg(node.root.join("kernel.copy")).status().unwrap();
    assert!(copied.success());
    std::os::unix::fs::symlink("kernel.copy", node.root.join("kernel")).unwrap();
    let first = get_kernel();
    if first.code != Some(0) {
        return skip(test, first.err.trim());
    }
    let second = get_kernel().expect(0);
    assert!(second.out.contains("nothing to do"), "{second:#?}");
    assert!(node.root.join("kernel/modules").is_dir());
}

#[test]
fn modules_of_a_guest_kernel_are_unpacked_whatever_compressed_them() {
    let test = "modules_of_a_guest_kernel_are_unpacked";
    if !nix::unistd::geteuid().is_root() {
        return skip(test, "a kernel of this machine's own needs root");
    }
    let node = Node::new();
    // A kernel that stands in for the one of this machine, each of its modules compressed in another way.
    let script = r#"
        release=$(uname -r)
        mkdir -p /boot /lib/modules
        mount -t tmpfs t /boot && mount -t tmpfs t /lib/modules
        head -c 4096 /dev/zero >/boot/vmlinuz-$release
        mkdir /lib/modules/$release && cd /lib/modules/$release
        module() { printf '\0name=%s\0depends=\0' "$1"; }
        module virtio-blk >virtio_blk.ko
        module virtio-net | xz >virtio_net.ko.xz
        module ext4 | zstd -q >ext4.ko.zst
        module squashfs | gzip >squashfs.ko.gz
    "#;
    let run = |more: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &format!("{script}\n{more} \"$@\""), "sh"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/get-guest-kernel"));
        command.arg("--own").arg(node.root.join("kernel"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, "get-guest-kernel --own")
    };
    run("").expect(0);
    for (file, name) in
        [("virtio_blk", "virtio-blk"), ("virtio_net", "virtio-net"), ("ext4", "ext4"), ("squashfs", "squashfs")]
    {
        let module = fs::read(node.root.join(format!("kernel/modules/{file}.ko"))).unwrap();
        assert_eq!(module, format!("\0name={name}\0depends=\0").into_bytes());
    }
    // Without zstd the kernel that is there stays.
    fs::write(node.root.join("kernel/version"), "another").unwrap();
    let hidden = "mount --bind /dev/null $(command -v zstd);";
    let refused = run(hidden).expect(100);
    assert!(refused.err.contains("run apt-get install zstd"), "{refused:#?}");
    assert!(node.root.join("kernel/modules/ext4.ko").is_file());
    assert_eq!(leftovers(&node.root), Vec::<String>::new());
}

#[test]
fn killed_while_it_packs_it_leaves_nothing_that_stays() {
    let Some(bench) = Bench::new("killed_while_it_packs") else { return };
    // Nothing that could be packed well: it takes a second.
    let mut random = fs::File::open("/dev/urandom").unwrap().take(96 << 20);
    let mut large = fs::File::create(Path::new(&bench.rootfs).join("large")).unwrap();
    std::io::copy(&mut random, &mut large).unwrap();
    let args = bench.args(&[], &["/hello"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let half_made = || find(&bench.node.root.join("lib"), &|n| n.ends_with(".tmp"));
    let mut child = bench.node.command("mcp-run-vm", &args).spawn().unwrap();
    until("packing", || !half_made().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    // Tar and tar2sqfs end with it.
    until("all ended", || bench.node.processes().is_empty());
    assert!(bench.disks().is_empty());
    // The next call clears away what is left, also one that gets no further.
    let taken = TcpListener::bind(("127.0.0.1", bench.port)).unwrap();
    let answer = bench.node.mcp("mcp-run-vm", &args).expect(111);
    assert!(answer.one_line().contains("taken by another program"), "{answer:#?}");
    drop(taken);
    assert_eq!((half_made(), leftovers(&bench.node.root)), (vec![], vec![]));
}

#[test]
fn a_volume_grows_at_the_next_start_and_never_shrinks() {
    let node = Node::new();
    if !microvm("a_volume_grows_at_the_next_start", &node) {
        return;
    }
    let rootfs = rootfs(&node);
    fs::copy("/bin/busybox", Path::new(&rootfs).join("busybox")).unwrap();
    let define = |size: &str| {
        let script = "/busybox df -k /data; echo kept >>/data/file; /busybox cat /data/file";
        let text = format!(
            "name = \"shop\"\n[[components]]\nname = \"web\"\nruntime = \"microvm\"\nrootfs = \"{rootfs}\"\nmemory_mb = 128\n\
             args = [\"/busybox\", \"sh\", \"-c\", {script:?}]\nvolumes = [\"data:/data:{size}\"]\n"
        );
        node.define("shop", &text);
    };
    // What `df` says it has, and how often it was started with it.
    let run = |size: &str| {
        define(size);
        node.mcp("mcp-run", &["shop"]).expect(0);
        let console = node.console("shop/web");
        let df = console.lines().rev().find(|line| line.ends_with(" /data")).unwrap().to_string();
        let blocks: u64 = df.split_whitespace().nth(1).unwrap().parse().unwrap();
        (blocks, console.lines().rev().take_while(|line| line.trim() == "kept").count())
    };
    let (small, _) = run("16M");
    assert!(small < 16 << 10, "{small}");
    let (grown, times) = run("200M");
    assert!(grown > 150 << 10 && times == 2, "{grown} KiB, {times}");
    // What was written stays as large, and a deploy of less is refused.
    assert_eq!(run("16M").0, grown);
    let answer = node.mcp("mcp-record", &["--new", "shop"]).expect(100);
    assert!(answer.err.contains("shop/web: volume data: has 200M, and can't shrink to 16M; "), "{answer:#?}");
}
