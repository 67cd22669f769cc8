//! The agent killed in the middle of an action, as Pacemaker's executor does it when its time is up, and called again.

use super::*;
use crate::harness::{free_port, nanos, until, wait_for};
use std::time::{Duration, SystemTime};

/// SIGKILL or SIGTERM to the process group of `agent` after `pause`, or its end before that.
fn kill_after(mut agent: Child, pause: Duration, signal: i32) {
    let _ = wait_for(pause, || agent.try_wait().unwrap());
    kill(-(agent.id() as i32), signal);
    agent.wait().unwrap();
}

/// Numbers that look random, each below `limit`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn killed_at_any_moment_and_called_again() {
    let Some(image) = nanos("ocf::killed_at_any_moment", &[]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let web = Resource::new(&node, ID);
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let start = web.call("start").expect(SUCCESS).took;
    let stop = web.call("stop").expect(SUCCESS).took;
    for round in 0..12 {
        let signal = if dice.below(2) == 0 { libc::SIGKILL } else { libc::SIGTERM };
        // Half of the moments in the first part, where a process becomes another every millisecond.
        let span = |whole: Duration| if round % 2 == 0 { whole } else { whole / 4 };
        let mut within = |whole: Duration| Duration::from_micros(dice.below(span(whole).as_micros() as u64));
        let (pause, pause_of_stop) = (within(start), within(stop));
        let told = format!("round {round}: signal {signal} after {pause:?}, {pause_of_stop:?}");
        kill_after(web.begin("start"), pause, signal);
        match round % 3 {
            // What Pacemaker does next.
            0 => {
                assert_eq!(web.call("stop").code, Some(SUCCESS), "{told}");
                assert_eq!(web.probe().code, Some(NOT_RUNNING), "{told}");
                assert_eq!(qemus(&node), 0, "{told}");
            }
            1 => {
                let code = web.monitor().code;
                assert!([Some(SUCCESS), Some(FAILED), Some(NOT_RUNNING)].contains(&code), "{told}: {code:?}");
            }
            _ => {}
        }
        assert_eq!(web.call("start").code, Some(SUCCESS), "{told}");
        assert_eq!((qemus(&node), web.deep().code), (1, Some(SUCCESS)), "{told}");
        kill_after(web.begin("stop"), pause_of_stop, signal);
        if round % 2 == 1 {
            // It may still be on its way down; what comes next must not be taken down with it.
            assert_eq!(web.call("start").code, Some(SUCCESS), "{told}");
            assert_eq!((qemus(&node), web.deep().code), (1, Some(SUCCESS)), "{told}");
        }
        assert_eq!(web.call("stop").code, Some(SUCCESS), "{told}");
        assert_eq!(web.monitor().code, Some(NOT_RUNNING), "{told}");
        assert_eq!(node.processes(), Vec::<String>::new(), "{told}");
    }
}

#[test]
fn an_action_that_takes_too_long_says_so_in_time() {
    let Some(image) = nanos("ocf::an_action_that_takes_too_long", &["--no-listen"]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "start_timeout = \"60s\"");
    let web = Resource::new(&node, ID);
    let late = web.within("2000").call("start").expect(FAILED);
    assert!(late.took < Duration::from_millis(2000), "{late:#?}");
    assert!(reason(&late).contains("not ready within 2 s"), "{late:#?}");
    // It goes on in the background: no monitor may say that nothing is there, and no start may add another.
    until("QEMU runs", || node.qemu(ID) > 0);
    web.probe().expect(SUCCESS);
    let again = web.within("2000").call("start").expect(FAILED);
    assert!(reason(&again).contains("not ready within 2 s"), "{again:#?}");
    assert_eq!(qemus(&node), 1);
    web.call("stop").expect(SUCCESS);
    assert_eq!(node.processes(), Vec::<String>::new());
    web.probe().expect(NOT_RUNNING);
}

#[test]
fn a_stop_that_takes_too_long_is_no_stop() {
    let Some(image) = nanos("ocf::a_stop_that_takes_too_long", &["--ignore-term"]) else { return };
    let node = Node::new();
    define(&node, &image, free_port(), "");
    let path = node.root.join("etc/services/demo.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"5s\"", "\"4s\"");
    std::fs::write(path, &text).unwrap();
    let web = Resource::new(&node, ID);
    web.call("start").expect(SUCCESS);
    let late = web.within("2000").call("stop").expect(FAILED);
    assert!(late.took < Duration::from_millis(2000), "{late:#?}");
    assert!(reason(&late).contains("demo/web"), "{late:#?}");
    web.monitor().expect(FAILED);
    web.call("stop").expect(SUCCESS);
    assert_eq!(node.processes(), Vec::<String>::new());
    // Where the cluster gives it less time than the definition does, it is stopped firmly rather than too late.
    std::fs::write(node.root.join("etc/services/demo.toml"), text.replace("\"4s\"", "\"60s\"")).unwrap();
    web.call("start").expect(SUCCESS);
    let firm = web.within("8000").call("stop").expect(SUCCESS);
    assert!(firm.took < Duration::from_secs(7), "{firm:#?}");
    assert_eq!(node.processes(), Vec::<String>::new());
}
