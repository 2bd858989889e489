//! User namespaces: root in a container is somebody else outside, and nothing on disk shows it.

use crate::cdi::Vendor;
use crate::fixture::{Host, accounts, busybox_tar, need, tool};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The first id that containers have outside.
const FIRST: u32 = 300_000;
const SETTINGS: &str = r#"{"userns-remap": "default"}"#;

/// A host with Docker's user for this and his ids, and the configuration that names him.
fn remapped(host: Option<Host>) -> Option<Host> {
    let host = host?;
    accounts(&host, "dockremap", 987, Some(FIRST));
    host.file("daemon.json", SETTINGS);
    Some(host)
}

fn run(host: &Host, flags: &[&str], line: &str) -> crate::fixture::Command {
    let config = host.dir().join("daemon.json");
    let fixed = ["--config", config.to_str().expect("UTF-8"), "run", "--rm"];
    let network: &[&str] = if flags.contains(&"--network") { &[] } else { &["--network", "none"] };
    host.local(fixed.iter().chain(network).chain(flags).chain(&["busybox", "sh", "-c", line]).copied())
}

fn start(host: &Host, flags: &[&str], line: &str) -> String {
    let config = host.dir().join("daemon.json");
    let fixed = ["--config", config.to_str().expect("UTF-8"), "run", "-d", "--network", "none"];
    host.local(fixed.iter().chain(flags).chain(&["busybox", "sh", "-c", line]).copied()).ok()
}

#[test]
fn root_inside_is_nobody_outside() {
    let Some(host) = remapped(Host::with_probe()) else { return };
    let seen =
        run(&host, &[], "id -u; cat /proc/self/uid_map; touch /mine; stat -c '%u %g' /mine /etc /bin/busybox").ok();
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "300000", "65536", "0", "0", "0", "0", "0", "0"], "{seen}");
    let id = start(&host, &[], "touch /mine; chown 7:8 /mine; sleep 1000");
    let pid = host.inspect(&id, "/State/Pid");
    crate::fixture::eventually("it is there", || host.run(["exec", &id, "test", "-e", "/mine"]).status.success());
    let of = fs::metadata(format!("/proc/{pid}")).expect("look at init");
    assert_eq!((of.uid(), of.gid()), (FIRST, FIRST));
    // On disk it has the ids of the container, which is what diff and commit read.
    let upper = fs::metadata(host.root().join("containers").join(&id).join("upper/mine")).expect("look at the file");
    assert_eq!((upper.uid(), upper.gid()), (7, 8));
    assert!(host.ok(["diff", &id]).contains("A /mine"));
    host.ok(["commit", &id, "made"]);
    let of_made = ["run", "--rm", "--network", "none", "made", "stat", "-c", "%u:%g", "/mine"];
    assert_eq!(host.ok(of_made), "7:8", "without a map it is the same");
    let tar = host.dir().join("all.tar");
    host.ok(["export", "-o", tar.to_str().expect("UTF-8"), &id]);
    let listed = tool("tar", ["--numeric-owner", "-tvf", tar.to_str().expect("UTF-8"), "mine"]);
    assert!(listed.contains(" 7/8 "), "{listed}");
}

#[test]
fn an_exec_is_of_the_containers_root_too() {
    let Some(host) = remapped(Host::with_probe()) else { return };
    let id = start(&host, &[], "sleep 1000");
    assert_eq!(host.ok(["exec", &id, "sh", "-c", "id -u; stat -c %u /proc/self/; readlink /proc/self/ns/user"]), {
        format!("0\n0\n{}", host.ok(["exec", &id, "readlink", "/proc/1/ns/user"]))
    });
    assert_eq!(host.ok(["exec", "-u", "1000", &id, "sh", "-c", "id -u; echo x >/dev/stdout"]), "1000\nx");
    assert_eq!(host.ok(["exec", &id, "probe", "fds"]).trim(), "0 1 2");
    assert_eq!(host.ok(["exec", &id, "probe", "escape"]), "in");
    let text = host.run(["exec", "-u", "70000", &id, "true"]);
    assert!(text.stderr().contains("uid 70000 is not in the user namespace"), "{text}");
    let text = host.run(["exec", "-u", "5:70000", &id, "true"]);
    assert!(text.stderr().contains("gid 70000 is not in the user namespace"), "{text}");
    let text = run(&host, &["--group-add", "70000"], "true").refused(125);
    assert!(text.contains("gid 70000 is not in the user namespace"), "{text}");
}

