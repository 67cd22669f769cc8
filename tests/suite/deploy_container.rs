//! `mcp-deploy` of containers: from an image in a registry to a healthy service, and back. Real podman.

use crate::harness::{Answer, Node, Podman, Registry, finish, free_port, get, program, until};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

struct Bench {
    // Gone before the node is, which tolerates no process.
    registry: Registry,
    podman: Podman,
    node: Node,
    port: u16,
}

impl Bench {
    fn new(test: &str) -> Option<Bench> {
        let node = Node::new();
        let podman = Podman::empty(test, &node)?;
        let registry = Registry::start(test, &node)?;
        Some(Bench { registry, podman, node, port: free_port() })
    }

    /// Puts `web:TAG` into the registry: its web page says VERSION, and it runs `cmd`. podman has nothing of it then.
    fn push(&self, tag: &str, version: &str, cmd: &[&str]) -> String {
        let name = format!("localhost/{version}");
        self.podman.image(&name, &json!({ "Entrypoint": ["/act"], "Cmd": cmd }));
        let reference = self.registry.reference(&format!("web:{tag}"));
        self.podman.ask(&["push", "-q", "--tls-verify=false", &name, &format!("docker://{reference}")]);
        self.podman.ask(&["rmi", "--force", &name]);
        reference
    }

    fn define(&self, image: &str, more: &str) {
        let port = self.port;
        self.node.define(
            "shop",
            &format!(
                "name = \"shop\"\n[[components]]\nname = \"web\"\nimage = \"{image}\"\nnetwork = \"host\"\n\
                 ports = [\"127.0.0.1:{port}:{port}\"]\nstart_timeout = \"20s\"\nstop_timeout = \"5s\"\n{more}\n\
                 [components.health]\nkind = \"http\"\nport = {port}\n"
            ),
        );
    }

    fn deploy(&self, args: &[&str]) -> Answer {
        let bin = program("mcp-run").parent().unwrap().display().to_string();
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mcp-deploy"));
        let ours = self.node.command("mcp-run", &[]);
        command.args(args).env_remove("MCP_LOG").env_remove("NOTIFY_SOCKET");
        command.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, &format!("mcp-deploy {args:?}"))
    }

    fn page(&self) -> String {
        get(self.port, "/").unwrap_or_default().trim().to_string()
    }

    fn current(&self) -> Value {
        let told = self.node.mcp("mcp-record", &["--json", "shop/web"]).expect(0);
        serde_json::from_str::<Value>(&told.out).unwrap()["record"]["current"]["pin"].clone()
    }
}

