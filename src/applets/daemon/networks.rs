//! Flags of the daemon that speak of networks, each with a key in the configuration.

use super::Daemon;
use crate::engine::Settings;
use anyhow::{Context, Result, anyhow};

/// Those that stand in both places.
pub fn both(flags: &Daemon, settings: &Settings) -> Vec<&'static str> {
    let usual = Settings::default();
    let list = |flag: &[String], set: &[String]| !flag.is_empty() && !set.is_empty();
    let both = [
        ("ip", flags.ip.is_some() && settings.ip.is_some()),
        ("publish-default", flags.publish_default.is_some() && settings.publish_default.is_some()),
        ("iptables", flags.iptables.is_some() && settings.iptables != usual.iptables),
        ("ip6tables", flags.ip6tables.is_some() && settings.ip6tables.is_some()),
        ("ip-forward", flags.ip_forward.is_some() && settings.ip_forward != usual.ip_forward),
        ("ip-forward-no-drop", flags.ip_forward_no_drop && settings.ip_forward_no_drop),
        ("userland-proxy", flags.userland_proxy.is_some() && settings.userland_proxy != usual.userland_proxy),
        ("bridge", flags.bridge.is_some() && settings.bridge.is_some()),
        ("bip", flags.bip.is_some() && settings.bip.is_some()),
        ("bip6", flags.bip6.is_some() && settings.bip6.is_some()),
        ("fixed-cidr", flags.fixed_cidr.is_some() && settings.fixed_cidr.is_some()),
        ("fixed-cidr-v6", flags.fixed_cidr_v6.is_some() && settings.fixed_cidr_v6.is_some()),
        ("default-gateway", flags.default_gateway.is_some() && settings.default_gateway.is_some()),
        ("default-gateway-v6", flags.default_gateway_v6.is_some() && settings.default_gateway_v6.is_some()),
        ("mtu", flags.mtu.is_some() && settings.mtu.is_some()),
        ("icc", flags.icc.is_some() && settings.icc != usual.icc),
        ("ip-masq", flags.ip_masq.is_some() && settings.ip_masq != usual.ip_masq),
        ("ipv6", flags.ipv6 && settings.ipv6),
        ("default-address-pools", !flags.default_address_pool.is_empty() && !settings.default_address_pools.is_empty()),
        ("default-network-opts", !flags.default_network_opt.is_empty() && !settings.default_network_opts.is_empty()),
        ("host-gateway-ips", !flags.host_gateway_ip.is_empty() && !settings.host_gateways().is_empty()),
        ("dns", list(&flags.dns, &settings.dns)),
        ("dns-opts", list(&flags.dns_opt, &settings.dns_opts)),
        ("dns-search", list(&flags.dns_search, &settings.dns_search)),
    ];
    both.into_iter().filter(|(_, both)| *both).map(|(name, _)| name).collect()
}

/// Adds what the flags say.
pub fn apply(flags: &Daemon, settings: &mut Settings) -> Result<()> {
    fn put<T: Clone>(flag: &Option<T>, to: &mut Option<T>) {
        if flag.is_some() {
            to.clone_from(flag);
        }
    }
    put(&flags.ip, &mut settings.ip);
    put(&flags.publish_default, &mut settings.publish_default);
    put(&flags.ip6tables, &mut settings.ip6tables);
    put(&flags.bridge, &mut settings.bridge);
    put(&flags.bip, &mut settings.bip);
    put(&flags.bip6, &mut settings.bip6);
    put(&flags.default_gateway, &mut settings.default_gateway);
    put(&flags.default_gateway_v6, &mut settings.default_gateway_v6);
    put(&flags.mtu, &mut settings.mtu);
    for (name, flag, to) in [
        ("fixed-cidr", &flags.fixed_cidr, &mut settings.fixed_cidr),
        ("fixed-cidr-v6", &flags.fixed_cidr_v6, &mut settings.fixed_cidr_v6),
    ] {
        if let Some(text) = flag {
            *to = Some(text.parse().map_err(|why: String| anyhow!("--{name}: {why}"))?);
        }
    }
    for (flag, to) in [
        (flags.iptables, &mut settings.iptables),
        (flags.ip_forward, &mut settings.ip_forward),
        (flags.userland_proxy, &mut settings.userland_proxy),
        (flags.icc, &mut settings.icc),
        (flags.ip_masq, &mut settings.ip_masq),
    ] {
        *to = flag.unwrap_or(*to);
    }
    settings.ipv6 |= flags.ipv6;
    settings.ip_forward_no_drop |= flags.ip_forward_no_drop;
    settings.firewall_cooperate |= flags.firewall_cooperate;
    for text in &flags.default_address_pool {
        settings
            .default_address_pools
            .push(text.parse().map_err(|why: String| anyhow!("--default-address-pool: {why}"))?);
    }
    for text in &flags.default_network_opt {
        let parts = text.split_once('=').and_then(|(driver, rest)| Some((driver, rest.split_once('=')?)));
        let (driver, (key, value)) =
            parts.with_context(|| format!("--default-network-opt {text:?}: not driver=key=value"))?;
        let of_driver = settings.default_network_opts.entry(driver.to_owned()).or_default();
        of_driver.insert(key.to_owned(), value.to_owned());
    }
    settings.host_gateway_ips.extend(&flags.host_gateway_ip);
    settings.dns.extend(flags.dns.iter().cloned());
    settings.dns_opts.extend(flags.dns_opt.iter().cloned());
    settings.dns_search.extend(flags.dns_search.iter().cloned());
    Ok(())
}
