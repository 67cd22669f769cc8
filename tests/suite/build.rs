//! `mcp-build`: through the real `ops`, and with one that misbehaves.

use crate::harness::{Answer, Node, find, free_port, get, hello, hello_image, oci_image, ops_config, until, wait};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A node where the example program was pulled as a unikernel: the directory that mcp-pull printed.
fn pulled(test: &str) -> Option<(Node, String)> {
    let config = ops_config(test)?;
    let node = Node::new();
    node.configure(&config);
    let path = pull(&node, &hello_image(&node).reference(), &[]);
    Some((node, path))
}

fn pull(node: &Node, reference: &str, options: &[&str]) -> String {
    let answer = node.mcp("mcp-pull", &[&["-q", reference], options].concat()).expect(0);
    answer.out.trim().rsplit(' ').next().unwrap().to_string()
}

/// Key and directory that mcp-build printed.
fn built(answer: Answer) -> (String, PathBuf) {
    let answer = answer.expect(0);
    let (key, path) = answer.out.trim().split_once(' ').unwrap_or_else(|| panic!("{answer:#?}"));
    (key.into(), path.into())
}

fn names(dir: PathBuf) -> Vec<String> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name().into_string().unwrap()).collect()
}

/// Nothing is half made, locked or left to be made.
#[track_caller]
fn is_clean(node: &Node) {
    let store = node.root.join("lib/store");
    for dir in ["tmp", "locks"] {
        assert_eq!(names(store.join(dir)), [""; 0], "{dir}");
    }
    assert!(find(&node.root.join("run/.uids"), &|_| true).is_empty());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// An `ops` that misbehaves; the Nanos is the real one.
fn fake_ops(node: &Node, config: &str, mode: &str) {
    let text = include_str!("../fake/ops").replace("mode=MODE", &format!("mode={mode}"));
    let path = node.root.join("ops");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let home = config.lines().find(|l| l.starts_with("home")).unwrap();
    node.configure(&format!("[ops]\nbinary = \"{}\"\n{home}\n", path.display()));
}

#[test]
fn a_unikernel_is_built_once_and_runs_as_it_was_said() {
    let test = "a_unikernel_is_built_once_and_runs_as_it_was_said";
    let Some(config) = ops_config(test) else { return };
    let node = Node::new();
    node.configure(&config);
    let config = json!({ "Entrypoint": ["/app/hello"], "Cmd": ["--port", "1"], "WorkingDir": "/srv/work",
        "Env": ["PATH=/bin", "FROM=image", "BOTH=image"] });
    let image = oci_image(&node.root.join("oci"), "latest", &config, &[format!("{}=/app/hello", hello().display())]);
    let path = pull(&node, &image.reference(), &[]);
    let args =
        ["--arg", "--port", "--arg", "8080", "--arg", "--graceful", "--env", "BOTH=a=b \"c\" $d\\", "--env", "EMPTY="];
    let args = [&args[..], &["--volume", "data:/var/data:32M", &path]].concat();
    let (key, dir) = built(node.mcp("mcp-build", &args));
    assert_eq!(dir, node.root.join("lib/store/builds").join(&key));
    let again = node.mcp("mcp-build", &[&args[..], &["--json"]].concat()).expect(0);
    let told: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((&told["builds"][0]["key"], &told["builds"][0]["new"]), (&json!(key), &json!(false)));
    assert_ne!(built(node.mcp("mcp-build", &[&args[..], &["--env", "X=y"]].concat())).0, key);
    is_clean(&node);
    let boot: Value = serde_json::from_slice(&fs::read(dir.join("boot.json")).unwrap()).unwrap();
    assert_eq!(boot["volumes"][0], json!({ "name": "data", "path": "/var/data", "empty": "volume-data.raw" }));
    assert_eq!((mode(&dir), mode(&dir.join("disk.raw")), mode(&dir.join("volume-data.raw"))), (0o700, 0o600, 0o600));
    let disk = fs::metadata(dir.join("disk.raw")).unwrap();
    assert_eq!((disk.uid(), disk.nlink()), (nix::unistd::geteuid().as_raw(), 1));
    assert!(disk.blocks() * 512 < 16 << 20 && disk.len() > 128 << 20, "{disk:?}");
    assert_eq!(fs::metadata(dir.join("volume-data.raw")).unwrap().len(), 32 << 20);

    let volumes = node.root.join("lib/volumes/demo/demo");
    fs::create_dir_all(&volumes).unwrap();
    fs::copy(dir.join("volume-data.raw"), volumes.join("data.raw")).unwrap();
    let (disk, kernel) = (dir.join("disk.raw"), dir.join(boot["kernel"].as_str().unwrap()));
    let port = free_port();
    let forward = format!("{port}:8080");
    let (disk, kernel) = (disk.to_str().unwrap(), kernel.to_str().unwrap());
    let mut start = vec!["--name", "demo", "--disk", disk, "--kernel", kernel, "--port", &forward, "--detach"];
    start.extend(["--volume", "data:/var/data"]);
    node.mcp("mcp-run-vm", &start).expect(0);
    until("it serves", || get(port, "/health").is_some());
    assert_eq!(get(port, "/args").unwrap(), "/app/hello\n--port\n8080\n--graceful\n");
    assert_eq!(get(port, "/cwd").unwrap(), "/srv/work\n");
    let env = get(port, "/env").unwrap();
    for line in ["PATH=/bin", "FROM=image", "BOTH=a=b \"c\" $d\\", "EMPTY=", "HOME=/root", "PWD=/srv/work"] {
        assert!(env.lines().any(|l| l == line), "{line}: {env}");
    }
    for file in ["/var/data/x", "/tmp/x", "/srv/work/x"] {
        assert_eq!(get(port, &format!("/write?path={file}&text=kept")).unwrap(), "written\n", "{file}");
    }
    node.mcp("mcp-stop", &["demo"]).expect(0);
    node.mcp("mcp-run-vm", &start).expect(0);
    until("it serves", || get(port, "/health").is_some());
    assert_eq!(get(port, "/read?path=/var/data/x").unwrap(), "kept");
    assert_ne!(get(port, "/read?path=/tmp/x").unwrap(), "kept");
    // The program's own exit code comes through.
    get(port, "/exit?code=7");
    until("it has ended", || node.state("demo/demo")["end"]["code"] == 7);
}

/// With a dynamic program, which plain `ops build` would start to learn its libraries.
#[test]
fn nothing_of_the_image_is_executed() {
    let test = "nothing_of_the_image_is_executed";
    let (Some(config), true) = (ops_config(test), crate::harness::have(test, "strace")) else { return };
    let node = Node::new();
    node.configure(&config);
    let layer = node.root.join("layer");
    let list = Command::new("ldd").arg("/bin/true").output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let files = list.split_whitespace().filter(|w| w.starts_with('/')).chain(["/bin/true"]);
    for file in files {
        let to = layer.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, &to).unwrap();
    }
    let config = json!({ "Entrypoint": ["/bin/true"] });
    let image = oci_image(&node.root.join("oci"), "latest", &config, &[layer]);
    for runtime in ["unikernel", "microvm"] {
        let path = pull(&node, &image.reference(), &["--for", runtime]);
        let trace = node.root.join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=execve,execveat", "-o"]).arg(&trace);
        command.arg(crate::harness::program("mcp-build")).arg(&path).env("MCP_ROOT", &node.root);
        assert!(command.output().unwrap().status.success());
        let trace = fs::read_to_string(trace).unwrap();
        for line in trace.lines().filter(|l| l.contains("exec") && l.ends_with("= 0")) {
            let ours = ["mcp-build\"", "\"ops\"", "/proc/self/exe", "/tar2sqfs\"", "\"/proc/self/fd/"];
            assert!(ours.iter().any(|o| line.contains(o)), "{line}");
            assert!(!line.contains("/true\"") && !line.contains("ld-linux"), "{line}");
        }
        let wanted = if runtime == "unikernel" { "[\"ops\", \"image\", \"create\"" } else { "tar2sqfs" };
        assert!(trace.contains(wanted), "{trace}");
    }
}