#[test]
fn what_every_container_has_is_there_with_a_map_too() {
    let Some(host) = remapped(Host::with_probe()) else { return };
    let line = "echo x >/dev/null; head -c 2 /dev/zero | wc -c; echo y >/dev/shm/y; echo 10.0.0.1 me >>/etc/hosts; \
        tail -n 1 /etc/hosts; hostname; stat -c %U /dev/shm /tmp /etc/hosts | sort -u; ls /sys/fs/cgroup >/dev/null && \
        ls /proc/1/ns | wc -l; mkdir /sys/fs/cgroup/x 2>/dev/null || echo ro; cat /proc/self/setgroups";
    let seen = run(&host, &["--hostname", "boat"], line).ok();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..4], ["2", "10.0.0.1 me", "boat", "root"], "{seen}");
    assert_eq!(lines[5..], ["ro", "allow"], "{seen}");
    let names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(run(&host, &[], "ls /dev | grep -v core | tr '\\n' ' '").ok().trim(), names);
    // Root there makes no device, and mounts nothing of the host anew.
    let seen = run(&host, &["--cap-add", "ALL"], "mknod /x c 1 3 2>&1; mount -o remount,rw /proc/sys 2>&1; true").ok();
    assert!(seen.contains("mknod: /x: Operation not permitted"), "{seen}");
    assert_eq!(run(&host, &["--tmpfs", "/t:uid=5,gid=6,mode=700"], "stat -c '%u %g' /t").ok(), "5 6");
    assert_eq!(run(&host, &["-u", "1000:1000"], "id -u; echo z >/dev/stderr").ok(), "1000");
    let terminal = run(&host, &["-t"], "tty; stat -c '%u %g' /dev/pts/0; stat -c %t:%T /dev/console").ok();
    assert_eq!(terminal.replace('\r', ""), "/dev/pts/0\n0 5\n88:0");
    assert_eq!(run(&host, &["--init"], "echo ran").ok(), "ran");
    assert_eq!(run(&host, &["--read-only"], "touch /x 2>/dev/null || echo ro").ok(), "ro");
    assert_eq!(run(&host, &["--sysctl", "net.ipv4.ip_forward=1"], "cat /proc/sys/net/ipv4/ip_forward").ok(), "1");
    assert_eq!(run(&host, &[], "setfattr 2>/dev/null; grep -c Seccomp:.2 /proc/self/status").ok(), "1");
}

