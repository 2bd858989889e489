//! Networks that are a configuration alone (`--config-only`), and those that are made after one (`--config-from`). A
//! configuration is kept as it was asked for: no subnet is chosen for it, no bridge made, and no container comes to it.

use super::stored;
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{Ipam, Network, NetworkCreate};
use anyhow::{Result, bail};

fn source(asked: &NetworkCreate) -> Option<&str> {
    asked.config_from.as_ref().map(|from| from.network.as_str()).filter(|name| !name.is_empty())
}

/// Refuses, in Docker's words, a configuration with what is no part of one, and a network with a configuration of its own
/// beside the one that it is made after.
pub fn check(asked: &NetworkCreate) -> Result<()> {
    let forbidden = |text: &str| Err(Refusal::Forbidden(text.to_owned()).into());
    if asked.config_only && (asked.ingress || asked.internal || asked.attachable || !asked.scope.is_empty()) {
        return forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal \
             | attachable | scope ] are not supported.",
        );
    }
    if source(asked).is_none() {
        return Ok(());
    }
    if asked.config_only {
        return forbidden("a configuration network cannot depend on another configuration network");
    }
    let is_empty = |map: &Option<crate::order::Map<String, String>>| map.as_ref().is_none_or(|map| map.is_empty());
    let own_addresses = asked.ipam.as_ref().is_some_and(|ipam| {
        !matches!(ipam.driver.as_str(), "" | "default")
            || !is_empty(&ipam.options)
            || ipam.config.as_ref().is_some_and(|config| !config.is_empty())
    });
    if asked.enable_ipv4 == Some(false) || asked.enable_ipv6 == Some(true) || own_addresses || !is_empty(&asked.labels)
    {
        return forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        );
    }
    match is_empty(&asked.options) {
        true => Ok(()),
        false => {
            forbidden("network driver options are not supported if the network depends on a configuration network")
        }
    }
}

/// The configuration that was asked for, as a network.
pub fn network(asked: NetworkCreate) -> Result<Network> {
    let ipam = asked.ipam.unwrap_or_default();
    Ok(Network {
        name: asked.name,
        id: stored::new_id()?,
        created: Time::now().to_string(),
        scope: "local".to_owned(),
        driver: "null".to_owned(),
        enable_ipv4: asked.enable_ipv4.unwrap_or(true),
        enable_ipv6: asked.enable_ipv6.unwrap_or(false),
        ipam: Ipam {
            driver: "default".to_owned(),
            options: ipam.options,
            config: Some(ipam.config.unwrap_or_default()),
        },
        config_only: true,
        options: asked.options.unwrap_or_default(),
        labels: asked.labels.unwrap_or_default(),
        ..Network::default()
    })
}

/// Completes what was asked for by the configuration that it names.
pub fn apply(asked: &mut NetworkCreate, all: &[Network]) -> Result<()> {
    let Some(name) = source(asked) else { return Ok(()) };
    let Some(from) = all.iter().find(|network| network.config_only && network.name == name) else {
        bail!(Refusal::NotFound(format!("configuration network {name:?} does not exist")));
    };
    asked.enable_ipv4 = Some(from.enable_ipv4);
    asked.enable_ipv6 = Some(from.enable_ipv6);
    asked.ipam = Some(from.ipam.clone());
    asked.options = Some(from.options.clone());
    asked.labels = Some(from.labels.clone());
    Ok(())
}

/// Refuses to remove a configuration while there is a network that was made after it.
pub fn check_unused(network: &Network, all: &[Network]) -> Result<()> {
    let is_user = |other: &Network| network.config_only && other.config_from.network == network.name;
    match all.iter().any(is_user) {
        true => bail!(Refusal::Forbidden(format!(
            "error while removing network: configuration network {:?} is in use",
            network.name
        ))),
        false => Ok(()),
    }
}

/// Refuses to bring a container to a configuration.
pub fn check_network(network: &Network) -> Result<()> {
    match network.config_only {
        true => bail!(Refusal::Forbidden("cannot create endpoint on configuration-only network".to_owned())),
        false => Ok(()),
    }
}
