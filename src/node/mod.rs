//! The whole node.

pub mod lookup;
pub mod probe;
