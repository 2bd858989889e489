//! Lists: `table …`, `raw`, `json` or a template, a line an item, in columns as Docker's CLI sets them.

use super::template::Template;
use super::value::{Node, Shape};
use anyhow::{Result, bail};
use serde_json::Value;

/// What one kind of list looks like: each list command has one.
pub struct List {
    /// The name of the row's type in Docker's CLI, for its error words: `*formatter.ContainerContext`.
    pub go_type: &'static str,
    /// A field and the words over its column.
    pub headers: &'static [(&'static str, &'static str)],
    /// What is printed where no format is asked for, with `table ` in front.
    pub table: &'static str,
    /// What `-q` prints: `{{.ID}}`.
    pub quiet: &'static str,
    /// What `raw` and `raw` with `-q` print, where the command has them.
    pub raw: Option<(&'static str, &'static str)>,
}

impl List {
    /// Prints `rows`, each a JSON object with the fields named in the headers. A field `Label` that is an object
    /// answers `{{.Label "key"}}` and is not part of `{{json .}}`.
    ///
    /// `format` is the word of `--format`, empty where there is none. Errors: Docker's words for a template that is
    /// wrong, before anything is printed.
    pub fn print(&self, format: &str, quiet: bool, rows: &[Value]) -> Result<String> {
        let format = match (format, quiet, self.raw) {
            ("" | "table", true, _) => self.quiet,
            ("" | "table", false, _) => self.table,
            ("raw", true, Some((_, raw))) | ("raw", false, Some((raw, _))) => raw,
            (_, true, _) => self.quiet,
            (format, false, _) => format,
        };
        let (columns, template) = match format.strip_prefix("table") {
            Some(template) => (true, template),
            None if format == "json" => (false, "{{json .}}"),
            None => (false, format),
        };
        let template = Template::parse(&template.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n"))?;
        let mut out = String::new();
        for row in rows {
            if !row.is_object() {
                bail!("printing a list: a row is not an object");
            }
            out.push_str(&template.walk(&Node::row(row, self.go_type)?)?);
            out.push('\n');
        }
        if !columns {
            return Ok(out);
        }
        // A header that cannot be walked, as that of `{{range .Names}}`, is left empty.
        let header = template.walk_header(&self.header()).unwrap_or_default();
        Ok(align(&format!("{header}\n{out}")))
    }

    /// The headers as data: a map, so that an unknown field of an empty list prints `<no value>`.
    fn header(&self) -> Node {
        let mut entries: Vec<(String, Node)> =
            self.headers.iter().map(|(field, words)| (field.to_string(), Node::Text(words.to_string()))).collect();
        entries.push(("Label".into(), Node::Object(Vec::new(), Shape::Map)));
        Node::Object(entries, Shape::Map)
    }
}

/// A column is at least this wide, and ends this far from the next one.
const NARROWEST: usize = 10;
const PADDING: usize = 3;

/// Sets text with tabs into columns, by the rules of Go's tabwriter: a column is a block of consecutive lines that
/// have a tab after that cell, and its width is that of its widest cell.
pub fn align(text: &str) -> String {
    align_from(text, NARROWEST)
}

/// The same, with columns of at least that width.
pub fn align_from(text: &str, narrowest: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    for first in 0..lines.len() {
        for column in 0..widths[first].len() {
            if first > 0 && widths[first - 1].len() > column {
                widths[first][column] = widths[first - 1][column];
                continue;
            }
            let block = lines[first..].iter().take_while(|cells| cells.len() - 1 > column);
            let widest = block.map(|cells| width(cells[column])).max().unwrap_or(0);
            widths[first][column] = (widest + PADDING).max(narrowest);
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (index, (cells, widths)) in lines.iter().zip(&widths).enumerate() {
        if index > 0 {
            out.push('\n');
        }
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(wide) = widths.get(column) {
                out.extend(std::iter::repeat_n(' ', wide - width(cell)));
            }
        }
    }
    out
}

/// How many places a text takes on a terminal: East Asian wide characters take two, marks none.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match c as u32 {
        0..0x20 | 0x7f..0xa0 => 0,
        0x300..0x370 | 0x200b..=0x200f | 0xfe00..=0xfe0f | 0x20d0..0x2100 => 0,
        0x1100..0x1160 | 0x2e80..0x303f | 0x3041..0xa4d0 | 0xac00..0xd7a4 | 0xf900..0xfb00 | 0xfe30..0xfe70 => 2,
        0xff01..0xff61 | 0xffe0..0xffe7 | 0x1f300..0x1f650 | 0x1f680..0x1f700 | 0x1f900..0x1fa00 => 2,
        0x20000..0x3fffe => 2,
        _ => 1,
    }
}