#[test]
fn volumes_have_the_containers_ids_and_binds_the_hosts() {
    let Some(host) = remapped(Host::with_busybox()) else { return };
    let line = "touch /v/mapped; chown 7:8 /v/mapped; ls -ln /v | tail -n +2 | awk '{print $3,$4,$9}'";
    assert_eq!(run(&host, &["-v", "data:/v"], line).ok(), "7 8 mapped");
    // The same volume without a map.
    assert_eq!(host.sh(&["-v", "data:/v"], "touch /v/plain; stat -c '%u:%g' /v /v/mapped"), "0:0\n7:8");
    assert_eq!(run(&host, &["-v", "data:/v"], "stat -c '%u:%g' /v /v/plain; rm /v/plain").ok(), "0:0\n0:0");
    // Nor are the files of an image changed.
    let image = ["--mount", "type=image,source=busybox,target=/i"];
    assert_eq!(run(&host, &image, "stat -c '%u:%g' /i /i/bin/busybox").ok(), "0:0\n0:0");
    let part = ["--mount", "type=image,source=busybox,target=/i,image-subpath=bin"];
    assert_eq!(run(&host, &part, "stat -c '%u:%g' /i /i/busybox").ok(), "0:0\n0:0");
    // What is the host's is not the container's root's.
    let given = host.dir().join("given");
    fs::create_dir(&given).expect("make a directory");
    fs::write(given.join("secret"), "secret").expect("write");
    fs::set_permissions(given.join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let bind = format!("{}:/b", given.display());
    let seen = run(&host, &["-v", &bind], "cat /b/secret 2>&1; touch /b/mine 2>&1; stat -c '%u' /b/secret; true").ok();
    assert!(!seen.contains("secret\n") && seen.ends_with("65534") && !given.join("mine").exists(), "{seen}");
    std::os::unix::fs::chown(&given, Some(FIRST + 5), Some(FIRST)).expect("chown");
    assert_eq!(run(&host, &["-v", &bind, "-u", "5"], "touch /b/mine; stat -c %u /b /b/mine").ok(), "5\n5");
    assert_eq!(fs::metadata(given.join("mine")).expect("look").uid(), FIRST + 5);
}

#[test]
fn copies_in_and_out_have_the_containers_ids() {
    let Some(host) = remapped(Host::with_busybox()) else { return };
    let id = start(&host, &["-v", "data:/v", "--tmpfs", "/t"], "touch /mine; chown 7:8 /mine; echo up; sleep 1000");
    crate::fixture::eventually("it is up", || host.ok(["logs", &id]) == "up");
    let tar = host.local(["cp", &format!("{id}:/mine"), "-"]).run().out;
    let listed = crate::fixture::Command::new("tar", ["--numeric-owner", "-tvf", "-"]).input(tar.clone()).ok();
    assert!(listed.contains(" 7/8 "), "{listed}");
    for place in ["/", "/v", "/t", "/tmp"] {
        host.local(["cp", "-", &format!("{id}:{place}")]).input(tar.clone()).ok();
        let at = format!("{}/mine", place.trim_end_matches('/'));
        assert_eq!(host.ok(["exec", &id, "stat", "-c", "%u:%g", &at]), "7:8", "{place}");
    }
    let file = host.file("file", "text");
    host.ok(["cp", file.to_str().expect("UTF-8"), &format!("{id}:/new")]);
    assert_eq!(host.ok(["exec", &id, "stat", "-c", "%u:%g", "/new"]), "0:0");
    host.ok(["stop", "-t", "0", &id]);
    host.ok(["cp", file.to_str().expect("UTF-8"), &format!("{id}:/still")]);
    host.ok(["start", &id]);
    assert_eq!(host.ok(["exec", &id, "stat", "-c", "%u:%g", "/still", "/mine", "/new"]), "0:0\n7:8\n0:0");
}

#[test]
fn who_shares_namespaces_shares_the_users_too() {
    let Some(host) = remapped(Host::with_busybox()) else { return };
    let id = start(&host, &["--ipc", "shareable"], "sleep 1000");
    let line = |kind: &str| format!("readlink /proc/self/ns/user; readlink /proc/self/ns/{kind}; id -u");
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--network", "net")] {
        let theirs = host.ok(["exec", &id, "sh", "-c", &line(kind)]);
        assert_eq!(run(&host, &[flag, &format!("container:{id}")], &line(kind)).ok(), theirs, "{kind}");
    }
    let all = ["--pid", "--ipc", "--network"].map(|flag| [flag.to_owned(), format!("container:{id}")]).concat();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(run(&host, &all, "ps | grep -q '[s]leep 1000' && echo ran").ok(), "ran");
    // Namespaces belong to users: what does not belong together is refused.
    let other = start(&host, &[], "sleep 1000");
    let plain = host.detached(&["--name", "plain"], &["sleep", "1000"]);
    let (a, b) = (format!("container:{id}"), format!("container:{other}"));
    let text = run(&host, &["--pid", &a, "--network", &b], "true").refused(125);
    assert!(text.contains("cannot join namespaces of containers in different user namespaces"), "{text}");
    let text = run(&host, &["--pid", &format!("container:{plain}")], "true").refused(125);
    assert!(text.contains("cannot join the namespaces of a container without a user namespace"), "{text}");
    assert_eq!(host.sh(&["--pid", &a], "id -u"), "0", "root may look at whom it likes");
}

