//! `mcp-health` on a real VM: what the port forward accepts is not what the guest accepts.
//!
//! The guest is a Nanos image of a few lines of C, built by `cc` and `ops` (MCP_TEST_OPS, MCP_TEST_OPS_HOME).

use crate::harness::{free_port, skip};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Boots in which no check may be healthy before the guest listens; `MCP_TEST_BOOTS` asks for more.
fn boots() -> usize {
    std::env::var("MCP_TEST_BOOTS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// Waits a while with its network up, says so, and only then listens.
const GUEST: &str = r#"
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    struct timespec pause = {0, 300000000};
    nanosleep(&pause, 0);
    int s = socket(AF_INET, SOCK_STREAM, 0), c;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8080)};
    bind(s, (void *)&a, sizeof a);
    printf("listens now\n");
    fflush(stdout);
    listen(s, 64);
    while ((c = accept(s, 0, 0)) >= 0) {
        char b[2048];
        if (read(c, b, sizeof b) > 0)
            write(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 38);
        close(c);
    }
}
"#;

/// A folder of one test, removed with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `mcp-run-vm` in the foreground, stopped with the test.
struct Vm(Child);

impl Drop for Vm {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn folder(name: &str) -> Folder {
    // Short: sockets are below it.
    let folder = std::env::temp_dir().join(format!("mh-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("folder");
    Folder(folder)
}

/// Builds the guest; `None`, said loudly, where `ops` is not there.
fn image(folder: &Path) -> Option<PathBuf> {
    let (Some(ops), Some(home)) = (std::env::var_os("MCP_TEST_OPS"), std::env::var_os("MCP_TEST_OPS_HOME")) else {
        skip("health_vm", "no ops: install it (https://ops.city), or set MCP_TEST_OPS and MCP_TEST_OPS_HOME");
        return None;
    };
    std::fs::write(folder.join("guest.c"), GUEST).expect("file");
    let built = Command::new("cc").args(["-static", "-o", "guest", "guest.c"]).current_dir(folder).status();
    assert!(built.is_ok_and(|s| s.success()), "cc");
    // Builds with one home trample on each other, and an image of ours shall not stay there.
    let private = folder.join("home");
    assert!(Command::new("cp").arg("-a").arg(&home).arg(&private).status().is_ok_and(|s| s.success()), "cp");
    for (file, text) in [("empty.json", "{}"), ("c.json", "{}")] {
        std::fs::write(folder.join(file), text).expect("file");
    }
    let output = Command::new(ops)
        .args(["build", "./guest", "-c", "c.json", "-i", "guest"])
        .env("OPS_HOME", &private)
        .env("OPS_DEFAULT_CONFIG", folder.join("empty.json"))
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("ops");
    let image = private.join(".ops/images/guest");
    assert!(image.exists(), "ops: {}", String::from_utf8_lossy(&output.stdout));
    Some(image)
}

fn start(root: &Path, image: &Path) -> Vm {
    let process = Command::new(env!("CARGO_BIN_EXE_mcp-run-vm"))
        .args(["--name", "demo", "--memory", "128", "--disk"])
        .arg(image)
        .arg("--port")
        .arg(format!("127.0.0.1:{}:8080", free_port()))
        .env("MCP_ROOT", root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mcp-run-vm");
    Vm(process)
}

fn health(root: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-health"))
        .args(arguments)
        .env("MCP_ROOT", root)
        .stdin(Stdio::null())
        .output()
        .expect("mcp-health");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn console(root: &Path) -> String {
    std::fs::read_to_string(root.join("log/demo/demo/console.log")).unwrap_or_default()
}

#[test]
fn health_vm_is_never_healthy_before_the_guest_listens() {
    let folder = folder("never");
    let Some(image) = image(&folder.0) else { return };
    let (mut silent, mut refused) = (0, 0);
    for boot in 0..boots() {
        let root = folder.0.join(format!("r{boot}"));
        let _vm = start(&root, &image);
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < end, "boot {boot}: not healthy in 30 s; console: {}", console(&root));
            // One by one, with every answer looked at; half of them look longer than a boot takes.
            let (code, out) = health(&root, &["--timeout", if boot % 2 == 0 { "80ms" } else { "2s" }, "demo"]);
            if code == Some(0) {
                // Its line came out before it listened.
                assert!(console(&root).contains("listens now"), "boot {boot}: healthy too early: {out}");
                break;
            }
            silent += usize::from(out.contains("but not by the guest: it does not answer on port 8080"));
            refused += usize::from(out.contains("but not by the guest: it refuses on port 8080"));
        }
    }
    assert!(silent > 0 && refused > 0, "neither silence ({silent}) nor refusals ({refused}) seen");
}

#[test]
fn health_vm_waits_for_what_does_not_run_yet_and_tells_a_paused_guest() {
    let folder = folder("wait");
    let Some(image) = image(&folder.0) else { return };
    let root = folder.0.join("r");
    // Known by a first run.
    drop({
        let vm = start(&root, &image);
        let end = Instant::now() + Duration::from_secs(30);
        while health(&root, &["--wait", "30s", "demo"]).0 != Some(0) {
            assert!(Instant::now() < end, "console: {}", console(&root));
        }
        vm
    });
    assert_eq!(health(&root, &["demo"]).0, Some(1));
    assert!(health(&root, &["demo"]).1.ends_with(": not running\n"));
    let waiting = std::thread::spawn({
        let root = root.clone();
        move || health(&root, &["--wait", "30s", "demo/demo"])
    });
    let _vm = start(&root, &image);
    let (code, out) = waiting.join().expect("thread");
    assert!(code == Some(0) && out.starts_with("demo/demo: healthy: tcp 127.0.0.1:"), "{code:?} {out}");
    let monitor = root.join("run/demo/demo/current/qmp.sock");
    let command = |name: &str| {
        let deadline = mcp::sys::Deadline::after(Duration::from_secs(10));
        let mut qmp = mcp::guest::monitor::qmp::Qmp::connect(&monitor, deadline).expect("monitor");
        qmp.execute(name, serde_json::Value::Null, deadline).expect("command");
    };
    command("stop");
    let (code, out) = health(&root, &["--timeout", "400ms", "demo"]);
    let words = "accepted by the port forward but not by the guest: it does not answer on port 8080 yet";
    assert!(code == Some(1) && out.contains(words), "{code:?} {out}");
    command("cont");
    assert_eq!(health(&root, &["--wait", "10s", "demo"]).0, Some(0));
}
