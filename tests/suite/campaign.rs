//! The kill campaign: SIGKILL at a random moment of start, run, rotation and stop, then a call that puts it right.
//!
//! After each: never two VMs of a component; the VM runs on or is gone for good; state, record, index and console
//! whole; after `mcp-stop` nothing left. `MCP_CAMPAIGN_ROUNDS` (40) says how many, `MCP_CAMPAIGN_SEED` which ones: a
//! round is a pure function of seed and number. scripts/campaign runs it by hand. That of whole boots is in `boots`.

mod boots;
mod check;
mod plan;

use self::plan::{Call, Kind, Plan};
use crate::harness::{Answer, Image, Node, free_port, get, nanos, wait, wait_for};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A call that puts things right takes no longer, on a machine that has much else to do.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Long enough for Nanos, which dies of SIGTERM at once, short enough for one that ignores it.
const STOP_TIMEOUT: &str = "700ms";
/// What a guest writes while it is killed under: some seconds of it at this size.
const LINES: u64 = 20_000;

/// What a round found, when all was well.
#[derive(Default)]
struct Found {
    /// How the VM was when the first call after the kill had ended.
    words: Vec<String>,
    slowest: Duration,
}

/// One component on a node of its own; rounds run on it one after the other.
struct Bench<'a> {
    node: Node,
    name: String,
    id: String,
    port: u16,
    image: &'a Image,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .filter(|v| !v.is_empty())
        .map(|v| v.parse().unwrap_or_else(|_| panic!("{variable}={v}")))
}

/// What rounds run on, one after the other.
trait Ground {
    type Plan: Display;

    /// The round of that number: a pure function of both.
    fn plan(seed: u64, number: u64) -> Self::Plan;
    /// Its kind, in a word or two.
    fn kind(plan: &Self::Plan) -> &'static str;
    /// All of it; what was wrong, where something was.
    fn round(&self, plan: &Self::Plan) -> Result<Found, String>;
    fn node(&self) -> &Node;
}

/// Runs `rounds` on as many grounds of `new` as shall be at once. The first round that fails ends it, and is told with
/// the seed to see it again.
fn run<G: Ground>(name: &str, rounds: u64, at_once: usize, new: impl Fn(usize) -> G + Sync) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("MCP_CAMPAIGN_SEED").unwrap_or(now.as_millis() as u64 & 0xffff_ffff);
    println!("{name}: {rounds} rounds, {at_once} at once, seed {seed}");
    let (next, totals, failed) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()), Mutex::new(Vec::<String>::new()));
    let work = |worker: usize| {
        let ground = new(worker);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= rounds || !failed.lock().unwrap().is_empty() {
                return;
            }
            let plan = G::plan(seed, number);
            let began = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| ground.round(&plan)));
            let took = began.elapsed().as_secs_f64();
            let told = match result {
                Ok(Ok(found)) => {
                    println!(
                        "round {number}: {plan}: {} ({took:.1} s, longest call {:.1} s)",
                        found.words.join(", "),
                        found.slowest.as_secs_f64()
                    );
                    let mut totals = totals.lock().unwrap();
                    let total: &mut (u64, Duration) = totals.entry(G::kind(&plan)).or_default();
                    *total = (total.0 + 1, total.1.max(found.slowest));
                    continue;
                }
                Ok(Err(told)) => told,
                Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into()),
            };
            let told = format!("seed {seed}, round {number}: {plan}\n{told}\n{}", check::describe(ground.node()));
            println!("FAILED {told}");
            failed.lock().unwrap().push(told);
            // What is left is shown above, and not the next test's business.
            give_up(ground.node());
            return;
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..at_once {
            let work = &work;
            scope.spawn(move || work(worker));
        }
    });
    for (kind, (count, slowest)) in totals.lock().unwrap().iter() {
        println!("{name}: {kind}: {count} rounds, slowest call {:.2} s", slowest.as_secs_f64());
    }
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "again with MCP_CAMPAIGN_SEED={seed}:\n{}", failed.join("\n"));
}

