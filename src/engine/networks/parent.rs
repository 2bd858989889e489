//! Networks of the drivers macvlan and ipvlan: their containers are on a link of this host, the parent, beside it. Nothing
//! of them passes this host's firewall, and this host itself does not reach them.

use super::super::store::Store;
use super::{stored, theirs};
use crate::api::Refusal;
use crate::api::types::Network;
use crate::net::link::{self, Kind};
use crate::net::netlink::Socket;
use anyhow::{Context, Result, bail};

pub const PARENT: &str = "parent";
const OPTIONS: [&str; 5] = [PARENT, "macvlan_mode", "ipvlan_mode", "ipvlan_flag", stored::MTU];

/// What kind of link its containers have; `None` of a network that is no such. The words of the errors are Docker's.
pub fn kind(network: &Network) -> Result<Option<Kind>> {
    let option = |key: &str, default: &'static str| network.options.get(key).map_or(default, String::as_str);
    let bad = |text: String| Err(Refusal::BadParameter(text).into());
    match network.driver.as_str() {
        "macvlan" => {
            let mode = match option("macvlan_mode", "bridge") {
                "private" => 1,
                "vepa" => 2,
                "bridge" | "" => 4,
                "passthru" => 8,
                other => {
                    return bad(format!(
                        "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
                    ));
                }
            };
            Ok(Some(Kind::Macvlan { mode }))
        }
        "ipvlan" => {
            let mode = match option("ipvlan_mode", "l2") {
                "l2" | "" => 0,
                "l3" => 1,
                "l3s" => 2,
                other => {
                    return bad(format!(
                        "requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"
                    ));
                }
            };
            let flags = match option("ipvlan_flag", "bridge") {
                "bridge" | "" => 0,
                "private" => 1,
                "vepa" => 2,
                other => {
                    return bad(format!(
                        "requested ipvlan flag '{other}' is not valid, 'bridge' is the ipvlan driver default"
                    ));
                }
            };
            Ok(Some(Kind::Ipvlan { mode, flags }))
        }
        _ => Ok(None),
    }
}

/// Whether containers are given a gateway: those of an ipvlan that routes are not.
pub fn has_gateway(network: &Network) -> bool {
    !matches!(kind(network), Ok(Some(Kind::Ipvlan { mode: 1 | 2, .. })))
}

/// The name of the link that containers share; one that is made for the network where nobody named one.
pub fn name(network: &Network) -> String {
    match network.options.get(PARENT).filter(|name| !name.is_empty()) {
        Some(name) => name.clone(),
        None => made(network),
    }
}

/// The name of a dummy that is made for a network, and of a VLAN's link until it is known whose it is.
fn made(network: &Network) -> String {
    format!("dm-{}", &network.id[..12])
}

/// Refuses a network that could not be.
pub fn check(network: &Network, others: &[Network]) -> Result<()> {
    let Some(kind) = kind(network)? else { return Ok(()) };
    if let Some(key) = network.options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        bail!(Refusal::BadParameter(format!("unknown option of the driver {}: {key}", network.driver)));
    }
    let parent = name(network);
    if !stored::is_link(&parent) {
        bail!(Refusal::BadParameter(format!("invalid name of a link: {parent:?}")));
    }
    if parent == "lo" {
        bail!(Refusal::BadParameter(format!("loopback interface is not a valid {} parent link", network.driver)));
    }
    let alone = |network: &Network| network.options.get("macvlan_mode").is_some_and(|mode| mode == "passthru");
    for other in others.iter().filter(|other| matches!(other.driver.as_str(), "macvlan" | "ipvlan")) {
        let same = name(other) == parent;
        // The kernel has a link be a parent of one kind, and with passthru of one link.
        if same && (other.driver != network.driver || alone(other) || alone(network)) {
            bail!(Refusal::Forbidden(format!("network {} is already using parent interface {parent}", other.name)));
        }
    }
    let socket = Socket::route().context("open a netlink socket")?;
    if !link::knows(&socket, kind).context("ask for a kind of link")? {
        bail!("this kernel has no links of the kind {}", kind.name());
    }
    Ok(())
}

