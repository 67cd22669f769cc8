//! The closure of real programs: Debian's, out of an unpacked image, against what Debian's own loader says of them, and
//! what is laid down of it against the same loader, with nothing else of the image in sight.
//!
//! The loader is run on the test's own unpacked packages, in a root of their own. What is tested executes nothing.

use crate::harness::{self, Node, finish, skip};
use mcp::image::closure::{Closure, FileRef, Files, Found, Request, Stop, What, settle};
use mcp::image::oci::RunConfig;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An image that lies in a folder.
pub struct Folder {
    root: PathBuf,
    files: RefCell<Vec<PathBuf>>,
    /// Bytes that one of its files has in place of its own: its real path, where, what.
    lie: RefCell<Option<(PathBuf, u64, Vec<u8>)>>,
    /// Questions asked of it.
    pub asked: Cell<u64>,
}

impl Folder {
    pub fn new(root: &Path) -> Folder {
        Folder { root: root.into(), files: RefCell::default(), lie: RefCell::default(), asked: Cell::new(0) }
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.root.join(std::str::from_utf8(path).unwrap().trim_start_matches('/'))
    }
}

impl Files for Folder {
    fn look(&self, path: &[u8], follow: bool) -> Result<Found, Stop> {
        assert!(!follow);
        self.asked.set(self.asked.get() + 1);
        let at = self.at(path);
        let Ok(meta) = at.symlink_metadata() else { return Ok(Found::Nothing) };
        if meta.is_symlink() {
            return Ok(Found::Symlink(fs::read_link(at).unwrap().into_os_string().into_encoded_bytes()));
        }
        if meta.is_dir() {
            return Ok(Found::Directory);
        }
        if !meta.is_file() {
            return Ok(Found::Other);
        }
        let mut files = self.files.borrow_mut();
        let known = files.iter().position(|f| *f == at);
        let id = known.unwrap_or_else(|| {
            files.push(at);
            files.len() - 1
        });
        Ok(Found::File(FileRef { id: id as u64, size: meta.size(), mode: meta.mode() & 0o7777 }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
        let entries = fs::read_dir(self.at(path)).unwrap();
        let mut names: Vec<Vec<u8>> = entries.map(|e| e.unwrap().file_name().into_encoded_bytes()).collect();
        names.sort();
        Ok(names)
    }

    fn directories(&self, most: usize) -> Vec<Vec<u8>> {
        let mut command = Command::new("find");
        command.arg(&self.root).args(["-mindepth", "1", "-type", "d", "-printf", "/%P\\n"]);
        let found = finish(quiet(command), "find").expect(0).out;
        found.lines().take(most).map(|path| path.as_bytes().to_vec()).collect()
    }

    fn read_at(&self, id: u64, offset: u64, into: &mut [u8]) -> Result<usize, Stop> {
        self.asked.set(self.asked.get() + 1);
        let path = &self.files.borrow()[id as usize];
        let length = fs::File::open(path).unwrap().read_at(into, offset).unwrap();
        if let Some((liar, at, bytes)) = &*self.lie.borrow()
            && liar == path
        {
            for (n, byte) in bytes.iter().enumerate() {
                if let Some(place) = (at + n as u64).checked_sub(offset).filter(|p| *p < length as u64) {
                    into[place as usize] = *byte;
                }
            }
        }
        Ok(length)
    }
}

/// What runs with these words.
fn request(words: &[&str]) -> Request {
    let run = RunConfig { entrypoint: words.iter().map(|w| w.to_string()).collect(), ..RunConfig::default() };
    Request { run, args: None, include: Vec::new() }
}

fn of(files: &Folder, request: &Request) -> Result<Closure, String> {
    settle(files, request).map_err(|stop| match stop {
        Stop::Below => "a folder has nothing below".to_string(),
        Stop::Failed(e) => e.to_string(),
    })
}

/// The unpacked layers of a test part over the small Debian.
fn unpacked(test: &str, node: &Node, parts: &[&str]) -> Option<PathBuf> {
    let from = harness::test_parts(test)?;
    // SAFETY: a plain system call.
    if unsafe { libc::geteuid() } != 0 {
        skip(test, "the judge runs in a root of its own, which wants root");
        return None;
    }
    let root = node.root.join("image");
    fs::create_dir_all(&root).unwrap();
    for part in ["base"].iter().chain(parts) {
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(from.join(format!("{part}.tar"))).arg("-C").arg(&root);
        finish(quiet(tar), "tar").expect(0);
    }
    Some(root)
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the loader of the image itself says that `program` needs: `None` for one that is static.
fn judged(root: &Path, program: &str) -> Option<BTreeSet<String>> {
    let mut command = Command::new("chroot");
    command.arg(root).args(["/lib64/ld-linux-x86-64.so.2", "--list", program]);
    let answer = finish(quiet(command), program);
    if answer.code != Some(0) && answer.err.contains("not a dynamic executable") || answer.out.contains("statically") {
        return None;
    }
    assert_eq!(answer.code, Some(0), "{answer:#?}");
    let path = |line: &str| {
        let path = line.split("=>").last()?.split_whitespace().next()?;
        path.starts_with('/').then(|| path.to_string())
    };
    Some(answer.out.lines().filter_map(path).collect())
}

/// Lays the closure down, as it will be in `rootfs/`.
fn lay_down(closure: &Closure, files: &Folder, root: &Path) {
    fs::create_dir_all(root).unwrap();
    for taken in &closure.entries {
        let at = root.join(&taken.path[1..]);
        match &taken.what {
            What::Directory => fs::create_dir(&at).unwrap(),
            What::Symlink(target) => std::os::unix::fs::symlink(target, &at).unwrap(),
            What::File(id, mode) => {
                fs::copy(&files.files.borrow()[*id as usize], &at).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

/// Each link of the tree leads to something in it, and none is in its root.
fn whole(root: &Path) {
    let real_root = root.canonicalize().unwrap();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap();
            if kind.is_symlink() {
                assert_ne!(dir, root, "{}", path.display());
                let real = path.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                assert!(real.starts_with(&real_root), "{} -> {}", path.display(), real.display());
            } else if kind.is_dir() {
                todo.push(path);
            }
        }
    }
}

#[test]
fn all_programs_of_a_small_debian_get_what_their_loader_says() {
    let node = Node::new();
    let test = "all_programs_of_a_small_debian_get_what_their_loader_says";
    let Some(root) = unpacked(test, &node, &["redis", "nginx"]) else { return };
    let files = Folder::new(&root);
    let (mut same, mut refused) = (0, 0);
    for dir in ["usr/bin", "usr/sbin"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let program = format!("/{dir}/{}", entry.unwrap().file_name().to_str().unwrap());
            let head = match program_head(&root, &program) {
                Some(head) => head,
                None => continue,
            };
            let answer = of(&files, &request(&[&program]));
            if !head.starts_with(b"\x7fELF") {
                let text = answer.unwrap_err();
                assert!(text.contains("script"), "{program}: {text}");
                refused += 1;
                continue;
            }
            let closure = match answer {
                Err(text) => {
                    let why = ["starts other programs", "starts another program", "dynamic loader"];
                    assert!(why.iter().any(|w| text.contains(w)), "{text}");
                    refused += 1;
                    continue;
                }
                Ok(closure) => closure,
            };
            let judged = judged(&root, &program).unwrap_or_default();
            assert_eq!(closure.interpreter.is_none(), judged.is_empty(), "{program}: static?");
            let mut ours: BTreeSet<String> = closure.libraries.iter().cloned().collect();
            // What is taken beyond: modules that the C library loads while it runs, and theirs.
            let beyond: Vec<String> = ours.difference(&judged).cloned().collect();
            for path in beyond {
                let known = ["libnss_", "libgcc_s", "libpthread", "libresolv", "libm.so"];
                assert!(known.iter().any(|k| path.contains(k)), "{program}: {path} is not needed");
                ours.remove(&path);
            }
            assert_eq!(ours, judged, "{program}");
            same += 1;
        }
    }
    assert!(same > 120 && refused > 10, "{same} the same, {refused} refused");
}

/// The first bytes of what can be run; `None` for a directory or a link out of the image.
fn program_head(root: &Path, program: &str) -> Option<Vec<u8>> {
    let mut at = root.join(&program[1..]);
    for _ in 0..8 {
        let meta = at.symlink_metadata().ok()?;
        if !meta.is_symlink() {
            return (meta.is_file() && meta.mode() & 0o111 != 0).then(|| fs::read(at).unwrap()[..4].to_vec());
        }
        let target = fs::read_link(&at).unwrap();
        at = match target.strip_prefix("/") {
            Ok(below) => root.join(below),
            Err(_) => at.parent().unwrap().join(target),
        };
    }
    None
}

#[test]
fn what_is_laid_down_is_enough_for_the_loader() {
    let node = Node::new();
    let Some(root) = unpacked("what_is_laid_down_is_enough_for_the_loader", &node, &["redis"]) else { return };
    let files = Folder::new(&root);
    let mut wanted = request(&["redis-server", "/etc/redis/redis.conf"]);
    wanted.run.env = vec!["TZ=Europe/Berlin".into(), "LANG=C.UTF-8".into()];
    wanted.run.workdir = "/var/lib/redis/data".into();
    let closure = of(&files, &wanted).unwrap();
    assert_eq!(closure.program, "/usr/bin/redis-check-rdb");
    assert_eq!(closure.argv[0], "redis-server");
    assert_eq!(closure.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
    let warnings = closure.warnings.join("\n");
    assert!(warnings.contains("calls fork"), "{warnings}");
    let rootfs = node.root.join("rootfs");
    lay_down(&closure, &files, &rootfs);
    whole(&rootfs);
    assert_eq!(judged(&rootfs, &closure.program), judged(&root, &closure.program));
    for there in
        ["etc/redis/redis.conf", "etc/nsswitch.conf", "etc/passwd", "var/lib/redis/data", "tmp", "etc/localtime"]
    {
        assert!(rootfs.join(there).exists(), "{there}");
    }
    let mut version = Command::new("chroot");
    version.arg(&rootfs).args(["/usr/bin/redis-server", "--version"]);
    let answer = finish(quiet(version), "redis-server").expect(0);
    assert!(answer.out.contains("Redis server v="), "{answer:#?}");
    let mut user = Command::new("chroot");
    user.arg(&rootfs).args(["/usr/bin/redis-cli"]);
    assert_ne!(finish(quiet(user), "redis-cli").code, Some(0), "nobody asked for redis-cli");
}

/// The places in an ELF file where a lie may matter: header, program headers, dynamic section.
fn places(file: &Path) -> Vec<u64> {
    let bytes = fs::read(file).unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut places: Vec<u64> = (0..64).collect();
    for n in 0..usize::from(bytes[56]) {
        let header = word(32) as usize + n * 56;
        places.extend((header as u64..header as u64 + 56).step_by(4));
        if bytes[header] == 2 {
            places.extend((word(header + 8)..word(header + 8) + word(header + 32)).step_by(8));
        }
    }
    places
}

#[test]
fn a_real_program_whose_fields_lie_is_taken_or_refused() {
    let node = Node::new();
    let Some(root) = unpacked("a_real_program_whose_fields_lie_is_taken_or_refused", &node, &["redis"]) else { return };
    let files = Folder::new(&root);
    let wanted = request(&["/usr/bin/redis-server"]);
    of(&files, &wanted).unwrap();
    let honest = files.asked.get();
    assert!(honest < 5_000, "{honest} questions");
    let lib = root.join("usr/lib/x86_64-linux-gnu");
    let liars = [
        root.join("usr/bin/redis-check-rdb"),
        lib.join("libc.so.6"),
        lib.join("ld-linux-x86-64.so.2"),
        lib.join("libsystemd.so.0").canonicalize().unwrap(),
    ];
    let began = std::time::Instant::now();
    let mut refusals = BTreeSet::new();
    for liar in liars {
        let size = fs::metadata(&liar).unwrap().len();
        // The headers once, and of each what says what it needs.
        for at in places(&liar).into_iter().filter(|at| *at > 1000 || liar.ends_with("redis-check-rdb")) {
            // One lie a place, another one at each.
            let lie = [0, size - 1, size, 1 << 63, u64::MAX][(at / 4 + at) as usize % 5];
            *files.lie.borrow_mut() = Some((liar.clone(), at, lie.to_le_bytes().to_vec()));
            files.asked.set(0);
            if let Err(text) = of(&files, &wanted) {
                assert!(text.len() < 4096 && !text.contains('\n'), "{text}");
                refusals.insert(text);
            }
            assert!(files.asked.get() < honest * 50, "{}: {} questions", liar.display(), files.asked.get());
        }
    }
    assert!(refusals.len() > 10, "{refusals:#?}");
    assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
}
