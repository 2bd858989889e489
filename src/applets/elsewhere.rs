//! Commands of docker's about what dhow has not: swarms, plugins of the engine, checkpoints, signatures. For who calls us
//! `docker` they ask the daemon, which may be another's, by a question that changes nothing, and tell why it refuses; what
//! it would do is not done here.

use super::format::table::{self, List};
use super::{Command, Context, Entry, each, filter, habits, output, ps};
use crate::api::client::{Client, Failure};
use anyhow::{Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// The one that can do all that it is for.
pub static TABLE: &[Entry] = &[super::entry::<Ls>(&["plugin ls", "plugin list"])];

/// How a command comes to its refusal.
#[derive(Clone, Copy)]
enum How {
    /// The daemon is asked for this.
    At(&'static str),
    /// … for each name that is given, between these.
    Each(&'static str, &'static str),
    /// The same of inspect, which prints a list first.
    Inspect(&'static str, &'static str),
    /// The daemon would have to be in a swarm.
    InSwarm,
    /// The daemon would have to be experimental.
    Experimental,
    Never(&'static str),
}

use How::{At, Each, Experimental, InSwarm, Inspect, Never};

const NO_SWARM: &str = "swarm mode is not part of dhow";
const NO_PLUGINS: &str = "plugins are not part of dhow";
const NO_TRUST: &str = "images are not signed by dhow";

/// A group of commands, what it is for, and how each of them is refused.
type Group = (&'static str, &'static str, &'static [(&'static str, How)]);

const GROUPS: &[Group] = &[
    (
        "checkpoint",
        "checkpoints of containers",
        &[("create", Experimental), ("ls", Experimental), ("list", Experimental), ("rm", Experimental)],
    ),
    (
        "config",
        "configurations of a swarm",
        &[
            ("create", At("/configs")),
            ("inspect", Inspect("/configs/", "")),
            ("ls", At("/configs")),
            ("rm", Each("/configs/", "")),
        ],
    ),
    (
        "node",
        "nodes of a swarm",
        &[
            ("demote", Each("/nodes/", "")),
            ("inspect", Inspect("/nodes/", "")),
            ("ls", At("/nodes")),
            ("promote", Each("/nodes/", "")),
            ("ps", At("/nodes")),
            ("rm", Each("/nodes/", "")),
            ("update", Each("/nodes/", "")),
        ],
    ),
    (
        "plugin",
        "plugins of the engine",
        &[
            ("create", Never(NO_PLUGINS)),
            ("disable", Each("/plugins/", "/json")),
            ("enable", Each("/plugins/", "/json")),
            ("inspect", Inspect("/plugins/", "/json")),
            ("install", Never(NO_PLUGINS)),
            ("push", Never(NO_PLUGINS)),
            ("rm", Each("/plugins/", "/json")),
            ("set", Never(NO_PLUGINS)),
            ("upgrade", Never(NO_PLUGINS)),
        ],
    ),
    (
        "secret",
        "secrets of a swarm",
        &[
            ("create", At("/secrets")),
            ("inspect", Inspect("/secrets/", "")),
            ("ls", At("/secrets")),
            ("rm", Each("/secrets/", "")),
        ],
    ),
    (
        "service",
        "services of a swarm",
        &[
            ("create", At("/services")),
            ("inspect", Inspect("/services/", "")),
            ("logs", At("/services")),
            ("ls", At("/services")),
            ("ps", At("/services")),
            ("rm", Each("/services/", "")),
            ("rollback", At("/services")),
            ("scale", At("/services")),
            ("update", At("/services")),
        ],
    ),
    (
        "stack",
        "stacks of services of a swarm",
        &[
            ("config", Never(NO_SWARM)),
            ("deploy", At("/services")),
            ("ls", At("/services")),
            ("ps", At("/services")),
            ("rm", At("/services")),
            ("services", At("/services")),
        ],
    ),
    (
        "swarm",
        "a swarm of engines",
        &[
            ("ca", At("/swarm")),
            ("init", Never(NO_SWARM)),
            ("join", Never(NO_SWARM)),
            ("join-token", At("/swarm")),
            ("leave", InSwarm),
            ("unlock", InSwarm),
            ("unlock-key", At("/swarm")),
            ("update", At("/swarm")),
        ],
    ),
    (
        "trust",
        "signatures of images",
        &[
            ("inspect", Never(NO_TRUST)),
            ("key", Never(NO_TRUST)),
            ("revoke", Never(NO_TRUST)),
            ("sign", Never(NO_TRUST)),
            ("signer", Never(NO_TRUST)),
        ],
    ),
];

/// Whether a word begins one of these commands.
pub fn is_one(word: &str) -> bool {
    GROUPS.iter().any(|(group, ..)| *group == word)
}

/// Whether a group of them has a command of that name.
pub fn has(group: &str, verb: &str) -> bool {
    how(group, verb).is_some()
}

fn how(group: &str, verb: &str) -> Option<How> {
    let (.., verbs) = GROUPS.iter().find(|(name, ..)| *name == group)?;
    verbs.iter().find(|(name, _)| *name == verb).map(|(_, how)| *how)
}

/// The help of a group, or of a command in one.
pub fn help(name: &str) -> Option<String> {
    let (group, verb) = name.split_once(' ').map_or((name, None), |(group, verb)| (group, Some(verb)));
    let (_, about, verbs) = GROUPS.iter().find(|(name, ..)| *name == group)?;
    if verb.is_some_and(|verb| !has(group, verb)) {
        return None;
    }
    let verbs: Vec<&str> = verbs.iter().map(|(verb, _)| *verb).collect();
    Some(format!("Usage:  docker {group} COMMAND\n\n{about}, which dhow has not: {}\n", verbs.join(", ")))
}

/// Tells why a command of a group is not done.
pub fn refuse(context: &Context, group: &str, verb: &str, rest: &[String]) -> Result<u8> {
    let Some(how) = how(group, verb) else { bail!("no command {verb} of {group}") };
    if rest.iter().any(|word| word == "--help") {
        output::say(&help(group).unwrap_or_default())?;
        return Ok(0);
    }
    if let Never(why) = how {
        bail!("{why}");
    }
    let client = context.client()?;
    let names: Vec<&String> = rest.iter().filter(|word| !word.starts_with('-')).collect();
    let asked = match how {
        At(path) => vec![client.look(path, "", "").map(drop)],
        Each(before, after) | Inspect(before, after) => {
            names.iter().map(|name| client.look(before, name, after).map(drop)).collect()
        }
        InSwarm => vec![in_swarm(&client)],
        Experimental => vec![experimental(&client, &format!("docker {group} {verb}"))],
        Never(_) => vec![],
    };
    if matches!(how, Inspect(..)) {
        output::say("[]\n")?;
    }
    let errors: Vec<anyhow::Error> = asked.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() {
        bail!("docker {group} {verb}: the daemon does not refuse it, but it is not part of dhow's command");
    }
    each::together(errors)
}

fn in_swarm(client: &Client) -> Result<()> {
    match client.info()?.swarm.local_node_state.as_str() {
        "" | "inactive" => {
            let message = "This node is not part of a swarm".to_owned();
            Err(Failure { status: 503, message }.into())
        }
        _ => Ok(()),
    }
}

fn experimental(client: &Client, command: &str) -> Result<()> {
    match client.info()?.experimental_build {
        true => Ok(()),
        false => Err(anyhow!("{command} is only supported on a Docker daemon with experimental features enabled")),
    }
}

/// List the plugins of the engine
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// only those that meet a condition: capability=…, enabled=true
    #[argh(option, short = 'f', from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// print by a Go template, or "json"
    #[argh(option)]
    format: Option<String>,
    /// do not cut anything short
    #[argh(switch)]
    no_trunc: bool,
    /// print ids only
    #[argh(switch, short = 'q')]
    quiet: bool,
}