/// The index of the parent, which is made where it is ours to make: a dummy, or a VLAN of a link (`eth0.10`).
pub fn ensure(network: &Network) -> Result<u32> {
    let socket = Socket::route().context("open a netlink socket")?;
    let name = name(network);
    let find = |name: &str| link::find(&socket, name).with_context(|| format!("look for link {name}"));
    if let Some(link) = find(&name)? {
        return Ok(link.index);
    }
    let no_kind = |error: std::io::Error, kind: &str| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            anyhow::anyhow!("this kernel has no links of the kind {kind}: name a parent (-o parent=)")
        }
        _ => anyhow::Error::from(error).context(format!("make the link {name}")),
    };
    if is_own(network) {
        link::make_plain(&socket, &name, "dummy").map_err(|error| no_kind(error, "dummy"))?;
    } else {
        let vlan = name.rsplit_once('.').and_then(|(parent, number)| Some((parent, number.parse::<u16>().ok()?)));
        let vlan = vlan.filter(|(_, number)| (1..4095).contains(number));
        let parent = vlan.map(|(parent, _)| find(parent)).transpose()?.flatten();
        let (Some((_, number)), Some(parent)) = (vlan, parent) else {
            bail!(Refusal::BadParameter(format!("-o parent interface was not found on the host: {name}")));
        };
        // Its own name comes last: whoever is killed before leaves one that is the network's for sure.
        let made = made(network);
        if find(&made)?.is_none() {
            link::make_vlan(&socket, &made, parent.index, number).map_err(|error| no_kind(error, "vlan"))?;
        }
        let index = find(&made)?.context("the link that was made is gone")?.index;
        let finish = || {
            link::set_alias(&socket, index, &theirs::alias(network))?;
            link::rename(&socket, index, &name)?;
            link::set_up(&socket, index)
        };
        finish().with_context(|| format!("make the link {name}"))?;
    }
    Ok(find(&name)?.context("the link that was made is gone")?.index)
}

/// Whether the parent is a link that nobody named.
fn is_own(network: &Network) -> bool {
    network.options.get(PARENT).is_none_or(String::is_empty)
}

/// Takes the parent away, if it was made for the network. One that another network shares is handed on to that.
pub fn remove(store: &Store, network: &Network) -> Result<()> {
    let socket = Socket::route().context("open a netlink socket")?;
    let name = name(network);
    if !is_own(network) {
        let link = link::find(&socket, &name).with_context(|| format!("look for link {name}"))?;
        let Some(link) = link.filter(|link| link.alias == theirs::alias(network)) else {
            // What a killed command began.
            return link::delete(&socket, &made(network)).with_context(|| format!("delete the link {name}"));
        };
        let shares = |other: &Network| {
            matches!(other.driver.as_str(), "macvlan" | "ipvlan") && other.id != network.id && self::name(other) == name
        };
        if let Some(heir) = stored::with_files(store)?.into_iter().find(shares) {
            return link::set_alias(&socket, link.index, &theirs::alias(&heir)).context("hand on a link");
        }
    }
    link::delete(&socket, &name).with_context(|| format!("delete the link {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let network = |driver: &str, key: &str, value: &str| Network {
            driver: driver.to_owned(),
            options: [(key.to_owned(), value.to_owned())].into(),
            ..Network::default()
        };
        for (driver, key, value, expected) in [
            ("macvlan", "parent", "eth0", Some(Kind::Macvlan { mode: 4 })),
            ("macvlan", "macvlan_mode", "private", Some(Kind::Macvlan { mode: 1 })),
            ("ipvlan", "parent", "eth0", Some(Kind::Ipvlan { mode: 0, flags: 0 })),
            ("ipvlan", "ipvlan_mode", "l3s", Some(Kind::Ipvlan { mode: 2, flags: 0 })),
            ("ipvlan", "ipvlan_flag", "vepa", Some(Kind::Ipvlan { mode: 0, flags: 2 })),
            ("bridge", "macvlan_mode", "boat", None),
        ] {
            assert_eq!(kind(&network(driver, key, value)).unwrap(), expected, "{driver} {value}");
        }
        for (driver, key, value, words) in [
            ("macvlan", "macvlan_mode", "boat", "requested macvlan mode 'boat' is not valid"),
            ("ipvlan", "ipvlan_mode", "l4", "requested ipvlan mode 'l4' is not valid"),
            ("ipvlan", "ipvlan_flag", "boat", "requested ipvlan flag 'boat' is not valid"),
        ] {
            let error = kind(&network(driver, key, value)).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
        assert!(
            !has_gateway(&network("ipvlan", "ipvlan_mode", "l3")) && has_gateway(&network("macvlan", "parent", "a"))
        );
    }
}