#[test]
fn killed_at_any_moment_it_can_be_put_right() {
    let Some(image) = nanos("campaign", &[]) else { return };
    // One more than there are cores: a killed supervisor's last instructions are then cut at odd places.
    let at_once = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4) + 1;
    run("campaign", number("MCP_CAMPAIGN_ROUNDS").unwrap_or(40), at_once, |worker| {
        let name = format!("c{}w{worker}", std::process::id());
        let node = Node::new();
        node.configure("[log]\nmax_size = \"4K\"\nkeep = 1000\n");
        Bench { id: format!("{name}/{name}"), name, port: free_port(), node, image: &image }
    });
}

/// Ends all that a failed round left.
fn give_up(node: &Node) {
    let _ = node.mcp("mcp-stop", &["--all"]);
    for line in node.processes() {
        kill(line.split(' ').next().and_then(|pid| pid.parse().ok()).unwrap_or(0));
    }
    let _ = std::fs::remove_dir_all(node.root.join("run"));
}

fn kill(pid: i32) {
    if pid > 0 {
        // SAFETY: a plain system call.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// SIGKILL, and gone when this returns.
fn kill_child(child: &mut Child) -> Result<(), String> {
    child.kill().and_then(|()| child.wait()).map(drop).map_err(|e| e.to_string())
}

impl Ground for Bench<'_> {
    type Plan = Plan;

    fn plan(seed: u64, number: u64) -> Plan {
        Plan::of(seed, number)
    }

    fn kind(plan: &Plan) -> &'static str {
        plan.kind.name()
    }

    fn node(&self) -> &Node {
        &self.node
    }

    fn round(&self, plan: &Plan) -> Result<Found, String> {
        let mut found = Found::default();
        let prefix = format!("r{}", plan.number);
        let before = self.disturb(plan, &prefix, &mut found)?;
        self.at_most_one()?;
        for call in &plan.calls {
            self.put_right(plan, *call, before.as_deref(), &mut found)?;
            self.at_most_one()?;
            check::whole(&self.node)?;
        }
        if plan.kind == Kind::Rotation {
            self.lines_whole(&prefix, plan.calls.contains(&Call::Stop))?;
        }
        self.end(plan, &mut found)?;
        Ok(found)
    }
}

