//! `dhow build`.

mod contexts;
mod display;
mod outputs;
mod told;

use super::{Command, Context, output, pull};
use crate::api::base64;
use crate::api::client::{Client, SECRETS};
use crate::api::types::ProgressLine;
use crate::api::wire::{Body, Caller, Folder};
use crate::build::cache_from::{self, Named};
use crate::build::dockerfile::{Dockerfile, LARGEST};
use crate::build::git::Address;
use crate::build::ignore::Ignore;
use crate::build::lint;
use crate::fs::pack::Packer;
use crate::fs::path;
use crate::oci::auth;
use crate::oci::reference::Reference;
use crate::sys::signals::{self, Signals};
use anyhow::{Context as _, Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};
use contexts::{Contexts, kept};
use outputs::Outputs;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use told::{Mode, Told};

/// Build an image from a Dockerfile
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Build {
    /// add a host: name:address
    #[argh(option)]
    add_host: Vec<String>,
    /// set an argument of the Dockerfile: name=value, or name for the value here
    #[argh(option)]
    build_arg: Vec<String>,
    /// take steps from an image: NAME or type=registry,ref=NAME; it is pulled where it is missing
    #[argh(option)]
    cache_from: Vec<String>,
    /// let the image tell its steps to builds that name it with --cache-from: type=inline
    #[argh(option)]
    cache_to: Vec<String>,
    /// say what can be said against the Dockerfile, and build nothing
    #[argh(switch)]
    check: bool,
    /// let the Dockerfile have more than the sandbox: network.host, security.insecure
    #[argh(option)]
    allow: Vec<String>,
    /// parent of the cgroups of RUN
    #[argh(option)]
    cgroup_parent: Option<String>,
    /// processor time of RUN in a period, in microseconds
    #[argh(option)]
    cpu_quota: Option<i64>,
    /// the period, in microseconds
    #[argh(option)]
    cpu_period: Option<i64>,
    /// relative weight of RUN
    #[argh(option, short = 'c')]
    cpu_shares: Option<i64>,
    /// processors of RUN
    #[argh(option)]
    cpuset_cpus: Option<String>,
    /// memory nodes of RUN
    #[argh(option)]
    cpuset_mems: Option<String>,
    /// the Dockerfile; PATH/Dockerfile unless given, - for stdin
    #[argh(option, short = 'f')]
    file: Option<String>,
    /// taken for Docker's sake: nothing of a build stays
    #[argh(switch)]
    force_rm: bool,
    /// write the image's id to this file
    #[argh(option)]
    iidfile: Option<PathBuf>,
    /// set a label of the image
    #[argh(option)]
    label: Vec<String>,
    /// memory limit of RUN
    #[argh(option, short = 'm')]
    memory: Option<String>,
    /// memory and swap limit of RUN
    #[argh(option)]
    memory_swap: Option<String>,
    /// write what was built to this file, as JSON
    #[argh(option)]
    metadata_file: Option<PathBuf>,
    /// network of RUN: default, none, host or one of yours
    #[argh(option)]
    network: Option<String>,
    /// do not use what was made before
    #[argh(switch)]
    no_cache: bool,
    /// do not use what was made before of these stages, by name or number: STAGE[,STAGE]
    #[argh(option)]
    no_cache_filter: Vec<String>,
    /// platform of the image: os/arch[/variant]
    #[argh(option)]
    platform: Option<String>,
    /// give the Dockerfile files or an image under a name: name=PATH, name=URL of a tar or a repository, name=docker-image://IMAGE
    #[argh(option)]
    build_context: Vec<String>,
    /// where what is built goes: DIR, - or type=image|local|tar|oci|docker|cacheonly[,dest=PATH][,name=NAME]
    #[argh(option, short = 'o')]
    output: Vec<String>,
    /// how progress is told: auto, plain, tty, quiet or rawjson; $BUILDKIT_PROGRESS unless given
    #[argh(option)]
    progress: Option<String>,
    /// pull the base images anew
    #[argh(switch)]
    pull: bool,
    /// print the image's id only
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// taken for Docker's sake: nothing of a build stays
    #[argh(option, arg_name = "bool")]
    rm: Option<bool>,
    /// give RUN --mount=type=secret a secret: id=name[,src=file|,env=variable]
    #[argh(option)]
    secret: Vec<String>,
    /// let RUN --mount=type=ssh ask your ssh agent: default, or id=socket
    #[argh(option)]
    ssh: Vec<String>,
    /// security options of RUN
    #[argh(option)]
    security_opt: Vec<String>,
    /// size of /dev/shm
    #[argh(option)]
    shm_size: Option<String>,
    /// name of the image: name[:tag]
    #[argh(option, short = 't')]
    tag: Vec<String>,
    /// the stage to build
    #[argh(option)]
    target: Option<String>,
    /// resource limits of RUN: name=soft[:hard]
    #[argh(option)]
    ulimit: Vec<String>,
    #[argh(positional, arg_name = "PATH|URL|-")]
    context: String,
}

