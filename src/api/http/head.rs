//! Heads of requests and answers, and what they say of the body that follows (RFC 9112, 6.3).

use httparse::{EMPTY_HEADER, Status};

/// A head may have that many bytes.
pub const SIZE: usize = 256 << 10;
/// And that many lines.
const LINES: usize = 128;

/// Name and value, in order.
pub type Headers = Vec<(String, String)>;

/// The first line of a request and its headers.
#[derive(Debug, PartialEq)]
pub struct RequestHead {
    pub method: String,
    pub target: String,
    /// HTTP/1.0 or HTTP/1.1.
    pub minor: u8,
    pub headers: Headers,
}

/// The first line of an answer and its headers.
#[derive(Debug, PartialEq)]
pub struct ResponseHead {
    pub status: u16,
    pub minor: u8,
    pub headers: Headers,
}

/// Why a head is not taken, and the status that says so.
#[derive(Debug, PartialEq)]
pub struct Bad {
    pub status: u16,
    pub why: String,
}

/// How the end of a body is known.
#[derive(Debug, PartialEq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// It is what comes until the connection ends.
    Rest,
}

/// The length of the head at the start of `bytes`, up to its empty line; `from` is where to begin to look for that.
pub fn length(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(3);
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        match &bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

pub fn request(bytes: &[u8]) -> Result<RequestHead, Bad> {
    let mut lines = [EMPTY_HEADER; LINES];
    let mut head = httparse::Request::new(&mut lines);
    match head.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(bad(400, "the request's head is incomplete")),
        Err(httparse::Error::TooManyHeaders) => return Err(bad(431, "too many headers")),
        Err(httparse::Error::Version) => return Err(bad(505, "unsupported protocol version")),
        Err(error) => return Err(bad(400, &error.to_string())),
    }
    Ok(RequestHead {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        minor: head.version.unwrap_or_default(),
        headers: owned(head.headers),
    })
}

pub fn response(bytes: &[u8]) -> Result<ResponseHead, Bad> {
    let mut lines = [EMPTY_HEADER; LINES];
    let mut head = httparse::Response::new(&mut lines);
    match head.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(bad(502, "the answer's head is incomplete")),
        Err(error) => return Err(bad(502, &error.to_string())),
    }
    Ok(ResponseHead {
        status: head.code.unwrap_or_default(),
        minor: head.version.unwrap_or_default(),
        headers: owned(head.headers),
    })
}

fn owned(headers: &[httparse::Header]) -> Headers {
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim_ascii().to_owned();
    headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect()
}

/// The first header of that name.
pub fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether a header that is a list of words has this one.
pub fn says(headers: &Headers, name: &str, word: &str) -> bool {
    let of_name = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    of_name.flat_map(|(_, value)| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}

/// Whether the other side will speak again on this connection.
pub fn keeps_alive(minor: u8, headers: &Headers) -> bool {
    match minor {
        0 => says(headers, "Connection", "keep-alive"),
        _ => !says(headers, "Connection", "close"),
    }
}

impl RequestHead {
    /// What follows the head. One that two readers could understand in two ways is refused: between them a request could
    /// be smuggled.
    pub fn framing(&self) -> Result<Framing, Bad> {
        let hosts = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Host")).count();
        if hosts > 1 || (hosts == 0 && self.minor > 0) {
            return Err(bad(400, if hosts == 0 { "missing required Host header" } else { "too many Host headers" }));
        }
        match framing(self.minor, &self.headers)? {
            Some(framing) => Ok(framing),
            None => Ok(Framing::None),
        }
    }
}

impl ResponseHead {
    pub fn framing(&self, method: &str) -> Result<Framing, Bad> {
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Framing::None);
        }
        Ok(framing(self.minor, &self.headers)?.unwrap_or(Framing::Rest))
    }
}

