//! Ways out of a container, and ways to lead the engine astray while it makes one.

use crate::fixture::{Host, Tar, busybox_tar, eventually, need, probe_tar, skip, tool, without_cgroups};
use std::fs;
use std::path::Path;

/// An image of busybox in which `entries` come on top, imported as `bent`.
fn bent(host: &Host, entries: Tar) {
    let mut tar = fs::read(busybox_tar().expect("it was there")).expect("read");
    // Before the two blocks of the end.
    tar.truncate(tar.len() - 1024);
    tar.extend(entries.end());
    let path = host.file("bent.tar", tar);
    host.ok(["import", path.to_str().expect("UTF-8"), "bent"]);
}

/// The names in a directory, sorted.
fn listed(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list").map(|entry| entry.expect("an entry"));
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn nobody_climbs_out_of_a_container() {
    let Some(host) = Host::with_probe() else { return };
    assert_eq!(host.busybox(&[], &["probe", "escape"]).ok(), "in");
    assert_eq!(host.busybox(&["--privileged"], &["probe", "escape"]).ok(), "in");
    let id = host.detached(&[], &["sleep", "1000"]);
    assert_eq!(host.ok(["exec", &id, "probe", "escape"]), "in");
}

/// In a chroot / is no mount, as on a ramfs root, and pivot_root(2) refuses it.
#[test]
fn nobody_climbs_out_of_a_container_in_a_chroot() {
    let Some(host) = Host::new() else { return };
    let (Some(tar), Some(()), Some(())) = (probe_tar(), need("unshare"), need("chroot")) else { return };
    let cage = host.dir().join("cage");
    fs::create_dir(&cage).expect("make a directory");
    let cage = cage.to_str().expect("UTF-8");
    tool("tar", ["-C", cage, "-xf", tar.to_str().expect("UTF-8")]);
    for dir in ["proc", "dev", "tmp", "var", "run"] {
        fs::create_dir_all(Path::new(cage).join(dir)).expect("make a directory");
    }
    crate::fixture::copy_program(env!("CARGO_BIN_EXE_dhow"), &Path::new(cage).join("bin/dhow"));
    fs::copy(&tar, Path::new(cage).join("probe.tar")).expect("copy");
    fs::write(Path::new(cage).join("of-the-host"), "").expect("write");
    for (name, minor) in [("null", "3"), ("zero", "5"), ("urandom", "9")] {
        tool("mknod", ["-m", "666", &format!("{cage}/dev/{name}"), "c", "1", minor]);
    }
    let inside = "set -e; dhow import /probe.tar probe >/dev/null; \
        run='dhow run --rm --network none'; \
        $run probe probe escape; \
        $run --privileged probe probe escape; \
        $run probe sh -c 'ls / /proc/1/root/ | grep -c of-the-host || true'; \
        $run probe sh -c 'cut -d\" \" -f5 /proc/self/mountinfo | sort | uniq | head -n 3 | tr \"\\n\" \" \"; echo'; \
        $run --cap-add SYS_ADMIN --security-opt seccomp=unconfined probe \
            sh -c 'nsenter --mount=/proc/self/ns/mnt ls / | grep -c -e of-the-host -e vmlinuz -e lost+found || true'; \
        dhow run -d --name it --network none probe sleep 1000 >/dev/null; \
        dhow exec it probe escape; \
        dhow exec it sh -c 'ls / | grep -c of-the-host || true'; \
        dhow rm -f it >/dev/null";
    let line =
        format!("mount -t proc proc {cage}/proc && exec chroot {cage} /bin/sh -c '{}'", inside.replace('\'', "'\\''"));
    let seen = tool("unshare", ["--mount", "--propagation", "private", "sh", "-c", &line]);
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["in", "in", "0", "/ /dev /dev/mqueue ", "0", "in", "0"], "{seen}");
}

