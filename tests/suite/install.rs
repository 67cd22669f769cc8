//! scripts/install and scripts/deb: what is installed is whole, goes as it came, and an upgrade leaves VMs alone.

mod kit;
mod package;
mod upgrade;

use crate::harness::{Answer, Node, finish, free_port, have, microvm, rootfs, skip};
use kit::{Kit, Place, files, script};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

fn install(place: &Place, kit: &Kit, args: &[&str]) -> Answer {
    script("install", place, &[&["--from", kit.dir.to_str().unwrap()], args].concat())
}

#[test]
fn install_and_uninstall_leave_what_was_there() {
    let kit = Kit::of_scripts("a");
    for prefix in ["/usr", "/usr/local"] {
        let place = Place::new();
        let at = ["--destdir", place.dir.to_str().unwrap(), "--prefix", prefix];
        let top = place.dir.join(&prefix[1..]);
        fs::create_dir_all(top.join("bin")).unwrap();
        fs::write(top.join("bin/other"), "not ours").unwrap();
        fs::create_dir_all(place.dir.join("var/lib/mcp")).unwrap();
        let before = files(&place.dir);

        assert_eq!(
            install(&place, &kit, &[&at[..], &["--check"]].concat()).expect(1).out,
            format!("mcp is not installed in {}\n", top.display())
        );
        let told = install(&place, &kit, &at).expect(0);
        assert!(told.out.starts_with(&format!("mcp 0.1.0 in {}: ", top.display())), "{told:#?}");
        for name in [
            "mcp",
            "mcp-run-vm",
            "mcp-units",
            "mcp-deploy",
            "mcp-cluster",
            "mcp-get-guest-kernel",
            "mcp-probe",
            "grpc_health_probe",
        ] {
            assert_eq!(fs::metadata(top.join("bin").join(name)).unwrap().permissions().mode() & 0o777, 0o755, "{name}");
        }
        for name in [
            "lib/mcp/mcp-guest-init",
            "lib/mcp/cluster.awk",
            "share/man/man1/mcp.1",
            "share/man/man8/mcp-get-guest-kernel.8",
            "share/man/man5/mcp.toml.5",
            "share/man/man8/mcp-probe.8",
            "share/man/man7/ocf_mcp_component.7",
            "lib/ocf/resource.d/mcp/component",
            "share/doc/mcp/examples/crontab",
            "share/bash-completion/completions/mcp-stop",
            "share/zsh/site-functions/_mcp",
            "share/fish/vendor_completions.d/mcp-stop.fish",
            "share/doc/mcp/examples/services/hello.toml",
            "share/doc/mcp/README.md",
        ] {
            assert!(top.join(name).exists(), "{name}");
        }
        // Units name the programs where they will be, not where they were put.
        for unit in files(&top.join("lib/systemd")) {
            let text = fs::read_to_string(&unit).unwrap();
            assert!(!text.contains("@BINDIR@") && !text.contains(place.dir.to_str().unwrap()), "{}", unit.display());
        }
        let whole = install(&place, &kit, &[&at[..], &["--check"]].concat()).expect(0);
        assert!(whole.out.contains(": whole ("), "{whole:#?}");
        if prefix == "/usr/local" {
            install(&place, &kit, &[&at[..], &["--uninstall"]].concat()).expect(0);
            assert_eq!(files(&place.dir), before);
            continue;
        }
        assert!(install(&place, &kit, &at).expect(0).out.ends_with("of which 0 are new\n"));

        // Damage is seen, and mended.
        fs::remove_file(top.join("bin/mcp-stop")).unwrap();
        fs::write(top.join("share/doc/mcp/NEWS.md"), "").unwrap();
        fs::set_permissions(top.join("bin/mcp-rm"), fs::Permissions::from_mode(0o644)).unwrap();
        let told = install(&place, &kit, &[&at[..], &["--check"]].concat()).expect(1).out;
        let path = |name: &str| top.join(name).display().to_string();
        assert_eq!(
            told,
            format!(
                "{}: mode 644, not 755\n{}: missing\n{}: changed\n",
                path("bin/mcp-rm"),
                path("bin/mcp-stop"),
                path("share/doc/mcp/NEWS.md")
            )
        );
        install(&place, &kit, &at).expect(0);
        install(&place, &kit, &[&at[..], &["--check"]].concat()).expect(0);

        // What somebody put in the place of ours is theirs.
        fs::remove_file(top.join("bin/mcp-logs")).unwrap();
        fs::write(top.join("bin/mcp-logs"), "theirs").unwrap();
        let gone = install(&place, &kit, &[&at[..], &["--uninstall"]].concat()).expect(1);
        assert!(gone.out.starts_with(&format!("{}: kept: it is not what was installed\n", path("bin/mcp-logs"))));
        fs::remove_file(top.join("bin/mcp-logs")).unwrap();
        assert_eq!(files(&place.dir), before);
        assert!(!top.join("share").exists() && !top.join("lib").exists(), "folders that it made go with it");
        assert!(place.dir.join("var/lib/mcp").is_dir());
    }
}

