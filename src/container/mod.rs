//! One podman container: how podman is asked, what runs, and who watches it.
