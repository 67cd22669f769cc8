//! One VM: its argument vector, its monitor, its console, its end, and who watches it.

pub mod microvm;
pub mod qmp;
pub mod state;
pub mod usernet;
