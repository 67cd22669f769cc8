//! The whole node.
