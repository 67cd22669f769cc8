//! dinit: a real one, as the service manager of its machine, the services that mcp-units writes, `dinitctl`.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::{Image, until, until_within};
use std::time::Duration;

struct Dinit {
    lab: Lab,
}

fn service(id: &str) -> String {
    format!("mcp-{}", id.replace('/', "_"))
}

impl Dinit {
    fn new(test: &str) -> Option<Dinit> {
        let lab = Lab::new(test, Kind::Plain, &["dinit", "dinitctl", "dinit-check"])?;
        lab.write("/etc/dinit.d/boot", "type = internal\nwaits-for.d: boot.d\n", 0o644);
        lab.ask("mkdir -p /etc/dinit.d/boot.d");
        Some(Dinit { lab })
    }

    fn is_started(&self, service: &str) -> bool {
        self.lab.sh(&format!("dinitctl is-started {service}")).code == Some(0)
    }
}

impl Init for Dinit {
    fn name(&self) -> &'static str {
        "dinit"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn install(&self) {
        self.lab
            .ask("mcp-units && { test -e /etc/dinit.d/boot.d/mcp || dinitctl --offline -d /etc/dinit.d enable mcp; }");
        // It warns of folders that the services have yet to make.
        self.lab.ask("! test -d /var/log/mcp/dinit_log || dinit-check mcp");
    }

    fn boot(&self) {
        self.lab.ask("dinit -l /var/log/dinit.log >/var/log/dinit-console.log 2>&1 &");
    }

    fn stage_is_up(&self, stage: &str) -> bool {
        self.is_started(&format!("mcp-stage-{stage}"))
    }

    fn is_ready(&self, id: &str) -> Option<bool> {
        Some(self.is_started(&service(id)))
    }

    fn is_up(&self, id: &str) -> bool {
        self.is_started(&service(id))
    }

    fn start(&self, id: &str) {
        self.lab.sh(&format!("dinitctl --no-wait start {}", service(id))).expect(0);
    }

    fn stop(&self, id: &str) {
        self.lab.ask(&format!("dinitctl stop {}", service(id)));
    }

    fn restart(&self, id: &str) {
        self.lab.ask(&format!("dinitctl restart {}", service(id)));
    }

    fn log(&self, id: &str) -> String {
        self.lab.read(&format!("/var/log/mcp/dinit_log/{}.log", service(id)))
    }

    fn down(&self) {
        // As its machine's init, or a person, ends it.
        self.lab.ask(&format!("kill -TERM {}", self.lab.processes("dinit")[0]));
        until_within(Duration::from_secs(40), "dinit is gone", || self.lab.processes("dinit").is_empty());
    }
}

#[test]
fn dinit_has_the_facts() {
    const TEST: &str = "inits::dinit::dinit_has_the_facts";
    let Some(images) = facts::images(TEST) else { return };
    let Some(dinit) = Dinit::new(TEST) else { return };
    facts::all(&dinit, &images);
}

/// On a node without stages `mcp` starts the components. What can't be started is tried once; one that is not healthy yet can
/// be stopped all the same; what ended for good is not started again, whatever its exit code.
#[test]
fn dinit_alone() {
    const TEST: &str = "inits::dinit::dinit_alone";
    let Some([image, _]) = facts::images(TEST) else { return };
    let Some(dinit) = Dinit::new(TEST) else { return };
    let lab = &dinit.lab;
    let missing = Image { disk: "/srv/none.img".into(), kernel: image.kernel.clone() };
    lab.vm("good", &image, 8001, "restart = \"no\"");
    lab.vm("bad", &missing, 8002, "restart = \"always\"");
    lab.vm("silent", &image, 8003, "[components.health]\nkind = \"http\"\npath = \"/status/503\"\n");
    lab.configure("[boot]\ninit = \"dinit\"\n");
    dinit.install();
    dinit.boot();
    until_within(Duration::from_secs(30), "good is ready", || dinit.is_ready("good/vm") == Some(true));
    // is-failed is not always true of one whose pipe dinit sees closed before its end.
    until("bad has failed", || lab.read("/var/log/dinit.log").contains("mcp-bad_vm failed to start"));
    until("bad is down", || lab.sh("dinitctl is-started mcp-bad_vm").out.trim() == "STOPPED");
    assert_eq!(dinit.log("bad/vm").matches("disk image missing").count(), 1, "{}", dinit.log("bad/vm"));
    let listens = || lab.sh("mcp-logs silent").out.contains("listening on 8080");
    until_within(Duration::from_secs(30), "silent's program listens", listens);
    assert!(lab.get(8003).is_none(), "its port opens before it is healthy");
    assert!(!dinit.is_started("mcp-silent_vm"), "said to be up before it is healthy");
    dinit.stop("silent/vm");
    assert_eq!((lab.qemu("silent/vm"), lab.supervisor("silent/vm")), (0, 0));
    assert_eq!(lab.state("silent/vm")["end"]["rung"], "powerdown");
    lab.ask(&format!("kill -KILL {}", lab.qemu("good/vm")));
    until("good is down", || lab.ask("dinitctl is-started mcp-good_vm || true") == "STOPPED");
    assert!(
        dinit.log("good/vm").contains("signal 9") || dinit.log("good/vm").contains("KILL"),
        "{}",
        dinit.log("good/vm")
    );
    dinit.down();
    assert!(lab.ours().is_empty() && lab.leftovers().is_empty(), "{:#?} {:#?}", lab.ours(), lab.leftovers());
}
