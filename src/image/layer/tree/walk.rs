//! From a path to a node, through symbolic links, never out of the root.

use super::super::super::limits::LINKS_MAX;
use super::{CLOSED, DIRECTORY, GONE, Kind, NodeId, ROOT, Tree, UNKNOWN};
use std::collections::VecDeque;

/// Bytes of link targets that are followed for one image. Many long paths through many long links would take hours.
const EXPANDED_MAX: u64 = 64 << 20;

/// What one name in one directory leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A node that is there.
    To(NodeId),
    /// Nothing.
    Nothing,
    /// It depends on a layer that is missing.
    Below,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// To a node that is there.
    To(NodeId),
    /// Nothing is there: `rest`, which is not empty, is missing in that directory.
    Missing(NodeId, Vec<Vec<u8>>),
    /// Something in the middle is no directory.
    Blocked,
    /// More links than [`LINKS_MAX`], or more than anybody means well with.
    Loop,
    /// It depends on a layer that is missing.
    Below,
}

impl Tree {
    /// The name `name` in the directory `parent`.
    pub fn step(&self, parent: NodeId, name: &[u8]) -> Step {
        match self.table.find(&self.nodes, &self.names, parent, name) {
            Some(id) if self.nodes[id as usize].is(GONE) => Step::Nothing,
            Some(id) => Step::To(id),
            None if self.nodes[parent as usize].is(CLOSED) => Step::Nothing,
            None => Step::Below,
        }
    }

    /// Where `path` leads, absolute or below the root; a link at its end is followed where `follow` says so. What is
    /// missing in an open directory is [`Walked::Below`], unless `guess` takes it for missing.
    pub fn walk(&self, path: &[u8], follow: bool, guess: bool) -> Walked {
        let mut parts: VecDeque<&[u8]> = parts(path).collect();
        let (mut here, mut links) = (ROOT, 0);
        while let Some(part) = parts.pop_front() {
            if part == b".." {
                here = self.nodes[here as usize].parent;
                continue;
            }
            let node = match self.step(here, part) {
                Step::To(node) => node,
                Step::Below if !guess => return Walked::Below,
                Step::Nothing | Step::Below => {
                    let rest = std::iter::once(part).chain(parts).map(<[u8]>::to_vec).collect();
                    return Walked::Missing(here, rest);
                }
            };
            let last = parts.is_empty();
            match self.kind(node) {
                Some(Kind::Symlink(target)) if follow || !last => {
                    links += 1;
                    let expanded = self.expanded.get() + target.len() as u64;
                    self.expanded.set(expanded);
                    if links > LINKS_MAX || expanded > EXPANDED_MAX {
                        return Walked::Loop;
                    }
                    if target.starts_with(b"/") {
                        here = ROOT;
                    }
                    for part in self::parts(target).rev() {
                        parts.push_front(part);
                    }
                }
                Some(Kind::Directory) => here = node,
                Some(_) if last => here = node,
                Some(_) => return Walked::Blocked,
                // Not known what it is.
                None if last && !follow => here = node,
                None => return Walked::Below,
            }
        }
        Walked::To(here)
    }

    /// Whether all that is in the directory is known.
    pub fn is_closed(&self, node: NodeId) -> bool {
        self.nodes[node as usize].is(CLOSED)
    }

    /// Whether nothing at all can be told without the layers that are missing.
    pub fn is_unsure(&self) -> bool {
        self.unsure
    }

    pub(super) fn is_directory(&self, node: NodeId) -> bool {
        let node = &self.nodes[node as usize];
        node.is(DIRECTORY) && !node.is(GONE) && node.inode != UNKNOWN
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".")
}
