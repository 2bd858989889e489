//! The frames of a container without a terminal: `[stream 0 0 0][length, 4 bytes big endian]`, then that many bytes.

/// What comes next in a stream of frames.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// This many bytes belong to a header, or to an error that is being collected.
    Header(usize),
    /// This many bytes are for stdout.
    Out(usize),
    /// This many bytes are for stderr.
    Err(usize),
    /// The engine tells of an error, or the frames are none.
    Failure(String),
}

const HEADER: usize = 8;
/// An error longer than this is cut.
const LONGEST_ERROR: usize = 4 << 10;
const STDERR: u8 = 2;
const SYSTEM_ERROR: u8 = 3;

/// Tells frames apart, however the bytes were cut on their way.
pub struct Demux {
    framed: bool,
    header: [u8; HEADER],
    have: usize,
    left: usize,
    error: Vec<u8>,
}

impl Demux {
    pub fn framed() -> Demux {
        Demux { framed: true, header: [0; HEADER], have: 0, left: 0, error: Vec::new() }
    }

    /// No frames: all is stdout.
    pub fn raw() -> Demux {
        Demux { framed: false, ..Demux::framed() }
    }

    /// What the first of these bytes are. A header's bytes are taken in; of the others, [`Demux::taken`] says how
    /// many were used.
    pub fn next(&mut self, bytes: &[u8]) -> Piece {
        if !self.framed {
            return Piece::Out(bytes.len());
        }
        if self.left == 0 {
            let length = bytes.len().min(HEADER - self.have);
            self.header[self.have..self.have + length].copy_from_slice(&bytes[..length]);
            self.have += length;
            if self.have == HEADER {
                self.have = 0;
                let [kind, .., a, b, c, d] = self.header;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if kind > SYSTEM_ERROR {
                    return Piece::Failure(format!("unrecognized stream: {kind}"));
                }
            }
            return Piece::Header(length);
        }
        let length = bytes.len().min(self.left);
        match self.header[0] {
            SYSTEM_ERROR => {
                let room = LONGEST_ERROR.saturating_sub(self.error.len());
                self.error.extend_from_slice(&bytes[..length.min(room)]);
                self.left -= length;
                if self.left == 0 {
                    return Piece::Failure(String::from_utf8_lossy(&self.error).trim().to_owned());
                }
                Piece::Header(length)
            }
            STDERR => Piece::Err(length),
            _ => Piece::Out(length),
        }
    }

    /// This many of the bytes were used.
    pub fn taken(&mut self, length: usize) {
        if self.framed {
            self.left -= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend((text.len() as u32).to_be_bytes());
        frame.extend(text);
        frame
    }

    /// Feeds bytes in pieces of one size, taking at most `most` at a time.
    fn feed(bytes: &[u8], size: usize, most: usize) -> (Vec<u8>, Vec<u8>, Option<String>) {
        let (mut out, mut err, mut demux) = (vec![], vec![], Demux::framed());
        for piece in bytes.chunks(size) {
            let mut piece = piece;
            while !piece.is_empty() {
                let used = match demux.next(piece) {
                    Piece::Header(length) => length,
                    Piece::Out(length) => {
                        out.extend(&piece[..length.min(most)]);
                        demux.taken(length.min(most));
                        length.min(most)
                    }
                    Piece::Err(length) => {
                        err.extend(&piece[..length.min(most)]);
                        demux.taken(length.min(most));
                        length.min(most)
                    }
                    Piece::Failure(message) => return (out, err, Some(message)),
                };
                piece = &piece[used..];
            }
        }
        (out, err, None)
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let bytes: Vec<u8> =
            [frame(1, b"hello "), frame(2, b"oh"), frame(1, b""), frame(0, b"wor"), frame(1, b"ld")].concat();
        for size in 1..=bytes.len() {
            for most in [1, 3, 100] {
                assert_eq!(feed(&bytes, size, most), (b"hello world".to_vec(), b"oh".to_vec(), None), "{size} {most}");
            }
        }
    }

    #[test]
    fn an_error_in_the_stream_is_an_error() {
        let bytes = [frame(1, b"a"), frame(3, b"too slow\n"), frame(1, b"b")].concat();
        for size in 1..=bytes.len() {
            assert_eq!(feed(&bytes, size, 9), (b"a".to_vec(), vec![], Some("too slow".into())), "{size}");
        }
        assert_eq!(feed(&frame(9, b"x"), 100, 9).2, Some("unrecognized stream: 9".into()));
    }

    #[test]
    fn a_terminal_has_no_frames() {
        assert_eq!(Demux::raw().next(b"\x02\0\0\0\0\0\0\x01x"), Piece::Out(9));
    }
}
