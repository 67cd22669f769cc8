//! mcp-rm on nodes made of files.

use crate::tree::Tree;
use mcp::model::Wish;
use mcp::sys::paths::Slot;

const RM: &str = env!("CARGO_BIN_EXE_mcp-rm");

/// A component that ran once and left everything that can be left.
fn left(tree: &Tree, id: &str) {
    let files = tree.files(id);
    tree.record(id, Wish::Stop, true);
    tree.state(id, Slot::A, |_| {});
    drop((tree.supervise(id), tree.live(id, Slot::A)));
    tree.put(&files.log.join("a/console.log"), "hello\n");
    std::os::unix::fs::symlink("a/console.log", files.log.join("console.log")).unwrap();
    std::os::unix::fs::symlink("current/state.json", files.run.join("state.json")).unwrap();
    tree.put(&files.disks.join("root.raw"), "root");
    tree.put(&files.roots.join("root-1.sqfs"), "packed");
    tree.put(&files.volumes.join("data.raw"), "data");
}

/// Every file and folder below the root, but the root's own.
fn all(tree: &Tree) -> Vec<String> {
    fn walk(dir: &std::path::Path, out: &mut Vec<String>) {
        for e in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
            out.push(e.path().display().to_string());
            if e.file_type().unwrap().is_dir() {
                walk(&e.path(), out);
            }
        }
    }
    let mut out = Vec::new();
    walk(&tree.root, &mut out);
    let root = tree.root.display().to_string();
    // What the harness lays down for podman is none of ours.
    let ours = out.into_iter().map(|p| p.replacen(&root, "", 1)).filter(|p| !p.starts_with("/podman"));
    let mut out: Vec<_> = ours.collect();
    out.sort();
    out
}

#[test]
fn rm_leaves_nothing_but_volumes() {
    let tree = Tree::new();
    left(&tree, "demo/web");
    let a = tree.run(RM, &["demo"]);
    assert_eq!((a.code, a.out.as_str()), (Some(0), "demo/web removed\n"));
    let dir = tree.files("demo/web").volumes;
    assert_eq!(
        a.err,
        format!(
            "mcp-rm: demo/web: kept its volumes in {}: data.raw; mcp-rm --volumes demo/web removes them\n",
            dir.display()
        )
    );
    assert_eq!(
        all(&tree),
        [
            "/lib",
            "/lib/disks",
            "/lib/microvm",
            "/lib/registry",
            "/lib/volumes",
            "/lib/volumes/demo",
            "/lib/volumes/demo/web",
            "/lib/volumes/demo/web/data.raw",
            "/log",
            "/run"
        ]
    );
    let again = tree.run(RM, &["demo/web"]);
    assert_eq!((again.code, again.out.as_str()), (Some(0), "demo/web nothing\n"));
    let volumes = tree.run(RM, &["--volumes", "demo/web"]);
    assert_eq!((volumes.code, volumes.out.as_str(), volumes.err.as_str()), (Some(0), "demo/web removed\n", ""));
    assert_eq!(all(&tree), ["/lib", "/lib/disks", "/lib/microvm", "/lib/registry", "/lib/volumes", "/log", "/run"]);
    let none = tree.run(RM, &["demo/web"]);
    assert_eq!(
        (none.code, none.err.as_str()),
        (Some(1), "mcp-rm: demo/web: no such component: neither declared nor anything left of it\n")
    );
}

#[test]
fn rm_refuses_what_runs() {
    let tree = Tree::new();
    left(&tree, "a/supervised");
    left(&tree, "a/alone");
    left(&tree, "a/stopped");
    let before: Vec<_> = all(&tree).into_iter().filter(|p| !p.contains("stopped")).collect();
    let _s = tree.supervise("a/supervised");
    let _vm = tree.live("a/alone", Slot::B);
    let a = tree.run(RM, &["--all", "--volumes"]);
    assert_eq!(a.code, Some(100), "{a:?}");
    assert_eq!(a.out, "a/stopped removed\n");
    let pid = std::process::id();
    assert_eq!(
        a.err,
        format!(
            "mcp-rm: a/alone: its VM runs, without a supervisor; mcp-stop a/alone first\n\
             mcp-rm: a/supervised: it runs (mcp-run-vm, process {pid}, has its lock); mcp-stop a/supervised first\n"
        )
    );
    let after: Vec<_> =
        all(&tree).into_iter().filter(|p| !p.ends_with("/alone/b") && !p.contains("/alone/b/")).collect();
    assert_eq!(after, before);
}

#[test]
fn rm_takes_several_and_tells_the_worst() {
    let tree = Tree::new();
    left(&tree, "one/web");
    left(&tree, "two/web");
    let a = tree.run(RM, &["one", "nope", "two", "--volumes"]);
    assert_eq!((a.code, a.out.as_str()), (Some(1), "one/web removed\ntwo/web removed\n"));
    assert_eq!(tree.run(RM, &[]).code, Some(2));
    assert_eq!(tree.run(RM, &["--all", "x"]).code, Some(2));
    assert_eq!(tree.run(RM, &["../x"]).code, Some(2));
    assert_eq!(tree.run(RM, &["--all"]).code, Some(0));
}

#[test]
fn rm_ends_what_a_killed_one_began() {
    let tree = Tree::new();
    left(&tree, "demo/web");
    let files = tree.files("demo/web");
    // Logs and disks are gone, one slot half so.
    std::fs::remove_dir_all(&files.log).unwrap();
    std::fs::remove_dir_all(&files.disks).unwrap();
    std::fs::remove_file(files.instance(Slot::A).state()).unwrap();
    assert_eq!(tree.run(RM, &["--volumes", "demo"]).code, Some(0));
    assert!(!files.run.exists() && !files.record.exists());
    // Only the lock was left.
    drop(tree.supervise("demo/web"));
    let a = tree.run(RM, &["demo"]);
    assert_eq!((a.code, a.out.as_str()), (Some(0), "demo/web removed\n"));
    assert!(!files.run.exists());
}

#[test]
fn rm_follows_no_link() {
    let tree = Tree::new();
    left(&tree, "demo/web");
    let outside = tree.root.join("outside");
    tree.put(&outside.join("file"), "keep");
    let files = tree.files("demo/web");
    std::os::unix::fs::symlink(&outside, files.run.join("away")).unwrap();
    std::os::unix::fs::symlink(&outside, files.log.join("away")).unwrap();
    assert_eq!(tree.run(RM, &["demo"]).code, Some(0));
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "keep");
}

#[test]
fn rm_of_what_is_declared_and_left_nothing() {
    let tree = Tree::new();
    let text = "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"/images/app.img\"\n";
    tree.put(&tree.paths.services.join("demo.toml"), text);
    let a = tree.run(RM, &["demo"]);
    assert_eq!((a.code, a.out.as_str(), a.err.as_str()), (Some(0), "demo/web nothing\n", ""));
    assert_eq!(tree.run(RM, &["demo/other"]).code, Some(1));
}
