//! What runs.

use super::make::{GLIBC, Make, fixed, library, program};
use super::*;

#[test]
fn entrypoint_and_cmd_and_what_replaces_cmd() {
    let mut files = Memory::default();
    files.file("/app/server", &fixed());
    let mut wanted = request(&["/app/server", "-v"]);
    wanted.run.cmd = vec!["--port".into(), "1\n2".into()];
    assert_eq!(closed(&files, &wanted).argv, ["/app/server", "-v", "--port", "1\n2"]);
    wanted.args = Some(vec!["--other".into()]);
    assert_eq!(closed(&files, &wanted).argv, ["/app/server", "-v", "--other"]);
    wanted.args = Some(Vec::new());
    assert_eq!(closed(&files, &wanted).argv, ["/app/server", "-v"]);
    let mut nothing = request(&[]);
    assert!(refused(&files, &nothing).contains("names nothing to run"));
    nothing.run.cmd = vec!["/app/server".into()];
    assert_eq!(closed(&files, &nothing).program, "/app/server");
    assert!(refused(&files, &request(&["/app/server", "a\0b"])).contains("NUL"));
    assert!(refused(&files, &request(&[""])).contains("is empty"));
}

#[test]
fn a_name_is_looked_for_in_path() {
    let mut files = Memory::default();
    files.file_mode("/usr/local/bin/server", b"data", 0o644);
    files.file("/usr/bin/server", &fixed());
    files.file("/opt/server", &fixed());
    let mut wanted = request(&["server"]);
    assert_eq!(closed(&files, &wanted).program, "/usr/bin/server");
    wanted.run.env = vec!["PATH=/none:/opt".into()];
    assert_eq!(closed(&files, &wanted).program, "/opt/server");
    wanted.run.env = vec!["PATH=/none:".into()];
    wanted.run.workdir = "/opt".into();
    assert_eq!(closed(&files, &wanted).program, "/opt/server");
    wanted.run.env = vec!["PATH=/none".into()];
    assert!(refused(&files, &wanted).contains("no such program in the image's PATH (/none)"));
    wanted.run.env = vec!["PATH=/usr/local/bin".into()];
    assert!(refused(&files, &wanted).contains("/usr/local/bin/server is not executable"));
}

#[test]
fn a_path_is_taken_from_the_working_directory_and_through_links() {
    let mut files = Memory::default();
    files.file("/srv/v1/bin/real", &fixed());
    files.link("/srv/now", "v1");
    files.link("/srv/v1/bin/server", "real");
    let mut wanted = request(&["./bin/server"]);
    wanted.run.workdir = "/srv/now".into();
    let closure = closed(&files, &wanted);
    assert_eq!((closure.program.as_str(), closure.argv[0].as_str()), ("/srv/v1/bin/real", "./bin/server"));
    let taken = paths(&closure);
    for there in ["/srv/now -> v1", "/srv/v1/bin/server -> real", "/srv/v1/bin/real", "/tmp/"] {
        assert!(taken.iter().any(|t| t == there), "{there}: {taken:?}");
    }
    files.link("/srv/v1/bin/away", "/nowhere");
    assert!(refused(&files, &request(&["/srv/now/bin/away"])).contains("there is no /srv/now/bin/away"));
    assert!(refused(&files, &request(&["/srv/now"])).contains("is a directory"));
    files.device("/srv/null");
    assert!(refused(&files, &request(&["/srv/null"])).contains("no regular file"));
    files.file_mode("/srv/data", &fixed(), 0o644);
    assert!(refused(&files, &request(&["/srv/data"])).contains("no x bit"));
}

