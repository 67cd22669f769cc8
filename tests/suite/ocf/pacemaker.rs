//! The agent as Pacemaker itself calls it, on three nodes.

use crate::cluster::Cluster;
use crate::harness::{Image, nanos, until_within};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn primitive(cluster: &Cluster, id: &str, more: &str) {
    cluster.ask(&format!(
        "crm -F configure primitive {id} ocf:mcp:component params target={id} op stop timeout=20s {more} \
         op monitor interval=2s timeout=20s meta migration-threshold=2"
    ));
}

#[test]
fn pacemaker_takes_what_it_says_as_it_is_meant() {
    let test = "ocf::pacemaker_takes_what_it_says";
    let (Some(good), Some(mute)) = (nanos(test, &[]), nanos(test, &["--no-listen"])) else { return };
    let Some(cluster) = Cluster::new(test) else { return };
    let define = |image: &Image, name: &str, port: u16| {
        cluster.nodes().iter().for_each(|lab| lab.vm(name, image, port, "start_timeout = \"60s\""));
    };
    define(&good, "web", 8080);
    define(&mute, "mute", 8081);
    // Not here: by a probe, so that no start is ever tried.
    cluster.node(1).ask("rm /etc/mcp/services/web.toml");
    primitive(&cluster, "web", "op start timeout=60s");
    let node = cluster.until_placed("web", |_| true);
    assert_ne!(node, 1);
    let lab = cluster.node(node);
    until_within(LIMIT, "it runs", || lab.get(8080).is_some());
    let told = cluster.state();
    assert!(told.contains("not installed") && told.contains("no such service"), "{told}");
    let failures = |node: usize| cluster.ask(&format!("crm_failcount -Q -r web -N n{node} | sed 's/.*value=//'"));
    assert_eq!((failures(1), failures(node)), ("0".into(), "0".into()));

    // A parameter that is reloadable, and an operator's hand.
    let first = lab.uuid("web/vm");
    cluster.ask("crm_resource -r web --set-parameter generation --parameter-value 2");
    until_within(LIMIT, "it is replaced", || ![String::new(), first.clone()].contains(&lab.uuid("web/vm")));
    cluster.ask("crm_resource --wait");
    assert_eq!((cluster.place("web"), failures(node)), (node, "0".into()), "{}", cluster.state());
    lab.ask("mcp-run --replace web");
    let second = lab.uuid("web/vm");
    lab.ask("mcp-stop web");
    until_within(LIMIT, "it runs again", || lab.uuid("web/vm") != second && lab.get(8080).is_some());
    assert_eq!((cluster.place("web"), failures(node)), (node, "1".into()), "{}", cluster.state());

    // A start whose time is up: here, then on each of the others, and nothing stays.
    primitive(&cluster, "mute", "op start timeout=3s");
    let none = || cluster.nodes().iter().map(|lab| lab.processes("qemu-system-x86").len()).sum::<usize>() == 1;
    let given_up = || {
        let told = cluster.state();
        (1..=3).all(|i| told.contains(&format!("mute_start_0 on n{i}"))) && none()
    };
    until_within(LIMIT, "it is given up everywhere", given_up);
    let told = cluster.state();
    assert!(told.contains("not ready within 3 s"), "{told}");
    assert_eq!(cluster.fenced(), [] as [usize; 0]);

    cluster.ask("crm_resource -r web --set-parameter target-role --meta --parameter-value Stopped");
    let gone = || cluster.nodes().iter().all(|lab| lab.ours().is_empty() && lab.leftovers().is_empty());
    until_within(LIMIT, "all is stopped, and nothing left", gone);
}
