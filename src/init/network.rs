//! The network that QEMU's user mode offers: one card, fixed addresses, no DHCP needed.

use super::report::say;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// The guest's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Brings up the loopback and the first card with its address and default route. A guest without a card is fine;
/// what fails is said.
///
/// Any user may listen on any port: the program is alone here, and as an ordinary user it would have no other way to
/// port 80.
pub fn start() {
    if let Err(e) = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0") {
        say(&format!("network: open low ports to all users: {e}"));
    }
    if let Err(text) = configure() {
        say(&text);
    }
}

fn configure() -> Result<(), String> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| format!("open network: {}", e.desc()))?;
    let failed = |what: &str, e: Errno| format!("network: {what}: {}", e.desc());
    up(&socket, "lo").map_err(|e| failed("bring up lo", e))?;
    let Some(card) = first_card() else { return Ok(()) };
    address(&socket, &card, libc::SIOCSIFADDR, ADDRESS).map_err(|e| failed("set address", e))?;
    address(&socket, &card, libc::SIOCSIFNETMASK, NETMASK).map_err(|e| failed("set netmask", e))?;
    up(&socket, &card).map_err(|e| failed("bring up card", e))?;
    default_route(&socket).map_err(|e| failed("set default route", e))
}

fn first_card() -> Option<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .ok()?
        .flatten()
        .filter(|e| e.path().join("device").exists())
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names.into_iter().next()
}

fn request(card: &str) -> libc::ifreq {
    // SAFETY: plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero: the name ends with it.
    for (to, from) in request.ifr_name.iter_mut().zip(card.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let inet = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain data of 16 bytes; the kernel tells them apart by the family.
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inet) }
}

fn up(socket: &OwnedFd, card: &str) -> nix::Result<()> {
    let mut request = request(card);
    // SAFETY: the request is of the type that both ioctls take, and the first fills in the flags.
    unsafe {
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request)).map(drop)
    }
}

fn address(socket: &OwnedFd, card: &str, what: libc::c_ulong, address: Ipv4Addr) -> nix::Result<()> {
    let mut request = request(card);
    request.ifr_ifru.ifru_addr = socket_address(address);
    // SAFETY: the request is of the type that these ioctls read.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), what, &request) }).map(drop)
}

fn default_route(socket: &OwnedFd) -> nix::Result<()> {
    // SAFETY: plain data, for which all zeros is a value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(GATEWAY);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: the route is of the type that this ioctl reads.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &route) }).map(drop)
}
