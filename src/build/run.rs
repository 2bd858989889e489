//! `RUN`: a container over the layers of the stage, as `run` makes them; what it wrote is the layer.

use super::builder::{Builder, Failed};
use super::cache::Key;
use super::devices;
use super::dockerfile::Place;
use super::dockerfile::instruction::{Instruction, Run, RunNetwork};
use super::dockerfile::lines::heredoc;
use super::dockerfile::mount::Mount;
use super::metadata::{self, Words};
use super::mounts::Given;
use super::report::{Style, gone};
use super::state::{self, State};
use crate::api::Refusal;
use crate::api::types::Mount as ContainerMount;
use crate::api::types::{ContainerConfig, ContainerCreate, DeviceRequest, LogConfig};
use crate::engine::layers::Staged;
use crate::engine::protocol::{STDERR, STDOUT};
use crate::engine::record::Record;
use crate::engine::{containers, create};
use crate::failpoint;
use crate::fs::seal::{self, Sealed, Times};
use crate::oci::cdi::{Edits, Registry};
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::PoisonError;

/// One command, ready to run.
struct Command {
    argv: Vec<String>,
    env: Vec<String>,
    mounts: Vec<ContainerMount>,
    network: String,
    privileged: bool,
    /// Qualified names, and what their files make of the container.
    devices: Vec<String>,
    edits: Edits,
}

/// The argument that names the host for commands.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// A script of a here-document is here while it runs.
const SCRIPTS: &str = "/dev/pipes";

