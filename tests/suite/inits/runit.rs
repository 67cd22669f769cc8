//! runit: a real runsvdir, the services that mcp-units writes, `sv`.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::{Image, until, until_within};
use std::time::Duration;

struct Runit {
    lab: Lab,
}

fn service(id: &str) -> String {
    format!("mcp-{}", id.replace('/', "_"))
}

impl Runit {
    fn new(test: &str) -> Option<Runit> {
        let lab = Lab::new(test, Kind::Plain, &["runsvdir", "sv", "svlogd"])?;
        // As Debian's package leaves it: a link to what is current.
        lab.ask("ln -sfn default /etc/runit/runsvdir/current; test -d /etc/service/.");
        Some(Runit { lab })
    }

    /// What is down and wanted down is ok, too.
    fn check(&self, service: &str) -> bool {
        self.lab.sh(&format!("sv -w 0 check {service}")).out.starts_with("ok: run: ")
    }

    fn stat(&self, service: &str) -> String {
        self.lab.read(&format!("/etc/sv/{service}/supervise/stat"))
    }
}

impl Init for Runit {
    fn name(&self) -> &'static str {
        "runit"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn install(&self) {
        self.lab.ask("mcp-units && ln -sfn /etc/sv/mcp-* /etc/service/");
    }

    fn boot(&self) {
        self.lab.ask("runsvdir -P /etc/service 'log: ......................................' >/dev/null 2>&1 &");
    }

    fn stage_is_up(&self, stage: &str) -> bool {
        self.check(&format!("mcp-stage-{stage}"))
    }

    fn is_ready(&self, id: &str) -> Option<bool> {
        Some(self.check(&service(id)))
    }

    fn is_up(&self, id: &str) -> bool {
        self.stat(&service(id)) == "run\n"
    }

    fn start(&self, id: &str) {
        self.lab.ask(&format!("sv up {}", service(id)));
    }

    fn stop(&self, id: &str) {
        self.lab.ask(&format!("sv -w 30 stop {}", service(id)));
    }

    fn restart(&self, id: &str) {
        self.lab.ask(&format!("sv -w 30 restart {}", service(id)));
    }

    fn log(&self, id: &str) -> String {
        let folder = format!("/var/log/mcp/runit_log/{}", service(id));
        self.lab.sh(&format!("cat {folder}/@* {folder}/current 2>/dev/null")).out
    }

    fn down(&self) {
        self.lab.ask("sv -w 60 stop mcp-stage-base");
        let runsvdir = self.lab.processes("runsvdir");
        assert_eq!(runsvdir.len(), 1);
        self.lab.ask(&format!("kill -HUP {}", runsvdir[0]));
        until_within(Duration::from_secs(20), "runit is gone", || {
            ["runsvdir", "runsv", "svlogd"].iter().all(|name| self.lab.processes(name).is_empty())
        });
    }
}

#[test]
fn runit_has_the_facts() {
    const TEST: &str = "inits::runit::runit_has_the_facts";
    let Some(images) = facts::images(TEST) else { return };
    let Some(runit) = Runit::new(TEST) else { return };
    facts::all(&runit, &images);
}

/// On a node without stages runsv starts the components. What can't be started is down after one try; all of runit going
/// down at once is graceful, and leaves nothing.
#[test]
fn runit_alone() {
    const TEST: &str = "inits::runit::runit_alone";
    let Some([image, _]) = facts::images(TEST) else { return };
    let Some(runit) = Runit::new(TEST) else { return };
    let lab = &runit.lab;
    let missing = Image { disk: "/srv/none.img".into(), kernel: image.kernel.clone() };
    lab.vm("good", &image, 8001, "");
    lab.vm("bad", &missing, 8002, "restart = \"always\"");
    lab.configure("[boot]\ninit = \"runit\"\n");
    runit.install();
    runit.boot();
    until_within(Duration::from_secs(30), "good is ready", || runit.is_ready("good/vm") == Some(true));
    until("bad is down", || runit.stat("mcp-bad_vm") == "down, normally up\n" || runit.stat("mcp-bad_vm") == "down\n");
    assert_eq!(runit.log("bad/vm").matches("disk image missing").count(), 1, "{}", runit.log("bad/vm"));
    assert!(lab.sh("sv -w 0 check mcp-bad_vm").out.starts_with("ok: down: "));
    // Their folders are as private as those of mcp.
    assert_eq!(lab.ask("stat -c %a /var/log/mcp/runit_log/mcp-good_vm"), "700");
    lab.ask(&format!("kill -HUP {}", lab.processes("runsvdir")[0]));
    until_within(Duration::from_secs(20), "runit is gone", || {
        ["runsvdir", "runsv", "svlogd"].iter().all(|name| lab.processes(name).is_empty())
    });
    assert_eq!(lab.state("good/vm")["end"]["rung"], "powerdown");
    assert!(runit.log("good/vm").contains("powerdown"), "{}", runit.log("good/vm"));
    assert!(lab.ours().is_empty() && lab.leftovers().is_empty(), "{:#?} {:#?}", lab.ours(), lab.leftovers());
}
