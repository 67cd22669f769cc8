//! A VM's forwarded port: whether the guest itself has completed the connection.

use super::peer::{Limits, Peer, Woken};
use super::wait::rest_after;
use super::{Kind, Reason};
use crate::sys::Deadline;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What is known of one connection inside the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// The guest has completed it.
    Established,
    /// The guest has not answered.
    Pending,
    /// QEMU has no such connection: not yet, or no longer.
    Gone,
    /// It can't be found out, for this reason.
    Unknown(String),
}

/// Knows the connections of one VM.
pub trait Forward {
    /// Whether the guest has completed the connection that comes from `client`, our own address. Answers by
    /// `deadline`.
    fn handshake(&mut self, client: SocketAddr, deadline: Deadline) -> Handshake;
}

/// How the guest took a connection.
pub(super) enum Taken {
    /// It completed it.
    Established,
    /// Nobody can tell; a request that is answered would.
    Unproven(String),
}

/// A guest that refuses does so within some 1 ms of our connect, so before that nobody is asked.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// Looks get rarer up to this.
const LOOK_MAX: Duration = Duration::from_millis(100);
/// One question to the monitor.
const ASK_MAX: Duration = Duration::from_millis(500);

/// Waits until the guest has taken `peer` or shown that it doesn't.
pub(super) fn settle(
    peer: &Peer<'_>,
    forward: &mut dyn Forward,
    kind: &Kind,
    port: u16,
    limits: &Limits<'_>,
) -> Result<Taken, Reason> {
    let client = peer.local().map_err(|e| Reason::Broken(crate::sys::error::os_reason(&e)))?;
    let mut patience = limits.patience.min(limits.deadline);
    let mut pause = FIRST_LOOK;
    let mut ask_max = ASK_MAX;
    // The last answer that was one.
    let mut known = Handshake::Unknown("no answer from the monitor in time".into());
    loop {
        let woken = peer.wait(Deadline::after(pause).min(patience), limits.hints);
        match woken {
            Woken::Cancelled => return Err(Reason::Cancelled),
            Woken::Peer => return spoken(peer, forward, client, port, limits),
            // One look, and then a new connection: this one's SYN may have been lost before the guest was up.
            Woken::Hint => limits.hints.into_iter().for_each(|h| h.drain()),
            Woken::Nothing => {}
        }
        let asked = Instant::now();
        let known_now = forward.handshake(client, Deadline::after(ask_max).min(limits.deadline));
        let at_least = rest_after(asked.elapsed());
        // The monitor answers one client after the other, and a question that is given up loses its turn. With a cancel
        // the questions stay short: the thread that sets it waits for this one.
        if matches!(known_now, Handshake::Unknown(_)) && limits.cancel.is_none() {
            ask_max = Duration::MAX;
        }
        match known_now {
            Handshake::Established => return Ok(Taken::Established),
            Handshake::Unknown(why) if *kind != Kind::Tcp => return Ok(Taken::Unproven(why)),
            // A monitor that is busy for once takes nothing back, nor does a question cut off by the deadline.
            Handshake::Unknown(_) if limits.deadline.passed() || !matches!(known, Handshake::Unknown(_)) => {}
            answer => known = answer,
        }
        if patience.passed() || woken == Woken::Hint {
            // What came while we asked is worth more than that we got no answer.
            if !matches!(peer.peek(), Ok(None)) {
                return spoken(peer, forward, client, port, limits);
            }
            return Err(match known {
                Handshake::Unknown(why) => Reason::Unproven(why),
                Handshake::Gone => Reason::Unproven(
                    "QEMU has no such connection; does another program listen on the host port?".into(),
                ),
                _ => Reason::GuestSilent(port),
            });
        }
        pause = (pause * 3 / 2).min(LOOK_MAX).max(at_least);
        // Held until the next look, this connection costs less than a new one.
        patience = patience.max(Deadline::after(at_least)).min(limits.deadline);
    }
}

