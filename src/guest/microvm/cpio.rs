//! Archives in cpio's "newc" form, of which an initramfs is made (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst). Several in a row are unpacked one after the other.

/// One archive as it grows. Everything in it belongs to root and has no date, so equal contents give equal bytes.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
/// Archives start at multiples of this, which is what the kernel and other unpackers are used to.
const BLOCK: usize = 512;

impl Archive {
    /// An empty one.
    pub fn new() -> Archive {
        Archive::default()
    }

    /// Adds a directory; its parent must have been added before. `path` has no leading slash.
    pub fn directory(&mut self, path: &str, mode: u32) {
        self.entry(path, DIRECTORY | mode, &[]);
    }

    /// Adds a file of less than 4 GiB; its directory must have been added before. `path` has no leading slash.
    pub fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entry(path, FILE | mode, contents);
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.pad(BLOCK);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        let (size, name_size) = (contents.len() as u32, name.len() as u32 + 1);
        let (inode, none) = (self.entries, 0);
        // inode, mode, uid, gid, links, mtime, size, device (2), device number (2), size of the name, checksum
        let fields = [inode, mode, none, none, links, none, size, none, none, none, none, name_size, none];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(contents);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_the_format_says() {
        let mut archive = Archive::new();
        archive.directory("d", 0o755);
        archive.file("d/file", 0o600, b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % BLOCK, 0);
        let directory = "070701000000010000\
                         41ed00000000000000000000000200000000000000000000000000000000000000000000000000000002\
                         00000000d\0";
        assert_eq!(&bytes[..112], directory.as_bytes());
        let file = "07070100000002000081800000000000000000000000010000000000000005\
                    00000000000000000000000000000000000000070000";
        assert_eq!(&bytes[112..112 + file.len()], file.as_bytes());
        // 110 bytes of header and 7 of name are 117: three more until the contents.
        assert_eq!(&bytes[112 + 110..112 + 128], b"d/file\0\0\0\0hello\0\0\0");
        assert_eq!(&bytes[240..246], b"070701");
        assert!(bytes.windows(11).any(|w| w == b"TRAILER!!!\0"));
    }

    #[test]
    fn an_empty_one_is_a_trailer() {
        assert_eq!(Archive::new().finish().len(), BLOCK);
    }
}