#[test]
fn install_drops_what_the_older_version_had() {
    let kit = Kit::of_scripts("a");
    let place = Place::new();
    let prefix = place.dir.join("p");
    let at = ["--prefix", prefix.to_str().unwrap()];
    install(&place, &kit, &at).expect(0);
    // As if an older one had had one program more, and another version.
    let manifest = prefix.join("lib/mcp/manifest");
    let text = fs::read_to_string(&manifest).unwrap().replace("mcp 0.1.0\n", "mcp 0.0.9\n");
    fs::write(&manifest, text + "0000 755 bin/mcp-old\n").unwrap();
    fs::write(prefix.join("bin/mcp-old"), "old").unwrap();
    let told = install(&place, &kit, &[&at[..], &["--check"]].concat()).expect(1).out;
    assert!(
        told.starts_with(&format!("mcp 0.0.9 is installed in {}, and this is 0.1.0\n", prefix.display())),
        "{told}"
    );
    install(&place, &kit, &at).expect(0);
    assert!(!prefix.join("bin/mcp-old").exists());
    install(&place, &kit, &[&at[..], &["--check"]].concat()).expect(0);
    install(&place, &kit, &[&at[..], &["--uninstall"]].concat()).expect(0);
    assert!(!prefix.exists());
}

#[test]
fn install_says_in_one_line_why_not() {
    let kit = Kit::of_scripts("a");
    let place = Place::new();
    let dir = place.dir.to_str().unwrap();
    let none = place.dir.join("none");
    fs::create_dir(&none).unwrap();
    let told = script("install", &place, &["--from", none.to_str().unwrap(), "--prefix", dir]).expect(100);
    let line = format!("install: {}/mcp-boot: not there; run scripts/build first", none.display());
    assert_eq!(told.one_line(), line);
    assert_eq!(
        install(&place, &kit, &["--prefix", "here"]).expect(2).one_line(),
        "install: here: PREFIX is not absolute"
    );
    let odd = install(&place, &kit, &["--prefix", "/a b"]).expect(2);
    assert!(odd.one_line().contains("units can't name such a PREFIX"));
    assert!(install(&place, &kit, &["--bogus"]).expect(2).one_line().contains("--bogus: no such option"));

    // Another's program of this name is not overwritten.
    fs::create_dir(place.dir.join("bin")).unwrap();
    fs::write(place.dir.join("bin/mcp"), "another").unwrap();
    let told = install(&place, &kit, &["--prefix", dir]).expect(100);
    assert_eq!(
        told.one_line(),
        format!("install: {dir}/bin/mcp: there already, and not of mcp's; move it away, or --force")
    );
    assert_eq!(fs::read_to_string(place.dir.join("bin/mcp")).unwrap(), "another");
    assert!(!place.dir.join("lib").exists(), "nothing was begun");

    if !nix::unistd::geteuid().is_root() || !have("install_says_why_not", "unshare") {
        return skip("install_says_why_not", "read-only and full file systems want root");
    }
    let told = place.mounted(&kit, "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"", "ro").expect(100);
    let at = place.dir.join("ro/lib/mcp");
    let line = format!("install: {}: Read-only file system; name another PREFIX or DESTDIR", at.display());
    assert_eq!(told.one_line(), line);
    let told = place.mounted(&kit, "mount -t tmpfs -o size=64k t \"$1\"", "full").expect(111);
    assert!(told.one_line().ends_with(": No space left on device; make room and run it again"), "{told:#?}");
    let told = place.mounted(&kit, "set -- setpriv --reuid 65534 --clear-groups \"$@\"", "rights").expect(100);
    let at = place.dir.join("rights/lib");
    let line = format!("install: {}/mcp: Permission denied; run it as root, or name another PREFIX", at.display());
    assert_eq!(told.one_line().replace("lib:", "lib/mcp:"), line);
}

/// In the place of `mv`: kills the installer right before or after the file of this number got its name.
const KILLER: &str = r#"#!/bin/sh
n=$(($(cat "$COUNT" 2>/dev/null || echo 0) + 1))
echo $n >"$COUNT"
[ "$n before" != "$KILL" ] || { kill -9 $PPID && exit; }
/usr/bin/mv "$@" || exit
[ "$n after" != "$KILL" ] || kill -9 $PPID
"#;

#[test]
fn install_that_was_killed_is_made_whole_by_the_next() {
    let (old, new) = (Kit::of_scripts("a"), Kit::of_scripts("b"));
    let place = Place::new();
    let shim = place.dir.join("shim");
    fs::create_dir(&shim).unwrap();
    fs::write(shim.join("mv"), KILLER).unwrap();
    fs::set_permissions(shim.join("mv"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", shim.display());
    // The list of what is to be done, each file, and the list of what was.
    let last = format!("{} before", Kit::names().len() + 2);
    for (round, kill) in ["1 after", "9 after", &last].iter().enumerate() {
        let prefix = place.dir.join(format!("p{round}"));
        let at = ["--prefix", prefix.to_str().unwrap()];
        let killed = |kit: &Kit| {
            let count = place.dir.join("count");
            let _ = fs::remove_file(&count);
            let mut command = place.command("install", &[&["--from", kit.dir.to_str().unwrap()], &at[..]].concat());
            command.env("PATH", &path).env("KILL", kill).env("COUNT", &count);
            finish(command, "install, killed").expect(137);
        };
        // A first installation, and an upgrade over it.
        for kit in [&old, &new] {
            killed(kit);
            for name in ["mcp-run-vm", "mcp-status", "mcp"] {
                // Of two versions one, and that whole.
                let found = fs::read(prefix.join("bin").join(name)).unwrap_or_default();
                let one = |kit: &Kit| fs::read(kit.dir.join(name)).unwrap() == found;
                assert!(found.is_empty() || one(&old) || one(&new), "{kill}: half of {name}");
            }
            let told = install(&place, kit, &[&at[..], &["--check"]].concat()).expect(1).out;
            assert!(told.starts_with("the last install was interrupted; run scripts/install again\n"), "{told}");
            install(&place, kit, &at).expect(0);
            install(&place, kit, &[&at[..], &["--check"]].concat()).expect(0);
            let halves: Vec<_> = files(&prefix).into_iter().filter(|f| is_half(f)).collect();
            assert!(halves.is_empty(), "{kill}: left: {halves:?}");
        }
        // One that was killed can be taken away as well.
        killed(&old);
        install(&place, &old, &[&at[..], &["--uninstall"]].concat()).expect(0);
        assert!(!prefix.exists(), "{kill}: left: {:?}", files(&prefix));
    }
}

fn is_half(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name.ends_with(".mcp-new") || name.starts_with("manifest.") || name == ".mcp-install"
}

#[test]
fn installed_programs_find_each_other() {
    let test = "installed_programs_find_each_other";
    let Some(kit) = Kit::of_programs(test) else { return };
    let (place, node) = (Place::new(), Node::new());
    if !microvm(test, &node) {
        return;
    }
    let prefix = place.dir.join("p");
    install(&place, &kit, &["--prefix", prefix.to_str().unwrap()]).expect(0);
    // By a link on PATH, as people do; PATH has no other, and nothing names the guest's init.
    symlink(prefix.join("bin/mcp"), place.dir.join("mcp")).unwrap();
    node.define(
        "m",
        &format!(
            "name = \"m\"\n[[components]]\nname = \"m\"\nruntime = \"microvm\"\nrootfs = \"{}\"\nargs = [\"/hello\"]\n\
             ports = [\"{}:8080\"]\n",
            rootfs(&node),
            free_port()
        ),
    );
    let mcp = |args: &[&str]| {
        let mut command = std::process::Command::new(place.dir.join("mcp"));
        command.args(["--root", node.root.to_str().unwrap()]).args(args);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command, "mcp")
    };
    // mcp, mcp-run, mcp-run-vm and the guest's init in turn.
    mcp(&["run", "--detach", "--wait", "m"]).expect(0);
    assert_eq!(mcp(&["status", "--list", "--state", "running"]).expect(0).out, "m/m\n");
    mcp(&["stop", "m"]).expect(0);
    let gone = install(&place, &kit, &["--prefix", prefix.to_str().unwrap(), "--uninstall"]).expect(0);
    assert!(gone.out.contains("are as they were\n"), "{gone:#?}");
    assert!(!prefix.exists());
}
