//! Pulls that are broken off: by the server, by a kill, by a full disk, by what the disk lost.

use super::proxy::Proxy;
use super::*;
use crate::harness::{finish, program, until};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_broken_download_goes_on_where_it_was() {
    let node = Node::new();
    let Some(registry) = Registry::start("a_broken_download_goes_on_where_it_was", &node) else { return };
    let image = image(&node, "oci");
    registry.fill(&image.reference(), "hello:1");
    // Three breaks, each after 200 kB.
    let proxy = Proxy::start(registry.port, 3, 200_000);
    let before = registry.requests().len();
    let reference = format!("127.0.0.1:{}/hello:1", proxy.port);
    node.mcp("mcp-pull", &["--for", "microvm", &reference]).expect(0);
    let requests = registry.requests().split_off(before);
    let partial = requests.iter().filter(|r| r.contains(" 206 ")).count();
    assert!((1..=3).contains(&partial), "{requests:#?}");
    // What had come was not sent again.
    assert!(proxy.passed() < total(&image) + 200_000, "{} for {}", proxy.passed(), total(&image));
    is_settled(&node);
}

#[test]
fn the_next_pull_goes_on_where_one_gave_up() {
    let node = Node::new();
    let Some(registry) = Registry::start("the_next_pull_goes_on_where_one_gave_up", &node) else { return };
    let image = image(&node, "oci");
    registry.fill(&image.reference(), "hello:1");
    let proxy = Proxy::start(registry.port, usize::MAX, 300_000);
    let reference = format!("127.0.0.1:{}/hello:1", proxy.port);
    // It comes on by a piece each time, which takes longer than it has.
    let gave_up = node.mcp("mcp-pull", &["--for", "microvm", "--timeout", "700ms", &reference]).expect(111);
    assert!(gave_up.one_line().contains(&reference), "{gave_up:#?}");
    is_whole(&node);
    let part = find(&store(&node).join("tmp"), &|n| n.starts_with("blob-"));
    let kept: u64 = part.iter().map(|p| fs::metadata(p).unwrap().len()).sum();
    assert!(kept > 100_000, "{kept} bytes were kept");
    proxy.heal();
    let before = proxy.passed();
    node.mcp("mcp-pull", &["--for", "microvm", &reference]).expect(0);
    let there: u64 = total(&image) - kept;
    assert!(proxy.passed() - before < there + 100_000, "{} came, {kept} were there", proxy.passed() - before);
    is_settled(&node);
    // What was left is not believed: damaged, it is fetched as a whole.
    let victim = image.layers.iter().max_by_key(|l| l.size).unwrap();
    let hex = victim.digest.trim_start_matches("sha256:");
    fs::remove_dir_all(store(&node)).unwrap();
    fs::create_dir_all(store(&node).join("tmp")).unwrap();
    fs::write(store(&node).join("tmp").join(format!("blob-{hex}")), vec![0x1f; 5000]).unwrap();
    let healed = node.mcp("mcp-pull", &["--for", "microvm", &reference]).expect(0);
    assert!(healed.err.contains("what was left of it is damaged"), "{healed:#?}");
    is_settled(&node);
}

#[test]
fn killed_at_any_moment_the_store_is_whole() {
    let node = Node::new();
    let image = image(&node, "oci");
    let reference = image.reference();
    let args = |runtime| ["-q", "--for", runtime, &reference].map(String::from);
    let began = Instant::now();
    for runtime in ["microvm", "unikernel"] {
        node.mcp("mcp-pull", &args(runtime).each_ref().map(String::as_str)).expect(0);
    }
    let whole = began.elapsed();
    fs::remove_dir_all(store(&node)).unwrap();
    let mut done = 0;
    for round in 0..24_u32 {
        let runtime = if round % 2 == 0 { "microvm" } else { "unikernel" };
        let mut child = node.command("mcp-pull", &args(runtime).each_ref().map(String::as_str)).spawn().unwrap();
        // All over the time that it takes, in an order that mixes early and late.
        std::thread::sleep(whole * (round * 7 % 24) / 30);
        let _ = child.kill();
        let status = child.wait().unwrap();
        until("its workers are gone", || node.processes().is_empty());
        is_whole_but_users(&node);
        if status.success() {
            done += 1;
            fs::remove_dir_all(store(&node)).unwrap();
        }
    }
    for runtime in ["microvm", "unikernel"] {
        node.mcp("mcp-pull", &args(runtime).each_ref().map(String::as_str)).expect(0);
    }
    is_settled(&node);
    assert!(done < 20, "{done} of 24 were done before they were killed");
}

