//! Points in time and durations, as Docker's API and Go write them.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time, in UTC. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds into the second, below 1 000 000 000.
    pub nanos: u32,
}

const NANOS: i128 = 1_000_000_000;

/// The longest text of a time: `2006-01-02T15:04:05.999999999Z`.
pub const TEXT: usize = 30;

impl Time {
    pub fn now() -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
    }

    /// Nanoseconds since 1970.
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.seconds) * NANOS + i128::from(self.nanos)
    }

    /// From nanoseconds since 1970; what lies out of reach becomes the first or last second there is.
    pub fn from_unix_nanos(nanos: i128) -> Time {
        let seconds = nanos.div_euclid(NANOS).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        Time { seconds, nanos: nanos.rem_euclid(NANOS) as u32 }
    }

    /// From the text of seconds since 1970 with a fraction, `1136073600.000000001`: what clients send as since and until.
    pub fn from_unix_text(text: &str) -> Option<Time> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || !whole.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nanos = i128::from(whole.parse::<i64>().ok()?) * NANOS + i128::from(fraction_nanos(fraction)?);
        Some(Time::from_unix_nanos(if negative { -nanos } else { nanos }))
    }

    /// Reads RFC 3339 with an optional fraction, `2006-01-02T15:04:05.999999999Z` or `…+02:00`.
    pub fn parse(text: &str) -> Option<Time> {
        let (time, zone) = Time::parse_local(text)?;
        Some(Time { seconds: time.seconds - i64::from(zone?), ..time })
    }

    /// Reads the date of a header of HTTP (RFC 9110, section 5.6.7), in the form that servers send:
    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn parse_http(text: &str) -> Option<Time> {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let words: Vec<&str> = text.split(' ').collect();
        let [_, day, month, year, time, "GMT"] = words[..] else { return None };
        let month = MONTHS.iter().position(|name| *name == month)? + 1;
        (day.len() == 2 && time.len() == 8).then(|| Time::parse(&format!("{year}-{month:02}-{day}T{time}Z")))?
    }

    /// Reads RFC 3339 and its shorter forms, without a zone, seconds, minutes or time of day. Gives the time as if it
    /// were in UTC, and the seconds east of it that the text names.
    pub fn parse_local(text: &str) -> Option<(Time, Option<i32>)> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = bytes.get(from..to)?;
            digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
        };
        let mark = |at: usize, mark: u8| (bytes.get(at) == Some(&mark)).then_some(());
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        mark(4, b'-')?;
        mark(7, b'-')?;
        if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
            return None;
        }
        let mut seconds = days_from_civil(year, month, day) * 86_400;
        let mut nanos = 0;
        let mut end = 10;
        if matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
            let (hour, minute) = (number(11, 13)?, number(14, 16)?);
            mark(13, b':')?;
            end = 16;
            let mut second = 0;
            if bytes.get(16) == Some(&b':') {
                second = number(17, 19)?;
                end = 19;
                if matches!(bytes.get(19), Some(b'.' | b',')) {
                    let digits = bytes[20..].iter().take_while(|b| b.is_ascii_digit()).count();
                    nanos = fraction_nanos(text.get(20..20 + digits)?).filter(|_| digits > 0)?;
                    end = 20 + digits;
                }
            }
            if hour > 23 || minute > 59 || second > 59 {
                return None;
            }
            seconds += hour * 3600 + minute * 60 + second;
        }
        let zone = match bytes.get(end) {
            None => None,
            Some(b'Z' | b'z') if bytes.len() == end + 1 => Some(0),
            Some(sign @ (b'+' | b'-')) if bytes.len() == end + 6 => {
                let (hours, minutes) = (number(end + 1, end + 3)?, number(end + 4, end + 6)?);
                mark(end + 3, b':')?;
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let east = (hours * 3600 + minutes * 60) as i32;
                Some(if *sign == b'-' { -east } else { east })
            }
            Some(_) => return None,
        };
        Some((Time { seconds, nanos }, zone))
    }

    /// Reads what an `until` or `since` of a list or a prune says: seconds since 1970, RFC 3339 or its shorter forms
    /// (UTC where they name no zone), or how long before `now`.
    pub fn parse_ago(text: &str, now: Time) -> Option<Time> {
        if let Some(time) = Time::from_unix_text(text) {
            return Some(time);
        }
        match Time::parse_local(text) {
            Some((time, zone)) => Some(Time { seconds: time.seconds - i64::from(zone.unwrap_or(0)), ..time }),
            None => Some(Time::from_unix_nanos(now.unix_nanos() - i128::from(parse_duration(text)?))),
        }
    }

    /// Writes RFC 3339 with nanoseconds as Go does, trailing zeros dropped, without the heap. Years outside 0 to 9999
    /// are clamped to them.
    pub fn write(self, buffer: &mut [u8; TEXT]) -> &str {
        let days = self.seconds.div_euclid(86_400);
        let second = self.seconds.rem_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        let year = year.clamp(0, 9999);
        let mut put = |at: usize, digits: usize, mut value: i64| {
            for slot in buffer[at..at + digits].iter_mut().rev() {
                *slot = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        put(0, 4, year);
        put(5, 2, month);
        put(8, 2, day);
        put(11, 2, second / 3600);
        put(14, 2, second / 60 % 60);
        put(17, 2, second % 60);
        put(20, 9, i64::from(self.nanos));
        for (at, mark) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.')] {
            buffer[at] = mark;
        }
        let mut end = 29;
        while buffer[end - 1] == b'0' && end > 20 {
            end -= 1;
        }
        if end == 20 {
            end = 19;
        }
        buffer[end] = b'Z';
        str::from_utf8(&buffer[..=end]).unwrap_or_default()
    }

    /// Writes `2006-01-02 15:04:05.5 +0200 CEST`, as Docker's lists do, in the zone that is `east` seconds from UTC.
    pub fn spoken(self, east: i32, zone: &str) -> String {
        let local = Time { seconds: self.seconds.saturating_add(east.into()), ..self };
        let text = local.to_string();
        let (sign, minutes) = if east < 0 { ('-', -east / 60) } else { ('+', east / 60) };
        let day = text[11..].trim_end_matches('Z');
        format!("{} {day} {sign}{:02}{:02} {zone}", &text[..10], minutes / 60, minutes % 60)
    }
}

