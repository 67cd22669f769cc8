//! Each action on real components, with the code that OCF wants of it.

use super::*;
use crate::harness::{ACT, Podman, free_port, get, nanos, until};
use std::fs;
use std::os::fd::AsRawFd;

#[test]
fn a_vm_through_all_actions() {
    let Some(image) = nanos("ocf::a_vm_through_all_actions", &[]) else { return };
    let node = Node::new();
    let port = free_port();
    define(&node, &image, port, "");
    let web = Resource::new(&node, ID);
    web.call("validate-all").expect(SUCCESS);
    assert_eq!(web.probe().expect(NOT_RUNNING).err, "");
    web.call("stop").expect(SUCCESS);
    web.call("reload-agent").expect(NOT_RUNNING);

    web.call("start").expect(SUCCESS);
    assert!(get(port, "/").is_some(), "start returned before it served");
    let first = uuid(&node);
    web.call("start").expect(SUCCESS);
    assert_eq!(uuid(&node), first, "a start of what runs must leave it alone");
    for answer in [web.monitor(), web.probe(), web.deep()] {
        let answer = answer.expect(SUCCESS);
        assert_eq!((answer.out.as_str(), answer.err.as_str()), ("", ""));
    }

    web.with("OCF_RESKEY_generation", "2").call("reload-agent").expect(SUCCESS);
    assert_ne!(uuid(&node), first, "not replaced");
    web.deep().expect(SUCCESS);
    assert_eq!(qemus(&node), 1);

    let stopped = web.call("stop").expect(SUCCESS);
    assert!(stopped.err.contains("stopped: powerdown"), "{stopped:#?}");
    assert_eq!(node.processes(), Vec::<String>::new());
    web.call("stop").expect(SUCCESS);
    web.probe().expect(NOT_RUNNING);
    for action in ["notify", "promote", "demote", "migrate_to", "junk", ""] {
        web.call(action).expect(UNIMPLEMENTED);
    }
}

#[test]
fn nothing_that_stays_has_a_pipe_of_the_clusters() {
    let Some(image) = nanos("ocf::nothing_that_stays_has_a_pipe", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let mut start = Resource::new(&node, ID).begin("start");
    let pipes: Vec<PathBuf> = [start.stdout.as_ref().unwrap().as_raw_fd(), start.stderr.as_ref().unwrap().as_raw_fd()]
        .map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap())
        .into();
    let has_one = |pid: i32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| pipes.contains(&to))
    };
    // While it starts, and when it has.
    until("QEMU runs", || node.qemu(ID) > 0);
    assert!(!has_one(node.supervisor(ID)) && !has_one(node.qemu(ID)));
    assert!(start.wait().unwrap().success());
    assert!(!has_one(node.supervisor(ID)) && !has_one(node.qemu(ID)));
    Resource::new(&node, ID).call("stop").expect(SUCCESS);
}

#[test]
fn a_container_through_all_actions() {
    let node = Node::new();
    let Some(podman) = Podman::new("ocf::a_container_through_all_actions", &node) else { return };
    let port = free_port();
    let text = format!(
        "name = \"demo\"\n[[components]]\nname = \"web\"\nimage = \"{ACT}\"\nargs = [\"serve\", \"{port}\"]\n\
         network = \"host\"\nports = [\"{port}:{port}\"]\nstop_timeout = \"5s\"\n"
    );
    node.define("demo", &text);
    let web = Resource::new(&node, ID);
    let never = web.call("start");
    assert!(reason(&never.expect(NOT_INSTALLED)).contains("never deployed"));
    web.probe().expect(NOT_INSTALLED);
    // A folder on storage that is not mounted yet: with a "not installed" no start would ever be tried here.
    let folder = node.root.join("shared/data");
    node.define("demo", &format!("{text}volumes = [\"{}:/data\"]\n", folder.display()));
    node.mcp("mcp-record", &["--new", "--now", ID]).expect(0);
    web.probe().expect(NOT_RUNNING);
    assert!(reason(&web.call("start").expect(NOT_INSTALLED)).contains("shared/data: no such file or directory"));
    std::fs::create_dir_all(&folder).unwrap();
    web.probe().expect(NOT_RUNNING);
    web.call("start").expect(SUCCESS);
    assert!(get(port, "/").is_some(), "start returned before it served");
    web.call("start").expect(SUCCESS);
    assert_eq!(podman.names().len(), 1);
    for answer in [web.monitor(), web.probe(), web.deep()] {
        answer.expect(SUCCESS);
    }
    web.call("reload-agent").expect(SUCCESS);
    web.deep().expect(SUCCESS);
    web.call("stop").expect(SUCCESS);
    assert_eq!(podman.names(), Vec::<String>::new());
    web.monitor().expect(NOT_RUNNING);
    web.call("stop").expect(SUCCESS);
}

#[test]
fn a_service_runs_when_all_of_it_does() {
    let Some(image) = nanos("ocf::a_service_runs_when_all_of_it_does", &[]) else { return };
    let node = Node::new();
    let both = component("web", &image, free_port(), "") + &component("api", &image, free_port(), "");
    node.define("demo", &format!("name = \"demo\"\n{both}"));
    let demo = Resource::new(&node, "demo");
    demo.probe().expect(NOT_RUNNING);
    demo.call("start").expect(SUCCESS);
    demo.deep().expect(SUCCESS);
    assert_eq!(qemus(&node), 2);

    // An operator's hand.
    node.mcp("mcp-stop", &["demo/api"]).expect(0);
    for answer in [demo.monitor(), demo.probe()] {
        let why = reason(&answer.expect(FAILED));
        assert!(why.contains("demo/api does not run: ended by an operator"), "{why}");
    }
    let web = uuid(&node);
    demo.call("start").expect(SUCCESS);
    assert_eq!((qemus(&node), uuid(&node)), (2, web), "only what does not run is started");
    node.mcp("mcp-stop", &["demo"]).expect(0);
    demo.monitor().expect(NOT_RUNNING);
    demo.call("start").expect(SUCCESS);
    demo.call("stop").expect(SUCCESS);
    demo.probe().expect(NOT_RUNNING);
}

#[test]
fn without_health_it_is_enough_that_it_lives() {
    let Some(image) = nanos("ocf::without_health", &["--no-listen"]) else { return };
    let node = Node::new();
    let health = "[components.health]\nkind = \"tcp\"\ntimeout = \"200ms\"\ninterval = \"50ms\"";
    define(&node, &image, free_port(), &format!("start_timeout = \"3s\"\n{health}"));
    let web = Resource::new(&node, ID);
    let why = reason(&web.call("start").expect(FAILED));
    assert!(why.contains("healthy"), "{why}");
    web.call("stop").expect(SUCCESS);
    let web = web.with("OCF_RESKEY_health", "no");
    web.call("start").expect(SUCCESS);
    web.deep().expect(SUCCESS);
    let why = reason(&web.with("OCF_RESKEY_health", "yes").deep().expect(FAILED));
    assert!(why.contains("demo/web: unhealthy"), "{why}");
    web.call("stop").expect(SUCCESS);
}
