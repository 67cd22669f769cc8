//! What the supervisors of VMs and of containers share: what they run, how they are told to behave, when they start again,
//! and how they are asked for a replace and hear of health.

pub mod backoff;
pub mod context;
pub mod mode;
pub mod report;
pub mod request;

pub use backoff::{Backoff, Restarts, Slept};
pub use context::Context;
pub use mode::{Mode, Outcome, failure};
