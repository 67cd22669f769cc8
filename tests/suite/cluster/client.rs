//! What is seen from outside of a cluster: clients that ask without a pause, and the heartbeats of guests.

use super::lab::{Cluster, OUTSIDE};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where guests send their heartbeats.
pub const HEARTBEATS: &str = "10.9.0.254:7001";

/// A whole answer of a web server to a request for its health, from outside.
pub fn answers(cluster: &Cluster, address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    cluster.outside(|| ask(address, Duration::from_secs(8)).is_ok())
}

/// How one request went wrong.
enum Trouble {
    /// Nobody took it: another address may.
    NotTaken,
    /// It was taken, and there was no whole answer.
    Lost,
}

fn ask(address: SocketAddr, patience: Duration) -> Result<(), Trouble> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).map_err(|_| Trouble::NotTaken)?;
    stream.set_read_timeout(Some(patience)).map_err(|_| Trouble::Lost)?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").map_err(|_| Trouble::Lost)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).map_err(|_| Trouble::Lost)?;
    if text.starts_with(b"HTTP/1.") && text.windows(4).any(|w| w == b"\r\n\r\n") { Ok(()) } else { Err(Trouble::Lost) }
}

/// What a client met with.
#[derive(Debug, Default)]
pub struct Met {
    pub answered: u32,
    /// Connections that nobody took.
    pub refused: u32,
    /// Requests that were taken and not answered.
    pub lost: u32,
    /// The longest time without an answer.
    pub pause: Duration,
}

/// A client with one connection at a time, which asks the first of its addresses until that takes no connection, and then the
/// next.
pub struct Client {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Met>,
}

impl Client {
    /// One that waits so long for an answer to a request that was taken.
    pub fn new(cluster: &Cluster, addresses: &[String], patience: Duration) -> Client {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let run = move || {
            let (mut met, mut at, mut last) = (Met::default(), 0, Instant::now());
            while !until.load(Ordering::SeqCst) {
                match ask(addresses[at % addresses.len()], patience) {
                    Ok(()) => {
                        met.answered += 1;
                        met.pause = met.pause.max(last.elapsed());
                        last = Instant::now();
                    }
                    Err(Trouble::Lost) => met.lost += 1,
                    Err(Trouble::NotTaken) => {
                        met.refused += 1;
                        at += 1;
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            }
            met
        };
        Client { over, thread: cluster.start_outside(run) }
    }

    /// Ends it.
    pub fn end(self) -> Met {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// One run of one guest: on which node, and when it was heard first and last.
#[derive(Debug, Clone)]
pub struct Life {
    pub node: IpAddr,
    pub first: Instant,
    pub last: Instant,
    pub beats: u32,
}

/// Hears the heartbeats of one service's guests (hello's --heartbeat).
pub struct Heartbeats {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Life>>,
}

impl Heartbeats {
    pub fn new(cluster: &Cluster) -> Heartbeats {
        assert!(HEARTBEATS.starts_with(OUTSIDE));
        let socket = cluster.outside(|| UdpSocket::bind(HEARTBEATS).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let run = move || {
            let mut lives: BTreeMap<String, Life> = BTreeMap::new();
            let mut bytes = [0; 100];
            while !until.load(Ordering::SeqCst) {
                let Ok((n, from)) = socket.recv_from(&mut bytes) else { continue };
                // When it started is what a run is known by; where it is says the address, which can't be wrong.
                let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
                let run = format!("{} {}", from.ip(), text.split(' ').next().unwrap_or_default());
                let now = Instant::now();
                let new = Life { node: from.ip(), first: now, last: now, beats: 0 };
                let life = lives.entry(run).or_insert(new);
                life.last = now;
                life.beats += 1;
            }
            let mut lives: Vec<Life> = lives.into_values().collect();
            lives.sort_by_key(|life| life.first);
            lives
        };
        Heartbeats { over, thread: std::thread::spawn(run) }
    }

    /// All runs in order, none of which began before the one before it was heard last.
    pub fn end(self) -> Vec<Life> {
        self.over.store(true, Ordering::SeqCst);
        let lives = self.thread.join().unwrap();
        assert!(lives.iter().any(|life| life.node != lives[0].node), "all on one node: {lives:#?}");
        for pair in lives.windows(2) {
            assert!(pair[0].last < pair[1].first, "two at one time: {lives:#?}");
        }
        lives
    }
}
