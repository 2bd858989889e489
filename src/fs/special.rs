//! File systems whose files are the kernel's own words: to read or write them is not to copy anything, may change the
//! host, and may wait for ever.

use nix::sys::statfs::fstatfs;
use std::os::fd::BorrowedFd;

/// `f_type` of statfs(2): proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs, tracefs, securityfs, selinuxfs, smackfs,
/// bpf, configfs, pstore, efivarfs, binfmt_misc, nsfs, autofs, fusectl, rpc_pipefs, nfsd, hugetlbfs, apparmorfs, pipefs,
/// sockfs.
const MAGICS: [i64; 25] = [
    0x9fa0,
    0x6265_6572,
    0x27_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xf97c_ff8c,
    0x4341_5d53,
    0xcafe_4a11,
    0x6265_6570,
    0x6165_676c,
    0xde5e_81e4,
    0x4249_4e4d,
    0x6e73_6673,
    0x187,
    0x6573_5543,
    0x6759_6969,
    0x6e66_7364,
    0x9584_58f6,
    0x5a3c_69f0,
    0x5049_5045,
    0x534f_434b,
];

/// Whether what a descriptor (also one opened with O_PATH) stands for lies on such a file system.
pub fn is_special(fd: BorrowedFd) -> bool {
    fstatfs(fd).is_ok_and(|stat| MAGICS.contains(&(stat.filesystem_type().0 as i64 & 0xffff_ffff)))
}
