//! The kill campaign of whole boots: a small node of which something is down is booted, a process of ours is killed
//! meanwhile, and `mcp-boot` is called again: the node is complete, no VM runs twice, what ran runs on, nothing is left.
//!
//! `MCP_CAMPAIGN_BOOTS` (20) says how many, `MCP_CAMPAIGN_SEED` which ones. `scripts/campaign boot` runs it by hand.

use super::check::{all_vms, vms, whole};
use super::plan::Random;
use super::{Found, Ground, alive, kill, number, run};
use crate::harness::{ACT, Answer, Image, Node, Podman, find, free_port, get, nanos, wait, wait_for};
use std::collections::BTreeMap;
use std::fmt;
use std::process::Child;
use std::time::{Duration, Instant};

/// Two stages of two VMs.
const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
/// A boot takes no longer, pauses before another try among it, on a machine that has much else to do.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// What is down, or was disturbed, before the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// All of it, by mcp-boot --down.
    Down,
    /// The same, killed on its way.
    DownKilled,
    /// Some VMs were killed, and their supervisors with them.
    Crashed,
    /// Some VMs were killed.
    Ended,
    /// Some supervisors were killed.
    Unsupervised,
}

/// What is killed while it boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Boot,
    /// mcp-boot and all that it started and has not taken a lock yet.
    BootAndStarts,
    Supervisor,
    /// An mcp-run-vm or mcp-run-container that is no supervisor (yet).
    Start,
    Vm,
    /// An mcp-health that asks all.
    Probe,
}

/// One round.
struct Plan {
    number: u64,
    before: Before,
    /// Which of the services that is about, by bits; never none.
    which: u64,
    victim: Victim,
    /// From the start of mcp-boot to the kill.
    moment: Duration,
    /// Chooses among those there are.
    draw: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:04b}, {:?} killed at {:?}", self.before, self.which, self.victim, self.moment)
    }
}

/// A node of its own; rounds run on it one after the other.
struct Small {
    node: Node,
    services: Vec<(String, u16)>,
    /// A service that is a container, on the first of the nodes.
    container: Option<(String, u16)>,
}

#[test]
fn a_boot_killed_at_any_moment_can_be_done_again() {
    let Some(image) = nanos("campaign of boots", &[]) else { return };
    let rounds = number("MCP_CAMPAIGN_BOOTS").unwrap_or(20);
    run("campaign of boots", rounds, 2, |worker| Small::new(&image, worker));
}

impl Small {
    fn new(image: &Image, worker: usize) -> Small {
        let node = Node::new();
        // VMs are told by their names, so other nodes have others.
        let names = SERVICES.map(|name| format!("{name}{}w{worker}", std::process::id()));
        let services: Vec<_> = names.into_iter().map(|name| (name, free_port())).collect();
        for (name, port) in &services {
            let text = format!(
                "name = \"{name}\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"{}\"\n\
                 kernel = \"{}\"\nmemory_mb = 128\nports = [\"{port}:8080\"]\nstop_timeout = \"700ms\"\n",
                image.disk, image.kernel
            );
            node.define(name, &text);
        }
        // podman works in this thread's namespaces.
        let podman = (worker == 0).then(|| Podman::new("campaign of boots", &node)).flatten();
        let container = podman.map(|_| (format!("k{}", std::process::id()), free_port()));
        if let Some((name, port)) = &container {
            let text = format!(
                "name = \"{name}\"\n[[components]]\nname = \"c\"\nimage = \"{ACT}\"\nargs = [\"serve\", \"{port}\"]\n\
                 network = \"host\"\nstop_timeout = \"2s\"\n[components.health]\nkind = \"http\"\nport = {port}\n"
            );
            node.define(name, &text);
            node.mcp("mcp-record", &["--new", "--now", name]).expect(0);
        }
        let stage = |name: &str, of: &[(String, u16)]| {
            let more = container.iter().filter(|_| name == "apps");
            let names: Vec<&String> = of.iter().chain(more).map(|(name, _)| name).collect();
            format!("[[boot.sequence]]\nname = \"{name}\"\nservices = {names:?}\ntimeout = \"40s\"\n")
        };
        node.configure(&(stage("base", &services[..2]) + &stage("apps", &services[2..])));
        node.mcp("mcp-boot", &["--strict"]).expect(0);
        Small { node, services, container }
    }

