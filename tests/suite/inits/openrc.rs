//! Components as services of a real OpenRC: supervise-daemon keeps them up.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::{nanos, until, until_within, wait_for};
use std::time::{Duration, Instant};

/// OpenRC in a lab: its folders as its own init makes them at boot, and runlevels with nothing in them.
pub struct Openrc {
    lab: Lab,
}

const FOLDERS: &str = "mkdir -p /run/openrc/starting /run/openrc/started /run/openrc/stopping /run/openrc/inactive \
    /run/openrc/wasinactive /run/openrc/failed /run/openrc/hotplugged /run/openrc/daemons /run/openrc/options \
    /run/openrc/exclusive /run/openrc/scheduled /run/openrc/init.d /run/openrc/tmp; echo default >/run/openrc/softlevel; \
    rm -rf /etc/runlevels; mkdir -p /etc/init.d /etc/runlevels/default /etc/runlevels/shutdown";

impl Openrc {
    /// `None`, and a line that says so, where it can't be had.
    pub fn new(test: &str) -> Option<Openrc> {
        let lab = Lab::new(test, Kind::Plain, &["openrc-run", "rc-service", "supervise-daemon"])?;
        lab.ask(FOLDERS);
        Some(Openrc { lab })
    }

    fn service(id: &str) -> String {
        format!("mcp-{}", id.replace('/', "_"))
    }

    /// The exit code of its status: 0 started, 3 stopped, 16 inactive, 64 unsupervised.
    fn status(&self, service: &str) -> i32 {
        self.lab.sh(&format!("rc-service {service} status")).code.unwrap_or(-1)
    }
}

impl Init for Openrc {
    fn name(&self) -> &'static str {
        "openrc"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn install(&self) {
        self.lab
            .ask("mcp-units && { rc-update show default | grep -q mcp || rc-update add mcp default; } && rc-update -u");
    }

    fn boot(&self) {
        self.lab.ask("openrc default </dev/null >/tmp/openrc.log 2>&1");
    }

    fn stage_is_up(&self, stage: &str) -> bool {
        self.status(&format!("mcp-stage-{stage}")) == 0
    }

    fn is_ready(&self, _id: &str) -> Option<bool> {
        // It has no word for that between starting and started, and a start that holds its lock could not be stopped.
        None
    }

    fn is_up(&self, id: &str) -> bool {
        self.status(&Openrc::service(id)) == 0
    }

    fn start(&self, id: &str) {
        self.lab.sh(&format!("rc-service {} start", Openrc::service(id)));
    }

    fn stop(&self, id: &str) {
        self.lab.ask(&format!("rc-service {} stop", Openrc::service(id)));
    }

    fn restart(&self, id: &str) {
        self.lab.ask(&format!("rc-service {} restart", Openrc::service(id)));
    }

    fn log(&self, id: &str) -> String {
        let words = self.lab.read(&format!("/var/log/mcp/{}.log", Openrc::service(id)));
        words + &self.lab.sh(&format!("mcp-logs {id}")).out
    }

    fn down(&self) {
        self.lab.ask("openrc shutdown </dev/null >>/tmp/openrc.log 2>&1");
    }
}

#[test]
fn facts_of_openrc() {
    let test = "inits::openrc::facts_of_openrc";
    let (Some(images), Some(init)) = (facts::images(test), Openrc::new(test)) else { return };
    facts::all(&init, &images);
}

/// An OpenRC with one service of one VM, its file in place.
fn with_demo(test: &str) -> Option<Openrc> {
    let image = nanos(test, &["--graceful"])?;
    let init = Openrc::new(test)?;
    init.lab.vm("demo", &image, 8001, "restart = \"on-failure\"");
    init.lab.configure("[boot]\ninit = \"openrc\"\n[[boot.sequence]]\nname = \"base\"\nservices = [\"demo\"]\n");
    init.install();
    Some(init)
}

