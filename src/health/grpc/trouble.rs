//! What can be wrong with a gRPC answer, in words that tell the causes apart.

use super::words::{grpc_status, http2_code};
use std::fmt;

/// Why a server that could be reached is not healthy. Text in it is printable and short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcTrouble {
    /// What came back is not HTTP/2; what it is instead.
    NotHttp2(String),
    /// The peer broke the rules of HTTP/2; which one.
    Http2(String),
    /// HTTP/2, but no answer of gRPC's; what is wrong with it.
    NotGrpc(String),
    /// The peer ended the connection with GOAWAY.
    GoAway {
        /// Its error code (RFC 9113, section 7).
        code: u32,
        /// What else it said.
        debug: String,
    },
    /// The peer broke off the call with RST_STREAM and this error code.
    Reset(u32),
    /// It has no health service; what it said.
    Unimplemented(String),
    /// It doesn't know the service of this name.
    UnknownService(String),
    /// The service says NOT_SERVING.
    NotServing,
    /// The service says that it doesn't know (UNKNOWN), or something that only later versions of the protocol know.
    StatusUnknown(u64),
    /// The call failed with another gRPC status.
    Status {
        /// Its number.
        code: u32,
        /// What the server said.
        message: String,
    },
}

impl GrpcTrouble {
    /// A stable name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            GrpcTrouble::NotHttp2(_) => "not-http2",
            GrpcTrouble::Http2(_) => "http2",
            GrpcTrouble::NotGrpc(_) => "not-grpc",
            GrpcTrouble::GoAway { .. } => "goaway",
            GrpcTrouble::Reset(_) => "rst-stream",
            GrpcTrouble::Unimplemented(_) => "unimplemented",
            GrpcTrouble::UnknownService(_) => "unknown-service",
            GrpcTrouble::NotServing => "not-serving",
            GrpcTrouble::StatusUnknown(_) => "status-unknown",
            GrpcTrouble::Status { .. } => "grpc-status",
        }
    }
}

/// `: TEXT`, or nothing.
struct Also<'a>(&'a str);

impl fmt::Display for Also<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

impl fmt::Display for GrpcTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrpcTrouble::NotHttp2(what) => write!(f, "not HTTP/2: {what}"),
            GrpcTrouble::Http2(what) => write!(f, "broken HTTP/2: {what}"),
            GrpcTrouble::NotGrpc(what) => write!(f, "not gRPC: {what}"),
            GrpcTrouble::GoAway { code, debug } => {
                write!(f, "the peer ended the connection: GOAWAY {}{}", http2_code(*code), Also(debug))
            }
            GrpcTrouble::Reset(code) => write!(f, "the peer broke off the call: RST_STREAM {}", http2_code(*code)),
            GrpcTrouble::Unimplemented(message) => {
                write!(f, "UNIMPLEMENTED: the server has no grpc.health.v1.Health{}", Also(message))
            }
            GrpcTrouble::UnknownService(name) if name.is_empty() => f.write_str(
                "unknown service: the server tells nothing about itself as a whole; name one of its services",
            ),
            GrpcTrouble::UnknownService(name) => write!(f, "unknown service: {name}"),
            GrpcTrouble::NotServing => f.write_str("NOT_SERVING"),
            GrpcTrouble::StatusUnknown(0) => f.write_str("UNKNOWN: the service does not know its health"),
            GrpcTrouble::StatusUnknown(other) => write!(f, "an unknown serving status: {other}"),
            GrpcTrouble::Status { code, message } => write!(f, "gRPC {}{}", grpc_status(*code), Also(message)),
        }
    }
}
