//! An answer beside the shape of Docker's: the same keys, and null, absent and empty in the same places. In a shape `""`,
//! `0` and `false` stand for any value of their kind, and `"*"` for any key.

use serde_json::Value;

/// What differs from the shape, by the place where it does.
pub fn differences(shape: &Value, given: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(shape, given, "", &mut found);
    found
}

fn compare(shape: &Value, given: &Value, place: &str, found: &mut Vec<String>) {
    match (shape, given) {
        (Value::Object(shape), Value::Object(given)) => {
            if let Some(any) = shape.get("*") {
                given.iter().for_each(|(key, value)| compare(any, value, &format!("{place}/{key}"), found));
                return;
            }
            for (key, value) in shape {
                match given.get(key) {
                    Some(given) => compare(value, given, &format!("{place}/{key}"), found),
                    None => found.push(format!("{place}/{key}: missing")),
                }
            }
            let more = given.keys().filter(|key| !shape.contains_key(*key));
            found.extend(more.map(|key| format!("{place}/{key}: one too many")));
        }
        (Value::Array(shape), Value::Array(given)) => {
            if let Some(shape) = shape.first() {
                given.iter().for_each(|given| compare(shape, given, &format!("{place}/0"), found));
                if given.is_empty() {
                    found.push(format!("{place}: empty"));
                }
            }
        }
        (shape, given) => {
            if std::mem::discriminant(shape) != std::mem::discriminant(given) {
                found.push(format!("{place}: {given} in the place of {shape}"));
            }
        }
    }
}
