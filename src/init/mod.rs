//! PID 1 inside a microvm, and what it shares with the host.
