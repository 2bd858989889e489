//! What the routes read of a request, and how they answer.

use crate::api::base64;
use crate::api::errno;
use crate::api::http::target;
use crate::api::types::{ContainerCreate, ErrorAnswer, PathStat};
use crate::api::version::ApiVersion;
use crate::api::{Body, Refusal, Reply, Request, Response};
use crate::engine::filters::Filters;
use crate::engine::{Engine, images, query};
use crate::json::{self, FromTree, Tree};
use crate::oci::Platform;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::io::{self, Read};

/// The header that says what lies at a path.
const PATH_STAT: &str = "X-Docker-Container-Path-Stat";
/// The largest JSON body that is read.
const BODY: u64 = 16 * 1024 * 1024;
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

pub(super) fn answer(status: u16, body: Reply) -> Response {
    Response::new(status, body)
}

pub(super) fn json<T: Serialize>(status: u16, value: &T) -> Result<Response> {
    encoded(status, serde_json::to_vec(value))
}

fn encoded(status: u16, json: serde_json::Result<Vec<u8>>) -> Result<Response> {
    Ok(answer(status, Reply::Json(json.context("encode the answer")?)))
}

/// What Docker answers to a verb that has nothing to tell.
pub(super) fn empty(done: Result<()>) -> Result<Response> {
    done.map(|()| answer(204, Reply::Empty))
}

pub(super) fn refused(error: &anyhow::Error) -> Response {
    let status = error.downcast_ref::<Refusal>().or_else(|| of_body(error)).map_or(500, Refusal::status);
    if status == 304 {
        return answer(304, Reply::Empty);
    }
    let message = ErrorAnswer { message: errno::spelt(&format!("{error:#}")).into_owned() };
    answer(status, Reply::Json(serde_json::to_vec(&message).unwrap_or_default()))
}

/// The same of a stream that was asked for: Docker's clients get it as they would get the stream, as plain text.
pub(super) fn refused_stream(error: &anyhow::Error) -> Response {
    let status = error.downcast_ref::<Refusal>().map_or(500, Refusal::status);
    let text = format!("{}\r\n", errno::spelt(&format!("{error:#}")));
    answer(status, Reply::Json(text.into_bytes())).with("Content-Type", "application/vnd.docker.raw-stream")
}

/// The refusal that the reader of a request's body gave to whoever wanted to read it.
fn of_body(error: &anyhow::Error) -> Option<&Refusal> {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.find_map(|cause| cause.get_ref()?.downcast_ref())
}

/// The kind of a stream: with frames or without. Clients older than 1.42 know one name for both.
pub(super) fn stream_kind(request: &Request, tty: bool) -> &'static str {
    match !tty && request.version >= ApiVersion::new(1, 42) {
        true => "application/vnd.docker.multiplexed-stream",
        false => "application/vnd.docker.raw-stream",
    }
}

/// Parameters may stand in the body, as a form: those of the query come after them. What has a body of another kind, an
/// archive or what a registry is told, is left alone.
pub(super) fn form(request: &mut Request, parts: &[&str]) -> Result<()> {
    let own = matches!(parts, ["auth"] | ["build"] | ["images", "load"] | ["containers", _, "archive"])
        || parts == ["images", "create"] && request.query("fromSrc").is_some();
    if own || !matches!(request.method, "POST" | "PUT" | "PATCH") || kind(request).as_deref() != Some(FORM) {
        return Ok(());
    }
    let bytes = bytes(request)?;
    let pairs = std::str::from_utf8(&bytes).ok().and_then(target::pairs);
    let mut pairs = pairs.ok_or_else(|| Refusal::BadParameter("invalid URL escape in the form".to_owned()))?;
    pairs.append(&mut request.query);
    request.query = pairs;
    Ok(())
}

/// Whether there is more of a body than Docker lets pass for none: `{}`, `null`.
pub(super) fn has_body(request: &Request) -> bool {
    let length = request.header("Content-Length").and_then(|length| length.trim().parse::<u64>().ok());
    length.is_some_and(|length| length > 7) || request.header("Transfer-Encoding").is_some()
}

