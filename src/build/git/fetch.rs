//! A repository's commit, and the files of that commit.

use super::Address;
use super::command::{Git, Keys};
use crate::api::Refusal;
use crate::api::wire::Caller;
use crate::fs::stat::is_dir;
use crate::fs::{path, remove, tree};
use crate::order::Map;
use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// What a name stands for in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub commit: String,
    /// An annotated tag, by its own hash.
    tag: Option<String>,
    /// The full name; none of a commit that was asked for as such.
    name: Option<String>,
}

impl Found {
    /// Whether it is what `--checksum` says.
    pub fn check(&self, wanted: &str) -> Result<()> {
        let wanted = wanted.to_ascii_lowercase();
        let mut hashes = [Some(&self.commit), self.tag.as_ref()].into_iter().flatten();
        if hashes.any(|hash| hash.starts_with(&wanted)) {
            return Ok(());
        }
        bail!("digest mismatch: expected checksum to match {wanted}, got {}", self.commit)
    }
}

/// One repository, in a directory of its own.
pub struct Repository {
    pub address: Address,
    pub found: Found,
    git: Git,
}

/// What is done in each submodule that is kept; the words are ours alone.
const TIDY: &str =
    "git read-tree HEAD && cd \"$(git rev-parse --absolute-git-dir)\" && rm -rf FETCH_HEAD ORIG_HEAD logs";

impl Repository {
    /// Asks what the address stands for. `dir` is empty and nobody else's. A commit that stands in it is not asked for.
    pub fn find(
        address: Address,
        dir: PathBuf,
        keys: Keys,
        secrets: &Map<String, Vec<u8>>,
        caller: &Caller,
    ) -> Result<Repository> {
        let dir = std::fs::canonicalize(&dir).with_context(|| format!("look for {}", dir.display()))?;
        let header = match address.authorization(secrets)? {
            Some(value) => address.origin.clone().map(|origin| (origin, value)),
            None => None,
        };
        let git = Git::new(dir, keys, header, caller.clone())?;
        let doing = format!("look at {}", address.remote);
        begin(&git, &doing, &address, false)?;
        let name = address.reference.as_str();
        let found = if is_commit(name) {
            Some(Found { commit: name.to_owned(), tag: None, name: None })
        } else if name.is_empty() {
            of_head(&git.run(&doing, &["ls-remote", "--symref", "--", "origin", "HEAD"])?)
        } else {
            let names = candidates(name).map(|name| [format!("{name}^{{}}"), name]).concat();
            let args: Vec<&str> =
                ["ls-remote", "--", "origin"].into_iter().chain(names.iter().map(String::as_str)).collect();
            of_name(name, &git.run(&doing, &args)?)
        };
        let found = found.ok_or_else(|| {
            let name = if name.is_empty() { "HEAD" } else { name };
            Refusal::NotFound(format!("{doing}: repository does not contain ref {name}"))
        })?;
        if let Some(wanted) = &address.checksum {
            found.check(wanted)?;
        }
        if found.commit.len() == SHA256 {
            remove::tree(&git.work().join(".git"))?;
            begin(&git, &doing, &address, true)?;
        }
        Ok(Repository { address, found, git })
    }

    /// Whether `.git` is wanted: `keep` where the address does not say it.
    pub fn keeps(&self, keep: bool) -> bool {
        self.address.keep.unwrap_or(keep)
    }

