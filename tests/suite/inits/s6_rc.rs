//! s6-rc: a database compiled from our source definitions, on a real s6-svscan.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::until;

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
        self.lab.sh("s6-rc -a list").out.lines().any(|l| l == format!("mcp-stage-{stage}"))
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
        self.lab.ask(&format!("s6-rc -bda change && s6-svscanctl -t {SCAN}"));
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