/// The connection has data, or its end.
fn spoken(
    peer: &Peer<'_>,
    forward: &mut dyn Forward,
    client: SocketAddr,
    port: u16,
    limits: &Limits<'_>,
) -> Result<Taken, Reason> {
    match peer.peek() {
        // QEMU says nothing of its own: it is the guest's.
        Ok(Some(1..)) => Ok(Taken::Established),
        // The guest's reset of a SYN makes QEMU forget the connection. One that it took and closed stays known as
        // long as our side is open.
        Ok(_) if limits.look_closer => match forward.handshake(client, Deadline::after(ASK_MAX).min(limits.deadline)) {
            Handshake::Established => Ok(Taken::Established),
            _ => Err(Reason::GuestRefuses(port)),
        },
        _ => Err(Reason::GuestRefuses(port)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Cancel, Check, Hints, Plan, Subject, Verdict, Watch, probe, wait, watch};
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// Answers in this order, the last one for ever.
    struct Script(Vec<Handshake>);

    impl Forward for Script {
        fn handshake(&mut self, _: SocketAddr, _: Deadline) -> Handshake {
            if self.0.len() > 1 { self.0.remove(0) } else { self.0[0].clone() }
        }
    }

    struct Scripted(Check, Script);

    impl Subject for Scripted {
        fn parts(&mut self) -> Result<(&Check, Option<&mut dyn Forward>), Reason> {
            Ok((&self.0, Some(&mut self.1)))
        }
    }

    /// A listener that the kernel accepts for, as QEMU does for a guest that is not there yet.
    fn silent() -> (TcpListener, Check) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Check::new(Kind::Tcp, "127.0.0.1", port, Duration::from_millis(150)))
    }

    fn ask(check: &Check, answers: Vec<Handshake>) -> Verdict {
        probe(check, Some(&mut Script(answers)), Deadline::after(Duration::from_secs(5)))
    }

    use Handshake::{Established, Gone, Pending, Unknown};

    #[test]
    fn accepted_by_the_forward_alone_is_never_healthy() {
        let (_listener, check) = silent();
        let port = check.port;
        assert_eq!(ask(&check, vec![Pending]), Verdict::Unhealthy(Reason::GuestSilent(port)));
        assert!(matches!(ask(&check, vec![Unknown("x".into())]), Verdict::Unhealthy(Reason::Unproven(w)) if w == "x"));
        assert!(matches!(ask(&check, vec![Gone]), Verdict::Unhealthy(Reason::Unproven(_))));
        // What was known is not forgotten.
        let busy_then = vec![Pending, Unknown("busy".into())];
        assert_eq!(ask(&check, busy_then), Verdict::Unhealthy(Reason::GuestSilent(port)));
    }

    #[test]
    fn silence_behind_a_forward_that_nobody_knows_of_proves_nothing() {
        let kinds = [Kind::Http(super::super::Get::of("/".into())), Kind::Grpc(super::super::Call::default())];
        for kind in kinds {
            let (_listener, mut check) = silent();
            check.kind = kind;
            assert_eq!(ask(&check, vec![Unknown("x".into())]), Verdict::Unhealthy(Reason::Unproven("x".into())));
            assert!(matches!(ask(&check, vec![Established]), Verdict::Unhealthy(Reason::TimedOut(_))));
        }
    }

    #[test]
    fn the_guests_own_word_is_healthy() {
        let (_listener, check) = silent();
        assert!(ask(&check, vec![Gone, Unknown("busy".into()), Pending, Established]).is_healthy());
        let (listener, check) = silent();
        let talker = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"220 mail\r\n").unwrap());
        assert!(ask(&check, vec![Pending]).is_healthy());
        talker.join().unwrap();
    }

    #[test]
    fn an_end_of_file_is_looked_into() {
        for (answer, healthy) in [(Gone, false), (Unknown("busy".into()), false), (Established, true)] {
            let (listener, check) = silent();
            let closer = std::thread::spawn(move || drop(listener.accept()));
            let verdict = ask(&check, vec![answer]);
            assert_eq!(verdict.is_healthy(), healthy, "{verdict:?}");
            closer.join().unwrap();
        }
    }

    /// Needs a second for an answer.
    struct Slow;

    impl Forward for Slow {
        fn handshake(&mut self, _: SocketAddr, deadline: Deadline) -> Handshake {
            let late = Deadline::after(Duration::from_secs(1));
            std::thread::sleep(deadline.min(late).left());
            if late.passed() { Established } else { Unknown("busy".into()) }
        }
    }

    #[test]
    fn a_slow_monitor_has_the_whole_time_of_the_check() {
        let (_listener, mut check) = silent();
        check.timeout = Duration::from_secs(5);
        assert!(probe(&check, Some(&mut Slow), Deadline::after(Duration::from_secs(5))).is_healthy());
    }

    #[test]
    fn waiting_makes_few_connections_and_ends_when_told() {
        let (listener, check) = silent();
        let cancel = Cancel::new().unwrap();
        let mut subject = Scripted(check, Script(vec![Pending]));
        let deadline = Deadline::after(Duration::from_secs(60));
        let plan = Plan { interval: Duration::from_millis(500), successes: 1, deadline };
        let started = Instant::now();
        let verdict = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(600));
                cancel.set();
            });
            wait(&mut subject, &plan, None, Some(&cancel))
        });
        assert_eq!(verdict, Verdict::Unhealthy(Reason::Cancelled));
        assert!(started.elapsed() < Duration::from_secs(5));
        // 30 + 60 + 120 + 150 (the check's timeout) + …
        listener.set_nonblocking(true).unwrap();
        let tries = std::iter::from_fn(|| listener.accept().ok()).count();
        assert!((3..=8).contains(&tries), "{tries} connections");
    }

    #[test]
    fn a_hint_brings_a_new_try_at_once_and_a_flood_of_them_does_not() {
        let folder = std::env::temp_dir().join(format!("mcp-hints-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let hints = Hints::new(vec![], vec![folder.join("later")]).unwrap();
        let (listener, mut check) = silent();
        check.timeout = Duration::from_secs(5);
        let mut subject = Scripted(check, Script(vec![Pending]));
        let deadline = Deadline::after(Duration::from_millis(700));
        let plan = Plan { interval: Duration::from_millis(500), successes: 1, deadline };
        let flood = std::thread::spawn({
            let folder = folder.clone();
            move || {
                std::fs::create_dir(folder.join("later")).unwrap();
                let mut file = std::fs::File::create(folder.join("later/console.log")).unwrap();
                while !deadline.passed() {
                    file.write_all(b"line\n").unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        wait(&mut subject, &plan, Some(&hints), None);
        flood.join().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        listener.set_nonblocking(true).unwrap();
        let tries = std::iter::from_fn(|| listener.accept().ok()).count();
        // Ten hints at once, five a second, and what it does without any.
        assert!((10..=25).contains(&tries), "{tries} connections");
    }

    #[test]
    fn watching_believes_only_rows() {
        let (_listener, mut check) = silent();
        check.timeout = Duration::from_millis(30);
        let (up, down) = (|n| vec![Established; n], |n| vec![Pending; n]);
        // One bad probe asks several times, hence the many.
        let script = [up(2), down(200), up(1)].concat();
        let mut subject = Scripted(check, Script(script));
        let plan = Watch { interval: Duration::from_millis(1), successes: 2, failures: 3 };
        let cancel = Cancel::new().unwrap();
        let mut told = Vec::new();
        watch(&mut subject, &plan, &cancel, |change| {
            told.push(change);
            told.len() < 2
        });
        use super::super::Change;
        assert_eq!(told, [Change::Unhealthy(Reason::GuestSilent(subject.0.port)), Change::Healthy]);
    }
}
