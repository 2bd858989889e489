//! `--ssh id=key`: key files that are shown to commands as an agent would show them. The keys stay in this process, which
//! tells their names and signs.

use super::agent::{FAILURE, REQUEST_IDENTITIES, SIGN_REQUEST, message};
use crate::api::base64;
use anyhow::{Context as _, Result, bail};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKey, KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512,
};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The answers of an agent (draft-ietf-sshm-ssh-agent, section 6.1).
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_RESPONSE: u8 = 14;
/// Which hash a signature of RSA is wanted with.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;
/// The largest key file.
const LARGEST: u64 = 64 << 10;

enum Pair {
    Ed25519(Ed25519KeyPair),
    /// Its name, and half the length of a signature.
    Ecdsa(Box<EcdsaKeyPair>, &'static str, usize),
    Rsa(Box<RsaKey>),
}

/// A private key, with its public one as the protocol writes it.
struct Key {
    public: Vec<u8>,
    name: String,
    pair: Pair,
}

/// An agent's socket in a directory of its own, until it is dropped.
pub struct Keyring {
    dir: PathBuf,
}

impl Keyring {
    /// Reads key files, and answers for them.
    pub fn start(files: &[&str]) -> Result<Keyring> {
        let keys = files.iter().map(|file| Key::read(Path::new(file)).with_context(|| format!("the key {file}")));
        let keys: Arc<Vec<Key>> = Arc::new(keys.collect::<Result<_>>()?);
        let mut number = [0; 8];
        ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut number).ok().context("ask for a random number")?;
        let dir = std::env::temp_dir().join(format!("dhow-agent-{:016x}", u64::from_ne_bytes(number)));
        std::fs::DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("make {}", dir.display()))?;
        let ring = Keyring { dir };
        let listener =
            UnixListener::bind(ring.socket()).with_context(|| format!("listen in {}", ring.dir.display()))?;
        // It ends with this process, of which the keys are.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let keys = Arc::clone(&keys);
                std::thread::spawn(move || serve(client, &keys));
            }
        });
        Ok(ring)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent")
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let _ = std::fs::remove_dir(&self.dir);
    }
}

fn serve(mut client: impl Read + Write, keys: &[Key]) {
    while let Ok(Some(question)) = message(&mut client) {
        let answer = answer(keys, &question[4..]).unwrap_or_else(|| FAILURE.to_vec());
        if client.write_all(&answer).is_err() {
            return;
        }
    }
}

fn answer(keys: &[Key], question: &[u8]) -> Option<Vec<u8>> {
    let (kind, rest) = question.split_first()?;
    let mut body = Vec::new();
    match *kind {
        REQUEST_IDENTITIES => {
            body.push(IDENTITIES_ANSWER);
            body.extend((keys.len() as u32).to_be_bytes());
            for key in keys {
                put(&mut body, &key.public);
                put(&mut body, key.name.as_bytes());
            }
        }
        SIGN_REQUEST => {
            let mut fields = Fields(rest);
            let (public, data, flags) = (fields.bytes()?, fields.bytes()?, fields.number()?);
            body.push(SIGN_RESPONSE);
            put(&mut body, &keys.iter().find(|key| key.public == public)?.sign(data, flags)?);
        }
        _ => return None,
    }
    let mut whole = (body.len() as u32).to_be_bytes().to_vec();
    whole.extend(body);
    Some(whole)
}

/// A string of the protocol.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend((bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// A number of the protocol: the shortest that is not negative.
fn put_number(to: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = unsigned(bytes);
    let sign: &[u8] = if bytes.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
    put(to, &[sign, bytes].concat());
}

/// Without zeros before it.
fn unsigned(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

/// Fields of the protocol, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        self.take(count as usize)
    }
}

impl Key {
    fn read(path: &Path) -> Result<Key> {
        let mut text = String::new();
        let file = std::fs::File::open(path).context("open it")?;
        file.take(LARGEST).read_to_string(&mut text).context("read it")?;
        let (kind, bytes) = pem(&text).context("it is no private key: there is no block of base64 in it")?;
        let name = path.display().to_string();
        match kind {
            "OPENSSH PRIVATE KEY" => openssh(&bytes, name),
            "RSA PRIVATE KEY" if !text.contains("ENCRYPTED") => {
                let pair = RsaKey::from_der(&bytes).map_err(|error| anyhow::anyhow!("it is no key of RSA: {error}"))?;
                Ok(rsa(pair, name))
            }
            _ if kind.contains("ENCRYPTED") || text.contains("ENCRYPTED") => bail!(ENCRYPTED),
            kind => bail!("a file with a {kind} is not taken: write it anew with ssh-keygen -p"),
        }
    }

