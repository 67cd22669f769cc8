//! s6: service directories under a real s6-svscan.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::until;

/// Where the services are.
const SCAN: &str = "/run/service";

/// s6 in a lab.
struct S6 {
    lab: Lab,
}

fn service(id: &str) -> String {
    format!("{SCAN}/mcp-{}", id.replace('/', "_"))
}

impl S6 {
    fn new(test: &str) -> Option<S6> {
        Lab::new(test, Kind::Plain, &["s6-svscan", "s6-log"]).map(|lab| S6 { lab })
    }

    /// What s6-svstat says of the service in this folder.
    fn asked(&self, folder: &str, what: &str) -> String {
        self.lab.sh(&format!("s6-svstat -o {what} {folder}")).out.trim().to_string()
    }
}

impl Init for S6 {
    fn name(&self) -> &'static str {
        "s6"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn install(&self) {
        // As mcp-units says.
        self.lab.ask(&format!(
            "mkdir -p {SCAN} && mcp-units && cp -R /etc/mcp/s6/. {SCAN}/ && \
             if [ -e {SCAN}/.s6-svscan/control ]; then s6-svscanctl -an {SCAN}; fi"
        ));
    }

    fn boot(&self) {
        // It ends with the lab.
        drop(self.lab.start(&format!("exec s6-svscan {SCAN}")));
    }

    fn stage_is_up(&self, stage: &str) -> bool {
        self.asked(&format!("{SCAN}/mcp-stage-{stage}"), "up,ready") == "true true"
    }

    fn is_ready(&self, id: &str) -> Option<bool> {
        Some(self.asked(&service(id), "ready") == "true")
    }

    fn is_up(&self, id: &str) -> bool {
        self.asked(&service(id), "up,wantedup") == "true true"
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
        self.lab.ask(&format!("s6-svc -wD -T 40000 -d {SCAN}/mcp-stage-base && s6-svscanctl -t {SCAN}"));
        until("s6-svscan has ended", || self.lab.processes("s6-svscan").is_empty());
    }
}

#[test]
fn facts_hold_under_s6() {
    const TEST: &str = "inits::s6::facts_hold_under_s6";
    let Some(images) = facts::images(TEST) else { return };
    let Some(s6) = S6::new(TEST) else { return };
    facts::all(&s6, &images);
}
