//! QEMU's monitors: the protocol, and what is asked of the user-mode network through it.

pub mod console;
pub mod forward;
pub mod handover;
pub mod handshake;
pub mod qmp;
pub mod usernet;

#[cfg(test)]
mod qmp_random;
