//! ELF files made here: one segment in which an address is an offset.

/// What one says.
#[derive(Debug, Clone, Default)]
pub struct Make {
    pub executable: bool,
    pub interpreter: Option<&'static str>,
    pub needed: Vec<String>,
    pub soname: Option<&'static str>,
    pub rpath: Option<&'static str>,
    pub runpath: Option<&'static str>,
    pub filter: Option<&'static str>,
    pub flags_1: u64,
    pub undefined: Vec<&'static str>,
    pub trailer: &'static [u8],
}

pub const GLIBC: &str = "/lib64/ld-linux-x86-64.so.2";

/// A static program.
pub fn fixed() -> Vec<u8> {
    Make { executable: true, ..Make::default() }.bytes()
}

/// A dynamic program.
pub fn program(needed: &[&str]) -> Make {
    Make { interpreter: Some(GLIBC), ..library(needed) }
}

/// A library.
pub fn library(needed: &[&str]) -> Make {
    Make { needed: needed.iter().map(|n| n.to_string()).collect(), ..Make::default() }
}

impl Make {
    pub fn bytes(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut string = |text: &str| {
            let at = strings.len() as u64;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let mut tags: Vec<(u64, u64)> = Vec::new();
        for name in &self.needed {
            tags.push((1, string(name)));
        }
        let optional = [(14, self.soname), (15, self.rpath), (29, self.runpath), (0x7fff_fffd, self.filter)];
        for (tag, text) in optional {
            tags.extend(text.map(|t| (tag, string(t))));
        }
        let mut symbols = vec![0; 24];
        for name in &self.undefined {
            symbols.extend(u32::try_from(string(name)).unwrap().to_le_bytes());
            symbols.extend([0x12, 0, 0, 0]);
            symbols.extend([0; 16]);
        }
        let interpreter = self.interpreter.map(|i| [i.as_bytes(), b"\0"].concat()).unwrap_or_default();
        let dynamic = !tags.is_empty() || self.interpreter.is_some();
        let headers = 1 + usize::from(self.interpreter.is_some()) + usize::from(dynamic);
        let at_interpreter = 64 + headers * 56;
        let at_strings = at_interpreter + interpreter.len();
        let at_symbols = at_strings + strings.len();
        let at_hash = at_symbols + symbols.len();
        let at_dynamic = at_hash + 16;
        let word = |n: usize| n as u64;
        if self.flags_1 != 0 {
            tags.push((0x6fff_fffb, self.flags_1));
        }
        tags.extend([(5, word(at_strings)), (10, word(strings.len())), (6, word(at_symbols))]);
        tags.extend([(0x6fff_fef5, word(at_hash)), (0, 0)]);
        let size = at_dynamic + tags.len() * 16 + self.trailer.len();
        let mut all = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        all.extend(if self.executable { [2, 0] } else { [3, 0] });
        all.extend([62, 0, 1, 0, 0, 0]);
        for field in [64, 64, 0_u64] {
            all.extend(field.to_le_bytes());
        }
        all.extend([0, 0, 0, 0, 64, 0, 56, 0]);
        all.extend(u16::try_from(headers).unwrap().to_le_bytes());
        all.extend([64, 0, 0, 0, 0, 0]);
        let mut segment = |kind: u32, from: usize, length: usize| {
            all.extend(kind.to_le_bytes());
            all.extend(5_u32.to_le_bytes());
            for field in [from, from, from, length, length, 8] {
                all.extend(word(field).to_le_bytes());
            }
        };
        if self.interpreter.is_some() {
            segment(3, at_interpreter, interpreter.len());
        }
        segment(1, 0, size);
        if dynamic {
            segment(2, at_dynamic, tags.len() * 16);
        }
        all.extend(interpreter);
        all.extend(&strings);
        all.extend(&symbols);
        // One bucket; the first symbol that is hashed comes after the undefined ones.
        for field in [1, self.undefined.len() + 1, 0, 0] {
            all.extend(u32::try_from(field).unwrap().to_le_bytes());
        }
        for (tag, value) in tags {
            all.extend(tag.to_le_bytes());
            all.extend(value.to_le_bytes());
        }
        all.extend_from_slice(self.trailer);
        assert_eq!(all.len(), size);
        all
    }
}
