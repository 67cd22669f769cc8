//! Every failure to become healthy states its reason: the last verdict, or how it ended, and the last lines of the console.
//! By a first start, by a deploy and by a replace, of all runtimes.

use crate::harness::{ACT, Answer, Node, Podman, free_port, get, microvm, nanos, rootfs};

/// What serves its port, and what ends with this code after it has said a word.
struct Programs {
    serve: String,
    ends: [(u8, String); 2],
    /// What it says before it ends.
    last_words: &'static str,
    /// Where nobody listens, a check finds this.
    nobody: &'static str,
}

/// Each runtime on a node of its own, with its programs and the port that they serve.
fn each_runtime(test: &str, work: impl Fn(&Node, &Programs, u16)) {
    let nobody = "accepted by the port forward but not by the guest: it refuses on port 9090";
    let head = |runtime: &str, port: u16| {
        format!(
            "runtime = \"{runtime}\"\nmemory_mb = 128\nports = [\"127.0.0.1:{port}:8080\", \"127.0.0.1:{}:9090\"]\n",
            free_port()
        )
    };
    let (port, node) = (free_port(), Node::new());
    if microvm(test, &node) {
        let rootfs = rootfs(&node);
        let of = |args: &[&str]| {
            format!("{}rootfs = \"{rootfs}\"\nargs = {:?}\n", head("microvm", port), [&["/hello"], args].concat())
        };
        let ends = ["3", "0"]
            .map(|code| (code.parse().unwrap(), of(&["--no-listen", "--exit-after", "10", "--exit-code", code])));
        work(&node, &Programs { serve: of(&[]), ends, last_words: "hello: not listening", nobody }, port);
    }
    let (port, node) = (free_port(), Node::new());
    let image = |args: &[&str]| {
        let image = nanos(test, args)?;
        Some(format!("{}disk = \"{}\"\nkernel = \"{}\"\n", head("unikernel", port), image.disk, image.kernel))
    };
    let ended = |code| image(&["--no-listen", "--exit-after", "10", "--exit-code", code]);
    if let (Some(serve), Some(three), Some(zero)) = (image(&[]), ended("3"), ended("0")) {
        let ends = [(3, three), (0, zero)];
        work(&node, &Programs { serve, ends, last_words: "hello: not listening", nobody }, port);
    }
    let (port, node) = (free_port(), Node::new());
    if let Some(_podman) = Podman::new(test, &node) {
        let of = |args: &[&str]| {
            format!("image = \"{ACT}\"\nargs = {args:?}\nnetwork = \"host\"\nports = [\"127.0.0.1:{port}:{port}\"]\n")
        };
        let ends = ["3", "0"].map(|code| (code.parse().unwrap(), of(&["exit", code])));
        let serve = of(&["serve", &port.to_string()]);
        work(&node, &Programs { serve, ends, last_words: "act: exit", nobody: "connection refused" }, port);
    }
}

fn define(node: &Node, program: &str, port: u16, health: &str) {
    let port = if program.contains(":8080") { 8080 } else { port };
    let health = health.replace("PORT", &port.to_string());
    node.define(
        "shop",
        &format!("name = \"shop\"\n[[components]]\nname = \"web\"\nstop_timeout = \"2s\"\n{program}\n{health}\n"),
    );
}

/// A first start; one of a version on trial; and the replace of what serves `good`, which must serve on or be back.
fn starts<'a>(
    node: &'a Node,
    good: &'a str,
    bad: &'a str,
    port: u16,
    health: &'a str,
) -> impl Iterator<Item = Answer> + 'a {
    let ways: [&[&str]; 3] =
        [&["--detach", "--wait", "shop"], &["--by-init", "--wait", "shop"], &["--replace", "shop"]];
    ways.into_iter().map(move |way| {
        if way[0] == "--replace" {
            define(node, good, port, "");
            node.mcp("mcp-record", &["--new", "--now", "shop"]).expect(0);
            node.mcp("mcp-run", &["--detach", "--wait", "shop"]).expect(0);
        }
        define(node, bad, port, health);
        let how: &[&str] = if way[0] == "--detach" { &["--new", "--now", "shop"] } else { &["--new", "shop"] };
        node.mcp("mcp-record", how).expect(0);
        let answer = node.mcp("mcp-run", way);
        if way[0] == "--replace" {
            assert!(get(port, "/").is_some(), "{answer:#?}");
        }
        let _ = node.mcp("mcp-stop", &["shop"]);
        let _ = node.mcp("mcp-rm", &["shop"]);
        answer
    })
}

#[test]
fn reasons_of_what_is_not_healthy_in_time_are_told() {
    each_runtime("reasons_of_what_is_not_healthy", |node, programs, port| {
        let checks = [
            (
                "[components.health]\nkind = \"http\"\npath = \"/healthz\"\nport = PORT\n",
                "/healthz: HTTP status 404 Not Found, for ",
            ),
            ("[components.health]\nkind = \"http\"\nport = 9090\n", programs.nobody),
        ];
        for (health, reason) in checks {
            let bad = format!("{}start_timeout = \"8s\"\n", programs.serve);
            // Who says so is the same whatever way it was started; that it is said each time is shown by the first check.
            let ways = if reason == programs.nobody { 1 } else { 3 };
            for answer in starts(node, &programs.serve, &bad, port, health).take(ways) {
                assert_ne!(answer.code, Some(0), "{answer:#?}");
                let told = answer.err.lines().any(|line| {
                    line.contains("not healthy after start_timeout (8s): http 127.0.0.1:") && line.contains(reason)
                });
                assert!(told, "{reason}: {answer:#?}");
            }
        }
    });
}

#[test]
fn reasons_of_what_ends_before_it_is_ready_are_told() {
    each_runtime("reasons_of_what_ends", |node, programs, port| {
        for (code, bad) in &programs.ends {
            for health in ["", "[components.health]\nkind = \"none\"\n"] {
                for answer in starts(node, &programs.serve, bad, port, health) {
                    // Where nothing is on trial and there is no check, it has run, and that is all that was asked for.
                    if answer.call.contains("--detach") && health.contains("none") {
                        continue;
                    }
                    assert_ne!(answer.code, Some(0), "{answer:#?}");
                    let how = format!("program exited with {code}");
                    assert!(answer.err.contains(&how), "{answer:#?}");
                    assert!(answer.err.contains(programs.last_words), "{answer:#?}");
                }
            }
        }
    });
}
