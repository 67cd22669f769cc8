//! scripts/mcp-cluster and `mcp-units --plan`: what they say, and what Pacemaker's own programs, the crm shell and pcs make
//! of it, without a running cluster. `MCP_TEST_CLUSTER` names the folder with those programs.

mod offline;

use crate::harness::{Answer, Node, finish, have, program, skip};
use offline::{Cluster, SIZES, meaning, with_environment};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A node whose services are for the cluster to place: a foundation, one of two components after it, and one in no stage
/// whose name begins with a digit.
fn node() -> Node {
    let node = Node::new();
    node.configure(
        "[[boot.sequence]]\nname = \"foundation\"\nservices = [\"auth\"]\ntimeout = \"30s\"\n\
         [[boot.sequence]]\nname = \"core\"\nservices = [\"shop\"]\n",
    );
    define(&node, "auth", "");
    define(&node, "9-x", "memory_mb = 64\n[components.health]\nkind = \"none\"\n");
    let web = "[[components]]\nname = \"my-web\"\nimage = \"localhost/web:1\"\nstart_timeout = \"200s\"\n";
    define(&node, "shop", &format!("stop_timeout = \"70s\"\n{web}"));
    node
}

/// A service that the cluster places, of a VM and what follows it.
fn define(node: &Node, name: &str, more: &str) {
    let port = 8000 + name.bytes().map(u16::from).sum::<u16>();
    node.define(
        name,
        &format!(
            "name = \"{name}\"\nplacement = \"cluster\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\n\
             disk = \"/srv/x.img\"\nports = [\"{port}:80\"]\n{more}"
        ),
    );
}

/// mcp-cluster with no programs of a cluster, which a machine may have all the same.
fn alone(node: &Node, args: &[&str]) -> Answer {
    let mut command = node.command("mcp-units", &[]);
    let bin = program("mcp-units").parent().unwrap().display().to_string();
    command = with_environment(command, source("scripts/mcp-cluster"), args);
    command.env("PATH", format!("{bin}:/usr/bin:/bin"));
    finish(command, &format!("mcp-cluster {}", args.join(" ")))
}

#[test]
fn a_plan_is_a_line_a_component() {
    let node = node();
    node.define("off", "name = \"off\"\nactive = false\n[[components]]\nname = \"a\"\nimage = \"localhost/x:1\"\n");
    let shop = fs::read_to_string(node.root.join("etc/services/shop.toml")).unwrap();
    let volumes =
        "volumes = [\"/srv/a,b:/srv\", \"data:/data\"]\nports = [\"8443:80\"]\n[components.health]\nkind = \"http\"\n";
    node.define(
        "shop",
        &shop.replace("placement = \"cluster\"\n", "").replace("start_timeout", &format!("{volumes}#")),
    );
    let plan = node.mcp("mcp-units", &["--plan"]).expect(0).out;
    let mib = 1 << 20;
    assert_eq!(
        plan,
        format!(
            "0\tfoundation\tauth\tvm\tunikernel\tcluster\t{}\t60000\t45000\t-\ttcp\n\
             1\tcore\tshop\tvm\tunikernel\tnode\t{}\t60000\t80000\t-\ttcp\n\
             1\tcore\tshop\tmy-web\tcontainer\tnode\t-\t60000\t45000\t/srv/a?b,data\thttp\n\
             2\t-\t9-x\tvm\tunikernel\tcluster\t{}\t60000\t45000\t-\t-\n",
            (256 + 40) * mib,
            (256 + 40) * mib,
            (64 + 40) * mib
        )
    );
    node.define("bad", "name = \"bad\"\nnope = 1\n");
    // The others' lines, and no success: mcp-cluster changes nothing then.
    let bad = node.mcp("mcp-units", &["--plan"]).expect(1);
    assert!(bad.out == plan && bad.err.contains("bad.toml:2"), "{bad:#?}");
    node.mcp("mcp-units", &["--plan", "s6"]).expect(2);
}

