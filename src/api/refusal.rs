//! Errors on which an HTTP status code depends. Everything else is `anyhow` and becomes a 500.

use std::fmt;

/// A refusal that a client tells apart by its status code. Attach it with `bail!(Refusal::NotFound(...))`;
/// it is found again with `error.downcast_ref::<Refusal>()`, also under added context.
#[derive(Debug)]
pub enum Refusal {
    /// 304, no body: start of a running container, stop of a stopped one.
    NotModified,
    /// 400
    BadParameter(String),
    /// 401
    Unauthorized(String),
    /// 403
    Forbidden(String),
    /// 404
    NotFound(String),
    /// 409
    Conflict(String),
    /// 501
    NotImplemented(String),
    /// 503
    Unavailable(String),
}

impl Refusal {
    /// An error of that status.
    pub fn of(status: i32, text: String) -> anyhow::Error {
        let refusal = match status {
            400 => Refusal::BadParameter,
            401 => Refusal::Unauthorized,
            403 => Refusal::Forbidden,
            404 => Refusal::NotFound,
            409 => Refusal::Conflict,
            501 => Refusal::NotImplemented,
            503 => Refusal::Unavailable,
            _ => return anyhow::anyhow!(text),
        };
        refusal(text).into()
    }

    /// The HTTP status code of this refusal.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::NotModified => 304,
            Refusal::BadParameter(_) => 400,
            Refusal::Unauthorized(_) => 401,
            Refusal::Forbidden(_) => 403,
            Refusal::NotFound(_) => 404,
            Refusal::Conflict(_) => 409,
            Refusal::NotImplemented(_) => 501,
            Refusal::Unavailable(_) => 503,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotModified => f.write_str("not modified"),
            Refusal::BadParameter(text)
            | Refusal::Unauthorized(text)
            | Refusal::Forbidden(text)
            | Refusal::NotFound(text)
            | Refusal::Conflict(text)
            | Refusal::NotImplemented(text)
            | Refusal::Unavailable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stands_for_its_refusal() {
        for status in [400, 401, 403, 404, 409, 501, 503] {
            let error = Refusal::of(status, "why".to_owned());
            assert_eq!(error.downcast_ref().map(Refusal::status), Some(status as u16));
            assert_eq!(error.to_string(), "why");
        }
        for status in [0, 304, 500] {
            assert!(Refusal::of(status, "why".to_owned()).downcast_ref::<Refusal>().is_none());
        }
    }
}
