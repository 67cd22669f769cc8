//! `mcp-deploy`: from an image to a healthy service, and back.

use crate::harness::{
    Answer, Node, finish, free_port, get, guest_init, microvm, oci_image, ops_config, program, until,
};
use serde_json::json;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Bench {
    node: Node,
    port: u16,
    runtime: &'static str,
}

impl Bench {
    fn new(test: &str, runtime: &'static str) -> Option<Bench> {
        let node = Node::new();
        node.configure(&ops_config(test)?);
        if !microvm(test, &node) {
            return None;
        }
        let hello = crate::harness::hello();
        let layer = format!("{}=/hello", hello.display());
        let versions: [(&str, &[&str]); 4] = [
            ("good", &["--port", "8080"]),
            ("better", &["--port", "8080", "--graceful"]),
            ("broken", &["--no-listen"]),
            ("dying", &["--no-listen", "--exit-after", "50", "--exit-code", "3"]),
        ];
        for (tag, cmd) in versions {
            let config = json!({"Entrypoint": ["/hello"], "Cmd": cmd});
            oci_image(&node.root.join(format!("images/{tag}")), tag, &config, &[layer.as_str()]);
        }
        Some(Bench { node, port: free_port(), runtime })
    }

    fn text(&self, version: &str, more: &str) -> String {
        format!(
            "name = \"shop\"\n[[components]]\nname = \"web\"\nruntime = \"{}\"\nimage = \"oci:{}/images/{version}:{version}\"\n\
             memory_mb = 128\nports = [\"127.0.0.1:{}:8080\"]\nstart_timeout = \"20s\"\nstop_timeout = \"5s\"\n{more}\n",
            self.runtime,
            self.node.root.display(),
            self.port
        )
    }

    fn define(&self, version: &str, more: &str) {
        self.node.define("shop", &self.text(version, more));
    }

