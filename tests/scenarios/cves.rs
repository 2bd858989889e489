//! Ways out of runc, Docker and containerd that were found in the last ten years, each tried by its name. Those that
//! have their place by theme bear their numbers too: `escapes::cve_…`, `isolation::cve_…`.

use crate::cdi::Vendor;
use crate::fixture::{Daemon, Host, Tar, busybox_tar, eventually, need};
use crate::isolation::{bent, same_inode};
use std::collections::BTreeSet;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;

/// Whoever enters a container could be looked into by who is inside, with what it had open of the host.
#[test]
fn cve_2016_9962_nobody_looks_into_who_enters() {
    let Some(host) = Host::with_probe() else { return };
    let id = host.detached(&[], &["probe", "visitors"]);
    eventually("it looks", || host.ok(["logs", &id]).contains("looks"));
    let told = || {
        let told = host.ok(["logs", &id]);
        let mut told: Vec<String> = told.lines().map(str::to_owned).collect();
        told.sort_unstable();
        told
    };
    let mut rounds = 0;
    eventually("it has seen some that enter, and some that have entered", || {
        rounds += 1;
        host.ok(["exec", &id, "true"]);
        host.ok(["exec", "--privileged", &id, "true"]);
        // One that stays long enough to be looked into.
        host.ok(["exec", &id, "sleep", if rounds % 25 == 0 { "0.5" } else { "0" }]);
        assert_eq!(host.inspect(&id, "/State/Running"), true, "{:?}", told());
        rounds >= 25 && told().len() >= 4
    });
    assert_eq!(told(), ["looks", "met", "read", "refused"]);
    // Whom it may look into, and who is not of its root, it does tell of.
    let output = host.busybox(&["--privileged", "--pid", "host"], &["probe", "visitors"]).run();
    assert!(output.code() == Some(1) && output.stdout().contains("/root is another root"), "{output}");
}

/// A copy from a container ran code of the container's, by way of libraries that were loaded inside.
#[test]
fn cve_2019_14271_a_copy_loads_nothing_of_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    // Whoever opens one of these waits for ever.
    let line = "mkdir -p /lib/x86_64-linux-gnu /usr/lib /lib64 && for f in /etc/nsswitch.conf /etc/localtime \
        /lib/libnss_files.so.2 /lib/x86_64-linux-gnu/libnss_files.so.2 /lib/x86_64-linux-gnu/libc.so.6 \
        /etc/ld.so.preload /etc/ld.so.cache; do rm -f $f; mkfifo $f; done; echo text >/file; echo up; sleep 1000";
    let id = host.detached(&["-u", "0"], &["sh", "-c", line]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    for _ in 0..2 {
        let out = host.dir().join("out");
        host.ok(["cp", &format!("{id}:/file"), out.to_str().expect("UTF-8")]);
        assert_eq!(fs::read_to_string(&out).expect("read"), "text\n");
        host.ok(["cp", out.to_str().expect("UTF-8"), &format!("{id}:/back")]);
        host.ok(["diff", &id]);
        // And of one that does not run.
        host.run(["kill", &id]);
        eventually("it has ended", || host.inspect(&id, "/State/Running") == false);
    }
}

/// An image named /proc, or a place in it, as a volume: what was mounted there was taken for the kernel's word, such as
/// the profile of AppArmor that a process asks for (CVE-2019-16884, CVE-2019-19921).
#[test]
fn cve_2019_16884_an_image_puts_no_volume_over_proc() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = busybox_tar().expect("it was there");
    for place in ["/proc", "/proc/self/attr", "/proc/sys"] {
        let change = format!("VOLUME {place}");
        host.ok(["import", "--change", &change, tar.to_str().expect("UTF-8"), "decoy"]);
        let output =
            host.run(["run", "--rm", "--network", "none", "decoy", "sh", "-c", "stat -f -c %T /proc/self/attr"]);
        assert!(!output.status.success(), "{place}: {output}");
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
    // By way of a link that the image has there.
    let mut tar = fs::read(tar).expect("read");
    tar.truncate(tar.len() - 1024);
    tar.extend(Tar::new().symlink("way", "/proc").end());
    let path = host.file("way.tar", tar);
    host.ok(["import", "--change", "VOLUME /way/self/attr", path.to_str().expect("UTF-8"), "decoy"]);
    let output = host.run(["run", "--rm", "--network", "none", "decoy", "true"]);
    assert!(!output.status.success(), "{output}");
}

