//! What a copy is called where it arrives: Docker's rules, which are those of cp(1) in most cases. A path that ends in
//! `/.` means what is in a directory, one that ends in `/` must be one.

use anyhow::{Result, bail};

/// One side of a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    pub path: String,
    pub exists: bool,
    pub is_dir: bool,
    /// What its entries are called instead of the path's last component.
    pub called: Option<String>,
}

/// Where the tar of a copy is unpacked, and a first component that takes the place of another one there.
#[derive(Debug, PartialEq)]
pub struct Plan {
    pub dir: String,
    pub rename: Option<(String, String)>,
}

/// Decides where to. The errors are Docker's.
pub fn plan(from: &Side, to: &Side) -> Result<Plan> {
    if to.exists && to.is_dir {
        return Ok(Plan { dir: to.path.clone(), rename: None });
    }
    if to.exists && from.is_dir {
        bail!("cannot copy directory");
    }
    if !to.exists && !from.is_dir && (to.path.ends_with('/') || is_dot(&to.path)) {
        bail!("no such directory");
    }
    let (dir, name) = split(&to.path);
    let old = from.called.clone().unwrap_or_else(|| split(&from.path).1);
    Ok(Plan { dir, rename: Some((old, name)) })
}

/// `CONTAINER:PATH` or a path here: one with a colon in it is written with a slash or a dot in front.
pub fn of_container(argument: &str) -> Option<(&str, &str)> {
    argument.split_once(':').filter(|(container, _)| !container.starts_with(['/', '.']))
}

/// Go's `filepath.Clean`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// A cleaned path with what the original ended in: `/` or `/.`.
pub fn with_ending(cleaned: String, original: &str) -> String {
    let slash = if cleaned.ends_with('/') { "" } else { "/" };
    if is_dot(original) && !is_dot(&cleaned) {
        return format!("{cleaned}{slash}.");
    }
    if original.ends_with('/') { format!("{cleaned}{slash}") } else { cleaned }
}

/// Directory and last component of a path, cleaned but for a `/.` at its end.
pub fn split(path: &str) -> (String, String) {
    let cleaned = clean(path);
    if is_dot(path) {
        return (cleaned, ".".to_owned());
    }
    match cleaned.rsplit_once('/') {
        Some(("", "")) => ("/".to_owned(), "/".to_owned()),
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((dir, name)) => (dir.to_owned(), name.to_owned()),
        None => (".".to_owned(), cleaned),
    }
}

/// Go's `filepath.Base`.
pub fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None if path.is_empty() => ".",
        Some("") | None => "/",
        Some(base) => base,
    }
}

fn is_dot(path: &str) -> bool {
    base(path) == "."
}

/// Where a link that is followed leads, with the ending of the path that named it, and what the copy is called if that
/// is another name.
pub fn followed(path: &str, target: String) -> (String, Option<String>) {
    let target = with_ending(target, path);
    let called = (base(path) != base(&target)).then(|| base(path).to_owned());
    (target, called)
}

/// A link's target from the directory that the link is in.
pub fn from_link(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    clean(&format!("{}/{target}", split(link).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_side_is_a_container() {
        for (argument, expected) in [
            ("web:/etc", Some(("web", "/etc"))),
            ("web:", Some(("web", ""))),
            ("/a:b", None),
            ("./a:b", None),
            (".a:b", None),
            ("a", None),
            ("-", None),
            ("host/web:/x:y", Some(("host/web", "/x:y"))),
        ] {
            assert_eq!(of_container(argument), expected, "{argument}");
        }
    }

    #[test]
    fn cleaned_split_and_ended() {
        for (path, cleaned, dir, name) in [
            ("/a//b/../c/", "/a/c", "/a", "c"),
            ("/a/.", "/a", "/a", "."),
            ("/", "/", "/", "/"),
            ("/.", "/", "/", "."),
            ("a", "a", ".", "a"),
            (".", ".", ".", "."),
            ("", ".", ".", "."),
            ("../x", "../x", "..", "x"),
            ("/../x", "/x", "/", "x"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
            assert_eq!(split(path), (dir.to_owned(), name.to_owned()), "{path}");
        }
        for (cleaned, original, expected) in
            [("/a", "/a/", "/a/"), ("/a", "a/.", "/a/."), ("/", "/", "/"), ("/", "/.", "/."), ("/a", "/a", "/a")]
        {
            assert_eq!(with_ending(cleaned.to_owned(), original), expected);
        }
    }

    #[test]
    fn links_that_are_followed() {
        let called = |name: &str| Some(name.to_owned());
        assert_eq!(followed("/a/link", "/b/real".to_owned()), ("/b/real".to_owned(), called("link")));
        assert_eq!(followed("/a/link/", "/b/real".to_owned()), ("/b/real/".to_owned(), called("link")));
        assert_eq!(followed("/a/link/.", "/b/real".to_owned()), ("/b/real/.".to_owned(), None));
        assert_eq!(followed("/a/same", "/b/same".to_owned()), ("/b/same".to_owned(), None));
        assert_eq!(from_link("/a/link", "../x"), "/x");
        assert_eq!(from_link("/a/link", "/y"), "/y");
    }

    /// Every case of Docker's documentation of cp.
    #[test]
    fn where_copies_go() {
        let file = |path: &str| Side { path: path.to_owned(), exists: true, ..Side::default() };
        let dir = |path: &str| Side { is_dir: true, ..file(path) };
        let none = |path: &str| Side { path: path.to_owned(), ..Side::default() };
        let linked = |side: Side, name: &str| Side { called: Some(name.to_owned()), ..side };
        let goes = |dir: &str, old: &str, new: &str| {
            Ok(Plan { dir: dir.to_owned(), rename: Some((old.to_owned(), new.to_owned())) })
        };
        let into = |dir: &str| Ok(Plan { dir: dir.to_owned(), rename: None });
        let table = [
            // A file: to a new name, to a directory that is not there, onto a file, into a directory.
            (file("/s/f"), none("/d/new"), goes("/d", "f", "new")),
            (file("/s/f"), none("/d/new/"), Err("no such directory")),
            (file("/s/f"), none("/d/new/."), Err("no such directory")),
            (file("/s/f"), file("/d/g"), goes("/d", "f", "g")),
            (file("/s/f"), dir("/d/"), into("/d/")),
            (file("/s/f"), none("new"), goes(".", "f", "new")),
            // A directory: to a new name, onto a file, into a directory; and what is in it.
            (dir("/s"), none("/d/new"), goes("/d", "s", "new")),
            (dir("/s"), none("/d/new/"), goes("/d", "s", "new")),
            (dir("/s/."), none("/d/new"), goes("/d", ".", "new")),
            (dir("/s"), file("/d/g"), Err("cannot copy directory")),
            (dir("/s/."), file("/d/g"), Err("cannot copy directory")),
            (dir("/s"), dir("/d"), into("/d")),
            (dir("/s/."), dir("/d"), into("/d")),
            (dir("/"), none("/d/new"), goes("/d", "/", "new")),
            // What a link was called.
            (linked(file("/s/real"), "link"), none("/d/new"), goes("/d", "link", "new")),
            (linked(file("/s/real"), "link"), dir("/d"), into("/d")),
        ];
        for (from, to, expected) in table {
            let found = plan(&from, &to).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{from:?} {to:?}");
        }
    }
}
