//! `dhow build`.

mod call;
mod contexts;
mod display;
mod given;
mod lines;
mod outputs;
mod packed;
mod query;
mod told;
mod warned;

use super::{Command, Context, output, pull, push};
use crate::api::client::{Client, SECRETS};
use crate::api::wire::{Body, Caller, Folder, Given};
use crate::build::dockerfile::{Dockerfile, LARGEST};
use crate::build::git::Address;
use crate::build::ignore::Ignore;
use crate::build::lint;
use crate::fs::path;
use crate::json;
use crate::oci::auth;
use crate::oci::reference::Reference;
use crate::order::Set;
use crate::sys::signals::{self, Signals};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use call::{Call, What};
use contexts::Contexts;
use flate2::write::GzEncoder;
use given::{agents, secrets};
use lines::Lines;
use outputs::Outputs;
use packed::{beside, pack, stdin};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use told::{Mode, Told};

/// Build an image from a Dockerfile
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Build {
    /// add a host: name:address
    #[argh(option)]
    add_host: Vec<String>,
    /// annotate the image (not supported)
    #[argh(option)]
    annotation: Vec<String>,
    /// attest what was built (not supported)
    #[argh(option)]
    attest: Vec<String>,
    /// set an argument of the Dockerfile: name=value, or name for the value here
    #[argh(option)]
    build_arg: Vec<String>,
    /// take steps from an image: NAME or type=registry,ref=NAME; it is pulled where it is missing
    #[argh(option)]
    cache_from: Vec<String>,
    /// let the image tell its steps to builds that name it with --cache-from: type=inline
    #[argh(option)]
    cache_to: Vec<String>,
    /// build nothing, and say of the Dockerfile: check (what can be said against it), outline (what it can be told), targets (its stages); with ,format=json in JSON
    #[argh(option)]
    call: Option<String>,
    /// the same as --call check
    #[argh(switch)]
    check: bool,
    /// let the Dockerfile have more than the sandbox: network.host, security.insecure, device, device=NAME
    #[argh(option)]
    allow: Vec<String>,
    /// parent of the cgroups of RUN
    #[argh(option)]
    cgroup_parent: Option<String>,
    /// compress with gzip what is sent to a daemon
    #[argh(switch)]
    compress: bool,
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
    /// taken for Docker's sake: there is no content trust
    #[argh(option, arg_name = "bool")]
    disable_content_trust: Option<bool>,
    /// the Dockerfile; PATH/Dockerfile unless given, - for stdin
    #[argh(option, short = 'f')]
    file: Option<String>,
    /// taken for Docker's sake: nothing of a build stays
    #[argh(switch)]
    force_rm: bool,
    /// write the image's id to this file
    #[argh(option)]
    iidfile: Option<PathBuf>,
    /// technology of isolation: default
    #[argh(option)]
    isolation: Option<String>,
    /// set a label of the image
    #[argh(option)]
    label: Vec<String>,
    /// taken for Docker's sake: an image is put into the store, unless --output says otherwise
    #[argh(switch)]
    load: bool,
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
    /// give the Dockerfile files or an image under a name: name=PATH, name=URL of a tar or a repository, name=docker-image://IMAGE, name=oci-layout://DIR[:tag][@digest]
    #[argh(option)]
    build_context: Vec<String>,
    /// where what is built goes: DIR, - or type=image|registry|local|tar|oci|docker|cacheonly[,dest=PATH][,name=NAME][,push=true][,compression=gzip|zstd]
    #[argh(option, short = 'o')]
    output: Vec<String>,
    /// how progress is told: auto, plain, tty, quiet or rawjson; $BUILDKIT_PROGRESS unless given
    #[argh(option)]
    progress: Option<String>,
    /// false, as by default: how it was built is not attested
    #[argh(option)]
    provenance: Option<String>,
    /// pull the base images anew
    #[argh(switch)]
    pull: bool,
    /// push the image, by all of its names
    #[argh(switch)]
    push: bool,
    /// print the image's id only
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// taken for Docker's sake: nothing of a build stays
    #[argh(option, arg_name = "bool")]
    rm: Option<bool>,
    /// false, as by default: what is in it is not attested
    #[argh(option)]
    sbom: Option<String>,
    /// give RUN --mount=type=secret a secret: id=name[,src=file|,env=variable]
    #[argh(option)]
    secret: Vec<String>,
    /// make one layer of all (not supported)
    #[argh(switch)]
    squash: bool,
    /// let RUN --mount=type=ssh ask your ssh agent, or for key files: default, id=socket, or id=key[,key]
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
    #[argh(positional, arg_name = "PATH | URL | -")]
    context: String,
}

