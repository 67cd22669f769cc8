//! What is true of components under every init: one script, run through each init's own commands.
//!
//! The node: stage `base` with `auth` and `a-b` (a name that systemd must escape), stage `core` with `api`, stage `front` with
//! `web`, and `extra` in no stage. Each service is one Nanos VM, `NAME/vm`.

#![allow(dead_code)]

use super::Lab;
use crate::harness::{Image, nanos, until, until_within, wait_for};
use std::time::{Duration, Instant};

/// An init system with our services, in its lab.
pub trait Init {
    /// Its name in `[boot] init`.
    fn name(&self) -> &'static str;
    /// The machine that it runs in.
    fn lab(&self) -> &Lab;
    /// Has mcp-units write its files and tells it of them, by the init's own commands. Nothing starts yet. Called again
    /// after a change of the definitions.
    fn install(&self);
    /// Has it bring up the node; returns at once.
    fn boot(&self);
    /// Whether its service of this stage is up: what comes after may start.
    fn stage_is_up(&self, stage: &str) -> bool;
    /// Whether it says that the component is ready; `None`: it has no word for that.
    fn is_ready(&self, id: &str) -> Option<bool>;
    /// Whether its service of the component is up, and wanted up.
    fn is_up(&self, id: &str) -> bool;
    /// Its own start, stop and restart of one component; they may return before it is done.
    fn start(&self, id: &str);
    /// See [`Init::start`].
    fn stop(&self, id: &str);
    /// See [`Init::start`].
    fn restart(&self, id: &str);
    /// All of the component's log, as this init keeps it; lines may have a time before them.
    fn log(&self, id: &str) -> String;
    /// Takes the whole node down, as a shutdown of the machine does; returns when that is done.
    fn down(&self);
}

const ALL: [&str; 5] = ["auth", "a-b", "api", "web", "extra"];

/// The ports of [`ALL`]: each lab has a network of its own.
fn port(name: &str) -> u16 {
    8001 + ALL.iter().position(|n| *n == name).unwrap() as u16
}

fn id(name: &str) -> String {
    format!("{name}/vm")
}

/// What the VMs are made of; `None`, and a line that says so, where they can't be had.
pub fn images(test: &str) -> Option<[Image; 2]> {
    Some([nanos(test, &["--graceful"])?, nanos(test, &["--graceful", "--listen-delay", "1500"])?])
}

fn alive(lab: &Lab, name: &str) -> bool {
    lab.qemu(&id(name)) > 0 && lab.get(port(name)).is_some()
}

#[track_caller]
fn until_serves(lab: &Lab, name: &str) {
    until_within(Duration::from_secs(40), &format!("{name} serves"), || alive(lab, name));
}

fn kill(lab: &Lab, pid: i32) {
    assert!(pid > 1, "no process");
    lab.sh(&format!("kill -KILL {pid}")).expect(0);
}

/// One of a state's times.
fn time(lab: &Lab, name: &str, key: &str) -> String {
    lab.state(&id(name))[key].as_str().unwrap_or_default().to_string()
}

/// Runs the whole script. `images`: one whose guest listens at once, and one whose guest listens late.
pub fn all(init: &dyn Init, images: &[Image; 2]) {
    let lab = init.lab();
    let [image, late] = images;
    // A disk that is not there yet keeps the foundation from being healthy.
    let missing = Image { disk: "/srv/auth.img".into(), kernel: image.kernel.clone() };
    let restart = "restart = \"on-failure\"";
    lab.vm("auth", &missing, port("auth"), restart);
    lab.vm("a-b", late, port("a-b"), restart);
    for name in ["api", "web", "extra"] {
        lab.vm(name, image, port(name), restart);
    }
    let mut config = format!("[boot]\ninit = \"{}\"\n", init.name());
    for (stage, services) in [("base", "\"auth\", \"a-b\""), ("core", "\"api\""), ("front", "\"web\"")] {
        config += &format!("[[boot.sequence]]\nname = \"{stage}\"\nservices = [{services}]\ntimeout = \"30s\"\n");
    }
    lab.configure(&config);
    init.install();
    boots_in_order(init, image);
    comes_back(init);
    stops(init);
    logs(init);
    upgrades(init);
    goes_down(init);
}

