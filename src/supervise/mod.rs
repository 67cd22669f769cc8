//! What the supervisors of VMs and of containers share: what they run, how they are told to behave, when they start again,
//! and how they are asked for a replace and hear of health.

pub mod asked;
pub mod backoff;
pub mod context;
pub mod links;
pub mod mode;
pub mod policy;
pub mod remains;
pub mod report;
pub mod request;
pub mod reserve;

pub use asked::Asked;
pub use backoff::{Backoff, Restarts, Slept};
pub use context::Context;
pub use links::link_current;
pub use mode::{Mode, Outcome, ending, failure, with_console};
