//! What `COPY` and `ADD` take: patterns → the entries of a tree that they name, in order. Nothing leaves the tree: its
//! paths are resolved by the kernel.

use super::super::ignore::{self, Ignore};
use crate::fs::stat::is_dir;
use crate::fs::{path, remove, tree};
use crate::order::Set;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, fstat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A tree that is copied from.
pub struct Tree {
    pub root: OwnedFd,
    /// What counts as not being there.
    pub ignore: Ignore,
    /// How it is called in errors.
    pub called: &'static str,
    /// Whether its files have owners who stay: those of a stage or an image have, those of a context become root's.
    pub owned: bool,
}

/// One entry that is copied.
pub struct Item {
    /// Where it lies in the tree.
    pub path: Vec<u8>,
    name: Name,
    pub stat: FileStat,
    /// A directory whose contents are copied, and not it itself.
    pub top: bool,
}

/// A name that mostly is the end of a path.
enum Name {
    From(usize),
    Other(Vec<u8>),
}

impl Item {
    pub fn new(path: Vec<u8>, name: Vec<u8>, stat: FileStat, top: bool) -> Item {
        Item { path, name: Name::Other(name), stat, top }
    }

    /// Where it goes, below the destination; empty for the destination itself.
    pub fn name(&self) -> &[u8] {
        match &self.name {
            Name::From(at) => &self.path[*at..],
            Name::Other(name) => name,
        }
    }
}

/// A source is not there.
#[derive(Debug)]
pub struct Missing {
    path: String,
    from: &'static str,
    /// It is there, and ignored.
    hidden: bool,
    /// It would be a stage's or an image's.
    owned: bool,
}

impl Missing {
    /// As Docker's first builder says it of an instruction.
    pub fn classic(&self, instruction: &str) -> String {
        let why = if self.owned { "" } else { "file not found in build context or excluded by .dockerignore: " };
        format!("{instruction} failed: {why}stat {}: file does not exist", self.path)
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = if self.hidden { " (it is left out by .dockerignore)" } else { "" };
        write!(f, "/{}: not found in {}{why}", self.path, self.from)
    }
}

impl std::error::Error for Missing {}

