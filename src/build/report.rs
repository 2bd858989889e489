//! What a build tells while it works: Docker's stream of messages, or lines that name their step and its time.

use super::trace::{self, Trace};
use crate::api::errno;
use crate::api::types::{ProgressLine, SolveStatus};
use crate::channel::Sender;
use crate::oci::Digest;
use crate::order::Map;
use anyhow::Result;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How a build is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Style {
    /// As Docker's first builder tells it.
    #[default]
    Stream,
    /// In lines that name their step, as `docker buildx build --progress=plain` does.
    Plain,
    /// In BuildKit's own messages.
    Trace,
}

/// Takes lines; an error means that nobody reads on.
pub type Sink<'a> = &'a mut dyn FnMut(ProgressLine) -> io::Result<()>;

/// What a stage tells on its way to those who read.
pub enum Told {
    Line(ProgressLine),
    /// A step begins, which gets its number when its turn has come.
    Step(String),
    /// So many steps more than was thought.
    More(usize),
    /// The stage is done, or has failed.
    End,
}

/// Tells what all stages do. Docker's stream has no marks: there one stage is told after the other, in their order, and
/// what the others do meanwhile waits.
pub struct Output<'a> {
    sink: Sink<'a>,
    style: Style,
    quiet: bool,
    /// What Docker's client is not told, unless the build fails, and its bytes.
    silent: VecDeque<ProgressLine>,
    size: usize,
    number: usize,
    total: usize,
    /// Stages whose turn has not passed, in order, with what they have told.
    waiting: Map<usize, Vec<Told>>,
}

impl<'a> Output<'a> {
    pub fn new(sink: Sink<'a>, style: Style, quiet: bool) -> Output<'a> {
        let (silent, waiting) = (VecDeque::new(), Map::new());
        Output { sink, style, quiet, silent, size: 0, number: 0, total: 0, waiting }
    }

    pub fn style(&self) -> Style {
        self.style
    }

    /// Stages that will tell something, and how many steps they have in all.
    pub fn expect(&mut self, stages: impl Iterator<Item = usize>, total: usize) {
        self.total = total;
        self.waiting = Map::from_iter(stages.map(|at| (at, Vec::new())));
    }

    /// Tells of what stands before the first stage, which are steps to Docker's first builder. Gives how many there are.
    pub fn begin<'b>(&mut self, instructions: impl ExactSizeIterator<Item = &'b str>, total: usize) -> Result<usize> {
        if self.style != Style::Stream {
            return Ok(0);
        }
        let count = instructions.len();
        self.total = total + count;
        instructions.map(|text| Told::Step(text.to_owned())).try_for_each(|step| self.tell(step))?;
        Ok(count)
    }

    /// Takes what a stage tells.
    pub fn take(&mut self, stage: usize, told: Told) -> Result<()> {
        if self.style != Style::Stream {
            return self.tell(told);
        }
        if self.waiting.first_key_value().is_none_or(|(first, _)| *first != stage) {
            self.waiting.entry(stage).or_default().push(told);
            return Ok(());
        }
        if !matches!(told, Told::End) {
            return self.tell(told);
        }
        self.waiting.remove(&stage);
        // The next ones, as far as they have come.
        while let Some((next, held)) = self.waiting.pop_first() {
            let ended = matches!(held.last(), Some(Told::End));
            if !ended {
                self.waiting.insert(next, Vec::new());
            }
            held.into_iter().try_for_each(|told| self.tell(told))?;
            if !ended {
                break;
            }
        }
        Ok(())
    }

    /// What a stage that failed has told, though its turn has not come.
    pub fn failed(&mut self, stage: usize) -> Result<()> {
        let held = self.waiting.remove(&stage).unwrap_or_default();
        held.into_iter().try_for_each(|told| self.tell(told))
    }

    fn tell(&mut self, told: Told) -> Result<()> {
        match told {
            Told::Line(line) => self.send(line),
            Told::Step(first) => {
                self.number += 1;
                self.send(ProgressLine::text(format!("Step {}/{} : {first}\n", self.number, self.total)))
            }
            Told::More(steps) => {
                self.total += steps;
                Ok(())
            }
            Told::End => Ok(()),
        }
    }

    fn send(&mut self, line: ProgressLine) -> Result<()> {
        if !self.quiet {
            return (self.sink)(line).map_err(|_| gone());
        }
        if self.style == Style::Stream {
            let size = |line: &ProgressLine| size_of::<ProgressLine>() + line.stream.len() + line.status.len();
            self.size += size(&line);
            self.silent.push_back(line);
            while self.size > SILENT {
                self.size -= self.silent.pop_front().map_or(self.size, |line| size(&line));
            }
        }
        Ok(())
    }

