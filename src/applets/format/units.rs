//! Sizes and times as Docker's CLI prints them.

use super::functions::general;
use crate::api::time::{self, Time};
use crate::applets::face;
use crate::sys;
use anyhow::{Result, anyhow};

/// A size with units of 1000 and that many digits: 3 in lists (`1.99MB`), 4 elsewhere (`1.989MB`).
pub fn decimal(bytes: i64, digits: usize) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], digits)
}

/// A size with units of 1024 and four digits: `62.5MiB`.
pub fn binary(bytes: i64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(mut size: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    let sign = if size < 0.0 { "-" } else { "" };
    format!("{sign}{}{}", general(size.abs(), Some(digits)), units[unit])
}

/// How long ago a time was: `About an hour ago`.
pub fn ago(then: Time) -> String {
    format!("{} ago", time::rough(Time::now().seconds - then.seconds))
}

/// A time as lists print it, in the zone of this machine: `2026-11-23 21:38:13 +0000 UTC`.
pub fn spoken(time: Time) -> String {
    let (east, zone) = sys::time::zone(time.seconds);
    time.spoken(east, &zone)
}

/// A time that an answer tells in RFC 3339, as lists print it in the zone that the answer has it in.
pub fn spoken_as_told(text: &str) -> String {
    let Some((local, Some(east))) = Time::parse_local(text) else { return text.to_owned() };
    let time = Time { seconds: local.seconds - i64::from(east), ..local };
    let here = sys::time::zone(time.seconds);
    let zone = match () {
        () if text.ends_with(['Z', 'z']) => "UTC".to_owned(),
        () if here.0 == east => here.1,
        // A zone without a name is called by its hours.
        () => format!("{}{:02}{:02}", if east < 0 { '-' } else { '+' }, east.abs() / 3600, east.abs() / 60 % 60),
    };
    time.spoken(east, &zone)
}

/// A time as RFC 3339 in the zone of this machine: `2026-11-23T21:38:13Z`, `2026-11-23T22:38:13+01:00`.
pub fn zoned(time: Time) -> String {
    let (east, zone) = zone(time);
    let local = Time { seconds: time.seconds + i64::from(east), ..time };
    local.write(&mut [0; time::TEXT]).trim_end_matches('Z').to_owned() + &zone
}

/// The same with all nine digits of the fraction: `2026-11-23T21:38:13.500000000Z`.
pub fn zoned_exact(time: Time) -> String {
    let (east, zone) = zone(time);
    let local = Time { seconds: time.seconds + i64::from(east), nanos: 0 };
    format!("{}.{:09}{zone}", local.write(&mut [0; time::TEXT]).trim_end_matches('Z'), time.nanos)
}

/// Seconds east of UTC, and the end of RFC 3339 that says so: `Z`, `+01:00`.
fn zone(time: Time) -> (i32, String) {
    let (east, _) = sys::time::zone(time.seconds);
    let minutes = east.abs() / 60;
    let sign = if east < 0 { '-' } else { '+' };
    let text = if east == 0 { "Z".to_owned() } else { format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60) };
    (east, text)
}

/// What people give to `--since` and `--until`, as the seconds with a fraction that the API takes: a Go duration ago
/// (`10m`), RFC 3339 and its shorter forms in the zone of this machine, or seconds since 1970.
pub fn timestamp(text: &str) -> Result<String> {
    if let Some(ago) = time::parse_duration(text).filter(|_| text != "0") {
        return Ok(unix(Time::from_unix_nanos(Time::now().unix_nanos() - i128::from(ago))));
    }
    if let Some((local, zone)) = Time::parse_local(text) {
        let east = zone.unwrap_or_else(|| sys::time::zone(local.seconds).0);
        return Ok(unix(Time { seconds: local.seconds - i64::from(east), ..local }));
    }
    match Time::from_unix_text(text) {
        Some(_) => Ok(text.into()),
        None if face::is_docker() => Err(anyhow!("failed to parse value as time or duration: {text:?}")),
        None => Err(anyhow!(
            "{text:?} is neither a time (2026-01-02T15:04:05Z), nor seconds since 1970, nor a duration (10m)"
        )),
    }
}

fn unix(time: Time) -> String {
    format!("{}.{:09}", time.seconds, time.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_printed_in_the_zone_that_it_is_told_in() {
        for (told, spoken) in [
            ("2026-11-23T21:38:13.5Z", "2026-11-23 21:38:13.5 +0000 UTC"),
            ("2026-11-23T21:38:13+05:45", "2026-11-23 21:38:13 +0545 +0545"),
            ("2026-11-23T21:38:13.25-03:00", "2026-11-23 21:38:13.25 -0300 -0300"),
            ("some day", "some day"),
        ] {
            assert_eq!(spoken_as_told(told), spoken);
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1000B"),
            (1_989_000, "1.99MB", "1.897MiB"),
            (65_536_000, "65.5MB", "62.5MiB"),
            (999_999, "1e+03kB", "976.6KiB"),
            (1 << 40, "1.1TB", "1TiB"),
            (i64::MAX, "9.22EB", "8EiB"),
        ];
        for (bytes, in_decimal, in_binary) in cases {
            assert_eq!(decimal(bytes, 3), in_decimal);
            assert_eq!(binary(bytes), in_binary);
        }
    }

    #[test]
    fn timestamps() {
        assert_eq!(timestamp("2026-11-23T21:38:13.5Z").unwrap(), "1795469893.500000000");
        assert_eq!(timestamp("2026-11-23T23:38:13+02:00").unwrap(), "1795469893.000000000");
        assert_eq!(timestamp("1136073600.000000001").unwrap(), "1136073600.000000001");
        assert_eq!(timestamp("0").unwrap(), "0");
        let ago: f64 = timestamp("1h").unwrap().parse().unwrap();
        assert!((Time::now().seconds as f64 - ago - 3600.0).abs() < 600.0);
        assert!(timestamp("yesterday").is_err());
        assert!(timestamp("").is_err());
    }
}
