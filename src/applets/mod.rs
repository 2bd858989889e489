//! One file is one command that a user can type. THE TABLE is here; help, links and completions are printed from it.

mod attach;
mod boot;
mod build;
mod builder;
mod commit;
mod completion;
mod context;
mod contexts;
mod cp;
mod create;
mod daemon;
mod dial_stdio;
mod diff;
mod each;
mod elsewhere;
mod events;
mod exec;
mod export;
mod face;
mod filter;
mod format;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod globals;
mod habits;
mod help;
mod history;
mod hooks;
mod host;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod links;
mod load;
mod login;
mod logout;
mod logs;
mod manifest;
mod manifests;
mod network;
mod output;
mod parse;
mod pause;
mod piped;
mod plugin;
mod port;
mod ports;
mod progress;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod request;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod shim;
mod start;
mod stats;
mod stop;
mod stream;
mod system;
mod tag;
mod terminal;
mod top;
mod unpause;
mod update;
mod version;
mod volume;
mod wait;

use crate::api::client::{Client, Open, Place};
use crate::ns::init;
use anyhow::{Result, anyhow, bail};
use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use parse::Misuse;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Every command: its names (a name of two words is a management form), and where its flags and its work stand.
pub static TABLE: &[Entry] = &[
    entry::<run::Run>(&["run", "container run"]),
    entry::<create::Create>(&["create", "container create"]),
    entry::<start::Start>(&["start", "container start"]),
    entry::<stop::Stop>(&["stop", "container stop"]),
    entry::<restart::Restart>(&["restart", "container restart"]),
    entry::<kill::Kill>(&["kill", "container kill"]),
    entry::<pause::Pause>(&["pause", "container pause"]),
    entry::<unpause::Unpause>(&["unpause", "container unpause"]),
    entry::<wait::Wait>(&["wait", "container wait"]),
    entry::<rm::Rm>(&["rm", "container rm", "container remove"]),
    entry::<ps::Ps>(&["ps", "container ls", "container list", "container ps"]),
    entry::<logs::Logs>(&["logs", "container logs"]),
    entry::<exec::Exec>(&["exec", "container exec"]),
    entry::<attach::Attach>(&["attach", "container attach"]),
    entry::<cp::Cp>(&["cp", "container cp"]),
    entry::<diff::Diff>(&["diff", "container diff"]),
    entry::<export::Export>(&["export", "container export"]),
    entry::<port::Port>(&["port", "container port"]),
    entry::<ports::Ports>(&["ports"]),
    entry::<update::Update>(&["update", "container update"]),
    entry::<commit::Commit>(&["commit", "container commit"]),
    entry::<top::Top>(&["top", "container top"]),
    entry::<stats::Show>(&["stats", "container stats"]),
    entry::<rename::Rename>(&["rename", "container rename"]),
    entry::<inspect::Inspect>(&["inspect"]),
    entry::<inspect::InspectContainer>(&["container inspect"]),
    entry::<prune::PruneContainers>(&["container prune"]),
    entry::<pull::Pull>(&["pull", "image pull"]),
    entry::<push::Push>(&["push", "image push"]),
    entry::<images::Images>(&["images", "image ls", "image list"]),
    entry::<history::History>(&["history", "image history"]),
    entry::<tag::Tag>(&["tag", "image tag"]),
    entry::<import::Import>(&["import", "image import"]),
    entry::<build::Build>(&["build", "image build", "builder build"]),
    entry::<builder::Prune>(&["builder prune"]),
    entry::<save::Save>(&["save", "image save"]),
    entry::<load::Load>(&["load", "image load"]),
    entry::<login::Login>(&["login"]),
    entry::<logout::Logout>(&["logout"]),
    entry::<search::Search>(&["search"]),
    entry::<manifest::Create>(&["manifest create"]),
    entry::<manifest::Annotate>(&["manifest annotate"]),
    entry::<manifest::Inspect>(&["manifest inspect"]),
    entry::<manifest::Push>(&["manifest push"]),
    entry::<manifest::Rm>(&["manifest rm"]),
    entry::<rmi::Rmi>(&["rmi", "image rm", "image remove"]),
    entry::<inspect::InspectImage>(&["image inspect"]),
    entry::<prune::PruneImages>(&["image prune"]),
    entry::<volume::Create>(&["volume create"]),
    entry::<volume::Ls>(&["volume ls", "volume list"]),
    entry::<inspect::InspectVolume>(&["volume inspect"]),
    entry::<volume::Rm>(&["volume rm", "volume remove"]),
    entry::<prune::PruneVolumes>(&["volume prune"]),
    entry::<network::Create>(&["network create"]),
    entry::<network::Connect>(&["network connect"]),
    entry::<network::Disconnect>(&["network disconnect"]),
    entry::<network::Ls>(&["network ls", "network list"]),
    entry::<network::Rm>(&["network rm", "network remove"]),
    entry::<prune::PruneNetworks>(&["network prune"]),
    entry::<inspect::InspectNetwork>(&["network inspect"]),
    entry::<context::Create>(&["context create"]),
    entry::<context::Ls>(&["context ls", "context list"]),
    entry::<context::Use>(&["context use"]),
    entry::<context::Inspect>(&["context inspect"]),
    entry::<context::Update>(&["context update"]),
    entry::<context::Rm>(&["context rm", "context remove"]),
    entry::<context::Export>(&["context export"]),
    entry::<context::Import>(&["context import"]),
    entry::<context::Show>(&["context show"]),
    entry::<boot::Boot>(&["boot"]),
    entry::<version::Version>(&["version"]),
    entry::<info::Info>(&["info", "system info"]),
    entry::<system::Df>(&["system df"]),
    entry::<system::Prune>(&["system prune"]),
    entry::<events::Events>(&["events", "system events"]),
    entry::<daemon::Daemon>(&["daemon"]),
    hidden::<dial_stdio::DialStdio>(&["system dial-stdio"]),
    entry::<completion::Completion>(&["completion"]),
    entry::<links::Links>(&["links"]),
];

