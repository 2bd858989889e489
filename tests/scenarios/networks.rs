//! Networks with real traffic: between containers, with this host, and with a second machine on a LAN.

use crate::fixture::network::{
    Neighbour, address, ask, briefly, datagram, from_container, from_here, from_there, ip, links, serve,
    serve_datagrams,
};
use crate::fixture::{Command, Host, eventually, need, tool};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_container_has_an_address_and_a_way_out() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(server) = neighbour.serve() else { return };
    let line = "ip -4 address show eth0 | sed -n 's/.*inet //p'; ip route | grep default; grep $(hostname) /etc/hosts; \
                cat /sys/class/net/eth0/address; ping -c 1 -W 5 10.99.0.2 >/dev/null && echo reached";
    let said = host.ok(["run", "--rm", "busybox", "sh", "-c", line]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("172.17.0.2/16 brd 172.17.255.255"), "{said}");
    assert_eq!(lines[1].trim(), "default via 172.17.0.1 dev eth0", "{said}");
    assert!(lines[2].starts_with("172.17.0.2\t"), "{said}");
    // The neighbour's default route leads here, so the answer would come back to the container's own address too.
    assert_eq!(&lines[3..], ["02:42:ac:11:00:02", "reached"], "{said}");
    // The next one gets the next address, and inspect tells it as the kernel does.
    let id = host.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    assert_eq!(address(&host, "it"), "172.17.0.3");
    assert_eq!(from_container(&host, "it", "10.99.0.2").as_deref(), Some("10.99.0.1"), "it is seen as this host");
    for (pointer, expected) in [
        ("/HostConfig/NetworkMode", json!("bridge")),
        ("/NetworkSettings/IPAddress", json!("172.17.0.3")),
        ("/NetworkSettings/IPPrefixLen", json!(16)),
        ("/NetworkSettings/Gateway", json!("172.17.0.1")),
        ("/NetworkSettings/MacAddress", json!("02:42:ac:11:00:03")),
        ("/NetworkSettings/Networks/bridge/IPAddress", json!("172.17.0.3")),
        ("/NetworkSettings/Ports", json!({})),
    ] {
        assert_eq!(host.inspect("it", pointer), expected, "{pointer}");
    }
    let network = host.inspect("bridge", "/Containers");
    assert_eq!(network[&id]["IPv4Address"], "172.17.0.3/16", "{network}");
    assert_eq!(host.inspect("bridge", "/IPAM/Config"), json!([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]));
    assert!(host.ok(["network", "ls"]).contains("bridge    bridge    local"));
    host.ok(["stop", "-t", "0", "it"]);
    assert_eq!(host.inspect("it", "/NetworkSettings/IPAddress"), "");
    assert_eq!(host.inspect("bridge", "/Containers"), json!({}));
    drop((server, neighbour));
}

#[test]
fn nobody_outside_reaches_what_is_not_published() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let inside = serve(&host, "it", &[]);
    host.ok(["run", "--detach", "--name", "other", "busybox", "sleep", "1000"]);
    let other = address(&host, "other");
    assert_eq!(from_container(&host, "other", &inside).as_deref(), Some(other.as_str()));
    assert_eq!(from_here(&inside).as_deref(), Some("172.17.0.1"));
    // The neighbour's default route leads here, and this host forwards.
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
    assert_eq!(briefly(|| from_there(&neighbour, &inside)), None);
    neighbour.run("ip", &["route", "add", "127.5.0.0/16", "via", "10.99.0.1"]).run();
    assert_eq!(briefly(|| from_there(&neighbour, "127.5.0.1")), None);
    drop(neighbour);
}

#[test]
fn this_host_forwards_for_its_containers_only() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(far) = Neighbour::on("far0", 98) else { return };
    let reaches = || neighbour.run("ping", &["-c", "1", "-W", "1", "10.98.0.2"]).run().code() == Some(0);
    if need("ping").is_none() {
        return;
    }
    assert!(!briefly(reaches), "this host does not forward yet");
    host.ok(["run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", "10.98.0.2"]);
    assert!(!briefly(reaches), "it forwards for others now");
    drop(far);
}