impl Builder<'_> {
    pub fn run_step(
        &mut self,
        state: &mut State,
        stage: usize,
        run: &Run,
        instruction: &Instruction,
    ) -> std::result::Result<(), (Place, anyhow::Error)> {
        let place = instruction.place;
        // A Dockerfile is somebody else's word: what leads out of the sandbox is asked of who builds it.
        let may = |right: &str| self.asked.allow.iter().any(|allowed| allowed == right);
        let host = run.network == RunNetwork::Host && self.asked.host.network_mode != "host";
        for (wanted, flag, right) in
            [(host, "--network=host", "network.host"), (run.insecure, "--security=insecure", "security.insecure")]
        {
            if wanted && !may(right) {
                let text =
                    format!("RUN {flag} is not allowed: build with --allow {right} if you trust this Dockerfile");
                return Err((place, Refusal::Forbidden(text).into()));
            }
        }
        let mut mounts = Vec::new();
        for word in &run.mounts {
            let lookup = |name: &str| state.lookup(name);
            let words = Words { lex: self.words(), lookup: &lookup };
            let mut expand = |value: &str| words.lex.expand(value, words.lookup).map(|it| it.text);
            let mount = Mount::parse(&word.text, &mut expand)
                .map_err(|message| (word.place, Refusal::BadParameter(message).into()))?;
            mounts.push((word.place, mount));
        }
        let mounts: Vec<Mount> = mounts.into_iter().map(|(_, mount)| mount).collect();
        self.carry_out(state, stage, run, &mounts).map_err(|error| (place, error))
    }

    fn words(&self) -> super::dockerfile::words::Lex {
        super::dockerfile::words::Lex::new(self.file.directives.escape)
    }

    fn carry_out(&mut self, state: &mut State, stage: usize, run: &Run, mounts: &[Mount]) -> Result<()> {
        let (command, script) = line(run)?;
        let argv = match &script {
            // It names its own interpreter.
            Some((name, _)) => metadata::argv(
                &state.config,
                &super::dockerfile::instruction::Command { words: vec![format!("{SCRIPTS}/{name}")], shell: true },
            ),
            None => metadata::argv(&state.config, &command),
        };
        let env: Vec<String> = state.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let network = match run.network {
            RunNetwork::Default => self.asked.host.network_mode.clone(),
            RunNetwork::None => "none".to_owned(),
            RunNetwork::Host => "host".to_owned(),
        };
        let mut key = Key::new("run");
        key.field(&state.key).list(&argv).list(&env).field(&state.config.user).field(&state.config.working_dir);
        key.field(&network).field([u8::from(run.insecure)]).list(self.asked.host.extra_hosts.iter().flatten());
        key.field(self.hostname());
        // Of what limits a command it sees these: it may ask for them, and fail of them.
        let (limits, size) = (&self.asked.host.ulimits, self.asked.host.shm_size);
        if limits.is_some() || size != 0 {
            let limits = limits.iter().flatten().map(|it| format!("{}={}:{}", it.name, it.soft, it.hard));
            key.list(limits).field(size.to_le_bytes());
        }
        let (devices, edits) = self.devices(run)?;
        if !devices.is_empty() {
            key.list(&devices).field(&edits.text);
        }
        self.mounts_key(state, stage, mounts, &mut key)?;
        key.field(script.as_ref().map_or("", |(_, text)| text));
        let history = history(state, &argv);
        // What else a command may depend on has no word there.
        let usual = run.network == RunNetwork::Default && !run.insecure && run.devices.is_empty();
        let told = mounts.is_empty() && script.is_none() && usual;
        let mut all = state.env.clone();
        // No key nor history knows of those that the stage does not declare.
        self.proxies().iter().for_each(|(name, value)| state::set(&mut all, name, value));
        // A name alone: the variable of every other container is none of a command's.
        let all = std::iter::once("HOSTNAME".to_owned())
            .chain(all.into_iter().map(|(name, value)| format!("{name}={value}")))
            .collect();
        let mut command =
            Command { argv, env: all, mounts: Vec::new(), network, privileged: run.insecure, devices, edits };
        let layer = self.step(state, &key.end(), &history, told, |builder, state| {
            // Held until the command has ended.
            let given = builder.give(state, stage, mounts, &command.argv.join(" "))?;
            command.mounts.extend(given.mounts.iter().cloned());
            command.env.extend(given.env.iter().map(|(name, value)| format!("{name}={value}")));
            if let Some((name, text)) = &script {
                command.mounts.push(builder.script(name, text)?);
            }
            builder.container(state, &command, &given)
        })?;
        self.remember(state, history, !layer);
        self.report.done(&state.key)
    }

    /// The same for every command, so that what depends on it is the same, too.
    fn hostname(&self) -> String {
        self.given(HOSTNAME).filter(|name| !name.is_empty()).unwrap_or_else(|| "buildkitsandbox".to_owned())
    }

    /// The devices that a command is given, and what that means.
    fn devices(&self, run: &Run) -> Result<(Vec<String>, Edits)> {
        if run.devices.is_empty() {
            return Ok(Default::default());
        }
        let registry = Registry::read(&self.engine.settings.cdi_dirs());
        let names = devices::given(&run.devices, &self.asked.devices, &registry)?;
        let edits = registry.edits(&names).context("CDI device injection failed")?;
        Ok((names, edits))
    }

    /// A here-document that names its interpreter, as a file for the container.
    fn script(&mut self, name: &str, text: &str) -> Result<ContainerMount> {
        let path = self.scratch_dir()?.join("script");
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))
            .with_context(|| format!("chmod {}", path.display()))?;
        Ok(ContainerMount {
            r#type: "bind".to_owned(),
            source: path.display().to_string(),
            target: format!("{SCRIPTS}/{name}"),
            read_only: true,
            ..ContainerMount::default()
        })
    }

    /// Runs the command, and makes a layer of what it wrote.
    fn container(&mut self, state: &State, command: &Command, given: &Given) -> Result<Option<(Staged, Sealed)>> {
        let store = &self.engine.store;
        let mut host = self.asked.host.clone();
        host.auto_remove = true;
        host.network_mode = command.network.clone();
        host.privileged = command.privileged;
        host.log_config = LogConfig { r#type: "none".to_owned(), config: None };
        host.mounts = Some(command.mounts.clone());
        host.device_requests = (!command.devices.is_empty()).then(|| {
            vec![DeviceRequest {
                driver: "cdi".to_owned(),
                device_ids: Some(command.devices.clone()),
                ..DeviceRequest::default()
            }]
        });
        let config = ContainerConfig {
            hostname: self.hostname(),
            image: state.named.clone(),
            entrypoint: Some(command.argv.clone()),
            env: Some(command.env.clone()),
            user: state.config.user.clone(),
            working_dir: state.config.working_dir.clone(),
            attach_stdout: true,
            attach_stderr: true,
            ..ContainerConfig::default()
        };
        let asked = ContainerCreate { config, host_config: host, ..ContainerCreate::default() };
        let base = create::Base {
            image: state.image.as_ref().map(|id| id.to_string()).unwrap_or_default(),
            platform: String::new(),
            layers: state.layer_ids(),
            trees: given.trees.clone(),
        };
        let (id, warnings) = create::step(store, &self.engine.settings, self.lease, asked, base)?;
        let made = self.warn(warnings).and_then(|()| self.attended(state, &id, command, given));
        failpoint::reach("build.ran");
        // Also after an error: nothing of it stays.
        let removals = &self.shared.removals;
        let removed = if made.is_ok() { removals.begin(store, &id) } else { removals.at_once(store, &id) };
        let made = made?;
        removed?;
        Ok(made)
    }

    /// Tells of what does not hold of all that was asked for, once in a build.
    fn warn(&mut self, warnings: Vec<String>) -> Result<()> {
        for warning in warnings {
            if self.shared.told.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.clone()) {
                self.report.warn(&warning)?;
            }
        }
        Ok(())
    }

    fn attended(
        &mut self,
        state: &State,
        id: &str,
        command: &Command,
        given: &Given,
    ) -> Result<Option<(Staged, Sealed)>> {
        let store = &self.engine.store;
        self.report.running(id)?;
        let what = containers::Attach { streams: STDOUT | STDERR, keys: Vec::new(), logs: false, follow: true };
        let stream = containers::attach(store, id, id, &what)?;
        let wait = containers::wait(store, id, containers::Until::NextExit)?;
        failpoint::reach("build.created");
        self.durable.settle();
        let line = command.argv.join(" ");
        if let Err(error) = containers::start(store, id) {
            let text = format!("{error:#}");
            let code = match self.asked.style {
                // It has no code of its own in Docker's stream: nothing has ended.
                Style::Stream => 0,
                _ if text.contains("not found") || text.contains("no such file") => 127,
                _ => 126,
            };
            self.report.failed(&text)?;
            bail!(Failed { code, message: text });
        }
        given.hide();
        failpoint::reach("build.runs");
        let heard = self.listen(&stream);
        if heard.is_err() {
            let _ = containers::kill(store, id, None);
        }
        heard?;
        let code = wait.finish(store, &self.caller)?;
        self.report.silent()?;
        if code != 0 {
            let told = format!("process {line:?} did not complete successfully: exit code: {code}");
            self.report.failed(&told)?;
            let message = format!("The command '{line}' returned a non-zero code: {code}");
            bail!(Failed { code: code.into(), message });
        }
        failpoint::reach("build.ended");
        let record = Record::load(store, id)?.context("the container of this step was removed meanwhile")?;
        let staging = self.scratch_dir()?;
        let (upper, fs) = (store.container(id).join("upper"), staging.join("fs"));
        std::fs::rename(&upper, &fs).with_context(|| format!("take {}", upper.display()))?;
        let lowers = self.lowers(state);
        if record.copied {
            return self.repacked(&fs, &lowers);
        }
        let of_device = |mount: &crate::oci::runtime::Mount| ContainerMount {
            target: mount.destination.clone(),
            ..ContainerMount::default()
        };
        let mut places = command.mounts.clone();
        places.extend(command.edits.mounts.iter().map(of_device));
        super::mounts::clear_places(&fs, &lowers, &places)?;
        let sealed = seal::seal(&staging, &lowers, Times { latest: self.epoch, kept: false })?;
        Ok(sealed.map(|sealed| (Staged { dir: staging, size: sealed.size, opaque: false }, sealed)))
    }

    /// Tells what the container says, until it says nothing more. Nobody listens for a caller that has gone.
    fn listen(&mut self, stream: &OwnedFd) -> Result<()> {
        let caller = self.caller.clone();
        let mut frames = Frames::default();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let mut fds = vec![PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
            fds.extend(caller.watch());
            let count = match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error).context("wait for the command"),
                Ok(count) => count,
            };
            // What the caller's end is polled for has no name in the results: it is what is not the stream.
            if count > i32::from(fds[0].any() == Some(true)) {
                return Err(gone());
            }
            match nix::unistd::read(stream, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => frames.read(&buffer[..n], &mut |stream, text| self.report.said(stream, text))?,
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::ECONNRESET) => return Ok(()),
                Err(error) => return Err(error).context("read what the command says"),
            }
        }
    }
}

