//! One ELF file: what kind it is, what it wants beside itself. Read in a few bounded pieces, however large the file is.

use super::read::{exact, up_to};
use super::walk::show;
use super::{FileRef, Files, Stop};
use crate::image::limits::{PATH_MAX, PROGRAM_MEMORY_MAX};
use object::LittleEndian;
use object::elf::{self, Dyn64, FileHeader64, ProgramHeader64};
use object::pod::{from_bytes, slice_from_bytes};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

/// Bytes of the program headers: what Linux takes (fs/binfmt_elf.c, `load_elf_phdrs`).
const HEADERS_MAX: usize = 65536;
/// Bytes of a dynamic section; those of real files have less than two thousand.
const DYNAMIC_MAX: usize = 1 << 20;
/// The end of a process's addresses on x86-64 with four levels of page tables.
const ADDRESS_END: u64 = 1 << 47;
/// Libraries that one file may ask for.
const NEEDED_MAX: usize = 2048;
/// Bytes of all their names.
const NAMES_MAX: usize = 256 << 10;

/// What a usable file says.
#[derive(Debug, Default, Clone)]
pub struct Elf {
    /// Position independent (ET_DYN): a program, or a library.
    pub relocatable: bool,
    /// Where it starts; 0: nowhere.
    pub entry: u64,
    /// That address lies in an executable segment.
    pub entry_is_code: bool,
    /// PT_INTERP.
    pub interpreter: Option<Vec<u8>>,
    /// It has a dynamic section.
    pub dynamic: bool,
    /// DT_SONAME.
    pub soname: Option<Vec<u8>>,
    /// DT_NEEDED, in order.
    pub needed: Vec<Vec<u8>>,
    /// DT_RPATH, not yet split.
    pub rpath: Option<Vec<u8>>,
    /// DT_RUNPATH, not yet split.
    pub runpath: Option<Vec<u8>>,
    /// DT_AUXILIARY, DT_FILTER: libraries looked into before this one; an auxiliary one may be missing.
    pub filters: Vec<Vec<u8>>,
    /// DT_AUDIT, DT_DEPAUDIT: libraries that watch the loader.
    pub audit: Vec<Vec<u8>>,
    /// DF_1_NODEFLIB: neither the loader's own directories nor the cache's entries in them.
    pub no_default: bool,
    /// Where its dynamic symbols are.
    pub symbols: Symbols,
}

/// Offsets in the file of what names its dynamic symbols; 0: not there.
#[derive(Debug, Default, Clone, Copy)]
pub struct Symbols {
    /// The table.
    pub table: u64,
    /// The strings.
    pub strings: u64,
    /// Bytes of the strings.
    pub strings_size: u64,
    /// DT_HASH.
    pub hash: u64,
    /// DT_GNU_HASH.
    pub gnu_hash: u64,
}

/// Why a file is no program or library for this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It has no bytes.
    Empty,
    /// `#!`, and what follows.
    Script(Vec<u8>),
    /// Anything else that is not ELF.
    NotElf,
    /// A 32-bit one, for the machine with this number.
    Bits32(u16),
    /// A big-endian one, for the machine with this number.
    BigEndian(u16),
    /// For the machine with this number.
    Machine(u16),
    /// For the system with this number.
    System(u8),
    /// Neither program nor library: the ELF type.
    Kind(u16),
    /// It contradicts itself.
    Broken(&'static str),
}

impl Unfit {
    /// In words, to follow "is".
    pub fn words(&self) -> String {
        match self {
            Unfit::Empty => "an empty file".into(),
            Unfit::Script(interpreter) => format!("a script for {}", show(interpreter)),
            Unfit::NotElf => "not an ELF file".into(),
            Unfit::Bits32(n) => format!("a 32-bit program for {}", machine(*n)),
            Unfit::BigEndian(n) => format!("a big-endian program for {}", machine(*n)),
            Unfit::Machine(n) => format!("a program for {}", machine(*n)),
            Unfit::System(n) => format!("a program for {}", system(*n)),
            Unfit::Kind(1) => "an object file, not yet linked".into(),
            Unfit::Kind(4) => "a core dump".into(),
            Unfit::Kind(n) => format!("an ELF file of the unknown type {n}"),
            Unfit::Broken(why) => format!("a broken ELF file: {why}"),
        }
    }
}

fn machine(number: u16) -> String {
    let name = match number {
        3 => "x86 (i386)",
        8 => "MIPS",
        20 => "PowerPC",
        21 => "PowerPC 64",
        22 => "S/390",
        40 => "ARM",
        62 => "x86-64",
        183 => "AArch64 (arm64)",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return format!("the unknown machine {number}"),
    };
    name.into()
}

fn system(number: u8) -> String {
    let name = match number {
        1 => "HP-UX",
        2 => "NetBSD",
        6 => "Solaris",
        7 => "AIX",
        8 => "IRIX",
        9 => "FreeBSD",
        12 => "OpenBSD",
        _ => return format!("the unknown system {number}"),
    };
    name.into()
}

