//! `attach/ws`: a container's streams in a WebSocket (RFC 6455). What it writes comes as binary messages, without
//! Docker's frames; what is sent, as text or binary, is its input.

use super::socket::Socket;
use crate::log;
use nix::sys::socket::Shutdown;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};

/// One frame of a client may be that long: it is passed on in pieces, so this bounds nothing but nonsense.
const LONGEST: u64 = 1 << 32;
const ROOM: usize = 32 << 10;
const STACK: usize = 128 << 10;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The head that accepts a client's key.
pub fn head(key: &str) -> String {
    let sum = sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    let accept = base64(&sum);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Joins a client and a container's streams until one of them has gone. `ahead` was read from the client already;
/// `framed` streams are parted first. `text`: its messages are.
pub fn join(client: &Socket, ahead: Vec<u8>, stream: &Socket, framed: bool, text: bool) -> io::Result<()> {
    let out = Arc::new(Mutex::new(client.clone()));
    let (pongs, stdin) = (Arc::clone(&out), stream.clone());
    let from = io::Cursor::new(ahead).chain(client.clone());
    let input = std::thread::Builder::new().name("websocket".to_owned()).stack_size(STACK).spawn(move || {
        if let Err(error) = receive(from, stdin.clone(), &pongs) {
            log::debug!("a WebSocket ended: {error}");
        }
        // The client has gone, or is to go: then nobody listens either.
        stdin.shutdown(Shutdown::Both);
    })?;
    let sent = send(stream.clone(), &out, framed, if text { TEXT } else { BINARY });
    let goodbye = message(&out, CLOSE, &1000u16.to_be_bytes());
    client.shutdown(Shutdown::Both);
    let _ = input.join();
    sent.and(goodbye)
}

/// Says why there is nothing to join.
pub fn fail(client: &Socket, why: &str) -> io::Result<()> {
    let out = Mutex::new(client.clone());
    message(&out, BINARY, why.as_bytes())?;
    // 1011: the server met with something unexpected.
    message(&out, CLOSE, &1011u16.to_be_bytes())
}

/// Container to client.
fn send(mut stream: Socket, out: &Mutex<Socket>, framed: bool, kind: u8) -> io::Result<()> {
    let mut buffer = vec![0; ROOM];
    // Bytes of the frame that are still to come.
    let mut left = usize::MAX;
    loop {
        if framed && (left == 0 || left == usize::MAX) {
            let mut header = [0; 8];
            match stream.read_exact(&mut header) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            }
            left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            continue;
        }
        let room = left.min(ROOM);
        match stream.read(&mut buffer[..room]) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                message(out, kind, &buffer[..length])?;
                if framed {
                    left -= length;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Writes one whole message.
fn message(out: &Mutex<Socket>, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut head = vec![0x80 | kind];
    match payload.len() {
        length @ ..126 => head.push(length as u8),
        length @ ..0x1_0000 => {
            head.push(126);
            head.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            head.push(127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).write_pieces(&[&head, payload])
}

/// Client to container, up to the client's goodbye.
pub fn receive(mut from: impl Read, mut stdin: impl Write, pongs: &Mutex<Socket>) -> io::Result<()> {
    let mut buffer = vec![0; ROOM];
    loop {
        let mut head = [0; 2];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let (kind, control) = (head[0] & 0x0f, head[0] & 0x08 != 0);
        let length = match head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes(exact(&mut from)?)),
            127 => u64::from_be_bytes(exact(&mut from)?),
            length => u64::from(length),
        };
        if head[0] & 0x70 != 0 || head[1] & 0x80 == 0 || length > LONGEST || (control && length > 125) {
            return Err(io::Error::new(ErrorKind::InvalidData, "a frame against the protocol"));
        }
        let mask: [u8; 4] = exact(&mut from)?;
        let mut done = 0u64;
        while done < length || (control && length == 0) {
            let room = usize::try_from(length - done).unwrap_or(ROOM).min(ROOM);
            from.read_exact(&mut buffer[..room])?;
            for (at, byte) in buffer[..room].iter_mut().enumerate() {
                *byte ^= mask[(done as usize + at) % 4];
            }
            match kind {
                CONTINUATION | TEXT | BINARY => stdin.write_all(&buffer[..room])?,
                PING => message(pongs, PONG, &buffer[..room])?,
                PONG => {}
                CLOSE => return Ok(()),
                _ => return Err(io::Error::new(ErrorKind::InvalidData, "a frame of an unknown kind")),
            }
            done += room as u64;
            if length == 0 {
                break;
            }
        }
    }
}

fn exact<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// FIPS 180-4, 6.1. The protocol wants it; nothing depends on its strength.
fn sha1(text: &[u8]) -> [u8; 20] {
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut bytes = text.to_vec();
    bytes.push(0x80);
    while bytes.len() % 64 != 56 {
        bytes.push(0);
    }
    bytes.extend_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    for block in bytes.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, four) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match at {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999u32),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = [a.rotate_left(5), mixed, e, constant, word].into_iter().fold(0u32, u32::wrapping_add);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut sum = [0; 20];
    for (four, word) in sum.chunks_exact_mut(4).zip(state) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    sum
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize] as char;
            text.push(if at <= three.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_key_is_answered() {
        // The example of RFC 6455, 1.3.
        assert!(head("dGhlIHNhbXBsZSBub25jZQ==").contains("Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        let hex = |text: &[u8]| crate::oci::hex(&sha1(text));
        assert_eq!(hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        // Around the length at which the padding takes another block.
        assert_eq!(hex(&[b'a'; 55]), "c1c8bbdc22796e28c0e15163d20899b65621d65a");
        assert_eq!(hex(&[b'a'; 56]), "c2db330f6083854c99d4b5bfb6e8f29f201be699");
        assert_eq!(hex(&[b'a'; 64]), "0098ba824b5c16427bd7a1122a5a442a25ec644d");
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    /// A masked frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match payload.len() {
            length @ ..126 => bytes.push(0x80 | length as u8),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        bytes
    }

    #[test]
    fn what_a_client_sends() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let out = Mutex::new(Socket::new(ours));
        let long = vec![b'x'; 40_000];
        let parts = [frame(0x01, b"te"), frame(0x80, b"xt "), frame(0x89, b"?"), frame(0x82, &long), frame(0x88, b"")];
        let mut stdin = Vec::new();
        receive(&parts.concat()[..], &mut stdin, &out).unwrap();
        assert!(stdin.starts_with(b"text xxx") && stdin.len() == 40_005);
        let mut pong = [0; 3];
        theirs.read_exact(&mut pong).unwrap();
        assert_eq!(pong, [0x8a, 1, b'?']);
        let table = [
            // Not masked, a reserved bit, a long control frame, an unknown kind, a length beyond all.
            vec![0x82, 1, b'x'],
            frame(0xc2, b"x"),
            frame(0x89, &[0; 126]),
            frame(0x83, b"x"),
            [&[0x82, 0xff][..], &[0xff; 8], &[0; 4]].concat(),
        ];
        for bytes in table {
            let error = receive(&bytes[..], &mut Vec::new(), &out).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{bytes:?}");
        }
        assert_eq!(receive(&b"\x82"[..], &mut Vec::new(), &out).err().map(|error| error.kind()), None);
    }
}
