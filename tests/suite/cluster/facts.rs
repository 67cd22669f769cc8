//! What is true of components that Pacemaker places: a Nanos VM, and a container beside it, on one cluster after the other.

use super::client::{Client, HEARTBEATS, Heartbeats, answers};
use super::lab::{Cluster, address};
use crate::harness::{Image, have, nanos, until, until_within, wait_for};
use std::time::{Duration, Instant};

/// The address that clients use; it is where the VM is.
const SHARED: &str = "10.9.0.100:8080";

/// A service `web` of one VM, and `box` of one container, on each node.
fn define(cluster: &Cluster, image: &Image) {
    for lab in cluster.nodes() {
        lab.vm(
            "web",
            image,
            8080,
            "restart = \"on-failure\"\n[components.health]\nkind = \"http\"\npath = \"/health\"",
        );
        let web = lab.read("/etc/mcp/services/web.toml").replace("127.0.0.1:8080", "0.0.0.0:8080");
        lab.define("web", &web);
        lab.define(
            "box",
            "name = \"box\"\n[[components]]\nname = \"app\"\nimage = \"localhost/act:1\"\nnetwork = \"host\"\n\
             args = [\"serve\", \"8090\"]\nstop_timeout = \"5s\"\n[components.health]\nkind = \"http\"\npath = \"/\"\nport = 8090\n",
        );
    }
    std::thread::scope(|scope| cluster.nodes().iter().for_each(|lab| drop(scope.spawn(|| lab.podman()))));
    cluster.on_all("mcp-deploy --record-only web box");
}

fn resources(cluster: &Cluster) {
    let component = |id: &str, target: &str| {
        format!(
            "primitive {id} ocf:mcp:component params target={target} op start timeout=120s op stop timeout=60s \
             op monitor interval=1s timeout=20s op monitor interval=3s timeout=30s OCF_CHECK_LEVEL=10 \
             meta migration-threshold=3\n"
        )
    };
    let script = format!(
        "crm configure load update - <<'END'\n{}{}\
         primitive shared ocf:heartbeat:IPaddr2 params ip=10.9.0.100 cidr_netmask=24 nic=eth0 op monitor interval=5s\n\
         colocation shared_with_web inf: shared web_vm\norder web_first inf: web_vm shared\n\
         colocation box_with_web inf: box_app web_vm\nrsc_defaults resource-stickiness=100\nEND",
        component("web_vm", "web/vm"),
        component("box_app", "box/app")
    );
    cluster.ask(&script);
}

/// Waits until all of it runs on a node that is wanted, and answers; that node.
#[track_caller]
fn until_serves(cluster: &Cluster, wanted: impl Fn(usize) -> bool) -> usize {
    let all = || {
        let node = cluster.place("web_vm");
        let placed = node != 0 && wanted(node) && cluster.place("box_app") == node;
        (placed && answers(cluster, SHARED) && answers(cluster, &format!("{}:8090", address(node)))).then_some(node)
    };
    let node = wait_for(Duration::from_secs(60), all);
    node.unwrap_or_else(|| panic!("it serves nowhere that it should: {}", cluster.state()))
}

/// Nothing of ours runs anywhere but on this node. A conmon that has just made way for its child may last for a moment.
#[track_caller]
fn runs_only_on(cluster: &Cluster, node: usize) {
    for (i, lab) in (1..).zip(cluster.nodes()) {
        let count = || (lab.processes("qemu-system-x86").len(), lab.processes("conmon").len());
        let wanted = if i == node { (1, 1) } else { (0, 0) };
        until(&format!("n{i} has {wanted:?} VMs and containers: {:?}", count()), || count() == wanted);
    }
}

