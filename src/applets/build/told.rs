//! How a build is told: as it goes on a terminal, in lines, as BuildKit's JSON, or not at all.

use super::super::{progress, terminal};
use super::display::Display;
use super::lines;
use super::warned::Warned;
use crate::api::types::{ProgressLine, SolveStatus};
use crate::build::trace::{self, Trace};
use crate::channel;
use crate::json;
use crate::log;
use anyhow::{Result, anyhow, bail};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Tty,
    Plain,
    RawJson,
    Quiet,
}

impl Mode {
    /// What the flag says, or the variable `BUILDKIT_PROGRESS`.
    pub fn of(flag: Option<&str>, quiet: bool) -> Result<Mode> {
        let variable = std::env::var("BUILDKIT_PROGRESS").ok();
        Mode::read(flag, variable.as_deref(), quiet, std::io::stderr().is_terminal())
    }

    fn read(flag: Option<&str>, variable: Option<&str>, quiet: bool, terminal: bool) -> Result<Mode> {
        let wanted = flag.or(variable).unwrap_or_default();
        if quiet && !matches!(wanted, "" | "auto" | "quiet") && flag.is_some() {
            bail!("progress={wanted} and quiet cannot be used together");
        }
        Ok(match wanted {
            _ if quiet => Mode::Quiet,
            "" | "auto" if terminal => Mode::Tty,
            "" | "auto" | "plain" => Mode::Plain,
            "tty" if terminal => Mode::Tty,
            "tty" => bail!("failed to get console: stderr is no terminal"),
            "rawjson" => Mode::RawJson,
            "quiet" => Mode::Quiet,
            other => bail!("invalid progress mode {other}: auto, plain, tty, quiet or rawjson"),
        })
    }

    /// What is asked of who builds.
    pub fn query(self) -> &'static str {
        match self {
            Mode::Tty | Mode::RawJson => "trace",
            Mode::Plain | Mode::Quiet => "plain",
        }
    }
}

/// How often a terminal is drawn at most, and at least.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_millis(150);

/// A terminal that is drawn also while nothing comes: time goes on.
struct Screen {
    display: Arc<Mutex<(Display, Instant)>>,
    stop: Option<channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Screen {
    fn new() -> Screen {
        let display = Arc::new(Mutex::new((Display::new(std::env::var_os("NO_COLOR").is_none()), Instant::now())));
        let (stop, stopped) = channel::channel();
        let shared = Arc::clone(&display);
        let thread = std::thread::spawn(move || {
            while let Err(channel::RecvTimeoutError::Timeout) = stopped.recv_timeout(LATE) {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if shared.1.elapsed() >= LATE {
                    draw(&mut shared, false);
                }
            }
        });
        Screen { display, stop: Some(stop), thread: Some(thread) }
    }

    fn update(&mut self, status: SolveStatus) {
        let mut shared = self.display.lock().unwrap_or_else(PoisonError::into_inner);
        shared.0.update(status);
        if shared.1.elapsed() >= SOON {
            draw(&mut shared, false);
        }
    }
}

/// The last picture stays, also where the build is called off.
impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
        draw(&mut self.display.lock().unwrap_or_else(PoisonError::into_inner), true);
    }
}

fn draw(shared: &mut (Display, Instant), end: bool) {
    let mut stderr = std::io::stderr().lock();
    let size = terminal::size(&std::io::stderr()).unwrap_or((24, 80));
    // Nobody is told where a terminal has gone.
    let _ = stderr.write_all(shared.0.draw(size, end).as_bytes()).and_then(|()| stderr.flush());
    shared.1 = Instant::now();
}

/// Takes the lines of the answer.
pub struct Told<'a> {
    mode: Mode,
    screen: Option<Screen>,
    lines: progress::Progress<'a>,
    warned: Warned,
    /// The image's id, once it was told.
    pub id: String,
}

