//! What a server answers: read within bounds of time and length, and told where it is no success.

use super::Refused;
use super::endpoint::Answer;
use crate::json;
use crate::json::fields::fields;
use anyhow::Result;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// A document (a manifest, a token, what an error says), however slowly its bytes come.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// What is read of an answer that says no.
const MAX_ERROR_BODY: u64 = 64 * 1024;
/// And what is told of that, in letters.
const MAX_SAID: usize = 1000;

/// A body that must have come within some time: one byte a minute is no stall, but no answer either.
pub struct Timely<R> {
    body: R,
    end: Instant,
}

impl<R: Read> Timely<R> {
    pub fn new(body: R) -> Timely<R> {
        Timely { body, end: Instant::now() + DOCUMENT_TIMEOUT }
    }
}

impl<R: Read> Read for Timely<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.end {
            let seconds = DOCUMENT_TIMEOUT.as_secs();
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it did not come within {seconds} seconds")));
        }
        self.body.read(buffer)
    }
}

impl Refused {
    /// Reads what an answer that is not of success says, in the registry's JSON or not.
    pub(super) fn read(answer: Answer) -> Refused {
        fields! {
            #[derive(Default)]
            struct Said {
                errors: Vec<One>,
                message: String,
                details: String,
            }
        }
        fields! {
            #[derive(Default)]
            struct One {
                code: String,
                message: String,
            }
        }
        let status = answer.status();
        let retry_after = answer.headers().get("Retry-After").and_then(|value| retry_after(value.to_str().ok()?));
        let mut body = Vec::new();
        // Only its words are lost if it cannot be read.
        let _ = Timely::new(answer.into_body().into_reader()).take(MAX_ERROR_BODY).read_to_end(&mut body);
        let said: Said = json::from_slice(&body).unwrap_or_default();
        let (code, message) = match said.errors.into_iter().next() {
            Some(one) => (one.code, one.message),
            None => (String::new(), if said.details.is_empty() { said.message } else { said.details }),
        };
        let (code, message) = (printable(&code), printable(&message));
        let message = if message.is_empty() && code.is_empty() {
            format!("unexpected HTTP status {} {}", status.as_u16(), status.canonical_reason().unwrap_or(""))
                .trim_end()
                .to_owned()
        } else {
            message
        };
        Refused { status: status.as_u16(), code, message, retry_after }
    }
}

/// What a server says, for a message: on one line, of some length, and with nothing that a terminal would obey.
fn printable(text: &str) -> String {
    let mut text: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID + 1).collect();
    if text.chars().count() > MAX_SAID {
        text.pop();
        text.push('…');
    }
    text
}

/// `Retry-After` in seconds. The form with a date is not worth a calendar: it counts as a short pause.
fn retry_after(value: &str) -> Option<Duration> {
    match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => value.ends_with("GMT").then_some(Duration::from_secs(2)),
    }
}

/// The answer, if it is one of success; what the server said, otherwise.
pub fn succeeded(answer: Answer) -> Result<Answer> {
    if answer.status().is_success() { Ok(answer) } else { Err(Refused::read(answer).into()) }
}

/// Reads a short answer to its end, so that its connection can serve again.
pub fn drain(answer: Answer) {
    let _ = io::copy(&mut Timely::new(answer.into_body().into_reader()).take(MAX_ERROR_BODY), &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_what_it_likes_on_one_line() {
        assert_eq!(printable(" gone\nfor\x1b[2Jgood\u{9b}1m "), "gone for [2Jgood 1m");
        let long = printable(&"x".repeat(5000));
        assert_eq!((long.chars().count(), long.ends_with("x…")), (1001, true));
    }

    #[test]
    fn pauses_that_servers_ask_for() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(2)));
        assert_eq!(retry_after("-1"), None);
    }
}
