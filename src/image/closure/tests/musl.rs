//! musl's rules.

use super::make::{Make, library, program};
use super::*;

const MUSL: &str = "/lib/ld-musl-x86_64.so.1";

fn base() -> Memory {
    let mut files = Memory::default();
    files.file(MUSL, &library(&[]).bytes());
    files
}

fn alpine(needed: &[&str]) -> Make {
    Make { interpreter: Some(MUSL), ..program(needed) }
}

#[test]
fn the_c_library_is_the_loader() {
    let mut files = base();
    files.file("/p", &alpine(&["libc.musl-x86_64.so.1", "libpthread.so.0", "libz.so.1"]).bytes());
    files.file("/usr/lib/libz.so.1", &library(&["libc.musl-x86_64.so.1"]).bytes());
    let closure = closed(&files, &request(&["/p"]));
    assert_eq!(closure.libraries, [MUSL, "/usr/lib/libz.so.1"]);
    assert!(!paths(&closure).iter().any(|p| p.contains("nss")));
    let told = closure.warnings.iter().find(|warning| warning.contains("musl")).unwrap();
    assert!(told.contains("/p: is linked with musl (Alpine)") && told.contains("microvm"), "{told}");
}

#[test]
fn paths_are_inherited_and_the_environment_comes_first() {
    let mut files = base();
    files.file("/p", &Make { runpath: Some("/run"), rpath: Some("/never"), ..alpine(&["a.so"]) }.bytes());
    files.file("/run/a.so", &library(&["b.so"]).bytes());
    files.file("/run/b.so", &library(&[]).bytes());
    files.file("/env/b.so", &library(&[]).bytes());
    files.file("/never/a.so", &library(&[]).bytes());
    let mut wanted = request(&["/p"]);
    assert_eq!(closed(&files, &wanted).libraries, [MUSL, "/run/a.so", "/run/b.so"]);
    wanted.run.env = vec!["LD_LIBRARY_PATH=/env".into()];
    assert_eq!(closed(&files, &wanted).libraries, [MUSL, "/run/a.so", "/env/b.so"]);
}

#[test]
fn its_path_file_replaces_the_system_directories() {
    let mut files = base();
    files.file("/p", &alpine(&["a.so"]).bytes());
    files.file("/usr/local/lib/a.so", &library(&[]).bytes());
    assert_eq!(closed(&files, &request(&["/p"])).libraries, [MUSL, "/usr/local/lib/a.so"]);
    files.file("/etc/ld-musl-x86_64.path", b"/x\n/y\n");
    assert!(refused(&files, &request(&["/p"])).contains("looked in /x, /y"));
    files.file("/y/a.so", &library(&[]).bytes());
    let closure = closed(&files, &request(&["/p"]));
    assert_eq!(closure.libraries, [MUSL, "/y/a.so"]);
    assert!(paths(&closure).contains(&"/etc/ld-musl-x86_64.path".to_string()));
    // The cache is glibc's alone.
    files.file("/etc/ld.so.cache", b"whatever");
    assert!(!paths(&closed(&files, &request(&["/p"]))).iter().any(|p| p.contains("ld.so.cache")));
}

#[test]
fn a_stop_signal_that_nanos_can_not_send_is_told() {
    let files = {
        let mut files = base();
        files.file("/p", &alpine(&[]).bytes());
        files
    };
    let mut wanted = request(&["/p"]);
    for (signal, told) in [("SIGQUIT", true), ("SIGTERM", false), ("15", false), ("", false)] {
        wanted.run.stop_signal = signal.into();
        let is_told = closed(&files, &wanted).warnings.iter().any(|warning| warning.contains("wants SIGQUIT to stop"));
        assert_eq!(is_told, told, "{signal}");
    }
}
