//! `placement = "cluster"`: nothing on a node starts such a service by itself, and by hand all works as ever. Real Nanos VMs
//! and containers.

use crate::harness::{Answer, Node, Podman, finish, free_port, get, hello_image, nanos, ops_config, program, until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const PLACED: &str = "placed by the cluster";

fn kill(pid: i32) {
    assert!(pid > 0);
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// A service of one component `web`, a Nanos VM.
fn vm(name: &str, image: &crate::harness::Image, port: u16, more: &str) -> String {
    format!(
        "name = \"{name}\"\n{more}\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\n\
         kernel = \"{}\"\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n",
        image.disk, image.kernel
    )
}

/// What `mcp-status --json` says of one component.
fn told(node: &Node, id: &str) -> Value {
    let answer = node.mcp("mcp-status", &["--json", id]);
    serde_json::from_str::<Value>(&answer.out).unwrap()["components"][0].clone()
}

/// Its state and drift.
fn stands(node: &Node, id: &str) -> (String, Value) {
    let told = told(node, id);
    (told["state"].as_str().unwrap().to_string(), told["drift"].clone())
}

/// Fails the test where anything that goes round starts, adopts or stops `placed/web`.
#[track_caller]
fn is_left_alone(node: &Node) {
    let before = (node.supervisor("placed/web"), node.qemu("placed/web"));
    let boot = node.mcp("mcp-boot", &["--strict"]).expect(0);
    let said = format!("placed/web: shall stay stopped: {PLACED}");
    let lines: Vec<&str> = boot.out.lines().filter(|l| l.contains("placed/web")).collect();
    assert!(lines.len() == 1 && lines[0].contains(PLACED), "wanted {said:?}: {boot:#?}");
    let all = node.mcp("mcp-run", &["--all", "--detach", "--recover"]).expect(0);
    assert!(all.out.contains(&format!("placed/web: left alone: {PLACED}\n")), "{all:#?}");
    for target in ["placed", "placed/web"] {
        for detach in [&["--detach"][..], &["--by-init"], &[]] {
            let one = node.mcp("mcp-run", &[&["--recover"], detach, &[target]].concat()).expect(0);
            assert!(one.one_line().contains(&format!("placed/web: {PLACED}, so it is not started")), "{one:#?}");
        }
    }
    assert_eq!((node.supervisor("placed/web"), node.qemu("placed/web")), before);
}

#[test]
fn nothing_starts_by_itself_what_the_cluster_places() {
    let Some(image) = nanos("nothing_starts_by_itself", &[]) else { return };
    let node = Node::new();
    let (port, other) = (free_port(), free_port());
    let placement = "placement = \"cluster\"";
    node.configure("[[boot.sequence]]\nname = \"all\"\nservices = [\"placed\", \"own\"]\ntimeout = \"30s\"\n");
    node.define("placed", &vm("placed", &image, port, placement));
    node.define("own", &vm("own", &image, other, "placement = \"node\""));
    let dry = node.mcp("mcp-boot", &["--dry-run"]).expect(0);
    assert!(dry.out.contains(&format!("    left alone: {PLACED}\n")), "{dry:#?}");
    assert!(dry.out.contains("in all: 2 components, of which 1 to start; 256 MiB for VMs; 1 ports"), "{dry:#?}");

    // It was never here: all is as it should be.
    is_left_alone(&node);
    assert!(get(other, "/").is_some() && get(port, "/").is_none());
    node.mcp("mcp-status", &[]).expect(0);
    node.mcp("mcp-health", &["--all", "--record"]).expect(0);
    assert_eq!(stands(&node, "placed/web"), ("absent".into(), json!([])));
    let (placed, own) = (told(&node, "placed/web"), told(&node, "own/web"));
    assert_eq!((&placed["placement"], &placed["wanted"]), (&json!("cluster"), &json!(false)));
    assert_eq!((&own["placement"], &own["wanted"]), (&json!("node"), &json!(true)));
    let sheet = node.mcp("mcp-status", &["-v", "placed"]).expect(0).out;
    assert!(sheet.contains("placement:    cluster\n"), "{sheet}");
    assert!(sheet.contains("wanted:       no (placed by the cluster, and not here now)\n"), "{sheet}");
    node.mcp("mcp-status", &["--wanted", "placed"]).expect(1);

    // By hand, as a cluster manager does it.
    node.mcp("mcp-run", &["--detach", "--wait", "--no-restart", "placed"]).expect(0);
    assert!(get(port, "/").is_some());
    assert_eq!(stands(&node, "placed/web"), ("running".into(), json!([])));
    node.mcp("mcp-status", &["--wanted", "placed"]).expect(0);
    is_left_alone(&node);
    // Where it runs it drifts as any other.
    node.define("placed", &vm("placed", &image, port, placement).replace("5s", "6s"));
    assert_eq!(stands(&node, "placed/web").1, json!(["config"]));
    node.define("placed", &vm("placed", &image, port, "placement = \"cluster\"\nactive = false"));
    assert_eq!(stands(&node, "placed/web").1, json!(["stopped-but-running"]));
    node.define("placed", &vm("placed", &image, port, placement));
    // Its supervisor is lost: the cluster's agent adopts it, nobody else.
    kill(node.supervisor("placed/web"));
    until("unsupervised", || stands(&node, "placed/web").1 == json!(["unsupervised"]));
    is_left_alone(&node);
    node.mcp("mcp-status", &["--again", "placed/web", "--ended", "265"]).expect(1);
    node.mcp("mcp-run", &["--detach", "--wait", "--no-restart", "placed"]).expect(0);
    // Both are killed, as when the node is: its wish is still to run, and it does not come again.
    let (supervisor, qemu) = (node.supervisor("placed/web"), node.qemu("placed/web"));
    kill(supervisor);
    kill(qemu);
    until("gone", || stands(&node, "placed/web") == ("failed".into(), json!([])));
    assert_eq!(told(&node, "placed/web")["wish"], "run");
    is_left_alone(&node);
    let replaced = node.mcp("mcp-run", &["--all", "--replace"]).expect(0);
    assert!(replaced.out.contains(&format!("placed/web: left alone: {PLACED}, does not run on this node\n")));
    assert!(replaced.out.contains("own/web replaced\n"), "{replaced:#?}");

    // The node goes down, and leaves nothing.
    node.mcp("mcp-run", &["--detach", "--no-restart", "placed"]).expect(0);
    let down = node.mcp("mcp-boot", &["--down"]).expect(0);
    assert!(down.one_line().contains("placed/web: placed by the cluster, which has not moved it"), "{down:#?}");
    assert_eq!((node.qemu("placed/web"), node.qemu("own/web")), (0, 0));
    // Whoever stopped it, it is not missing.
    assert_eq!(stands(&node, "placed/web"), ("stopped".into(), json!([])));
    assert_eq!(stands(&node, "own/web").1, json!(["missing"]));
}

#[test]
fn what_the_cluster_places_is_no_service_of_the_init() {
    let Some(image) = nanos("no_service_of_the_init", &[]) else { return };
    let node = Node::new();
    let (port, other) = (free_port(), free_port());
    // What an init's command is: it starts the component, and leaves a word.
    let script = node.root.join("start");
    let run = program("mcp-run").display().to_string();
    fs::write(&script, format!("#!/bin/sh\necho \"$1\" >>'{}/started'\n{run} --detach own\n", node.root.display()))
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    node.configure(&format!("[boot]\nstart_command = [\"{}\", \"{{name}}\"]\n", script.display()));
    node.define(
        "placed",
        &vm("placed", &image, port, "placement = \"cluster\"").replace("stop_", "restart = \"always\"\nstop_"),
    );
    node.define("own", &vm("own", &image, other, ""));
    node.mcp("mcp-run", &["--by-init", "--wait", "placed", "own"]).expect(0);
    assert!(get(port, "/").is_some() && get(other, "/").is_some());
    let started = fs::read_to_string(node.root.join("started")).unwrap();
    assert!(started.contains("own") && !started.contains("placed"), "{started}");
    // Its ends are the cluster's to answer.
    kill(node.qemu("placed/web"));
    until("the end", || node.supervisor("placed/web") == 0);
    node.mcp("mcp-stop", &["own"]).expect(0);
}

#[test]
fn units_have_nothing_of_what_the_cluster_places() {
    let node = Node::new();
    let service = |name: &str, more: &str, port: u16| {
        format!(
            "name = \"{name}\"\n{more}\n[[components]]\nname = \"web\"\nimage = \"localhost/x:1\"\n\
             ports = [\"127.0.0.1:{port}:80\"]\n"
        )
    };
    node.configure("[boot]\ninit = \"systemd\"\n[[boot.sequence]]\nname = \"all\"\nservices = [\"zebra\", \"own\"]\n");
    node.define("zebra", &service("zebra", "placement = \"cluster\"", 81));
    node.define("yak", &service("yak", "placement = \"cluster\"", 82));
    node.define("own", &service("own", "", 83));
    for init in ["systemd", "s6", "s6-rc", "runit", "openrc", "dinit"] {
        let dest = node.root.join(init);
        let told = node.mcp("mcp-units", &[init, "--dest", dest.to_str().unwrap()]).expect(0);
        let said = format!("yak, zebra: {PLACED}, so nothing is written for it");
        assert!(told.err.contains(&said), "{told:#?}");
        let written = crate::harness::find(&dest, &|_| true);
        let text = |path: &std::path::PathBuf| fs::read_to_string(path).unwrap_or_default();
        let all: String = written.iter().map(|p| p.display().to_string() + &text(p)).collect();
        assert!(all.contains("own") && !all.contains("yak") && !all.contains("zebra"), "{init}:\n{all}");
    }
    let generated = node.root.join("generated");
    fs::create_dir(&generated).unwrap();
    let made = node.mcp("mcp-units", &["--generator", "--dest", generated.to_str().unwrap(), "systemd"]).expect(0);
    assert_eq!(made.err, "");
    let scope = || fs::read_to_string(generated.join("libpod-.scope.d/50-mcp.conf")).unwrap();
    assert!(scope().contains("Before=mcp-containers.target pacemaker.service\n"), "{}", scope());
    assert!(!generated.join("mcp-component@zebra-web.service.d").exists());
    // Nothing but the cluster's.
    fs::remove_file(node.root.join("etc/services/own.toml")).unwrap();
    fs::remove_file(node.root.join("etc/services/zebra.toml")).unwrap();
    node.configure("[boot]\ninit = \"systemd\"\n");
    node.mcp("mcp-units", &["--generator", "--dest", generated.to_str().unwrap(), "systemd"]).expect(0);
    assert!(scope().contains("Before=pacemaker.service\n"), "{}", scope());
}

/// `mcp-deploy` with our programs on PATH.
fn deploy(node: &Node, args: &[&str]) -> Answer {
    let bin = program("mcp-run").parent().unwrap().display().to_string();
    let ours = node.command("mcp-run", &[]);
    let mut command = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mcp-deploy"));
    command.args(args).env_remove("MCP_LOG").env_remove("NOTIFY_SOCKET");
    command.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()));
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    finish(command, &format!("mcp-deploy {args:?}"))
}

