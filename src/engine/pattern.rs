//! Regular expressions, as the name filters of lists take them: Go's syntax without named classes and look at
//! words. All alternatives are walked side by side, so that no expression takes longer than its length times the text's.

/// A program of a small machine.
pub struct Pattern {
    code: Vec<Code>,
}

#[derive(Clone, Debug)]
enum Code {
    /// One character of these ranges, or not of them.
    Class(Vec<(char, char)>, bool),
    Start,
    End,
    /// Goes on at both.
    Split(usize, usize),
    Jump(usize),
    Match,
}

/// An expression of more pieces than this is refused: `a{1000}{1000}` is.
const LONGEST: usize = 20_000;
const DEPTH: usize = 200;

impl Pattern {
    /// Whether the expression is found anywhere in the text. An expression that cannot be read is found nowhere.
    pub fn finds(expression: &str, text: &str) -> bool {
        Pattern::read(expression).is_some_and(|pattern| pattern.is_in(text))
    }

    /// Reads an expression; nothing where it is none.
    pub fn read(expression: &str) -> Option<Pattern> {
        let mut reader = Reader { chars: expression.chars().collect(), at: 0, depth: 0, fold: false };
        if reader.eat_all("(?i)") {
            reader.fold = true;
        }
        let mut code = reader.alternatives()?;
        if reader.at < reader.chars.len() {
            return None;
        }
        code.push(Code::Match);
        Some(Pattern { code })
    }

    pub fn is_in(&self, text: &str) -> bool {
        let mut now = Vec::new();
        let mut next = Vec::new();
        let mut seen = vec![usize::MAX; self.code.len()];
        let mut chars = text.chars();
        for step in 0.. {
            let c = chars.next();
            // An expression that is not anchored may begin at every character.
            self.enter(0, step, c.is_none(), step, &mut seen, &mut now);
            for at in now.drain(..) {
                match (&self.code[at], c) {
                    (Code::Match, _) => return true,
                    (Code::Class(ranges, not), Some(c))
                        if ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *not =>
                    {
                        next.push(at + 1);
                    }
                    _ => {}
                }
            }
            if c.is_none() {
                break;
            }
            let last = chars.as_str().is_empty();
            for at in std::mem::take(&mut next) {
                self.enter(at, step + 1, last, step + 1, &mut seen, &mut now);
            }
        }
        false
    }

    /// Follows what takes no character from `start` on, into `threads`. `mark` is that of this place in the text.
    fn enter(&self, start: usize, place: usize, last: bool, mark: usize, seen: &mut [usize], threads: &mut Vec<usize>) {
        let mut stack = vec![start];
        while let Some(at) = stack.pop() {
            if std::mem::replace(&mut seen[at], mark) == mark {
                continue;
            }
            match &self.code[at] {
                Code::Jump(to) => stack.push(*to),
                Code::Split(one, other) => stack.extend([*other, *one]),
                Code::Start if place == 0 => stack.push(at + 1),
                Code::End if last => stack.push(at + 1),
                Code::Start | Code::End => {}
                Code::Class(..) | Code::Match => threads.push(at),
            }
        }
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    /// Case does not count.
    fold: bool,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn eat_all(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(index, c)| self.chars.get(self.at + index) == Some(&c));
        self.at += if found { text.chars().count() } else { 0 };
        found
    }

