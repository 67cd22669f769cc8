//! What of an image gets into a unikernel: programs that are broken or mostly holes, and directories without a file.

use crate::harness::{Node, OciImage, finish, free_port, get, hello, oci_image, ops_config, until};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An image of the example program after `change`, in a tar that keeps holes.
fn changed_hello(node: &Node, change: impl Fn(&File)) -> OciImage {
    let (folder, tar) = (node.root.join("folder"), node.root.join("layer.tar"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("hello");
    fs::write(&program, fs::read(hello()).unwrap()).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = File::options().read(true).write(true).open(&program).unwrap();
    change(&file);
    file.sync_all().unwrap();
    let mut command = Command::new("tar");
    command.args(["--sparse", "--format=pax", "-cf"]).arg(&tar).arg("-C").arg(&folder).arg("hello");
    finish(quiet(command), "tar").expect(0);
    let config = json!({ "Entrypoint": ["/hello"] });
    oci_image(&node.root.join("oci"), "latest", &config, &[tar])
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Bytes that everything in the store takes on the disk.
fn stored(node: &Node) -> u64 {
    let files = crate::harness::find(&node.root.join("lib"), &|_| true);
    files.iter().map(|f| fs::symlink_metadata(f).unwrap().blocks() * 512).sum()
}

#[test]
fn a_program_that_lies_or_is_mostly_holes_is_refused() {
    let node = Node::new();
    // The file size of the first segment to load (PT_LOAD is 1); the headers are 56 bytes each, from byte 64 on.
    let segment_size = |file: &File| {
        let kind = |at: u64| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, at).unwrap();
            u32::from_le_bytes(bytes)
        };
        let header = (0..16).map(|n| 64 + n * 56).find(|at| kind(*at) == 1).unwrap();
        file.write_all_at(&(1_u64 << 63).to_le_bytes(), header + 32).unwrap();
    };
    let entry = |file: &File| file.write_all_at(&8_u64.to_le_bytes(), 24).unwrap();
    let huge = |file: &File| file.set_len(8 << 30).unwrap();
    let sparse = |file: &File| file.set_len(1 << 30).unwrap();
    type Change<'a> = &'a dyn Fn(&File);
    let cases: [(Change, &str); 4] = [
        (&segment_size, "hello: is a broken ELF file: a segment lies beyond its end"),
        (&entry, "hello: is a broken ELF file: its entry point is not in an executable segment"),
        (&huge, "bytes, of which"),
        (&sparse, "bytes, of which"),
    ];
    for (change, reason) in cases {
        let image = changed_hello(&node, change);
        let answer = node.mcp("mcp-pull", &["-q", &image.reference()]).expect(100);
        assert!(answer.one_line().contains(reason), "{answer:#?}");
        assert!(stored(&node) < 40 << 20, "{}", stored(&node));
    }
}

#[test]
fn holes_of_a_program_take_no_space() {
    let test = "holes_of_a_program_take_no_space";
    let Some(config) = ops_config(test) else { return };
    let node = Node::new();
    node.configure(&config);
    let image = changed_hello(&node, |file| file.set_len(200 << 20).unwrap());
    let pulled = node.mcp("mcp-pull", &["-q", &image.reference()]).expect(0);
    let path = pulled.out.trim().rsplit(' ').next().unwrap();
    let built = node.mcp("mcp-build", &[path]).expect(0);
    let disk = PathBuf::from(built.out.trim().rsplit(' ').next().unwrap()).join("disk.raw");
    let about = fs::metadata(&disk).unwrap();
    assert!(about.len() > 200 << 20 && about.blocks() * 512 < 40 << 20, "{about:?}");
    assert!(stored(&node) < 100 << 20, "{}", stored(&node));
}

#[test]
fn a_unikernel_has_the_directories_of_its_image() {
    let test = "a_unikernel_has_the_directories_of_its_image";
    let Some(config) = ops_config(test) else { return };
    let node = Node::new();
    node.configure(&config);
    let base = node.root.join("base");
    for dir in ["run/name", "etc/name", "var/lib/name/db", "proc", "dev"] {
        fs::create_dir_all(base.join(dir)).unwrap();
    }
    fs::write(base.join("etc/name/not-needed"), "x").unwrap();
    fs::write(base.join("hello"), fs::read(hello()).unwrap()).unwrap();
    fs::set_permissions(base.join("hello"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/run", base.join("var/run")).unwrap();
    let config = json!({ "Entrypoint": ["/hello"], "Cmd": ["--port", "8080"] });
    let image = oci_image(&node.root.join("oci"), "latest", &config, &[base]);
    let pulled = node.mcp("mcp-pull", &["-q", &image.reference()]).expect(0);
    let built = node.mcp("mcp-build", &[pulled.out.trim().rsplit(' ').next().unwrap()]).expect(0);
    let dir = PathBuf::from(built.out.trim().rsplit(' ').next().unwrap());
    let boot: Value = serde_json::from_slice(&fs::read(dir.join("boot.json")).unwrap()).unwrap();
    let (disk, kernel) = (dir.join("disk.raw"), dir.join(boot["kernel"].as_str().unwrap()));
    let port = free_port();
    let forward = format!("{port}:8080");
    let (disk, kernel) = (disk.to_str().unwrap(), kernel.to_str().unwrap());
    let start = ["--name", "demo", "--disk", disk, "--kernel", kernel, "--port", &forward, "--detach"];
    node.mcp("mcp-run-vm", &start).expect(0);
    until("it serves", || get(port, "/health").is_some());
    for place in ["/run", "/run/name", "/tmp", "/var/log", "/var/lib/name/db", "/var/tmp", "/var/cache", "/etc/name"] {
        let answer = get(port, &format!("/write?path={place}/pid&text=1"));
        assert_eq!(answer.as_deref(), Some("written\n"), "{place}");
        assert_eq!(get(port, &format!("/cd?path={place}")).as_deref(), Some("changed\n"), "{place}");
    }
    // The image's own link, not a directory beside it.
    assert_eq!(get(port, "/read?path=/var/run/pid").as_deref(), Some("1"));
    assert_ne!(get(port, "/read?path=/etc/name/not-needed").as_deref(), Some("x"));
}