/// A container in the host's network spoke to the shim's control socket, which had no file.
#[test]
fn cve_2020_15257_no_socket_of_ours_is_without_a_file() {
    let Some(host) = Host::with_busybox() else { return };
    let abstracts = |listing: &str| -> BTreeSet<String> {
        let names = listing.lines().filter_map(|line| line.split_whitespace().nth(7));
        names.filter(|name| name.starts_with('@')).map(str::to_owned).collect()
    };
    // The network is this scenario's own. One of ours shows that they are seen.
    let address = SocketAddr::from_abstract_name(b"of-this-scenario").expect("an address");
    let _listener = UnixListener::bind_addr(&address).expect("listen");
    let before = abstracts(&fs::read_to_string("/proc/thread-self/net/unix").expect("read"));
    assert!(before.contains("@of-this-scenario"), "{before:?}");
    // Whoever starts it may keep nothing from anybody.
    let mut open = host.dhow(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]);
    // SAFETY: one system call between fork and exec.
    unsafe {
        open.inner().pre_exec(|| {
            nix::sys::stat::umask(nix::sys::stat::Mode::empty());
            Ok(())
        });
    }
    let open = open.ok();
    let look =
        "cat /proc/net/unix; while ! [ -e /again ]; do sleep 0.1; done; cat /proc/net/unix; echo end; sleep 1000";
    let id = host.ok(["run", "-d", "--network", "host", "busybox", "sh", "-c", look]);
    host.ok(["exec", &id, "touch", "/again"]);
    eventually("it has looked", || host.ok(["logs", &id]).contains("end"));
    let seen = host.ok(["logs", &id]);
    assert!(seen.matches("/sock\n").count() > 1, "those that have a file are there: {seen}");
    assert_eq!(abstracts(&seen), before);
    for id in [id, open] {
        let found = fs::metadata(host.run_dir().join("containers").join(&id).join("sock")).expect("its socket");
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "nobody else may write to it");
    }
}

/// Version 1 of cgroups runs a program of the host's choice, or of whoever may write there.
#[test]
fn cve_2022_0492_no_cgroup_tells_the_host_what_to_run() {
    let Some(host) = Host::with_probe() else { return };
    let line = "mkdir /c; for options in memory rdma pids devices none,name=mine; do mount -t cgroup -o $options cgroup /c \
        2>/dev/null && echo mounted $options; done; mount -t cgroup2 cgroup2 /c 2>/dev/null && echo mounted; \
        for file in $(find /sys/fs/cgroup -name release_agent); do (echo /x >$file) 2>/dev/null && echo $file; done; \
        echo done";
    assert_eq!(host.sh(&[], line), "done");
    // Nor from namespaces of its own: of users and cgroups.
    for flags in ["0x10000000", "0x12000000", "0x12020000"] {
        assert_eq!(host.busybox(&[], &["probe", "unshare", flags]).ok(), "EPERM");
    }
    // Where no filter keeps it from having those, it may well mount what this host has mounted, if no profile of
    // AppArmor's is in the way. The kernel takes no program of such a root's.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let known = read("/proc/cgroups");
    let known: Vec<&str> = known.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let mounts = read("/proc/self/mountinfo");
    let hierarchies: Vec<(&str, String)> = mounts
        .lines()
        .filter_map(|line| line.split_once(" - cgroup "))
        .filter_map(|(mount, kind)| {
            let options = kind.split([' ', ',']).filter(|word| known.contains(word) || word.starts_with("name="));
            Some((mount.split(' ').nth(4)?, options.collect::<Vec<_>>().join(",").replace("name=", "none,name=")))
        })
        .collect();
    let agents =
        || hierarchies.iter().map(|(at, _)| fs::read_to_string(format!("{at}/release_agent")).ok()).collect::<Vec<_>>();
    let before = agents();
    let is_profiled = read("/sys/module/apparmor/parameters/enabled").starts_with('Y');
    for (_, options) in &hierarchies {
        let line = format!(
            "mkdir /c; mount -t cgroup -o {options} cgroup /c || exit 0; echo mounted; \
             for file in $(find /c -name release_agent); do (echo /x >$file) && echo written; done; true"
        );
        let unconfined = ["--security-opt", "seccomp=unconfined"];
        let output = host.busybox(&unconfined, &["probe", "unshare", "0x12020000", "sh", "-c", &line]).run();
        assert!(output.status.success() && !output.stderr().contains("/proc/self/"), "it is root there: {output}");
        assert!(output.stdout() == "mounted" || output.stdout().is_empty() && is_profiled, "{output}");
    }
    assert_eq!(agents(), before);
}

