//! What older versions of the API do otherwise, as far as it matters: brought to the newest where a request enters, and
//! back where its answer leaves.

mod containers;
mod create;
mod images;
mod networks;
mod system;

pub use containers::{answers_waits_first, container, containers, exec_create, exec_start, picks_streams, update};
pub use create::create;
pub use images::{image, image_filters, images};
pub use system::{info, knows_event, usage, usage_kinds, volume_prune};

use crate::api::version::ApiVersion;
use crate::api::{Refusal, Request};

const fn v1(minor: u16) -> ApiVersion {
    ApiVersion::new(1, minor)
}

fn bad(text: impl Into<String>) -> anyhow::Error {
    Refusal::BadParameter(text.into()).into()
}

/// A parameter that was not there before a version.
pub fn since<'a>(minor: u16, request: &'a Request, key: &str) -> Option<&'a str> {
    request.query(key).filter(|_| request.version >= v1(minor))
}

#[cfg(test)]
fn request(version: ApiVersion, query: &[(&str, &str)]) -> Request {
    let mut request = Request::new("GET", "/");
    request.version = version;
    request.query = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    request
}