#[test]
fn what_starts_other_programs_is_refused_with_the_way_out() {
    let mut files = Memory::default();
    for program in ["/bin/dash", "/usr/bin/tini", "/bin/busybox"] {
        files.file(program, &fixed());
    }
    files.link("/bin/sh", "dash");
    files.link("/start", "/bin/sh");
    files.file("/entry.sh", b"#! /bin/sh -e\nexec \"$@\"\n");
    let cases: [(&[&str], &str); 7] = [
        (&["/bin/sh", "-c", "exec /app/server --x"], "sh -c exec /app/server --x: this is the shell form"),
        (&["sh", "-ec", "x\ny"], "sh -ec"),
        (&["/bin/sh", "/run.sh"], "is a shell"),
        (&["/a\nb/sh"], "/a\u{fffd}b/sh: is a shell"),
        (&["/start"], "is a shell"),
        (&["tini", "--", "/app"], "starts another program"),
        (&["/entry.sh"], "is a script for /bin/sh -e"),
    ];
    for (words, want) in cases {
        let text = refused(&files, &request(words));
        assert!(text.contains(want) || want == "sh -ec" && text.contains("shell form"), "{words:?}: {text}");
        assert!(text.contains("runtime = \"microvm\" would run it"), "{words:?}: {text}");
    }
}

#[test]
fn what_is_no_program_for_this_machine_is_named() {
    let change = |at: usize, value: &[u8]| {
        let mut bytes = fixed();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let no_entry = change(24, &[0; 8]);
    let with = |make: Make| make.bytes();
    let cases: [(Vec<u8>, &str); 18] = [
        (Vec::new(), "an empty file"),
        (b"MZ\x90\0".to_vec(), "not an ELF file"),
        (b"#!".to_vec(), "a script for"),
        (
            change(18, &[183, 0]),
            "a program for AArch64 (arm64); a guest here runs 64-bit x86-64 Linux programs only, a microvm too",
        ),
        (change(18, &[0x99, 0x99]), "unknown machine 39321"),
        (change(4, &[1, 1]), "a 32-bit program for x86-64"),
        (
            [change(4, &[1, 1])[..18].to_vec(), vec![3, 0], fixed()[20..].to_vec()].concat(),
            "a 32-bit program for x86 (i386); Nanos runs 64-bit ones only: runtime",
        ),
        (change(5, &[2]), "a big-endian program"),
        (change(5, &[3]), "of no byte order"),
        (change(7, &[9]), "a program for FreeBSD"),
        (change(16, &[1, 0]), "an object file"),
        (change(16, &[4, 0]), "a core dump"),
        (change(16, &[9, 9]), "unknown type 2313"),
        (fixed()[..40].to_vec(), "ends in its header"),
        (fixed()[..100].to_vec(), "program headers lie beyond"),
        (no_entry, "no entry point"),
        (with(Make { soname: Some("libx.so.1"), ..library(&[]) }), "a shared library or a dynamic loader"),
        (with(Make { interpreter: Some("relative"), ..program(&[]) }), "interpreter is no absolute path"),
    ];
    for (bytes, want) in cases {
        let mut files = Memory::default();
        files.file("/p", &bytes);
        let text = refused(&files, &request(&["/p"]));
        assert!(text.starts_with("/p: is ") && text.contains(want), "{want}: {text}");
    }
    let mut files = Memory::default();
    files.file("/p", &program(&[]).bytes());
    assert!(refused(&files, &request(&["/p"])).contains(&format!("its loader {GLIBC} is not in the image")));
    // Position independent, static: a program.
    files.file("/q", &Make { flags_1: 0x0800_0000, ..library(&[]) }.bytes());
    assert_eq!(closed(&files, &request(&["/q"])).interpreter, None);
}

#[test]
fn calls_that_nanos_lacks_are_told() {
    let mut files = Memory::default();
    files.file(GLIBC, &Make { soname: Some("ld-linux-x86-64.so.2"), ..library(&[]) }.bytes());
    files.file("/p", &Make { undefined: vec!["puts", "fork", "dlopen", "execve"], ..program(&[]) }.bytes());
    let warnings = closed(&files, &request(&["/p"])).warnings;
    assert!(warnings[0].starts_with("/p: calls fork, execve, and Nanos runs one process"), "{warnings:?}");
    assert!(warnings[1].contains("calls dlopen"), "{warnings:?}");
    files.file("/q", &Make { undefined: vec!["forks", "xfork"], ..program(&[]) }.bytes());
    assert_eq!(closed(&files, &request(&["/q"])).warnings, Vec::<String>::new());
}