/// A link in the place of the null device, with which files of proc are masked: it was mounted over them writable.
#[test]
fn cve_2025_31133_masks_are_not_the_containers_null_device() {
    let Some(host) = Host::with_busybox() else { return };
    let read = || fs::read_to_string("/proc/sys/kernel/core_pattern").expect("read");
    let before = read();
    for target in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "../proc/sys/kernel/core_pattern"] {
        host.sh(
            &["-v", "devices:/v"],
            &format!("rm -f /v/null; ln -s {target} /v/null; mkdir -p /v/pts /v/shm /v/mqueue"),
        );
        let line = "for f in /proc/kcore /proc/timer_list /proc/keys; do [ -e $f ] && head -c 10 $f | wc -c; \
            (echo '|/x' >$f) 2>/dev/null; done; cat /proc/timer_list; echo end";
        let output = host.busybox(&["-v", "devices:/dev"], &["sh", "-c", line]).run();
        let seen = output.stdout();
        assert!(seen.lines().all(|line| matches!(line, "0" | "end")), "{target}: {output}");
        assert_eq!(read(), before);
    }
}

/// What an image says of itself is a stranger's word.
#[test]
fn image_configs_lead_nowhere() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = busybox_tar().expect("it was there");
    let tar = tar.to_str().expect("UTF-8");
    let run = |change: &str, command: &[&str]| {
        let output = host.run(["import", "--change", change, tar, "odd"]);
        if !output.status.success() {
            return output;
        }
        host.run(["run", "--rm", "--network", "none", "odd"].iter().chain(command))
    };
    // From wherever it starts, the way up ends at its root.
    for place in
        ["/proc/self/fd/3", "/proc/self/fd/8/../../..", "/proc/1/root/..", "/proc/self/cwd/../..", "/../../etc"]
    {
        let output = run(&format!("WORKDIR {place}"), &["sh", "-c", "ls -di ../../../../.. /"]);
        if place == "/proc/self/fd/3" {
            assert!(output.code() == Some(127) && output.stderr().lines().count() == 1, "{place}: {output}");
        } else {
            assert!(output.status.success() && same_inode(&output.stdout()), "{place}: {output}");
        }
    }
    for user in ["../../root", "0:../x", "-1", "4294967295", "4294967296", "root\\nx", "nobody-here"] {
        let output = run(&format!("USER {user}"), &["sh", "-c", "id -u; id -g"]);
        assert_eq!((output.code(), output.stdout().as_str()), (Some(125), ""), "{user}: {output}");
        assert_eq!(output.stderr().lines().count(), 1, "{user}: {output}");
    }
    assert_eq!(run("USER :", &["sh", "-c", "id -u; id -g"]).stdout(), "0\n0");
    // Variables are the program's in the container, and never ours.
    let mark = host.dir().join("mark");
    let root = host.dir().join("other");
    for (name, value) in [
        ("DHOW_ROOT", root.to_str().expect("UTF-8")),
        ("DHOW_RUN", root.to_str().expect("UTF-8")),
        ("DHOW_ROOTLESS", "1"),
        ("DHOW_FAIL", "reap.start"),
        ("DHOW_FAIL_MARK", mark.to_str().expect("UTF-8")),
        ("LD_PRELOAD", "/evil.so"),
        ("PATH", "/proc/self/fd:/proc/1/cwd:"),
        ("PATH", "/bin:/proc/self/fd"),
        ("HOME", "/proc/1/root"),
    ] {
        let output = run(&format!("ENV {name}={value}"), &["/bin/sh", "-c", &format!("echo \"${name}\"")]);
        assert!(output.status.success() && output.stdout() == value, "{name}: {output}");
    }
    // Nothing is found where it leads.
    let output = run("ENV PATH=/proc/self/fd:/proc/1/cwd:", &["sh", "-c", "echo found"]);
    assert!(output.code() == Some(127) && output.stderr().contains("not found in $PATH"), "{output}");
    assert!(!mark.exists() && !root.exists());
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