#[test]
fn an_ops_that_misbehaves_gets_nothing_into_the_store() {
    let test = "an_ops_that_misbehaves_gets_nothing_into_the_store";
    let Some((node, path)) = pulled(test) else { return };
    let config = ops_config(test).unwrap();
    for (mode, code, told) in [
        ("nothing", 100, "made no image, though it exited with 0"),
        ("unknown", 100, "though it exited with 0: unknown flag: --package"),
        ("short", 100, "made no whole image"),
        ("silent", 100, "made no image, though it exited with 0"),
        ("junk", 100, "made no whole image"),
        ("link", 100, "made no whole image"),
        ("hang", 111, "ops: took too long, stopped"),
        ("full", 111, "no space left on device; make room"),
        ("panic", 100, "ops exited with 2: panic: interface conversion"),
    ] {
        fake_ops(&node, &config, mode);
        let timeout = if mode == "hang" { "1s" } else { "60s" };
        let answer = node.mcp("mcp-build", &["--timeout", timeout, &path]).expect(code);
        assert!(answer.one_line().contains(told), "{mode}: {answer:#?}");
        assert!(answer.out.is_empty() && answer.err.len() < 3000, "{mode}: {answer:#?}");
        assert_eq!(names(node.root.join("lib/store/builds")), [""; 0], "{mode}");
        is_clean(&node);
        assert_eq!(node.processes(), [""; 0], "{mode}");
    }
    assert_eq!(mode(Path::new("/etc/passwd")) & 0o777, 0o644);
}