    fn alternatives(&mut self) -> Option<Vec<Code>> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let mut code = self.sequence()?;
        while self.eat('|') {
            let other = self.sequence()?;
            let mut both = vec![Code::Split(1, code.len() + 2)];
            append(&mut both, code)?;
            both.push(Code::Jump(both.len() + 1 + other.len()));
            append(&mut both, other)?;
            code = both;
        }
        self.depth -= 1;
        Some(code)
    }

    fn sequence(&mut self) -> Option<Vec<Code>> {
        let mut code = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let piece = self.piece()?;
            let piece = self.repeated(piece)?;
            append(&mut code, piece)?;
        }
        Some(code)
    }

    fn piece(&mut self) -> Option<Vec<Code>> {
        let c = self.peek()?;
        self.at += 1;
        Some(vec![match c {
            '.' => Code::Class(vec![('\n', '\n')], true),
            '^' => Code::Start,
            '$' => Code::End,
            '[' => self.class()?,
            '(' => {
                if self.peek() == Some('?') && !self.eat_all("?:") {
                    return None;
                }
                let code = self.alternatives()?;
                return self.eat(')').then_some(code);
            }
            '*' | '+' | '?' => return None,
            '\\' => {
                let escaped = self.escape()?;
                match escaped {
                    Escaped::Char(c) => self.literal(c),
                    Escaped::Class(ranges, not) => Code::Class(ranges, not),
                    Escaped::Place(code) => code,
                }
            }
            c => self.literal(c),
        }])
    }

    fn literal(&self, c: char) -> Code {
        let mut ranges = vec![(c, c)];
        if self.fold {
            ranges.extend(c.to_lowercase().chain(c.to_uppercase()).map(|c| (c, c)));
        }
        Code::Class(ranges, false)
    }

    fn repeated(&mut self, piece: Vec<Code>) -> Option<Vec<Code>> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.bounds() {
                Some(bounds) => bounds,
                // Braces that hold no numbers stand for themselves.
                None => return Some(piece),
            },
            _ => return Some(piece),
        };
        self.at += 1;
        // Whether as little as possible is taken makes no difference to whether something is found.
        self.eat('?');
        if matches!(self.peek(), Some('*' | '+' | '?')) || most.is_some_and(|most| most < least) {
            return None;
        }
        let mut code = Vec::new();
        for _ in 0..least {
            append(&mut code, piece.clone())?;
        }
        match most {
            None => {
                let start = code.len();
                code.push(Code::Split(start + 1, start + piece.len() + 2));
                append(&mut code, piece)?;
                code.push(Code::Jump(start));
            }
            Some(most) => {
                for _ in least..most {
                    code.push(Code::Split(code.len() + 1, code.len() + piece.len() + 1));
                    append(&mut code, piece.clone())?;
                }
            }
        }
        Some(code)
    }

    /// `{2}`, `{2,}` or `{2,5}`, up to its closing brace.
    fn bounds(&mut self) -> Option<(usize, Option<usize>)> {
        let length = self.chars[self.at..].iter().position(|c| *c == '}')?;
        let text: String = self.chars[self.at + 1..self.at + length].iter().collect();
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n <= 1000 && !text.starts_with('+'));
        let bounds = match text.split_once(',') {
            None => number(&text).map(|n| (n, Some(n))),
            Some((least, "")) => number(least).map(|n| (n, None)),
            Some((least, most)) => number(least).zip(number(most)).map(|(n, m)| (n, Some(m))),
        };
        if bounds.is_some() {
            self.at += length;
        }
        bounds
    }

    /// From behind the opening bracket.
    fn class(&mut self) -> Option<Code> {
        let not = self.eat('^');
        let mut ranges = Vec::new();
        let mut first = true;
        loop {
            let c = self.peek()?;
            self.at += 1;
            let from = match c {
                ']' if !first => break,
                '[' if self.peek() == Some(':') => return None,
                '\\' => match self.escape()? {
                    Escaped::Char(c) => c,
                    Escaped::Class(more, false) => {
                        ranges.extend(more);
                        first = false;
                        continue;
                    }
                    _ => return None,
                },
                c => c,
            };
            first = false;
            let to = if self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']') {
                self.at += 1;
                let c = self.peek()?;
                self.at += 1;
                match c {
                    '\\' => match self.escape()? {
                        Escaped::Char(c) => c,
                        _ => return None,
                    },
                    c => c,
                }
            } else {
                from
            };
            if to < from {
                return None;
            }
            ranges.push((from, to));
        }
        if self.fold {
            let other: Vec<_> = ranges
                .iter()
                .filter(|(from, to)| from.is_ascii_alphabetic() && to.is_ascii_alphabetic())
                .flat_map(|(from, to)| {
                    [
                        (from.to_ascii_lowercase(), to.to_ascii_lowercase()),
                        (from.to_ascii_uppercase(), to.to_ascii_uppercase()),
                    ]
                })
                .collect();
            ranges.extend(other);
        }
        Some(Code::Class(ranges, not))
    }

    /// From behind the backslash.
    fn escape(&mut self) -> Option<Escaped> {
        let c = self.peek()?;
        self.at += 1;
        let digits = vec![('0', '9')];
        let words = vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
        let spaces = vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
        Some(match c {
            'd' | 'D' => Escaped::Class(digits, c == 'D'),
            'w' | 'W' => Escaped::Class(words, c == 'W'),
            's' | 'S' => Escaped::Class(spaces, c == 'S'),
            'A' => Escaped::Place(Code::Start),
            'z' => Escaped::Place(Code::End),
            'n' => Escaped::Char('\n'),
            't' => Escaped::Char('\t'),
            c if c.is_ascii_alphanumeric() => return None,
            c => Escaped::Char(c),
        })
    }
}

