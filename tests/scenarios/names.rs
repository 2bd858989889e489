//! Names on networks of users, asked for by dig, by busybox's nslookup and by the C libraries: glibc's and musl's.

use crate::fixture::names::{NameServer, Say, inside, resolv_conf};
use crate::fixture::{Command, Host, Output, eventually, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

/// A container that does nothing, on a network.
fn idle(host: &Host, name: &str, network: &str, flags: &[&str]) -> String {
    let fixed = ["run", "--detach", "--init", "--name", name, "--network", network];
    host.ok(fixed.iter().chain(flags).chain(&["busybox", "sleep", "1000"]).copied())
}

fn address(host: &Host, name: &str, network: &str) -> String {
    let address = host.inspect(name, &format!("/NetworkSettings/Networks/{network}/IPAddress"));
    address.as_str().expect("an address").to_owned()
}

/// dig's words on a question asked in a container; one try.
fn dig(host: &Host, name: &str, question: &[&str]) -> String {
    let fixed = ["+tries=1", "+timeout=60", "+nocookie"];
    inside(host, name, "dig", &fixed.iter().chain(question).copied().collect::<Vec<_>>()).run().stdout()
}

/// The addresses, sorted, in one line.
fn short(host: &Host, name: &str, question: &[&str]) -> String {
    let said = dig(host, name, &question.iter().chain(&["+short"]).copied().collect::<Vec<_>>());
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    lines.join(" ")
}

/// The status that a question was answered with, and whether we say that we know.
fn status(host: &Host, name: &str, question: &[&str]) -> String {
    let said = dig(host, name, question);
    let find = |key: &str| {
        said.split(key).nth(1).map(|rest| rest.split([',', ';', '\n']).next().unwrap_or_default().trim().to_owned())
    };
    format!("{} {}", find("status:").unwrap_or(said.clone()), find("ANSWER:").unwrap_or_default())
}

/// What glibc finds.
fn getent(host: &Host, name: &str, wanted: &str) -> Option<String> {
    let output = inside(host, name, "getent", &["ahostsv4", wanted]).run();
    (output.code() == Some(0)).then(|| output.stdout().split_whitespace().next().unwrap_or_default().to_owned())
}

/// The process of this host's resolver.
fn resolver(host: &Host) -> Option<i32> {
    let run = host.run_dir();
    let is_it = |pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with("dhow\0shim\0resolver\0") && line.contains(run.to_str().expect("UTF-8"))
    };
    let pids = fs::read_dir("/proc").expect("read /proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| is_it(*pid))
}

const LOOPBACK: &str = "nameserver 127.0.0.53\nsearch harbour.example\n";

#[test]
fn containers_find_each_other() {
    let (Some(_file), Some(())) = (resolv_conf(LOOPBACK), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    let server = NameServer::start("127.0.0.53", |_| Say::Code(3));
    host.ok(["network", "create", "sea"]);
    host.ok(["network", "create", "lake"]);
    let id = idle(&host, "web", "sea", &["--network-alias", "www", "--hostname", "quay"]);
    idle(&host, "db", "name=sea,alias=data", &[]);
    idle(&host, "far", "lake", &[]);
    let web = address(&host, "web", "sea");
    for name in ["web", "WEB", "www", "quay", &id[..12], "web.sea", "www.SEA."] {
        assert_eq!(short(&host, "db", &[name]), web, "{name}");
        assert_eq!(short(&host, "db", &["+tcp", name]), web, "{name}");
    }
    assert_eq!(short(&host, "web", &["data"]), address(&host, "db", "sea"));
    assert_eq!(short(&host, "web", &["web"]), web, "its own name");
    // glibc, musl and busybox.
    assert_eq!(getent(&host, "db", "www"), Some(web.clone()));
    let said = host.ok(["exec", "db", "nslookup", "web."]);
    assert!(said.contains("127.0.0.11") && said.contains(&format!("Address: {web}")), "{said}");
    if need("musl-gcc").is_some() {
        let source = host.file(
            "find.c",
            "#include <netdb.h>\n#include <stdio.h>\n#include <arpa/inet.h>\n\
             int main(int n, char **a) { struct addrinfo *i, h = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};\n\
             int e = getaddrinfo(a[1], 0, &h, &i); if (e) return -e; char t[64];\n\
             for (; i; i = i->ai_next) puts(inet_ntop(AF_INET, &((struct sockaddr_in *)i->ai_addr)->sin_addr, t, 64));\n\
             return 0; }\n",
        );
        let (source, program) = (source.to_str().expect("UTF-8"), host.dir().join("find"));
        let program = program.to_str().expect("UTF-8");
        crate::fixture::tool("musl-gcc", ["-static", "-o", program, source]);
        assert_eq!(inside(&host, "db", program, &["www"]).ok(), web);
        assert_ne!(inside(&host, "db", program, &["far"]).run().code(), Some(0));
    }
    // Backwards, and what is known without an address of that kind.
    assert_eq!(short(&host, "db", &["-x", &web]), "web.sea.");
    assert_eq!(status(&host, "db", &["web", "AAAA"]), "NOERROR 0");
    assert_eq!(status(&host, "db", &["web", "MX"]), "NOERROR 0");
    assert_eq!(status(&host, "db", &["web"]), "NOERROR 1");
    // All of this without a word to anybody else.
    let asked: Vec<String> = server.asked().into_iter().filter(|line| !line.contains(" far")).collect();
    assert!(asked.is_empty(), "{asked:?}");
    // Who is on another network is nobody.
    assert_eq!(status(&host, "db", &["far"]), "NXDOMAIN 0");
    assert_eq!(server.asked(), ["A far udp"]);
    let dns = host.inspect("web", "/NetworkSettings/Networks/sea/DNSNames");
    assert_eq!(dns, json!(["web", "www", &id[..12], "quay"]));
    let said = host.ok(["exec", "web", "cat", "/etc/resolv.conf"]);
    assert_eq!(said, "nameserver 127.0.0.11\nsearch harbour.example\noptions ndots:0");
    // It is nobody, and goes with the last container.
    let pid = resolver(&host).expect("a resolver");
    let said = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    for line in ["Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    host.ok(["rm", "--force", "web", "db", "far"]);
    eventually("the resolver goes", || resolver(&host).is_none());
}

#[test]
fn many_under_one_name() {
    let (Some(_file), Some(())) = (resolv_conf("nameserver 127.0.0.53\n"), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    let six = host.ok(["network", "create", "--ipv6", "--subnet", "fd5e:a::/64", "sea"]);
    assert_eq!(six.len(), 64);
    let mut expected = Vec::new();
    for name in ["one", "two", "three"] {
        idle(&host, name, "sea", &["--network-alias", "app"]);
        expected.push(address(&host, name, "sea"));
    }
    expected.sort_unstable();
    assert_eq!(short(&host, "one", &["app"]), expected.join(" "));
    let found = short(&host, "one", &["app", "AAAA"]);
    assert_eq!(found.split(' ').count(), 3, "{found}");
    assert!(found.starts_with("fd5e:a::2"), "{found}");
    assert_eq!(short(&host, "one", &["-x", "fd5e:a::2"]), "one.sea.");
    // Not always the same one first.
    let first = || dig(&host, "one", &["app", "+short"]).lines().next().map(str::to_owned);
    let begun = first();
    eventually("another one is first", || first() != begun);
    // One that ends answers no more; one that comes back does.
    host.ok(["stop", "--time", "0", "two"]);
    assert_eq!(short(&host, "one", &["app"]).split(' ').count(), 2);
    host.ok(["start", "two"]);
    assert_eq!(short(&host, "one", &["app"]), {
        let mut now: Vec<String> = ["one", "two", "three"].map(|name| address(&host, name, "sea")).to_vec();
        now.sort_unstable();
        now.join(" ")
    });
}

#[test]
fn names_follow_their_containers() {
    let (Some(_file), Some(())) = (resolv_conf("nameserver 127.0.0.53\n"), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    let _server = NameServer::start("127.0.0.53", |_| Say::Code(3));
    host.ok(["network", "create", "sea"]);
    host.ok(["network", "create", "lake"]);
    idle(&host, "db", "sea", &[]);
    idle(&host, "web", "bridge", &[]);
    let resolv = || host.ok(["exec", "web", "cat", "/etc/resolv.conf"]);
    let before = resolv();
    assert!(!before.contains("127.0.0.11"), "{before}");
    // On its first network of a user's, while it runs: it asks the resolver from then on.
    host.ok(["network", "connect", "--alias", "www", "sea", "web"]);
    assert_eq!(resolv(), "nameserver 127.0.0.11\noptions ndots:0");
    assert_eq!(short(&host, "web", &["db"]), address(&host, "db", "sea"));
    assert_eq!(short(&host, "db", &["www"]), address(&host, "web", "sea"));
    host.ok(["network", "connect", "lake", "db"]);
    assert_eq!(status(&host, "web", &["db.lake"]), "NXDOMAIN 0");
    host.ok(["network", "connect", "lake", "web"]);
    assert_eq!(short(&host, "web", &["db.lake"]), address(&host, "db", "lake"));
    host.ok(["network", "disconnect", "sea", "db"]);
    assert_eq!(short(&host, "web", &["db"]), address(&host, "db", "lake"));
    host.ok(["rename", "db", "store"]);
    assert_eq!(short(&host, "web", &["store"]), address(&host, "store", "lake"));
    assert_eq!(status(&host, "web", &["db"]), "NXDOMAIN 0");
    host.ok(["restart", "--time", "0", "store"]);
    assert_eq!(short(&host, "web", &["store"]), address(&host, "store", "lake"));
    host.ok(["network", "disconnect", "sea", "web"]);
    host.ok(["network", "disconnect", "lake", "web"]);
    assert_eq!(resolv(), before);
    // What somebody wrote into it stays.
    host.ok(["exec", "web", "sh", "-c", "echo nameserver 1.2.3.4 >/etc/resolv.conf"]);
    host.ok(["network", "connect", "sea", "web"]);
    assert_eq!(resolv(), "nameserver 1.2.3.4");
}

#[test]
fn other_names_are_asked_of_the_hosts_servers() {
    let (Some(file), Some(())) = (resolv_conf(LOOPBACK), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    let many: Vec<Ipv4Addr> = (0..100).map(|n| Ipv4Addr::new(10, 1, 2, n)).collect();
    let server = NameServer::start("127.0.0.53", move |name| match name {
        "many.example" => Say::Addresses(many.clone()),
        "lies.example" => Say::Lies(Ipv4Addr::new(1, 2, 3, 4)),
        "failed.example" => Say::Code(2),
        "chart.harbour.example" | "chart.example" => Say::Addresses(vec![Ipv4Addr::new(1, 2, 3, 4)]),
        _ => Say::Code(3),
    });
    host.ok(["network", "create", "sea"]);
    idle(&host, "it", "sea", &[]);
    assert_eq!(short(&host, "it", &["chart.example"]), "1.2.3.4");
    assert_eq!(server.asked(), ["A chart.example udp"]);
    assert_eq!(status(&host, "it", &["nowhere.example"]), "NXDOMAIN 0");
    assert_eq!(status(&host, "it", &["chart.example", "AAAA"]), "NOERROR 0");
    assert_eq!(status(&host, "it", &["failed.example"]), "SERVFAIL 0");
    assert_eq!(short(&host, "it", &["lies.example"]), "1.2.3.4");
    assert_eq!(getent(&host, "it", "chart"), Some("1.2.3.4".to_owned()), "by the search domain");
    // What does not fit into a packet is asked for again over a connection.
    server.asked();
    assert!(dig(&host, "it", &["many.example", "+ignore"]).contains("flags: qr tc rd ra"));
    assert_eq!(short(&host, "it", &["many.example"]).split(' ').count(), 100);
    assert_eq!(server.asked(), ["A many.example udp", "A many.example udp", "A many.example tcp"]);
    // resolv.conf changes: the first server is silent, the second is not there, the third one knows.
    let second = NameServer::start("127.0.0.54", |_| Say::Nothing);
    let third = NameServer::start("127.0.0.56", |_| Say::Addresses(vec![Ipv4Addr::new(5, 6, 7, 8)]));
    file.write("nameserver 127.0.0.54\nnameserver 127.0.0.55\nnameserver 127.0.0.56\n");
    assert_eq!(short(&host, "it", &["chart.example"]), "5.6.7.8");
    assert_eq!(short(&host, "it", &["chart.example", "+tcp"]), "5.6.7.8");
    assert!(server.asked().is_empty() && !second.asked().is_empty());
    drop(third);
    assert_eq!(status(&host, "it", &["chart.example"]), "SERVFAIL 0");
    // One who says that it cannot, and one who can.
    let third = NameServer::start("127.0.0.56", |_| Say::Code(5));
    file.write("nameserver 127.0.0.56\nnameserver 127.0.0.53\n");
    assert_eq!(short(&host, "it", &["chart.example"]), "1.2.3.4");
    drop(third);
}

#[test]
fn servers_and_domains_may_be_given() {
    let (Some(_file), Some(())) = (resolv_conf(LOOPBACK), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    let server = NameServer::start("127.0.0.53", |_| Say::Code(3));
    host.ok(["network", "create", "--internal", "cave"]);
    host.ok(["network", "create", "sea"]);
    // A server in its own network, on port 53 of all addresses, which is the container's.
    let flags = ["--dns", "127.0.0.1", "--dns-search", "reef.example", "--dns-option", "ndots:2"];
    idle(&host, "it", "sea", &flags);
    let resolv = host.ok(["exec", "it", "cat", "/etc/resolv.conf"]);
    assert_eq!(resolv, "nameserver 127.0.0.11\nsearch reef.example\noptions ndots:2");
    let namespace = fs::File::open(format!("/proc/{}/ns/net", host.inspect("it", "/State/Pid"))).expect("its network");
    let own = thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("go there");
        NameServer::start("0.0.0.0", |name| match name {
            "chart.reef.example" => Say::Addresses(vec![Ipv4Addr::new(9, 9, 9, 9)]),
            _ => Say::Code(3),
        })
    });
    let own = own.join().expect("a server inside");
    for _ in 0..20 {
        assert_eq!(short(&host, "it", &["chart.reef.example"]), "9.9.9.9");
        assert_eq!(short(&host, "it", &["chart.reef.example", "+tcp"]), "9.9.9.9");
    }
    assert_eq!(getent(&host, "it", "chart"), Some("9.9.9.9".to_owned()), "by its domain");
    assert_eq!(status(&host, "it", &["rock"]), "NXDOMAIN 0");
    assert!(!own.asked().iter().any(|line| line.starts_with("A rock ")), "names without a dot are not asked for");
    assert_eq!(short(&host, "it", &["it"]), address(&host, "it", "sea"));
    assert!(server.asked().is_empty(), "the host's server is not asked");
    drop(own);
    // Where nothing leads out, nobody is asked.
    idle(&host, "inner", "cave", &[]);
    assert_eq!(short(&host, "inner", &["inner"]), address(&host, "inner", "cave"));
    assert_eq!(status(&host, "inner", &["chart.example"]), "SERVFAIL 0");
    assert!(server.asked().is_empty());
    host.ok(["network", "connect", "sea", "inner"]);
    assert_eq!(status(&host, "inner", &["chart.example"]), "NXDOMAIN 0");
}

#[test]
fn a_resolver_that_dies_is_replaced() {
    let (Some(_file), Some(())) = (resolv_conf("nameserver 127.0.0.53\n"), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "sea"]);
    for name in ["one", "two", "three"] {
        idle(&host, name, "sea", &[]);
    }
    let mut before = resolver(&host).expect("a resolver");
    for _ in 0..2 {
        kill(Pid::from_raw(before), Signal::SIGKILL).expect("kill it");
        for (asker, name) in [("one", "two"), ("two", "three"), ("three", "one")] {
            let expected = address(&host, name, "sea");
            eventually("it answers again", || short(&host, asker, &["+timeout=1", name]) == expected);
        }
        let now = resolver(&host).expect("another resolver");
        assert_ne!(now, before);
        before = now;
    }
    // With its shim goes the name.
    let shim = host.run(["top", "three"]);
    assert_eq!(shim.code(), Some(0), "{shim}");
    host.ok(["kill", "three"]);
    eventually("three is nobody", || short(&host, "one", &["+timeout=1", "three"]).is_empty());
}

/// A shim that executes itself at the moment at which it learns that the resolver has died does not forget it.
#[test]
fn a_resolver_that_dies_while_a_shim_settles_is_replaced() {
    let (Some(_file), Some(())) = (resolv_conf("nameserver 127.0.0.53\n"), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "sea"]);
    idle(&host, "it", "sea", &[]);
    let shim = host.shim("it");
    kill(shim, Signal::SIGSTOP).expect("stop it");
    kill(Pid::from_raw(resolver(&host).expect("a resolver")), Signal::SIGKILL).expect("kill it");
    // It settles a second after its start.
    thread::sleep(Duration::from_millis(1500));
    kill(shim, Signal::SIGCONT).expect("let it go on");
    let expected = address(&host, "it", "sea");
    eventually("it answers again", || short(&host, "it", &["+timeout=1", "it"]) == expected);
}

#[test]
fn hostile_packets_harm_nobody() {
    let (Some(_file), Some(())) = (resolv_conf("nameserver 127.0.0.53\n"), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "sea"]);
    idle(&host, "it", "sea", &[]);
    let before = resolver(&host).expect("a resolver");
    // Nothing, an answer, a name that leads to itself, one that never ends, lengths that lie, connections that stay open.
    let script = "import socket\n\
        at = ('127.0.0.11', 53)\n\
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        h = b'\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00'\n\
        for p in [b'', b'x', h, h + b'\\xc0\\x0c\\x00\\x01\\x00\\x01', h + b'\\x3f' + b'a' * 200, h[:4] + b'\\xff' * 8,\n\
                  h[:10] + b'\\xff\\xff' + b'\\x00\\x00\\x01\\x00\\x01', h[:2] + b'\\x81' + h[3:], b'\\xff' * 4000]:\n\
            \x20   u.sendto(p, at)\n\
            \x20   t = socket.create_connection(at)\n\
            \x20   t.sendall(len(p).to_bytes(2, 'big') + p + b'\\xff\\xff' + p)\n\
            \x20   t.close()\n\
        held = [socket.create_connection(at) for _ in range(60)]\n\
        for t in held: t.settimeout(60)\n\
        q = h + b'\\x02it\\x00\\x00\\x01\\x00\\x01'\n\
        held[0].sendall(len(q).to_bytes(2, 'big') + q[:5]); held[0].sendall(q[5:])\n\
        n = int.from_bytes(held[0].recv(2), 'big')\n\
        print(held[0].recv(n)[:2] == h[:2])\n";
    if need("python3").is_none() {
        return;
    }
    let said: Output = inside(&host, "it", "python3", &["-c", script]).run();
    assert_eq!(said.ok(), "True");
    assert_eq!(short(&host, "it", &["it"]), address(&host, "it", "sea"));
    assert_eq!(resolver(&host), Some(before));
}

/// Sends questions to the resolver from a container, and reads no answer for a while: how many at once over how many
/// connections, or in packets where there are none.
fn floods(host: &Host, name: &str, asked: &str, connections: usize) -> Command {
    let script = "import socket, sys, time\n\
        at = ('127.0.0.11', 53)\n\
        labels = b''.join(len(label).to_bytes(1, 'big') + label.encode() for label in sys.argv[1].split('.'))\n\
        def q(n): return n.to_bytes(2, 'big') + b'\\x01\\x00\\x00\\x01' + bytes(6) + labels + b'\\x00\\x00\\x01\\x00\\x01'\n\
        held = []\n\
        for _ in range(int(sys.argv[2])):\n\
            \x20   t = socket.socket()\n\
            \x20   t.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)\n\
            \x20   t.connect(at)\n\
            \x20   t.sendall(b''.join(len(q(n)).to_bytes(2, 'big') + q(n) for n in range(120)))\n\
            \x20   held.append(t)\n\
            \x20   time.sleep(1)\n\
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        for n in range(0 if held else 128): u.sendto(q(n), at)\n\
        print('sent', flush=True)\n\
        time.sleep(0 if held else 2)\n";
    inside(host, name, "python3", &["-c", script, asked, &connections.to_string()])
}

#[test]
fn who_asks_much_and_reads_nothing_takes_neither_memory_nor_the_turns_of_others() {
    let (Some(_file), Some(()), Some(())) = (resolv_conf(LOOPBACK), need("dig"), need("python3")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    let many: Vec<Ipv4Addr> = (0..4000u16).map(|n| Ipv4Addr::from(0x0a00_0000 + u32::from(n))).collect();
    let _server = NameServer::start("127.0.0.53", move |name| match name {
        "many.example" => Say::Addresses(many.clone()),
        "chart.example" => Say::Addresses(vec![Ipv4Addr::new(1, 2, 3, 4)]),
        _ => Say::Nothing,
    });
    host.ok(["network", "create", "sea"]);
    let crowd: Vec<String> = (0..8).map(|number| format!("it{number}")).collect();
    crowd.iter().chain([&"other".to_owned()]).for_each(|name| drop(idle(&host, name, "sea", &[])));
    let process = resolver(&host).expect("a resolver");
    let peak = || -> usize {
        let text = fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    };
    let before = peak();
    assert_eq!(floods(&host, "it0", "many.example", 6).run().ok(), "sent");
    let grown = peak() - before;
    assert!(grown < 16 << 10, "{grown} KiB");
    assert_eq!(short(&host, "other", &["chart.example"]), "1.2.3.4");
    // Eight of them ask all that may be asked at once, of a server that says nothing.
    thread::scope(|scope| {
        let floods: Vec<_> =
            crowd.iter().map(|name| scope.spawn(|| floods(&host, name, "silent.example", 0).run().ok())).collect();
        thread::sleep(Duration::from_secs(1));
        assert_eq!(short(&host, "other", &["chart.example"]), "1.2.3.4");
        floods.into_iter().for_each(|flood| assert_eq!(flood.join().expect("it ends"), "sent"));
    });
    assert_eq!(resolver(&host), Some(process));
}

#[test]
fn links_on_the_default_bridge() {
    let Some(host) = Host::with_busybox() else { return };
    let db = ["run", "--detach", "--name", "db", "--hostname", "vault", "--expose", "5432", "--env", "COOK=cat"];
    host.ok(db.iter().chain(&["busybox", "sleep", "1000"]));
    let web = |name: &'static str| ["create", "--name", name, "--link", "db:my-pg", "busybox", "sleep", "1000"];
    host.ok(web("web"));
    host.ok(web("late"));
    host.ok(["start", "web"]);
    let line = |alias: &str| {
        let text = host.ok(["exec", "web", "cat", "/etc/hosts"]);
        text.lines().find(|line| line.contains(alias)).map(|line| line.replace('\t', " "))
    };
    let expected = |names: &str| Some(format!("{} {names}", address(&host, "db", "bridge")));
    assert_eq!(line("my-pg"), expected("my-pg vault db"));
    for words in [&["exec", "web", "env"][..], &["exec", "web", "cat", "/proc/1/environ"]] {
        let said = host.ok(words);
        for entry in ["MY_PG_PORT=tcp://172.17.0.2:5432", "MY_PG_NAME=/web/my-pg", "MY_PG_ENV_COOK=cat"] {
            assert!(said.split(['\0', '\n']).any(|line| line == entry), "{entry}: {said}");
        }
    }
    assert_eq!(host.inspect("web", "/HostConfig/Links"), json!(["/db:/web/my-pg"]));
    // A link to one that has another's network is a link to that one.
    for (name, of) in [("tender", "container:db"), ("dinghy", "container:tender")] {
        host.ok(["run", "--detach", "--name", name, "--network", of, "busybox", "sleep", "1000"]);
    }
    let said = host.ok(["run", "--rm", "--name", "to", "--link", "dinghy:my-pg", "busybox", "cat", "/etc/hosts"]);
    assert!(said.replace('\t', " ").lines().any(|line| Some(line) == expected("my-pg vault db").as_deref()), "{said}");
    host.ok(["rm", "--force", "dinghy", "tender"]);
    // Under another address it is found again.
    host.ok(["restart", "--time", "0", "db"]);
    assert_eq!(line("my-pg"), expected("my-pg vault db"));
    host.ok(["stop", "--time", "0", "db"]);
    let said = host.refused(1, ["start", "late"]);
    assert!(said.contains("Cannot link to a non running container: /db AS /late/my-pg"), "{said}");
    host.ok(["start", "db"]);
    assert_ne!(address(&host, "db", "bridge"), "172.17.0.2");
    assert_eq!(line("my-pg"), expected("my-pg vault db"));
    host.ok(["rename", "db", "store"]);
    assert_eq!(host.inspect("web", "/HostConfig/Links"), json!(["/store:/web/my-pg"]));
    assert!(line("my-pg").is_some_and(|line| line.ends_with("my-pg vault store")));
    let said = host.refused(1, ["rm", "--link", "web"]);
    assert!(said.contains("cannot remove the default link name of the container"), "{said}");
    host.ok(["rm", "--link", "web/my-pg"]);
    assert_eq!((line("my-pg"), host.inspect("web", "/HostConfig/Links")), (None, json!(null)));
    for (words, told) in [
        (&["--link", "nobody:x", "busybox"][..], "could not get container for nobody"),
        (&["--link", "a:b:c", "busybox"], "bad format for links: a:b:c"),
        (&["--network", "host", "--link", "web", "busybox"], "can't be used with links"),
    ] {
        let words: Vec<&str> = ["create"].iter().chain(words).copied().collect();
        let output = host.run(words);
        assert!(output.code() != Some(0) && output.stderr().contains(told), "{output}");
    }
}

#[test]
fn links_on_networks_of_users() {
    let (Some(_file), Some(())) = (resolv_conf("nameserver 127.0.0.53\n"), need("dig")) else { return };
    let Some(host) = Host::with_busybox() else { return };
    let _server = NameServer::start("127.0.0.53", |_| Say::Code(3));
    host.ok(["network", "create", "sea"]);
    host.ok(["network", "create", "lake"]);
    idle(&host, "db", "sea", &[]);
    idle(&host, "web", "sea", &["--link", "db:pg", "--link", "later"]);
    assert_eq!(short(&host, "web", &["pg"]), address(&host, "db", "sea"));
    assert_eq!(status(&host, "db", &["pg"]), "NXDOMAIN 0", "nobody else knows it");
    assert_eq!(status(&host, "web", &["later"]), "NXDOMAIN 0");
    idle(&host, "later", "sea", &[]);
    assert_eq!(short(&host, "web", &["later"]), address(&host, "later", "sea"));
    host.ok(["rename", "db", "store"]);
    assert_eq!(short(&host, "web", &["pg"]), address(&host, "store", "sea"));
    host.ok(["network", "connect", "lake", "later"]);
    host.ok(["network", "connect", "--link", "later:deep", "lake", "web"]);
    assert_eq!(short(&host, "web", &["deep"]), address(&host, "later", "lake"));
}

#[test]
fn this_host_has_a_name() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "sea"]);
    let server = std::net::TcpListener::bind("0.0.0.0:8099").expect("listen");
    thread::spawn(move || {
        for mut client in server.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut client, b"here\n");
        }
    });
    for network in ["bridge", "sea"] {
        let line = "timeout 60 nc host.docker.internal 8099 </dev/null";
        let flags = ["run", "--rm", "--network", network, "--add-host", "host.docker.internal:host-gateway"];
        let words = flags.into_iter().chain(["busybox", "sh", "-c", line]);
        assert_eq!(host.ok(words), "here", "{network}");
    }
}
