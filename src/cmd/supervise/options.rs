//! What `mcp-run-vm` and `mcp-run-container` have in common on their command lines.

use crate::node::watching;
use crate::supervise::Context;
use crate::sys::paths::Paths;
use crate::sys::{Error, Result, notify, user};

/// How a component is run, whatever it is.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Leave the supervisor in the background and return when it has started
    #[arg(long)]
    pub detach: bool,
    /// With --detach: return when it is ready instead
    #[arg(long, requires = "detach")]
    pub wait: bool,
    /// When it counts as ready: started, or healthy (the default where a health check is known)
    #[arg(long, value_name = "WHEN", value_parser = ["started", "healthy"])]
    pub ready: Option<String>,
    /// Where the console goes besides its log: nowhere (file), or to standard output as well (stdout)
    #[arg(long, value_name = "WHERE", value_parser = ["file", "stdout"], default_value = "file")]
    pub console: String,
    /// Tell readiness by a newline on this descriptor, as s6 and dinit have it
    #[arg(long, value_name = "N", conflicts_with = "detach")]
    pub notify_fd: Option<i32>,
    /// For units and mcp-boot: start nothing that an operator stopped, and change no wish
    #[arg(long)]
    pub recover: bool,
    /// Start it again by its restart policy, as --detach does: for an init to which all ends are the same, as dinit's
    #[arg(long, conflicts_with = "detach")]
    pub by_policy: bool,
    /// With --detach: leave its restart policy to whoever watches it, a cluster manager: each end of it is one
    #[arg(long, requires = "detach")]
    pub no_restart: bool,
    /// With --detach: adopt what has lost its supervisor, and start nothing; 1 where nothing runs
    #[arg(long, requires = "detach", conflicts_with = "recover")]
    pub adopt: bool,
}

impl Options {
    /// Whether readiness means health.
    pub fn wants_health(&self) -> bool {
        self.ready.as_deref() != Some("started")
    }

    /// Whether the console is copied to standard output.
    pub fn copies_console(&self) -> bool {
        self.console == "stdout"
    }

    /// What can't be done later is refused before anything is started.
    pub fn check(&self, context: &Context<'_>) -> Result<()> {
        if let Some(fd) = self.notify_fd.filter(|fd| !notify::is_open(*fd)) {
            return Err(Error::Usage { what: format!("--notify-fd {fd}: no such descriptor is open") });
        }
        if self.ready.as_deref() == Some("healthy") && watching::health(context).is_none() {
            return Err(Error::refused(context.id, "--ready healthy: no health check is known; it has no tcp port"));
        }
        watching::check(context, self.wants_health())
    }
}

/// A user's run directory goes with the last login unless the user lingers.
pub(super) fn check_lingering(paths: &Paths) {
    if !user::lingers(paths) {
        log::warn!(
            "{} goes with your last logout, and the VM's state with it; run loginctl enable-linger",
            paths.run.display()
        );
    }
}
