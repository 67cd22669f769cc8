//! One point in monotonic time, computed at the top and handed down.

use std::time::{Duration, Instant};

/// When to give up. Monotonic: a step of the wall clock changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// `after` from now.
    pub fn after(after: Duration) -> Deadline {
        // A century stands for "never" where the sum would overflow.
        let now = Instant::now();
        Deadline(now.checked_add(after).unwrap_or_else(|| now + Duration::from_secs(3_153_600_000)))
    }

    /// What is left; zero when it has passed.
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }

    /// The earlier of the two.
    pub fn min(self, other: Deadline) -> Deadline {
        Deadline(self.0.min(other.0))
    }

    /// The later of the two.
    pub fn max(self, other: Deadline) -> Deadline {
        Deadline(self.0.max(other.0))
    }

    /// What is left as a timeout for `poll`, in whole milliseconds rounded up, so that a wait never ends too early.
    pub fn poll_timeout(&self) -> nix::poll::PollTimeout {
        let ms = self.left().as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
        nix::poll::PollTimeout::try_from(ms).unwrap_or(nix::poll::PollTimeout::MAX)
    }
}
