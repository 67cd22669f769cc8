//! From a registry to a served request: real images, real guests, through the pipe of pull, build and run.

use crate::harness::{
    Node, OciImage, Registry, caddy_image, finish, free_port, get, have, hello_over_base, microvm, nginx_image,
    ops_config, program, redis_image, until_within,
};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a test wants of the machine.
pub struct Way {
    // Ends before the node looks for what was left running.
    pub registry: Registry,
    pub node: Node,
}

impl Way {
    pub fn new(test: &str) -> Option<Way> {
        let node = Node::new();
        let config = ops_config(test)?;
        node.configure(&config);
        if !microvm(test, &node) {
            return None;
        }
        Some(Way { registry: Registry::start(test, &node)?, node })
    }

    /// A shell with our programs on PATH, as an operator has it.
    pub fn shell(&self, script: &str) -> Command {
        let bin = program("mcp-run").parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.args(["-c", &format!("set -o pipefail; {script}")]).env("PATH", format!("{bin}:{path}"));
        command.env("MCP_ROOT", &self.node.root).env_remove("MCP_LOG").env_remove("NOTIFY_SOCKET");
        command.envs(crate::harness::podman::environment(&self.node.root));
        if let Some(init) = crate::harness::guest_init() {
            command.env("MCP_GUEST_INIT", init);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Registry, pull, build, run: healthy as `NAME` on a port of the loopback when this returns.
    #[track_caller]
    fn run(&self, reference: &str, runtime: &str, name: &str, guest_port: u16) -> u16 {
        let port = free_port();
        let script = format!(
            "mcp-pull --for {runtime} {reference} | mcp-build --for {runtime} - | while read -r key image; do
                 test -n \"$key\" && test -f \"$image/boot.json\" || exit 99
                 mcp-run-vm --detach --wait --name {name} --image \"$image\" --port {port}:{guest_port} --memory 256
             done"
        );
        finish(self.shell(&script), &script).expect(0);
        port
    }
}

pub fn redis(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, "redis-cli").out.trim().to_string()
}

fn serves_redis(test: &str, runtime: &str) {
    let Some(way) = Way::new(test) else { return };
    let Some(image) = redis_image(test, &way.node) else { return };
    if !have(test, "redis-cli") {
        return;
    }
    let reference = way.registry.fill(&image.reference(), "redis:7");
    let port = way.run(&reference, runtime, "cache", 6379);
    until_within(Duration::from_secs(20), "PONG", || redis(port, &["ping"]) == "PONG");
    assert_eq!(redis(port, &["set", "k", "a value of some length"]), "OK");
    assert_eq!(redis(port, &["get", "k"]), "a value of some length");
    assert!(way.node.console("cache").contains("Ready to accept connections"));
    way.node.mcp("mcp-stop", &["cache"]).expect(0);
}

#[test]
fn redis_serves_as_a_unikernel() {
    serves_redis("redis_serves_as_a_unikernel", "unikernel");
}

#[test]
fn redis_serves_as_a_microvm() {
    serves_redis("redis_serves_as_a_microvm", "microvm");
}

#[test]
fn caddy_serves_as_both() {
    let test = "caddy_serves_as_both";
    let Some(way) = Way::new(test) else { return };
    let Some(image) = caddy_image(test, &way.node) else { return };
    let reference = way.registry.fill(&image.reference(), "caddy");
    for runtime in ["unikernel", "microvm"] {
        let port = way.run(&reference, runtime, "web", 8080);
        until_within(Duration::from_secs(20), "hi", || get(port, "/").as_deref() == Some("hi"));
        way.node.mcp("mcp-stop", &["web"]).expect(0);
        way.node.mcp("mcp-rm", &["web"]).expect(0);
    }
}

#[test]
fn nginx_serves_as_a_microvm_alone() {
    let test = "nginx_serves_as_a_microvm_alone";
    let Some(way) = Way::new(test) else { return };
    let Some(image) = nginx_image(test, &way.node) else { return };
    let reference = way.registry.fill(&image.reference(), "shop/nginx:1.22");
    let port = way.run(&reference, "microvm", "front", 8080);
    until_within(Duration::from_secs(20), "the page", || get(port, "/").as_deref() == Some("served by nginx\n"));
    way.node.mcp("mcp-stop", &["front"]).expect(0);
    // Master and workers are processes, which a unikernel can't have.
    let script = format!("mcp-pull {reference} | mcp-build -");
    let answer = finish(way.shell(&script), &script);
    assert!(matches!(answer.code, Some(0 | 100)), "{answer:#?}");
    assert!(answer.err.contains("fork") && answer.err.contains("microvm"), "{answer:#?}");
}

#[test]
fn a_static_program_costs_its_own_layer_alone() {
    let test = "a_static_program_costs_its_own_layer_alone";
    let Some(way) = Way::new(test) else { return };
    let image = hello_over_base(&way.node, 20);
    let reference = way.registry.fill(&image.reference(), "hello:1");
    let before = way.registry.requests().len();
    let port = way.run(&reference, "unikernel", "hello", 8080);
    assert!(get(port, "/").unwrap_or_default().contains("hello"));
    let requests = way.registry.requests().split_off(before);
    let fetched = |digest: &str| requests.iter().filter(|r| r.starts_with("GET ") && r.contains(digest)).count();
    assert_eq!((fetched(&image.layers[0].digest), fetched(&image.layers[1].digest)), (0, 1), "{requests:#?}");
    // The registry is gone, and all that is needed is on the disk.
    let Way { node, mut registry } = way;
    registry.stop();
    node.mcp("mcp-stop", &["hello"]).expect(0);
    node.mcp("mcp-run", &["--detach", "--wait", "hello"]).expect(0);
    assert!(get(port, "/").unwrap_or_default().contains("hello"));
}

/// The programs that were executed: path and argument 0.
fn executed(way: &Way, script: &str) -> Vec<(String, String)> {
    let log = way.node.root.join("strace");
    let script = format!("strace -f -qq -e trace=execve,execveat -o {} bash -c '{script}'", log.display());
    finish(way.shell(&script), &script).expect(0);
    let text = fs::read_to_string(log).unwrap();
    let done = text.lines().filter(|l| l.contains("execve") && !l.contains(" = -1 "));
    let quoted = |l: &str, n| l.split('"').nth(n).map(str::to_string);
    done.filter_map(|l| Some((quoted(l, 1)?, quoted(l, 3)?))).collect()
}

#[test]
fn nothing_of_an_image_is_executed() {
    let test = "nothing_of_an_image_is_executed";
    let Some(way) = Way::new(test) else { return };
    if !have(test, "strace") {
        return;
    }
    let Some(image) = redis_image(test, &way.node) else { return };
    let images: [OciImage; 2] = [image, hello_over_base(&way.node, 1)];
    for (image, name) in images.iter().zip(["redis", "hello"]) {
        let reference = way.registry.fill(&image.reference(), name);
        for runtime in ["unikernel", "microvm"] {
            let script = format!("mcp-pull --for {runtime} {reference} | mcp-build --for {runtime} -");
            let ran = executed(&way, &script);
            assert!(ran.iter().any(|(p, _)| p.ends_with("/mcp-pull")), "strace saw nothing: {ran:?}");
            let root = way.node.root.to_str().unwrap();
            let ours = |(path, name): &&(String, String)| {
                let tools = ["bash", "mcp-pull", "mcp-build", "ops", "tar2sqfs"];
                // A tool may be executed by the descriptor that it was checked on.
                let word = if path.starts_with("/proc/self/fd/") { name } else { path };
                path == "/proc/self/exe"
                    || tools.contains(&word.rsplit('/').next().unwrap_or_default()) && !path.starts_with(root)
            };
            let others: Vec<_> = ran.iter().filter(|p| !ours(p)).collect();
            assert!(others.is_empty(), "{name} as {runtime}: executed {others:?}");
            let maker = if runtime == "unikernel" { "ops" } else { "tar2sqfs" };
            assert!(ran.iter().any(|(_, name)| name.ends_with(maker)), "no {maker} in {ran:?}");
        }
    }
}