#[test]
fn ops_runs_as_nobody_with_nothing() {
    let test = "ops_runs_as_nobody_with_nothing";
    let Some((node, path)) = pulled(test) else { return };
    fake_ops(&node, &ops_config(test).unwrap(), "who");
    let mut command = node.command("mcp-build", &[&path]);
    command.env("ops_render_config", "true").env("INCEPTION", "1").env("SECRET", "s3cret");
    let answer = wait(command.spawn().unwrap(), "mcp-build", Instant::now()).expect(100);
    let line = answer.one_line();
    assert!(line.contains("NoNewPrivs:1") && line.contains("HTTPS_PROXY=http://127.0.0.1:9"), "{line}");
    assert!(!line.contains("s3cret") && !line.contains("INCEPTION") && !line.contains("render"), "{line}");
    if nix::unistd::geteuid().is_root() {
        let ids = line.split("exited with 1: ").nth(1).unwrap();
        let ids: Vec<u32> = ids.split(' ').take(2).map(|id| id.parse().unwrap()).collect();
        assert!(ids[0] >= 1_900_000_000 && ids[1] == ids[0], "{line}");
        assert!(line.contains("CapEff:0000000000000000"), "{line}");
    }
}

#[test]
fn of_several_at_once_one_builds() {
    let Some((node, path)) = pulled("of_several_at_once_one_builds") else { return };
    let began = Instant::now();
    let children: Vec<_> = (0..5).map(|_| node.command("mcp-build", &["--json", &path]).spawn().unwrap()).collect();
    let answers: Vec<Value> = children
        .into_iter()
        .map(|child| serde_json::from_str(&wait(child, "mcp-build", began).expect(0).out).unwrap())
        .collect();
    let new = answers.iter().filter(|a| a["builds"][0]["new"] == true).count();
    assert_eq!(new, 1, "{answers:#?}");
    assert!(answers.iter().all(|a| a["builds"][0]["key"] == answers[0]["builds"][0]["key"]));
    is_clean(&node);
}

#[test]
fn killed_at_any_moment_nothing_half_made_is_seen() {
    let Some((node, path)) = pulled("killed_at_any_moment_nothing_half_made_is_seen") else { return };
    let builds = node.root.join("lib/store/builds");
    let args = ["--volume", "data:/srv:8M", path.as_str()];
    let began = Instant::now();
    let (_, dir) = built(node.mcp("mcp-build", &args));
    let whole = began.elapsed();
    for n in 0..20 {
        let _ = fs::remove_dir_all(&dir);
        let mut child = node.command("mcp-build", &args).spawn().unwrap();
        // Spread over a build, and a little more.
        let until = Instant::now() + whole.mul_f64(f64::from(n) / 17.0);
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        child.kill().unwrap();
        child.wait().unwrap();
        for name in names(builds.clone()) {
            let mut there = names(builds.join(name));
            there.sort();
            assert!(there[2].starts_with("kernel-"), "{there:?}");
            assert_eq!(
                (there.len(), &*there[0], &*there[1], &*there[3]),
                (4, "boot.json", "disk.raw", "volume-data.raw")
            );
        }
        until_gone(&node);
    }
    let _ = fs::remove_dir_all(&dir);
    assert_eq!(built(node.mcp("mcp-build", &args)).1, dir);
    is_clean(&node);
}