#[test]
fn bad_input_is_told_in_a_line() {
    let node = node();
    let none = Node::new();
    none.define("web", "name = \"web\"\n[[components]]\nname = \"a\"\nimage = \"localhost/x:1\"\n");
    let unmarked = "mcp-cluster: no service is for the cluster to place; put placement = \"cluster\" into its definition on \
                    every node";
    assert_eq!(alone(&none, &["--crm"]).expect(100).err.lines().last(), Some(unmarked));
    let ones = "mcp-cluster: web: its node starts it, not the cluster; put placement = \"cluster\" into its definition on every \
                node";
    assert_eq!(alone(&none, &["--crm", "web"]).expect(100).err.lines().last(), Some(ones));
    let told = alone(&node, &["--crm", "nope", "auth"]).expect(100);
    assert_eq!(told.err.lines().last(), Some("mcp-cluster: nope: no such service, or it is not active"), "{told:#?}");
    assert_eq!(told.out, "");
    for (args, reason) in [
        (&["shop/vm"][..], "shop/vm: a whole service is placed: mcp cluster shop"),
        (&["Shop"], "Shop: not the name of a service"),
        (&["--node", "n1"], "--node n1: not NAME=SIZE, with a SIZE as in 512M, 8G, 1.5T"),
        (&["--node", "n1=8X"], "--node n1=8X: not NAME=SIZE, with a SIZE as in 512M, 8G, 1.5T"),
        (&["--node", "n1=0M"], "--node n1=0M: not NAME=SIZE, with a SIZE as in 512M, 8G, 1.5T"),
        (&["--node", "n 1=8G"], "--node n 1=8G: not NAME=SIZE"),
        (&["--via", "ssh"], "--via ssh: names no {node}; as in --via 'ssh {node}'"),
        (&["--via"], "--via wants a value; see mcp cluster --help"),
        (&["--pin", "shop=n1"], "--pin shop=n1: not SERVICE/COMPONENT=NODE"),
        (&["--shared", "a/b/c"], "--shared a/b/c: not SERVICE/COMPONENT"),
        (&["--crm", "--pcs"], "--pcs: not together with --crm"),
        (&["--apply", "--dry-run"], "--dry-run: not together with --apply"),
        (&["--apply", "--crm"], "--crm: not together with --apply"),
        (&["--nope"], "--nope: no such option; see mcp cluster --help"),
    ] {
        let answer = alone(&node, args).expect(2);
        assert_eq!((answer.one_line(), answer.out.as_str()), (format!("mcp-cluster: {reason}").as_str(), ""));
    }
    if Path::new("/usr/sbin/cibadmin").exists() {
        skip(
            "cluster_commands::bad_input_is_told_in_a_line",
            "this machine has Pacemaker: nothing tells that it lacks",
        );
        return;
    }
    for args in [&["--apply"][..], &["--dry-run"], &["--xml"]] {
        let told = alone(&node, args).expect(100);
        assert_eq!(told.one_line(), "mcp-cluster: cibadmin: not found; apt-get install pacemaker-cli-utils");
    }
    let told = alone(&node, &[]).expect(100);
    assert!(told.one_line().starts_with("mcp-cluster: neither crm nor pcs is here; "), "{told:#?}");
    let printed = alone(&node, &["--pcs"]).expect(0);
    assert!(printed.err.contains("no cluster answers here: all is printed"), "{printed:#?}");
    assert!(
        printed.out.contains("resource create mcp_9-x_vm ocf:mcp:component target=9-x/vm op start"),
        "{printed:#?}"
    );
}

