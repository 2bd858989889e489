//! Networks of an ordinary user: a way out by pasta or by slirp4netns, ports on the host, names, and nothing of it left.

use crate::fixture::names::{self, NameServer, Say};
use crate::fixture::network::{self, Neighbour, ask, datagram, from_here, from_there};
use crate::fixture::sailor::Sailor;
use crate::fixture::{Command, Running, eventually, need, skip};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Says who asked, on port 80.
const WHO: &str = "mkdir -p /www/cgi-bin && printf '#!/bin/sh\\nprintf \"\\n$REMOTE_ADDR\"\\n' >/www/cgi-bin/who && \
                   chmod +x /www/cgi-bin/who && exec httpd -f -p 80 -h /www";

/// A user with a network, a neighbour on it who serves who asks him, and a way there.
struct Voyage {
    /// Goes first: it is of the user's host.
    _server: Running,
    sailor: Sailor,
    neighbour: Neighbour,
}

impl Voyage {
    fn by(tool: &str, other: &str) -> Option<Voyage> {
        need(tool)?;
        if !Path::new("/dev/net/tun").exists() {
            return skip("there is no /dev/net/tun");
        }
        let sailor = Sailor::new(true)?;
        sailor.hide(other);
        // Everybody's, as udev has it.
        let tun = sailor.host.dir().join("tun");
        mknod(&tun, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200)).expect("make a device");
        fs::set_permissions(&tun, fs::Permissions::from_mode(0o666)).expect("chmod");
        sailor.mount(&tun, "/dev/net/tun");
        let neighbour = Neighbour::new()?;
        network::ip(&["route", "add", "default", "via", "10.99.0.2"]);
        let who = sailor.host.file("www/cgi-bin/who", "#!/bin/sh\nprintf \"\\n$REMOTE_ADDR\"\n");
        fs::set_permissions(&who, fs::Permissions::from_mode(0o755)).expect("chmod");
        let www = sailor.host.dir().join("www");
        let args = ["httpd", "-f", "-p", "80", "-h", www.to_str().expect("UTF-8")];
        let _server = neighbour.run("busybox", &args).spawn();
        eventually("the neighbour serves", || from_here("10.99.0.2").is_some());
        Some(Voyage { _server, sailor, neighbour })
    }

    fn serve(&self, name: &str, flags: &[&str]) -> String {
        let fixed = ["run", "-d", "--name", name];
        self.sailor.ok(fixed.iter().chain(flags).chain(&["busybox", "sh", "-c", WHO]).copied());
        eventually("it serves", || self.from(name, "127.0.0.1").is_some());
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        self.sailor.ok(["inspect", "--format", format, name])
    }

    fn from(&self, name: &str, address: &str) -> Option<String> {
        let url = format!("http://{address}/cgi-bin/who");
        ask(self.sailor.command(["exec", name, "timeout", network::seconds(), "busybox", "wget", "-q", "-O-", &url]))
    }

    /// The process that keeps the way out, and the tool that is the way.
    fn gateway(&self) -> Option<(i32, i32)> {
        let run = self.sailor.host.dir().join("xdg/dhow");
        let line = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = |pid: i32| {
            let line = line(pid);
            line.contains("shim\0gateway\0") && line.contains(run.to_str().expect("UTF-8"))
        };
        let pids = processes();
        // What it keeps its network by is a child of it, too.
        let keeper = *pids.iter().find(|pid| ours(**pid) && parent(**pid).is_none_or(|it| !ours(it)))?;
        let tool = *pids.iter().find(|pid| parent(**pid) == Some(keeper) && !ours(**pid))?;
        Some((keeper, tool))
    }
}

