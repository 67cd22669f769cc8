//! Bad input: the right code, and the reason in one line.

use super::*;
use crate::disk_trouble::may_mount;
use crate::harness::{finish, free_port, nanos};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn parameters() {
    let node = Node::new();
    let good = Resource::new(&node, ID);
    for target in ["", "/", "demo/", "/web", "demo/web/x", "Demo", "demo web", "../demo", "-demo", "demo\nweb"] {
        let bad = good.with("OCF_RESKEY_target", target);
        for action in ["start", "monitor", "reload-agent", "validate-all"] {
            assert!(reason(&bad.call(action).expect(NOT_CONFIGURED)).contains("parameter target"));
        }
        // Nothing of such a name was ever started; a stop that failed would cost the node.
        bad.call("stop").expect(SUCCESS);
    }
    let long = "x".repeat(33);
    good.with("OCF_RESKEY_target", &long).call("start").expect(NOT_CONFIGURED);
    for (name, value) in [("health", "perhaps"), ("health_timeout", "2"), ("health_timeout", "-1s"), ("root", "tmp")] {
        let bad = good.with(&format!("OCF_RESKEY_{name}"), value);
        for action in ["start", "monitor", "validate-all"] {
            let why = reason(&bad.call(action).expect(BAD_VALUE));
            assert!(why.contains(name) && why.contains(value), "{why}");
        }
    }
    good.with("OCF_RESKEY_health", "perhaps").call("stop").expect(SUCCESS);
    // A tool asks for no more than the parameters on a node that will never run it.
    good.with("OCF_CHECK_LEVEL", "0").call("validate-all").expect(SUCCESS);
    assert_eq!(fs::read_dir(&node.root).unwrap().count(), 1, "podman's config is all there is");
}

#[test]
fn what_is_not_installed() {
    let node = Node::new();
    let web = Resource::new(&node, ID);
    for action in ["start", "validate-all"] {
        let why = reason(&web.call(action).expect(NOT_INSTALLED));
        assert!(why.contains("demo"), "{why}");
    }
    assert!(reason(&web.probe().expect(NOT_INSTALLED)).contains("demo"));
    web.monitor().expect(NOT_RUNNING);
    web.call("stop").expect(SUCCESS);
    // Of a disk that is not there.
    node.define(
        "demo",
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"/no/such.img\"\n",
    );
    assert!(reason(&web.call("start").expect(NOT_INSTALLED)).contains("/no/such.img"));
    // It may be on storage that is mounted before a start.
    web.probe().expect(NOT_RUNNING);
    web.monitor().expect(NOT_RUNNING);
    web.call("stop").expect(SUCCESS);
    // Of one that shall run nowhere.
    if let Some(image) = nanos("ocf::what_is_not_installed", &[]) {
        define(&node, &image, free_port(), "");
        let path = node.root.join("etc/services/demo.toml");
        let text = fs::read_to_string(&path).unwrap().replace("[[components]]", "active = false\n[[components]]");
        fs::write(path, text).unwrap();
        for answer in [web.call("start"), web.probe()] {
            assert!(reason(&answer.expect(NOT_INSTALLED)).contains("active = false"));
        }
        web.monitor().expect(NOT_RUNNING);
    }
    // Without the programs.
    let bare = web.with("PATH", "/usr/bin:/bin");
    for action in ["start", "monitor", "validate-all"] {
        assert!(reason(&bare.call(action).expect(NOT_INSTALLED)).contains("mcp-status: not found"));
    }
    bare.call("stop").expect(SUCCESS);
    let meta = bare.with("OCF_RESKEY_target", "").call("meta-data").expect(SUCCESS);
    assert!(meta.out.starts_with("<?xml") && meta.err.is_empty(), "{meta:#?}");
}

