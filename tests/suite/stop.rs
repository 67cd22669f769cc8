//! `mcp-stop` by locks and runtime state alone, whatever is wrong with definitions, node config and records.

use crate::harness::{ACT, Answer, Node, Podman, free_port, nanos, until};
use std::fs;

const ID: &str = "demo/vm";
const BAD: &str = "name = [\n";

/// What may go wrong with the files of a node behind the back of what runs there.
type Fault = (&'static str, fn(&Node));
const FAULTS: [Fault; 7] = [
    ("a bad definition", |node| node.define("demo", BAD)),
    ("no definition", |node| fs::remove_file(node.root.join("etc/services/demo.toml")).unwrap()),
    ("definitions that cannot be read", |node| {
        fs::rename(node.root.join("etc/services"), node.root.join("aside")).unwrap();
        fs::write(node.root.join("etc/services"), "").unwrap();
    }),
    ("a definition without it", |node| {
        let text = fs::read_to_string(node.root.join("etc/services/demo.toml")).unwrap();
        node.define("demo", &text.replace("\"vm\"", "\"other\""));
    }),
    ("a bad node config", |node| node.configure(BAD)),
    ("a damaged record", |node| fs::write(node.root.join("lib/registry/demo/vm.json"), "{").unwrap()),
    ("nothing but runtime state", |node| {
        node.define("demo", BAD);
        node.configure(BAD);
        fs::remove_dir_all(node.root.join("lib/registry")).unwrap();
    }),
];

/// Starts it, breaks the node, stops it and repairs the node, in each way and by each name.
fn stopped_despite_everything(node: &Node, definition: &str) {
    let config = fs::read_to_string(node.root.join("etc/mcp.toml")).unwrap_or_default();
    for (fault, damage) in FAULTS {
        for target in [ID, "demo", "--all"] {
            node.define("demo", definition);
            node.mcp("mcp-record", &["--new", "--now", ID]).expect(0);
            node.mcp("mcp-run", &["--detach", "--wait", ID]).expect(0);
            damage(node);
            let stopped: Answer = node.mcp("mcp-stop", &[target]);
            assert!(stopped.out.starts_with("demo/vm: stopped: "), "{fault}, {target}: {stopped:#?}");
            // A bad file is said, and is no success; nor is a component that does not run.
            let is_bad = [".toml", "etc/services: ", "demo/other: not running"].iter().any(|s| stopped.err.contains(s));
            assert_eq!(stopped.code, Some(i32::from(is_bad)), "{fault}, {target}: {stopped:#?}");
            assert_eq!(node.processes(), Vec::<String>::new(), "{fault}, {target}");
            let again = node.mcp("mcp-stop", &[target]);
            assert!(matches!(again.code, Some(0 | 1)) && again.out.is_empty(), "{fault}, {target}: {again:#?}");
            node.configure(&config);
            if node.root.join("aside").exists() {
                fs::remove_file(node.root.join("etc/services")).unwrap();
                fs::rename(node.root.join("aside"), node.root.join("etc/services")).unwrap();
            }
            let _ = fs::remove_file(node.root.join("lib/registry/demo/vm.json"));
        }
    }
}

#[test]
fn stop_of_a_vm_goes_by_locks_and_runtime_state() {
    let Some(image) = nanos("stop_of_a_vm", &["--graceful"]) else { return };
    let node = Node::new();
    let definition = format!(
        "name = \"demo\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:{}:8080\"]\nstop_timeout = \"5s\"\n",
        image.disk,
        image.kernel,
        free_port()
    );
    stopped_despite_everything(&node, &definition);
    // What nothing tells of is still a mistake.
    node.define("demo", &definition);
    let unknown = node.mcp("mcp-stop", &["demi"]).expect(100);
    assert!(unknown.one_line().contains("no such service"), "{unknown:#?}");
    let unknown = node.mcp("mcp-stop", &["demo/wm"]).expect(100);
    assert!(unknown.one_line().contains("no such component"), "{unknown:#?}");
}

#[test]
fn stop_of_a_container_goes_by_locks_and_runtime_state() {
    let node = Node::new();
    let Some(podman) = Podman::new("stop_of_a_container", &node) else { return };
    let definition = format!(
        "name = \"demo\"\n[[components]]\nname = \"vm\"\nimage = \"{ACT}\"\nargs = [\"sleep\"]\nstop_timeout = \"5s\"\n"
    );
    stopped_despite_everything(&node, &definition);
    // Its supervisor is killed and its state damaged: podman tells of it.
    node.define("demo", &definition);
    node.mcp("mcp-record", &["--new", "--now", ID]).expect(0);
    node.mcp("mcp-run", &["--detach", "--wait", ID]).expect(0);
    let supervisor = node.supervisor(ID);
    // SAFETY: a plain system call.
    unsafe { libc::kill(supervisor, libc::SIGKILL) };
    until("its supervisor is gone", || !std::path::Path::new(&format!("/proc/{supervisor}")).exists());
    fs::write(node.root.join("run/demo/vm/c/state.json"), "{").unwrap();
    node.define("demo", BAD);
    let stopped = node.mcp("mcp-stop", &[ID]).expect(1);
    assert!(stopped.out.starts_with("demo/vm: stopped: term"), "{stopped:#?}");
    assert_eq!(podman.names(), Vec::<String>::new());
}
