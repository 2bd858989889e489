//! `dhow run`: create, attach, start, stream, and the exit code of what ran.

use super::create::{self, Made};
use super::output;
use super::request::values;
use super::stream::{self, Ending, Streams, Target};
use super::terminal;
use super::{Coded, Command, Context, coded, habits, helped};
use crate::api::client::{Attach, Waiting};
use crate::api::types::Ulimit;
use crate::log;
use anyhow::{Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};

/// Create and run a new container from an image
#[derive(FromArgs, ArgsInfo, Default)]
#[argh(help_triggers("--help"))]
pub struct Run {
    // The first three are those of run alone: create shows the others only.
    /// run in the background and print the container's id
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// keys that detach from the container (default ctrl-p,ctrl-q)
    #[argh(option)]
    pub detach_keys: Option<String>,
    /// pass signals on to the process (default true)
    #[argh(option, arg_name = "bool")]
    pub sig_proxy: Option<bool>,

    /// a further name in /etc/hosts: name:address
    #[argh(option)]
    pub add_host: Vec<String>,
    /// an annotation for the runtime: key=value
    #[argh(option)]
    pub annotation: Vec<String>,
    /// attach to stdin, stdout or stderr
    #[argh(option, short = 'a')]
    pub attach: Vec<String>,
    /// block IO weight, 10 to 1000
    #[argh(option, arg_name = "UINT16")]
    pub blkio_weight: Option<u16>,
    /// block IO weight of one device
    #[argh(option)]
    pub blkio_weight_device: Vec<String>,
    /// add a capability
    #[argh(option)]
    pub cap_add: Vec<String>,
    /// drop a capability
    #[argh(option)]
    pub cap_drop: Vec<String>,
    /// the cgroup under which the container's stands
    #[argh(option)]
    pub cgroup_parent: Option<String>,
    /// cgroup namespace: host or private
    #[argh(option)]
    pub cgroupns: Option<String>,
    /// write the container's id to a file
    #[argh(option)]
    pub cidfile: Option<String>,
    /// number of CPUs (Windows only)
    #[argh(option, arg_name = "INT")]
    pub cpu_count: Option<i64>,
    /// percent of the CPUs (Windows only)
    #[argh(option, arg_name = "INT")]
    pub cpu_percent: Option<i64>,
    /// CFS period in microseconds
    #[argh(option, arg_name = "INT")]
    pub cpu_period: Option<i64>,
    /// CFS quota in microseconds
    #[argh(option, arg_name = "INT")]
    pub cpu_quota: Option<i64>,
    /// real-time period in microseconds
    #[argh(option, arg_name = "INT")]
    pub cpu_rt_period: Option<i64>,
    /// real-time runtime in microseconds
    #[argh(option, arg_name = "INT")]
    pub cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[argh(option, short = 'c', arg_name = "INT")]
    pub cpu_shares: Option<i64>,
    /// number of CPUs, with a fraction
    #[argh(option, arg_name = "DECIMAL")]
    pub cpus: Option<String>,
    /// CPUs to run on: 0-3, 0,1
    #[argh(option)]
    pub cpuset_cpus: Option<String>,
    /// memory nodes to use: 0-3, 0,1
    #[argh(option)]
    pub cpuset_mems: Option<String>,
    /// a host device: path[:path inside][:rwm], or one of the Container Device Interface: vendor.com/class=name
    #[argh(option)]
    pub device: Vec<String>,
    /// a rule of the allowed devices
    #[argh(option)]
    pub device_cgroup_rule: Vec<String>,
    /// limit reads of a device, bytes a second
    #[argh(option)]
    pub device_read_bps: Vec<String>,
    /// limit reads of a device, operations a second
    #[argh(option)]
    pub device_read_iops: Vec<String>,
    /// limit writes to a device, bytes a second
    #[argh(option)]
    pub device_write_bps: Vec<String>,
    /// limit writes to a device, operations a second
    #[argh(option)]
    pub device_write_iops: Vec<String>,
    /// images are not signed here: true, as by default
    #[argh(option, arg_name = "bool")]
    pub disable_content_trust: Option<bool>,
    /// a name server
    #[argh(option)]
    pub dns: Vec<String>,
    /// an option of the resolver
    #[argh(option)]
    pub dns_option: Vec<String>,
    /// an older name of --dns-option
    #[argh(option, hidden_help)]
    pub dns_opt: Vec<String>,
    /// a search domain
    #[argh(option)]
    pub dns_search: Vec<String>,
    /// NIS domain name
    #[argh(option)]
    pub domainname: Option<String>,
    /// replace the image's entrypoint
    #[argh(option)]
    pub entrypoint: Option<String>,
    /// an environment variable: NAME=value, or NAME for its value here
    #[argh(option, short = 'e')]
    pub env: Vec<String>,
    /// a file of environment variables
    #[argh(option)]
    pub env_file: Vec<String>,
    /// a port, or a range of them, that the container listens on
    #[argh(option)]
    pub expose: Vec<String>,
    /// GPUs to pass in: all, a number, or device=…, driver=…, capabilities=… (comma-separated)
    #[argh(option)]
    pub gpus: Vec<String>,
    /// a further group of the process
    #[argh(option)]
    pub group_add: Vec<String>,
    /// the command of the health check
    #[argh(option)]
    pub health_cmd: Option<String>,
    /// time between two checks
    #[argh(option, arg_name = "DURATION")]
    pub health_interval: Option<String>,
    /// failures before it is unhealthy
    #[argh(option, arg_name = "INT")]
    pub health_retries: Option<i64>,
    /// time between two checks while it starts
    #[argh(option, arg_name = "DURATION")]
    pub health_start_interval: Option<String>,
    /// time it may take to start
    #[argh(option, arg_name = "DURATION")]
    pub health_start_period: Option<String>,
    /// time a check may take
    #[argh(option, arg_name = "DURATION")]
    pub health_timeout: Option<String>,
    /// host name
    #[argh(option, short = 'h')]
    pub hostname: Option<String>,
    /// run an init that forwards signals and reaps processes
    #[argh(option, arg_name = "bool")]
    pub init: Option<bool>,
    /// keep stdin open
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    /// IO bandwidth of the system drive (Windows only)
    #[argh(option, arg_name = "BYTES")]
    pub io_maxbandwidth: Option<String>,
    /// IO operations of the system drive (Windows only)
    #[argh(option, arg_name = "UINT")]
    pub io_maxiops: Option<u64>,
    /// IPv4 address
    #[argh(option)]
    pub ip: Option<String>,
    /// IPv6 address
    #[argh(option)]
    pub ip6: Option<String>,
    /// IPC namespace: none, private, shareable, host, container:NAME
    #[argh(option)]
    pub ipc: Option<String>,
    /// isolation technology: default
    #[argh(option)]
    pub isolation: Option<String>,
    /// has no effect: the kernel dropped it
    #[argh(option, arg_name = "BYTES", from_str_fn(values::bytes))]
    pub kernel_memory: Option<i64>,
    /// a label: key=value
    #[argh(option, short = 'l')]
    pub label: Vec<String>,
    /// a file of labels
    #[argh(option)]
    pub label_file: Vec<String>,
    /// link to another container
    #[argh(option)]
    pub link: Vec<String>,
    /// a link-local address
    #[argh(option)]
    pub link_local_ip: Vec<String>,
    /// log driver: json-file, local or none
    #[argh(option)]
    pub log_driver: Option<String>,
    /// an option of the log driver: max-size, max-file, compress, mode, labels, tag, …
    #[argh(option)]
    pub log_opt: Vec<String>,
    /// MAC address
    #[argh(option)]
    pub mac_address: Option<String>,
    /// memory limit
    #[argh(option, short = 'm', arg_name = "BYTES", from_str_fn(values::bytes))]
    pub memory: Option<i64>,
    /// soft memory limit
    #[argh(option, arg_name = "BYTES", from_str_fn(values::bytes))]
    pub memory_reservation: Option<i64>,
    /// limit of memory and swap together, -1 for no limit
    #[argh(option, arg_name = "BYTES", from_str_fn(values::bytes_or_unlimited))]
    pub memory_swap: Option<i64>,
    /// swappiness, 0 to 100
    #[argh(option, arg_name = "INT")]
    pub memory_swappiness: Option<i64>,
    /// a mount: type=bind|volume|tmpfs,source=…,target=…
    #[argh(option)]
    pub mount: Vec<String>,
    /// the container's name
    #[argh(option)]
    pub name: Option<String>,
    /// a network: its name, none, host, container:NAME; or name=x,alias=y,ip=z
    #[argh(option)]
    pub network: Vec<String>,
    /// an older name of --network
    #[argh(option, hidden_help)]
    pub net: Vec<String>,
    /// a further name on the network
    #[argh(option)]
    pub network_alias: Vec<String>,
    /// an older name of --network-alias
    #[argh(option, hidden_help)]
    pub net_alias: Vec<String>,
    /// no health check, whatever the image says
    #[argh(switch)]
    pub no_healthcheck: bool,
    /// what to do when it is unhealthy: restart, stop, none (default none)
    #[argh(option)]
    pub on_unhealthy: Option<String>,
    /// do not kill on memory shortage
    #[argh(switch)]
    pub oom_kill_disable: bool,
    /// how readily it is killed on memory shortage, -1000 to 1000
    #[argh(option, arg_name = "INT")]
    pub oom_score_adj: Option<i64>,
    /// PID namespace: host, container:NAME
    #[argh(option)]
    pub pid: Option<String>,
    /// limit of processes, -1 for no limit
    #[argh(option, arg_name = "INT")]
    pub pids_limit: Option<i64>,
    /// platform of the image: os/arch[/variant]
    #[argh(option)]
    pub platform: Option<String>,
    /// all capabilities and devices
    #[argh(switch)]
    pub privileged: bool,
    /// open firewalls of others that drop what goes to its published ports, by one rule that goes with it
    #[argh(switch)]
    pub firewall_cooperate: bool,
    /// publish a port on the host
    #[argh(option, short = 'p')]
    pub publish: Vec<String>,
    /// publish every exposed port
    #[argh(switch, short = 'P')]
    pub publish_all: bool,
    /// when to pull the image: always, missing, never (default missing)
    #[argh(option)]
    pub pull: Option<String>,
    /// no progress of the pull
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// mount the root file system read-only
    #[argh(switch)]
    pub read_only: bool,
    /// restart policy: no, always, unless-stopped, on-failure[:N]
    #[argh(option)]
    pub restart: Option<String>,
    /// remove the container and its anonymous volumes when it ends
    #[argh(switch)]
    pub rm: bool,
    /// the runtime
    #[argh(option)]
    pub runtime: Option<String>,
    /// security: seccomp=FILE, no-new-privileges, systempaths=unconfined, …
    #[argh(option)]
    pub security_opt: Vec<String>,
    /// size of /dev/shm
    #[argh(option, arg_name = "BYTES", from_str_fn(values::bytes))]
    pub shm_size: Option<i64>,
    /// signal that stops it
    #[argh(option)]
    pub stop_signal: Option<String>,
    /// seconds before a stop becomes a kill
    #[argh(option, arg_name = "INT")]
    pub stop_timeout: Option<i64>,
    /// an option of the storage
    #[argh(option)]
    pub storage_opt: Vec<String>,
    /// a kernel parameter: name=value
    #[argh(option)]
    pub sysctl: Vec<String>,
    /// a tmpfs: path[:options]
    #[argh(option)]
    pub tmpfs: Vec<String>,
    /// give it a terminal
    #[argh(switch, short = 't')]
    pub tty: bool,
    /// a resource limit: name=soft[:hard]
    #[argh(option, from_str_fn(values::ulimit))]
    pub ulimit: Vec<Ulimit>,
    /// bind the API's socket
    #[argh(switch)]
    pub use_api_socket: bool,
    /// user: name or number[:group]
    #[argh(option, short = 'u')]
    pub user: Option<String>,
    /// user namespace: host
    #[argh(option)]
    pub userns: Option<String>,
    /// UTS namespace: host
    #[argh(option)]
    pub uts: Option<String>,
    /// a volume or a path of the host: source:target[:options]
    #[argh(option, short = 'v')]
    pub volume: Vec<String>,
    /// volume driver: local
    #[argh(option)]
    pub volume_driver: Option<String>,
    /// all mounts of another container
    #[argh(option)]
    pub volumes_from: Vec<String>,
    /// working directory
    #[argh(option, short = 'w')]
    pub workdir: Option<String>,

