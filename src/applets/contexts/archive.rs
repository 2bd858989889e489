//! A context in one file, as docker exports it: a tar, or a zip, with
//!
//! ```text
//! meta.json
//! tls/<endpoint>/<file>
//! ```

use super::{Material, Meta, json_of, zip};
use anyhow::{Context, Result, anyhow, bail};
use std::io::Read;

/// As much as docker reads of one, in bytes.
pub const LIMIT: u64 = 10 << 20;
/// A tar's unit.
const BLOCK: usize = 512;

/// The tar of a context.
pub fn write(meta: &Meta, material: &Material) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind, mode, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).with_context(|| format!("pack {name}"))
    };
    add("meta.json", tar::EntryType::Regular, 0o644, json_of(meta)?.as_bytes())?;
    add("tls", tar::EntryType::Directory, 0o700, &[])?;
    for (endpoint, files) in material {
        add(&format!("tls/{endpoint}"), tar::EntryType::Directory, 0o700, &[])?;
        for (name, bytes) in files {
            add(&format!("tls/{endpoint}/{name}"), tar::EntryType::Regular, 0o600, bytes)?;
        }
    }
    tar.into_inner().context("pack a context")
}

/// Reads a context out of a tar or a zip.
pub fn read(from: impl Read) -> Result<(Meta, Material)> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut bytes).context("read the context")?;
    if bytes.len() as u64 > LIMIT {
        bail!("read exceeds the defined limit");
    }
    let files = match zip::is_one(&bytes) {
        true => zip::files(&bytes)?,
        false => untar(bytes)?,
    };
    let (mut meta, mut material) = (None, Material::new());
    for (name, bytes) in files {
        check(&name).with_context(|| name.clone())?;
        if name == "meta.json" {
            meta = Some(Meta::parse(&bytes).context("read meta.json")?);
            continue;
        }
        // Exactly two levels: each is a name of its own in the store.
        match name.strip_prefix("tls/").and_then(|rest| rest.split_once('/')) {
            Some((endpoint, file)) if !file.contains('/') => {
                material.entry(endpoint.to_owned()).or_default().insert(file.to_owned(), bytes);
            }
            _ => bail!("archive format is invalid"),
        }
    }
    Ok((meta.context("invalid context: no metadata found")?, material))
}

/// The files of a tar. That of docker ends with the last one's last byte.
fn untar(mut bytes: Vec<u8>) -> Result<Vec<(String, Vec<u8>)>> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    let mut files = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().context("read the tar")? {
        let mut entry = entry.context("read the tar")?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| anyhow!("a name is not UTF-8"))?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).with_context(|| format!("read {name}"))?;
        files.push((name, content));
    }
    Ok(files)
}

fn check(name: &str) -> Result<()> {
    if name != "meta.json" && !name.starts_with("tls/") {
        bail!("unexpected context file");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        bail!("unexpected path format");
    }
    if name.contains(['\\', '\0']) {
        bail!("unexpected '\\' in path");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Map;

    fn context() -> (Meta, Material) {
        let mut meta = Meta { name: "far".into(), ..Meta::default() };
        meta.set_docker("tcp://far:2376", false);
        let files = Map::from([("ca.pem".to_owned(), vec![b'x'; 700]), ("key.pem".to_owned(), vec![b'y'])]);
        (meta, Material::from([("docker".to_owned(), files)]))
    }

    #[test]
    fn there_and_back() {
        let (meta, material) = context();
        let tar = write(&meta, &material).unwrap();
        assert_eq!(read(tar.as_slice()).unwrap(), (meta.clone(), material.clone()));
        // Docker does not write what ends a tar.
        let whole = tar.len() - 2 * BLOCK;
        let last = whole - (BLOCK - 1);
        assert_eq!(read(&tar[..last]).unwrap(), (meta, material));
    }

    #[test]
    fn what_is_no_context_or_leads_elsewhere() {
        let tar = |name: &str| {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            // Not by the crate, which cleans names.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(2);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            tar.append(&header, &b"{}"[..]).unwrap();
            tar.into_inner().unwrap()
        };
        assert_eq!(read(tar("meta.json").as_slice()).unwrap().0, Meta::default());
        for (name, why) in [
            ("meta.js", "unexpected context file"),
            ("tls/docker/../../x", "unexpected path format"),
            ("tls//x", "unexpected path format"),
            ("tls/docker/a\\b", "unexpected '\\' in path"),
            ("tls/docker", "archive format is invalid"),
            ("tls/docker/a/b", "archive format is invalid"),
            ("tls/docker/ca.pem", "no metadata found"),
        ] {
            let error = format!("{:#}", read(tar(name).as_slice()).unwrap_err());
            assert!(error.contains(why), "{name}: {error}");
        }
        assert!(read(&b"zz"[..]).is_err());
        assert!(read(std::io::repeat(0)).unwrap_err().to_string().contains("exceeds"));
    }
}
