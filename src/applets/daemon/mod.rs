//! `dhow daemon`: the engine behind the Docker Engine API. It keeps nothing that its end would lose: containers, logs
//! and exit codes are their shims', and whatever commands do without it is seen by it.

mod asked;
mod dockers;
mod listen;
mod networks;
mod notify;
mod reload;

use super::host::Wish;
use super::request::values;
use super::{Command, Context, coded, output, terminal, version};
use crate::api::http::Connections;
use crate::api::http::tls::Files;
use crate::api::types::Ulimit;
use crate::build;
use crate::engine::{Engine, Settings, boot, locks, rootless, routes, selinux, shim};
use crate::log;
use crate::sys;
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use asked::Asked;
use listen::Listener;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// Serve the engine over the Docker Engine API
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Daemon {
    /// listen here: unix:///path, tcp://address:port, fd://; by default on dhow.sock in the run directory, and on
    /// /run/docker.sock unless another daemon does
    #[argh(option, short = 'H')]
    pub host: Vec<String>,
    /// the group that may use the unix sockets (default docker)
    #[argh(option, short = 'G')]
    pub group: Option<String>,
    /// listen on TCP beyond this machine without TLS, or without --tlsverify: whoever reaches the port owns this machine
    #[argh(switch)]
    pub allow_insecure_tcp: bool,
    /// speak TLS on TCP
    #[argh(switch)]
    pub tls: bool,
    /// speak TLS on TCP, with clients only whose certificate the CA signed
    #[argh(switch)]
    pub tlsverify: bool,
    /// the CA of the clients (default ~/.docker/ca.pem)
    #[argh(option, arg_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// our certificate (default ~/.docker/cert.pem)
    #[argh(option, arg_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// its key (default ~/.docker/key.pem)
    #[argh(option, arg_name = "FILE")]
    pub tlskey: Option<PathBuf>,
    /// where images and containers are kept, as --root
    #[argh(option)]
    pub data_root: Option<PathBuf>,
    /// where running containers are kept, as --run
    #[argh(option)]
    pub exec_root: Option<PathBuf>,
    /// the configuration (default /etc/dhow/daemon.json)
    #[argh(option)]
    pub config: Option<PathBuf>,
    /// the configuration, as --config
    #[argh(option)]
    pub config_file: Option<PathBuf>,
    /// the user (user[:group], or default) whose subordinate ids the containers have
    #[argh(option)]
    pub userns_remap: Option<String>,
    /// give containers SELinux labels, which is the default where this host has them
    #[argh(switch)]
    pub selinux_enabled: bool,
    /// write the process's number into this file
    #[argh(option, short = 'p')]
    pub pidfile: Option<PathBuf>,
    /// where ports are open that name no address: of all containers that are made from now on (default 0.0.0.0 and ::;
    /// DHOW_PUBLISH_DEFAULT)
    #[argh(option, arg_name = "IP")]
    pub publish_default: Option<std::net::IpAddr>,
    /// the same of containers on the default bridge only
    #[argh(option, arg_name = "IP")]
    pub ip: Option<std::net::IpAddr>,
    /// open firewalls of others that drop what goes to published ports, by one rule that goes with the last container
    /// (DHOW_FIREWALL_COOPERATE)
    #[argh(switch)]
    pub firewall_cooperate: bool,
    /// have rules in nf_tables (default true); without, ports are passed on by a program, and networks are not kept apart
    #[argh(option, arg_name = "bool")]
    pub iptables: Option<bool>,
    /// the same as --iptables: both families have one table
    #[argh(option, arg_name = "bool")]
    pub ip6tables: Option<bool>,
    /// turn forwarding on where it is off (default true)
    #[argh(option, arg_name = "bool")]
    pub ip_forward: Option<bool>,
    /// where forwarding was turned on, forward for others than containers, too
    #[argh(switch)]
    pub ip_forward_no_drop: bool,
    /// serve [::1] of containers of IPv4 alone (default true)
    #[argh(option, arg_name = "bool")]
    pub userland_proxy: Option<bool>,
    /// the default bridge: none turns it off
    #[argh(option, short = 'b')]
    pub bridge: Option<String>,
    /// address of the default bridge with its subnet, as 192.168.5.1/24
    #[argh(option, arg_name = "CIDR")]
    pub bip: Option<String>,
    /// the same of IPv6
    #[argh(option, arg_name = "CIDR")]
    pub bip6: Option<String>,
    /// containers on the default bridge get addresses of this part of its subnet
    #[argh(option, arg_name = "CIDR")]
    pub fixed_cidr: Option<String>,
    /// the subnet of IPv6 of the default bridge
    #[argh(option, arg_name = "CIDR")]
    pub fixed_cidr_v6: Option<String>,
    /// the way out of containers on the default bridge, if it is not that
    #[argh(option, arg_name = "IP")]
    pub default_gateway: Option<std::net::Ipv4Addr>,
    /// the same of IPv6
    #[argh(option, arg_name = "IP")]
    pub default_gateway_v6: Option<std::net::Ipv6Addr>,
    /// MTU of the default bridge
    #[argh(option)]
    pub mtu: Option<u32>,
    /// containers on the default bridge reach each other (default true)
    #[argh(option, arg_name = "bool")]
    pub icc: Option<bool>,
    /// containers on the default bridge go out under this host's address (default true)
    #[argh(option, arg_name = "bool")]
    pub ip_masq: Option<bool>,
    /// IPv6 on the default bridge
    #[argh(switch)]
    pub ipv6: bool,
    /// subnets for networks are cut from here: base=10.10.0.0/16,size=24
    #[argh(option, arg_name = "POOL")]
    pub default_address_pool: Vec<String>,
    /// an option of new networks: driver=key=value
    #[argh(option, arg_name = "OPTION")]
    pub default_network_opt: Vec<String>,
    /// what host-gateway stands for in --add-host
    #[argh(option, arg_name = "IP")]
    pub host_gateway_ip: Vec<std::net::IpAddr>,
    /// a name server for containers
    #[argh(option)]
    pub dns: Vec<String>,
    /// an option of resolv.conf
    #[argh(option)]
    pub dns_opt: Vec<String>,
    /// a search domain
    #[argh(option)]
    pub dns_search: Vec<String>,
    /// a directory with files of the Container Device Interface (default /etc/cdi and /var/run/cdi)
    #[argh(option, arg_name = "DIR")]
    pub cdi_spec_dir: Vec<PathBuf>,
    /// a registry that is asked before Docker Hub
    #[argh(option, arg_name = "URL")]
    pub registry_mirror: Vec<String>,
    /// a registry, or a CIDR of such, that may speak plain HTTP or have any certificate
    #[argh(option, arg_name = "HOST")]
    pub insecure_registry: Vec<String>,
    /// layers of a pull that come at once (default 3)
    #[argh(option, arg_name = "INT")]
    pub max_concurrent_downloads: Option<usize>,
    /// layers of a push that go at once (default 5)
    #[argh(option, arg_name = "INT")]
    pub max_concurrent_uploads: Option<usize>,
    /// how often a pull tries each layer (default 5)
    #[argh(option, arg_name = "INT")]
    pub max_download_attempts: Option<u32>,
    /// the log driver of containers that name none: json-file, local or none (default json-file)
    #[argh(option)]
    pub log_driver: Option<String>,
    /// an option of that log driver: key=value
    #[argh(option)]
    pub log_opt: Vec<String>,
    /// the size of /dev/shm of containers that name none (default 64M)
    #[argh(option, arg_name = "BYTES")]
    pub default_shm_size: Option<String>,
    /// a limit of containers that name none: name=soft[:hard]
    #[argh(option, from_str_fn(values::ulimit))]
    pub default_ulimit: Vec<Ulimit>,
    /// run an init in containers that do not say
    #[argh(switch)]
    pub init: bool,
    /// no-new-privileges for containers that do not say
    #[argh(switch)]
    pub no_new_privileges: bool,
    /// the IPC namespace of containers that do not say: private or shareable
    #[argh(option)]
    pub default_ipc_mode: Option<String>,
    /// the cgroup namespace of containers that do not say: private or host
    #[argh(option)]
    pub default_cgroupns_mode: Option<String>,
    /// the cgroup under which those of containers stand
    #[argh(option)]
    pub cgroup_parent: Option<String>,
    /// the filter of system calls of containers that do not say: a file, unconfined or builtin
    #[argh(option, arg_name = "FILE")]
    pub seccomp_profile: Option<String>,
    /// the proxy for servers that are asked in the clear
    #[argh(option, arg_name = "URL")]
    pub http_proxy: Option<String>,
    /// the proxy for servers that are asked by TLS
    #[argh(option, arg_name = "URL")]
    pub https_proxy: Option<String>,
    /// who is asked without a proxy
    #[argh(option, arg_name = "LIST")]
    pub no_proxy: Option<String>,
    /// seconds that dockerd waits for its containers when it ends: here they go on, and it waits for none
    #[argh(option, arg_name = "INT")]
    pub shutdown_timeout: Option<i64>,
    /// a label of this daemon: key=value
    #[argh(option)]
    pub label: Vec<String>,
    /// containers go on when the daemon ends: always so
    #[argh(option, arg_name = "bool")]
    pub live_restore: Option<bool>,
    /// overlay2, which is what there is
    #[argh(option, short = 's')]
    pub storage_driver: Option<String>,
    /// native.cgroupdriver=cgroupfs, which is what there is
    #[argh(option)]
    pub exec_opt: Vec<String>,
    /// the runtime of containers that name none: dhow itself, whatever its name
    #[argh(option)]
    pub default_runtime: Option<String>,
    /// a feature of dockerd's: name=false
    #[argh(option)]
    pub feature: Vec<String>,
    /// text, which is what there is
    #[argh(option)]
    pub log_format: Option<String>,
    /// say whether the configuration is good, and no more
    #[argh(switch)]
    pub validate: bool,
    /// say more on stderr
    #[argh(switch, short = 'D')]
    pub debug: bool,
    /// how much to say: debug, info, warn, error (default info)
    #[argh(option, short = 'l')]
    pub log_level: Option<String>,
    /// print the version
    #[argh(switch, short = 'v')]
    pub version: bool,
}

