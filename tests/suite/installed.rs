//! `mcp-status --installed`, which must agree with what a start then says, and `mcp-run --no-restart`: real Nanos VMs and
//! containers.

use crate::harness::{
    Answer, Node, Podman, finish, free_port, get, hello_image, image, in_own_network, microvm, nanos, ops_config,
    program, rootfs, until,
};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn kill(pid: i32, signal: i32) {
    assert!(pid > 0);
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, signal) };
}

/// Every file and folder of the node, with its size: what a question must not change.
fn files(node: &Node) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![node.root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten().filter(|e| e.file_name() != "podman") {
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                folders.push(entry.path());
            }
            found.push((entry.path(), if about.is_dir() { 0 } else { about.len() }));
        }
    }
    found.sort();
    found
}

/// Asks, and fails unless nothing was changed by that and the answer has no standard output.
#[track_caller]
fn installed(node: &Node, target: &str, code: i32) -> Answer {
    let before = files(node);
    let answer = node.mcp("mcp-status", &["--installed", target]).expect(code);
    assert_eq!(files(node), before, "asking changed something");
    assert_eq!(answer.out, "");
    answer
}

/// What stands after the program's name.
fn reason(answer: &Answer) -> String {
    answer.one_line().split_once(": ").unwrap().1.to_string()
}

/// One thing that is broken: both say no, with the same reason, which has `words`.
#[track_caller]
fn both_refuse(node: &Node, target: &str, words: &str) {
    let (asked, started) =
        (installed(node, target, 1), node.mcp("mcp-run", &["--detach", "--no-restart", target]).expect(100));
    assert_eq!(reason(&asked), reason(&started));
    assert!(reason(&asked).contains(words), "{asked:#?}");
}

/// Moves `path` away while `then` looks.
fn without(path: &Path, then: impl FnOnce()) {
    let away = path.with_extension("away");
    fs::rename(path, &away).unwrap();
    then();
    fs::rename(away, path).unwrap();
}

/// Has `path` end after `size` bytes while `then` looks.
fn cut(path: &Path, size: usize, then: impl FnOnce()) {
    let whole = fs::read(path).unwrap();
    fs::write(path, &whole[..size]).unwrap();
    then();
    fs::write(path, whole).unwrap();
}

/// Pull, build and record.
fn record(node: &Node, service: &str) {
    let bin = program("mcp-run").parent().unwrap().display().to_string();
    let mut command = node.command("mcp-run", &[]);
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mcp-deploy");
    let environment: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    command = std::process::Command::new(script);
    command.args(["--record-only", service]).envs(environment).env("PATH", path).env_remove("MCP_LOG");
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    finish(command, "mcp-deploy --record-only").expect(0);
}

