//! One VM: its argument vector, its monitor, its console, its end, and who watches it.

pub mod accel;
pub mod adopt;
pub mod argv;
pub mod console;
pub mod copy;
pub mod end;
pub mod forward;
pub mod handshake;
pub mod instance;
pub mod ladder;
pub mod microvm;
pub mod overlay;
pub mod port;
pub mod preflight;
pub mod prepare;
pub mod qmp;
pub mod remains;
pub mod rotate;
pub mod spawn;
pub mod state;
pub mod supervise;
pub mod user;
pub mod usernet;
pub mod watch;

#[cfg(test)]
mod qmp_random;