    /// The build has failed: what was not told is.
    pub fn recall(&mut self) -> Result<()> {
        std::mem::take(&mut self.silent).into_iter().try_for_each(|line| (self.sink)(line)).map_err(|_| gone())
    }

    /// A line of its own.
    pub fn note(&mut self, text: &str) -> Result<()> {
        let text = &*errno::spelt(text);
        if self.style == Style::Trace {
            return self.send(trace::line(&trace::done(text, &[])));
        }
        self.send(ProgressLine::text(format!("{text}\n")))
    }

    /// What can be said against the Dockerfile, for clients of ours. Docker's first builder says nothing of it.
    pub fn warnings(&mut self, mut statuses: impl Iterator<Item = SolveStatus>) -> Result<()> {
        match self.style {
            Style::Stream => Ok(()),
            Style::Plain | Style::Trace => statuses.try_for_each(|status| self.send(trace::line(&status))),
        }
    }

    /// Something that is wrong with the Dockerfile, as Docker's first builder says it.
    pub fn wrong(&mut self, text: &str) -> Result<()> {
        match self.style {
            Style::Stream => self.send(ProgressLine::text(format!("\u{1b}[91m[WARNING]: {text}\n\u{1b}[0m"))),
            Style::Plain | Style::Trace => Ok(()),
        }
    }

    /// A piece of an output.
    pub fn data(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let aux = Some(serde_json::json!({ "output": at, "data": crate::api::base64::encode(bytes) }));
        (self.sink)(ProgressLine { aux, ..ProgressLine::default() })
    }

    /// That was all of an output; an archive has a manifest.
    pub fn sent(&mut self, at: usize, manifest: Option<&Digest>) -> Result<()> {
        let aux = Some(match manifest {
            Some(manifest) => serde_json::json!({ "output": at, "digest": manifest.to_string() }),
            None => serde_json::json!({ "output": at }),
        });
        (self.sink)(ProgressLine { aux, ..ProgressLine::default() }).map_err(|_| gone())
    }

    /// The image's id, for programs.
    pub fn id(&mut self, id: &str) -> Result<()> {
        let aux = Some(serde_json::json!({ "ID": id }));
        (self.sink)(ProgressLine { aux, ..ProgressLine::default() }).map_err(|_| gone())
    }

    /// What was built.
    pub fn built(&mut self, id: &str, names: &[String]) -> Result<()> {
        if self.style == Style::Trace {
            let named = names.iter().map(|name| format!("naming to {name}"));
            let parts: Vec<String> = std::iter::once(format!("writing image {id}")).chain(named).collect();
            self.send(trace::line(&trace::done("exporting to image", &parts)))?;
        } else if self.style == Style::Plain {
            self.note(&format!("writing image {id}"))?;
            for name in names {
                self.note(&format!("naming to {name}"))?;
            }
        } else if self.quiet {
            // All that is told then.
            return (self.sink)(ProgressLine::text(format!("{id}\n"))).map_err(|_| gone());
        } else {
            let aux = Some(serde_json::json!({ "ID": id }));
            self.send(ProgressLine { aux, ..ProgressLine::default() })?;
            let short = id.trim_start_matches("sha256:");
            self.note(&format!("Successfully built {}", &short[..12.min(short.len())]))?;
            for name in names {
                self.note(&format!("Successfully tagged {name}"))?;
            }
            return Ok(());
        }
        self.id(id)
    }
}

/// What the steps of a stage tell.
#[derive(Clone)]
pub struct Report {
    to: Option<(usize, Sender<(usize, Told)>)>,
    style: Style,
    pub(super) trace: Trace,
    /// How the stage is called, how many steps it has, and how many have begun.
    label: String,
    steps: usize,
    at: usize,
    /// The number of the step that is told of among all of the build, whether it was made before, and when it began.
    number: usize,
    numbers: Arc<Mutex<usize>>,
    cached: bool,
    begun: Instant,
    /// Whether it has begun and is not done.
    open: bool,
    /// The container of the step, by the beginning of its id.
    container: String,
    /// What a command said and that is no whole line, or no whole character, yet.
    partial: Vec<u8>,
    /// The last lines of it, for when it fails.
    last: VecDeque<String>,
}

/// No more bytes of what is not told are kept: the last ones.
const SILENT: usize = 16 << 20;
/// So many of the last lines are shown again.
const LAST: usize = 20;
/// The number of the stream for errors.
const STDERR: u8 = 2;
/// A line that is longer is shown in parts.
const LONGEST: usize = 16 * 1024;