    fn command(&self, args: &[&str]) -> Command {
        let bin = program("mcp-run").parent().unwrap().display().to_string();
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mcp-deploy"));
        command.args(args).env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()));
        command.env("MCP_ROOT", &self.node.root).env_remove("MCP_LOG").env_remove("NOTIFY_SOCKET");
        command.envs(crate::harness::podman::environment(&self.node.root));
        if let Some(init) = guest_init() {
            command.env("MCP_GUEST_INIT", init);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn deploy(&self, args: &[&str]) -> Answer {
        finish(self.command(args), &format!("mcp-deploy {args:?}"))
    }

    fn args(&self) -> String {
        get(self.port, "/args").unwrap_or_default().replace('\n', " ").trim().to_string()
    }

    fn record(&self) -> serde_json::Value {
        let text = std::fs::read(self.node.root.join("lib/registry/shop/web.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn vms(&self) -> usize {
        self.node.processes().iter().filter(|p| p.contains("qemu-system")).count()
    }
}

fn the_whole_way(test: &str, runtime: &'static str) {
    let Some(bench) = Bench::new(test, runtime) else { return };
    bench.define("good", "");
    let first = bench.node.mcp("mcp-run", &["--detach", "shop"]).expect(100);
    assert!(first.one_line().contains("shop/web: never deployed: mcp deploy shop/web"), "{first:#?}");
    let answer = bench.deploy(&["shop"]).expect(0);
    assert!(answer.out.contains("healthy"), "{answer:#?}");
    assert_eq!(bench.args(), "/hello --port 8080");
    assert!(bench.deploy(&["shop"]).expect(0).out.contains("shop/web: runs already as deployed"));
    bench.define("better", "");
    bench.node.mcp("mcp-status", &[]).expect(1);
    let answer = bench.deploy(&["shop"]).expect(0);
    assert!(answer.out.contains("shop/web replaced"), "{answer:#?}");
    assert!(answer.out.contains("longest time without an answer"), "{answer:#?}");
    assert_eq!(bench.args(), "/hello --port 8080 --graceful");
    bench.node.mcp("mcp-status", &[]).expect(0);
    // A version that is not healthy: the one before has never stopped.
    let uuid = bench.node.state("shop/web")["uuid"].clone();
    bench.define("dying", "");
    let answer = bench.deploy(&["shop"]).expect(1);
    assert!(answer.err.contains("hello: exiting with 3"), "{answer:#?}");
    assert!(answer.err.contains("the old version serves on"), "{answer:#?}");
    assert_eq!((&bench.node.state("shop/web")["uuid"], bench.vms()), (&uuid, 1));
    // After a reboot, with neither the images nor the definition of what runs there any more.
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
    bench.node.mcp("mcp-run", &["--detach", "--wait", "shop"]).expect(0);
    for process in bench.node.processes() {
        let pid: i32 = process.split_whitespace().next().unwrap().parse().unwrap();
        // SAFETY: a plain system call.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    until("all is gone", || bench.node.processes().is_empty());
    std::fs::remove_dir_all(bench.node.root.join("run")).unwrap();
    std::fs::remove_dir_all(bench.node.root.join("images")).unwrap();
    bench.node.mcp("mcp-run", &["--all", "--detach", "--wait", "--recover"]).expect(0);
    assert_eq!(bench.args(), "/hello --port 8080 --graceful");
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
}

#[test]
fn deploy_of_a_unikernel_replaces_rolls_back_and_survives_a_reboot() {
    the_whole_way("deploy_of_a_unikernel", "unikernel");
}

#[test]
fn deploy_of_a_microvm_replaces_rolls_back_and_survives_a_reboot() {
    the_whole_way("deploy_of_a_microvm", "microvm");
}

#[test]
fn deploy_with_a_volume_stops_and_starts_and_comes_back() {
    let Some(bench) = Bench::new("deploy_with_a_volume", "unikernel") else { return };
    let volume = "volumes = [\"data:/data:32M\"]";
    bench.define("good", volume);
    bench.deploy(&["shop"]).expect(0);
    assert!(get(bench.port, "/write?path=/data/x&text=kept").is_some());
    bench.define("better", volume);
    let answer = bench.deploy(&["shop"]).expect(0);
    assert!(answer.out.contains("longest time without an answer"), "{answer:#?}");
    assert_eq!(bench.args(), "/hello --port 8080 --graceful");
    assert_eq!(get(bench.port, "/read?path=/data/x").unwrap_or_default().trim(), "kept");
    bench.define("dying", volume);
    let answer = bench.deploy(&["shop"]).expect(1);
    assert!(answer.err.contains("the old version is back"), "{answer:#?}");
    assert_eq!(bench.args(), "/hello --port 8080 --graceful");
    // The file system of a volume is Nanos's: a microvm can't read it.
    let text = bench.text("good", volume).replace("\"unikernel\"", "\"microvm\"");
    bench.node.define("shop", &text);
    let answer = bench.deploy(&["shop"]).expect(100);
    assert!(answer.err.contains("has Nanos's tfs") && answer.err.contains("mcp-rm --volumes"), "{answer:#?}");
    assert_eq!(get(bench.port, "/read?path=/data/x").unwrap_or_default().trim(), "kept");
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
}

#[test]
fn deploy_from_a_file_installs_it_or_puts_the_one_before_back() {
    let Some(bench) = Bench::new("deploy_from_a_file", "unikernel") else { return };
    let file = bench.node.root.join("mine.toml");
    let from = file.to_str().unwrap();
    let installed = bench.node.root.join("etc/services/shop.toml");
    std::fs::write(&file, "name = \"shop\"\n[[components]]\nname = \"web\"\nmemory = 3\n").unwrap();
    let answer = bench.deploy(&["--from", from]).expect(100);
    assert!(answer.err.contains("mine.toml:4") && !installed.exists(), "{answer:#?}");
    std::fs::write(&file, bench.text("good", "")).unwrap();
    let answer = bench.deploy(&["--dry-run", "--from", from]).expect(0);
    assert!(answer.out.contains("shop/web starts") && !installed.exists(), "{answer:#?}");
    bench.deploy(&["--from", from]).expect(0);
    assert_eq!(std::fs::read_to_string(&installed).unwrap(), bench.text("good", ""));
    std::fs::write(&file, bench.text("dying", "")).unwrap();
    let answer = bench.deploy(&["--from", from]).expect(1);
    assert!(answer.err.contains("its definition before is back"), "{answer:#?}");
    assert_eq!(std::fs::read_to_string(&installed).unwrap(), bench.text("good", ""));
    bench.node.mcp("mcp-status", &[]).expect(0);
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
}

/// Kills a deploy with all that it has started, but not the supervisor and its VMs, which have sessions of their own.
fn kill_group(child: &mut Child) {
    // SAFETY: a plain system call on a group that we made.
    unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
    let _ = child.wait();
}

#[test]
fn deploy_cut_short_comes_out_whole() {
    use std::os::unix::process::CommandExt;
    let Some(bench) = Bench::new("deploy_cut_short", "unikernel") else { return };
    bench.define("good", "");
    bench.deploy(&["shop"]).expect(0);
    bench.define("better", "");
    let took = {
        let answer = bench.deploy(&["shop"]).expect(0);
        answer.took.max(Duration::from_millis(300))
    };
    for round in 0..10_u32 {
        let version = if round % 2 == 0 { "good" } else { "better" };
        bench.define(version, "");
        let mut command = bench.command(&["shop"]);
        let mut child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took * round / 9);
        kill_group(&mut child);
        // Whatever is left: a start says that it runs already, or starts one of the two; a deploy ends with the new one.
        let start = bench.node.mcp("mcp-run", &["--detach", "--wait", "shop"]);
        assert!(matches!(start.code, Some(0 | 100)), "round {round}: {start:#?}");
        assert!(get(bench.port, "/").is_some(), "round {round}");
        bench.deploy(&["shop"]).expect(0);
        let wanted = if version == "good" { "/hello --port 8080" } else { "/hello --port 8080 --graceful" };
        assert_eq!(bench.args(), wanted, "round {round}");
        // The deploy that was killed may have asked for a replace, whose old VM still ends.
        until(&format!("one VM in round {round}"), || bench.vms() == 1);
        assert!(bench.record().get("candidate").is_none());
        bench.node.mcp("mcp-status", &[]).expect(0);
    }
    bench.node.mcp("mcp-stop", &["shop"]).expect(0);
}

#[test]
fn deploy_refuses_what_it_does_not_understand() {
    let Some(bench) = Bench::new("deploy_refuses", "unikernel") else { return };
    for (args, code, told) in [
        (&[][..], 2, "deploy what?"),
        (&["--nothing", "shop"], 2, "--nothing: no such option"),
        (&["shop/web"], 2, "a whole service is deployed: mcp deploy shop"),
        (&["Shop"], 2, "not the name of a service"),
        (&["nobody"], 100, "nobody"),
        (&["--from", "/nowhere/x.toml"], 100, "/nowhere/x.toml: no such file"),
    ] {
        let answer = bench.deploy(args).expect(code);
        assert!(answer.err.contains(told), "{answer:#?}");
    }
    let help = bench.deploy(&["--help"]).expect(0);
    assert!(help.out.contains("--no-rollback"), "{help:#?}");
}
