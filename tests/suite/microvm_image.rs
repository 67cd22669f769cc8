//! What an image and a definition say, as the program in a microVM finds it.

use crate::harness::{Node, OciImage, free_port, get_within, hello, microvm, oci_image, test_parts, until};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Says what it finds, and which signal ends it.
const PROBE: &str = r#"#!/bin/sh
trap 'echo got QUIT; exit 0' QUIT
trap 'echo got TERM; exit 0' TERM
[ -t 1 ] && echo "output is a terminal" || echo "output is a pipe"
echo "user $(id -u) in $(pwd) with $TWICE: $*"
echo "through /dev/stdout" >/dev/stdout
echo "name servers: $(cat /etc/resolv.conf)"
if [ "$1" = fill ]; then
    (cd /srv/data && stat -c 'found %n %u:%g %a %F' . file sub sub/tool link && cat file && rm file && echo new >own)
else
    echo "later: $(ls /srv/data | tr '\n' ' ')"
fi
echo ready
while :; do sleep 1 & wait $!; done
"#;

/// An image of [`PROBE`] with files at /srv/data, which belong to user 1000.
fn probe_image(test: &str, node: &Node) -> Option<OciImage> {
    let parts = test_parts(test)?;
    let top = node.root.join("top");
    fs::create_dir_all(top.join("srv/data/sub")).unwrap();
    fs::write(top.join("probe"), PROBE).unwrap();
    fs::write(top.join("srv/data/file"), "of the image\n").unwrap();
    fs::write(top.join("srv/data/sub/tool"), "").unwrap();
    std::os::unix::fs::symlink("file", top.join("srv/data/link")).unwrap();
    for (path, mode) in [("srv/data", 0o750), ("srv/data/file", 0o640), ("srv/data/sub/tool", 0o4755)] {
        fs::set_permissions(top.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let tar = node.root.join("top.tar");
    let mut command = Command::new("tar");
    command.args(["--owner=:1000", "--group=:1001", "-cf"]).arg(&tar).arg("-C").arg(&top).args(["probe", "srv"]);
    assert!(command.status().unwrap().success());
    let config = json!({ "Entrypoint": ["/bin/sh", "/probe"], "Cmd": ["fill"], "User": "1000", "StopSignal": "SIGQUIT",
        "Env": ["PATH=/usr/bin:/bin", "TWICE=first", "TWICE=second"] });
    Some(oci_image(&node.root.join("oci-probe"), "latest", &config, &[parts.join("base.tar"), tar]))
}

/// Deploys `demo` with these lines and starts it.
fn start(node: &Node, image: &OciImage, lines: &str) {
    let reference = image.reference();
    let head = "name = \"demo\"\n[[components]]\nname = \"demo\"\nruntime = \"microvm\"\nmemory_mb = 128";
    node.define("demo", &format!("{head}\nimage = {reference:?}\n{lines}\n"));
    for (program, args) in
        [("mcp-pull", &["demo"][..]), ("mcp-build", &["demo"]), ("mcp-record", &["--new", "--now", "demo"])]
    {
        node.mcp(program, args).expect(0);
    }
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
}

#[track_caller]
fn says(console: &str, lines: &[&str]) {
    for line in lines {
        assert!(console.lines().any(|l| l == *line), "{line:?} is not in {console}");
    }
}

#[test]
fn a_guest_runs_as_its_image_says_and_as_the_definition_says_instead() {
    let test = "a_guest_runs_as_its_image_says";
    let node = Node::new();
    if !microvm(test, &node) {
        return;
    }
    let Some(image) = probe_image(test, &node) else { return };
    let volume = "volumes = [\"data:/srv/data:32M\"]";
    start(&node, &image, volume);
    until("it is ready", || node.console("demo").lines().any(|l| l == "ready"));
    let stopped = node.mcp("mcp-stop", &["demo"]).expect(0);
    assert!(stopped.out.contains("stopped: powerdown"), "{stopped:#?}");
    let first = node.console("demo");
    says(&first, &["output is a pipe", "user 1000 in / with second: fill", "through /dev/stdout", "got QUIT"]);
    says(&first, &["found . 1000:1001 750 directory", "found file 1000:1001 640 regular file", "of the image"]);
    says(&first, &["found sub/tool 1000:1001 4755 regular empty file", "found link 1000:1001 777 symbolic link"]);
    let search = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if let Some(line) = search.lines().rfind(|line| line.starts_with("search ")) {
        says(&first, &[line.trim_end()]);
    }
    let own =
        "entrypoint = [\"/bin/sh\", \"/probe\", \"other\"]\nargs = [\"words\"]\nworkdir = \"/srv\"\nuser = \"0:0\"";
    start(&node, &image, &format!("{volume}\n{own}\nstop_signal = \"term\"\ntty = true"));
    until("it is ready again", || node.console("demo").lines().filter(|l| *l == "ready").count() == 2);
    node.mcp("mcp-stop", &["demo"]).expect(0);
    let second = node.console("demo").split_off(first.len());
    says(&second, &["output is a terminal", "user 0 in /srv with second: other words", "got TERM"]);
    // Not filled again, with a file gone and another one there.
    says(&second, &["later: link own sub "]);
}

#[test]
fn an_ordinary_user_listens_on_port_80() {
    let test = "an_ordinary_user_listens_on_port_80";
    let node = Node::new();
    if !microvm(test, &node) {
        return;
    }
    let config = json!({ "Entrypoint": ["/hello", "--port", "80"], "User": "1000" });
    let image = oci_image(&node.root.join("oci"), "latest", &config, &[format!("{}=/hello", hello().display())]);
    let port = free_port();
    start(&node, &image, &format!("ports = [\"{port}:80\"]"));
    assert!(get_within(port, "/", Duration::from_secs(20)).unwrap().contains("hello"));
    node.mcp("mcp-stop", &["demo"]).expect(0);
}

#[test]
fn a_volume_whose_filling_was_cut_off_is_filled_again() {
    let test = "a_volume_whose_filling_was_cut_off";
    let node = Node::new();
    if !microvm(test, &node) {
        return;
    }
    let script = "cd /usr/share/filler && find . -type f | sort | xargs cat | sha256sum; find . | wc -l; ls -d lost+found; exit 0";
    let config = json!({ "Entrypoint": ["/bin/sh", "-c", script], "Env": ["PATH=/usr/bin:/bin"] });
    let Some(base) = test_parts(test).map(|parts| parts.join("base.tar").display().to_string()) else { return };
    let image = oci_image(&node.root.join("oci"), "latest", &config, &[base, "filler:64".to_string()]);
    // Without a volume: what it should be.
    start(&node, &image, "");
    until("the first run has ended", || node.qemu("demo/demo") == 0);
    let wanted = node.console("demo");
    assert!(wanted.lines().count() >= 2, "{wanted}");
    let disk = node.root.join("lib/volumes/demo/demo/data.raw");
    let written = |disk: &Path| fs::metadata(disk).map_or(0, |about| about.blocks() * 512);
    start(&node, &image, "volumes = [\"data:/usr/share/filler:256M\"]");
    until("it is being filled", || written(&disk) > 16 << 20);
    let qemu = node.qemu("demo/demo");
    // SAFETY: a plain system call.
    unsafe { libc::kill(qemu, libc::SIGKILL) };
    until("it is gone", || node.qemu("demo/demo") == 0);
    assert_eq!(node.console("demo"), wanted, "the program ran before its volume was filled");
    node.mcp("mcp-run", &["--detach", "--wait", "demo"]).expect(0);
    until("it is filled", || node.console("demo").len() >= 2 * wanted.len());
    assert_eq!(node.console("demo"), format!("{wanted}{wanted}"));
}