#[test]
fn the_programs_are_those_of_its_own_prefix() {
    let node = Node::new();
    let web = Resource::new(&node, ID).with("PATH", "/usr/bin:/bin");
    let (prefix, elsewhere) = (node.root.join("prefix"), node.root.join("ocf"));
    let folder = prefix.join("lib/ocf/resource.d/mcp");
    fs::create_dir_all(&folder).unwrap();
    symlink(program("mcp-run").parent().unwrap(), prefix.join("bin")).unwrap();
    crate::harness::copy_to_run(script(), folder.join("component"));
    // A link to the folder, as an install below /usr/local wants it, and one to the file.
    symlink(&folder, &elsewhere).unwrap();
    symlink("ocf/component", node.root.join("agent")).unwrap();
    for path in [folder.join("component"), elsewhere.join("component"), node.root.join("agent")] {
        let like = web.command("validate-all");
        let mut command = Command::new(&path);
        command.arg("validate-all").env_clear().envs(like.get_envs().filter_map(|(n, v)| Some((n, v?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let why = reason(&finish(command, "validate-all").expect(NOT_INSTALLED));
        assert!(why.contains("no such service"), "{}: {why}", path.display());
    }
}

#[test]
fn a_definition_that_is_bad_now() {
    let Some(image) = nanos("ocf::a_definition_that_is_bad_now", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let web = Resource::new(&node, ID);
    web.call("start").expect(SUCCESS);
    node.define("demo", "name = \"demo\"\n[[components]]\nnope\n");
    // It runs on, and the cluster knows; it can be stopped, and not be started here.
    web.deep().expect(SUCCESS);
    web.probe().expect(SUCCESS);
    web.call("stop").expect(SUCCESS);
    assert_eq!(node.processes(), Vec::<String>::new());
    assert!(reason(&web.call("start").expect(NOT_INSTALLED)).contains("demo.toml:3"));
    web.probe().expect(NOT_INSTALLED);
    // With no programs any more, but a VM: nobody can say that it is stopped.
    define(&node, &image, free_port(), "");
    web.call("start").expect(SUCCESS);
    web.with("PATH", "/usr/bin:/bin").call("stop").expect(FAILED);
    web.with("PATH", "/usr/bin:/bin").monitor().expect(FAILED);
    fs::remove_file(node.root.join("etc/services/demo.toml")).unwrap();
    web.probe().expect(SUCCESS);
    web.call("stop").expect(SUCCESS);
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn definitions_that_cannot_be_read_tell_of_nothing() {
    let Some(image) = nanos("ocf::definitions_that_cannot_be_read_tell_of_nothing", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let web = Resource::new(&node, ID);
    let (folder, aside) = (node.root.join("etc/services"), node.root.join("etc/aside"));
    let hide = || {
        fs::rename(&folder, &aside).unwrap();
        fs::write(&folder, "").unwrap();
    };
    let show = || {
        fs::remove_file(&folder).unwrap();
        fs::rename(&aside, &folder).unwrap();
    };
    // What was never started here is not here.
    hide();
    web.probe().expect(NOT_INSTALLED);
    web.call("stop").expect(SUCCESS);
    show();
    // A "not running", or a stop that has succeeded, would have it started on another node as well. Its locks tell.
    web.call("start").expect(SUCCESS);
    hide();
    for answer in [web.deep(), web.monitor(), web.probe()] {
        answer.expect(SUCCESS);
    }
    assert_eq!(qemus(&node), 1);
    // It is stopped by its locks and its runtime state, also where what was recorded of it is gone as well.
    let records = node.root.join("lib");
    fs::rename(&records, node.root.join("lib-aside")).unwrap();
    fs::write(node.root.join("etc/mcp.toml"), "nope").unwrap();
    web.call("stop").expect(SUCCESS);
    assert_eq!(node.processes(), Vec::<String>::new());
    web.call("stop").expect(SUCCESS);
    fs::remove_file(node.root.join("etc/mcp.toml")).unwrap();
    let _ = fs::remove_dir_all(&records);
    fs::rename(node.root.join("lib-aside"), &records).unwrap();
    show();
    web.monitor().expect(NOT_RUNNING);
}

/// Runs lines of shell in a mount namespace of its own: $R is the node's folder, $A the agent.
fn mounted(resource: &Resource<'_>, lines: &str) -> crate::harness::Answer {
    let agent = resource.command("x");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", lines]).env_clear();
    command.envs(agent.get_envs().filter_map(|(n, v)| Some((n, v?))));
    command.env("R", &resource.node.root).env("A", script());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, lines)
}

#[test]
fn a_state_directory_that_is_read_only() {
    let test = "ocf::a_state_directory_that_is_read_only";
    let Some(image) = nanos(test, &[]) else { return };
    if !may_mount(test) {
        return;
    }
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let web = Resource::new(&node, ID);
    let read_only = "mount --bind $R $R && mount -o remount,bind,ro $R";
    let why = reason(&mounted(&web, &format!("{read_only} && exec $A start")).expect(NOT_PERMITTED));
    assert!(why.contains("ead-only file system"), "{why}");
    mounted(&web, &format!("{read_only} && exec $A stop")).expect(SUCCESS);
    web.call("start").expect(SUCCESS);
    mounted(&web, &format!("{read_only} && OCF_RESKEY_CRM_meta_interval=10000 exec $A monitor")).expect(SUCCESS);
    let stop = mounted(&web, &format!("{read_only} && OCF_RESKEY_CRM_meta_timeout=10000 exec $A stop"));
    assert!(stop.code != Some(SUCCESS) || qemus(&node) == 0, "{stop:#?}");
    web.call("stop").expect(SUCCESS);
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn a_full_disk() {
    let test = "ocf::a_full_disk";
    let Some(image) = nanos(test, &[]) else { return };
    if !may_mount(test) {
        return;
    }
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let web = Resource::new(&node, ID);
    for dir in ["run", "lib", "log"] {
        let full = format!(
            "mkdir -p $R/{dir} && mount -t tmpfs -o size=64k,mode=700 none $R/{dir} && \
             {{ cat /dev/zero >$R/{dir}/filler; }} 2>/dev/null; "
        );
        let why = reason(&mounted(&web, &format!("{full} exec $A start")).expect(FAILED));
        assert!(why.contains("o space left") || why.contains("make room"), "{why}");
        mounted(&web, &format!("{full} $A start; $A stop")).expect(SUCCESS);
        assert_eq!(node.processes(), Vec::<String>::new());
    }
}
