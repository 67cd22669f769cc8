//! The example node's services, brought up across the nodes of a cluster by what `mcp-cluster` prints.

use super::lab::Cluster;
use crate::harness::{finish, guest_init, have, hello, ops_config, skip, test_parts, until_within};
use crate::inits::source;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Each service with its stage, in their order; its component has its name.
const SERVICES: [(&str, usize); 5] = [("auth", 0), ("names", 0), ("api", 1), ("files", 1), ("web", 2)];

/// The images of the example node, which all runs share.
fn images(test: &str) -> Option<PathBuf> {
    let parts = test_parts(test)?;
    if !parts.join("python3.tar").is_file() {
        skip(test, "no Python with gRPC among the test parts: run scripts/lib/get-test-parts again");
        return None;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-images");
    let version = source("examples/node/make-images") + &fs::read_to_string(parts.join("version")).unwrap();
    if fs::read_to_string(dir.join("version")).is_ok_and(|made| made == version) {
        return Some(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/node/make-images"));
    command.arg(&dir).arg(hello()).arg(parts).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, "make-images").expect(0);
    fs::write(dir.join("version"), version).unwrap();
    Some(dir)
}

#[test]
fn the_example_node_comes_up_across_the_nodes_in_stage_order() {
    let test = "cluster::stages::the_example_node_comes_up_across_the_nodes_in_stage_order";
    if !["podman", "crun", "busybox"].iter().all(|program| have(test, program)) {
        return;
    }
    let (Some(kernel), Some(_)) = (std::env::var_os("MCP_TEST_KERNEL").map(PathBuf::from), guest_init()) else {
        return skip(test, "no guest kernel or init: set MCP_TEST_KERNEL, run scripts/build");
    };
    let Some(ops) = ops_config(test) else { return };
    let Some(images) = images(test) else { return };
    let Some(mut cluster) = Cluster::new(test) else { return };
    for lab in cluster.nodes() {
        for (service, _) in SERVICES {
            let text = source(&format!("examples/node/services/{service}.toml"));
            let name = format!("name = \"{service}\"\n");
            assert!(text.contains(&name), "{text}");
            lab.define(service, &text.replacen(&name, &format!("{name}placement = \"cluster\"\n"), 1));
        }
        lab.configure(&(source("examples/node/mcp.toml") + &ops));
        lab.ask(&format!(
            "ln -s {} /etc/mcp/images; mkdir -p /var/lib/mcp; ln -s {} /var/lib/mcp/kernel",
            images.display(),
            kernel.display()
        ));
    }
    let began = Instant::now();
    std::thread::scope(|scope| cluster.nodes().iter().for_each(|lab| drop(scope.spawn(|| lab.podman()))));
    cluster.on_all("mcp-deploy --record-only --all");
    println!("cluster: deployed on three nodes after {:.1} s", began.elapsed().as_secs_f64());

    let began = Instant::now();
    let plan = "mcp-cluster --node n1=4G --node n2=4G --node n3=4G --pin files/files=n1";
    println!("{}", cluster.ask(&format!("{plan} 2>&1")));
    cluster.ask(&format!("{plan} | sh"));
    let places = until_all_run(&cluster);
    println!("cluster: all five up after {:.1} s: {places:?}", began.elapsed().as_secs_f64());
    assert_eq!(places["files"], 1);
    assert!(places.values().any(|node| *node != 1), "{places:?}");
    let lives: Vec<(String, String)> = SERVICES
        .iter()
        .map(|(service, _)| {
            let state = cluster.node(places[service]).state(&format!("{service}/{service}"));
            let text = |key: &str| state[key].as_str().unwrap_or_else(|| panic!("{key}: {state:#}")).to_string();
            (text("started_at"), text("ready_at"))
        })
        .collect();
    // The foundation is healthy before anything of a later stage starts; a later stage begins after the one before it.
    for ((service, stage), (started, _)) in SERVICES.iter().zip(&lives) {
        for ((before, _), (_, ready)) in SERVICES.iter().zip(&lives).filter(|((_, earlier), _)| earlier < stage) {
            assert!(ready <= started, "{service} started {started}, {before} was ready {ready}");
        }
    }
    // All of it is there, so there is nothing more to do.
    let again = cluster.ask(plan);
    assert!(again.lines().all(|line| line.starts_with('#') || line.is_empty()), "{again}");

    // A node that has something, other than the one with the volume.
    let lost = *places.values().find(|node| **node != 1).unwrap();
    let began = Instant::now();
    cluster.kill(lost);
    let moved = until_all_run(&cluster);
    assert!(moved.values().all(|node| *node != lost), "{moved:?}");
    println!("cluster: n{lost} killed, all five up after {:.1} s: {moved:?}", began.elapsed().as_secs_f64());
    // What ran elsewhere was left alone.
    for (service, node) in places.iter().filter(|(_, node)| **node != lost) {
        assert_eq!(moved[service], *node, "{moved:?}");
    }
}

/// Waits until each service runs on the node that Pacemaker has put it on, and is healthy; where that is.
#[track_caller]
fn until_all_run<'a>(cluster: &Cluster) -> BTreeMap<&'a str, usize> {
    let mut places = BTreeMap::new();
    // It answers before its settle time has passed, and is ready after that.
    let ready =
        |service: &str, node: usize| cluster.node(node).state(&format!("{service}/{service}"))["phase"] == "ready";
    let healthy = |service: &str, node: usize| cluster.node(node).sh(&format!("mcp-health {service}")).code == Some(0);
    let runs =
        |service: &str, node: usize| node != 0 && cluster.is_on(node) && healthy(service, node) && ready(service, node);
    until_within(Duration::from_secs(80), "all five run", || {
        places = SERVICES.iter().map(|(s, _)| (*s, cluster.place(&format!("{s}_{s}")))).collect();
        places.iter().all(|(service, node)| runs(service, *node))
    });
    places
}