/// RFC 3339 with nanoseconds, as Go writes it.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write(&mut [0; TEXT]))
    }
}

/// Nanoseconds from the digits behind the point; more than nine are cut off.
fn fraction_nanos(digits: &str) -> Option<u32> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nine: String = digits.bytes().chain(std::iter::repeat(b'0')).take(9).map(char::from).collect();
    nine.parse().ok()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970 of a date. Years run from March here, so that the leap day is the last one of a year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Reads a duration as Go writes it, `1h2m3.5s`, `300ms`, `-1m`, `0`; nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|end| *end > 0)?;
        let (whole, fraction) = rest[..end].split_once('.').unwrap_or((&rest[..end], ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        rest = &rest[end..];
        let units = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit: i128 = match &rest[..units] {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => NANOS,
            "m" => 60 * NANOS,
            "h" => 3600 * NANOS,
            _ => return None,
        };
        rest = &rest[units..];
        let whole = if whole.is_empty() { 0 } else { i128::from(whole.parse::<i64>().ok()?) };
        total = total.checked_add(whole * unit)?.checked_add(i128::from(fraction_nanos(fraction)?) * unit / NANOS)?;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A number of seconds in Docker's words: `Less than a second`, `About a minute`, `3 days`.
pub fn rough(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Hours are rounded, all else is cut off, as Docker does it.
    let hours = seconds.saturating_add(1800) / 3600;
    match (seconds, minutes, hours) {
        (..=0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        let seconds = |text: &str| Time::parse_http(text).map(|time| time.unix_nanos() / 1_000_000_000);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for bad in
            ["", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "Sunday, 06-Nov-94 08:49:37 GMT"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_read_and_written() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00Z"),
            ("2026-11-23T21:38:13.030644438Z", 1_795_469_893, 30_644_438, "2026-11-23T21:38:13.030644438Z"),
            ("2026-11-23T23:38:13.5+02:00", 1_795_469_893, 500_000_000, "2026-11-23T21:38:13.5Z"),
            ("2024-02-29T23:59:59.000000001Z", 1_709_251_199, 1, "2024-02-29T23:59:59.000000001Z"),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59Z", -1, 0, "1969-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59.1234567891Z", 253_402_300_799, 123_456_789, "9999-12-31T23:59:59.123456789Z"),
        ];
        for (text, seconds, nanos, written) in cases {
            assert_eq!(Time::parse(text), Some(Time { seconds, nanos }), "{text}");
            assert_eq!(Time { seconds, nanos }.to_string(), written);
        }
        for bad in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+2:00",
            "2026-01-01T00:00:00Zx",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:0é",
        ] {
            assert_eq!(Time::parse(bad), None, "{bad}");
        }
        assert_eq!(Time::parse_local("2026-11-23"), Some((Time { seconds: 1_795_392_000, nanos: 0 }, None)));
        assert_eq!(Time::parse_local("2026-11-23T01:02"), Some((Time { seconds: 1_795_395_720, nanos: 0 }, None)));
        assert_eq!(Time::parse_local("2026-11-23Z"), Some((Time { seconds: 1_795_392_000, nanos: 0 }, Some(0))));
        // Every day of 800 years comes back.
        for day in (-146_097..146_097).step_by(7) {
            let time = Time { seconds: day * 86_400 + 3, nanos: 0 };
            assert_eq!(Time::parse(&time.to_string()), Some(time));
        }
        assert_eq!(Time { seconds: i64::MAX, nanos: 0 }.to_string()[..4], *"9999");
        assert_eq!(Time { seconds: i64::MIN, nanos: 0 }.to_string()[..4], *"0000");
        assert_eq!(
            Time { seconds: 1_795_469_893, nanos: 7 }.spoken(0, "UTC"),
            "2026-11-23 21:38:13.000000007 +0000 UTC"
        );
        assert_eq!(Time { seconds: 1_795_469_893, nanos: 0 }.spoken(-12_600, "X"), "2026-11-23 18:08:13 -0330 X");
    }

    #[test]
    fn unix_texts() {
        let cases = [
            ("0", Some((0, 0))),
            ("1136073600.000000001", Some((1_136_073_600, 1))),
            ("12.5", Some((12, 500_000_000))),
            ("-1.5", Some((-2, 500_000_000))),
            ("", None),
            (".5", None),
            ("1.x", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Time::from_unix_text(text), expected.map(|(seconds, nanos)| Time { seconds, nanos }), "{text}");
        }
    }

    #[test]
    fn times_and_times_ago() {
        let now = Time { seconds: 1_700_000_000, nanos: 0 };
        for (text, seconds) in [
            ("1600000000", Some(1_600_000_000)),
            ("10m", Some(1_699_999_400)),
            ("1h30m", Some(1_699_994_600)),
            ("2020-01-01", Some(1_577_836_800)),
            ("2020-01-01T01:00:00+01:00", Some(1_577_836_800)),
            ("", None),
            ("yesterday", None),
            ("10 m", None),
        ] {
            assert_eq!(Time::parse_ago(text, now).map(|time| time.seconds), seconds, "{text}");
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("0", Some(0)),
            ("1h2m3s", Some(3_723_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("300ms", Some(300_000_000)),
            ("-1m", Some(-60_000_000_000)),
            (".5s", Some(500_000_000)),
            ("2us3ns", Some(2_003)),
            ("1", None),
            ("", None),
            ("-", None),
            (".s", None),
            ("1d", None),
            ("s", None),
            ("9999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn random_texts_do_not_panic() {
        let pieces = [
            "2026",
            "-",
            "11",
            ":",
            "T",
            "Z",
            "+",
            ".",
            "9",
            "23",
            "h",
            "ms",
            "\u{b5}s",
            "99999999999999999999",
            " ",
            "\u{e9}",
            "0",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut read = 0;
        for _ in 0..20_000 {
            let mut text = if state.is_multiple_of(2) { String::from("2026-11-23T") } else { String::new() };
            for _ in 0..state % 8 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push_str(pieces[state as usize % pieces.len()]);
            }
            state = state.wrapping_add(0x2545_f491_4f6c_dd1d);
            let time =
                Time::parse(&text).or(Time::parse_local(&text).map(|(time, _)| time)).or(Time::from_unix_text(&text));
            if let Some(time) = time {
                read += 1;
                assert!(time.nanos < 1_000_000_000, "{text}");
                assert!(time.spoken(-3600, "X").ends_with(" -0100 X"), "{text}");
            }
            if let Some(nanos) = parse_duration(&text) {
                rough(nanos);
            }
        }
        assert!(read > 100, "{read}");
    }

    #[test]
    fn durations_in_words() {
        let (minute, hour, day) = (60, 3600, 86_400);
        let cases = [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (minute, "About a minute"),
            (2 * minute - 1, "About a minute"),
            (59 * minute, "59 minutes"),
            (hour, "About an hour"),
            (hour + 29 * minute, "About an hour"),
            (hour + 30 * minute, "2 hours"),
            (47 * hour, "47 hours"),
            (48 * hour, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (59 * day, "8 weeks"),
            (60 * day, "2 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(rough(seconds), words, "{seconds}");
        }
    }
}
