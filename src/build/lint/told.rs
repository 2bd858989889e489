//! What is said, as programs and as people read it.

use super::Warning;
use super::rules::{description, url};
use crate::api::base64;
use crate::api::types::{SolveStatus, SourceInfo, SourcePosition, SourceRange, VertexWarning};
use crate::build::dockerfile::Dockerfile;
use crate::build::trace;
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

/// As BuildKit's clients hear of them while they build, one by one.
pub fn statuses<'a>(file: &'a Dockerfile, warnings: &'a [Warning]) -> impl Iterator<Item = SolveStatus> + 'a {
    let read = trace::done(&format!("[internal] load build definition from {}", file.source.name), &[]);
    let vertex = read.vertexes.first().map(|vertex| vertex.digest.clone()).unwrap_or_default();
    let data = base64::encode(file.source.text().as_bytes());
    let one = move |warning: &Warning| {
        let Warning { rule, message, place, last } = warning;
        let range = |line: usize| SourceRange { start: SourcePosition { line }, end: SourcePosition { line } };
        let warning = VertexWarning {
            vertex: vertex.clone(),
            level: 1,
            short: base64::encode(format!("{rule}: {message} (line {})", place.line).as_bytes()),
            detail: vec![base64::encode(description(rule).as_bytes())],
            url: url(rule),
            source_info: SourceInfo {
                filename: file.source.name.clone(),
                data: data.clone(),
                language: "Dockerfile".to_owned(),
            },
            range: (place.line..=*last).map(range).collect(),
        };
        SolveStatus { warnings: vec![warning], ..SolveStatus::default() }
    };
    Some(read).filter(|_| !warnings.is_empty()).into_iter().chain(warnings.iter().map(one))
}