fn until_gone(node: &Node) {
    until("what it started has ended with it", || node.processes().is_empty());
}

#[test]
fn a_full_disk_leaves_no_trace() {
    let test = "a_full_disk_leaves_no_trace";
    if !crate::disk_trouble::may_mount(test) {
        return;
    }
    let Some((node, path)) = pulled(test) else { return };
    let rest = path.rsplit('/').next().unwrap();
    // Enough for the kernel, and for a part of the disk; then for all of it.
    let script = format!(
        "set -u; cp -a \"$R/lib\" \"$R/kept\"
         for size in 2600k 4800k 7m; do
             mount -t tmpfs -o size=$size none \"$R/lib\" && cp -a \"$R/kept/.\" \"$R/lib\" || exit 99
             \"$B\"/mcp-build \"$R/lib/store/images/{rest}\"; echo \"exit $?\"
             ls \"$R/lib/store/builds\" \"$R/lib/store/tmp\" \"$R/lib/store/locks\"
             umount \"$R/lib\"
         done; rm -r \"$R/kept\"; exit 0"
    );
    let mut command = Command::new("unshare");
    let bin = crate::harness::program("mcp-build");
    command.args(["-m", "sh", "-c", &script]).env("MCP_ROOT", &node.root).env("R", &node.root);
    command.env("B", bin.parent().unwrap()).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let answer = crate::harness::finish(command, "unshare").expect(0);
    assert_eq!(answer.out.matches("exit 111").count(), 3, "{answer:#?}");
    assert!(!answer.out.contains("build-") && !answer.out.contains("disk.raw"), "{answer:#?}");
    assert_eq!(answer.err.to_lowercase().matches("no space left").count(), 3, "{answer:#?}");
}

#[test]
fn a_secret_is_in_the_disk_alone() {
    let test = "a_secret_is_in_the_disk_alone";
    let Some(config) = ops_config(test) else { return };
    let node = Node::new();
    node.configure(&config);
    let image = hello_image(&node);
    let file = node.root.join("secret.env");
    fs::write(&file, "TOKEN=s3cret-one\n").unwrap();
    let define = |active: bool| {
        node.define(
            "demo",
            &format!(
                "name = \"demo\"\nactive = {active}\n[[components]]\nname = \"api\"\nruntime = \"unikernel\"\n\
                 image = \"{}\"\nenv_file = \"{}\"\nargs = [\"--port\", \"8080\"]\nvolumes = [\"data:/srv:8M\"]\n",
                image.reference(),
                file.display()
            ),
        );
    };
    define(true);
    let missing = node.mcp("mcp-build", &["demo"]).expect(100);
    assert!(missing.one_line().contains("its image is not on this node; mcp-pull demo/api"), "{missing:#?}");
    node.mcp("mcp-pull", &["-q", "demo"]).expect(0);
    let (key, dir) = built(node.mcp("mcp-build", &["demo"]));
    assert_eq!(built(node.mcp("mcp-build", &["demo/api"])).0, key);
    let holds = |path: &Path| fs::read(path).unwrap().windows(10).any(|w| w == b"s3cret-one");
    let lib = node.root.join("lib");
    let holders: Vec<PathBuf> = find(&lib, &|_| true).into_iter().filter(|p| holds(p)).collect();
    assert_eq!(holders, [dir.join("disk.raw")]);
    fs::write(&file, "TOKEN=s3cret-two\n").unwrap();
    assert_ne!(built(node.mcp("mcp-build", &["demo"])).0, key);
    let refused = node.mcp("mcp-build", &["demo", "--env", "A=b"]).expect(2);
    assert!(refused.one_line().contains("its definition says how it runs"));
    let refused = node.mcp("mcp-build", &["demo", "--for", "microvm"]).expect(100);
    assert!(refused.one_line().contains("demo/api: a unikernel, its definition says, not a microvm"));
}

