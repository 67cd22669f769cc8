//! The files of an image as one tar: directories and all that has no contents first, then files in the order in which
//! the layers have them, so that each layer is unpacked once, then further names of what was written before.

use super::bad;
use super::emit::{Emit, Subject};
use super::stream::{Fill, Stream};
use super::tree::{Kind, NodeId, Tree};
use crate::sys::Result;
use std::io::Write;

/// No node.
const NONE: NodeId = NodeId::MAX;

/// Writes the tar of `tree` to `to`. `open` gives a layer's unpacked bytes, by the number that the tree has for it.
pub fn merge<F: Fill>(tree: &Tree, mut open: impl FnMut(usize) -> Result<F>, to: impl Write) -> Result<()> {
    let mut emit = Emit::new(to);
    let (files, links) = lay_out(tree, &mut emit)?;
    let mut layer: Option<(usize, Stream<F>)> = None;
    for (node, ..) in files {
        let Some((number, content)) = tree.about(node).and_then(|about| tree.content(about.inode)) else { continue };
        if layer.as_ref().is_none_or(|(open, _)| *open != number) {
            // The one before goes first: two windows are more than one.
            layer = None;
        }
        let (_, stream) = match &mut layer {
            Some(layer) => layer,
            none => none.insert((number, Stream::undigested(open(number)?))),
        };
        emit.file(&subject(tree, node, &tree.path(node))?, &content)?;
        for piece in &content.pieces {
            let gap = piece.from.checked_sub(stream.position()).ok_or_else(|| bad("its index is not its own"))?;
            stream.skip(gap)?;
            stream.pass(piece.length, |bytes| emit.data(bytes))?;
        }
    }
    for (node, first) in links {
        emit.link(&subject(tree, node, &tree.path(node))?, &tree.path(first))?;
    }
    emit.finish()
}

/// A file and where its contents begin.
type Placed = (NodeId, u64, u8);
/// A further name, and the first one.
type Linked = (NodeId, NodeId);

/// Writes all that has no contents. The files that have, in the order of the layers, and the further names.
fn lay_out<W: Write>(tree: &Tree, emit: &mut Emit<W>) -> Result<(Vec<Placed>, Vec<Linked>)> {
    let (mut files, mut links) = (Vec::new(), Vec::new());
    let mut firsts = vec![NONE; tree.inodes()];
    let mut stack = vec![0];
    while let Some(node) = stack.pop() {
        let (Some(kind), Some(about)) = (tree.kind(node), tree.about(node)) else {
            return Err(bad("a hard link to nothing"));
        };
        let first = &mut firsts[about.inode as usize];
        if *first != NONE {
            links.push((node, *first));
            continue;
        }
        *first = node;
        if let Kind::File(1..) = kind
            && let Some((layer, content)) = tree.content(about.inode)
        {
            let from = content.pieces.first().map_or(0, |piece| piece.from);
            files.push((node, from, layer as u8));
            continue;
        }
        emit.special(&subject(tree, node, &tree.path(node))?, kind)?;
        if kind == Kind::Directory {
            let here = stack.len();
            stack.extend(tree.children(node));
            // Backwards, as the last one is taken first.
            stack[here..].sort_unstable_by(|a, b| tree.name(*b).cmp(tree.name(*a)));
        }
    }
    files.sort_unstable_by_key(|(node, from, layer)| (*layer, *from, *node));
    Ok((files, links))
}

fn subject<'a>(tree: &'a Tree, node: NodeId, path: &'a [u8]) -> Result<Subject<'a>> {
    let about = tree.about(node).ok_or_else(|| bad("a hard link to nothing"))?;
    Ok(Subject { path, about, xattrs: tree.xattrs(node) })
}
