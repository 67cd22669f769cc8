//! Whole closures of small images made here.
#![allow(clippy::unwrap_used)]
