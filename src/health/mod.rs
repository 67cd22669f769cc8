//! One health check: what is asked ([`Check`]), one answer ([`probe`]), waiting for a good one ([`wait()`]), looking
//! again and again ([`watch()`]), and telling the longest time without an answer ([`downtime()`]).
//!
//! A TCP connect to a VM's forwarded port proves nothing: QEMU accepts it long before the guest listens. Whoever
//! checks such a port hands a [`Forward`] along, which tells whether the guest itself has answered.

mod cancel;
mod check;
mod downtime;
mod forward;
pub mod grpc;
mod hints;
mod http;
mod peer;
mod probe;
mod resolve;
mod tls;
mod trust;
mod url;
mod verdict;
mod wait;
mod watch;

pub use cancel::Cancel;
pub use check::{Check, Get, Identity, Kind, Tls};
pub use downtime::{Downtime, downtime};
pub use forward::{Forward, Handshake};
pub use grpc::{Call, GrpcTrouble, Metadata};
pub use hints::Hints;
pub use peer::Kept;
pub use probe::{probe, probe_and_keep};
pub use verdict::{Reason, TlsTrouble, Verdict};
pub use wait::{Pace, Plain, Plan, Subject, wait, wait_on};
pub use watch::{Change, Watch, watch};
