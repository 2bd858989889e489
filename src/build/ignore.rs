//! `.dockerignore`: which files of a context are not sent, and not there. Patterns as Go's `filepath.Match` reads them,
//! with `**` for any number of directories; the last one that matches a file, or holds for a directory above it, decides.

use crate::api::Refusal;
use anyhow::{Result, bail};

/// The patterns of a file, or of `--exclude`.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    pieces: Vec<Piece>,
    /// `!`: what matches is there after all.
    keep: bool,
    /// How a directory begins whose insides may be kept though it is not.
    text: String,
    /// How all that it matches begins and ends: most paths need no more than that to be told from it.
    head: String,
    tail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`, not a slash.
    One,
    /// `*`, no slashes.
    Many,
    /// `**` at the end: anything.
    All,
    /// `**` elsewhere, with a slash or without: nothing, or anything up to a slash, which [`Piece::Rest`] stands for.
    Dirs,
    Rest,
    /// `[a-z]`, `[^a-z]`
    Class(Vec<(char, char)>, bool),
}

/// The largest file of patterns, and how many there may be.
pub const LARGEST: usize = 1 << 20;
const MOST: usize = 10_000;

impl Ignore {
    /// Reads a `.dockerignore` file.
    pub fn read(bytes: &[u8]) -> Result<Ignore> {
        if bytes.len() > LARGEST {
            bail!(Refusal::BadParameter(format!("the .dockerignore file is larger than {LARGEST} bytes")));
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Ignore::new(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Patterns one by one.
    pub fn new<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Ignore> {
        let mut patterns = Vec::new();
        for line in lines {
            let (keep, text) = match line.trim().strip_prefix('!') {
                Some(text) => (true, text.trim()),
                None => (false, line.trim()),
            };
            if text.is_empty() && keep {
                bail!(Refusal::BadParameter("illegal exclusion pattern: \"!\"".to_owned()));
            }
            if text.is_empty() {
                continue;
            }
            let text = relative(text);
            let Some(pieces) = pieces(&text, true) else {
                bail!(Refusal::BadParameter(format!("syntax error in pattern: {line:?}")));
            };
            if patterns.len() == MOST {
                bail!(Refusal::BadParameter(format!("there are more than {MOST} patterns of what to ignore")));
            }
            patterns.push(Pattern::new(pieces, keep, text));
        }
        Ok(Ignore { patterns })
    }

    /// Whether a path, relative and without `.` and `..`, is left out. It is walked to from above, as BuildKit does: a pattern
    /// holds below a directory where it changed what became of that, and only what would change something is asked. So
    /// `!a` keeps nothing in a directory that no pattern before it leaves out.
    pub fn leaves_out(&self, path: &str) -> bool {
        if !self.keeps() {
            return self.patterns.iter().any(|pattern| pattern.covers(path));
        }
        let mut held = vec![false; self.patterns.len()];
        let mut out = false;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            out = false;
            for (pattern, held) in self.patterns.iter().zip(&mut held) {
                *held = *held || pattern.keep == out && pattern.matches(&path[..end]);
                if *held {
                    out = !pattern.keep;
                }
            }
        }
        out
    }

    /// Whether anything that is left out is kept after all.
    pub fn keeps(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.keep)
    }

    /// Whether something inside a directory that is left out may be kept.
    pub fn may_keep_inside(&self, directory: &str) -> bool {
        self.patterns.iter().any(|pattern| {
            let fixed = pattern.text.find(['*', '?', '[', '\\']);
            let prefix = fixed.map_or(pattern.text.as_str(), |at| &pattern.text[..at]);
            let inside = format!("{directory}/");
            pattern.keep && (prefix.starts_with(&inside) || fixed.is_some() && inside.starts_with(prefix))
        })
    }
}

/// A pattern for one name in a directory.
pub struct Name(Pattern);

impl Name {
    pub fn new(text: &str) -> Result<Name> {
        match pieces(text, false) {
            Some(pieces) => Ok(Name(Pattern::new(pieces, false, text.to_owned()))),
            None => bail!(Refusal::BadParameter(format!("syntax error in pattern: {text:?}"))),
        }
    }

    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}

impl Pattern {
    fn new(pieces: Vec<Piece>, keep: bool, text: String) -> Pattern {
        let plain = |piece: &Piece| if let Piece::Char(c) = piece { Some(*c) } else { None };
        let head = pieces.iter().map_while(plain).collect();
        let mut tail: Vec<char> = pieces.iter().rev().map_while(plain).collect();
        tail.reverse();
        Pattern { head, tail: tail.into_iter().collect(), pieces, keep, text }
    }

    /// It matches the path or a directory above it.
    fn covers(&self, path: &str) -> bool {
        self.matches(path) || path.match_indices('/').any(|(at, _)| self.matches(&path[..at]))
    }

    /// All ways to match are walked side by side: no pattern takes longer than its length times the path's.
    fn matches(&self, path: &str) -> bool {
        if !path.starts_with(&self.head) || !path.ends_with(&self.tail) {
            return false;
        }
        let count = self.pieces.len();
        let (mut now, mut next) = (vec![false; count + 1], vec![false; count + 1]);
        now[0] = true;
        let mut before = None;
        for c in path.chars().map(Some).chain([None]) {
            for (at, piece) in self.pieces.iter().enumerate() {
                match piece {
                    Piece::Many | Piece::All => now[at + 1] |= now[at],
                    Piece::Dirs => now[at + 2] |= now[at],
                    Piece::Rest => now[at + 1] |= now[at] && before == Some('/'),
                    _ => {}
                }
            }
            let Some(c) = c else { break };
            next.fill(false);
            for (at, piece) in self.pieces.iter().enumerate() {
                if !now[at] {
                    continue;
                }
                match piece {
                    Piece::Many if c != '/' => next[at] = true,
                    Piece::All | Piece::Rest => next[at] = true,
                    Piece::Dirs => next[at + 1] = true,
                    Piece::One if c != '/' => next[at + 1] = true,
                    Piece::Char(known) if *known == c => next[at + 1] = true,
                    Piece::Class(ranges, not)
                        if ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *not && c != '/' =>
                    {
                        next[at + 1] = true;
                    }
                    _ => {}
                }
            }
            before = Some(c);
            std::mem::swap(&mut now, &mut next);
        }
        now[count]
    }
}

/// The pieces of a pattern, of many directories or of names alone; `None` where it is malformed.
fn pieces(text: &str, deep: bool) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    // At the start, and before nothing that is special, two stars are anything.
    let ends =
        text.strip_prefix("**").is_some_and(|rest| !rest.starts_with('/') && !rest.contains(['*', '?', '[', '\\']));
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let piece = match c {
            '*' if deep && chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if ends || chars.peek().is_none() {
                    Piece::All
                } else {
                    pieces.push(Piece::Dirs);
                    Piece::Rest
                }
            }
            '*' => Piece::Many,
            '?' => Piece::One,
            '\\' => Piece::Char(chars.next()?),
            '[' => {
                let not = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let mut member = || match chars.next()? {
                        '-' | ']' => None,
                        '\\' => chars.next(),
                        c => Some(c),
                    };
                    let low = member()?;
                    let high = if chars.next_if_eq(&'-').is_some() {
                        match chars.next()? {
                            '-' | ']' => return None,
                            '\\' => chars.next()?,
                            c => c,
                        }
                    } else {
                        low
                    };
                    ranges.push((low, high));
                    if chars.next_if_eq(&']').is_some() {
                        break;
                    }
                }
                Piece::Class(ranges, not)
            }
            c => Piece::Char(c),
        };
        pieces.push(piece);
    }
    Some(pieces)
}

/// A pattern without `.`, double slashes and one at either end. One that begins with `..` matches nothing.
fn relative(pattern: &str) -> String {
    let leaves = pattern.split('/').try_fold(0usize, |depth, part| match part {
        "" | "." => Some(depth),
        ".." => depth.checked_sub(1),
        _ => Some(depth + 1),
    });
    match leaves {
        None if !pattern.starts_with('/') => format!("../{}", clean(pattern)),
        _ => clean(pattern),
    }
}

/// A path without `.`, `..`, double slashes and one at an end. What would leave the directory stays in it.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out() {
        for (file, path, out) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("./a/../b/", "b/x", true),
            ("*", "a/b", true),
            ("*\n!b", "a", true),
            ("*\n!b", "b/c", false),
            ("*\n!b\nb/c", "b/c", true),
            ("a\n!a/b", "a/b", false),
            ("a\n!a/b", "a/c", true),
            ("!a\na", "a", true),
            ("**/x\n!a", "a/x", true),
            ("**/x\n!a/x", "a/x", false),
            ("a\n**/x\n!a", "a/x", false),
            ("a\n!a/b\na", "a/b", false),
            ("*.o", "x.o", true),
            ("*.o", "d/x.o", false),
            ("*/*.o", "d/x.o", true),
            ("**/*.o", "x.o", true),
            ("**/*.o", "d/e/x.o", true),
            ("**/x", "yx", false),
            ("**/x", "d/yx", false),
            ("d/**", "d", false),
            ("d/**", "d/e/f", true),
            ("d/**/x", "d/x", true),
            ("d/**/x", "d/e/f/x", true),
            ("d/**/x", "dx", false),
            ("**", "a/b", true),
            ("a**b", "a/x/b", true),
            ("a**b", "axb", false),
            ("a**/b", "ab", true),
            ("d/**b", "d/ab", false),
            ("d/**b", "d/e/b", true),
            ("**b", "d/ab", true),
            ("**b?", "abc", false),
            ("**b?", "d/bc", true),
            ("***/b", "b", false),
            ("***/b", "d/b", true),
            ("../b", "b", false),
            ("a/../../b", "b", false),
            ("/../b", "b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("# a\n #b\n\n  c  ", "c", true),
            ("# a\n #b", "#b", true),
            ("#a", "#a", false),
            ("\u{feff}a\r\n", "a", true),
            (".", "a", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(Ignore::read(file.as_bytes()).unwrap().leaves_out(path), out, "{file:?} {path}");
        }
    }

    #[test]
    fn what_is_wrong_with_patterns() {
        for text in ["!", " ! ", "[", "[]", "[a", "[a-]", "a\\", "[^"] {
            assert!(Ignore::read(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Ignore::read(&vec![b'a'; LARGEST + 1]).is_err());
        assert!(Ignore::read("a\n".repeat(MOST + 1).as_bytes()).is_err());
    }

    #[test]
    fn directories_are_walked_where_something_may_be_kept() {
        for (file, directory, may) in [
            ("a", "a", false),
            ("*\n!a/b", "a", true),
            ("*\n!a/b", "c", false),
            ("*\n!**/b", "c", true),
            ("*\n!a*/b", "abc", true),
            ("*\n!a*/b", "b", false),
            ("a\n!a/b/c", "a/b", true),
            ("a\n!a/b/c", "a/bb", false),
        ] {
            assert_eq!(Ignore::read(file.as_bytes()).unwrap().may_keep_inside(directory), may, "{file:?} {directory}");
        }
    }

    #[test]
    fn hostile_patterns_have_an_end() {
        let ignore = Ignore::new([format!("{}b", "**/*a".repeat(200)).as_str()]).unwrap();
        assert!(!ignore.leaves_out(&"a/".repeat(200)));
    }
}
