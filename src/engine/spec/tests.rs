use super::*;
use crate::api::types::{MountPoint, Ulimit};
use crate::engine::record::Mounted;
use crate::oci::runtime::{Mount, SeccompAction};

/// A host that has everything, so that what a test sees does not depend on the machine.
fn host() -> Host {
    Host {
        kernel: (6, 1),
        caps: CapSet::NAMED,
        seccomp: true,
        time_namespaces: true,
        sysctls: vec!["net.ipv4.ip_unprivileged_port_start"],
        ..Host::default()
    }
}

fn record(change: impl FnOnce(&mut Record)) -> Record {
    let mut record = Record { path: "sh".to_owned(), args: strings(&["-c", "true"]), ..Record::default() };
    record.config.hostname = "box".to_owned();
    record.host_config.network_mode = "none".to_owned();
    record.host_config.cgroupns_mode = "private".to_owned();
    change(&mut record);
    record
}

fn user() -> User {
    User { uid: 5, gid: 6, gids: vec![6, 7], home: "/home/five".to_owned() }
}

fn made_with(record: &Record, change: impl FnOnce(&mut Inputs)) -> Result<Spec> {
    made_of(record, &[], change)
}

fn made_of(record: &Record, devices: &[Granted], change: impl FnOnce(&mut Inputs)) -> Result<Spec> {
    let user = user();
    let mut inputs = inputs(record, &user, devices);
    change(&mut inputs);
    spec(&inputs)
}

fn inputs<'a>(record: &'a Record, user: &'a User, devices: &'a [Granted]) -> Inputs<'a> {
    static HOST: std::sync::OnceLock<Host> = std::sync::OnceLock::new();
    Inputs {
        record,
        user,
        host: HOST.get_or_init(host),
        devices,
        limits: Resources::default(),
        root: Path::new("/root/fs"),
        cgroup: "/dhow/x",
        hosts: Some(Path::new("/c/hosts")),
        hostname: Some(Path::new("/c/hostname")),
        resolv_conf: Some(Path::new("/c/resolv.conf")),
        shm: None,
        own_volumes: Set::new(),
        init: None,
        join: Join::default(),
    }
}

#[test]
fn in_a_user_namespace() {
    let range = |host_id| vec![runtime::IdMapping { container_id: 0, host_id, size: 65536 }];
    let ids = runtime::Ids { uids: range(100_000), gids: range(200_000) };
    let record = record(|record| {
        let point = |name: &str| MountPoint {
            r#type: "volume".to_owned(),
            name: name.to_owned(),
            source: "/volumes/x".to_owned(),
            destination: format!("/{name}"),
            rw: true,
            ..MountPoint::default()
        };
        record.mounts = ["own", "device"].map(|name| Mounted { point: point(name), ..Mounted::default() }).to_vec();
        record.ids = Some(ids.clone());
    });
    let spec = made_with(&record, |inputs| {
        inputs.own_volumes = Set::from(["own".to_owned()]);
    });
    let spec = spec.unwrap();
    let linux = spec.linux.as_ref().unwrap();
    assert_eq!(linux.namespaces[0], Namespace { kind: NamespaceKind::User, path: String::new() });
    assert_eq!((&linux.uid_mappings, &linux.gid_mappings), (&ids.uids, &ids.gids));
    assert!(linux.devices.is_empty());
    assert_eq!(options(&spec, "/dev/null"), "bind,rprivate,nosuid,noexec");
    assert!(options(&spec, "/own").ends_with(",idmap") && options(&spec, "/etc/hosts").ends_with(",idmap"));
    assert!(!options(&spec, "/device").contains("idmap"));
}

fn made(change: impl FnOnce(&mut Record)) -> Spec {
    made_with(&record(change), |_| {}).unwrap()
}

fn refused(change: impl FnOnce(&mut Record)) -> String {
    let record = record(change);
    format!("{:#}", check_on(&record.config, &record.host_config, &host()).unwrap_err())
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&entry| entry.to_owned()).collect()
}

fn mount<'a>(spec: &'a Spec, target: &str) -> Option<&'a Mount> {
    spec.mounts.iter().find(|mount| mount.destination == target)
}

fn options(spec: &Spec, target: &str) -> String {
    mount(spec, target).map(|mount| mount.options.join(",")).unwrap_or_default()
}

