//! What TLS computes with: ring, by way of rustls.

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// For connections of our own and to us.
#[cfg(not(target_arch = "x86_64"))]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Without ChaCha20-Poly1305, which is for processors that have no instructions for AES: these have had them since 2010,
/// everybody offers AES, and it is fifty kilobytes. All else is as rustls has it by default.
#[cfg(target_arch = "x86_64")]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aes::provider())
}

#[cfg(target_arch = "x86_64")]
mod aes {
    use rustls::crypto::ring::{ALL_KX_GROUPS, cipher_suite as suites, sign};
    use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::sign::SigningKey;
    use rustls::{SignatureScheme, SupportedCipherSuite};
    use std::sync::Arc;
    use webpki::ring as algorithms;

    const SUITES: &[SupportedCipherSuite] = &[
        suites::TLS13_AES_256_GCM_SHA384,
        suites::TLS13_AES_128_GCM_SHA256,
        suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];

    const SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
        all: &[
            algorithms::ECDSA_P256_SHA256,
            algorithms::ECDSA_P256_SHA384,
            algorithms::ECDSA_P384_SHA256,
            algorithms::ECDSA_P384_SHA384,
            algorithms::ED25519,
            algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
            algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
            algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
            algorithms::RSA_PKCS1_2048_8192_SHA256,
            algorithms::RSA_PKCS1_2048_8192_SHA384,
            algorithms::RSA_PKCS1_2048_8192_SHA512,
            algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
            algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
            algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
        ],
        // TLS 1.2 does not say which curve.
        mapping: &[
            (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithms::ECDSA_P384_SHA384, algorithms::ECDSA_P256_SHA384]),
            (SignatureScheme::ECDSA_NISTP256_SHA256, &[algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256]),
            (SignatureScheme::ED25519, &[algorithms::ED25519]),
            (SignatureScheme::RSA_PSS_SHA512, &[algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
            (SignatureScheme::RSA_PSS_SHA384, &[algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
            (SignatureScheme::RSA_PSS_SHA256, &[algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
            (SignatureScheme::RSA_PKCS1_SHA512, &[algorithms::RSA_PKCS1_2048_8192_SHA512]),
            (SignatureScheme::RSA_PKCS1_SHA384, &[algorithms::RSA_PKCS1_2048_8192_SHA384]),
            (SignatureScheme::RSA_PKCS1_SHA256, &[algorithms::RSA_PKCS1_2048_8192_SHA256]),
        ],
    };

    #[derive(Debug)]
    struct Ring;

    impl SecureRandom for Ring {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
            use ring::rand::{SecureRandom, SystemRandom};
            SystemRandom::new().fill(bytes).map_err(|_| GetRandomFailed)
        }
    }

    impl KeyProvider for Ring {
        fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
            sign::any_supported_type(&key)
        }
    }

    pub fn provider() -> CryptoProvider {
        CryptoProvider {
            cipher_suites: SUITES.to_vec(),
            kx_groups: ALL_KX_GROUPS.to_vec(),
            signature_verification_algorithms: SIGNATURES,
            secure_random: &Ring,
            key_provider: &Ring,
        }
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn as_rustls_has_it_but_for_one_cipher() {
            let (ours, theirs) = (super::provider(), rustls::crypto::ring::default_provider());
            let names = |provider: &rustls::crypto::CryptoProvider| {
                provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect::<Vec<_>>()
            };
            let aes: Vec<_> = names(&theirs).into_iter().filter(|name| !name.contains("CHACHA20")).collect();
            assert_eq!(names(&ours), aes);
            let groups = |provider: &rustls::crypto::CryptoProvider| {
                provider.kx_groups.iter().map(|group| group.name()).collect::<Vec<_>>()
            };
            assert_eq!(groups(&ours), groups(&theirs));
            let (ours, theirs) = (ours.signature_verification_algorithms, theirs.signature_verification_algorithms);
            assert_eq!(format!("{:?}", ours.all), format!("{:?}", theirs.all));
            assert_eq!(format!("{:?}", ours.mapping), format!("{:?}", theirs.mapping));
        }
    }
}
