//! Platforms: `linux/arm64/v8`, what this host runs, and which entry of an index suits it best.

use super::image::Descriptor;
use crate::json::fields::fields;
use anyhow::{Result, bail};
use std::fmt;

fields! {
    /// An operating system and an architecture, as Go names them.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Platform {
        pub architecture: String,
        pub os: String,
        #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
        pub os_version: Option<String>,
        #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
        pub os_features: Vec<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub variant: String,
    }
}

impl Platform {
    /// Reads `os[/arch[/variant]]` or an architecture alone; what is left out is the host's.
    pub fn parse(text: &str) -> Result<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if let Some(at) = parts.iter().position(|part| !word(part)) {
            // Words of Docker's.
            let what = if at == 0 { "an invalid OS component" } else { "an invalid component" };
            bail!(
                "{:?} is {what} of {text:?}: invalid platform: an os, an architecture and a variant are words",
                parts[at]
            );
        }
        let host = host();
        let (os, architecture, variant) = match parts[..] {
            [os] if is_os(os) => (os, host.architecture.as_str(), host.variant.as_str()),
            [arch] if is_architecture(arch) => ("linux", arch, ""),
            [os, arch] => (os, arch, ""),
            [os, arch, variant] => (os, arch, variant),
            _ => bail!("{text:?}: unknown operating system or architecture: invalid argument"),
        };
        let (architecture, variant) = normalise(&architecture.to_ascii_lowercase(), &variant.to_ascii_lowercase());
        let os = os.to_ascii_lowercase();
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        Ok(Platform { architecture, os, variant, ..Platform::default() })
    }

    /// With synonyms resolved: `x86_64` is amd64, `arm64/v8` is arm64, `arm` is arm/v7.
    pub fn normalised(&self) -> Platform {
        let (architecture, variant) = normalise(&self.architecture, &self.variant);
        Platform { architecture, variant, ..self.clone() }
    }

    /// How well something made for `offer` runs on this platform: `None` not at all, otherwise 0 is best.
    pub fn suits(&self, offer: &Platform) -> Option<u32> {
        let (own, offer) = (self.normalised(), offer.normalised());
        if own.os != offer.os {
            return None;
        }
        runs(&own).iter().position(|(arch, variant)| *arch == offer.architecture && *variant == offer.variant).map(
            // Positions are few.
            |position| position as u32,
        )
    }

    /// The entry of an index that suits best; the first of equals. Attestations (`unknown/unknown`) never do.
    /// Where none suits, the first that does not say what it is for: an index within, or an image whose config tells.
    pub fn choose<'a>(&self, entries: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let images = || entries.iter().filter(|entry| !entry.is_attestation());
        let suited = images()
            .filter_map(|entry| Some((self.suits(entry.platform.as_ref()?)?, entry)))
            .min_by_key(|(score, _)| *score)
            .map(|(_, entry)| entry);
        suited.or_else(|| images().find(|entry| entry.platform.is_none()))
    }
}

/// `linux/arm64/v8`, without what is empty.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// What this executable runs on.
pub fn host() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "x86" => ("386", ""),
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        "powerpc64" => ("ppc64le", ""),
        "loongarch64" => ("loong64", ""),
        other => (other, ""),
    };
    Platform { architecture: architecture.into(), os: "linux".into(), variant: variant.into(), ..Platform::default() }
}

fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686" | "386", _) => ("386", ""),
        ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

/// What a normalised platform runs, best first: its own, then older arm variants, then its 32-bit brother.
fn runs(platform: &Platform) -> Vec<(&str, &str)> {
    const ARM: [&str; 4] = ["v8", "v7", "v6", "v5"];
    const AMD64: [&str; 4] = ["v4", "v3", "v2", ""];
    let down = |list: &'static [&'static str], from: &str| -> &'static [&'static str] {
        list.iter().position(|v| *v == from).map_or(&[], |at| &list[at..])
    };
    let (arch, variant) = (platform.architecture.as_str(), platform.variant.as_str());
    let mut list = vec![(arch, variant)];
    match arch {
        "arm" => list.extend(down(&ARM, variant).iter().map(|v| ("arm", *v))),
        "arm64" => {
            list.push(("arm64", ""));
            list.extend(ARM.iter().map(|v| ("arm", *v)));
        }
        "amd64" => {
            list.extend(down(&AMD64, variant).iter().map(|v| ("amd64", *v)));
            list.push(("386", ""));
        }
        _ => {}
    }
    list
}

fn is_os(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "linux" | "windows" | "darwin" | "macos" | "freebsd" | "wasip1")
}

fn is_architecture(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "amd64"
            | "x86_64"
            | "x86-64"
            | "386"
            | "i386"
            | "i686"
            | "arm"
            | "armhf"
            | "armel"
            | "arm64"
            | "aarch64"
            | "ppc64le"
            | "s390x"
            | "riscv64"
            | "loong64"
            | "mips64le"
            | "ppc64"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let entry = |(n, text): (usize, &&str)| {
            let (os, arch) = text.split_once('/').unwrap();
            let (arch, variant) = arch.split_once('/').unwrap_or((arch, ""));
            let offered =
                Platform { os: os.into(), architecture: arch.into(), variant: variant.into(), ..Platform::default() };
            Descriptor { size: n as u64, platform: Some(offered), ..Descriptor::of("", b"") }
        };
        platforms.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn spellings() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("LINUX/AMD64", "linux/amd64"),
            ("amd64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
        ] {
            assert_eq!(platform(text).to_string(), shown, "{text}");
        }
        assert_eq!(platform("linux"), host().normalised());
        for bad in ["", "/", "linux/", "linux/a/b/c", "linux/am d64", "toaster", "linux/../x"] {
            assert!(Platform::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_best_entry_is_chosen() {
        for (wanted, offered, chosen) in [
            ("linux/amd64", vec!["linux/arm64", "linux/amd64"], Some(1)),
            ("linux/amd64", vec!["unknown/unknown", "linux/amd64"], Some(1)),
            ("linux/amd64", vec!["linux/386", "linux/amd64"], Some(1)),
            ("linux/amd64", vec!["linux/386"], Some(0)),
            ("linux/amd64", vec!["linux/amd64/v2", "windows/amd64"], None),
            ("linux/amd64/v3", vec!["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some(1)),
            ("linux/arm/v7", vec!["linux/arm/v5", "linux/arm/v6", "linux/arm64/v8"], Some(1)),
            ("linux/arm/v6", vec!["linux/arm/v7", "linux/arm/v5"], Some(1)),
            ("linux/arm/v5", vec!["linux/arm/v7", "linux/arm/v6"], None),
            ("linux/arm64", vec!["linux/arm/v6", "linux/arm64/v8"], Some(1)),
            ("linux/arm64", vec!["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/arm", vec!["linux/arm", "linux/arm/v7"], Some(0)),
            ("linux/s390x", vec!["linux/amd64"], None),
        ] {
            let entries = index(&offered);
            let found = platform(wanted).choose(&entries).map(|entry| entry.size as usize);
            assert_eq!(found, chosen, "{wanted} of {offered:?}");
        }
    }
}
