//! `mcp-logs` on console files written as QEMU and a supervisor write them: bytes straight to the log, records of
//! (offset, time) to the index, rotation by rename.

mod console;
mod container;
mod follow;
mod podman;

use console::{Console, Site, finish, wait};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

#[test]
fn what_is_not_there() {
    let site = Site::new();
    let output = site.run(&["nope", "also/nope"]);
    assert_eq!((output.code(), output.out.as_slice()), (Some(100), &b""[..]));
    let lines: Vec<&str> = output.err.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("mcp-logs: nope: no such component: "), "{lines:?}");
    assert!(lines[1].starts_with("mcp-logs: also/nope: no such component: "), "{lines:?}");

    // Known, but nothing was logged yet.
    fs::create_dir_all(site.0.join("lib/registry/demo")).unwrap();
    fs::write(site.0.join("lib/registry/demo/api.json"), "{}").unwrap();
    for args in
        [&["demo"][..], &["demo/api"], &["-t", "-n", "5", "demo"], &["--json", "demo"], &["--supervisor", "demo"]]
    {
        assert_eq!(site.answer(args), "");
    }
    site.console("demo/web", "a");
    assert_eq!(site.answer(&["demo"]), "");
}

#[test]
fn usage() {
    let site = Site::new();
    site.console("demo/demo", "a");
    for args in [
        &[][..],
        &["Not-A-Name"],
        &["-n", "x", "demo"],
        &["-n", "-1", "demo"],
        &["--since", "yesterday", "demo"],
        &["--until", "2026-11-23T10:00:00+25:00", "demo"],
        &["--since", "1m", "--until", "2m", "demo"],
        &["--follow", "--until", "1m", "demo"],
        &["--raw", "--sanitize", "demo"],
        &["--raw", "--json", "demo"],
    ] {
        let output = site.run(args);
        assert_eq!((output.code(), output.out.len(), output.err.lines().count()), (Some(2), 0, 1), "{args:?}");
        assert!(output.err.starts_with("mcp-logs: "), "{}", output.err);
    }
    let help = site.answer(&["--help"]);
    assert!(help.starts_with("Show and follow the consoles and containers' logs\n"));
}

#[test]
fn all_files_as_one_stream_byte_for_byte() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let mut all = Vec::new();
    let parts: [&[u8]; 5] = [b"one\n\n\ntwo\nth", b"", b"ree\n\0\x1b[31m\xff\xfe\r\n", b"\n", b"no end"];
    for (i, part) in parts.into_iter().enumerate() {
        console.write_at(i as u64, part);
        all.extend(part);
        if i < 4 {
            console.rotate(i as u32 + 1, b"late ");
            all.extend(b"late ");
        }
    }
    let output = site.run(&["demo"]);
    assert_eq!((output.code(), output.out), (Some(0), all.clone()));
    // To a file, too.
    let path = site.0.join("copy");
    let mut child = site.command(&["demo/demo"]).stdout(File::create(&path).unwrap()).spawn().unwrap();
    assert!(wait(&mut child, &[]).success());
    assert_eq!(fs::read(path).unwrap(), all);
}

#[test]
fn last_lines() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let line = |i: u32| format!("line {i}{}\n", ".".repeat(i as usize % 200));
    let all: Vec<String> = (0..3000).map(line).collect();
    for (i, line) in all.iter().enumerate() {
        // Some lines are torn by a rotation.
        let (first, second) = line.split_at(if i % 700 == 699 { 4 } else { line.len() });
        console.write(first);
        if !second.is_empty() {
            console.rotate(i as u32 / 700 + 1, b"");
            console.write(second);
        }
    }
    for n in [0, 1, 2, 10, 200, 201, 1500, 2999, 3000, 3001, 9999] {
        let want = all[all.len().saturating_sub(n)..].concat();
        assert_eq!(site.answer(&["-n", &n.to_string(), "demo"]), want, "{n}");
        let stamped = site.answer(&["-t", "-n", &n.to_string(), "demo"]);
        let bare: String = stamped.split_inclusive('\n').map(|l| &l[25..]).collect();
        assert_eq!(bare, want, "-t {n}");
    }
    assert_eq!(site.answer(&["-n", "all", "demo"]), all.concat());
    console.write("no end");
    assert_eq!(site.answer(&["--lines", "2", "demo"]), format!("{}no end", all[2999]));
    console.write("\n\n\n");
    assert_eq!(site.answer(&["-n3", "demo"]), "no end\n\n\n");
}

