//! `mcp-status --cluster` on three real nodes: what it says of a component that is placed, runs twice, and whose node is lost.

use super::lab::Cluster;
use crate::harness::{Answer, finish, nanos, until_within};
use crate::tree::Tree;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STATUS: &str = env!("CARGO_BIN_EXE_mcp-status");
const ENTER: &str = "-m -p -u -i -n -C -r -w env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// Where it is asked: with Pacemaker's programs of a node on its PATH, and a way into each node.
struct Desk {
    tree: Tree,
}

impl Desk {
    /// One that asks Pacemaker on node `by`.
    fn new(cluster: &Cluster, by: usize) -> Desk {
        let desk = Desk { tree: Tree::new() };
        for program in ["crm_mon", "cibadmin"] {
            let path = desk.tree.root.join(program);
            let pid = cluster.node(by).pid();
            desk.tree.put(&path, &format!("#!/bin/sh\nexec nsenter -t {pid} {ENTER} {program} \"$@\"\n"));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for i in 1..=super::NODES {
            desk.tree.put(&desk.tree.root.join(format!("n{i}.pid")), &cluster.node(i).pid().to_string());
        }
        desk
    }

    fn ask(&self, args: &[&str]) -> Answer {
        let root = self.tree.root.display();
        let path = format!("{root}:{}", std::env::var("PATH").unwrap());
        let via = format!("exec nsenter -t $(cat {root}/{{node}}.pid) {ENTER}");
        let mut command = Command::new(STATUS);
        command.args(["--cluster", "--via", &via]).args(args).env("PATH", path).env_remove("MCP_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, &format!("mcp-status --cluster {}", args.join(" ")))
    }
}

/// Node, name, state and drift of each line.
fn lines(table: &str) -> Vec<String> {
    let brief = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let last = cells.last().unwrap();
        let state = cells.iter().skip(3).find(|c| c.starts_with(char::is_alphabetic) && **c != "unikernel").unwrap();
        format!("{} {}/{} {state} {last}", cells[0], cells[1], cells[2])
    };
    table.lines().skip(1).map(brief).collect()
}

#[test]
fn what_all_nodes_of_a_cluster_do_is_in_one_table() {
    let test = "cluster::status::what_all_nodes_of_a_cluster_do_is_in_one_table";
    let Some(image) = nanos(test, &["--graceful"]) else { return };
    let Some(mut cluster) = Cluster::new(test) else { return };
    for i in 1..=super::NODES {
        let lab = cluster.node(i);
        let agent = include_str!("../../../scripts/ocf/component");
        lab.write("/usr/lib/ocf/resource.d/mcp/component", agent, 0o755);
        lab.vm("web", &image, 8080, "");
        let text = lab.read("/etc/mcp/services/web.toml");
        lab.define("web", &text.replacen('\n', "\nplacement = \"cluster\"\n", 1));
        lab.ask("mcp-deploy --record-only web");
    }
    cluster.ask(
        "crm configure primitive site ocf:mcp:component params target=web/vm op start timeout=120s op stop timeout=60s \
         op monitor interval=10s timeout=20s meta migration-threshold=1",
    );
    let first = cluster.until_placed("site", |_| true);
    let running = |node: usize, drift: &str| format!("n{node} web/vm running {drift}");
    let desk = Desk::new(&cluster, 1 + first % super::NODES);
    // Placed, and on no other node: there it is nothing that would be missing.
    until_within(Duration::from_secs(30), "it runs, and nothing else is said", || {
        let a = desk.ask(&[]);
        a.code == Some(0) && lines(&a.out).contains(&running(first, "-")) && a.err.is_empty()
    });
    let began = Instant::now();
    let list = desk.ask(&["--list", "--state", "running"]).expect(0);
    assert_eq!(list.out, format!("n{first} web/vm\n"));
    eprintln!("cluster: status of three real nodes after {:?}", began.elapsed());

    // Somebody starts it by hand on another node.
    let other = 1 + (first + 1) % super::NODES;
    cluster.node(other).ask("mcp-run --detach --wait web/vm");
    let a = desk.ask(&["web"]).expect(1);
    let told = lines(&a.out);
    assert!(told.contains(&running(first, "twice")) && told.contains(&running(other, "twice,misplaced")), "{a:#?}");
    cluster.node(other).ask("mcp-stop web/vm");
    desk.ask(&["web"]).expect(0);

    // Its node is lost: fenced, and there for nobody.
    cluster.kill(first);
    let second = cluster.until_placed("site", |node| node != first);
    let mut last = Vec::new();
    until_within(Duration::from_secs(60), "it runs elsewhere, and the node that is lost is told", || {
        let a = desk.ask(&[]);
        assert_eq!(a.code, Some(1), "{a:#?}");
        last = lines(&a.out);
        let lost = format!("n{first} -/- offline unreachable,offline");
        last.contains(&lost)
            && last.contains(&running(second, "-"))
            && a.err.contains(&format!("n{first}: unreachable"))
    });
    assert_eq!(cluster.fenced(), [first]);

    // Where the cluster is down there is nobody to be asked; the node itself answers.
    let desk = Desk::new(&cluster, second);
    cluster.node(second).ask("pkill -KILL -x pacemakerd; pkill -KILL pacemaker-; pkill -KILL -x corosync; true");
    let a = desk.ask(&[]).expect(111);
    assert!(a.one_line().contains("; is the cluster up on this node? systemctl start pacemaker"), "{a:#?}");
}