impl<'a> Told<'a> {
    pub fn new(mode: Mode, errors: &'a mut std::io::Stderr) -> Told<'a> {
        let lines = progress::Progress::new(errors, &std::io::stderr(), mode == Mode::Quiet);
        let warned = Warned::new(log::is_told(log::Level::Debug));
        Told { mode, screen: None, lines, warned, id: String::new() }
    }

    /// Shows one line, whole and with its end.
    pub fn line(&mut self, text: &[u8], line: &ProgressLine) -> std::io::Result<()> {
        if let Some(aux) = &line.aux {
            if line.id == SolveStatus::ID {
                self.status(aux)?;
            } else if let Some(id) = aux.get("ID").and_then(|id| id.as_str()) {
                self.id = id.to_owned();
            }
            return Ok(());
        }
        self.lines.write_all(text)
    }

    fn status(&mut self, status: &serde_json::Value) -> std::io::Result<()> {
        if self.mode == Mode::RawJson {
            return writeln!(std::io::stderr().lock(), "{status}");
        }
        let status: SolveStatus = json::from_value(status.clone())?;
        status.warnings.iter().for_each(|warning| self.warned.add(warning));
        if self.mode == Mode::Tty {
            self.screen.get_or_insert_with(Screen::new).update(status);
        }
        Ok(())
    }

    /// Whether the answer ended with an error.
    pub fn has_failed(&self) -> bool {
        self.lines.has_failed()
    }

    /// What a push of this command's tells, under its own name.
    pub fn pushing(&mut self, name: &str) -> Pushing<'_, 'a> {
        let mut trace = Trace::default();
        let begun = trace.begin(0, format!("pushing {name}"));
        let mut pushing = Pushing { told: self, trace, partial: Vec::new(), digest: None, error: None };
        pushing.show(&begun, &ProgressLine::text(format!("pushing {name}\n")));
        pushing
    }

    /// Nothing more comes. Gives the error that ended the answer, if any.
    pub fn finish(self) -> Result<String> {
        drop(self.screen);
        if self.mode != Mode::Quiet {
            let colours = self.mode == Mode::Tty && std::env::var_os("NO_COLOR").is_none();
            let _ = std::io::stderr().lock().write_all(self.warned.show(colours).as_bytes());
        }
        self.lines.finish().map_err(|message| anyhow!(message))?;
        Ok(self.id)
    }
}

/// Takes the lines of a push.
pub struct Pushing<'t, 'a> {
    told: &'t mut Told<'a>,
    trace: Trace,
    partial: Vec<u8>,
    /// Of the manifest.
    digest: Option<String>,
    error: Option<String>,
}

impl Pushing<'_, '_> {
    /// One of them, as this mode has it. What cannot be shown is no reason to end a push.
    fn show(&mut self, status: &SolveStatus, line: &ProgressLine) {
        let line = match self.told.mode {
            Mode::Tty | Mode::RawJson => &trace::line(status),
            Mode::Plain | Mode::Quiet => line,
        };
        if let Ok(mut text) = serde_json::to_vec(line) {
            text.push(b'\n');
            let _ = self.told.line(&text, line);
        }
    }

    fn take(&mut self, text: &[u8]) -> std::io::Result<()> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: ProgressLine = json::from_slice(text)?;
        if let Some(detail) = &line.error_detail {
            self.error = Some(detail.message.clone());
        } else if let Some(aux) = &line.aux {
            self.digest = aux.get("Digest").and_then(|it| it.as_str()).map(str::to_owned).or(self.digest.take());
        } else {
            let status = self.trace.moving(&line);
            self.show(&status, &line);
        }
        Ok(())
    }

    /// It has ended like this. Gives the digest of what was pushed.
    pub fn finish(mut self, sent: Result<()>) -> Result<Option<String>> {
        let outcome = sent.and_then(|()| self.error.take().map_or(Ok(()), |error| Err(anyhow!(error))));
        let why = outcome.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        if matches!(self.told.mode, Mode::Tty | Mode::RawJson) {
            let ended = self.trace.end(false, &why);
            self.show(&ended, &ProgressLine::default());
        }
        outcome.map(|()| self.digest)
    }
}

impl Write for Pushing<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut partial = std::mem::take(&mut self.partial);
        lines::each(&mut partial, bytes, |line| self.take(line))?;
        self.partial = partial;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (flag, variable, quiet, terminal, mode) in [
            (None, None, false, false, Mode::Plain),
            (None, None, false, true, Mode::Tty),
            (Some("auto"), Some("plain"), false, true, Mode::Tty),
            (None, Some("plain"), false, true, Mode::Plain),
            (None, Some("rawjson"), false, true, Mode::RawJson),
            (Some("tty"), None, false, true, Mode::Tty),
            (Some("quiet"), None, false, true, Mode::Quiet),
            (None, Some("plain"), true, true, Mode::Quiet),
        ] {
            assert_eq!(Mode::read(flag, variable, quiet, terminal).unwrap(), mode, "{flag:?} {variable:?}");
        }
        for (flag, quiet, words) in [
            ("tty", false, "failed to get console"),
            ("x", false, "invalid progress mode x"),
            ("plain", true, "together"),
        ] {
            let error = Mode::read(Some(flag), None, quiet, false).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