#[test]
fn cve_2021_30465_names_that_are_swapped_under_mounts_lead_nowhere() {
    let Some(host) = Host::with_probe() else { return };
    let (outside, given) = (host.dir().join("outside"), host.dir().join("given"));
    fs::create_dir_all(outside.join("b")).expect("make a directory");
    fs::write(outside.join("b/secret"), "secret of the host").expect("write");
    fs::create_dir(&given).expect("make a directory");
    host.ok(["volume", "create", "shared"]);
    // The same name is a directory and a link in turn: to the host's directory by its name, and by way up.
    let links = [outside.display().to_string(), format!("../../../../../../../../../..{}", outside.display())];
    for (number, link) in links.iter().enumerate() {
        let (a, other) = (format!("/v/a{number}"), format!("/v/link{number}"));
        host.sh(&["-v", "shared:/v"], &format!("mkdir -p {a}/b; ln -s {link} {other}"));
        let id = host.detached(&["-v", "shared:/v"], &["probe", "swap", &a, &other]);
        eventually("it swaps", || host.ok(["logs", &id]) == "swapping");
        let (over, device) = (format!("{}:{a}/b", given.display()), format!("/dev/null:{a}/null"));
        let (new, tmpfs, work) = (format!("{}:{a}/new", given.display()), format!("{a}/tmp"), format!("{a}/work"));
        let subpath = format!("type=volume,src=shared,dst=/part,volume-subpath=a{number}/b");
        let ways: [&[&str]; 6] = [
            &["-v", &over],
            &["-v", &new],
            &["--tmpfs", &tmpfs],
            &["--device", &device],
            &["-w", &work],
            &["--mount", &subpath],
        ];
        let line = format!("cat {a}/b/secret {a}/secret /part/secret; echo x >{a}/b/mark; echo x >/part/mark; true");
        let mut started = 0;
        for round in 0..60 {
            let flags = [&["-v", "shared:/v"], ways[round % ways.len()]].concat();
            let output = host.busybox(&flags, &["sh", "-c", &line]).run();
            started += usize::from(output.status.success());
            assert!(!output.stdout().contains("secret of the host"), "{output}");
            assert_eq!(listed(&outside), ["b"], "{output}");
            assert_eq!(listed(&outside.join("b")), ["secret"], "{output}");
        }
        assert!(started > 20, "only {started} of 60 started");
        assert_eq!(host.inspect(&id, "/State/Running"), true, "it swapped all the time");
        host.ok(["rm", "-f", &id]);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!mounts.contains(&*outside.to_string_lossy()), "{mounts}");
}

#[test]
fn mount_points_through_dangling_links_are_made_inside() {
    let Some(host) = Host::with_busybox() else { return };
    let entries = Tar::new()
        .symlink("absolute", "/dhow-no-such/deep")
        .symlink("up", "../../../../../../../../dhow-no-such/up")
        .symlink("chain", "chain2/more")
        .symlink("chain2", "/dhow-no-such/chain")
        .symlink("loop", "loop2")
        .symlink("loop2", "loop");
    bent(&host, entries);
    let given = host.dir().join("given");
    fs::create_dir(&given).expect("make a directory");
    fs::write(given.join("file"), "given").expect("write");
    let run = |source: &Path, target: &str, line: &str| {
        let volume = format!("{}:{target}", source.display());
        host.run(["run", "--rm", "--network", "none", "-v", &volume, "bent", "sh", "-c", line])
    };
    for (target, place) in [
        ("/absolute", "/dhow-no-such/deep/file"),
        ("/absolute/below", "/dhow-no-such/deep/below/file"),
        ("/up", "/dhow-no-such/up/file"),
        ("/chain", "/dhow-no-such/chain/more/file"),
    ] {
        let output = run(&given, target, &format!("cat {place}"));
        assert_eq!((output.code(), output.stdout().as_str()), (Some(0), "given"), "{target}: {output}");
        let output = run(&given.join("file"), target, &format!("cat {}", place.trim_end_matches("/file")));
        assert_eq!((output.code(), output.stdout().as_str()), (Some(0), "given"), "a file on {target}: {output}");
    }
    let output = run(&given, "/loop", "true");
    assert!(!output.status.success() && output.stderr().lines().count() == 1, "{output}");
    assert!(!Path::new("/dhow-no-such").exists());
}

