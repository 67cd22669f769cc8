//! runit: a real runsvdir, the services that mcp-units writes, `sv`.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::until_within;
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
        self.lab.start("exec runsvdir -P /etc/service 'log: ......................................'");
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
