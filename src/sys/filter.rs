//! Classic BPF programs of one instruction for sockets.

use nix::Result;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

/// Has a listening socket drop whatever comes (SO_ATTACH_FILTER).
pub fn drop_all(socket: &OwnedFd) -> Result<()> {
    attach(socket, libc::SO_ATTACH_FILTER, 0)
}

/// Of the sockets that share an address, the second to come gets all (SO_ATTACH_REUSEPORT_CBPF).
pub fn prefer_the_second(socket: &OwnedFd) -> Result<()> {
    attach(socket, libc::SO_ATTACH_REUSEPORT_CBPF, 1)
}

/// Attaches a program that returns `answer`.
fn attach(socket: &OwnedFd, option: libc::c_int, answer: u32) -> Result<()> {
    let mut code = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: answer }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    // SAFETY: the program outlives the call, and its length is its own.
    let r = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    Errno::result(r).map(drop)
}