#[test]
fn components_are_placed_and_moved_and_never_run_twice() {
    let test = "cluster::facts::components_are_placed_and_moved_and_never_run_twice";
    if !["podman", "crun", "busybox"].iter().all(|program| have(test, program)) {
        return;
    }
    let Some(image) = nanos(test, &["--graceful", "--heartbeat", HEARTBEATS]) else { return };
    let Some(mut cluster) = Cluster::new(test) else { return };
    let heartbeats = Heartbeats::new(&cluster);
    define(&cluster, &image);
    resources(&cluster);
    let began = Instant::now();
    let first = until_serves(&cluster, |_| true);
    println!("cluster: placed on n{first} and healthy after {:.1} s", began.elapsed().as_secs_f64());
    cluster.node(first).ask("mcp-health web box");
    runs_only_on(&cluster, first);

    // A power cut.
    let began = Instant::now();
    cluster.kill(first);
    let second = until_serves(&cluster, |node| node != first);
    println!("cluster: n{first} killed; on n{second} and healthy after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(cluster.fenced(), [first]);
    cluster.boot(first);
    cluster.until_online(&[1, 2, 3]);
    runs_only_on(&cluster, second);

    // A node that the others don't see any more, on which all goes on running.
    let began = Instant::now();
    cluster.node(second).ask("pkill -KILL -x corosync");
    let third = until_serves(&cluster, |node| node != second);
    println!("cluster: corosync of n{second} killed; on n{third} after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(cluster.fenced(), [first, second]);
    cluster.boot(second);
    cluster.until_online(&[1, 2, 3]);
    runs_only_on(&cluster, third);

    standby_loses_no_request(&cluster, third);
    failures_restart_and_move(&cluster);
    what_is_broken_here_runs_elsewhere(&cluster);
    without_a_cluster_all_works_by_hand(&cluster);

    let lives = heartbeats.end();
    println!("cluster: {} runs of the guest, never two at one time", lives.len());
    assert!(lives.iter().all(|life| life.beats > 1), "{lives:#?}");
    assert!(lives.len() >= 6, "{lives:#?}");
    assert_eq!(cluster.fenced(), [first, second], "{}", cluster.state());
}

fn standby_loses_no_request(cluster: &Cluster, from: usize) {
    // An answer that the address left behind never comes. A VM that boots takes clients before its guest can answer, and
    // QEMU knocks there again after 6 s.
    let (soon, late) = (Duration::from_secs(3), Duration::from_secs(30));
    let shared: Vec<Client> = (0..3).map(|_| Client::new(cluster, &[SHARED.to_string()], soon)).collect();
    let nodes: Vec<String> = (1..=3).map(|i| format!("{}:8080", address(i))).collect();
    let all: Vec<Client> = (0..3).map(|_| Client::new(cluster, &nodes, late)).collect();
    let began = Instant::now();
    cluster.ask(&format!("crm node standby n{from}"));
    let to = until_serves(cluster, |node| node != from);
    println!("cluster: n{from} on standby; on n{to} after {:.1} s", began.elapsed().as_secs_f64());
    runs_only_on(cluster, to);
    for (which, clients) in [("one address", shared), ("all nodes", all)] {
        for client in clients {
            let met = client.end();
            println!("cluster: a client of {which}: {met:?}");
            // It has one connection at a time.
            assert!(met.lost <= 1 && met.answered > 10, "{met:?}");
        }
    }
    cluster.ask(&format!("crm node online n{from}"));
}

fn failures_restart_and_move(cluster: &Cluster) {
    let node = cluster.place("web_vm");
    let lab = cluster.node(node);
    let (uuid, began) = (lab.uuid("web/vm"), Instant::now());
    lab.ask(&format!("kill -KILL {}", lab.qemu("web/vm")));
    until("it runs again", || !matches!(lab.uuid("web/vm"), u if u == uuid || u.is_empty()));
    until_serves(cluster, |n| n == node);
    println!("cluster: its VM killed; again on n{node} after {:.1} s", began.elapsed().as_secs_f64());
    let failures = || cluster.ask(&format!("crm_failcount -G -r web_vm -N n{node}"));
    // Both monitors see it, and it counts once.
    assert!(failures().contains("value=1"), "{}", failures());
    // Each time that it lives but says that it is not well, it is started again, until it is another node's turn.
    let (began, mut ill) = (Instant::now(), String::new());
    until_within(Duration::from_secs(60), "it is another node's turn", || {
        let uuid = lab.uuid("web/vm");
        if uuid != ill && lab.sh("curl -sS -m 2 http://127.0.0.1:8080/unhealthy").code == Some(0) {
            ill = uuid;
        }
        !matches!(cluster.place("web_vm"), n if n == 0 || n == node)
    });
    let to = until_serves(cluster, |n| n != node);
    println!("cluster: unhealthy again and again; on n{to} after {:.1} s", began.elapsed().as_secs_f64());
    runs_only_on(cluster, to);
    cluster.ask("crm resource cleanup web_vm");
}

fn what_is_broken_here_runs_elsewhere(cluster: &Cluster) {
    let from = until_serves(cluster, |_| true);
    let broken = from % 3 + 1;
    let lab = cluster.node(broken);
    let good = lab.read("/etc/mcp/services/web.toml");
    lab.define("web", &good.replace("memory_mb = 128", "memory_mb = none"));
    cluster.ask(&format!("crm configure location liked web_vm 50: n{broken}; crm node standby n{from}"));
    let to = until_serves(cluster, |node| node != from);
    assert_ne!(to, broken);
    // Pacemaker's own word for it: what a probe or a start said there.
    let said = format!("//node_state[@uname='n{broken}']//lrm_resource[@id='web_vm']/lrm_rsc_op[@rc-code='5']");
    cluster.ask(&format!("cibadmin -Q --xpath \"{said}\""));
    runs_only_on(cluster, to);
    lab.define("web", &good);
    cluster.ask(&format!("crm configure delete liked; crm node online n{from}; crm resource cleanup web_vm"));
    assert_eq!(until_serves(cluster, |_| true), to);
}

fn without_a_cluster_all_works_by_hand(cluster: &Cluster) {
    let node = cluster.place("web_vm");
    // All at once, so that nobody fences.
    cluster.on_all("pkill -KILL pacemaker; pkill -KILL corosync; true");
    assert!(cluster.node(node).sh("crm_mon -1").code != Some(0));
    let lab = cluster.node(node);
    assert!(lab.ask("mcp-status web").contains("running"));
    lab.ask("mcp-health web box && mcp-stop web box");
    let other = node % 3 + 1;
    let lab = cluster.node(other);
    lab.ask("mcp-run --detach --wait web box && mcp-health web box");
    assert!(answers(cluster, &format!("{}:8080", address(other))));
    lab.ask("mcp-stop web box");
    for lab in cluster.nodes() {
        assert!(lab.ours().is_empty(), "{:?}", lab.ours());
        assert!(lab.leftovers().is_empty(), "{:?}", lab.leftovers());
    }
}