/// Where the files come from.
enum From {
    Folder(PathBuf),
    /// A tar, or a Dockerfile alone, on stdin.
    Stdin,
    Url(String),
}

fn text_on_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().take(LARGEST as u64 + 1).read_to_end(&mut bytes).context("read stdin")?;
    Ok(bytes)
}

impl Command for Build {
    fn run(mut self, context: &Context) -> Result<u8> {
        context.proxies(&mut self.build_arg)?;
        let from = match self.context.as_str() {
            "-" => From::Stdin,
            path if Path::new(path).is_dir() => From::Folder(PathBuf::from(path)),
            url if url.starts_with("http://") || url.starts_with("https://") => From::Url(url.to_owned()),
            text => match Address::parse(text, true)? {
                Some(_) => From::Url(text.to_owned()),
                None => From::Folder(PathBuf::from(text)),
            },
        };
        pull::no_content_trust(self.disable_content_trust)?;
        let mode = Mode::of(self.progress.as_deref(), self.quiet)?;
        let outputs = Outputs::read(&self.output, self.push)?;
        let mut contexts = Contexts::read(&self.build_context)?;
        if self.load && !self.output.is_empty() {
            bail!("--load is -o type=docker: it cannot be used with another output");
        }
        if self.iidfile.is_some() && !outputs.have_id() {
            bail!("--iidfile needs an image among the outputs");
        }
        let call = match (&self.call, self.check) {
            (Some(_), true) => bail!("--check is --call check: they cannot be used together"),
            (Some(call), false) => Call::parse(call)?,
            (None, check) => check.then_some(Call { what: What::Check, json: false }),
        };
        if let Some(call) = call {
            return self.called(context, &from, call);
        }
        let pushed = outputs.pushed(&self.tag)?;
        // One of a build before this is none of it, whatever comes of it.
        if let Some(path) = &self.iidfile
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        // An ordinary user's engine enters a namespace of his, which no process can that has threads.
        let client = context.client()?;
        // Before any other thread begins: one that has them not blocked would die of them, and all of this process.
        let signals = Signalled::watch()?;
        let mut query = self.query()?;
        query.push(("progress".to_owned(), mode.query().to_owned()));
        query.extend((mode == Mode::Quiet).then(|| ("q".to_owned(), "1".to_owned())));
        query.extend(contexts.query().map(|contexts| ("contexts".to_owned(), contexts)));
        query.extend(outputs.query().map(|outputs| ("outputs".to_owned(), outputs)));
        let mut known = None;
        let mut given = Given::default();
        if client.is_local() {
            given.folders = contexts.folders();
        }
        // To a daemon they go in a tar.
        let along = contexts.has_folders();
        let body = match from {
            From::Url(_) if self.file.as_deref() == Some("-") => {
                bail!("invalid argument: a Dockerfile on stdin needs a folder as context")
            }
            From::Url(url) => {
                query.push(("remote".to_owned(), url));
                query.extend(self.file.iter().map(|file| ("dockerfile".to_owned(), file.clone())));
                if along { beside(contexts)? } else { Body::Empty }
            }
            From::Stdin if self.file.as_deref() == Some("-") => {
                bail!("invalid argument: can't use stdin for both build context and dockerfile")
            }
            From::Stdin => stdin(self.file.as_deref(), along.then_some(contexts), &mut query)?,
            From::Folder(dir) => self.folder(&client, &dir, contexts, &mut query, &mut known)?,
        };
        // From here on there is something to clear up.
        signals.arm();
        let mut headers: Vec<(String, String)> =
            secrets(&self.secret)?.map(|value| (SECRETS.to_owned(), value)).into_iter().collect();
        headers.extend(known);
        let (agents, _held) = agents(&self.ssh, std::env::var("SSH_AUTH_SOCK").ok(), client.is_local())?;
        given.agents = agents;
        self.built(&client, (query, headers), body, given, (mode, outputs, pushed), signals)
    }
}

