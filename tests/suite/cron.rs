//! scripts/cron/mcp-probe: by itself, and run by the real cron, which mails what it prints.

use crate::examples::{Place, in_place};
use crate::harness::{finish, have, nanos, until, wait, wait_for};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What is printed, line by line.
fn probe(place: &Place) -> Vec<String> {
    let answer = finish(place.sh("mcp-probe"), "mcp-probe").expect(0);
    assert_eq!(answer.err, "", "{answer:#?}");
    answer.out.lines().map(String::from).collect()
}

/// Definition of `demo/web`, a VM that is served at a port of the place's own network.
fn define(place: &Place, test: &str) -> bool {
    let Some(image) = nanos(test, &[]) else { return false };
    let text = format!(
        "name = \"demo\"\n[[components]]\nname = \"web\"\nruntime = \"unikernel\"\ndisk = \"{}\"\nkernel = \"{}\"\n\
         memory_mb = 128\nports = [\"127.0.0.1:8080:8080\"]\nstop_timeout = \"2s\"\n\
         [components.health]\nkind = \"http\"\npath = \"/health\"\nfailures = 1\n",
        image.disk, image.kernel
    );
    place.node.define("demo", &text);
    true
}

#[test]
fn probe_is_silent_while_nothing_changes() {
    in_place("probe_is_silent_while_nothing_changes", |place| {
        // Nothing is declared: nothing is said, and nothing written.
        assert_eq!(probe(place), [""; 0]);
        assert!(!place.node.root.join("run/.probe").exists());
        if !define(place, "probe_is_silent_while_nothing_changes") {
            return;
        }
        assert_eq!(probe(place), ["demo/web: absent, drift: missing"]);
        assert_eq!(probe(place), [""; 0]);
        place.shell("mcp-run --detach --wait demo");
        let news = probe(place);
        assert_eq!(news.last().unwrap(), "demo/web: running (was absent)", "{news:?}");
        assert_eq!(probe(place), [""; 0]);
        place.shell("curl -fsS http://127.0.0.1:8080/unhealthy");
        let news = probe(place);
        assert!(news.len() == 1 && news[0].starts_with("demo/web: unhealthy: HTTP status 503 "), "{news:?}");
        assert_eq!(probe(place), [""; 0]);
        place.shell("curl -fsS http://127.0.0.1:8080/healthy");
        let news = probe(place);
        assert!(news.len() == 1 && news[0].starts_with("demo/web: healthy (since "), "{news:?}");
        // What ended, with its code; what is told of health besides is no second line.
        place.shell("curl -sS 'http://127.0.0.1:8080/exit?code=7' || :");
        until("it has ended", || place.node.state("demo/web")["end"].is_object());
        assert_eq!(probe(place), ["demo/web: failed(7), drift: missing (was running)"]);
        assert_eq!(probe(place), [""; 0]);
        // A complaint comes once, and goes once; of others nothing is lost meanwhile.
        place.node.define("bad", "name = \"bad\"\n");
        let news = probe(place);
        assert!(news.len() == 1 && news[0].contains("bad.toml"), "{news:?}");
        assert_eq!(probe(place), [""; 0]);
        fs::remove_file("/etc/mcp/services/bad.toml").unwrap();
        let news = probe(place);
        assert!(news.len() == 1 && news[0].starts_with("no more: ") && news[0].contains("bad.toml"), "{news:?}");
        place.shell("mcp-stop demo || :");
        assert_eq!(probe(place), ["demo/web: stopped (was failed(7))"]);
    });
}

#[test]
fn probe_twice_at_once_and_killed() {
    in_place("probe_twice_at_once_and_killed", |place| {
        place.node.define("demo", "name = \"demo\"\n[[components]]\nname = \"web\"\nimage = \"localhost/x:1\"\n");
        place.node.configure("[podman]\nbinary = \"/nowhere/podman\"\n");
        // A slow look, so that they meet.
        let bin = place.bin();
        let real = fs::read_link(bin.join("mcp-health")).unwrap();
        let slow = |script: String| {
            fs::remove_file(bin.join("mcp-health")).unwrap();
            fs::write(bin.join("mcp-health"), format!("#!/bin/sh\n{script}\n")).unwrap();
            place.shell(&format!("chmod +x {}", bin.join("mcp-health").display()));
        };
        slow(format!("echo $$ >{0}/at; while [ -e {0}/hold ]; do sleep 0.02; done", place.work().display()));
        fs::write(place.work().join("hold"), "").unwrap();
        let began = Instant::now();
        let first = place.sh("mcp-probe").spawn().unwrap();
        until("the first one looks", || place.work().join("at").exists());
        assert_eq!(probe(place), [""; 0], "the second one leaves it to the first");
        fs::remove_file(place.work().join("hold")).unwrap();
        let told = wait(first, "mcp-probe", began).expect(0).out;
        assert!(told.starts_with("/nowhere/podman: not found; "), "{told}");
        assert_eq!(probe(place), [""; 0]);
        // Killed at some moment: the next one tells it.
        fs::write(place.work().join("hold"), "").unwrap();
        fs::remove_file(place.work().join("at")).unwrap();
        place.node.configure("");
        let mut killed = place.sh("exec mcp-probe").spawn().unwrap();
        until("it looks", || place.work().join("at").exists());
        killed.kill().unwrap();
        killed.wait().unwrap();
        fs::remove_file(place.work().join("hold")).unwrap();
        let turn = || finish(place.sh("flock -n /run/mcp/.probe/turn true"), "flock").code == Some(0);
        until("the lock is free again", turn);
        let news = probe(place);
        assert!(news.iter().any(|l| l.starts_with("no more: /nowhere/podman: ")), "{news:?}");
        assert!(news.contains(&"demo/web: absent, drift: missing (new)".to_string()), "{news:?}");
        assert_eq!(probe(place), [""; 0]);
        fs::remove_file(bin.join("mcp-health")).unwrap();
        std::os::unix::fs::symlink(real, bin.join("mcp-health")).unwrap();
        finish(place.sh("mcp-probe --wrong"), "mcp-probe").expect(2);
        let answer = finish(place.sh("PATH=/usr/bin:/bin ../bin/mcp-probe"), "mcp-probe").expect(100);
        assert_eq!(
            answer.one_line(),
            "mcp-probe: mcp-status is not on PATH (/usr/bin:/bin); cron's is short, so set it in the crontab"
        );
        fs::remove_dir_all(place.node.root.join("run/.probe")).unwrap();
        fs::write(place.node.root.join("run/.probe"), "").unwrap();
        let answer = finish(place.sh("mcp-probe"), "mcp-probe").expect(100);
        assert!(answer.err.contains("can't be made"), "{answer:#?}");
        fs::remove_file(place.node.root.join("run/.probe")).unwrap();
    });
}

