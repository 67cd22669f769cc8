//! Names of services and components, and how a target is written.

use crate::sys::{Error, Result};
use std::fmt;

/// Whether `name` is `[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?`.
pub fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=32).contains(&bytes.len())
        && bytes.first().is_some_and(alnum)
        && bytes.last().is_some_and(alnum)
        && bytes.iter().all(|b| alnum(b) || *b == b'-')
}

/// One component's full name, `SERVICE/COMPONENT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId {
    /// The service.
    pub service: String,
    /// The component.
    pub component: String,
}

impl ComponentId {
    /// `SERVICE_COMPONENT`, for places where a slash can't be. It is unambiguous: no name has a `_` in it.
    pub fn flat(&self) -> String {
        format!("{}_{}", self.service, self.component)
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.component)
    }
}

/// What an operator types: `SERVICE` or `SERVICE/COMPONENT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: String,
    /// The component; `None`: all of the service's.
    pub component: Option<String>,
}

impl Target {
    /// Reads `SERVICE[/COMPONENT]`.
    pub fn parse(text: &str) -> Result<Target> {
        let (service, component) = match text.split_once('/') {
            Some((s, c)) => (s, Some(c)),
            None => (text, None),
        };
        for name in [Some(service), component].into_iter().flatten() {
            if !is_valid(name) {
                return Err(Error::Usage {
                    what: format!(
                        "{text:?}: not a target: SERVICE or SERVICE/COMPONENT, each 1 to 32 of a-z, 0-9 and inner '-'"
                    ),
                });
            }
        }
        Ok(Target { service: service.to_string(), component: component.map(str::to_string) })
    }

    /// Whether `id` is meant.
    pub fn matches(&self, id: &ComponentId) -> bool {
        self.service == id.service && self.component.as_ref().is_none_or(|c| *c == id.component)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.component {
            Some(c) => write!(f, "{}/{c}", self.service),
            None => f.write_str(&self.service),
        }
    }
}
