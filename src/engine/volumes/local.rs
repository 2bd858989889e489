//! The options of the local driver, `type`, `device` and `o`: what is mounted on a volume's directory while a
//! container that uses it runs.

use super::super::locks::{self, Lock};
use super::super::record::{self, Record};
use super::super::store::{self, Store};
use super::{data, load};
use crate::api::units;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

/// Refuses options that the local driver does not know, or that lack another one, in Docker's words.
pub fn check(options: &Map<String, String>) -> Result<(), String> {
    if let Some(option) = options.keys().find(|option| !["type", "o", "device", "size"].contains(&option.as_str())) {
        return Err(format!("invalid option: {option:?}"));
    }
    if let Some(size) = options.get("size")
        && units::parse_binary(size)? > 0
    {
        return Err("quota size requested but no quota support".into());
    }
    for (option, needs) in [("device", "type"), ("type", "device"), ("o", "device"), ("o", "type")] {
        if options.contains_key(option) && !options.contains_key(needs) {
            return Err(format!("missing required option: {needs:?}"));
        }
    }
    Ok(())
}

/// Mounts what a volume's options say, unless it is mounted already. Nothing for a volume without options. Whether there
/// is something.
pub fn enter(store: &Store, name: &str) -> Result<bool> {
    let Some(options) = load(store, name)?.and_then(|description| description.options) else { return Ok(false) };
    let Some(device) = options.get("device") else { return Ok(false) };
    let path = data(store, name);
    let _lock = lock(store, name)?;
    if is_mounted(&path)? {
        return Ok(true);
    }
    let kind = options.get("type").map(String::as_str).unwrap_or_default();
    let words = options.get("o").map(String::as_str).unwrap_or_default();
    let (flags, mut data) = read_options(words);
    if kind == "nfs" || kind == "cifs" {
        data = resolved(&data)?;
    }
    // A bind takes no other flag at first; and the kernel wants no type for it.
    let is_bind = flags.contains(MsFlags::MS_BIND);
    let first = if is_bind { flags & (MsFlags::MS_BIND | MsFlags::MS_REC) } else { flags };
    let kind = Some(kind).filter(|kind| !is_bind && !kind.is_empty());
    let source = Some(device.as_str());
    let data = Some(data.as_str()).filter(|data| !data.is_empty());
    // The options are not told: they may hold a password.
    let said = || format!("mount {device} for volume {name}");
    mount(source, &path, kind, first, data).with_context(said)?;
    if is_bind && flags != first {
        let rest = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        if let Err(error) = mount(None::<&str>, &path, None::<&str>, rest - MsFlags::MS_REC, None::<&str>) {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            return Err(error).with_context(said);
        }
    }
    Ok(true)
}

/// Takes away what [`enter`] mounted, unless a container other than `except` that uses the volume runs.
pub fn leave(store: &Store, name: &str, except: &str) -> Result<()> {
    let options = load(store, name)?.and_then(|description| description.options);
    if options.is_none_or(|options| !options.contains_key("device")) {
        return Ok(());
    }
    let _lock = lock(store, name)?;
    for id in record::ids(store)? {
        let uses = |record: Record| {
            record.mounts.iter().any(|mounted| mounted.point.r#type == "volume" && mounted.point.name == name)
        };
        if id != except && record::held(store, &id)?.shim && Record::load(store, &id)?.is_some_and(uses) {
            return Ok(());
        }
    }
    unmount_at(&data(store, name))
}

/// Takes away whatever is mounted on a volume that nobody uses.
pub fn unmount(store: &Store, name: &str) -> Result<()> {
    unmount_at(&data(store, name))
}

fn unmount_at(path: &Path) -> Result<()> {
    while is_mounted(path)? {
        umount2(path, MntFlags::UMOUNT_NOFOLLOW).with_context(|| format!("unmount {}", path.display()))?;
    }
    Ok(())
}

fn lock(store: &Store, name: &str) -> Result<Lock> {
    let dir = store.run.join("volumes");
    store::make_dirs(&dir, 0o700)?;
    locks::exclusive(&dir.join(name), 0)
}

/// Whether something is mounted on this directory.
fn is_mounted(path: &Path) -> Result<bool> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    // The fifth word is the mount point, where space, tab, newline and backslash are octal.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let Some(real) = real.to_str() else { bail!("{} is not UTF-8", path.display()) };
    let escaped = real.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012");
    Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(&escaped)))
}

