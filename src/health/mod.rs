//! One health check.
