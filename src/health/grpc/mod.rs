//! `grpc.health.v1.Health/Check` over HTTP/2 (RFC 9113), as little of it as one call takes.
//!
//! The request goes in one piece: preface, settings, header, message. What comes is bounded in every way: frames of 16 KiB,
//! header blocks of 16 KiB packed and unpacked, 256 frames in all. So the windows of HTTP/2 are never full on either side.

mod call;
mod conversation;
mod frame;
mod headers;
mod message;
mod opening;
mod trouble;
mod words;

#[cfg(test)]
mod tests;

pub use call::{Call, Metadata};
pub use trouble::GrpcTrouble;

pub(super) use call::SERVICE_MAX;
pub(super) use words::percent_decoded;

use super::check::authority;
use super::{Check, Reason};
use crate::sys::Deadline;
use conversation::{ANSWER, Answer, Conversation, STREAM};
use message::Status;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;
use words::shown;

/// SETTINGS_ENABLE_PUSH and SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113, section 6.5.2).
const SETTINGS: [(u16, u32); 2] = [(2, 0), (6, headers::FIELDS_MAX as u32)];

/// Makes the call by `deadline`, which `stream` keeps. The service is healthy when it says SERVING.
pub(super) fn ask(
    stream: &mut (impl Read + Write),
    check: &Check,
    call: &Call,
    deadline: Deadline,
) -> Result<(), Reason> {
    let sent = stream.write_all(&request(check, call, deadline)).and_then(|()| stream.flush());
    let mut talk = Conversation::new();
    sent.map_err(|e| failed(&e, &mut talk, check))?;
    loop {
        let mut chunk = [0; 4096];
        let n = match stream.read(&mut chunk) {
            Ok(n) => n,
            // TLS without its closing alert.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => 0,
            Err(e) => return Err(failed(&e, &mut talk, check)),
        };
        if n == 0 {
            return Err(talk.closed().map_or(Reason::Closed, Reason::Grpc));
        }
        let said = talk.receive(chunk.get(..n).unwrap_or_default());
        if let Some(answer) = said.map_err(|trouble| in_time(trouble, deadline))? {
            return judge(&answer, call).map_err(|trouble| in_time(trouble, deadline));
        }
        let reply = talk.reply();
        if !reply.is_empty() {
            // That it can't be sent is told by the next read, after what may still have come.
            let _ = stream.write_all(&reply).and_then(|()| stream.flush());
        }
    }
}

/// The server knows our deadline (`grpc-timeout`) and may be the first to see that it has passed.
fn in_time(trouble: GrpcTrouble, deadline: Deadline) -> Reason {
    const CANCEL: u32 = 8;
    const DEADLINE_EXCEEDED: u32 = 4;
    match trouble {
        GrpcTrouble::Reset(CANCEL) | GrpcTrouble::Status { code: DEADLINE_EXCEEDED, .. }
            if deadline.left() < Duration::from_millis(20) =>
        {
            Reason::TimedOut(ANSWER)
        }
        trouble => Reason::Grpc(trouble),
    }
}

/// What a peer's `bytes` come to when nothing follows, for tests of the reader: healthy, or why not.
pub fn try_answer(bytes: &[u8]) -> Result<(), GrpcTrouble> {
    let mut talk = Conversation::new();
    // In pieces, so that boundaries are met.
    for piece in bytes.chunks(1000) {
        if let Some(answer) = talk.receive(piece)? {
            return judge(&answer, &Call::default());
        }
        talk.reply();
    }
    Err(talk.closed().unwrap_or_else(|| GrpcTrouble::NotGrpc("no answer".into())))
}

fn request(check: &Check, call: &Call, deadline: Deadline) -> Vec<u8> {
    let asked = authority(check.server_name(), check.server_port());
    let asked = call.authority.as_ref().unwrap_or(&asked);
    let block = headers::request(call, check.tls.is_some(), asked, deadline.left());
    let mut settings = Vec::new();
    for (name, value) in SETTINGS {
        settings.extend_from_slice(&name.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    let mut out = frame::PREFACE.to_vec();
    frame::put(&mut out, frame::SETTINGS, 0, 0, &settings);
    let mut parts = block.chunks(frame::PAYLOAD_MAX).peekable();
    let mut kind = frame::HEADERS;
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { frame::END_HEADERS } else { 0 };
        frame::put(&mut out, kind, flags, STREAM, part);
        kind = frame::CONTINUATION;
    }
    frame::put(&mut out, frame::DATA, frame::END_STREAM, STREAM, &message::request(&call.service));
    out
}

fn judge(answer: &Answer, call: &Call) -> Result<(), GrpcTrouble> {
    const NOT_FOUND: u32 = 5;
    const UNIMPLEMENTED: u32 = 12;
    let message = answer.message.clone();
    let unknown = || GrpcTrouble::UnknownService(shown(call.service.as_bytes()));
    Err(match (answer.status, answer.serving) {
        (0, Some(Status::Serving)) => return Ok(()),
        (0, Some(Status::NotServing)) => GrpcTrouble::NotServing,
        (0, Some(Status::ServiceUnknown)) => unknown(),
        (0, Some(Status::Unknown)) => GrpcTrouble::StatusUnknown(0),
        (0, Some(Status::Other(other))) => GrpcTrouble::StatusUnknown(other),
        (0, None) => GrpcTrouble::NotGrpc("an answer without a message".into()),
        (NOT_FOUND, _) => unknown(),
        (UNIMPLEMENTED, _) => GrpcTrouble::Unimplemented(message),
        (code, _) => GrpcTrouble::Status { code, message },
    })
}

fn failed(e: &io::Error, talk: &mut Conversation, check: &Check) -> Reason {
    match e.kind() {
        ErrorKind::TimedOut => talk.gone_away().map_or(Reason::TimedOut(talk.waiting()), Reason::Grpc),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => talk.closed().map_or(Reason::Closed, Reason::Grpc),
        _ => match super::tls::trouble(e, check) {
            Some(trouble) => Reason::Tls(trouble),
            None => Reason::Broken(crate::sys::error::os_reason(e)),
        },
    }
}
