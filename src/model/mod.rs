//! Checked values: what may be said about a node, its services and their components.

pub mod boot_record;
pub mod built;
pub mod component;
mod digest;
pub mod duration;
pub mod env_file;
pub mod health;
pub mod init;
pub mod load;
pub mod name;
pub mod node;
pub mod port;
pub mod probed;
pub mod problem;
pub mod read;
pub mod record;
pub mod reference;
pub mod service;
pub mod size;
pub mod state;
pub mod suggest;
mod volume;

pub use boot_record::BootRecord;
pub use built::{Built, BuiltVolume};
pub use component::{Component, ContainerOnly, Egress, OnUnhealthy, Restart, RootMode, Runtime, Source, Volume};
pub use digest::Digest;
pub use health::{Health, HealthKind};
pub use init::Init;
pub use load::Loaded;
pub use name::{ComponentId, Target};
pub use node::Node;
pub use port::{Port, Protocol};
pub use problem::Problem;
pub use record::{FileSystem, Pin, Record, Version, Wish};
pub use reference::Reference;
pub use service::{Placement, Service};
