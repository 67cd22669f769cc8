//! `--watch`: the same again whenever something changes.

use super::view::View;
use super::{Args, style};
use crate::model::{Target, load};
use crate::sys::error::EXIT_OK;
use crate::sys::paths::Paths;
use crate::sys::terminal::window;
use crate::sys::{Deadline, Error, Result, out};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// However much changes, it is not drawn more often than this.
const QUIET: Duration = Duration::from_millis(100);

/// The terminal, cleared, its cursor hidden until this is dropped.
struct Screen;

impl Screen {
    fn enter() -> Screen {
        out::print(format_args!("\x1b[?25l\x1b[2J"));
        Screen
    }

    /// Draws over what is there, so that nothing flickers, and only what fits.
    fn draw(&self, text: &str) {
        let (height, _) = window();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.truncate(height.saturating_sub(1));
        let body: String = lines.iter().map(|l| format!("{l}\x1b[K\r\n")).collect();
        out::print(format_args!("\x1b[H{body}\x1b[J"));
        out::flush();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        out::print(format_args!("\x1b[?25h"));
        out::flush();
    }
}

/// Shows it until a signal ends it: with 0, since that is how it is meant to end.
pub fn run(paths: &Paths, args: &Args, targets: &[Target], interval: Duration) -> Result<u8> {
    let (mut woken, waker) = UnixStream::pair().map_err(Error::os("open", "socket pair"))?;
    woken.set_nonblocking(true).map_err(Error::os("set up", "socket pair"))?;
    let end = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGWINCH] {
        if signal != SIGWINCH {
            signal_hook::flag::register(signal, end.clone()).map_err(Error::os("catch", "signals"))?;
        }
        let waker = waker.try_clone().map_err(Error::os("open", "socket pair"))?;
        signal_hook::low_level::pipe::register(signal, waker).map_err(Error::os("catch", "signals"))?;
    }
    let inotify =
        Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(Error::os("open", "inotify"))?;
    let screen = std::io::stdout().is_terminal().then(Screen::enter);
    let mut last = String::new();
    while !end.load(Ordering::Relaxed) {
        let begin = Deadline::after(QUIET);
        // Before looking: what changes in between is then seen in the next round.
        watch_all(&inotify, paths);
        let question = View::question(paths, targets);
        let loaded = load::load(paths);
        let view = View::take(paths, args, targets, &loaded, question)?;
        let mut text = view.text(paths, args, style(args), true);
        for complaint in view.complaints() {
            if !args.json {
                text.push_str(&format!("{}: {}\n", crate::cmd::program(), super::row::clean(&complaint)));
            }
        }
        match &screen {
            Some(screen) => screen.draw(&text),
            None => {
                let now = key(&view);
                if now != last {
                    let gap = if last.is_empty() || args.json || args.list { "" } else { "\n" };
                    out::print(format_args!("{gap}{text}"));
                    out::flush();
                    last = now;
                }
            }
        }
        wait(Some(&inotify), &mut woken, Deadline::after(interval))?;
        // A burst of changes is one change.
        while !begin.passed() && !end.load(Ordering::Relaxed) {
            wait(None, &mut woken, begin)?;
        }
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
    drop(screen);
    Ok(EXIT_OK)
}

/// What of the view is no mere passing of time.
fn key(view: &View<'_>) -> String {
    let lines = view.rows.iter().map(|r| {
        let uuid = r.entry.state.get().map(|s| &s.uuid);
        let id = r.entry.container.as_ref().map(|c| &c.listed.id);
        let verdict = r.health.as_ref().map(|h| &h.verdict);
        format!("{} {} {:?} {:?} {verdict:?} {uuid:?} {id:?}\n", r.entry.id, r.state(), r.drift, r.restarts())
    });
    lines.chain(view.complaints()).collect()
}

/// Waits for a change, a signal or the deadline.
fn wait(inotify: Option<&Inotify>, woken: &mut UnixStream, deadline: Deadline) -> Result<()> {
    let mut fds = vec![PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
    fds.extend(inotify.map(|i| PollFd::new(i.as_fd(), PollFlags::POLLIN)));
    match poll(&mut fds, deadline.poll_timeout()) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(e) => return Err(Error::os("wait for", "changes")(e)),
    }
    while woken.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
    Ok(())
}

/// Watches the folders in which state, records and definitions appear by rename. Where the kernel allows no more
/// watches, the interval does.
fn watch_all(inotify: &Inotify, paths: &Paths) {
    // Not the closing of files: asking for a lock opens and closes it, and would wake us for ever.
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ONLYDIR;
    let watch = |dir: &Path| inotify.add_watch(dir, flags).is_ok();
    let registry = paths.lib.join("registry");
    for top in [&paths.services, &registry, &paths.run] {
        // One that is not there yet appears in its parent, or that in its own.
        top.ancestors().find(|dir| watch(dir));
    }
    for (top, depth) in [(&paths.run, 3), (&registry, 1)] {
        let mut level = vec![top.clone()];
        for left in (0..=depth).rev() {
            level.retain(|dir| watch(dir));
            if left > 0 {
                level = level.iter().flat_map(|dir| folders(dir)).collect();
            }
        }
    }
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}