/// Why [`read`] gives nothing.
#[derive(Debug)]
pub enum Fail {
    /// The image can't tell yet, or reading failed.
    Stop(Stop),
    /// The file is not what is wanted.
    Unfit(Unfit),
}

impl From<Stop> for Fail {
    fn from(stop: Stop) -> Fail {
        Fail::Stop(stop)
    }
}

fn broken(why: &'static str) -> Fail {
    Fail::Unfit(Unfit::Broken(why))
}

/// Reads what `file` says of itself.
pub fn read(files: &dyn Files, file: &FileRef) -> Result<Elf, Fail> {
    let head = up_to(files, file, 0, 256)?;
    let header = header(&head).map_err(Fail::Unfit)?;
    let e = LittleEndian;
    let mut elf = Elf { relocatable: header.e_type(e) == elf::ET_DYN, entry: header.e_entry(e), ..Elf::default() };
    let count = usize::from(header.e_phnum(e));
    let size = count * size_of::<ProgramHeader64<LittleEndian>>();
    if usize::from(header.e_phentsize(e)) != size_of::<ProgramHeader64<LittleEndian>>() || size > HEADERS_MAX {
        return Err(broken("its program headers have no sensible size"));
    }
    let bytes = exact(files, file, header.e_phoff(e), size)?.ok_or(broken("its program headers lie beyond its end"))?;
    let (segments, _) =
        slice_from_bytes::<ProgramHeader64<LittleEndian>>(&bytes, count).map_err(|()| broken("its program headers"))?;
    check_segments(segments, file.size)?;
    elf.entry_is_code = segments.iter().any(|s| {
        let code = s.p_type(e) == elf::PT_LOAD && s.p_flags(e).0 & elf::PF_X.0 != 0;
        code && elf.entry != 0 && elf.entry.checked_sub(s.p_vaddr(e)).is_some_and(|into| into < s.p_memsz(e))
    });
    if let Some(segment) = segments.iter().find(|s| s.p_type(e) == elf::PT_INTERP) {
        let size = usize::try_from(segment.p_filesz(e)).unwrap_or(usize::MAX);
        if !(2..=PATH_MAX).contains(&size) {
            return Err(broken("its interpreter has no sensible length"));
        }
        let bytes =
            exact(files, file, segment.p_offset(e), size)?.ok_or(broken("its interpreter lies beyond its end"))?;
        let path = bytes.split(|b| *b == 0).next().unwrap_or_default();
        if path.first() != Some(&b'/') || path.len() == bytes.len() {
            return Err(broken("its interpreter is no absolute path"));
        }
        elf.interpreter = Some(path.to_vec());
    }
    if let Some(segment) = segments.iter().find(|s| s.p_type(e) == elf::PT_DYNAMIC) {
        elf.dynamic = true;
        dynamic(files, file, segments, segment, &mut elf)?;
    }
    Ok(elf)
}

/// Refuses segments that no kernel could load from a file of `size` bytes (elf(5), Phdr).
fn check_segments(segments: &[ProgramHeader64<LittleEndian>], size: u64) -> Result<(), Fail> {
    let e = LittleEndian;
    let (mut loaded, mut memory) = (false, 0_u64);
    for segment in segments.iter().filter(|s| matches!(s.p_type(e), elf::PT_LOAD | elf::PT_TLS)) {
        let (in_file, in_memory) = (segment.p_filesz(e), segment.p_memsz(e));
        if in_file > 0 && segment.p_offset(e).checked_add(in_file).is_none_or(|end| end > size) {
            return Err(broken("a segment lies beyond its end"));
        }
        if in_file > in_memory {
            return Err(broken("a segment has more bytes in the file than in memory"));
        }
        if segment.p_vaddr(e).checked_add(in_memory).is_none_or(|end| end > ADDRESS_END) {
            return Err(broken("a segment lies beyond the address space"));
        }
        memory = memory.saturating_add(in_memory);
        loaded |= segment.p_type(e) == elf::PT_LOAD;
    }
    if memory > PROGRAM_MEMORY_MAX {
        return Err(broken("its segments take more memory than a unikernel may have"));
    }
    if loaded { Ok(()) } else { Err(broken("it has nothing to load")) }
}

