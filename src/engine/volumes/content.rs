//! What is in a volume: filled from the image where it is new, measured where it is pruned.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of all files below a path, hard links once. What cannot be read counts nothing.
pub fn size(path: &Path) -> u64 {
    let mut total = 0;
    let mut links = HashSet::new();
    let mut left: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(dir) = left.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                left.push(entry.path());
            } else if meta.nlink() == 1 || links.insert((meta.dev(), meta.ino())) {
                total += meta.len();
            }
        }
    }
    total
}
