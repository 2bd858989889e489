//! What a file is.

use nix::sys::stat::{FileStat, SFlag};

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

pub fn is_dir(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFDIR
}

pub fn is_file(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFREG
}

/// A character device 0:0 is how overlayfs writes down that a name is gone.
pub fn is_whiteout(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}