#[test]
fn the_hosts_cgroups_are_bound_and_not_mounted_anew() {
    let shared = record(|record| record.host_config.cgroupns_mode = "host".to_owned());
    let on = Host { cgroups: "/sys/fs/cgroup".to_owned(), ..host() };
    let of = |record: &Record| {
        let (user, on) = (user(), &on);
        let spec = spec(&Inputs { host: on, ..inputs(record, &user, &[]) }).unwrap();
        let mount = mount(&spec, "/sys/fs/cgroup").unwrap();
        format!("{} {} {}", mount.kind, mount.source, mount.options.join(","))
    };
    assert_eq!(of(&shared), "bind /sys/fs/cgroup bind,rprivate,ro,nosuid,noexec,nodev");
    assert_eq!(of(&record(|_| {})), "cgroup cgroup ro,nosuid,noexec,nodev");
}

#[test]
fn limits_are_in_the_specification() {
    let pids = Some(runtime::Pids { limit: 7 });
    let with = |inputs: &mut Inputs| inputs.limits = Resources { pids, ..Resources::default() };
    let spec = made_with(&record(|_| {}), with).unwrap();
    let resources = spec.linux.unwrap().resources.unwrap();
    assert!(resources.pids == pids && !resources.devices.is_empty());
}

#[test]
fn a_container_that_asks_for_nothing_gets_the_defaults() {
    let spec = made(|_| {});
    let process = spec.process.as_ref().unwrap();
    assert_eq!(process.args, ["sh", "-c", "true"]);
    assert_eq!(process.env, [&format!("PATH={DEFAULT_PATH}"), "HOSTNAME=box", "HOME=/home/five"]);
    assert_eq!((process.cwd.as_str(), process.terminal, process.no_new_privileges), ("/", false, false));
    assert_eq!(process.oom_score_adj, Some(0));
    let expected = runtime::User { uid: 5, gid: 6, umask: Some(0o022), additional_gids: vec![6, 7] };
    assert_eq!(process.user, expected);
    let caps = process.capabilities.as_ref().unwrap();
    assert_eq!(caps.bounding.len(), 14);
    assert_eq!((&caps.effective, &caps.permitted), (&caps.bounding, &caps.bounding));
    assert!(caps.inheritable.is_empty() && caps.ambient.is_empty());
    assert_eq!((spec.hostname.as_str(), spec.root.as_ref().unwrap().readonly), ("box", false));

    let linux = spec.linux.as_ref().unwrap();
    let kinds: Vec<_> = linux.namespaces.iter().map(|namespace| namespace.kind).collect();
    use NamespaceKind::*;
    assert_eq!(kinds, [Mount, Network, Uts, Pid, Ipc, Cgroup, Time]);
    assert_eq!(linux.masked_paths, MASKED);
    assert_eq!(linux.readonly_paths, READONLY);
    assert_eq!(linux.seccomp.as_ref().unwrap().default_action, SeccompAction::Errno);
    assert_eq!(
        linux.sysctl.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
        ["net.ipv4.ip_unprivileged_port_start=0"]
    );
    let nodes: Vec<_> = linux.devices.iter().map(|device| device.path.as_str()).collect();
    assert_eq!(nodes, ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"]);

    let targets: Vec<_> = spec.mounts.iter().map(|mount| mount.destination.as_str()).collect();
    assert_eq!(
        targets,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/dev/shm",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/etc/hosts",
        ]
    );
    assert_eq!(options(&spec, "/sys"), "nosuid,noexec,nodev,ro");
    assert_eq!(options(&spec, "/sys/fs/cgroup"), "ro,nosuid,noexec,nodev");
    assert_eq!(options(&spec, "/dev/shm"), "nosuid,noexec,nodev,mode=1777,size=67108864");
    assert_eq!(options(&spec, "/etc/hosts"), "rbind,rw,rprivate");
}