/// The largest secret.
const SECRET: usize = 500 << 10;

/// Where the files come from.
enum From {
    Folder(PathBuf),
    /// A tar, or a Dockerfile alone, on stdin.
    Stdin,
    Url(String),
}

impl Command for Build {
    fn run(self, context: &Context) -> Result<u8> {
        let from = match self.context.as_str() {
            "-" => From::Stdin,
            path if Path::new(path).is_dir() => From::Folder(PathBuf::from(path)),
            url if url.starts_with("http://") || url.starts_with("https://") => From::Url(url.to_owned()),
            text => match Address::parse(text, true)? {
                Some(_) => From::Url(text.to_owned()),
                None => From::Folder(PathBuf::from(text)),
            },
        };
        let mode = Mode::of(self.progress.as_deref(), self.quiet)?;
        let outputs = Outputs::read(&self.output)?;
        let contexts = Contexts::read(&self.build_context)?;
        if contexts.has_folders() && !matches!(from, From::Folder(_)) {
            bail!("--build-context with a folder needs a folder as the build context");
        }
        if self.iidfile.is_some() && !outputs.have_id() {
            bail!("--iidfile needs an image among the outputs");
        }
        if self.check {
            return self.checked(&from);
        }
        let mut query = self.query()?;
        query.push(("progress".to_owned(), mode.query().to_owned()));
        query.extend((mode == Mode::Quiet).then(|| ("q".to_owned(), "1".to_owned())));
        query.extend(contexts.query().map(|contexts| ("contexts".to_owned(), contexts)));
        query.extend(outputs.query().map(|outputs| ("outputs".to_owned(), outputs)));
        let client = context.client()?;
        let mut known = None;
        let body = match from {
            From::Url(_) if self.file.as_deref() == Some("-") => {
                bail!("invalid argument: a Dockerfile on stdin needs a folder as context")
            }
            From::Url(url) => {
                query.push(("remote".to_owned(), url));
                query.extend(self.file.iter().map(|file| ("dockerfile".to_owned(), file.clone())));
                Body::Empty
            }
            From::Stdin if self.file.as_deref() == Some("-") => {
                bail!("invalid argument: can't use stdin for both build context and dockerfile")
            }
            From::Stdin => stdin(self.file.as_deref(), &mut query)?,
            From::Folder(dir) => self.folder(&client, &dir, contexts, &mut query, &mut known)?,
        };
        let mut headers: Vec<(String, String)> =
            self.secrets()?.map(|value| (SECRETS.to_owned(), value)).into_iter().collect();
        headers.extend(known);
        let agents = agents(&self.ssh, std::env::var("SSH_AUTH_SOCK").ok(), client.is_local())?;
        self.built(&client, query, headers, body, agents, (mode, outputs))
    }
}