#[test]
fn what_is_broken_is_not_installed_and_a_start_says_the_same() {
    let node = Node::new();
    let Some(config) = ops_config("what_is_broken") else { return };
    node.configure(&config);
    let reference = hello_image(&node).reference();
    let port = free_port();
    let service = format!(
        "name = \"web\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\nimage = \"{reference}\"\n\
         ports = [\"127.0.0.1:{port}:8080\"]\nvolumes = [\"data:/srv:16M\"]\n"
    );
    both_refuse(&node, "web", "no such service");
    node.define("web", &service.replace("image =", "imgae ="));
    let broken = installed(&node, "web", 1);
    assert!(broken.err.contains("web.toml:5: ") && broken.err.contains("imgae"), "{broken:#?}");
    assert_eq!(node.mcp("mcp-run", &["--detach", "web"]).expect(100).err.replace("mcp-run", "mcp-status"), broken.err);
    node.define("web", &service);
    both_refuse(&node, "web", "web/web: never deployed: mcp deploy web/web");
    record(&node, "web");
    assert_eq!(installed(&node, "web", 0).err, "");
    assert_eq!(installed(&node, "web/web", 0).err, "");
    both_refuse(&node, "web/none", "no such component");

    let record: serde_json::Value =
        serde_json::from_str(&node.mcp("mcp-record", &["--json", "web/web"]).expect(0).out).unwrap();
    let version = [&record["record"]["candidate"], &record["record"]["current"]].into_iter().find(|v| v.is_object());
    let build = node.root.join("lib/store/builds").join(version.unwrap()["pin"]["build"].as_str().unwrap());
    let built: serde_json::Value = serde_json::from_slice(&fs::read(build.join("boot.json")).unwrap()).unwrap();
    let part = |value: &serde_json::Value| build.join(value.as_str().unwrap());
    let (disk, kernel) = (part(&built["disk"]), part(&built["kernel"]));
    without(&disk, || both_refuse(&node, "web", "disk image missing: no such file"));
    cut(&disk, 0, || both_refuse(&node, "web", "empty, so not a disk image"));
    cut(&disk, 1 << 20, || both_refuse(&node, "web", "truncated: "));
    without(&kernel, || both_refuse(&node, "web", "kernel missing: no such file"));
    // The starts that failed may have made it already.
    let _ = fs::remove_file(node.root.join("lib/volumes/web/web/data.raw"));
    without(&part(&built["volumes"][0]["empty"]), || both_refuse(&node, "web", "empty volume missing: no such file"));
    cut(&build.join("boot.json"), 7, || both_refuse(&node, "web", "boot.json: damaged build: "));
    let lib = node.root.join("lib/registry/web/web.json");
    cut(&lib, 7, || both_refuse(&node, "web", "web.json: damaged record"));
    for (config, words) in [
        ("[qemu]\nbinary = \"/none/qemu\"\n", "/none/qemu: not found; install it"),
        ("[qemu]\nuid_range = [4294967290, 4294967294]\naccel = \"kvm\"\n", ""),
        ("[qemu]\nbinry = \"x\"\n", "binry"),
    ] {
        // Some machines have KVM.
        if words.is_empty() && Path::new("/dev/kvm").exists() {
            continue;
        }
        node.configure(config);
        both_refuse(&node, "web", words);
    }
    node.configure(&config);
    // A start would fetch it again; nothing of it is here.
    without(&build, || {
        let told = installed(&node, "web", 1);
        assert_eq!(reason(&told), "web/web: its image is not in the store any more; mcp deploy web/web");
    });
    for usage in [vec!["--installed", "a/b/c"], vec!["--installed"], vec!["--installed", "web", "--json"]] {
        node.mcp("mcp-status", &usage).expect(2);
    }

    // Whole: it starts where there is no network, and was quickly asked for.
    let took = (0..5).map(|_| installed(&node, "web", 0).took).min().unwrap();
    assert!(took < Duration::from_millis(250), "{took:?}");
    in_own_network(|| {
        node.mcp("mcp-run", &["--detach", "--wait", "--no-restart", "web"]).expect(0);
        assert!(get(port, "/").is_some());
        installed(&node, "web", 0);
        node.mcp("mcp-stop", &["web"]).expect(0);
    });
    installed(&node, "web", 0);
    // What was deployed and has lost its definition is not this node's to run.
    without(&node.root.join("etc/services/web.toml"), || {
        assert!(reason(&installed(&node, "web", 1)).starts_with("web/web: no definition on this node"));
    });
}

