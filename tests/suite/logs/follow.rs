//! `mcp-logs --follow`.

use super::console::{Console, Following, LIMIT, Site};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

#[test]
fn follow_loses_and_doubles_nothing_across_rotation() {
    for args in [&["-f", "-n", "all", "demo"][..], &["-f", "-t", "-n", "all", "demo"]] {
        let site = Site::new();
        let mut console = site.console("demo/demo", "a");
        console.write("n 0\n");
        let mut following = Following::start(&site, args);
        following.until(|said| said.ends_with(b"n 0\n"));
        let count: u32 = 60_000;
        let writer = std::thread::spawn(move || {
            let mut rotations = 0;
            for i in 1..=count {
                let line = format!("n {i}\n");
                if i % 1500 == 0 {
                    // In the middle of a line, with some of it still going to the old file.
                    rotations += 1;
                    console.write(&line.as_bytes()[..1]);
                    console.note(u64::from(i));
                    console.rotate(rotations, &line.as_bytes()[1..2]);
                    console.write(&line.as_bytes()[2..]);
                    // The oldest ones go, but only those that were read for sure.
                    if rotations > 30 {
                        fs::remove_file(console.dir.join(format!("console.log.{:06}", rotations - 30))).unwrap();
                    }
                } else {
                    console.write(&line);
                }
                if i % 100 == 0 {
                    console.note(u64::from(i));
                }
            }
        });
        let last = format!("n {count}\n");
        let said = following.until(|said| said.ends_with(last.as_bytes()));
        writer.join().unwrap();
        let mut next = 0;
        for line in said.lines() {
            let line = if args.contains(&"-t") { &line[25..] } else { line };
            assert_eq!(line, format!("n {next}"));
            next += 1;
        }
        assert_eq!(next, count + 1);
        let (rest, err) = following.end(Signal::SIGTERM);
        assert_eq!((rest.as_str(), err.as_str()), ("", ""));
    }
}

#[test]
fn follow_looks_now_and_then_where_others_have_taken_all_of_inotify() {
    if !crate::harness::have("follow_looks_now_and_then", "unshare") {
        return;
    }
    let site = Site::new();
    let mut following = Following::of(crate::harness::blind(site.command(&["-f", "demo/api"])));
    let mut api = site.console("demo/api", "a");
    api.write("first\n");
    following.until_said("first\n");
    api.rotate(1, "second\n".as_bytes());
    following.until_said("first\nsecond\n");
    site.console("demo/api", "b").write("third\n");
    following.until_said("first\nsecond\nthird\n");
    following.end(Signal::SIGTERM);
}

#[test]
fn follow_waits_for_what_is_not_there_and_for_what_comes_back() {
    let site = Site::new();
    let mut following = Following::start(&site, &["-f", "demo/api", "other"]);
    // Nothing of the site is there yet but its folder.
    wait_for_watch(&following);
    let mut api = site.console("demo/api", "a");
    api.write("first\n");
    following.until_said("first\n");
    // Restart: the same files, appended to.
    let mut again = site.console("demo/api", "a");
    again.write("second\n");
    following.until_said("first\nsecond\n");
    // Replaced in place: the other slot.
    let mut b = site.console("demo/api", "b");
    b.write("third\n");
    following.until_said("first\nsecond\nthird\n");
    // Removed and deployed anew.
    fs::remove_dir_all(site.0.join("log/demo")).unwrap();
    let mut new = site.console("demo/api", "a");
    new.write("fourth\n");
    following.until_said("first\nsecond\nthird\nfourth\n");
    // A second component: from now on it is said whose line it is.
    site.console("other/other", "a").write("fifth\n");
    following.until_said("first\nsecond\nthird\nfourth\nother/other | fifth\n");
    new.write("sixth\n");
    following.until_said("first\nsecond\nthird\nfourth\nother/other | fifth\ndemo/api    | sixth\n");
    let (_, err) = following.end(Signal::SIGINT);
    assert_eq!(
        err,
        "mcp-logs: demo/api: nothing there yet; waiting for it\nmcp-logs: other: nothing there yet; waiting for it\n"
    );
}

