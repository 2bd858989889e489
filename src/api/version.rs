//! The versions of the API that are spoken.

use std::fmt;

/// `1.51`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    pub major: u16,
    pub minor: u16,
}

/// The newest that is spoken, and what is meant where none is named.
pub const NEWEST: ApiVersion = ApiVersion::new(1, 51);
/// The oldest.
pub const OLDEST: ApiVersion = ApiVersion::new(1, 24);

impl ApiVersion {
    pub const fn new(major: u16, minor: u16) -> ApiVersion {
        ApiVersion { major, minor }
    }

    /// Reads `1.51`.
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        let (major, minor) = text.split_once('.')?;
        Some(ApiVersion { major: digits(major)?, minor: digits(minor)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_not_text() {
        let table = [
            ("1.51", Some(NEWEST)),
            ("1.9", Some(ApiVersion::new(1, 9))),
            ("1", None),
            ("1.", None),
            (".5", None),
            ("1.51.1", None),
            ("1.+5", None),
            ("1.99999999", None),
        ];
        for (text, version) in table {
            assert_eq!(ApiVersion::parse(text), version, "{text}");
        }
        assert!(ApiVersion::new(1, 9) < OLDEST && NEWEST.to_string() == "1.51");
    }
}
