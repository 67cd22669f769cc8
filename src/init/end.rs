//! Halting the machine so that the host learns the exit code.

use super::DEBUG_EXIT;
use nix::sys::reboot::{RebootMode, reboot};

/// Writes `code` to the isa-debug-exit device, which ends QEMU with `(code << 1 | 1) & 0xff`. Where there is no such
/// device, powers off.
pub fn halt(code: u8) -> ! {
    // SAFETY: asks for the right to one I/O port.
    if unsafe { libc::ioperm(DEBUG_EXIT.into(), 1, 1) } == 0 {
        // SAFETY: we have the right to that port; writing to it touches no memory.
        unsafe {
            std::arch::asm!("out dx, al", in("dx") DEBUG_EXIT, in("al") code, options(nomem, nostack, preserves_flags));
        }
    }
    let _ = reboot(RebootMode::RB_POWER_OFF);
    // A kernel without power-off: a reboot ends QEMU too (-no-reboot), and so does the panic when PID 1 exits.
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    std::process::exit(code.into())
}
