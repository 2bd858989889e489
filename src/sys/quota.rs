//! Quotas of projects: which project a directory belongs to, and how much a project may have.
//! Sources: quotactl_fd(2), ioctl_xfs_fsgetxattr(2), linux/dqblk_xfs.h.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const PROJECTS: i32 = 2;
const GET_QUOTA: i32 = 0x80_0007;
const SET_QUOTA: i32 = 0x80_0008;
/// Q_XGETQSTAT: which quotas are on.
const GET_STATE: i32 = (b'X' as i32) << 8 | 5;
/// FS_QUOTA_PDQ_ENFD
const PROJECTS_ENFORCED: u16 = 1 << 5;
/// FS_XFLAG_PROJINHERIT: what is made in the directory belongs to its project.
const INHERIT: u32 = 0x200;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    reserved: [u8; 8],
}

/// FS_IOC_FSGETXATTR
pub const GET_ATTRIBUTES: u32 = 0x801c_581f;
/// FS_IOC_FSSETXATTR
pub const SET_ATTRIBUTES: u32 = 0x401c_5820;
/// FS_IOC_SETFLAGS, of 64 and of 32 bit programs.
pub const SET_FLAGS: [u32; 2] = [0x4008_6602, 0x4004_6602];

/// `quotactl_fd(2)`, Linux 5.14. `fd` is any file of the file system.
fn quotactl<T>(fd: BorrowedFd, command: i32, project: u32, argument: &mut T) -> io::Result<()> {
    let command = command << 8 | PROJECTS;
    // SAFETY: each command reads or writes the structure that its caller below gives, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_raw_fd(), command, project, argument as *mut T) })
        .map(drop)
}

/// Whether the file system holds projects to what they may have.
pub fn are_enforced(fd: BorrowedFd) -> io::Result<bool> {
    // struct fs_quota_stat, 80 bytes: a byte of version, the flags, and counts.
    let mut state = [0u16; 64];
    quotactl(fd, GET_STATE, 0, &mut state)?;
    Ok(state[1] & PROJECTS_ENFORCED != 0)
}

/// What a project may have and has.
#[derive(Debug, Default, PartialEq)]
pub struct Project {
    /// Bytes; 0 is no limit.
    pub limit: u64,
    pub bytes: u64,
    pub files: u64,
}

/// A project of which nothing is known has nothing and may have all.
pub fn project(fd: BorrowedFd, project: u32) -> io::Result<Project> {
    // SAFETY: plain integers.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    match quotactl(fd, GET_QUOTA, project, &mut quota) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT)) => return Ok(Project::default()),
        other => other?,
    }
    Ok(Project { limit: quota.dqb_bhardlimit * 1024, bytes: quota.dqb_curspace, files: quota.dqb_curinodes })
}

/// Lets a project have so many bytes, in steps of 1024; 0 takes the limit away.
pub fn limit(fd: BorrowedFd, project: u32, bytes: u64) -> io::Result<()> {
    // SAFETY: plain integers.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    (quota.dqb_bhardlimit, quota.dqb_bsoftlimit) = (bytes.div_ceil(1024), bytes.div_ceil(1024));
    quota.dqb_valid = 1; // QIF_BLIMITS
    quotactl(fd, SET_QUOTA, project, &mut quota)
}

/// The project of a file or directory; 0 is everybody's.
pub fn project_of(fd: BorrowedFd) -> io::Result<u32> {
    attributes(fd).map(|attributes| attributes.project)
}

fn attributes(fd: BorrowedFd) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel fills the structure, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), GET_ATTRIBUTES as _, &mut attributes) } as _)?;
    Ok(attributes)
}

/// Puts a directory, and whatever is made in it, into a project.
pub fn set_project(fd: BorrowedFd, project: u32) -> io::Result<()> {
    let mut attributes = attributes(fd)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the kernel reads the structure, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), SET_ATTRIBUTES as _, &attributes) } as _).map(drop)
}
