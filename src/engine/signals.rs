//! Signals by name and number, as Docker reads them.

use crate::api::Refusal;
use anyhow::{Result, bail};
use nix::sys::signal::Signal;

/// Whether a signal is meant to end a container, so that it stays so whatever its restart policy says: the one that
/// stops it (SIGTERM where nothing is said), and those that people end programs with.
pub fn ends(signal: i32, stop_signal: &str) -> bool {
    matches!(signal, libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
        || parse(stop_signal).ok() == Some(signal)
}

/// Reads `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub fn parse(text: &str) -> Result<i32> {
    let invalid = || Refusal::BadParameter(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            1..=64 => Ok(number),
            0 => bail!(invalid()),
            _ => bail!(Refusal::BadParameter(format!("the linux daemon does not support signal {number}"))),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Other names of the same.
    let name = match name {
        "POLL" => "IO",
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "UNUSED" => "SYS",
        name => name,
    };
    // The kernel's first real-time signals that a program may use; the C library keeps those below for itself.
    let (first, last) = (34, 64);
    let number = match name.split_at_checked(5) {
        Some(("RTMIN", rest)) => offset(rest, '+').map(|by| first + by),
        Some(("RTMAX", rest)) => offset(rest, '-').map(|by| last - by),
        _ => name.parse::<Name>().ok().map(|name| name.0),
    };
    match number.filter(|number| (1..=64).contains(number)) {
        Some(number) => Ok(number),
        None => bail!(invalid()),
    }
}

fn offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok().filter(|by| (0..=30).contains(by))
}

struct Name(i32);

impl std::str::FromStr for Name {
    type Err = nix::errno::Errno;

    fn from_str(name: &str) -> Result<Name, nix::errno::Errno> {
        format!("SIG{name}").parse::<Signal>().map(|signal| Name(signal as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("sigkill", 9),
            ("POLL", 29),
            ("SIGIOT", 6),
            ("9", 9),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("HUP", 1),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "FOO", "RTMIN+99", "SIGSIGTERM", "-9"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
