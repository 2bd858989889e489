//! What a container cannot see or do, one test for each way in which container runtimes have been broken.

use crate::fixture::{Host, Tar, busybox_tar, digest, eventually, skip};
use std::fs;
use std::path::Path;

/// Asks with `/bin/probe` in a new container.
fn probe(host: &Host, flags: &[&str], what: &[&str]) -> String {
    let command: Vec<&str> = ["probe"].iter().chain(what).copied().collect();
    host.busybox(flags, &command).ok()
}

#[test]
fn every_namespace_is_its_own() {
    let Some(host) = Host::with_busybox() else { return };
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup", "time"] {
        let inside = host.sh(&[], &format!("readlink /proc/self/ns/{kind}"));
        let outside = fs::read_link(format!("/proc/thread-self/ns/{kind}")).expect("ours");
        assert_ne!(Path::new(&inside), outside, "{kind}");
    }
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts")] {
        let inside = host.sh(&[flag, "host"], &format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(Path::new(&inside), fs::read_link(format!("/proc/thread-self/ns/{kind}")).expect("ours"), "{kind}");
    }
    let id = host.detached(&[], &["sleep", "1000"]);
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--network", "net")] {
        let line = format!("readlink /proc/self/ns/{kind}");
        let theirs = host.ok(["exec", &id, "sh", "-c", &line]);
        let joined = format!("container:{id}");
        if flag == "--network" {
            assert_eq!(host.ok(["run", "--rm", flag, &joined, "busybox", "sh", "-c", &line]), theirs);
        } else if flag == "--pid" {
            assert_eq!(host.sh(&[flag, &joined], &line), theirs);
        }
    }
    let shared = host.detached(&["--ipc", "shareable"], &["sleep", "1000"]);
    let line = "readlink /proc/self/ns/ipc";
    let theirs = host.ok(["exec", &shared, "sh", "-c", line]);
    assert_eq!(host.sh(&["--ipc", &format!("container:{shared}")], line), theirs);
    let inside = host.ok(["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"]);
    assert_eq!(Path::new(&inside), fs::read_link("/proc/thread-self/ns/net").expect("ours"));
}

#[test]
fn capabilities_are_dockers_or_as_asked() {
    let Some(host) = Host::with_busybox() else { return };
    let sets = |flags: &[&str]| {
        let text = host.sh(flags, "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | tr -d '\\t'");
        text.lines().map(|line| line.split_once(':').expect("a set").1.to_owned()).collect::<Vec<_>>()
    };
    let usual = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(sets(&[]), [none, usual, usual, usual, none]);
    assert_eq!(sets(&["--cap-drop", "ALL"]), [none; 5]);
    let net = "0000000000001000";
    assert_eq!(sets(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]), [none, net, net, net, none]);
    assert_eq!(sets(&["-u", "1000"]), [none, none, none, usual, none]);
    let all = sets(&["--privileged"]);
    assert!(all[3] != usual && u64::from_str_radix(&all[3], 16).is_ok_and(|bits| bits & 1 << 21 != 0), "{all:?}");
    let text = host.busybox(&["--cap-add", "FLY"], &["true"]).refused(125);
    assert!(text.contains("FLY"), "{text}");
}

#[test]
fn what_is_masked_is_empty_and_what_is_read_only_stays() {
    let Some(host) = Host::with_busybox() else { return };
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/sched_debug"] {
        assert_eq!(host.sh(&[], &format!("head -c 10 {path} 2>/dev/null | wc -c")), "0", "{path}");
    }
    for path in ["/proc/acpi", "/proc/scsi", "/sys/firmware"] {
        assert_eq!(host.sh(&[], &format!("ls -A {path} 2>/dev/null | wc -l")), "0", "{path}");
    }
    for path in ["/proc/sysrq-trigger", "/proc/sys/kernel/domainname", "/proc/irq/default_smp_affinity"] {
        let text = host.sh(&[], &format!("[ ! -e {path} ] || (echo x >{path}) 2>&1 || true"));
        assert!(text.is_empty() || text.contains("Read-only file system"), "{path}: {text}");
    }
    let text = host.sh(&[], "mkdir /sys/fs/cgroup/mine 2>&1 || true");
    assert!(text.contains("Read-only file system") || text.contains("Permission denied"), "{text}");
    assert_eq!(host.sh(&["--privileged"], "head -c 1 /proc/timer_list | wc -c"), "1");
    let seen = host.sh(&["--security-opt", "systempaths=unconfined"], "head -c 1 /proc/timer_list | wc -c");
    assert_eq!(seen, "1");
}

