//! What the operating system gives: locks, paths, deadlines, whole files, children, terminal, errors.

pub mod alarm;
pub mod deadline;
pub mod disk;
pub mod error;
pub mod file;
pub mod filter;
pub mod listeners;
pub mod lock;
pub mod memory;
pub mod notify;
pub mod out;
pub mod paths;
pub mod pidfd;
pub mod pool;
pub mod signals;
pub mod sink;
pub mod squashfs;
pub mod terminal;
pub mod time;
pub mod tool;
pub mod trust;
pub mod turns;
pub mod user;

pub use deadline::Deadline;
pub use error::{Error, Result};
