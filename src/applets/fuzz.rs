//! Ways in for `crate::fuzz`: what a client reads.

use super::contexts::{Meta, archive};
use super::format::template::Template;
use super::stream::demux::{Demux, Piece};

/// The frames of attach and logs, cut anywhere.
pub fn frames(bytes: &[u8]) {
    for cut in [1, 7, 4096] {
        let mut demux = Demux::framed();
        'pieces: for piece in bytes.chunks(cut) {
            let mut rest = piece;
            while !rest.is_empty() {
                let taken = match demux.next(rest) {
                    Piece::Header(length) => length,
                    Piece::Out(length) | Piece::Err(length) => {
                        demux.taken(length);
                        length
                    }
                    Piece::Failure(_) => break 'pieces,
                };
                assert!(taken > 0 && taken <= rest.len(), "it goes on");
                rest = &rest[taken..];
            }
        }
    }
}

/// A context that somebody gave to somebody.
pub fn context(bytes: &[u8]) {
    let _ = Meta::parse(bytes);
    let _ = archive::read(bytes);
}

/// A template of `--format`, on some data.
pub fn template(bytes: &[u8]) {
    const DATA: &[u8] = br#"{"ID":"0123","Names":["/a","/b"],"State":{"Running":true,"Pid":7},"Labels":{"a.b":"c"},
        "Size":-1.5,"None":null}"#;
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(template) = Template::parse(text)
    {
        let _ = template.execute_json(DATA);
    }
}