/// The start of `text` within `places` on a terminal, with `…` in the last one where something was cut off.
pub fn ellipsis(text: &str, places: usize) -> String {
    if width(text) <= places {
        return text.into();
    }
    if places == 1 {
        return text.chars().take(1).collect();
    }
    let mut used = 0;
    let kept = text.chars().take_while(|c| {
        used += char_width(*c);
        used < places
    });
    let mut out: String = kept.collect();
    if places > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const VOLUMES: List = List {
        go_type: "*formatter.volumeContext",
        headers: &[("Driver", "DRIVER"), ("Name", "VOLUME NAME"), ("Labels", "LABELS")],
        table: "table {{.Driver}}\t{{.Name}}",
        quiet: "{{.Name}}",
        raw: Some(("name: {{.Name}}\\ndriver: {{.Driver}}\\n", "name: {{.Name}}")),
    };

    fn rows() -> Vec<Value> {
        vec![
            json!({"Driver": "local", "Name": "gv", "Labels": "", "Label": {}}),
            json!({"Driver": "local-and-much-longer", "Name": "a<b", "Labels": "x.y-z=1", "Label": {"x.y-z": "1"}}),
        ]
    }

    #[test]
    fn a_list_in_every_format() {
        let cases = [
            (
                "",
                false,
                "DRIVER                  VOLUME NAME\nlocal                   gv\nlocal-and-much-longer   a<b\n",
            ),
            ("table", true, "gv\na<b\n"),
            ("", true, "gv\na<b\n"),
            (
                "table {{.Name}}\\t{{upper .Driver}}",
                false,
                "VOLUME NAME   DRIVER\ngv            LOCAL\na<b           LOCAL-AND-MUCH-LONGER\n",
            ),
            ("table{{.Name}}", false, "VOLUME NAME\ngv\na<b\n"),
            ("table {{.Name}}\t{{.Label \"x.y-z\"}}", false, "VOLUME NAME   y z\ngv            \na<b           1\n"),
            ("{{.Name}}\\n", false, "gv\n\na<b\n\n"),
            ("raw", false, "name: gv\ndriver: local\n\nname: a<b\ndriver: local-and-much-longer\n\n"),
            (
                "json",
                false,
                "{\"Driver\":\"local\",\"Labels\":\"\",\"Name\":\"gv\"}\n{\"Driver\":\"local-and-much-longer\",\"Labels\":\"x.y-z=1\",\"Name\":\"a\\u003cb\"}\n",
            ),
            ("{{json .Name}}", false, "\"gv\"\n\"a<b\"\n"),
            ("pretty", false, "pretty\npretty\n"),
        ];
        for (format, quiet, expected) in cases {
            assert_eq!(VOLUMES.print(format, quiet, &rows()).unwrap(), expected, "{format}");
        }
        assert_eq!(VOLUMES.print("", false, &[]).unwrap(), "DRIVER    VOLUME NAME\n");
        assert_eq!(VOLUMES.print("table {{.Nope}}", false, &[]).unwrap(), "<no value>\n");
        for (format, expected) in [
            (
                "{{.Nope}}",
                "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.volumeContext",
            ),
            (
                "{{.Label}}",
                "template parsing error: template: :1:2: executing \"\" at <.Label>: wrong number of args for Label: want 1 got 0",
            ),
            ("x{{.Name", "template parsing error: template: :1: unclosed action"),
        ] {
            assert_eq!(format!("{:#}", VOLUMES.print(format, false, &rows()).unwrap_err()), expected);
        }
    }

    #[test]
    fn columns_are_blocks_of_lines() {
        let cases = [
            ("a\tb\nccccccccc\td\n", "a           b\nccccccccc   d\n"),
            // A line with no tab ends the column; the next one has its own width.
            ("aaaaaaaaaaaaaaa\tb\nx\nc\td\n", "aaaaaaaaaaaaaaa   b\nx\nc         d\n"),
            ("\u{6f22}\u{5b57}\u{6f22}\u{5b57}\ta\nb\tc\n", "\u{6f22}\u{5b57}\u{6f22}\u{5b57}   a\nb          c\n"),
            ("a\t\tb\n", "a                   b\n"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(align(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_ellipsis_fits() {
        for (text, places, expected) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "abcd…"),
            ("\u{6f22}\u{5b57}", 3, "\u{6f22}…"),
            ("", 3, ""),
            ("ab", 1, "a"),
            ("ab", 0, ""),
        ] {
            assert_eq!(ellipsis(text, places), expected, "{text} in {places}");
        }
    }
}