impl Report {
    pub fn new(style: Style) -> Report {
        Report {
            to: None,
            style,
            trace: Trace::default(),
            label: String::new(),
            steps: 0,
            at: 0,
            number: 0,
            numbers: Arc::default(),
            cached: false,
            begun: Instant::now(),
            open: false,
            container: String::new(),
            partial: Vec::new(),
            last: VecDeque::new(),
        }
    }

    /// The report of a stage.
    pub fn of(stage: usize, to: Sender<(usize, Told)>, numbers: &Arc<Mutex<usize>>, style: Style) -> Report {
        Report { to: Some((stage, to)), numbers: Arc::clone(numbers), ..Report::new(style) }
    }

    fn tell(&mut self, told: Told) -> Result<()> {
        match &self.to {
            Some((stage, to)) => to.send((*stage, told)).map_err(|_| gone()),
            None => Ok(()),
        }
    }

    fn status(&mut self, status: &SolveStatus) -> Result<()> {
        self.tell(Told::Line(trace::line(status)))
    }

    fn text(&mut self, text: String) -> Result<()> {
        self.tell(Told::Line(ProgressLine::text(text)))
    }

    /// What a pull tells.
    pub fn pulling(&mut self, line: ProgressLine) -> io::Result<()> {
        let line = match self.style {
            Style::Trace => trace::line(&self.trace.moving(&line)),
            _ => line,
        };
        self.tell(Told::Line(line)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// A stage begins.
    pub fn stage(&mut self, label: &str, steps: usize) {
        (self.label, self.steps, self.at) = (label.to_owned(), steps, 0);
    }

    /// There are more steps than was thought.
    pub fn more(&mut self, steps: usize) -> Result<()> {
        self.steps += steps;
        self.tell(Told::More(steps))
    }

    /// A step begins.
    pub fn step(&mut self, text: &str) -> Result<()> {
        self.at += 1;
        (self.cached, self.begun, self.open) = (false, Instant::now(), true);
        self.last.clear();
        self.partial.clear();
        let first = &super::git::shown(text.lines().next().unwrap_or_default());
        if self.style == Style::Stream {
            return self.tell(Told::Step(first.to_owned()));
        }
        // Until it is told: no other stage's step is told before it with a later one.
        let numbers = Arc::clone(&self.numbers);
        let mut latest = numbers.lock().unwrap_or_else(PoisonError::into_inner);
        *latest += 1;
        self.number = *latest;
        let (number, at, steps) = (self.number, self.at, self.steps);
        let name = match self.label.as_str() {
            "" => format!("[{at}/{steps}] {first}"),
            stage => format!("[{stage} {at}/{steps}] {first}"),
        };
        match self.style {
            Style::Trace => {
                let begun = self.trace.begin(number, name);
                self.status(&begun)
            }
            _ => self.text(format!("#{number} {name}\n")),
        }
    }

    /// It ends before it is done, for another one has failed.
    pub fn canceled(&mut self) -> Result<()> {
        match self.style {
            Style::Plain if self.open => self.text(format!("#{} CANCELED\n\n", self.number)),
            // So BuildKit says it.
            Style::Trace => self.broken("context canceled"),
            _ => Ok(()),
        }
    }

    /// The stage tells nothing more.
    pub fn end(&mut self) -> Result<()> {
        self.tell(Told::End)
    }

    /// It was made before.
    pub fn cached(&mut self) -> Result<()> {
        self.cached = true;
        match self.style {
            Style::Plain => self.text(format!("#{} CACHED\n\n", self.number)),
            Style::Trace => Ok(()),
            Style::Stream => self.text(" ---> Using cache\n".to_owned()),
        }
    }

    /// It runs, in this container.
    pub fn running(&mut self, container: &str) -> Result<()> {
        self.container = container[..12.min(container.len())].to_owned();
        match self.style {
            Style::Plain | Style::Trace => Ok(()),
            Style::Stream => self.text(format!(" ---> Running in {}\n", self.container)),
        }
    }

    /// Not all that was asked for holds in the step's container.
    pub fn warn(&mut self, warning: &str) -> Result<()> {
        match self.style {
            Style::Plain | Style::Trace => self.said(STDERR, format!("WARNING: {warning}\n").as_bytes()),
            Style::Stream => self.text(format!(" ---> [Warning] {warning}\n")),
        }
    }

    /// It is done; `id` is what came of it.
    pub fn done(&mut self, id: &str) -> Result<()> {
        self.open = false;
        let container = std::mem::take(&mut self.container);
        match self.style {
            Style::Trace => {
                let ended = self.trace.end(self.cached, "");
                self.status(&ended)
            }
            Style::Plain if self.cached => Ok(()),
            Style::Plain => {
                let took = self.begun.elapsed().as_secs_f64();
                self.text(format!("#{} DONE {took:.1}s\n\n", self.number))
            }
            Style::Stream => {
                if !container.is_empty() {
                    self.text(format!(" ---> Removed intermediate container {container}\n"))?;
                }
                self.text(format!(" ---> {}\n", &id[..12.min(id.len())]))
            }
        }
    }

    /// What a command says on one of its streams, as it comes.
    pub fn said(&mut self, stream: u8, bytes: &[u8]) -> Result<()> {
        if self.style == Style::Trace {
            let said = self.trace.said(stream, bytes);
            return self.status(&said);
        }
        self.partial.extend_from_slice(bytes);
        if self.style == Style::Stream {
            // Characters are not cut.
            let whole = self.partial.len() - incomplete(&self.partial);
            let text: Vec<u8> = self.partial.drain(..whole).collect();
            let text = String::from_utf8_lossy(&text);
            return match stream {
                _ if text.is_empty() => Ok(()),
                // As Docker's first builder marks it: bright red.
                STDERR => self.text(format!("\u{1b}[91m{text}\u{1b}[0m")),
                _ => self.text(text.into_owned()),
            };
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
        let text = match self.style {
            Style::Plain => self.line(&rest),
            _ => String::from_utf8_lossy(&rest).into_owned(),
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

    /// Whether a step is told of that has no end yet.
    pub(super) fn is_open(&self) -> bool {
        match self.style {
            Style::Trace => self.trace.is_open(),
            Style::Plain => self.open,
            Style::Stream => false,
        }
    }

    /// The step failed: its last lines once more, where others may stand between.
    pub fn failed(&mut self, why: &str) -> Result<()> {
        self.open = false;
        match self.style {
            Style::Plain => {}
            Style::Trace => {
                let ended = self.trace.end(false, why);
                return self.status(&ended);
            }
            Style::Stream => return Ok(()),
        }
        // Where it stands in the Dockerfile is told in the end.
        let mut text = format!("#{} ERROR: {}\n", self.number, why.lines().next().unwrap_or_default());
        for line in &self.last {
            text.push_str(&format!(" > {line}\n"));
        }
        self.text(text)
    }
}

/// Nobody reads what is told, or waits for what is made.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("the build was called off")
    }
}

impl std::error::Error for Gone {}

/// The build is called off.
pub fn gone() -> anyhow::Error {
    anyhow::Error::new(Gone)
}

/// Whether an error says that the build was called off.
pub fn is_gone(error: &anyhow::Error) -> bool {
    error.is::<Gone>()
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

    fn told(style: Style, work: impl Fn(&mut Report) -> Result<()>) -> String {
        let (sender, receiver) = crate::channel::bounded(100);
        let mut report = Report::of(0, sender, &Arc::default(), style);
        report.stage("", 2);
        work(&mut report).unwrap();
        drop(report);
        let mut text = String::new();
        let mut sink = |line: ProgressLine| {
            text.push_str(&line.stream);
            Ok(())
        };
        let mut output = Output::new(&mut sink, style, false);
        output.expect(0..1, 2);
        receiver.into_iter().try_for_each(|(stage, told)| output.take(stage, told)).unwrap();
        text
    }

    #[test]
    fn stages_are_told_one_after_the_other_where_nothing_marks_them() {
        let mut text = String::new();
        let mut sink = |line: ProgressLine| {
            text.push_str(&line.stream);
            Ok(())
        };
        let mut output = Output::new(&mut sink, Style::Stream, false);
        output.expect([1, 3, 4].into_iter(), 3);
        let line = |text: &str| Told::Line(ProgressLine::text(format!("{text}\n")));
        for (stage, told) in [
            (3, Told::Step("b".to_owned())),
            (1, Told::Step("a".to_owned())),
            (4, Told::Step("c".to_owned())),
            (3, line("of b")),
            (1, line("of a")),
            (3, Told::End),
            (1, Told::More(1)),
            (1, Told::End),
            (4, line("of c")),
        ] {
            output.take(stage, told).unwrap();
        }
        output.failed(4).unwrap();
        assert_eq!(text, "Step 1/3 : a\nof a\nStep 2/4 : b\nof b\nStep 3/4 : c\nof c\n");
    }

    #[test]
    fn characters_and_lines_stay_whole() {
        let work = |report: &mut Report| {
            report.step("RUN x\nmore")?;
            report.said(1, "a\u{e9}".as_bytes().split_last().unwrap().1)?;
            report.said(1, &[0xa9, b'\n', b'b'])?;
            report.silent()
        };
        assert_eq!(told(Style::Stream, work), "Step 1/2 : RUN x\na\u{e9}\nb");
        let plain = told(Style::Plain, work);
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
