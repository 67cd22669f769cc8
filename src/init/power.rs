//! The ACPI power button, which is how the host asks for a graceful stop.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// `EV_KEY` of linux/input-event-codes.h.
const EV_KEY: u16 = 1;
/// `KEY_POWER` of the same.
const KEY_POWER: u16 = 116;
/// Size of `struct input_event` on x86-64: two longs, type, code, value.
const EVENT_SIZE: usize = 24;

/// All power buttons of the machine. Presses since [`Buttons::open`] are kept by the kernel until they are read.
pub struct Buttons(Vec<File>);

impl Buttons {
    /// Opens every input device that calls itself a power button.
    pub fn open() -> Buttons {
        let mut buttons = Vec::new();
        for entry in fs::read_dir("/sys/class/input").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|n| n.starts_with("event")) else { continue };
            let what = fs::read_to_string(entry.path().join("device/name")).unwrap_or_default();
            if what.trim_end() != "Power Button" {
                continue;
            }
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(format!("/dev/input/{name}"));
            buttons.extend(file);
        }
        Buttons(buttons)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Readable when one was pressed.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd).collect()
    }

    /// How many presses there were since the last call.
    pub fn presses(&mut self) -> usize {
        let mut presses = 0;
        let mut events = [0; EVENT_SIZE * 16];
        self.0.retain_mut(|button| {
            loop {
                match button.read(&mut events) {
                    Ok(n @ 1..) => {
                        let read = events.get(..n).unwrap_or_default();
                        presses += read.chunks_exact(EVENT_SIZE).filter(|e| is_press(e)).count();
                    }
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return true,
                    // Its driver is gone; kept, it would be readable for ever.
                    _ => return false,
                }
            }
        });
        presses
    }
}

fn is_press(event: &[u8]) -> bool {
    let field = |at: usize| event.get(at..at + 2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    // The value is 1 for down, 0 for up, 2 for auto-repeat.
    field(16) == Some(EV_KEY) && field(18) == Some(KEY_POWER) && field(20) == Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_going_down_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_press(&event(EV_KEY, 30, 1)));
        assert!(!is_press(&event(0, 0, 0)));
        assert!(!is_press(&[0; 7]));
    }
}
