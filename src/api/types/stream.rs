//! Lines of streamed answers, and errors.

use crate::json::fields::fields;

fields! {
    /// What every refused request is answered with.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ErrorAnswer {
        pub message: String,
    }

    /// One line of the progress of a pull or an import.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct ProgressLine {
        /// Text to be shown as it is; it brings its own end of line.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stream: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub status: String,
        /// Present, if only as `{}`, in every line that speaks of one layer.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub progress_detail: Option<ProgressDetail>,
        /// The bar as text, for clients that show it as it comes.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub progress: String,
        /// The layer, or the tag in the first line.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error_detail: Option<ErrorDetail>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub error: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub aux: Option<serde_json::Value>,
    }

    /// How far one layer is, in bytes.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct ProgressDetail {
        #[serde(skip_serializing_if = "super::is_zero")]
        pub current: u64,
        /// 0 where it is not known.
        #[serde(skip_serializing_if = "super::is_zero")]
        pub total: u64,
    }

    /// Why a streamed answer ends early.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ErrorDetail {
        #[serde(skip_serializing_if = "super::is_zero")]
        pub code: i64,
        pub message: String,
    }
}

impl ProgressLine {
    /// A line of its own, of nothing in particular.
    pub fn status(status: impl Into<String>) -> Self {
        ProgressLine { status: status.into(), ..Default::default() }
    }

    /// Text to be shown as it is.
    pub fn text(stream: impl Into<String>) -> Self {
        ProgressLine { stream: stream.into(), ..Default::default() }
    }

    /// A line about one layer (its short id).
    pub fn layer(id: impl Into<String>, status: impl Into<String>, detail: ProgressDetail) -> Self {
        ProgressLine { status: status.into(), id: id.into(), progress_detail: Some(detail), ..Default::default() }
    }

    /// The last line of an answer that went wrong after its status had gone out.
    pub fn failed(message: impl Into<String>) -> Self {
        let message = crate::api::errno::spelt(&message.into()).into_owned();
        let error_detail = Some(ErrorDetail { code: 0, message: message.clone() });
        ProgressLine { error_detail, error: message, ..Default::default() }
    }
}