impl Openrc {
    fn until_serves(&self) {
        until_within(Duration::from_secs(30), "demo serves", || self.lab.get(8001).is_some());
    }

    fn until_gone(&self) {
        self.until_stopped(DEMO);
    }

    fn until_stopped(&self, service: &str) {
        until("nothing runs", || self.lab.ours().is_empty() && self.lab.processes("supervise-daemo").is_empty());
        until("its service is stopped", || self.status(service) == 3);
    }
}

const DEMO: &str = "mcp-demo_vm";

#[test]
fn bad_kills_of_what_keeps_it_up() {
    let Some(init) = with_demo("inits::openrc::bad_kills_of_what_keeps_it_up") else { return };
    let lab = &init.lab;
    // Started before the node's directories are there.
    lab.ask("rm -rf /run/mcp /var/lib/mcp /var/log/mcp");
    init.start("demo/vm");
    init.until_serves();
    let uuid = lab.uuid("demo/vm");
    let adopted = |before: i32| {
        until_within(Duration::from_secs(20), "another supervisor", || {
            let now = lab.supervisor("demo/vm");
            now > 0 && now != before
        });
        until("it is supervised", || !lab.sh("mcp-status demo").out.contains("unsupervised"));
        assert_eq!(lab.uuid("demo/vm"), uuid, "another VM");
    };
    // The shell that watches mcp-run.
    let before = lab.supervisor("demo/vm");
    lab.ask(&format!("kill -KILL $(cat /run/mcp-openrc/{DEMO}.sh)"));
    adopted(before);
    // supervise-daemon itself: the VM runs on, the service is said to be unsupervised, and `up` puts it right.
    let before = lab.supervisor("demo/vm");
    lab.ask(&format!("kill -KILL $(cat /run/mcp-openrc/{DEMO}.pid)"));
    until("it is said to be unsupervised", || init.status(DEMO) == 64);
    init.until_serves();
    lab.ask(&format!("rc-service {DEMO} up"));
    adopted(before);
    assert_eq!((init.status(DEMO), lab.processes("supervise-daemo").len()), (0, 1));
    // Killed again, and stopped as it is: also what goes on without it.
    lab.ask(&format!("kill -KILL $(cat /run/mcp-openrc/{DEMO}.pid)"));
    init.stop("demo/vm");
    init.until_gone();
    assert_eq!(lab.state("demo/vm")["end"]["rung"], "powerdown");
    // A replacement, without a gap.
    init.start("demo/vm");
    init.until_serves();
    let uuid = lab.uuid("demo/vm");
    lab.ask(&format!("rc-service {DEMO} reload"));
    assert_ne!(lab.uuid("demo/vm"), uuid);
    assert!(lab.get(8001).is_some());
    init.stop("demo/vm");
    init.until_gone();
    assert!(lab.leftovers().is_empty(), "{:#?}", lab.leftovers());
}

#[test]
fn bad_starts_do_not_spin() {
    let Some(init) = with_demo("inits::openrc::bad_starts_do_not_spin") else { return };
    let lab = &init.lab;
    // Another has it: who is said, and its service is not started.
    let mut other = lab.start("mcp-run --recover demo/vm");
    init.until_serves();
    let (holder, uuid) = (lab.supervisor("demo/vm"), lab.uuid("demo/vm"));
    let loser = lab.sh(&format!("rc-service {DEMO} up")).expect(100);
    assert!(loser.err.contains(&format!("{holder}")), "who holds it: {loser:#?}");
    until("its service is stopped", || init.status(DEMO) == 3);
    let tries = || init.log("demo/vm").matches(&format!("{holder}")).count();
    let before = tries();
    let more = wait_for(Duration::from_millis(2500), || (tries() != before).then_some(()));
    assert!(more.is_none() && before > 0, "it spins: {}", init.log("demo/vm"));
    assert_eq!((lab.supervisor("demo/vm"), lab.uuid("demo/vm")), (holder, uuid));
    // Its definition goes while it runs: it runs on, no service of it is left, and a stop works.
    lab.ask("rm /etc/mcp/services/demo.toml");
    lab.configure("[boot]\ninit = \"openrc\"\n");
    init.install();
    assert!(lab.get(8001).is_some() && !lab.path(&format!("/etc/init.d/{DEMO}")).exists());
    lab.ask("mcp-stop demo");
    until("the other has ended", || other.try_wait().unwrap().is_some());
    until("nothing runs", || lab.ours().is_empty());
}

