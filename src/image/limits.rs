//! What an image may have. Beyond it is refused, in bounded time and memory.

/// Bytes of a manifest, an index or a config: what registries take, and memory that we have.
pub const DOCUMENT_MAX: u64 = 4 << 20;
/// How deep JSON may nest, brackets and braces together.
pub const JSON_DEPTH_MAX: usize = 64;
/// How deep indexes may nest.
pub const INDEX_DEPTH_MAX: usize = 4;
/// Layers of one image.
pub const LAYERS_MAX: usize = 256;
/// Entries of all layers of one image.
pub const ENTRIES_MAX: u64 = 1_000_000;
/// Entries of the layers that a unikernel's program is looked for in: their names are in memory, some 110 bytes each, and
/// a pull is to stay under 32 MB.
pub const UNIKERNEL_ENTRIES_MAX: u64 = 200_000;
/// Bytes of a path in an image, as Linux has it.
pub const PATH_MAX: usize = 4096;
/// Parts of a path.
pub const DEPTH_MAX: usize = 256;
/// Bytes of one part of a path.
pub const NAME_MAX: usize = 255;
/// Bytes of the extended attributes and extension headers of one entry.
pub const EXTENSIONS_MAX: u64 = 1 << 20;
/// Bytes of one layer, unpacked.
pub const LAYER_MAX: u64 = 64 << 30;
/// Bytes of all layers of one image, unpacked.
pub const IMAGE_MAX: u64 = 128 << 30;
/// Bytes of all files that a unikernel takes along.
pub const UNIKERNEL_MAX: u64 = 8 << 30;
/// Bytes of memory that the segments of one ELF file may take.
pub const PROGRAM_MEMORY_MAX: u64 = 8 << 30;
/// Unpacked bytes for each packed one, beyond [`RATIO_FREE`]. Real layers have less than 30; DEFLATE packs zeros by 1032.
pub const RATIO_MAX: u64 = 200;
/// Bytes for each one that is not in a hole, beyond [`RATIO_FREE`], in the files that a unikernel takes along.
pub const HOLES_RATIO_MAX: u64 = 16;
/// Bytes that may come of any number of packed ones, or of holes.
pub const RATIO_FREE: u64 = 256 << 20;
/// The largest window that a zstd layer may ask for.
pub const ZSTD_WINDOW_MAX: u64 = 128 << 20;
/// Symbolic links followed for one path, as Linux has it.
pub const LINKS_MAX: usize = 40;