#[test]
fn devices_are_the_few_that_every_program_needs() {
    let Some(host) = Host::with_busybox() else { return };
    let seen = host.sh(&[], "ls /dev | grep -v core | tr '\\n' ' '");
    assert_eq!(seen.trim(), "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    assert_eq!(host.sh(&[], "echo x >/dev/null && head -c 3 /dev/zero | wc -c"), "3");
    // Making one is allowed, using it is not.
    let text = host.sh(&[], "mknod /tmp/kmsg c 1 11 && (head -c 1 </tmp/kmsg) 2>&1 | head -n 1");
    assert!(text.contains("Operation not permitted") || text.contains("Permission denied"), "{text}");
    let seen = host.sh(&["--device", "/dev/kmsg:/dev/log-of-the-kernel:r"], "ls -l /dev/log-of-the-kernel");
    assert!(seen.starts_with('c') && seen.contains("1,  11"), "{seen}");
    // What is mounted in the place of one stays there.
    assert_eq!(host.sh(&["-v", "/dev/zero:/dev/random"], "head -c 3 /dev/random | tr '\\0' z"), "zzz");
    // What is not there is 127, as with docker, whatever it is.
    let text = host.busybox(&["--device", "/dev/no-such"], &["true"]).refused(127);
    assert!(text.contains("/dev/no-such"), "{text}");
}

#[test]
fn system_calls_are_filtered() {
    let Some(host) = Host::with_probe() else { return };
    // A call that is not known is answered as an older kernel would, so that the C library falls back.
    assert_eq!(probe(&host, &[], &["call", "9999"]), "ENOSYS");
    assert_eq!(probe(&host, &[], &["clone3"]), "ENOSYS");
    // kexec_load, add_key, and a new user namespace.
    assert_eq!(probe(&host, &[], &["unshare", "0x10000000"]), "EPERM");
    #[cfg(target_arch = "x86_64")]
    for number in ["246", "248"] {
        assert_eq!(probe(&host, &[], &["call", number]), "EPERM", "{number}");
    }
    assert_eq!(probe(&host, &["--security-opt", "seccomp=unconfined"], &["unshare", "0x10000000"]), "ok");
    assert_eq!(host.sh(&[], "grep '^Seccomp:' /proc/self/status | tr -d '\\t'"), "Seccomp:2");
    assert_eq!(host.sh(&["--privileged"], "grep '^Seccomp:' /proc/self/status | tr -d '\\t'"), "Seccomp:0");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    let file = host.file("profile.json", profile);
    let option = format!("seccomp={}", file.display());
    let text = host.sh(&["--security-opt", &option], "mkdir /x 2>&1 || true");
    assert!(text.contains("No space left on device"), "{text}");
}

#[test]
fn new_privileges_can_be_ruled_out() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "grep NoNewPrivs /proc/self/status | tr -d '\\t'";
    assert_eq!(host.sh(&[], line), "NoNewPrivs:0");
    assert_eq!(host.sh(&["--security-opt", "no-new-privileges"], line), "NoNewPrivs:1");
    let id = host.detached(&["--security-opt", "no-new-privileges"], &["sleep", "1000"]);
    assert_eq!(host.ok(["exec", &id, "sh", "-c", line]), "NoNewPrivs:1");
}

#[test]
fn nothing_of_the_host_is_left_open() {
    let Some(host) = Host::with_probe() else { return };
    assert_eq!(probe(&host, &[], &["fds"]).trim(), "0 1 2");
    assert_eq!(probe(&host, &["-i"], &["fds"]).trim(), "0 1 2");
    let id = host.detached(&[], &["sleep", "1000"]);
    assert_eq!(host.ok(["exec", &id, "probe", "fds"]).trim(), "0 1 2");
    assert_eq!(host.sh(&[], "pwd; ls -ld /proc/self/cwd | sed 's/.*-> //'"), "/\n/");
    // Descriptors of the caller stay with the caller.
    let mut command = host.busybox(&[], &["probe", "fds"]);
    let file = fs::File::open("/etc/passwd").expect("open");
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let fd = file.as_raw_fd();
    // SAFETY: one system call between fork and exec.
    unsafe {
        command
            .inner()
            .pre_exec(move || if libc::dup2(fd, 77) == 77 { Ok(()) } else { Err(std::io::Error::last_os_error()) });
    }
    assert_eq!(command.ok().trim(), "0 1 2");
}

