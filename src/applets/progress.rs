//! The progress of a pull, a push or an import: a line a layer that changes in place on a terminal, plain lines otherwise.

use super::format::{table, units};
use super::terminal;
use crate::api::types::ProgressLine;
use crate::json;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

/// Takes the lines of a streamed answer and shows them.
pub struct Progress<'a> {
    screen: Screen,
    out: &'a mut dyn Write,
    /// Of a line that has not come whole.
    partial: Vec<u8>,
    /// What the answer told that went wrong.
    error: Option<String>,
    quiet: bool,
}

impl<'a> Progress<'a> {
    /// Shows progress on `out`; `on` is the descriptor behind it.
    pub fn new(out: &'a mut dyn Write, on: &(impl AsFd + IsTerminal), quiet: bool) -> Progress<'a> {
        Progress { screen: Screen::new(terminal::size(on)), out, partial: Vec::new(), error: None, quiet }
    }

    pub fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// The error that ended the answer, if any.
    pub fn finish(self) -> Result<(), String> {
        self.error.map_or(Ok(()), Err)
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: ProgressLine = json::from_slice(line)?;
        let detail = line.error_detail.as_ref().map_or("", |detail| detail.message.as_str());
        let error = if detail.is_empty() { &line.error } else { detail };
        if !error.is_empty() {
            self.error = Some(error.to_owned());
        } else if !self.quiet && line.aux.is_none() {
            let text = if line.stream.is_empty() { self.screen.show(&line) } else { line.stream };
            self.out.write_all(text.as_bytes())?;
            self.out.flush()?;
        }
        Ok(())
    }
}

impl Write for Progress<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&rest[..at]);
            self.line(&line)?;
            rest = &rest[at + 1..];
        }
        self.partial.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.line(&line)?;
        }
        Ok(())
    }
}

/// The lines on the screen that change, in the order in which they came.
struct Screen {
    /// Rows and columns of the terminal.
    size: Option<(u16, u16)>,
    lines: Vec<String>,
}

const BAR: usize = 50;

impl Screen {
    fn new(size: Option<(u16, u16)>) -> Screen {
        Screen { size, lines: Vec::new() }
    }

    /// The text that brings one more line of the answer onto the screen.
    fn show(&mut self, line: &ProgressLine) -> String {
        let Some((rows, columns)) = self.size else {
            // Without a terminal a line that only counts is noise.
            let counts = line.progress_detail.is_some_and(|detail| detail.current > 0) || !line.progress.is_empty();
            return if counts { String::new() } else { format!("{}\n", told(line)) };
        };
        let detail = line.progress_detail.unwrap_or_default();
        let mut text = told(line);
        if detail.current > 0 || detail.total > 0 {
            text = format!("{text} {}", bar(detail.current, detail.total, columns.into()));
        }
        // A line that wraps would put all lines below it out of place.
        let text = table::ellipsis(&text, usize::from(columns).saturating_sub(1));
        if line.id.is_empty() || line.progress_detail.is_none() {
            // What is said now stands; the lines above it do not change any more.
            self.lines.clear();
            return format!("{text}\n");
        }
        let Some(at) = self.lines.iter().position(|id| *id == line.id) else {
            self.lines.push(line.id.clone());
            return format!("{text}\n");
        };
        let up = self.lines.len() - at;
        if up >= rows.into() {
            // It scrolled out of sight.
            return String::new();
        }
        format!("\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")
    }
}

fn told(line: &ProgressLine) -> String {
    match line.id.as_str() {
        "" => line.status.clone(),
        id => format!("{id}: {}", line.status),
    }
}

/// `[=====>    ] 1.2MB/3.4MB`, without the bar where there is no room.
fn bar(current: u64, total: u64, columns: usize) -> String {
    let size = |bytes: u64| units::decimal(i64::try_from(bytes).unwrap_or(i64::MAX), 4);
    if total == 0 || current > total {
        return size(current);
    }
    let numbers = format!("{}/{}", size(current), size(total));
    if columns <= 110 {
        return numbers;
    }
    let done = (current as u128 * BAR as u128 / total as u128) as usize;
    let (done, head) = if done < BAR { (done, ">") } else { (BAR, "") };
    let left = BAR - done - head.len();
    format!("[{}{head}{}] {numbers}", "=".repeat(done), " ".repeat(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ProgressDetail;

    fn layer(id: &str, status: &str, current: u64, total: u64) -> ProgressLine {
        ProgressLine::layer(id, status, ProgressDetail { current, total })
    }

    #[test]
    fn plain_lines_do_not_count() {
        let mut screen = Screen::new(None);
        assert_eq!(
            screen.show(&ProgressLine { id: "latest".into(), ..ProgressLine::status("Pulling from x") }),
            "latest: Pulling from x\n"
        );
        assert_eq!(screen.show(&layer("a", "Pulling fs layer", 0, 0)), "a: Pulling fs layer\n");
        assert_eq!(screen.show(&layer("a", "Downloading", 5, 10)), "");
        assert_eq!(screen.show(&layer("a", "Pull complete", 0, 0)), "a: Pull complete\n");
        assert_eq!(screen.show(&ProgressLine::status("Status: done")), "Status: done\n");
    }

    #[test]
    fn lines_change_in_place_and_never_wrap() {
        let mut screen = Screen::new(Some((3, 20)));
        assert_eq!(screen.show(&layer("a", "Waiting", 0, 0)), "a: Waiting\n");
        assert_eq!(screen.show(&layer("b", "Waiting", 0, 0)), "b: Waiting\n");
        assert_eq!(screen.show(&layer("a", "Done", 0, 0)), "\x1b[2A\r\x1b[2Ka: Done\x1b[2B\r");
        assert_eq!(screen.show(&layer("b", "Downloading", 5, 10)), "\x1b[1A\r\x1b[2Kb: Downloading 5B/…\x1b[1B\r");
        screen.show(&layer("c", "Waiting", 0, 0));
        assert_eq!(screen.show(&layer("a", "Again", 0, 0)), "", "out of sight");
    }

    #[test]
    fn bars() {
        assert_eq!(bar(5, 10, 200), format!("[{}>{}] 5B/10B", "=".repeat(25), " ".repeat(24)));
        assert_eq!(bar(10, 10, 200), format!("[{}] 10B/10B", "=".repeat(50)));
        assert_eq!(bar(0, 10, 80), "0B/10B");
        assert_eq!(bar(7, 0, 80), "7B");
    }

    #[test]
    fn lines_come_in_pieces_and_errors_end_them() {
        let mut out = Vec::new();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut progress = Progress::new(&mut out, &file, false);
        for piece in [
            "{\"status\":\"Pu",
            "lling\"}\r\n{\"status\":\"b\"}\r\n",
            "\r\n{\"errorDetail\":{\"message\":\"gone\"},\"error\":\"gone\"}",
        ] {
            progress.write_all(piece.as_bytes()).unwrap();
        }
        progress.flush().unwrap();
        assert_eq!(progress.finish(), Err("gone".to_owned()));
        assert_eq!(out, b"Pulling\nb\n");
    }
}