#[test]
fn since_and_until() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    console.write_at(1000, "one\n");
    console.write_at(2000, "two\nthree begins, ");
    console.write_at(3000, "goes on, ");
    console.rotate(1, b"");
    console.write_at(4000, "ends\nfour\n");
    console.rotate(2, b"");
    console.write_at(5000, "five\n");
    let three = "three begins, goes on, ends\n";
    for (since, until, want) in [
        ("10:00:00", "10:00:09", format!("one\ntwo\n{three}four\nfive\n")),
        ("10:00:01", "10:00:01", "one\n".to_string()),
        ("10:00:01.001", "10:00:03", format!("two\n{three}")),
        ("10:00:02", "10:00:02", format!("two\n{three}")),
        ("10:00:02.001", "10:00:04", "four\n".to_string()),
        ("10:00:03", "10:00:03.999", String::new()),
        ("10:00:04.5", "10:00:05", "five\n".to_string()),
        ("10:00:05.001", "10:00:06", String::new()),
        ("09:00:00", "09:59:59", String::new()),
    ] {
        let time = |t: &str| format!("2026-11-23T{t}Z");
        let args = ["--since", &time(since), "--until", &time(until), "demo"];
        assert_eq!(site.answer(&args), want, "{since} to {until}");
        let lines = want.split_inclusive('\n').count();
        let args = ["--since", &time(since), "--until", &time(until), "-n", "1", "demo"];
        assert_eq!(site.answer(&args), want.split_inclusive('\n').skip(lines.max(1) - 1).collect::<String>());
    }
    let output = site.answer(&["--until", "2026-11-23T11:00:01+01:00", "demo"]);
    assert_eq!(output, "one\n");
    assert_eq!(site.answer(&["--until", "2026-11-23T05:30:01-04:30", "demo"]), "one\n");
    assert_eq!(site.answer(&["--until", "2026-11-23", "demo"]), "");
    // What has no record has the file's time, which is now.
    site.console("new/new", "a").write("just now\n");
    assert_eq!(site.answer(&["--since", "1m", "new"]), "just now\n");
    assert_eq!(site.answer(&["--until", "1m", "new"]), "");
}

#[test]
fn timestamps_and_json() {
    let site = Site::new();
    let mut console = site.console("demo/api", "a");
    console.write_at(0, "first\n\nsec");
    console.write_at(1, "ond\r\n\"quoted\" \\ \t\x1b[0m\u{9b}ü\n");
    console.write(b"\xff");
    console.note(3_599_999);
    let first = "2026-11-23T10:00:00.000Z";
    assert_eq!(
        String::from_utf8_lossy(&site.run(&["-t", "demo"]).out),
        format!(
            "{first} first\n{first} \n{first} second\r\n2026-11-23T10:00:00.001Z \"quoted\" \\ \t\x1b[0m\u{9b}ü\n\
             2026-11-23T10:59:59.999Z \u{fffd}\n"
        )
    );
    let json = site.answer(&["--json", "demo"]);
    let lines: Vec<serde_json::Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let texts: Vec<&str> = lines.iter().map(|l| l["line"].as_str().unwrap()).collect();
    assert_eq!(texts, ["first", "", "second", "\"quoted\" \\ \t\x1b[0m\u{9b}ü", "\u{fffd}"]);
    assert_eq!(json.lines().next().unwrap(), format!(r#"{{"time":"{first}","component":"demo/api","line":"first"}}"#));
    assert!(!json.contains(['\x1b', '\u{9b}']));
}

#[test]
fn several_components_by_time() {
    let site = Site::new();
    let mut api = site.console("demo/api", "a");
    let mut database = site.console("demo/database", "a");
    let mut other = site.console("other/other", "a");
    for i in 0..4 {
        api.write_at(i * 1000, format!("a{i}\n"));
        database.write_at(i * 1000 + 500, format!("d{i}\n"));
        if i == 2 {
            database.rotate(1, b"");
        }
    }
    other.write_at(1200, "elsewhere\nand more\n");
    api.write_at(10_000, "no end");
    assert_eq!(
        site.answer(&["demo"]),
        "demo/api      | a0\ndemo/database | d0\ndemo/api      | a1\ndemo/database | d1\n\
         demo/api      | a2\ndemo/database | d2\ndemo/api      | a3\ndemo/database | d3\ndemo/api      | no end\n"
    );
    assert_eq!(
        site.answer(&["-n", "2", "demo/api", "other", "demo/api"]),
        "other/other | elsewhere\nother/other | and more\ndemo/api    | a3\ndemo/api    | no end\n"
    );
    assert_eq!(
        site.answer(&["-t", "-n1", "demo/database", "other"]),
        "other/other   | 2026-11-23T10:00:01.200Z and more\ndemo/database | 2026-11-23T10:00:03.500Z d3\n"
    );
}

#[test]
fn two_instances_are_one_component() {
    let site = Site::new();
    let mut a = site.console("demo/demo", "a");
    let mut b = site.console("demo/demo", "b");
    a.write_at(0, "a0\na1\n");
    b.write_at(1000, "b0\n");
    a.write_at(2000, "a2\n");
    b.write_at(3000, "b1\nb2\n");
    assert_eq!(site.answer(&["demo"]), "a0\na1\nb0\na2\nb1\nb2\n");
    assert_eq!(site.answer(&["-n", "4", "demo"]), "b0\na2\nb1\nb2\n");
    assert_eq!(site.answer(&["-n", "0", "demo"]), "");
    assert_eq!(
        site.answer(&["--since", "2026-11-23T10:00:01Z", "-n", "3", "--until", "2026-11-23T10:00:02Z", "demo"]),
        "b0\na2\n"
    );
}

#[test]
fn a_rotation_killed_half_way() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    console.write_at(0, "one\n");
    console.rotate(1, b"");
    console.write_at(1000, "two\n");
    // Renamed the log, and no more.
    console.rename("console.log", 2);
    let want = "2026-11-23T10:00:00.000Z one\n2026-11-23T10:00:01.000Z two\n";
    assert_eq!(site.answer(&["-t", "demo"]), want);
    // Began the new log, the index not yet renamed.
    let new = Console::append(&console.dir.join("console.log"));
    assert_eq!(site.answer(&["-t", "demo"]), want);
    drop(new);
    console.rename("console.idx", 2);
    assert_eq!(site.answer(&["-t", "demo"]), want);
}

#[test]
fn control_bytes() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let nasty = b"\x1b]0;own\x07\x1b[2J\tok \xc2\x9b31m \xff \xc3\xbc \xe2\x80\xae\r\r\nnext\rover\r\nend\r";
    console.write(nasty);
    let clean = "\\x1b]0;own\\x07\\x1b[2J\tok \\xc2\\x9b31m \\xff ü \\xe2\\x80\\xae\nnext\\x0dover\nend\n";
    assert_eq!(site.run(&["demo"]).out, nasty);
    assert_eq!(site.answer(&["--sanitize", "demo"]), clean);
    assert_eq!(on_terminal(&site, &["demo"], &[]), clean.replace('\n', "\r\n"));
    let raw = on_terminal(&site, &["--no-sanitize", "demo"], &[]);
    assert!(raw.starts_with("\x1b]0;own\x07"), "{raw:?}");

    site.console("demo/other", "a").write("x\n");
    let coloured = on_terminal(&site, &["-n1", "demo"], &[("TERM", "xterm")]);
    assert!(coloured.contains("\x1b[33mdemo/other |\x1b[0m x\r\n"), "{coloured:?}");
    for quiet in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!on_terminal(&site, &["demo"], &[quiet]).contains('\x1b'));
    }
    assert!(!site.answer(&["--sanitize", "demo"]).contains('\x1b'));
}

