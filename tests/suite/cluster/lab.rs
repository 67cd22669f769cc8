//! Three machines with corosync and Pacemaker, on a switch of their own, where a power switch of ours fences: what happens
//! inside is gone with them.
//!
//! `MCP_TEST_CLUSTER` names the folder that `scripts/lib/get-test-debs cluster` laid down. Where it is missing, tests
//! skip, loudly.

#![allow(dead_code)]

use crate::harness::{have, ops, skip, until_within, wait_for};
use crate::inits::{Kind, Lab, Site, own_dir, source};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many nodes it has: without one of them there is still a quorum.
pub const NODES: usize = 3;

/// The test's own address on the switch.
pub const OUTSIDE: &str = "10.9.0.254";

/// The address of node `i`, from 1.
pub fn address(i: usize) -> String {
    format!("10.9.0.{i}")
}

/// A running cluster of nodes `n1` to `n3`.
pub struct Cluster {
    nodes: Vec<Lab>,
    power: Power,
    switch: Switch,
}

impl Cluster {
    /// One whose nodes are all online; `None`, and a line that says so, where it can't be had.
    pub fn new(test: &str) -> Option<Cluster> {
        if !nix::unistd::geteuid().is_root() {
            skip(test, "namespaces of a cluster want root");
            return None;
        }
        if !["unshare", "nsenter", "ip"].iter().all(|program| have(test, program)) {
            return None;
        }
        let root = std::env::var_os("MCP_TEST_CLUSTER").map(|dir| PathBuf::from(dir).join("root"));
        let Some(root) = root.filter(|root| root.join("usr").is_dir()) else {
            skip(test, "no corosync and Pacemaker: set MCP_TEST_CLUSTER");
            return None;
        };
        let began = Instant::now();
        let switch = Switch::new(&root);
        let power = Power::new(&switch);
        let mut cluster = Cluster { nodes: Vec::new(), power, switch };
        for i in 1..=NODES {
            let lab = cluster.begin(i);
            cluster.nodes.push(lab);
        }
        (1..=NODES).for_each(|i| cluster.bring_up(i));
        cluster.until_online(&[1, 2, 3]);
        eprintln!("cluster: online after {:.1} s", began.elapsed().as_secs_f64());
        Some(cluster)
    }

    fn begin(&self, i: usize) -> Lab {
        let dir = self.switch.dir.join(format!("n{i}"));
        let network = Some((self.switch.child.id() as i32, address(i)));
        let site = Site { name: format!("n{i}"), dir, roots: Vec::new(), network };
        let mut binds: Vec<PathBuf> = std::env::var_os("MCP_TEST_KERNEL").map(PathBuf::from).into_iter().collect();
        binds.extend(ops().into_iter().flat_map(|(ops, home)| [ops, home.join(".ops")]));
        Lab::begin(Kind::Plain, &site, &binds)
    }

    fn bring_up(&mut self, i: usize) {
        let lab = &mut self.nodes[i - 1];
        lab.until_up();
        for (file, inside) in [
            ("ocf/component", "/usr/lib/ocf/resource.d/mcp/component"),
            ("mcp-cluster", "/usr/bin/mcp-cluster"),
            ("lib/cluster.awk", "/usr/lib/mcp/cluster.awk"),
        ] {
            lab.write(inside, &source(&format!("scripts/{file}")), 0o755);
        }
        self.power.pids[i - 1].store(lab.pid(), Ordering::SeqCst);
        self.start_cluster(i);
    }

    /// Node `i`, from 1.
    pub fn node(&self, i: usize) -> &Lab {
        &self.nodes[i - 1]
    }

    /// Has corosync and Pacemaker started on node `i`; returns before they are up.
    pub fn start_cluster(&self, i: usize) {
        let script =
            "corosync -f >/var/log/corosync/out 2>&1 & until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.05; done
            pacemakerd >/var/log/pacemaker/out 2>&1 &";
        let _ = self.node(i).start(script).wait();
    }

    /// Cuts node `i`'s power.
    pub fn kill(&mut self, i: usize) {
        self.nodes[i - 1].power_off();
    }

    /// Boots node `i`, whose power was cut or which was fenced, from its disk; it joins the cluster again.
    pub fn boot(&mut self, i: usize) {
        self.nodes[i - 1].power_off();
        let lab = self.begin(i);
        self.nodes[i - 1] = lab;
        self.bring_up(i);
    }

    /// What is there as long as it is: processes, and the switch's folder.
    pub fn traces(&self) -> Vec<PathBuf> {
        let pids = self.nodes.iter().map(|lab| lab.pid() as u32).chain([self.switch.child.id()]);
        pids.map(|pid| PathBuf::from(format!("/proc/{pid}"))).chain([self.switch.dir.clone()]).collect()
    }

    /// Whether node `i` has power.
    pub fn is_on(&self, i: usize) -> bool {
        let pid = self.node(i).pid();
        pid != 0 && Path::new(&format!("/proc/{pid}")).exists()
    }

    /// A node that has power.
    fn any(&self) -> Option<&Lab> {
        (1..=self.nodes.len()).find(|i| self.is_on(*i)).map(|i| self.node(i))
    }