    /// A signature with the name of its kind, as the protocol writes it.
    fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (kind, signature) = match &self.pair {
            Pair::Ed25519(pair) => ("ssh-ed25519", pair.sign(data).as_ref().to_vec()),
            Pair::Ecdsa(pair, kind, half) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(*half)?;
                let mut numbers = Vec::new();
                put_number(&mut numbers, r);
                put_number(&mut numbers, s);
                (*kind, numbers)
            }
            Pair::Rsa(pair) => {
                // Without a wish it would be SHA-1, which nobody takes any more.
                let (kind, padding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, data, &mut signature).ok()?;
                (kind, signature)
            }
        };
        let mut whole = Vec::new();
        put(&mut whole, kind.as_bytes());
        put(&mut whole, &signature);
        Some(whole)
    }
}

const ENCRYPTED: &str = "it has a passphrase, which is not asked for here: add it to an agent, by ssh-add";

/// The kind of the first block in a text, and its bytes.
fn pem(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (kind, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    // Lines with a colon are of an older form, and tell of its encryption.
    let digits: String = body.lines().filter(|line| !line.contains(':')).map(str::trim).collect();
    Some((kind, base64::decode(&digits)?))
}

/// The form of OpenSSH (PROTOCOL.key).
fn openssh(bytes: &[u8], name: String) -> Result<Key> {
    let cut = "the key is cut short";
    let mut fields = Fields(bytes.strip_prefix(b"openssh-key-v1\0").context("it is no key of OpenSSH")?);
    let (cipher, _, _) = (fields.bytes().context(cut)?, fields.bytes().context(cut)?, fields.bytes().context(cut)?);
    if cipher != b"none" {
        bail!(ENCRYPTED);
    }
    if fields.number().context(cut)? != 1 {
        bail!("there is more than one key in it");
    }
    let public = fields.bytes().context(cut)?.to_vec();
    let mut fields = Fields(fields.bytes().context(cut)?);
    if fields.number().context(cut)? != fields.number().context(cut)? {
        bail!("the key is damaged");
    }
    let kind = fields.bytes().context(cut)?;
    let mut next = || fields.bytes().context(cut);
    let wrong = |error: ring::error::KeyRejected| anyhow::anyhow!("the key is not valid: {error}");
    let pair = match kind {
        b"ssh-ed25519" => {
            let (point, secret) = (next()?, next()?);
            let seed = secret.get(..32).context(cut)?;
            Pair::Ed25519(Ed25519KeyPair::from_seed_and_public_key(seed, point).map_err(wrong)?)
        }
        b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" => {
            let (kind, algorithm, half) = match kind.ends_with(b"256") {
                true => ("ecdsa-sha2-nistp256", &ECDSA_P256_SHA256_FIXED_SIGNING, 32),
                false => ("ecdsa-sha2-nistp384", &ECDSA_P384_SHA384_FIXED_SIGNING, 48),
            };
            let (_, point, secret) = (next()?, next()?, unsigned(next()?));
            let secret = [&vec![0; half - secret.len().min(half)], secret].concat();
            let random = SystemRandom::new();
            let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &secret, point, &random);
            Pair::Ecdsa(Box::new(pair.map_err(wrong)?), kind, half)
        }
        b"ssh-rsa" => {
            let (n, e, d) = (unsigned(next()?), unsigned(next()?), unsigned(next()?));
            let (inverse, p, q) = (unsigned(next()?), unsigned(next()?), unsigned(next()?));
            let (one, two) = (remainder(d, &less_one(p)), remainder(d, &less_one(q)));
            let pair = RsaKey::from_components(&KeyPairComponents {
                public_key: PublicKeyComponents { n, e },
                d,
                p,
                q,
                dP: unsigned(&one),
                dQ: unsigned(&two),
                qInv: inverse,
            });
            return Ok(rsa(pair.map_err(wrong)?, name));
        }
        kind => bail!("keys of the kind {:?} are not taken", String::from_utf8_lossy(kind)),
    };
    Ok(Key { public, name, pair })
}

fn rsa(pair: RsaKey, name: String) -> Key {
    let parts: PublicKeyComponents<Vec<u8>> = pair.public().into();
    let mut public = Vec::new();
    put(&mut public, b"ssh-rsa");
    put_number(&mut public, &parts.e);
    put_number(&mut public, &parts.n);
    Key { public, name, pair: Pair::Rsa(Box::new(pair)) }
}

/// An odd number without its last bit.
fn less_one(odd: &[u8]) -> Vec<u8> {
    let mut even = odd.to_vec();
    even.iter_mut().last().into_iter().for_each(|byte| *byte &= 0xfe);
    even
}

