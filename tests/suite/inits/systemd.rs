//! Under a real systemd: the facts that hold under every init, and what is systemd's alone.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::{Image, nanos, until, until_within};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// As the installer lays our files down: units, and the generator.
pub fn lay_down(lab: &Lab) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd");
    for file in fs::read_dir(from).unwrap().map(|file| file.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_string();
        let text = fs::read_to_string(&file).unwrap().replace("@BINDIR@", "/usr/bin");
        let folder = if name == "mcp-generator" { "system-generators" } else { "system" };
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        lab.write(&format!("/usr/lib/systemd/{folder}/{name}"), &text, mode);
    }
}

/// The name of a component's unit.
pub fn unit(id: &str) -> String {
    format!("mcp-component@{}.service", id.replace('-', "\\x2d").replace('/', "-"))
}

pub struct Systemd(pub Lab);

impl Systemd {
    pub fn new(test: &str) -> Option<Systemd> {
        let lab = Lab::new(test, Kind::Systemd, &[])?;
        lay_down(&lab);
        Some(Systemd(lab))
    }

    /// A property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.0.ask(&format!("systemctl show --value -p {property} '{unit}'"))
    }

    pub fn state(&self, id: &str) -> String {
        self.show(&unit(id), "ActiveState")
    }

    /// More lines for the component's unit.
    pub fn more(&self, id: &str, lines: &str) {
        let folder = format!("/etc/systemd/system/{}.d", unit(id));
        self.0.write(&format!("{folder}/90-test.conf"), &format!("[Service]\n{lines}\n"), 0o644);
        self.install();
    }

    fn main_pid(&self, id: &str) -> i32 {
        self.show(&unit(id), "MainPID").parse().unwrap()
    }

    #[track_caller]
    pub fn until_state(&self, id: &str, wanted: &str) {
        until_within(Duration::from_secs(30), &format!("{id} is {wanted}"), || {
            let state = format!("{}/{}", self.state(id), self.show(&unit(id), "SubState"));
            state.split('/').any(|word| word == wanted)
        });
    }

    fn ctl(&self, verb: &str, id: &str) {
        self.0.ask(&format!("systemctl {verb} '{}'", unit(id)));
    }
}

impl Init for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn lab(&self) -> &Lab {
        &self.0
    }

    fn install(&self) {
        self.0.ask("systemctl daemon-reload");
    }

    fn boot(&self) {
        self.0.ask("systemctl start --no-block mcp.target");
    }

    fn stage_is_up(&self, stage: &str) -> bool {
        self.show(&format!("mcp-boot-stage@{stage}.service"), "ActiveState") == "active"
    }

    fn is_ready(&self, id: &str) -> Option<bool> {
        Some(self.is_up(id))
    }

    fn is_up(&self, id: &str) -> bool {
        self.state(id) == "active"
    }

    fn start(&self, id: &str) {
        self.ctl("start", id);
    }

    fn stop(&self, id: &str) {
        self.ctl("stop", id);
    }

    fn restart(&self, id: &str) {
        self.ctl("restart", id);
    }

    fn log(&self, id: &str) -> String {
        self.0.ask(&format!("journalctl -o cat -u '{}'", unit(id)))
    }

    fn down(&self) {
        // The target's own job is over first; with the others named, their jobs are waited for.
        self.0.ask("systemctl stop mcp.target 'mcp-*'");
    }
}

#[test]
fn the_facts_hold() {
    let Some(images) = facts::images("inits::systemd::the_facts_hold") else { return };
    let Some(systemd) = Systemd::new("inits::systemd::the_facts_hold") else { return };
    facts::all(&systemd, &images);
}

/// A lab with the component `a-b/vm` on port 8001, in no stage.
fn one(test: &str, more: &str) -> Option<(Systemd, Image)> {
    let image = nanos(test, &["--graceful"])?;
    let systemd = Systemd::new(test)?;
    systemd.0.vm("a-b", &image, 8001, more);
    systemd.0.configure("[boot]\ninit = \"systemd\"\n");
    systemd.install();
    Some((systemd, image))
}