/// Whether a path leads above where it begins.
pub fn leads_out(path: &str) -> bool {
    let mut depth = 0i32;
    path.split('/').any(|name| {
        depth += match name {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

/// More entries than this in one instruction are refused.
const MOST: usize = 4_000_000;

/// How the paths of an instruction are taken.
pub struct Wish<'a> {
    /// `--parents`
    pub parents: bool,
    /// `--exclude`
    pub exclude: &'a Ignore,
}

/// The entries that a source names. A pattern may name none, a path must be there.
///
/// What has its parents is found below the directory before `/./`, to which links may lead. Below it they lead nowhere, and
/// are copied as the links that they are; where a pattern names nothing there, the destination is made all the same.
pub fn gather(from: &Tree, source: &str, wish: &Wish, items: &mut Vec<Item>) -> Result<()> {
    let (pivot, pattern) = match source.split_once("/./") {
        Some((before, after)) if wish.parents => (plain(before), plain(after)),
        _ => (String::new(), plain(source)),
    };
    let whole = if pivot.is_empty() { pattern.clone() } else { format!("{pivot}/{pattern}") };
    let mut missing = !has_wildcards(&whole);
    for start in matching(from, &[], &pivot, false)? {
        let Some(start) = led_to(from, &start)? else { continue };
        let depth = if start.is_empty() { 0 } else { start.split(|byte| *byte == b'/').count() };
        let found = matching(from, &start, &pattern, wish.parents)?;
        missing &= found.is_empty();
        if found.is_empty()
            && wish.parents
            && let Some(fd) = look(from.root.as_fd(), &start)?
        {
            let stat = fstat(&fd).with_context(|| format!("look at {}", path::show(&start)))?;
            items.extend(is_dir(&stat).then(|| Item::new(start, Vec::new(), stat, true)));
        }
        for path in found {
            one(from, &path, depth, wish, items)?;
        }
    }
    if missing {
        let hidden = from.ignore.leaves_out(&whole);
        bail!(Missing { path: whole, from: from.called, hidden, owned: from.owned });
    }
    Ok(())
}

/// Where a path leads, over links that stay inside.
fn led_to(from: &Tree, at: &[u8]) -> Result<Option<Vec<u8>>> {
    match look(from.root.as_fd(), at)? {
        Some(fd) => path::below(from.root.as_fd(), fd.as_fd()),
        None => Ok(None),
    }
}

/// Without what leads nowhere: `.`, `..`, slashes at the ends.
fn plain(path: &str) -> String {
    let clean = ignore::clean(path);
    if clean == "." { String::new() } else { clean }
}

pub fn has_wildcards(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

fn unescaped(name: &str) -> String {
    let mut out = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// The paths that a pattern names below a directory, sorted. With `deep`, `**` stands for any number of directories, and
/// links are not followed.
fn matching(from: &Tree, start: &[u8], pattern: &str, deep: bool) -> Result<Set<Vec<u8>>> {
    let root = from.root.as_fd();
    let mut found = Set::from([start.to_vec()]);
    if pattern.is_empty() {
        return Ok(found);
    }
    for name in pattern.split('/') {
        let (mut next, mut room) = (Vec::new(), MOST);
        for dir in &found {
            if deep && name == "**" {
                next.push(dir.clone());
                let Some(fd) = directory(root, dir, deep)? else { continue };
                tree::glance(fd.as_fd(), &mut |path, _, stat| {
                    let path = path::join(dir, path);
                    if is_dir(stat) && kept(from, &path, true) {
                        next.push(path);
                    }
                    Ok(is_dir(stat))
                })?;
            } else if has_wildcards(name) {
                let Some(fd) = directory(root, dir, deep)? else { continue };
                let glob = ignore::Name::new(name)?;
                for entry in remove::names(fd)? {
                    if entry.to_str().is_ok_and(|text| glob.matches(text)) {
                        next.push(path::join(dir, entry.to_bytes()));
                    }
                }
            } else {
                next.push(path::join(dir, unescaped(name).as_bytes()));
            }
            // By way of several `**` a file is named more than once; not sorted anew for every one of them.
            if next.len() > room {
                next = Set::from_iter(next).into_iter().collect();
                ensure!(next.len() <= MOST, "{pattern} names more than {MOST} files");
                room = MOST.max(2 * next.len());
            }
        }
        found = Set::from_iter(next);
        ensure!(found.len() <= MOST, "{pattern} names more than {MOST} files");
    }
    let mut there = Vec::new();
    for path in found {
        if let Some(fd) = at(root, &path, deep)? {
            let dir = is_dir(&fstat(&fd).context("look at a source")?);
            if kept(from, &path, dir) {
                there.push(path);
            }
        }
    }
    Ok(Set::from_iter(there))
}

fn kept(from: &Tree, path: &[u8], dir: bool) -> bool {
    let text = String::from_utf8_lossy(path);
    path.is_empty() || !from.ignore.leaves_out(&text) || dir && from.ignore.may_keep_inside(&text)
}

/// A directory for reading, reached over links that stay inside, or over none; `None` where there is none.
fn directory(root: BorrowedFd, path: &[u8], deep: bool) -> Result<Option<OwnedFd>> {
    let links = if deep { path::NO_LINKS } else { path::IN_ROOT };
    match path::open(root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, links) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("open {}", path::show(path))),
    }
}

/// What a source path leads to, over links that stay inside.
fn look(root: BorrowedFd, path: &[u8]) -> Result<Option<OwnedFd>> {
    match path::open(root, path, OFlag::O_PATH, 0, path::IN_ROOT) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("look at {}", path::show(path))),
    }
}

/// What a path names, or with `deep` what lies there itself.
fn at(root: BorrowedFd, path: &[u8], deep: bool) -> Result<Option<OwnedFd>> {
    if deep { tree::look(root, path) } else { look(root, path) }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV))
}