/// Until the process sleeps in poll: all its watches are there.
fn wait_for_watch(following: &Following) {
    let path = format!("/proc/{}/wchan", following.child.id());
    let stat = format!("/proc/{}/syscall", following.child.id());
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let asleep = fs::read_to_string(&path).is_ok_and(|w| w.contains("poll"))
            || fs::read_to_string(&stat).is_ok_and(|s| s.starts_with("7 "));
        if asleep {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("it never waited");
}

#[test]
fn follow_begins_with_the_last_ten() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let all: Vec<String> = (0..50).map(|i| format!("line {i}\n")).collect();
    console.write_at(1000, all.concat());
    let mut following = Following::start(&site, &["-f", "demo"]);
    following.until_said(&all[40..].concat());
    console.write_at(2000, "more\n");
    following.until_said(&format!("{}more\n", all[40..].concat()));
    let mut all_since = Following::start(&site, &["--follow", "--since", "2026-11-23T10:00:00Z", "demo"]);
    all_since.until_said(&format!("{}more\n", all.concat()));
    let mut none = Following::start(&site, &["-f", "-n0", "-t", "demo"]);
    wait_for_watch(&none);
    console.write_at(3000, "new\n");
    let said = none.until(|said| said.ends_with(b"new\n"));
    assert!(said.lines().count() == 1 && said.ends_with("Z new\n"), "{said}");
}

#[test]
fn follow_shows_a_prompt_and_mixes_no_lines() {
    let site = Site::new();
    let mut api = site.console("demo/api", "a");
    let mut following = Following::start(&site, &["-f", "--sanitize", "demo/api"]);
    wait_for_watch(&following);
    api.write("login: ");
    following.until_said("login: ");
    // A character in two halves, and a line feed long after its carriage return.
    api.write(b"root\xc3");
    following.until_said("login: root");
    api.write(b"\xbc\r");
    following.until_said("login: rootü");
    api.write("\n");
    following.until_said("login: rootü\n");
    api.write("x\x1b\ry\n");
    following.until_said("login: rootü\nx\\x1b\\x0dy\n");

    let mut web = site.console("demo/web", "a");
    let mut both = Following::start(&site, &["-f", "-n0", "demo"]);
    wait_for_watch(&both);
    let began = Instant::now();
    api.write("half");
    let said = both.until(|said| said.ends_with(b"half"));
    assert!(began.elapsed() >= Duration::from_millis(200), "shown before it was quiet");
    assert_eq!(said, "demo/api | half");
    web.write("line\n");
    both.until_said("demo/api | half\ndemo/web | line\n");
    api.write(" and half\n");
    both.until_said("demo/api | half\ndemo/web | line\ndemo/api |  and half\n");
}

#[test]
fn follow_with_json_holds_lines_whole() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let mut following = Following::start(&site, &["-f", "--json", "demo"]);
    wait_for_watch(&following);
    console.write("in ");
    console.write("pieces");
    console.write_at(0, "\n");
    let said = following.until(|said| said.ends_with(b"\n"));
    let value: serde_json::Value = serde_json::from_str(said.trim_end()).unwrap();
    assert_eq!(value["line"], "in pieces");
}

#[test]
fn follow_sleeps_when_nothing_happens() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    console.write("half a line");
    site.console("demo/other", "a");
    let mut following = Following::start(&site, &["-f", "demo"]);
    following.until(|said| said.ends_with(b"half a line"));
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", following.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    wait_for_watch(&following);
    let before = switches();
    // The thing under test is that time passes and nothing happens.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(switches(), before);
}

#[test]
fn a_log_cut_short_is_said() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    console.write("a long first line\n");
    let mut following = Following::start(&site, &["-f", "demo"]);
    following.until_said("a long first line\n");
    console.log.set_len(0).unwrap();
    console.write("short\n");
    following.until_said("a long first line\nshort\n");
    let (_, err) = following.end(Signal::SIGTERM);
    assert!(err.contains("cut short"), "{err}");
}

#[test]
fn the_supervisors_own_log() {
    let site = Site::new();
    site.console("demo/demo", "a").write("console\n");
    let path = site.0.join("log/demo/demo/supervisor.log");
    fs::write(&path, "started\n").unwrap();
    assert_eq!(site.answer(&["--supervisor", "demo"]), "started\n");
    let mut following = Following::start(&site, &["--supervisor", "-f", "demo"]);
    following.until_said("started\n");
    Console::append(&path).write_all(b"ready\n").unwrap();
    following.until_said("started\nready\n");
}
