//! bpf(2), as far as a device controller of cgroups needs it.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_ATTACH: i64 = 8;
const BPF_PROG_GET_FD_BY_ID: i64 = 13;
const BPF_PROG_QUERY: i64 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of cgroups above and below also run; each has to allow.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD, up to what we set; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    unused: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a program that decides on the use of devices. `code` is `struct bpf_insn`s.
pub fn load_device_program(code: &[u64]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: BPF_CGROUP_DEVICE,
        ..Load::default()
    };
    // SAFETY: the pointers in `attr` are valid for the call, and its size is its own.
    let fd = check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &attr as *const Load, size_of::<Load>()) })?;
    // SAFETY: a non-negative result is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as _) })
}

/// Attaches such a program to a cgroup (a directory of the cgroup2 tree): beside others, or alone.
pub fn attach_device_program(cgroup: BorrowedFd, program: BorrowedFd, alone: bool) -> io::Result<()> {
    let attr = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: if alone { 0 } else { BPF_F_ALLOW_MULTI },
    };
    // SAFETY: integers only, and the size is that of `attr`.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &attr as *const Attach, size_of::<Attach>()) })
        .map(drop)
}

/// The program of that kind which is attached to a cgroup itself; ENOENT where there is none.
pub fn attached_device_program(cgroup: BorrowedFd) -> io::Result<OwnedFd> {
    let mut id = 0u32;
    let mut attr = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: (&raw mut id) as u64,
        prog_cnt: 1,
        ..Query::default()
    };
    // SAFETY: the kernel stores at most one number where there is room for it, and the count in `attr`.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attr, size_of::<Query>()) })?;
    if attr.prog_cnt == 0 {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    let attr = ById { id, ..ById::default() };
    // SAFETY: integers only, and the size is that of `attr`; a non-negative result is a new descriptor.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, &raw const attr, size_of::<ById>()) })
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd as _) })
}
