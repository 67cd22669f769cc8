//! The agent as Pacemaker itself calls it, on three nodes.

use crate::cluster::Cluster;
use crate::harness::{Image, nanos, until_within};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn primitive(cluster: &Cluster, id: &str, more: &str) {
    cluster.ask(&format!(
        "crm -F configure load update - <<'END'\nprimitive {id} ocf:mcp:component params target={id} op stop timeout=20s \
         {more} op monitor interval=2s timeout=20s meta migration-threshold=2\nlocation {id}_first {id} 100: n1\nEND"
    ));
}

/// Whether Pacemaker has an operation of the resource on this node that is as `condition` says, in XPath.
fn ran(cluster: &Cluster, node: usize, id: &str, condition: &str) -> bool {
    let path = format!("//node_state[@uname='n{node}']//lrm_resource[@id='{id}']/lrm_rsc_op[{condition}]");
    !cluster.ask(&format!("cibadmin -Q --xpath \"{path}\" 2>/dev/null || [ $? = 105 ]")).is_empty()
}

/// Whether it ended with this code and reason. The words for the code are others in each version of Pacemaker.
fn ended(cluster: &Cluster, node: usize, id: &str, operation: &str, code: i32, reason: &str) -> bool {
    let condition = format!("@operation='{operation}' and @rc-code='{code}' and starts-with(@exit-reason, '{reason}')");
    ran(cluster, node, id, &condition)
}

#[test]
fn pacemaker_takes_what_it_says_as_it_is_meant() {
    let test = "ocf::pacemaker_takes_what_it_says";
    let (Some(good), Some(mute)) = (nanos(test, &[]), nanos(test, &["--no-listen"])) else { return };
    let Some(cluster) = Cluster::new(test) else { return };
    let define = |image: &Image, name: &str, port: u16| {
        for lab in cluster.nodes() {
            lab.vm(name, image, port, "start_timeout = \"60s\"");
            let file = format!("/etc/mcp/services/{name}.toml");
            lab.define(name, &lab.read(&file).replacen('\n', "\nplacement = \"cluster\"\n", 1));
        }
    };
    define(&good, "web", 8080);
    define(&mute, "mute", 8081);
    // Where the cluster would rather have it: its probe there is enough to make it take another.
    cluster.node(1).ask("mv /etc/mcp/services/web.toml /tmp");
    primitive(&cluster, "web", "op start timeout=60s");
    assert_ne!(cluster.until_placed("web", |_| true), 1);
    assert!(ended(&cluster, 1, "web", "monitor", 5, "web: no such service"), "{}", cluster.state());
    assert!(!ran(&cluster, 1, "web", "@operation='start'"), "{}", cluster.state());
    // It looks again when it is told to.
    cluster.node(1).ask("mv /tmp/web.toml /etc/mcp/services");
    cluster.ask("crm_resource --refresh -r web");
    let node = cluster.until_placed("web", |node| node == 1);
    let lab = cluster.node(node);
    until_within(LIMIT, "it runs", || lab.get(8080).is_some());
    let failures = || cluster.ask(&format!("crm_failcount -G -r web -N n{node} | sed 's/.*value=//'"));

    // A parameter that is reloadable, and an operator's hand.
    let first = lab.uuid("web/vm");
    cluster.ask("crm_resource -r web --set-parameter generation --parameter-value 2");
    until_within(LIMIT, "it is replaced", || ![String::new(), first.clone()].contains(&lab.uuid("web/vm")));
    cluster.ask("crm_resource --wait");
    assert_eq!((cluster.place("web"), failures()), (node, "0".into()), "{}", cluster.state());
    lab.ask("mcp-run --replace web");
    let second = lab.uuid("web/vm");
    lab.ask("mcp-stop web");
    until_within(LIMIT, "it runs again", || lab.uuid("web/vm") != second && lab.get(8080).is_some());
    assert_eq!((cluster.place("web"), failures()), (node, "1".into()), "{}", cluster.state());

    // A start whose time is up: here, then on each of the others, and nothing stays.
    primitive(&cluster, "mute", "op start timeout=3s");
    let none = || cluster.nodes().iter().map(|lab| lab.processes("qemu-system-x86").len()).sum::<usize>() == 1;
    let given_up = || (1..=3).all(|i| ended(&cluster, i, "mute", "start", 1, "mute: not ready within 3 s")) && none();
    until_within(LIMIT, "it is given up everywhere, and why is told", given_up);
    assert_eq!(cluster.fenced(), [] as [usize; 0]);

    cluster.ask("crm_resource -r web --set-parameter target-role --meta --parameter-value Stopped");
    let gone = || cluster.nodes().iter().all(|lab| lab.ours().is_empty() && lab.leftovers().is_empty());
    until_within(LIMIT, "all is stopped, and nothing left", gone);
}