/// `dhow build` of a Dockerfile; gives whether it was done, and what it told.
fn build(host: &Host, dockerfile: &str) -> (bool, String) {
    let path = host.file("context/Dockerfile", dockerfile);
    let dir = path.parent().expect("a folder").to_str().expect("UTF-8");
    let output = host.run(["build", "--network", "none", dir]);
    (output.status.success(), output.stderr())
}

/// A part of a cache was mounted by its path, while another build put a link to the host there. What would leave a stage is
/// not found (`build::transfer::gather::tests` look at that by itself), and where it were, it is not below the stage's root.
#[test]
fn cve_2024_23651_what_is_mounted_for_a_build_is_not_the_hosts() {
    let Some(host) = Host::with_busybox() else { return };
    let text = host.file("secret/inside/text", "of the host");
    let secret = text.parent().and_then(|inside| inside.parent()).expect("a folder").display();
    let link = format!("FROM busybox AS evil\nRUN mkdir /x && ln -s {secret} /x/sub\nFROM busybox\n");
    let (done, told) = build(
        &host,
        &format!("FROM busybox\nRUN --mount=type=cache,id=c,target=/c ln -s {secret} /c/sub && ls -l /c/sub"),
    );
    assert!(done && told.contains("/c/sub ->"), "{told}");
    for dockerfile in [
        "FROM busybox\nRUN --mount=type=cache,id=c,source=sub/inside,target=/d cat /d/text".to_owned(),
        format!("{link}RUN --mount=type=cache,from=evil,source=/x/sub/inside,target=/d cat /d/text"),
        format!("{link}RUN --mount=type=bind,from=evil,source=/x/sub/inside,target=/d cat /d/text"),
        format!("{link}COPY --from=evil /x/sub/inside/text /text\nRUN cat /text"),
    ] {
        let (done, told) = build(&host, &dockerfile);
        assert!(!done && !told.contains("of the host"), "{dockerfile}: {told}");
    }
}

/// Places that were made to mount on were taken away afterwards by their path, which led out by then.
#[test]
fn cve_2024_23652_places_to_mount_on_are_cleared_inside_only() {
    let Some(host) = Host::with_busybox() else { return };
    let kept = host.file("victim/kept", "");
    let victim = kept.parent().expect("a folder");
    fs::create_dir(victim.join("place")).expect("make a folder");
    for place in ["place", "kept"] {
        let made = if place == "place" { "type=tmpfs" } else { "type=bind,source=Dockerfile" };
        let (done, told) = build(
            &host,
            &format!(
                "FROM busybox\nRUN --mount={made},target=/way/{place} mv /way /moved && ln -s {} /way",
                victim.display()
            ),
        );
        assert!(done, "{told}");
        assert!(victim.join("place").is_dir() && kept.is_file(), "{place} was taken");
    }
}

