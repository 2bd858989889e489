//! Which devices of the Container Device Interface a `RUN` is given: what its Dockerfile names, as far as it may have
//! them.

use super::dockerfile::device::Device;
use super::dockerfile::mount::fields;
use crate::api::Refusal;
use crate::api::units::parse_bool;
use crate::oci::cdi::{self, Registry};
use crate::order::Map;
use anyhow::{Result, bail};

/// Annotations of devices and of their files: a name for several of them, and that every Dockerfile may have one.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// What `--allow device` grants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Granted {
    all: bool,
    names: Vec<String>,
    /// What devices are called in the Dockerfile, and what they are here.
    aliases: Map<String, String>,
}

impl Granted {
    /// Reads the entitlements that are about devices: `device`, `device=NAME`, `device=NAME,alias=NAME`.
    pub fn read<'a>(rights: impl IntoIterator<Item = &'a str>) -> Result<Granted, String> {
        let mut granted = Granted::default();
        for right in rights {
            match right.strip_prefix("device") {
                Some("" | "=") => granted.all = true,
                Some(rest) if rest.starts_with('=') => granted.add(&rest[1..])?,
                _ => {}
            }
        }
        Ok(granted)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let fields = fields(text)?;
        let Some((name, rest)) = fields.split_first() else { return Ok(()) };
        let mut alias = "";
        for field in rest {
            match field.split_once('=') {
                Some(("alias", value)) => alias = value,
                Some((key, _)) => return Err(format!("unknown device config key {key:?}")),
                None => return Err(format!("invalid device config {field:?}")),
            }
        }
        match alias {
            "" => self.names.push(name.clone()),
            alias => drop(self.aliases.insert(alias.to_owned(), name.clone())),
        }
        Ok(())
    }
}

/// The qualified names of what a command is given. Errors: something required is not there, or not allowed.
pub fn given(wanted: &[Device], granted: &Granted, registry: &Registry) -> Result<Vec<String>> {
    let (mut names, mut forbidden) = (Vec::new(), Vec::new());
    let mut allowed = Vec::new();
    for name in &granted.names {
        allowed.extend(found(&Device { name: name.clone(), required: true }, registry)?);
    }
    for device in wanted {
        let alias = granted.aliases.get(&device.name);
        let device = &Device { name: alias.unwrap_or(&device.name).clone(), ..device.clone() };
        for name in found(device, registry)? {
            let automatic = || registry.annotation(&name, AUTO_ALLOW).and_then(parse_bool) == Some(true);
            if granted.all || alias.is_some() || allowed.contains(&name) || automatic() {
                names.push(name);
            } else {
                forbidden.push(name);
            }
        }
    }
    for list in [&mut names, &mut forbidden] {
        let mut seen = Vec::new();
        list.retain(|name| {
            !seen.contains(name) && {
                seen.push(name.clone());
                true
            }
        });
    }
    let rights: Vec<String> = forbidden.iter().map(|name| format!("--allow device={name}")).collect();
    let words = match forbidden.as_slice() {
        [] => return Ok(names),
        [one] => format!("device {one} is requested by the build but not allowed"),
        more => format!("devices {} are requested by the build but not allowed", more.join(", ")),
    };
    bail!(Refusal::Forbidden(format!("{words}: build with {} if you trust this Dockerfile", rights.join(" "))))
}