    fn ids(&self) -> impl Iterator<Item = String> {
        self.services.iter().map(|(name, _)| format!("{name}/vm"))
    }

    fn uuid(&self, id: &str) -> Option<String> {
        let bytes = std::fs::read(self.node.run_dir(id).join("state.json")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        Some(state["uuid"].as_str()?.to_string())
    }

    /// Processes of the node that run `program`, with their arguments.
    fn running(&self, program: &str) -> Vec<i32> {
        let of = |line: &String| {
            let (pid, rest) = line.split_once(' ')?;
            rest.split(' ').next()?.ends_with(&format!("/{program}")).then(|| pid.parse().ok())?
        };
        self.node.processes().iter().filter_map(of).collect()
    }

    fn supervisors(&self) -> Vec<i32> {
        let all = self.ids().chain(self.container.iter().map(|(name, _)| format!("{name}/c")));
        all.map(|id| self.node.supervisor(&id)).filter(|pid| alive(*pid)).collect()
    }

    /// Kills one of them, and waits until it is dead.
    fn kill_one(&self, of: &[i32], draw: u64) -> Option<i32> {
        let pid = *of.get(draw as usize % of.len().max(1))?;
        kill(pid);
        wait_for(Duration::from_secs(5), || (!alive(pid)).then_some(pid))
    }

    /// Disturbs the node; the uuids of those VMs that must run on.
    fn prepare(&self, plan: &Plan) -> Result<BTreeMap<String, String>, String> {
        let mut kept: BTreeMap<String, String> =
            self.ids().filter_map(|id| Some((id.clone(), self.uuid(&id)?))).collect();
        match plan.before {
            Before::Down => {
                let answer = self.node.mcp("mcp-boot", &["--down"]);
                kept.clear();
                if answer.code != Some(0) {
                    return Err(format!("{answer:#?}"));
                }
            }
            Before::DownKilled => {
                let mut child = self.node.command("mcp-boot", &["--down"]).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(plan.draw % 300));
                kept.clear();
                super::kill_child(&mut child)?;
            }
            Before::Crashed | Before::Ended | Before::Unsupervised => {
                // The container loses its supervisor, whatever happens to the VMs.
                if let Some((name, _)) = self.container.as_ref().filter(|_| plan.which & 2 != 0) {
                    kill(self.node.supervisor(&format!("{name}/c")));
                }
                let which = self.ids().enumerate().filter(|(n, _)| plan.which & (1 << n) != 0);
                for (_, id) in which {
                    let (supervisor, vm) = (self.node.supervisor(&id), self.node.qemu(&id));
                    if plan.before != Before::Ended {
                        kill(supervisor);
                        wait_for(Duration::from_secs(5), || (!alive(supervisor)).then_some(()));
                    }
                    if plan.before != Before::Unsupervised {
                        kill(vm);
                        kept.remove(&id);
                    }
                }
            }
        }
        Ok(kept)
    }