fn processes() -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("list processes").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn an_ordinary_user_has_networks_by(tool: &str, other: &str) {
    let Some(_conf) = names::resolv_conf("nameserver 127.0.0.1\n") else { return };
    let Some(voyage) = Voyage::by(tool, other) else { return };
    let sailor = &voyage.sailor;
    let _names = NameServer::start("127.0.0.1", |_| Say::Addresses(vec![[10, 99, 0, 2].into()]));
    let links = network::links();
    let web = voyage.serve("web", &["-p", "18080:80", "-p", "127.0.0.1:18053:53/udp"]);
    // Out, by address and by name, as this host; not to what listens on this host's loopback alone.
    assert_eq!(voyage.from("web", "10.99.0.2").as_deref(), Some("10.99.0.1"));
    assert!(sailor.ok(["exec", "web", "cat", "/etc/resolv.conf"]).contains("nameserver 10.0.2.3"));
    assert_eq!(voyage.from("web", "chart.example").as_deref(), Some("10.99.0.1"));
    let own = Command::new("busybox", ["httpd", "-f", "-p", "127.0.0.1:80", "-h", "/"]).spawn();
    // host-gateway is the bridge in his network, as with Docker's without root: no server of this host is there.
    let format = "{{range .IPAM.Config}}{{.Gateway}}{{end}}";
    let gateway = sailor.ok(["network", "inspect", "--format", format, "bridge"]);
    let hosts = sailor.ok(["run", "--rm", "--add-host", "ship:host-gateway", "busybox", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{gateway}\tship")), "{gateway}: {hosts}");
    for address in ["10.0.2.2", "10.0.2.3", &gateway] {
        assert_eq!(network::briefly(|| voyage.from("web", address)), None, "{address}");
    }
    drop(own);
    // In, from here and from elsewhere.
    for address in ["127.0.0.1:18080", "[::1]:18080", "10.99.0.1:18080"] {
        assert!(from_here(address).is_some(), "{address}");
    }
    assert!(from_there(&voyage.neighbour, "10.99.0.1:18080").is_some());
    // Who passes that on, a child of the container's shim, may enter his network, and nothing else. It goes when nobody has
    // come for a while.
    let id = sailor.ok(["inspect", "--format", "{{.Id}}", "web"]);
    let passes_on = || {
        from_here("127.0.0.1:18080");
        let of_web = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(&id));
        let pid = processes().into_iter().find(|pid| of_web(*pid) && parent(*pid).is_some_and(of_web));
        pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default()
    };
    let lines = ["CapEff:\t0000000000200000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"];
    let held = || {
        let held = passes_on();
        lines.iter().all(|line| held.contains(line))
    };
    eventually(&format!("who passes on holds only that: {}", passes_on()), held);
    let pid = sailor.ok(["inspect", "--format", "{{.State.Pid}}", "web"]);
    let line = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 53))\n\
                while True:\n  data, who = s.recvfrom(99)\n  s.sendto(b'heard', who)";
    let _datagrams = Command::new("nsenter", ["--target", &pid, "--net", "python3", "-c", line]).spawn();
    let said = || Command::new("python3", ["-c", &datagram("127.0.0.1", 18053)]).run().stdout();
    eventually("datagrams find their way", || said() == "heard");
    let text = sailor.command(["run", "--rm", "-p", "18080:80", "busybox", "true"]).refused(125);
    assert!(text.contains("port is already allocated"), "{text}");
    // Containers reach one another, on networks of his by their names.
    sailor.ok(["network", "create", "sea"]);
    voyage.serve("db", &["--network", "sea"]);
    voyage.serve("app", &["--network", "sea", "-p", "127.0.0.1:18081:80"]);
    assert!(voyage.from("app", "db").is_some());
    assert_eq!(voyage.from("app", "chart.example").as_deref(), Some("10.99.0.1"));
    assert_eq!(network::briefly(|| voyage.from("db", &web)), None, "networks are kept apart");
    sailor.ok(["network", "connect", "sea", "web"]);
    assert!(voyage.from("web", "db").is_some());
    sailor.ok(["network", "disconnect", "sea", "web"]);
    sailor.ok(["restart", "-t", "0", "app"]);
    eventually("it serves again", || from_here("127.0.0.1:18081").is_some());
    assert!(sailor.ok(["network", "inspect", "sea"]).contains("\"db\""));
    assert_eq!(network::links(), links, "nothing of it is in the host's network");
    // Whoever is killed: there is a way out again.
    let (keeper, way) = voyage.gateway().expect("a way out");
    assert!(fs::read_to_string(format!("/proc/{way}/cmdline")).is_ok_and(|line| line.contains(tool)));
    // Who keeps it has nothing in effect, and no more than the tool needs to give: SETPCAP, NET_BIND_SERVICE, NET_ADMIN, SYS_CHROOT,
    // SYS_PTRACE and SYS_ADMIN.
    let held = fs::read_to_string(format!("/proc/{keeper}/status")).expect("read what it holds");
    for (set, expected) in [("CapEff", 0), ("CapPrm", 0x2c_1500_u64), ("CapBnd", 0x2c_1500)] {
        assert!(held.contains(&format!("{set}:\t{expected:016x}\n")), "{set} of {expected:x}: {held}");
    }
    kill(Pid::from_raw(way), Signal::SIGKILL).expect("kill the tool");
    eventually("another one leads out", || voyage.gateway().is_some_and(|(_, other)| other != way));
    eventually("it does", || voyage.from("web", "10.99.0.2").is_some());
    let (_, way) = voyage.gateway().expect("a way out");
    kill(Pid::from_raw(keeper), Signal::SIGKILL).expect("kill who keeps it");
    eventually("the tool goes along", || !lives(way));
    sailor.ok(["run", "--rm", "busybox", "true"]);
    eventually("the next container brings another one", || voyage.from("web", "10.99.0.2").is_some());
    let (keeper, way) = voyage.gateway().expect("a way out");
    sailor.detached(&[], "sleep 1000");
    sailor.ok(["rm", "-f", "web", "db", "app"]);
    eventually("it goes with the last who needs it", || !lives(keeper) && !lives(way));
    sailor.ok(["network", "rm", "sea"]);
}