#[test]
fn the_crm_shell_and_cibadmin_make_the_same_and_the_second_time_nothing() {
    let Some(cluster) = Cluster::new("cluster_commands::the_crm_shell_and_cibadmin_make_the_same") else { return };
    cluster.begin("crm");
    cluster.begin("apply");
    let before = cluster.sh("crm", "crm_verify --live-check -VV 2>&1; echo $?").expect(0).out;
    let script = cluster.sh("crm", &format!("mcp-cluster {SIZES}")).expect(0).out;
    assert!(script.starts_with("crm configure load update - <<'END'\nprimitive auth_vm ocf:mcp:component"), "{script}");
    let shell = cluster.sh("crm", &format!("mcp-cluster {SIZES} 2>/dev/null | sh")).expect(0);
    assert!(!shell.err.contains("smaller than") && !shell.err.contains("ERROR"), "{shell:#?}");
    let applied = cluster.sh("apply", &format!("mcp-cluster {SIZES} --apply")).expect(0).out;
    let made = [
        "auth_vm",
        "shop_vm",
        "shop_my-web",
        "mcp_9-x_vm",
        "mcp-with-shop_my-web",
        "mcp-foundation",
        "mcp-stages",
        "capacity of n1",
        "capacity of n2",
        "capacity of n3",
        "placement-strategy",
    ];
    assert_eq!(applied, made.map(|what| format!("new      {what}\n")).concat());
    assert_eq!(meaning(&cluster.read("crm")), meaning(&cluster.read("apply")));
    // What Pacemaker says of it is what it said of the empty one.
    assert_eq!(cluster.sh("crm", "crm_verify --live-check -VV 2>&1; echo $?").expect(0).out, before);
    for name in ["crm", "apply"] {
        let text = cluster.read(name);
        for again in ["--crm", "--pcs", "--apply", &format!("--apply {SIZES}")] {
            assert_eq!(cluster.sh(name, &format!("mcp-cluster {again}")).expect(0).out, "", "{name} {again}");
        }
        assert_eq!(cluster.read(name), text);
    }
    let text = meaning(&cluster.read("crm"));
    for part in [
        "timeout=\"275s", // the component's start_timeout, the 45 s of its stop, and 30 s
        "timeout=\"90s",  // its stop_timeout, 10 s for what may follow it, and 10 s
        "name=\"memory\" value=\"104",
        "rsc_colocation id=\"mcp-with-shop_my-web rsc=\"shop_my-web score=\"INFINITY with-rsc=\"shop_vm",
        "rsc_order id=\"mcp-foundation kind=\"Mandatory symmetrical=\"false\n",
        "name=\"OCF_CHECK_LEVEL\" value=\"10",
    ] {
        let part = part.replace("\" value", " value");
        assert!(text.contains(&part), "no {part} in\n{text}");
    }
}

#[test]
fn pcs_makes_the_same() {
    let test = "cluster_commands::pcs_makes_the_same";
    let Some(cluster) = Cluster::new(test) else { return };
    if cluster.lacks(test, "pcs") {
        return;
    }
    // Each of its commands takes a second: as few as show all forms.
    fs::remove_file(cluster.node.root.join("etc/services/9-x.toml")).unwrap();
    cluster.begin("pcs");
    cluster.begin("apply");
    for what in ["auth", "--node n1=1G --pin shop/vm=n2 shop"] {
        cluster.sh("pcs", &format!("mcp-cluster --pcs {what} 2>/dev/null | sh")).expect(0);
        cluster.sh("apply", &format!("mcp-cluster --apply {what}")).expect(0);
    }
    assert_eq!(meaning(&cluster.read("pcs")), meaning(&cluster.read("apply")));
    assert_eq!(cluster.sh("pcs", "mcp-cluster --pcs").expect(0).out, "");
    // A change, and what goes with it.
    define(&cluster.node, "auth", "memory_mb = 512\nstart_timeout = \"150s\"\n[components.health]\nkind = \"none\"\n");
    cluster.sh("pcs", "mcp-cluster --pcs 2>/dev/null | sh").expect(0);
    cluster.sh("apply", "mcp-cluster --apply").expect(0);
    assert_eq!(meaning(&cluster.read("pcs")), meaning(&cluster.read("apply")));
}