#[test]
fn cve_2025_52565_a_console_is_not_mounted_over_proc() {
    let Some(host) = Host::with_busybox() else { return };
    let terminal = ["-t", "-v", "devices:/dev"];
    let line = "[ -t 0 ] && [ -c /dev/console ] && echo here >/dev/console";
    assert_eq!(host.busybox(&terminal, &["sh", "-c", line]).ok(), "here\r");
    // Neither over what is the kernel's nor over anything else.
    for target in ["/proc/sys/kernel/hostname", "../proc/version", "/proc/uptime", "/etc/passwd", "/nowhere", "."] {
        host.sh(&["-v", "devices:/v"], &format!("rm -f /v/console; ln -s {target} /v/console"));
        let text = host.busybox(&terminal, &["true"]).refused(125);
        assert!(text.contains("mount /dev/console: too many levels of symbolic links"), "{target}: {text}");
    }
    // Without a terminal nothing is mounted there.
    assert_eq!(host.sh(&["-v", "devices:/dev"], "readlink /dev/console"), ".");
}

#[test]
fn a_console_is_the_containers_and_not_mounted_on_what_the_host_shares() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = host.dir().join("devices");
    let _shared = Mounted::new(&dir, nix::mount::MsFlags::MS_SHARED);
    fs::write(dir.join("console"), "").expect("write");
    let terminal = |propagation: &str| {
        let volume = format!("{}:/dev{propagation}", dir.display());
        let line =
            "[ -t 0 ] && { [ -c /dev/console ] && echo console || echo none; }; grep -c /dev/console /proc/mounts";
        host.busybox(&["-t", "-v", &volume], &["sh", "-c", line]).run().stdout().replace("\r", "")
    };
    assert_eq!(terminal(""), "console\n1");
    assert_eq!(terminal(":rslave"), "console\n1");
    assert_eq!(terminal(":rshared"), "none\n0");
    let mounts = fs::read_to_string("/proc/thread-self/mounts").expect("read");
    assert!(!mounts.contains("/devices/console"), "{mounts}");
    // The host's own has the host's terminals, too.
    let own = host.busybox(&["-t", "-v", "/dev:/dev"], &["sh", "-c", "tty; [ -c /dev/console ] && echo yes"]).ok();
    assert!(own.starts_with("/dev/pts/") && own.contains("yes"), "{own}");
}

#[test]
fn an_exec_takes_no_terminal_that_something_was_mounted_over() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "mkfifo /fifo && mount -o bind /fifo /dev/pts/ptmx && echo up; sleep 1000";
    let id = host.detached(&["--cap-add", "SYS_ADMIN"], &["sh", "-c", line]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    let output = host.run(["exec", "-t", &id, "true"]);
    assert!(!output.status.success() && output.stderr().contains("open a terminal"), "{output}");
}

#[test]
fn cve_2025_52881_the_hosts_proc_may_be_bound_and_sysctls_are_still_the_containers() {
    let Some(host) = Host::with_busybox() else { return };
    let read = || fs::read_to_string("/proc/sys/kernel/shmmni").expect("read");
    let before = read();
    let line = "cat /proc/sys/kernel/shmmni; (echo 1 >/proc/sys/kernel/shmmni) 2>&1 || true";
    let seen = host.sh(&["-v", "/proc:/proc", "--sysctl", "kernel.shmmni=77"], line);
    assert!(seen.starts_with("77\n") && seen.contains("Read-only file system"), "{seen}");
    assert_eq!(read(), before);
}

