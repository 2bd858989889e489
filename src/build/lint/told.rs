//! What is said, as programs and as people read it.

use super::Warning;
use super::rules::{description, url};
use crate::api::base64;
use crate::build::dockerfile::Dockerfile;
use anyhow::Result;
use serde_json::json;

/// As programs read it: in the shape of BuildKit's.
pub fn json(file: &Dockerfile, warnings: &[Warning]) -> Result<String> {
    let one = |warning: &Warning| {
        let line = |line: usize| json!({ "start": { "line": line }, "end": { "line": line } });
        let ranges: Vec<_> = (warning.place.line..=warning.last).map(line).collect();
        json!({
            "ruleName": warning.rule,
            "description": description(warning.rule),
            "url": url(warning.rule),
            "detail": warning.message,
            "location": { "ranges": ranges },
        })
    };
    let all: Vec<_> = warnings.iter().map(one).collect();
    let source = &file.source;
    let data = base64::encode(source.text().as_bytes());
    let source = json!({ "filename": source.name, "language": "Dockerfile", "data": data });
    Ok(serde_json::to_string_pretty(&json!({ "warnings": all, "sources": [source] }))? + "\n")
}

/// As people read it.
pub fn show(file: &Dockerfile, warnings: &[Warning]) -> String {
    let mut text = match warnings.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in warnings {
        let Warning { rule, message, place, .. } = warning;
        let excerpt = file.source.excerpt(*place);
        text.push_str(&format!("\nWARNING: {rule} - {}\n{message}\n{excerpt}\n", url(rule)));
    }
    text
}
