//! `kind = "grpc"` in definitions.

use crate::tree::Tree;

#[test]
fn grpc_without_a_port_is_a_problem_of_the_definition() {
    let tree = Tree::new();
    let file = tree.root.join("etc/services/demo.toml");
    tree.put(
        &file,
        "name = \"demo\"\n\n[[components]]\nname = \"api\"\nruntime = \"unikernel\"\ndisk = \"/images/app.img\"\n\
         ports = [\"5353:53/udp\"]\n\n  [components.health]\n  kind = \"grpc\"\n  service = \"a.B\"\n",
    );
    let answer = tree.run(env!("CARGO_BIN_EXE_mcp-health"), &["demo"]);
    let words = "there is no tcp port to ask: add one to ports, or set kind = \"none\"";
    let line = format!("mcp-health: {}:9: components.api.health: {words}\n", file.display());
    assert_eq!((answer.code, answer.out.as_str(), answer.err), (Some(100), "", line));
}