#[test]
fn an_ordinary_user_has_networks_by_pasta() {
    an_ordinary_user_has_networks_by("pasta", "slirp4netns");
}

#[test]
fn an_ordinary_user_has_networks_by_slirp4netns() {
    an_ordinary_user_has_networks_by("slirp4netns", "pasta");
}

/// Where there can be no way out there are containers all the same; it is there once it can be.
#[test]
fn a_way_out_that_fails_is_told_and_tried_again() {
    let Some(voyage) = Voyage::by("pasta", "slirp4netns") else { return };
    let sailor = &voyage.sailor;
    let may =
        |mode| fs::set_permissions(sailor.host.dir().join("tun"), fs::Permissions::from_mode(mode)).expect("chmod");
    may(0o600);
    voyage.serve("web", &[]);
    assert_eq!(network::briefly(|| voyage.from("web", "10.99.0.2")), None);
    let told = sailor.command(["info"]).run();
    let told = format!("{}{}", told.stdout(), told.stderr());
    assert!(told.contains("WARNING: No way out of this network, which is tried again and again: pasta: "), "{told}");
    may(0o666);
    eventually("it leads out", || voyage.from("web", "10.99.0.2").is_some());
    assert!(!sailor.command(["info"]).run().stderr().contains("No way out"));
}

/// With one id there is nobody else to be, and networks as well.
#[test]
fn networks_with_a_single_id() {
    let Some(sailor) = Sailor::new(false) else { return };
    sailor.hide("pasta");
    sailor.hide("slirp4netns");
    sailor.ok(["network", "create", "sea"]);
    sailor.ok(["run", "-d", "--name", "db", "--network", "sea", "-p", "18080:80", "busybox", "sh", "-c", WHO]);
    let wget = ["run", "--rm", "--network", "sea", "busybox", "wget", "-q", "-O-", "http://db/cgi-bin/who"];
    eventually("it is found by its name", || sailor.command(wget).run().status.success());
    assert!(from_here("127.0.0.1:18080").is_some());
    sailor.ok(["rm", "-f", "db"]);
    sailor.ok(["network", "rm", "sea"]);
}
