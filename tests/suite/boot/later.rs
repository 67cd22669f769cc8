//! Later stages warn and go on; what shall not run is left alone; what can't run is told.

use super::{Boot, fake, plain, sequence, serves, uuid, vm};
use crate::harness::{Answer, Image, Node, free_port, nanos};
use mcp::sys::Deadline;
use mcp::sys::lock::Lock;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Its lines on stderr, the notes on KVM aside.
fn complaints(answer: &Answer) -> Vec<&str> {
    answer.err.lines().filter(|l| !l.contains("no KVM")).collect()
}

#[test]
fn boot_warns_of_later_stages_and_goes_on() {
    let test = "boot_warns_of_later_stages";
    let (Some(image), Some(silent)) = (nanos(test, &[]), nanos(test, &["--no-listen"])) else { return };
    let node = Node::new();
    let none = Image { disk: "/nowhere/none.img".into(), kernel: image.kernel.clone() };
    let ports = [free_port(), free_port(), free_port(), free_port()];
    for ((name, image), port) in [("a", &image), ("n", &silent), ("x", &none), ("z", &image)].iter().zip(ports) {
        vm(&node, name, image, port, "");
    }
    let stages: [(&str, &[&str], &str); 4] =
        [("base", &["a"], "60s"), ("core", &["n"], "3s"), ("apps", &["x"], "80s"), ("last", &["z"], "60s")];
    sequence(&node, "", &stages);
    let answer = node.mcp("mcp-boot", &[]).expect(0);
    let lines = complaints(&answer);
    assert_eq!(lines.len(), 3, "{answer:#?}");
    assert!(
        lines[0].starts_with("mcp-boot: stage core: n/vm is not healthy: accepted by the port forward but not by "),
        "{answer:#?}"
    );
    let reason = "/nowhere/none.img: disk image missing: no such file";
    assert_eq!(lines[1], format!("mcp-boot: x/vm: not started: {reason}"));
    assert_eq!(lines[2], format!("mcp-boot: stage apps: x/vm is not healthy: {reason}"));
    assert!(answer.out.contains("stage core: not all healthy after 3.0"), "{answer:#?}");
    assert!(answer.out.ends_with(", 2 not healthy\n"), "{answer:#?}");
    // What can't be started at all is not waited for.
    assert!(answer.took < Duration::from_secs(30), "{answer:#?}");
    assert!(serves(ports[3]));
    // Strict: the same, told by the exit code; and nobody is told that the node is ready.
    let strict = node.mcp("mcp-boot", &["--strict", "--json"]).expect(1);
    let last: serde_json::Value = serde_json::from_str(strict.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["unhealthy"]), (&"failed".into(), &2.into()), "{strict:#?}");
    assert_eq!(super::record(&node)["outcome"], "failed");
}

#[test]
fn boot_leaves_alone_what_shall_not_run() {
    let Some((node, config)) = fake("boot_leaves_alone") else { return };
    for name in ["a", "s", "i", "o"] {
        plain(&node, name, "");
    }
    let path = node.root.join("etc/services/i.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("name = \"i\"\n", "name = \"i\"\nactive = false\n")).unwrap();
    sequence(&node, &config, &[("base", &["a", "s", "i"], "60s")]);
    node.mcp("mcp-run", &["--detach", "s"]).expect(0);
    node.mcp("mcp-stop", &["s"]).expect(0);
    let dry = node.mcp("mcp-boot", &["--dry-run"]).expect(0);
    for words in [
        "  s/vm: unikernel, 256 MiB, healthy when started: it has no check\n    left alone: an operator stopped it\n",
        "  i/vm: unikernel, 256 MiB, healthy when started: it has no check\n    left alone: its definition is not active\n",
        "in no stage, left alone: o\n",
    ] {
        assert!(dry.out.contains(words), "{words:?} is not in {dry:#?}");
    }
    let answer = node.mcp("mcp-boot", &[]).expect(0);
    for words in [
        "  s/vm: left alone: an operator stopped it\n",
        "  i/vm: left alone: its definition is not active\n",
        "  a/vm: healthy: runs; it has no check\n",
    ] {
        assert!(answer.out.contains(words), "{words:?} is not in {answer:#?}");
    }
    assert_eq!(["a/vm", "s/vm", "i/vm", "o/vm"].map(|id| node.qemu(id) != 0), [true, false, false, false]);
    // An operator says otherwise.
    node.mcp("mcp-run", &["--detach", "s"]).expect(0);
    let answer = node.mcp("mcp-boot", &[]).expect(0);
    assert!(answer.out.contains("  s/vm: runs already\n"), "{answer:#?}");
}

