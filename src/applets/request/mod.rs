//! The flags of run and create → the body of create. Pure: what it needs of this process is handed in.

mod env;
mod gpus;
mod later;
mod limits;
mod mounts;
pub mod networks;
mod ports;
pub mod values;

pub use env::environment;
pub use limits::nano_cpus;

use super::run::Run;
use crate::api::types::*;
use crate::applets::face::{self, Misfit, words};
use crate::applets::output;
use crate::json;
use crate::order::Map;
use anyhow::{Context, Result, anyhow, bail};
use std::path::{Path, PathBuf};

/// What a request needs to know of the process that makes it.
pub struct Here<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub read: &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    /// The working directory.
    pub cwd: PathBuf,
}

impl Here<'static> {
    pub fn this_process() -> Here<'static> {
        Here {
            // What is no text becomes some, as docker's JSON makes it.
            env: &|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            read: &|path| std::fs::read(path),
            cwd: std::env::current_dir().unwrap_or_default(),
        }
    }
}

/// The body of create.
pub fn request(flags: &Run, here: &Here) -> Result<ContainerCreate> {
    later::refuse(flags)?;
    let (mode, endpoints_config) = networks::networks(flags)?;
    let mut published = PortMap::new();
    for text in &flags.publish {
        ports::publish(text, &mut published).map_err(|why| anyhow!(why))?;
    }
    let mut create = ContainerCreate {
        config: config(flags, here, published.keys())?,
        host_config: HostConfig { network_mode: mode, port_bindings: Some(published), ..host_config(flags, here)? },
        networking_config: NetworkingConfig { endpoints_config },
        read_only_non_recursive: false,
    };
    volumes(flags, here, &mut create)?;
    Ok(create)
}

fn config<'a>(flags: &Run, here: &Here, published: impl Iterator<Item = &'a String>) -> Result<ContainerConfig> {
    let streams: Vec<String> = flags.attach.iter().map(|stream| stream.to_ascii_lowercase()).collect();
    if let Some(at) = streams.iter().position(|stream| !matches!(stream.as_str(), "stdin" | "stdout" | "stderr")) {
        return wrong("-a, --attach", &flags.attach[at], "valid streams are STDIN, STDOUT and STDERR");
    }
    let attached = |stream: &str| streams.iter().any(|given| given == stream);
    let attach_stdin = attached("stdin") || flags.interactive;
    let mut ports: Map<String, Option<Nothing>> =
        Map::from_iter(published.map(|port| (port.clone(), Some(Nothing {}))));
    for range in &flags.expose {
        for port in values::exposed(range).map_err(|why| anyhow!(why))? {
            ports.insert(port, Some(Nothing {}));
        }
    }
    let labels = env::labels(&flags.label_file, &flags.label, here)?;
    Ok(ContainerConfig {
        hostname: text(&flags.hostname),
        domainname: text(&flags.domainname),
        user: text(&flags.user),
        attach_stdin,
        attach_stdout: streams.is_empty() || attached("stdout"),
        attach_stderr: streams.is_empty() || attached("stderr"),
        exposed_ports: Some(ports).filter(|ports| !ports.is_empty()),
        tty: flags.tty,
        open_stdin: flags.interactive,
        // Stdin ends with the client that is attached to it.
        stdin_once: flags.interactive && attach_stdin,
        env: Some(env::environment(&flags.env_file, &flags.env, here)?).filter(|env| !env.is_empty()),
        cmd: Some(flags.command.clone()).filter(|command| !command.is_empty()),
        healthcheck: healthcheck(flags)?,
        image: flags.image.clone(),
        working_dir: text(&flags.workdir),
        // An empty entrypoint takes the image's away; it is sent as one empty word.
        entrypoint: flags.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
        labels: Some(values::pairs(&labels)),
        stop_signal: text(&flags.stop_signal),
        stop_timeout: flags.stop_timeout,
        ..Default::default()
    })
}

