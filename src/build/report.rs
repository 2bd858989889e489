//! What a build tells while it works: Docker's stream of messages, or lines that name their step and its time.

use crate::api::types::ProgressLine;
use anyhow::{Result, anyhow};
use std::collections::VecDeque;
use std::io;
use std::time::Instant;

/// Takes lines; an error means that nobody reads on.
pub type Sink<'a> = &'a mut dyn FnMut(ProgressLine) -> io::Result<()>;

pub struct Report<'a> {
    sink: Sink<'a>,
    plain: bool,
    quiet: bool,
    /// The number of the step that is told of, whether it was made before, and when it began.
    number: usize,
    cached: bool,
    begun: Instant,
    /// What a command said and that is no whole line, or no whole character, yet.
    partial: Vec<u8>,
    /// The last lines of it, for when it fails.
    last: VecDeque<String>,
}

/// So many of the last lines are shown again.
const LAST: usize = 20;
/// A line that is longer is shown in parts.
const LONGEST: usize = 16 * 1024;

impl<'a> Report<'a> {
    pub fn new(sink: Sink<'a>, plain: bool, quiet: bool) -> Report<'a> {
        Report {
            sink,
            plain,
            quiet,
            number: 0,
            cached: false,
            begun: Instant::now(),
            partial: Vec::new(),
            last: VecDeque::new(),
        }
    }

    fn send(&mut self, line: ProgressLine) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        (self.sink)(line).map_err(|_| gone())
    }

    fn text(&mut self, text: String) -> Result<()> {
        self.send(ProgressLine::text(text))
    }

    /// A line of its own.
    pub fn note(&mut self, text: &str) -> Result<()> {
        self.text(format!("{text}\n"))
    }

    /// What a pull tells.
    pub fn pulling(&mut self, line: ProgressLine) -> io::Result<()> {
        if self.quiet { Ok(()) } else { (self.sink)(line) }
    }

    /// A step begins.
    pub fn step(&mut self, number: usize, total: usize, stage: &str, text: &str) -> Result<()> {
        (self.number, self.cached, self.begun) = (number, false, Instant::now());
        self.last.clear();
        self.partial.clear();
        let first = text.lines().next().unwrap_or_default();
        match (self.plain, stage) {
            (false, _) => self.text(format!("Step {number}/{total} : {first}\n")),
            (true, "") => self.text(format!("#{number} [{number}/{total}] {first}\n")),
            (true, stage) => self.text(format!("#{number} [{stage} {number}/{total}] {first}\n")),
        }
    }

    /// It was made before.
    pub fn cached(&mut self) -> Result<()> {
        self.cached = true;
        match self.plain {
            true => self.text(format!("#{} CACHED\n\n", self.number)),
            false => self.text(" ---> Using cache\n".to_owned()),
        }
    }

    /// It runs, in this container.
    pub fn running(&mut self, container: &str) -> Result<()> {
        match self.plain {
            true => Ok(()),
            false => self.text(format!(" ---> Running in {}\n", &container[..12.min(container.len())])),
        }
    }

    /// It is done; `id` is what came of it.
    pub fn done(&mut self, id: &str) -> Result<()> {
        match self.plain {
            true if self.cached => Ok(()),
            true => {
                let took = self.begun.elapsed().as_secs_f64();
                self.text(format!("#{} DONE {took:.1}s\n\n", self.number))
            }
            false => self.text(format!(" ---> {}\n", &id[..12.min(id.len())])),
        }
    }

    /// What a command says, as it comes.
    pub fn said(&mut self, bytes: &[u8]) -> Result<()> {
        self.partial.extend_from_slice(bytes);
        if !self.plain {
            // Characters are not cut.
            let whole = self.partial.len() - incomplete(&self.partial);
            let text: Vec<u8> = self.partial.drain(..whole).collect();
            let text = String::from_utf8_lossy(&text).into_owned();
            return if text.is_empty() { Ok(()) } else { self.text(text) };
        }
        let mut out = String::new();
        loop {
            let end = self.partial.iter().position(|byte| *byte == b'\n');
            let end = match end {
                Some(end) => end + 1,
                None if self.partial.len() >= LONGEST => self.partial.len(),
                None => break,
            };
            let line: Vec<u8> = self.partial.drain(..end).collect();
            out.push_str(&self.line(&line));
        }
        if out.is_empty() { Ok(()) } else { self.text(out) }
    }

