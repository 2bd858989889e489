//! A Dockerfile's text → its logical lines: directives read, comments left out, continued lines joined, here-documents
//! taken in. Every byte of a logical line still knows where it stood.

use super::source::{Fault, Place};
use super::words::Lex;
use crate::json;

/// What the comments at the top ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The frontend that the file was written for. It is noted only: the language is built in.
    pub syntax: Option<String>,
    pub escape: char,
    /// `skip=A,B;error=true`
    pub check: Option<String>,
}

impl Default for Directives {
    fn default() -> Directives {
        Directives { syntax: None, escape: '\\', check: None }
    }
}

/// A here-document: `<<EOF`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    /// As it stands in the file.
    pub content: String,
    /// Its name was not quoted.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines do not count.
    pub chomp: bool,
}

impl Heredoc {
    /// Its content, without the tabs that are there for looks.
    pub fn text(&self) -> String {
        match self.chomp {
            true => self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect(),
            false => self.content.clone(),
        }
    }
}

/// One instruction's text.
#[derive(Clone, Debug, Default)]
pub struct Line {
    pub text: String,
    /// The lines of the file, here-documents included.
    pub first: usize,
    pub last: usize,
    pub heredocs: Vec<Heredoc>,
    /// A continued line was followed by an empty one.
    pub has_empty: bool,
    /// What stands above it, back to a comment that says nothing, without the sign of a comment.
    pub comments: Vec<String>,
    /// From this byte of `text` on, it stood at this place.
    marks: Vec<(usize, Place)>,
}

impl Line {
    /// Where a byte of the text stood.
    pub fn place(&self, at: usize) -> Place {
        let after = self.marks.partition_point(|(start, _)| *start <= at);
        let Some((start, place)) = self.marks.get(after.saturating_sub(1)) else {
            return Place { line: self.first, column: 1 };
        };
        let between = self.text.get(*start..at.min(self.text.len())).unwrap_or_default();
        Place { line: place.line, column: place.column + between.chars().count() }
    }

    pub fn fault(&self, at: usize, message: impl Into<String>) -> Fault {
        Fault::new(self.place(at), message)
    }
}

/// Reads a whole file.
pub fn read(text: &str) -> Result<(Directives, Vec<Line>), Fault> {
    let mut reader = Reader::new(text);
    let mut lines = Vec::new();
    while let Some(line) = reader.line()? {
        lines.push(line);
    }
    Ok((reader.directives.values, lines))
}

struct Reader<'a> {
    rest: std::str::SplitInclusive<'a, char>,
    /// How many lines have been read.
    count: usize,
    directives: DirectiveReader,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Reader<'a> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let directives = DirectiveReader::default();
        Reader { rest: text.split_inclusive('\n'), count: 0, directives }
    }

    fn next(&mut self) -> Option<&'a str> {
        let line = self.rest.next()?;
        self.count += 1;
        Some(line)
    }

    fn line(&mut self) -> Result<Option<Line>, Fault> {
        let mut line = Line::default();
        let mut continued = false;
        while let Some(raw) = self.next() {
            let raw = raw.trim_end_matches(['\r', '\n']);
            let trimmed = raw.trim_start();
            let directive = self.directives.read(trimmed, self.count)?;
            if let Some(comment) = trimmed.strip_prefix('#') {
                match comment.trim() {
                    _ if continued || directive => {}
                    "" => line.comments.clear(),
                    comment => line.comments.push(comment.to_owned()),
                }
                continue;
            }
            if trimmed.is_empty() {
                line.has_empty |= continued;
                continue;
            }
            // White space at the start of a line that goes on another is a part of it.
            let kept = if line.text.is_empty() { trimmed } else { raw };
            let column = 1 + raw[..raw.len() - kept.len()].chars().count();
            if !continued {
                line.first = self.count;
            }
            let escape = self.directives.values.escape;
            let (kept, more) = match continuation(kept, escape) {
                Some(kept) => (kept, true),
                None => (kept, false),
            };
            line.marks.push((line.text.len(), Place { line: self.count, column }));
            line.text.push_str(kept);
            continued = true;
            if !more {
                break;
            }
        }
        // The end of the file, perhaps behind a character that continues lines.
        if line.text.is_empty() {
            return Ok(None);
        }
        self.heredocs(&mut line)?;
        line.last = self.count;
        Ok(Some(line))
    }

    fn heredocs(&mut self, line: &mut Line) -> Result<(), Fault> {
        if !line.text.contains("<<") || !takes_heredocs(&line.text) {
            return Ok(());
        }
        let lex = Lex { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lex::new('\\') };
        // What cannot be read has no here-documents; the instruction will say what is wrong with it.
        let words = lex.expand(&line.text, &|_| None).map(|it| it.words).unwrap_or_default();
        for word in words {
            let Some(mut heredoc) = heredoc(&word) else { continue };
            let begun = line.place(line.text.find(&word).unwrap_or(0));
            loop {
                let Some(raw) = self.next() else {
                    return Err(Fault::new(begun, format!("unterminated heredoc {:?}", heredoc.name)));
                };
                let plain = raw.trim_end_matches(['\r', '\n']);
                let plain = if heredoc.chomp { plain.trim_start_matches('\t') } else { plain };
                if plain == heredoc.name {
                    break;
                }
                heredoc.content.push_str(raw);
            }
            line.heredocs.push(heredoc);
        }
        Ok(())
    }
}

