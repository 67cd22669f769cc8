//! mcp-units: what it writes, what it leaves alone, and what becomes of it when it is killed.

use crate::disk_trouble::may_mount;
use crate::harness::{Answer, Node, find, finish, program, wait};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const INITS: [&str; 6] = ["systemd", "s6", "s6-rc", "runit", "openrc", "dinit"];

/// A node of two stages and a service in none, each of one component.
fn node() -> Node {
    let node = Node::new();
    node.configure(
        "[boot]\ninit = \"openrc\"\n[[boot.sequence]]\nname = \"base\"\nservices = [\"auth\"]\ntimeout = \"30s\"\n\
         [[boot.sequence]]\nname = \"core\"\nservices = [\"a-b\"]\n",
    );
    for name in ["auth", "a-b", "extra"] {
        define(&node, name, "", "");
    }
    node
}

/// Writes a definition; `service` and `component` are further keys of the two.
fn define(node: &Node, name: &str, service: &str, component: &str) {
    let port = 8000 + name.bytes().map(u16::from).sum::<u16>();
    node.define(
        name,
        &format!(
            "name = \"{name}\"\n{service}\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\n\
             disk = \"/srv/x.img\"\nports = [\"{port}:80\"]\n{component}\n"
        ),
    );
}

fn dest(node: &Node) -> PathBuf {
    node.root.join("out")
}

/// mcp-units with the files in a folder of the node's.
fn units(node: &Node, args: &[&str]) -> Answer {
    let dest = dest(node);
    node.mcp("mcp-units", &[&["--dest", dest.to_str().unwrap()], args].concat())
}

/// What is below `dir`: each file's text, with an `x` before it if it is executable, or where a link leads.
fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    let of = |path: PathBuf| {
        let there = fs::symlink_metadata(&path).unwrap();
        let what = match there.file_type().is_symlink() {
            true => format!("-> {}", fs::read_link(&path).unwrap().display()),
            false => {
                let mark = if there.permissions().mode() & 0o111 == 0 { "-" } else { "x" };
                format!("{mark}{}", fs::read_to_string(&path).unwrap())
            }
        };
        (path, what)
    };
    find(dir, &|_| true).into_iter().map(of).collect()
}

#[test]
fn what_dry_run_shows_is_written_and_the_second_time_there_is_nothing_to_do() {
    let node = node();
    for init in INITS {
        let out = node.root.join(init);
        let run =
            |more: &[&str]| node.mcp("mcp-units", &[&[init, "--dest", out.to_str().unwrap()], more].concat()).expect(0);
        let shown = run(&["--dry-run"]).out;
        assert!(!out.exists() && !node.root.join("lib/units").join(format!("{init}.json")).exists(), "{init}: written");
        let written = run(&[]).out;
        let mut expected = String::new();
        for (path, what) in tree(&out) {
            expected += &format!("new      {}\n", path.display());
            match what.strip_prefix("-> ") {
                Some(to) => expected += &format!("    -> {to}\n"),
                None => {
                    for line in what[1..].lines() {
                        expected += &if line.is_empty() { "\n".into() } else { format!("    {line}\n") };
                    }
                }
            }
        }
        let names: String = shown.lines().filter(|l| l.starts_with("new ")).map(|l| format!("{l}\n")).collect();
        assert_eq!(written, names, "{init}");
        // The order of a walk through folders is not that of whole paths.
        let blocks = |text: &str| {
            let mut blocks: Vec<String> = text.split("new      ").map(str::to_string).collect();
            blocks.sort();
            blocks
        };
        assert_eq!(blocks(&shown), blocks(&expected), "{init}");
        let before = tree(&out);
        assert_eq!(run(&[]).out, "", "{init}: something to do the second time");
        assert_eq!(tree(&out), before);
        assert!(run(&["--dry-run"]).out.lines().all(|l| !l.starts_with("new ") && !l.starts_with("changed ")));
        assert!(run(&["--remove"]).out.lines().all(|l| l.starts_with("removed ")));
        assert_eq!(tree(&out), BTreeMap::new());
    }
    assert_eq!(find(&node.root.join("lib/units"), &|_| true), Vec::<PathBuf>::new());
}

