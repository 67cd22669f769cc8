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

#[test]
fn grpc_with_a_client_certificate_that_is_not_there() {
    let tree = Tree::new();
    tree.put(
        &tree.root.join("etc/services/demo.toml"),
        "name = \"demo\"\n\n[[components]]\nname = \"api\"\nruntime = \"unikernel\"\ndisk = \"/images/app.img\"\n\
         ports = [\"50051:50051\"]\n\n  [components.health]\n  kind = \"grpc\"\n  tls = true\n  cert = \"me.pem\"\n  key = \"me.key\"\n",
    );
    let answer = tree.run(env!("CARGO_BIN_EXE_mcp-health"), &["demo"]);
    let file = tree.root.join("etc/services/me.pem");
    let line = format!("mcp-health: demo/api: {}: no such file of a certificate\n", file.display());
    assert_eq!((answer.code, answer.out.as_str(), answer.err), (Some(100), "", line));
    // The command line goes before.
    let answer = tree.run(env!("CARGO_BIN_EXE_mcp-health"), &["--cert", "/x.pem", "--key", "/x.key", "demo"]);
    assert_eq!(answer.err, "mcp-health: demo/api: /x.pem: no such file of a certificate\n");
}