#[test]
fn a_change_keeps_what_others_set_and_what_is_gone_is_shown() {
    let Some(cluster) = Cluster::new("cluster_commands::a_change_keeps_what_others_set") else { return };
    cluster.begin("a");
    cluster.sh("a", &format!("mcp-cluster --apply {SIZES}")).expect(0);
    cluster
        .sh(
            "a",
            "crm_resource --resource auth_vm --meta --set-parameter target-role --parameter-value Stopped &&
             crm_resource --resource auth_vm --set-parameter generation --parameter-value 7 &&
             cibadmin --modify --scope nodes --xml-text '<node id=\"1\" uname=\"n1\"><instance_attributes id=\"nodes-1\">\
             <nvpair id=\"nodes-1-standby\" name=\"standby\" value=\"on\"/></instance_attributes></node>'",
        )
        .expect(0);
    assert_eq!(cluster.sh("a", "mcp-cluster --apply").expect(0).out, "");
    let kept = cluster.read("a");
    define(&cluster.node, "auth", "memory_mb = 512\nstart_timeout = \"150s\"\n[components.health]\nkind = \"none\"\n");
    fs::remove_file(cluster.node.root.join("etc/services/9-x.toml")).unwrap();
    fs::copy(cluster.cib("a"), cluster.cib("b")).unwrap();
    let changed = cluster.sh("a", "mcp-cluster --apply --node n1=3G").expect(0);
    assert_eq!(
        changed.out,
        "changed  auth_vm\nchanged  mcp-foundation\nchanged  mcp-stages\nchanged  capacity of n1\n"
    );
    let gone = "mcp_9-x_vm (9-x/vm) is not for the cluster to place any more; this removes it: ";
    assert!(changed.err.contains(gone), "{changed:#?}");
    let crm = cluster.sh("b", "mcp-cluster --crm --node n1=3G").expect(0).out;
    let how = "crm -w resource stop mcp_9-x_vm && crm configure delete mcp_9-x_vm";
    assert_eq!(crm.lines().last(), Some(format!("# {gone}{how}").as_str()), "{crm}");
    cluster.sh("b", "mcp-cluster --crm --node n1=3G 2>/dev/null | sh").expect(0);
    assert_eq!(meaning(&cluster.read("a")), meaning(&cluster.read("b")));
    for part in ["target-role", "generation", "standby"] {
        assert!(kept.contains(part) && cluster.read("a").contains(part), "{part} is lost");
    }
    let text = cluster.read("a");
    assert!(text.contains("value=\"552\"") && text.contains("timeout=\"225s\""), "{text}");
    assert!(!text.contains("auth_vm-monitor-30s"), "a check that is no longer defined:\n{text}");
    // What it says removes it, does.
    let command = changed.err.lines().find_map(|l| l.split("this removes it: ").nth(1)).unwrap();
    cluster.sh("a", command).expect(0);
    assert!(!cluster.read("a").contains("mcp_9-x_vm"));
    let answer = cluster.sh("a", "mcp-cluster --apply").expect(0);
    assert!(answer.out.is_empty() && !answer.err.contains("any more"), "{answer:#?}");
}

#[test]
fn what_is_not_ours_and_what_is_pinned() {
    let Some(cluster) = Cluster::new("cluster_commands::what_is_not_ours_and_what_is_pinned") else { return };
    cluster.begin("a");
    let dummy = |id: &str, agent: &str, more: &str| {
        let (provider, kind) = agent.split_once(':').unwrap();
        let xml =
            format!("<primitive id=\"{id}\" class=\"ocf\" provider=\"{provider}\" type=\"{kind}\">{more}</primitive>");
        cluster.sh("a", &format!("cibadmin --create --scope resources --xml-text '{xml}'")).expect(0);
    };
    dummy("shop_vm", "pacemaker:Dummy", "");
    let target = |t: &str| {
        format!(
            "<instance_attributes id=\"i-{t}\"><nvpair id=\"n-{t}\" name=\"target\" value=\"{t}\"/></instance_attributes>"
        )
    };
    dummy("by-hand", "mcp:component", &target("auth"));
    let text = cluster.read("a");
    let told = cluster.sh("a", "mcp-cluster --apply").expect(100);
    let lines: Vec<&str> = told.err.lines().collect();
    assert_eq!(
        lines,
        [
            "mcp-cluster: auth/vm: the resource by-hand of the cluster is for it already; remove that first",
            "mcp-cluster: shop/vm: the cluster has a primitive shop_vm that is not ocf:mcp:component; rename one of them",
        ]
    );
    assert_eq!(cluster.read("a"), text);
    let told = cluster.sh("a", "mcp-cluster --apply --node n4=1G --pin no/such=n1 9-x").expect(100);
    assert_eq!(
        told.err,
        "mcp-cluster: n4: no such node in the cluster; crm_node --list names them\n\
         mcp-cluster: no/such: no such component for the cluster to place\n"
    );
    define(&cluster.node, "9-x", "volumes = [\"data:/data:16M\"]\n");
    let told = cluster.sh("a", "mcp-cluster --apply 9-x").expect(100);
    let reason = "9-x/vm: has a volume (data), and no node is known that it is on; --pin 9-x/vm=NODE, or --shared 9-x/vm where \
                  all nodes have it";
    assert_eq!(told.err, format!("mcp-cluster: {reason}\n"));
    cluster.sh("a", "mcp-cluster --apply --pin 9-x/vm=n2 9-x").expect(0);
    // The node that was told stays.
    assert_eq!(cluster.sh("a", "mcp-cluster --apply 9-x").expect(0).out, "");
    let moved = cluster.sh("a", "mcp-cluster --apply --pin 9-x/vm=n3 9-x").expect(0).out;
    assert_eq!(moved, "changed  mcp-pin-mcp_9-x_vm\n");
    let shared = cluster.sh("a", "mcp-cluster --crm --shared 9-x/vm 9-x").expect(0).out;
    let command = "crm configure delete mcp-pin-mcp_9-x_vm";
    assert_eq!(shared, format!("# mcp-pin-mcp_9-x_vm is not needed any more; this removes it: {command}\n"));
}