/// Options of mount(8) as flags of mount(2), and the rest for the file system.
fn read_options(words: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let (flag, on) = match word {
            "defaults" => continue,
            "ro" => (MsFlags::MS_RDONLY, true),
            "rw" => (MsFlags::MS_RDONLY, false),
            "nosuid" => (MsFlags::MS_NOSUID, true),
            "suid" => (MsFlags::MS_NOSUID, false),
            "nodev" => (MsFlags::MS_NODEV, true),
            "dev" => (MsFlags::MS_NODEV, false),
            "noexec" => (MsFlags::MS_NOEXEC, true),
            "exec" => (MsFlags::MS_NOEXEC, false),
            "sync" => (MsFlags::MS_SYNCHRONOUS, true),
            "async" => (MsFlags::MS_SYNCHRONOUS, false),
            "dirsync" => (MsFlags::MS_DIRSYNC, true),
            "noatime" => (MsFlags::MS_NOATIME, true),
            "atime" => (MsFlags::MS_NOATIME, false),
            "nodiratime" => (MsFlags::MS_NODIRATIME, true),
            "relatime" => (MsFlags::MS_RELATIME, true),
            "strictatime" => (MsFlags::MS_STRICTATIME, true),
            "bind" => (MsFlags::MS_BIND, true),
            "rbind" => (MsFlags::MS_BIND | MsFlags::MS_REC, true),
            word => {
                data.push(word);
                continue;
            }
        };
        flags.set(flag, on);
    }
    (flags, data.join(","))
}

/// The kernel takes addresses only: `addr=server` is looked up.
fn resolved(data: &str) -> Result<String> {
    let mut words: Vec<String> = Vec::new();
    for word in data.split(',') {
        match word.strip_prefix("addr=") {
            Some(host) if host.parse::<IpAddr>().is_err() => {
                let found = (host, 0).to_socket_addrs().with_context(|| format!("look up {host}"))?.next();
                let address = found.with_context(|| format!("look up {host}: it has no address"))?.ip();
                words.push(format!("addr={address}"));
            }
            _ => words.push(word.into()),
        }
    }
    Ok(words.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_local_driver() {
        let cases: &[(&[(&str, &str)], Result<(), &str>)] = &[
            (&[], Ok(())),
            (&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")], Ok(())),
            (&[("size", "0")], Ok(())),
            (&[("size", "1g")], Err("quota size requested but no quota support")),
            (&[("size", "x")], Err("invalid size: 'x'")),
            (&[("nope", "")], Err("invalid option: \"nope\"")),
            (&[("type", "nfs")], Err("missing required option: \"device\"")),
            (&[("device", "x")], Err("missing required option: \"type\"")),
            (&[("o", "ro")], Err("missing required option: \"device\"")),
        ];
        for (options, expected) in cases {
            let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            assert_eq!(check(&options), expected.map_err(str::to_string), "{options:?}");
        }
    }

    #[test]
    fn options_of_mount() {
        for (words, flags, data) in [
            ("", MsFlags::empty(), ""),
            ("ro,size=1m,nosuid,uid=3", MsFlags::MS_RDONLY | MsFlags::MS_NOSUID, "size=1m,uid=3"),
            ("ro,rw,defaults", MsFlags::empty(), ""),
            ("rbind,noexec", MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_NOEXEC, ""),
        ] {
            assert_eq!(read_options(words), (flags, data.to_string()), "{words}");
        }
        assert_eq!(resolved("vers=4,addr=127.0.0.1").unwrap(), "vers=4,addr=127.0.0.1");
    }
}
