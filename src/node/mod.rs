//! The whole node: what is declared, what was recorded, what runs, and how these differ; probing by name.

pub mod boot;
pub mod chart;
pub mod cluster;
pub mod command;
pub mod condition;
pub mod container_image;
pub mod containers;
pub mod doctor;
pub mod drift;
pub mod failure;
pub mod in_use;
pub mod installed;
pub mod inventory;
pub mod probe;
pub mod provide;
pub mod reach;
pub mod recover;
pub mod remote;
pub mod resolve;
pub mod standing;
pub mod start;
pub mod stop;
pub mod units;
pub mod verdict;
pub mod volumes;
pub mod watching;

pub use condition::Condition;
pub use drift::Drift;
pub use inventory::{Entry, Found};
pub use remote::Remote;
pub use verdict::{Health, Verdict};
