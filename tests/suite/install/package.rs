//! The Debian package, by dpkg itself, in a machine of its own.

use super::kit::{Kit, Place, script};
use crate::harness::{finish, free_port, have, nanos, skip, until};
use crate::inits::{Kind, Lab};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

/// Makes a package of `kit` in `dir`; its path.
fn package(dir: &Path, kit: &Kit, version: &str) -> String {
    let args = ["--from", kit.dir.to_str().unwrap(), "--version", version, "--compress", "none"];
    let made = script("deb", &Place::new(), &[&args[..], &[dir.to_str().unwrap()]].concat()).expect(0);
    let path = dir.join(format!("mcp_{version}_amd64.deb"));
    assert_eq!(made.out, format!("{}\n", path.display()));
    path.to_str().unwrap().to_string()
}

/// What the package leaves on a machine, if anything.
const TRACES: &str = "find /usr /etc /var /run -xdev -name '*mcp*' ! -path '/var/tmp/*' | sort; \\
    cat /etc/passwd /etc/group /etc/subuid /etc/subgid";

#[test]
fn package_is_made_alike_each_time_and_says_what_is_in_it() {
    let test = "package_is_made_alike_each_time";
    if !have(test, "dpkg-deb") {
        return;
    }
    // Few programs: lintian looks into each for seconds.
    let Some(kit) = Kit::of_few(test) else { return };
    let (one, two) = (Place::new(), Place::new());
    let paths = [package(&one.dir, &kit, "0.1.0"), package(&two.dir, &kit, "0.1.0")];
    assert!(std::fs::read(&paths[0]).unwrap() == std::fs::read(&paths[1]).unwrap(), "the same bytes");
    let ask = |args: &[&str]| {
        let answer = std::process::Command::new("dpkg-deb").args(args).output().unwrap();
        String::from_utf8(answer.stdout).unwrap()
    };
    assert_eq!(
        ask(&["-f", &paths[0], "Package", "Version", "Architecture"]),
        "Package: mcp\nVersion: 0.1.0\nArchitecture: amd64\n"
    );
    let depends = ask(&["-f", &paths[0], "Depends"]);
    for name in ["libc6 (>= ", "qemu-system-x86", "squashfs-tools-ng", "e2fsprogs", "lz4", "xz-utils", "zstd"] {
        assert!(depends.contains(name), "{name}: {depends}");
    }
    assert_eq!(ask(&["-I", &paths[0], "conffiles"]), "/etc/mcp/mcp.toml\n");
    let list = ask(&["-c", &paths[0]]);
    for path in [
        "./etc/mcp/services/",
        "./usr/bin/mcp-run-vm",
        "./usr/lib/mcp/mcp-guest-init",
        "./usr/share/man/man1/mcp.1.gz",
        "./usr/lib/ocf/resource.d/mcp/component",
    ] {
        assert!(list.lines().any(|l| l.contains(" root/root ") && l.ends_with(path)), "{path} is not in\n{list}");
    }
    assert!(!list.contains("/var/") && !list.contains("/run/"), "{list}");

    if !have(test, "lintian") {
        return;
    }
    let mut command = std::process::Command::new("lintian");
    command.args(["--allow-root", "--fail-on", "error,warning", "--suppress-tags"]);
    command.arg("uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball").arg(&paths[0]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let told = finish(command, "lintian").expect(0);
    assert!(!told.out.contains("E: ") && !told.out.contains("W: "), "{told:#?}");
}

/// Both packages of the real programs, the second a rebuilt one of the first; made once for all tests of this run.
fn packages(test: &str) -> Option<[String; 2]> {
    static MADE: Mutex<Option<[String; 2]>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if made.is_none() {
        let kit = Kit::of_programs(test)?;
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debs");
        *made = Some([package(&dir, &kit, "0.1.0"), package(&dir, &kit.rebuilt(), "0.1.0+again")]);
    }
    made.clone()
}

/// A machine of its own where both lie in /tmp; `None`, said, where that can't be had.
fn machine(test: &str, kind: Kind) -> Option<Lab> {
    let packages = packages(test)?;
    let lab = Lab::new(test, kind, &["dpkg", "adduser", "curl"])?;
    // The lab brings the programs as links.
    lab.ask("rm -f /usr/bin/mcp /usr/bin/mcp-*");
    // Images of machines often forbid their packages to start anything.
    lab.ask("rm -f /usr/sbin/policy-rc.d");
    // man's index takes seconds each time.
    lab.ask("rm -f /var/lib/man-db/auto-update");
    for path in packages {
        std::fs::copy(&path, lab.path("/tmp").join(Path::new(&path).file_name().unwrap())).unwrap();
    }
    let missing = lab.sh("dpkg -i --dry-run /tmp/mcp_0.1.0_amd64.deb");
    if missing.err.contains("depend") {
        skip(test, &format!("what the package depends on: {}", missing.err.replace('\n', " ")));
        return None;
    }
    Some(lab)
}

#[test]
fn package_under_systemd_leaves_units_running_when_it_is_upgraded() {
    let test = "package_under_systemd";
    if !super::kit::source("scripts/systemd").is_dir() {
        return skip(test, "no units in scripts/systemd");
    }
    let Some(image) = nanos(test, &[]) else { return };
    let Some(lab) = machine(test, Kind::Systemd) else { return };
    let before = lab.ask(TRACES);
    lab.ask("dpkg -i /tmp/mcp_0.1.0_amd64.deb");
    assert_eq!(lab.ask("systemctl is-enabled mcp.target mcp-status.timer"), "enabled\nenabled");
    until("the node is up", || lab.sh("systemctl is-active mcp.target").out == "active\n");

    // As `mcp deploy` starts it: through the unit, since the package's mcp.toml says so.
    lab.vm("demo", &image, free_port(), "");
    lab.ask("systemctl daemon-reload && mcp run --by-init --wait demo");
    assert_eq!(lab.ask("systemctl is-active mcp-component@demo-vm.service"), "active");
    let (supervisor, qemu) = (lab.supervisor("demo/vm"), lab.qemu("demo/vm"));
    lab.ask("dpkg -i /tmp/mcp_0.1.0+again_amd64.deb");
    assert_eq!((lab.supervisor("demo/vm"), lab.qemu("demo/vm")), (supervisor, qemu));
    assert_eq!(lab.ask("systemctl show --value -p NRestarts mcp-component@demo-vm"), "0");
    assert_eq!(lab.ask(&format!("readlink /proc/{supervisor}/exe")), "/usr/bin/mcp-run-vm (deleted)");
    // The next supervisor, which systemd starts, is the new program, and the VM has not noticed.
    lab.ask(&format!("kill -9 {supervisor}"));
    until("another supervisor", || ![0, supervisor].contains(&lab.supervisor("demo/vm")));
    until("it is up", || lab.sh("systemctl is-active mcp-component@demo-vm").out == "active\n");
    assert_eq!(lab.ask(&format!("readlink /proc/{}/exe", lab.supervisor("demo/vm"))), "/usr/bin/mcp-run-vm");
    assert_eq!(lab.qemu("demo/vm"), qemu, "adopted");

    let told = lab.ask("dpkg --purge mcp 2>&1");
    assert!(!told.contains("mcp: not removed") && !told.contains("mcp-boot:"), "{told}");
    assert_eq!(lab.ours(), Vec::<String>::new());
    assert_eq!(lab.ask(TRACES), before);
    assert_eq!(lab.ask("systemctl list-units --all --no-legend 'mcp*'"), "");
}

#[test]
fn package_upgrades_under_vms_and_a_purge_leaves_nothing() {
    let test = "package_upgrades_under_vms";
    let Some(image) = nanos(test, &[]) else { return };
    let Some(lab) = machine(test, Kind::Plain) else { return };
    let before = lab.ask(TRACES);

    lab.ask("dpkg -i /tmp/mcp_0.1.0_amd64.deb");
    assert_eq!(lab.ask("mcp --version"), "mcp 0.1.0");
    assert_eq!(lab.ask("dpkg --verify mcp"), "");
    assert_eq!(
        lab.ask("grep ^_mcp: /etc/subuid /etc/subgid"),
        "/etc/subuid:_mcp:1900000000:65536\n/etc/subgid:_mcp:1900000000:65536"
    );
    assert_eq!(lab.ask("mcp-status --list; stat -c '%F %a %U' /etc/mcp/services"), "directory 755 root");
    let port = free_port();
    lab.vm("demo", &image, port, "");
    lab.ask("mcp-run --detach --wait demo && echo '# mine' >>/etc/mcp/mcp.toml");
    let (supervisor, qemu) = (lab.supervisor("demo/vm"), lab.qemu("demo/vm"));

    // An upgrade stops nothing, and what was changed in /etc stays.
    let told = lab.ask("dpkg -i /tmp/mcp_0.1.0+again_amd64.deb");
    assert!(!told.contains("stopped"), "{told}");
    assert_eq!((lab.supervisor("demo/vm"), lab.qemu("demo/vm")), (supervisor, qemu));
    assert_eq!(
        lab.ask(&format!("readlink /proc/{supervisor}/exe; tail -n 1 /etc/mcp/mcp.toml")),
        "/usr/bin/mcp-run-vm (deleted)\n# mine"
    );
    assert_eq!(lab.ask("mcp status --list --state running"), "demo/vm");
    assert!(lab.ask("mcp health demo; mcp logs demo").contains("hello: listening on 8080"));
    lab.ask(&format!("kill -9 {supervisor}"));
    until("unsupervised", || lab.sh("mcp status").out.contains("unsupervised"));
    lab.ask("mcp run --detach --wait demo");
    assert_eq!(lab.ask(&format!("readlink /proc/{}/exe", lab.supervisor("demo/vm"))), "/usr/bin/mcp-run-vm");
    assert_eq!(lab.qemu("demo/vm"), qemu, "adopted");
    assert!(lab.get(port).is_some());

    // A removal stops it in its own time, says so, and keeps what is not a program; whatever is wrong in some file.
    lab.ask("echo 'name = [' >/etc/mcp/services/half.toml");
    let told = lab.ask("dpkg --remove mcp 2>&1");
    assert!(told.contains("demo/vm: stopped: powerdown ("), "{told}");
    assert_eq!(lab.ours(), Vec::<String>::new());
    assert_eq!(lab.leftovers(), Vec::<String>::new());
    lab.ask("rm /etc/mcp/services/half.toml");
    lab.ask("test -f /etc/mcp/services/demo.toml && test -d /var/lib/mcp/registry && test -f /etc/mcp/mcp.toml");
    lab.ask("dpkg -i /tmp/mcp_0.1.0_amd64.deb && mcp-status --wanted demo && mcp-run --detach --wait demo");
    assert!(lab.get(port).is_some());

    // A purge leaves nothing, and takes nothing of others.
    lab.ask("mkdir -p /etc/mcp/theirs && mount -t tmpfs t /etc/mcp/theirs && echo theirs >/etc/mcp/theirs/file");
    let told = lab.ask("dpkg --purge mcp 2>&1");
    assert!(told.contains("mcp: /etc/mcp: not all of it could be removed"), "{told}");
    lab.ask("test -f /etc/mcp/theirs/file && umount /etc/mcp/theirs && rmdir /etc/mcp/theirs /etc/mcp");
    assert_eq!(lab.ours(), Vec::<String>::new());
    assert_eq!(lab.ask(TRACES), before);
}