    /// Fetches the commit and lays out its files: gives their root. What they are depends on the commit alone, also their
    /// modes and times. With `keep`, `.git` is among them.
    pub fn files(&self, keep: bool) -> Result<OwnedFd> {
        let keep = self.keeps(keep) && self.address.subdir.is_empty();
        let doing = format!("fetch {}", self.address.remote);
        self.fetch(&doing)?;
        let commit = self.found.commit.as_str();
        let doing = format!("check out {commit} of {}", self.address.remote);
        self.git.run(&doing, &["checkout", "--quiet", "--force", "--detach", commit])?;
        let work = self.git.work();
        if self.address.submodules && work.join(".gitmodules").symlink_metadata().is_ok() {
            let doing = format!("fetch the submodules of {}", self.address.remote);
            self.git.run(&doing, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        let about = self.git.run(&doing, &["cat-file", "commit", commit])?;
        let time = committed(&about).with_context(|| format!("{doing}: the commit has no time"))?;
        if keep {
            // What tells of this fetch and not of the commit: the index knows when files were written.
            self.git.run(&doing, &["read-tree", "HEAD"])?;
            self.git.run(&doing, &["submodule", "--quiet", "foreach", "--recursive", TIDY])?;
            for name in ["FETCH_HEAD", "ORIG_HEAD", "logs"] {
                let path = work.join(".git").join(name);
                if path.symlink_metadata().is_ok() {
                    remove::tree(&path)?;
                }
            }
        }
        let root = path::open_root(&work)?;
        settle(&root, keep, time)?;
        if self.address.subdir.is_empty() {
            return Ok(root);
        }
        let subdir = path::trim_slashes(self.address.subdir.as_bytes());
        path::open_dir(root.as_fd(), if subdir.is_empty() { b"." } else { subdir }, path::IN_ROOT).map_err(|error| {
            let text = format!("{}: open the directory {}: {error}", self.address.remote, self.address.subdir);
            Refusal::BadParameter(text).into()
        })
    }

    fn fetch(&self, doing: &str) -> Result<()> {
        let commit = self.found.commit.as_str();
        let fetch = |what: &[&str]| {
            let fixed = ["fetch", "--quiet", "--no-recurse-submodules", "--force", "--update-head-ok"];
            self.git.run(doing, &[&fixed[..], what].concat())
        };
        let there =
            |what: &str| self.git.run(doing, &["rev-parse", "--verify", "--quiet", &format!("{what}^{{commit}}")]);
        match self.found.name.as_deref() {
            Some(name) => {
                let what = if name == "HEAD" { name.to_owned() } else { format!("+{name}:{name}") };
                fetch(&["--depth=1", "--no-tags", "origin", &what])?;
                if there("FETCH_HEAD")?.trim() != commit {
                    bail!("{doing}: {name} was moved meanwhile: build again");
                }
            }
            // A server need not give a commit that no name leads to at once.
            None => {
                if let Err(error) = fetch(&["--depth=1", "--no-tags", "origin", commit]) {
                    if super::super::report::is_gone(&error) {
                        return Err(error);
                    }
                    fetch(&["--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
                }
                there(commit)
                    .map_err(|_| Refusal::NotFound(format!("{doing}: repository does not contain ref {commit}")))?;
            }
        }
        Ok(())
    }
}

/// Gives all files the same time, and the modes that git knows of. Without `keep`, what belongs to git goes.
fn settle(root: &OwnedFd, keep: bool, time: i64) -> Result<()> {
    let time = TimeSpec::new(time, 0);
    let named = |at: &[u8]| CString::new(path::split(at).1);
    if !keep {
        // Nothing that is committed has this name.
        tree::glance(root.as_fd(), &mut |at, dir, stat| {
            let name = named(at)?;
            let of_git = name.as_bytes() == b".git";
            if of_git {
                remove::entry(dir, &name)?;
            }
            Ok(is_dir(stat) && !of_git)
        })?;
    }
    tree::glance(root.as_fd(), &mut |at, dir, stat| {
        let name = named(at)?;
        let settled = || -> Result<(), Errno> {
            if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFLNK.bits() {
                let mode = if is_dir(stat) || stat.st_mode & 0o100 != 0 { 0o755 } else { 0o644 };
                fchmodat(dir, name.as_c_str(), Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)?;
            }
            utimensat(dir, name.as_c_str(), &time, &time, UtimensatFlags::NoFollowSymlink)
        };
        settled().with_context(|| format!("set the time of {}", path::show(at)))?;
        Ok(is_dir(stat))
    })?;
    let whole = path::of_fd(root.as_fd());
    utimensat(AT_FDCWD, whole.as_c_str(), &time, &time, UtimensatFlags::FollowSymlink).context("set a time")
}

/// Digits of the names of objects where they are SHA-256, and not SHA-1.
const SHA256: usize = 64;

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | SHA256) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes an empty repository that knows where the other one lies.
fn begin(git: &Git, doing: &str, address: &Address, sha256: bool) -> Result<()> {
    let format: &[&str] = if sha256 { &["--object-format=sha256"] } else { &[] };
    git.run(doing, &[&["init", "--quiet", "--template="], format, &["."]].concat())?;
    git.run(doing, &["config", "remote.origin.url", &address.remote])?;
    git.run(doing, &["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]).map(drop)
}

/// The full names that a short one may have, the first that is there is meant: as it stands, a branch, a tag.
fn candidates(name: &str) -> [String; 3] {
    let full = |prefix: &str| format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name));
    [full("refs/"), full("refs/heads/"), full("refs/tags/")]
}

/// What `git ls-remote` tells of a name.
fn of_name(name: &str, told: &str) -> Option<Found> {
    let lines = told.lines().filter_map(|line| line.split_once('\t'));
    let lines = Map::from_iter(lines.map(|(hash, name)| (name, hash)));
    candidates(name).into_iter().find_map(|name| {
        let hash = (*lines.get(name.as_str())?).to_owned();
        let peeled = lines.get(format!("{name}^{{}}").as_str()).map(|hash| (*hash).to_owned());
        let (commit, tag) = match peeled {
            Some(commit) => (commit, Some(hash)),
            None => (hash, None),
        };
        is_commit(&commit).then_some(Found { commit, tag, name: Some(name) })
    })
}

/// What `git ls-remote --symref` tells of HEAD.
fn of_head(told: &str) -> Option<Found> {
    let of = |line: &str| line.strip_suffix("\tHEAD").map(str::to_owned);
    let name = told.lines().filter_map(of).find_map(|line| line.strip_prefix("ref: ").map(str::to_owned));
    let commit = told.lines().filter_map(of).find(|line| is_commit(line))?;
    let name = name.filter(|name| name.starts_with("refs/heads/") && !name.contains([':', ' ']));
    Some(Found { commit, tag: None, name: Some(name.unwrap_or_else(|| "HEAD".to_owned())) })
}

/// When a commit was made, in seconds since 1970.
fn committed(text: &str) -> Option<i64> {
    let line = text.lines().take_while(|line| !line.is_empty()).find(|line| line.starts_with("committer "))?;
    line.rsplit(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_branch_comes_before_a_tag_and_a_tag_leads_to_its_commit() {
        let found = |name: &str, lines: &[(&str, &str)]| {
            let told: String = lines.iter().map(|(hash, name)| format!("{hash}\t{name}\n")).collect();
            of_name(name, &told).map(|it| (it.commit, it.tag, it.name.unwrap_or_default()))
        };
        let name = |text: &str| text.to_owned();
        assert_eq!(
            found("x", &[(A, "refs/tags/x"), (B, "refs/heads/x")]),
            Some((B.into(), None, name("refs/heads/x")))
        );
        assert_eq!(
            found("x", &[(A, "refs/tags/x"), (B, "refs/tags/x^{}")]),
            Some((B.into(), Some(A.into()), name("refs/tags/x")))
        );
        assert_eq!(found("pull/1/head", &[(A, "refs/pull/1/head")]), Some((A.into(), None, name("refs/pull/1/head"))));
        assert_eq!(found("x", &[(A, "refs/heads/deep/x")]), None);
        assert_eq!(found("x", &[("no hash", "refs/heads/x")]), None);
    }

    #[test]
    fn what_head_is() {
        let name = |told: &str| of_head(told).map(|it| (it.commit, it.name.unwrap_or_default()));
        assert_eq!(
            name(&format!("ref: refs/heads/trunk\tHEAD\n{A}\tHEAD\n")),
            Some((A.into(), "refs/heads/trunk".into()))
        );
        assert_eq!(name(&format!("{A}\tHEAD\n")), Some((A.into(), "HEAD".into())));
        assert_eq!(name(&format!("ref: --x\tHEAD\n{A}\tHEAD\n")), Some((A.into(), "HEAD".into())));
        assert_eq!(name(""), None);
    }

    #[test]
    fn checksums_are_beginnings_of_hashes() {
        let found = Found { commit: A.into(), tag: Some(B.into()), name: None };
        assert!(found.check(A).is_ok() && found.check("bbbbbbbb").is_ok() && found.check("AAAAAAAA").is_ok());
        assert!(found.check("ab").is_err());
    }

    #[test]
    fn the_time_is_the_committers() {
        let text = "tree x\nauthor A <a> 1 +0000\ncommitter B <b c> 1700000000 +0100\n\ncommitter no 5 +0\n";
        assert_eq!(committed(text), Some(1_700_000_000));
        assert_eq!(committed("tree x\n\ncommitter B 1 +0\n"), None);
    }
}