/// What the body is said to be.
fn kind(request: &Request) -> Option<String> {
    let said = request.header("Content-Type")?;
    Some(said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The body, as far as it is text.
fn bytes(request: &mut Request) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match std::mem::replace(&mut request.body, Body::Empty) {
        Body::Empty => {}
        Body::Bytes(whole) => bytes = whole,
        Body::Folder(_) => bail!("a folder is no text"),
        Body::Reader(reader) => {
            reader.take(BODY + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > BODY {
                bail!(Refusal::BadParameter("the request's body is too large".to_owned()));
            }
        }
    }
    Ok(bytes)
}

/// Reads a body that is nothing but JSON; an empty one is the zero value. `called` is its name in Docker's source, by which
/// what is wrong with it is told.
pub(super) fn body<T: FromTree + Default>(request: &mut Request, called: &str) -> Result<T> {
    check_json(request)?;
    json_body(request, called)
}

fn check_json(request: &Request) -> Result<()> {
    let said = request.header("Content-Type").unwrap_or_default();
    let why = match kind(request).as_deref() {
        Some(JSON) => return Ok(()),
        None if matches!(request.body, Body::Empty) => return Ok(()),
        None | Some("") => format!("malformed Content-Type header ({said}): mime: no media type"),
        Some(_) => format!("unsupported Content-Type header ({said}): must be '{JSON}'"),
    };
    bail!(Refusal::BadParameter(why))
}

/// The same, whatever it is said to be.
pub(super) fn json_body<T: FromTree + Default>(request: &mut Request, called: &str) -> Result<T> {
    let bytes = bytes(request)?;
    if bytes.is_empty() { Ok(T::default()) } else { read(&bytes, called) }
}

fn read<T: FromTree + Default>(bytes: &[u8], called: &str) -> Result<T> {
    match tree(bytes)? {
        Tree::Null => Ok(T::default()),
        tree => json::from_tree(tree).map_err(|error| wrong(error, called)),
    }
}

fn wrong(error: json::Error, called: &str) -> anyhow::Error {
    Refusal::BadParameter(format!("invalid JSON: {}", error.within(called))).into()
}

/// The one value that a body is to be.
fn tree(bytes: &[u8]) -> Result<Tree<'_>> {
    let invalid = |error: serde_json::Error| Refusal::BadParameter(format!("invalid JSON: {}", why(&error, bytes)));
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter();
    let value = match values.next() {
        Some(value) => value.map_err(invalid)?,
        None => bail!(Refusal::BadParameter("invalid JSON: got EOF while reading request body".to_owned())),
    };
    // Two values in one body are nobody's idea.
    if bytes[values.byte_offset()..].iter().any(|byte| !byte.is_ascii_whitespace()) {
        bail!(Refusal::BadParameter("unexpected content after JSON".to_owned()));
    }
    Ok(value)
}

/// What is wrong with a text, in the words of Go's decoder, which clients look for.
fn why(error: &serde_json::Error, bytes: &[u8]) -> String {
    let told = error.to_string();
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let found = line.get(error.column().saturating_sub(1)).map(|byte| char::from(*byte));
    let what = match told.split(" at line ").next().unwrap_or_default() {
        "key must be a string" => "looking for beginning of object key string",
        "trailing comma" if found == Some('}') => "looking for beginning of object key string",
        "trailing comma" | "expected value" => "looking for beginning of value",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        _ => return told,
    };
    match found.filter(char::is_ascii_graphic) {
        Some(letter @ ('\'' | '\\')) => format!("invalid character '\\{letter}' {what}"),
        Some(letter) => format!("invalid character '{letter}' {what}"),
        None => told,
    }
}

/// The body of create, which is to say something of the container.
pub(super) fn container_asked(request: &mut Request) -> Result<ContainerCreate> {
    check_json(request)?;
    let bytes = bytes(request)?;
    let body = tree(&bytes)?;
    let says_nothing = match &body {
        Tree::Null => true,
        Tree::Object(entries) => entries.iter().all(|(name, _)| ContainerCreate::is_beside(name)),
        _ => false,
    };
    if says_nothing {
        bail!(Refusal::BadParameter("config cannot be empty in order to create a container".to_owned()));
    }
    json::from_tree(body).map_err(|error| wrong(error, "container.CreateRequest"))
}

pub(super) fn with_stat(response: Response, stat: &PathStat) -> Result<Response> {
    let json = serde_json::to_vec(stat).context("encode the answer")?;
    Ok(response.with(PATH_STAT, base64::encode(&json)))
}

pub(super) fn filters(request: &Request) -> Result<Filters> {
    Filters::parse(request.query("filters"))
}

pub(super) fn number<T: std::str::FromStr>(request: &Request, key: &str) -> Result<Option<T>> {
    match request.query(key).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!(Refusal::BadParameter(format!("invalid value {text:?} for {key}"))),
        },
    }
}

