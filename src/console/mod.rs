//! The console of a VM or container on disk: log files, their indexes of times, and what may be shown of them.
//!
//! QEMU appends the guest's bytes straight to `console.log`. The supervisor notes beside it, in `console.idx`, how far
//! the log had come at what time. A full log is renamed to `console.log.NNNNNN`, then its index to
//! `console.idx.NNNNNN`, then QEMU is handed a new `console.log`; the highest number is the newest. So all files of an
//! instance in order are one stream of bytes, and a line may begin in one file and end in the next.
//!
//! A container's log is written by conmon, in CRI's format; all else is the same. Who reads it takes its records apart
//! (see [`cri`]) where [`Series::is_cri`] says so.

pub mod copied;
pub mod copy;
pub mod cri;
pub mod files;
pub mod harmless;
pub mod index;
pub mod own;
pub mod rotate;
pub mod tail;
#[cfg(test)]
mod tests;

pub use files::{LogFile, Series};
pub use index::{Index, IndexWriter, Record};
pub use tail::last_lines;
