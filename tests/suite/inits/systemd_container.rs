//! A podman container under systemd.

use super::facts::Init;
use super::systemd::{Systemd, unit};
use crate::harness::{have, until};

const ID: &str = "web-1/app";

#[test]
fn a_container_outlives_its_supervisor_and_no_stop() {
    let test = "inits::systemd_container::a_container_outlives_its_supervisor_and_no_stop";
    if !["podman", "crun", "busybox"].iter().all(|program| have(test, program)) {
        return;
    }
    let Some(systemd) = Systemd::new(test) else { return };
    let lab = &systemd.0;
    lab.podman();
    lab.define(
        "web-1",
        "name = \"web-1\"\n[[components]]\nname = \"app\"\nimage = \"localhost/act:1\"\nnetwork = \"host\"\n\
         args = [\"tick\"]\nstop_timeout = \"5s\"\n",
    );
    lab.configure("[boot]\ninit = \"systemd\"\n");
    systemd.install();
    lab.ask("mcp-deploy web-1 || { journalctl -b --no-pager -n 30; false; }");
    let conmons = || lab.processes("conmon");
    assert_eq!((systemd.state(ID).as_str(), conmons().len()), ("active", 1));
    let (conmon, supervisor) = (conmons(), lab.supervisor(ID));
    lab.ask(&format!("kill -KILL {supervisor}"));
    until("it is adopted", || !matches!(lab.supervisor(ID), 0) && lab.supervisor(ID) != supervisor);
    until("it is up", || systemd.state(ID) == "active");
    assert_eq!(conmons(), conmon, "{}", systemd.log(ID));
    // While it waits to be started again.
    systemd.more(ID, "RestartSec=1h");
    lab.ask(&format!("kill -KILL {}", lab.supervisor(ID)));
    systemd.until_state(ID, "auto-restart");
    assert_eq!(conmons(), conmon);
    let gone = || {
        until("nothing is left", || conmons().is_empty() && lab.ask("podman ps -aq").is_empty());
        assert_eq!(lab.state(ID)["end"]["rung"], "term", "{}", lab.state(ID));
    };
    systemd.stop(ID);
    gone();
    // What podman puts into a scope of its own ends after the component's supervisor has stopped it.
    systemd.start(ID);
    let mut scope = lab.start("exec systemd-run --scope --unit=libpod-feed sleep 1000");
    until("a scope such as podman's", || systemd.show("libpod-feed.scope", "ActiveState") == "active");
    // As a shutdown does: all of it at once.
    let all = format!("[Unit]\nConflicts=libpod-feed.scope mcp-containers.target {}\n", unit(ID));
    lab.write("/etc/systemd/system/off.target", &all, 0o644);
    lab.ask("systemctl start off.target");
    scope.wait().unwrap();
    gone();
    let journal = lab.ask("journalctl -b -o cat");
    let at = |words: &str| journal.rfind(words).unwrap_or_else(|| panic!("no {words:?} in {journal}"));
    assert!(at("Stopped mcp-component@web") < at("Stopping libpod-feed.scope"), "{journal}");
}