#[test]
fn what_a_person_changed_is_kept_and_said() {
    let node = node();
    units(&node, &[]).expect(0);
    let (theirs, other) = (dest(&node).join("mcp-auth_vm"), dest(&node).join("mcp-a-b_vm"));
    let ours = fs::read_to_string(&theirs).unwrap();
    fs::write(&theirs, "#!/sbin/openrc-run\n# mine\n").unwrap();
    // Ours changes meanwhile; what nobody touched follows.
    node.configure(&fs::read_to_string(node.root.join("etc/mcp.toml")).unwrap().replace("\"core\"", "\"heart\""));
    define(&node, "auth", "", "stop_timeout = \"7s\"");
    let kept = units(&node, &[]).expect(1);
    assert!(kept.out.contains("kept     ") && kept.out.contains("mcp-stage-heart"), "{kept:#?}");
    let line = format!("mcp-units: {}: changed by hand, so it is left alone; --force overwrites it", theirs.display());
    assert!(kept.err.lines().any(|l| l == line), "{kept:#?}");
    assert!(fs::read_to_string(&theirs).unwrap().ends_with("# mine\n"));
    assert!(!dest(&node).join("mcp-stage-core").exists());
    // It stays theirs when all else goes, too.
    let removed = units(&node, &["--remove"]).expect(1);
    assert!(removed.err.contains("--force removes it") && theirs.exists() && !other.exists(), "{removed:#?}");
    units(&node, &["--force"]).expect(0);
    // With the new timeout in it: 7 s, and what the ladder may take beyond.
    assert_eq!(fs::read_to_string(&theirs).unwrap(), ours.replace("TERM/46/", "TERM/18/"));
    // A file that we never wrote is no less theirs.
    units(&node, &["--remove"]).expect(0);
    fs::write(&other, "theirs").unwrap();
    units(&node, &[]).expect(1);
    assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
    // A link is not written through.
    let secret = node.root.join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::remove_file(&other).unwrap();
    symlink(&secret, &other).unwrap();
    units(&node, &[]).expect(1);
    units(&node, &["--force"]).expect(0);
    assert!(!fs::symlink_metadata(&other).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
}

#[test]
fn what_is_not_in_the_definitions_any_more_goes() {
    let node = node();
    units(&node, &[]).expect(0);
    assert!(dest(&node).join("mcp-extra_vm").exists());
    fs::remove_file(node.root.join("etc/services/extra.toml")).unwrap();
    let one = units(&node, &[]).expect(0);
    assert!(one.out.contains(&format!("removed  {}", dest(&node).join("mcp-extra_vm").display())), "{one:#?}");
    assert!(!dest(&node).join("mcp-extra_vm").exists());
    // Not active: no service of it.
    define(&node, "a-b", "active = false", "");
    units(&node, &[]).expect(0);
    assert!(!dest(&node).join("mcp-a-b_vm").exists() && dest(&node).join("mcp-stage-core").exists());
    // Another folder is another set: a look at it elsewhere takes nothing away.
    let elsewhere = node.root.join("elsewhere");
    node.mcp("mcp-units", &["--dest", elsewhere.to_str().unwrap()]).expect(0);
    assert!(dest(&node).join("mcp-auth_vm").exists());
    units(&node, &["--remove"]).expect(0);
    assert!(!dest(&node).join("mcp-auth_vm").exists() && elsewhere.join("mcp-auth_vm").exists());
}

#[test]
fn killed_at_any_moment_it_is_made_whole_by_the_next() {
    let node = node();
    let mut seed = 42u64;
    let mut whole = Duration::from_millis(20);
    let mut cut_short = 0;
    // On a busy machine many come to their end before the kill.
    for round in 0..400 {
        if round >= 40 && cut_short > 10 {
            break;
        }
        // All files differ from round to round, and one comes and goes.
        let timeout = format!("stop_timeout = \"{}s\"", 5 + round);
        for name in ["auth", "a-b", "extra"] {
            define(&node, name, "", &timeout);
        }
        if round % 2 == 0 {
            fs::remove_file(node.root.join("etc/services/extra.toml")).unwrap();
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let moment = whole.mul_f64((seed >> 33) as f64 / f64::from(u32::MAX >> 1) * 1.2);
        let out = dest(&node);
        let mut child = node.command("mcp-units", &["--dest", out.to_str().unwrap()]).spawn().unwrap();
        let began = Instant::now();
        while began.elapsed() < moment {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        let killed = wait(child, "mcp-units", began).code.is_none_or(|code| code >= 128);
        cut_short += usize::from(killed);
        // So that about every other one is killed in time, however fast the machine is at the moment.
        whole = whole.mul_f64(if killed { 1.25 } else { 0.8 });
        // What a person did not change is never taken for theirs, though other definitions stand by now.
        define(&node, "auth", "", "");
        units(&node, &[]).expect(0);
        let shown = units(&node, &["--dry-run"]).expect(0).out;
        assert!(shown.lines().all(|l| l.starts_with("same ") || l.starts_with("    ") || l.is_empty()), "{shown}");
        let names: Vec<_> = find(&dest(&node), &|n| n.starts_with('.'));
        assert_eq!(names, Vec::<PathBuf>::new());
        assert_eq!(dest(&node).join("mcp-extra_vm").exists(), round % 2 == 1);
    }
    assert!(cut_short > 10, "only {cut_short} were killed in time");
}

#[test]
fn two_at_once_do_not_meet() {
    let node = node();
    let out = dest(&node);
    for _ in 0..5 {
        let began = Instant::now();
        let start = |_| node.command("mcp-units", &["--dest", out.to_str().unwrap()]).spawn().unwrap();
        let children: Vec<_> = (0..4).map(start).collect();
        let answers: Vec<Answer> = children.into_iter().map(|c| wait(c, "mcp-units", began).expect(0)).collect();
        let writers = answers.iter().filter(|a| !a.out.is_empty()).count();
        assert_eq!(writers, 1, "{answers:#?}");
        units(&node, &["--remove"]).expect(0);
    }
}

/// Runs `script` with the node's root as $R and our programs in $B, in a mount namespace of its own.
fn mounted(node: &Node, script: &str) -> Answer {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).env("MCP_ROOT", &node.root).env("R", &node.root);
    command.env("B", program("mcp-units").parent().unwrap()).env_remove("MCP_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, script)
}

#[test]
fn a_folder_that_cannot_be_written_is_one_line() {
    let test = "units::a_folder_that_cannot_be_written_is_one_line";
    if !may_mount(test) {
        return;
    }
    let node = node();
    let script = "mkdir -p $R/out && mount -t tmpfs -o ro none $R/out && $B/mcp-units --dest $R/out";
    let answer = mounted(&node, script).expect(100);
    assert!(answer.one_line().contains("out/mcp: Read-only file system"), "{answer:#?}");
    assert_eq!(answer.out, "", "said to be written");
    let full = "mkdir -p $R/out && mount -t tmpfs -o size=8k none $R/out && $B/mcp-units --dest $R/out; code=$?; \
                find $R/out -name '.*.mcp-units' >&2; mount -o remount,size=1m $R/out; $B/mcp-units --dest $R/out >&2; \
                echo again $?; exit $code";
    let answer = mounted(&node, full).expect(111);
    assert!(answer.err.contains("No space left on device") && !answer.err.contains("/.mcp"), "{answer:#?}");
    assert!(answer.out.ends_with("again 0\n"), "{answer:#?}");
    // Where there is nothing to do, nothing needs writing.
    let nothing = "mkdir -p $R/out; $B/mcp-units --dest $R/out >/dev/null 2>&1; mount --bind $R/out $R/out && \
                   mount -o remount,ro,bind $R/out && $B/mcp-units --dest $R/out";
    let answer = mounted(&node, nothing).expect(0);
    assert_eq!(answer.out + &answer.err, "");
}

#[test]
fn what_it_cannot_use_is_refused_before_anything_is_written() {
    let node = node();
    let file = node.root.join("file");
    fs::write(&file, "theirs").unwrap();
    let answer = node.mcp("mcp-units", &["--dest", file.to_str().unwrap()]).expect(100);
    assert_eq!(answer.one_line(), format!("mcp-units: {}: not a directory; --dest names one", file.display()));
    // A folder or a pipe in the place of a file.
    fs::create_dir_all(dest(&node).join("mcp-auth_vm")).unwrap();
    assert!(units(&node, &[]).expect(100).one_line().contains("mcp-auth_vm: a directory, not a file"));
    fs::remove_dir(dest(&node).join("mcp-auth_vm")).unwrap();
    nix::unistd::mkfifo(&dest(&node).join("mcp-auth_vm"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(units(&node, &[]).expect(100).one_line().contains("mcp-auth_vm: not a regular file"));
    fs::remove_file(dest(&node).join("mcp-auth_vm")).unwrap();
    // A link in the place of a folder of ours leads elsewhere.
    let (service, elsewhere) = (dest(&node).join("mcp-auth_vm"), node.root.join("elsewhere"));
    fs::create_dir_all(&elsewhere).unwrap();
    symlink(&elsewhere, &service).unwrap();
    if units(&node, &["runit", "--dry-run", "--remove"]).expect(0).out.is_empty()
        && node.mcp("mcp-units", &["runit", "--dry-run"]).expect(0).out.contains("/mcp-auth_vm/")
    {
        assert!(units(&node, &["runit"]).expect(100).one_line().contains("mcp-auth_vm: not a directory"));
        assert_eq!(find(&elsewhere, &|_| true), Vec::<PathBuf>::new());
    }
    fs::remove_file(service).unwrap();
    // The list of what is ours.
    let manifest = node.root.join("lib/units/openrc.json");
    fs::create_dir_all(manifest.parent().unwrap()).unwrap();
    for (junk, told) in [
        ("", "damaged list of unit files: EOF"),
        ("{\"schema\": 1, \"files\": [", "damaged list of unit files: "),
        (
            "{\"schema\": 2, \"files\": {}}",
            "list of unit files of schema 2 was written by a newer mcp; this one reads up to 1",
        ),
        ("\0\0\0", "damaged list of unit files: "),
    ] {
        fs::write(&manifest, junk).unwrap();
        let answer = units(&node, &[]).expect(100);
        assert!(answer.one_line().contains(&format!("lib/units/openrc.json: {told}")), "{answer:#?}");
    }
    fs::remove_file(&manifest).unwrap();
    // All that is wrong in the definitions, at once.
    node.configure("[boot]\ninit = \"upstart\"\n[[boot.sequence]]\nname = \"base\"\nservices = [\"nobody\"]\n");
    node.define("bad", "name = \"bad\"\nactive = 7\n");
    let answer = units(&node, &["openrc"]).expect(100);
    for told in ["upstart", "nobody", "active"] {
        assert!(answer.err.contains(told), "{told}: {answer:#?}");
    }
    assert_eq!(find(&dest(&node), &|_| true), Vec::<PathBuf>::new());
    assert_eq!(find(&node.root.join("lib/units"), &|_| true), Vec::<PathBuf>::new());
    // Whoever names no init is told so.
    node.configure("");
    fs::remove_file(node.root.join("etc/services/bad.toml")).unwrap();
    assert!(units(&node, &[]).expect(2).err.contains("no INIT"));
    assert!(units(&node, &["upstart"]).expect(2).err.contains("an init is one of systemd, s6"));
}

#[test]
fn the_files_name_the_node_that_they_are_for() {
    let node = node();
    for init in INITS {
        let shown = node.mcp("mcp-units", &["--dry-run", init]).expect(0).out;
        let root = node.root.display().to_string();
        if shown.is_empty() {
            continue;
        }
        let quotes = ["", "'", "\""];
        let named = |how: &str| quotes.iter().any(|quote| shown.contains(&format!("{how}{quote}{root}")));
        assert!(named("MCP_ROOT=") || named("--root "), "{init}: {shown}");
        // An option does what the variable does.
        let mut command = Command::new(program("mcp-units"));
        command.args(["--dry-run", init, "--root", &root]).env_remove("MCP_ROOT");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        assert_eq!(finish(command, "mcp-units --root").expect(0).out, shown, "{init}");
    }
}

#[test]
fn no_unit_of_a_component_closes_its_devices() {
    let node = node();
    units(&node, &["systemd"]).expect(0);
    let closing = ["ProtectClock=", "PrivateDevices=", "DevicePolicy=", "DeviceAllow="];
    for unit in ["mcp-component@.service", "mcp-component@auth-vm.service.d/50-mcp.conf"] {
        let text = fs::read_to_string(dest(&node).join(unit)).unwrap();
        let lines = text.lines().filter(|line| closing.iter().any(|key| line.starts_with(key)));
        assert_eq!(lines.collect::<Vec<_>>(), Vec::<&str>::new(), "{unit}: QEMU wants /dev/kvm");
    }
}

#[test]
fn all_scripts_are_posix_shell() {
    let node = node();
    let mut scripts = 0;
    for init in INITS {
        let out = node.root.join(init);
        node.mcp("mcp-units", &[init, "--dest", out.to_str().unwrap()]).expect(0);
        for (path, text) in tree(&out) {
            let first = text.lines().next().unwrap_or_default();
            if !first.ends_with("/sh") && !first.ends_with("/openrc-run") {
                continue;
            }
            scripts += 1;
            let mut command = Command::new("sh");
            command.arg("-n").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            finish(command, &format!("sh -n {}", path.display())).expect(0);
        }
    }
    assert!(scripts > 10, "only {scripts} scripts");
}
