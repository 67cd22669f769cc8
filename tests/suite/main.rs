//! The whole suite: one crate, a module per program. Through the binaries, each test in its own MCP_ROOT.
#![allow(clippy::unwrap_used, missing_docs)]

mod bad_input;
mod campaign;
mod console_floods;
mod disk_trouble;
mod dispatch;
mod docs;
mod fake_qemu;
mod floors;
mod harness;
mod health;
mod health_vm;
mod images;
mod isolation;
mod layers;
mod logs;
mod man;
mod microvm;
mod parts;
mod readiness;
mod registry;
mod registry_faults;
mod rm;
mod run_vm;
mod status;
mod tree;