impl Build {
    fn query(&self) -> Result<Vec<(String, String)>> {
        let mut query = Vec::new();
        let mut push = |key: &str, value: String| {
            if !value.is_empty() {
                query.push((key.to_owned(), value));
            }
        };
        let flag = |on: bool| if on { "1".to_owned() } else { String::new() };
        let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let bytes = |name: &str, value: &Option<String>| match value.as_deref() {
            None => Ok(String::new()),
            Some("-1") => Ok("-1".to_owned()),
            Some(size) => match crate::api::units::parse_binary(size) {
                Ok(bytes) => Ok(bytes.to_string()),
                Err(error) => Err(anyhow!("invalid argument {size:?} for --{name}: {error}")),
            },
        };
        self.tag.iter().for_each(|name| push("t", name.clone()));
        self.add_host.iter().for_each(|host| push("extrahosts", host.clone()));
        self.security_opt.iter().for_each(|option| push("securityopt", option.clone()));
        self.allow.iter().for_each(|right| push("allow", right.clone()));
        push("target", text(&self.target));
        push("nocache", flag(self.no_cache));
        if self.no_cache && !self.no_cache_filter.is_empty() {
            bail!("--no-cache and --no-cache-filter cannot be used together");
        }
        self.no_cache_filter
            .iter()
            .flat_map(|list| list.split(','))
            .for_each(|it| push("nocachefilter", it.to_owned()));
        push("pull", flag(self.pull));
        push("rm", flag(self.rm.unwrap_or(true)));
        push("forcerm", flag(self.force_rm));
        push("networkmode", text(&self.network));
        push("platform", pull::platform(self.platform.clone()));
        push("cgroupparent", text(&self.cgroup_parent));
        push("cpuquota", number(self.cpu_quota));
        push("cpuperiod", number(self.cpu_period));
        push("cpushares", number(self.cpu_shares));
        push("cpusetcpus", text(&self.cpuset_cpus));
        push("cpusetmems", text(&self.cpuset_mems));
        push("memory", bytes("memory", &self.memory)?);
        push("memswap", bytes("memory-swap", &self.memory_swap)?);
        push("shmsize", bytes("shm-size", &self.shm_size)?);
        let mut args = serde_json::Map::new();
        for cache in &self.cache_to {
            match cache.as_str() {
                "inline" | "type=inline" => drop(args.insert("BUILDKIT_INLINE_CACHE".to_owned(), "1".into())),
                _ => bail!("--cache-to={cache}: only type=inline is supported, which goes with the image"),
            }
        }
        if !self.build_arg.is_empty() || !args.is_empty() {
            for arg in &self.build_arg {
                let (name, value) = match arg.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    // Its value is that of the environment, if there is one.
                    None => (arg.as_str(), std::env::var(arg).ok()),
                };
                args.insert(name.to_owned(), value.into());
            }
            push("buildargs", serde_json::Value::from(args).to_string());
        }
        if !self.label.is_empty() {
            let pair = |label: &String| {
                let (name, value) = label.split_once('=').unwrap_or((label, ""));
                (name.to_owned(), value.into())
            };
            push("labels", serde_json::Value::Object(self.label.iter().map(pair).collect()).to_string());
        }
        let caches = self.caches()?;
        if !caches.is_empty() {
            // Who names an image here wants it also where it is to be pulled first.
            let pulled = |cache: &Named| format!("type=registry,ref={}", cache.image);
            push("cachefrom", serde_json::json!(caches.iter().map(pulled).collect::<Vec<_>>()).to_string());
        }
        let mut limits = Vec::new();
        for limit in &self.ulimit {
            let parsed = limit.split_once('=').and_then(|(name, values)| {
                let (soft, hard) = values.split_once(':').unwrap_or((values, values));
                Some(serde_json::json!({"Name": name, "Soft": soft.parse::<i64>().ok()?, "Hard": hard.parse::<i64>().ok()?}))
            });
            limits.push(parsed.ok_or_else(|| anyhow!("invalid argument {limit:?} for --ulimit: name=soft[:hard]"))?);
        }
        if !limits.is_empty() {
            push("ulimits", serde_json::Value::from(limits).to_string());
        }
        Ok(query)
    }

    /// What `--cache-from` names.
    fn caches(&self) -> Result<Vec<Named>> {
        let parsed: Result<Vec<_>> = self.cache_from.iter().map(|entry| cache_from::parse(entry)).collect();
        Ok(parsed?.into_iter().flatten().collect())
    }

    /// The header that says who we are at the registries that a Dockerfile takes images from.
    fn registries(&self, dockerfile: &[u8], contexts: &Contexts) -> Result<Option<(String, String)>> {
        // What cannot be read is told by the build.
        let Ok(file) = Dockerfile::parse("Dockerfile", dockerfile) else { return Ok(None) };
        let given = |name: &str| {
            let mut pairs = self.build_arg.iter().filter_map(|arg| arg.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let mut all = serde_json::Map::new();
        let caches = self.caches()?.into_iter().map(|cache| cache.image);
        for name in file.images(&given).into_iter().chain(caches).chain(contexts.images()) {
            let Ok(reference) = Reference::parse(&name) else { continue };
            if !all.contains_key(&reference.domain)
                && let Some(found) = auth::lookup(&reference.domain)?
            {
                all.insert(reference.domain, serde_json::to_value(found)?);
            }
        }
        let text = serde_json::Value::Object(all.clone()).to_string();
        Ok((!all.is_empty()).then(|| ("X-Registry-Config".to_owned(), base64::encode(text.as_bytes()))))
    }

    /// The value of the header with the secrets; nothing where there are none.
    fn secrets(&self) -> Result<Option<String>> {
        let mut secrets = serde_json::Map::new();
        for secret in &self.secret {
            let (mut id, mut file, mut variable) = (String::new(), None, None);
            for field in
                crate::build::dockerfile::mount::fields(secret).map_err(|error| anyhow!("--secret: {error}"))?
            {
                match field.split_once('=') {
                    Some(("id", value)) => id = value.to_owned(),
                    Some(("src" | "source", value)) => file = Some(value.to_owned()),
                    Some(("env", value)) => variable = Some(value.to_owned()),
                    Some(("type", "file")) => {}
                    Some(("type", "env")) => variable = Some(String::new()),
                    _ => bail!("invalid argument {field:?} for --secret: id=name[,src=file|,env=variable]"),
                }
            }
            if id.is_empty() {
                bail!("--secret needs an id");
            }
            let value = match (file, variable) {
                (Some(file), _) => std::fs::read(&file).with_context(|| format!("read the secret {id} from {file}"))?,
                (None, Some(name)) => {
                    let name = if name.is_empty() { id.clone() } else { name };
                    std::env::var(&name)
                        .with_context(|| format!("the secret {id} in the variable {name}"))?
                        .into_bytes()
                }
                // As Docker: a variable of that name, or else a file.
                (None, None) => match std::env::var(&id) {
                    Ok(value) => value.into_bytes(),
                    Err(_) => std::fs::read(&id).with_context(|| format!("read the secret {id}"))?,
                },
            };
            if value.len() > SECRET {
                bail!("the secret {id} is larger than {SECRET} bytes");
            }
            secrets.insert(id, base64::encode(&value).into());
        }
        let text = serde_json::Value::Object(secrets).to_string();
        Ok((!self.secret.is_empty()).then(|| base64::encode(text.as_bytes())))
    }

    /// Reads the Dockerfile, and tells what could be better.
    fn checked(&self, from: &From) -> Result<u8> {
        let (name, bytes, _) = match from {
            From::Folder(dir) => self.dockerfile(dir)?,
            _ => bail!("--check needs a folder as context"),
        };
        let file = Dockerfile::parse(&name, &bytes)?;
        let (warnings, _) = lint::check(&file)?;
        output::say(&lint::show(&file, &warnings))?;
        Ok(u8::from(!warnings.is_empty()))
    }

    /// The Dockerfile's name and text, and where what it ignores may be said beside it.
    fn dockerfile(&self, dir: &Path) -> Result<(String, Vec<u8>, Option<PathBuf>)> {
        if self.file.as_deref() == Some("-") {
            let mut bytes = Vec::new();
            std::io::stdin().take(LARGEST as u64 + 1).read_to_end(&mut bytes).context("read stdin")?;
            return Ok(("Dockerfile".to_owned(), bytes, None));
        }
        let path = self.file.as_ref().map_or_else(|| dir.join("Dockerfile"), PathBuf::from);
        let bytes =
            std::fs::read(&path).with_context(|| format!("unable to read the Dockerfile {}", path.display()))?;
        let mut beside = path.clone().into_os_string();
        beside.push(".dockerignore");
        let name = path.file_name().map_or("Dockerfile".into(), |name| name.to_string_lossy().into_owned());
        Ok((name, bytes, Some(PathBuf::from(beside))))
    }

    /// A folder: handed over as it lies to an engine in this process, packed for a daemon.
    fn folder(
        &self,
        client: &Client,
        dir: &Path,
        contexts: Contexts,
        query: &mut Vec<(String, String)>,
        known: &mut Option<(String, String)>,
    ) -> Result<Body> {
        let root =
            path::open_root(dir).with_context(|| format!("unable to prepare context: path {:?}", dir.display()))?;
        let (name, bytes, beside) = self.dockerfile(dir)?;
        *known = self.registries(&bytes, &contexts)?;
        let ignore = match beside
            .filter(|path| path.exists())
            .or_else(|| Some(dir.join(".dockerignore")).filter(|path| path.exists()))
        {
            Some(path) => Some(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?),
            None => None,
        };
        if client.is_local() {
            return Ok(Body::Folder(Folder {
                dir: root,
                dockerfile: (name, bytes),
                ignore: Some(ignore.unwrap_or_default()),
                named: contexts.folders(),
            }));
        }
        let ignored = Ignore::read(ignore.as_deref().unwrap_or_default())?;
        // Under names that no file of the context has.
        let inside = format!(".dockerfile.{}", std::process::id());
        query.push(("dockerfile".to_owned(), inside.clone()));
        let tar = super::piped::piped(move |sink| {
            pack(root, &ignored, (&inside, &bytes), &ignore.unwrap_or_default(), &contexts, sink)
        })?;
        Ok(Body::Reader(Box::new(tar)))
    }

    fn built(
        self,
        client: &Client,
        query: Vec<(String, String)>,
        headers: Vec<(String, String)>,
        body: Body,
        agents: BTreeMap<String, PathBuf>,
        (mode, outputs): (Mode, Outputs),
    ) -> Result<u8> {
        // A signal ends the build and not this process, which clears up first.
        let calm = Signals::of([libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
        let before = signals::block(calm).context("block signals")?;
        let (ours, theirs) = UnixStream::pair().context("make a pair of sockets")?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (flag, local) = (Arc::clone(&stopped), client.is_local());
        std::thread::spawn(move || {
            let number = await_one(calm);
            flag.store(true, Ordering::SeqCst);
            if !local {
                // The daemon sees the connection end.
                crate::sys::process::exit_now(128 + number);
            }
            drop(ours);
            // Who asks twice does not wait.
            await_one(calm);
            crate::sys::process::exit_now(128 + number);
        });
        let caller = Caller::at(Arc::new(OwnedFd::from(theirs)));
        let mut errors = std::io::stderr();
        let mut lines = Lines { told: Told::new(mode, &mut errors), outputs, partial: Vec::new(), failed: None };
        let sent = client.build(query, headers, body, agents, caller, &mut lines);
        let stdout = lines.outputs.use_stdout();
        let outcome = lines.finish(sent);
        if stopped.load(Ordering::SeqCst) {
            return Ok(130);
        }
        let _ = signals::set_blocked(before);
        let id = outcome?;
        if let Some(path) = &self.iidfile {
            std::fs::write(path, &id).with_context(|| format!("write {}", path.display()))?;
        }
        if let Some(path) = &self.metadata_file {
            let names: Vec<String> = self.tag.iter().map(|name| pull::tagged(name)).collect();
            let told = serde_json::json!({
                "containerimage.config.digest": id,
                "containerimage.digest": id,
                "image.name": names.join(","),
            });
            std::fs::write(path, serde_json::to_vec_pretty(&told)?)
                .with_context(|| format!("write {}", path.display()))?;
        }
        if self.quiet && !id.is_empty() && !stdout {
            output::say(&format!("{id}\n"))?;
        }
        Ok(0)
    }
}

/// What `--ssh` says: the sockets of agents, by id.
fn agents(flags: &[String], environment: Option<String>, local: bool) -> Result<BTreeMap<String, PathBuf>> {
    let mut agents = BTreeMap::new();
    for flag in flags {
        if !local {
            bail!("--ssh {flag}: Docker's classic API has no way for an agent: build without a daemon, by dhow build");
        }
        let (id, paths) = flag.split_once('=').unwrap_or((flag, ""));
        let socket = match (paths, &environment) {
            ("", Some(socket)) if !socket.is_empty() => PathBuf::from(socket),
            ("", _) => bail!("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set"),
            (paths, _) => PathBuf::from(paths),
        };
        let is_socket = std::fs::metadata(&socket).is_ok_and(|it| it.file_type().is_socket());
        if !is_socket {
            let path = socket.display();
            bail!("--ssh {id}={path}: only the socket of an agent is taken; add a key file to one, by ssh-add")
        }
        let socket = std::path::absolute(&socket).with_context(|| format!("look for {}", socket.display()))?;
        if agents.insert(id.to_owned(), socket).is_some() {
            bail!("invalid duplicate ID {id} for --ssh");
        }
    }
    Ok(agents)
}

/// Waits for one of these signals, whatever else interrupts it: a stop and a continue do.
fn await_one(calm: Signals) -> i32 {
    loop {
        match signals::wait(calm) {
            Ok(number) => return number,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // Not to be: then nothing calls the build off.
            Err(_) => std::thread::park(),
        }
    }
}

/// The lines of the answer: what is told, and the pieces of outputs.
struct Lines<'a> {
    told: Told<'a>,
    outputs: Outputs,
    /// Of a line that has not come whole.
    partial: Vec<u8>,
    /// Why an output cannot be written.
    failed: Option<anyhow::Error>,
}

impl Lines<'_> {
    fn line(&mut self, text: &[u8]) -> std::io::Result<()> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: ProgressLine = serde_json::from_slice(text)?;
        if let Some(aux) = &line.aux {
            match self.outputs.take(aux) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    self.failed.get_or_insert(error);
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
            }
        }
        self.told.line(text, &line)
    }

    /// The answer has ended like this. Gives the image's id; what is no image has none.
    fn finish(self, sent: Result<()>) -> Result<String> {
        let told = self.told.finish();
        if let Some(error) = self.failed {
            return Err(error);
        }
        let id = told?;
        sent?;
        self.outputs.finish()?;
        if id.is_empty() && self.outputs.have_id() {
            bail!("the build ended without an image");
        }
        Ok(id)
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&rest[..=end]);
            self.line(&line)?;
            rest = &rest[end + 1..];
        }
        self.partial.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What comes on stdin: a tar, or the text of a Dockerfile.