/// A command: its flags and operands are its fields, as argh reads them.
pub trait Command: FromArgs + ArgsInfo {
    /// Whether flags end at the first operand, because the rest is a command of its own.
    const STOPS: bool = false;

    /// Why a flag that docker's command of that name has is not there.
    fn refusal(_flag: &str) -> Option<&'static str> {
        None
    }

    /// Does it; the number is the exit code.
    fn run(self, context: &Context) -> Result<u8>;
}

/// One line of the table.
pub struct Entry {
    pub names: &'static [&'static str],
    pub hidden: bool,
    /// Whether its flags end at the first operand.
    pub stops: bool,
    pub info: fn() -> CommandInfoWithArgs,
    refusal: fn(&str) -> Option<&'static str>,
    run: fn(&Context, &str, &[&str]) -> Result<u8, Ended>,
}

/// Why a command ends early: its line was wrong, or its work was.
enum Stop {
    Misuse(Misuse),
    Error(anyhow::Error),
}

/// The same in the part that is compiled for each command: what argh says of a line is not understood yet.
enum Ended {
    Line(String),
    Work(anyhow::Error),
}

const fn entry<C: Command>(names: &'static [&'static str]) -> Entry {
    Entry { names, hidden: false, stops: C::STOPS, info: C::get_args_info, refusal: C::refusal, run: run::<C> }
}

/// One that other programs call, and nobody types.
const fn hidden<C: Command>(names: &'static [&'static str]) -> Entry {
    Entry { hidden: true, ..entry::<C>(names) }
}

fn run<C: Command>(context: &Context, spelt: &str, words: &[&str]) -> Result<u8, Ended> {
    let command = C::from_args(&[spelt], words).map_err(|exit| Ended::Line(exit.output))?;
    command.run(context).map_err(Ended::Work)
}