#[test]
fn variables() {
    for (tty, image, more, expected) in [
        (true, &[][..], &[][..], &["HOSTNAME=box", "TERM=xterm", "HOME=/home/five"][..]),
        (true, &["TERM=linux"], &[], &["HOSTNAME=box", "TERM=linux", "HOME=/home/five"]),
        (false, &["A=1", "A=2", "HOSTNAME"], &[], &["A=2", "HOME=/home/five"]),
        (false, &["A=1", "HOME=/x"], &["A=3", "B=", "C"], &["HOSTNAME=box", "A=3", "HOME=/x", "B="]),
        (false, &["HOME="], &[], &["HOSTNAME=box", "HOME=/home/five"]),
    ] {
        let config =
            ContainerConfig { hostname: "box".to_owned(), env: Some(strings(image)), ..ContainerConfig::default() };
        let env = environment(&config, tty, &strings(more), &user());
        assert_eq!(env[0], format!("PATH={DEFAULT_PATH}"));
        assert_eq!(&env[1..], expected, "{image:?} and {more:?}");
    }
}

#[test]
fn privileged_has_everything_and_hides_nothing() {
    let spec = made(|record| {
        record.host_config.privileged = true;
        record.host_config.cgroupns_mode = "host".to_owned();
    });
    let linux = spec.linux.as_ref().unwrap();
    assert_eq!(linux.seccomp, None);
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert!(!linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Cgroup));
    assert_eq!(spec.process.unwrap().capabilities.unwrap().effective.len(), 41);
    assert_eq!(linux.resources.as_ref().unwrap().devices.len(), 1);
    for target in ["/sys", "/sys/fs/cgroup"] {
        let mount = spec.mounts.iter().find(|mount| mount.destination == target).unwrap();
        assert!(!mount.options.contains(&"ro".to_owned()), "{target}");
    }
}