#[test]
fn a_dry_run_shows_what_lands_where_and_what_a_lost_node_moves() {
    let Some(cluster) = Cluster::new("cluster_commands::a_dry_run_shows_what_lands_where") else { return };
    // In no cluster: an empty one. 9-x fits anywhere, auth on a alone.
    let answer = cluster.sh("", "mcp-cluster --dry-run --node a=300M --node b=120M 9-x auth").expect(1);
    let squeezed: Vec<String> =
        answer.out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        squeezed,
        [
            "COMPONENT NODE MEMORY",
            "auth/vm a 296 MiB",
            "9-x/vm b 104 MiB",
            "",
            "NODE COMPONENTS MEMORY",
            "a 1 296 of 300 MiB",
            "b 1 104 of 120 MiB",
            "",
            "a lost: auth/vm has no place",
            "b lost: 9-x/vm has no place",
        ],
        "{answer:#?}"
    );
    // Of a configuration, which it leaves as it is. The two of a service stay together.
    cluster.begin("a");
    let text = cluster.read("a");
    let answer = cluster.sh("a", &format!("mcp-cluster --dry-run {SIZES}")).expect(0);
    assert_eq!(cluster.read("a"), text);
    let node_of = |target: &str| {
        let line = answer.out.lines().find(|l| l.split_whitespace().next() == Some(target)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_string()
    };
    let together = node_of("shop/vm");
    assert_eq!(node_of("shop/my-web"), together);
    let moves: Vec<&str> =
        answer.out.lines().filter_map(|l| l.strip_prefix(&format!("{together} lost: shop/"))).collect();
    let to = moves.first().and_then(|m| m.strip_prefix("vm moves to ")).unwrap();
    assert_eq!(moves, [format!("vm moves to {to}"), format!("my-web moves to {to}")], "{answer:#?}");
    let told = cluster.sh("", "mcp-cluster --dry-run").expect(111);
    assert_eq!(told.err, "mcp-cluster: no cluster answers; name nodes for one: --node NAME=SIZE\n");
}

#[test]
fn a_simulated_fleet_is_placed_and_moves() {
    let test = "cluster_commands::a_simulated_fleet_is_placed_and_moves";
    let Some(cluster) = Cluster::new(test) else { return };
    if !have(test, "python3") {
        return;
    }
    let answer = cluster.sh("", "simulate-cluster --nodes 4 --components 16 --rounds 1").expect(0);
    let row: Vec<&str> = answer.out.lines().last().unwrap().split('|').map(str::trim).collect();
    let (unplaced, ran_there, no_place) = (row[6], row[8], row[10]);
    assert_eq!((row[1], row[2], unplaced, no_place), ("4", "16", "0", "0"), "{answer:#?}");
    assert_ne!(ran_there, "0", "{answer:#?}");
}

