//! Sizes in bytes, and yes and no, as people write them.

/// Reads what Go's `strconv.ParseBool` does.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
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
    // Rust reads "inf", "nan" and "infinity" too; a size is made of digits.
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let value: f64 = number.parse().ok().filter(|_| plain).ok_or_else(invalid)?;
    if value < 0.0 {
        return Err(invalid());
    }
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