pub(super) fn seconds(request: &Request) -> Result<Option<i64>> {
    number(request, "t")
}

pub(super) fn size(request: &Request) -> Result<(u16, u16)> {
    let side = |key: &str, name: &str| {
        let text = request.query(key).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let why = match digits.parse::<u32>() {
            _ if digits.starts_with('+') => "invalid syntax",
            // The kernel has 16 bits for it.
            Ok(number) if digits == text => return Ok(number as u16),
            Ok(_) => "value out of range",
            Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => "value out of range",
            Err(_) => "invalid syntax",
        };
        Err(Refusal::BadParameter(format!("invalid resize {name} {text:?}: {why}")))
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

pub(super) fn platform(request: &Request) -> Result<Option<Platform>> {
    let text = request.query("platform").filter(|text| !text.is_empty());
    let parse = |text: &str| Platform::parse(text).map_err(|error| Refusal::BadParameter(format!("{error:#}")).into());
    text.map(parse).transpose()
}

/// The one platform that a save or a load is limited to: JSON, as the API has it, or as people write it.
pub(super) fn one_platform(request: &Request) -> Result<Option<Platform>> {
    let mut all = request.query.iter().filter(|(key, value)| key == "platform" && !value.is_empty());
    let Some((_, text)) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        bail!(Refusal::BadParameter("multiple platform parameters not supported".to_owned()));
    }
    match json::from_slice(text.as_bytes()) {
        Ok(platform) => Ok(Some(platform)),
        Err(_) => Platform::parse(text).map(Some).map_err(|e| Refusal::BadParameter(format!("{e:#}")).into()),
    }
}

/// An image is of one platform here: asking for another one of it finds nothing.
pub(super) fn of_platform(engine: &Engine, name: &str, request: &Request) -> Result<()> {
    for (_, value) in request.query.iter().filter(|(key, value)| key.starts_with("platform") && !value.is_empty()) {
        // JSON, as the API has it: {"os":"linux","architecture":"arm64"}; or as people write it.
        let asked = match json::from_slice::<Platform>(value.as_bytes()) {
            Ok(platform) => platform,
            Err(_) => Platform::parse(value).map_err(|error| Refusal::BadParameter(format!("{error:#}")))?,
        };
        images::check_platform(&images::find(&engine.store, name)?, name, Some(&asked))?;
    }
    Ok(())
}

pub(super) fn pair_value((_, value): &(String, String)) -> String {
    value.clone()
}

pub(super) fn list_query(request: &Request) -> Result<query::Query> {
    // -1 is no limit.
    let limit = number::<i64>(request, "limit")?.unwrap_or(0).max(0) as usize;
    Ok(query::Query { all: request.flag("all"), limit, size: request.flag("size"), filters: filters(request)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_told_as_go_tells_it() {
        for (text, words) in [
            ("{invalid", "invalid character 'i' looking for beginning of object key string"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            ("{\n \"a\" 1}", "invalid character '1' after object key"),
            (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair"),
            (r#"{"a":[1 2]}"#, "invalid character '2' after array element"),
            (r#"{"a":[1,]}"#, "invalid character ']' looking for beginning of value"),
            (r#"{"a":boat}"#, "invalid character 'b' looking for beginning of value"),
            (r#"{"a":'b'}"#, "invalid character '\\'' looking for beginning of value"),
            (r#"{"a":"#, "unexpected EOF"),
        ] {
            let error = read::<crate::order::Map<String, u8>>(text.as_bytes(), "").unwrap_err();
            assert_eq!(error.to_string(), format!("invalid JSON: {words}"), "{text}");
        }
    }
}
