//! Who listens on this node, as /proc/net tells it.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// No table of /proc/net is read beyond this many bytes.
const TABLE_MAX: u64 = 16 << 20;

/// A socket that waits for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub at: SocketAddr,
    /// TCP; else UDP.
    pub tcp: bool,
    /// Its inode, by which its process has it open.
    pub inode: u64,
}

/// All listeners of this network namespace.
pub fn all() -> Vec<Listener> {
    let tables = [("tcp", true, "0A"), ("tcp6", true, "0A"), ("udp", false, "07"), ("udp6", false, "07")];
    let mut found = Vec::new();
    for (name, tcp, state) in tables {
        let mut text = String::new();
        let file = std::fs::File::open(format!("/proc/thread-self/net/{name}"));
        if file.and_then(|f| f.take(TABLE_MAX).read_to_string(&mut text)).is_ok() {
            found.extend(text.lines().skip(1).filter_map(|line| row(line, tcp, state)));
        }
    }
    found
}

/// The ports that the kernel gives to sockets that ask for none.
pub fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().map(|word| word.parse().ok());
    match (ports.next().flatten(), ports.next().flatten()) {
        (Some(first), Some(last)) => first..=last,
        // The kernel's default.
        _ => 32768..=60999,
    }
}

/// One row of a table: `sl local_address rem_address st … inode …`.
fn row(line: &str, tcp: bool, listens: &str) -> Option<Listener> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    (*state == listens).then_some(())?;
    let (host, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each 32 bits stand as the machine has them: little-endian here.
    let word = |n: usize| u32::from_str_radix(host.get(n * 8..n * 8 + 8)?, 16).ok().map(u32::to_le_bytes);
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        _ => {
            let mut bytes = [0; 16];
            for (n, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(n)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
    };
    Some(Listener { at: SocketAddr::new(ip, port), tcp, inode: inode.parse().ok()? })
}

/// The process that has one of the sockets open, as `NAME (pid N)`, where we may see it.
pub fn holder(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else { continue };
        let open = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        if targets.any(|to| to.as_os_str() == wanted.as_str()) {
            let program = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", program.trim().escape_default()));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_tables() {
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let found = row(tcp, true, "0A").unwrap();
        assert_eq!((found.at.to_string().as_str(), found.inode), ("127.0.0.1:8080", 4711));
        assert_eq!(row(&tcp.replace(" 0A ", " 01 "), true, "0A"), None);
        let tcp6 = "0: 00000000000000000000000001000000:0016 0:0 0A 0:0 00:0 0 0 0 12 1";
        assert_eq!(row(tcp6, true, "0A").unwrap().at.to_string(), "[::1]:22");
        for junk in ["", "0: 01", "0: zz:1 0:0 0A 0:0 00:0 0 0 0 12", "0: 0100007F:1F90 0:0 0A 0:0 00:0 0 0 0 x"] {
            assert_eq!(row(junk, true, "0A"), None, "{junk}");
        }
    }
}