/// The header, where it is one of a program or library for x86-64 Linux.
fn header(bytes: &[u8]) -> Result<&FileHeader64<LittleEndian>, Unfit> {
    if bytes.is_empty() {
        return Err(Unfit::Empty);
    }
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        return Err(Unfit::Script(line.trim_ascii().to_vec()));
    }
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(Unfit::NotElf);
    }
    let [_, _, _, _, class, data, version, system, ..] = bytes else { return Err(Unfit::Broken("it ends too soon")) };
    let big = *data == 2;
    let half = |at: usize| -> u16 {
        let two = [bytes.get(at).copied().unwrap_or(0), bytes.get(at + 1).copied().unwrap_or(0)];
        if big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) }
    };
    // The first fields are in one place in both classes.
    let (kind, machine) = (half(16), half(18));
    match (class, data) {
        (1, 1 | 2) => return Err(Unfit::Bits32(machine)),
        (2, 2) => return Err(Unfit::BigEndian(machine)),
        (2, 1) => {}
        _ => return Err(Unfit::Broken("neither 32 nor 64 bits, or of no byte order")),
    }
    if machine != elf::EM_X86_64.0 {
        return Err(Unfit::Machine(machine));
    }
    // System V and Linux (GNU).
    if !matches!(system, 0 | 3) {
        return Err(Unfit::System(*system));
    }
    let (header, _) =
        from_bytes::<FileHeader64<LittleEndian>>(bytes).map_err(|()| Unfit::Broken("it ends in its header"))?;
    if *version != 1 || header.e_version(LittleEndian) != 1 {
        return Err(Unfit::Broken("of an unknown version"));
    }
    if kind != elf::ET_EXEC.0 && kind != elf::ET_DYN.0 {
        return Err(Unfit::Kind(kind));
    }
    Ok(header)
}

fn dynamic(
    files: &dyn Files,
    file: &FileRef,
    segments: &[ProgramHeader64<LittleEndian>],
    segment: &ProgramHeader64<LittleEndian>,
    elf: &mut Elf,
) -> Result<(), Fail> {
    let e = LittleEndian;
    let size = usize::try_from(segment.p_filesz(e)).unwrap_or(usize::MAX);
    if size > DYNAMIC_MAX {
        return Err(broken("its dynamic section has no sensible size"));
    }
    let bytes =
        exact(files, file, segment.p_offset(e), size)?.ok_or(broken("its dynamic section lies beyond its end"))?;
    let (entries, _) = slice_from_bytes::<Dyn64<LittleEndian>>(&bytes, size / size_of::<Dyn64<LittleEndian>>())
        .map_err(|()| broken("its dynamic section"))?;
    let end = entries.iter().position(|d| d.tag(e) == elf::DT_NULL).unwrap_or(entries.len());
    let entries = &entries[..end];
    // Of two that say the same thing the loader takes the last.
    let value = |wanted: elf::DynamicTag| entries.iter().rev().find(|d| d.tag(e) == wanted).map(|d| d.val(e));
    let place = |wanted: elf::DynamicTag| value(wanted).and_then(|address| offset(segments, address)).unwrap_or(0);
    elf.symbols = Symbols {
        table: place(elf::DT_SYMTAB),
        strings: place(elf::DT_STRTAB),
        strings_size: value(elf::DT_STRSZ).unwrap_or(0),
        hash: place(elf::DT_HASH),
        gnu_hash: place(elf::DT_GNU_HASH),
    };
    elf.no_default = value(elf::DT_FLAGS_1).unwrap_or(0) & elf::DF_1_NODEFLIB.0 != 0;
    let strings = elf.symbols;
    let string = |at: u64| -> Result<Vec<u8>, Fail> {
        if strings.strings == 0 || at >= strings.strings_size {
            return Err(broken("a name of its dynamic section lies outside its strings"));
        }
        let Some(from) = strings.strings.checked_add(at) else { return Err(broken("its strings lie nowhere")) };
        let most = usize::try_from(strings.strings_size - at).unwrap_or(usize::MAX);
        for length in [128, PATH_MAX + 1] {
            let bytes = up_to(files, file, from, length.min(most))?;
            if let Some(end) = memchr::memchr(0, &bytes) {
                return Ok(bytes[..end].to_vec());
            }
        }
        Err(broken("a name of its dynamic section has no end"))
    };
    let mut names = 0;
    for entry in entries {
        let value = entry.val(e);
        match entry.tag(e) {
            elf::DT_NEEDED => {
                let name = string(value)?;
                names += name.len();
                if elf.needed.len() == NEEDED_MAX || names > NAMES_MAX {
                    return Err(broken("it asks for more libraries than any program does"));
                }
                elf.needed.push(name);
            }
            elf::DT_SONAME => elf.soname = Some(string(value)?),
            elf::DT_RPATH => elf.rpath = Some(string(value)?),
            elf::DT_RUNPATH => elf.runpath = Some(string(value)?),
            elf::DT_AUXILIARY | elf::DT_FILTER => few(&mut elf.filters, string(value)?)?,
            elf::DT_AUDIT | elf::DT_DEPAUDIT => few(&mut elf.audit, string(value)?)?,
            _ => {}
        }
    }
    Ok(())
}

fn few(names: &mut Vec<Vec<u8>>, name: Vec<u8>) -> Result<(), Fail> {
    if names.len() == 64 {
        return Err(broken("it has more filters than any program does"));
    }
    names.push(name);
    Ok(())
}

/// Where in the file an address of the loaded program is.
fn offset(segments: &[ProgramHeader64<LittleEndian>], address: u64) -> Option<u64> {
    let e = LittleEndian;
    segments.iter().filter(|s| s.p_type(e) == elf::PT_LOAD).find_map(|s| {
        let into = address.checked_sub(s.p_vaddr(e))?;
        (into < s.p_filesz(e)).then(|| s.p_offset(e).checked_add(into)).flatten()
    })
}
