//! Runs docs/how-to/pacemaker.md on three real nodes. The first line of each block says on which.

use super::pages::{BEYOND, blocks_of, copy, is_shell, judge, with_ops};
use super::text;
use crate::cluster::{Cluster, NODES, OUTSIDE};
use crate::docs::blocks::{Block, Step, steps};
use crate::harness::{Node, finish, hello, oci_image};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The page.
pub const PAGE: &str = "docs/how-to/pacemaker.md";

/// Where the nodes' `ssh` finds the test.
const DOOR: u16 = 7001;

/// `ssh NODE COMMAND`, by way of the test, which answers with the output and then a line with the exit code.
const SSH: &str = "#!/bin/bash
while [ \"$1\" = -o ]; do shift 2; done
node=$1
shift
exec 3<>/dev/tcp/10.9.0.254/7001
printf '%s\\n%s\\n' \"$node\" \"${*//$'\\n'/ }\" >&3
answer=$(cat <&3; echo .)
answer=${answer%.}
code=${answer##*$'\\n'}
printf '%s' \"${answer%\"$code\"}\"
exit \"$code\"
";

/// The nodes that a block is for.
fn places(block: &Block) -> Vec<usize> {
    let first = block.lines.first().map_or("", |(_, line)| line.as_str());
    match first.strip_prefix("# on ") {
        Some("each node") => (1..=NODES).collect(),
        Some(name) => vec![name.trim_start_matches('n').parse().unwrap()],
        None => panic!("{PAGE}:{}: a block that does not say where", block.lines[0].0),
    }
}

/// Answers the nodes' `ssh` until it is over.
fn door(cluster: &RwLock<Cluster>, listener: &TcpListener, over: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    std::thread::scope(|scope| {
        while !over.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => drop(scope.spawn(move || through(cluster, &stream))),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    });
}

fn through(cluster: &RwLock<Cluster>, mut stream: &TcpStream) {
    stream.set_nonblocking(false).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let (Some(node), Some(command)) = (lines.next(), lines.next()) else { return };
    let node: usize = node.trim_start_matches('n').parse().unwrap();
    let answer = finish(cluster.read().unwrap().node(node).command(&command), &command);
    eprintln!("{:.1} s: ssh n{node} {command}", answer.took.as_secs_f32());
    let _ = write!(stream, "{}{}", answer.out, answer.code.unwrap_or(255));
}

fn run_step(cluster: &RwLock<Cluster>, node: usize, step: &Step) {
    let command = &step.example.command;
    let lines = format!("exec 2>&1\ncd /root\n{command}");
    judge(PAGE, step, || finish(cluster.read().unwrap().node(node).command(&lines), command));
    if command.starts_with("stonith_admin --reboot") {
        // Its power comes back.
        let mut cluster = cluster.write().unwrap();
        cluster.boot(3);
        cluster.until_online(&[1, 2, 3]);
        prepare(&cluster, 3);
    }
}

/// What the package lays down, and what a reader's node has: a way to the others, and ops.
fn prepare(cluster: &Cluster, node: usize) -> bool {
    let lab = cluster.node(node);
    for (ours, there) in [
        ("scripts/mcp-cluster", "/usr/bin/mcp-cluster"),
        ("scripts/lib/cluster.awk", "/usr/lib/mcp/cluster.awk"),
        ("scripts/ocf/component", "/usr/lib/ocf/resource.d/mcp/component"),
    ] {
        lab.write(there, &text(ours), 0o755);
    }
    lab.write("/usr/bin/ssh", SSH, 0o755);
    with_ops(&format!("docs: {PAGE}"), lab)
}

#[test]
fn docs_pacemaker_runs() {
    let Some(cluster) = Cluster::new("docs_pacemaker_runs") else { return };
    let maker = Node::new();
    let config = serde_json::json!({ "Entrypoint": ["/hello"], "Cmd": ["--port", "8080"] });
    let program = format!("{}=/hello", hello().display());
    let image = oci_image(&maker.root.join("hello"), "1", &config, &[program]);
    for node in 1..=NODES {
        if !prepare(&cluster, node) {
            return;
        }
        copy(cluster.node(node), &image.dir, "/srv/hello");
    }
    let listener = cluster.outside(|| TcpListener::bind((OUTSIDE, DOOR)).unwrap());
    let (cluster, over) = (RwLock::new(cluster), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| door(&cluster, &listener, &over));
        // However it ends, so does the door.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for block in blocks_of(PAGE).iter().filter(|b| is_shell(b)) {
                for node in places(block) {
                    for step in steps(PAGE, block) {
                        if !BEYOND.iter().any(|(c, _)| *c == step.example.command) {
                            run_step(&cluster, node, &step);
                        }
                    }
                }
            }
        }));
        over.store(true, Ordering::SeqCst);
        if let Err(why) = done {
            std::panic::resume_unwind(why);
        }
    });
}
