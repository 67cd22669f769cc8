//! One podman container: how podman is asked, what runs, and who watches it.

pub mod adopt;
pub mod argv;
mod attend;
pub mod conmon;
pub mod end;
pub mod image;
pub mod inspect;
pub mod instance;
pub mod ladder;
pub mod listing;
pub mod podman;
pub mod prepare;
pub mod storage;
pub mod supervise;
pub mod volume;

pub use podman::Podman;