/// Frames of a container's streams: a header of eight bytes, and so many bytes of one stream.
#[derive(Default)]
struct Frames {
    header: Vec<u8>,
    stream: u8,
    left: usize,
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8], said: &mut dyn FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = self.left.min(bytes.len());
                said(self.stream, &bytes[..n])?;
                self.left -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (8 - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if let Some(header) = self.header.first_chunk::<8>() {
                self.stream = header[0];
                self.left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
                self.header.clear();
            }
        }
        Ok(())
    }
}

/// The command line of a `RUN`, with its here-documents; or the name and text of a script that one of them is.
type Line = (super::dockerfile::instruction::Command, Option<(String, String)>);

fn line(run: &Run) -> Result<Line> {
    let mut command = run.command.clone();
    let Some(first) = run.heredocs.first() else { return Ok((command, None)) };
    let ([text], true) = (command.words.as_slice(), command.shell) else {
        bail!("here-documents belong to commands of the shell");
    };
    if heredoc(text).is_some() {
        // The here-document is all of it, so it is the command, for shells too that know none.
        let text = first.text();
        if text.starts_with("#!") {
            let name =
                if first.name.contains('/') || first.name.starts_with('.') { "script" } else { first.name.as_str() };
            return Ok((command, Some((name.to_owned(), text))));
        }
        command.words = vec![text];
        return Ok((command, None));
    }
    let mut whole = text.clone();
    for heredoc in &run.heredocs {
        whole.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
    }
    command.words = vec![whole];
    Ok((command, None))
}

