//! Containers: real podman, and a podman that misbehaves.

mod environment;
