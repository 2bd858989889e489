//! Who a container's process is: `user[:group]`, looked up in the image's /etc/passwd and /etc/group.

use std::io::Read;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use crate::fs::path;
use crate::sys::kernel;

/// An id of the kernel has 32 bits; Docker gives out these.
const LAST_ID: u32 = i32::MAX as u32;
/// Bytes of a passwd or group file. An image is not to be trusted with our memory.
const LARGEST: u64 = 8 << 20;

/// A resolved user, ids as inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, `gid` first.
    pub gids: Vec<u32>,
    pub home: String,
}

/// Resolves `user`, which is `name|uid[:name|gid]` or empty, and the groups of `--group-add`, in the file system under
/// `root`. The words of the errors are Docker's.
pub fn resolve(root: BorrowedFd, user: &str, group_add: &Option<Vec<String>>) -> Result<User> {
    // Most containers name nobody: /etc/passwd then only tells root's home and groups.
    let passwd = read(root, "etc/passwd")?;
    let found = find(user, group_add.as_deref().unwrap_or_default(), &passwd, &|| read(root, "etc/group"))?;
    given(found.uid)?;
    Ok(found)
}

/// The same for a command of a build, as BuildKit has it: root, and who is named by numbers, needs no files.
pub fn resolve_step(root: BorrowedFd, user: &str) -> Result<User> {
    let numbers: Vec<&str> = user.splitn(2, ':').map(|part| if part == "root" { "0" } else { part }).collect();
    if !user.is_empty() && numbers.iter().any(|part| part.parse::<u32>().is_err()) {
        return resolve(root, user, &None);
    }
    let passwd = read(root, "etc/passwd").unwrap_or_default();
    let group = || Ok(read(root, "etc/group").unwrap_or_default());
    let found = find(&numbers.join(":"), &[], &passwd, &group)?;
    given(found.uid)?;
    Ok(found)
}

/// The owner that files get for `user[:group]` of an image, as BuildKit gives them: a name that the image has not is root's,
/// or leaves the group as it is.
pub fn owner(root: BorrowedFd, user: &str) -> Result<(u32, u32)> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let (uid, mut gid) = match number(user) {
        Some(uid) => (in_range(uid)?, in_range(uid)?),
        None => {
            let passwd = read(root, "etc/passwd")?;
            accounts(&passwd).find(|account| account.name == user).map_or((0, 0), |found| (found.uid, found.gid))
        }
    };
    match number(group) {
        Some(number) => gid = in_range(number)?,
        None if group.is_empty() => {}
        None => {
            let text = read(root, "etc/group")?;
            gid = groups(&text).find(|known| known.name == group).map_or(gid, |found| found.gid);
        }
    }
    given(uid)?;
    Ok((uid, gid))
}

fn given(uid: u32) -> Result<()> {
    match kernel::has_uid(uid) {
        true => Ok(()),
        false => bail!("uid {uid} is none that this user was given (see /etc/subuid)"),
    }
}

