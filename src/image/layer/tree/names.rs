//! Names in one piece of memory, and the table that finds a node by its directory and its name.

use super::super::bad;
use super::{NONE, Node, NodeId};
use crate::sys::Result;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Bytes of all names, link targets and attributes of an image.
const NAMES_MAX: usize = 256 << 20;

/// Bytes, never taken back.
#[derive(Default)]
pub struct Names(Vec<u8>);

impl Names {
    /// Keeps `bytes`: their offset and length.
    pub fn keep(&mut self, bytes: &[u8]) -> Result<(u32, u32)> {
        let at = self.0.len();
        if bytes.len() > NAMES_MAX - at {
            return Err(bad(format!("names, links and attributes of more than {NAMES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok((at as u32, bytes.len() as u32))
    }

    pub fn get(&self, at: u32, length: u32) -> &[u8] {
        self.0.get(at as usize..at as usize + length as usize).unwrap_or_default()
    }

    /// Keeps names and values.
    pub fn keep_pairs(&mut self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(u32, u32)> {
        let mut bytes = Vec::new();
        for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        self.keep(&bytes)
    }

    pub fn pairs(&self, at: u32, length: u32) -> Vec<(&[u8], &[u8])> {
        let mut bytes = self.get(at, length);
        let mut part = || {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            bytes = rest;
            Some(part)
        };
        let mut pairs = Vec::new();
        while let (Some(name), Some(value)) = (part(), part()) {
            pairs.push((name, value));
        }
        pairs
    }
}

/// Finds nodes. Its hashes have a random seed, so that nobody can make names that collide.
#[derive(Default)]
pub struct Table {
    /// Numbers of nodes, a power of two of them, or [`NONE`]; the place after the right one where that is taken.
    slots: Vec<NodeId>,
    used: usize,
    seed: RandomState,
}

impl Table {
    /// The node `name` in the directory `parent`.
    pub fn find(&self, nodes: &[Node], names: &Names, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let id = *self.slots.get(self.slot(nodes, names, parent, name)?)?;
        (id != NONE).then_some(id)
    }

    /// Makes `id` the node of its name in its directory.
    pub fn put(&mut self, nodes: &[Node], names: &Names, id: NodeId) {
        if (self.used + 1) * 2 > self.slots.len() {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![NONE; (old.len() * 2).max(1024)];
            self.used = 0;
            for id in old.into_iter().filter(|id| *id != NONE) {
                self.set(nodes, names, id);
            }
        }
        self.set(nodes, names, id);
    }

    fn set(&mut self, nodes: &[Node], names: &Names, id: NodeId) {
        let node = &nodes[id as usize];
        let name = names.get(node.name, node.name_length.into());
        if let Some(slot) = self.slot(nodes, names, node.parent, name) {
            self.used += usize::from(self.slots[slot] == NONE);
            self.slots[slot] = id;
        }
    }

    /// Where it is, or would be; `None` while there is no room at all.
    fn slot(&self, nodes: &[Node], names: &Names, parent: NodeId, name: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut hasher = self.seed.build_hasher();
        hasher.write_u32(parent);
        hasher.write(name);
        let mut slot = hasher.finish() as usize & mask;
        // Never full: half of it is empty.
        while let Some(node) = nodes.get(self.slots[slot] as usize) {
            if node.parent == parent && names.get(node.name, node.name_length.into()) == name {
                break;
            }
            slot = (slot + 1) & mask;
        }
        Some(slot)
    }
}