    /// Runs these lines of shell on all nodes side by side.
    #[track_caller]
    pub fn on_all(&self, script: &str) {
        let ask = |lab: &Lab| drop(lab.sh(script).expect(0));
        std::thread::scope(|scope| self.nodes.iter().for_each(|lab| drop(scope.spawn(move || ask(lab)))));
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[Lab] {
        &self.nodes
    }

    /// Runs lines of shell on a node that lives; what it answers.
    #[track_caller]
    pub fn ask(&self, script: &str) -> String {
        self.any().unwrap().ask(script)
    }

    /// What `crm_mon` says, as text; empty where it can't.
    pub fn state(&self) -> String {
        self.any().map(|lab| lab.sh("crm_mon -1rnf").out).unwrap_or_default()
    }

    /// Waits until these nodes, and no others, are online.
    #[track_caller]
    pub fn until_online(&self, nodes: &[usize]) {
        let names: Vec<String> = nodes.iter().map(|i| format!("n{i}")).collect();
        let wanted = format!("Online: [ {} ]", names.join(" "));
        let live: Vec<&Lab> = nodes.iter().map(|i| self.node(*i)).collect();
        let all = || live.iter().all(|lab| lab.sh("crm_mon -1").out.contains(&wanted));
        until_within(Duration::from_secs(40), &format!("online: {names:?}\n{}", self.state()), all);
    }

    /// Where Pacemaker runs a resource, by the number of the node; 0: nowhere.
    pub fn place(&self, resource: &str) -> usize {
        let Some(lab) = self.any() else { return 0 };
        let told = lab.sh(&format!("crm_resource -Q -r {resource} --locate 2>/dev/null")).out;
        told.trim().strip_prefix('n').and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// Waits until Pacemaker runs it on a node that is wanted; that node.
    #[track_caller]
    pub fn until_placed(&self, resource: &str, wanted: impl Fn(usize) -> bool) -> usize {
        let ask = || Some(self.place(resource)).filter(|node| *node != 0 && wanted(*node));
        let placed = wait_for(Duration::from_secs(60), ask);
        placed.unwrap_or_else(|| panic!("{resource} is not where it should be: {}", self.state()))
    }

    /// The nodes that the power switch was told to switch off, in order.
    pub fn fenced(&self) -> Vec<usize> {
        self.power.log.lock().unwrap().clone()
    }

    /// Runs `what` in the switch's network, where the test is [`OUTSIDE`]; sockets made there stay there.
    pub fn outside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(self.switch.inside(what)).join().unwrap())
    }

    /// The same in a thread that goes on.
    pub fn start_outside<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        std::thread::spawn(self.switch.inside(what))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.state());
            for lab in (1..=self.nodes.len()).filter(|i| self.is_on(*i)).map(|i| self.node(i)) {
                eprintln!(
                    "{}",
                    lab.sh("hostname; grep -v pacemaker-based /var/log/pacemaker/pacemaker.log | tail -n 30").out
                );
            }
        }
    }
}

/// The bridge, the disks and the layer that all nodes share.
struct Switch {
    child: Child,
    dir: PathBuf,
}

impl Switch {
    fn new(root: &Path) -> Switch {
        let dir = own_dir();
        fs::create_dir_all(&dir).unwrap();
        let log = dir.with_extension("log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "bash", "-c", r#"eval "$MCP_SCRIPT""#, "switch.sh"]);
        command.env("MCP_SCRIPT", include_str!("switch.sh"));
        command.arg(&dir).arg(root).arg("1 2 3");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let mut switch = Switch { child: command.spawn().unwrap(), dir };
        let up = PathBuf::from(format!("/proc/{}/root{}/up", switch.child.id(), switch.dir.display()));
        until_within(Duration::from_secs(30), "the switch is up", || {
            let told = || fs::read_to_string(&log).unwrap_or_default();
            assert!(switch.child.try_wait().unwrap().is_none(), "the switch could not be made: {}", told());
            up.exists()
        });
        switch
    }

    /// `what`, for a thread of its own, with the switch's network for that thread.
    fn inside<T, F: FnOnce() -> T>(&self, what: F) -> impl FnOnce() -> T + use<T, F> {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.child.id())).unwrap();
        move || {
            // SAFETY: a plain system call; it takes the network of this thread alone.
            assert_eq!(unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            what()
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for with in ["sh", "log"] {
            let _ = fs::remove_file(self.dir.with_extension(with));
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Whom the stonith agent asks: it ends process 1 of a node, and answers when nothing of that node runs any more.
struct Power {
    pids: Arc<[AtomicI32; NODES]>,
    log: Arc<Mutex<Vec<usize>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Power {
    fn new(switch: &Switch) -> Power {
        let bind = switch.inside(|| TcpListener::bind((OUTSIDE, 7000)).unwrap());
        let listener = std::thread::spawn(bind).join().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (pids, log) = (Arc::new([const { AtomicI32::new(0) }; NODES]), Arc::new(Mutex::new(Vec::new())));
        let over = Arc::new(AtomicBool::new(false));
        let theirs = (pids.clone(), log.clone(), over.clone());
        let serve = move || {
            let (pids, log, over) = theirs;
            while !over.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => drop(switch_off(&stream, pids.as_slice(), &log)),
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        };
        Power { pids, log, over, thread: Some(std::thread::spawn(serve)) }
    }
}

fn switch_off(mut stream: &TcpStream, pids: &[AtomicI32], log: &Mutex<Vec<usize>>) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let node: usize = line.trim().strip_prefix('n')?.parse().ok()?;
    let pid = pids.get(node.checked_sub(1)?)?.load(Ordering::SeqCst);
    log.lock().unwrap().push(node);
    // A process 1 that is a zombie has outlived all others of its namespace.
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let gone = || stat().is_none_or(|text| text.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")));
    if pid > 1 && !gone() {
        // SAFETY: a plain system call.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        wait_for(Duration::from_secs(10), || gone().then_some(()))?;
    }
    stream.write_all(b"off\n").ok()
}

impl Drop for Power {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