#[test]
fn boot_takes_no_run_that_is_over_for_health() {
    let Some((node, config)) = fake("boot_takes_no_run_that_is_over_for_health") else { return };
    for name in ["f", "a"] {
        plain(&node, name, "");
    }
    sequence(&node, &config, &[("base", &["f"], "60s"), ("apps", &["a"], "3s")]);
    node.mcp("mcp-boot", &[]).expect(0);
    super::send(node.state("a/vm")["pid"].as_i64().unwrap() as i32, libc::SIGKILL);
    // We are the supervisor now, and are about to start it again. It has no check, and was ready before.
    let lock = node.run_dir("a/vm").join("lock");
    let lock = Lock::wait(&lock, Deadline::after(Duration::from_secs(20))).unwrap().unwrap();
    let answer = node.mcp("mcp-boot", &["--stage", "apps"]).expect(0);
    lock.remove().unwrap();
    let lines = complaints(&answer);
    assert!(lines.len() == 1 && lines[0].starts_with("mcp-boot: stage apps: a/vm is not healthy: "), "{answer:#?}");
}

#[test]
fn boot_prints_what_it_would_do() {
    let node = Node::new();
    let text = |name: &str, component: &str| format!("name = \"{name}\"\n[[components]]\nname = \"c\"\n{component}\n");
    let vm = "runtime = \"unikernel\"\ndisk = \"/a.img\"\nmemory_mb = 512\nports = [\"8443:443\", \"5353:53/udp\"]\n";
    node.define("a-b", &text("a-b", vm));
    node.define("g", &text("g", "runtime = \"microvm\"\nrootfs = \"/r\"\nports = [\"127.0.0.2:9000:9000\"]\n"));
    let grpc = "image = \"h.example/x:1\"\nports = [\"9001:9001\"]\n[components.health]\nservice = \"x.Y\"";
    node.define("w", &text("w", grpc));
    node.define("out", &text("out", "image = \"h.example/x:1\""));
    let stages = "[boot]\nstart_command = [\"systemctl\", \"start\", \"mcp@{unit}.service\"]\n\
        [[boot.sequence]]\nname = \"base\"\nservices = [\"a-b\"]\n\
        [[boot.sequence]]\nname = \"core\"\nservices = [\"g\"]\ntimeout = \"90s\"\nhealth = \"http\"\n\
        [[boot.sequence]]\nname = \"apps\"\nservices = [\"w\"]\ntimeout = \"30s\"\nhealth = \"grpc\"\n";
    node.configure(stages);
    let dry = node.mcp("mcp-boot", &["--dry-run"]).expect(0);
    let wanted = "stage base: the foundation: waits until all are healthy, for ever\n  \
          a-b/c: unikernel, 512 MiB, healthy by tcp on 443\n    \
            port 127.0.0.1:8443->443/tcp\n    \
            port 127.0.0.1:5353->53/udp\n    \
            runs: systemctl start mcp@a\\x2db-c.service\n\
        stage core: waits 90s at most, then warns and goes on\n  \
          g/c: microvm, 256 MiB, healthy by http on 9000/\n    \
            port 127.0.0.2:9000->9000/tcp\n    \
            runs: systemctl start mcp@g-c.service\n\
        stage apps: waits 30s at most, then warns and goes on\n  \
          w/c: container, healthy by grpc on 9001, x.Y\n    \
            port 127.0.0.1:9001->9001/tcp\n    \
            can't be started: w/c: never deployed: mcp deploy w/c\n\
        in no stage, left alone: out\n\
        in all: 3 components, of which 2 to start; 768 MiB for VMs; 4 ports\n\
        longest time: the foundation's, which has no limit, and 2m\n";
    assert_eq!(dry.out, wanted);
    assert!(dry.err.is_empty(), "{dry:#?}");
    let one = node.mcp("mcp-boot", &["--dry-run", "--stage", "core"]).expect(0);
    assert!(one.out.contains("stage core") && !one.out.contains("stage base"), "{one:#?}");
    assert!(one.out.ends_with("longest time: 90s\n"), "{one:#?}");
    assert!(!node.root.join("run").exists() && !node.root.join("lib/boot.json").exists());
}