/// The health check; nothing where nothing is said of it.
fn healthcheck(flags: &Run) -> Result<Option<Healthcheck>> {
    let time = |flag: &str, given: &Option<String>| -> Result<i64> {
        let Some(text) = given.as_deref().filter(|text| !text.is_empty()) else { return Ok(0) };
        match crate::api::time::parse_duration(text) {
            None => wrong(
                flag,
                text,
                words(&format!("time: invalid duration {text:?}"), "it is no duration such as 30s or 1m30s"),
            ),
            Some(nanos) if nanos < 0 => bail!("{flag} cannot be negative"),
            Some(nanos) => Ok(nanos),
        }
    };
    let command = flags.health_cmd.as_deref().filter(|command| !command.is_empty());
    let check = Healthcheck {
        test: command.map(|command| vec!["CMD-SHELL".to_owned(), command.to_owned()]),
        interval: time("--health-interval", &flags.health_interval)?,
        timeout: time("--health-timeout", &flags.health_timeout)?,
        start_period: time("--health-start-period", &flags.health_start_period)?,
        start_interval: time("--health-start-interval", &flags.health_start_interval)?,
        retries: flags.health_retries.unwrap_or(0),
    };
    if check.retries < 0 {
        bail!("--health-retries cannot be negative");
    }
    match (check == Healthcheck::default(), flags.no_healthcheck) {
        (true, true) => Ok(Some(Healthcheck { test: Some(vec!["NONE".to_owned()]), ..Healthcheck::default() })),
        (true, false) => Ok(None),
        (false, true) => bail!("--no-healthcheck conflicts with --health-* options"),
        (false, false) => Ok(Some(check)),
    }
}

