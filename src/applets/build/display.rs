//! What a build shows on a terminal: its steps with their times, and the last lines of those that run. All of it is drawn
//! anew each time over what was drawn before.

use super::super::format::{table, units};
use crate::api::base64;
use crate::api::time::Time;
use crate::api::types::{SolveStatus, Vertex, VertexStatus};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many of the last lines of a step that runs.
const LINES: usize = 6;
/// So many of one that has failed.
const LAST: usize = 20;

struct Step {
    vertex: Vertex,
    begun: Instant,
    took: Option<Duration>,
    parts: Vec<VertexStatus>,
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

/// A line as it is drawn, and its colour.
#[derive(Debug, PartialEq)]
struct Line {
    text: String,
    colour: Option<&'static str>,
    /// It may be left out where there is no room: what is done, and lines of steps.
    spare: bool,
}

/// All of it.
pub struct Display {
    begun: Instant,
    steps: Vec<Step>,
    colours: bool,
    /// How wide the lines are that stand there now.
    drawn: Vec<usize>,
}

impl Display {
    pub fn new(colours: bool) -> Display {
        Display { begun: Instant::now(), steps: Vec::new(), colours, drawn: Vec::new() }
    }

    /// Takes what has changed.
    pub fn update(&mut self, status: SolveStatus) {
        for vertex in status.vertexes {
            let at = self.steps.iter().position(|step| step.vertex.digest == vertex.digest);
            let step = match at {
                Some(at) => &mut self.steps[at],
                None => {
                    let (begun, vertex) = (Instant::now(), Vertex::default());
                    let (parts, lines, partial) = (Vec::new(), VecDeque::new(), Vec::new());
                    self.steps.push(Step { vertex, begun, took: None, parts, lines, partial });
                    let last = self.steps.len() - 1;
                    &mut self.steps[last]
                }
            };
            if vertex.completed.is_some() && step.took.is_none() {
                step.took = Some(between(&vertex).unwrap_or_else(|| step.begun.elapsed()));
            }
            step.vertex = vertex;
        }
        for part in status.statuses {
            let Some(step) = self.steps.iter_mut().find(|step| step.vertex.digest == part.vertex) else { continue };
            match step.parts.iter_mut().find(|known| known.id == part.id) {
                Some(known) => *known = part,
                None => step.parts.push(part),
            }
        }
        for log in status.logs {
            let Some(step) = self.steps.iter_mut().find(|step| step.vertex.digest == log.vertex) else { continue };
            step.partial.extend(base64::decode(&log.data).unwrap_or_default());
            while let Some(end) = step.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = step.partial.drain(..=end).collect();
                if step.lines.len() == LAST {
                    step.lines.pop_front();
                }
                step.lines.push_back(plain(&line));
            }
        }
    }

    /// The text that draws it over what was drawn last, on a terminal of that size. `end`: for the last time.
    pub fn draw(&mut self, (rows, columns): (u16, u16), end: bool) -> String {
        let columns = usize::from(columns).max(20);
        let mut lines = self.lines(columns - 1, end);
        if !end {
            fit(&mut lines, usize::from(rows).saturating_sub(2).max(1));
        }
        // A terminal that became narrower has wrapped what was drawn.
        let above: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        let mut text = String::from("\x1b[?25l");
        if above > 0 {
            text.push_str(&format!("\x1b[{above}A"));
        }
        text.push_str("\r\x1b[J");
        self.drawn = lines.iter().map(|line| line.text.chars().count()).collect();
        for Line { text: line, colour, .. } in lines {
            match colour.filter(|_| self.colours) {
                Some(colour) => text.push_str(&format!("\x1b[{colour}m{line}\x1b[0m\n")),
                None => text.push_str(&format!("{line}\n")),
            }
        }
        text.push_str("\x1b[?25h");
        if end {
            self.drawn.clear();
            text.push_str(&self.failures());
        }
        text
    }

    fn lines(&self, width: usize, end: bool) -> Vec<Line> {
        let done = self.steps.iter().filter(|step| step.took.is_some()).count();
        let well = self.steps.iter().all(|step| step.took.is_some() && step.vertex.error.is_empty());
        let finished = if end && well { " FINISHED" } else { "" };
        let seconds = self.begun.elapsed().as_secs_f64();
        let head = format!("[+] Building {seconds:.1}s ({done}/{}){finished}", self.steps.len());
        let line = |text: &str, time: Option<Duration>, colour, spare| {
            let time = time.map_or(String::new(), |time| format!("{:.1}s", time.as_secs_f64()));
            let room = width.saturating_sub(time.len() + 1);
            let text = table::ellipsis(text, room);
            let gap = width.saturating_sub(text.chars().count() + time.len());
            let text = if time.is_empty() { text } else { format!("{text}{}{time}", " ".repeat(gap)) };
            Line { text, colour, spare }
        };
        let mut lines = vec![line(&head, None, Some("1"), false)];
        for step in &self.steps {
            let error = step.vertex.error.as_str();
            let (mark, colour) = match (error, step.took, step.vertex.cached) {
                ("", None, _) => ("", None),
                ("", Some(_), false) => ("", Some("34")),
                ("", Some(_), true) => ("CACHED ", Some("34")),
                ("context canceled", ..) => ("CANCELED ", Some("33")),
                _ => ("ERROR ", Some("31")),
            };
            let running = step.took.is_none();
            let time = step.took.unwrap_or_else(|| step.begun.elapsed());
            lines.push(line(&format!(" => {mark}{}", step.vertex.name), Some(time), colour, !running));
            if !running || end {
                continue;
            }
            for part in step.parts.iter().filter(|part| part.completed.is_none()) {
                let size = |bytes: u64| units::decimal(i64::try_from(bytes).unwrap_or(i64::MAX), 4);
                let counts = match (part.current, part.total) {
                    (0, 0) => String::new(),
                    (current, 0) => format!(" {}", size(current)),
                    (current, total) => format!(" {} / {}", size(current), size(total)),
                };
                let shown = if part.name.is_empty() { &part.id } else { &part.name };
                lines.push(line(&format!(" => => {shown}{counts}"), None, None, true));
            }
            let said = step.lines.iter().skip(step.lines.len().saturating_sub(LINES));
            lines.extend(said.map(|said| line(&format!(" => => # {said}"), None, None, true)));
        }
        lines
    }

