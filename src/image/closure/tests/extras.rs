//! What no ELF names, and layers that are not there yet.

use super::make::{GLIBC, Make, fixed, library, program};
use super::*;

fn static_over_nothing() -> Memory {
    let mut files = Memory::default();
    files.file("/app/server", &fixed());
    files.partial = true;
    files
}

#[test]
fn a_static_program_settles_with_its_layer_alone() {
    let mut files = static_over_nothing();
    let mut wanted = request(&["/app/server", "--config=/etc/server.toml", "--dir=/srv"]);
    wanted.run.workdir = "/srv/data".into();
    wanted.run.env = vec!["TZ=Europe/Berlin".into(), "LANG=de_DE.UTF-8".into(), "LD_LIBRARY_PATH=/x".into()];
    let closure = closed(&files, &wanted);
    assert_eq!(paths(&closure), ["/app/", "/app/server", "/srv/", "/srv/data/", "/tmp/"]);
    assert_eq!(closure.warnings, Vec::<String>::new());
    // What is in that layer comes along.
    files.file("/etc/server.toml", b"");
    files.file("/etc/ssl/certs/ca-certificates.crt", b"roots");
    let taken = paths(&closed(&files, &wanted));
    for there in ["/etc/server.toml", "/etc/ssl/certs/ca-certificates.crt"] {
        assert!(taken.iter().any(|t| t == there), "{taken:?}");
    }
}

#[test]
fn what_must_be_known_asks_for_the_layer_below() {
    let files = static_over_nothing();
    let below = |wanted: &Request| matches!(settle(&files, wanted), Err(Stop::Below));
    // An earlier directory of PATH may have it.
    let mut by_name = request(&["server"]);
    by_name.run.env = vec!["PATH=/bin:/app".into()];
    assert!(below(&by_name));
    by_name.run.env = vec!["PATH=/app:/bin".into()];
    assert_eq!(closed(&files, &by_name).program, "/app/server");
    let mut include = request(&["/app/server"]);
    include.include = vec!["/etc/ssl/certs".into()];
    assert!(below(&include));
    let mut files = static_over_nothing();
    files.file("/app/dynamic", &program(&[]).bytes());
    assert!(matches!(settle(&files, &request(&["/app/dynamic"])), Err(Stop::Below)));
}

#[test]
fn a_program_that_speaks_of_ca_roots_is_warned_when_they_may_be_below() {
    let mut files = Memory::default();
    let make = Make { executable: true, trailer: b"..../etc/ssl/certs/ca-certificates.crt..", ..Make::default() };
    files.file("/app/server", &make.bytes());
    files.partial = true;
    let warnings = closed(&files, &request(&["/app/server"])).warnings;
    assert!(warnings[0].contains("include = [\"/etc/ssl/certs\"]"), "{warnings:?}");
    files.partial = false;
    assert_eq!(closed(&files, &request(&["/app/server"])).warnings, Vec::<String>::new());
}

#[test]
fn a_program_of_glibc_gets_what_it_expects() {
    let mut files = Memory::default();
    files.file(GLIBC, &library(&[]).bytes());
    files.file("/p", &program(&["libc.so.6", "libssl.so.3"]).bytes());
    for name in ["libc.so.6", "libssl.so.3", "libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1", "libcap.so.2"] {
        files.file(&format!("/lib/{name}"), &library(&[]).bytes());
    }
    files.file("/lib/libnss_systemd.so.2", &library(&["libcap.so.2"]).bytes());
    files.file("/lib/libnss_other.so.2", &library(&[]).bytes());
    files.file(
        "/etc/nsswitch.conf",
        b"passwd: files systemd\n# group: other\nhosts:\tfiles [!UNAVAIL=return] dns gone\n",
    );
    for path in ["/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs/a.pem", "/usr/share/zoneinfo/Etc/UTC"]
    {
        files.file(path, b"x");
    }
    files.file("/usr/share/zoneinfo/Asia/Tokyo", b"x");
    files.file("/usr/share/zoneinfo/Asia/Seoul", b"x");
    files.link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
    files.link("/etc/ssl/certs/1234.0", "a.pem");
    files.file("/usr/lib/locale/C.utf8/LC_CTYPE", b"x");
    let mut wanted = request(&["/p"]);
    wanted.run.env = vec!["TZ=:Asia/Tokyo".into(), "LANG=C.UTF-8".into()];
    let closure = closed(&files, &wanted);
    let taken = paths(&closure);
    let there = [
        "/etc/passwd",
        "/etc/hosts",
        "/etc/nsswitch.conf",
        "/etc/localtime -> ../usr/share/zoneinfo/Etc/UTC",
        "/usr/share/zoneinfo/Asia/Tokyo",
        "/lib/libnss_systemd.so.2",
        "/lib/libcap.so.2",
        "/lib/libnss_dns.so.2",
        "/lib/libgcc_s.so.1",
        "/etc/ssl/certs/a.pem",
        "/etc/ssl/certs/1234.0 -> a.pem",
        "/usr/lib/locale/C.utf8/LC_CTYPE",
    ];
    for there in there {
        assert!(taken.iter().any(|t| t == there), "{there}: {taken:?}");
    }
    for not in ["/etc/resolv.conf", "/lib/libnss_other.so.2", "/usr/share/zoneinfo/Asia/Seoul"] {
        assert!(!taken.iter().any(|t| t == not), "{not}");
    }
    assert!(closure.warnings.is_empty(), "{:?}", closure.warnings);
    // A module is not worth a refusal.
    files.remove("/lib/libcap.so.2");
    let warnings = closed(&files, &wanted).warnings;
    assert_eq!(warnings, ["libcap.so.2: not in the image; /lib/libnss_systemd.so.2 asks for it, and goes without"]);
}