/// A step of a build had all rights, without that anybody had granted them.
#[test]
fn cve_2024_23653_no_step_takes_rights_that_nobody_granted() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = busybox_tar().expect("it was there");
    let line = "grep CapEff /proc/self/status; ls /sys/class/net";
    for (flag, right) in [("--security=insecure", "security.insecure"), ("--network=host", "network.host")] {
        // In the Dockerfile, and in what an image brings along for those that are built on it.
        let trigger = format!("ONBUILD RUN {flag} {line}");
        host.ok(["import", "--change", &trigger, tar.to_str().expect("UTF-8"), "trigger"]);
        for dockerfile in [format!("FROM busybox\nRUN {flag} {line}"), "FROM trigger\n".to_owned()] {
            let (done, told) = build(&host, &dockerfile);
            assert!(!done && told.contains(&format!("is not allowed: build with --allow {right}")), "{told}");
            assert!(!told.contains("CapEff:"), "it was not even started: {told}");
        }
    }
    // Nobody asks, and nobody has more than a container.
    let (done, told) = build(&host, &format!("FROM busybox\nRUN {line}"));
    assert!(done && told.contains("CapEff:\t00000000a80425fb"), "{told}");
    // Who sends a Dockerfile to a daemon grants what he says, and nothing else.
    let daemon = Daemon::start(&host);
    let context = Tar::new().file("Dockerfile", 0o644, format!("FROM busybox\nRUN --security=insecure {line}\n")).end();
    for (query, granted) in [("", false), ("&allow=network.host", false), ("&allow=security.insecure", true)] {
        let head = format!(
            "POST /build?networkmode=none{query} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            context.len()
        );
        let told = daemon.say([head.as_bytes(), &context].concat());
        assert_eq!(told.contains("CapEff:"), granted, "{query}: {told}");
        assert_eq!(told.contains("is not allowed"), !granted, "{query}: {told}");
    }
    daemon.stop();
}

/// A copy into a container mounted its volumes, and made their places, by names that somebody in it had changed meanwhile
/// (CVE-2026-41568, CVE-2026-42306).
#[test]
fn cve_2026_42306_a_copy_mounts_volumes_inside_only() {
    let Some(host) = Host::with_probe() else { return };
    let (outside, given) = (host.dir().join("outside"), host.dir().join("given"));
    fs::create_dir_all(outside.join("b")).expect("make a directory");
    fs::write(outside.join("b/secret"), "secret of the host").expect("write");
    fs::create_dir(&given).expect("make a directory");
    let file = host.file("file", "ours");
    let file = file.to_str().expect("UTF-8");
    host.ok(["volume", "create", "shared"]);
    host.sh(&["-v", "shared:/v"], &format!("mkdir -p /v/a/b; ln -s {} /v/link", outside.display()));
    let swapping = host.detached(&["-v", "shared:/v"], &["probe", "swap", "/v/a", "/v/link"]);
    eventually("it swaps", || host.ok(["logs", &swapping]) == "swapping");
    let (over, new) = (format!("{}:/v/a/b", given.display()), format!("{}:/v/a/new", given.display()));
    let mut arrived = 0;
    for mounted in [over, new] {
        let it = host.ok(["create", "--network", "none", "-v", "shared:/v", "-v", &mounted, "busybox", "true"]);
        for _ in 0..30 {
            arrived += usize::from(host.run(["cp", file, &format!("{it}:/x")]).status.success());
            host.run(["cp", file, &format!("{it}:/v/a/b/x")]);
            let output = host.run(["cp", &format!("{it}:/v/a/b/secret"), "-"]);
            assert!(!String::from_utf8_lossy(&output.out).contains("secret of the host"), "{output}");
            let there = |dir: &std::path::Path| fs::read_dir(dir).expect("list").count();
            assert_eq!((there(&outside), there(&outside.join("b"))), (1, 1), "{mounted}");
        }
        host.ok(["rm", &it]);
    }
    assert!(arrived > 10, "only {arrived} of 60 arrived");
    assert_eq!(fs::read_to_string(outside.join("b/secret")).expect("read"), "secret of the host");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!mounts.contains(&*outside.to_string_lossy()), "{mounts}");
    host.ok(["rm", "-f", &swapping]);
}