/// So many connections at once. Each is a thread and a few descriptors.
const CONNECTIONS: usize = 1000;
/// Descriptors that one connection may come to need.
const DESCRIPTORS: u64 = 4;

/// So long the end of the daemon waits for that of its builds.
const BUILDS: Duration = Duration::from_secs(15);

/// In milliseconds: when nobody has come for so long, the daemon keeps no more in memory than it must.
const REST: u16 = 1000;

impl Command for Daemon {
    fn refusal(flag: &str) -> Option<&'static str> {
        dockers::refusal(flag)
    }

    fn run(self, context: &Context) -> Result<u8> {
        if self.version {
            output::say(&version::line())?;
            return Ok(0);
        }
        refuse_clients_flags(&context.wish)
            .and_then(|()| serve(self, context))
            .map(|()| 0)
            .map_err(|error| coded(1, error))
    }
}

/// Before the command, a client says whom it asks; whoever means the daemon's own flags by that would be misheard.
fn refuse_clients_flags(wish: &Wish) -> Result<()> {
    let tls = wish.tls || wish.verify.is_some() || wish.files != Files::default();
    let flags = [("--host", wish.host.is_some()), ("--context", wish.context.is_some()), ("--tls…", tls)];
    match flags.into_iter().find(|(_, given)| *given) {
        Some((name, _)) => bail!("{name} before the command is a client's: the daemon's own flags stand behind it"),
        None => Ok(()),
    }
}

