//! `dhow manifest create`, `annotate`, `inspect`, `push` and `rm`: one name for images of several platforms. They ask the
//! registry themselves: no engine has a part in it.

use super::inspect::indent;
use super::manifests::{self, Member};
use super::{Command, Context, face, output};
use crate::json;
use crate::oci::Platform;
use crate::oci::auth;
use crate::oci::image::{Descriptor, Document, ImageConfig, Index, Manifest, media};
use crate::oci::reference::Reference;
use crate::oci::registry::{Client, Pusher, Settings};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};

/// A config that is read for its platform alone.
const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// Create a local list of manifests, to annotate and push
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// add to a list that is there already
    #[argh(switch, short = 'a')]
    amend: bool,
    /// speak with a registry whose certificate is not to be trusted, or by plain HTTP
    #[argh(switch)]
    insecure: bool,
    #[argh(positional, arg_name = "MANIFEST_LIST")]
    list: String,
    #[argh(positional, arg_name = "MANIFEST [MANIFEST...]")]
    manifests: Vec<String>,
}

impl Command for Create {
    fn run(self, _: &Context) -> Result<u8> {
        let list = name(&self.list)?;
        let known = manifests::members(&list)?;
        if !known.is_empty() && !self.amend {
            bail!("refusing to amend an existing manifest list with no --amend flag");
        }
        // All of them are found before one is written.
        let mut found = Vec::new();
        for manifest in &self.manifests {
            let reference = name(manifest)?;
            if known.iter().all(|member| member.reference != reference) {
                found.push(image(&reference, self.insecure)?);
            }
        }
        found.iter().try_for_each(|member| manifests::put(&list, member))?;
        output::say(&format!("Created manifest list {list}\n"))?;
        Ok(0)
    }
}

/// Say what an image of a local list is for
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Annotate {
    /// the architecture
    #[argh(option)]
    arch: Option<String>,
    /// the operating system
    #[argh(option)]
    os: Option<String>,
    /// features that the operating system must have
    #[argh(option)]
    os_features: Vec<String>,
    /// the version of the operating system
    #[argh(option)]
    os_version: Option<String>,
    /// the variant of the architecture
    #[argh(option)]
    variant: Option<String>,
    #[argh(positional, arg_name = "MANIFEST_LIST")]
    list: String,
    #[argh(positional, arg_name = "MANIFEST")]
    manifest: String,
}

impl Command for Annotate {
    fn run(self, _: &Context) -> Result<u8> {
        let (list, reference) = (name(&self.list)?, name(&self.manifest)?);
        let found = manifests::members(&list)?.into_iter().find(|member| member.reference == reference);
        let Some(mut member) = found else {
            bail!("manifest for image {} does not exist in {}", reference.familiar(), list.familiar());
        };
        let platform = member.descriptor.platform.get_or_insert_default();
        let set = |field: &mut String, value: Option<String>| *field = value.unwrap_or_else(|| std::mem::take(field));
        set(&mut platform.architecture, self.arch);
        set(&mut platform.os, self.os);
        set(&mut platform.variant, self.variant);
        platform.os_version = self.os_version.or(platform.os_version.take());
        for feature in self.os_features.iter().flat_map(|features| features.split(',')) {
            if platform.os_features.iter().all(|known| known != feature) {
                platform.os_features.push(feature.to_owned());
            }
        }
        check(platform)?;
        manifests::put(&list, &member)?;
        Ok(0)
    }
}

/// Display a manifest, or a list of manifests
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// speak with a registry whose certificate is not to be trusted, or by plain HTTP
    #[argh(switch)]
    insecure: bool,
    /// with what each is for, and its digest
    #[argh(switch, short = 'v')]
    verbose: bool,
    #[argh(positional, arg_name = "[MANIFEST_LIST] MANIFEST")]
    names: Vec<String>,
}

