//! s6: service directories under a real s6-svscan.

use super::facts::{self, Init};
use super::{Kind, Lab};
use crate::harness::{Image, nanos, until, until_within};
use std::time::Duration;

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

/// A folder whose name shells and execline would take apart.
pub(super) const ROOT: &str = "/srv/it's \"a\\b\" $x";

/// Has the lab's programs find the node of /etc/mcp and so on below [`ROOT`]; these are the words for it.
pub(super) fn rooted(lab: &Lab) -> String {
    let quoted = ROOT.replace('\'', "'\\''");
    lab.ask(&format!(
        "mkdir -p '{quoted}' /run/mcp /var/lib/mcp /var/log/mcp /etc/mcp/services; cd '{quoted}'; \
         ln -s /etc/mcp etc; ln -s /run/mcp run; ln -s /var/lib/mcp lib; ln -s /var/log/mcp log"
    ));
    format!("--root '{quoted}'")
}

/// Stage `base` with `a-b`, `core` with `deaf`, which never listens, `front` with `web`.
pub(super) fn with_a_deaf_one(init: &dyn Init, image: &Image, deaf: &Image) {
    let lab = init.lab();
    lab.vm("a-b", image, 8001, "restart = \"always\"");
    lab.vm("deaf", deaf, 8002, "");
    lab.vm("web", image, 8003, "restart = \"on-failure\"");
    configure(init, &[("base", "a-b"), ("core", "deaf"), ("front", "web")]);
}

pub(super) fn configure(init: &dyn Init, stages: &[(&str, &str)]) {
    let mut config = format!("[boot]\ninit = \"{}\"\n", init.name());
    for (stage, service) in stages {
        let patience = if *service == "deaf" { "1s" } else { "30s" };
        config +=
            &format!("[[boot.sequence]]\nname = \"{stage}\"\nservices = [\"{service}\"]\ntimeout = \"{patience}\"\n");
    }
    init.lab().configure(&config);
}

/// What the VMs of [`with_a_deaf_one`] are made of.
pub(super) fn images(test: &str) -> Option<[Image; 2]> {
    Some([nanos(test, &["--graceful"])?, nanos(test, &["--graceful", "--no-listen"])?])
}

#[test]
fn what_is_particular_to_s6() {
    const TEST: &str = "inits::s6::what_is_particular_to_s6";
    let Some([image, deaf]) = images(TEST) else { return };
    let Some(s6) = S6::new(TEST) else { return };
    let lab = &s6.lab;
    let root = rooted(lab);
    with_a_deaf_one(&s6, &image, &deaf);
    lab.ask(&format!("mcp-units {root}; mkdir -p {SCAN}; cp -R /etc/mcp/s6/. {SCAN}/"));
    lab.ask("for f in $(find /etc/mcp/s6 -name run -o -name finish); do sh -n $f || exit 1; done");
    // Nothing of it needs a writable /etc.
    lab.ask("mount --bind /etc /etc && mount -o remount,bind,ro /etc && ! touch /etc/x 2>/dev/null");
    s6.boot();
    until_within(Duration::from_secs(30), "the last stage is up", || s6.stage_is_up("front"));
    assert_eq!(lab.ask("stat -c %a /var/log/mcp/s6_log /var/log/mcp/s6_log/mcp-web_vm"), "700\n700");
    let warned = || lab.read("/var/log/mcp/s6_log/mcp-stage-core/current").contains("deaf/vm is not healthy");
    until("it is said that deaf is not healthy", warned);
    assert!(!s6.is_ready("deaf/vm").unwrap() && s6.is_up("deaf/vm"));

    // Another has it: that one is named, and s6 does not try again.
    s6.stop("web/vm");
    until("web is down", || lab.supervisor("web/vm") == 0 && !s6.is_up("web/vm"));
    lab.ask(&format!("mcp-run-vm {root} --detach --wait --recover web/vm"));
    let (other, uuid) = (lab.supervisor("web/vm"), lab.uuid("web/vm"));
    s6.start("web/vm");
    until("s6 gives up", || s6.asked(&service("web/vm"), "up,wantedup,exitcode") == "false false 100");
    until("the holder is named", || {
        s6.log("web/vm").contains(&format!("already supervised by mcp-run-vm (pid {other})"))
    });
    assert_eq!((lab.supervisor("web/vm"), lab.uuid("web/vm")), (other, uuid));

    // A supervisor that is killed when it shall be down leaves nothing, and its VM has gone by itself.
    let qemu = lab.qemu("a-b/vm");
    lab.ask(&format!("s6-svc -wD -T 20000 -kd {}", service("a-b/vm")));
    assert!(qemu > 0 && lab.qemu("a-b/vm") == 0, "{:#?}", lab.ours());
    assert_eq!(lab.state("a-b/vm")["end"]["rung"], "powerdown");
    s6.start("a-b/vm");
    until_within(Duration::from_secs(20), "a-b is ready", || s6.is_ready("a-b/vm") == Some(true));

    // A service whose folder is taken away goes; the others come again, also beside one that is no service any more.
    lab.ask(&format!("rm -r {} && s6-svscanctl -an {SCAN}", service("deaf/vm")));
    until_within(Duration::from_secs(20), "deaf is gone", || lab.supervisor("deaf/vm") == 0);
    let base = format!("{SCAN}/mcp-stage-base");
    lab.ask(&format!("s6-svc -wD -T 30000 -d {base}"));
    assert!(lab.processes("qemu-system-x86").is_empty(), "{:#?}", lab.ours());
    lab.ask(&format!("s6-svc -u {base}"));
    until_within(Duration::from_secs(30), "the last stage is up again", || s6.stage_is_up("front"));
    assert!(lab.get(8001).is_some() && lab.get(8003).is_some() && lab.supervisor("deaf/vm") == 0);

    // All at once, as a machine that knows nothing of stages does it.
    lab.ask(&format!("s6-svscanctl -t {SCAN}"));
    until_within(Duration::from_secs(30), "s6-svscan has ended", || lab.processes("s6-svscan").is_empty());
    for id in ["a-b/vm", "deaf/vm", "web/vm"] {
        assert_eq!(lab.state(id)["end"]["rung"], "powerdown", "{id}");
    }
    assert!(lab.ours().is_empty(), "{:#?}", lab.ours());
    assert!(lab.leftovers().is_empty(), "{:#?}", lab.leftovers());
}
