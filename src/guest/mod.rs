//! One VM: its argument vector, its monitor, its console, its end, and who watches it.

pub mod adopt;
pub mod console;
pub mod end;
pub mod instance;
pub mod ladder;
pub mod launch;
pub mod microvm;
pub mod monitor;
pub mod port;
pub mod remains;
pub mod state;
pub mod supervise;
pub mod watch;