#[test]
fn a_node_that_does_not_answer_is_told_and_the_others_count() {
    let Some(cluster) = Cluster::new("cluster_commands::a_node_that_does_not_answer_is_told") else { return };
    cluster.begin("a");
    // n2 is away; n3 has other definitions.
    let (transport, other) = (cluster.node.root.join("to"), Node::new());
    let shop = "name = \"shop\"\n[[components]]\nname = \"vm\"\nimage = \"localhost/x:1\"\n";
    other.define("shop", shop);
    let script = format!(
        "#!/bin/sh\nnode=$1\nshift\ncase $node in\nn2) echo 'connect to n2: No route to host' >&2; exit 255 ;;\n\
         n3) export MCP_ROOT={} ;;\nesac\nexec \"$@\"\n",
        other.root.display()
    );
    fs::write(&transport, script).unwrap();
    let answer =
        cluster.sh("a", &format!("mcp-cluster --apply --via 'sh {} {{node}}' shop", transport.display())).expect(1);
    for line in [
        "mcp-cluster: n2: not asked: connect to n2: No route to host",
        "mcp-cluster: shop/vm: on n3 it lacks placement = \"cluster\": that node starts it by itself, too",
        "mcp-cluster: shop/my-web: no active definition on n3: it can not run there",
    ] {
        assert!(answer.err.lines().any(|l| l == line), "no {line} in {answer:#?}");
    }
    let unknown = "mcp-cluster: note: the memory of n2 is not known, so that placement does not count it yet";
    assert!(answer.err.contains(unknown), "{answer:#?}");
    assert!(answer.out.contains("new      capacity of n1\nnew      capacity of n3\n"), "{answer:#?}");
    assert!(!answer.out.contains("placement-strategy"));
}

#[test]
fn memory_that_a_node_does_not_tell_is_not_taken_for_none() {
    let Some(cluster) = Cluster::new("cluster_commands::memory_that_a_node_does_not_tell") else { return };
    cluster.begin("a");
    // Its shell greets, and its /proc is another system's.
    let transport = cluster.node.root.join("to");
    fs::write(&transport, "#!/bin/sh\ncase $* in\n'n2 cat '*) echo Welcome ;;\n*) shift; exec \"$@\" ;;\nesac\n")
        .unwrap();
    let answer = cluster.sh("a", &format!("mcp-cluster --apply --via 'sh {} {{node}}'", transport.display())).expect(1);
    let told = "mcp-cluster: n2: its /proc/meminfo does not tell its memory; --node n2=SIZE\n";
    assert!(answer.err.contains(told), "{answer:#?}");
    assert!(answer.out.contains("capacity of n1\nnew      capacity of n3\n"), "{answer:#?}");
    assert!(!answer.out.contains("placement-strategy"), "{answer:#?}");
}

#[test]
fn an_apply_that_is_killed_has_made_all_changes_or_none() {
    let Some(cluster) = Cluster::new("cluster_commands::an_apply_that_is_killed") else { return };
    cluster.begin("a");
    let before = meaning(&cluster.read("a"));
    cluster.begin("whole");
    let took = cluster.sh("whole", &format!("mcp-cluster --apply {SIZES}")).expect(0).took;
    let after = meaning(&cluster.read("whole"));
    for tenths in [3, 6, 8, 9, 10] {
        cluster.begin("a");
        let mut command = cluster.command("a", &format!("mcp-cluster --apply {SIZES}"));
        let mut child = command.process_group(0).spawn().unwrap();
        let deadline = std::time::Instant::now() + took * tenths / 10;
        while std::time::Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        // SAFETY: a plain system call, on a group that is our child's.
        unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
        child.wait().unwrap();
        let now = meaning(&cluster.read("a"));
        assert!(now == before || now == after, "half of it after {tenths}/10:\n{now}");
    }
    // Called again, it does the rest.
    cluster.sh("a", &format!("mcp-cluster --apply {SIZES}")).expect(0);
    assert_eq!(meaning(&cluster.read("a")), after);
}