/// The text of a file of the image; a missing one is empty.
fn read(root: BorrowedFd, name: &str) -> Result<String> {
    // A FIFO must not hold us up.
    let file = match path::open(root, name.as_bytes(), OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0, path::IN_ROOT) {
        Ok(file) => file,
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => return Ok(String::new()),
            _ => return Err(error).with_context(|| format!("open the image's /{name}")),
        },
    };
    let status = fstat(&file).with_context(|| format!("read the image's /{name}"))?;
    if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        bail!("the image's /{name} is not a regular file");
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read the image's /{name}"))?;
    if bytes.len() as u64 > LARGEST {
        bail!("the image's /{name} is larger than {LARGEST} bytes");
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of passwd(5).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of group(5).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Lines that are not of the format are skipped: a number that cannot be read must not become root's.
fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// `group` is only asked for where somebody may be in one: an image whose file cannot be read may have no users.
fn find(user: &str, group_add: &[String], passwd: &str, group: &dyn Fn() -> Result<String>) -> Result<User> {
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
    let mut found = User { uid: 0, gid: 0, gids: Vec::new(), home: "/".to_owned() };
    let wanted = number(user_part);
    let account = accounts(passwd).find(|account| match (user_part, wanted) {
        ("", _) => account.uid == 0,
        (name, _) if name == account.name => true,
        (_, wanted) => wanted == Some(i64::from(account.uid)),
    });
    match (&account, wanted) {
        (Some(account), _) => {
            (found.uid, found.gid) = (account.uid, account.gid);
            if !account.home.is_empty() {
                found.home = account.home.to_owned();
            }
        }
        (None, _) if user_part.is_empty() => {}
        (None, Some(uid)) => found.uid = in_range(uid)?,
        (None, None) => bail!("unable to find user {user_part}: no matching entries in passwd file"),
    }
    let mut more = Vec::new();
    let group = match !group_part.is_empty() || account.is_some() || !group_add.is_empty() {
        true => {
            let name = account.as_ref().map_or(user_part, |account| account.name);
            group().with_context(|| format!("unable to find groups for spec {name}"))?
        }
        false => String::new(),
    };
    if !group_part.is_empty() {
        found.gid = group_id(group_part, &group)?;
    } else if let Some(account) = &account {
        more.extend(
            groups(&group)
                .filter(|group| group.members.split(',').any(|member| member == account.name))
                .map(|group| group.gid),
        );
    }
    for name in group_add {
        more.push(group_id(name, &group)?);
    }
    found.gids.push(found.gid);
    for gid in more {
        if !found.gids.contains(&gid) {
            found.gids.push(gid);
        }
    }
    Ok(found)
}

/// The number of a group that is named by name or number.
fn group_id(wanted: &str, group: &str) -> Result<u32> {
    let by_number = number(wanted);
    let found = groups(group).find(|group| group.name == wanted || by_number == Some(i64::from(group.gid)));
    match (found, by_number) {
        (Some(group), _) => Ok(group.gid),
        (None, Some(gid)) => in_range(gid),
        (None, None) => bail!("unable to find group {wanted}: no matching entries in group file"),
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn in_range(id: i64) -> Result<u32> {
    match u32::try_from(id) {
        Ok(id) if id <= LAST_ID => Ok(id),
        _ => bail!("uids and gids must be in range 0-{LAST_ID}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          # a comment\n\
                          \n\
                          odd:x:zero:0::/:/bin/sh\n\
                          web:x:33:34:Web:/srv:/bin/false\n\
                          42:x:7:8::/home/42:\n\
                          short:x:9:10";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:4:web,root\ndb:x:5:web\n77:x:6:\nbad:x:y:web";

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn names_and_numbers_are_found() {
        for (user, add, uid, gids, home) in [
            ("", &[][..], 0, &[0, 4][..], "/root"),
            ("root", &[], 0, &[0, 4], "/root"),
            ("web", &[], 33, &[34, 4, 5], "/srv"),
            ("33", &[], 33, &[34, 4, 5], "/srv"),
            ("web:", &[], 33, &[34, 4, 5], "/srv"),
            ("web:log", &[], 33, &[4], "/srv"),
            ("web:99", &[], 33, &[99], "/srv"),
            (":log", &[], 0, &[4], "/root"),
            ("1000", &[], 1000, &[0], "/"),
            ("1000:1001", &[], 1000, &[1001], "/"),
            ("42", &[], 7, &[8], "/home/42"),
            ("short", &[], 9, &[10], "/"),
            ("web", &["www", "77", "4", "500"], 33, &[34, 4, 5, 6, 500], "/srv"),
        ] {
            let found = find(user, &strings(add), PASSWD, &|| Ok(GROUP.to_owned())).unwrap();
            let expected = User { uid, gid: gids[0], gids: gids.to_vec(), home: home.to_owned() };
            assert_eq!(found, expected, "{user:?} with {add:?}");
        }
        let bare = User { uid: 0, gid: 0, gids: vec![0], home: "/".to_owned() };
        assert_eq!(find("", &[], "", &|| bail!("nobody asks")).unwrap(), bare);
    }

    #[test]
    fn what_is_refused() {
        for (user, add, expected) in [
            ("nobody", &[][..], "unable to find user nobody: no matching entries in passwd file"),
            ("odd", &[], "unable to find user odd: no matching entries in passwd file"),
            ("-1", &[], "uids and gids must be in range 0-2147483647"),
            ("web:-1", &[], "uids and gids must be in range 0-2147483647"),
            ("-x", &[], "unable to find user -x: no matching entries in passwd file"),
            ("web:nope", &[], "unable to find group nope: no matching entries in group file"),
            ("web", &["bad"], "unable to find group bad: no matching entries in group file"),
            ("2147483648", &[], "uids and gids must be in range 0-2147483647"),
            ("web:4294967296", &[], "uids and gids must be in range 0-2147483647"),
            (
                "18446744073709551616",
                &[],
                "unable to find user 18446744073709551616: no matching entries in passwd file",
            ),
        ] {
            let error = find(user, &strings(add), PASSWD, &|| Ok(GROUP.to_owned())).unwrap_err();
            assert_eq!(error.to_string(), expected, "{user:?} with {add:?}");
        }
    }

    #[test]
    fn files_of_the_image_cannot_lead_outside_or_hold_us_up() {
        let dir = std::env::temp_dir().join(format!("dhow-users-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        let root = path::open_root(&dir).unwrap();
        let resolve = |user| resolve(root.as_fd(), user, &None);
        assert_eq!(resolve("").unwrap().home, "/");

        // A link to the host's file is one to the image's own, which is not there.
        std::os::unix::fs::symlink("/etc/hostname", dir.join("etc/passwd")).unwrap();
        assert!(resolve("root").is_err());
        std::fs::write(dir.join("etc/real"), "me:x:5:6::/me:\n").unwrap();
        std::fs::remove_file(dir.join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/real", dir.join("etc/passwd")).unwrap();
        assert_eq!(resolve("me").unwrap().uid, 5);

        std::fs::remove_file(dir.join("etc/passwd")).unwrap();
        nix::unistd::mkfifo(&dir.join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(resolve("me").unwrap_err().to_string(), "the image's /etc/passwd is not a regular file");
        // Who needs no file is not asked for one; groups are asked for where somebody is known.
        for (user, uid, gid) in [("", 0, 0), ("root", 0, 0), ("7", 7, 0), ("7:8", 7, 8), ("root:9", 0, 9)] {
            let found = resolve_step(root.as_fd(), user).unwrap();
            assert_eq!((found.uid, found.gids), (uid, vec![gid]), "{user}");
        }
        assert!(resolve_step(root.as_fd(), "me").is_err());
        std::fs::remove_file(dir.join("etc/passwd")).unwrap();
        std::fs::create_dir(dir.join("etc/group")).unwrap();
        let resolve = |user| super::resolve(root.as_fd(), user, &None);
        assert_eq!(resolve("7").unwrap().gids, [0]);
        std::fs::write(dir.join("etc/passwd"), "me:x:5:6::/me:\n").unwrap();
        let error = format!("{:#}", resolve("5").unwrap_err());
        assert_eq!(error, "unable to find groups for spec me: the image's /etc/group is not a regular file");
        assert_eq!(resolve_step(root.as_fd(), "5").unwrap().gids, [6]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn files_have_an_owner_whoever_is_named() {
        let dir = std::env::temp_dir().join(format!("dhow-owners-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/passwd"), PASSWD).unwrap();
        std::fs::write(dir.join("etc/group"), GROUP).unwrap();
        let root = path::open_root(&dir).unwrap();
        for (user, uid, gid) in [
            ("", 0, 0),
            ("web", 33, 34),
            ("web:log", 33, 4),
            ("web:nope", 33, 34),
            ("nobody", 0, 0),
            ("nobody:log", 0, 4),
            ("nobody:7", 0, 7),
            ("33", 33, 33),
            ("1000:1001", 1000, 1001),
        ] {
            assert_eq!(owner(root.as_fd(), user).unwrap(), (uid, gid), "{user}");
        }
        assert!(owner(root.as_fd(), "4294967295").is_err());
        std::fs::remove_file(dir.join("etc/group")).unwrap();
        std::fs::create_dir(dir.join("etc/group")).unwrap();
        assert_eq!(owner(root.as_fd(), "web").unwrap(), (33, 34));
        assert!(owner(root.as_fd(), "web:log").is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
