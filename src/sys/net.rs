//! Network interfaces and sockets.

use super::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Sets `lo` of this network namespace up; its addresses come with that. Allocates nothing.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: integers only; a non-negative result is a new descriptor that nobody else owns.
    let socket = unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).into())?;
        OwnedFd::from_raw_fd(fd as i32)
    };
    // SAFETY: ifreq is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: the kernel reads a name and stores flags in one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request) }.into())?;
    // SAFETY: the flags were stored by the call before.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: the kernel reads one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) }.into()).map(drop)
}

/// Parts a socket from its peer (connect(2), AF_UNSPEC), and from a port that the kernel picked for it.
pub fn disconnect(socket: impl AsFd) -> io::Result<()> {
    // SAFETY: sockaddr is plain integers, for which all zeroes is a value: AF_UNSPEC.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    let length = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: the kernel reads one sockaddr.
    check(unsafe { libc::connect(socket.as_fd().as_raw_fd(), &nobody, length) }.into()).map(drop)
}

/// The user namespace that another namespace belongs to (ioctl NS_GET_USERNS, ioctl_nsfs(2)).
pub fn user_namespace(of: BorrowedFd) -> io::Result<OwnedFd> {
    // SAFETY: the ioctl takes no argument; a non-negative result is a new descriptor.
    check(unsafe { libc::ioctl(of.as_raw_fd(), 0xb701 as _) } as _).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as _) })
}

/// `getsockopt(2)` of an option that is asked for by what stands in the buffer; how much of it was filled.
pub fn get_option(socket: BorrowedFd, level: i32, option: i32, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the buffer is valid for its length, which the kernel is told and does not exceed.
    check(
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &mut length) }.into(),
    )?;
    Ok(length as usize)
}

/// Loads a table of ip_tables or ip6_tables anew (IPT_SO_SET_REPLACE): `head` is `struct ipt_replace` up to its pointer,
/// and ends with the number of `counters` that the old table has, 16 bytes each; they are filled in.
pub fn replace_table(
    socket: BorrowedFd,
    level: i32,
    head: &[u8],
    entries: &[u8],
    counters: &mut [u8],
) -> io::Result<()> {
    const REPLACE: i32 = 64;
    const HEAD: usize = 88;
    let count = head.get(HEAD - 4..HEAD).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    if head.len() != HEAD || count.map(|count| count as usize * 16) != Some(counters.len()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let place = (counters.as_mut_ptr() as usize).to_ne_bytes();
    let request = [head, &place, entries].concat();
    let length = request.len() as libc::socklen_t;
    // SAFETY: the kernel reads the request, and stores as many counters as the request says, which is what there is room
    // for.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, REPLACE, request.as_ptr().cast(), length) }.into())
        .map(drop)
}

/// Adds to what the rules of a table have counted (IPT_SO_SET_ADD_COUNTERS): `struct xt_counters_info`.
pub fn add_counters(socket: BorrowedFd, level: i32, request: &[u8]) -> io::Result<()> {
    const ADD_COUNTERS: i32 = 65;
    let length = request.len() as libc::socklen_t;
    // SAFETY: the kernel reads the request.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, ADD_COUNTERS, request.as_ptr().cast(), length) }.into())
        .map(drop)
}

/// `epoll_create1(2)`.
pub fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: integers only; a non-negative result is a new descriptor that nobody else owns.
    unsafe { check(libc::epoll_create1(libc::EPOLL_CLOEXEC).into()).map(|fd| OwnedFd::from_raw_fd(fd as i32)) }
}

/// `epoll_ctl(2)`: the one has something to read when the other has.
pub fn epoll_add(epoll: BorrowedFd, fd: BorrowedFd) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: the kernel reads one event.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) }.into())
        .map(drop)
}
