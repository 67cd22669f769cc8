//! PID 1 inside a microvm, and what it shares with the host.
//!
//! The host gives the guest three things: a squashfs root disk, an initramfs with this program as `/init` and the
//! kernel modules it loads, and, as a last archive of that initramfs, the file [`handover::PATH`]. That one carries
//! everything else (program, environment, volumes), so secrets stand neither in an argument vector nor on a disk.
//!
//! The guest answers on the virtio-serial port [`PORT`], one line each:
//!
//! | line | meaning |
//! | --- | --- |
//! | `up` | network and file systems are there, and the program has been started |
//! | `exit N` | the program ended with exit code N |
//! | `signal N` | the program was ended by signal N |
//! | `fail TEXT` | init could not start the program |
//!
//! The host answers one of the last three with a newline, for which init waits a second at most. Then init halts the
//! machine, with the exit code written to the isa-debug-exit device at [`DEBUG_EXIT`] (128 + N for a signal; 127, 126
//! or 125 for a failure), else by power-off.

pub mod handover;

#[cfg(feature = "guest")]
mod disk;
#[cfg(feature = "guest")]
mod end;
#[cfg(feature = "guest")]
pub mod main;
#[cfg(feature = "guest")]
mod module;
#[cfg(feature = "guest")]
mod mount;
#[cfg(feature = "guest")]
mod network;
#[cfg(feature = "guest")]
mod output;
#[cfg(feature = "guest")]
mod power;
#[cfg(feature = "guest")]
mod program;
#[cfg(feature = "guest")]
mod report;
#[cfg(feature = "guest")]
mod user;
#[cfg(feature = "guest")]
mod volume;
#[cfg(feature = "guest")]
mod watch;

/// Name of the virtio-serial port on which init tells the host how things went.
pub const PORT: &str = "mcp.guest";
/// I/O port of the isa-debug-exit device (QEMU's default).
pub const DEBUG_EXIT: u16 = 0x501;
/// Folder of the initramfs with the modules, to be loaded in the order of their names.
pub const MODULES: &str = "/modules";
/// Serial (virtio-blk) of the squashfs root disk.
pub const ROOT_SERIAL: &str = "root";
/// Serial of the ext4 disk that keeps the guest's writes when its root is persistent.
pub const UPPER_SERIAL: &str = "upper";
