//! What fuzz/fuzz_targets/qmp_line.rs does, with a few thousand fixed messages: a monitor that says anything is a
//! monitor or an error, at once.
#![allow(clippy::unwrap_used)]

use crate::guest::monitor::qmp::Qmp;
use crate::sys::Deadline;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const TALK: &[u8] = b"{\"QMP\":{\"version\":{\"qemu\":{\"micro\":2,\"minor\":2,\"major\":7}}}}\n{\"event\":\"STOP\"}\n{\"return\":{},\"id\":1}\n{\"error\":{\"desc\":\"x\"},\"id\":2}\n";

#[test]
fn a_monitor_may_say_anything() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for round in 0..2000 {
        let mut bytes = TALK.to_vec();
        for _ in 0..round % 8 {
            let at = roll(bytes.len());
            match roll(3) {
                0 => bytes[at] = u8::try_from(roll(256)).unwrap(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, b"{}[]\",:\n\\0e"[roll(11)]),
            }
        }
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&bytes).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        if let Ok(mut qmp) = Qmp::greet(ours, Deadline::after(Duration::from_secs(5))) {
            let _ = qmp.pump();
            while qmp.take_event().is_some() {}
        }
    }
}
