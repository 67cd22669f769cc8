//! Components as services of a real OpenRC: supervise-daemon keeps them up.

use super::facts::{self, Init};
use super::{Kind, Lab};

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

    /// The exit code of its status: 0 started, 3 stopped, 16 inactive, 32 crashed.
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