#[test]
fn what_cannot_be_built_says_why() {
    let test = "what_cannot_be_built_says_why";
    let Some((node, path)) = pulled(test) else { return };
    let told = |args: &[&str], code: i32| node.mcp("mcp-build", args).expect(code).one_line().to_string();
    assert!(told(&["/nowhere"], 100).contains("not a pulled image"));
    assert!(told(&["--for", "microvm", &path], 100).contains("pulled for a unikernel; mcp-pull --for microvm oci:"));
    assert!(told(&["nothing"], 100).contains("nothing"));
    let long = format!("{}:/srv", "a".repeat(32));
    assert!(told(&["--volume", &long, &path], 100).contains("at most 31 bytes"));
    assert!(told(&["--volume", "data:/hello", &path], 100).contains("data: /hello is no folder of the image"));
    assert!(told(&["--env", "x", &path], 2).contains("not NAME=VALUE"));
    assert!(told(&[], 2).contains("required"));
    assert!(told(&["--gc", &path], 2).contains("cannot be used with"));
    node.configure("[ops]\nbinary = \"/no/ops\"\n");
    let line = told(&[&path], 100);
    assert!(line.contains("https://ops.city") && line.contains("runtime = \"microvm\""), "{line}");
    is_clean(&node);
}

#[test]
fn a_microvm_gets_a_root_that_builds_share() {
    let node = Node::new();
    if !crate::harness::have("a_microvm_gets_a_root_that_builds_share", "tar2sqfs") {
        return;
    }
    let reference = hello_image(&node).reference();
    let lines = node.mcp("mcp-pull", &["-q", "--for", "microvm", &reference]).expect(0).out;
    let mut command = node.command("mcp-build", &["-"]);
    command.stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), lines.as_bytes()).unwrap();
    let (key, dir) = built(wait(child, "mcp-build -", Instant::now()));
    let path = lines.trim().rsplit(' ').next().unwrap();
    let (other, shared) = built(node.mcp("mcp-build", &["--arg", "--graceful", "--env", "A=b", path]));
    assert_ne!(key, other);
    let boot = |dir: &Path| -> Value { serde_json::from_slice(&fs::read(dir.join("boot.json")).unwrap()).unwrap() };
    let (first, second) = (boot(&dir), boot(&shared));
    assert_eq!((&first["cmd"], &second["cmd"]), (&json!(["--port", "8080"]), &json!(["--graceful"])));
    assert_eq!((&second["entrypoint"], &second["env"]), (&json!(["/hello"]), &json!(["A=b"])));
    let root = |dir: &Path, boot: &Value| dir.join(boot["disk"].as_str().unwrap());
    let about = fs::metadata(root(&dir, &first)).unwrap();
    assert_eq!(about.ino(), fs::metadata(root(&shared, &second)).unwrap().ino());
    assert_eq!((about.mode() & 0o7777, about.uid()), (0o600, nix::unistd::geteuid().as_raw()));
    assert_eq!(fs::read(root(&dir, &first)).unwrap()[..4], *b"hsqs");
    let refused = node.mcp("mcp-build", &["--volume", "data:/srv", path]).expect(100);
    assert!(refused.one_line().contains("give --volume to mcp-run-vm"));
    is_clean(&node);
}

