//! glibc's rules.

use super::make::{GLIBC, Make, library, program};
use super::*;
use crate::image::closure::cache::tests::cache;

fn base() -> Memory {
    let mut files = Memory::default();
    files.file(GLIBC, &Make { soname: Some("ld-linux-x86-64.so.2"), ..library(&[]) }.bytes());
    files
}

fn libraries(files: &Memory, request: &Request) -> Vec<String> {
    let all = closed(files, request).libraries;
    assert_eq!(all[0], GLIBC);
    all[1..].to_vec()
}

#[test]
fn breadth_first_each_once_by_name_and_by_file() {
    let mut files = base();
    files.file("/p", &program(&["liba.so", "libb.so"]).bytes());
    files.file("/lib/liba.so", &library(&["libc.so.6", "libd.so", "ld-linux-x86-64.so.2"]).bytes());
    files.file(
        "/lib/libb.so",
        &Make { soname: Some("libe.so"), ..library(&["libd.so", "libsame.so", "liba.so"]) }.bytes(),
    );
    files.file("/lib/libc.so.6", &library(&["libe.so"]).bytes());
    files.file("/lib/libd.so", &library(&["libb.so"]).bytes());
    files.link("/lib/libsame.so", "liba.so");
    let all = ["/lib/liba.so", "/lib/libb.so", "/lib/libc.so.6", "/lib/libd.so"];
    assert_eq!(libraries(&files, &request(&["/p"])), all);
}

#[test]
fn the_order_is_rpath_environment_runpath_cache_system() {
    let places = ["/rp/l.so", "/env/l.so", "/run/l.so", "/cached/l.so", "/lib/l.so", "/usr/lib/l.so"];
    for runpath in [false, true] {
        let mut files = base();
        for place in places {
            files.file(place, &library(&[]).bytes());
        }
        files.file("/etc/ld.so.cache", &cache(&[("l.so", "/cached/l.so", 0)], false));
        let make = Make { rpath: Some("/none:/rp"), ..program(&["l.so"]) };
        files.file("/p", &Make { runpath: runpath.then_some("/run"), ..make }.bytes());
        let mut wanted = request(&["/p"]);
        wanted.run.env = vec!["LD_LIBRARY_PATH=/none;/env".into()];
        let mut order = places.to_vec();
        // Each is skipped where the other is there.
        order.remove(if runpath { 0 } else { 2 });
        for place in order {
            assert_eq!(libraries(&files, &wanted), [place], "runpath {runpath}");
            files.remove(place);
        }
        let text = refused(&files, &wanted);
        assert!(text.starts_with("l.so: this library is not in the image, and /p needs it; looked in "), "{text}");
        assert!(text.contains("/env, ") && text.contains("/etc/ld.so.cache, /lib/x86_64-linux-gnu, "), "{text}");
    }
}

#[test]
fn rpath_is_inherited_and_runpath_is_not() {
    let mut files = base();
    files.file("/p", &Make { rpath: Some("/rp"), ..program(&["a.so"]) }.bytes());
    files.file("/rp/a.so", &library(&["b.so"]).bytes());
    files.file("/rp/b.so", &library(&[]).bytes());
    assert_eq!(libraries(&files, &request(&["/p"])), ["/rp/a.so", "/rp/b.so"]);
    // One that has a RUNPATH asks nobody above.
    files.file("/rp/a.so", &Make { runpath: Some("/none"), ..library(&["b.so"]) }.bytes());
    assert!(refused(&files, &request(&["/p"])).contains("and /rp/a.so needs it"));
    files.file("/p", &Make { runpath: Some("/rp"), ..program(&["a.so"]) }.bytes());
    files.file("/rp/a.so", &library(&["b.so"]).bytes());
    assert!(
        refused(&files, &request(&["/p"])).contains("b.so: this library is not in the image, and /rp/a.so needs it")
    );
}

#[test]
fn origin_lib_and_platform_are_filled_in() {
    let cases = [
        ("$ORIGIN/../lib", "/app/lib/x.so"),
        ("${ORIGIN}", "/app/bin/x.so"),
        ("/o/$LIB", "/o/lib/x86_64-linux-gnu/x.so"),
        ("/o/${LIB}", "/o/lib64/x.so"),
        ("/o/$PLATFORM", "/o/x86_64/x.so"),
        ("$ORIGINAL", "/$ORIGINAL/x.so"),
        ("", "/x.so"),
    ];
    for (runpath, place) in cases {
        let mut files = base();
        files.file("/app/bin/p", &Make { runpath: Some(runpath), ..program(&["x.so"]) }.bytes());
        files.link("/p", "/app/bin/p");
        files.file(place, &library(&[]).bytes());
        let found = libraries(&files, &request(&["/p"]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].replace("/bin/../", "/"), place, "{runpath}");
    }
    let mut files = base();
    files.file("/app/p", &program(&["$ORIGIN/sub/y.so", "./z.so"]).bytes());
    files.file("/app/sub/y.so", &library(&[]).bytes());
    files.file("/w/z.so", &library(&[]).bytes());
    let mut wanted = request(&["/app/p"]);
    wanted.run.workdir = "/w".into();
    assert_eq!(libraries(&files, &wanted), ["/app/sub/y.so", "/w/./z.so"]);
    files.remove("/w/z.so");
    assert_eq!(refused(&files, &wanted), "./z.so: this library is not in the image, and /app/p needs it");
}