#[test]
fn deploy_of_a_container_stops_and_starts_rolls_back_and_needs_no_registry() {
    let Some(mut bench) = Bench::new("deploy_of_a_container") else { return };
    let port = bench.port.to_string();
    let serve = ["serve", port.as_str()];
    let moving = bench.push("moving", "one", &serve);
    bench.define(&moving, "");
    let first = bench.node.mcp("mcp-run", &["--detach", "shop"]).expect(100);
    assert!(first.one_line().contains("shop/web: never deployed: mcp deploy shop/web"), "{first:#?}");
    let dry = bench.deploy(&["--dry-run", "shop"]).expect(0);
    assert!(dry.out.contains("would fetch at most ") && dry.out.ends_with("shop/web starts\n"), "{dry:#?}");
    let answer = bench.deploy(&["shop"]).expect(0);
    assert!(answer.out.contains("healthy"), "{answer:#?}");
    assert_eq!(bench.page(), "localhost/one");
    let old = bench.current();
    let again = bench.deploy(&["shop"]).expect(0);
    assert!(again.out.contains("shop/web: runs already as deployed"), "{again:#?}");

    // The tag moves: a deploy follows it, nothing else does.
    bench.push("moving", "two", &serve);
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
    bench.node.mcp("mcp-run", &["--detach", "--wait", "shop"]).expect(0);
    assert_eq!(bench.page(), "localhost/one");
    let dry = bench.deploy(&["--dry-run", "shop"]).expect(0);
    assert!(dry.out.ends_with("shop/web stopped and started: it is a container\n"), "{dry:#?}");
    let answer = bench.deploy(&["shop"]).expect(0);
    assert!(answer.out.contains("shop/web replaced"), "{answer:#?}");
    assert!(answer.out.contains("longest time without an answer"), "{answer:#?}");
    assert_eq!(bench.page(), "localhost/two");
    assert_ne!(bench.current(), old);

    // One that ends before it serves, and one that never does.
    let two = bench.current();
    let dying = bench.push("dying", "three", &["exit", "3", "1"]);
    bench.define(&dying, "");
    let answer = bench.deploy(&["shop"]).expect(1);
    assert!(answer.err.contains("act: exit"), "{answer:#?}");
    assert!(answer.err.contains("the old version is back"), "{answer:#?}");
    assert_eq!((bench.page().as_str(), bench.current()), ("localhost/two", two.clone()));
    let mute = bench.push("mute", "four", &["sleep"]);
    bench.define(&mute, "");
    let text = std::fs::read_to_string(bench.node.root.join("etc/services/shop.toml")).unwrap();
    bench.node.define("shop", &text.replace("start_timeout = \"20s\"", "start_timeout = \"3s\""));
    let answer = bench.deploy(&["shop"]).expect(1);
    assert!(answer.err.contains("act: sleep") && answer.err.contains("the old version is back"), "{answer:#?}");
    assert_eq!((bench.page().as_str(), bench.current()), ("localhost/two", two.clone()));

    // By hand to the version before, without its registry.
    bench.define(&moving, "");
    bench.registry.stop();
    bench.node.mcp("mcp-record", &["--back", "shop/web"]).expect(0);
    bench.node.mcp("mcp-run", &["--replace", "shop/web"]).expect(0);
    assert_eq!((bench.page().as_str(), bench.current()), ("localhost/one", old.clone()));
    let failed = bench.deploy(&["shop"]).expect(111);
    assert!(failed.err.contains("Connection refused"), "{failed:#?}");
    assert_eq!(bench.page(), "localhost/one");

    // Stopped and started: what is on disk is enough.
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
    bench.podman.ask(&["image", "prune", "--force"]);
    bench.node.mcp("mcp-run", &["--detach", "--wait", "shop"]).expect(0);
    assert_eq!(bench.page(), "localhost/one");
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);

    // Its image is removed: not without the registry; with it, that very one comes back, though the tag has moved.
    bench.podman.ask(&["rmi", "--force", old["build"].as_str().unwrap()]);
    let nothing = bench.node.mcp("mcp-run", &["--detach", "--wait", "shop"]).expect(111);
    assert!(nothing.err.contains("Connection refused") || nothing.err.contains("connection refused"), "{nothing:#?}");
    bench.registry.go_on();
    let brought = bench.node.mcp("mcp-run", &["--detach", "--wait", "shop"]).expect(0);
    let manifest = old["manifest"].as_str().unwrap();
    let told = format!("its image is not in podman's storage any more; pulled again as {manifest}");
    assert!(brought.err.contains(&told), "{brought:#?}");
    assert_eq!(bench.page(), "localhost/one");
    bench.podman.ask(&["image", "prune", "--force"]);
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
    bench.node.mcp("mcp-run", &["--detach", "--wait", "shop"]).expect(0);
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
}

#[test]
fn deploy_of_a_service_with_two_containers_takes_both_back() {
    let Some(bench) = Bench::new("deploy_of_a_service_with_two") else { return };
    let (port, other) = (bench.port.to_string(), free_port());
    let good = bench.push("good", "one", &["serve", &port]);
    let better = bench.push("better", "two", &["serve", &port]);
    let second = |image: &str, args: &str| {
        format!(
            "[[components]]\nname = \"next\"\nimage = \"{image}\"\nargs = [{args}]\nnetwork = \"host\"\n\
             ports = [\"127.0.0.1:{other}:{other}\"]\nstart_timeout = \"20s\"\nstop_timeout = \"5s\"\n\
             [components.health]\nkind = \"http\"\nport = {other}\n"
        )
    };
    let define = |image: &str, args: &str| {
        bench.define(image, "");
        let text = std::fs::read_to_string(bench.node.root.join("etc/services/shop.toml")).unwrap();
        bench.node.define("shop", &(text + &second(image, args)));
    };
    define(&good, &format!("\"serve\", \"{other}\""));
    bench.deploy(&["shop"]).expect(0);
    define(&better, "\"exit\", \"4\"");
    let answer = bench.deploy(&["shop"]).expect(1);
    assert!(answer.out.contains("shop/web: back to the version before"), "{answer:#?}");
    until("the old ones serve", || bench.page() == "localhost/one");
    assert_eq!(get(other, "/").unwrap_or_default().trim(), "localhost/one");
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
}