/// Stages in order; a foundation that is not healthy holds the next stage, also when its mcp-boot is killed; ready when healthy
/// and not before.
fn boots_in_order(init: &dyn Init, image: &Image) {
    let lab = init.lab();
    init.boot();
    until_within(Duration::from_secs(40), "a-b is ready", || {
        // Asked before the guest is: what is ready by then must answer now.
        let said = init.is_ready(&id("a-b"));
        let ready = !time(lab, "a-b", "ready_at").is_empty();
        let serves = lab.get(port("a-b")).is_some();
        assert!(said != Some(true) || serves, "said to be ready before it was");
        assert!(!ready || serves, "ready before it serves");
        ready && said != Some(false)
    });
    assert!(!init.stage_is_up("base"), "the foundation is up without auth");
    assert_eq!(lab.qemu(&id("api")), 0, "a later stage has begun");
    // Whoever is told to start again what was killed puts the boot right, too.
    until("mcp-boot is at it", || !lab.processes("mcp-boot").is_empty());
    lab.processes("mcp-boot").into_iter().for_each(|boot| kill(lab, boot));
    lab.sh(&format!("mkdir -p /srv; cp {} /srv/new && mv /srv/new /srv/auth.img", image.disk)).expect(0);
    until_within(Duration::from_secs(60), "the last stage is up", || init.stage_is_up("front"));
    for stage in ["base", "core"] {
        assert!(init.stage_is_up(stage), "{stage} is not up");
    }
    for name in ALL {
        until_serves(lab, name);
        until(&format!("{name} is up"), || init.is_up(&id(name)) && init.is_ready(&id(name)) != Some(false));
    }
    for (before, after) in [("auth", "api"), ("a-b", "api"), ("api", "web"), ("web", "extra")] {
        let (ready, started) = (time(lab, before, "ready_at"), time(lab, after, "started_at"));
        assert!(!ready.is_empty() && ready <= started, "{after} began at {started}, {before} was ready at {ready}");
    }
}

/// A VM that is killed comes back; one whose supervisor is killed runs on, and is adopted.
fn comes_back(init: &dyn Init) {
    let lab = init.lab();
    let (first, qemu) = (lab.uuid("api/vm"), lab.qemu("api/vm"));
    kill(lab, qemu);
    until_within(Duration::from_secs(40), "another VM of api", || lab.uuid("api/vm") != first);
    until_serves(lab, "api");
    until("api is up", || init.is_up("api/vm"));
    let (before, supervisor) = (lab.uuid("a-b/vm"), lab.supervisor("a-b/vm"));
    kill(lab, supervisor);
    until_within(Duration::from_secs(20), "another supervisor of a-b", || {
        let now = lab.supervisor("a-b/vm");
        now > 0 && now != supervisor
    });
    until("it is supervised", || !lab.sh("mcp-status a-b").out.contains("unsupervised"));
    until("a-b is up", || init.is_up("a-b/vm") && init.is_ready("a-b/vm") != Some(false));
    assert_eq!(lab.uuid("a-b/vm"), before, "not adopted");
    assert!(lab.get(port("a-b")).is_some());
}

/// A stop by the init is graceful and names its rung, and whoever goes round leaves it so; a restart is another VM; mcp-stop
/// is understood, and so is a start after it.
fn stops(init: &dyn Init) {
    let lab = init.lab();
    let before = lab.uuid("web/vm");
    init.restart("web/vm");
    until_within(Duration::from_secs(40), "another VM of web", || {
        let now = lab.uuid("web/vm");
        !now.is_empty() && now != before
    });
    until_serves(lab, "web");
    // The kernel keeps 15 letters of a name.
    let qemus = lab.processes("qemu-system-x86").len();
    assert_eq!(qemus, ALL.len(), "{:#?}", lab.ours());
    init.stop("web/vm");
    until("web is down", || lab.qemu("web/vm") == 0 && lab.supervisor("web/vm") == 0 && !init.is_up("web/vm"));
    assert_eq!(lab.state("web/vm")["end"]["rung"], "powerdown");
    until("the log names the rung", || init.log("web/vm").contains("powerdown"));
    let round = lab.sh("mcp-run --all");
    assert!(round.out.contains("web/vm: left alone"), "{round:#?}");
    assert!(lab.qemu("web/vm") == 0 && lab.get(port("web")).is_none());
    init.start("web/vm");
    until_serves(lab, "web");
    // For good, by our own program: the init does not bring it back, not even when it is told to.
    lab.sh("mcp-stop web").expect(0);
    until("web is down by mcp-stop", || !init.is_up("web/vm") && lab.supervisor("web/vm") == 0);
    init.start("web/vm");
    let back = wait_for(Duration::from_millis(1500), || (lab.qemu("web/vm") > 0).then_some(()));
    assert!(back.is_none(), "what shall stay stopped was started");
    lab.sh("mcp-run --by-init --wait web").expect(0);
    until_serves(lab, "web");
    until("web is up again", || init.is_up("web/vm"));
}