/// Nothing runs. What nobody supervised is stopped after the unit, so systemctl may be back before.
#[track_caller]
fn gone(systemd: &Systemd) {
    let lab = &systemd.0;
    until("all of it is stopped", || systemd.show("mcp-reap@a\\x2db-vm.service", "ActiveState") == "inactive");
    assert_eq!(lab.processes("qemu-system-x86"), Vec::<i32>::new(), "{:#?}", lab.ours());
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_stop_leaves_nothing_whatever_state_the_unit_is_in() {
    let test = "inits::systemd::a_stop_leaves_nothing_whatever_state_the_unit_is_in";
    let Some((systemd, _)) = one(test, "restart = \"on-failure\"") else { return };
    let (lab, id) = (&systemd.0, "a-b/vm");
    let kill = || lab.ask(&format!("kill -KILL {}", systemd.main_pid(id)));
    // While it waits to be started again.
    systemd.more(id, "RestartSec=1h");
    systemd.start(id);
    kill();
    systemd.until_state(id, "auto-restart");
    assert!(lab.qemu(id) > 0 && lab.get(8001).is_some(), "the VM went with its supervisor");
    systemd.stop(id);
    gone(&systemd);
    assert_eq!((systemd.state(id).as_str(), lab.state(id)["end"]["rung"].as_str()), ("inactive", Some("powerdown")));
    // When it failed for good. What the guest said while nobody supervised it comes now.
    assert_eq!(systemd.log(id).matches("hello: stopping").count(), 0);
    systemd.more(id, "Restart=no");
    systemd.start(id);
    until("the last words came", || systemd.log(id).contains("hello: stopping"));
    kill();
    systemd.until_state(id, "failed");
    assert!(lab.qemu(id) > 0);
    systemd.stop(id);
    gone(&systemd);
    // When its supervisor has to be killed, since QEMU answers nothing.
    systemd.more(id, "TimeoutStopSec=1s");
    systemd.start(id);
    lab.ask(&format!("kill -STOP {}", lab.qemu(id)));
    systemd.stop(id);
    assert_eq!(systemd.show(&unit(id), "Result"), "timeout");
    gone(&systemd);
    // A restart of one that lost its supervisor has it adopted, so there is one.
    systemd.more(id, "RestartSec=1h");
    systemd.start(id);
    let before = lab.uuid(id);
    kill();
    systemd.until_state(id, "auto-restart");
    systemd.restart(id);
    assert_eq!((lab.uuid(id), lab.processes("qemu-system-x86").len()), (before, 1));
    // The manager itself begins anew, and nothing notices.
    let supervisor = lab.supervisor(id);
    lab.ask("systemctl daemon-reexec");
    until("systemd answers", || systemd.state(id) == "active");
    assert_eq!((systemd.main_pid(id), lab.supervisor(id)), (supervisor, supervisor));
    systemd.stop(id);
    gone(&systemd);
}

#[test]
fn neither_many_starts_nor_a_bad_file_take_anything_away() {
    let Some(systemd) = Systemd::new("inits::systemd::neither_many_starts_nor_a_bad_file_take_anything_away") else {
        return;
    };
    let nowhere = Image { disk: "/nowhere.img".into(), kernel: "/nowhere".into() };
    systemd.0.vm("a-b", &nowhere, 8001, "");
    systemd.0.configure("[boot]\ninit = \"systemd\"\n");
    systemd.install();
    for _ in 0..8 {
        systemd.0.sh(&format!("systemctl restart '{}'", unit("a-b/vm")));
        systemd.0.ask("systemctl start mcp-check.service");
    }
    // Any package's daemon-reload, while somebody is about to change a file, leaves all as it was.
    let policy = || systemd.show(&unit("a-b/vm"), "TimeoutStopUSec");
    let before = policy();
    systemd.0.write("/etc/mcp/services/half.toml", "name = [\n", 0o644);
    systemd.install();
    assert_eq!((policy().as_str(), before.as_str()), ("15s", "15s"));
    assert!(systemd.show("mcp.target", "Wants").contains("mcp-component@a"));
    // What stops a VM whose supervisor died is there all the same.
    assert_eq!(systemd.show("mcp-reap@a\\x2db-vm.service", "ActiveState"), "active");
}

#[test]
fn mcp_stop_and_systemctl_understand_each_other() {
    let test = "inits::systemd::mcp_stop_and_systemctl_understand_each_other";
    let Some((systemd, image)) = one(test, "restart = \"always\"") else { return };
    let (lab, id) = (&systemd.0, "a-b/vm");
    // Not even a policy of always brings back what mcp-stop stopped.
    systemd.start(id);
    lab.ask("mcp-stop a-b");
    until("the unit has given up", || systemd.log(id).contains("shall stay stopped"));
    systemd.until_state(id, "inactive");
    assert_eq!(lab.qemu(id), 0);
    systemd.start(id);
    assert!(systemd.log(id).contains("a-b/vm: shall stay stopped"), "{}", systemd.log(id));
    assert_eq!((systemd.state(id).as_str(), lab.qemu(id)), ("inactive", 0));
    lab.ask("mcp-run --by-init --wait a-b");
    assert_eq!(systemd.state(id), "active");
    systemd.stop(id);
    gone(&systemd);
    // What can't start is told to whoever gave the order, in its own words.
    lab.vm("bad", &Image { disk: "/nowhere.img".into(), kernel: image.kernel }, 8002, "");
    let answer = lab.sh("mcp-run --by-init --wait bad").expect(100);
    assert_eq!(answer.one_line(), "mcp-run: bad/vm: /nowhere.img: disk image missing: no such file");
    assert!(answer.took < Duration::from_secs(10), "{answer:#?}");
    // Run by hand: the unit says who has it, does not spin, and its stop is none of that one's business.
    lab.ask("mcp-run-vm --detach --wait a-b");
    let (qemu, supervisor) = (lab.qemu(id), lab.supervisor(id));
    lab.sh(&format!("systemctl start '{}'", unit(id)));
    systemd.until_state(id, "failed");
    assert!(systemd.log(id).contains(&format!("already supervised by mcp-run-vm (pid {supervisor})")));
    assert_eq!(systemd.show(&unit(id), "NRestarts"), "0");
    systemd.stop(id);
    assert_eq!((lab.qemu(id), lab.supervisor(id)), (qemu, supervisor));
    lab.ask("mcp-stop a-b");
}

#[test]
fn a_reload_and_a_restart_lose_nothing() {
    let Some((systemd, _)) = one("inits::systemd::a_reload_and_a_restart_lose_nothing", "") else { return };
    let (lab, id) = (&systemd.0, "a-b/vm");
    // Before the node's directories exist.
    lab.ask("rm -rf /run/mcp /var/lib/mcp /var/log/mcp");
    systemd.start(id);
    let write = |prefix: &str| lab.ask(&format!("curl -sS 'http://127.0.0.1:8001/log?lines=300&prefix={prefix}'"));
    write("one-");
    let before = lab.uuid(id);
    let asking = "while [ ! -e /run/over ]; do curl -sS -m 5 -o /dev/null http://127.0.0.1:8001/ || echo lost; done >/run/asked 2>&1";
    let mut asker = lab.start(asking);
    systemd.ctl("reload", id);
    lab.ask("touch /run/over");
    asker.wait().unwrap();
    assert_eq!(lab.read("/run/asked"), "", "requests were lost");
    assert_ne!(lab.uuid(id), before);
    write("two-");
    systemd.restart(id);
    write("three-");
    systemd.stop(id);
    let journal = systemd.log(id);
    for prefix in ["one-", "two-", "three-"] {
        let lines: Vec<&str> = journal.lines().filter(|line| line.starts_with(prefix)).collect();
        assert!(lines.is_sorted() && lines.len() == 300, "{} lines of {prefix}", lines.len());
    }
    assert_eq!(journal.matches("hello: stopping").count(), 3, "{journal}");
    gone(&systemd);
}

#[test]
fn what_the_cluster_places_is_none_of_systemds() {
    let Some((systemd, image)) = one("inits::systemd::what_the_cluster_places", "") else { return };
    let lab = &systemd.0;
    let definition = |placement: &str| {
        let component = format!(
            "[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
             memory_mb = 128\nports = [\"127.0.0.1:8002:8080\"]\nstop_timeout = \"5s\"\n",
            image.disk, image.kernel
        );
        lab.define("zebra", &format!("name = \"zebra\"\nplacement = \"{placement}\"\n{component}"));
        systemd.install();
    };
    definition("cluster");
    let stage = "[[boot.sequence]]\nname = \"all\"\nservices = [\"zebra\", \"a-b\"]\n";
    lab.configure(&format!("[boot]\ninit = \"systemd\"\n{stage}"));
    systemd.install();
    systemd.boot();
    until_within(Duration::from_secs(30), "the stage", || systemd.stage_is_up("all"));
    assert!(lab.get(8001).is_some() && lab.get(8002).is_none());
    // A unit of it that is asked for all the same starts nothing.
    let start = lab.sh("systemctl start mcp-component@zebra-vm.service");
    let log = systemd.log("zebra/vm");
    assert!(log.contains("so it is not started"), "{start:#?}\n{log}");
    assert_eq!(lab.qemu("zebra/vm"), 0);
    // As Pacemaker does it, out of a service of its own that leaves it when it goes.
    lab.ask("systemd-run -q --wait --unit=pacemaker -p KillMode=process mcp-run --detach --wait --no-restart zebra");
    assert!(lab.get(8002).is_some());
    lab.ask("systemctl stop mcp.target 'mcp-*'");
    assert!(lab.get(8001).is_none() && lab.get(8002).is_some());
    lab.ask("mcp-status --wanted zebra && mcp-stop --for-now zebra");
    gone(&systemd);
    // The node's again: it comes up with the stage.
    definition("node");
    systemd.boot();
    systemd.until_state("zebra/vm", "active");
    lab.ask("systemctl stop mcp.target 'mcp-*'");
    gone(&systemd);
}

#[test]
fn a_definition_that_goes_while_its_unit_runs() {
    let Some((systemd, _)) = one("inits::systemd::a_definition_that_goes_while_its_unit_runs", "") else { return };
    let (lab, id) = (&systemd.0, "a-b/vm");
    systemd.boot();
    systemd.until_state(id, "active");
    assert_eq!(lab.sh("test -e /run/systemd/generator/mcp-component@a\\\\x2db-vm.service.d/50-mcp.conf").code, Some(0));
    lab.ask("rm /etc/mcp/services/a-b.toml");
    systemd.install();
    assert!(systemd.state(id) == "active" && lab.get(8001).is_some());
    lab.ask("systemctl stop mcp.target 'mcp-*'");
    assert_eq!((systemd.state(id).as_str(), lab.state(id)["end"]["rung"].as_str()), ("inactive", Some("powerdown")));
    gone(&systemd);
}

#[test]
fn a_boot_says_what_it_waits_for_and_a_poweroff_takes_all_down() {
    let test = "inits::systemd::a_boot_says_what_it_waits_for_and_a_poweroff_takes_all_down";
    let Some(image) = nanos(test, &["--graceful"]) else { return };
    let Some(systemd) = Systemd::new(test) else { return };
    let lab = &systemd.0;
    // A node that nobody has configured is nobody's trouble.
    systemd.install();
    lab.ask("systemctl start mcp.target && systemctl stop mcp.target");
    assert!(!lab.ask("journalctl -b").contains("mcp-generator"), "{}", lab.ask("journalctl -b | grep mcp-gen"));
    let missing = Image { disk: "/srv/auth.img".into(), kernel: image.kernel.clone() };
    lab.vm("auth", &missing, 8001, "");
    lab.vm("web", &image, 8002, "");
    let stages = "[[boot.sequence]]\nname = \"base\"\nservices = [\"auth\"]\n[[boot.sequence]]\nname = \"front\"\n\
                  services = [\"web\"]\n";
    for (bad, words) in [
        ("init = \"systemd\"\nnonsense = 1\n", "nonsense"),
        ("init = \"runit\"\n", "does not say that systemd owns the components"),
        ("", "does not say that systemd owns the components"),
    ] {
        lab.configure(&format!("[boot]\n{bad}{stages}"));
        systemd.install();
        let answer = lab.sh("systemctl start mcp.target").expect(1);
        assert!(answer.err.contains("dependency"), "{answer:#?}");
        let told = lab.ask("journalctl -o cat -u mcp-check.service");
        assert!(told.contains(words), "{told}");
        assert_eq!(lab.processes("mcp-boot"), Vec::<i32>::new());
    }
    lab.configure(&format!("[boot]\ninit = \"systemd\"\n{stages}"));
    systemd.install();
    lab.ask("systemctl enable mcp.target");
    systemd.boot();
    let waits = "stage base: 0 of 1 healthy, waiting for auth/vm: /srv/auth.img: disk image missing";
    until("systemctl status says what is waited for", || {
        lab.sh("systemctl status mcp-boot-stage@base.service").out.contains(waits)
    });
    lab.ask(&format!("cp {} /srv/new && mv /srv/new /srv/auth.img", image.disk));
    until_within(Duration::from_secs(60), "the node is up", || systemd.show("mcp.target", "ActiveState") == "active");
    let status = lab.ask("systemctl status mcp-boot-stage@front.service mcp-component@web-vm.service");
    assert!(status.contains("Status: \"booted in"), "{status}");
    assert_eq!(systemd.show("mcp-status.timer", "ActiveState"), "active");
    // A stage that runs again, as after the death of its mcp-boot, leaves alone what runs.
    let before = lab.uuid("auth/vm");
    lab.ask("systemctl restart mcp-boot-stage@base.service");
    assert_eq!((lab.uuid("auth/vm"), systemd.show("mcp-boot-stage@base.service", "NRestarts")), (before, "0".into()));
    until("the stage after it, too", || systemd.stage_is_up("front"));
    lab.ask("systemctl start mcp-status.service");
    systemd.stop("web/vm");
    lab.sh("systemctl start mcp-status.service").expect(1);
    assert!(lab.ask("journalctl -o cat -u mcp-status.service").contains("missing"));
    systemd.start("web/vm");
    // One that loses its supervisor on the way down is taken down, too.
    systemd.more("auth/vm", "RestartSec=1h");
    lab.ask(&format!("kill -KILL {}", systemd.main_pid("auth/vm")));
    systemd.until_state("auth/vm", "auto-restart");
    let seen = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("poweroff-{}", std::process::id()));
    fs::create_dir(&seen).unwrap();
    let dir = seen.display();
    lab.write(
        "/etc/systemd/system/witness.service",
        &format!(
            "[Unit]\nBefore=mcp-reap@auth-vm.service mcp-component@auth-vm.service\n[Service]\nType=oneshot\n\
             RemainAfterExit=yes\nExecStart=true\nExecStop=sh -c 'ps -eo args >{dir}/ps; cp -a /run/mcp {dir}/run; \
             journalctl -b >{dir}/journal; touch {dir}/over'\n"
        ),
        0o644,
    );
    systemd.install();
    lab.ask("systemctl start witness.service");
    lab.sh("systemctl poweroff");
    until_within(Duration::from_secs(40), "the machine is off", || seen.join("over").exists());
    let read = |name: &str| fs::read_to_string(seen.join(name)).unwrap();
    let (processes, journal) = (read("ps"), read("journal"));
    assert!(!processes.contains("qemu-system"), "{processes}\n{journal}");
    let mut ends = Vec::new();
    for id in ["web/vm", "auth/vm"] {
        let state: serde_json::Value = serde_json::from_str(&read(&format!("run/{id}/current/state.json"))).unwrap();
        assert_eq!(state["end"]["rung"], "powerdown", "{state:#}\n{journal}");
        ends.push(state["end"]["at"].as_str().unwrap().to_string());
    }
    assert!(ends.is_sorted(), "{ends:?}");
    fs::remove_dir_all(&seen).unwrap();
}

#[test]
fn a_boot_that_is_killed_goes_on_to_the_last_stage() {
    let Some(image) = nanos("inits::systemd::a_boot_that_is_killed", &[]) else { return };
    let Some(systemd) = Systemd::new("inits::systemd::a_boot_that_is_killed") else { return };
    let lab = systemd.lab();
    let missing = Image { disk: "/srv/base.img".into(), kernel: image.kernel.clone() };
    lab.vm("base", &missing, 8001, "");
    lab.vm("top", &image, 8002, "");
    lab.vm("extra", &image, 8003, "");
    let stages = ["base", "top"].map(|n| format!("[[boot.sequence]]\nname = \"{n}\"\nservices = [\"{n}\"]\n"));
    lab.configure(&format!("[boot]\ninit = \"systemd\"\n{}", stages.concat()));
    systemd.install();
    systemd.boot();
    let boot = || systemd.show("mcp-boot-stage@base.service", "MainPID").parse::<i32>().unwrap();
    for _ in 0..2 {
        until("mcp-boot waits for the foundation", || boot() > 0);
        let killed = boot();
        lab.ask(&format!("kill -KILL {killed}"));
        until("another mcp-boot", || boot() > 0 && boot() != killed);
    }
    assert_eq!(lab.qemu("top/vm"), 0);
    lab.ask(&format!("mkdir -p /srv; cp {} /srv/new && mv /srv/new /srv/base.img", image.disk));
    until_within(Duration::from_secs(40), "all stages are up", || systemd.stage_is_up("top"));
    until("what is in no stage is up", || systemd.is_up("extra/vm"));
}

#[test]
fn the_units_are_clean_and_tight() {
    let Some(systemd) = Systemd::new("inits::systemd::the_units_are_clean_and_tight") else { return };
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd");
    let names = fs::read_dir(from).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    for unit in names.filter(|name| name != "mcp-generator").map(|name| name.replace('@', "@shop-api")) {
        let told = systemd.0.sh(&format!("systemd-analyze verify --man=no /usr/lib/systemd/system/{unit} 2>&1"));
        assert!(told.code == Some(0) && told.out.is_empty(), "{unit}: {told:#?}");
    }
    for unit in ["mcp-boot-stage@shop-api.service", "mcp-check.service", "mcp-status.service"] {
        let script = format!(
            "cd /usr/lib/systemd/system && systemd-analyze security --offline=true --threshold=30 --no-pager {unit}"
        );
        let told = systemd.0.sh(&script);
        let wrong: Vec<&str> =
            told.out.lines().filter(|line| line.contains('\u{2717}') || line.contains("Overall")).collect();
        assert_eq!(told.code, Some(0), "{unit}: {wrong:#?} {}", told.err);
    }
}
