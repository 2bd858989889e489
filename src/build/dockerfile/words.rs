//! Quotes and variables in the words of an instruction: much as a shell reads them, and no more.
//!
//! `$name`, `${name}`, `${name:-word}`, `${name-word}`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/` and `//`.

use super::pattern::Pattern;

/// How a text is read.
#[derive(Clone, Copy, Debug)]
pub struct Lex {
    /// A backslash, or a backtick where the file says so.
    pub escape: char,
    /// Quotes stay where they are.
    pub raw_quotes: bool,
    /// So does the character that escapes.
    pub raw_escapes: bool,
    /// Quotes are characters like others: in the body of a here-document.
    pub no_quotes: bool,
    /// What is not set stays as it is written.
    pub keep_unset: bool,
}

/// What came of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// The same, parted at white space that was not quoted.
    pub words: Vec<String>,
    /// Names that were asked for and set, or not set.
    pub matched: Vec<String>,
    pub unmatched: Vec<String>,
}

/// The value of a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Values grow when they are put into one another; no program could be given one that is longer than this.
const LONGEST: usize = 1 << 20;
/// Substitutions inside of substitutions.
const DEEPEST: usize = 64;

pub(super) fn check_length(text: &str) -> Result<(), String> {
    match text.len() {
        0..=LONGEST => Ok(()),
        _ => Err(format!("the value is longer than {LONGEST} bytes once its variables are expanded")),
    }
}

impl Lex {
    pub fn new(escape: char) -> Lex {
        Lex { escape, raw_quotes: false, raw_escapes: false, no_quotes: false, keep_unset: false }
    }

    /// Takes quotes away and puts values in.
    pub fn expand(&self, text: &str, lookup: Lookup) -> Result<Expanded, String> {
        let mut walk = Walk {
            lex: *self,
            chars: text.chars().collect(),
            at: 0,
            depth: 0,
            lookup,
            raw_escapes: self.raw_escapes,
            matched: Vec::new(),
            unmatched: Vec::new(),
        };
        let mut words = Words::default();
        let whole = walk.until(None, Some(&mut words)).map_err(|error| format!("process {text:?}: {error}"))?;
        Ok(Expanded { text: whole, words: words.end(), matched: walk.matched, unmatched: walk.unmatched })
    }
}

#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
    begun: bool,
}

impl Words {
    fn push(&mut self, c: char) {
        self.word.push(c);
        self.begun = true;
    }

    /// White space ends a word.
    fn push_loose(&mut self, c: char) {
        if !c.is_whitespace() {
            self.push(c);
        } else if self.begun && !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
            self.begun = false;
        }
    }

    fn end(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

struct Walk<'a> {
    lex: Lex,
    chars: Vec<char>,
    at: usize,
    depth: usize,
    lookup: Lookup<'a>,
    raw_escapes: bool,
    matched: Vec<String>,
    unmatched: Vec<String>,
}