/// A start command for the node: `script`, called with the unit's name.
fn start_command(node: &Node, config: &str, script: &str) -> String {
    let path = node.root.join("start");
    fs::write(&path, format!("#!/bin/sh\necho \"$1\" >>$MCP_ROOT/calls\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{config}[boot]\nstart_command = [\"{}\", \"unit@{{unit}}.x\", \"{{id}}\"]\n", path.display())
}

#[test]
fn boot_starts_through_the_start_command() {
    let Some((node, config)) = fake("boot_starts_through_the_start_command") else { return };
    for name in ["f", "a-b"] {
        plain(&node, name, "");
    }
    let program = crate::harness::program("mcp-run-vm");
    // At once, as an init answers that only takes the order.
    let order = format!("(sleep 0.3; exec {} --detach --recover \"$2\") >/dev/null 2>&1 &", program.display());
    let stages: [(&str, &[&str], &str); 2] = [("base", &["f"], "60s"), ("apps", &["a-b"], "3s")];
    sequence(&node, &start_command(&node, &config, &order), &stages);
    let answer = node.mcp("mcp-boot", &[]).expect(0);
    assert_eq!(fs::read_to_string(node.root.join("calls")).unwrap(), "unit@f-vm.x\nunit@a\\x2db-vm.x\n");
    assert!(!answer.out.contains("again") && complaints(&answer).is_empty(), "{answer:#?}");
    // Those that fail: tried again where that may help.
    for (script, tries, words) in [
        ("echo not now >&2; exit 1", 2.., "a-b/vm: not started: not now"),
        ("echo never >&2; exit 100", 1.., "a-b/vm: not started: never"),
        ("kill -9 $$", 2.., "/start was killed by signal 9"),
        ("read line <$MCP_ROOT/fifo", 1.., "stage apps: a-b/vm is not healthy: starting"),
    ] {
        node.mcp("mcp-boot", &["--down", "--stage", "apps"]).expect(0);
        fs::remove_file(node.root.join("calls")).unwrap();
        let hangs = script.contains("fifo");
        if hangs {
            let fifo = node.root.join("fifo");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        sequence(&node, &start_command(&node, &config, script), &stages);
        let answer = node.mcp("mcp-boot", &["--stage", "apps"]).expect(0);
        assert!(complaints(&answer).iter().any(|l| l.contains(words)), "{words:?}: {answer:#?}");
        let calls = fs::read_to_string(node.root.join("calls")).unwrap().lines().count();
        assert!(tries.contains(&calls), "{calls} calls: {answer:#?}");
        assert_eq!(answer.took > Duration::from_secs(3), !script.contains("100"), "{answer:#?}");
        if hangs {
            // The one who takes so long is let go.
            fs::write(node.root.join("fifo"), "\n").unwrap();
        }
    }
    let nowhere = format!("{config}[boot]\nstart_command = [\"/nowhere/start\", \"{{unit}}\"]\n");
    sequence(&node, &nowhere, &stages);
    let answer = node.mcp("mcp-boot", &["--stage", "apps"]).expect(0);
    let line = "mcp-boot: a-b/vm: not started: run /nowhere/start: No such file or directory";
    assert_eq!(complaints(&answer)[0], line);
    assert!(answer.took < Duration::from_secs(3), "{answer:#?}");
}

#[test]
fn boot_holds_ports_and_memory_against_the_whole_plan() {
    let Some((node, config)) = fake("boot_holds_ports_and_memory") else { return };
    let (one, other) = (free_port(), free_port());
    let with = |port: u16| format!("ports = [\"{port}:80\"]\n[components.health]\nkind = \"none\"");
    plain(&node, "b", &with(one));
    sequence(&node, &config, &[("base", &["b"], "60s")]);
    node.mcp("mcp-boot", &[]).expect(0);
    node.mcp("mcp-boot", &["--down"]).expect(0);
    // Its definition has moved on, its record has not, and its port has become another's.
    plain(&node, "b", &with(other));
    plain(&node, "a", &with(one));
    plain(&node, "f", "");
    plain(&node, "m", "memory_mb = 1000000");
    plain(&node, "z", "");
    sequence(&node, &config, &[("base", &["f"], "60s"), ("apps", &["a", "b", "m", "z"], "4s")]);
    let clash = format!("port 127.0.0.1:{one}: a/vm has it, by its record");
    let dry = node.mcp("mcp-boot", &["--dry-run"]).expect(0);
    assert!(dry.out.contains(&format!("does not fit: b/vm: {clash}\n")), "{dry:#?}");
    assert!(dry.out.contains("does not fit: m/vm: memory_mb: 1000000 MiB and QEMU's "), "{dry:#?}");
    let answer = node.mcp("mcp-boot", &[]).expect(0);
    let lines = complaints(&answer);
    assert!(lines.contains(&format!("mcp-boot: b/vm: not started: {clash}").as_str()), "{answer:#?}");
    let memory = "mcp-boot: m/vm: not started: memory_mb: 1000000 MiB ";
    assert!(lines.iter().any(|l| l.starts_with(memory)), "{answer:#?}");
    let up = ["f", "a", "z", "b", "m"].map(|name| !uuid(&node, &format!("{name}/vm")).is_empty());
    assert_eq!(up[..3], [true; 3], "{answer:#?}");
    assert_eq!((node.qemu("b/vm"), node.qemu("m/vm")), (0, 0));
    let mut boot = Boot::start(&node, &[]);
    boot.until("z/vm: runs already");
    boot.end().expect(0);
}