impl Command for Inspect {
    fn run(self, _: &Context) -> Result<u8> {
        let (list, manifest) = match &self.names[..] {
            [manifest] => (None, name(manifest)?),
            [list, manifest] => (Some(name(list)?), name(manifest)?),
            _ => bail!("'{} manifest inspect' requires at least 1 and at most 2 arguments", face::name()),
        };
        if let Some(list) = list {
            let member = manifests::members(&list)?.into_iter().find(|member| member.reference == manifest);
            let member = match member {
                Some(member) => member,
                None => image(&manifest, self.insecure)?,
            };
            return self.print(&member);
        }
        let local = manifests::members(&manifest)?;
        if !local.is_empty() {
            return match self.verbose {
                true => print_all(&local),
                false => show(&serde_json::to_string(&index(&local)?).context("encode the list")?),
            };
        }
        let client = client(&manifest, self.insecure)?;
        let (descriptor, body) =
            client.manifest(&manifest.manifest_name()).map_err(|error| refused(&manifest, error))?;
        match Document::parse(&body, &descriptor.media_type)? {
            Document::Image(_) if self.verbose => self.print(&member(&client, manifest, descriptor, body)?),
            Document::Index(index) if self.verbose => {
                let mut members = Vec::new();
                for entry in index.manifests {
                    let (found, body) = client.manifest(&entry.digest.to_string())?;
                    let descriptor = Descriptor { platform: entry.platform, ..found };
                    members.push(Member { reference: manifest.with_digest(&entry.digest), descriptor, body });
                }
                print_all(&members)
            }
            _ => show(std::str::from_utf8(&body).context("the manifest is not text")?),
        }
    }
}

impl Inspect {
    fn print(&self, member: &Member) -> Result<u8> {
        match self.verbose {
            true => show(&member.json()?),
            false => show(std::str::from_utf8(&member.body).context("the manifest is not text")?),
        }
    }
}

fn print_all(members: &[Member]) -> Result<u8> {
    let all = members.iter().map(Member::json).collect::<Result<Vec<_>>>()?;
    output::say(&indent::array(&all))?;
    Ok(0)
}

fn show(json: &str) -> Result<u8> {
    output::say(&indent::one(json))?;
    Ok(0)
}

/// Push a list of manifests to a registry
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Push {
    /// speak with a registry whose certificate is not to be trusted, or by plain HTTP
    #[argh(switch)]
    insecure: bool,
    /// forget the local list once it is pushed
    #[argh(switch, short = 'p')]
    purge: bool,
    #[argh(positional, arg_name = "MANIFEST_LIST")]
    list: String,
}

impl Command for Push {
    fn run(self, _: &Context) -> Result<u8> {
        let list = name(&self.list)?;
        let members = manifests::members(&list)?;
        if members.is_empty() {
            bail!("No such manifest: {}", list.familiar());
        }
        for member in &members {
            if member.reference.domain != list.domain {
                bail!(
                    "cannot use source images from a different registry than the target image: {} != {}",
                    member.reference.domain,
                    list.domain
                );
            }
            check(member.descriptor.platform.as_ref().unwrap_or(&Platform::default()))?;
        }
        let settings = settings(&list, self.insecure);
        let pusher = Pusher::new(&list, auth::lookup(&list.domain)?, &settings)?;
        for member in members.iter().filter(|member| member.reference.path != list.path) {
            let from = client(&member.reference, self.insecure)?;
            let manifest: Manifest = json::from_slice(&member.body).context("read the image manifest")?;
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let shared = pusher.share(&from, &member.reference.path, blob);
                shared.with_context(|| format!("blob {}", blob.digest)).map_err(|error| refused(&list, error))?;
            }
            let digest =
                pusher.manifest(&member.descriptor.digest.to_string(), &member.descriptor.media_type, &member.body)?;
            output::say(&format!("Pushed ref {}@{digest} with digest: {digest}\n", list.name()))?;
        }
        let body = serde_json::to_vec(&index(&members)?).context("encode the list")?;
        let pushed = pusher.manifest(&list.manifest_name(), media::DOCKER_LIST, &body);
        let digest = pushed.map_err(|error| refused(&list, error))?;
        output::say(&format!("{digest}\n"))?;
        if self.purge {
            manifests::remove(&list)?;
        }
        Ok(0)
    }
}

