//! A monitor that says anything is a monitor or an error.
#![no_main]

use mcp::guest::monitor::qmp::Qmp;
use mcp::sys::Deadline;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return };
    // No more than a socket holds unread: nobody reads until all is written.
    if theirs.write_all(bytes.get(..65536).unwrap_or(bytes)).is_err()
        || theirs.shutdown(std::net::Shutdown::Write).is_err()
    {
        return;
    }
    if let Ok(mut qmp) = Qmp::greet(ours, Deadline::after(Duration::from_secs(5))) {
        let _ = qmp.pump();
        while qmp.take_event().is_some() {}
    }
});