const LIST: List = List {
    go_type: "*plugin.pluginContext",
    headers: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("Enabled", "ENABLED"),
        ("PluginReference", "PLUGIN REFERENCE"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}",
    quiet: "{{.ID}}",
    raw: Some((
        "plugin_id: {{.ID}}\nname: {{.Name}}\ndescription: {{.Description}}\nenabled: {{.Enabled}}\n",
        "plugin_id: {{.ID}}",
    )),
};

impl Command for Ls {
    fn run(self, context: &Context) -> Result<u8> {
        let found: Vec<Value> = context.client()?.plugins(&filter::gather(self.filter))?;
        let rows: Vec<Value> = found.iter().map(|plugin| row(plugin, !self.no_trunc)).collect();
        let format = match self.quiet {
            true => self.format.unwrap_or_default(),
            false => habits::or_kept(self.format, |kept| kept.plugins_format)?,
        };
        output::say(&LIST.print(&format, self.quiet, &rows)?)?;
        Ok(0)
    }
}

fn row(plugin: &Value, short: bool) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, description) = (text(&plugin["Id"]), text(&plugin["Config"]["Description"]).replace(['\n', '\r'], ""));
    json!({
        "ID": if short { ps::short_id(&id).to_owned() } else { id },
        "Name": plugin["Name"],
        "Description": if short { table::ellipsis(&description, 45) } else { description },
        "Enabled": plugin["Enabled"],
        "PluginReference": plugin["PluginReference"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_of_another_daemon_in_dockers_columns() {
        let plugin = json!({
            "Id": "0123456789abcdef", "Name": "net:latest", "Enabled": true, "Config": {"Description": "b".repeat(60)},
        });
        assert_eq!(
            LIST.print("", false, &[row(&plugin, true)]).unwrap(),
            format!(
                "ID             NAME         DESCRIPTION                                     ENABLED\n\
                 0123456789ab   net:latest   {}…   true\n",
                "b".repeat(44)
            )
        );
        assert_eq!(LIST.print("", true, &[row(&plugin, false)]).unwrap(), "0123456789abcdef\n");
    }
}
