//! Starting, ending and stopping containers through the programs.

use super::{deploy, node, service};
use crate::harness::{Node, free_port, get, until};

#[test]
fn in_the_foreground_with_the_programs_own_exit_code() {
    let Some((node, podman)) = node("in_the_foreground_with_the_programs_own_exit_code") else { return };
    node.define("job", &service("job", "args = [\"exit\", \"7\"]\n"));
    deploy(&node, "job");
    let ran = node.mcp("mcp-run", &["job"]).expect(7);
    assert_eq!(ran.out, "", "{ran:#?}");
    assert_eq!(node.console("job/job"), "act: exit\n");
    let end = &node.state("job/job")["end"];
    assert_eq!((end["by"].as_str(), end["code"].as_i64()), (Some("guest"), Some(7)), "{end:#}");
    assert_eq!(podman.names(), Vec::<String>::new());
}