    /// Boots, and kills meanwhile; mcp-boot's answer where it was let alone. Takes out of `kept` what was killed.
    fn boot_and_kill(
        &self,
        plan: &Plan,
        kept: &mut BTreeMap<String, String>,
        found: &mut Found,
    ) -> Result<Option<Answer>, String> {
        let probe = (plan.victim == Victim::Probe).then(|| {
            let names: Vec<&str> = self.services.iter().map(|(name, _)| name.as_str()).collect();
            let args = [&["--wait", "30s"], names.as_slice()].concat();
            self.node.command("mcp-health", &args).spawn().unwrap()
        });
        let (began, mut boot) = (Instant::now(), self.node.command("mcp-boot", &[]).spawn().unwrap());
        std::thread::sleep(plan.moment);
        let over = boot.try_wait().unwrap().is_some();
        let killed = match plan.victim {
            Victim::Boot => None,
            Victim::BootAndStarts => {
                let starts = self.starts();
                super::kill_child(&mut boot)?;
                starts.into_iter().for_each(kill);
                None
            }
            Victim::Supervisor => self.kill_one(&self.supervisors(), plan.draw),
            Victim::Start => self.kill_one(&self.starts(), plan.draw),
            Victim::Vm => {
                let ids: Vec<String> = self.ids().collect();
                let id = &ids[plan.draw as usize % ids.len()];
                kept.remove(id);
                self.kill_one(&vms(id), 0)
            }
            Victim::Probe => probe.as_ref().map(|probe| probe.id() as i32),
        };
        if let Some(mut probe) = probe {
            super::kill_child(&mut probe)?;
        }
        if matches!(plan.victim, Victim::Boot | Victim::BootAndStarts) {
            super::kill_child(&mut boot)?;
            found.words.push(if over { "was over" } else { "killed" }.into());
            return Ok(None);
        }
        found.words.push(killed.map_or("none there".into(), |_| "killed".into()));
        self.finish(boot, began, found).map(Some)
    }

    /// Those programs that start something and hold no lock.
    fn starts(&self) -> Vec<i32> {
        let supervisors = self.supervisors();
        let all = ["mcp-run-vm", "mcp-run-container"].map(|name| self.running(name));
        all.concat().into_iter().filter(|pid| !supervisors.contains(pid)).collect()
    }

    /// A component that has more than one VM.
    fn doubled(&self) -> Option<String> {
        let all = all_vms();
        self.ids().find(|id| all.iter().filter(|(_, name)| name == id).count() > 1)
    }

    /// Waits for a boot, looking for a second VM of a component all the while.
    fn finish(&self, mut boot: Child, began: Instant, found: &mut Found) -> Result<Answer, String> {
        let mut twice = None;
        let ended = wait_for(BOOT_LIMIT, || {
            twice = twice.take().or_else(|| self.doubled());
            std::thread::sleep(Duration::from_millis(30));
            boot.try_wait().unwrap()
        });
        if ended.is_none() {
            let _ = boot.kill();
        }
        let answer = wait(boot, "mcp-boot", began);
        found.slowest = found.slowest.max(answer.took);
        match (ended, twice) {
            (None, _) => Err(format!("still at it after {BOOT_LIMIT:?}: {answer:#?}")),
            (_, Some(id)) => Err(format!("two VMs of {id} during {answer:#?}")),
            _ => Ok(answer),
        }
    }