    /// It says nothing more.
    pub fn silent(&mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.partial);
        if rest.is_empty() {
            return Ok(());
        }
        let text = match self.plain {
            true => self.line(&rest),
            false => String::from_utf8_lossy(&rest).into_owned(),
        };
        self.text(text)
    }

    fn line(&mut self, line: &[u8]) -> String {
        let text = String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned();
        let shown = format!("#{} {:.3} {text}\n", self.number, self.begun.elapsed().as_secs_f64());
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(text);
        shown
    }

    /// The step failed: its last lines once more, where others may stand between.
    pub fn failed(&mut self, why: &str) -> Result<()> {
        if !self.plain {
            return Ok(());
        }
        let mut text = format!("#{} ERROR: {why}\n", self.number);
        for line in &self.last {
            text.push_str(&format!(" > {line}\n"));
        }
        self.text(text)
    }

    /// What was built.
    pub fn built(&mut self, id: &str, names: &[String]) -> Result<()> {
        if self.plain {
            self.text(format!("writing image {id}\n"))?;
            for name in names {
                self.text(format!("naming to {name}\n"))?;
            }
        } else if self.quiet {
            // All that is told then.
            (self.sink)(ProgressLine::text(format!("{id}\n"))).map_err(|_| gone())?;
        } else {
            let aux = Some(serde_json::json!({ "ID": id }));
            self.send(ProgressLine { aux, ..ProgressLine::default() })?;
            let short = id.trim_start_matches("sha256:");
            self.text(format!("Successfully built {}\n", &short[..12.min(short.len())]))?;
            for name in names {
                self.text(format!("Successfully tagged {name}\n"))?;
            }
            return Ok(());
        }
        let aux = Some(serde_json::json!({ "ID": id }));
        (self.sink)(ProgressLine { aux, ..ProgressLine::default() }).map_err(|_| gone())
    }
}

/// Nobody reads what is told: the build is called off.
pub fn gone() -> anyhow::Error {
    anyhow!("the build was called off")
}

/// How many bytes at the end begin a character that is not whole.
fn incomplete(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(plain: bool, work: impl Fn(&mut Report) -> Result<()>) -> String {
        let mut text = String::new();
        let mut sink = |line: ProgressLine| {
            text.push_str(&line.stream);
            Ok(())
        };
        work(&mut Report::new(&mut sink, plain, false)).unwrap();
        text
    }

    #[test]
    fn characters_and_lines_stay_whole() {
        let work = |report: &mut Report| {
            report.step(1, 2, "", "RUN x\nmore")?;
            report.said("a\u{e9}".as_bytes().split_last().unwrap().1)?;
            report.said(&[0xa9, b'\n', b'b'])?;
            report.silent()
        };
        assert_eq!(told(false, work), "Step 1/2 : RUN x\na\u{e9}\nb");
        let plain = told(true, work);
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines[0], "#1 [1/2] RUN x");
        assert!(lines[1].starts_with("#1 0.") && lines[1].ends_with(" a\u{e9}"), "{plain}");
        assert!(lines[2].ends_with(" b"));
    }

    #[test]
    fn what_is_not_text_ends_too() {
        for bytes in [&b"\xff\xfe\x80"[..], b"\xe2\x82", b"\xf0", b"abc\xc3", b""] {
            let cut = incomplete(bytes);
            assert!(cut <= 3 && String::from_utf8_lossy(&bytes[..bytes.len() - cut]).len() <= bytes.len() * 3);
        }
        assert_eq!((incomplete(b"\xe2\x82"), incomplete(b"a\xc3"), incomplete("é".as_bytes())), (2, 1, 0));
    }
}
