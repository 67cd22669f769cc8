//! A machine of its own for a test of an init system: this machine's root, over which lie the packages of init systems
//! and a tmpfs, in namespaces of its own. What happens inside is gone with it.
//!
//! `MCP_TEST_INITS` names the folder that scripts/lib/get-test-debs laid down; `MCP_TEST_S6_RC` a folder with `usr/` of
//! s6-rc, and `MCP_TEST_DINIT` one with dinit's programs: no Debian has these two. What is missing skips the test, loudly.

#![allow(dead_code)]

use crate::harness::{Answer, Image, finish, guest_init, have, podman, program, skip, until_within, wait_for};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What process 1 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only reaps; init systems run as its children.
    Plain,
    /// systemd.
    Systemd,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Where and as what a machine is made.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its host name.
    pub name: String,
    /// Its disk, as enter.sh has it.
    pub dir: PathBuf,
    /// What is laid over this machine's root.
    pub roots: Vec<PathBuf>,
    /// In whose namespaces of mounts and network it is made, and what its address is there.
    pub network: Option<(i32, String)>,
}

/// A running one.
pub struct Lab {
    outer: Child,
    /// Process 1 inside, by its number outside.
    pid: i32,
    dir: PathBuf,
    files: PathBuf,
    kind: Kind,
}

/// The programs of ours that are linked into /usr/bin inside.
const PROGRAMS: &[&str] = &[
    "mcp-boot",
    "mcp-build",
    "mcp-health",
    "mcp-logs",
    "mcp-pull",
    "mcp-record",
    "mcp-rm",
    "mcp-run",
    "mcp-run-container",
    "mcp-run-vm",
    "mcp-status",
    "mcp-stop",
    "mcp-units",
];

impl Lab {
    /// One with the programs of `wanted` at hand; `None`, and a line that says so, where it can't be had.
    pub fn new(test: &str, kind: Kind, wanted: &[&str]) -> Option<Lab> {
        if !nix::unistd::geteuid().is_root() {
            skip(test, "namespaces of init systems want root");
            return None;
        }
        if !have(test, "unshare") || !have(test, "nsenter") {
            return None;
        }
        let mut roots = Vec::new();
        for variable in ["MCP_TEST_INITS", "MCP_TEST_S6_RC"] {
            let root = std::env::var_os(variable).map(PathBuf::from);
            let root = root.map(|r| if variable == "MCP_TEST_INITS" { r.join("root") } else { r });
            roots.extend(root.filter(|r| r.join("usr").is_dir()));
        }
        let dinit = std::env::var_os("MCP_TEST_DINIT").map(PathBuf::from).filter(|d| d.join("dinit").is_file());
        let has = |name: &&str| {
            let folders = ["usr/bin", "usr/sbin", "bin", "sbin", "lib/systemd", "usr/lib/systemd"];
            let all = roots.iter().map(PathBuf::as_path).chain([Path::new("/")]);
            let mut places = all.flat_map(|r| folders.iter().map(move |f| r.join(f)));
            places.any(|p| p.join(name).is_file()) || dinit.as_ref().is_some_and(|d| d.join(name).is_file())
        };
        let systemd: &[&str] = if kind == Kind::Systemd { &["systemd", "systemctl", "journalctl"] } else { &[] };
        if let Some(missing) = wanted.iter().chain(systemd).find(|name| !has(name)) {
            skip(test, &format!("no {missing}: set MCP_TEST_INITS, and MCP_TEST_S6_RC or MCP_TEST_DINIT"));
            return None;
        }
        let site = Site { name: "lab".into(), dir: own_dir(), roots, network: None };
        fs::create_dir_all(&site.dir).unwrap();
        let mut binds: Vec<PathBuf> = dinit.iter().cloned().collect();
        binds.extend(std::env::var_os("MCP_TEST_KERNEL").map(PathBuf::from));
        let mut lab = Lab::begin(kind, &site, &binds);
        lab.until_up();
        for name in ["dinit", "dinitctl", "dinit-check"] {
            if let Some(dinit) = &dinit {
                lab.link(&dinit.join(name), &format!("/usr/sbin/{name}"));
            }
        }
        // A build of s6-rc or dinit fits the Debian that it was made on.
        for name in wanted {
            let lacks =
                lab.sh(&format!("ldd $(command -v {name}) | sed -n 's/^[[:space:]]*\\(.*\\) => not found$/\\1/p'")).out;
            if !lacks.is_empty() {
                let lacks = lacks.trim().replace('\n', ", ");
                skip(
                    test,
                    &format!("this {name} needs {lacks}: build one here and set MCP_TEST_S6_RC or MCP_TEST_DINIT"),
                );
                return None;
            }
        }
        Some(lab)
    }