/// The line without the character that continues it, if it ends in one that is not escaped itself.
fn continuation(line: &str, escape: char) -> Option<&str> {
    let kept = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!kept.ends_with(escape)).then_some(kept)
}

/// `RUN`, `COPY` and `ADD` do, also behind `ONBUILD`, but not in their JSON form.
fn takes_heredocs(line: &str) -> bool {
    let mut rest = line.trim();
    loop {
        let (keyword, after) = rest.split_once(is_blank).unwrap_or((rest, ""));
        match keyword.to_ascii_lowercase().as_str() {
            "onbuild" => rest = after.trim_start(),
            "run" | "copy" | "add" => {
                let mut args = after.trim_start();
                while args.starts_with("--") {
                    args = args.split_once(char::is_whitespace).map_or("", |(_, after)| after.trim_start());
                }
                return !args.starts_with('[') || json::from_str::<Vec<serde_json::Value>>(args).is_err();
            }
            _ => return false,
        }
    }
}

/// What parts an instruction from its arguments.
pub fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Reads `<<EOF`, `<<-EOF`, `<<"EOF"`, `3<<EOF`; nothing where the word is none of them.
pub fn heredoc(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let lex = Lex { keep_unset: true, ..Lex::new('\\') };
    let words = |lex: Lex| lex.expand(rest, &|_| None).ok().map(|it| it.words);
    let plain = words(lex)?;
    let raw = words(Lex { raw_quotes: true, ..lex })?;
    let ([plain], [raw]) = (plain.as_slice(), raw.as_slice()) else { return None };
    let quotes = |text: &str| text.chars().filter(|c| matches!(c, '\'' | '"')).count();
    let expand = quotes(plain) == quotes(raw);
    Some(Heredoc { name: plain.clone(), content: String::new(), expand, chomp })
}

/// Directives are the comments before anything else, as long as each is one.
#[derive(Default)]
struct DirectiveReader {
    values: Directives,
    seen: Vec<String>,
    done: bool,
}