#[test]
fn cve_2024_21626_a_working_directory_is_inside() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    for fd in 3..24 {
        let dir = format!("/proc/self/fd/{fd}");
        let output = host.busybox(&["-w", &dir], &["sh", "-c", "ls -di ../../../.. /"]).run();
        assert!(!output.status.success() || same_inode(&output.stdout()), "{output}");
        let output = host.run(["exec", "-w", &dir, &id, "sh", "-c", "ls -di ../../../.. /"]);
        assert!(!output.status.success() || same_inode(&output.stdout()), "{output}");
    }
}

/// Whether `ls -di` of several names told of one directory.
pub fn same_inode(listing: &str) -> bool {
    let inodes: Vec<&str> = listing.lines().filter_map(|line| line.split_whitespace().next()).collect();
    inodes.len() > 1 && inodes.iter().all(|inode| *inode == inodes[0])
}

#[test]
fn cve_2019_5736_the_hosts_executable_cannot_be_written() {
    let Some(host) = Host::with_probe() else { return };
    let before = digest(&fs::read(env!("CARGO_BIN_EXE_dhow")).expect("read"));
    // Also by one who may look into those that enter, from whom nothing else would keep it.
    for flags in [&[][..], &["--cap-add", "SYS_PTRACE"]] {
        let id = host.detached(flags, &["probe", "exes"]);
        eventually("it watches", || host.ok(["logs", &id]).contains("watching"));
        while host.inspect(&id, "/State/Running") == true {
            host.run(["exec", &id, "/proc/self/exe", "--version"]);
            host.run(["exec", &id, "true"]);
        }
        let seen = host.ok(["logs", &id]);
        assert!(seen.contains("not written, tried"), "{flags:?}: {seen}");
    }
    host.busybox(&["--entrypoint", "/proc/self/exe"], &["--version"]).run();
    assert_eq!(digest(&fs::read(env!("CARGO_BIN_EXE_dhow")).expect("read")), before);
}

/// An image of busybox in which `entries` come on top, imported as `bent`.
pub fn bent(host: &Host, entries: Tar, without: &[&str]) {
    let tar = busybox_tar().expect("it was there");
    let dir = host.dir().join("bent");
    fs::create_dir(&dir).expect("make a directory");
    let dir = dir.to_str().expect("UTF-8");
    crate::fixture::tool("tar", ["-C", dir, "-xf", tar.to_str().expect("UTF-8")]);
    for name in without {
        fs::remove_dir_all(Path::new(dir).join(name)).expect("take it out");
    }
    let more = host.file("more.tar", entries.end());
    crate::fixture::tool("tar", ["-C", dir, "-xf", more.to_str().expect("UTF-8")]);
    let whole = host.dir().join("bent.tar");
    crate::fixture::tool("tar", ["-C", dir, "-cf", whole.to_str().expect("UTF-8"), "."]);
    host.ok(["import", whole.to_str().expect("UTF-8"), "bent"]);
    fs::remove_dir_all(dir).expect("clean up");
}

#[test]
fn an_image_cannot_lead_mounts_astray() {
    for name in ["proc", "dev", "sys", "etc"] {
        let Some(host) = Host::with_busybox() else { return };
        let outside = host.dir().join("outside");
        fs::create_dir(&outside).expect("make a directory");
        for target in [outside.to_str().expect("UTF-8"), "../../../../../../../var/tmp/dhow-astray", "/tmp/within"] {
            let _ = fs::remove_dir_all(host.dir().join("bent"));
            bent(&host, Tar::new().symlink(name, target), &[name]);
            let output =
                host.run(["run", "--rm", "--network", "none", "bent", "sh", "-c", "ls /proc/self/ns && ls /dev/null"]);
            let empty = fs::read_dir(&outside).expect("list").next().is_none();
            assert!(empty && !Path::new("/var/tmp/dhow-astray").exists(), "{name} -> {target}: {output}");
            if !output.status.success() {
                assert_eq!(output.stderr().lines().count(), 1, "{output}");
            }
        }
    }
}

