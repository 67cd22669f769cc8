//! A container in a stage, beside a VM: started, left alone, adopted, started again and stopped as that is.

use super::{send, sequence, serves, uuid, vm};
use crate::campaign::alive;
use crate::harness::{ACT, Node, Podman, free_port, get, nanos, until};

#[test]
fn boot_brings_containers_up_beside_vms() {
    let test = "boot_brings_containers_up";
    let Some(image) = nanos(test, &[]) else { return };
    let node = Node::new();
    let Some(podman) = Podman::new(test, &node) else { return };
    let [a, b] = [free_port(), free_port()];
    vm(&node, "a", &image, a, "");
    let web = format!(
        "name = \"web\"\n[[components]]\nname = \"c\"\nimage = \"{ACT}\"\nargs = [\"serve\", \"{b}\", \"1\"]\n\
         network = \"host\"\n[components.health]\nkind = \"http\"\npath = \"/\"\nport = {b}\n"
    );
    node.define("web", &web);
    sequence(&node, "", &[("base", &["web"], "60s"), ("apps", &["a"], "60s")]);
    // Nothing is known of its image: the foundation would wait for it, and says what for.
    let dry = node.mcp("mcp-boot", &["--dry-run"]).expect(0);
    assert!(dry.out.contains("can't be started: web/c: never deployed: mcp deploy web/c\n"), "{dry:#?}");
    node.mcp("mcp-record", &["--new", "--now", "web/c"]).expect(0);
    let boot = node.mcp("mcp-boot", &["--strict"]).expect(0);
    let healthy = format!("  web/c: healthy: http 127.0.0.1:{b}/ 200\n");
    assert!(boot.out.contains(&healthy) && serves(a), "{boot:#?}");
    assert_eq!(get(b, "/").as_deref(), Some("localhost/act:1\n"));
    let at = |id: &str, key: &str| node.state(id)[key].as_str().unwrap().to_string();
    assert!(at("web/c", "ready_at") <= at("a/vm", "started_at"));
    let before = ["web/c", "a/vm"].map(|id| uuid(&node, id));
    // Without its supervisor it is adopted.
    let supervisor = node.supervisor("web/c");
    send(supervisor, libc::SIGKILL);
    until("the supervisor is dead", || !alive(supervisor));
    let again = node.mcp("mcp-boot", &["--strict"]).expect(0);
    let words = ["  web/c: runs unsupervised, adopted\n", "  a/vm: runs already\n"];
    assert!(words.iter().all(|w| again.out.contains(w)), "{again:#?}");
    assert_eq!(before, ["web/c", "a/vm"].map(|id| uuid(&node, id)));
    // Gone, it is started again.
    let name = podman.names().pop().unwrap();
    podman.run(&["kill", &name]).expect(0);
    until("it has ended", || node.supervisor("web/c") == 0);
    let again = node.mcp("mcp-boot", &["--strict"]).expect(0);
    assert!(again.out.contains("  web/c: started\n") && again.out.contains(&healthy), "{again:#?}");
    assert_ne!(before[0], uuid(&node, "web/c"));
    let down = node.mcp("mcp-boot", &["--down"]).expect(0);
    let lines: Vec<&str> = down.out.lines().collect();
    assert!(lines[0].starts_with("apps a/vm: stopped: powerdown ("), "{down:#?}");
    assert!(lines[1].starts_with("base web/c: stopped: term ("), "{down:#?}");
    assert!(get(b, "/").is_none());
}
