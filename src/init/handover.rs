//! What the host tells the guest's init: one file in the initramfs.
//!
//! The form is a magic line, then records `KEY LENGTH`, newline, LENGTH bytes, newline, and a last record `end 0`, so
//! that a value may hold anything and a cut-off file is noticed. Unknown keys are errors: host and guest programs are
//! always of one build.

/// Where the file is in the initramfs.
pub const PATH: &str = "/mcp-handover";

const MAGIC: &[u8] = b"mcp-handover 1\n";
const SIZE_MAX: usize = 4 << 20;
const RECORDS_MAX: usize = 65_536;

/// Where the guest's writes to its root go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlay {
    /// To memory: gone with the VM.
    #[default]
    Memory,
    /// To the disk whose serial is [`super::UPPER_SERIAL`].
    Disk,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Serial of its virtio-blk disk: at most 20 bytes.
    pub serial: String,
    /// Where the guest mounts it; made when missing.
    pub path: String,
    /// Its file system: `ext4`.
    pub fstype: String,
}

/// Everything that init needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handover {
    /// The program and its arguments; never empty. Without a slash it is looked for on PATH.
    pub args: Vec<String>,
    /// The program's environment. PATH, HOME and HOSTNAME get defaults.
    pub env: Vec<(String, String)>,
    /// Working directory, made when missing; empty: `/`.
    pub workdir: String,
    /// `USER[:GROUP]`, each a name of the guest's own passwd and group files or a number; empty: root.
    pub user: String,
    /// Signal that asks the program to stop, by its number; 0: SIGTERM.
    pub stop_signal: u8,
    /// Host name; empty: the kernel's.
    pub hostname: String,
    /// Text of /etc/resolv.conf; empty: that file is left alone.
    pub resolv_conf: String,
    /// Whether the program's output is the console itself, a terminal, in place of a pipe.
    pub tty: bool,
    /// Where writes to the root go.
    pub overlay: Overlay,
    /// Volumes, mounted in this order.
    pub volumes: Vec<Volume>,
    /// Random bytes for the guest's generator, which at boot has little to draw from; at most 512.
    pub seed: Vec<u8>,
}