/// What the guest writes arrives, each line once and in order, also around the death of a supervisor.
fn logs(init: &dyn Init) {
    const LINES: usize = 500;
    let lab = init.lab();
    let write = |prefix: &str| {
        lab.ask(&format!("curl -sS 'http://127.0.0.1:{}/log?lines={LINES}&prefix={prefix}'", port("api")));
    };
    let has_all = |prefix: &str| {
        let log = init.log("api/vm");
        let lines: Vec<&str> = log.lines().filter(|l| l.contains(prefix)).collect();
        let told = format!("{} of {LINES} lines of {prefix}; the last: {:?}", lines.len(), lines.last());
        assert!(lines.len() <= LINES, "doubled: {told}");
        (lines.len() == LINES, told)
    };
    write("one-");
    until("all lines of a guest are in the init's log", || has_all("one-").0);
    let supervisor = lab.supervisor("api/vm");
    kill(lab, supervisor);
    until("api is adopted", || !matches!(lab.supervisor("api/vm"), 0) && lab.supervisor("api/vm") != supervisor);
    until("api is supervised", || !lab.sh("mcp-status api").out.contains("unsupervised"));
    write("two-");
    until("all lines after an adoption are in the init's log", || has_all("two-").0);
    let (whole, told) = has_all("one-");
    assert!(whole, "after the adoption: {told}");
}

/// Another program in the place of the old one: what runs goes on, and the next supervisor adopts it.
fn upgrades(init: &dyn Init) {
    let lab = init.lab();
    let (before, old) = (ALL.map(|name| lab.uuid(&id(name))), lab.supervisor("api/vm"));
    lab.ask("p=$(readlink -f /usr/bin/mcp-run-vm); cp $p /run/new-mcp-run-vm && mount --bind /run/new-mcp-run-vm $p");
    init.install();
    assert_eq!(lab.supervisor("api/vm"), old, "an upgrade ended a supervisor");
    lab.sh("mcp-status").expect(0);
    kill(lab, old);
    until("the new program adopts", || {
        let now = lab.supervisor("api/vm");
        now > 0
            && now != old
            && lab.ask(&format!("stat -L -c %i /proc/{now}/exe")) == lab.ask("stat -c %i /run/new-mcp-run-vm")
    });
    until("it is supervised", || !lab.sh("mcp-status api").out.contains("unsupervised"));
    for (name, uuid) in ALL.iter().zip(&before) {
        assert_eq!(lab.uuid(&id(name)), *uuid, "{name} is another VM");
    }
    lab.ask("umount -l $(readlink -f /usr/bin/mcp-run-vm)");
}

/// The way down: in reverse, within its budget, gracefully, and nothing is left.
fn goes_down(init: &dyn Init) {
    let lab = init.lab();
    let began = Instant::now();
    init.down();
    assert!(began.elapsed() < Duration::from_secs(40), "took {:?}", began.elapsed());
    assert_eq!(lab.processes("qemu-system-x86"), Vec::<i32>::new(), "{:#?}", lab.ours());
    let end = |name: &str, key: &str| lab.state(&id(name))["end"][key].as_str().unwrap_or_default().to_string();
    for name in ALL {
        assert_eq!(end(name, "rung"), "powerdown", "{name}: {}", lab.state(&id(name))["end"]);
        assert_eq!(lab.supervisor(&id(name)), 0, "{name} has a supervisor");
    }
    for (first, then) in [("web", "api"), ("api", "auth"), ("api", "a-b")] {
        let (a, b) = (end(first, "at"), end(then, "at"));
        assert!(a <= b, "{first} ended at {a}, {then} at {b}");
    }
    let ours = lab.ours();
    assert!(ours.is_empty(), "{ours:#?}");
    let left = lab.leftovers();
    assert!(left.is_empty(), "{left:#?}");
}