#[test]
fn a_tmpfs_is_shared_where_that_was_said() {
    let Some(host) = Host::with_busybox() else { return };
    let optional = |options: &str| {
        let line = "grep ' /t rw' /proc/self/mountinfo | grep -c shared: || true";
        host.sh(&["--tmpfs", &format!("/t:{options}")], line)
    };
    assert_eq!(optional("size=1m"), "0");
    assert_eq!(optional("size=1m,rshared"), "1");
}

/// A disk of this host that can be opened: its name and its numbers.
fn disk() -> Option<(String, String)> {
    let disks = fs::read_dir("/sys/class/block").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut disks: Vec<String> = disks.filter(|name| fs::File::open(format!("/dev/{name}")).is_ok()).collect();
    disks.sort_unstable();
    let name = disks.pop()?;
    let numbers = fs::read_to_string(format!("/sys/class/block/{name}/dev")).ok()?;
    Some((name, numbers.trim().to_owned()))
}

#[test]
fn the_hosts_disk_opens_only_where_it_was_granted() {
    let Some(host) = Host::with_busybox() else { return };
    let Some((name, numbers)) = disk().or_else(|| skip("the host has no disk that can be opened")) else { return };
    let (major, minor) = numbers.split_once(':').expect("two numbers");
    let try_open = |flags: &[&str]| {
        let line = format!(
            "mknod /dev/mine b {major} {minor} && (: </dev/mine) 2>&1 && echo read; (: <>/dev/mine) 2>&1 && echo write; true"
        );
        host.sh(flags, &line).lines().map(|line| line.rsplit(' ').next().unwrap_or(line).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(try_open(&[]), ["permitted", "permitted"]);
    // With every capability, too: the device is another matter than the right to make it.
    assert_eq!(try_open(&["--cap-add", "ALL"]), ["permitted", "permitted"]);
    if !Path::new("/sys/fs/cgroup/cgroup.procs").exists() && !Path::new("/sys/fs/cgroup/unified").exists() {
        return skip("there is no cgroup v2").unwrap_or_default();
    }
    let rule = |access: &str| format!("b {numbers} {access}");
    assert_eq!(try_open(&["--device-cgroup-rule", &rule("r")]), ["read", "permitted"]);
    assert_eq!(try_open(&["--device-cgroup-rule", &format!("b {major}:* rmw")]), ["read", "write"]);
    assert_eq!(try_open(&["--device-cgroup-rule", "c *:* rwm"]), ["permitted", "permitted"]);
    let given = |access: &str| format!("/dev/{name}:/dev/given:{access}");
    assert_eq!(host.sh(&["--device", &given("r")], "(: </dev/given) && echo read"), "read");
    let text = host.sh(&["--device", &given("r")], "(: <>/dev/given) 2>&1 || true");
    assert!(text.contains("not permitted"), "{text}");
    assert_eq!(try_open(&["--privileged"]), ["read", "write"]);
    for wrong in ["b 1:2", "x 1:2 r", "b 1:2 rx", "b 1:2 rwmr", "b 1 r", ""] {
        let text = host.busybox(&["--device-cgroup-rule", wrong], &["true"]).refused(125);
        assert!(text.contains(&format!("invalid device cgroup rule format: '{wrong}'")), "{text}");
    }
}

/// An image may bring a node of the host's disk. Where no program on a cgroup decides on devices, it does not open either.
#[test]
fn devices_of_images_and_volumes_do_not_open_on_any_host() {
    let Some(host) = Host::with_busybox() else { return };
    let kmsg = (1, 11);
    bent(&host, Tar::new().char_device("kmsg", 0o666, kmsg).dir("d", 0o755).char_device("d/kmsg", 0o666, kmsg));
    let line = "for f in /kmsg /d/kmsg; do (: <$f) 2>/dev/null && echo $f; done; (: >/dev/null) && echo null; \
        mknod /dev/x c 1 3 2>/dev/null && echo made; true";
    let run = |flags: &[&str]| {
        // Which opens for those only who may read the log.
        let fixed = ["run", "--rm", "--network", "none", "--cap-add", "SYSLOG"];
        let text = host.ok(fixed.iter().chain(flags).chain(&["bent", "sh", "-c", line]).copied());
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    if Path::new("/sys/fs/cgroup/cgroup.procs").exists() || Path::new("/sys/fs/cgroup/unified").exists() {
        assert_eq!(run(&[]), ["null", "made"]);
    }
    without_cgroups();
    for flags in [&[][..], &["-v", "fresh:/d"], &["--read-only"], &["--cap-add", "ALL"]] {
        assert_eq!(run(flags), ["null"], "{flags:?}");
    }
    assert_eq!(run(&["--privileged"]), ["/kmsg", "/d/kmsg", "null", "made"]);
    let granted =
        host.busybox(&["--cap-add", "SYSLOG", "--device", "/dev/kmsg"], &["sh", "-c", "(: </dev/kmsg) && echo open"]);
    assert_eq!(granted.ok(), "open");
    for at in ["/kmsg", "/deep/er/kmsg"] {
        let flags = ["--cap-add", "SYSLOG", "--device", &format!("/dev/kmsg:{at}")];
        assert_eq!(host.busybox(&flags, &["sh", "-c", &format!("(: <{at}) && echo open")]).ok(), "open", "{at}");
    }
}

#[test]
fn a_kernel_without_bpf_opens_none_and_info_says_so() {
    let Some(host) = Host::with_busybox() else { return };
    bent(&host, Tar::new().char_device("kmsg", 0o666, (1, 11)));
    let without = |words: &[&str]| host.dhow(words.iter().copied()).env("DHOW_LACKS", "bpf");
    let line =
        "(: </kmsg) 2>/dev/null && echo open; mknod /dev/x c 1 3 2>/dev/null && echo made; (: >/dev/null) && echo null";
    let run = ["run", "--rm", "--network", "none", "--cap-add", "SYSLOG", "bent", "sh", "-c", line];
    assert_eq!(without(&run).ok(), "null");
    let words = "No device rules support";
    let told = without(&["info"]).run();
    assert!(format!("{}{}", told.stdout(), told.stderr()).contains(words), "{told}");
    if Path::new("/sys/fs/cgroup/cgroup.procs").exists() || Path::new("/sys/fs/cgroup/unified").exists() {
        let told = host.dhow(["info"]).run();
        assert!(!format!("{}{}", told.stdout(), told.stderr()).contains(words), "{told}");
    }
}

/// Mounts a tmpfs of this host with a propagation, for as long as it lives.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: &Path, propagation: nix::mount::MsFlags) -> Mounted {
        let none = None::<&str>;
        fs::create_dir_all(at).expect("make a directory");
        nix::mount::mount(Some("none"), at, Some("tmpfs"), nix::mount::MsFlags::empty(), none).expect("mount a tmpfs");
        nix::mount::mount(none, at, none, propagation, none).expect("set its propagation");
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_bind_hears_of_mounts_only_where_the_host_shares_them() {
    use nix::mount::MsFlags;
    let Some(host) = Host::with_busybox() else { return };
    let (shared, private) = (host.dir().join("shared"), host.dir().join("private"));
    let _shared = Mounted::new(&shared, MsFlags::MS_SHARED);
    let _private = Mounted::new(&private, MsFlags::MS_PRIVATE);
    fs::create_dir(shared.join("dir")).expect("make a directory");
    for (modes, words) in [
        ("shared", "but it is not a shared mount"),
        ("rshared", "but it is not a shared mount"),
        ("slave", "but it is not a shared or slave mount"),
        ("rslave", "but it is not a shared or slave mount"),
    ] {
        let volume = format!("{}:/x:{modes}", private.display());
        let text = host.busybox(&["-v", &volume], &["true"]).refused(125);
        let expected = format!("path {0} is mounted on {0} {words}", private.display());
        assert!(text.contains(&expected), "{text}");
        let volume = format!("{}:/x:{modes}", shared.join("dir").display());
        host.busybox(&["-v", &volume], &["true"]).ok();
    }
    // What the host mounts comes in.
    let follows = host.detached(&["-v", &format!("{}:/x:rslave", shared.display())], &["sleep", "1000"]);
    let alone = host.detached(&["-v", &format!("{}:/x", shared.display())], &["sleep", "1000"]);
    let late = Mounted::new(&shared.join("late"), MsFlags::MS_PRIVATE);
    fs::write(shared.join("late/file"), "late").expect("write");
    assert_eq!(host.ok(["exec", &follows, "cat", "/x/late/file"]), "late");
    assert_ne!(host.run(["exec", &alone, "cat", "/x/late/file"]).code(), Some(0));
    drop(late);
    // What the container mounts goes out, but only where both sides share it.
    let line = "mkdir -p /x/own && mount -t tmpfs none /x/own && echo mine >/x/own/file";
    let mount = |modes: &str| {
        let volume = format!("{}:/x:{modes}", shared.display());
        host.sh(&["--cap-add", "SYS_ADMIN", "-v", &volume], line);
        let seen = fs::read_to_string(shared.join("own/file")).unwrap_or_default();
        let _ = nix::mount::umount2(&shared.join("own"), nix::mount::MntFlags::MNT_DETACH);
        seen
    };
    assert_eq!(mount("rprivate"), "");
    assert_eq!(mount("rslave"), "");
    assert_eq!(mount("rshared"), "mine\n");
}

#[test]
fn a_bind_of_what_holds_the_store_follows_the_host() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = host.dir().display().to_string();
    let name = host.ok(["create", "--network", "none", "-v", &format!("{dir}:/host"), "busybox", "ls", "/host/root"]);
    assert_eq!(host.inspect(&name, "/Mounts/0/Propagation"), "rslave");
    // Where the host shares nothing it is private, as nobody asked for more.
    assert!(host.ok(["start", "--attach", &name]).contains("containers"));
    let text = host.busybox(&["-v", &format!("{dir}:/host:rprivate")], &["true"]).refused(125);
    assert!(text.contains("must use either propagation mode \"rslave\" or \"rshared\""), "{text}");
}

/// A system call filter that answers one call as a kernel without it would.
fn without(mut command: crate::fixture::Command, call: libc::c_long) -> crate::fixture::Command {
    use std::os::unix::process::CommandExt;
    let filter = move || {
        let code = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
        let answer = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        let program = [
            code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
            code(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
            code(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: one system call between fork and exec; the program outlives it.
        match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the filter is one system call.
    unsafe { command.inner().pre_exec(filter) };
    command
}

#[test]
fn an_old_kernel_is_refused_by_name_before_anything_is_made() {
    let Some(host) = Host::with_busybox() else { return };
    for (call, words) in [
        (libc::SYS_mount_setattr, "it has no mount_setattr, which came with Linux 5.12"),
        (libc::SYS_close_range, "it has no close_range, which came with Linux 5.9"),
    ] {
        let text = without(host.busybox(&["-v", "fresh:/x"], &["true"]), call).refused(125);
        assert!(text.contains("containers cannot be started on this kernel") && text.contains(words), "{text}");
        let text = without(host.dhow(["create", "busybox"]), call).refused(1);
        assert!(text.contains(words), "{text}");
        assert_eq!(without(host.dhow(["ps", "-aq"]), call).ok(), "", "what needs no container works");
    }
    assert_eq!(host.ok(["volume", "ls", "-q"]), "");
    let id = host.ok(["create", "--network", "none", "busybox", "true"]);
    let text = without(host.dhow(["start", &id]), libc::SYS_mount_setattr).refused(1);
    assert!(text.contains("mount_setattr"), "{text}");
    assert_eq!(host.inspect(&id, "/State/Status"), "created");
    host.ok(["start", "--attach", &id]);
}