#[test]
fn what_is_nobodys_of_ours_is_forwarded_where_that_is_said() {
    let (Some(one), Some(two)) = (Host::with_busybox(), Host::with_busybox()) else { return };
    // As a bridge of another engine's, with a machine on it.
    let (Some(neighbour), Some(far)) = (Neighbour::new(), Neighbour::on("docker1", 98)) else { return };
    ip(&["link", "add", "docker0", "type", "bridge"]);
    ip(&["link", "set", "docker1", "master", "docker0"]);
    ip(&["address", "flush", "dev", "docker1"]);
    ip(&["address", "add", "10.98.0.1/24", "dev", "docker0"]);
    ip(&["link", "set", "docker0", "up"]);
    let (Some(server), Some(ours)) = (far.serve(), neighbour.serve()) else { return };
    let reaches = || from_there(&neighbour, "10.98.0.2").is_some() || from_there(&far, "10.99.0.2").is_some();
    let run = |host: &Host, keys: &str, words: &[&str]| {
        let file = host.file("daemon.json", keys);
        host.ok(["--config", file.to_str().expect("UTF-8")].iter().chain(words).copied())
    };
    serve(&one, "it", &[]);
    assert!(!briefly(reaches));
    let told = one.ok(["info", "--format", "{{json .Warnings}}"]);
    assert!(told.contains("nothing is forwarded for docker0 (ip-forward-no-drop"), "{told}");
    // Another store finds forwarding on. Its containers have their way out and their ports, whatever its bridges are called.
    two.ok(["network", "create", "--opt", "com.docker.network.bridge.name=quay", "web"]);
    let inside = serve(&two, "it", &["--network", "web", "-p", "8080:80"]);
    assert_eq!(from_container(&two, "it", "10.98.0.2").as_deref(), Some("10.98.0.1"));
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    assert_eq!(briefly(|| (from_there(&neighbour, &inside), from_container(&one, "it", &inside))), (None, None));
    assert!(!briefly(reaches));
    // It is a setting, which holds for what is made with it, and still after a reboot.
    let words = ["create", "--name", "more", "busybox", "sleep", "1000"];
    run(&one, r#"{"ip-forward-no-drop": true}"#, &words);
    assert!(reaches());
    assert_eq!(briefly(|| from_there(&neighbour, &inside)), None);
    assert!(!one.ok(["info", "--format", "{{json .Warnings}}"]).contains("ip-forward-no-drop"));
    run(&one, "{}", &["run", "--rm", "busybox", "true"]);
    assert!(!briefly(reaches));
    one.ok(["start", "more"]);
    assert!(reaches());
    for host in [&one, &two] {
        host.ok(["rm", "--force", "it"]);
    }
    one.ok(["rm", "--force", "more"]);
    drop((server, ours));
}

#[test]
fn a_host_without_containers_is_as_it_was() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("nft")) else { return };
    const SETTINGS: [&str; 4] =
        ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/lan0/accept_ra", "ipv6/conf/lan0/forwarding"];
    let now = || {
        SETTINGS.map(|name| fs::read_to_string(Path::new("/proc/sys/net").join(name)).expect("read").trim().to_owned())
    };
    let has_table = || tool("nft", ["list", "tables"]).contains("inet dhow-");
    assert_eq!(now(), ["0", "0", "1", "0"]);
    host.ok(["network", "create", "--ipv6", "both"]);
    host.ok(["run", "--detach", "--name", "first", "busybox", "sleep", "1000"]);
    assert_eq!(now(), ["1", "1", "2", "1"]);
    let ended = Instant::now();
    host.ok(["rm", "--force", "first"]);
    // A start soon after finds the rules.
    assert!(has_table() || ended.elapsed() > Duration::from_secs(1));
    host.ok(["run", "--rm", "--network", "both", "busybox", "true"]);
    host.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    thread::sleep(Duration::from_millis(1500));
    assert!(has_table(), "somebody is there");
    host.ok(["stop", "-t", "0", "it"]);
    eventually("nothing is left", || !has_table());
    assert_eq!(now(), ["0", "0", "1", "0"]);
    // One link forwarded before.
    fs::write("/proc/sys/net/ipv6/conf/lan0/forwarding", "1").expect("write");
    host.ok(["start", "it"]);
    assert_eq!(now(), ["1", "1", "2", "1"]);
    host.ok(["kill", "it"]);
    eventually("nothing is left", || !has_table());
    assert_eq!(now(), ["0", "0", "1", "1"]);
    // What somebody else has changed since stays.
    host.ok(["start", "it"]);
    fs::write("/proc/sys/net/ipv6/conf/lan0/accept_ra", "0").expect("write");
    host.ok(["rm", "--force", "it"]);
    eventually("nothing is left", || !has_table());
    assert_eq!(now(), ["0", "0", "0", "1"]);
    drop(neighbour);
}

