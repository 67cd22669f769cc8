//! Podman's named volumes: whose they are, and what becomes of them.

use super::services::service;
use super::{ID, node};
use crate::harness::{ACT, Podman, until};

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
