//! What `rootfs/` will look like, and `include`.

use super::make::{GLIBC, fixed, library, program};
use super::*;

#[test]
fn a_merged_usr_has_no_link_in_its_root() {
    let mut files = Memory::default();
    files.link("/lib64", "usr/lib64");
    files.link("/lib", "/usr/lib");
    files.link("/bin", "usr/bin");
    files.link("/unused", "usr/bin");
    files.file("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", &library(&[]).bytes());
    files.link("/usr/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    files.file("/usr/lib/x86_64-linux-gnu/liba.so.1.2", &library(&[]).bytes());
    files.link("/usr/lib/x86_64-linux-gnu/liba.so.1", "liba.so.1.2");
    files.file_mode("/usr/bin/p", &program(&["liba.so.1"]).bytes(), 0o6755);
    files.dir("/tmp");
    let closure = closed(&files, &request(&["/bin/p"]));
    assert_eq!((closure.program.as_str(), closure.interpreter.as_deref()), ("/usr/bin/p", Some(GLIBC)));
    let want = [
        "/bin/",
        "/bin/p -> ../usr/bin/p",
        "/lib/",
        "/lib/x86_64-linux-gnu -> ../usr/lib/x86_64-linux-gnu",
        "/lib64/",
        "/lib64/ld-linux-x86-64.so.2 -> ../usr/lib64/ld-linux-x86-64.so.2",
        "/tmp/",
        "/usr/",
        "/usr/bin/",
        "/usr/bin/p",
        "/usr/lib/",
        "/usr/lib/x86_64-linux-gnu/",
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "/usr/lib/x86_64-linux-gnu/liba.so.1 -> liba.so.1.2",
        "/usr/lib/x86_64-linux-gnu/liba.so.1.2",
        "/usr/lib64/",
        "/usr/lib64/ld-linux-x86-64.so.2 -> ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    ];
    assert_eq!(paths(&closure), want);
    let modes: Vec<u32> = closure
        .entries
        .iter()
        .filter_map(|t| match t.what {
            What::File(_, mode) => Some(mode),
            _ => None,
        })
        .collect();
    assert_eq!(modes, [0o755; 3], "no setuid");
}

#[test]
fn links_never_lead_out_and_loops_end() {
    let mut files = Memory::default();
    files.file("/app/p", &fixed());
    files.link("/app/data/out", "../../../../../etc/secret");
    files.file("/etc/secret", b"of the image");
    files.link("/app/data/gone", "/dev/stdout");
    files.link("/app/data/loop", "loop");
    files.link("/app/data/all", "/");
    files.link("/app/data/up", ".");
    files.link("/root-file", "/etc/secret");
    files.link("/world", "/");
    files.device("/app/data/null");
    let mut wanted = request(&["/app/p"]);
    wanted.include = vec!["/app/data".into(), "/root-file".into(), "world/app/p".into()];
    let closure = closed(&files, &wanted);
    let want = [
        "/app/",
        "/app/data/",
        "/app/data/all -> ../..",
        "/app/data/out -> ../../etc/secret",
        "/app/data/up -> .",
        "/app/p",
        "/etc/",
        "/etc/secret",
        "/root-file",
        "/tmp/",
        "/world/",
        "/world/app -> ../app",
        "/world/etc -> ../etc",
        "/world/root-file -> ../root-file",
        "/world/run -> ../run",
        "/world/tmp -> ../tmp",
        "/world/var -> ../var",
    ];
    assert_eq!(paths(&closure), want);
}

#[test]
fn include_takes_what_is_below_and_misses_nothing() {
    let mut files = Memory::default();
    files.file("/p", &fixed());
    files.file("/srv/a/b/c.txt", b"c");
    files.dir("/srv/empty");
    files.file("/opt/linked/d.txt", b"d");
    files.link("/srv/l", "/opt/linked");
    let mut wanted = request(&["/p"]);
    wanted.include = vec!["srv/".into()];
    let taken = paths(&closed(&files, &wanted));
    for there in ["/srv/a/b/c.txt", "/srv/empty/", "/srv/l -> ../opt/linked", "/opt/linked/d.txt"] {
        assert!(taken.iter().any(|t| t == there), "{there}: {taken:?}");
    }
    wanted.include.push("/none".into());
    assert!(
        refused(&files, &wanted).starts_with("/none: the definition's `include` names it, and the image has no such")
    );
}

#[test]
fn too_many_and_unfit_names_are_told() {
    let mut files = Memory::default();
    files.file("/p", &fixed());
    for n in 0..=crate::image::closure::tree::TAKEN_MAX {
        files.dir(&format!("/many/{n}"));
    }
    let mut wanted = request(&["/p"]);
    wanted.include = vec!["/many".into()];
    assert!(refused(&files, &wanted).contains("files; name less of it"));
    let mut files = Memory::default();
    files.file("/p", &fixed());
    files.file("/x/sysroot/y", b"");
    wanted.include = vec!["/x".into()];
    assert!(refused(&files, &wanted).contains("ops takes no path with \"sysroot/\""));
}
