//! `mcp-boot --down`: the last stage first, inside a budget, and the wishes stay.

use super::{sequence, serves, uuid, vm};
use crate::harness::{Node, free_port, nanos};
use std::fs;
use std::time::Duration;

#[test]
fn boot_down_is_in_reverse_inside_its_budget_and_for_now() {
    let test = "boot_down_is_in_reverse";
    let (Some(image), Some(stubborn)) = (nanos(test, &[]), nanos(test, &["--ignore-term"])) else { return };
    let node = Node::new();
    let [a, b, o] = [free_port(), free_port(), free_port()];
    vm(&node, "a", &image, a, "");
    vm(&node, "b", &stubborn, b, "");
    vm(&node, "o", &image, o, "");
    sequence(&node, "", &[("base", &["a"], "60s"), ("apps", &["b"], "60s")]);
    node.mcp("mcp-boot", &[]).expect(0);
    node.mcp("mcp-run", &["--detach", "--wait", "o"]).expect(0);
    let before = ["a/vm", "b/vm"].map(|id| uuid(&node, id));
    // b alone would take its stop_timeout, 5 s.
    let answer = node.mcp("mcp-boot", &["--down", "--within", "3s"]).expect(0);
    let lines: Vec<&str> = answer.out.lines().collect();
    assert_eq!(lines.len(), 2, "{answer:#?}");
    let firmly = ["quit", "kill"].iter().any(|rung| lines[0].starts_with(&format!("apps b/vm: stopped: {rung} (")));
    assert!(firmly && lines[1].starts_with("base a/vm: stopped: powerdown ("), "{answer:#?}");
    assert!(answer.took < Duration::from_secs(4), "{answer:#?}");
    assert_eq!((node.qemu("a/vm"), node.qemu("b/vm")), (0, 0));
    assert!(serves(o), "what is in no stage was stopped");
    for id in ["a", "b"] {
        let record = fs::read_to_string(node.root.join(format!("lib/registry/{id}/vm.json"))).unwrap();
        assert!(record.contains("\"wish\": \"run\""), "{record}");
    }
    // Once more: there is nothing to do.
    let again = node.mcp("mcp-boot", &["--down"]).expect(0);
    assert_eq!((again.out.as_str(), again.err.as_str()), ("", ""), "{again:#?}");
    node.mcp("mcp-boot", &[]).expect(0);
    let after = ["a/vm", "b/vm"].map(|id| uuid(&node, id));
    assert!(serves(a) && serves(b) && before[0] != after[0] && before[1] != after[1]);
    let one = node.mcp("mcp-boot", &["--down", "--stage", "apps", "--within", "1s"]).expect(0);
    assert!(one.out.starts_with("apps b/vm: stopped: ") && serves(a), "{one:#?}");
    node.mcp("mcp-boot", &["--within", "1s"]).expect(2);
    node.mcp("mcp-boot", &["--down", "--strict"]).expect(2);
}