#[test]
fn forwarding_stays_for_another_stores_containers() {
    let (Some(one), Some(two), Some(())) = (Host::with_busybox(), Host::with_busybox(), need("nft")) else { return };
    let (Some(neighbour), Some(far)) = (Neighbour::new(), Neighbour::on("far0", 98)) else { return };
    let tables = || tool("nft", ["list", "tables"]).lines().count();
    let forwards = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim() == "1";
    let passes = || neighbour.run("busybox", &["ping", "-c", "1", "-W", "2", "10.98.0.2"]).run().code() == Some(0);
    let goes_out = |host: &Host| host.run(["exec", "it", "ping", "-c", "1", "-W", "5", "10.99.0.2"]).code() == Some(0);
    // There and back: who has inherited it bequeaths it.
    one.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    for (leaves, stays) in [(&one, &two), (&two, &one)] {
        stays.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
        assert_eq!(tables(), 2);
        leaves.ok(["rm", "--force", "it"]);
        eventually("its table is gone, and no command was asked", || tables() == 1);
        assert!(forwards() && goes_out(stays), "the other one's containers live by it");
        assert!(!passes(), "nobody else does");
    }
    // Both at once: each may be the other's heir.
    two.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    thread::scope(|scope| {
        for host in [&one, &two] {
            scope.spawn(|| host.ok(["rm", "--force", "it"]));
        }
    });
    eventually("all is as it was", || tables() == 0 && !forwards());
    drop((neighbour, far));
}

#[test]
fn where_forwarding_was_on_it_is_left_as_it_was() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("nft")) else { return };
    let Some(far) = Neighbour::on("far0", 98) else { return };
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("turn forwarding on");
    tool("nft", ["add table inet theirs { chain theirs { type filter hook forward priority 0 ; } ; }"]);
    let theirs = tool("nft", ["list", "table", "inet", "theirs"]);
    host.ok(["run", "--detach", "--name", "it", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let ping = || neighbour.run("busybox", &["ping", "-c", "1", "-W", "2", "10.98.0.2"]).run().code();
    assert_eq!(ping(), Some(0), "others are forwarded as before");
    assert!(tool("nft", ["list", "tables"]).contains("inet dhow-"));
    host.ok(["rm", "--force", "it"]);
    // Nothing of ours is left, and theirs is as it was.
    eventually("nothing of ours is left", || tool("nft", ["list", "ruleset"]) == theirs);
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
    drop(far);
}

#[test]
fn no_address_is_given_twice() {
    let Some(host) = Host::with_busybox() else { return };
    let host = &host;
    thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || {
                host.ok(["run", "--detach", "--name", &format!("c{number}"), "busybox", "sleep", "1000"]);
            });
        }
    });
    let mut all: Vec<String> = (0..6).map(|number| address(host, &format!("c{number}"))).collect();
    all.sort();
    let expected: Vec<String> = (2..8).map(|number| format!("172.17.0.{number}")).collect();
    assert_eq!(all, expected);
    // What a killed shim held is free for the next command that looks.
    for number in 0..6 {
        host.ok(["rm", "--force", &format!("c{number}")]);
    }
    host.ok(["ps"]);
    let run = fs::read_dir(host.run_dir().join("networks")).expect("networks").flatten();
    let left: Vec<_> =
        run.flat_map(|it| fs::read_dir(it.path()).expect("list").flatten()).map(|it| it.file_name()).collect();
    assert_eq!(left, [".last"]);
}

