//! `--filter key=value`.

use crate::api::client::Filters;

/// Reads one filter; an empty one says nothing.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = match text.split_once('=') {
        Some(pair) => pair,
        None if text.is_empty() => ("", ""),
        None => return Err("bad format of filter (expected name=value)".to_owned()),
    };
    Ok((key.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// All filters of a command by their keys.
pub fn gather(pairs: Vec<(String, String)>) -> Filters {
    let mut filters = Filters::new();
    for (key, value) in pairs.into_iter().filter(|pair| !pair.0.is_empty()) {
        let values = filters.entry(key).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let pairs = ["Label=a=b", "label=c", "label=c", "", " status = exited "].map(|text| pair(text).unwrap());
        let expected = [("label", vec!["a=b", "c"]), ("status", vec!["exited"])];
        let expected = expected.map(|(key, values)| (key.to_owned(), values.into_iter().map(str::to_owned).collect()));
        assert_eq!(gather(pairs.into()), Filters::from(expected));
        assert_eq!(pair("x"), Err("bad format of filter (expected name=value)".to_owned()));
    }
}