/// Forget local lists of manifests
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    #[argh(positional, arg_name = "MANIFEST_LIST [MANIFEST_LIST...]")]
    lists: Vec<String>,
}

impl Command for Rm {
    fn run(self, _: &Context) -> Result<u8> {
        let mut errors = Vec::new();
        for list in &self.lists {
            let removed = name(list).and_then(|list| match manifests::remove(&list)? {
                true => Ok(()),
                false => bail!("No such manifest: {}", list.familiar()),
            });
            errors.extend(removed.err());
        }
        super::each::together(errors)
    }
}

fn name(text: &str) -> Result<Reference> {
    Ok(Reference::parse(text)?.or_latest())
}

fn settings(reference: &Reference, insecure: bool) -> Settings {
    let mut settings = Settings::default();
    settings.insecure_registries.extend(insecure.then(|| reference.domain.clone()));
    settings
}

fn client(reference: &Reference, insecure: bool) -> Result<Client> {
    Client::new(reference, auth::lookup(&reference.domain)?, &settings(reference, insecure))
}

/// An image as its registry has it, with the platform that its config says.
fn image(reference: &Reference, insecure: bool) -> Result<Member> {
    let client = client(reference, insecure)?;
    let (descriptor, body) = client.manifest(&reference.manifest_name()).map_err(|error| refused(reference, error))?;
    member(&client, reference.clone(), descriptor, body)
}

fn member(client: &Client, reference: Reference, mut descriptor: Descriptor, body: Vec<u8>) -> Result<Member> {
    let Document::Image(manifest) = Document::parse(&body, &descriptor.media_type)? else {
        bail!("{} is a manifest list", reference.familiar());
    };
    if !manifest.media_type.is_empty() {
        descriptor.media_type.clone_from(&manifest.media_type);
    }
    let config = client.blob_bytes(&manifest.config, MAX_CONFIG).context("the image config")?;
    let config = ImageConfig::parse(&config)?;
    let os_version = Some(config.os_version.clone()).filter(|version| !version.is_empty());
    descriptor.platform = Some(Platform { os_version, ..config.platform() });
    Ok(Member { reference, descriptor, body })
}

/// The list as registries have it, of Docker's form as Docker's client writes it.
fn index(members: &[Member]) -> Result<Index> {
    let manifests = members.iter().map(|member| member.descriptor.clone()).collect();
    Ok(Index { schema_version: 2, media_type: media::DOCKER_LIST.to_owned(), manifests, annotations: None })
}

fn refused(reference: &Reference, error: anyhow::Error) -> anyhow::Error {
    use crate::oci::registry::Refused;
    match error.downcast_ref::<Refused>() {
        Some(refused) if refused.status == 404 => anyhow::anyhow!("no such manifest: {}", reference.familiar()),
        Some(refused) => anyhow::anyhow!("{}: {refused}", reference.familiar()),
        None => error.context(reference.familiar()),
    }
}

/// What Go, and so Docker, knows as a pair of operating system and architecture.
fn check(platform: &Platform) -> Result<()> {
    let known: &[&str] = match platform.os.as_str() {
        "linux" => &[
            "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
            "riscv64", "s390x",
        ],
        "windows" => &["386", "amd64", "arm", "arm64"],
        "darwin" => &["386", "amd64", "arm", "arm64"],
        "freebsd" | "netbsd" | "openbsd" => &["386", "amd64", "arm"],
        "plan9" => &["386", "amd64"],
        "dragonfly" | "solaris" => &["amd64"],
        _ => &[],
    };
    if !known.contains(&platform.architecture.as_str()) {
        let (os, architecture) = (&platform.os, &platform.architecture);
        bail!("manifest entry for image has unsupported os/arch combination: {os}/{architecture}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_that_go_knows() {
        for (platform, known) in
            [("linux/riscv64", true), ("windows/amd64", true), ("linux/sparc", false), ("plan10/386", false)]
        {
            let (os, architecture) = platform.split_once('/').unwrap();
            let platform = Platform { os: os.into(), architecture: architecture.into(), ..Platform::default() };
            assert_eq!(check(&platform).is_ok(), known, "{platform}");
        }
    }
}