enum Escaped {
    Char(char),
    Class(Vec<(char, char)>, bool),
    Place(Code),
}

/// Puts a piece behind others; its jumps move along.
fn append(code: &mut Vec<Code>, piece: Vec<Code>) -> Option<()> {
    let by = code.len();
    code.extend(piece.into_iter().map(|step| match step {
        Code::Split(one, other) => Code::Split(one + by, other + by),
        Code::Jump(to) => Code::Jump(to + by),
        step => step,
    }));
    (code.len() <= LONGEST).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_it_says() {
        let cases = [
            ("", "", true),
            ("", "abc", true),
            ("b", "abc", true),
            ("x", "abc", false),
            ("^a", "abc", true),
            ("^b", "abc", false),
            ("c$", "abc", true),
            ("b$", "abc", false),
            ("^abc$", "abc", true),
            ("^ab$", "abc", false),
            ("^$", "", true),
            ("^$", "a", false),
            ("a.c", "xabcx", true),
            ("a.*d", "abcd", true),
            ("ab*c", "ac", true),
            ("ab+c", "ac", false),
            ("ab?c$", "abbc", false),
            ("^(web|db)-[0-9]+$", "web-12", true),
            ("^(web|db)-[0-9]+$", "web-", false),
            ("^(?:a|b|)c$", "c", true),
            ("[^a-c]", "abc", false),
            ("[^a-c]", "abcd", true),
            ("[]a]", "]", true),
            ("[a-]$", "-", true),
            (r"\d\.\w", "1.x", true),
            (r"\.", "a", false),
            (r"[\d_]+x", "1_2x", true),
            ("a{2}", "aa", true),
            ("^a{2,3}$", "aaaa", false),
            ("^a{2,}$", "aaaa", true),
            ("^(ab){2}$", "abab", true),
            ("a{x", "a{x", true),
            ("(?i)WEB", "web", true),
            ("(?i)[a-c]+$", "xABC", true),
            ("é+", "xéé", true),
            ("a|b|^c", "xc", false),
            ("(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            // No expressions: found nowhere.
            ("(", "(", false),
            (")", ")", false),
            ("[a", "[a", false),
            ("*", "*", false),
            ("a**", "a", false),
            (r"\", r"\", false),
            ("[z-a]", "z", false),
            ("a{1000}{1000}", "a", false),
        ];
        for (expression, text, expected) in cases {
            assert_eq!(Pattern::finds(expression, text), expected, "{expression} in {text}");
        }
        assert!(Pattern::read(&"(".repeat(100_000)).is_none());
    }

    #[test]
    fn random_expressions_do_not_panic() {
        let pieces: Vec<char> = "ab^$.*+?()[]{}|\\-0129,:idwé".chars().collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        let mut read = 0;
        for _ in 0..5_000 {
            let expression: String = (0..random() % 14).map(|_| pieces[random() % pieces.len()]).collect();
            if let Some(pattern) = Pattern::read(&expression) {
                read += 1;
                pattern.is_in("aabbaé01");
            }
        }
        assert!(read > 100);
    }
}
