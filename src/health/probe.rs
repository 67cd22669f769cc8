//! One probe: resolve, connect, be taken by the guest, speak TLS, ask. One deadline over it all.

use super::forward::{Taken, settle};
use super::peer::{Limits, Peer};
use super::{Check, Forward, Kind, Reason, TlsTrouble, Verdict, grpc, http, resolve, tls};
use crate::sys::Deadline;
use std::io::{Read, Write};
use std::time::Instant;

/// Probes once. `forward` is there for a VM's forwarded port. Ends at `deadline` or after the check's own timeout.
pub fn probe(check: &Check, forward: Option<&mut dyn Forward>, deadline: Deadline) -> Verdict {
    let deadline = deadline.min(Deadline::after(check.timeout));
    let limits = Limits { deadline, patience: deadline, cancel: None, hints: None, look_closer: true };
    probe_within(check, forward, &limits)
}

/// Probes once, within `limits`.
pub(super) fn probe_within(check: &Check, forward: Option<&mut dyn Forward>, limits: &Limits<'_>) -> Verdict {
    let started = Instant::now();
    match ask(check, forward, limits) {
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
        None => speak(&mut peer, check, limits.deadline),
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
        Kind::Http { path } => http::ask(stream, check, path).map(|code| format!("{check} {code}")),
        Kind::Grpc(call) => grpc::ask(stream, check, call, deadline).map(|()| format!("{check} SERVING")),
    }
}
