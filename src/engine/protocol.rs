//! The protocol of a shim's socket: small, versioned, no allocation needed to speak it.
//!
//! ```text
//! message = "DH" version op a:i32 b:i32 length:u32 payload     (integers in the machine's order; one machine)
//!
//! attach  a = STDIN|STDOUT|STDERR, payload = detach keys,
//!         b = 1 with what is in the log before it          → ok, then the connection is the stream
//! wait    a = 1 until the container is removed             → ok at once, exited later
//! resize  a = rows, b = columns                            → ok
//! signal  a = number, b = 1 if it is meant to end it       → ok | failed
//! stop    a = signal, b = seconds (-1: for ever)           → exited
//!         a = 0: only if it waits for a start                | failed, it does not
//! names                                                    → ok, it has the resolver of its networks | failed
//! moved                                                    → ok: its ports lead elsewhere now, and who passes on what
//!                                                            comes to them, by a program, begins anew
//! ports   a, b = how many, with their descriptors: those    → ok: it holds them for the container from now on
//!         that are reserved, and those that a program serves
//! still                                                    → ok, its processes are told to stand still until the
//!                                                            connection ends | failed
//! start                                                    → ok, a = pid | failed, a = exit code, b = status of the
//!                                                            API (0: by a shim that tells none), payload = why
//! restart a = signal, b = seconds (-1: for ever),
//!         payload = which executable asks                  → ok, a = pid, once it has been stopped and runs again |
//!                                                            failed, the same; a = 304: it does not run, a stop that
//!                                                            came later called the start off, or the shim is that of
//!                                                            another executable, and would start it by that
//! ```
//!
//! A stop, and a signal that is meant to end it, call off what a restart policy would do.
//! A connection that ends without an answer means that the shim has ended: look at the record.

use std::fmt;
use std::io::{self, Read, Write};

pub const VERSION: u8 = 1;

/// What a message asks or answers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub enum Op {
    Attach = 1,
    Wait = 2,
    Resize = 3,
    Signal = 4,
    Stop = 5,
    Start = 6,
    Names = 7,
    Still = 8,
    Restart = 9,
    Moved = 10,
    Ports = 11,
    Ok = 0x80,
    Failed = 0x81,
    Exited = 0x82,
}

pub const STDIN: i32 = 1;
pub const STDOUT: i32 = 2;
pub const STDERR: i32 = 4;

/// Instead of an exit code: the shim has waited for a start, and goes because the container is removed.
pub const NEVER_RAN: i32 = -1;

/// Instead of an exit code: nothing was done, because nothing was to be done.
pub const NOT_DONE: i32 = 304;

pub const HEADER: usize = 16;
/// With one message; the kernel takes 253 (unix(7)).
pub const MOST_PORTS: usize = 128;
/// Detach keys and error texts are shorter.
pub const PAYLOAD: usize = 4096;

/// A message without its payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message {
    pub op: Op,
    pub a: i32,
    pub b: i32,
    /// Bytes of payload that follow.
    pub length: u32,
}

impl Message {
    pub fn new(op: Op, a: i32, b: i32) -> Message {
        Message { op, a, b, length: 0 }
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&[b'D', b'H', VERSION, self.op as u8]);
        bytes[4..8].copy_from_slice(&self.a.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.b.to_ne_bytes());
        bytes[12..].copy_from_slice(&self.length.to_ne_bytes());
        bytes
    }

    /// Reads a header of this version or an older one.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Message, Unknown> {
        match bytes[..3] {
            [b'D', b'H', version] if version > VERSION => return Err(Unknown::Newer(version)),
            [b'D', b'H', version] if version > 0 => {}
            _ => return Err(Unknown::Rubbish),
        }
        Message::parse(bytes).ok_or(Unknown::Rubbish)
    }

    fn parse(bytes: &[u8; HEADER]) -> Option<Message> {
        let op = match bytes[3] {
            1 => Op::Attach,
            2 => Op::Wait,
            3 => Op::Resize,
            4 => Op::Signal,
            5 => Op::Stop,
            6 => Op::Start,
            7 => Op::Names,
            8 => Op::Still,
            9 => Op::Restart,
            10 => Op::Moved,
            11 => Op::Ports,
            0x80 => Op::Ok,
            0x81 => Op::Failed,
            0x82 => Op::Exited,
            _ => return None,
        };
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let length = u32::from_ne_bytes(word(12));
        (length as usize <= PAYLOAD).then_some(Message {
            op,
            a: i32::from_ne_bytes(word(4)),
            b: i32::from_ne_bytes(word(8)),
            length,
        })
    }
}

/// Why a header is not taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unknown {
    Newer(u8),
    Rubbish,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Newer(version) => write!(
                f,
                "version {version} of the protocol between shims and commands is newer than version {VERSION}, which \
                 this dhow knows"
            ),
            Unknown::Rubbish => f.write_str("that is no message of the protocol between shims and commands"),
        }
    }
}

impl From<Unknown> for io::Error {
    fn from(unknown: Unknown) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, unknown.to_string())
    }
}

/// Sends a message in one write. What is longer than [`PAYLOAD`] is cut.
pub fn send(to: &mut impl Write, mut message: Message, payload: &[u8]) -> io::Result<()> {
    let payload = &payload[..payload.len().min(PAYLOAD)];
    message.length = payload.len() as u32;
    let mut bytes = [0; HEADER + PAYLOAD];
    bytes[..HEADER].copy_from_slice(&message.encode());
    bytes[HEADER..HEADER + payload.len()].copy_from_slice(payload);
    to.write_all(&bytes[..HEADER + payload.len()])
}

/// Receives a message and its payload; `UnexpectedEof` where the shim has ended.
pub fn receive(from: &mut impl Read) -> io::Result<(Message, Vec<u8>)> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let message = Message::decode(&header)?;
    let mut payload = vec![0; message.length as usize];
    from.read_exact(&mut payload)?;
    Ok((message, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_way() {
        let mut wire = Vec::new();
        send(&mut wire, Message::new(Op::Failed, 127, -1), b"no such file").unwrap();
        let (message, payload) = receive(&mut wire.as_slice()).unwrap();
        assert_eq!((message.op, message.a, message.b), (Op::Failed, 127, -1));
        assert_eq!(payload, b"no such file");
    }

    #[test]
    fn rubbish_is_no_message_and_a_newer_version_is_named() {
        for bytes in [*b"GET / HTTP/1.1\r\n", *b"DH\x00\x01............", *b"DH\x01\x01........\xff\xff\xff\xff"] {
            assert_eq!(Message::decode(&bytes), Err(Unknown::Rubbish));
        }
        let newer = *b"DH\x02\x01............";
        assert_eq!(Message::decode(&newer), Err(Unknown::Newer(2)));
        let error = receive(&mut newer.as_slice()).unwrap_err().to_string();
        assert!(error.starts_with("version 2 of the protocol") && error.contains("newer than version 1"), "{error}");
    }
}
