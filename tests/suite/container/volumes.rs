//! Podman's named volumes: whose they are, and what becomes of them.

use super::services::service;
use super::{ID, define, node};
use crate::harness::{ACT, Podman, free_port, microvm, rootfs, until};

/// Names of all volumes, sorted.
fn names(podman: &Podman) -> Vec<String> {
    let out = podman.ask(&["volume", "ls", "--quiet"]);
    let mut names: Vec<String> = out.lines().map(String::from).collect();
    names.sort();
    names
}

#[test]
fn rm_removes_a_containers_own_volumes_and_says_which_stay() {
    let test = "rm_removes_a_containers_own_volumes";
    let more = "volumes = [\"own:/www\", \"shared:/shared\", \"bare:/bare\"]";
    let Some((node, podman)) = node(test, &["sleep"], more) else { return };
    podman.ask(&["volume", "create", "bare"]);
    node.define("other", &service("other", "volumes = [\"shared:/shared\"]\n"));
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    until("it sleeps", || node.console(ID).contains("act: sleep"));
    node.mcp("mcp-stop", &[ID]).expect(0);
    let asked = ["volume", "inspect", "--format", "{{index .Labels \"mcp.component\"}} {{.Mountpoint}}", "own"];
    let told = podman.ask(&asked);
    // What the image has there is in it, as in one that `podman run` makes.
    let place = told.strip_prefix("web ").unwrap_or_else(|| panic!("{told}"));
    assert!(std::path::Path::new(place).join("index.html").is_file(), "{told}");

    let kept = node.mcp("mcp-rm", &[ID]).expect(0);
    let words = "mcp-rm: shop/web: kept its volumes in podman: own; mcp-rm --volumes shop/web removes them";
    assert_eq!((kept.one_line(), kept.out.as_str()), (words, "shop/web removed\n"));
    assert_eq!(names(&podman), ["bare", "own", "shared"]);
    // One that a container has which is none of ours.
    podman.ask(&["create", "--name", "user", "--network", "none", "--volume", "own:/own", ACT]);
    let used = node.mcp("mcp-rm", &["--volumes", ID]).expect(100);
    assert!(used.one_line().contains("mcp-rm: volume own: ") && used.err.contains("being used"), "{used:#?}");
    podman.ask(&["rm", "user"]);
    let gone = node.mcp("mcp-rm", &["--volumes", ID]).expect(0);
    assert_eq!(gone.out, "shop/web removed\n");
    assert_eq!(
        gone.err,
        "mcp-rm: shop/web: kept podman's volume bare: it has no label of this mcp; podman volume rm bare removes it\n\
         mcp-rm: shop/web: kept podman's volume shared: other/other names it too\n"
    );
    assert_eq!(names(&podman), ["bare", "shared"]);

    // Nobody names it any more, and nothing but its labels tells whose it is.
    for service in ["shop", "other"] {
        std::fs::remove_file(node.root.join(format!("etc/services/{service}.toml"))).unwrap();
    }
    let last = node.mcp("mcp-rm", &["--volumes", ID]).expect(0);
    assert_eq!((last.out.as_str(), last.err.as_str()), ("shop/web removed\n", ""));
    assert_eq!(names(&podman), ["bare"]);
    assert_eq!(node.mcp("mcp-rm", &["--volumes", "--all"]).expect(0).out, "");
    node.mcp("mcp-rm", &["--volumes", ID]).expect(1);
}

#[test]
fn a_volume_is_no_other_runtimes_either_way() {
    let test = "a_volume_is_no_other_runtimes";
    let volume = "volumes = [\"data:/srv/data\"]";
    let Some((node, podman)) = node(test, &["sleep"], volume) else { return };
    node.mcp("mcp-run-container", &["--detach", ID]).expect(0);
    node.mcp("mcp-stop", &[ID]).expect(0);
    let port = free_port();
    let vm = |runtime: &str, source: &str| {
        let text = format!(
            "name = \"shop\"\n[[components]]\nname = \"web\"\nruntime = \"{runtime}\"\n{source}\nmemory_mb = 128\n\
             ports = [\"{port}:8080\"]\nvolumes = [\"data:/srv/data:32M\"]\n"
        );
        node.define("shop", &text);
    };
    let rootfs = format!("rootfs = \"{}\"\nargs = [\"/hello\"]", rootfs(&node));
    let why = |way: &str| {
        format!(
            "shop/web: volume data: is podman's, which a VM can't use: go back to the runtime before, name another volume, \
             or give the data up with {way}"
        )
    };
    for (runtime, source) in [("unikernel", "disk = \"/no/such.img\""), ("microvm", rootfs.as_str())] {
        vm(runtime, source);
        for (program, args) in [("mcp-record", ["--new", ID]), ("mcp-run", ["--detach", ID])] {
            let refused = node.mcp(program, &args).expect(100);
            assert!(refused.one_line().ends_with(&why("mcp-rm --volumes shop/web")), "{refused:#?}");
        }
    }
    assert!(!node.root.join("lib/volumes/shop/web/data.raw").exists());
    // One that was there before it was ours alone: mcp-rm leaves it, so that is no way out.
    podman.ask(&["volume", "rm", "data"]);
    podman.ask(&["volume", "create", "data"]);
    let refused = node.mcp("mcp-run", &["--detach", ID]).expect(100);
    assert!(refused.one_line().ends_with(&why("podman volume rm data")), "{refused:#?}");
    podman.ask(&["volume", "rm", "data"]);

    if !microvm(test, &node) {
        return;
    }
    node.mcp("mcp-run", &["--detach", "--wait", ID]).expect(0);
    node.mcp("mcp-stop", &[ID]).expect(0);
    define(&node, &["sleep"], volume);
    let refused = node.mcp("mcp-record", &["--new", ID]).expect(100);
    assert!(
        refused.one_line().contains("data.raw: is a VM's disk, which a container can't use: go back"),
        "{refused:#?}"
    );
    let gone = node.mcp("mcp-rm", &["--volumes", ID]).expect(0);
    assert_eq!((gone.out.as_str(), gone.err.as_str()), ("shop/web removed\n", ""));
    node.mcp("mcp-record", &["--new", "--now", ID]).expect(0);
    node.mcp("mcp-run", &["--detach", ID]).expect(0);
}
