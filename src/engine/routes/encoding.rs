//! An answer that is compressed, where who asked reads that (RFC 9110, 12.5.3).

use crate::api::units;
use crate::api::wire::Producer;
use crate::api::{Reply, Request, Response};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use std::io::Write;

/// What dockerd compresses a copy with, the preferred first: gzip, and deflate without zlib's frame around it.
const ENCODINGS: [&str; 2] = ["gzip", "deflate"];

/// The producer's stream, compressed as the request's `Accept-Encoding` has it.
pub(super) fn stream(request: &Request, producer: Producer) -> Response {
    let Some(encoding) = wanted(request) else { return Response::new(200, Reply::Stream(producer)) };
    let level = Compression::default();
    let packed = move |sink: &mut dyn Write| {
        if encoding == "gzip" {
            let mut sink = GzEncoder::new(sink, level);
            producer(&mut sink)?;
            sink.finish().map(drop)
        } else {
            let mut sink = DeflateEncoder::new(sink, level);
            producer(&mut sink)?;
            sink.finish().map(drop)
        }
    };
    Response::new(200, Reply::Stream(Box::new(packed))).with("Content-Encoding", encoding)
}

/// The encoding of the highest quality, none where it is not above zero. `identity` is no rival, as with Docker.
fn wanted(request: &Request) -> Option<&'static str> {
    let lines = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Accept-Encoding"));
    let mut best = (None, 0.0);
    let said: Vec<(&str, f64)> = lines.flat_map(|(_, line)| line.split(',')).filter_map(quality).collect();
    for encoding in ENCODINGS {
        for (name, quality) in &said {
            if *quality > best.1 && (*name == "*" || name.eq_ignore_ascii_case(encoding)) {
                best = (Some(encoding), *quality);
            }
        }
    }
    best.0
}

/// `gzip;q=0.5`: a name and how much it is wanted. Nobody wants what cannot be read.
fn quality(said: &str) -> Option<(&str, f64)> {
    let (name, weight) = said.split_once(';').unwrap_or((said, "q=1"));
    Some((name.trim(), units::float(weight.trim().strip_prefix("q=")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_says_how() {
        for (lines, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["identity"], None),
            (&["br, zstd"], None),
            (&["gzip, deflate"], Some("gzip")),
            (&["deflate,gzip"], Some("gzip")),
            (&["GZIP ; q=0.5 , deflate"], Some("deflate")),
            (&["deflate;q=0.9", "gzip;q=1.0"], Some("gzip")),
            (&["*"], Some("gzip")),
            (&["gzip;q=0, *;q=0"], None),
            (&["gzip;q=0, deflate;q=0.1"], Some("deflate")),
            (&["gzip;level=9, deflate;q=x"], None),
        ] {
            let mut request = Request::new("GET", "/");
            request.headers.extend(lines.iter().map(|line| ("accept-encoding".to_owned(), (*line).to_owned())));
            assert_eq!(wanted(&request), expected, "{lines:?}");
        }
    }
}