fn stdin(file: Option<&str>, query: &mut Vec<(String, String)>) -> Result<Body> {
    let mut start = [0; 512];
    let mut filled = 0;
    let mut stdin = std::io::stdin();
    while filled < start.len() {
        match stdin.read(&mut start[filled..]).context("read stdin")? {
            0 => break,
            n => filled += n,
        }
    }
    use crate::fs::compression::Compression;
    let packed = Compression::of(&start[..filled]) != Compression::None;
    if packed || filled == start.len() && crate::fs::header::check(&start).is_ok() {
        query.extend(file.map(|file| ("dockerfile".to_owned(), file.to_owned())));
        return Ok(Body::Reader(Box::new(std::io::Cursor::new(start[..filled].to_vec()).chain(stdin))));
    }
    let mut dockerfile = start[..filled].to_vec();
    stdin.take(LARGEST as u64 + 1).read_to_end(&mut dockerfile).context("read stdin")?;
    let mut tar = Vec::new();
    let mut packer = Packer::new(&mut tar);
    packer.bytes(b"Dockerfile", &dockerfile)?;
    packer.end()?;
    query.push(("dockerfile".to_owned(), "Dockerfile".to_owned()));
    Ok(Body::Bytes(tar))
}

/// Packs a context, without what is ignored, with its Dockerfile and the list of what is ignored.
fn pack(
    root: OwnedFd,
    ignored: &Ignore,
    (name, dockerfile): (&str, &[u8]),
    ignore: &[u8],
    contexts: &Contexts,
    sink: &mut dyn Write,
) -> Result<()> {
    let mut packer = Packer::new(sink);
    packer.bytes(name.as_bytes(), dockerfile)?;
    packer.bytes(format!("{name}.dockerignore").as_bytes(), ignore)?;
    packer.contents(root.as_fd(), b"", &mut kept(ignored))?;
    contexts.pack(&mut packer)?;
    packer.end()
}