/// Deployed where it does not run, and where it does, in the words of its `how`.
fn deployed(node: &Node, define: &dyn Fn(&str), how: &str, serves: &dyn Fn() -> bool) {
    define("10s");
    let dry = deploy(node, &["--dry-run", "placed"]).expect(0);
    assert!(dry.out.contains(&format!("placed/web recorded alone: {PLACED}, does not run on this node")), "{dry:#?}");
    let recorded = deploy(node, &["placed"]).expect(0);
    let said = format!("placed/web: recorded; {PLACED}, does not run on this node\n");
    assert!(recorded.out.contains(&said), "{recorded:#?}");
    assert_eq!(node.supervisor("placed/web"), 0);
    node.mcp("mcp-status", &["--installed", "placed"]).expect(0);
    node.mcp("mcp-run", &["--detach", "--wait", "--no-restart", "placed"]).expect(0);
    assert!(serves());
    let again = deploy(node, &["placed"]).expect(0);
    assert!(again.out.contains("placed/web: runs already as deployed"), "{again:#?}");
    define("11s");
    let again = deploy(node, &["placed"]).expect(0);
    assert!(again.out.contains("placed/web replaced") && !again.out.contains(PLACED), "{again:#?}");
    let dry = deploy(node, &["--dry-run", "placed"]).expect(0);
    assert!(dry.out.contains(how), "{dry:#?}");
    assert!(serves());
    // Unsupervised is running: it gets a supervisor that restarts nothing, and goes on as deployed.
    kill(node.supervisor("placed/web"));
    define("12s");
    deploy(node, &["placed"]).expect(0);
    assert!(serves());
    assert_eq!(stands(node, "placed/web"), ("running".into(), json!([])));
    node.mcp("mcp-stop", &["placed"]).expect(0);
    define("13s");
    let recorded = deploy(node, &["placed"]).expect(0);
    assert!(recorded.out.contains(&said), "{recorded:#?}");
    assert_eq!(stands(node, "placed/web"), ("stopped".into(), json!([])));
}