impl Build {
    /// The header that says who we are at the registries that a Dockerfile takes images from.
    fn registries(&self, dockerfile: &[u8], contexts: &Contexts) -> Result<Option<(String, String)>> {
        // What cannot be read is told by the build.
        let Ok(file) = Dockerfile::parse("Dockerfile", dockerfile) else { return Ok(None) };
        let given = |name: &str| {
            let mut pairs = self.build_arg.iter().filter_map(|arg| arg.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let mut all = auth::Registries::default();
        let caches = self.caches()?.into_iter().map(|cache| cache.image);
        for name in file.images(&given).into_iter().chain(caches).chain(contexts.images()) {
            if let Ok(reference) = Reference::parse(&name) {
                all.look_up(&reference.domain)?;
            }
        }
        all.to_header()
    }

    /// Reads the Dockerfile, and says something of it.
    fn called(&self, context: &Context, from: &From, call: Call) -> Result<u8> {
        let (name, bytes, ignore) = match from {
            From::Folder(dir) => {
                let (name, bytes, beside) = self.dockerfile(dir)?;
                (name, bytes, Ignore::read(&ignored(dir, beside)?.unwrap_or_default())?)
            }
            From::Stdin => ("Dockerfile".to_owned(), text_on_stdin()?, Ignore::default()),
            From::Url(_) => bail!("--check and --call need a folder as context, or a Dockerfile on stdin"),
        };
        if bytes.contains(&0) {
            bail!("--check and --call read a Dockerfile, and no archive");
        }
        let file = Dockerfile::parse(&name, &bytes)?;
        let given = |name: &str| -> Option<String> {
            let args = self.build_arg.iter().rev();
            args.filter_map(|arg| arg.split_once('=')).find(|(of, _)| *of == name).map(|(_, it)| it.to_owned())
        };
        let target = self.target.as_deref().unwrap_or_default();
        let text = match call.what {
            What::Check => {
                // Without a target all stages count.
                let needed = match target {
                    "" => None,
                    target => Some(call::needed(&file, target, &given)?),
                };
                return self.checked(context, &ignore, (&file, needed.as_ref()), call.json);
            }
            What::Outline => call::outline(&file, target, &given, call.json)?,
            What::Targets => call::targets(&file, call.json)?,
        };
        output::say(&text)?;
        Ok(0)
    }

    /// Tells what could be better of the stages that count.
    fn checked(
        &self,
        context: &Context,
        ignore: &Ignore,
        (file, needed): (&Dockerfile, Option<&Set<usize>>),
        json: bool,
    ) -> Result<u8> {
        // An engine that cannot be reached knows no image, as one that has it not.
        let client = context.client();
        let base = |image: &str| -> Option<lint::Base> {
            let told: serde_json::Value =
                json::from_slice(&client.as_ref().ok()?.inspect_image(image, "").ok()?).ok()?;
            let list = |key: &str| told.pointer(key).and_then(serde_json::Value::as_array);
            let set = list("/Config/Env").into_iter().flatten();
            let set = set.filter_map(|entry| entry.as_str()?.split_once('='));
            let env = set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Some(lint::Base { env, shell: list("/Config/Shell").is_some_and(|shell| !shell.is_empty()) })
        };
        let wish = self.build_arg.iter().rev().find_map(|arg| arg.strip_prefix(lint::ARGUMENT)?.strip_prefix('='));
        let (warnings, _) = lint::check(file, &lint::Around { ignore, base: &base, needed, wish })?;
        output::say(&if json { lint::json(file, &warnings)? } else { output::plain(&lint::show(file, &warnings)) })?;
        Ok(u8::from(!warnings.is_empty()))
    }

    /// The Dockerfile's name and text, and where what it ignores may be said beside it.
    fn dockerfile(&self, dir: &Path) -> Result<(String, Vec<u8>, Option<PathBuf>)> {
        if self.file.as_deref() == Some("-") {
            return Ok(("Dockerfile".to_owned(), text_on_stdin()?, None));
        }
        let mut path = self.file.as_ref().map_or_else(|| dir.join("Dockerfile"), PathBuf::from);
        if let Some(lower) = path.to_str().and_then(crate::build::lower).filter(|_| !path.exists()) {
            let lower = PathBuf::from(lower);
            path = if lower.exists() { lower } else { path };
        }
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
        if !dir.exists() {
            bail!("unable to prepare context: path {:?} not found", dir.display());
        }
        let root =
            path::open_root(dir).with_context(|| format!("unable to prepare context: path {:?}", dir.display()))?;
        let (name, bytes, beside) = self.dockerfile(dir)?;
        *known = self.registries(&bytes, &contexts)?;
        let ignore = ignored(dir, beside)?;
        if client.is_local() {
            return Ok(Body::Folder(Folder {
                dir: root,
                dockerfile: (name, bytes),
                ignore: Some(ignore.unwrap_or_default()),
            }));
        }
        let ignored = Ignore::read(ignore.as_deref().unwrap_or_default())?;
        // Under names that no file of the context has.
        let inside = format!(".dockerfile.{}", std::process::id());
        query.push(("dockerfile".to_owned(), inside.clone()));
        let compress = self.compress;
        let tar = super::piped::piped(move |sink| {
            let ignore = ignore.unwrap_or_default();
            let pack = |sink: &mut dyn Write| pack(root, &ignored, (&inside, &bytes), &ignore, &contexts, sink);
            if !compress {
                return pack(sink);
            }
            let mut gzip = GzEncoder::new(sink, flate2::Compression::default());
            pack(&mut gzip)?;
            gzip.finish().context("compress the context")?;
            Ok(())
        })?;
        Ok(Body::Reader(Box::new(tar)))
    }

    fn built(
        self,
        client: &Client,
        (query, headers): (Vec<(String, String)>, Vec<(String, String)>),
        body: Body,
        given: Given,
        (mode, outputs, pushed): (Mode, Outputs, Vec<(Reference, String)>),
        signals: Signalled,
    ) -> Result<u8> {
        let mut errors = std::io::stderr();
        let (stdout, names) = (outputs.use_stdout(), outputs.names());
        let mut lines = Lines::new(Told::new(mode, &mut errors), outputs, Arc::clone(&signals.stopped));
        let sent = client.build(query, headers, body, given, signals.caller.clone(), &mut lines);
        let outcome = lines.finish(sent, |told| {
            // A push leaves nothing to clear up.
            signals.disarm();
            let mut digest = None;
            for (name, compression) in &pushed {
                if signals.number() != 0 {
                    break;
                }
                let mut pushing = told.pushing(&name.familiar());
                let sent = push::send(client, name, "", compression, &mut pushing);
                digest = pushing.finish(sent)?;
            }
            Ok(digest)
        });
        if let number @ 1.. = signals.number() {
            return Ok(128 + number as u8);
        }
        let _ = signals::set_blocked(signals.before);
        let (id, digest) = outcome?;
        if let Some(path) = &self.iidfile {
            std::fs::write(path, &id).with_context(|| format!("write {}", path.display()))?;
        }
        if let Some(path) = &self.metadata_file {
            let mut told = serde_json::Map::new();
            if !id.is_empty() {
                told.insert("containerimage.config.digest".to_owned(), id.clone().into());
                told.insert("containerimage.digest".to_owned(), digest.unwrap_or_else(|| id.clone()).into());
            }
            let names = names.or_else(|| (!id.is_empty() && !self.tag.is_empty()).then(|| self.tag.join(",")));
            if let Some(names) = names {
                let full =
                    |name: &str| Reference::parse(name).map_or(name.to_owned(), |name| pull::full(&name.or_latest()));
                let names: Vec<String> = names.split(',').map(full).collect();
                told.insert("image.name".to_owned(), names.join(",").into());
            }
            std::fs::write(path, serde_json::to_vec_pretty(&told)?)
                .with_context(|| format!("write {}", path.display()))?;
        }
        if self.quiet && !id.is_empty() && !stdout {
            output::say(&format!("{id}\n"))?;
        }
        Ok(0)
    }
}

/// Signals that end a build and not this process, which clears up first.
struct Signalled {
    /// What was blocked before.
    before: Signals,
    /// The one that came.
    stopped: Arc<AtomicI32>,
    /// Who asks for the build, and has gone once one came.
    caller: Caller,
    armed: Arc<AtomicBool>,
}

impl Signalled {
    /// Blocks them, and waits for one. Until there is something to clear up it ends the process.
    fn watch() -> Result<Signalled> {
        let calm = Signals::of([libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
        let before = signals::block(calm).context("block signals")?;
        let (ours, theirs) = UnixStream::pair().context("make a pair of sockets")?;
        let (stopped, armed) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
        let (came, cares) = (Arc::clone(&stopped), Arc::clone(&armed));
        std::thread::spawn(move || {
            let number = await_one(calm);
            if cares.load(Ordering::SeqCst) {
                came.store(number, Ordering::SeqCst);
                // A daemon sees the connection end.
                drop(ours);
                // Who asks twice does not wait.
                await_one(calm);
            }
            crate::sys::process::exit_now(128 + number);
        });
        Ok(Signalled { before, stopped, caller: Caller::at(Arc::new(OwnedFd::from(theirs))), armed })
    }

    /// A signal calls the build off from now on.
    fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// It ends this process again.
    fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// The signal that came while there was something to clear up, or 0.
    fn number(&self) -> i32 {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// What a folder ignores: as it is said beside the Dockerfile, or in the folder.
fn ignored(dir: &Path, beside: Option<PathBuf>) -> Result<Option<Vec<u8>>> {
    let here = dir.join(".dockerignore");
    match beside.into_iter().chain([here]).find(|path| path.exists()) {
        Some(path) => Ok(Some(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?)),
        None => Ok(None),
    }
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
