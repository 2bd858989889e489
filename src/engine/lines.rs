//! The progress of a pull or a push as Docker's clients read it: one JSON object a line.

use crate::api::types::{ProgressDetail, ProgressLine};
use crate::channel::{Receiver, RecvTimeoutError, Sender, channel};
use anyhow::{Result, anyhow};
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often a client to which there is nothing to say is looked at.
const GLANCE: Duration = Duration::from_secs(1);
/// Of lines that tell how far a layer is, only so many wait for a client that does not read.
const MOVING: usize = 64;
/// And so many of all.
const WAITING: usize = 4096;

/// Where the lines of progress go. An error means that nobody reads on: the work is called off.
pub type Sink<'a> = &'a mut dyn FnMut(ProgressLine) -> io::Result<()>;

/// Does some work whose lines go to `out`; what goes wrong is the last of them. `cancel` is called when nobody takes
/// them any more.
pub fn stream(
    out: &mut dyn Write,
    cancel: impl FnOnce(),
    work: impl FnOnce(Sink) -> Result<()> + Send,
) -> io::Result<()> {
    let (tell, told) = channel();
    let waiting = AtomicUsize::new(0);
    let (gone, done) = std::thread::scope(|scope| {
        let waiting = &waiting;
        let working = scope.spawn(move || work(&mut |line| hand_on(line, waiting, &tell)));
        let gone = pass_on(&told, waiting, out).err();
        if gone.is_some() {
            cancel();
        }
        // Nobody listens any more: that calls the work off.
        drop(told);
        (gone, working.join().unwrap_or_else(|_| Err(anyhow!("it panicked"))))
    });
    match (gone, done) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => write(out, &ProgressLine::failed(format!("{error:#}"))),
    }
}

/// Gives a line to who writes it. A client that is slow misses some, but holds up neither this work nor those that wait
/// for layers of it.
fn hand_on(line: ProgressLine, waiting: &AtomicUsize, tell: &Sender<ProgressLine>) -> io::Result<()> {
    let most = if line.progress.is_empty() { WAITING } else { MOVING };
    if waiting.load(Ordering::Relaxed) >= most {
        return Ok(());
    }
    waiting.fetch_add(1, Ordering::Relaxed);
    tell.send(line).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Writes lines as they come, until there are no more or nobody takes them.
fn pass_on(told: &Receiver<ProgressLine>, waiting: &AtomicUsize, out: &mut dyn Write) -> io::Result<()> {
    loop {
        match told.recv_timeout(GLANCE) {
            Ok(line) => {
                waiting.fetch_sub(1, Ordering::Relaxed);
                write(out, &line)?;
            }
            // Says whether the client has gone.
            Err(RecvTimeoutError::Timeout) => out.flush()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Writes a line.
pub fn write(out: &mut dyn Write, line: &ProgressLine) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.extend_from_slice(b"\r\n");
    out.write_all(&bytes)
}

/// A line about a layer that has no numbers.
pub fn layer(id: &str, status: &str) -> ProgressLine {
    ProgressLine::layer(id, status, ProgressDetail::default())
}

/// A line about how far a layer is, with the bar as text for clients that show it as it comes.
pub fn moving(id: &str, status: &str, current: u64, total: u64) -> ProgressLine {
    let detail = ProgressDetail { current, total };
    ProgressLine { progress: bar(current, total), ..ProgressLine::layer(id, status, detail) }
}

/// `[=====>      ]   1.2MB/3.4MB`, as wide as Docker's.
fn bar(current: u64, total: u64) -> String {
    if total == 0 {
        return format!("{:>8}", size(current));
    }
    let done = (current.saturating_mul(100) / total / 2).min(50) as usize;
    let numbers =
        if current > total { format!("{:>8}", size(current)) } else { format!("{:>8}/{}", size(current), size(total)) };
    format!("[{}>{}] {numbers}", "=".repeat(done), " ".repeat(50 - done))
}

/// Bytes with units of 1000 and four digits.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        v if unit == 0 || v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        let spaces = |n| " ".repeat(n);
        for (current, total, text) in [
            (0, 100, format!("[>{}]       0B/100B", spaces(50))),
            (1_500_000, 3_000_000, format!("[{}>{}]    1.5MB/3MB", "=".repeat(25), spaces(25))),
            (216_123_456, 216_123_456, format!("[{}>]  216.1MB/216.1MB", "=".repeat(50))),
            (5, 0, "      5B".to_owned()),
        ] {
            assert_eq!(bar(current, total), text);
        }
        assert_eq!(size(12_345), "12.35kB");
    }

    #[test]
    fn lines_are_dockers() {
        let json = |line: &ProgressLine| serde_json::to_string(line).unwrap();
        assert_eq!(
            json(&layer("0123456789ab", "Pulling fs layer")),
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}"#
        );
        assert!(
            json(&moving("0123456789ab", "Downloading", 5, 10))
                .starts_with(r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"progress":"[==="#)
        );
    }
}
