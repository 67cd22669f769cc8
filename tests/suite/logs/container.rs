//! Containers' logs, written as conmon writes them, beside VMs' consoles.

use super::console::{Console, Following, Site, ZERO};
use nix::sys::signal::Signal;
use std::fs;
use std::time::{Duration, UNIX_EPOCH};

/// conmon's part: a container's log, with its supervisor's index.
struct Container(Console);

/// conmon reads so much at once.
const READ: usize = 8192;

impl Container {
    fn new(site: &Site, component: &str) -> Container {
        Container(site.console(component, "c"))
    }

    /// The container writes `bytes` to one of its streams at `millis` after [`ZERO`].
    fn write_at(&mut self, millis: u64, stream: &str, bytes: impl AsRef<[u8]>) {
        let time = UNIX_EPOCH + Duration::from_millis(ZERO * 1000 + millis) + Duration::from_secs(3600);
        let time = humantime::format_rfc3339_nanos(time).to_string().replace('Z', "+01:00");
        let mut log = Vec::new();
        for read in bytes.as_ref().chunks(READ) {
            for line in read.split_inclusive(|b| *b == b'\n') {
                let tag = if line.ends_with(b"\n") { "F" } else { "P" };
                log.extend(format!("{time} {stream} {tag} ").into_bytes());
                log.extend(line.strip_suffix(b"\n").unwrap_or(line));
                log.push(b'\n');
            }
        }
        self.0.write(log);
    }
}

#[test]
fn only_what_the_container_wrote() {
    let site = Site::new();
    let mut web = Container::new(&site, "demo/web");
    let long = "x".repeat(20_000);
    web.write_at(0, "stdout", "one\n\n");
    web.write_at(100, "stdout", "half, ");
    web.write_at(200, "stderr", "an error\n");
    web.0.write(b"no record\n");
    web.write_at(300, "stdout", "whole\r\n");
    web.write_at(400, "stdout", format!("{long}\n"));
    web.write_at(500, "stderr", "\x1b[31m\u{ff}");
    let want = format!("one\n\nan error\nno record\nhalf, whole\r\n{long}\n\x1b[31m\u{ff}");
    assert_eq!(site.answer(&["demo"]), want);
    assert_eq!(site.answer(&["--raw", "demo/web"]), want);
    assert_eq!(site.answer(&["--sanitize", "-n", "1", "demo"]), "\\x1b[31mÿ\n");
    assert_eq!(site.answer(&["-n", "2", "demo"]), format!("{long}\n\x1b[31m\u{ff}"));
    assert_eq!(site.answer(&["-n", "4", "demo"]), want.split_at(want.find("no record").unwrap()).1);
    assert_eq!(site.answer(&["-n", "0", "demo"]), "");
    web.write_at(600, "stderr", "\n");
    let stamped = site.answer(&["-t", "-n", "4", "demo"]);
    let time = |millis: u32| format!("2026-11-23T10:00:00.{millis}Z");
    let times = [200, 100, 400, 500].map(time);
    assert_eq!(stamped.lines().map(|l| l[..24].to_string()).collect::<Vec<_>>(), times);
    assert!(stamped.ends_with("Z \x1b[31mÿ\n"));
    let json = site.answer(&["--json", "-n", "5", "demo"]);
    let lines: Vec<serde_json::Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        json.lines().next().unwrap(),
        r#"{"time":"2026-11-23T10:00:00.200Z","component":"demo/web","stream":"stderr","line":"an error"}"#
    );
    let streams: Vec<Option<&str>> = lines.iter().map(|l| l["stream"].as_str()).collect();
    assert_eq!(streams, [Some("stderr"), None, Some("stdout"), Some("stdout"), Some("stderr")]);
    assert_eq!(lines[2]["line"], "half, whole");
}

#[test]
fn a_record_that_is_being_written_is_not_there_yet() {
    let site = Site::new();
    let mut web = Container::new(&site, "demo/web");
    web.write_at(0, "stdout", "one\n");
    web.0.write("2026-11-23T11:00:00.1");
    assert_eq!(site.answer(&["demo"]), "one\n");
    web.0.write("00000000+01:00 stderr F tw");
    assert_eq!(site.answer(&["demo"]), "one\ntw");
    let mut following = Following::start(&site, &["-f", "demo"]);
    following.until_said("one\n");
    web.0.write("o\n");
    following.until_said("one\ntwo\n");
    // Torn by a full disk, and rotated: what follows is none of it.
    web.0.write("2026-11-23T11:00:00.200000000+01:00 stdout F thr");
    web.0.rotate(1, b"");
    web.write_at(300, "stdout", "four\n");
    following.until_said("one\ntwo\nthr\nfour\n");
    assert_eq!(site.answer(&["demo"]), "one\ntwo\nthr\nfour\n");
    assert_eq!(site.answer(&["-n2", "demo"]), "thr\nfour\n");
    let (rest, err) = following.end(Signal::SIGTERM);
    assert_eq!((rest.as_str(), err.as_str()), ("", ""));
}

