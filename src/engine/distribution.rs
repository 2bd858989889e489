//! What is asked of a registry without pulling from it: what it has under a name, and whether it knows somebody.

use crate::api::Refusal;
use crate::api::types::{AuthAnswer, AuthConfig, DistributionInspect};
use crate::oci::auth::Credentials;
use crate::oci::image::{Document, ImageConfig};
use crate::oci::registry::{self, Client, Refused, Settings};
use crate::oci::{Digest, Platform, Reference};
use anyhow::{Context, Result, bail};

/// A config that is read for its platform alone.
const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// `GET /distribution/{name}/json`.
pub fn inspect(name: &str, credentials: Option<Credentials>, settings: &Settings) -> Result<DistributionInspect> {
    if Digest::parse(name).is_ok() {
        bail!("no manifest found for full image ID");
    }
    let bad = |error: anyhow::Error| Refusal::BadParameter(format!("{error:#}"));
    let reference = Reference::parse(name).map_err(bad)?.or_latest();
    look(&reference, credentials, settings).map_err(|error| refusal(&reference.familiar(), error))
}

fn look(reference: &Reference, credentials: Option<Credentials>, settings: &Settings) -> Result<DistributionInspect> {
    let client = Client::new(reference, credentials, settings)?;
    let (mut descriptor, body) = client.manifest(&reference.manifest_name())?;
    let document = Document::parse(&body, &descriptor.media_type)?;
    let platforms: Vec<Platform> = match &document {
        Document::Index(index) => index.manifests.iter().filter_map(|entry| entry.platform.clone()).collect(),
        Document::Image(manifest) => {
            // What has no config that says what it is for is no less there.
            let config = client.blob_bytes(&manifest.config, MAX_CONFIG).and_then(|body| ImageConfig::parse(&body));
            config.ok().map(|config| config.platform()).into_iter().collect()
        }
    };
    let said = match &document {
        Document::Index(index) => &index.media_type,
        Document::Image(manifest) => &manifest.media_type,
    };
    if !said.is_empty() {
        descriptor.media_type.clone_from(said);
    }
    let known = |platform: &Platform| !(platform.os.is_empty() && platform.architecture.is_empty());
    let value = |value: serde_json::Result<serde_json::Value>| value.context("encode the answer");
    Ok(DistributionInspect {
        descriptor: value(serde_json::to_value(&descriptor))?,
        platforms: Some(
            platforms
                .iter()
                .filter(|one| known(one))
                .map(|one| value(serde_json::to_value(one)))
                .collect::<Result<_>>()?,
        ),
    })
}

/// `POST /auth`.
pub fn login(asked: AuthConfig, settings: &Settings) -> Result<AuthAnswer> {
    let credentials = Credentials {
        username: asked.username,
        password: asked.password,
        identity_token: asked.identitytoken,
        registry_token: asked.registrytoken,
    };
    let host = registry::host(&asked.serveraddress);
    if host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        bail!(Refusal::BadParameter(format!("invalid registry address {:?}", asked.serveraddress)));
    }
    match registry::login(host, credentials, settings) {
        Ok(identity_token) => Ok(AuthAnswer { status: "Login Succeeded".to_owned(), identity_token }),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == 401 => bail!(Refusal::Unauthorized(format!(
                "login attempt to {host} failed with status: 401 Unauthorized: {refused}"
            ))),
            _ => Err(error.context(format!("log in to {host}"))),
        },
    }
}

/// `GET /images/search`.
pub fn search() -> Result<()> {
    bail!(Refusal::NotImplemented(
        "search is not supported: it is a service of Docker Hub alone, see https://hub.docker.com/search".to_owned()
    ))
}

fn refusal(name: &str, error: anyhow::Error) -> anyhow::Error {
    let Some(refused) = error.downcast_ref::<Refused>() else { return error.context(format!("look up {name}")) };
    let said = format!("look up {name}: {refused}");
    match refused.status {
        401 => Refusal::Unauthorized(said).into(),
        403 => Refusal::Forbidden(said).into(),
        404 => Refusal::NotFound(said).into(),
        _ => error.context(format!("look up {name}")),
    }
}
