//! The whole node.

pub mod resolve;
pub mod watching;