#[test]
fn what_cannot_be_combined_is_refused() {
    let Some(host) = remapped(Host::with_busybox()) else { return };
    for (flags, words) in [
        (&["--privileged"][..], "privileged mode is incompatible with user namespaces."),
        (&["--network", "host"], "cannot share the host's network namespace when user namespaces are enabled"),
        (&["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
        (&["--userns", "private"], "invalid USER mode"),
    ] {
        let config = host.dir().join("daemon.json");
        let fixed = ["--config", config.to_str().expect("UTF-8"), "run", "--rm"];
        let text = host.local(fixed.iter().chain(flags).chain(&["busybox", "true"]).copied()).run();
        assert!(text.code() == Some(125) && text.stderr().contains(words), "{text}");
    }
    let seen = run(&host, &["--userns", "host", "--privileged"], "cat /proc/self/uid_map").ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
    host.file("daemon.json", r#"{"userns-remap": "dhow-nobody"}"#);
    let text = run(&host, &[], "true").refused(125);
    assert!(text.contains("error during uid lookup for \"dhow-nobody\": no such user"), "{text}");
    host.file("daemon.json", SETTINGS);
    fs::write(host.dir().join("etc/subuid"), "").expect("write");
    let text = run(&host, &[], "true").refused(125);
    let line = "dockremap:300000:65536";
    assert!(
        text.ends_with(&format!(
            "no subuid ranges found for user \"dockremap\" in /etc/subuid: add this line there: {line}"
        )),
        "{text}"
    );
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

/// `default`, `user`, `user:group`, each by name or number; a group of another one changes nobody's ids.
#[test]
fn who_is_meant_may_be_said_in_every_form() {
    let Some(host) = remapped(Host::with_busybox()) else { return };
    let subgid = host.dir().join("etc/subgid");
    let maps = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' ' | sed 's/^ //'";
    for named in
        ["dockremap", "dockremap:dockremap", "987", "987:987", "dockremap:987", "987:dockremap", "dockremap:root"]
    {
        host.file("daemon.json", serde_json::json!({"userns-remap": named}).to_string());
        assert_eq!(run(&host, &[], maps).ok(), "0 300000 65536\n0 300000 65536", "{named}");
    }
    fs::write(&subgid, "root:500000:65536\ndockremap:300000:65536\n").expect("write");
    assert_eq!(run(&host, &[], maps).ok(), "0 300000 65536\n0 300000 65536", "his own come first");
    fs::write(&subgid, "root:500000:65536\n").expect("write");
    assert_eq!(run(&host, &[], maps).ok(), "0 300000 65536\n0 500000 65536", "he has none, the group has");
    for (named, words) in [
        ("dockremap:nobody-here", "error during gid lookup for \"nobody-here\": no such group"),
        ("987:4000000001", "gid 4000000001 has no entry in /etc/group"),
        ("4000000001", "uid 4000000001 has no entry in /etc/passwd"),
        ("a:b:c", "invalid user/group specification in --userns-remap: \"a:b:c\""),
    ] {
        host.file("daemon.json", serde_json::json!({"userns-remap": named}).to_string());
        let text = run(&host, &[], "true").refused(125);
        assert!(text.contains(words), "{named}: {text}");
    }
    // Root's own ids are the host's: a map of them would be none.
    host.file("daemon.json", r#"{"userns-remap": "root"}"#);
    assert!(run(&host, &[], maps).ok().starts_with("0 0 4294967295"));
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

/// Docker would make the user. Ids are all that there is to him, and what is missing of them is said to the letter.
#[test]
fn the_default_user_need_not_be_one() {
    let Some(host) = remapped(Host::with_probe()) else { return };
    let file = |name: &str| host.dir().join("etc").join(name);
    for name in ["passwd", "group"] {
        let text = fs::read_to_string(file(name)).expect("read");
        let others: String =
            text.lines().filter(|line| !line.starts_with("dockremap:")).map(|line| format!("{line}\n")).collect();
        fs::write(file(name), others).expect("write");
    }
    let seen = run(&host, &[], "cat /proc/self/uid_map").ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "300000", "65536"]);
    for name in ["subuid", "subgid"] {
        fs::write(file(name), "sailor:100000:65536\n").expect("write");
    }
    for name in ["subuid", "subgid"] {
        let text = run(&host, &[], "true").refused(125);
        let (_, line) = text.split_once(&format!("in /etc/{name}: add this line there: ")).expect("the line to add");
        fs::write(file(name), format!("sailor:100000:65536\n{line}\n")).expect("write");
    }
    let seen = run(&host, &[], "cat /proc/self/gid_map").ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "165536", "65536"]);
}

/// Such as one of memory without pages: nothing is copied or given away instead.
#[test]
fn a_file_system_that_takes_no_map_is_named() {
    let Some(host) = remapped(Host::new()) else { return };
    let Some(tar) = busybox_tar() else { return };
    fs::create_dir_all(host.root()).expect("make a directory");
    let none = None::<&str>;
    nix::mount::mount(Some("none"), &host.root(), Some("ramfs"), nix::mount::MsFlags::empty(), none).expect("mount");
    host.ok(["import", tar.to_str().expect("UTF-8"), "busybox"]);
    let text = run(&host, &[], "true").refused(125);
    assert!(text.contains("takes no map of ids"), "{text}");
    assert_eq!(run(&host, &["--userns", "host"], "id -u").ok(), "0");
    assert_eq!(host.ok(["ps", "-aq"]), "");
    nix::mount::umount2(&host.root(), nix::mount::MntFlags::MNT_DETACH).expect("unmount");
}

/// In file capabilities of the first kind any root may be meant, in those of the second one by his id.
#[test]
fn a_program_with_capabilities_has_them() {
    let Some(host) = remapped(Host::with_busybox()) else { return };
    let Some(()) = need("setcap") else { return };
    fs::create_dir(host.dir().join("image")).expect("make a directory");
    let program = host.dir().join("image/busybox");
    crate::fixture::copy_program("/bin/busybox", &program);
    let program = program.to_str().expect("UTF-8");
    tool("setcap", ["cap_net_bind_service+ep", program]);
    let dir = host.dir().join("image").to_str().expect("UTF-8").to_owned();
    let tar = host.dir().join("capable.tar");
    tool(
        "tar",
        ["--xattrs", "--xattrs-include=security.*", "-C", &dir, "-cf", tar.to_str().expect("UTF-8"), "busybox"],
    );
    host.ok(["import", tar.to_str().expect("UTF-8"), "tool"]);
    let config = host.dir().join("daemon.json");
    let args = ["--config", config.to_str().expect("UTF-8"), "run", "--rm", "--network", "none", "-u", "5"];
    let seen = host.local(args.iter().chain(&["tool", "/busybox", "grep", "CapEff", "/proc/self/status"]).copied());
    assert!(seen.ok().ends_with("0000000000000400"));
}

/// Its network belongs to the user namespace, over restarts too.
#[test]
fn a_network_is_the_containers_roots() {
    let Some(host) = remapped(Host::with_busybox()) else { return };
    let config = host.dir().join("daemon.json");
    let line = "ip -4 -o addr show dev eth0 | awk '{print $4}'; ip link set lo down && ip link set lo up; sleep 1000";
    let flags = ["run", "-d", "--restart", "always", "--cap-add", "NET_ADMIN", "-p", "127.0.0.1:0:80"];
    let args = ["--config", config.to_str().expect("UTF-8")].into_iter().chain(flags);
    let id = host.local(args.chain(["busybox", "sh", "-c", line])).ok();
    crate::fixture::eventually("it has an address", || host.ok(["logs", &id]).lines().count() == 1);
    let address = host.ok(["logs", &id]);
    let pid = host.inspect(&id, "/State/Pid").to_string();
    tool("kill", ["-9", &pid]);
    crate::fixture::eventually("it is back", || host.ok(["logs", &id]).lines().count() == 2);
    assert_eq!(host.ok(["logs", &id]), format!("{address}\n{address}"));
    assert_eq!(host.ok(["exec", &id, "id", "-u"]), "0");
    assert_eq!(host.inspect(&id, "/RestartCount"), 1);
}

#[test]
fn devices_by_name_are_the_hosts() {
    let Some(host) = remapped(Host::with_probe()) else { return };
    let vendor = Vendor::new();
    let hook = |moment: &str| json!([{"hookName": moment, "path": "/bin/sh", "args": ["sh", "-c", "cat >/dev/null"]}]);
    let node = json!([{"path": "/dev/deep", "hostPath": "/dev/full", "uid": 7}]);
    let devices = [
        ("one", json!({"deviceNodes": node, "env": ["HULL=oak"], "hooks": hook("createRuntime")})),
        ("two", json!({"hooks": hook("createContainer")})),
    ];
    vendor.says(&devices, json!({}));
    let (one, two) = (vendor.device("one"), vendor.device("two"));
    assert_eq!(run(&host, &["--device", &one], "echo $HULL; stat -c '%t %T' /dev/deep").ok(), "oak\n1 7");
    let text = run(&host, &["--device", &two], "true").refused(125);
    assert!(text.contains("hooks of createContainer are not supported in a user namespace"), "{text}");
}