/// The user of one that was killed is free, as nobody holds its lock; the next who takes it removes the file.
fn is_whole_but_users(node: &Node) {
    let _ = fs::remove_dir_all(node.root.join("run/.uids"));
    is_whole(node);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_of_it() {
    let test = "a_full_disk_is_told_and_nothing_is_left_of_it";
    let node = Node::new();
    if !crate::disk_trouble::may_mount(test) {
        return;
    }
    let image = image(&node, "oci");
    let bin = program("mcp-pull");
    let mut refused = 0;
    // From nothing to enough, by steps that are no multiples of anything.
    for size in (0..).map(|n| 8 + n * 793).take_while(|kb| *kb < 7000) {
        for runtime in ["unikernel", "microvm"] {
            let script = format!(
                "mkdir -p $R/lib && mount -t tmpfs -o size={size}k,mode=700 none $R/lib && \
                 {} --for {runtime} {}; code=$?; \
                 (cd $R/lib/store 2>/dev/null && find tmp locks images blobs layers refs -type f) >&2; exit $code",
                bin.display(),
                image.reference()
            );
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", &script]).env("MCP_ROOT", &node.root).env("R", &node.root);
            command.env_remove("MCP_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let answer = finish(command, &script);
            if answer.code == Some(0) {
                continue;
            }
            refused += 1;
            assert_eq!((answer.code, answer.out.as_str()), (Some(111), ""), "{size} kB: {answer:#?}");
            let line = answer.err.lines().next().unwrap();
            assert!(line.contains("No space left") || line.contains("make room"), "{size} kB: {line}");
            // Blobs that came whole may stay, and the next pull is glad of them.
            let left = answer.err.lines().skip(1).filter(|l| !l.starts_with("blobs/") && !l.starts_with("layers/"));
            assert_eq!(left.collect::<Vec<_>>(), [""; 0], "{size} kB {runtime}: {answer:#?}");
        }
    }
    assert!(refused > 6, "the disk was too small {refused} times only");
}

#[test]
fn what_the_disk_lost_is_fetched_again() {
    let node = Node::new();
    let image = image(&node, "oci");
    let reference = image.reference();
    let pull = |runtime: &str| node.mcp("mcp-pull", &["--for", runtime, &reference]).expect(0);
    let first = pull("microvm");
    let blobs = image.layers.iter().map(|l| store(&node).join("blobs").join(l.digest.trim_start_matches("sha256:")));
    let blobs: Vec<PathBuf> = blobs.collect();
    // Cut short: seen at once.
    fs::File::options().write(true).open(&blobs[0]).unwrap().set_len(100).unwrap();
    assert!(pull("microvm").err.contains("(1 of 4 layers)"));
    is_settled(&node);
    // Gone.
    fs::remove_file(&blobs[1]).unwrap();
    fs::remove_file(store(&node).join("layers").join(blobs[2].file_name().unwrap())).unwrap();
    assert!(pull("microvm").err.contains("(1 of 4 layers)"));
    is_settled(&node);
    // Other bytes: seen when it is read.
    let mut bytes = fs::read(&blobs[3]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0);
    fs::write(&blobs[3], bytes).unwrap();
    let healed = pull("unikernel");
    assert!(healed.err.contains("damaged in the store; fetching it again"), "{healed:#?}");
    is_settled(&node);
    // Files of a unikernel, and what tells of them.
    fs::remove_file(path(&healed).join("rootfs/srv/bin/hello")).unwrap();
    assert_eq!(path(&pull("unikernel")), path(&healed));
    is_settled(&node);
    fs::write(path(&first).join("image.json"), "{").unwrap();
    assert_eq!(pull("microvm").out, first.out);
    is_settled(&node);
}

#[test]
fn a_build_finds_damage_and_the_next_pull_mends_it() {
    let node = Node::new();
    if !crate::harness::have("a_build_finds_damage_and_the_next_pull_mends_it", "tar2sqfs") {
        return;
    }
    let image = image(&node, "oci");
    let reference = image.reference();
    let pull = || node.mcp("mcp-pull", &["-q", "--for", "microvm", &reference]).expect(0);
    let dir = path(&pull()).display().to_string();
    let hex = image.layers[0].digest.trim_start_matches("sha256:");
    for folder in ["blobs", "layers"] {
        let file = store(&node).join(folder).join(hex);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8].fill(0xff);
        fs::write(&file, bytes).unwrap();
        // Its ends are as they were: no pull looks further.
        assert_eq!(path(&pull()).display().to_string(), dir);
        let told = node.mcp("mcp-build", &["--for", "microvm", &dir]).expect(111);
        assert!(told.err.contains("damaged on the disk"), "{told:#?}");
        assert!(!file.exists());
        pull();
        is_settled(&node);
    }
    node.mcp("mcp-build", &["--for", "microvm", &dir]).expect(0);
}

#[test]
fn a_server_that_hangs_is_not_waited_for_for_ever() {
    let node = Node::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("127.0.0.1:{}/a:1", silent.local_addr().unwrap().port());
    let answer = node.mcp("mcp-pull", &["--timeout", "1s", &reference]).expect(111);
    assert!(answer.took < Duration::from_secs(10), "{answer:#?}");
    answer.one_line();
}
