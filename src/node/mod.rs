//! The whole node.

pub mod probe;
pub mod resolve;
pub mod watching;