impl Bench<'_> {
    fn run_args<'a>(&'a self, forward: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["--name", &self.name, "--disk", &self.image.disk, "--kernel", &self.image.kernel];
        args.extend(["--port", forward, "--memory", "128", "--stop-timeout", STOP_TIMEOUT]);
        args.extend(more);
        args
    }

    fn spawn(&self, name: &str, args: &[&str]) -> Child {
        self.node.command(name, args).spawn().unwrap()
    }

    fn spawn_run(&self, more: &[&str]) -> Child {
        self.spawn("mcp-run-vm", &self.run_args(&format!("{}:8080", self.port), more))
    }

    /// Runs a program of ours to its end, looking for a second VM all the while.
    fn call(&self, name: &str, args: &[&str], found: &mut Found) -> Result<Answer, String> {
        let (began, mut child) = (Instant::now(), self.spawn(name, args));
        let mut most = 0;
        let ended = wait_for(CALL_LIMIT, || {
            most = most.max(check::vms(&self.id).len());
            std::thread::sleep(Duration::from_millis(10));
            child.try_wait().unwrap()
        });
        if ended.is_none() {
            let _ = child.kill();
        }
        let answer = wait(child, name, began);
        found.slowest = found.slowest.max(answer.took);
        if ended.is_none() {
            return Err(format!("still running after {CALL_LIMIT:?}: {answer:#?}"));
        }
        if most > 1 {
            return Err(format!("{most} VMs at once during {answer:#?}"));
        }
        Ok(answer)
    }

    fn run(&self, more: &[&str], found: &mut Found) -> Result<Answer, String> {
        let mut all = vec!["--detach", "--wait"];
        all.extend(more);
        self.call("mcp-run-vm", &self.run_args(&format!("{}:8080", self.port), &all), found)
    }

    /// Up and ready, whatever it takes: no kill has happened yet.
    fn up(&self, more: &[&str], found: &mut Found) -> Result<(), String> {
        let answer = self.run(more, found)?;
        if answer.code == Some(0) { Ok(()) } else { Err(format!("does not start: {answer:#?}")) }
    }

    /// Kills the supervisor, if there is one that could be found.
    fn kill_supervisor(&self) -> bool {
        let pid = self.supervisor();
        kill(pid);
        let gone = || (!alive(pid)).then_some(());
        pid > 0 && wait_for(Duration::from_secs(5), gone).is_some()
    }

    /// The process that signed the component's lock and still lives; else 0.
    fn supervisor(&self) -> i32 {
        let pid = self.node.supervisor(&self.id);
        if alive(pid) { pid } else { 0 }
    }

    /// Gets to where the kill shall be, and kills. Returns the uuid of the VM that ran on, where one must have.
    fn disturb(&self, plan: &Plan, prefix: &str, found: &mut Found) -> Result<Option<String>, String> {
        let pause = || std::thread::sleep(plan.moment);
        match plan.kind {
            Kind::Start => {
                let mut child = self.spawn_run(&[]);
                pause();
                kill_child(&mut child)?;
            }
            Kind::Detach => {
                let (began, child) = (Instant::now(), self.spawn_run(&["--detach", "--wait"]));
                pause();
                self.kill_supervisor();
                let told = wait(child, "mcp-run-vm --detach", began);
                self.expect(&told, &[0, 111])?;
            }
            Kind::Caller => {
                let mut child = self.spawn_run(&["--detach", "--wait"]);
                pause();
                kill_child(&mut child)?;
                // The supervisor has not taken its lock yet, it has, or there is none.
                wait_for(CALL_LIMIT, || (self.supervisor() > 0 || self.node.processes().is_empty()).then_some(()))
                    .ok_or("the supervisor neither begins nor ends")?;
            }
            Kind::Run => {
                self.up(&[], found)?;
                pause();
                self.kill_supervisor();
                return Ok(Some(self.uuid()?));
            }
            Kind::Rotation => {
                self.up(&[], found)?;
                let (port, path) = (self.port, format!("/log?lines={LINES}&prefix={prefix}"));
                // Its answer comes when all is written, or never.
                std::thread::spawn(move || get(port, &path));
                pause();
                self.kill_supervisor();
                return Ok(Some(self.uuid()?));
            }
            Kind::Stop | Kind::StopFirm => {
                self.up(&[], found)?;
                self.stubborn(plan)?;
                let (began, child) = (Instant::now(), self.spawn("mcp-stop", &[&self.name]));
                pause();
                self.kill_other_supervisor(&child);
                let told = wait(child, "mcp-stop", began);
                self.expect(&told, &[0])?;
                self.nothing_left()?;
            }
            Kind::Stopper | Kind::StopperAlone => {
                self.up(&[], found)?;
                self.stubborn(plan)?;
                if plan.kind == Kind::StopperAlone {
                    self.kill_supervisor();
                }
                let mut child = self.spawn("mcp-stop", &[&self.name]);
                pause();
                kill_child(&mut child)?;
            }
            Kind::StopStart => {
                let mut child = self.spawn_run(&[]);
                pause();
                let (began, stop) = (Instant::now(), self.spawn("mcp-stop", &[&self.name]));
                std::thread::sleep(plan.second);
                kill_child(&mut child)?;
                let told = wait(stop, "mcp-stop", began);
                // 1, or no such component, where the start had not got as far as being known.
                self.expect(&told, &[0, 1, 100])?;
            }
            Kind::Both => {
                self.up(&[], found)?;
                let qemu = self.node.qemu(&self.id);
                if plan.second.as_millis().is_multiple_of(2) {
                    kill(qemu);
                    std::thread::sleep(plan.second / 10);
                    self.kill_supervisor();
                } else {
                    self.kill_supervisor();
                    kill(qemu);
                }
                wait_for(CALL_LIMIT, || (!alive(qemu)).then_some(())).ok_or("QEMU can't be killed")?;
            }
            Kind::Restart => {
                self.up(&["--restart", "always"], found)?;
                kill(self.node.qemu(&self.id));
                // The first restart is after a second.
                std::thread::sleep(plan.moment * 4);
                self.kill_supervisor();
            }
        }
        Ok(None)
    }

    /// The supervisor, unless that is what `child` has become.
    fn kill_other_supervisor(&self, child: &Child) {
        let pid = self.supervisor();
        if pid > 0 && pid != child.id() as i32 {
            self.kill_supervisor();
        }
    }

    /// Half of all stops are of a guest that doesn't want to.
    fn stubborn(&self, plan: &Plan) -> Result<(), String> {
        if plan.kind == Kind::Stop || plan.second.as_millis().is_multiple_of(2) {
            return Ok(());
        }
        get(self.port, "/ignore-term").map(drop).ok_or_else(|| "does not answer".into())
    }

    fn expect(&self, answer: &Answer, codes: &[i32]) -> Result<(), String> {
        match answer.code {
            Some(code) if codes.contains(&code) => Ok(()),
            _ => Err(format!("exit code {:?}, wanted one of {codes:?}: {answer:#?}", answer.code)),
        }
    }

    fn put_right(&self, plan: &Plan, call: Call, before: Option<&str>, found: &mut Found) -> Result<(), String> {
        let stopping = matches!(plan.kind, Kind::Stopper | Kind::StopperAlone);
        match call {
            Call::Status => {
                let answer = self.call("mcp-status", &["--json"], found)?;
                self.expect(&answer, &[0, 1])?;
                serde_json::from_str::<serde_json::Value>(&answer.out).map_err(|e| format!("{e}: {answer:#?}"))?;
                if before.is_some() && check::vms(&self.id).len() != 1 {
                    return Err("the VM did not run on".into());
                }
                found.words.push("seen".into());
            }
            Call::Run => {
                let supervised = self.supervisor() > 0;
                let answer = self.run(&[], found)?;
                let has_one = answer.code == Some(100) && answer.err.contains("already supervised by");
                // One that lives on has it. A VM that was told to stop may end under its new supervisor.
                let codes: &[i32] = match (supervised, stopping) {
                    (true, _) if has_one => &[100],
                    (_, true) => &[0, 111],
                    _ => &[0],
                };
                self.expect(&answer, codes)?;
                if answer.code == Some(0) && !stopping {
                    // Nanos writes its console with its only processor, and answers nobody meanwhile.
                    let served = wait_for(CALL_LIMIT, || get(self.port, "/"));
                    served.ok_or_else(|| format!("ready but does not answer: {answer:#?}"))?;
                    if before.is_some_and(|uuid| self.uuid().as_deref() != Ok(uuid)) {
                        return Err("started again instead of adopted".into());
                    }
                }
                found.words.push(if before.is_some() {
                    "adopted".into()
                } else {
                    format!("run {:?}", answer.code.unwrap_or(-1))
                });
            }
            Call::Stop => {
                let there = !check::vms(&self.id).is_empty();
                let answer = self.call("mcp-stop", &[&self.name], found)?;
                // What was never known is no target.
                let unknown = answer.code == Some(100) && answer.err.contains("no such ");
                self.expect(
                    &answer,
                    if there && !stopping {
                        &[0]
                    } else if unknown {
                        &[100]
                    } else {
                        &[0, 1]
                    },
                )?;
                found.words.push(format!("stop {}", answer.code.unwrap_or(-1)));
                self.nothing_left()?;
            }
        }
        Ok(())
    }

    fn end(&self, plan: &Plan, found: &mut Found) -> Result<(), String> {
        self.put_right(plan, Call::Stop, None, found)?;
        check::whole(&self.node)?;
        if plan.second.as_millis() % 4 != 3 {
            return Ok(());
        }
        let answer = self.call("mcp-rm", &[&self.name], found)?;
        self.expect(&answer, &[0, 1])?;
        let left = ["run", "log", "lib/registry"].map(|dir| self.node.root.join(dir).join(&self.name));
        match left.iter().find(|dir| dir.exists()) {
            Some(dir) => Err(format!("left after mcp-rm: {}", dir.display())),
            None => Ok(()),
        }
    }
}

/// Whether anything of process `pid` runs: a first thread may be a zombie while others still hold its locks and ports.
pub fn alive(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stat = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
    let runs = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']));
    pid > 0 && tasks.map(stat).any(runs)
}
