//! Content digests: `sha256:<hex>`, computed at once or as bytes pass.

use crate::json::by_serde;
use anyhow::{Context, Result, bail};
use ring::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The algorithms of the image specification that a registry may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A validated digest: known algorithm, lower-case hex of the right length. Safe as a file name by its [`Digest::hex`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// Reads `algorithm:hex`; anything else is an error that names the text.
    pub fn parse(text: &str) -> Result<Digest> {
        let (algorithm, hex) = text.split_once(':').with_context(|| format!("invalid digest {text:?}"))?;
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            other => bail!("digest {text:?}: unsupported algorithm {other:?}"),
        };
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            bail!("invalid digest {text:?}: not {} lower-case hex digits", algorithm.hex_len());
        }
        Ok(Digest { algorithm, hex: hex.into() })
    }

    /// The sha256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hex digits alone.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first 12 hex digits, as Docker shortens identifiers.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `bytes` have this digest; the error says both.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        let found = hasher.finish();
        if found != *self {
            bail!("digest mismatch: expected {self}, got {found}");
        }
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Digest {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Digest> {
        Digest::parse(text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

by_serde! { Digest }

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).map_err(|error| de::Error::custom(format!("{error:#}")))
    }
}

/// Computes a digest piece by piece. The rare ones by ring, which has them for TLS.
#[derive(Clone)]
pub enum Hasher {
    Sha256(Sha256),
    Sha512(digest::Context),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(digest::Context::new(&digest::SHA512)),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest { algorithm: Algorithm::Sha256, hex: hex(&hasher.finalize()).into() },
            Hasher::Sha512(hasher) => {
                Digest { algorithm: Algorithm::Sha512, hex: hex(hasher.finish().as_ref()).into() }
            }
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_whole_lower_case_digests_parse() {
        assert_eq!(Digest::parse(EMPTY).unwrap().to_string(), EMPTY);
        assert_eq!(Digest::parse(EMPTY).unwrap().short(), "e3b0c44298fc");
        assert!(Digest::parse(&format!("sha512:{}", "ab".repeat(64))).is_ok());
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:e3b0",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &EMPTY.to_uppercase(),
            &EMPTY.replace('e', "E"),
            &EMPTY.replace('e', "/"),
            &format!("{EMPTY}0"),
            &format!("sha512:{}", "ab".repeat(32)),
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad:?} parsed");
        }
    }

    #[test]
    fn piece_by_piece_and_at_once_agree() {
        let text = b"some bytes that pass";
        let mut hasher = Hasher::new(Algorithm::Sha256);
        text.chunks(3).for_each(|piece| hasher.update(piece));
        assert_eq!(hasher.finish(), Digest::of(text));
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        Digest::of(text).verify(text).unwrap();
        let error = Digest::of(text).verify(b"other").unwrap_err().to_string();
        assert!(error.starts_with("digest mismatch: expected sha256:"), "{error}");
    }

    #[test]
    fn sha512_is_verified_too() {
        let digest = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        Digest::parse(digest).unwrap().verify(b"").unwrap();
        assert!(Digest::parse(digest).unwrap().verify(b"x").is_err());
    }
}
