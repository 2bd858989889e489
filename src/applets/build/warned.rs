//! What a build says against its Dockerfile, once it has ended.

use crate::api::base64;
use crate::api::types::VertexWarning;
use crate::applets::output::plain;
use crate::build::dockerfile::{Place, Source};

/// What was told, as it is shown.
pub struct Warned {
    /// With where it stands and what explains it (`--debug`).
    whole: bool,
    count: usize,
    text: String,
}

impl Warned {
    pub fn new(whole: bool) -> Warned {
        Warned { whole, count: 0, text: String::new() }
    }

    pub fn add(&mut self, warning: &VertexWarning) {
        let bytes = |text: &str| base64::decode(text).unwrap_or_default();
        // Who wrote the Dockerfile may be a stranger, and so may the daemon.
        let text = |text: &str| plain(&String::from_utf8_lossy(&bytes(text)));
        self.count += 1;
        self.text.push_str(&format!(" - {}\n", text(&warning.short)));
        if !self.whole {
            return;
        }
        warning.detail.iter().for_each(|detail| self.text.push_str(&format!("{}\n", text(detail))));
        self.text.push_str(&format!("More info: {}\n", plain(&warning.url)));
        if let Some(range) = warning.range.first() {
            let data = String::from_utf8_lossy(&bytes(&warning.source_info.data)).into_owned();
            let source = Source::new(&warning.source_info.filename, &data);
            let place = Place { line: range.start.line, column: 1 };
            self.text.push_str(&format!("{}\n", plain(&source.excerpt(place).to_string())));
        }
        self.text.push('\n');
    }

    /// All of it, as buildx shows it; nothing where nothing was said.
    pub fn show(&self, colours: bool) -> String {
        let head = match self.count {
            0 => return String::new(),
            1 => "1 warning found".to_owned(),
            count => format!("{count} warnings found"),
        };
        let hint = if self.whole { "" } else { " (use docker --debug to expand)" };
        let (on, off) = if colours { ("\x1b[33m", "\x1b[0m") } else { ("", "") };
        format!("\n {on}{head}{hint}:{off}\n{}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::Dockerfile;
    use crate::build::ignore::Ignore;
    use crate::build::lint::{self, Around};

    fn shown(text: &str, whole: bool, colours: bool) -> String {
        let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
        let around = Around { ignore: &Ignore::default(), base: &|_| None, needed: None, wish: None };
        let (warnings, _) = lint::check(&file, &around).unwrap();
        let mut warned = Warned::new(whole);
        lint::statuses(&file, &warnings).flat_map(|status| status.warnings).for_each(|it| warned.add(&it));
        warned.show(colours)
    }

    #[test]
    fn warnings_are_shown_as_buildx_shows_them() {
        let text = "FROM scratch AS Boat\nCMD x\n";
        assert_eq!(
            shown(text, false, false),
            "\n 2 warnings found (use docker --debug to expand):\n\
             \x20- StageNameCasing: Stage name 'Boat' should be lowercase (line 1)\n\
             \x20- JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)\n"
        );
        let whole = shown("FROM scratch AS Boat\n", true, true);
        assert_eq!(
            whole,
            "\n \x1b[33m1 warning found:\x1b[0m\n - StageNameCasing: Stage name 'Boat' should be lowercase (line 1)\n\
             Names of stages are written in lower case\n\
             More info: https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n\
             Dockerfile:1:1: FROM scratch AS Boat\n\n"
        );
        assert_eq!(shown("FROM scratch\n", false, true), "");
    }

    #[test]
    fn words_of_strangers_do_nothing_to_a_terminal() {
        let evil = base64::encode(b"x\x1b[2J\n");
        let warning = serde_json::json!({
            "short": evil, "detail": [evil], "url": "\u{1b}]0;x\u{7}",
            "sourceInfo": {"filename": "\u{1b}c", "data": evil}, "range": [{"start": {"line": 1}, "end": {"line": 1}}],
        });
        let mut warned = Warned::new(true);
        warned.add(&serde_json::from_value(warning).unwrap());
        let shown = warned.show(false);
        assert!(shown.contains("\\u{1b}[2J") && !shown.contains(['\x1b', '\x07']), "{shown:?}");
    }
}
