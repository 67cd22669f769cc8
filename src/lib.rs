//! Runs the services of a Linux node as Nanos unikernel VMs, microvms or podman containers, without a daemon.
//!
//! The modules are floors, and a floor uses only the floors below it:
//!
//! | floor | what is there |
//! | --- | --- |
//! | [`cmd`] | one file per program: its arguments and its `run` |
//! | [`node`] | the whole node: what is declared, what runs, how they differ; probing a component by name |
//! | [`guest`], [`container`], [`image`], [`health`] | one VM; one podman container; one image, from a registry to a disk; one health check. They don't know each other |
//! | [`supervise`], [`console`] | what the supervisors of VMs and containers share; logs on disk |
//! | [`model`] | names, ports, durations, service definitions, node config, records |
//! | [`sys`] | locks, paths, deadlines, whole files, signals, terminal, errors |
//!
//! [`init`] is apart: PID 1 inside a microvm, and the hand-over format that it shares with the host.
//!
//! Files and states that we own are listed in [`sys::paths`].

#[cfg(feature = "host")]
pub mod cmd;
#[cfg(feature = "host")]
pub mod console;
#[cfg(feature = "host")]
pub mod container;
#[cfg(feature = "host")]
pub mod guest;
#[cfg(feature = "host")]
pub mod health;
#[cfg(feature = "host")]
pub mod image;
pub mod init;
#[cfg(feature = "host")]
pub mod model;
#[cfg(feature = "host")]
pub mod node;
#[cfg(feature = "host")]
pub mod supervise;
#[cfg(feature = "host")]
pub mod sys;