fn host_config(flags: &Run, here: &Here) -> Result<HostConfig> {
    let restart_policy =
        values::restart_policy(flags.restart.as_deref().unwrap_or("no")).map_err(|why| anyhow!(why))?;
    if flags.rm && !matches!(restart_policy.name.as_str(), "" | "no") {
        bail!("conflicting options: cannot specify both --restart and --rm");
    }
    let log_driver = text(&flags.log_driver);
    if log_driver == "none" && !flags.log_opt.is_empty() {
        bail!("invalid logging opts for driver none");
    }
    let modes = [
        ("--pid", &flags.pid, &["host", "container:"][..], "invalid PID mode"),
        ("--uts", &flags.uts, &["host"], "invalid UTS mode"),
        ("--userns", &flags.userns, &["host"], "invalid USER mode"),
        ("--cgroupns", &flags.cgroupns, &["host", "private"], "invalid CGROUP mode"),
        ("--ipc", &flags.ipc, &["none", "private", "shareable", "host", "container:"], "invalid IPC mode"),
    ];
    for (flag, value, known, why) in modes {
        check_mode(flag, value.as_deref().unwrap_or(""), known, why)?;
    }
    let (security_opt, unmasked) = security(flags, here)?;
    let (masked_paths, readonly_paths) = if unmasked { (Some(vec![]), Some(vec![])) } else { (None, None) };
    let mut devices = Vec::new();
    let mut named = Vec::new();
    for device in &flags.device {
        if gpus::is_name(device) {
            named.push(device.clone());
            continue;
        }
        devices.push(mounts::device(device).map_err(|why| anyhow!(why))?);
    }
    let dns_options: Vec<String> = flags.dns_option.iter().chain(&flags.dns_opt).cloned().collect();
    let mut ulimits: Map<&str, &Ulimit> = Map::new();
    ulimits.extend(flags.ulimit.iter().map(|limit| (limit.name.as_str(), limit)));
    for sysctl in &flags.sysctl {
        values::sysctl(sysctl).or_else(|why| wrong("--sysctl", sysctl, &why))?;
    }
    if flags.storage_opt.iter().any(|option| !option.contains('=')) {
        bail!("invalid storage option");
    }
    Ok(HostConfig {
        storage_opt: Some(map(&flags.storage_opt).unwrap_or_default()).filter(|options| !options.is_empty()),
        container_id_file: text(&flags.cidfile),
        log_config: LogConfig { r#type: log_driver, config: Some(values::pairs(&flags.log_opt)) },
        restart_policy,
        auto_remove: flags.rm,
        volume_driver: text(&flags.volume_driver),
        volumes_from: list(&flags.volumes_from),
        annotations: map(&flags.annotation),
        cap_add: capabilities(&flags.cap_add).into(),
        cap_drop: capabilities(&flags.cap_drop).into(),
        cgroupns_mode: text(&flags.cgroupns),
        dns: Some(checked("--dns", &flags.dns, address)?),
        dns_options: Some(dns_options),
        dns_search: Some(checked("--dns-search", &flags.dns_search, values::search_domain)?),
        extra_hosts: Some(checked("--add-host", &flags.add_host, values::extra_host)?)
            .filter(|hosts| !hosts.is_empty()),
        group_add: list(&flags.group_add),
        links: Some(checked("--link", &flags.link, values::link)?).filter(|links| !links.is_empty()),
        ipc_mode: text(&flags.ipc),
        oom_score_adj: flags.oom_score_adj.unwrap_or(0),
        pid_mode: text(&flags.pid),
        privileged: flags.privileged,
        readonly_rootfs: flags.read_only,
        security_opt,
        tmpfs: Some(mounts::tmpfs(&flags.tmpfs)).filter(|tmpfs| !tmpfs.is_empty()),
        uts_mode: text(&flags.uts),
        userns_mode: text(&flags.userns),
        shm_size: flags.shm_size.unwrap_or(0),
        sysctls: map(&flags.sysctl),
        runtime: text(&flags.runtime),
        isolation: text(&flags.isolation),
        devices: Some(devices),
        device_requests: gpus::requests(&flags.gpus, named)?,
        device_cgroup_rules: list(&flags.device_cgroup_rule),
        ulimits: Some(ulimits.into_values().cloned().collect()),
        masked_paths,
        readonly_paths,
        init: flags.init,
        on_unhealthy: text(&flags.on_unhealthy),
        firewall_cooperate: flags.firewall_cooperate,
        publish_all_ports: flags.publish_all,
        ..limits::limits(flags)?
    })
}

/// `-v` goes to binds or, without a source, to the image's own kind of volumes; `--mount` to mounts.
fn volumes(flags: &Run, here: &Here, create: &mut ContainerCreate) -> Result<()> {
    let mut binds: Vec<String> = Vec::new();
    let mut anonymous = Map::new();
    for spec in &flags.volume {
        match mounts::volume(spec, &here.cwd).map_err(|why| anyhow!(why))? {
            mounts::Volume::Anonymous(target) => drop(anonymous.insert(target, Some(Nothing {}))),
            mounts::Volume::Bind(bind) if binds.contains(&bind) => {}
            mounts::Volume::Bind(bind) => binds.push(bind),
        }
    }
    let mut list = Vec::new();
    for spec in &flags.mount {
        if mounts::is_outdated(spec) {
            output::complain("WARNING: bind-nonrecursive is deprecated, use bind-recursive=disabled instead");
        }
        list.push(mounts::mount(spec, &here.cwd).or_else(|why| wrong("--mount", spec, &why))?);
    }
    create.host_config.binds = Some(binds).filter(|binds| !binds.is_empty());
    create.host_config.mounts = Some(list).filter(|list| !list.is_empty());
    create.config.volumes = Some(anonymous).filter(|volumes| !volumes.is_empty());
    Ok(())
}

/// Security options, a seccomp profile read in, and whether masked and read-only paths are lifted.
fn security(flags: &Run, here: &Here) -> Result<(Option<Vec<String>>, bool)> {
    let mut options = Vec::new();
    let mut unmasked = false;
    for option in &flags.security_opt {
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        match pair {
            _ if option == "systempaths=unconfined" => unmasked = true,
            _ if option == "no-new-privileges" => options.push(option.clone()),
            Some((key, value)) if !value.is_empty() => match (key, value) {
                ("seccomp", "unconfined" | "builtin") | ("no-new-privileges", _) => options.push(option.clone()),
                ("seccomp", file) => options.push(format!("seccomp={}", profile(file, here)?)),
                _ => options.push(option.clone()),
            },
            _ => bail!("{} --security-opt: {option:?}", words("Invalid", "invalid")),
        }
    }
    Ok((Some(options).filter(|options| !options.is_empty()), unmasked))
}

/// The text of a seccomp profile in one line.
fn profile(file: &str, here: &Here) -> Result<String> {
    let reading = || match face::is_docker() {
        true => format!("opening seccomp profile ({file}) failed: open {file}"),
        false => format!("reading seccomp profile {file}"),
    };
    let text = (here.read)(Path::new(file)).with_context(reading)?;
    let value: serde_json::Value =
        json::from_slice(&text).with_context(|| format!("reading seccomp profile {file}"))?;
    Ok(value.to_string())
}

fn check_mode(flag: &str, value: &str, known: &[&str], why: &str) -> Result<()> {
    let fits = |mode: &&str| match mode.strip_suffix(':') {
        Some(_) => value.strip_prefix(*mode).is_some_and(|name| !name.is_empty()),
        None => value == *mode,
    };
    if value.is_empty() || known.iter().any(fits) {
        return Ok(());
    }
    match face::is_docker() {
        // Which the daemon says there.
        true if flag == "--ipc" => Ok(()),
        _ => bail!("{flag}: {why}"),
    }
}

fn address(text: &str) -> Result<String, String> {
    let address = text.trim().parse::<std::net::IpAddr>();
    address.map(|address| address.to_string()).map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

fn checked(flag: &str, given: &[String], check: fn(&str) -> Result<String, String>) -> Result<Vec<String>> {
    given.iter().map(|value| check(value).or_else(|why| wrong(flag, value, &why))).collect()
}

/// Docker's words for a value that a flag does not take.
fn wrong<T>(flag: &str, value: &str, why: &str) -> Result<T> {
    Err(Misfit::new(flag, value, why).into())
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

/// `net_admin` → `CAP_NET_ADMIN`.
fn capabilities(names: &[String]) -> Option<Vec<String>> {
    let name = |name: &String| {
        let name = name.trim().to_ascii_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    (!names.is_empty()).then(|| names.iter().map(name).collect())
}

fn list(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}

fn map(values: &[String]) -> Option<Map<String, String>> {
    (!values.is_empty()).then(|| values::pairs(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::applets::parse;
    use argh::{ArgsInfo, FromArgs};

    /// Reads a command line, split at blanks, down to the body, which is the same to whoever reads it again.
    fn body(line: &str) -> Result<ContainerCreate> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let info = Run::get_args_info();
        let plain = parse::plain(&info, "dhow run", &words, true).map_err(|misuse| anyhow!("{misuse:?}"))?;
        let words: Vec<&str> = plain.iter().map(String::as_str).collect();
        let flags = Run::from_args(&["dhow run"], &words).map_err(|exit| anyhow!(exit.output))?;
        let env = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let read = |path: &Path| match path.to_str() {
            Some("profile.json") => Ok(b"{ \"defaultAction\":\n\"SCMP_ACT_ALLOW\" }".to_vec()),
            Some("broken.json") => Ok(b"{".to_vec()),
            _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        };
        let body = request(&flags, &Here { env: &env, read: &read, cwd: "/cwd".into() })?;
        let bytes = serde_json::to_vec(&body)?;
        assert_eq!(json::from_slice::<ContainerCreate>(&bytes)?, body, "{line}");
        Ok(body)
    }

    fn strings(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn nothing_asked_is_dockers_default_body() {
        let body = body("busybox").unwrap();
        let expected = ContainerCreate {
            config: ContainerConfig {
                attach_stdout: true,
                attach_stderr: true,
                image: "busybox".into(),
                labels: Some(Map::new()),
                ..Default::default()
            },
            host_config: HostConfig {
                log_config: LogConfig { r#type: String::new(), config: Some(Map::new()) },
                network_mode: "default".into(),
                dns: Some(vec![]),
                dns_options: Some(vec![]),
                dns_search: Some(vec![]),
                devices: Some(vec![]),
                ulimits: Some(vec![]),
                restart_policy: RestartPolicy { name: "no".into(), maximum_retry_count: 0 },
                port_bindings: Some(PortMap::new()),
                blkio_weight_device: Some(vec![]),
                blkio_device_read_bps: Some(vec![]),
                blkio_device_write_bps: Some(vec![]),
                blkio_device_read_iops: Some(vec![]),
                blkio_device_write_iops: Some(vec![]),
                oom_kill_disable: Some(false),
                ..Default::default()
            },
            ..Default::default()
        };
        assert_eq!(body, expected);
    }

    #[test]
    fn streams_and_stdin() {
        // stdin, stdout, stderr attached; stdin open; stdin ends with its client; terminal
        let table = [
            ("x", (false, true, true, false, false, false)),
            ("-i x", (true, true, true, true, true, false)),
            ("-it x", (true, true, true, true, true, true)),
            ("-a stdin x", (true, false, false, false, false, false)),
            ("-a STDOUT x", (false, true, false, false, false, false)),
            ("-i -a stderr x", (true, false, true, true, true, false)),
            ("-t x", (false, true, true, false, false, true)),
        ];
        for (line, expected) in table {
            let config = body(line).unwrap().config;
            let got = (
                config.attach_stdin,
                config.attach_stdout,
                config.attach_stderr,
                config.open_stdin,
                config.stdin_once,
                config.tty,
            );
            assert_eq!(got, expected, "{line}");
        }
    }

    #[test]
    fn the_part_that_travels() {
        let config = body(
            "-h web -u 1:2 -w /w -e A=1 -e HOME -e GONE -l a=b -l c --entrypoint= --expose 80-81 --stop-signal INT \
             --stop-timeout -1 --no-healthcheck -v /anon x sh -c true",
        )
        .unwrap()
        .config;
        assert_eq!((config.hostname.as_str(), config.user.as_str(), config.working_dir.as_str()), ("web", "1:2", "/w"));
        assert_eq!(config.env, strings(&["A=1", "HOME=/root", "GONE"]));
        assert_eq!(
            config.labels.unwrap().into_iter().collect::<Vec<_>>(),
            [("a".into(), "b".into()), ("c".into(), "".into())]
        );
        assert_eq!(config.entrypoint, strings(&[""]));
        assert_eq!(config.cmd, strings(&["sh", "-c", "true"]));
        assert_eq!(config.exposed_ports.unwrap().into_keys().collect::<Vec<_>>(), ["80/tcp", "81/tcp"]);
        assert_eq!((config.stop_signal.as_str(), config.stop_timeout), ("INT", Some(-1)));
        assert_eq!(config.healthcheck.unwrap().test, strings(&["NONE"]));
        let check = body("--health-cmd true --health-interval 1m30s --health-retries 2 x").unwrap().config.healthcheck;
        let check = check.unwrap();
        assert_eq!((check.test, check.interval, check.retries), (strings(&["CMD-SHELL", "true"]), 90_000_000_000, 2));
        assert_eq!(body("--on-unhealthy stop x").unwrap().host_config.on_unhealthy, "stop");
        assert_eq!(config.volumes.unwrap().into_keys().collect::<Vec<_>>(), ["/anon"]);
        assert_eq!(body("--entrypoint /bin/sh x").unwrap().config.entrypoint, strings(&["/bin/sh"]));
        assert_eq!(body("x").unwrap().config.entrypoint, None);
    }

    #[test]
    fn the_part_that_stays() {
        let host = body(
            "--rm --name n --network none --pid host --ipc shareable --uts host --cap-add ALL --cap-drop NET_RAW \
             --privileged --read-only --tmpfs /t:size=1m --tmpfs /u -v ./a:/a:ro -v v:/v -v ./a:/a:ro \
             --volumes-from o:ro --device /dev/null:/dev/x:r --ulimit nofile=1:2 --ulimit core=0 --ulimit nofile=3 \
             --shm-size 1g --init --group-add 5 --add-host a:1.2.3.4 --dns 1.1.1.1 --dns-search d.e --dns-opt ndots:1 \
             --log-driver json-file --log-opt max-size=1m --annotation k=v --sysctl net.x=1 --oom-score-adj -5 \
             --security-opt no-new-privileges --security-opt seccomp=profile.json --security-opt systempaths=unconfined \
             --mount type=bind,src=/a,dst=/b --cidfile /cid --cgroupns host --userns host --isolation default x",
        )
        .unwrap()
        .host_config;
        assert!(host.auto_remove && host.privileged && host.readonly_rootfs);
        assert_eq!(host.network_mode, "none");
        assert_eq!(
            (host.pid_mode.as_str(), host.ipc_mode.as_str(), host.uts_mode.as_str()),
            ("host", "shareable", "host")
        );
        assert_eq!((&*host.cap_add, &*host.cap_drop), (&strings(&["ALL"]), &strings(&["CAP_NET_RAW"])));
        assert_eq!(host.binds, strings(&["/cwd/a:/a:ro", "v:/v"]));
        let tmpfs: Vec<_> = host.tmpfs.unwrap().into_iter().collect();
        assert_eq!(tmpfs, [("/t".into(), "size=1m".into()), ("/u".into(), String::new())]);
        assert_eq!(host.volumes_from, strings(&["o:ro"]));
        assert_eq!(host.devices.unwrap()[0].cgroup_permissions, "r");
        let limits: Vec<_> = host.ulimits.unwrap().into_iter().map(|l| (l.name, l.soft, l.hard)).collect();
        assert_eq!(limits, [("core".to_owned(), 0, 0), ("nofile".to_owned(), 3, 3)]);
        assert_eq!((host.shm_size, host.init, host.oom_score_adj), (1 << 30, Some(true), -5));
        assert_eq!((host.group_add, host.extra_hosts), (strings(&["5"]), strings(&["a:1.2.3.4"])));
        assert_eq!((host.dns, host.dns_search), (strings(&["1.1.1.1"]), strings(&["d.e"])));
        assert_eq!(host.dns_options, strings(&["ndots:1"]));
        assert_eq!(host.log_config.config.unwrap()["max-size"], "1m");
        assert_eq!(host.annotations.unwrap()["k"], "v");
        assert_eq!(host.sysctls.unwrap()["net.x"], "1");
        let security = strings(&["no-new-privileges", r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#]);
        assert_eq!(host.security_opt, security);
        assert_eq!((host.masked_paths, host.readonly_paths), (Some(vec![]), Some(vec![])));
        assert_eq!(host.mounts.unwrap()[0].source, "/a");
        assert_eq!((host.container_id_file.as_str(), host.cgroupns_mode.as_str()), ("/cid", "host"));
        let policy = |flags: &str| {
            let policy = body(flags).unwrap().host_config.restart_policy;
            (policy.name, policy.maximum_retry_count)
        };
        assert_eq!(policy("--restart on-failure:5 x"), ("on-failure".to_owned(), 5));
        assert_eq!(policy("--restart unless-stopped x"), ("unless-stopped".to_owned(), 0));
        assert_eq!(policy("--rm --restart no x"), ("no".to_owned(), 0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let table = [
            ("-a x y", r#"invalid argument "x" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR"#),
            (
                "--dns nowhere x",
                r#"invalid argument "nowhere" for "--dns" flag: IP address is not correctly formatted: nowhere"#,
            ),
            (
                "--sysctl kernel.x=1 x",
                r#"invalid argument "kernel.x=1" for "--sysctl" flag: sysctl 'kernel.x=1' is not allowed"#,
            ),
            ("--pid mine x", "--pid: invalid PID mode"),
            ("--pid container: x", "--pid: invalid PID mode"),
            ("--ipc x y", "--ipc: invalid IPC mode"),
            ("--log-driver none --log-opt a=b x", "invalid logging opts for driver none"),
            ("--security-opt seccomp= x", r#"invalid --security-opt: "seccomp=""#),
            ("--security-opt what x", r#"invalid --security-opt: "what""#),
            ("-v a:b:c:d x", "invalid spec: a:b:c:d: too many colons"),
            (
                "--mount type=bind,x=y z",
                r#"invalid argument "type=bind,x=y" for "--mount" flag: unknown option 'x' in 'x=y'"#,
            ),
            ("--expose x y", "invalid range format for --expose: x"),
            (
                "--health-interval soon x",
                r#"invalid argument "soon" for "--health-interval" flag: it is no duration such as 30s or 1m30s"#,
            ),
            ("--health-timeout=-1s x", "--health-timeout cannot be negative"),
            ("--health-retries=-1 x", "--health-retries cannot be negative"),
            ("--no-healthcheck --health-cmd true x", "--no-healthcheck conflicts with --health-* options"),
            ("--rm --restart always x", "conflicting options: cannot specify both --restart and --rm"),
            ("--restart :3 x", "invalid restart policy format: no policy provided before colon"),
            ("--restart on-failure:x y", "invalid restart policy format: maximum retry count must be an integer"),
        ];
        for (line, message) in table {
            assert_eq!(body(line).unwrap_err().to_string(), message, "{line}");
        }
        for line in ["--security-opt seccomp=none.json x", "--security-opt seccomp=broken.json x", "--env-file f x"] {
            assert!(body(line).is_err(), "{line}");
        }
    }
}
