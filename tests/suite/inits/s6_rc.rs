//! s6-rc: a database compiled from our source definitions, on a real s6-svscan.

use super::facts::{self, Init};
use super::{Kind, Lab, s6};
use crate::harness::{until, until_within};
use std::time::Duration;

const SCAN: &str = "/run/service";

/// s6-rc in a lab.
struct S6Rc {
    lab: Lab,
}

fn service(id: &str) -> String {
    format!("{SCAN}/mcp-{}", id.replace('/', "_"))
}

impl S6Rc {
    fn new(test: &str) -> Option<S6Rc> {
        let lab = Lab::new(test, Kind::Plain, &["s6-svscan", "s6-log", "s6-rc"])?;
        // As a machine's own boot does before it has services.
        lab.ask(&format!("mkdir -p {SCAN}"));
        drop(lab.start(&format!("exec s6-svscan {SCAN}")));
        until("s6-svscan is there", || lab.path(&format!("{SCAN}/.s6-svscan/control")).exists());
        Some(S6Rc { lab })
    }
}

impl Init for S6Rc {
    fn name(&self) -> &'static str {
        "s6-rc"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn install(&self) {
        // As mcp-units says.
        self.lab.ask(&format!(
            "mcp-units && new=/run/compiled-$(date +%s.%N) && s6-rc-compile $new /etc/mcp/s6-rc && \
             if [ -e /run/s6-rc ]; then s6-rc-update $new; else s6-rc-init -c $new {SCAN}; fi"
        ));
    }

    fn boot(&self) {
        drop(self.lab.start("exec s6-rc -u change mcp 2>/tmp/s6-rc.log"));
    }

    fn stage_is_up(&self, stage: &str) -> bool {
        let in_list = self.lab.sh("s6-rc -a list").out.lines().any(|l| l == format!("mcp-stage-{stage}"));
        in_list && self.lab.sh(&format!("s6-svstat -o up,ready {SCAN}/mcp-stage-{stage}")).out.trim() == "true true"
    }

    fn is_ready(&self, _: &str) -> Option<bool> {
        None
    }

    fn is_up(&self, id: &str) -> bool {
        let asked = self.lab.sh(&format!("s6-svstat -o up,wantedup {}", service(id)));
        asked.out.trim() == "true true"
    }

    fn start(&self, id: &str) {
        self.lab.ask(&format!("s6-svc -u {}", service(id)));
    }

    fn stop(&self, id: &str) {
        self.lab.ask(&format!("s6-svc -d {}", service(id)));
    }

    fn restart(&self, id: &str) {
        self.lab.ask(&format!("s6-svc -r {}", service(id)));
    }

    fn log(&self, id: &str) -> String {
        self.lab.read(&format!("/var/log/mcp/s6_log/mcp-{}/current", id.replace('/', "_")))
    }

    fn down(&self) {
        self.lab.ask(&format!("s6-rc -bDa change && s6-svscanctl -t {SCAN}"));
        until("s6-svscan has ended", || self.lab.processes("s6-svscan").is_empty());
    }
}

#[test]
fn facts_hold_under_s6_rc() {
    const TEST: &str = "inits::s6_rc::facts_hold_under_s6_rc";
    let Some(images) = facts::images(TEST) else { return };
    let Some(s6_rc) = S6Rc::new(TEST) else { return };
    facts::all(&s6_rc, &images);
}

/// Has it take what mcp-units writes now.
fn update(lab: &Lab, root: &str, database: &str, init: bool) {
    let take = match init {
        true => format!("s6-rc-init -c {database} {SCAN}"),
        false => format!("s6-rc-update {database}"),
    };
    lab.ask(&format!("mcp-units {root} && s6-rc-compile {database} /etc/mcp/s6-rc && {take}"));
}

#[test]
fn what_is_particular_to_s6_rc() {
    const TEST: &str = "inits::s6_rc::what_is_particular_to_s6_rc";
    let Some([image, deaf]) = s6::images(TEST) else { return };
    let Some(s6_rc) = S6Rc::new(TEST) else { return };
    let lab = &s6_rc.lab;
    let root = s6::rooted(lab);
    s6::with_a_deaf_one(&s6_rc, &image, &deaf);
    // A foundation that is waited for, and s6-rc with it, does not keep the machine from going down.
    s6::configure(&s6_rc, &[("base", "deaf"), ("core", "web"), ("front", "a-b")]);
    update(lab, &root, "/run/none", true);
    s6_rc.boot();
    until_within(Duration::from_secs(20), "deaf has started", || lab.qemu("deaf/vm") > 0);
    lab.ask(&format!("s6-svc -d {SCAN}/mcp-stage-base && s6-rc -bDa change"));
    assert!(lab.supervisor("deaf/vm") == 0, "{:#?}", lab.ours());
    assert!(lab.processes("mcp-boot").is_empty() && lab.processes("s6-rc").is_empty(), "{:#?}", lab.ours());
    assert_eq!(lab.ask("s6-rc -a list | grep mcp || true"), "");

    s6::with_a_deaf_one(&s6_rc, &image, &deaf);
    update(lab, &root, "/run/first", false);
    // One that is never healthy is warned about, and counts as no failure.
    lab.ask("s6-rc -u change mcp");
    let told = lab.read("/var/log/mcp/s6_log/mcp-stage-core/current");
    assert!(told.contains("deaf/vm is not healthy"), "{told}");
    assert!(lab.get(8003).is_some() && s6_rc.is_up("deaf/vm"));

    // Another node: what stays is not touched, what goes is stopped, what is new starts.
    let (kept, supervisor) = (lab.uuid("a-b/vm"), lab.supervisor("a-b/vm"));
    lab.vm("late", &image, 8004, "");
    s6::configure(&s6_rc, &[("base", "a-b"), ("core", "deaf"), ("front", "late")]);
    lab.ask("rm /etc/mcp/services/web.toml");
    update(lab, &root, "/run/second", false);
    assert_eq!(lab.state("web/vm")["end"]["rung"], "powerdown");
    assert!(!lab.path("/etc/mcp/s6-rc/mcp-web_vm").exists() && lab.supervisor("web/vm") == 0);
    lab.ask("s6-rc -u change mcp");
    assert!(lab.get(8004).is_some() && s6_rc.stage_is_up("front"));
    assert_eq!((lab.uuid("a-b/vm"), lab.supervisor("a-b/vm")), (kept.clone(), supervisor));

    // A bundle of a stage takes down what comes after it, and no more.
    lab.ask("s6-rc -d change mcp-bundle-core");
    assert!(lab.supervisor("deaf/vm") == 0 && lab.supervisor("late/vm") == 0);
    assert_eq!((lab.uuid("a-b/vm"), s6_rc.is_up("a-b/vm")), (kept, true));

    // What an operator stopped stays so, and keeps nothing from starting.
    lab.sh(&format!("mcp-stop {root} deaf")).expect(1);
    lab.ask("s6-rc -u change mcp");
    until("deaf is down", || !s6_rc.is_up("deaf/vm"));
    assert!(lab.get(8004).is_some() && lab.supervisor("deaf/vm") == 0);

    s6_rc.down();
    assert!(lab.ours().is_empty(), "{:#?}", lab.ours());
    assert!(lab.leftovers().is_empty(), "{:#?}", lab.leftovers());
}