/// What was packed was unpacked by the programs of the container that it was copied to, as root of the host.
#[test]
fn cve_2026_41567_a_copy_runs_no_program_of_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = Tar::new().file("came", 0o644, "came").end();
    let line = "for p in xz unxz gzip gunzip unpigz igzip bzip2 bunzip2 zstd unzstd tar; do rm -f /bin/$p; \
        printf '#!/bin/sh\\ntouch /ran\\n' >/bin/$p; chmod 755 /bin/$p; done; echo up; sleep 1000";
    let id = host.detached(&["-u", "0"], &["sh", "-c", line]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    for runs in [true, false] {
        for program in ["gzip", "bzip2", "xz", "zstd"] {
            let Some(()) = need(program) else { continue };
            let packed = crate::fixture::Command::new(program, ["-c"]).input(tar.clone()).run().out;
            host.dhow(["cp", "-", &format!("{id}:/tmp")]).input(packed).ok();
            let came = host.run(["cp", &format!("{id}:/tmp/came"), "-"]);
            assert!(String::from_utf8_lossy(&came.out).contains("came"), "{program}: {came}");
        }
        assert!(!host.ok(["diff", &id]).contains("/ran"), "while it runs: {runs}");
        host.run(["kill", &id]);
        eventually("it has ended", || host.inspect(&id, "/State/Running") == false);
    }
}

/// Links that every /dev has were made where the image's /dev led. Here a /dev is mounted there before, inside; that what is
/// made follows no link out is seen by itself in `ns::walk::tests`.
#[test]
fn cve_2026_41579_devices_are_not_made_where_the_image_leads() {
    for target in ["outside", "../../../../../../../../..", "proc/self/root"] {
        let Some(host) = Host::with_busybox() else { return };
        let outside = host.dir().join("outside");
        fs::create_dir(&outside).expect("make a directory");
        let target = match target {
            "outside" => outside.display().to_string(),
            other => format!("{other}{}", outside.display()),
        };
        bent(&host, Tar::new().symlink("dev", &target), &["dev"]);
        for flags in [&["--device", "/dev/full:/dev/more"][..], &["-t"], &["--tmpfs", "/dev/deep"]] {
            let output = host.run(["run", "--rm", "--network", "none"].iter().chain(flags).chain(&["bent", "true"]));
            let left = fs::read_dir(&outside).expect("list").count();
            assert_eq!(left, 0, "{target}, {flags:?}: {output}");
            assert!(output.status.success() || output.stderr().lines().count() == 1, "{output}");
        }
    }
}

/// Who had changed his groups was still in that which he began with, but had it in no list (also CVE-2023-25173).
#[test]
fn cve_2022_36109_the_first_group_is_in_the_list_of_all() {
    let Some(host) = Host::with_busybox() else { return };
    let groups = |flags: &[&str]| host.sh(flags, "grep ^Groups: /proc/self/status").replace('\t', " ");
    assert_eq!(groups(&["-u", "77:88"]).trim(), "Groups: 88");
    assert_eq!(groups(&["-u", "77:88", "--group-add", "99"]).trim(), "Groups: 88 99");
    let id = host.detached(&["--group-add", "99"], &["sleep", "1000"]);
    let line = ["exec", "-u", "77:88", &id, "grep", "^Groups:", "/proc/self/status"];
    assert_eq!(host.ok(line).replace('\t', " ").trim(), "Groups: 88 99");
}

/// Sockets of the kernel's cryptography, by which files were changed that may only be read.
#[test]
fn cve_2026_31431_the_kernels_cryptography_is_out_of_reach() {
    let Some(host) = Host::with_probe() else { return };
    let socket = |flags: &[&str], family: i32| host.busybox(flags, &["probe", "socket", &family.to_string()]).ok();
    for flags in [&[][..], &["--cap-add", "ALL"], &["-u", "1000"]] {
        for family in [libc::AF_ALG, libc::AF_VSOCK] {
            assert_eq!(socket(flags, family), "EPERM", "{flags:?}");
        }
    }
    assert_ne!(socket(&["--security-opt", "seccomp=unconfined"], libc::AF_INET), "EPERM");
}

