//! Which commands a plugin does in our place, for who calls us `docker`: what `aliases` of config.json says, and builds
//! where the daemon does them with BuildKit, whose protocol is buildx's.
//!
//! Docker's command hands builds to buildx wherever that is installed. Ours does so where config.json says it
//! (`docker buildx install`) or the daemon tells in its ping that it builds with BuildKit; every other daemon, ours among
//! them, is asked to build by its API. `DOCKER_BUILDKIT=0` means that everywhere.

use super::{Context, habits, host, output, plugin};
use crate::api::units::parse_bool;
use anyhow::{Result, anyhow, bail};
use std::path::PathBuf;

/// The only command that may be another's by config.json, and what docker says of others.
const ALIASED: &str = "builder";
const ALLOWED: &str = "map[string]struct {}{\"builder\":struct {}{}}";
/// The plugin that builds unless an alias names another.
const BUILDX: &str = "buildx";
/// What has it build with another builder than the context's own.
const BUILDER: &str = "BUILDX_BUILDER";

const WARNING: &str = "DEPRECATED: The legacy builder is deprecated and will be removed in a future release.\n            \
     Install the buildx component to build images with BuildKit:\n            https://docs.docker.com/go/buildx/\n";
const MISSING: &str = "ERROR: BuildKit is enabled but the buildx component is missing or broken.\n       \
     Install the buildx component to build images with BuildKit:\n       https://docs.docker.com/go/buildx/";
const NO_BAKE: &str = "ERROR: docker bake requires the buildx component but it is missing or broken.\n       \
     Install the buildx component to use bake:\n       https://docs.docker.com/go/buildx/";

/// What a plugin that takes a command's place is told besides.
#[derive(Default)]
pub struct Forwarded {
    /// The words in front of the plugin's own, as it is to call itself; nothing where that is by its name.
    pub called: Option<String>,
    pub environment: Vec<(String, String)>,
}

/// Puts the plugin's command in the place of the one at `at`, if it is a plugin's.
pub fn forward(context: &Context, args: &mut Vec<String>, at: usize) -> Result<Forwarded> {
    let aliases = habits::read()?.aliases;
    for (word, meant) in &aliases {
        if word != ALIASED {
            bail!("not allowed to alias {word:?} (allowed: {ALLOWED})");
        }
        if super::is_known(meant.split(' ').next().unwrap_or_default()) {
            bail!("not allowed to alias with builtin {meant:?} as target");
        }
    }
    let alias = aliases.get(ALIASED);
    if let Some(forwarded) = build(context, args, at, alias)? {
        return Ok(forwarded);
    }
    if let (Some(word), Some(meant)) = (args.get_mut(at).filter(|word| *word == ALIASED), alias) {
        word.clone_from(meant);
    }
    Ok(Forwarded::default())
}

/// The same of what builds.
fn build(context: &Context, args: &mut Vec<String>, at: usize, alias: Option<&String>) -> Result<Option<Forwarded>> {
    let wish = match std::env::var("DOCKER_BUILDKIT").ok().filter(|text| !text.is_empty()) {
        Some(text) => Some(parse_bool(&text).ok_or_else(|| {
            let why = "DOCKER_BUILDKIT environment variable expects boolean value";
            anyhow!("{why}: strconv.ParseBool: parsing {text:?}: invalid syntax")
        })?),
        None => None,
    };
    let words: Vec<&str> = args[at..].iter().map(String::as_str).collect();
    let (taken, given, called) = match words.as_slice() {
        ["bake", ..] => (1, &["bake"][..], "docker"),
        ["builder", ..] => (1, &[][..], "docker builder"),
        ["build", ..] => (1, &["build"][..], "docker"),
        ["image", "build", ..] => (2, &["build"][..], "docker image"),
        _ => return Ok(None),
    };
    // Nobody else can do that one.
    let bake = words.first() == Some(&"bake");
    let is_others = bake || (wish != Some(false) && (alias.is_some() || builds_with_buildkit(context)));
    if !is_others {
        return Ok(None);
    }
    let name = alias.map_or(BUILDX, String::as_str);
    if let Err(broken) = whole(name)? {
        let explain = |words: &str| match &broken {
            Some(why) => anyhow!("{why}\n\n{words}"),
            None => anyhow!("{words}"),
        };
        return match (bake, alias.is_some() || wish == Some(true)) {
            (true, _) => Err(explain(NO_BAKE)),
            (false, true) => Err(explain(MISSING)),
            (false, false) => {
                output::complain(&explain(WARNING).to_string());
                Ok(None)
            }
        };
    }
    let mut environment = Vec::new();
    // As with docker, the context's own builder makes an image of the daemon's, unless another one is asked for.
    if alias.is_none() && !names_builder(&words) {
        environment.push((BUILDER.to_owned(), host::context_name(&context.wish)?));
    }
    let given = std::iter::once(name).chain(given.iter().copied()).map(str::to_owned).collect::<Vec<_>>();
    args.splice(at..at + taken, given);
    Ok(Some(Forwarded { called: Some(called.to_owned()), environment }))
}

/// Whether the plugin is there; if it is, but broken, why.
fn whole(name: &str) -> Result<Result<PathBuf, Option<String>>> {
    Ok(match plugin::candidate(name)? {
        Some(path) => match plugin::examine(name, &path).1 {
            Some(why) => Err(Some(why)),
            None => Ok(path),
        },
        None => Err(None),
    })
}

/// Whether the daemon says so. Of one that cannot be asked the command itself will tell.
fn builds_with_buildkit(context: &Context) -> bool {
    let asked = || -> Result<bool> { Ok(context.client()?.builder()? == "2") };
    asked().unwrap_or(false)
}

fn names_builder(words: &[&str]) -> bool {
    let flag = |word: &&str| *word == "--builder" || word.starts_with("--builder=");
    words.iter().any(flag) || std::env::var_os(BUILDER).is_some_and(|name| !name.is_empty())
}
