//! What a start gives away and what it doesn't, and several at once.

use super::services::{deploy, node, service};
use crate::harness::wait;
use std::fs;
use std::time::Instant;

#[test]
fn two_starts_at_once_make_one_container() {
    let Some((node, podman)) = node("two_starts_at_once_make_one_container") else { return };
    node.define("one", &service("one", "stop_timeout = \"5s\"\n"));
    deploy(&node, "one");
    let start = || (Instant::now(), node.command("mcp-run", &["--detach", "--wait", "one"]).spawn().unwrap());
    let both = [start(), start(), start()];
    let mut codes: Vec<i32> =
        both.into_iter().map(|(began, child)| wait(child, "mcp-run one", began).code.unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 100, 100]);
    assert_eq!(podman.names().len(), 1);
    node.mcp("mcp-stop", &["one"]).expect(0);
}

#[test]
fn secrets_reach_the_program_and_nothing_else() {
    let test = "secrets_reach_the_program_and_nothing_else";
    let Some((node, podman)) = node(test) else { return };
    let fake = crate::harness::FakePodman::new(&node);
    node.configure(&fake.config());
    let file = node.root.join("api.env");
    fs::write(&file, "TOKEN=zvxq hello=1\n").unwrap();
    let lines = format!("env_file = \"{}\"\nenv = {{ TOKEN = \"shown\", OTHER = \"plain\" }}\n", file.display());
    node.define("api", &service("api", &lines));
    deploy(&node, "api");
    let mut command = node.command("mcp-run", &["--detach", "--wait", "api"]);
    command.env("MCP_LOG", "trace");
    let ran = crate::harness::finish(command, "mcp-run").expect(0);
    let [name] = &podman.names()[..] else { panic!("{:?}", podman.names()) };
    let told = podman.ask(&["exec", name, "sh", "-c", "echo $TOKEN; echo $OTHER"]);
    assert_eq!(told, "zvxq hello=1\nplain");
    assert!(!ran.err.contains("zvxq") && !fake.calls().iter().any(|call| call.contains("zvxq")), "{ran:#?}");
    node.mcp("mcp-status", &["-v", "api"]).out.contains("zvxq").then(|| panic!("shown by mcp-status"));
    for dir in ["run", "log", "lib"] {
        for path in crate::harness::find(&node.root.join(dir), &|_| true) {
            let bytes = fs::read(&path).unwrap_or_default();
            assert!(!bytes.windows(4).any(|w| w == b"zvxq"), "the secret is in {}", path.display());
        }
    }
    node.mcp("mcp-stop", &["api"]).expect(0);
}