impl DirectiveReader {
    /// Whether the line is one.
    fn read(&mut self, line: &str, number: usize) -> Result<bool, Fault> {
        if self.done {
            return Ok(false);
        }
        let Some((key, value)) = directive(line) else {
            self.done = true;
            return Ok(false);
        };
        let place = Place { line: number, column: 1 };
        if self.seen.contains(&key) {
            return Err(Fault::new(place, format!("only one {key} parser directive can be used")));
        }
        match key.as_str() {
            "syntax" => self.values.syntax = Some(value.to_owned()),
            "check" => self.values.check = Some(value.to_owned()),
            _ => match value {
                "\\" => self.values.escape = '\\',
                "`" => self.values.escape = '`',
                other => {
                    let message = format!("invalid escape token '{other}' does not match ` or \\");
                    return Err(Fault::new(place, message));
                }
            },
        }
        self.seen.push(key);
        Ok(true)
    }
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let (key, value) = (key.trim_end().to_ascii_lowercase(), value.trim());
    (matches!(key.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        read(text).unwrap().1.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_joined() {
        for (text, expected) in [
            ("RUN a \\\n  b\n", vec!["RUN a   b"]),
            ("RUN a \\\n# not this\n\n  b \\\n", vec!["RUN a   b "]),
            ("RUN a \\  \t\nb", vec!["RUN a b"]),
            ("RUN a\\\\\nUSER b", vec!["RUN a\\\\", "USER b"]),
            ("\u{feff}FROM a\r\n\r\nRUN b \\\r\n c\r\n", vec!["FROM a", "RUN b  c"]),
            ("  FROM a\n\tRUN b", vec!["FROM a", "RUN b"]),
            ("\\\nFROM a\n\\\n", vec!["FROM a"]),
            ("\\\n\n  FROM a\n", vec!["FROM a"]),
            ("\\\n\n\\", vec![]),
            ("# only\n#comments", vec![]),
            ("# escape=`\nRUN a `\nb\\\nUSER c", vec!["RUN a b\\", "USER c"]),
            ("#!/usr/bin/env x\n# escape=`\nRUN a \\\nb", vec!["RUN a b"]),
            ("RUN echo # no comment", vec!["RUN echo # no comment"]),
        ] {
            assert_eq!(texts(text), expected, "{text:?}");
        }
    }

    #[test]
    fn directives_come_first() {
        let read = |text| read(text).map(|(directives, _)| directives);
        let all = "# Syntax = docker/dockerfile:1 \n#escape=`\n# check=skip=all;error=true\nFROM a";
        let expected = Directives {
            syntax: Some("docker/dockerfile:1".into()),
            escape: '`',
            check: Some("skip=all;error=true".into()),
        };
        assert_eq!(read(all), Ok(expected));
        for late in ["# hi\n# escape=`", "\n# escape=`", "FROM a\n# escape=`", "# escape\n# escape=`"] {
            assert_eq!(read(late), Ok(Directives::default()), "{late:?}");
        }
        assert_eq!(read("# escape=x").unwrap_err().place, Place { line: 1, column: 1 });
        assert!(read("# escape=`\n# escape=`").unwrap_err().message.starts_with("only one escape"));
    }

    #[test]
    fn here_documents_are_taken_in() {
        let heredocs = |text: &str| -> Vec<(String, String, bool, bool)> {
            let lines = read(text).unwrap().1;
            let all = lines.into_iter().flat_map(|line| line.heredocs);
            all.map(|it| (it.name.clone(), it.text(), it.expand, it.chomp)).collect()
        };
        let one = |name: &str, text: &str, expand, chomp| (name.to_owned(), text.to_owned(), expand, chomp);
        for (text, expected) in [
            ("RUN <<EOF\na\n # b\n\nEOF\nUSER x", vec![one("EOF", "a\n # b\n\n", true, false)]),
            ("RUN cat << EOF\na\nEOF", vec![one("EOF", "a\n", true, false)]),
            ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF", vec![one("EOF", "a\nb\n", true, true)]),
            ("RUN <<'EOF'\n$a\nEOF", vec![one("EOF", "$a\n", false, false)]),
            ("RUN <<\"E O\"F\n$a\nE OF", vec![one("E OF", "$a\n", false, false)]),
            ("RUN 3<<EOF\nEOF", vec![one("EOF", "", true, false)]),
            (
                "COPY <<A <<B /\n<<B\nA\nx\r\nB\r\n",
                vec![one("A", "<<B\n", true, false), one("B", "x\r\n", true, false)],
            ),
            ("ONBUILD RUN <<EOF\na\nEOF", vec![one("EOF", "a\n", true, false)]),
            ("RUN --mount=type=tmpfs,target=/a <<EOF\na\nEOF", vec![one("EOF", "a\n", true, false)]),
            ("RUN a \\\n<<EOF\nb\nEOF", vec![one("EOF", "b\n", true, false)]),
            ("RUN echo '<<EOF'", vec![]),
            ("RUN [\"a\", \"<<EOF\"]", vec![]),
            ("RUN a <<< b", vec![]),
            ("ENV a=<<EOF", vec![]),
            ("RUN echo $((1<<2))", vec![]),
        ] {
            assert_eq!(heredocs(text), expected, "{text:?}");
        }
        let fault = read("FROM a\nRUN x <<EOF\nb").unwrap_err();
        assert_eq!(
            (fault.place, fault.message.as_str()),
            (Place { line: 2, column: 7 }, "unterminated heredoc \"EOF\"")
        );
    }

    #[test]
    fn places_are_kept() {
        let (_, lines) = read("# x\n  RUN a \\\n# y\n    é b\nRUN <<E\nE\nUSER z").unwrap();
        let place = |line: usize, column: usize| Place { line, column };
        assert_eq!((lines[0].place(0), lines[0].place(4)), (place(2, 3), place(2, 7)));
        let at = lines[0].text.find('b').unwrap();
        assert_eq!(lines[0].place(at), place(4, 7));
        assert_eq!((lines[1].first, lines[1].last, lines[2].first), (5, 6, 7));
    }
}