#[test]
fn bad_definitions_and_folders_under_openrc() {
    let Some(init) = with_demo("inits::openrc::bad_definitions_and_folders_under_openrc") else { return };
    let lab = &init.lab;
    init.start("demo/vm");
    init.until_serves();
    // Its definition goes while it runs, and then its file: it goes on; a stop works; nothing starts it again.
    let toml = lab.read("/etc/mcp/services/demo.toml");
    lab.ask("rm /etc/mcp/services/demo.toml");
    assert!(lab.get(8001).is_some() && init.is_up("demo/vm"));
    init.stop("demo/vm");
    init.until_gone();
    let start = lab.sh(&format!("rc-service {DEMO} start"));
    assert!(start.code != Some(0) && init.status(DEMO) == 3, "{start:#?}");
    lab.define("demo", &toml);
    init.start("demo/vm");
    init.until_serves();
    lab.ask("rm /etc/mcp/services/demo.toml");
    lab.configure("[boot]\ninit = \"openrc\"\n");
    init.install();
    assert!(lab.get(8001).is_some() && !lab.path(&format!("/etc/init.d/{DEMO}")).exists());
    lab.ask("mcp-stop --for-now demo");
    until("nothing runs", || lab.ours().is_empty() && lab.processes("supervise-daemo").is_empty());
    // A disk that is not there: one try, and a service that is not up.
    lab.define("lost", &toml.replace("demo", "lost").replace("disk = \"/", "disk = \"/gone/"));
    lab.configure("[boot]\ninit = \"openrc\"\n[[boot.sequence]]\nname = \"base\"\nservices = [\"lost\"]\n");
    init.install();
    let tries = || init.log("lost/vm").matches("disk image missing").count();
    init.start("lost/vm");
    until("it has been tried", || tries() == 1);
    init.until_stopped("mcp-lost_vm");
    assert_eq!(tries(), 1, "{}", init.log("lost/vm"));
    // The node's own service is inactive until the foundation is healthy, and can be stopped before.
    // OpenRC has it for a warning, with an exit code of 1.
    assert!(lab.sh("rc-service mcp start").err.contains("inactive"));
    until("the foundation has been tried", || tries() > 1);
    assert_eq!((init.status("mcp"), init.stage_is_up("base")), (16, false));
    let began = Instant::now();
    lab.ask("rc-service mcp stop");
    assert!(began.elapsed() < Duration::from_secs(10));
    init.until_stopped("mcp-lost_vm");
    until("both are stopped", || init.status("mcp") == 3 && init.status("mcp-stage-base") == 3);
    // A read-only /etc: one line, and what is there works.
    lab.ask("rm /etc/mcp/services/lost.toml");
    lab.define("demo", &toml);
    lab.configure("[boot]\ninit = \"openrc\"\n[[boot.sequence]]\nname = \"base\"\nservices = [\"demo\"]\n");
    init.install();
    lab.ask("mount --bind /etc /etc && mount -o remount,ro,bind /etc");
    lab.sh("mcp-units").expect(0);
    let refused = lab.sh("mcp-units runit").expect(100);
    assert!(refused.one_line().contains("Read-only file system"), "{refused:#?}");
    init.start("demo/vm");
    init.until_serves();
    init.stop("demo/vm");
    init.until_gone();
    assert!(lab.leftovers().is_empty(), "{:#?}", lab.leftovers());
}
