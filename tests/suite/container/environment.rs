//! That podman runs containers here at all, as the other tests want it.

use crate::harness::{ACT, FakePodman, Node, Podman, get, in_own_network, until};

#[test]
fn podman_runs_containers_here() {
    let test = "podman_runs_containers_here";
    let node = Node::new();
    let Some(podman) = Podman::new(test, &node) else { return };
    let port = crate::harness::free_port().to_string();
    let run = ["run", "--detach", "--name", "web", "--network", "host", ACT, "serve", &port];
    podman.ask(&run);
    until("the container serves", || get(port.parse().unwrap(), "/").is_some_and(|b| b == "localhost/act:1\n"));
    assert_eq!(podman.names(), ["web"]);
    podman.run(&["run", "--name", "seven", "--network", "none", ACT, "exit", "7"]).expect(7);
    assert_eq!(podman.names(), ["seven", "web"]);
    podman.ask(&["stop", "--time", "5", "web"]);
    assert_eq!(podman.inspect("web")["State"]["ExitCode"], 0);
    podman.ask(&["rm", "--all"]);
    assert_eq!(podman.names(), Vec::<String>::new());
}

#[test]
fn published_ports_work_in_a_network_of_the_test() {
    let test = "published_ports_work_in_a_network_of_the_test";
    let node = Node::new();
    let Some(podman) = Podman::new(test, &node) else { return };
    in_own_network(|| {
        podman.ask(&["run", "--detach", "--name", "web", "--publish", "127.0.0.1:8080:80", ACT, "serve", "80"]);
        until("the container serves", || get(8080, "/").is_some());
        podman.ask(&["rm", "--force", "--time", "0", "web"]);
    });
}

#[test]
fn the_fake_misbehaves_when_told_and_at_that_verb_alone() {
    let test = "the_fake_misbehaves_when_told_and_at_that_verb_alone";
    let node = Node::new();
    let Some(podman) = Podman::new(test, &node) else { return };
    let fake = FakePodman::new(&node);
    let ask = |verb: &str| podman.shell(&format!("'{}' {verb}", fake.program.display()));
    assert!(ask("--version").expect(0).out.starts_with("podman version "));
    fake.does("old");
    assert_eq!(ask("--version").expect(0).out, "podman version 2.2.1\n");
    fake.does("fails:ps");
    assert!(ask("ps").expect(125).one_line().contains("crun"));
    assert_eq!(ask("images -q").expect(0).out.lines().count(), 1);
    fake.does("dies:images");
    ask("images").expect(137);
    fake.does("");
    ask("ps").expect(0);
    assert_eq!(fake.calls(), ["--version", "--version", "ps", "images -q", "images", "ps"]);
}
