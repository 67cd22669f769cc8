//! Real podman for a node: a storage of its own in the node's folder, images made without a registry, and the
//! namespaces in which it can run where capabilities are few.
//!
//! A test's thread enters a mount namespace of its own, so that whatever podman mounts goes with the test, and so that
//! crun meets cgroups of one kind. A test that publishes ports enters a network of its own too: two bridges of two
//! storages would have one address. Both are inherited by all that the test starts, and by the threads that it starts
//! from then on.

use super::{Answer, Node, finish, have, skip};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The image that all tests of containers run; its component's `args` say what it does:
/// `sleep` (the default); `serve PORT [SECONDS]`, HTTP by busybox after that time; `exit CODE [SECONDS]`;
/// `deaf`, which ignores SIGTERM; `slow SECONDS`, which takes so long to end at SIGTERM, and ends with 3;
/// `lines COUNT` and then sleep; `tick`, a numbered line each 10 ms; `long BYTES`, one line of that length and then
/// sleep; `brief PORT SECONDS`, HTTP for so long, then it exits with 3; `env NAME…`, what these are, one a line; `both`, a
/// line on each of stdout and stderr; `when FILE CODE`, which exits with CODE when FILE is there.
pub const ACT: &str = "localhost/act:1";

pub const SCRIPT: &str = r#"#!/bin/sh
mode=${1:-sleep}
[ $# = 0 ] || shift
trap 'echo "act: SIGTERM"; exit 0' TERM
rest() { while :; do sleep 1000 & wait $!; done; }
echo "act: $mode"
case $mode in
sleep) rest ;;
serve)
    [ -z "${2:-}" ] || { sleep "$2" & wait $!; }
    httpd -f -p "$1" -h /www &
    server=$!
    trap 'kill $server; echo "act: SIGTERM"; exit 0' TERM
    wait $server
    ;;
brief)
    httpd -f -p "$1" -h /www &
    sleep "$2"
    echo "act: it was brief"
    exit 3
    ;;
when) while [ ! -e "$1" ]; do usleep 10000; done; exit "$2" ;;
exit)
    [ -z "${2:-}" ] || { sleep "$2" & wait $!; }
    exit "$1"
    ;;
deaf) trap '' TERM; rest ;;
slow) trap 'trap "" TERM; sleep '"$1"'; exit 3' TERM; rest ;;
lines)
    seq -f 'line %.0f of many' 1 "$1" 2>/dev/null || { i=0; while [ $i -lt "$1" ]; do i=$((i + 1)); echo "line $i of many"; done; }
    echo "act: done"
    rest
    ;;
tick) i=0; while :; do i=$((i + 1)); echo "tick $i"; usleep 10000; done ;;
long) head -c "$1" /dev/zero | tr '\0' x; echo; echo "act: done"; rest ;;
env) for name; do eval "echo \"$name=\${$name-}\""; done; rest ;;
both) echo to stdout; echo to stderr >&2; rest ;;
esac
"#;

/// podman for one node. Its storage goes with the node.
#[derive(Debug)]
pub struct Podman {
    dir: PathBuf,
}

impl Podman {
    /// podman with [`ACT`] in its storage. `None`, and a line that says so, where it can't be had. The calling thread is
    /// in a mount namespace of its own from here on.
    pub fn new(test: &str, node: &Node) -> Option<Podman> {
        let podman = Podman::empty(test, node)?;
        podman.act(ACT);
        Some(podman)
    }

    /// The same without any image.
    pub fn empty(test: &str, node: &Node) -> Option<Podman> {
        if !["podman", "crun", "unshare"].into_iter().all(|program| have(test, program)) {
            return None;
        }
        if !Path::new("/bin/busybox").is_file() {
            skip(test, "no /bin/busybox (busybox-static)");
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            skip(test, "podman as an ordinary user wants subordinate ids");
            return None;
        }
        own_mounts();
        configure(&node.root, "overlay");
        Some(Podman { dir: dir(&node.root) })
    }

    /// Puts the image [`ACT`] there under another name, whose web page says that name.
    pub fn act(&self, name: &str) {
        self.image(name, &json!({ "Entrypoint": ["/act"], "Cmd": ["sleep"] }));
    }

    /// The same files with another config.
    pub fn image(&self, name: &str, config: &Value) {
        let root = self.files(name);
        let mut changes = String::new();
        for (key, value) in config.as_object().unwrap() {
            changes += &format!(" -c '{} {value}'", key.to_uppercase());
        }
        let script = format!("tar -C '{}' -c . | podman import -q{changes} - '{name}'", root.display());
        self.shell(&script).expect(0);
        fs::remove_dir_all(root).unwrap();
    }

    /// The files of [`ACT`], laid down in the node's folder.
    pub fn act_files(&self) -> PathBuf {
        self.files(ACT)
    }

    fn files(&self, name: &str) -> PathBuf {
        let root = self.dir.join("act");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("www")).unwrap();
        fs::create_dir_all(root.join("tmp")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|a| *a != "busybox") {
            let _ = symlink("busybox", root.join("bin").join(applet));
        }
        fs::write(root.join("act"), SCRIPT).unwrap();
        fs::set_permissions(root.join("act"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("www/index.html"), format!("{name}\n")).unwrap();
        root
    }

    /// Runs podman to its end.
    pub fn run(&self, args: &[&str]) -> Answer {
        let mut command = self.command("podman");
        command.args(args);
        finish(command, &format!("podman {}", args.join(" ")))
    }