/// Whoever is nobody on the host ran what root of a container had made, as root: the way there was open to who knew it
/// (also CVE-2024-25621).
#[test]
fn cve_2021_41091_nobody_else_enters_the_store() {
    let Some(host) = Host::with_busybox() else { return };
    // The way to the store itself is open.
    for dir in host.dir().ancestors().take_while(|dir| *dir != std::path::Path::new("/")) {
        let mode = fs::metadata(dir).expect("look").permissions().mode();
        assert_eq!(mode & 0o001, 0o001, "{}", dir.display());
    }
    let line = "cp /bin/busybox /id; cp /bin/busybox /v/id; chmod 4755 /id /v/id; echo up; sleep 1000";
    let id = host.detached(&["-v", "data:/v"], &["sh", "-c", line]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    let upper = host.root().join("containers").join(&id).join("upper/id");
    let layer = host.record(&id)["layers"][0].as_str().expect("a layer").to_owned();
    let files = [
        upper,
        host.root().join("volumes/data/_data/id"),
        host.root().join("layers").join(layer).join("fs/bin/busybox"),
    ];
    let refused = || {
        files.iter().all(|file| {
            assert!(file.exists(), "{}", file.display());
            let mut command = std::process::Command::new(file);
            let error = command.arg0("id").uid(65534).gid(65534).output().expect_err("it is not to be had");
            error.kind() == std::io::ErrorKind::PermissionDenied
        })
    };
    assert!(refused());
    // One that an earlier build has made is closed by the next command.
    fs::set_permissions(host.root(), PermissionsExt::from_mode(0o711)).expect("chmod");
    host.ok(["ps"]);
    assert!(refused());
}

/// Whoever made a directory to work in followed links of the image (GHSA-q6r4-3wmg-fwcq).
#[test]
fn cve_2026_55686_a_directory_to_work_in_is_made_inside() {
    let Some(host) = Host::with_busybox() else { return };
    let outside = host.dir().join("outside");
    fs::create_dir(&outside).expect("make a directory");
    let tar = Tar::new()
        .symlink("way", outside.to_str().expect("UTF-8"))
        .symlink("up", &format!("../../../../../../../../..{}", outside.display()))
        .symlink("proc-way", &format!("/proc/self/root{}", outside.display()));
    bent(&host, tar, &[]);
    for place in ["/way/new", "/up/new/deep", "/proc-way/new", "/way/../new"] {
        let id = host.run(["create", "--network", "none", "-w", place, "bent", "true"]);
        assert_eq!(fs::read_dir(&outside).expect("list").count(), 0, "{place}: {id}");
        if id.status.success() {
            let output = host.run(["start", "--attach", &id.stdout()]);
            assert_eq!(fs::read_dir(&outside).expect("list").count(), 0, "{place}: {output}");
        }
    }
    let built = build(&host, &format!("FROM busybox\nRUN ln -s {} /way\nWORKDIR /way/new\nRUN pwd", outside.display()));
    assert_eq!(fs::read_dir(&outside).expect("list").count(), 0, "{built:?}");
}

/// A hook of a vendor's was run with variables of the image, and where the image lay: it loaded a library from there.
#[test]
fn cve_2025_23266_hooks_have_nothing_of_the_image() {
    let (Some(host), vendor) = (Host::with_busybox(), Vendor::new()) else { return };
    let tar = busybox_tar().expect("it was there");
    let changes = ["--change", "ENV LD_PRELOAD=./evil.so BASH_ENV=/evil", "--change", "WORKDIR /tmp"];
    host.ok(["import"].into_iter().chain(changes).chain([tar.to_str().expect("UTF-8"), "evil"]));
    let told = host.dir().join("told");
    let line = format!("cat >/dev/null; {{ env | grep -v -E '^(PWD|OLDPWD|SHLVL|_)='; pwd; }} >>{}", told.display());
    let moments = ["prestart", "createRuntime", "createContainer", "poststart"];
    let hook = |moment| serde_json::json!({"hookName": moment, "path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]});
    vendor.says(&[("one", serde_json::json!({ "hooks": moments.map(hook) }))], serde_json::json!({}));
    let seen = host.ok(["run", "--rm", "--network", "none", "--device", &vendor.device("one"), "evil", "env"]);
    assert!(seen.contains("LD_PRELOAD=./evil.so"), "{seen}");
    assert_eq!(fs::read_to_string(&told).expect("read"), "PATH=/usr/bin:/bin\n/\n".repeat(moments.len()));
}
