//! Names for containers that were given none, the rule for those that were, and ids.

use super::store;
use crate::api::Refusal;
use crate::oci::hex;
use anyhow::{Result, bail};

/// A container's name as it was asked for, without the slash that it may begin with. One that breaks Docker's rule
/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+` is refused with 400 and Docker's words.
pub fn check(asked: &str) -> Result<&str> {
    let name = asked.strip_prefix('/').unwrap_or(asked);
    if !is_valid(name) {
        bail!(Refusal::BadParameter(format!(
            "Invalid container name ({asked}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    Ok(name)
}

/// Whether a container or volume may have this name. A file name of more than 255 bytes cannot be made.
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && (2..=255).contains(&name.len())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// A name like `brave_curie`. `attempt` is 0 at first and counts the names that were already taken; from the second
/// one on, a digit is added, as Docker does.
pub fn random(attempt: u32) -> Result<String> {
    let [a, b, c, d, digit] = store::random_bytes::<5>()?;
    let (adjective, surname) = (word(ADJECTIVES, [a, b]), word(SURNAMES, [c, d]));
    Ok(match attempt {
        0 => format!("{adjective}_{surname}"),
        _ => format!("{adjective}_{surname}{}", digit % 10),
    })
}

/// One of these words.
fn word(words: &str, random: [u8; 2]) -> &str {
    let count = words.split(' ').count();
    words.split(' ').nth(usize::from(u16::from_ne_bytes(random)) % count).unwrap_or_default()
}

/// A new id: 64 hexadecimal digits, of which the first twelve are not all decimal, because a short id that is a
/// number is not a valid host name.
pub fn id() -> Result<String> {
    loop {
        let id = hex(&store::random_bytes::<32>()?);
        if !id.as_bytes()[..12].iter().all(u8::is_ascii_digit) {
            return Ok(id);
        }
    }
}

/// Words that are kind before every surname.
const ADJECTIVES: &str = "\
    able agile airy alert amiable ample apt astute awake bold brave breezy bright brisk buoyant calm candid \
    careful caring cheerful civil clear clever cordial crisp curious daring deft devoted diligent dreamy eager \
    earnest easy elegant exact fair faithful fearless fervent fine fond frank free fresh friendly gallant \
    generous gentle genuine glad golden graceful grand happy hardy hearty helpful honest hopeful humble ideal \
    jolly jovial joyful just keen kind lively loyal lucid lucky mellow merry mighty mindful modest musing neat \
    nimble noble patient peaceful placid plucky polite prompt proud quick quiet radiant ready robust sage \
    serene sharp sincere smart smooth snappy solid spry steady stoic sunny swift tender thankful thrifty tidy \
    tranquil trusty upbeat valiant vivid warm watchful willing wise witty zealous zesty";

/// People of science, engineering, seafaring and letters.
const SURNAMES: &str = "\
    abel aiken amundsen andersen archimedes ardern austen avogadro babbage backus banneker bardeen bartik \
    battuta becquerel bell berners bernoulli bessel bhabha bohr boltzmann boole borlaug bose boyle brahe \
    braille braun bronte brunel burnell cantor carson cassini cauchy cavendish celsius cerf chandrasekhar \
    chatelet cherenkov chomsky church clarke copernicus coulomb cray cunitz curie cuvier dalton darwin davinci \
    davy dedekind descartes dickinson dijkstra diophantus dirac doppler earhart easley edgerton einstein elion \
    erdos eratosthenes euclid euler faraday fermat fermi feynman fibonacci fleming floyd foucault fourier \
    franklin fresnel galileo galois gauss germain goddard godel goethe goodall hadamard haller halley hamilton \
    hamming harrison hawking heaviside hermite herschel hertz hilbert hipparchus hoare hodgkin holberton hooke \
    hopper hubble huffman humboldt huygens hypatia jacobi jemison jenner johnson joliot joule kalam kantorovich \
    kapitsa kelvin kepler kernighan khayyam khwarizmi kirchhoff knuth kolmogorov kovalevskaya lagrange lamarr \
    lamport laplace lavoisier leavitt leeuwenhoek legendre leibniz liskov lorentz lovelace maathai magellan \
    markov maxwell mccarthy mcclintock meitner mendel mendeleev mercator michelson milner minkowski mirzakhani \
    mitchell montessori morse nansen napier nash neumann newton nightingale nobel noether noyce ohm oersted \
    pascal pasteur pauling payne peano perlman planck poincare poisson polo ptolemy pythagoras ramanujan raman \
    rayleigh ride riemann ritchie roentgen rubin rutherford sagan salk sammet schroedinger shackleton shannon \
    sinoussi snell stokes tereshkova tesla thales thompson torvalds toussaint turing verne villani volta \
    wallace watt weierstrass wiener wilkes wiles wing wirth wright wu yonath zhang zuse";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Set;

    #[test]
    fn names_are_by_the_rule() {
        let long = "a".repeat(255);
        let too_long = "a".repeat(256);
        let cases = [
            ("ab", true),
            ("a_b.c-1", true),
            ("0x", true),
            (long.as_str(), true),
            (too_long.as_str(), false),
            ("a", false),
            ("", false),
            ("_ab", false),
            (".ab", false),
            ("-ab", false),
            ("a/b", false),
            ("/ab", false),
            ("a b", false),
            ("a\n", false),
            ("aé", false),
            ("..", false),
        ];
        for (name, valid) in cases {
            assert_eq!(is_valid(name), valid, "{name}");
            // One slash in front is the API's.
            assert_eq!(check(&format!("/{name}")).ok(), valid.then_some(name));
        }
        let refusal = check("a b").unwrap_err();
        assert_eq!(refusal.downcast_ref::<Refusal>().map(Refusal::status), Some(400));
    }

    #[test]
    fn random_names_are_valid_and_many() {
        let mut seen = Set::new();
        for attempt in 0..200 {
            let name = random(attempt % 2).unwrap();
            assert!(is_valid(&name), "{name}");
            assert_eq!(name.ends_with(|c: char| c.is_ascii_digit()), attempt % 2 == 1, "{name}");
            seen.insert(name);
        }
        assert!(seen.len() > 150);
        for words in [ADJECTIVES, SURNAMES] {
            let words: Vec<&str> = words.split(' ').collect();
            assert_eq!(words.iter().collect::<Set<_>>().len(), words.len(), "a word stands twice");
            assert!(words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())));
            assert!(words.len() >= 80);
        }
    }

    #[test]
    fn ids_are_hex() {
        let id = id().unwrap();
        assert_eq!(id.len(), 64);
        assert!(id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
}
