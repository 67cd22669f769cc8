//! The foundation waits for ever, costs nothing meanwhile, starts again what died, and looks again before it counts as
//! healthy.

use super::{Boot, send, sequence, serves, times, until_up, uuid, vm};
use crate::harness::{Image, Node, free_port, get, nanos, until, until_within};
use std::fs;
use std::time::{Duration, Instant};

const HTTP: &str = "[components.health]\nkind = \"http\"\npath = \"/health\"\ninterval = \"100ms\"\n";

/// `image` with its disk at `name` in the node's folder, where there may be none yet.
fn elsewhere(node: &Node, image: &Image, name: &str) -> Image {
    Image { disk: node.root.join(name).to_str().unwrap().into(), kernel: image.kernel.clone() }
}

/// Puts the disk of `image` at `to`, whole at once, as whoever mends something would.
fn put(image: &Image, to: &Image) {
    let temporary = format!("{}.new", to.disk);
    fs::copy(&image.disk, &temporary).unwrap();
    fs::rename(temporary, &to.disk).unwrap();
}

/// Processor time of `boot` until `so`, in hundredths of the time that it took.
fn load_until(boot: &Boot, what: &str, so: impl FnMut() -> bool) -> f64 {
    let (began, before) = (Instant::now(), boot.cpu());
    until(what, so);
    (boot.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0
}

#[test]
fn boot_waits_for_the_foundation_and_goes_on_when_it_is_mended() {
    let Some(image) = nanos("boot_waits_for_the_foundation", &[]) else { return };
    let node = Node::new();
    let [a, b, c] = [free_port(), free_port(), free_port()];
    let late = elsewhere(&node, &image, "late.img");
    vm(&node, "a", &late, a, "");
    vm(&node, "b", &image, b, HTTP);
    vm(&node, "c", &image, c, "");
    sequence(&node, "", &[("base", &["a", "b"], "60s"), ("apps", &["c"], "60s")]);
    let mut boot = Boot::start(&node, &[]);
    boot.until("late.img: disk image missing: no such file");
    boot.until("b/vm: healthy: ");
    let first = uuid(&node, "b/vm");
    // What died is started again while another is waited for.
    send(node.qemu("b/vm"), libc::SIGKILL);
    boot.until("b/vm: ended: ");
    boot.until("b/vm: starting again");
    until("b is healthy again", || boot.said().matches("b/vm: healthy: ").count() == 2);
    let second = uuid(&node, "b/vm");
    assert!(first != second && serves(b));
    // The pauses grow, and cost nothing: 3 % is a tick of the kernel's clock in a third of a second.
    let tries = times(&node, "a/vm", "retry").len().max(2);
    let load = load_until(&boot, "one more try", || times(&node, "a/vm", "retry").len() > tries);
    assert!(load < 3.0, "{load:.1} % of a processor while it waits");
    let tries = times(&node, "a/vm", "retry");
    assert!(tries[2] - tries[1] > tries[1] - tries[0], "the pauses don't grow: {tries:?}");
    assert!(!node.run_dir("c/vm").exists(), "a later stage has begun");
    // It ends at once, as the signal would have ended it, and leaves what runs.
    let told = Instant::now();
    send(boot.pid(), libc::SIGTERM);
    let answer = boot.end().expect(-libc::SIGTERM);
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}: {answer:#?}", told.elapsed());
    assert!(serves(b) && uuid(&node, "b/vm") == second);
    assert_eq!(super::record(&node)["outcome"], "interrupted");
    // The next one goes on where the node stands.
    let mut boot = Boot::start(&node, &[]);
    boot.until("b/vm: runs already");
    boot.until("a/vm: not started: ");
    put(&image, &late);
    boot.end().expect(0);
    assert!(serves(a) && serves(b) && serves(c) && uuid(&node, "b/vm") == second);
}

#[test]
fn boot_looks_again_before_the_foundation_counts_as_healthy() {
    let test = "boot_looks_again";
    let (Some(image), Some(silent)) = (nanos(test, &[]), nanos(test, &["--no-listen"])) else { return };
    let node = Node::new();
    let [a, b, c] = [free_port(), free_port(), free_port()];
    let changing = elsewhere(&node, &image, "changing.img");
    put(&silent, &changing);
    vm(&node, "a", &changing, a, "start_timeout = \"4s\"");
    vm(&node, "b", &image, b, HTTP);
    vm(&node, "c", &image, c, "");
    sequence(&node, "", &[("base", &["a", "b"], "60s"), ("apps", &["c"], "60s")]);
    let mut boot = Boot::start(&node, &[]);
    boot.until("b/vm: healthy: ");
    let healthy = Instant::now();
    // In words: the port is there since QEMU runs, the guest is not.
    boot.until("a/vm: not healthy: accepted by the port forward but not by the guest: it refuses on port 8080");
    boot.until("a/vm: ended: not healthy after start_timeout (4s): tcp ");
    boot.until("a/vm: starting again");
    assert!(!boot.said().contains("a/vm: not started"), "it was started: {}", boot.said());
    assert!(get(b, "/unhealthy").is_some());
    let load = load_until(&boot, "an answer of 11 s ago", || healthy.elapsed() > Duration::from_secs(11));
    assert!(load < 3.0, "{load:.1} % of a processor while it waits");
    put(&image, &changing);
    // a comes up, and b, which was healthy, is found not to be so any more.
    until_within(Duration::from_secs(40), "a", || boot.said().contains("a/vm: healthy: "));
    boot.until(" 503");
    assert!(!node.run_dir("c/vm").exists(), "the next stage has begun: {}", boot.said());
    assert!(get(b, "/healthy").is_some());
    boot.end().expect(0);
    until_up("c", c);
}