/// What a terminal would get.
fn on_terminal(site: &Site, args: &[&str], variables: &[(&str, &str)]) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = site.command(args);
    command.env_remove("TERM").envs(variables.iter().copied()).stdout(Stdio::from(pty.slave));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut said = Vec::new();
    // Ends with EIO when the last one on the other side is gone.
    let _ = File::from(pty.master).read_to_end(&mut said);
    assert!(wait(&mut child, args).success());
    String::from_utf8_lossy(&said).into_owned()
}

/// What is said with little memory.
fn bounded(site: &Site, args: &[&str]) -> Vec<u8> {
    let mut command = site.command(args);
    // SAFETY: only a system call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            use nix::sys::resource::{Resource, setrlimit};
            setrlimit(Resource::RLIMIT_DATA, 16 << 20, 16 << 20).map_err(Into::into)
        });
    }
    let output = finish(command.spawn().unwrap(), args);
    assert_eq!((output.code(), output.err.as_str()), (Some(0), ""), "{args:?}");
    output.out
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    let length = 48 << 20;
    console.write("x");
    console.log.set_len(length).unwrap();
    let bounded = |args: &[&str]| bounded(&site, args);
    assert_eq!(bounded(&["demo"]).len() as u64, length);
    assert_eq!(bounded(&["-n", "1", "demo"]).len() as u64, length);
    let stamped = bounded(&["-t", "demo"]);
    assert_eq!((stamped.len() as u64, stamped.last()), (length + 26, Some(&b'\n')));
    console.log.set_len(3 << 20).unwrap();
    assert_eq!(bounded(&["--sanitize", "demo"]).len(), ((3 << 20) - 1) * 4 + 2);
    let json = bounded(&["--json", "demo"]);
    let mut total = 0;
    for line in String::from_utf8(json).unwrap().lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        total += value["line"].as_str().unwrap().len();
    }
    assert_eq!(total, 3 << 20);

    // Beside another component it is cut into parts that say so, and loses nothing.
    site.console("demo/other", "a").write("short\n");
    let text = String::from_utf8(bounded(&["demo"])).unwrap();
    let mut whole = 0;
    let mut parts = 0;
    for line in text.lines() {
        let Some(part) = line.strip_prefix("demo/demo  | ") else {
            assert_eq!(line, "demo/other | short");
            continue;
        };
        parts += 1;
        whole += part.strip_suffix(" [line goes on]").unwrap_or(part).len();
    }
    assert!((10..=48).contains(&parts), "{parts}");
    assert_eq!(whole, 3 << 20);
}

#[test]
fn a_closed_standard_output_is_no_error() {
    let site = Site::new();
    let mut console = site.console("demo/demo", "a");
    for i in 0..100_000 {
        console.write(format!("line {i}\n"));
    }
    for args in
        [&["demo"][..], &["-t", "demo"], &["--json", "demo"], &["-f", "demo"], &["-f", "-n", "all", "-t", "demo"]]
    {
        let mut child = site.command(args).spawn().unwrap();
        let mut first = [0; 4];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        // With --follow nothing is written any more, and it ends all the same.
        let status = wait(&mut child, args);
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((status.code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}
