//! Debian's own judge of resource agents, `ocf-tester` of resource-agents.

use super::*;
use crate::harness::{finish, free_port, have, nanos, skip};
use std::fs;

/// The folder that scripts/lib/get-test-debs laid down for clusters.
fn cluster(test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MCP_TEST_CLUSTER").map(|dir| PathBuf::from(dir).join("root"));
    let root = root.filter(|root| root.join("usr/sbin/ocf-tester").is_file());
    if root.is_none() {
        skip(test, "no ocf-tester: set MCP_TEST_CLUSTER");
    }
    root
}

#[test]
fn ocf_tester_finds_nothing_amiss() {
    let test = "ocf::ocf_tester_finds_nothing_amiss";
    let (Some(root), Some(image)) = (cluster(test), nanos(test, &[])) else { return };
    let programs = format!("{}/usr/bin", root.display());
    if !Path::new(&programs).join("xmllint").is_file() && !have(test, "xmllint") {
        return;
    }
    let node = Node::new();
    define(&node, &image, free_port(), "");
    // Where it looks for the DTD, which is not installed on this machine.
    let tester = fs::read_to_string(root.join("usr/sbin/ocf-tester")).unwrap();
    let share = format!("DATADIR={}/usr/share", root.display());
    let here = node.root.join("ocf-tester");
    fs::write(&here, tester.replacen("DATADIR=/usr/share", &share, 1)).unwrap();
    let web = Resource::new(&node, ID);
    let agent = web.command("x");
    let mut command = Command::new("sh");
    command.arg(&here).args(["-n", "demo_web", "-o", &format!("target={ID}"), "-o"]);
    command.arg(format!("root={}", node.root.display())).arg(script()).env_clear();
    command.envs(agent.get_envs().filter_map(|(n, v)| Some((n, v?))));
    let path = agent.get_envs().find(|(n, _)| *n == "PATH").unwrap().1.unwrap().to_str().unwrap().to_string();
    command.env("PATH", format!("{path}:{programs}"));
    command.env("LD_LIBRARY_PATH", format!("{}/usr/lib/x86_64-linux-gnu", root.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let told = finish(command, "ocf-tester").expect(0);
    assert!(told.out.ends_with("component passed all tests\n"), "{told:#?}");
    // What it complains of begins so.
    assert!(!told.out.lines().any(|l| l.starts_with("* rc=")), "{told:#?}");
    assert_eq!(node.processes(), Vec::<String>::new());
}
