//! What commands print. A reader that went away ends us as it ends any program in a pipe: silently, by SIGPIPE.

use super::terminal;
use crate::api::errno;
use crate::log;
use anyhow::{Context, Result};
use std::io::{ErrorKind, Write};

/// Prints on stdout.
pub fn say(text: &str) -> Result<()> {
    write(text.as_bytes())
}

/// The same, for bytes.
pub fn write(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => terminal::die(libc::SIGPIPE),
        other => other.context("writing to stdout"),
    }
}

/// Stdout for what is written piece by piece, with the same end.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write(bytes).map_err(|error| std::io::Error::other(format!("{error:#}")))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Prints lines on stderr. Where even that cannot be written there is nobody left to tell.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(&errno::spelt(text)));
}

/// The same, as it is: for what plugins say to a terminal.
pub fn advise(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// So many bytes of a line are told at most: nobody reads the rest of a name that is longer.
const LONGEST: usize = 4096;

/// Names and words of others as text that does nothing to a terminal but be read.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            plain.push('\n');
        }
        let end = (0..=LONGEST.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        for c in line[..end].chars() {
            match c {
                c if c == '\t' || !c.is_control() => plain.push(c),
                c => plain.extend(c.escape_default()),
            }
        }
        if end < line.len() {
            plain.push('…');
        }
    }
    plain
}

/// Says on stderr what the program tells of its work (`--debug`).
pub fn verbose() {
    tell(log::Level::Debug);
}

/// Says on stderr what the program tells of its work, up to that level.
pub fn tell(level: log::Level) {
    log::to(complain, level);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_only_read() {
        for (text, expected) in
            [("two\nlines\tof é", "two\nlines\tof é"), ("\u{1b}[31mred\r\u{7}\u{9b}", "\\u{1b}[31mred\\r\\u{7}\\u{9b}")]
        {
            assert_eq!(plain(text), expected);
        }
        assert_eq!(plain(&"é".repeat(LONGEST)), "é".repeat(LONGEST / 2) + "…");
    }
}
