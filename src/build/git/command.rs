//! The git command, so that what it reads of others runs nothing: no configuration of this machine, no hook, no helper,
//! no question, and only protocols of the network. It writes below one directory.

use super::super::report;
use crate::api::Refusal;
use crate::api::wire::Caller;
use crate::fs::sandbox;
use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What may open a repository that is reached by ssh.
#[derive(Clone, Debug, Default)]
pub enum Keys {
    /// Nothing: whoever wrote the Dockerfile is not to use our keys.
    #[default]
    None,
    /// An agent that was given to the build, by its socket.
    Agent(PathBuf),
    /// All that ssh finds of its user, who named the repository.
    User,
}

/// Variables that git may have from this process: how the network is reached.
const KEPT: [&str; 12] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
];

/// The whole of the configuration. A server that is silent for a minute is given up; nothing is left running.
const CONFIG: &str = "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tautocrlf = false\n\
                      [credential]\n\thelper =\n[protocol]\n\tallow = never\n[gc]\n\tauto = 0\n\
                      [maintenance]\n\tauto = false\n[http]\n\tlowSpeedLimit = 1\n\tlowSpeedTime = 60\n\
                      [advice]\n\tdetachedHead = false\n";

/// Neither a configuration of ssh, nor a question, nor a host that is not known.
const SSH: &str = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o PermitLocalCommand=no \
                   -o ProxyCommand=none -o ClearAllForwardings=yes -o ConnectTimeout=30 -o ServerAliveInterval=20";

/// More is not read of what it says.
const MOST: usize = 4 << 20;
/// So much of its complaints is told.
const TOLD: usize = 2000;

/// A directory for one repository: `home` with its configuration, `work` with its files.
pub struct Git {
    dir: PathBuf,
    keys: Keys,
    /// The header that opens the repository, and for which host. It goes through the environment: arguments are for
    /// everybody to see, and a file may stay.
    header: Option<(String, String)>,
    caller: Caller,
}

impl Git {
    /// `dir` is there, empty, and nobody else's.
    pub fn new(dir: PathBuf, keys: Keys, header: Option<(String, String)>, caller: Caller) -> Result<Git> {
        for name in ["home", "work"] {
            let path = dir.join(name);
            std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let config = dir.join("home/.gitconfig");
        std::fs::write(&config, CONFIG).with_context(|| format!("write {}", config.display()))?;
        Ok(Git { dir, keys, header, caller })
    }

    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Runs `git <args>` in the working directory; gives what it says.
    pub fn run(&self, doing: &str, args: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command.args(args).current_dir(self.work()).env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
        command.env("HOME", self.dir.join("home")).env("LC_ALL", "C");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_ATTR_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_CEILING_DIRECTORIES", &self.dir);
        command.env("GIT_PROTOCOL_FROM_USER", "0").env("GIT_ALLOW_PROTOCOL", "https:http:git:ssh");
        self.ssh(&mut command);
        if let Some((origin, value)) = &self.header {
            // It is for this host alone: git would take it along to where it is sent.
            let settings = [
                (format!("http.{origin}/.extraHeader"), format!("Authorization: {value}")),
                ("http.followRedirects".into(), "false".into()),
            ];
            command.env("GIT_CONFIG_COUNT", settings.len().to_string());
            for (at, (key, value)) in settings.into_iter().enumerate() {
                command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = match spawn(&self.dir, command) {
            Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|it| it.kind() == ErrorKind::NotFound) => {
                let text = "files of a git repository are fetched by the git command, which is not installed";
                bail!(Refusal::NotImplemented(text.to_owned()))
            }
            spawned => spawned.context("run git")?,
        };
        let heard = hear(&mut child, &self.caller);
        if heard.is_err() {
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        }
        let status = child.wait().context("wait for git")?;
        let [said, complaints] = heard?;
        if !status.success() {
            let text = String::from_utf8_lossy(&complaints);
            let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            if lines.is_empty() {
                lines.push(if status.signal().is_some() { "git was killed" } else { "git failed" });
            }
            let told = lines.join(": ");
            let start = told.char_indices().rev().nth(TOLD).map_or(0, |(at, _)| at);
            bail!("{doing}: {}", &told[start..]);
        }
        String::from_utf8(said).with_context(|| format!("{doing}: git says what is no text"))
    }

    fn ssh(&self, command: &mut Command) {
        let mut ssh = SSH.to_owned();
        match &self.keys {
            Keys::None => ssh += " -o IdentityAgent=none -o IdentityFile=/dev/null",
            Keys::Agent(socket) => {
                ssh += " -o IdentityFile=/dev/null";
                command.env("SSH_AUTH_SOCK", socket);
            }
            Keys::User => {
                command.envs(std::env::var_os("SSH_AUTH_SOCK").map(|socket| ("SSH_AUTH_SOCK", socket)));
            }
        }
        command.env("GIT_SSH_COMMAND", ssh).env("GIT_SSH_VARIANT", "ssh");
    }
}

fn spawn(dir: &Path, mut command: Command) -> Result<Child> {
    let root = crate::fs::path::open_root(dir)?;
    let null = std::fs::File::open("/dev/null").context("open /dev/null")?;
    sandbox::writing_beneath(&[root.as_fd(), null.as_fd()], move || Ok(command.spawn()?))
}

/// What the child says on stdout and stderr, until it says nothing more or the caller goes.
fn hear(child: &mut Child, caller: &Caller) -> Result<[Vec<u8>; 2]> {
    let mut heard = [Vec::new(), Vec::new()];
    let mut open: [Option<OwnedFd>; 2] = [child.stdout.take().map(Into::into), child.stderr.take().map(Into::into)];
    let mut buffer = [0; 16 * 1024];
    while open.iter().any(Option::is_some) {
        let mut fds: Vec<PollFd> = open.iter().flatten().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        fds.extend(caller.watch());
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.context("wait for git")?,
        };
        let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
        let ready = [0, 1].map(|at| open[at].is_some() && ready.next() == Some(true));
        drop(fds);
        if caller.has_gone() {
            return Err(report::gone());
        }
        for at in [0, 1] {
            let Some(fd) = open[at].as_ref().filter(|_| ready[at]) else { continue };
            match nix::unistd::read(fd, &mut buffer) {
                Ok(0) => open[at] = None,
                Ok(n) => heard[at].extend_from_slice(&buffer[..n]),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("read what git says"),
            }
            if heard[at].len() > MOST {
                bail!("git says more than {MOST} bytes");
            }
        }
    }
    Ok(heard)
}
