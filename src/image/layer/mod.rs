//! What is inside the layers: read by a worker that has no rights, and told in an index.

pub mod index;
