//! Entries of a log as a client gets them.

use super::encode::Stream;
use super::entry;
use super::{Life, Options};
use crate::api::time::Time;
use crate::json;
use crate::order::Map;
use anyhow::{Context, Result};
use std::io::Write;

/// Gathers frames, and writes many at once.
pub struct Printer<'s> {
    options: Options,
    sink: &'s mut dyn Write,
    out: Vec<u8>,
    /// The text of the present line where something is to stand before it.
    text: Vec<u8>,
    /// Whether the last entry of stdout and of stderr had no newline, so that the next one continues its line.
    open: [bool; 2],
    /// Of whom follows.
    life: Option<&'s dyn Fn() -> Life>,
    /// What was written until then is known to be of this life.
    known: Time,
    /// When another one began.
    another: Option<Time>,
}

/// Written at once.
const BATCH: usize = 64 * 1024;

impl<'s> Printer<'s> {
    pub fn new(options: &Options, sink: &'s mut dyn Write, life: Option<&'s dyn Fn() -> Life>) -> Printer<'s> {
        let options = options.clone();
        let (known, another) = (Time::default(), None);
        Printer { options, sink, out: Vec::new(), text: Vec::new(), open: [false; 2], life, known, another }
    }

    /// Prints the entry in `line`, if it is wanted. False where it is later than all that is wanted.
    pub fn line(&mut self, line: &[u8]) -> Result<bool> {
        let options = &self.options;
        let frame = self.out.len();
        if !options.tty {
            self.out.extend_from_slice(&[0; 8]);
        }
        let prefixed = options.timestamps || options.details;
        self.text.clear();
        let decoded = entry::decode(line, if prefixed { &mut self.text } else { &mut self.out });
        let Some(entry) = decoded else {
            // Torn: the shim was killed while it wrote this.
            self.out.truncate(frame);
            return Ok(true);
        };
        if options.since.is_some() || options.until.is_some() || self.life.is_some() {
            let time = Time::parse(entry.time).unwrap_or_default();
            if let Some(life) = self.life.filter(|_| time > self.known && self.another.is_none()) {
                // Read before the look: what is older is of the life that the look still finds.
                let now = Time::now();
                match life() {
                    Life::Another(begun) => self.another = Some(begun),
                    _ => self.known = now,
                }
            }
            if self.another.is_some_and(|begun| time >= begun) {
                self.out.truncate(frame);
                return Ok(false);
            }
            if options.until.is_some_and(|until| time > until) {
                self.out.truncate(frame);
                return Ok(false);
            }
            if options.since.is_some_and(|since| time < since) {
                self.out.truncate(frame);
                return Ok(true);
            }
        }
        let wanted = match entry.stream {
            Stream::Stdout => options.stdout,
            Stream::Stderr => options.stderr,
        };
        if !wanted {
            self.out.truncate(frame);
            return Ok(true);
        }
        if prefixed {
            let open = &mut self.open[entry.stream as usize - 1];
            if options.timestamps && !*open {
                push_time(entry.time, &mut self.out);
            }
            if options.details && !*open {
                push_details(entry.attributes, &mut self.out);
            }
            *open = !self.text.ends_with(b"\n");
            self.out.extend_from_slice(&self.text);
        }
        if !options.tty {
            let length = (self.out.len() - frame - 8) as u32;
            self.out[frame] = entry.stream as u8;
            self.out[frame + 4..frame + 8].copy_from_slice(&length.to_be_bytes());
        }
        if self.out.len() >= BATCH {
            self.flush()?;
        }
        Ok(true)
    }

    /// Writes out what was gathered. With nothing to write it finds out whether anybody still reads.
    pub fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.sink.write_all(&self.out).context("write log")?;
            self.out.clear();
        }
        self.sink.flush().context("write log")
    }
}

/// `2026-11-23T21:38:13.500000000Z `: all nine digits, so that lines align.
fn push_time(time: &str, out: &mut Vec<u8>) {
    let (seconds, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((time.trim_end_matches('Z'), ""));
    out.extend_from_slice(seconds.as_bytes());
    out.push(b'.');
    out.extend(fraction.bytes().chain(std::iter::repeat(b'0')).take(9));
    out.extend_from_slice(b"Z ");
}

/// `key=value,key=value `, escaped as in a query.
fn push_details(attributes: &[u8], out: &mut Vec<u8>) {
    let attributes: Map<String, String> = json::from_slice(attributes).unwrap_or_default();
    for (index, (key, value)) in attributes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_escaped(key, out);
        out.push(b'=');
        push_escaped(value, out);
    }
    out.push(b' ');
}

fn push_escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}
