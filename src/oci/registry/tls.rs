//! Whom we trust, and who we are, on a TLS connection to one registry.

use crate::api::http::provider::provider;
use crate::order;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Where distributions keep the bundle of certificate authorities.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-bundle.crt",
];

/// The TLS settings for `host` (with its port, if it has one): the roots of `SSL_CERT_FILE` or the system's bundle,
/// else those built in; and of each directory in `certs_dirs`, `<host>/*.crt` as further roots and `<host>/*.cert`
/// with `*.key` as our own. `insecure` checks nobody's name.
pub fn config(host: &str, certs_dirs: &[PathBuf], insecure: bool) -> Result<TlsConfig> {
    let mut extra = Vec::new();
    let mut client = None;
    for dir in certs_dirs {
        let dir = dir.join(host);
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        order::sort(&mut names);
        for path in names {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => extra.extend(certificates(&path)?),
                Some("cert") if client.is_none() => client = Some(client_cert(&path)?),
                _ => {}
            }
        }
    }
    let builder = TlsConfig::builder().client_cert(client).disable_verification(insecure);
    let builder = builder.unversioned_rustls_crypto_provider(provider());
    if insecure {
        return Ok(builder.build());
    }
    let roots = match (system_roots()?, extra) {
        (None, extra) if extra.is_empty() => RootCerts::WebPki,
        (system, extra) => RootCerts::from(system.unwrap_or_default().into_iter().chain(extra)),
    };
    Ok(builder.root_certs(roots).build())
}

fn system_roots() -> Result<Option<Vec<Certificate<'static>>>> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        return certificates(Path::new(&path)).map(Some);
    }
    match BUNDLES.iter().map(Path::new).find(|path| path.is_file()) {
        Some(path) => certificates(path).map(Some),
        None => Ok(None),
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("read certificates {}", path.display()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) =
            item.with_context(|| format!("read certificates {}", path.display()))?
        {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        bail!("{} holds no PEM certificate", path.display());
    }
    Ok(found)
}

fn client_cert(path: &Path) -> Result<ClientCert> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let key_path = path.with_extension("key");
    let chain = certificates(path)?;
    let pem = match std::fs::read(&key_path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "missing key {} for client certificate {}. CA certificates must use the extension .crt",
            key_path.display(),
            path.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("read {}", key_path.display())),
    };
    let key = PrivateKey::from_pem(&pem).with_context(|| format!("read {}", key_path.display()))?;
    // ureq takes it for granted that the two belong together.
    let der_chain: Vec<_> = chain.iter().map(|c| CertificateDer::from(c.der().to_vec())).collect();
    let der_key = PrivateKeyDer::from_pem_slice(&pem).with_context(|| format!("read {}", key_path.display()))?;
    rustls::sign::CertifiedKey::from_der(der_chain, der_key, &provider())
        .with_context(|| format!("use client certificate {} with {}", path.display(), key_path.display()))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
