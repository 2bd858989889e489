//! `userns-remap`: whose subordinate ids are those of containers, from /etc/subuid and /etc/subgid. The words of the
//! errors are Docker's.
//!
//! On disk everything keeps the ids that it has inside: mounts with maps make the difference. So a container with a map
//! and one without share images and volumes.

use super::rootless;
use super::settings::Settings;
use crate::api::Refusal;
use crate::api::types::HostConfig;
use crate::log;
use crate::oci::runtime::{IdMapping, Ids};
use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Group, Uid, User};
use std::fs;
use std::io::ErrorKind;

/// The user that `default` stands for. Docker makes him where he is missing; here he need not be one who logs in, or is
/// in /etc/passwd: that ids are his is all there is to him.
const DEFAULT: &str = "dockremap";

/// What useradd gives, as a rule: so many ids, from this one on.
const SIZE: u64 = 65_536;
const FIRST: u64 = 100_000;

/// The map of a container that is about to be made; `None` where it has the ids of the host.
pub fn ids(settings: &Settings, host: &HostConfig) -> Result<Option<Ids>> {
    if settings.userns_remap.is_empty() || host.userns_mode == "host" {
        return Ok(None);
    }
    if rootless::is_inside() {
        bail!("userns-remap is root's: the containers of an ordinary user have his ids already");
    }
    let (user, uid, group) = parse(&settings.userns_remap).with_context(|| named(settings))?;
    if user == "root" {
        log::warning!("user namespaces: root cannot be remapped with itself; user namespaces are off");
        return Ok(None);
    }
    let refuse = |words: &str| Err(Refusal::BadParameter(words.to_owned()).into());
    if host.privileged {
        return refuse(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
             when running privileged mode",
        );
    }
    if host.network_mode == "host" {
        return refuse("cannot share the host's network namespace when user namespaces are enabled");
    }
    if host.pid_mode == "host" {
        return refuse("cannot share the host PID namespace when user namespaces are enabled");
    }
    let (subuid, subgid) = (read("/etc/subuid")?, read("/etc/subgid")?);
    let found = |path: &str, what: &str, map: Vec<IdMapping>| -> Result<Vec<IdMapping>> {
        if map.is_empty() {
            let line = new_line(&user, &[&subuid, &subgid]);
            bail!("no {what} ranges found for user {user:?} in {path}: add this line there: {line}");
        }
        Ok(map)
    };
    let owners = [user.clone(), uid];
    let uids = found("/etc/subuid", "subuid", ranges(&subuid, &owners, None)).with_context(|| named(settings))?;
    // The user's own; where he has none, those of the group.
    let mut of_groups = ranges(&subgid, &owners, None);
    if of_groups.is_empty() {
        of_groups = ranges(&subgid, &[group], None);
    }
    let gids = found("/etc/subgid", "subgid", of_groups).with_context(|| named(settings))?;
    Ok(Some(Ids { uids, gids }))
}

/// A line of subuid(5) for one who has no ids yet: those after all that the files give to others.
fn new_line(user: &str, texts: &[&str]) -> String {
    let fields = texts.iter().flat_map(|text| text.lines()).map(|line| line.trim().split(':').collect::<Vec<_>>());
    let ends = fields.filter_map(|fields| {
        let [owner, start, size] = fields[..] else { return None };
        // The same line does for both files, once it is in one of them.
        if owner == user && size == SIZE.to_string() {
            return Some(Err(start.parse::<u64>().ok()?));
        }
        Some(Ok(start.parse::<u64>().ok()? + size.parse::<u64>().ok()?))
    });
    let ends: Vec<Result<u64, u64>> = ends.collect();
    let own = ends.iter().find_map(|end| end.err());
    let after = ends.iter().filter_map(|end| end.ok()).fold(FIRST, u64::max);
    format!("{user}:{}:{SIZE}", own.unwrap_or(after))
}

fn named(settings: &Settings) -> String {
    format!("userns-remap {:?}", settings.userns_remap)
}

/// The name of the user, his number as text, and the name of the group, of `user[:group]`; each may be a number.
fn parse(text: &str) -> Result<(String, String, String)> {
    let (user, group) = match text.split(':').collect::<Vec<_>>()[..] {
        [user] => (user, None),
        [user, group] => (user, Some(group)),
        _ => bail!("invalid user/group specification in --userns-remap: {text:?}"),
    };
    let user = match user.parse::<u32>() {
        Ok(number) => User::from_uid(Uid::from_raw(number))
            .context("look up a user")?
            .with_context(|| format!("uid {number} has no entry in /etc/passwd"))?,
        Err(_) => {
            let name = if user == "default" { DEFAULT } else { user };
            match User::from_name(name).context("look up a user")? {
                Some(found) => found,
                None if text == "default" => return Ok((name.to_owned(), name.to_owned(), name.to_owned())),
                None => bail!("error during uid lookup for {name:?}: no such user"),
            }
        }
    };
    let of_name = |name: &str| {
        let found = Group::from_name(name).context("look up a group")?;
        found.with_context(|| format!("error during gid lookup for {name:?}: no such group"))
    };
    let of_number = |number: u32| {
        let found = Group::from_gid(Gid::from_raw(number)).context("look up a group")?;
        found.with_context(|| format!("gid {number} has no entry in /etc/group"))
    };
    let group = match (group, text.parse::<u32>()) {
        (Some(group), _) => group.parse().map_or_else(|_| of_name(group), of_number)?,
        (None, Ok(number)) => of_number(number)?,
        (None, Err(_)) => of_name(&user.name)?,
    };
    Ok((user.name, user.uid.to_string(), group.name))
}

