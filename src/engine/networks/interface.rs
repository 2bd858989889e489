//! What the link of a container is called inside: `eth0` and so on, or as its network or the container asked.

use super::join::Place;
use super::stored;
use super::user::bad;
use crate::api::types::{EndpointSettings, Network};
use crate::order::Map;
use anyhow::{Result, bail};

/// The option of a bridge that says how names begin.
pub const PREFIX: &str = "com.docker.network.container_iface_prefix";
/// The option of a container on a network that says the whole name.
pub const NAME: &str = "com.docker.network.endpoint.ifname";

/// Refuses a beginning of names that can be none.
pub fn check_prefix(options: &Map<String, String>) -> Result<()> {
    match options.get(PREFIX).filter(|prefix| !prefix.is_empty() && !stored::is_link(&format!("{prefix}0"))) {
        Some(prefix) => Err(bad(format!("invalid value of {PREFIX}: {prefix:?}"))),
        None => Ok(()),
    }
}

/// The name that was asked for, if one was; 400 for what can be none.
pub fn asked(settings: &EndpointSettings) -> Result<Option<&str>> {
    let name = settings.driver_opts.iter().flatten().find(|(key, _)| *key == NAME).map(|(_, name)| name.as_str());
    match name.filter(|name| !name.is_empty()) {
        Some(name) if !stored::is_link(name) || name == "lo" => {
            Err(bad(format!("invalid endpoint settings:\ninvalid name of an interface: {name:?}")))
        }
        name => Ok(name),
    }
}

/// The name of a container's link to one more network: the one that it asked for, or the first that is free, also of those
/// that it asks for elsewhere.
pub fn name<'a>(
    network: &Network,
    settings: &EndpointSettings,
    places: &[Place],
    all: impl Iterator<Item = &'a EndpointSettings> + Clone,
) -> Result<String> {
    let is_taken = |name: &str| places.iter().any(|place| place.inside == name);
    if let Some(name) = asked(settings)? {
        if is_taken(name) {
            bail!("error renaming interface to {name:?}: file exists");
        }
        return Ok(name.to_owned());
    }
    let prefix = network.options.get(PREFIX).filter(|prefix| network.driver == stored::BRIDGE && !prefix.is_empty());
    let prefix = prefix.map_or("eth", String::as_str);
    let is_free =
        |name: &String| !is_taken(name) && !all.clone().any(|other| asked(other).ok().flatten() == Some(name));
    let mut names = (0..).map(|number: u32| format!("{prefix}{number}"));
    Ok(names.find(is_free).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_that_is_free() {
        let settings = |name: Option<&str>| EndpointSettings {
            driver_opts: name.map(|name| [(NAME.to_owned(), name.to_owned())].into()),
            ..EndpointSettings::default()
        };
        let place = |name: &&str| Place { inside: (*name).to_owned(), ..Place::default() };
        for (driver, prefix, name, taken, elsewhere, expected) in [
            ("bridge", "", None, vec![], None, Some("eth0")),
            ("bridge", "", None, vec!["eth0", "eth2"], None, Some("eth1")),
            ("bridge", "", None, vec![], Some("eth0"), Some("eth1")),
            ("bridge", "sea", None, vec!["eth0"], None, Some("sea0")),
            ("macvlan", "sea", None, vec![], None, Some("eth0")),
            ("bridge", "sea", Some("lan"), vec![], None, Some("lan")),
            ("bridge", "", Some("eth0"), vec!["eth0"], None, None),
            ("bridge", "", Some("lo"), vec![], None, None),
            ("bridge", "", Some("a/b"), vec![], None, None),
            ("bridge", "", Some("sixteen-letters-"), vec![], None, None),
        ] {
            let network = Network {
                driver: driver.to_owned(),
                options: [(PREFIX.to_owned(), prefix.to_owned())].into(),
                ..Network::default()
            };
            let (settings, other) = (settings(name), settings(elsewhere));
            let places: Vec<Place> = taken.iter().map(place).collect();
            let given = super::name(&network, &settings, &places, [&settings, &other].into_iter());
            assert_eq!(given.ok().as_deref(), expected, "{prefix:?} {name:?} {taken:?} {elsewhere:?}");
        }
        let prefix = |text: &str| [(PREFIX.to_owned(), text.to_owned())].into();
        assert!(check_prefix(&prefix("fourteenletter")).is_ok());
        assert!(check_prefix(&prefix("fifteen-letters")).is_err() && check_prefix(&prefix("a b")).is_err());
    }
}