#[test]
fn a_restart_keeps_namespace_address_and_ports() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "readlink /proc/self/ns/net; ip -4 -o address show eth0; exit 1";
    let args =
        ["run", "--detach", "--name", "it", "--restart", "on-failure:2", "-p", "8080:80", "busybox", "sh", "-c", line];
    host.ok(args);
    eventually("it has been started again twice", || host.inspect("it", "/State/Status") == "exited");
    let said = host.ok(["logs", "it"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    assert!(lines.chunks(2).all(|run| run == &lines[..2]), "{said}");
    // Then all of it is given back.
    host.ok(["run", "--rm", "-p", "8080:80", "busybox", "true"]);
}

#[test]
fn two_stores_do_not_meet() {
    let (Some(one), Some(two)) = (Host::with_busybox(), Host::with_busybox()) else { return };
    let first = serve(&one, "it", &[]);
    let second = serve(&two, "it", &[]);
    assert_eq!((first.as_str(), second.as_str()), ("172.17.0.2", "172.18.0.2"));
    assert_eq!((from_here(&first).as_deref(), from_here(&second).as_deref()), (Some("172.17.0.1"), Some("172.18.0.1")));
    assert_eq!(briefly(|| from_container(&one, "it", &second)), None);
    one.ok(["rm", "--force", "it"]);
    assert_eq!(from_here(&second).as_deref(), Some("172.18.0.1"), "the other store goes on");
    let bridges = links().into_iter().filter(|name| name.starts_with("dhow-")).count();
    assert_eq!(bridges, 2);
}

#[test]
fn stores_that_choose_at_once_choose_apart() {
    let Some(one) = Host::with_busybox() else { return };
    let hosts: Vec<Host> = std::iter::once(one).chain((1..3).filter_map(|_| Host::with_busybox())).collect();
    // Nobody shall have to wait for room.
    let pools = r#"{"default-address-pools": [{"base": "10.96.0.0/16", "size": 24}]}"#;
    let files: Vec<_> = hosts.iter().map(|host| host.file("daemon.json", pools)).collect();
    let each = |words: &[&str]| {
        let all: Vec<_> = hosts
            .iter()
            .zip(&files)
            .map(|(host, file)| {
                host.dhow(["--config", file.to_str().expect("UTF-8")].iter().chain(words).copied()).spawn()
            })
            .collect();
        all.into_iter().for_each(|one| drop(one.wait().ok()));
    };
    let subnet = |host: &Host, name: &str| host.inspect(name, "/IPAM/Config/0/Subnet").to_string();
    each(&["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    let mut seen: Vec<String> = hosts.iter().map(|host| subnet(host, "bridge")).collect();
    for round in 0..20 {
        if round == 1 {
            each(&["rm", "--force", "it"]);
        }
        each(&["network", "create", "web"]);
        seen.extend(hosts.iter().map(|host| subnet(host, "web")));
        seen.sort();
        let all = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), all, "in round {round}: {seen:?}");
        each(&["network", "rm", "web"]);
        seen.clear();
    }
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let inside = serve(&host, "it", &["-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    host.ok(["run", "--detach", "--name", "other", "busybox", "sleep", "1000"]);
    // From outside, under the client's own address.
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    assert_eq!(briefly(|| from_there(&neighbour, "10.99.0.1:8081")), None, "that one is for this host");
    for address in ["127.0.0.1:8080", "127.0.0.1:8081", "10.99.0.1:8080"] {
        assert!(from_here(address).is_some(), "{address}");
    }
    assert_eq!(from_here("10.99.0.1:8080").as_deref(), Some("10.99.0.1"));
    for (name, address) in [("other", "10.99.0.1:8080"), ("other", "172.17.0.1:8080"), ("it", "172.17.0.1:8080")] {
        assert!(from_container(&host, name, address).is_some(), "{name} to {address}");
    }
    assert_eq!(briefly(|| from_container(&host, "other", "127.0.0.1:8081")), None, "that is its own loopback");
    let ports = host.inspect("it", "/NetworkSettings/Ports");
    let binding = |ip: &str, port: &str| json!({"HostIp": ip, "HostPort": port});
    assert_eq!(
        ports,
        json!({"80/tcp": [binding("0.0.0.0", "8080"), binding("::", "8080"), binding("127.0.0.1", "8081")]})
    );
    assert_eq!(host.ok(["port", "it"]), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n80/tcp -> 127.0.0.1:8081");
    let listed = host.ok(["ps", "--filter", "name=it", "--format", "{{.Ports}}"]);
    assert_eq!(listed, "0.0.0.0:8080->80/tcp, 127.0.0.1:8081->80/tcp, [::]:8080->80/tcp");
    // A program of the host cannot take it.
    let taken = std::net::TcpListener::bind("0.0.0.0:8080").expect_err("the port is taken");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    host.ok(["stop", "-t", "0", "it"]);
    assert_eq!(briefly(|| from_there(&neighbour, "10.99.0.1:8080")), None);
    drop(std::net::TcpListener::bind("0.0.0.0:8080").expect("the port is free"));
    // The same ports, at whatever address it gets now.
    host.ok(["start", "it"]);
    assert_ne!(address(&host, "it"), inside);
    eventually("it serves", || from_there(&neighbour, "10.99.0.1:8080").as_deref() == Some("10.99.0.2"));
}

#[test]
fn ports_that_are_taken_are_refused_before_anything_is_made() {
    let Some(host) = Host::with_busybox() else { return };
    // The first one of all: nothing of a network is made for it.
    let ours = || links().into_iter().filter(|name| name.starts_with("dhow")).collect::<Vec<_>>();
    let forwards = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("read");
    let before = forwards();
    let program = std::net::TcpListener::bind("0.0.0.0:8080").expect("listen");
    host.refused(125, ["run", "--name", "it", "-p", "8080:80", "busybox", "echo", "ran"]);
    assert_eq!((ours(), forwards()), (Vec::<String>::new(), before.clone()));
    let leases = || fs::read_dir(host.run_dir().join("networks")).map_or(0, |all| all.count());
    assert_eq!(leases(), 0);
    drop(program);
    // Nor is any left of a start that fails later.
    host.refused(127, ["run", "--rm", "busybox", "/none"]);
    eventually("forwarding is as it was", || forwards() == before);
    host.ok(["rm", "it"]);
    host.ok(["run", "--detach", "--name", "first", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let run = |port: &str| host.refused(125, ["run", "--rm", "--name", "it", "-p", port, "busybox", "echo", "ran"]);
    let said = run("8080:80");
    assert!(said.contains("driver failed programming external connectivity on endpoint it ("), "{said}");
    assert!(said.ends_with("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{said}");
    assert!(run("127.0.0.1:8080:81").ends_with("Bind for 127.0.0.1:8080 failed: port is already allocated"));
    let program = std::net::TcpListener::bind("127.0.0.1:8090").expect("listen");
    let said = run("8090:80");
    assert!(said.contains("failed to bind host port for 0.0.0.0:8090:172.17.0."), "{said}");
    assert!(said.ends_with(":80/tcp: address already in use"), "{said}");
    drop(program);
    host.ok(["run", "--rm", "-p", "8090:80", "-p", "8080:80/udp", "busybox", "true"]);
    // Of a range the first that is free; without a port one of the kernel's choice.
    host.ok([
        "run",
        "--detach",
        "--name",
        "range",
        "-p",
        "8080-8082:80",
        "-P",
        "--expose",
        "90",
        "busybox",
        "sleep",
        "1000",
    ]);
    let shown = host.ok(["port", "range"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[..2] == ["80/tcp -> 0.0.0.0:8081", "80/tcp -> [::]:8081"]
            && lines[2].starts_with("90/tcp -> 0.0.0.0:")
            && lines[3..] == [lines[2].replace("0.0.0.0", "[::]")],
        "{shown}"
    );
}

#[test]
fn datagrams_reach_their_port() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(()) = need("python3") else { return };
    host.ok(["run", "--detach", "--name", "it", "-p", "5353:53/udp", "busybox", "sleep", "1000"]);
    let server = serve_datagrams(&host, "it", 53);
    let line = datagram("10.99.0.1", 5353);
    let there = || ask(neighbour.run("python3", &["-c", &line]));
    eventually("it answers", || there().as_deref() == Some("10.99.0.2"));
    let here = datagram("127.0.0.1", 5353);
    eventually("it answers here", || ask(Command::new("python3", ["-c", &here])).as_deref() == Some("172.17.0.1"));
    drop(server);
}

#[test]
fn a_flush_of_the_firewall_is_mended_where_no_port_is_published() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("nft")) else { return };
    let Some(server) = neighbour.serve() else { return };
    let address = serve(&host, "it", &[]);
    host.ok(["network", "create", "web"]);
    host.ok(["run", "--detach", "--name", "other", "--network", "web", "busybox", "sleep", "1000"]);
    let watcher = || {
        let bytes = fs::read(host.run_dir().join("firewall.watch")).unwrap_or_default();
        bytes.try_into().map_or(0, i32::from_ne_bytes)
    };
    eventually("somebody watches", || watcher() != 0);
    let closed = || {
        briefly(|| from_there(&neighbour, &address).is_none() && from_container(&host, "other", &address).is_none())
            && from_container(&host, "other", "10.99.0.2").as_deref() == Some("10.99.0.1")
    };
    assert!(closed());
    for _ in 0..2 {
        tool("nft", ["flush", "ruleset"]);
        eventually("all is as it was", closed);
    }
    let first = watcher();
    assert!(first == host.shim("it").as_raw() || first == host.shim("other").as_raw());
    // A restart gives nothing away; and when the one that watches ends, the other one takes over.
    host.ok(["restart", "--time", "0", "it", "other"]);
    eventually("somebody watches", || [host.shim("it").as_raw(), host.shim("other").as_raw()].contains(&watcher()));
    let last = if watcher() == host.shim("it").as_raw() { "it" } else { "other" };
    host.ok(["rm", "--force", last]);
    let left = host.shim(if last == "it" { "other" } else { "it" }).as_raw();
    eventually("the other one watches", || watcher() == left);
    tool("nft", ["flush", "ruleset"]);
    eventually("there is a table again", || tool("nft", ["list", "tables"]).contains("dhow"));
    drop(server);
}

#[test]
fn a_subnet_that_the_host_uses_is_left_alone() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("ip")) else { return };
    ip(&["link", "add", "theirs", "type", "bridge"]);
    ip(&["address", "add", "172.17.4.1/24", "dev", "theirs"]);
    ip(&["link", "set", "theirs", "up"]);
    ip(&["route", "add", "172.18.0.0/15", "dev", "theirs"]);
    host.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    assert_eq!(address(&host, "it"), "172.20.0.2");
}

/// As after a reboot: bridges are made anew by who needs them, and somebody else may have come first.
#[test]
fn a_subnet_that_the_host_has_come_to_use_is_left_to_it() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("ip")) else { return };
    let pools = r#"{"default-address-pools": [{"base": "10.80.0.0/16", "size": 24}]}"#;
    let file = host.file("daemon.json", pools);
    let with_pools = |words: &[&str]| {
        let config = ["--config", file.to_str().expect("UTF-8")];
        host.run(config.iter().chain(words).copied())
    };
    let address = "ip -o -4 address show eth0 | sed 's/.*inet \\([^ ]*\\).*/\\1/'";
    let run = |network: &str| with_pools(&["run", "--rm", "--network", network, "busybox", "sh", "-c", address]);
    assert_eq!(run("bridge").ok(), "10.80.0.2/24");
    with_pools(&["network", "create", "web"]).ok();
    with_pools(&["network", "create", "--subnet", "10.80.2.0/24", "asked"]).ok();
    assert_eq!((run("web").ok().as_str(), run("asked").ok().as_str()), ("10.80.1.2/24", "10.80.2.2/24"));
    for link in links().iter().filter(|link| link.starts_with("br-") || link.starts_with("dhow")) {
        ip(&["link", "delete", link]);
    }
    for (link, address) in [("theirs0", "10.80.0.1/24"), ("theirs1", "10.80.1.9/24"), ("theirs2", "10.80.2.0/25")] {
        ip(&["link", "add", link, "type", "bridge"]);
        ip(&["address", "add", address, "dev", link]);
        ip(&["link", "set", link, "up"]);
    }
    // What nobody asked for moves, and stays in the pools that were said.
    assert_eq!(run("bridge").ok(), "10.80.3.2/24");
    assert_eq!(run("web").ok(), "10.80.4.2/24");
    assert_eq!(host.inspect("web", "/IPAM/Config"), json!([{"Subnet": "10.80.4.0/24", "Gateway": "10.80.4.1"}]));
    let output = run("asked");
    assert!(output.code() == Some(125) && output.stderr().contains("Pool overlaps with other one"), "{output}");
    ip(&["link", "delete", "theirs2"]);
    assert!(run("asked").ok().starts_with("10.80.2."));
    // It stays where it is once it is there, also with other pools.
    assert!(host.ok(["run", "--rm", "--network", "web", "busybox", "sh", "-c", address]).starts_with("10.80.4."));
}

#[test]
fn neighbours_hear_of_a_new_hardware_address() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("ip")) else { return };
    host.ok(["network", "create", "--subnet", "10.77.0.0/24", "--ipv6", "--subnet", "fd77::/64", "sea"]);
    let start = |mac: &str| {
        let place = format!("name=sea,ip=10.77.0.7,ip6=fd77::7,mac-address={mac}");
        host.ok(["run", "--detach", "--name", "it", "--network", &place, "busybox", "sleep", "1000"]);
    };
    let known = |mac: &str| {
        let told = |address| tool("ip", ["neighbour", "show", "to", address]).contains(mac);
        (told("10.77.0.7"), told("fd77::7"))
    };
    // With its last port a bridge forgets all neighbours.
    host.ok(["run", "--detach", "--network", "sea", "busybox", "sleep", "1000"]);
    start("02:42:00:00:00:01");
    for address in ["10.77.0.7", "fd77::7"] {
        host.ok(["run", "--rm", "--network", "host", "busybox", "ping", "-c", "1", "-W", "5", address]);
    }
    assert_eq!(known("02:42:00:00:00:01"), (true, true));
    for number in 2..8 {
        // Who says nothing of itself has its network say it.
        let mac = format!("02:42:00:00:00:0{number}");
        host.ok(["rm", "--force", "it"]);
        start(&mac);
        eventually("its neighbour hears of it", || known(&mac) == (true, true));
    }
}