/// The entries of one source: a file, or what is in a directory.
fn one(from: &Tree, source: &[u8], depth: usize, wish: &Wish, items: &mut Vec<Item>) -> Result<()> {
    let root = from.root.as_fd();
    let Some(fd) = at(root, source, wish.parents)? else { return Ok(()) };
    let stat = fstat(&fd).with_context(|| format!("look at {}", path::show(source)))?;
    // Where a link led to: what is below is found from there.
    let real = path::below(root, fd.as_fd())?.with_context(|| format!("{} was moved", path::show(source)))?;
    let (_, last) = path::split(source);
    let mut prefix = Vec::new();
    if wish.parents {
        let names: Vec<&[u8]> = source.split(|byte| *byte == b'/').skip(depth).collect();
        for end in 1..names.len() {
            let name = names[..end].join(&b'/');
            let above: Vec<u8> = source.split(|byte| *byte == b'/').take(depth + end).collect::<Vec<_>>().join(&b'/');
            if items.iter().rev().any(|item| item.name() == name) {
                continue;
            }
            if let Some(fd) = look(root, &above)? {
                let stat = fstat(&fd).with_context(|| format!("look at {}", path::show(&above)))?;
                items.push(Item::new(above, name, stat, false));
            }
        }
        prefix = names.join(&b'/');
    }
    let excluded = |relative: &[u8]| wish.exclude.leaves_out(&String::from_utf8_lossy(relative));
    if !is_dir(&stat) {
        if !excluded(if wish.parents { &prefix } else { last }) {
            let name = if wish.parents { prefix } else { last.to_vec() };
            items.push(Item::new(real, name, stat, false));
        }
        return Ok(());
    }
    items.push(Item::new(real.clone(), prefix.clone(), stat, !wish.parents));
    let start = items.len();
    // Names are the ends of paths, unless a link led elsewhere.
    let end = real.ends_with(&prefix);
    let prefixed = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
    let count = AtomicUsize::new(start);
    let found = tree::survey(fd.as_fd(), &|below, stat| {
        let at = path::join(&real, below);
        let text = String::from_utf8_lossy(&at);
        let name = match end {
            true => Name::From(at.len() - below.len() - prefixed),
            false => Name::Other(path::join(&prefix, below)),
        };
        let relative = if wish.parents { &path::join(&prefix, below) } else { below };
        let ignored = from.ignore.leaves_out(&text);
        let out = ignored || excluded(relative);
        let inside = is_dir(stat)
            && (!ignored || from.ignore.may_keep_inside(&text))
            && (!excluded(relative) || wish.exclude.may_keep_inside(&String::from_utf8_lossy(relative)));
        if out && !inside {
            return Ok((None, false));
        }
        if count.fetch_add(1, Ordering::Relaxed) >= MOST {
            bail!("more than {MOST} files are to be copied");
        }
        Ok((Some((Item { path: at, name, stat: *stat, top: false }, out)), inside))
    })?;
    // Directories that are left out and of which something inside may be kept.
    let mut maybe: Vec<usize> = Vec::new();
    items.reserve(found.size_hint().1.unwrap_or(0));
    for (item, out) in found {
        maybe.extend(out.then_some(items.len()));
        items.push(item);
    }
    let mut dropped = vec![false; items.len()];
    for at in maybe.into_iter().rev() {
        let inside = path::join(items[at].name(), b"");
        let mut below = (at + 1..items.len()).take_while(|next| items[*next].name().starts_with(&inside));
        dropped[at] = below.all(|next| dropped[next]);
    }
    let mut dropped = dropped.into_iter();
    items.retain(|_| dropped.next() != Some(true));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::unpack::tests::Scratch;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn names(scratch: &Scratch, ignore: &str, source: &str, parents: bool, exclude: &str) -> Result<Vec<String>> {
        let root = path::open_root(&scratch.0.join("context"))?;
        let from = Tree { root, ignore: Ignore::read(ignore.as_bytes())?, called: "the build context", owned: false };
        let exclude = Ignore::read(exclude.as_bytes())?;
        let mut items = Vec::new();
        gather(&from, source, &Wish { parents, exclude: &exclude }, &mut items)?;
        Ok(items.iter().map(|item| format!("{}={}", path::show(item.name()), path::show(&item.path))).collect())
    }

    #[test]
    fn sources_are_found() {
        let scratch = Scratch::new();
        let context = scratch.0.join("context");
        fs::create_dir_all(context.join("a/b")).unwrap();
        fs::create_dir_all(context.join("c")).unwrap();
        for file in ["a/1.txt", "a/2.o", "a/b/3.txt", "c/4.txt", "5.txt", "x*y"] {
            fs::write(context.join(file), file).unwrap();
        }
        fs::write(scratch.0.join("secret"), "").unwrap();
        symlink("a", context.join("link")).unwrap();
        symlink("../secret", context.join("up")).unwrap();
        symlink("/5.txt", context.join("absolute")).unwrap();
        let all = ["=a", "1.txt=a/1.txt", "2.o=a/2.o", "b=a/b", "b/3.txt=a/b/3.txt"];
        for (ignore, source, parents, exclude, expected) in [
            ("", "a", false, "", all.to_vec()),
            ("", "/a/", false, "", all.to_vec()),
            ("", "../../a/../a", false, "", all.to_vec()),
            ("", "link", false, "", all.to_vec()),
            ("", "absolute", false, "", vec!["absolute=5.txt"]),
            ("", "*.txt", false, "", vec!["5.txt=5.txt"]),
            ("", "*/*.txt", false, "", vec!["1.txt=a/1.txt", "4.txt=c/4.txt", "1.txt=a/1.txt"]),
            ("", "x\\*y", false, "", vec!["x*y=x*y"]),
            ("", "z*", false, "", vec![]),
            ("**/*.txt", "a", false, "", vec!["=a", "2.o=a/2.o", "b=a/b"]),
            ("*\n!a/b", "a", false, "", vec!["=a", "b=a/b", "b/3.txt=a/b/3.txt"]),
            ("a\n!**/3.txt", ".", false, "a*\nc\nlink\nup\nx*\nabs*\n5*", vec!["="]),
            ("", "a", false, "**/*.txt", vec!["=a", "2.o=a/2.o", "b=a/b"]),
            ("", "a", false, "b", vec!["=a", "1.txt=a/1.txt", "2.o=a/2.o"]),
            ("", "a/*.txt", true, "", vec!["a=a", "a/1.txt=a/1.txt"]),
            ("", "a/./b/*.txt", true, "", vec!["b=a/b", "b/3.txt=a/b/3.txt"]),
            ("", "**/3.txt", true, "", vec!["a=a", "a/b=a/b", "a/b/3.txt=a/b/3.txt"]),
            ("", "link", true, "", vec!["link=link"]),
            ("", "link/", true, "", vec!["link=link"]),
            ("", "*/1.txt", true, "", vec!["a=a", "a/1.txt=a/1.txt"]),
            ("", "link/./b/*", true, "", vec!["b=a/b", "b/3.txt=a/b/3.txt"]),
            ("", "a/./z*", true, "", vec!["=a"]),
        ] {
            let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            if source == "*/*.txt" {
                // The link is a directory, too.
                expected = vec!["1.txt=a/1.txt".into(), "4.txt=c/4.txt".into(), "1.txt=a/1.txt".into()];
            }
            let found = names(&scratch, ignore, source, parents, exclude).unwrap();
            assert_eq!(found, expected, "{ignore:?} {source} {exclude:?}");
        }
        for (source, ignore) in [("nope", ""), ("up", ""), ("5.txt", "5.txt"), ("a/nope", ""), ("5.txt/x", "")] {
            let error = names(&scratch, ignore, source, false, "").unwrap_err();
            assert!(error.to_string().contains("not found in the build context"), "{source}: {error:#}");
        }
        // A link that is copied with its parents leads nowhere.
        let error = names(&scratch, "", "link/1.txt", true, "").unwrap_err();
        assert_eq!(error.to_string(), "/link/1.txt: not found in the build context");
    }
}