/// One of the files; none is as good as an empty one, and a comment may be in any encoding.
pub fn read(path: &str) -> Result<String> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => Ok(String::from_utf8_lossy(&other.with_context(|| format!("read {path}"))?).into_owned()),
    }
}

/// The ranges that any of the owners has, one after another (subuid(5)), from 0, or after an id that he has besides. Lines
/// that are not of the format are nobody's. Of ranges that overlap the first counts, as of one that is there by name and by
/// number: the kernel takes no id twice.
pub fn ranges(text: &str, owners: &[String], besides: Option<u32>) -> Vec<IdMapping> {
    let mut map: Vec<IdMapping> = Vec::new();
    map.extend(besides.map(|host_id| IdMapping { container_id: 0, host_id, size: 1 }));
    let mut next = map.len() as u32;
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [owner, start, size] = fields[..] else { continue };
        let (Ok(host_id), Ok(size)) = (start.parse::<u32>(), size.parse::<u32>()) else { continue };
        let Some(end) = host_id.checked_add(size).filter(|_| size > 0 && next.checked_add(size).is_some()) else {
            continue;
        };
        let taken = map.iter().any(|other| other.host_id < end && host_id < other.host_id + other.size);
        if !taken && owners.iter().any(|name| name == owner) {
            map.push(IdMapping { container_id: next, host_id, size });
            next += size;
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_one_owner_follow_one_another() {
        let text = "me:1000:10\n# me:1:1\nyou:5000:5\nme:x:1\n1000:70000:5\nme:4294967295:2\nme:3000:0\n\
                    1000:1005:10\nme:1000:10\n1000:990:10";
        let owners = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let range = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let ranges = |names: &[&str], besides| ranges(text, &owners(names), besides);
        assert_eq!(ranges(&["me", "1000"], None), [range(0, 1000, 10), range(10, 70000, 5), range(15, 990, 10)]);
        assert_eq!(ranges(&["you"], None), [range(0, 5000, 5)]);
        assert_eq!(ranges(&["nobody"], None), []);
        assert_eq!(ranges(&["you"], Some(7)), [range(0, 7, 1), range(1, 5000, 5)]);
        assert_eq!(ranges(&["you"], Some(5004)), [range(0, 5004, 1)], "it is in the range itself");
        assert_eq!(ranges(&["m.", "m.*", ".*"], None), []);
    }

    #[test]
    fn a_line_for_one_who_has_no_ids() {
        for (subuid, subgid, expected) in [
            ("", "", "me:100000:65536"),
            ("you:100000:65536\n", "", "me:165536:65536"),
            ("you:100000:65536\n", "they:300000:1000\n", "me:301000:65536"),
            ("low:1000:5\n# x\n", "", "me:100000:65536"),
            // It is in one of the files already.
            ("me:100000:65536\nyou:165536:65536\n", "you:165536:65536\n", "me:100000:65536"),
        ] {
            assert_eq!(new_line("me", &[subuid, subgid]), expected, "{subuid:?} {subgid:?}");
        }
    }

    #[test]
    fn who_is_meant() {
        assert_eq!(parse("0").unwrap(), ("root".to_owned(), "0".to_owned(), "root".to_owned()));
        assert_eq!(parse("root:0").unwrap(), parse("root").unwrap());
        for (text, words) in [
            ("a:b:c", "invalid user/group specification in --userns-remap: \"a:b:c\""),
            ("dhow-nobody", "error during uid lookup for \"dhow-nobody\": no such user"),
            ("4000000001", "uid 4000000001 has no entry in /etc/passwd"),
            ("root:dhow-nobody", "error during gid lookup for \"dhow-nobody\": no such group"),
            ("root:4000000001", "gid 4000000001 has no entry in /etc/group"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn what_cannot_be_combined() {
        // Whoever is meant comes first: root's own map is none.
        let settings = Settings { userns_remap: "root".into(), ..Settings::default() };
        let host = HostConfig { privileged: true, ..HostConfig::default() };
        assert_eq!(ids(&settings, &host).unwrap(), None);
        assert_eq!(ids(&Settings::default(), &host).unwrap(), None);
    }
}
