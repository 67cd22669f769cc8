//! `mcp deploy` from a real registry: one word chooses the kind of VM, a broken version rolls back, and with the
//! registry gone and the node rebooted all comes back from the records.

use crate::campaign::alive;
use crate::harness::{
    Node, caddy_image, finish, free_port, get, hello, hello_image, oci_image, redis_image, until, until_within,
};
use crate::images::{Way, redis};
use serde_json::json;
use std::fs;
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mcp-deploy");

/// A service of one component of its own name.
fn define(node: &Node, name: &str, runtime: &str, reference: &str, port: u16, guest: u16) {
    let text = format!(
        "name = \"{name}\"\n[[components]]\nname = \"{name}\"\nruntime = \"{runtime}\"\nimage = \"{reference}\"\n\
         memory_mb = 256\nports = [\"127.0.0.1:{port}:{guest}\"]\n"
    );
    node.define(name, &text);
}

fn one_word(test: &str, name: &str, port: u16, guest: u16, way: &Way, reference: &str, serves: &dyn Fn() -> bool) {
    for runtime in ["unikernel", "microvm"] {
        define(&way.node, name, runtime, reference, port, guest);
        let done = finish(way.shell(&format!("{SCRIPT} {name}")), test).expect(0);
        assert!(done.out.contains("running"), "no status in the end: {done:#?}");
        until_within(Duration::from_secs(20), runtime, serves);
        let told = way.node.mcp("mcp-status", &[name]).expect(0);
        assert!(told.out.contains(runtime), "{told:#?}");
    }
}

#[test]
fn redis_is_deployed_and_one_word_makes_it_a_microvm() {
    let test = "redis_is_deployed";
    let Some(way) = Way::new(test) else { return };
    let Some(image) = redis_image(test, &way.node) else { return };
    if !crate::harness::have(test, "redis-cli") {
        return;
    }
    let (reference, port) = (way.registry.fill(&image.reference(), "redis:7"), free_port());
    one_word(test, "cache", port, 6379, &way, &reference, &|| redis(port, &["ping"]) == "PONG");
}

#[test]
fn caddy_is_deployed_and_one_word_makes_it_a_microvm() {
    let test = "caddy_is_deployed";
    let Some(way) = Way::new(test) else { return };
    let Some(image) = caddy_image(test, &way.node) else { return };
    let (reference, port) = (way.registry.fill(&image.reference(), "caddy:2"), free_port());
    one_word(test, "web", port, 8080, &way, &reference, &|| get(port, "/").as_deref() == Some("hi"));
}

#[test]
fn a_broken_version_rolls_back_and_a_reboot_without_the_registry_brings_all_back() {
    let test = "a_broken_version_rolls_back";
    let Some(mut way) = Way::new(test) else { return };
    let good = way.registry.fill(&hello_image(&way.node).reference(), "hello:1");
    let config = json!({ "Entrypoint": ["/hello"], "Cmd": ["--no-listen", "--exit-after", "500", "--exit-code", "3"] });
    let program = format!("{}=/hello", hello().display());
    let broken = oci_image(&way.node.root.join("oci-broken"), "latest", &config, &[program]);
    let broken = way.registry.fill(&broken.reference(), "hello:2");
    let ports: Vec<u16> = ["unikernel", "microvm"].iter().map(|_| free_port()).collect();
    let services = [("uni", "unikernel"), ("micro", "microvm")];
    for ((name, runtime), port) in services.iter().zip(&ports) {
        define(&way.node, name, runtime, &good, *port, 8080);
        finish(way.shell(&format!("{SCRIPT} {name}")), test).expect(0);
        let before = way.node.qemu(&format!("{name}/{name}"));
        define(&way.node, name, runtime, &broken, *port, 8080);
        let failed = finish(way.shell(&format!("{SCRIPT} {name}")), test).expect(1);
        let said = failed.out.clone() + &failed.err;
        assert!(said.contains("exiting with 3"), "{failed:#?}");
        assert!(get(*port, "/").unwrap_or_default().contains("hello"), "the old version serves no more: {failed:#?}");
        assert_eq!(before, way.node.qemu(&format!("{name}/{name}")), "the old VM was not left alone");
        define(&way.node, name, runtime, &good, *port, 8080);
    }
    way.registry.stop();
    // The node has stages besides: the first is a foundation that must not wait for the registry.
    let config = fs::read_to_string(way.node.root.join("etc/mcp.toml")).unwrap();
    let stages = services.map(|(name, _)| format!("[[boot.sequence]]\nname = \"s-{name}\"\nservices = [\"{name}\"]\n"));
    way.node.configure(&format!("{config}{}", stages.concat()));
    for (program, args) in [("mcp-run", &["--recover", "--detach", "--wait", "--all"][..]), ("mcp-boot", &["--strict"])]
    {
        // The power goes: nothing is told to stop, and no state of this boot is left.
        for (name, _) in services {
            let id = format!("{name}/{name}");
            for pid in [way.node.supervisor(&id), way.node.qemu(&id)] {
                assert!(pid > 1, "{id} has no supervisor or no VM");
                // SAFETY: a plain system call.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                until("it is dead", || !alive(pid));
            }
        }
        fs::remove_dir_all(way.node.root.join("run")).unwrap();
        way.node.mcp(program, args).expect(0);
        for port in &ports {
            assert!(get(*port, "/").unwrap_or_default().contains("hello"));
        }
    }
}
