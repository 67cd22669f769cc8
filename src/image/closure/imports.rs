//! What a program calls of its C library that a unikernel hasn't got: told from its undefined dynamic symbols.

use super::elf::Elf;
use super::read::up_to;
use super::{FileRef, Files, Stop};
use object::LittleEndian;
use object::elf::Sym64;
use object::pod::from_bytes;

/// Symbols that are looked at, and bytes of their names.
const SYMBOLS_MAX: u64 = 1 << 17;
const STRINGS_MAX: usize = 4 << 20;

/// Calls that start another process.
const CHILDREN: [&[u8]; 11] = [
    b"fork",
    b"vfork",
    b"_Fork",
    b"daemon",
    b"execve",
    b"execv",
    b"execvp",
    b"posix_spawn",
    b"posix_spawnp",
    b"system",
    b"popen",
];

/// What of interest `elf` imports.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imports {
    /// Calls that start other processes, such as `fork`.
    pub children: Vec<&'static str>,
    /// It loads libraries by name while it runs.
    pub dlopen: bool,
}

/// Looks through the undefined symbols. What is broken there is nobody's error: the loader will say so.
pub fn read(files: &dyn Files, file: &FileRef, elf: &Elf) -> Result<Imports, Stop> {
    let symbols = elf.symbols;
    let mut found = Imports::default();
    if symbols.table == 0 || symbols.strings == 0 {
        return Ok(found);
    }
    let size = usize::try_from(symbols.strings_size).unwrap_or(usize::MAX).min(STRINGS_MAX);
    let strings = up_to(files, file, symbols.strings, size)?;
    let mut seen = [false; CHILDREN.len()];
    let total = count(files, file, elf)?.min(SYMBOLS_MAX);
    const STEP: u64 = 2048;
    let width = size_of::<Sym64<LittleEndian>>();
    for start in (0..total).step_by(STEP as usize) {
        let length = (total - start).min(STEP) as usize * width;
        let Some(at) = symbols.table.checked_add(start * width as u64) else { break };
        for bytes in up_to(files, file, at, length)?.chunks_exact(width) {
            let Ok((symbol, _)) = from_bytes::<Sym64<LittleEndian>>(bytes) else { continue };
            let e = LittleEndian;
            if symbol.st_shndx.get(e).0 != 0 {
                continue;
            }
            let name = usize::try_from(symbol.st_name.get(e)).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            if let Some(n) = CHILDREN.iter().position(|c| *c == name) {
                seen[n] = true;
            }
            found.dlopen |= name == b"dlopen";
        }
    }
    let names =
        CHILDREN.iter().zip(seen).filter(|(_, seen)| *seen).map(|(name, _)| std::str::from_utf8(name).unwrap_or(""));
    found.children = names.collect();
    Ok(found)
}

/// How many dynamic symbols there may be among which the undefined ones are: no header says it, only the hash tables do.
fn count(files: &dyn Files, file: &FileRef, elf: &Elf) -> Result<u64, Stop> {
    let word = |at: u64| -> Result<u64, Stop> {
        let bytes = up_to(files, file, at, 4)?;
        Ok(bytes.try_into().map_or(0, |b| u64::from(u32::from_le_bytes(b))))
    };
    Ok(match (elf.symbols.gnu_hash, elf.symbols.hash) {
        // DT_HASH: nbucket, nchain, and nchain is the number of symbols.
        (0, 0) => 0,
        (0, hash) => word(hash.saturating_add(4))?,
        // DT_GNU_HASH: nbuckets, symoffset. Only defined symbols are hashed, and they come last.
        (gnu, _) => word(gnu.saturating_add(4))?,
    })
}
