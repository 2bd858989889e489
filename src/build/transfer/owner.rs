//! `--chown` and `--chmod`: whose what is copied becomes, and who may do what with it.

use crate::api::Refusal;
use crate::engine::users;
use anyhow::{Result, bail};
use std::os::fd::BorrowedFd;

/// User and group id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Looks up `user[:group]` in the files of the image under `root`. A number alone is a group's, too.
pub fn owner(root: BorrowedFd, text: &str) -> Result<Owner> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    if user.is_empty() && group.is_empty() {
        return Ok(Owner::default());
    }
    let number = user.parse::<u32>().ok();
    let found = users::resolve(root, text, &None)?;
    match number {
        Some(uid) if group.is_empty() => Ok(Owner { uid, gid: uid }),
        _ => Ok(Owner { uid: found.uid, gid: found.gid }),
    }
}

/// How a mode is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Octal digits.
    Set(u32),
    /// Clauses like `u+rwX,go-w`.
    Change(Vec<Clause>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Bits of 0o700, 0o070 and 0o007.
    who: u32,
    operator: char,
    /// Of r, w and x, for everybody.
    what: u32,
    /// Or those that this one has: u, g or o.
    copied: Option<char>,
    /// `X`: x for directories, and for files that somebody may execute.
    conditional: bool,
    /// `s` and `t`.
    special: bool,
    sticky: bool,
}

impl Mode {
    pub fn parse(text: &str) -> Result<Mode> {
        if let Ok(mode) = u32::from_str_radix(text, 8)
            && mode <= 0o7777
        {
            return Ok(Mode::Set(mode));
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) || text.is_empty() {
            bail!(Refusal::BadParameter(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            )));
        }
        let clauses: Option<Vec<Vec<Clause>>> = text.split(',').map(clauses).collect();
        match clauses {
            Some(clauses) => Ok(Mode::Change(clauses.concat())),
            None => bail!(Refusal::BadParameter(format!("invalid chmod parameter: '{text}'"))),
        }
    }

    pub fn apply(&self, mode: u32, dir: bool) -> u32 {
        match self {
            Mode::Set(set) => *set,
            Mode::Change(clauses) => {
                let executes = dir || mode & 0o111 != 0;
                clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, executes))
            }
        }
    }
}

impl Clause {
    /// `executes`: whether it was a directory, or somebody could execute it, before all clauses.
    fn apply(&self, mode: u32, executes: bool) -> u32 {
        let copied = match self.copied {
            Some('u') => mode >> 6 & 7,
            Some('g') => mode >> 3 & 7,
            Some(_) => mode & 7,
            None => 0,
        };
        let mut bits = self.what | (copied * 0o111) | if self.conditional && executes { 0o111 } else { 0 };
        bits &= self.who;
        let special = if self.who & 0o700 != 0 { 0o4000 } else { 0 } | if self.who & 0o070 != 0 { 0o2000 } else { 0 };
        if self.special {
            bits |= special;
        }
        // It is nothing of the others.
        if self.sticky && self.who != 0o007 {
            bits |= 0o1000;
        }
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ if self.copied.is_some() => mode & !self.who | bits,
            _ => mode & !(self.who | special) | bits,
        }
    }
}

/// One clause, which may have several operators: `u+r-w`.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let end = text.find(['+', '-', '='])?;
    let mut who = 0;
    for c in text[..end].chars() {
        who |= match c {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    let who = if who == 0 { 0o777 } else { who };
    let mut found: Vec<Clause> = Vec::new();
    let begin =
        |operator| Clause { who, operator, what: 0, copied: None, conditional: false, special: false, sticky: false };
    for c in text[end..].chars() {
        if matches!(c, '+' | '-' | '=') {
            found.push(begin(c));
            continue;
        }
        let mut clause = found.pop()?;
        // A copy stands for itself: what is before and behind it is done before and after it.
        if clause.copied.is_some() || matches!(c, 'u' | 'g' | 'o') && clause != begin(clause.operator) {
            let next = begin(clause.operator);
            found.push(std::mem::replace(&mut clause, next));
        }
        match c {
            'r' => clause.what |= 0o444,
            'w' => clause.what |= 0o222,
            'x' => clause.what |= 0o111,
            'X' if clause.operator == '-' => clause.what |= 0o111,
            'X' => clause.conditional = true,
            's' => clause.special = true,
            't' => clause.sticky = true,
            'u' | 'g' | 'o' => clause.copied = Some(c),
            _ => return None,
        }
        found.push(clause);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_changed() {
        for (text, before, dir, after) in [
            ("644", 0o755, false, 0o644),
            ("04755", 0, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w,u+w", 0o666, false, 0o644),
            ("go=", 0o777, false, 0o700),
            ("u=rw,go=r", 0o777, false, 0o644),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o644, true, 0o755),
            ("a+X", 0o744, false, 0o755),
            ("u+s,+t", 0o755, false, 0o5755),
            ("u+r-w", 0o200, false, 0o400),
            ("g=u", 0o740, false, 0o770),
            ("go=u-w", 0o600, false, 0o644),
            ("g+u", 0o524, false, 0o574),
            ("a-g", 0o777, false, 0o000),
            ("o=g", 0o6751, false, 0o6755),
            ("u=go", 0o042, false, 0o242),
            ("g=ru", 0o100, false, 0o110),
            ("g=ur", 0o100, false, 0o140),
            ("u=rw", 0o4755, false, 0o655),
            ("=r", 0o7777, false, 0o1444),
            ("o+t", 0o755, true, 0o755),
            ("u+x,g+X", 0o644, false, 0o744),
            ("a-X", 0o755, false, 0o644),
        ] {
            assert_eq!(Mode::parse(text).unwrap().apply(before, dir), after, "{text}");
        }
        for text in ["", "8", "10000", "u", "x+r", "u+q", "u+r,", "9u"] {
            assert!(Mode::parse(text).is_err(), "{text:?}");
        }
    }
}
