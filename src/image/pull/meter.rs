//! How far a pull is: numbers that another thread may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module. Bytes are those that came over the way, packed as they were.
#[derive(Debug, Default)]
pub struct Meter {
    fetched: AtomicU64,
    wanted: AtomicU64,
    total: AtomicU64,
    layers_fetched: AtomicU64,
    layers: AtomicU64,
}

/// What a [`Meter`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Bytes that have come.
    pub fetched: u64,
    /// Bytes that will have to come, as far as is known.
    pub wanted: u64,
    /// Bytes of the whole image.
    pub total: u64,
    /// Layers of which something was fetched.
    pub layers_fetched: u64,
    /// Layers of the image.
    pub layers: u64,
}

impl Meter {
    /// What it shows now.
    pub fn read(&self) -> Reading {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Reading {
            fetched: get(&self.fetched),
            wanted: get(&self.wanted),
            total: get(&self.total),
            layers_fetched: get(&self.layers_fetched),
            layers: get(&self.layers),
        }
    }

    /// An image of so many bytes and layers.
    pub(super) fn image(&self, total: u64, layers: usize) {
        self.total.store(total, Ordering::Relaxed);
        self.layers.store(layers as u64, Ordering::Relaxed);
    }

    /// So many bytes of a layer will come.
    pub(super) fn layer(&self, bytes: u64) {
        self.wanted.fetch_add(bytes, Ordering::Relaxed);
        self.layers_fetched.fetch_add(1, Ordering::Relaxed);
    }

    /// So many bytes have come of a document that nobody announced.
    pub(super) fn document(&self, bytes: u64) {
        self.wanted.fetch_add(bytes, Ordering::Relaxed);
        self.came(bytes);
    }

    /// So many bytes have come.
    pub(super) fn came(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
    }
}