fn invoke(entry: &Entry, context: &Context, spelt: &str, args: &[String]) -> Result<u8, Stop> {
    let info = (entry.info)();
    let plain = parse::plain(&info, spelt, args, entry.stops).map_err(|misuse| match misuse {
        Misuse::Wrong { message, hint, code } => {
            let refusal = |flag| Some((flag, (entry.refusal)(flag)?));
            let refused = message.strip_prefix("unknown flag: ").and_then(refusal);
            let refused = refused.map(|(flag, why)| (format!("{flag} is not taken: {why}"), String::new()));
            let (message, hint) = refused.unwrap_or((message, hint));
            Stop::Misuse(Misuse::Wrong { message, hint, code })
        }
        help => Stop::Misuse(help),
    })?;
    let words: Vec<&str> = plain.iter().map(String::as_str).collect();
    (entry.run)(context, spelt, &words).map_err(|ended| match ended {
        Ended::Line(said) => Stop::Misuse(parse::complaint(&info, &said)),
        Ended::Work(error) => Stop::Error(error),
    })
}

/// What every command may use.
pub struct Context {
    open: Open,
    place: Place,
    wish: host::Wish,
}

impl Context {
    /// The daemon that is meant, or the engine in this process, opened.
    pub fn client(&self) -> Result<Client> {
        if face::is_docker() {
            habits::custom_headers().map_err(|error| coded(1, error.context("Failed to initialize")))?;
        }
        let name = host::context_name(&self.wish)?;
        let chosen = host::choose(&self.wish, &name, &self.place).map_err(|error| match face::is_docker() {
            true => coded(1, error.context("Failed to initialize: unable to resolve docker endpoint")),
            false => error,
        });
        match chosen? {
            Some(daemon) => Ok(Client::remote(daemon)),
            None => Ok(Client::local((self.open)(&self.place)?)),
        }
    }
}

impl Context {
    /// The address of the daemon that is meant, as proxies are kept for it; nothing where the engine is in this process.
    fn daemon(&self) -> Result<String> {
        let name = host::context_name(&self.wish)?;
        match name.as_str() {
            contexts::DEFAULT => Ok(host::default_endpoint(&self.wish, &self.place).host),
            name => Ok(contexts::find(name)?.host),
        }
    }

    /// Adds what containers and builds are told of proxies.
    pub fn proxies(&self, variables: &mut Vec<String>) -> Result<()> {
        habits::read()?.proxies(&self.daemon()?, variables);
        Ok(())
    }

    /// The same of an environment that may be none.
    pub fn proxies_of(&self, environment: &mut Option<Vec<String>>) -> Result<()> {
        let mut variables = environment.take().unwrap_or_default();
        self.proxies(&mut variables)?;
        *environment = Some(variables).filter(|variables| !variables.is_empty());
        Ok(())
    }
}

/// An error that ends the program with an exit code of its own.
#[derive(Debug)]
pub struct Coded {
    pub code: u8,
    pub error: anyhow::Error,
    /// The command whose help is named after it by docker.
    pub help: Option<&'static str>,
}

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Coded {}

/// Runs what argv names. `open` gives the engine of this process.
pub fn main(open: Open) -> ExitCode {
    match dispatch(open) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            face::complain(&error);
            ExitCode::from(error.downcast_ref::<Coded>().map_or(1, |coded| coded.code))
        }
    }
}

