//! One podman container: how podman is asked, what runs, and who watches it.

pub mod listing;
pub mod podman;
pub mod storage;

pub use podman::Podman;