/// What a name stands for: a device, one or all of a kind, those of a class.
fn found(device: &Device, registry: &Registry) -> Result<Vec<String>> {
    let name = device.name.as_str();
    let of_class = || registry.names().filter(|it| registry.annotation(it, CLASS) == Some(name)).map(str::to_owned);
    let (kind, one) = name.split_once('=').unwrap_or((name, ""));
    let of_kind = || registry.names().filter(|it| it.strip_prefix(kind).is_some_and(|rest| rest.starts_with('=')));
    let mut found: Vec<String> = match one {
        _ if !cdi::is_kind(kind) => Vec::new(),
        "" => of_kind().take(1).map(str::to_owned).collect(),
        "*" => of_kind().map(str::to_owned).collect(),
        _ => registry.names().filter(|it| *it == name).map(str::to_owned).collect(),
    };
    if found.is_empty() {
        found.extend(of_class());
    }
    if found.is_empty() && device.required {
        let why: Vec<&str> = registry.faults.iter().map(|(_, why)| why.as_str()).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        bail!(Refusal::NotFound(format!("required device {name:?} is not registered{why}")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_given_where_it_may_be() {
        let dir = std::env::temp_dir().join(format!("dhow-build-devices-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let device = |name: &str, annotations: &str| {
            format!("- name: {name}\n  annotations: {{{annotations}}}\n  containerEdits: {{env: [A=b]}}\n")
        };
        let devices = [
            device("bar", "org.mobyproject.buildkit.device.class: class1"),
            device("baz", "org.mobyproject.buildkit.device.class: class1"),
            device("foo", "org.mobyproject.buildkit.device.autoallow: true"),
        ];
        let text = format!("cdiVersion: 0.6.0\nkind: v.com/d\ndevices:\n{}", devices.concat());
        std::fs::write(dir.join("v.yaml"), text).unwrap();
        let registry = Registry::read(std::slice::from_ref(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
        let ask = |rights: &[&str], wanted: &[&str]| {
            let granted = Granted::read(rights.iter().copied()).unwrap();
            let wanted: Vec<Device> = wanted.iter().map(|text| Device::parse(text).unwrap()).collect();
            given(&wanted, &granted, &registry).map(|names| names.join(" ")).map_err(|error| error.to_string())
        };
        for (rights, wanted, expected) in [
            (&["device"][..], &["v.com/d=foo"][..], "v.com/d=foo"),
            (&["device"], &["v.com/d"], "v.com/d=bar"),
            (&["device"], &["v.com/d=*", "v.com/d=foo"], "v.com/d=bar v.com/d=baz v.com/d=foo"),
            (&["device="], &["class1"], "v.com/d=bar v.com/d=baz"),
            (&[], &["v.com/d=foo", "other", "w.com/d=foo"], "v.com/d=foo"),
            (&["device=v.com/d=bar"], &["v.com/d=bar,required"], "v.com/d=bar"),
            (&["device=class1"], &["v.com/d=baz"], "v.com/d=baz"),
            (&["device=v.com/d=bar,alias=mine"], &["mine,required"], "v.com/d=bar"),
        ] {
            assert_eq!(ask(rights, wanted), Ok(expected.to_owned()), "{rights:?} {wanted:?}");
        }
        for (rights, wanted, words) in [
            (
                &[][..],
                &["v.com/d=bar"][..],
                "device v.com/d=bar is requested by the build but not allowed: build with --allow device=v.com/d=bar if",
            ),
            (
                &["network.host"],
                &["class1"],
                "devices v.com/d=bar, v.com/d=baz are requested by the build but not allowed",
            ),
            (&["device=v.com/d=baz"], &["v.com/d=bar"], "device v.com/d=bar is requested"),
            (&["device"], &["v.com/d=qux,required"], "required device \"v.com/d=qux\" is not registered"),
            (&["device=v.com/d=qux"], &["v.com/d=foo"], "required device \"v.com/d=qux\" is not registered"),
            (&["device"], &["v.com,required"], "required device \"v.com\" is not registered"),
        ] {
            let said = ask(rights, wanted).unwrap_err();
            assert!(said.starts_with(words), "{rights:?} {wanted:?}: {said}");
        }
        for (right, words) in
            [("device=a,b", "invalid device config \"b\""), ("device=a,b=c", "unknown device config key \"b\"")]
        {
            assert_eq!(Granted::read([right]), Err(words.to_owned()));
        }
    }
}