    #[argh(positional, arg_name = "IMAGE")]
    pub image: String,
    #[argh(positional, greedy, arg_name = "[COMMAND] [ARG...]")]
    pub command: Vec<String>,
}

/// Docker's exit codes for what did not come to run.
const ENGINE: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

impl Command for Run {
    const STOPS: bool = true;

    fn run(self, context: &Context) -> Result<u8> {
        run(self, context)
    }
}

fn run(flags: Run, context: &Context) -> Result<u8> {
    let (detach, sig_proxy) = (flags.detach, flags.sig_proxy.unwrap_or(true));
    let detach_keys = habits::or_kept(flags.detach_keys.clone(), |kept| kept.detach_keys)?;
    let mut wanted = create::wanted(flags).map_err(|error| helped(ENGINE, "run", error))?;
    let config = &mut wanted.create.config;
    context.proxies_of(&mut config.env).map_err(|error| coded(ENGINE, error))?;
    if detach {
        if wanted.attached {
            bail!("conflicting options: cannot specify both --attach and --detach");
        }
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        terminal::check(config.attach_stdin, config.tty)?;
    }
    let keys = stream::detach_keys(&detach_keys)?;

    let client = context.client().map_err(|error| match error.is::<Coded>() {
        true => error,
        false => coded(ENGINE, error),
    })?;
    let Made { id, create } = create::create(&client, wanted).map_err(not_run)?;
    let config = &create.config;
    let attach = Attach {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        detach_keys: &detach_keys,
    };
    if !(attach.stdin || attach.stdout || attach.stderr) {
        client.start(&id, "").map_err(not_run)?;
        output::say(&format!("{id}\n"))?;
        return Ok(0);
    }
    let signals = terminal::signals(sig_proxy)?;
    let connection = client.attach(&id, &attach)?;
    let condition = if create.host_config.auto_remove { "removed" } else { "next-exit" };
    let waiting = client.wait(&id, condition)?;
    if let Err(error) = client.start(&id, "") {
        drop(connection);
        if create.host_config.auto_remove {
            best_effort(|| waiting.finish().map(drop));
        }
        return Err(not_run(error));
    }
    let streams = Streams {
        connection,
        stdin: attach.stdin,
        stdout: attach.stdout,
        stderr: attach.stderr,
        tty: config.tty,
        keys,
    };
    match stream::run(streams, signals, &Target::container(&client, &id, sig_proxy))? {
        Ending::Detached => Ok(0),
        Ending::Over => finished(waiting),
    }
}