#[test]
fn volumes_follow_links_inside_only() {
    let Some(host) = Host::with_busybox() else { return };
    let outside = host.dir().join("outside");
    fs::create_dir(&outside).expect("make a directory");
    bent(&host, Tar::new().symlink("out", outside.to_str().expect("UTF-8")).symlink("up", "../../../../../etc"), &[]);
    let given = host.dir().join("given");
    fs::create_dir(&given).expect("make a directory");
    fs::write(given.join("file"), "given").expect("write");
    for target in ["/out/new", "/up/new"] {
        let volume = format!("{}:{target}", given.display());
        let seen =
            host.ok(["run", "--rm", "--network", "none", "-v", &volume, "bent", "cat", &format!("{target}/file")]);
        assert_eq!(seen, "given");
    }
    assert!(fs::read_dir(&outside).expect("list").next().is_none());
    assert!(!Path::new("/etc/new").exists());
    for target in ["/proc", "/proc/sys/kernel", "/proc/self/attr"] {
        let output = host.busybox(&["-v", &format!("{}:{target}", given.display())], &["true"]).run();
        assert!(!output.status.success(), "a mount over {target}: {output}");
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
}

#[test]
fn the_root_may_be_read_only() {
    let Some(host) = Host::with_busybox() else { return };
    let text = host.sh(&["--read-only"], "(echo x >/file) 2>&1 || true; echo y >/dev/shm/ok && cat /dev/shm/ok");
    assert!(text.contains("Read-only file system") && text.ends_with('y'), "{text}");
    let seen = host.sh(
        &["--read-only", "--tmpfs", "/scratch:size=1m,mode=700"],
        "echo z >/scratch/f; cat /scratch/f; df -k /scratch | tail -n 1",
    );
    assert!(seen.starts_with("z\n") && seen.contains(" 1024 "), "{seen}");
}

#[test]
fn oom_score_and_umask_are_the_usual() {
    let Some(host) = Host::with_busybox() else { return };
    assert_eq!(host.sh(&[], "cat /proc/self/oom_score_adj; umask"), "0\n0022");
    assert_eq!(host.sh(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500");
}

#[test]
fn each_container_has_a_cgroup() {
    let Some(host) = Host::with_busybox() else { return };
    if !fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().contains(" - cgroup2 ") {
        return skip("there is no cgroup v2").unwrap_or_default();
    }
    let id = host.detached(&[], &["sleep", "1000"]);
    let pid = host.inspect(&id, "/State/Pid");
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    assert!(text.lines().any(|line| line.starts_with("0::/") && line.contains(&id)), "{text}");
    assert_eq!(host.ok(["exec", &id, "grep", "^0:", "/proc/self/cgroup"]), "0::/");
    // What init leaves behind goes with it.
    let id = host.detached(&[], &["sh", "-c", "setsid sleep 1001 & echo up; sleep 1000"]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    host.ok(["kill", &id]);
    assert_eq!(host.ok(["wait", &id]), "137");
}

#[test]
fn an_exec_is_in_the_containers_namespaces() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup", "time"] {
        let seen =
            host.ok(["exec", &id, "sh", "-c", &format!("readlink /proc/self/ns/{kind}; readlink /proc/1/ns/{kind}")]);
        let (own, init) = seen.split_once('\n').expect("two lines");
        assert_eq!(own, init, "{kind}");
    }
}

/// The mode of the host's null device, put back if a container came by it.
fn null_mode() -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata("/dev/null").expect("/dev/null").permissions().mode() & 0o7777;
    let _ = fs::set_permissions("/dev/null", fs::Permissions::from_mode(0o666));
    mode
}

#[test]
fn the_hosts_null_device_is_out_of_reach() {
    let Some(host) = Host::with_busybox() else { return };
    assert_eq!(null_mode(), 0o666);
    for path in ["/proc/self/fd/0", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/dev/null"] {
        host.busybox(&[], &["sh", "-c", &format!("chmod 600 {path}; chown 1 {path}; true")]).ok();
        assert_eq!(null_mode(), 0o666, "by way of {path}");
    }
}

#[test]
fn a_device_that_was_not_granted_does_not_open() {
    let Some(host) = Host::with_busybox() else { return };
    // In /dev, which has to hold devices. kmsg, which every host has, stands for its disks.
    let line = "mknod /dev/mine c 1 11 && head -c 1 /dev/mine 2>&1 || true";
    let seen = host.sh(&[], line);
    assert!(seen.contains("not permitted") || seen.contains("denied"), "{seen}");
    let id = host.detached(&[], &["sleep", "1000"]);
    let seen = host.ok(["exec", &id, "sh", "-c", line]);
    assert!(seen.contains("not permitted") || seen.contains("denied"), "{seen}");
    // What decides is one program for all who were granted nothing; who was granted something has one of its own.
    host.detached(&["--device", "/dev/null:/dev/more"], &["sleep", "1000"]);
    let pid = host.inspect(&id, "/State/Pid");
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).expect("a cgroup of version 2");
    let is_v2 = |path: &&&str| Path::new(path).join("cgroup.controllers").exists();
    let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().find(is_v2).expect("version 2 is mounted");
    let root = Path::new(&format!("{mount}{own}")).parent().expect("a parent").to_owned();
    let kept = fs::read_dir(root).expect("list").flatten().map(|entry| entry.file_name());
    assert_eq!(kept.filter(|name| name.to_string_lossy().starts_with("devices-")).count(), 1);
}

