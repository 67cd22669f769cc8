//! A gRPC server inside a VM: grpc-go's, static, as a unikernel and in a microvm.

use super::servers::go_server;
use crate::harness::{Node, free_port, image_of, microvm, until};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const LISTEN: [&str; 3] = ["-addr", ":50051", "-stay"];

/// What a check may say of a VM whose guest does not serve yet. `unproven`: its monitor was busy, or just coming up.
/// `timed-out`: it listens, and is slow on an emulated CPU that others want too.
const NOT_YET: [&str; 5] = ["guest-silent", "guest-refuses", "not-running", "unproven", "timed-out"];

/// Starts `demo`, asks it from the first moment on, and whatever else there is to ask.
fn serve(node: &Node, port: u16, run: &[&str], program: &[&str]) {
    let forward = format!("{port}:50051");
    let health = ["--memory", "256", "--port", &forward, "--health", "grpc", "--health-service", "up"];
    let args = [&["--detach", "--ready", "started", "--name", "demo"], run, &health, program].concat();
    node.mcp("mcp-run-vm", &args).expect(0);
    let limit = Instant::now() + Duration::from_secs(120);
    let mut seen = Vec::new();
    loop {
        let answer = node.mcp("mcp-health", &["--json", "demo"]);
        let said: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
        let target = &said["targets"][0];
        assert_eq!(target["check"], format!("grpc 127.0.0.1:{port}/up"));
        if target["healthy"] == true {
            assert_eq!(target["detail"], format!("grpc 127.0.0.1:{port}/up SERVING"));
            break;
        }
        let reason = target["reason"].as_str().unwrap().to_string();
        assert!(NOT_YET.contains(&reason.as_str()), "{target}");
        assert!(Instant::now() < limit, "{seen:?} {}", node.console("demo"));
        seen.push(reason);
    }
    // The forward accepted long before the guest did.
    assert!(seen.iter().any(|r| r.starts_with("guest-") || r == "unproven"), "{seen:?}");
    let answer =
        node.mcp("mcp-health", &["--wait", "60s", "--authority", "me", "--header", "x-y: z", "demo"]).expect(0);
    assert!(answer.out.starts_with(&format!("demo/demo: healthy: grpc 127.0.0.1:{port}/up SERVING (")), "{answer:?}");
    let called = node.console("demo");
    assert!(called.contains("\":authority\":[\"me\"]") && called.contains("\"x-y\":[\"z\"]"), "{called}");
    let answer = node.mcp("mcp-health", &["--timeout", "20s", &format!("grpc://127.0.0.1:{port}/down")]).expect(1);
    assert!(answer.out.ends_with(": NOT_SERVING\n"), "{answer:?}");
    until("healthy in mcp-status", || node.mcp("mcp-status", &["--health", "demo"]).out.contains(" healthy "));
    node.mcp("mcp-stop", &["demo"]).expect(0);
    let answer = node.mcp("mcp-health", &["demo"]).expect(1);
    assert_eq!(answer.out, "demo/demo: unhealthy: grpc 127.0.0.1:".to_string() + &format!("{port}/up: not running\n"));
}

#[test]
fn grpc_in_a_unikernel() {
    let test = "grpc_in_a_unikernel";
    let Some(server) = go_server(test) else { return };
    let Some(image) = image_of(test, &server, &LISTEN, &[]) else { return };
    let run = ["--disk", &image.disk, "--kernel", &image.kernel];
    serve(&Node::new(), free_port(), &run, &[]);
}

#[test]
fn grpc_in_a_microvm() {
    let test = "grpc_in_a_microvm";
    let Some(server) = go_server(test) else { return };
    let node = Node::new();
    if !microvm(test, &node) {
        return;
    }
    let rootfs = node.root.join("rootfs");
    fs::create_dir_all(&rootfs).unwrap();
    fs::copy(server, rootfs.join("server")).unwrap();
    let program = [&["--", "/server"][..], &LISTEN].concat();
    serve(&node, free_port(), &["--rootfs", path(&rootfs)], &program);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