/// `RUN |1 A=b /bin/sh -c …`, as the history of Docker's images has it.
fn history(state: &State, argv: &[String]) -> String {
    let args: Vec<String> = state
        .args
        .iter()
        .map(|(name, value)| format!("{name}={}", state.lookup(name).unwrap_or_else(|| value.clone())))
        .collect();
    let command = argv.join(" ");
    if args.is_empty() { format!("RUN {command}") } else { format!("RUN |{} {} {command}", args.len(), args.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::Dockerfile;
    use crate::build::dockerfile::instruction::Kind;

    #[test]
    fn here_documents_become_commands() {
        for (text, words, script) in [
            ("RUN <<E\na\nb\nE", "a\nb\n", None),
            ("RUN <<-E\n\ta\n\tE", "a\n", None),
            ("RUN cat <<E >x\na\nE", "cat <<E >x\na\nE", None),
            ("RUN cat <<A <<B\n1\nA\n2\nB", "cat <<A <<B\n1\nA\n2\nB", None),
            ("RUN <<E\n#!/bin/x\na\nE", "<<E", Some(("E", "#!/bin/x\na\n"))),
            ("RUN true", "true", None),
        ] {
            let file = Dockerfile::parse("Dockerfile", format!("FROM scratch\n{text}").as_bytes()).unwrap();
            let Kind::Run(run) = &file.stages[0].instructions[0].kind else { panic!() };
            let (command, found) = line(run).unwrap();
            assert_eq!(command.words, [words], "{text}");
            assert_eq!(found.as_ref().map(|(name, text)| (name.as_str(), text.as_str())), script);
        }
    }

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let wire = b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\x01c\x01\0\0\0\0\0\0\0";
        for size in 1..wire.len() {
            let (mut frames, mut text) = (Frames::default(), Vec::new());
            for piece in wire.chunks(size) {
                let mut said = |_: u8, bytes: &[u8]| {
                    text.extend_from_slice(bytes);
                    Ok(())
                };
                frames.read(piece, &mut said).unwrap();
            }
            assert_eq!(text, b"abc");
        }
    }
}