#[test]
fn a_deploy_of_a_vm_records_where_it_does_not_run() {
    let node = Node::new();
    let Some(config) = ops_config("deploy_of_a_vm_records") else { return };
    node.configure(&config);
    let (reference, port) = (hello_image(&node).reference(), free_port());
    let define = |stop: &str| {
        node.define(
            "placed",
            &format!(
                "name = \"placed\"\nplacement = \"cluster\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\n\
                 image = \"{reference}\"\nports = [\"127.0.0.1:{port}:8080\"]\nrestart = \"always\"\n\
                 stop_timeout = \"{stop}\"\n"
            ),
        );
    };
    deployed(&node, &define, "in place: the new VM boots beside the old one", &|| get(port, "/").is_some());
}

#[test]
fn a_deploy_of_a_container_records_where_it_does_not_run() {
    let node = Node::new();
    let Some(podman) = Podman::empty("deploy_of_a_container_records", &node) else { return };
    let port = free_port();
    podman.image("localhost/web:1", &json!({ "Entrypoint": ["/act"], "Cmd": ["serve", port.to_string()] }));
    let define = |stop: &str| {
        node.define(
            "placed",
            &format!(
                "name = \"placed\"\nplacement = \"cluster\"\n[[components]]\nname = \"web\"\nimage = \"localhost/web:1\"\n\
                 network = \"host\"\nports = [\"127.0.0.1:{port}:{port}\"]\nstop_timeout = \"{stop}\"\n"
            ),
        );
    };
    deployed(&node, &define, "stopped and started: it is a container", &|| get(port, "/").is_some());
}

