//! QEMU's user-mode network, as `info usernet` shows it.