#[test]
fn room_is_made_of_what_nobody_needs() {
    let Some((node, path)) = pulled("room_is_made_of_what_nobody_needs") else { return };
    let one = |arg: &str| built(node.mcp("mcp-build", &["--arg", arg, &path]));
    let (pinned, old, older, fresh) = (one("a"), one("b"), one("c"), one("d"));
    let store = node.root.join("lib/store");
    let age = |path: &Path, hours: u64| {
        let then = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::open(path).unwrap().set_modified(then).unwrap();
    };
    let gc = |args: &[&str]| -> Vec<(String, String)> {
        let answer = node.mcp("mcp-build", &[&["--gc"], args].concat()).expect(0);
        let words = |l: &str| -> Vec<String> { l.split(' ').map(str::to_string).collect() };
        answer.out.lines().map(words).map(|w| (w[0].clone(), w[1].clone())).collect()
    };
    // All of it was used just now.
    assert_eq!(gc(&[]), []);
    age(&pinned.1, 9);
    age(&old.1, 2);
    age(&older.1, 3);
    age(Path::new(&path), 4);
    find(&store.join("blobs"), &|_| true).iter().for_each(|p| age(p, 4));
    let record = json!({ "schema": 2, "wish": "run", "adhoc": false, "current": null,
        "anything": { "manifest": "sha256:".to_string() + &"0a".repeat(32), "build": pinned.0 } });
    let records = node.root.join("lib/registry/demo");
    fs::create_dir_all(&records).unwrap();
    fs::write(records.join("api.json"), record.to_string()).unwrap();
    let build = |b: &(String, PathBuf)| ("build".to_string(), b.0.clone());
    let all = gc(&["--dry-run"]);
    assert_eq!(all[..2], [build(&older), build(&old)]);
    assert_eq!((all[2].0.as_str(), all.len() > 3), ("image", true), "{all:?}");
    assert!(all[3..].iter().all(|(kind, _)| kind == "blob"));
    assert!(old.1.exists() && older.1.exists());
    // A limit that one of them is too much for: the longest unused goes, and then it fits.
    let answer = node.mcp("mcp-build", &["--gc", "--dry-run", "--json"]).expect(0);
    let told: Value = serde_json::from_str(&answer.out).unwrap();
    let total = told["freed"].as_u64().unwrap() + told["left"].as_u64().unwrap();
    let config = fs::read_to_string(node.root.join("etc/mcp.toml")).unwrap();
    node.configure(&format!("{config}[store]\nmax_size = \"{}K\"\n", total / 1024 - 1));
    assert_eq!(gc(&[]), [build(&older)]);
    // What somebody works on stays.
    node.configure(&config);
    let lock = store.join("locks").join(format!("build-{}", old.0));
    let held = mcp::sys::lock::Lock::try_take(&lock).unwrap().unwrap();
    let gone = gc(&[]);
    assert!(!gone.contains(&build(&old)) && gone.iter().any(|(kind, _)| kind == "blob"), "{gone:?}");
    held.remove().unwrap();
    assert_eq!(gc(&[]), [build(&old)]);
    assert!(pinned.1.exists() && fresh.1.exists() && !old.1.exists());
    assert_eq!(names(store.join("refs")), [""; 0]);
    is_clean(&node);
    // What a damaged record needs nobody knows.
    fs::write(records.join("api.json"), "{").unwrap();
    age(&pinned.1, 9);
    let refused = node.mcp("mcp-build", &["--gc"]).expect(100);
    assert!(refused.one_line().contains("nobody can tell what demo/api needs"), "{refused:#?}");
    fs::remove_file(records.join("api.json")).unwrap();
    assert_eq!(gc(&[]), [build(&pinned)]);
}

#[test]
fn a_hit_starts_nothing() {
    let test = "a_hit_starts_nothing";
    let (Some((node, path)), true) = (pulled(test), crate::harness::have(test, "strace")) else { return };
    let (_, dir) = built(node.mcp("mcp-build", &[&path]));
    fs::File::open(&dir).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let trace = node.root.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=process,read,pread64,mmap", "-o"]).arg(&trace);
    command.arg(crate::harness::program("mcp-build")).arg(&path).env("MCP_ROOT", &node.root);
    assert!(command.output().unwrap().status.success());
    let trace = fs::read_to_string(trace).unwrap();
    let calls = |name: &str| trace.lines().filter(|l| l.contains(&format!(" {name}("))).count();
    assert_eq!((calls("execve"), calls("clone") + calls("clone3") + calls("vfork") + calls("fork")), (1, 0), "{trace}");
    // No file of any size is read: what tells it from another is its size and time.
    assert!(calls("read") + calls("pread64") < 100, "{trace}");
    // That it was used is known to who makes room.
    assert!(fs::metadata(&dir).unwrap().modified().unwrap().elapsed().unwrap() < Duration::from_secs(60));
    // A bound for a busy machine; scripts/bench has the figure.
    let best = (0..5).map(|_| node.mcp("mcp-build", &[&path]).expect(0).took).min().unwrap();
    assert!(best < Duration::from_millis(500), "{best:?}");
}