fn serve(flags: Daemon, context: &Context) -> Result<()> {
    let place = &context.place;
    let pick = |flag: &Option<PathBuf>, global: &Option<PathBuf>| flag.clone().or_else(|| global.clone());
    let config = pick(&flags.config.clone().or_else(|| flags.config_file.clone()), &place.config);
    let root = pick(&flags.data_root, &place.root);
    let run = pick(&flags.exec_root, &place.run);
    rootless::enter(root.as_deref(), run.as_deref(), config.as_deref())?;
    let flags = Daemon { debug: flags.debug || place.debug, ..flags };
    let settings = reload::settings(&flags, config.as_deref())?;
    if flags.validate {
        Asked::of(&flags, &settings, Path::new("/"))?;
        output::complain("configuration OK");
        return Ok(());
    }
    let engine = Arc::new(Engine::with(root.as_deref(), run.as_deref(), settings)?);
    let asked = Asked::of(&flags, &engine.settings, &engine.store.run)?;
    output::tell(asked.level);
    if engine.settings.live_restore == Some(false) {
        log::warning!("live-restore: containers go on when the daemon ends, whatever it says");
    }
    if engine.settings.shutdown_timeout != Settings::default().shutdown_timeout {
        log::warning!("shutdown-timeout: containers go on when the daemon ends, so that none is waited for");
    }
    if engine.settings.selinux_enabled == Some(true) && !selinux::is_enabled() {
        log::warning!("SELinux is not enabled on this host: containers have no labels");
    }

    let path = engine.store.run.join("daemon.lock");
    let Some(_one) = locks::try_exclusive(&path, 0)? else {
        bail!("another daemon serves the store {}: it holds {}", engine.store.root.display(), path.display());
    };
    let mut signals = terminal::endings()?;
    // dockerd ends by none of these.
    let others = sys::signals::Signals::of([libc::SIGCHLD, libc::SIGUSR1, libc::SIGUSR2]);
    sys::signals::block(others).context("block signals")?;
    let others = sys::signals::descriptor(others).context("watch for signals")?;
    let listeners = listen::all(&asked)?;
    let _pid = asked.pidfile.as_deref().map(PidFile::write).transpose()?;

    let store = engine.store.clone();
    let current = Arc::new(RwLock::new(engine));
    let answering = Arc::clone(&current);
    let answer = move |request| {
        let engine = Arc::clone(&answering.read().unwrap_or_else(|poisoned| poisoned.into_inner()));
        routes::handle(&engine, request)
    };
    let connections = Connections::new(Arc::new(answer), bound()?);
    for listener in &listeners {
        log::info!("listening on {}", listener.address);
    }
    notify::ready();
    std::thread::spawn(move || {
        if let Err(error) = build::clear(&store) {
            log::warning!("clearing what builds have left: {error:#}");
        }
        boot::attend(&store)
    });

    let mut at_rest = false;
    loop {
        let watched = [signals.as_fd(), others.as_fd()];
        let mut fds = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).to_vec();
        fds.extend(listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, if at_rest { PollTimeout::NONE } else { REST.into() }) {
            Ok(0) => {
                sys::memory::let_go_of_the_file();
                at_rest = true;
                continue;
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => at_rest = false,
            Err(error) => return Err(error).context("waiting for connections"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        for (listener, _) in listeners.iter().zip(&ready[watched.len()..]).filter(|(_, ready)| **ready) {
            accept(listener, &connections);
        }
        if ready[1] {
            while let Ok(Some(signal)) = sys::signals::read(others.as_fd()) {
                match signal {
                    libc::SIGCHLD => shim::bury(),
                    libc::SIGUSR1 => tell_of_threads(),
                    _ => {}
                }
            }
        }
        if !ready[0] {
            continue;
        }
        while let Some(signal) = signals.next() {
            match signal {
                libc::SIGTERM | libc::SIGINT | libc::SIGQUIT => {
                    log::info!("{signal}: ending; the containers go on");
                    notify::stopping();
                    build::end(BUILDS);
                    return Ok(());
                }
                libc::SIGHUP => {
                    notify::reloading();
                    let before = Arc::clone(&current.read().unwrap_or_else(|poisoned| poisoned.into_inner()));
                    match reload::engine(&flags, config.as_deref(), &before) {
                        Ok(engine) => {
                            log::info!("the configuration was read again");
                            *current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(engine);
                        }
                        Err(error) => log::error!("the configuration is kept as it was: {error:#}"),
                    }
                    notify::ready();
                }
                _ => {}
            }
        }
    }
}

/// What each thread waits for, as the kernel has it: where a daemon does not answer, that is the first question.
fn tell_of_threads() {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for path in threads.map(|thread| thread.path()) {
        let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default().trim().to_owned();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default().trim().to_owned();
        let (number, name) = (path.file_name().unwrap_or_default().display(), read("comm"));
        let call = read("syscall").split(' ').next().unwrap_or_default().to_owned();
        log::info!("thread {number} {name}: {state}, system call {call}, in {}", read("wchan"));
    }
}

fn accept(listener: &Listener, connections: &Arc<Connections>) {
    match listener.accept() {
        Ok(Some((socket, wrap))) => connections.serve(socket, wrap),
        Ok(None) => {}
        Err(error) => {
            // Out of descriptors, as a rule: the next one would fare no better at once.
            log::warning!("accept a connection on {}: {error}", listener.address);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// How many connections the limit of open files leaves room for.
fn bound() -> Result<usize> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).context("ask for the limit of open files")?;
    let room = soft.saturating_sub(64) / DESCRIPTORS;
    Ok(usize::try_from(room).unwrap_or(usize::MAX).clamp(1, CONNECTIONS))
}

/// The file that names this process, as long as it lives.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<PidFile> {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(PidFile(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            log::warning!("remove {}: {error}", self.0.display());
        }
    }
}