/// The cron of Debian, as scripts/test unpacks it, or an installed one.
fn cron(test: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("cron");
    if tools.is_file() {
        return Some(tools);
    }
    let installed = PathBuf::from("/usr/sbin/cron");
    if installed.is_file() || have(test, "cron") {
        return Some(if installed.is_file() { installed } else { "cron".into() });
    }
    None
}

/// Runs the crontab's jobs as cron does when the machine comes up, which is at once; what it mailed.
fn by_cron(place: &Place, cron: &Path) -> String {
    let (mail, ended) = (place.work().join("mail"), place.work().join("ended"));
    for file in [&mail, &ended] {
        let _ = fs::remove_file(file);
    }
    let _ = fs::remove_file("/run/crond.reboot");
    let mut command = place.sh(&format!("exec {} -f -L 15", cron.display()));
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let done = wait_for(Duration::from_secs(20), || ended.exists().then_some(()));
    // It mails when the job and all that it started have closed their output, and then forgets about it.
    let idle = || fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default().is_empty();
    let idle = wait_for(Duration::from_secs(20), || idle().then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(done.is_some() && idle.is_some(), "cron ran nothing");
    fs::read_to_string(&mail).unwrap_or_default()
}

#[test]
fn probe_by_the_real_cron() {
    let test = "probe_by_the_real_cron";
    in_place(test, |place| {
        let Some(cron) = cron(test) else { return };
        if !define(place, test) {
            return;
        }
        place.cover("/usr/sbin");
        let work = place.work();
        let mail = format!("#!/bin/sh\ncat >{0}/mail.part; mv {0}/mail.part {0}/mail\n", work.display());
        fs::write("/usr/sbin/sendmail", mail).unwrap();
        fs::create_dir_all("/var/spool/cron/crontabs").unwrap();
        for module in ["auth", "account", "session"] {
            let line = format!("{module} required pam_permit.so\n");
            let old = fs::read_to_string("/etc/pam.d/cron").unwrap_or_default();
            let old = if old.contains("pam_permit.so\n") { old } else { String::new() };
            fs::create_dir_all("/etc/pam.d").unwrap();
            fs::write("/etc/pam.d/cron", old + &line).unwrap();
        }
        // The crontab that we ship, with its programs where they are here, and at another time.
        let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cron/crontab");
        let text = fs::read_to_string(ours).unwrap();
        assert!(text.contains("\n* * * * * root mcp-probe\n"), "{text}");
        let text =
            text.replace("PATH=", &format!("MCP_ROOT={}\nPATH={}:", place.node.root.display(), place.bin().display()));
        let text = text
            .replace("* * * * * root mcp-probe", &format!("@reboot root mcp-probe; echo $? >{}/ended", work.display()));
        let _ = fs::remove_dir_all("/etc/cron.d");
        fs::create_dir_all("/etc/cron.d").unwrap();
        fs::write("/etc/crontab", "").unwrap();
        fs::write("/etc/cron.d/mcp", text).unwrap();
        place.shell(
            "chmod 755 /usr/sbin/sendmail; chmod 644 /etc/crontab /etc/cron.d/mcp; chmod 1730 /var/spool/cron/crontabs",
        );
        let news = by_cron(place, &cron);
        assert!(
            news.contains("\nSubject: Cron <root@") && news.ends_with("\ndemo/web: absent, drift: missing\n"),
            "{news}"
        );
        assert_eq!(by_cron(place, &cron), "", "nothing has changed, and there is a mail");
        place.shell("mcp-run --detach --wait demo");
        let news = by_cron(place, &cron);
        assert!(news.contains("\ndemo/web: running (was absent)\n"), "{news}");
        assert_eq!(fs::read_to_string(work.join("ended")).unwrap(), "0\n");
    });
}