#[test]
fn doctor_says_what_the_cluster_wants_of_a_node() {
    let Some(image) = nanos("doctor_and_the_cluster", &[]) else { return };
    let node = Node::new();
    let (ocf, bin) = (node.root.join("ocf"), node.root.join("bin"));
    let ask = || {
        let mut command = node.command("mcp-status", &["--doctor", "--json"]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("OCF_ROOT", &ocf).env("PATH", format!("{}:{path}", bin.display()));
        let answer = finish(command, "mcp-status --doctor --json");
        serde_json::from_str::<Value>(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:#?}"))
    };
    let of = |told: &Value, id: &str| -> Vec<String> {
        let all = told["findings"].as_array().unwrap().iter().filter(|f| f["id"] == id);
        let text = |f: &Value, key: &str| f[key].as_str().unwrap_or_default().to_string();
        all.map(|f| ["grade", "subject", "text", "way_out"].map(|key| text(f, key)).join("|")).collect()
    };
    // A node that has nothing of it is not told about clusters.
    node.define("own", &vm("own", &image, free_port(), ""));
    let told = ask();
    assert!(["pacemaker", "resource-agent", "placement"].iter().all(|id| of(&told, id).is_empty()), "{told:#}");
    node.define("placed", &vm("placed", &image, free_port(), "placement = \"cluster\""));
    node.define(
        "image",
        "name = \"image\"\nplacement = \"cluster\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\n\
         image = \"localhost:1/x:1\"\n",
    );
    node.configure("[[boot.sequence]]\nname = \"all\"\nservices = [\"own\"]\n");
    let told = ask();
    let agent = of(&told, "resource-agent");
    assert!(
        agent.len() == 1 && agent[0].starts_with("fail|") && agent[0].contains("resource.d/mcp/component"),
        "{told:#}"
    );
    let placement = of(&told, "placement");
    let wanted = "fail|image/web|never deployed: mcp deploy image/web|";
    assert_eq!(placement, [wanted], "{told:#}");
    // No stage wants it: it is no news that none has it.
    assert!(of(&told, "stages")[0].starts_with("ok|"), "{told:#}");
    // Some machines have Pacemaker.
    if !std::path::Path::new("/usr/sbin/pacemakerd").exists() {
        assert!(of(&told, "pacemaker")[0].contains("apt install pacemaker"), "{told:#}");
    }
    fs::create_dir_all(ocf.join("resource.d/mcp")).unwrap();
    fs::create_dir_all(&bin).unwrap();
    for program in [ocf.join("resource.d/mcp/component"), bin.join("pacemakerd"), bin.join("crm_resource")] {
        symlink("/bin/true", program).unwrap();
    }
    fs::remove_file(node.root.join("etc/services/image.toml")).unwrap();
    let told = ask();
    for id in ["pacemaker", "resource-agent", "placement"] {
        assert!(of(&told, id).iter().all(|f| f.starts_with("ok|")), "{told:#}");
    }
    assert_eq!(of(&told, "placement"), ["ok|placement|1 services, and all of them could run here|"]);
    // Told once, with what it keeps from here.
    node.configure("[qemu]\nbinary = \"/none/qemu\"\n");
    let told = ask();
    assert!(of(&told, "placement").iter().all(|f| f.contains("so the cluster can't put placed/web here")), "{told:#}");
}

#[test]
fn a_placement_is_a_word_of_two() {
    let node = Node::new();
    node.define("web", "name = \"web\"\nplacement = \"clutser\"\n[[components]]\nname = \"a\"\nimage = \"x:1\"\n");
    let told = node.mcp("mcp-status", &["web"]).expect(1);
    assert!(
        told.err.contains("web.toml:2: placement: ") && told.err.contains("did you mean \"cluster\"?"),
        "{told:#?}"
    );
}