#[test]
fn fifty_at_once_leave_nothing() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("nft")) else { return };
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("turn forwarding on");
    let before = (links(), tool("nft", ["list", "ruleset"]));
    let host = &host;
    for round in 0..2 {
        thread::scope(|scope| {
            for worker in 0..50 {
                scope.spawn(move || {
                    for number in 0..2 {
                        let name = format!("c{round}-{worker}-{number}");
                        let port = format!("{}:80", 9000 + worker * 10 + number);
                        host.ok(["run", "--detach", "--name", &name, "-p", &port, "busybox", "sleep", "1000"]);
                        host.ok(["rm", "--force", &name]);
                    }
                });
            }
        });
    }
    host.ok(["ps"]);
    let bridge = |name: &String| name.starts_with("dhow-");
    eventually("its links are gone", || links().into_iter().filter(|name| !bridge(name)).eq(before.0.iter().cloned()));
    assert_eq!(links().iter().filter(|name| bridge(name)).count(), 1, "but for the bridge");
    eventually("its rules are gone", || tool("nft", ["list", "ruleset"]) == before.1);
    let given = fs::read_dir(host.run_dir().join("networks")).expect("networks").flatten();
    let given = given.flat_map(|network| fs::read_dir(network.path()).expect("addresses").flatten());
    assert_eq!(given.map(|it| it.file_name()).collect::<Vec<_>>(), [".last"]);
}

#[test]
fn who_may_change_its_own_network_does_not_reach_the_hosts() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("nft")) else { return };
    serve(&host, "web", &["-p", "8080:80"]);
    let rules = || tool("nft", ["list", "ruleset"]);
    let before = rules();
    // The host's own program, with every capability over networks.
    let tools = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"];
    let line = "nft list ruleset && nft add table inet mine && nft list tables && nft flush ruleset && ip link delete eth0 && ls /sys/class/net";
    let words = ["run", "--rm", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"];
    let said = host.ok(words.iter().chain(&tools).chain(&["busybox", "sh", "-c", line]).copied());
    assert_eq!(said, "table inet mine\nlo", "it sees its own tables and links, and changes those");
    assert_eq!(rules(), before);
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
}
