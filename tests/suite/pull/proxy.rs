//! A proxy in front of a registry that breaks off: what real servers do, when nobody can wait for it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// See the module. Gone when it is dropped.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    to: u16,
    /// Connections that are still to be broken off, after so many bytes of what the server says.
    breaks: AtomicUsize,
    after: u64,
    /// Bytes that were let through to the client.
    passed: AtomicU64,
    over: AtomicBool,
}

impl Proxy {
    /// In front of the server at port `to`: of the first connections `breaks` end after `after` bytes of answers.
    pub fn start(to: u16, breaks: usize, after: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            to,
            breaks: AtomicUsize::new(breaks),
            after,
            passed: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.serve(client));
            }
        });
        Proxy { port, state }
    }

    /// Bytes that came through so far.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }

    /// No connection is broken off any more.
    pub fn heal(&self) {
        self.state.breaks.store(0, Ordering::Relaxed);
    }
}

impl State {
    fn serve(&self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.to)) else { return };
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let upward = std::thread::spawn(move || {
            let _ = std::io::copy(&mut &from, &mut &to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let mut left = u64::MAX;
        let mut buffer = vec![0; 16 << 10];
        // It counts once it has let that much through: documents are small.
        let mut seen = 0;
        while let Ok(n) = (&server).read(&mut buffer)
            && n > 0
        {
            seen += n as u64;
            if left == u64::MAX && seen > self.after {
                let take = |n: usize| n.checked_sub(1);
                let broken = self.breaks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
                left = if broken { 0 } else { u64::MAX - 1 };
            }
            if left == 0 || (&client).write_all(&buffer[..n]).is_err() {
                break;
            }
            self.passed.fetch_add(n as u64, Ordering::Relaxed);
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        let _ = upward.join();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