    /// The same; what it answers, without the last line end. That it fails, fails the test.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        self.run(args).expect(0).out.trim_end().to_string()
    }

    /// A line of shell with podman at hand.
    pub fn shell(&self, script: &str) -> Answer {
        let mut command = self.command("sh");
        command.args(["-c", script]);
        finish(command, script)
    }

    /// What `podman inspect` tells of a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        let all: Value = serde_json::from_str(&self.ask(&["inspect", container])).unwrap();
        all[0].clone()
    }

    /// Process id of the conmon of a container.
    #[track_caller]
    pub fn conmon(&self, container: &str) -> i32 {
        self.inspect(container)["State"]["ConmonPid"].as_i64().unwrap() as i32
    }

    /// Names of all containers, running or not, sorted.
    pub fn names(&self) -> Vec<String> {
        let out = self.ask(&["ps", "--all", "--format", "{{.Names}}"]);
        let mut names: Vec<String> = out.lines().map(String::from).collect();
        names.sort();
        names
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(environment(self.dir.parent().unwrap())).env_remove("MCP_ROOT");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn dir(root: &Path) -> PathBuf {
    root.join("podman")
}

/// What makes podman use the storage under `root` and no other: for every program that a test starts, so that the
/// containers of this machine never show up in tests.
pub fn environment(root: &Path) -> [(&'static str, PathBuf); 2] {
    let dir = dir(root);
    [("CONTAINERS_CONF", dir.join("containers.conf")), ("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"))]
}

/// Lays down the config files that [`environment`] names. The driver `vfs` never mounts anything: it is for nodes where
/// podman is asked, but runs nothing.
pub fn configure(root: &Path, driver: &str) {
    let dir = dir(root);
    fs::create_dir_all(&dir).unwrap();
    let at = dir.display();
    // Limits: podman's own want CAP_SYS_RESOURCE. Locks and the rest of /run: not those of this machine's containers.
    let containers = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=1024:4096\"]\n\
         [engine]\nevents_logger = \"none\"\ntmp_dir = \"{at}/tmp\"\n\
         [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{at}/networks\"\n"
    );
    fs::write(dir.join("containers.conf"), containers).unwrap();
    let storage = format!("[storage]\ndriver = \"{driver}\"\ngraphroot = \"{at}/graph\"\nrunroot = \"{at}/run\"\n");
    fs::write(dir.join("storage.conf"), storage).unwrap();
    fs::write(dir.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
}

/// The containers that are left under `root` (running ones as `NAME running`), removed now; and mounts there.
pub fn sweep(root: &Path) -> Vec<String> {
    let dir = dir(root);
    if !dir.join("graph").is_dir() {
        return Vec::new();
    }
    let podman = Podman { dir };
    let listed = podman.run(&["ps", "--all", "--format", "{{.Names}} {{.State}}"]);
    let mut left: Vec<String> = listed.out.lines().map(|l| format!("container {l}")).collect();
    if !left.is_empty() {
        podman.run(&["rm", "--all", "--force", "--time", "0"]);
    }
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    let below = format!(" {}/", root.display());
    left.extend(mounts.lines().filter(|m| m.contains(&below)).map(|m| format!("mount {m}")));
    left
}

/// Takes this thread, and all that it starts from now on, into a mount namespace of its own in which podman can run.
pub fn own_mounts() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    if DONE.replace(true) {
        return;
    }
    unshare(libc::CLONE_NEWNS);
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    // crun: "cgroups in hybrid mode not supported".
    let _ = umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH);
    // podman's locks are a file there, one for all storages.
    mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none).unwrap();
}

/// Runs a test in a network of its own, in which there is loopback alone: bridges of two tests can't clash there, nor can
/// ports. As root.
pub fn in_own_network<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            unshare(libc::CLONE_NEWNET);
            up_loopback();
            test()
        };
        let name = std::thread::current().name().unwrap_or("test").to_string();
        let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, run).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn unshare(what: libc::c_int) {
    // SAFETY: a plain system call; it concerns this thread alone.
    let done = unsafe { libc::unshare(what) };
    assert_eq!(done, 0, "unshare: {}", io::Error::last_os_error());
}

fn up_loopback() {
    // SAFETY: ifreq is plain old data; the calls read what they are given, and the descriptor is closed.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS, &request);
        libc::close(socket);
        assert_eq!(done, 0, "loopback: {}", io::Error::last_os_error());
    }
}

/// tests/fake/podman in a node's folder.
#[derive(Debug, Clone)]
pub struct FakePodman {
    /// For `[podman] binary`.
    pub program: PathBuf,
}

impl FakePodman {
    /// The real one, until it is told otherwise.
    pub fn new(node: &Node) -> FakePodman {
        let dir = node.root.join("fake");
        fs::create_dir_all(&dir).unwrap();
        let program = dir.join("podman");
        fs::write(&program, include_str!("../../fake/podman")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        FakePodman { program }
    }

    /// The node config that names it.
    pub fn config(&self) -> String {
        format!("[podman]\nbinary = \"{}\"\n", self.program.display())
    }

    /// From now on it does that, as its first lines tell; empty: all is well.
    pub fn does(&self, mode: &str) {
        let part = self.program.with_extension("part");
        fs::write(&part, mode).unwrap();
        fs::rename(part, self.program.with_extension("mode")).unwrap();
    }

    /// Seconds for `midway` and `late`.
    pub fn after(&self, seconds: &str) {
        fs::write(self.program.with_extension("after"), seconds).unwrap();
    }

    /// What it was asked so far, a line a call.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.program.with_extension("calls")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }
}
