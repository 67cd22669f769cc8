//! One VM: its argument vector, its monitor, its console, its end, and who watches it.

pub mod adopt;
mod attend;
mod complaints;
pub mod end;
pub mod instance;
pub mod ladder;
pub mod launch;
pub mod live;
pub mod microvm;
pub mod monitor;
pub mod port;
pub mod remains;
pub mod replace;
pub mod supervise;