    /// The last lines of what has failed.
    fn failures(&self) -> String {
        let mut text = String::new();
        let failed = |step: &&Step| !step.vertex.error.is_empty() && step.vertex.error != "context canceled";
        for step in self.steps.iter().filter(failed) {
            text.push_str(&format!("------\n > {}:\n", step.vertex.name));
            step.lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
            if !step.partial.is_empty() {
                text.push_str(&format!("{}\n", plain(&step.partial)));
            }
            text.push_str("------\n");
        }
        text
    }
}

/// How long a step took, by its own times.
fn between(vertex: &Vertex) -> Option<Duration> {
    let nanos = |text: &Option<String>| Some(Time::parse(text.as_deref()?)?.unix_nanos());
    let took = nanos(&vertex.completed)? - nanos(&vertex.started)?;
    u64::try_from(took).ok().map(Duration::from_nanos)
}

/// Leaves lines out, the oldest first, until there is room.
fn fit(lines: &mut Vec<Line>, rows: usize) {
    while lines.len() > rows {
        // Where all of them run, the first ones must go too; the head stays.
        let spare = lines.iter().position(|line| line.spare).unwrap_or(1.min(lines.len() - 1));
        lines.remove(spare);
    }
}

/// A line that a step said, without what would move the cursor.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let text = text.rsplit('\r').next().unwrap_or_default();
    let (mut out, mut escape) = (String::new(), false);
    for letter in text.chars() {
        match letter {
            '\x1b' => escape = true,
            // What an escape begins ends with a letter.
            _ if escape => escape = !(letter.is_ascii_alphabetic() || letter == '\x07'),
            '\t' => out.push_str("    "),
            letter if letter.is_control() => {}
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::VertexLog;

    fn vertex(name: &str, completed: bool, cached: bool, error: &str) -> Vertex {
        Vertex {
            digest: name.to_owned(),
            name: name.to_owned(),
            started: Some("2024-01-01T00:00:00Z".to_owned()),
            completed: completed.then(|| "2024-01-01T00:00:02.5Z".to_owned()),
            cached,
            error: error.to_owned(),
            ..Vertex::default()
        }
    }

    fn shown(display: &mut Display, size: (u16, u16), end: bool) -> Vec<String> {
        display.draw(size, end).lines().map(str::to_owned).collect()
    }

    #[test]
    fn steps_are_drawn_over_what_was_drawn() {
        let mut display = Display::new(false);
        let log = |text: &str| VertexLog {
            vertex: "run".to_owned(),
            data: base64::encode(text.as_bytes()),
            ..VertexLog::default()
        };
        display.update(SolveStatus {
            vertexes: vec![
                vertex("from", true, false, ""),
                vertex("copy", true, true, ""),
                vertex("run", false, false, ""),
            ],
            logs: vec![log("one\n\x1b[31mtwo\x1b[0m\x1b[2A\nhal")],
            ..SolveStatus::default()
        });
        let first = shown(&mut display, (24, 40), false);
        assert!(first[0].starts_with("\x1b[?25l\r\x1b[J[+] Building 0.") && first[0].ends_with("(2/3)"), "{first:?}");
        assert_eq!(first[1], " => from                           2.5s");
        assert_eq!(first[2], " => CACHED copy                    2.5s");
        assert!(first[3].starts_with(" => run ") && first[3].chars().count() == 39, "{first:?}");
        assert_eq!(first[4..6], [" => => # one", " => => # two"]);
        // Six lines stand there; narrower, those of 39 take two rows each.
        let second = shown(&mut display, (24, 30), false);
        assert!(second[0].contains("\x1b[9A\r\x1b[J"), "{second:?}");
        // Where there is no room what is done goes first.
        let third = shown(&mut display, (5, 30), false);
        assert_eq!(third.len(), 4, "{third:?}");
        assert!(third[1].starts_with(" => run"), "{third:?}");
        display.update(SolveStatus {
            vertexes: vec![vertex("run", true, false, "exit code: 1")],
            logs: vec![log("f\n")],
            ..SolveStatus::default()
        });
        let last = shown(&mut display, (5, 30), true).join("\n");
        assert!(last.contains(" => ERROR run") && !last.contains("FINISHED"), "{last}");
        assert!(last.ends_with("------\n > run:\none\ntwo\nhalf\n------"), "{last}");
        let mut display = Display::new(false);
        display.update(SolveStatus { vertexes: vec![vertex("a", true, false, "")], ..SolveStatus::default() });
        assert!(display.draw((24, 80), true).contains("(1/1) FINISHED\n"));
    }
}