#[test]
fn each_component_that_could_not_start_is_told() {
    let Some(image) = image("each_component", &[], &[("data", "/srv")]) else { return };
    let node = Node::new();
    node.define(
        "shop",
        &format!(
            "name = \"shop\"\n[[components]]\nname = \"a\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
             [[components]]\nname = \"b\"\nruntime = \"unikernel\"\ndisk = \"/none.img\"\n\
             [[components]]\nname = \"c\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
             volumes = [\"data:/srv\"]\n\
             [[components]]\nname = \"d\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nmemory_mb = 1000000\n",
            image.disk, image.kernel, image.disk, image.kernel, image.disk
        ),
    );
    let told = installed(&node, "shop", 1);
    let lines: Vec<&str> = told.err.lines().collect();
    assert_eq!(lines.len(), 3, "{told:#?}");
    assert!(lines[0].ends_with("/none.img: disk image missing: no such file"), "{told:#?}");
    assert!(lines[1].contains("c/data.raw: volume missing"), "{told:#?}");
    assert!(lines[2].contains("shop/d: memory_mb: 1000000 MiB"), "{told:#?}");
    for (component, words) in [("b", "missing"), ("c", "volume missing"), ("d", "than this node has")] {
        both_refuse(&node, &format!("shop/{component}"), words);
    }
    installed(&node, "shop/a", 0);
    // A wish is another question: what an operator stopped could start all the same.
    node.mcp("mcp-run", &["--detach", "shop/a"]).expect(0);
    node.mcp("mcp-stop", &["shop/a"]).expect(0);
    installed(&node, "shop/a", 0);
}

#[test]
fn what_a_microvm_wants_of_the_node() {
    let node = Node::new();
    if !microvm("what_a_microvm_wants", &node) {
        return;
    }
    let service = format!(
        "name = \"m\"\n[[components]]\nname = \"m\"\nruntime = \"microvm\"\nrootfs = \"{}\"\nargs = [\"/hello\"]\n\
         volumes = [\"data:/srv:16M\"]\nmemory_mb = 128\n",
        rootfs(&node)
    );
    node.define("m", &service);
    installed(&node, "m", 0);
    let hide = |path: &str| node.root.join(path);
    without(&hide("rootfs"), || both_refuse(&node, "m", "rootfs: No such file or directory"));
    node.define("m", &service.replace("16M", "1M"));
    both_refuse(&node, "m", "1048576 bytes are too few for a volume");
    node.define("m", &service);
    let mut no_init = node.command("mcp-status", &["--installed", "m"]);
    no_init.env("MCP_GUEST_INIT", "/none/init");
    let told = finish(no_init, "without an init").expect(1);
    assert_eq!(reason(&told), "/none/init: no such file (MCP_GUEST_INIT)");
    node.configure("[microvm]\nkernel = \"/none/vmlinux\"\n");
    both_refuse(&node, "m", "/none/vmlinux: guest kernel: No such file or directory");
    node.configure("");

    // One whose root disk was made of an image.
    let (reference, secrets) = (hello_image(&node).reference(), node.root.join("secrets"));
    fs::write(&secrets, "A=b\n").unwrap();
    node.define(
        "i",
        &format!(
            "name = \"i\"\n[[components]]\nname = \"i\"\nruntime = \"microvm\"\nimage = \"{reference}\"\n\
             env_file = \"{}\"\nmemory_mb = 128\n",
            secrets.display()
        ),
    );
    record(&node, "i");
    installed(&node, "i", 0);
    without(&secrets, || both_refuse(&node, "i", "secrets: "));
    let disk =
        crate::harness::find(&node.root.join("lib/store/builds"), &|name| name.ends_with(".sqfs")).pop().unwrap();
    without(&disk, || both_refuse(&node, "i", "root disk missing: no such file"));
    cut(&disk, 4096, || both_refuse(&node, "i", "truncated: "));
    cut(&disk, 10, || both_refuse(&node, "i", "not a squashfs"));
    installed(&node, "i", 0);
}

#[test]
fn a_container_is_installed_when_podman_has_its_image() {
    let node = Node::new();
    let Some(podman) = Podman::empty("container_is_installed", &node) else { return };
    podman.image("localhost/web:1", &json!({ "Entrypoint": ["/act"], "Cmd": ["sleep"] }));
    let folder = node.root.join("folder");
    fs::create_dir(&folder).unwrap();
    let service = format!(
        "name = \"web\"\n[[components]]\nname = \"web\"\nimage = \"localhost/web:1\"\nnetwork = \"host\"\n\
         volumes = [\"{}:/data\"]\nstop_timeout = \"2s\"\n",
        folder.display()
    );
    node.define("web", &service);
    both_refuse(&node, "web", "web/web: never deployed: mcp deploy web/web");
    record(&node, "web");
    installed(&node, "web", 0);
    without(&folder, || both_refuse(&node, "web", "no such file or directory on this node"));
    node.configure("[podman]\nbinary = \"/none/podman\"\n");
    both_refuse(&node, "web", "/none/podman: not found");
    node.configure("");
    in_own_network(|| {
        crate::harness::podman::own_mounts();
        node.mcp("mcp-run", &["--detach", "--wait", "--no-restart", "web"]).expect(0);
        node.mcp("mcp-stop", &["web"]).expect(0);
    });
    for name in podman.ask(&["images", "-q"]).lines() {
        podman.ask(&["rmi", "--force", name]);
    }
    let told = reason(&installed(&node, "web", 1));
    assert!(told.starts_with("web/web: its image ") && told.contains("is not among podman's"), "{told}");
}

/// Nanos with a definition of which every end calls for a restart.
fn define_always(node: &Node, disk: &str, kernel: &str, port: u16) {
    node.define(
        "web",
        &format!(
            "name = \"web\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{disk}\"\n\
             kernel = \"{kernel}\"\nports = [\"127.0.0.1:{port}:8080\"]\nrestart = \"always\"\n\
             on_unhealthy = \"restart\"\n"
        ),
    );
}

#[test]
fn without_restarts_each_end_of_a_vm_is_one() {
    let Some(image) = nanos("without_restarts", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define_always(&node, &image.disk, &image.kernel, port);
    let start = ["--detach", "--wait", "--no-restart", "web"];
    let gone = || node.supervisor("web/web") == 0;
    node.mcp("mcp-run", &start).expect(0);
    kill(node.qemu("web/web"), libc::SIGKILL);
    until("the end", gone);
    assert_eq!((node.state("web/web")["phase"].as_str(), node.qemu("web/web")), (Some("ended"), 0));
    // One that was adopted, and one that was put in the place of another, are left alone as well.
    node.mcp("mcp-run", &start).expect(0);
    let vm = node.qemu("web/web");
    kill(node.supervisor("web/web"), libc::SIGKILL);
    until("unsupervised", || node.mcp("mcp-status", &["web"]).out.contains("unsupervised"));
    node.mcp("mcp-run", &start).expect(0);
    assert_eq!(node.qemu("web/web"), vm);
    node.mcp("mcp-run", &["--replace", "web"]).expect(0);
    assert_ne!(node.qemu("web/web"), vm);
    kill(node.qemu("web/web"), libc::SIGKILL);
    until("the end", gone);
    // With its policy it comes again.
    node.mcp("mcp-run", &["--detach", "--wait", "web"]).expect(0);
    let vm = node.qemu("web/web");
    kill(vm, libc::SIGKILL);
    until("another VM", || ![0, vm].contains(&node.qemu("web/web")));
    node.mcp("mcp-stop", &["web"]).expect(0);
    node.mcp("mcp-run", &["--no-restart", "web"]).expect(2);
}

#[test]
fn without_restarts_a_start_that_leaves_nothing_running_has_failed() {
    let test = "leaves_nothing_running";
    let node = Node::new();
    for (code, args) in [(1, "0"), (7, "7")] {
        let Some(image) = nanos(test, &["--no-listen", "--exit-after", "0", "--exit-code", args]) else { return };
        define_always(&node, &image.disk, &image.kernel, free_port());
        let answer = node.mcp("mcp-run", &["--detach", "--wait", "--no-restart", "web"]).expect(code);
        assert_eq!(node.supervisor("web/web"), 0, "{answer:#?}");
        assert!(answer.err.contains("web/web: "), "{answer:#?}");
    }
}

#[test]
fn without_restarts_an_unhealthy_container_ends() {
    let node = Node::new();
    let Some(podman) = Podman::empty("unhealthy_container_ends", &node) else { return };
    let port = free_port();
    let cmd = ["serve", &port.to_string()].map(str::to_string);
    podman.image("localhost/web:1", &json!({ "Entrypoint": ["/act"], "Cmd": cmd }));
    node.define(
        "web",
        &format!(
            "name = \"web\"\n[[components]]\nname = \"web\"\nimage = \"localhost/web:1\"\nnetwork = \"host\"\n\
             ports = [\"127.0.0.1:{port}:{port}\"]\nrestart = \"always\"\non_unhealthy = \"restart\"\n\
             stop_timeout = \"2s\"\n[components.health]\nkind = \"http\"\nport = {port}\ninterval = \"100ms\"\n\
             failures = 2\npath = \"/index.html\"\n"
        ),
    );
    record(&node, "web");
    node.mcp("mcp-run", &["--detach", "--wait", "--no-restart", "web"]).expect(0);
    let name = podman.names().pop().unwrap();
    // From outside: the container may end before a `podman exec` in it has answered.
    let pid = podman.ask(&["inspect", "--format", "{{.State.Pid}}", &name]);
    fs::remove_file(format!("/proc/{pid}/root/www/index.html")).unwrap();
    until("the end", || node.supervisor("web/web") == 0);
    assert_eq!(node.state("web/web")["end"]["by"], "mcp");
    assert_eq!(podman.names(), Vec::<String>::new());
}
