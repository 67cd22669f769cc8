//! One probe: resolve, connect, be taken by the guest, speak TLS, ask. One deadline over it all.

use super::forward::{Taken, settle};
use super::peer::{Kept, Limits, Peer};
use super::{Check, Forward, Kind, Reason, TlsTrouble, Verdict, grpc, http, resolve, tls};
use crate::sys::Deadline;
use std::io::{Read, Write};
use std::time::Instant;

/// Probes once. `forward` is there for a VM's forwarded port. Ends at `deadline` or after the check's own timeout.
pub fn probe(check: &Check, forward: Option<&mut dyn Forward>, deadline: Deadline) -> Verdict {
    probe_within(check, forward, &Limits::until(deadline.min(Deadline::after(check.timeout))))
}

/// The same, but for plain connections, which `kept` closes.
pub fn probe_and_keep(check: &Check, forward: Option<&mut dyn Forward>, deadline: Deadline, kept: &Kept) -> Verdict {
    let limits = Limits::until(deadline.min(Deadline::after(check.timeout)));
    probe_within(check, forward, &Limits { kept: Some(kept), ..limits })
}

/// Probes once, within `limits`.
pub(super) fn probe_within(check: &Check, forward: Option<&mut dyn Forward>, limits: &Limits<'_>) -> Verdict {
    let started = Instant::now();
    match ask(check, forward, limits) {
        Ok(_) if check.closed => Verdict::Unhealthy(Reason::NotOpen),
        Ok(detail) => Verdict::Healthy { detail, elapsed: started.elapsed() },
        Err(_) if limits.cancel.is_some_and(|c| c.is_set()) => Verdict::Unhealthy(Reason::Cancelled),
        Err(reason) => Verdict::Unhealthy(reason),
    }
}

fn ask(check: &Check, forward: Option<&mut dyn Forward>, limits: &Limits<'_>) -> Result<String, Reason> {
    let addresses = resolve::resolve(&check.host, check.port, limits.deadline)?;
    let mut peer = Peer::connect(&addresses, limits)?;
    let mut unproven = None;
    if let Some(forward) = forward
        && let Taken::Unproven(why) = settle(&peer, forward, &check.kind, check.guest_port, limits)?
    {
        log::debug!("{check}: {why}; the answer will tell");
        unproven = Some(why);
    }
    let answer = match &check.tls {
        None => {
            let answer = speak(&mut peer, check, limits.deadline);
            if let Some(kept) = limits.kept {
                peer.keep(kept);
            }
            answer
        }
        Some(tls) => tls::handshake(peer, check, tls).and_then(|mut stream| {
            speak(&mut stream, check, limits.deadline).map_err(|reason| tls::explain(reason, check))
        }),
    };
    match (answer, unproven) {
        // It told nothing: the guest may never have seen the connection.
        (Err(Reason::TimedOut(_) | Reason::Closed | Reason::Tls(TlsTrouble::ClosedInHandshake)), Some(why)) => {
            Err(Reason::Unproven(why))
        }
        (answer, _) => answer,
    }
}

/// Asks what the check asks, over a connection that is there.
fn speak(stream: &mut (impl Read + Write), check: &Check, deadline: Deadline) -> Result<String, Reason> {
    match &check.kind {
        Kind::Tcp => Ok(check.to_string()),
        Kind::Http(get) => http::ask(stream, check, get).map(|code| format!("{check} {code}")),
        Kind::Grpc(call) => grpc::ask(stream, check, call, deadline).map(|()| format!("{check} SERVING")),
    }
}