#[test]
fn nothing_is_mounted_over_proc_by_way_of_a_link() {
    let Some(host) = Host::with_busybox() else { return };
    bent(&host, Tar::new().symlink("p", "proc/self").symlink("q", "/proc"), &[]);
    let given = host.dir().join("given");
    fs::create_dir(&given).expect("make a directory");
    for target in ["/p/attr", "/q/sys", "/q/1/fd"] {
        let volume = format!("{}:{target}", given.display());
        let output = host.run(["run", "--rm", "--network", "none", "-v", &volume, "bent", "true"]);
        assert!(!output.status.success(), "a mount over {target}: {output}");
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
}

#[test]
fn a_link_that_is_swapped_while_mounting_leads_nowhere() {
    let Some(host) = Host::with_busybox() else { return };
    let (outside, given) = (host.dir().join("outside"), host.dir().join("given"));
    fs::create_dir(&outside).expect("make a directory");
    fs::create_dir(&given).expect("make a directory");
    host.ok(["volume", "create", "shared"]);
    let swap = format!("echo up; while :; do ln -s {} /v/a; rm /v/a; mkdir /v/a; rm -r /v/a; done", outside.display());
    let id = host.detached(&["-v", "shared:/v"], &["sh", "-c", &format!("exec 2>/dev/null; {swap}")]);
    eventually("it swaps", || host.ok(["logs", &id]) == "up");
    let over = format!("{}:/v/a/b", given.display());
    for _ in 0..20 {
        host.busybox(&["-v", "shared:/v", "-v", &over], &["true"]).run();
        assert!(fs::read_dir(&outside).expect("list").next().is_none());
    }
    host.ok(["rm", "-f", &id]);
}

#[test]
fn shared_memory_is_shared_where_that_was_said() {
    let Some(host) = Host::with_busybox() else { return };
    let open = host.detached(&["--ipc", "shareable"], &["sh", "-c", "echo mine >/dev/shm/f; sleep 1000"]);
    eventually("it is written", || host.run(["exec", &open, "cat", "/dev/shm/f"]).stdout().trim() == "mine");
    assert_eq!(host.sh(&["--ipc", &format!("container:{open}")], "cat /dev/shm/f"), "mine");
    let closed = host.detached(&[], &["sleep", "1000"]);
    let text = host.busybox(&["--ipc", &format!("container:{closed}")], &["true"]).refused(125);
    assert!(text.contains("non-shareable IPC"), "{text}");
}

#[test]
fn our_own_init_tells_nothing() {
    let Some(host) = Host::with_busybox() else { return };
    let seen = host.sh(&["--init"], "cat /proc/1/environ 2>&1; ls /proc/1/fd 2>&1; readlink /proc/1/exe 2>&1; true");
    assert!(!seen.contains("DHOW_") && !seen.contains("dhow/"), "{seen}");
    assert!(seen.contains("Permission denied"), "{seen}");
    let seen = host.sh(&["--init"], "(echo x >>/proc/1/exe) 2>&1; true");
    assert!(seen.contains("Permission denied") || seen.contains("Read-only"), "{seen}");
}

#[test]
fn limits_hold() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "ulimit -n; ulimit -Hn; ulimit -c";
    assert_eq!(host.sh(&["--ulimit", "nofile=100:200", "--ulimit", "core=0"], line), "100\n200\n0");
    let id = host.detached(&["--ulimit", "nofile=100:200"], &["sleep", "1000"]);
    assert_eq!(host.ok(["exec", &id, "sh", "-c", "ulimit -n"]), "100");
}

#[test]
fn sysctls_stay_in_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    let read = || fs::read_to_string("/proc/sys/kernel/shmmni").expect("read");
    let before = read();
    let seen = host.sh(&["--sysctl", "kernel.shmmni=77"], "cat /proc/sys/kernel/shmmni");
    assert_eq!(seen, "77");
    assert_eq!(read(), before);
    for (flags, words) in [
        (&["--sysctl", "kernel.msgmax=1", "--ipc", "host"][..], "not allowed in the hosts ipc namespace"),
        (&["--sysctl", "vm.swappiness=1"][..], "sysctl"),
    ] {
        let text = host.busybox(flags, &["true"]).run();
        assert!(!text.status.success() && text.stderr().contains(words), "{text}");
    }
}