    /// All runs, once, watched and healthy; there is nothing else, and nothing half written.
    fn complete(&self, kept: &BTreeMap<String, String>) -> Result<(), String> {
        for (name, port) in &self.services {
            let id = format!("{name}/vm");
            let (vms, supervisor) = (vms(&id), self.node.supervisor(&id));
            if vms.len() != 1 || !alive(supervisor) {
                return Err(format!("{id}: VMs {vms:?}, supervisor {supervisor}"));
            }
            get(*port, "/").ok_or_else(|| format!("{id} does not answer"))?;
            if kept.get(&id).is_some_and(|before| self.uuid(&id).as_ref() != Some(before)) {
                return Err(format!("{id} was started again instead of left alone"));
            }
        }
        if let Some((name, port)) = &self.container {
            let supervisor = self.node.supervisor(&format!("{name}/c"));
            if !alive(supervisor) || get(*port, "/").as_deref() != Some("localhost/act:1\n") {
                return Err(format!("{name}/c: supervisor {supervisor}, answers {:?}", get(*port, "/")));
            }
        }
        let status = self.node.mcp("mcp-status", &["--health"]);
        // One that was killed in several rounds has been started often, which is told, and rightly.
        let is_well = |line: &str| line.ends_with(" -") || line.ends_with(" crash-loop");
        if !status.out.lines().skip(1).all(|line| is_well(line.trim_end())) || status.out.lines().count() < 5 {
            return Err(format!("drift: {status:#?}"));
        }
        // Callers of a start may live a little longer than what they waited for.
        let count = 2 * SERVICES.len() + usize::from(self.container.is_some());
        // What runs in a container, and what holds it, is podman's.
        let ours = || {
            let program = |line: &str| line.split(' ').nth(1)?.rsplit('/').next().map(str::to_string);
            let is_ours =
                |line: &String| line.contains(" -uuid ") || program(line).is_some_and(|name| name.starts_with("mcp-"));
            self.node.processes().into_iter().filter(is_ours).collect::<Vec<_>>()
        };
        wait_for(Duration::from_secs(5), || (ours().len() == count).then_some(()))
            .ok_or_else(|| format!("not {count} processes: {:#?}", ours()))?;
        let half = find(&self.node.root, &|name| name.ends_with(".tmp"));
        if !half.is_empty() {
            return Err(format!("left: {half:?}"));
        }
        let last = self.node.mcp("mcp-boot", &["--last", "--json"]);
        let record: serde_json::Value = serde_json::from_str(&last.out).map_err(|e| format!("{e}: {last:#?}"))?;
        if record["outcome"] != "ready" {
            return Err(format!("the boot record: {record:#}"));
        }
        whole(&self.node)
    }
}

impl Ground for Small {
    type Plan = Plan;

    fn plan(seed: u64, number: u64) -> Plan {
        let mut random = Random::of(seed, number);
        let before =
            [Before::Down, Before::DownKilled, Before::Crashed, Before::Ended, Before::Unsupervised, Before::Crashed];
        let victims = [
            Victim::Boot,
            Victim::Supervisor,
            Victim::Boot,
            Victim::Start,
            Victim::BootAndStarts,
            Victim::Supervisor,
            Victim::Vm,
            Victim::Probe,
        ];
        // Half of them early, where most is decided.
        let longest = if random.below(2) == 0 { 60_000 } else { 1_500_000 };
        Plan {
            number,
            before: before[random.below(before.len() as u64) as usize],
            which: 1 + random.below(15),
            victim: victims[((number + seed) % victims.len() as u64) as usize],
            moment: Duration::from_micros(random.below(longest)),
            draw: random.below(1 << 20),
        }
    }

    fn kind(plan: &Plan) -> &'static str {
        match plan.victim {
            Victim::Boot => "mcp-boot",
            Victim::BootAndStarts => "mcp-boot and its starts",
            Victim::Supervisor => "a supervisor",
            Victim::Start => "a start",
            Victim::Vm => "a VM",
            Victim::Probe => "a probe",
        }
    }

    fn node(&self) -> &Node {
        &self.node
    }

    fn round(&self, plan: &Plan) -> Result<Found, String> {
        let mut found = Found::default();
        let mut kept = self.prepare(plan)?;
        // Which one of several is killed is not known beforehand; only VMs may be lost by that, and only the killed.
        if let Some(first) = self.boot_and_kill(plan, &mut kept, &mut found)?
            && first.code != Some(0)
        {
            return Err(format!("the first boot: {first:#?}"));
        }
        let (began, boot) = (Instant::now(), self.node.command("mcp-boot", &["--strict"]).spawn().unwrap());
        let answer = self.finish(boot, began, &mut found)?;
        if answer.code != Some(0) {
            return Err(format!("the boot after round {}'s kill: {answer:#?}", plan.number));
        }
        self.complete(&kept).map_err(|why| format!("{why}\nafter {answer:#?}"))?;
        let began_it = [": started\n", ": runs already\n", "adopted\n"].map(|word| answer.out.matches(word).count());
        found.words.push(format!("then {} started, {} left alone, {} adopted", began_it[0], began_it[1], began_it[2]));
        Ok(found)
    }
}
