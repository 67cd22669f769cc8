//! The init systems that a component can be a service of.

/// An init system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Init {
    /// systemd.
    Systemd,
    /// s6: service directories under s6-svscan.
    S6,
    /// s6-rc on s6.
    S6Rc,
    /// runit.
    Runit,
    /// OpenRC with supervise-daemon.
    Openrc,
    /// dinit.
    Dinit,
}

/// Each by its name in `[boot] init`, and on the command line of mcp-units.
pub const INITS: &[(&str, Init)] = &[
    ("systemd", Init::Systemd),
    ("s6", Init::S6),
    ("s6-rc", Init::S6Rc),
    ("runit", Init::Runit),
    ("openrc", Init::Openrc),
    ("dinit", Init::Dinit),
];

impl Init {
    /// As people write it.
    pub fn name(self) -> &'static str {
        INITS.iter().find(|(_, init)| *init == self).map_or("", |(name, _)| name)
    }

    /// The words that make it start a component, with the placeholders of `[boot] start_command`.
    pub fn start_words(self) -> Vec<String> {
        let words: &[&str] = match self {
            // Whoever gives the order looks for himself what comes of it: 16 at once, and their reasons meanwhile.
            Init::Systemd => &["systemctl", "--no-block", "start", "mcp-component@{unit}.service"],
            Init::S6 | Init::S6Rc => &["s6-svc", "-u", "/run/service/mcp-{name}"],
            Init::Runit => &["sv", "up", "mcp-{name}"],
            Init::Openrc => &["rc-service", "mcp-{name}", "up"],
            Init::Dinit => &["dinitctl", "start", "--no-wait", "mcp-{name}"],
        };
        words.iter().map(ToString::to_string).collect()
    }

    /// The words that make it stop a component, and not start it again by itself; they return when it has stopped.
    pub fn stop_words(self) -> Vec<String> {
        let words: &[&str] = match self {
            Init::Systemd => &["systemctl", "stop", "mcp-component@{unit}.service"],
            Init::S6 | Init::S6Rc => &["s6-svc", "-wD", "-d", "/run/service/mcp-{name}"],
            // Without a number it waits for 7 s; whoever runs this knows how long it may take.
            Init::Runit => &["sv", "-w", "86400", "stop", "mcp-{name}"],
            // A stage that goes down waits for nobody who waits for it.
            Init::Openrc => &["rc-service", "--nodeps", "mcp-{name}", "stop"],
            Init::Dinit => &["dinitctl", "stop", "mcp-{name}"],
        };
        words.iter().map(ToString::to_string).collect()
    }
}
