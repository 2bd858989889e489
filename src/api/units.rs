//! Sizes in bytes, numbers, and yes and no, as people write them.

/// Reads what Go's `strconv.ParseBool` does.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a decimal number, which may begin or end with its point: to the last bit what people write, with up to 19 digits
/// and not smaller than 1e-21. The standard library's way, for all there are, has tables of eighteen kilobytes.
pub fn float(text: &str) -> Option<f64> {
    let (negative, number) = match text.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let mut exponent = i32::from(exponent.parse::<i16>().ok()?);
    let mut value: u64 = 0;
    let all = whole.bytes().map(|digit| (digit, 0)).chain(part.bytes().map(|digit| (digit, 1)));
    for (digit, after) in all {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        match value.checked_mul(10).and_then(|value| value.checked_add(digit)) {
            Some(longer) => (value, exponent) = (longer, exponent - after),
            None => exponent += 1 - after,
        }
    }
    let value = match 10u128.checked_pow(exponent.unsigned_abs()) {
        _ if whole.len() + part.len() == 0 => return None,
        Some(power) if exponent < 0 && power < 10u128.pow(22) => {
            // As many bits as there is room for, and one that says whether that is all of it.
            let shift = u128::from(value | 1).leading_zeros() - 1;
            let shifted = u128::from(value) << shift;
            ((shifted / power) | u128::from(shifted % power != 0)) as f64 / (1u128 << shift) as f64
        }
        Some(power) if exponent >= 0 && u128::from(value).checked_mul(power).is_some() => {
            (u128::from(value) * power) as f64
        }
        _ if exponent < 0 => value as f64 / 10f64.powi(-exponent),
        _ => value as f64 * 10f64.powi(exponent),
    };
    value.is_finite().then_some(if negative { -value } else { value })
}

/// Reads a size with units of 1024, `64m`, `1g`, `2.5kb`, `1 GiB`, `100b`: what memory and `--shm-size` take.
/// Errors: Docker's words.
pub fn parse_binary(text: &str) -> Result<i64, String> {
    parse(text, 1024.0)
}

/// Reads a size with units of 1000: what log and disk sizes take.
/// Errors: Docker's words.
pub fn parse_decimal(text: &str) -> Result<i64, String> {
    parse(text, 1000.0)
}

fn parse(text: &str, base: f64) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let number = text[..=end].strip_suffix(' ').unwrap_or(&text[..=end]);
    let suffix = text[end + 1..].to_lowercase();
    let bad_suffix = || format!("invalid suffix: '{suffix}'");
    let value = float(number).filter(|value| *value >= 0.0).ok_or_else(invalid)?;
    let power = match suffix.as_str() {
        "" | "b" => 0,
        _ => {
            let mut letters = suffix.chars();
            let unit = letters.next().and_then(|unit| "kmgtp".find(unit)).ok_or_else(bad_suffix)?;
            if !["", "b", "ib"].contains(&letters.as_str()) {
                return Err(bad_suffix());
            }
            unit + 1
        }
    };
    // A float becomes an integer by saturation, which is the largest size there is.
    Ok((value * base.powi(power as i32)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let texts = "0 1 1.5 .5 5. 0.1 00012.50 1e3 1.e-3 2.5E+2 -3.25 +4 123456789.125 0.001 1e22 9007199254740993 1e-7 -0 1e30 \
             1e38 1e-21 0.3333333333333333333 9007199254740992.5 9007199254740993.5 18446744073709551615 4.35 2.675 1e0 0e9";
        for text in texts.split(' ') {
            assert_eq!(float(text), text.parse().ok(), "{text}");
        }
        for text in
            ". - + e5 1e 1e+ 1.2.3 inf nan infinity 0x10 1_0 --1 +-1 1e400 1,5 e".split(' ').chain(["", " 1", "1 "])
        {
            assert_eq!(float(text), None, "{text:?}");
        }
        for number in 0..200_000u64 {
            let long = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for text in [format!("{}.{:03}", number / 1000, number % 1000), format!("{long}e-{}", number % 22)] {
                assert_eq!(float(&text), text.parse().ok(), "{text}");
            }
        }
        let near = |text: &str, real: f64| float(text).is_some_and(|value| (value / real - 1.0).abs() < 1e-13);
        assert!(
            near("1.5e300", 1.5e300) && near("2e-300", 2e-300) && near(&"123".repeat(20), 1.231_231_231_231_231_2e59)
        );
    }

    #[test]
    fn sizes() {
        let cases = [
            ("64m", Ok(64 << 20)),
            ("1g", Ok(1 << 30)),
            ("2.5kb", Ok(2560)),
            ("1 GiB", Ok(1 << 30)),
            ("100b", Ok(100)),
            ("0", Ok(0)),
            ("1p", Ok(1 << 50)),
            ("99999999p", Ok(i64::MAX)),
            ("", Err("invalid size: ''")),
            ("m", Err("invalid size: 'm'")),
            ("-1m", Err("invalid size: '-1m'")),
            ("nan", Err("invalid size: 'nan'")),
            ("1x", Err("invalid suffix: 'x'")),
            ("1bb", Err("invalid suffix: 'bb'")),
            ("1kib2", Err("invalid size: '1kib2'")),
            ("1mi", Err("invalid suffix: 'mi'")),
            ("1 é", Err("invalid suffix: 'é'")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_binary(text), expected.map_err(str::to_string), "{text}");
        }
        assert_eq!(parse_decimal("10m"), Ok(10_000_000));
    }
}
