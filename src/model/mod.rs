//! Checked values: what may be said about a node, its services and their components.

pub mod component;
pub mod duration;
pub mod health;
pub mod name;
pub mod node;
pub mod port;
pub mod record;
pub mod service;

pub use component::{Component, Egress, OnUnhealthy, Restart, RootMode, Runtime, Source, Volume};
pub use health::{Health, HealthKind};
pub use name::{ComponentId, Target};
pub use node::Node;
pub use port::{Port, Protocol};
pub use record::{Record, Wish};
pub use service::Service;