/// The bytes of the file. Errors: nothing to run, a NUL or a `=` where `exec` can't have one, more than 4 MiB.
pub fn encode(handover: &Handover) -> Result<Vec<u8>, String> {
    check(handover)?;
    let mut out = MAGIC.to_vec();
    let mut put = |key: &str, value: &[u8]| {
        out.extend_from_slice(format!("{key} {}\n", value.len()).as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    };
    for arg in &handover.args {
        put("arg", arg.as_bytes());
    }
    for (name, value) in &handover.env {
        put("env", format!("{name}={value}").as_bytes());
    }
    for (key, value) in [
        ("workdir", &handover.workdir),
        ("user", &handover.user),
        ("hostname", &handover.hostname),
        ("resolv-conf", &handover.resolv_conf),
    ] {
        if !value.is_empty() {
            put(key, value.as_bytes());
        }
    }
    if handover.stop_signal != 0 {
        put("stop-signal", handover.stop_signal.to_string().as_bytes());
    }
    if handover.tty {
        put("tty", b"");
    }
    if handover.overlay == Overlay::Disk {
        put("overlay", b"disk");
    }
    for volume in &handover.volumes {
        put("volume", format!("{} {} {}", volume.serial, volume.fstype, volume.path).as_bytes());
    }
    put("seed", &handover.seed);
    put("end", b"");
    if out.len() > SIZE_MAX {
        return Err(format!("arguments and environment of {} bytes, more than the {SIZE_MAX} that fit", out.len()));
    }
    Ok(out)
}

/// Reads what [`encode`] wrote. The error says what is wrong; no input panics or allocates beyond its own size.
pub fn decode(bytes: &[u8]) -> Result<Handover, String> {
    if bytes.len() > SIZE_MAX {
        return Err("handover too large".into());
    }
    let mut rest = bytes.strip_prefix(MAGIC).ok_or("handover of another version, or none")?;
    let mut handover = Handover::default();
    for _ in 0..RECORDS_MAX {
        let (key, value, left) = record(rest).ok_or("handover damaged")?;
        rest = left;
        match key {
            "end" => {
                check(&handover)?;
                return if rest.is_empty() { Ok(handover) } else { Err("handover has something after its end".into()) };
            }
            "seed" => {
                handover.seed = value.to_vec();
                continue;
            }
            _ => {}
        }
        let text = std::str::from_utf8(value).map_err(|_| format!("handover: {key} is not UTF-8"))?;
        match key {
            "arg" => handover.args.push(text.to_string()),
            "env" => {
                let (name, value) = text.split_once('=').ok_or("handover: env without '='")?;
                handover.env.push((name.to_string(), value.to_string()));
            }
            "workdir" => handover.workdir = text.to_string(),
            "user" => handover.user = text.to_string(),
            "stop-signal" => {
                handover.stop_signal = text.parse().map_err(|_| format!("handover: stop-signal {text:?}"))?;
            }
            "hostname" => handover.hostname = text.to_string(),
            "resolv-conf" => handover.resolv_conf = text.to_string(),
            "tty" => handover.tty = true,
            "overlay" if text == "disk" => handover.overlay = Overlay::Disk,
            "volume" => {
                let mut words = text.splitn(3, ' ');
                let (Some(serial), Some(fstype), Some(path)) = (words.next(), words.next(), words.next()) else {
                    return Err("handover: damaged volume".into());
                };
                handover.volumes.push(Volume { serial: serial.into(), path: path.into(), fstype: fstype.into() });
            }
            _ => return Err(format!("handover: unknown key {key:?}")),
        }
    }
    Err("handover: too many records".into())
}

/// The first record of `bytes`: key, value, and what follows.
fn record(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let end = bytes.iter().take(64).position(|b| *b == b'\n')?;
    let (head, rest) = bytes.split_at_checked(end)?;
    let (key, length) = std::str::from_utf8(head).ok()?.split_once(' ')?;
    let length: usize = length.parse().ok()?;
    let (value, rest) = rest.get(1..)?.split_at_checked(length)?;
    Some((key, value, rest.strip_prefix(b"\n")?))
}

/// What neither side accepts.
fn check(handover: &Handover) -> Result<(), String> {
    if handover.args.first().is_none_or(|a| a.is_empty()) {
        return Err("no program to run".into());
    }
    if handover.args.iter().any(|a| a.contains('\0')) {
        return Err("an argument has a NUL byte".into());
    }
    for (name, value) in &handover.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("{name:?} is no name for an environment variable"));
        }
        if value.contains('\0') {
            return Err(format!("environment variable {name} has a NUL byte"));
        }
    }
    for (what, value) in
        [("working directory", &handover.workdir), ("user", &handover.user), ("host name", &handover.hostname)]
    {
        if value.contains(['\0', '\n']) {
            return Err(format!("{what} {value:?} has a NUL byte or a line end"));
        }
    }
    if !handover.workdir.is_empty() && !handover.workdir.starts_with('/') {
        return Err(format!("working directory {:?} is not absolute", handover.workdir));
    }
    for volume in &handover.volumes {
        if !volume.path.starts_with('/') || volume.path.contains('\0') {
            return Err(format!("volume path {:?} is not absolute", volume.path));
        }
        let word = |w: &str| !w.is_empty() && w.len() <= 20 && w.bytes().all(|b| b.is_ascii_graphic());
        if !word(&volume.serial) || !word(&volume.fstype) {
            return Err(format!("volume {:?} has an unusable serial or file system", volume.path));
        }
    }
    if handover.seed.len() > 512 {
        return Err("seed of more than 512 bytes".into());
    }
    if handover.args.len() + handover.env.len() + handover.volumes.len() > RECORDS_MAX - 16 {
        return Err("too many arguments and variables".into());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn full() -> Handover {
        Handover {
            args: vec!["/app/server".into(), String::new(), "two words\n".into()],
            env: vec![("A".into(), "b=c\nd".into()), ("EMPTY".into(), String::new())],
            workdir: "/srv/with space".into(),
            user: "www:33".into(),
            stop_signal: 37,
            hostname: "api".into(),
            resolv_conf: "nameserver 10.0.2.3\nsearch a b\n".into(),
            tty: true,
            overlay: Overlay::Disk,
            volumes: vec![Volume { serial: "vol-0".into(), path: "/srv/my data".into(), fstype: "ext4".into() }],
            seed: (0..=255).collect(),
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let least = Handover { args: vec!["sh".into()], ..Handover::default() };
        for handover in [full(), least] {
            assert_eq!(decode(&encode(&handover).unwrap()), Ok(handover));
        }
    }

    #[test]
    fn refuses_what_exec_cannot_have() {
        for (change, told) in [
            (Handover { args: vec![], ..full() }, "no program"),
            (Handover { args: vec!["a\0b".into()], ..full() }, "NUL"),
            (Handover { env: vec![("A=".into(), String::new())], ..full() }, "no name"),
            (Handover { env: vec![("A".into(), "\0".into())], ..full() }, "NUL"),
            (Handover { workdir: "srv".into(), ..full() }, "not absolute"),
            (Handover { args: vec!["x".repeat(SIZE_MAX)], ..full() }, "more than"),
        ] {
            let e = encode(&change).unwrap_err();
            assert!(e.contains(told), "{e}");
        }
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_survived() {
        let bytes = encode(&full()).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err());
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x15;
            let _ = decode(&damaged);
        }
    }

    #[test]
    fn random_bytes_are_survived() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let mut bytes = MAGIC.to_vec();
            for _ in 0..state % 64 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Mostly what the format is made of, so that the parser gets somewhere.
                bytes.push(b"arg env0123456789 \n\n=volumeend\xff"[state as usize % 30]);
            }
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for text in ["arg 99\nx\n", "arg 18446744073709551615\nx\n", "arg -1\nx\n", "arg\n", "end 0\n"] {
            assert!(decode(&[MAGIC, text.as_bytes()].concat()).is_err());
        }
    }
}
