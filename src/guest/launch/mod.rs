//! From a specification to a QEMU that runs: what is chosen, checked and made, the argument vector, the `exec`.

pub mod accel;
pub mod argv;
pub mod boot;
pub mod disk;
pub mod overlay;
pub mod preflight;
pub mod prepare;
pub mod spawn;