fn dispatch(open: Open) -> Result<u8> {
    let mut args = Vec::new();
    for arg in std::env::args_os() {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            Err(arg) => bail!("argument {arg:?} is not UTF-8"),
        }
    }
    let called = args.first().map_or("dhow", |called| base(called)).to_owned();
    let mut args = args.split_off(args.len().min(1));
    if args.first().is_some_and(|word| word == "shim") {
        return Ok(shim::main(&args[1..]));
    }
    if called == init::NAME {
        return Ok(init::main(&args));
    }
    if let Some(word) = linked(&called) {
        args.insert(0, word.to_owned());
    } else if called == "dockerd" {
        args.insert(0, "daemon".to_owned());
    } else if called == "runc" {
        bail!("being called as {called} comes with a later release: use dhow");
    }
    let place = Place {
        root: std::env::var_os("DHOW_ROOT").filter(|path| !path.is_empty()).map(PathBuf::from),
        run: std::env::var_os("DHOW_RUN").filter(|path| !path.is_empty()).map(PathBuf::from),
        ..Place::default()
    };
    let mut context = Context { open, place, wish: host::Wish::default() };
    if called == "docker" {
        face::be_docker();
        context.wish.always = true;
    } else if args.first().is_some_and(|word| word == "client") {
        context.wish.always = true;
        args.remove(0);
    }
    let Some(at) = globals::read(&args, &mut context)? else { return Ok(0) };
    if !face::is_docker() {
        return command(&context, &args[at..]);
    }
    let forwarded = forward::forward(&context, &mut args, at)?;
    let name = if args[at] == "help" { args.get(at + 1) } else { Some(&args[at]) };
    if let Some(name) = name.filter(|name| !is_known(name))
        && let Some(path) = plugin::find(name)?
    {
        return plugin::run(&context, &path, name, forwarded, &args, at);
    }
    let result = command(&context, &args[at..]).map_err(face::told);
    hooks::after(&context, &args[at..], &result);
    result
}

fn base(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

/// The command that a link stands for: `drun` → `run`, `dvolume` → `volume`.
fn linked(called: &str) -> Option<&str> {
    let word = called.strip_prefix('d')?;
    links::words().find(|known| *known == word)
}

/// Help that nobody asked for by name: the docker command says it on stderr.
fn unasked(text: &str) -> Result<()> {
    match face::is_docker() {
        true => output::complain(text.trim_end_matches('\n')),
        false => output::say(text)?,
    }
    Ok(())
}

fn command(context: &Context, args: &[String]) -> Result<u8> {
    let Some((word, rest)) = args.split_first() else { return Ok(0) };
    if word == "help" {
        return help_asked(rest);
    }
    let is_group = help::GROUPS.iter().any(|(group, _)| group == word);
    if is_group || (face::is_docker() && elsewhere::is_one(word)) {
        return in_group(context, word, rest);
    }
    if face::is_docker() && !is_known(word) {
        return globals::stray(args);
    }
    known(context, word, rest)
}

/// A command of a group.
fn in_group(context: &Context, group: &str, words: &[String]) -> Result<u8> {
    let name = words.first().map(|verb| format!("{group} {verb}"));
    if let Some(name) = name.as_deref().filter(|name| find(name).is_some()) {
        return known(context, name, &words[1..]);
    }
    if let Some(verb) = words.first().filter(|verb| face::is_docker() && elsewhere::has(group, verb)) {
        return elsewhere::refuse(context, group, verb, &words[1..]);
    }
    let text = help::topic(group).unwrap_or_default();
    if !face::is_docker() {
        return match words.first() {
            Some(verb) if !matches!(verb.as_str(), "--help" | "-h" | "help") => {
                Err(unknown(&format!("{group} {verb}")))
            }
            _ => output::say(&text).map(|()| 0),
        };
    }
    match globals::strays(&format!("docker {group}"), &help::group_usage(group), words)? {
        (true, _) => output::say(&text)?,
        (false, words) => match words.first() {
            Some(verb) => return Err(unknown(&format!("{group} {verb}"))),
            None => unasked(&text)?,
        },
    }
    Ok(0)
}

/// Whether a word begins a command of ours.
fn is_known(word: &str) -> bool {
    let is_group = help::GROUPS.iter().any(|(group, _)| *group == word);
    word == "help" || is_group || find(word).is_some() || (face::is_docker() && elsewhere::is_one(word))
}

fn find(name: &str) -> Option<&'static Entry> {
    let dockers = elsewhere::TABLE.iter().filter(|_| face::is_docker());
    TABLE.iter().chain(dockers).find(|entry| entry.names.contains(&name))
}

/// As docker knows a command: by its first name, of those in a group the group's first.
fn first_name<'a>(entry: &Entry, name: &'a str) -> &'a str {
    let group = |name: &'a str| name.split_once(' ').map(|(group, _)| group);
    entry.names.iter().find(|first| group(first) == group(name)).unwrap_or(&name)
}