#[test]
fn beside_a_vm_by_time() {
    let site = Site::new();
    let mut vm = site.console("demo/vm", "a");
    let mut web = Container::new(&site, "demo/web");
    for i in 0..4 {
        vm.write_at(i * 1000, format!("vm {i}\n"));
        web.write_at(i * 1000 + 400, "stdout", format!("out {i}\n"));
        web.write_at(i * 1000 + 600, "stderr", format!("err {i}\n"));
        if i == 1 {
            web.0.rotate(1, b"");
        }
    }
    let all: Vec<String> = (0..4)
        .flat_map(|i| {
            [format!("demo/vm  | vm {i}\n"), format!("demo/web | out {i}\n"), format!("demo/web | err {i}\n")]
        })
        .collect();
    assert_eq!(site.answer(&["demo"]), all.concat());
    // The last two of each.
    assert_eq!(site.answer(&["-n", "2", "demo"]), [&all[6..7], &all[9..]].concat().concat());
    let zero = "2026-11-23T10:00:0";
    let (since, until) = (format!("{zero}1.6Z"), format!("{zero}3.000Z"));
    assert_eq!(site.answer(&["--since", &since, "--until", &until, "demo"]), all[5..10].concat());
    assert_eq!(site.answer(&["--since", &since, "--until", &until, "-n1", "demo/web"]), "err 2\n");
    assert_eq!(site.answer(&["--since", &since, "demo/web"]), "err 1\nout 2\nerr 2\nout 3\nerr 3\n");
    assert_eq!(site.answer(&["--until", "2026-11-23", "demo/web"]), "");
}

#[test]
fn a_component_that_was_a_vm_before() {
    let site = Site::new();
    let mut vm = site.console("demo/demo", "a");
    vm.write_at(0, "as a VM\n");
    let mut following = Following::start(&site, &["-f", "demo"]);
    following.until_said("as a VM\n");
    let mut container = Container::new(&site, "demo/demo");
    container.write_at(1000, "stdout", "as a container\n");
    following.until_said("as a VM\nas a container\n");
    vm.write_at(2000, "as a VM again\n");
    following.until_said("as a VM\nas a container\nas a VM again\n");
    assert_eq!(site.answer(&["demo"]), "as a VM\nas a container\nas a VM again\n");
    assert_eq!(site.answer(&["-n", "2", "demo"]), "as a container\nas a VM again\n");
    // Removed, and a container from the beginning.
    fs::remove_dir_all(site.0.join("log/demo")).unwrap();
    Container::new(&site, "demo/demo").write_at(3000, "stderr", "anew\n");
    following.until_said("as a VM\nas a container\nas a VM again\nanew\n");
}

#[test]
fn lines_by_time_out_of_many() {
    let site = Site::new();
    let mut web = Container::new(&site, "demo/web");
    let line = |i: u64| format!("line {i}{}\n", ".".repeat(i as usize % 300));
    // One line a second, in several files that are larger than what is looked at in one go.
    let count = 6000;
    for i in 0..count {
        if i % 1500 == 1499 {
            web.0.rotate(i as u32 / 1500 + 1, b"");
        }
        web.write_at(i * 1000, if i % 3 == 0 { "stderr" } else { "stdout" }, line(i));
    }
    let at = |i: u64| {
        let time = UNIX_EPOCH + Duration::from_secs(ZERO + i);
        humantime::format_rfc3339(time).to_string()
    };
    for (since, until) in [(0, 0), (0, 10), (1499, 1501), (777, 4321), (5990, 9999), (1498, 1498)] {
        let want: Vec<String> = (since..=until.min(count - 1)).map(line).collect();
        let (since, until) = (at(since), at(until));
        assert_eq!(site.answer(&["--since", &since, "--until", &until, "demo"]), want.concat(), "{since} {until}");
        let last = want[want.len().saturating_sub(3)..].concat();
        assert_eq!(site.answer(&["--since", &since, "--until", &until, "-n3", "demo"]), last, "{since} {until}");
    }
    for n in [1, 2, 1000, 5999, 6000, 6001] {
        let want: String = (count.saturating_sub(n)..count).map(line).collect();
        assert_eq!(site.answer(&["-n", &n.to_string(), "demo"]), want, "{n}");
    }
}