/// The exit code that a wait tells.
pub fn finished(waiting: Waiting) -> Result<u8> {
    let answer = waiting.finish()?;
    if let Some(error) = answer.error.filter(|error| !error.message.is_empty()) {
        return Err(coded(ENGINE, anyhow!("waiting for the container: {}", error.message)));
    }
    Ok(u8::try_from(answer.status_code & 0xff).unwrap_or(ENGINE))
}

/// An error before the command ran, with Docker's exit code for it.
fn not_run(error: anyhow::Error) -> anyhow::Error {
    helped(exit_code(&format!("{error:#}")), "run", error)
}

/// What Docker reads off the words of the runtime.
pub fn exit_code(message: &str) -> u8 {
    let said = |words: &[&str]| words.iter().any(|word| message.contains(word));
    // Of a daemon that is not there neither is its socket.
    let is_answered = !message.contains("cannot connect to the Docker daemon");
    if is_answered && said(&["executable file not found", "no such file or directory", "No such file or directory"]) {
        NOT_FOUND
    } else if said(&["permission denied", "Permission denied", "is a directory", "Is a directory"]) {
        NOT_EXECUTABLE
    } else {
        ENGINE
    }
}

/// Does something on the way out, or for looks only, whose error nobody can use.
pub fn best_effort(work: impl FnOnce() -> Result<()>) {
    if let Err(error) = work() {
        log::debug!("{error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_what_did_not_run() {
        let table = [
            (r#"exec: "x": executable file not found in $PATH"#, 127),
            (r#"exec: "/x": stat /x: no such file or directory"#, 127),
            (r#"exec: "/etc/passwd": permission denied"#, 126),
            (r#"exec: "/etc": is a directory"#, 126),
            ("no space left on device", 125),
            (
                "cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?: No such file or directory",
                125,
            ),
        ];
        for (message, code) in table {
            assert_eq!(exit_code(message), code, "{message}");
        }
    }
}
