//! Layers from tars, right and wrong ones.

mod below;
mod entries;
mod hostile;

use super::*;
use crate::fs::assemble::assemble;
use crate::fs::settle::settle;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Builds tars, right and wrong ones.
#[derive(Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn header(flag: u8, name: &str, link: &str, size: u64) -> [u8; 512] {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(if flag == b'5' { b"0000755\0" } else { b"0000644\0" });
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(format!("{:011o}\0", 1_000_000_000).as_bytes());
        block[156] = flag;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block
    }

    /// Adds a header, with its checksum made right.
    pub fn raw(mut self, mut block: [u8; 512], data: &[u8]) -> Tar {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn add(self, flag: u8, name: &str, link: &str, data: &[u8]) -> Tar {
        self.raw(Tar::header(flag, name, link, data.len() as u64), data)
    }

    pub fn file(self, name: &str, text: &str) -> Tar {
        self.add(b'0', name, "", text.as_bytes())
    }

    pub fn dir(self, name: &str) -> Tar {
        self.add(b'5', name, "", b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.add(b'2', name, target, b"")
    }

    pub fn link(self, name: &str, target: &str) -> Tar {
        self.add(b'1', name, target, b"")
    }

    pub fn device(self, flag: u8, name: &str, major: u32, minor: u32) -> Tar {
        let mut block = Tar::header(flag, name, "", 0);
        block[329..337].copy_from_slice(format!("{major:07o}\0").as_bytes());
        block[337..345].copy_from_slice(format!("{minor:07o}\0").as_bytes());
        self.raw(block, b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = 3 + key.len() + value.len();
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend(format!("{length} {key}=").as_bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.add(b'x', "PaxHeaders/x", "", &data)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A directory of its own in the file system of the build, which holds trusted attributes; gone when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dhow-unpack-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn layer(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = crate::fs::remove::tree(&self.0);
    }
}

/// Whether this user and the file system of temporary files can make what a layer may hold; says so where not.
pub fn able() -> bool {
    let scratch = Scratch::new();
    let dir = path::open_root(&scratch.0).unwrap();
    let able = nix::unistd::geteuid().is_root()
        && mknodat(&dir, "w", SFlag::S_IFCHR, Mode::empty(), 0).is_ok()
        && crate::sys::xattr::fsetxattr(dir.as_fd(), xattr::opaque(), b"y").is_ok()
        && crate::sys::xattr::fsetxattr(dir.as_fd(), c"user.x", b"y").is_ok();
    if !able {
        let _: Option<()> =
            crate::skip::skip("it takes root, and temporary files on a file system with devices and attributes");
    }
    able
}

/// Unpacks and settles a layer on nothing, and checks that the recipe gives the tar back.
fn good(tar: &[u8]) -> (Scratch, PathBuf, Unpacked) {
    let scratch = Scratch::new();
    let layer = scratch.layer("layer");
    let unpacked = unpack(&mut &tar[..], &layer).unwrap_or_else(|error| panic!("{error:#}"));
    settle(&unpacked, &layer, &[]).unwrap();
    assert_eq!(unpacked.diff_id, Digest::of(tar));
    let mut out = Vec::new();
    assert_eq!(assemble(&layer, &mut out).unwrap_or_else(|error| panic!("{error:#}")), unpacked.diff_id);
    assert!(out == tar, "the recipe gives other bytes");
    assert!(!layer.join("directories").exists());
    let fs = layer.join("fs");
    (scratch, fs, unpacked)
}

/// Unpacks what must be refused; the error, and the directory to look for damage in.
fn bad(tar: &[u8]) -> (Scratch, String) {
    let scratch = Scratch::new();
    let layer = scratch.layer("layer");
    match unpack(&mut &tar[..], &layer).and_then(|unpacked| settle(&unpacked, &layer, &[])) {
        Ok(()) => panic!("it was taken"),
        Err(error) => {
            let text = format!("{error:#}");
            assert!(!text.contains('\n'), "{text}");
            (scratch, text)
        }
    }
}

fn meta(path: PathBuf) -> std::fs::Metadata {
    std::fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let fd = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()).unwrap();
    let all = xattr::list(fd.as_fd()).unwrap();
    all.into_iter().map(|(name, value)| (name.to_str().unwrap().to_owned(), value)).collect()
}

fn opaque(path: &Path) -> bool {
    xattr::is_opaque(path::open_root(path).unwrap().as_fd())
}

fn whiteout(path: PathBuf) -> bool {
    let meta = meta(path);
    meta.file_type().is_char_device() && meta.rdev() == 0
}