    /// Begins one, of which `until_up` waits for the rest.
    pub fn begin(kind: Kind, site: &Site, binds: &[PathBuf]) -> Lab {
        // Not in the folder of a node of a cluster, which is seen in there alone; and another's at each boot.
        let files = if site.network.is_none() { site.dir.clone() } else { own_dir() };
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some((within, _)) = &site.network {
            command.args(["nsenter", "-t", &within.to_string(), "-m", "-n"]);
        }
        command.args(["bash", "-c", r#"eval "$MCP_SCRIPT""#, "enter.sh"]).env("MCP_SCRIPT", include_str!("enter.sh"));
        command.args([if kind == Kind::Systemd { "systemd" } else { "plain" }, &site.name]).arg(&site.dir);
        let list: Vec<_> = site.roots.iter().map(|l| l.display().to_string()).collect();
        command.arg(list.join(":")).arg(site.network.as_ref().map_or("-", |(_, address)| address));
        command.args([&programs(), &PathBuf::from(env!("CARGO_TARGET_TMPDIR"))]);
        command.args(guest_init().iter()).args(binds);
        // Kept for a failure: unshare complains about a signal mask that is of no matter.
        let log = files.with_extension("log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(log).unwrap());
        Lab { outer: command.spawn().unwrap(), pid: 0, dir: site.dir.clone(), files, kind }
    }

    /// Waits until it is up, and puts our programs there.
    pub fn until_up(&mut self) {
        let log = self.files.with_extension("log");
        until_within(Duration::from_secs(30), "the lab is up", || {
            let told = || fs::read_to_string(&log).unwrap_or_default();
            assert!(self.outer.try_wait().unwrap().is_none(), "the lab could not be made: {}", told());
            self.pid = inner(self.outer.id() as i32).unwrap_or(0);
            self.pid != 0 && self.is_up()
        });
        for name in PROGRAMS {
            self.link(&programs().join(name), &format!("/usr/bin/{name}"));
        }
        for script in ["mcp", "mcp-deploy"] {
            self.write(&format!("/usr/bin/{script}"), &source(&format!("scripts/{script}")), 0o755);
        }
    }

    /// Process 1 inside, by its number outside.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Ends it, as a power cut would, with whatever runs in it; waits until it is gone.
    pub fn power_off(&mut self) {
        if self.pid != 0 {
            // SAFETY: a plain system call; process 1 takes all others of its namespace along.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.pid = 0;
        } else {
            let _ = self.outer.kill();
        }
        if wait_for(Duration::from_secs(10), || self.outer.try_wait().ok().flatten()).is_none() {
            let _ = self.outer.kill();
            let _ = self.outer.wait();
        }
    }

    fn is_up(&self) -> bool {
        match self.kind {
            Kind::Plain => self.path("/run/lab-is-up").exists(),
            Kind::Systemd => {
                let told = self.sh("systemctl is-system-running").out;
                matches!(told.trim(), "running" | "degraded")
            }
        }
    }

    /// A path inside, as it is reached from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// Writes a file inside.
    pub fn write(&self, inside: &str, text: &str, mode: u32) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Not through what may be a link or a file of a lower layer.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The contents of a file inside; empty where there is none.
    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_default()
    }

    fn link(&self, to: &Path, inside: &str) {
        let path = self.path(inside);
        let _ = fs::remove_file(&path);
        symlink(to, path).unwrap();
    }

    /// Lines of shell inside, with nothing of our environment.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", "env", "-i"]);
        command.args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb"]);
        if let Some(init) = guest_init() {
            command.arg(format!("MCP_GUEST_INIT={}", init.display()));
        }
        command.args(["sh", "-c", script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs lines of shell inside to their end.
    pub fn sh(&self, script: &str) -> Answer {
        finish(self.command(script), script)
    }

    /// What it answers, without the last line end. That it fails, fails the test.
    #[track_caller]
    pub fn ask(&self, script: &str) -> String {
        self.sh(script).expect(0).out.trim_end().to_string()
    }

    /// Starts something inside that goes on; it ends with the lab.
    pub fn start(&self, script: &str) -> Child {
        let mut command = self.command(script);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Writes a service definition.
    pub fn define(&self, name: &str, text: &str) {
        self.write(&format!("/etc/mcp/services/{name}.toml"), text, 0o644);
    }

    /// A service of one Nanos VM, `NAME/vm`, with its guest's port 8080 on `port`; `more` are further keys.
    pub fn vm(&self, name: &str, image: &Image, port: u16, more: &str) {
        self.define(
            name,
            &format!(
                "name = \"{name}\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"{}\"\n\
             kernel = \"{}\"\nmemory_mb = 128\nports = [\"127.0.0.1:{port}:8080\"]\nstop_timeout = \"5s\"\n{more}\n",
                image.disk, image.kernel
            ),
        );
    }

    /// Writes the node config.
    pub fn configure(&self, text: &str) {
        self.write("/etc/mcp/mcp.toml", text, 0o644);
    }

    /// Readies podman inside, with the image `localhost/act:1`.
    pub fn podman(&self) {
        // Limits, and crun's program for devices: they want CAP_SYS_RESOURCE.
        let containers = "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=1024:4096\"]\ncgroups = \"disabled\"\n\
                          [engine]\nevents_logger = \"none\"\n";
        self.write("/etc/containers/containers.conf", containers, 0o644);
        // An overlay can't lie on one.
        let storage =
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"/keep/graph\"\nrunroot = \"/run/containers/storage\"\n";
        self.write("/etc/containers/storage.conf", storage, 0o644);
        self.write("/etc/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#, 0o644);
        self.write("/run/act/act", podman::SCRIPT, 0o755);
        self.ask(
            "cd /run/act && mkdir bin tmp www && echo act >www/index.html && cp /bin/busybox bin && for a in $(bin/busybox --list); do ln -s busybox bin/$a; done \
             2>/dev/null; tar -c . | podman import -q -c 'ENTRYPOINT [\"/act\"]' - localhost/act:1",
        );
    }

    /// What the current instance's `state.json` holds.
    pub fn state(&self, id: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(&format!("/run/mcp/{id}/state.json"))).unwrap_or_default()
    }

    /// What its VM is known by: another one has another. Empty where it has none.
    pub fn uuid(&self, id: &str) -> String {
        self.state(id)["uuid"].as_str().unwrap_or_default().to_string()
    }

    /// The process, by its number inside, that signed this lock below /run/mcp; 0: none.
    pub fn holder(&self, lock: &str) -> i32 {
        self.read(&format!("/run/mcp/{lock}")).split(' ').next().and_then(|w| w.parse().ok()).unwrap_or(0)
    }

    /// The supervisor of `id`, by its number inside.
    pub fn supervisor(&self, id: &str) -> i32 {
        self.holder(&format!("{id}/lock"))
    }

    /// QEMU of `id`, by its number inside.
    pub fn qemu(&self, id: &str) -> i32 {
        self.holder(&format!("{id}/current/lock"))
    }

    /// The body that a guest's web server inside answers with; `None`: no answer.
    pub fn get(&self, port: u16) -> Option<String> {
        let answer = self.sh(&format!("curl -sS -m 2 http://127.0.0.1:{port}/"));
        (answer.code == Some(0)).then_some(answer.out)
    }

    /// Processes inside whose program has this name, by their numbers inside.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let out = self.sh(&format!("pgrep -x '{name}'")).out;
        out.lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// QEMUs and programs of ours that run inside, with their arguments.
    pub fn ours(&self) -> Vec<String> {
        let out = self.sh("ps -eo pid,args | grep -E 'qemu-system|/mcp-|[ ]mcp-' | grep -vE 'grep|mcp-lab'").out;
        out.lines().map(|l| l.trim().to_string()).collect()
    }

    /// Sockets, locks and temporary files of ours inside; an init's logger keeps its lock file.
    pub fn leftovers(&self) -> Vec<String> {
        let script = "find /run/mcp /var/lib/mcp /var/log/mcp \\( -name lock -o -name '*.sock' -o -name '*.tmp' \\
            -o -name '.overlay*' -o -path '*/.uids/*' \\) ! -type l ! -path '/var/log/mcp/*_log/*' 2>/dev/null";
        self.sh(script).out.lines().map(str::to_string).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() && self.pid != 0 {
            let journal = match self.kind {
                Kind::Systemd => "journalctl -b --no-pager -n 60",
                Kind::Plain => "find /var/log /tmp -name current -o -name '*.log' | xargs -r tail -n 15",
            };
            let told = self.sh(&format!("ps -eo pid,ppid,args; mcp-status; {journal}"));
            eprintln!("{}{}", told.out, told.err);
        }
        self.power_off();
        for with in ["sh", "log"] {
            let _ = fs::remove_file(self.files.with_extension(with));
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A folder for a lab, which nobody else has.
pub fn own_dir() -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("mcp-lab-{}-{number}", std::process::id()))
}

/// Where our programs are.
fn programs() -> PathBuf {
    program("mcp-run").parent().unwrap().to_path_buf()
}

/// A file of ours.
pub fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Process 1 inside: the first below `outer` in a pid namespace of its own.
fn inner(outer: i32) -> Option<i32> {
    let mut pid = outer;
    for _ in 0..8 {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        pid = children.split(' ').next()?.parse().ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        let ours = fs::read_link("/proc/self/ns/pid").ok()?;
        if numbers.last() == Some(&"1") && fs::read_link(format!("/proc/{pid}/ns/pid")).ok()? != ours {
            return Some(pid);
        }
    }
    None
}