/// What is left of a number by another: bit after bit, the highest first.
fn remainder(number: &[u8], by: &[u8]) -> Vec<u8> {
    // One byte more than it needs, so that twice of it has room.
    let by = [&[0], by].concat();
    let mut rest = vec![0u8; by.len()];
    for byte in number {
        for bit in (0..8).rev() {
            let mut carry = byte >> bit & 1;
            for digit in rest.iter_mut().rev() {
                (*digit, carry) = (*digit << 1 | carry, *digit >> 7);
            }
            if rest >= by {
                let mut borrow = false;
                for (digit, other) in rest.iter_mut().zip(&by).rev() {
                    let (less, first) = digit.overflowing_sub(*other);
                    let (less, second) = less.overflowing_sub(u8::from(borrow));
                    (*digit, borrow) = (less, first || second);
                }
            }
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn remainders() {
        for (number, by) in [(0u64, 1u64), (7, 3), (0xffff_ffff_ffff, 0xfffe), (0x1234_5678_9abc, 0x80_0000), (5, 9)] {
            let rest = remainder(&number.to_be_bytes(), unsigned(&by.to_be_bytes()));
            let rest = rest.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
            assert_eq!(rest, number % by, "{number} by {by}");
        }
    }

    /// What OpenSSH's own programs make of it: keys of every kind are listed, sign, and the signatures hold.
    #[test]
    fn keys_sign_as_openssh_has_it() {
        let dir = std::env::temp_dir().join(format!("dhow-keys-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let run = |program: &str, args: &[&str], agent: Option<&Keyring>| {
            let mut command = Command::new(program);
            command.args(args).stdin(std::process::Stdio::null());
            command.envs(agent.map(|ring| ("SSH_AUTH_SOCK", ring.socket())));
            command.output()
        };
        if run("ssh-keygen", &["-?"], None).is_err() {
            return crate::skip::skip("ssh-keygen is not installed").unwrap_or_default();
        }
        let kinds: [(&str, &[&str]); 6] = [
            ("ed", &["-t", "ed25519"]),
            ("p256", &["-t", "ecdsa", "-b", "256"]),
            ("p384", &["-t", "ecdsa", "-b", "384"]),
            ("rsa", &["-t", "rsa", "-b", "2048"]),
            ("pem", &["-t", "rsa", "-b", "3072", "-m", "PEM"]),
            ("locked", &["-t", "ed25519", "-N", "secret"]),
        ];
        for (name, flags) in kinds {
            let secret: &[&str] = if name == "locked" { &[] } else { &["-N", ""] };
            let made = run("ssh-keygen", &[&["-q", "-f", &at(name)], flags, secret].concat(), None).unwrap();
            assert!(made.status.success(), "{name}: {made:?}");
        }
        let files: Vec<String> = ["ed", "p256", "p384", "rsa", "pem"].map(at).into();
        let ring = Keyring::start(&files.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let listed = run("ssh-add", &["-L"], Some(&ring)).unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        std::fs::write(at("data"), "data").unwrap();
        for file in &files {
            let public = std::fs::read_to_string(format!("{file}.pub")).unwrap();
            let public = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
            assert!(listed.contains(&public), "{file}: {listed}");
            // The private key is not there any more: who signs is the agent.
            std::fs::rename(file, format!("{file}.away")).unwrap();
            let _ = std::fs::remove_file(at("data.sig"));
            let signed = run(
                "ssh-keygen",
                &["-Y", "sign", "-n", "test", "-f", &format!("{file}.pub"), &at("data")],
                Some(&ring),
            );
            assert!(signed.as_ref().unwrap().status.success(), "{file}: {signed:?}");
            std::fs::write(at("allowed"), format!("a@sea {public}\n")).unwrap();
            let line = format!(
                "ssh-keygen -Y verify -n test -I a@sea -f {} -s {} < {}",
                at("allowed"),
                at("data.sig"),
                at("data")
            );
            let held = run("sh", &["-c", &line], None).unwrap();
            assert!(held.status.success(), "{file}: {held:?}");
        }
        let socket = ring.socket();
        drop(ring);
        assert!(!socket.exists() && !socket.parent().unwrap().exists());
        for (name, text, words) in [
            ("locked", None, "it has a passphrase"),
            (
                "cut",
                Some("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n"),
                "cut short",
            ),
            (
                "ec",
                Some("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"),
                "write it anew with ssh-keygen -p",
            ),
            ("none", Some("x"), "it is no private key"),
        ] {
            text.into_iter().for_each(|text| std::fs::write(at(name), text).unwrap());
            let error = format!("{:#}", Keyring::start(&[&at(name)]).err().unwrap());
            assert!(error.contains(words), "{name}: {error}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
