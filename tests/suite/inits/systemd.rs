//! Under a real systemd: the facts that hold under every init, and what is systemd's alone.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::{nanos, until, until_within};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// As the installer lays our files down: units, and the generator.
fn lay_down(lab: &Lab) {
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
fn unit(id: &str) -> String {
    format!("mcp-component@{}.service", id.replace('-', "\\x2d").replace('/', "-"))
}

struct Systemd(Lab);

impl Systemd {
    fn new(test: &str) -> Option<Systemd> {
        let lab = Lab::new(test, Kind::Systemd, &[])?;
        lay_down(&lab);
        Some(Systemd(lab))
    }

    /// A property of a unit.
    fn show(&self, unit: &str, property: &str) -> String {
        self.0.ask(&format!("systemctl show --value -p {property} '{unit}'"))
    }

    fn state(&self, id: &str) -> String {
        self.show(&unit(id), "ActiveState")
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