fn known(context: &Context, name: &str, args: &[String]) -> Result<u8> {
    let entry = find(name).ok_or_else(|| unknown(name))?;
    let name = if face::is_docker() { first_name(entry, name) } else { name };
    let spelt = format!("{} {name}", face::name());
    match invoke(entry, context, &spelt, args) {
        Ok(code) => Ok(code),
        Err(Stop::Error(error)) => {
            let inner = error.downcast_ref::<Coded>().map_or(&error, |coded| &coded.error);
            match inner.downcast_ref::<face::Misfit>() {
                Some(face::Misfit(message)) => {
                    Err(wrong(entry, spelt, message.clone(), String::new(), parse::WRONG_FLAG))
                }
                None => Err(error),
            }
        }
        Err(Stop::Misuse(Misuse::Help)) => {
            output::say(&help::command(entry, &spelt))?;
            Ok(0)
        }
        Err(Stop::Misuse(Misuse::Wrong { message, hint, code })) => Err(wrong(entry, spelt, message, hint, code)),
    }
}

/// A command line that is not one of the command's.
fn wrong(entry: &Entry, command: String, message: String, hint: String, code: u8) -> anyhow::Error {
    let usage = help::usage(&(entry.info)(), &command);
    let is_flag = code == parse::WRONG_FLAG;
    coded(code, face::Wrong { message, hint, usage, command, is_flag }.into())
}

/// `help`, of which docker reads the flags.
fn help_asked(words: &[String]) -> Result<u8> {
    if !face::is_docker() {
        return help_on(words);
    }
    let usage = "docker help [command]";
    match globals::strays("docker help", usage, words)? {
        (false, words) if words.first() != Some(&"help") => {
            help_on(&words.into_iter().map(str::to_owned).collect::<Vec<_>>())
        }
        _ => output::say(&format!("Usage:  {usage}\n\nHelp on a command\n")).map(|()| 0),
    }
}

/// Prints the help of what words name.
fn help_on(words: &[String]) -> Result<u8> {
    let text = match topic(words) {
        None if words.is_empty() => help::all()?,
        Some((named, text)) if named == words.len() => text,
        found if face::is_docker() => {
            let named = found.map_or(0, |(named, _)| named);
            bail!("unknown help topic: {}", words[named..].join(" "))
        }
        _ => return Err(unknown(&words.join(" "))),
    };
    output::say(&text)?;
    Ok(0)
}

/// How many of the words name a command or a group, and the help of that.
fn topic(words: &[String]) -> Option<(usize, String)> {
    let of = |count: usize| {
        let name = words.get(..count)?.join(" ");
        let name = match find(&name) {
            Some(entry) if face::is_docker() => first_name(entry, &name),
            _ => &name,
        };
        Some((count, help::topic(name)?))
    };
    of(2).or_else(|| of(1))
}

fn unknown(name: &str) -> anyhow::Error {
    if face::is_docker() {
        return match name.split_once(' ') {
            Some((group, _)) => anyhow!(
                "docker: unknown command: docker {name}\n\nUsage:  {}\n\nRun 'docker {group} --help' for more \
                 information",
                help::group_usage(group)
            ),
            None => anyhow!("docker: unknown command: docker {name}\n\nRun 'docker --help' for more information"),
        };
    }
    let known = TABLE.iter().filter(|entry| !entry.hidden).flat_map(|entry| entry.names.iter().copied());
    let known = known.chain(help::GROUPS.iter().map(|group| group.0));
    match help::nearest(name, known) {
        Some(near) => anyhow!("unknown command: {name}, did you mean {near}? See 'dhow --help'."),
        None => anyhow!("unknown command: {name}. See 'dhow --help'."),
    }
}

/// An error with its exit code.
pub fn coded(code: u8, error: anyhow::Error) -> anyhow::Error {
    anyhow::Error::new(Coded { code, error, help: None })
}

/// The same of a command to whose help docker points.
pub fn helped(code: u8, command: &'static str, error: anyhow::Error) -> anyhow::Error {
    anyhow::Error::new(Coded { code, error, help: Some(command) })
}
