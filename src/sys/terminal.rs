//! The terminal on standard output, if there is one.

use std::io::IsTerminal;

/// Its columns; `None`: standard output is no terminal.
pub fn width() -> Option<usize> {
    std::io::stdout().is_terminal().then(|| window().1)
}

/// Whether what is written there may be coloured.
pub fn has_colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    std::io::stdout().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_some_and(|t| t != "dumb")
}

/// Rows and columns; 24 and 80 where it doesn't tell.
pub fn window() -> (usize, usize) {
    // SAFETY: all-zero is a valid winsize, and the kernel fills in no more than that.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size);
        size
    };
    let told = |n: u16, default| if n == 0 { default } else { usize::from(n) };
    (told(size.ws_row, 24), told(size.ws_col, 80))
}