#[test]
fn the_working_directory_is_made_through_links_and_never_over_a_file() {
    let mut files = Memory::default();
    files.file("/p", &fixed());
    files.link("/var/run", "../run");
    files.dir("/run");
    files.file("/etc/a", b"");
    let mut wanted = request(&["/p", "/var/run/../etc/a"]);
    for (workdir, want) in [("/var/run/app/x", "/run/app/x/"), ("/etc/a/b", "/p"), ("none/../../b", "/p"), ("/", "/p")]
    {
        wanted.run.workdir = workdir.into();
        let taken = paths(&closed(&files, &wanted));
        assert!(taken.iter().any(|t| t == want), "{workdir}: {taken:?}");
        assert!(!taken.iter().any(|t| t.starts_with("/var/run/") || t.starts_with("/etc/a/")), "{taken:?}");
    }
}

#[test]
fn a_directory_that_an_argument_names_is_told() {
    let mut files = Memory::default();
    files.file("/p", &fixed());
    files.file("/srv/www/index.html", b"hi");
    let mut wanted = request(&["/p", "--root=/srv/www", "./www/index.html", "/none", "-x"]);
    wanted.run.workdir = "/srv".into();
    let closure = closed(&files, &wanted);
    assert!(closure.warnings[0].starts_with("/srv/www: an argument names this directory"), "{:?}", closure.warnings);
    assert!(paths(&closure).contains(&"/srv/www/index.html".to_string()));
    wanted.include = vec!["/srv/www".into()];
    assert!(closed(&files, &wanted).warnings.is_empty());
}

/// All directories and links, as words.
fn skeleton(files: &Memory) -> Vec<String> {
    let closure = closed(files, &request(&["/app/server"]));
    let words = closure.entries.iter().filter_map(|taken| match &taken.what {
        What::Directory => Some(taken.path.clone()),
        What::Symlink(to) => Some(format!("{} -> {to}", taken.path)),
        What::File(..) => None,
    });
    words.collect()
}

const USUAL: [&str; 8] = ["/run", "/tmp", "/var", "/var/cache", "/var/lib", "/var/log", "/var/run", "/var/tmp"];

#[test]
fn directories_without_a_needed_file_come_along() {
    let mut files = static_over_nothing();
    assert_eq!(skeleton(&files), [&["/app"][..], &USUAL].concat());
    for dir in ["/etc/name", "/var/lib/name/db", "/dev/shm", "/proc", "/sys/fs", "/opt/my-sysroot/usr", "/device"] {
        files.dir(dir);
    }
    files.file("/etc/other/not-needed", b"");
    let taken = skeleton(&files);
    for there in ["/etc/name", "/var/lib/name/db", "/etc/other", "/device"] {
        assert!(taken.iter().any(|t| t == there), "{there}: {taken:?}");
    }
    for kernel in ["/dev", "/proc", "/sys"] {
        assert!(!taken.iter().any(|t| t == kernel || t.starts_with(&format!("{kernel}/"))), "{kernel}: {taken:?}");
    }
}

#[test]
fn links_in_place_of_usual_directories_stay() {
    let mut files = static_over_nothing();
    files.dir("/run");
    files.link("/var/run", "/run");
    files.link("/var/tmp", "../tmp");
    files.dir("/data/tmp");
    files.link("/tmp", "/data/tmp");
    let taken = skeleton(&files);
    for there in ["/run", "/var/run -> ../run", "/var/tmp -> ../data/tmp", "/data/tmp", "/tmp"] {
        assert!(taken.iter().any(|t| t == there), "{there}: {taken:?}");
    }
}

#[test]
fn more_directories_than_any_image_has_are_no_error() {
    let mut files = static_over_nothing();
    for number in 0..11_000 {
        files.dir(&format!("/many/{number}"));
    }
    let closure = closed(&files, &request(&["/app/server"]));
    assert!(closure.entries.len() < 10_100, "{}", closure.entries.len());
    assert!(closure.warnings.iter().any(|w| w.contains("many directories")), "{:?}", closure.warnings);
}
