//! The patterns of `${name#pattern}`: `*` and `?`, and a backslash before one of them or before itself. Classes are not
//! part of it. All ways to match are walked side by side, so that no pattern takes longer than its length times the text's.

/// A pattern, ready to match.
pub struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
}

/// So many steps may be taken for one expansion; a value and a pattern of reasonable sizes need far fewer.
const STEPS: usize = 10_000_000;
const TOO_LONG: &str = "the pattern takes too long";

impl Pattern {
    pub fn read(text: &str) -> Result<Pattern, String> {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if pieces.last() == Some(&Piece::Many) => {}
                '*' => pieces.push(Piece::Many),
                '?' => pieces.push(Piece::One),
                '\\' => match chars.peek() {
                    // These were escaped for the substitution around the pattern.
                    Some('}' | '/') => {}
                    Some(&next @ ('*' | '?' | '\\')) => {
                        chars.next();
                        pieces.push(Piece::Char(next));
                    }
                    Some(other) => return Err(format!("invalid escape '\\{other}'")),
                    None => return Err("invalid escape at the end".to_owned()),
                },
                c => pieces.push(Piece::Char(c)),
            }
        }
        Ok(Pattern(pieces))
    }

    fn backwards(&self) -> Pattern {
        Pattern(self.0.iter().rev().copied().collect())
    }

    /// How many characters from the start match, at most or at least; `None` where no start does.
    fn length(&self, text: &[char], longest: bool, steps: &mut usize) -> Result<Option<usize>, String> {
        let pieces = &self.0;
        // Which pieces may come next.
        let mut now = vec![false; pieces.len() + 1];
        let mut found = None;
        now[0] = true;
        for at in 0..=text.len() {
            *steps = steps.checked_sub(pieces.len() + 1).ok_or(TOO_LONG)?;
            // A star may be nothing.
            for place in 0..pieces.len() {
                if now[place] && pieces[place] == Piece::Many {
                    now[place + 1] = true;
                }
            }
            if now[pieces.len()] {
                found = Some(at);
                if !longest {
                    break;
                }
            }
            let Some(&c) = text.get(at) else { break };
            let mut next = vec![false; pieces.len() + 1];
            let mut alive = false;
            for place in 0..pieces.len() {
                let to = match pieces[place] {
                    _ if !now[place] => continue,
                    // The end of a line is met by itself alone.
                    Piece::Many | Piece::One if c == '\n' => continue,
                    Piece::Many => place,
                    Piece::One => place + 1,
                    Piece::Char(known) if known == c => place + 1,
                    Piece::Char(_) => continue,
                };
                next[to] = true;
                alive = true;
            }
            if !alive {
                break;
            }
            now = next;
        }
        Ok(found)
    }

    /// `${name#pattern}` and `##`.
    pub fn trim_start(&self, value: &str, longest: bool) -> Result<String, String> {
        let chars: Vec<char> = value.chars().collect();
        let length = self.length(&chars, longest, &mut STEPS.clone())?.unwrap_or(0);
        Ok(chars[length..].iter().collect())
    }

    /// `${name%pattern}` and `%%`.
    pub fn trim_end(&self, value: &str, longest: bool) -> Result<String, String> {
        let chars: Vec<char> = value.chars().rev().collect();
        let length = self.backwards().length(&chars, longest, &mut STEPS.clone())?.unwrap_or(0);
        Ok(chars[length..].iter().rev().collect())
    }

    /// `${name/pattern/replacement}`, or with `//` all of them. What matches is as long as can be, and may be nothing, but
    /// not right behind another.
    pub fn replace(&self, value: &str, replacement: &str, all: bool) -> Result<String, String> {
        let chars: Vec<char> = value.chars().collect();
        let (mut out, mut at, mut end, mut steps) = (String::new(), 0, 0, STEPS);
        for start in 0..=chars.len() {
            if start < at {
                continue;
            }
            let Some(length) = self.length(&chars[start..], true, &mut steps)? else { continue };
            out.extend(&chars[end..start]);
            if length > 0 || start == 0 || start > end {
                out.push_str(replacement);
                super::words::check_length(&out)?;
            }
            end = start + length;
            at = end;
            if !all {
                break;
            }
        }
        out.extend(&chars[end..]);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_cut() {
        let read = |text| Pattern::read(text).unwrap();
        for (value, pattern, start, start_long, end, end_long) in [
            ("foobarfoo", "foo", "barfoo", "barfoo", "foobar", "foobar"),
            ("foobarfoo", "*o", "obarfoo", "", "foobarfo", ""),
            ("foobarfoo", "?", "oobarfoo", "oobarfoo", "foobarfo", "foobarfo"),
            ("a.b.c", "*.", "b.c", "c", "a.b.c", "a.b.c"),
            ("a.b.c", ".*", "a.b.c", "a.b.c", "a.b", "a"),
            ("a*c", "a\\*", "c", "c", "a*c", "a*c"),
            ("héé", "h?", "é", "é", "héé", "héé"),
            ("x", "", "x", "x", "x", "x"),
            ("", "*", "", "", "", ""),
        ] {
            let pattern = read(pattern);
            assert_eq!(pattern.trim_start(value, false).unwrap(), start);
            assert_eq!(pattern.trim_start(value, true).unwrap(), start_long);
            assert_eq!(pattern.trim_end(value, false).unwrap(), end);
            assert_eq!(pattern.trim_end(value, true).unwrap(), end_long);
        }
        assert!(Pattern::read("a\\b").is_err() && Pattern::read("a\\").is_err());
    }

    #[test]
    fn parts_are_replaced() {
        for (value, pattern, with, once, all) in [
            ("foobarfoo", "foo", "x", "xbarfoo", "xbarx"),
            ("a/b/c", "\\/", "-", "a-b/c", "a-b-c"),
            ("1.2.3", ".*", "", "1", "1"),
            ("abc", "?", "..", "..bc", "......"),
            ("abc", "", "x", "xabc", "xaxbxcx"),
            ("abc", "b*", "x", "ax", "ax"),
            ("", "*", "x", "x", "x"),
            ("a\nb", "*", "x", "x\nb", "x\nx"),
            ("a\nb", "a?", "x", "a\nb", "a\nb"),
            ("abc", "z", "x", "abc", "abc"),
        ] {
            let pattern = Pattern::read(pattern).unwrap();
            assert_eq!(pattern.replace(value, with, false).unwrap(), once);
            assert_eq!(pattern.replace(value, with, true).unwrap(), all);
        }
        let hostile = Pattern::read(&"*a".repeat(200)).unwrap();
        assert_eq!(hostile.replace(&"a".repeat(10_000), "", true).unwrap(), "");
        assert_eq!(hostile.replace(&"b".repeat(10_000), "", true), Err(TOO_LONG.to_owned()));
    }
}