fn framing(minor: u8, headers: &Headers) -> Result<Option<Framing>, Bad> {
    let of = |wanted: &'static str| {
        headers.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
    };
    let mut codings = of("Transfer-Encoding");
    let mut lengths = of("Content-Length");
    if let Some(coding) = codings.next() {
        if lengths.next().is_some() {
            return Err(bad(400, "both Transfer-Encoding and Content-Length"));
        }
        if codings.next().is_some() || !coding.eq_ignore_ascii_case("chunked") {
            return Err(bad(501, "unsupported transfer encoding"));
        }
        if minor == 0 {
            return Err(bad(400, "Transfer-Encoding in HTTP/1.0"));
        }
        return Ok(Some(Framing::Chunked));
    }
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.any(|other| other != length) {
        return Err(bad(400, "more than one Content-Length"));
    }
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    match length.parse::<u64>() {
        Ok(0) => Ok(Some(Framing::None)),
        Ok(length) if digits && length <= i64::MAX as u64 => Ok(Some(Framing::Length(length))),
        _ => Err(bad(400, "bad Content-Length")),
    }
}

pub fn bad(status: u16, why: &str) -> Bad {
    Bad { status, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_head_ends() {
        let table = [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\nbody", Some(27)),
            ("GET / HTTP/1.1\nHost: x\n\nbody", Some(24)),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r", None),
            ("", None),
        ];
        for (text, expected) in table {
            for from in 0..=text.len().min(20) {
                assert_eq!(length(text.as_bytes(), from), expected, "{text:?} from {from}");
            }
        }
    }

    #[test]
    fn what_follows_a_request() {
        let table = [
            ("", Ok(Framing::None)),
            ("Content-Length: 0\r\n", Ok(Framing::None)),
            ("content-length: 12 \r\n", Ok(Framing::Length(12))),
            ("Content-Length: 12\r\nContent-Length: 12\r\n", Ok(Framing::Length(12))),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
            ("Content-Length: 12\r\nContent-Length: 13\r\n", Err(400)),
            ("Content-Length: 12, 12\r\n", Err(400)),
            ("Content-Length: +12\r\n", Err(400)),
            ("Content-Length: -1\r\n", Err(400)),
            ("Content-Length: \r\n", Err(400)),
            ("Content-Length: 99999999999999999999\r\n", Err(400)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(501)),
            ("Transfer-Encoding: xchunked\r\n", Err(501)),
            ("Host: another\r\n", Err(400)),
        ];
        for (headers, expected) in table {
            let text = format!("POST /x HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            let found = request(text.as_bytes()).and_then(|head| head.framing());
            assert_eq!(found.map_err(|bad| bad.status), expected, "{headers:?}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
        let table = [
            ("\0\r\n\r\n", 400),
            ("GET\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
            ("\x16\x03\x01\x02\0\x01\r\n\r\n", 400),
            (&many, 431),
        ];
        for (text, status) in table {
            assert_eq!(request(text.as_bytes()).unwrap_err().status, status, "{text:.30?}");
        }
        let without = request(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(without.framing().unwrap_err().why, "missing required Host header");
        assert_eq!(request(b"GET / HTTP/1.0\r\n\r\n").unwrap().framing(), Ok(Framing::None));
    }

    #[test]
    fn what_follows_an_answer() {
        let table = [
            ("200 OK", "GET", "", Framing::Rest),
            ("200 OK", "GET", "Content-Length: 3\r\n", Framing::Length(3)),
            ("200 OK", "HEAD", "Content-Length: 3\r\n", Framing::None),
            ("204 No Content", "POST", "", Framing::None),
            ("304 Not Modified", "POST", "", Framing::None),
            ("101 UPGRADED", "POST", "", Framing::None),
            ("200 OK", "GET", "Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ];
        for (line, method, headers, expected) in table {
            let text = format!("HTTP/1.1 {line}\r\n{headers}\r\n");
            assert_eq!(response(text.as_bytes()).unwrap().framing(method), Ok(expected), "{line} {method}");
        }
    }

    #[test]
    fn who_speaks_again() {
        let table = [(1, "", true), (1, "Close", false), (1, "keep-alive, close", false), (0, "", false)];
        for (minor, value, expected) in table {
            assert_eq!(keeps_alive(minor, &vec![("connection".into(), value.into())]), expected, "{minor} {value}");
        }
        assert!(keeps_alive(0, &vec![("Connection".into(), "Keep-Alive".into())]));
    }
}
