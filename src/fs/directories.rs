//! Attributes of directories wait until all is in them: what is still made in one changes its time, and a default ACL
//! or a set-gid bit would be inherited. They wait in a file, because there may be millions.

use super::header::{Entry, Time};
use super::{objects, path};
use crate::order;
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

pub struct Directories {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Directories {
    pub fn create(staging: &Path) -> Result<Directories> {
        let path = staging.join("directories");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = BufWriter::new(file.with_context(|| format!("create {}", path.display()))?);
        // Only we need it, and it goes with us.
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        Ok(Directories { path, file })
    }

    /// Notes what the tar says of the directory at `path`.
    pub fn add(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let out = &mut self.file;
        let mut write = || -> io::Result<()> {
            put(out, path)?;
            let atime = entry.atime.unwrap_or(entry.mtime);
            for number in [entry.mode, entry.uid, entry.gid, atime.nanos, entry.mtime.nanos] {
                out.write_all(&number.to_le_bytes())?;
            }
            out.write_all(&atime.seconds.to_le_bytes())?;
            out.write_all(&entry.mtime.seconds.to_le_bytes())?;
            out.write_all(&(entry.xattrs.len() as u32).to_le_bytes())?;
            for (name, value) in &entry.xattrs {
                put(out, name.to_bytes())?;
                put(out, value)?;
            }
            Ok(())
        };
        write().with_context(|| format!("write {}", self.path.display()))
    }

    /// Sets all attributes. Gives those of `implied` that the tar does not name after all, parents first.
    pub fn set(self, root: &OwnedFd, implied: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let doing = || format!("write {}", self.path.display());
        let mut file = self.file.into_inner().map_err(|error| error.into_error()).with_context(doing)?;
        io::Seek::rewind(&mut file).with_context(doing)?;
        let mut file = BufReader::new(file);
        let mut implied: HashSet<Vec<u8>> = implied.into_iter().collect();
        while let Some(entry) = next(&mut file).with_context(|| format!("read {}", self.path.display()))? {
            implied.remove(&entry.path);
            let setting = || format!("unpack {}", path::show(&entry.path));
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            match path::open(root.as_fd(), &entry.path, flags, 0, path::NO_LINKS) {
                Ok(dir) => objects::directory_attributes(&dir, &entry).with_context(setting)?,
                // A later entry replaced it.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {}
                Err(error) => return Err(error).with_context(setting),
            }
        }
        let mut implied: Vec<_> = implied.into_iter().collect();
        order::by(&mut implied, |a, b| a.split(|&byte| byte == b'/').cmp(b.split(|&byte| byte == b'/')));
        Ok(implied)
    }
}

fn put(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u32).to_le_bytes())?;
    out.write_all(bytes)
}

fn next(file: &mut impl Read) -> io::Result<Option<Entry>> {
    fn array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    fn bytes(file: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    let number = |file: &mut _| array(file).map(u32::from_le_bytes);
    let length = match number(file) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let path = bytes(file, length)?;
    let (mode, uid, gid) = (number(file)?, number(file)?, number(file)?);
    let (access, modified) = (number(file)?, number(file)?);
    let atime = Time { seconds: i64::from_le_bytes(array(file)?), nanos: access };
    let mtime = Time { seconds: i64::from_le_bytes(array(file)?), nanos: modified };
    let mut xattrs = Vec::new();
    for _ in 0..number(file)? {
        let length = number(file)?;
        let name = CString::new(bytes(file, length)?)?;
        let length = number(file)?;
        xattrs.push((name, bytes(file, length)?));
    }
    Ok(Some(Entry { path, mode, uid, gid, mtime, atime: Some(atime), xattrs, ..Entry::default() }))
}