#[test]
fn what_security_options_change() {
    let with = |options: &[&str]| made(|record| record.host_config.security_opt = Some(strings(options)));
    let filter = |spec: &Spec| spec.linux.as_ref().unwrap().seccomp.clone();
    assert_eq!(filter(&with(&["seccomp=unconfined"])), None);
    assert_eq!(filter(&with(&["seccomp:unconfined"])), None);
    assert!(filter(&with(&["seccomp=builtin"])).is_some());
    let own = with(&[r#"seccomp={"defaultAction":"SCMP_ACT_LOG"}"#]);
    assert_eq!(filter(&own).unwrap().default_action, SeccompAction::Log);
    for (option, expected) in
        [("no-new-privileges", true), ("no-new-privileges=true", true), ("no-new-privileges:false", false)]
    {
        assert_eq!(with(&[option]).process.unwrap().no_new_privileges, expected, "{option}");
    }
    let unhidden = with(&["systempaths=unconfined"]).linux.unwrap();
    assert!(unhidden.masked_paths.is_empty() && unhidden.readonly_paths.is_empty());
    assert_eq!(options(&with(&["writable-cgroups"]), "/sys/fs/cgroup"), "nosuid,noexec,nodev");
    assert!(options(&with(&["writable-cgroups=false"]), "/sys/fs/cgroup").starts_with("ro,"));
    // Where the host has neither, their options mean nothing.
    with(&["apparmor=mine", "label=type:x", "label=disable"]);

    for (option, words) in [
        ("nonsense", r#"invalid --security-opt 1: "nonsense""#),
        ("a=b", r#"invalid --security-opt 2: "a=b""#),
        ("no-new-privileges=maybe", r#"invalid --security-opt 2: "no-new-privileges=maybe""#),
        ("seccomp={", "decoding seccomp profile failed"),
        (r#"seccomp={"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY is not supported"),
    ] {
        let error = refused(|record| record.host_config.security_opt = Some(strings(&[option])));
        assert!(error.contains(words), "{option}: {error}");
    }
    // Labels were settled at create; a host that has SELinux no more gives none.
    let labelled = record(|record| {
        record.process_label = "u:r:t:s0:c1,c2".to_owned();
        record.mount_label = "u:o:f:s0:c1,c2".to_owned();
    });
    for (selinux, process, mount) in [(true, "u:r:t:s0:c1,c2", "u:o:f:s0:c1,c2"), (false, "", "")] {
        let on = Host { selinux, ..host() };
        let spec = made_with(&labelled, |inputs| inputs.host = Box::leak(Box::new(on.clone()))).unwrap();
        let given = (spec.process.unwrap().selinux_label, spec.linux.unwrap().mount_label);
        assert_eq!((given.0.as_str(), given.1.as_str()), (process, mount), "{selinux}");
    }
}

#[test]
fn an_init_that_is_executed_is_where_dockers_is() {
    let spec = made_with(&record(|_| ()), |inputs| inputs.init = Some(Path::new("/store/docker-init"))).unwrap();
    assert_eq!(spec.process.unwrap().args, ["/sbin/docker-init", "--", "sh", "-c", "true"]);
    let mount = spec.mounts.iter().find(|mount| mount.destination == "/sbin/docker-init").unwrap();
    assert_eq!((mount.source.as_str(), mount.options.contains(&"ro".to_owned())), ("/store/docker-init", true));
    assert_eq!(Path::new(init::PLACE).file_name().unwrap(), crate::ns::init::NAME);
}

#[test]
fn namespaces_that_are_shared() {
    let kinds = |change: &dyn Fn(&mut HostConfig)| {
        let spec = made(|record| change(&mut record.host_config));
        spec.linux.unwrap().namespaces.into_iter().map(|namespace| namespace.kind).collect::<Vec<_>>()
    };
    assert!(!kinds(&|wants| wants.pid_mode = "host".to_owned()).contains(&NamespaceKind::Pid));
    assert!(!kinds(&|wants| wants.ipc_mode = "host".to_owned()).contains(&NamespaceKind::Ipc));
    assert!(!kinds(&|wants| wants.network_mode = "host".to_owned()).contains(&NamespaceKind::Network));
    let spec = made(|record| record.host_config.uts_mode = "host".to_owned());
    assert_eq!(spec.hostname, "");

    let joined = record(|record| {
        record.host_config.pid_mode = "container:x".to_owned();
        record.host_config.network_mode = "container:x".to_owned();
    });
    let path = |kind: &str| Some(PathBuf::from(format!("/proc/7/ns/{kind}")));
    let spec = made_with(&joined, |inputs| {
        inputs.join = Join { pid: path("pid"), net: path("net"), ..Join::default() };
    });
    let linux = spec.unwrap().linux.unwrap();
    let path = |kind| linux.namespaces.iter().find(|namespace| namespace.kind == kind).unwrap().path.clone();
    assert_eq!(path(NamespaceKind::Pid), "/proc/7/ns/pid");
    assert_eq!(path(NamespaceKind::Network), "/proc/7/ns/net");
    // Another's network is set up already.
    assert!(linux.sysctl.is_empty());
    // Never a namespace of its own where another's was asked for.
    assert!(made_with(&joined, |_| {}).is_err());
}

#[test]
fn mounts_of_the_user() {
    let mounted = |kind: &str, target: &str, rw, propagation: &str, options: &str| Mounted {
        point: MountPoint {
            r#type: kind.to_owned(),
            source: "/src".to_owned(),
            destination: target.to_owned(),
            rw,
            propagation: propagation.to_owned(),
            ..MountPoint::default()
        },
        options: options.to_owned(),
        ..Mounted::default()
    };
    let spec = made(|record| {
        record.host_config.tmpfs =
            Some([("/run/", "rw,exec,size=1m"), ("/t", "size=9")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        record.mounts = vec![
            mounted("bind", "/a/b/c", true, "rslave", ""),
            mounted("volume", "/data", false, "", ""),
            Mounted { read_only_non_recursive: true, ..mounted("bind", "/ro", false, "rshared", "") },
            Mounted { non_recursive: true, ..mounted("bind", "/flat", true, "rprivate", "") },
            mounted("tmpfs", "/t", true, "", "size=5,mode=700"),
            mounted("bind", "/etc/hosts", true, "", ""),
            mounted("bind", "/dev/shm", true, "", ""),
        ];
    });
    for (target, expected) in [
        ("/a/b/c", "rbind,rslave"),
        ("/data", "rbind,rro,rprivate"),
        ("/ro", "rbind,ro,rshared"),
        ("/flat", "bind,rprivate"),
        ("/t", "noexec,nosuid,nodev,rprivate,size=5,mode=700"),
        ("/run", "nosuid,nodev,rprivate,rw,exec,size=1m"),
        ("/etc/hosts", "rbind,rprivate"),
        ("/dev/shm", "rbind,rprivate"),
    ] {
        assert_eq!(options(&spec, target), expected, "{target}");
        assert_eq!(spec.mounts.iter().filter(|mount| mount.destination == target).count(), 1, "{target}");
    }
    // A mount point inside another mount is made after it.
    let place = |target: &str| spec.mounts.iter().position(|mount| mount.destination == target).unwrap();
    assert!(place("/run") < place("/etc/resolv.conf") && place("/etc/hosts") < place("/a/b/c"));
    assert_eq!(spec.linux.as_ref().unwrap().rootfs_propagation, "shared");

    let spec = made(|record| record.mounts = vec![mounted("bind", "/dev", true, "", "")]);
    assert!(!spec.mounts.iter().any(|mount| mount.destination.starts_with("/dev/")));
    let spec = made(|record| {
        record.host_config.ipc_mode = "none".to_owned();
        record.host_config.readonly_rootfs = true;
    });
    assert_eq!(mount(&spec, "/dev/shm"), None);
    assert!(spec.root.as_ref().unwrap().readonly);
    assert_eq!(options(&spec, "/etc/hosts"), "rbind,ro,rprivate");
    let shared = made_with(&record(|_| {}), |inputs| inputs.shm = Some(Path::new("/shm"))).unwrap();
    assert_eq!(mount(&shared, "/dev/shm").unwrap().source, "/shm");

    for (target, options) in
        [("/x", "bla"), ("/x", "size"), ("/x", "foo=1"), ("x", ""), ("/", ""), ("/a/../b", ""), ("/proc/", "")]
    {
        let error = refused(|record| {
            record.host_config.tmpfs = Some([(target.to_owned(), options.to_owned())].into());
        });
        assert!(!error.is_empty(), "{target} {options}");
    }
}

#[test]
fn sysctls_stay_inside() {
    let with = |key: &str, change: &dyn Fn(&mut HostConfig)| {
        let record = record(|record| {
            change(&mut record.host_config);
            record.host_config.sysctls = Some([(key.to_owned(), "1".to_owned())].into());
        });
        made_with(&record, |_| {}).map(|spec| spec.linux.unwrap().sysctl).map_err(|error| format!("{error:#}"))
    };
    let ours: &dyn Fn(&mut HostConfig) = &|_| {};
    for (key, known) in [
        ("net.core.somaxconn", "net.core.somaxconn"),
        ("kernel.shmmax", "kernel.shmmax"),
        ("fs.mqueue.msg_max", "fs.mqueue.msg_max"),
        ("kernel.domainname", "kernel.domainname"),
        ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding"),
        ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_unprivileged_port_start"),
    ] {
        assert_eq!(with(key, ours).unwrap().get(known).map(String::as_str), Some("1"), "{key}");
    }
    for (key, change, words) in [
        ("kernel.core_pattern", ours, r#"sysctl "kernel.core_pattern" is not in a separate kernel namespace"#),
        ("vm.swappiness", ours, r#"sysctl "vm.swappiness" is not in a separate kernel namespace"#),
        ("user.max_user_namespaces", ours, "is not in a separate kernel namespace"),
        ("kernel.hostname", ours, r#"conflicts with the OCI "hostname" field"#),
        ("net../kernel/core_pattern", ours, "is not a name"),
        ("net/../kernel/core_pattern", ours, "is not"),
        ("net.a\nb", ours, "is not a name"),
        (
            "net.core.somaxconn",
            &|wants| wants.network_mode = "host".to_owned(),
            r#"sysctl "net.core.somaxconn" not allowed in host network namespace"#,
        ),
        (
            "kernel.shmmax",
            &|wants| wants.ipc_mode = "host".to_owned(),
            r#"sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace"#,
        ),
        ("kernel.domainname", &|wants| wants.uts_mode = "host".to_owned(), "is not in a separate kernel namespace"),
    ] {
        let error = with(key, change).unwrap_err();
        assert!(error.contains(words), "{key}: {error}");
    }
}

#[test]
fn limits_scores_and_devices() {
    let ulimit = |name: &str, soft, hard| Ulimit { name: name.to_owned(), soft, hard };
    let spec = made(|record| {
        record.host_config.ulimits = Some(vec![ulimit("nofile", 10, 20), ulimit("core", 0, -1)]);
        record.host_config.oom_score_adj = -500;
        record.config.tty = true;
        record.host_config.console_size = [24, 80];
        record.config.working_dir = "/work".to_owned();
    });
    let process = spec.process.unwrap();
    let limit = |kind: &str, soft, hard| Rlimit { kind: kind.to_owned(), soft, hard };
    assert_eq!(process.rlimits, [limit("RLIMIT_NOFILE", 10, 20), limit("RLIMIT_CORE", 0, u64::MAX)]);
    assert_eq!((process.oom_score_adj, process.cwd.as_str()), (Some(-500), "/work"));
    assert_eq!(process.console_size, Some(ConsoleSize { height: 24, width: 80 }));

    let granted = [Granted {
        source: "/dev/kvm".into(),
        device: Device { path: "/dev/null".to_owned(), kind: "c".to_owned(), major: Some(9), ..Device::default() },
        access: "r".to_owned(),
    }];
    let linux = made_of(&record(|_| {}), &granted, |_| {}).unwrap().linux.unwrap();
    assert_eq!(linux.devices.len(), 6);
    assert_eq!(linux.devices[0].major, Some(9));
    assert_eq!(linux.resources.unwrap().devices.last().unwrap().access, "r");
}

#[test]
fn what_create_refuses() {
    type Change = fn(&mut HostConfig);
    let cases: [(Change, &str); 9] = [
        (|wants| wants.ipc_mode = "x".to_owned(), "invalid IPC mode: x"),
        (|wants| wants.ipc_mode = "container:".to_owned(), "invalid IPC mode: container:"),
        (|wants| wants.pid_mode = "x".to_owned(), "invalid PID mode: x"),
        (|wants| wants.uts_mode = "x".to_owned(), "invalid UTS mode: x"),
        (|wants| wants.cgroupns_mode = "x".to_owned(), "invalid cgroup namespace mode: x"),
        (|wants| wants.shm_size = -1, "SHM size can not be less than 0"),
        (|wants| wants.oom_score_adj = 1001, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (|wants| wants.cap_add = Some(vec!["x".to_owned()]).into(), r#"invalid CapAdd: unknown capability: "CAP_X""#),
        (|wants| wants.extra_hosts = Some(vec!["x".to_owned()]), r#"bad format for add-host: "x""#),
    ];
    for (change, words) in cases {
        assert_eq!(refused(|record| change(&mut record.host_config)), words);
    }
    for (name, soft, hard, words) in [
        ("x", 1, 1, "invalid ulimit type: x"),
        ("core", 2, 1, "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
        ("core", -1, 1, "ulimit soft limit must be less than or equal to hard limit: -1 > 1"),
    ] {
        let limit = Ulimit { name: name.to_owned(), soft, hard };
        assert_eq!(refused(|record| record.host_config.ulimits = Some(vec![limit])), words);
    }
    let plain = record(|_| {});
    assert!(check_on(&plain.config, &plain.host_config, &host()).is_ok());
}

#[test]
fn an_exec_is_the_containers_but_for_what_it_asks() {
    let record = record(|record| {
        record.config.env = Some(strings(&["A=1"]));
        record.config.working_dir = "/w".to_owned();
        record.host_config.security_opt = Some(strings(&["no-new-privileges"]));
    });
    let container = made_with(&record, |_| {}).unwrap();
    let other = User { uid: 0, gid: 0, gids: vec![0], home: "/root".to_owned() };
    let ask = ExecCreate { cmd: strings(&["id"]), env: Some(strings(&["A=2"])), tty: true, ..ExecCreate::default() };
    let process = exec_process(&record, &container, &ask, &other).unwrap();
    assert_eq!(&process.env[1..], ["HOSTNAME=box", "TERM=xterm", "A=2", "HOME=/root"]);
    assert_eq!((process.cwd.as_str(), process.user.uid, process.no_new_privileges), ("/w", 0, true));
    assert_eq!(process.capabilities, container.process.as_ref().unwrap().capabilities);
    let ask = ExecCreate { privileged: true, working_dir: "/x".to_owned(), ..ask };
    let process = exec_process(&record, &container, &ask, &other).unwrap();
    assert_eq!(process.cwd, "/x");
    assert_eq!(process.capabilities.unwrap().bounding, caps::available().names());
}
