//! One entry over what is there, as it would go on a disk: what is no directory replaces whatever has its name, a
//! directory keeps what it has and takes new owners, paths follow links of the image inside the image.

use super::super::super::limits::DEPTH_MAX;
use super::super::bad;
use super::super::index::{Entry, Kind};
use super::super::path::{show, split};
use super::{
    CLEARED, CLOSED, DIRECTORY, GONE, Inode, LINKED, NONE, Node, NodeId, PIECES_MAX, ROOT, Step, Tree, UNKNOWN, Walked,
    What,
};
use crate::sys::Result;

impl Tree {
    pub(super) fn add(&mut self, entry: Entry) -> Result<()> {
        match &entry.kind {
            Kind::Whiteout => self.whiteout(&entry.path),
            Kind::Opaque => match self.directory(&entry.path)? {
                Some(node) => {
                    self.strip(node);
                    self.nodes[node as usize].flags |= CLOSED;
                    Ok(())
                }
                None => Ok(()),
            },
            Kind::Hardlink(target) => self.link(&entry, target),
            _ => self.make(&entry),
        }
    }

    /// A new inode under the entry's name.
    fn make(&mut self, entry: &Entry) -> Result<()> {
        let is_directory = entry.kind == Kind::Directory;
        let Some((parent, name)) = split(&entry.path) else {
            if !is_directory {
                return Err(bad("the root is no directory"));
            }
            self.inodes[0] = self.inode_of(entry)?;
            return Ok(());
        };
        let Some(parent) = self.directory(parent)? else { return Ok(()) };
        if is_directory
            && let Step::To(there) = self.step(parent, name)
            && self.is_directory(there)
        {
            let inode = self.nodes[there as usize].inode;
            self.inodes[inode as usize] = self.inode_of(entry)?;
            self.nodes[there as usize].layer = self.layer;
            return Ok(());
        }
        let inode = self.inode_of(entry)?;
        self.inodes.push(inode);
        self.place(parent, name, (self.inodes.len() - 1) as u32, is_directory)?;
        Ok(())
    }

    /// Another name for what is there.
    fn link(&mut self, entry: &Entry, target: &[u8]) -> Result<()> {
        let Some((parent, name)) = split(&entry.path) else { return Err(bad("the root is a hard link")) };
        let about = |reason: &str| bad(format!("{}: a hard link to {}, {reason}", show(&entry.path), show(target)));
        let inode = match self.walk(target, false, false) {
            Walked::To(node) if self.is_directory(node) => return Err(about("which is a directory")),
            Walked::To(node) => self.nodes[node as usize].inode,
            Walked::Below => UNKNOWN,
            Walked::Missing(..) | Walked::Blocked | Walked::Loop => return Err(about("which is not there")),
        };
        let Some(parent) = self.directory(parent)? else { return Ok(()) };
        if let Some(there) = self.inodes.get_mut(inode as usize) {
            (there.uid, there.gid, there.mtime) = (entry.uid, entry.gid, entry.mtime);
            if !matches!(there.what, What::Symlink(..)) {
                there.mode = entry.mode as u16;
            }
            if !entry.xattrs.is_empty() {
                there.xattrs = self.names.keep_pairs(&entry.xattrs)?;
            }
        }
        self.place(parent, name, inode, false)?;
        Ok(())
    }