impl Walk<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    /// Reads up to a character, which is eaten, or to the end.
    fn until(&mut self, stop: Option<char>, mut words: Option<&mut Words>) -> Result<String, String> {
        let mut out = String::new();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                return Ok(out);
            }
            let piece = match c {
                '$' => self.dollar()?,
                '<' => self.angles(),
                '\'' if !self.lex.no_quotes => self.single()?,
                '"' if !self.lex.no_quotes => self.double()?,
                c => {
                    self.at += 1;
                    if c == self.lex.escape {
                        if self.raw_escapes {
                            out.push(c);
                            words.iter_mut().for_each(|words| words.push(c));
                        }
                        let Some(next) = self.next() else { break };
                        out.push(next);
                        words.iter_mut().for_each(|words| words.push(next));
                    } else {
                        out.push(c);
                        words.iter_mut().for_each(|words| words.push_loose(c));
                    }
                    continue;
                }
            };
            out.push_str(&piece);
            check_length(&out)?;
            if let Some(words) = words.as_deref_mut() {
                match c {
                    '$' => piece.chars().for_each(|c| words.push_loose(c)),
                    _ => {
                        words.begun = true;
                        words.word.push_str(&piece);
                    }
                }
            }
        }
        match stop {
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
            None => Ok(out),
        }
    }

    /// Everything up to the next single quote, as it is.
    fn single(&mut self) -> Result<String, String> {
        let start = self.at;
        let Some(length) = self.chars[start + 1..].iter().position(|c| *c == '\'') else {
            return Err("unexpected end of statement while looking for matching single-quote".to_owned());
        };
        let end = start + 1 + length;
        self.at = end + 1;
        let range = if self.lex.raw_quotes { start..end + 1 } else { start + 1..end };
        Ok(self.chars[range].iter().collect())
    }

    /// Inside double quotes variables are expanded, and a quote, a dollar and the escape itself can be escaped.
    fn double(&mut self) -> Result<String, String> {
        let mut out = String::new();
        let quote = self.next();
        if self.lex.raw_quotes {
            out.extend(quote);
        }
        loop {
            match self.peek() {
                None => {
                    return Err("unexpected end of statement while looking for matching double-quote".to_owned());
                }
                Some('"') => {
                    self.at += 1;
                    if self.lex.raw_quotes {
                        out.push('"');
                    }
                    return Ok(out);
                }
                Some('$') => {
                    out.push_str(&self.dollar()?);
                    check_length(&out)?;
                }
                Some(c) if c == self.lex.escape => {
                    self.at += 1;
                    if self.raw_escapes {
                        out.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == self.lex.escape => {
                            out.push(next);
                            self.at += 1;
                        }
                        // Before anything else it stands for itself.
                        Some(_) => out.push(c),
                    }
                }
                Some(c) => {
                    self.at += 1;
                    out.push(c);
                }
            }
        }
    }

    /// `<<` with the white space behind it is a part of the word that it begins.
    fn angles(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.at += 1;
        let mut out = "<<".to_owned();
        while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
            out.push(c);
            self.at += 1;
        }
        out
    }

    /// A variable's name: letters, digits and `_`; only digits after a digit; or one of the shell's special ones.
    fn name(&mut self) -> String {
        let start = self.at;
        let is_digit = |c: char| c.is_numeric();
        match self.peek() {
            Some(c) if is_digit(c) => {
                while self.peek().is_some_and(is_digit) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let list = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        if !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
        value
    }

    fn dollar(&mut self) -> Result<String, String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.value(&name) {
                None if self.lex.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("substitutions are nested too deeply".to_owned());
        }
        let value = self.braces();
        self.depth -= 1;
        value
    }

    fn braces(&mut self) -> Result<String, String> {
        match self.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        let Some(mut operator) = self.next() else { return Err("syntax error: missing '}'".to_owned()) };
        let colon = operator == ':';
        let mut written = operator.to_string();
        if colon {
            let Some(next) = self.next() else { return Err("syntax error: missing '}'".to_owned()) };
            operator = next;
            written.push(next);
        }
        let unsupported = || Err(format!("unsupported modifier ({written}) in substitution"));
        match operator {
            '}' if !colon => Ok(match self.value(&name) {
                None if self.lex.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            '-' | '+' | '?' => {
                let word = self.word('}', false)?;
                let value = self.value(&name);
                if value.is_none() && self.lex.keep_unset {
                    return Ok(format!("${{{name}{written}{word}}}"));
                }
                let counts = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
                match (operator, counts) {
                    ('-', false) | ('+', true) => Ok(word),
                    ('+', false) => Ok(String::new()),
                    ('?', false) => Err(match (word.is_empty(), value.is_some()) {
                        (false, _) => format!("{name}: {word}"),
                        (true, false) => format!("{name}: is not allowed to be unset"),
                        (true, true) => format!("{name}: is not allowed to be empty"),
                    }),
                    _ => Ok(value.unwrap_or_default()),
                }
            }
            '#' | '%' if !colon => {
                let word = self.word('}', true)?;
                let value = self.value(&name);
                if value.is_none() && self.lex.keep_unset {
                    return Ok(format!("${{{name}{written}{word}}}"));
                }
                let value = value.unwrap_or_default();
                let (pattern, longest) = match word.strip_prefix(operator) {
                    Some(pattern) => (pattern, true),
                    None => (word.as_str(), false),
                };
                let read = Pattern::read(pattern);
                let cut = |read: Pattern| match operator {
                    '#' => read.trim_start(&value, longest),
                    _ => read.trim_end(&value, longest),
                };
                read.and_then(cut).map_err(|error| format!("invalid pattern ({pattern}) in substitution: {error}"))
            }
            '/' if !colon => {
                let all = self.peek() == Some('/');
                self.at += usize::from(all);
                let pattern = self.word('/', true)?;
                let replacement = self.word('}', true)?;
                let value = self.value(&name);
                if value.is_none() && self.lex.keep_unset {
                    return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
                }
                let value = value.unwrap_or_default();
                Pattern::read(&pattern)
                    .and_then(|read| read.replace(&value, &replacement, all))
                    .map_err(|error| format!("invalid pattern ({pattern}) in substitution: {error}"))
            }
            _ => unsupported(),
        }
    }

    /// The word of a substitution.
    fn word(&mut self, stop: char, raw_escapes: bool) -> Result<String, String> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let word = self.until(Some(stop), None);
        self.raw_escapes = before;
        match word {
            Err(_) if self.at >= self.chars.len() => Err(match stop {
                '/' => "syntax error: missing '/' in ${}".to_owned(),
                _ => "syntax error: missing '}'".to_owned(),
            }),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "PWD" => "/home",
            "SHELL" => "bash",
            "KOREAN" => "한국어",
            "NULL" => "",
            "DOTS" => "a.b.c",
            "SPACED" => "x  y z",
            "ROOT" => "foo/bar/foo",
            "BACK" => "\\de",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn words_are_expanded() {
        for (text, expected) in [
            ("hello", "hello"),
            ("he'll'o", "hello"),
            ("he'llo", "!matching single-quote"),
            (r"he\'llo", "he'llo"),
            (r"he\\'llo", "!matching single-quote"),
            (r"abc\tdef", "abctdef"),
            (r#""abc\tdef""#, r"abc\tdef"),
            (r#""abc\\tdef""#, r"abc\tdef"),
            (r"'abc\tdef'", r"abc\tdef"),
            ("hello   there", "hello   there"),
            (r"hello\", "hello"),
            (r"hello\\", r"hello\"),
            (r#""hello"#, "!matching double-quote"),
            (r#""hello\""#, "!matching double-quote"),
            (r#""hel'lo""#, "hel'lo"),
            (r"'hello'there\", "hellothere"),
            ("$", "$"),
            ("he$1x", "hex"),
            ("he$.x", "he$.x"),
            ("he$pwd.", "he."),
            ("he$PWD", "he/home"),
            (r"he\$PWD", "he$PWD"),
            (r#""he\$PWD""#, "he$PWD"),
            ("'he$PWD'", "he$PWD"),
            (r#""he$PWD""#, "he/home"),
            ("he${PWD", "!missing '}'"),
            ("he${}x", "!bad substitution"),
            ("he${:x}", "!bad substitution"),
            ("he${hi}xx", "hexx"),
            ("he${PWD}", "he/home"),
            ("${PWD:=x}", "!unsupported modifier (:=) in substitution"),
            ("${PWD=x}", "!unsupported modifier (=) in substitution"),
            ("${PWD:#x}", "!unsupported modifier (:#) in substitution"),
            ("he${XXX:-${PWD:-y}}z", "he/homez"),
            ("he${XXX:-000}xx", "he000xx"),
            ("he${NULL:-000}xx", "he000xx"),
            ("he${NULL-000}xx", "hexx"),
            ("he${XXX-000}xx", "he000xx"),
            ("he${PWD:+${SHELL}}z", "hebashz"),
            ("he${NULL:+a}z", "hez"),
            ("he${NULL+a}z", "heaz"),
            ("he${XXX+a}z", "hez"),
            ("${XXX:?}", "!XXX: is not allowed to be unset"),
            ("${NULL:?}", "!NULL: is not allowed to be empty"),
            ("${NULL?}", ""),
            ("${XXX?it must be}", "!XXX: it must be"),
            ("${XXX:-'a b'}", "a b"),
            ("${XXX:-\"}\"}", "}"),
            ("${DOTS#*.}", "b.c"),
            ("${DOTS##*.}", "c"),
            ("${DOTS%.*}", "a.b"),
            ("${DOTS%%.*}", "a"),
            ("${ROOT/foo/x}", "x/bar/foo"),
            ("${ROOT//foo/x}", "x/bar/x"),
            (r"${ROOT//\//-}", "foo-bar-foo"),
            ("${ROOT/foo}", "!missing '/' in ${}"),
            ("${ROOT/foo/x", "!missing '}'"),
            ("${XXX#a}|${XXX/a/b}", "|"),
            ("${XXX/*/b}${XXX///c}", "bc"),
            (r"${XXX#\b}", "!invalid escape '\\b'"),
            (r#"${BACK#"\d"}"#, "e"),
            ("안녕${KOREAN}", "안녕한국어"),
            ("$KOREAN.", "한국어."),
            ("a<b", "a<b"),
            ("$$ $@ $#", "  "),
        ] {
            let given = Lex::new('\\').expand(text, &lookup);
            match expected.strip_prefix('!') {
                Some(message) => assert!(given.as_ref().is_err_and(|e| e.ends_with(message)), "{text}: {given:?}"),
                None => assert_eq!(given.map(|it| it.text).as_deref(), Ok(expected), "{text}"),
            }
        }
    }

    #[test]
    fn white_space_parts_words_unless_it_is_quoted() {
        for (text, expected) in [
            ("a b  c", vec!["a", "b", "c"]),
            ("'a b' \"c d\"e", vec!["a b", "c de"]),
            ("$SPACED '$SPACED' \"$SPACED\"", vec!["x", "y", "z", "$SPACED", "x  y z"]),
            (r"a\ b", vec!["a b"]),
            ("80 $XXX 90", vec!["80", "90"]),
            ("cat << EOF x", vec!["cat", "<< EOF", "x"]),
        ] {
            assert_eq!(Lex::new('\\').expand(text, &lookup).unwrap().words, expected, "{text}");
        }
    }

    #[test]
    fn another_escape_and_other_modes() {
        let lex = Lex::new('`');
        assert_eq!(lex.expand("a`$PWD\\b", &lookup).unwrap().text, "a$PWD\\b");
        let lex = Lex { no_quotes: true, ..Lex::new('\\') };
        assert_eq!(lex.expand("it's \"$PWD\" \\$PWD", &lookup).unwrap().text, "it's \"/home\" $PWD");
        let lex = Lex { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lex::new('\\') };
        let text = r#"'a $PWD' "b \$" $XXX ${XXX} ${XXX:-d} c\ d"#;
        assert_eq!(lex.expand(text, &lookup).unwrap().text, text);
    }

    #[test]
    fn what_was_not_there_is_told() {
        let expanded = Lex::new('\\').expand("$PWD ${XXX:-a} $YYY $XXX", &lookup).unwrap();
        assert_eq!((expanded.matched, expanded.unmatched), (vec!["PWD".into()], vec!["XXX".into(), "YYY".into()]));
    }

    #[test]
    fn hostile_texts_have_an_end() {
        let deep = format!("{}x{}", "${A:-".repeat(10_000), "}".repeat(10_000));
        assert!(Lex::new('\\').expand(&deep, &lookup).unwrap_err().contains("too deeply"));
        let wide = |_: &str| Some("x".repeat(1 << 16));
        assert!(Lex::new('\\').expand(&"$A".repeat(100), &wide).unwrap_err().contains("longer than"));
        assert!(Lex::new('\\').expand("${A//x/yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy}", &wide).is_err());
    }
}
