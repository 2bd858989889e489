//! Sysctls of one link of a container: `net.ipv4.conf.IFNAME.log_martians=1`. What the link is called inside is found out
//! at its start, so the name stands for it.

use crate::api::Refusal;
use crate::api::types::EndpointSettings;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// The option that has them, comma-separated.
pub const OPTION: &str = "com.docker.network.endpoint.sysctls";

/// One of them: the file below /proc/sys, with a place for the link, and what is written there.
#[derive(Debug, PartialEq)]
struct Sysctl<'a> {
    before: String,
    name: &'a str,
    value: &'a str,
}

/// Reads one. Files of a link lie in its own directory, and nowhere else is anything written.
fn read(text: &str) -> Option<Sysctl<'_>> {
    let (key, value) = text.split_once('=')?;
    let is_plain = |part: &&str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let parts: Vec<&str> = key.split('.').filter(|part| !part.is_empty()).collect();
    // Docker's command writes all of it small.
    match parts.as_slice() {
        ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind, "IFNAME" | "ifname", name]
            if is_plain(kind) && is_plain(name) && key.split('.').count() == 5 =>
        {
            Some(Sysctl { before: format!("net/{family}/{kind}"), name, value })
        }
        _ => None,
    }
}

/// All that were asked for; 400 for what is none.
pub fn of(settings: &EndpointSettings) -> Result<Vec<String>> {
    let Some(text) = settings.driver_opts.as_ref().and_then(|options| options.get(OPTION)) else {
        return Ok(Vec::new());
    };
    if let Some(wrong) = text.split(',').find(|text| read(text).is_none()) {
        return Err(Refusal::BadParameter(format!(
            "invalid endpoint settings:\nunrecognised network interface sysctl '{wrong}'; represent 'net.X.Y.ethN.Z=V' as \
             'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
        ))
        .into());
    }
    Ok(text.split(',').map(str::to_owned).collect())
}

/// Sets them, in the network namespace in which this is called.
pub fn set(sysctls: &[String], link: &str) -> Result<()> {
    for text in sysctls {
        let Sysctl { before, name, value } = read(text).with_context(|| format!("{text} is no sysctl of a link"))?;
        let path = format!("/proc/sys/{before}/{link}/{name}");
        if !Path::new(&path).is_file() {
            bail!("{path} is not a sysctl file");
        }
        std::fs::write(&path, value).with_context(|| format!("unable to write to '{path}'"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_sysctl_of_a_link() {
        for (text, place) in [
            ("net.ipv4.conf.IFNAME.log_martians=1", Some(("net/ipv4/conf", "log_martians", "1"))),
            ("net.ipv6.neigh.ifname.gc_stale_time=60", Some(("net/ipv6/neigh", "gc_stale_time", "60"))),
            ("net.ipv4.conf.IFNAME.x=", Some(("net/ipv4/conf", "x", ""))),
            ("net.ipv4.conf.eth0.log_martians=1", None),
            ("net.ipv4.conf.IFNAME.log_martians", None),
            ("net.core.conf.IFNAME.x=1", None),
            ("net.ipv4.conf.IFNAME.a.b=1", None),
            ("net.ipv4.IFNAME.x=1", None),
            ("net.ipv4..IFNAME.x=1", None),
            ("net.ipv4./../../kernel.IFNAME.x=1", None),
            ("net.ipv4.conf.IFNAME.../x=1", None),
            ("net.ipv4.conf.IFNAME.a/b=1", None),
            ("", None),
        ] {
            let place = place.map(|(before, name, value)| Sysctl { before: before.to_owned(), name, value });
            assert_eq!(read(text), place, "{text}");
        }
        let settings = |text: &str| EndpointSettings {
            driver_opts: Some([(OPTION.to_owned(), text.to_owned())].into()),
            ..EndpointSettings::default()
        };
        assert_eq!(of(&EndpointSettings::default()).unwrap(), Vec::<String>::new());
        let two = "net.ipv4.conf.IFNAME.a=1,net.ipv6.conf.ifname.b=2";
        assert_eq!(of(&settings(two)).unwrap().join(","), two);
        for wrong in ["", "net.ipv4.conf.IFNAME.a=1,", "net.ipv4.conf.eth0.a=1"] {
            let error = of(&settings(wrong)).unwrap_err();
            assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(400), "{wrong}");
        }
    }
}