    /// What the layers below have under that path is gone; what this one has stays, whatever came first.
    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let Some((parent, name)) = split(path) else { return Err(bad("a whiteout of the root")) };
        let parent = match self.walk(parent, true, false) {
            Walked::To(node) if self.is_directory(node) => node,
            Walked::Below => {
                self.unsure = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        match self.step(parent, name) {
            Step::Nothing => {}
            Step::Below => {
                let node = self.place(parent, name, UNKNOWN, false)?;
                self.nodes[node as usize].flags |= GONE;
            }
            Step::To(node) => {
                let ours = self.nodes[node as usize].layer == self.layer;
                let stays = self.is_directory(node) && self.strip(node) || ours;
                self.nodes[node as usize].flags |= if stays { CLOSED } else { GONE };
            }
        }
        Ok(())
    }

    /// Takes all that the layers below have out of a directory. Whether anything is left in it.
    fn strip(&mut self, directory: NodeId) -> bool {
        let about = &mut self.nodes[directory as usize];
        if about.is(CLEARED) && about.cleared == self.layer {
            return self.children(directory).next().is_some();
        }
        about.flags |= CLEARED;
        about.cleared = self.layer;
        let mut next = std::mem::replace(&mut about.first, NONE);
        let mut left = false;
        while next != NONE {
            let id = next;
            next = self.nodes[id as usize].next;
            let gone = self.nodes[id as usize].is(GONE);
            let ours = self.nodes[id as usize].layer == self.layer;
            if !gone && (self.is_directory(id) && self.strip(id) || ours) {
                left = true;
                self.nodes[id as usize].flags |= CLOSED;
                self.nodes[id as usize].next = self.nodes[directory as usize].first;
                self.nodes[directory as usize].first = id;
            } else {
                let node = &mut self.nodes[id as usize];
                node.flags = (node.flags | GONE) & !LINKED;
            }
        }
        left
    }

    /// The directory at `path`, links followed; what is missing is made. `None`: nothing can be told any more.
    fn directory(&mut self, path: &[u8]) -> Result<Option<NodeId>> {
        let (mut here, rest) = match self.walk(path, true, true) {
            Walked::To(node) if self.is_directory(node) => return Ok(Some(node)),
            Walked::Missing(node, rest) => (node, rest),
            Walked::Below => {
                self.unsure = true;
                return Ok(None);
            }
            Walked::To(_) | Walked::Blocked => {
                return Err(bad(format!("{}: is to be a directory and is something else", show(path))));
            }
            Walked::Loop => return Err(bad(format!("{}: a loop of symbolic links", show(path)))),
        };
        for name in rest {
            if name == b".." {
                here = self.nodes[here as usize].parent;
                continue;
            }
            here = match self.step(here, &name) {
                Step::To(node) => node,
                // It may be a link there, or a directory with an owner.
                Step::Below => {
                    self.unsure = true;
                    return Ok(None);
                }
                Step::Nothing => {
                    self.count()?;
                    self.inodes.push(Inode {
                        what: What::Directory,
                        xattrs: (0, 0),
                        mtime: 0,
                        uid: 0,
                        gid: 0,
                        mode: 0o755,
                        layer: self.layer,
                    });
                    self.place(here, &name, (self.inodes.len() - 1) as u32, true)?
                }
            };
        }
        Ok(Some(here))
    }

    /// Puts an inode under a name, in place of whatever has it.
    fn place(&mut self, parent: NodeId, name: &[u8], inode: u32, is_directory: bool) -> Result<NodeId> {
        let there = self.table.find(&self.nodes, &self.names, parent, name);
        let closed = there.is_some() || self.nodes[parent as usize].is(CLOSED);
        let kind = if is_directory { DIRECTORY } else { 0 } | if closed { CLOSED } else { 0 };
        let first = self.nodes[parent as usize].first;
        if let Some(id) = there {
            let node = &mut self.nodes[id as usize];
            // What was a directory may have names in the table under its number.
            if !node.is(DIRECTORY) {
                let linked = node.is(LINKED);
                (node.inode, node.layer, node.flags) = (inode, self.layer, kind | LINKED);
                if !linked {
                    node.next = first;
                    self.nodes[parent as usize].first = id;
                }
                return Ok(id);
            }
            node.flags |= GONE;
        }
        let name_at = match there {
            Some(old) => self.nodes[old as usize].name,
            None => self.names.keep(name)?.0,
        };
        let depth = self.nodes[parent as usize].depth + 1;
        if usize::from(depth) > DEPTH_MAX {
            return Err(bad(format!("{}: more than {DEPTH_MAX} directories deep", show(name))));
        }
        let id = self.nodes.len() as NodeId;
        self.nodes.push(Node {
            parent,
            next: first,
            first: NONE,
            inode,
            name: name_at,
            depth,
            name_length: name.len() as u8,
            layer: self.layer,
            cleared: 0,
            flags: kind | LINKED,
        });
        self.nodes[parent as usize].first = id;
        self.table.put(&self.nodes, &self.names, id);
        Ok(id)
    }

    fn inode_of(&mut self, entry: &Entry) -> Result<Inode> {
        let what = match &entry.kind {
            Kind::File(content) => match content.pieces.as_slice() {
                [] if content.size == 0 => What::File(0, 0),
                [piece] if piece.length == content.size => What::File(content.size, piece.from),
                pieces => {
                    if pieces.len() > PIECES_MAX - self.pieces.len() {
                        return Err(bad(format!("files of more than {PIECES_MAX} pieces")));
                    }
                    let first = self.pieces.len() as u32;
                    self.pieces.extend_from_slice(pieces);
                    What::Holes(content.size, first, pieces.len() as u32)
                }
            },
            Kind::Symlink(target) => {
                let (at, length) = self.names.keep(target)?;
                What::Symlink(at, length)
            }
            Kind::CharDevice(major, minor) => What::Char(*major, *minor),
            Kind::BlockDevice(major, minor) => What::Block(*major, *minor),
            Kind::Fifo => What::Fifo,
            Kind::Directory | Kind::Hardlink(_) | Kind::Whiteout | Kind::Opaque => What::Directory,
        };
        let xattrs = if entry.xattrs.is_empty() { (0, 0) } else { self.names.keep_pairs(&entry.xattrs)? };
        Ok(Inode {
            what,
            xattrs,
            mtime: entry.mtime,
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode as u16,
            layer: self.layer,
        })
    }
}

const _: () = assert!(ROOT == 0 && size_of::<Node>() <= 28 && size_of::<Inode>() <= 56);