#[test]
fn follow_loses_and_doubles_nothing_when_conmon_rotates() {
    for args in [&["-f", "-n", "all", "demo"][..], &["-f", "--json", "-n", "all", "demo"]] {
        let site = Site::new();
        let mut web = Container::new(&site, "demo/web");
        web.write_at(0, "stdout", "n 0\n");
        let mut following = Following::start(&site, args);
        following.until(|said| !said.is_empty());
        let count: u32 = 40_000;
        let writer = std::thread::spawn(move || {
            let mut rotations = 0;
            for i in 1..=count {
                let line = format!("n {i}\n");
                let (first, second) = line.split_at(if i % 5 == 0 { 1 } else { 0 });
                web.write_at(i.into(), "stdout", first);
                if i % 7 == 0 {
                    web.write_at(i.into(), "stderr", "between\n");
                }
                if i % 1000 == 0 {
                    rotations += 1;
                    web.0.rename("console.log", rotations);
                    // The supervisor's file, which conmon replaces by one of its own.
                    let log = web.0.dir.join("console.log");
                    drop(Console::append(&log));
                    web.write_at(i.into(), "stderr", "late\n");
                    let new = web.0.dir.join("console.log.tmp");
                    web.0.log = Console::append(&new);
                    fs::rename(&new, &log).unwrap();
                }
                web.write_at(i.into(), "stdout", second);
            }
        });
        let said = following.until(|said| {
            let end = format!("n {count}");
            let tail = &said[said.len().saturating_sub(200)..];
            said.ends_with(b"\n") && String::from_utf8_lossy(tail).contains(&end)
        });
        writer.join().unwrap();
        let (mut next, mut between, mut late) = (0, 0, 0);
        for line in said.lines() {
            let line = match line.starts_with('{') {
                true => serde_json::from_str::<serde_json::Value>(line).unwrap()["line"].as_str().unwrap().to_string(),
                false => line.to_string(),
            };
            match line.as_str() {
                "between" => between += 1,
                "late" => late += 1,
                _ => {
                    assert_eq!(line, format!("n {next}"));
                    next += 1;
                }
            }
        }
        assert_eq!((next, between, late), (count + 1, count / 7, count / 1000));
        let (rest, err) = following.end(Signal::SIGTERM);
        assert_eq!((rest.as_str(), err.as_str()), ("", ""));
    }
}

#[test]
fn follow_shows_a_prompt_of_a_container() {
    let site = Site::new();
    let mut web = Container::new(&site, "demo/web");
    let mut following = Following::start(&site, &["-f", "demo"]);
    web.write_at(0, "stdout", "login: ");
    following.until_said("login: ");
    web.write_at(1, "stdout", "root\n");
    following.until_said("login: root\n");
    web.write_at(2, "stdout", "more ");
    following.until_said("login: root\nmore ");
    web.write_at(3, "stderr", "error\n");
    following.until_said("login: root\nmore \nerror\n");
    web.write_at(4, "stdout", "and more\n");
    following.until_said("login: root\nmore \nerror\nand more\n");
}

#[test]
fn a_line_without_end_of_a_container_takes_no_memory() {
    let site = Site::new();
    let mut web = Container::new(&site, "demo/web");
    let length = 8 << 20;
    web.write_at(0, "stdout", vec![b'x'; length]);
    let output = super::bounded(&site, &["demo"]);
    assert_eq!(output.len(), length);
    web.write_at(1, "stdout", "\n");
    web.write_at(2, "stderr", "end\n");
    let output = super::bounded(&site, &["-t", "demo"]);
    assert_eq!(output.len(), 25 + length + 1 + 25 + 4);
    let parts = super::bounded(&site, &["--json", "demo"]);
    let mut total = 0;
    for line in String::from_utf8(parts).unwrap().lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        total += value["line"].as_str().unwrap().len();
    }
    assert_eq!(total, length + 3);
    // Junk without end.
    web.0.log.set_len(0).unwrap();
    web.0.write(vec![b'y'; length]);
    assert_eq!(super::bounded(&site, &["demo"]).len(), length);
    assert_eq!(super::bounded(&site, &["-n1", "demo"]).len(), length);
}
