//! How far a build is, as BuildKit tells it: `--progress rawjson` prints these.

use crate::json::fields::fields;

fields! {
    /// What has changed.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct SolveStatus {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub vertexes: Vec<Vertex>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub statuses: Vec<VertexStatus>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub logs: Vec<VertexLog>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub warnings: Vec<VertexWarning>,
    }
}

impl SolveStatus {
    /// Under this name it stands in the messages of a build.
    pub const ID: &str = "dhow.trace";
}

fields! {
    /// A step. Times are of RFC 3339.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Vertex {
        pub digest: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub inputs: Vec<String>,
        pub name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub started: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub completed: Option<String>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub cached: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub error: String,
    }

    /// A part of a step: a layer that is pulled.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct VertexStatus {
        pub id: String,
        pub vertex: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        #[serde(skip_serializing_if = "super::is_zero")]
        pub total: u64,
        pub current: u64,
        pub timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub started: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub completed: Option<String>,
    }

    /// What a step said.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct VertexLog {
        pub vertex: String,
        /// 1 is stdout, 2 stderr.
        pub stream: u8,
        /// Base64.
        pub data: String,
        pub timestamp: String,
    }

    /// What is said against a step.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct VertexWarning {
        pub vertex: String,
        pub level: u32,
        /// In one line. Base64.
        pub short: String,
        /// Base64.
        pub detail: Vec<String>,
        /// Where it is explained.
        pub url: String,
        pub source_info: SourceInfo,
        /// The lines that it is about.
        pub range: Vec<SourceRange>,
    }

    /// A file that a build is made by.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct SourceInfo {
        pub filename: String,
        /// Base64.
        pub data: String,
        pub language: String,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct SourceRange {
        pub start: SourcePosition,
        pub end: SourcePosition,
    }

    /// A line of a file, from 1.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct SourcePosition {
        pub line: usize,
    }
}