#[test]
fn those_for_better_processors_come_along() {
    let mut files = base();
    files.file("/p", &program(&["a.so", "b.so"]).bytes());
    files.file("/lib/a.so", &library(&[]).bytes());
    files.file("/lib/glibc-hwcaps/x86-64-v3/a.so", &library(&["only3.so"]).bytes());
    files.file("/lib/only3.so", &library(&[]).bytes());
    files.file("/opt/b.so", &library(&[]).bytes());
    files.file("/opt/glibc-hwcaps/x86-64-v2/b.so", &library(&[]).bytes());
    let entries = [("b.so", "/opt/glibc-hwcaps/x86-64-v2/b.so", 1 << 62), ("b.so", "/opt/b.so", 0)];
    files.file("/etc/ld.so.cache", &cache(&entries, true));
    let all = [
        "/lib/a.so",
        "/lib/glibc-hwcaps/x86-64-v3/a.so",
        "/opt/b.so",
        "/opt/glibc-hwcaps/x86-64-v2/b.so",
        "/lib/only3.so",
    ];
    assert_eq!(libraries(&files, &request(&["/p"])), all);
}

#[test]
fn one_for_another_machine_is_passed_over_and_a_broken_one_is_not() {
    let mut files = base();
    files.file("/p", &program(&["a.so"]).bytes());
    let mut arm = library(&[]).bytes();
    arm[18] = 183;
    let mut narrow = library(&[]).bytes();
    narrow[4] = 1;
    files.file("/lib/x86_64-linux-gnu/a.so", &arm);
    files.file("/lib64/a.so", &narrow);
    let text = refused(&files, &request(&["/p"]));
    assert!(text.contains("passed over: /lib/x86_64-linux-gnu/a.so is a program for AArch64"), "{text}");
    files.file("/usr/lib/a.so", &library(&[]).bytes());
    assert_eq!(libraries(&files, &request(&["/p"])), ["/usr/lib/a.so"]);
    files.file("/lib/a.so", b"/* GNU ld script */");
    assert!(
        refused(&files, &request(&["/p"])).starts_with("/lib/a.so: a library is needed there, and it is not an ELF")
    );
}

#[test]
fn a_library_that_only_ldconfig_would_find_is_told() {
    let mut files = base();
    files.file("/p", &program(&["a.so"]).bytes());
    files.file("/opt/x/lib/a.so", &library(&[]).bytes());
    files.file("/etc/ld.so.conf", b"# all\ninclude ld.so.conf.d/*.conf\ninclude /etc/ld.so.conf\n");
    files.file("/etc/ld.so.conf.d/x.conf", b"/opt/x/lib # here\n");
    let text = refused(&files, &request(&["/p"]));
    assert!(text.contains("/opt/x/lib has it, but the image's ld.so.cache doesn't know: run ldconfig"), "{text}");
}

#[test]
fn preloads_and_filters_may_be_missing() {
    let mut files = base();
    files.file("/p", &Make { filter: Some("aux.so"), ..program(&[]) }.bytes());
    files.file("/lib/pre.so", &library(&[]).bytes());
    files.file("/etc/ld.so.preload", b"/lib/pre.so\ngone.so\n");
    let closure = closed(&files, &request(&["/p"]));
    assert_eq!(closure.libraries, [GLIBC, "/lib/pre.so"]);
    assert!(
        closure.warnings.iter().any(|w| w.starts_with("gone.so: not in the image; /p asks for it, and goes without"))
    );
    assert!(closure.warnings.iter().any(|w| w.starts_with("aux.so: not in the image")));
    assert!(paths(&closure).contains(&"/etc/ld.so.preload".to_string()));
}

#[test]
fn nodeflib_leaves_the_system_directories_out() {
    let mut files = base();
    files.file("/p", &Make { flags_1: 0x800, runpath: Some("/own"), ..program(&["a.so"]) }.bytes());
    files.file("/lib/a.so", &library(&[]).bytes());
    files.file("/etc/ld.so.cache", &cache(&[("a.so", "/lib/a.so", 0)], false));
    assert!(refused(&files, &request(&["/p"])).starts_with("a.so: this library is not in the image"));
    files.file("/own/a.so", &library(&[]).bytes());
    assert_eq!(libraries(&files, &request(&["/p"])), ["/own/a.so"]);
}
