//! Networks with real traffic: between containers, with this host, and with a second machine on a LAN.

use crate::fixture::network::{
    Neighbour, address, ask, datagram, from_container, from_here, from_there, ip, links, serve, serve_datagrams,
};
use crate::fixture::{Command, Host, eventually, need, tool};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

#[test]
fn a_container_has_an_address_and_a_way_out() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let line = "ip -4 address show eth0 | sed -n 's/.*inet //p'; ip route | grep default; grep $(hostname) /etc/hosts; \
                cat /sys/class/net/eth0/address; ping -c 1 -W 5 10.99.0.2 >/dev/null && echo reached";
    let said = host.ok(["run", "--rm", "busybox", "sh", "-c", line]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("172.17.0.2/16 brd 172.17.255.255"), "{said}");
    assert_eq!(lines[1].trim(), "default via 172.17.0.1 dev eth0", "{said}");
    assert!(lines[2].starts_with("172.17.0.2\t"), "{said}");
    // The neighbour's answer goes to this host: what is sent to a container's own address from there is dropped.
    assert_eq!(&lines[3..], ["02:42:ac:11:00:02", "reached"], "{said}");
    // The next one gets the next address, and inspect tells it as the kernel does.
    let id = host.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    assert_eq!(address(&host, "it"), "172.17.0.3");
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
    drop(neighbour);
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
    assert_eq!(from_there(&neighbour, &inside), None);
    neighbour.run("ip", &["route", "add", "127.5.0.0/16", "via", "10.99.0.1"]).run();
    assert_eq!(from_there(&neighbour, "127.5.0.1"), None);
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
    assert!(!reaches(), "this host does not forward yet");
    host.ok(["run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", "10.98.0.2"]);
    assert!(!reaches(), "it forwards for others now");
    drop(far);
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
    host.ok(["run", "--rm", "busybox", "true"]);
    assert_eq!(now(), ["1", "1", "2", "1"]);
    // A start soon after finds the rules.
    assert!(has_table());
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
    let tables = || tool("nft", ["list", "tables"]).lines().count();
    one.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    two.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    assert_eq!(tables(), 2);
    one.ok(["rm", "--force", "it"]);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
    two.ok(["rm", "--force", "it"]);
    eventually("theirs is gone", || tables() == 1);
    one.ok(["ps"]);
    assert_eq!(tables(), 0);
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "0");
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
    assert_eq!(from_container(&one, "it", &second), None);
    one.ok(["rm", "--force", "it"]);
    assert_eq!(from_here(&second).as_deref(), Some("172.18.0.1"), "the other store goes on");
    let bridges = links().into_iter().filter(|name| name.starts_with("dhow-")).count();
    assert_eq!(bridges, 2);
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let inside = serve(&host, "it", &["-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    host.ok(["run", "--detach", "--name", "other", "busybox", "sleep", "1000"]);
    // From outside, under the client's own address.
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    assert_eq!(from_there(&neighbour, "10.99.0.1:8081"), None, "that one is for this host");
    for address in ["127.0.0.1:8080", "127.0.0.1:8081", "10.99.0.1:8080"] {
        assert!(from_here(address).is_some(), "{address}");
    }
    assert_eq!(from_here("10.99.0.1:8080").as_deref(), Some("10.99.0.1"));
    for (name, address) in [("other", "10.99.0.1:8080"), ("other", "172.17.0.1:8080"), ("it", "172.17.0.1:8080")] {
        assert!(from_container(&host, name, address).is_some(), "{name} to {address}");
    }
    assert_eq!(from_container(&host, "other", "127.0.0.1:8081"), None, "that is its own loopback");
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
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080"), None);
    drop(std::net::TcpListener::bind("0.0.0.0:8080").expect("the port is free"));
    // The same ports, at whatever address it gets now.
    host.ok(["start", "it"]);
    assert_ne!(address(&host, "it"), inside);
    eventually("it serves", || from_there(&neighbour, "10.99.0.1:8080").as_deref() == Some("10.99.0.2"));
}

#[test]
fn ports_that_are_taken_are_refused_before_anything_is_made() {
    let Some(host) = Host::with_busybox() else { return };
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
        "9",
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
    assert_eq!(ask(Command::new("python3", ["-c", &here])).as_deref(), Some("172.17.0.1"));
    drop(server);
}

#[test]
fn a_flush_of_the_firewall_is_mended_by_the_next_start() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("nft")) else { return };
    // Without a published port nobody watches over the table.
    let address = serve(&host, "it", &[]);
    assert_eq!(from_there(&neighbour, &address), None);
    tool("nft", ["flush", "ruleset"]);
    assert_eq!(from_there(&neighbour, &address).as_deref(), Some("10.99.0.2"));
    host.ok(["run", "--rm", "busybox", "true"]);
    assert_eq!(from_there(&neighbour, &address), None);
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

#[test]
fn networks_of_users_come_and_go() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.ok(["network", "create", "--label", "a=b", "web"]);
    assert_eq!(id.len(), 64, "{id}");
    let bridge = format!("br-{}", &id[..12]);
    assert!(links().contains(&bridge), "{:?}", links());
    // Not the default bridge's subnet, which that keeps.
    assert_eq!(host.inspect("web", "/IPAM/Config"), json!([{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]));
    assert_eq!(host.ok(["network", "ls", "--filter", "label=a=b", "--format", "{{.Name}} {{.Driver}}"]), "web bridge");
    let said = host.refused(1, ["network", "create", "web"]);
    assert!(said.ends_with("network with name web already exists"), "{said}");
    let said = host.refused(1, ["network", "create", "--subnet", "172.18.5.0/24", "other"]);
    assert!(said.contains("Pool overlaps with other one on this address space"), "{said}");
    host.ok(["run", "--detach", "--name", "it", "--network", "web", "busybox", "sleep", "1000"]);
    let said = host.refused(1, ["network", "rm", "web"]);
    assert!(said.contains("network web has active endpoints (name:\"it\" id:\""), "{said}");
    assert_eq!(host.ok(["network", "prune", "--force"]), "");
    host.ok(["rm", "--force", "it"]);
    assert_eq!(host.ok(["network", "rm", &id[..8]]), &id[..8]);
    assert!(!links().contains(&bridge), "{:?}", links());
    assert!(host.refused(1, ["network", "rm", "web"]).ends_with("network web not found"));
    assert!(
        host.refused(125, ["run", "--rm", "--network", "web", "busybox", "true"]).ends_with("network web not found")
    );
    let option = ["--network", "name=bridge,driver-opt=com.docker.network.endpoint.ifname=sea"];
    let said = host.refused(125, ["run", "--rm"].iter().chain(&option).chain(&["busybox", "true"]).copied());
    assert!(said.contains("com.docker.network.endpoint.ifname of a container on a network is not supported"), "{said}");
    host.ok(["network", "create", "one"]);
    assert_eq!(host.ok(["network", "prune", "--force"]), "Deleted Networks:\none\n");
    let said = host.refused(1, ["network", "rm", "bridge"]);
    assert!(said.ends_with("bridge is a pre-defined network and cannot be removed"), "{said}");
}

#[test]
fn addresses_may_be_asked_for() {
    let Some(host) = Host::with_busybox() else { return };
    let subnet = ["--subnet", "10.55.0.0/16", "--ip-range", "10.55.5.0/24", "--gateway", "10.55.0.9"];
    let more = ["--aux-address", "printer=10.55.5.1", "--opt", "com.docker.network.driver.mtu=1400"];
    host.ok(["network", "create"].iter().chain(&subnet).chain(&more).chain(&["web"]).copied());
    let show = "ip -4 -o address show eth0 | sed 's/.*inet \\([^ ]*\\).*/\\1/'; cat /sys/class/net/eth0/address \
                /sys/class/net/eth0/mtu; ip route | grep default";
    let run = |flags: &[&str]| {
        let fixed = ["run", "--rm", "--network", "web"];
        host.run(fixed.iter().chain(flags).chain(&["busybox", "sh", "-c", show]).copied())
    };
    let lines = |flags: &[&str]| run(flags).ok().lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        lines(&[]),
        ["10.55.5.0/16", "02:42:0a:37:05:00", "1400", "default via 10.55.0.9 dev eth0"],
        "the first of the range, which is no network's own address here"
    );
    assert_eq!(lines(&[])[0], "10.55.5.2/16", "the printer's is given to nobody");
    let asked = lines(&["--ip", "10.55.7.7", "--mac-address", "02:42:00:00:00:07"]);
    assert_eq!(&asked[..2], ["10.55.7.7/16", "02:42:00:00:00:07"]);
    host.ok(["run", "--detach", "--name", "it", "--network", "name=web,ip=10.55.7.7", "busybox", "sleep", "1000"]);
    for (address, words) in [
        ("10.55.7.7", "Address already in use"),
        ("10.55.0.9", "Address already in use"),
        ("10.56.0.1", "no configured subnet contains IP address 10.56.0.1"),
    ] {
        let output = run(&["--ip", address]);
        assert!(output.code() == Some(125) && output.stderr().contains(words), "{output}");
    }
    let said = host.refused(125, ["run", "--rm", "--ip", "172.17.0.9", "busybox", "true"]);
    assert!(said.ends_with("user specified IP address is supported on user defined networks only"), "{said}");
}

#[test]
fn networks_are_apart() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "one"]);
    host.ok(["network", "create", "two"]);
    let first = serve(&host, "first", &["--network", "one", "-p", "8080:80"]);
    let second = serve(&host, "second", &["--network", "one"]);
    serve(&host, "third", &["--network", "two"]);
    assert!(from_container(&host, "second", &first).is_some());
    assert_eq!(from_container(&host, "third", &first), None);
    assert_eq!(from_container(&host, "third", &second), None);
    // By what is published there is a way, from there too.
    assert!(from_container(&host, "third", "10.99.0.1:8080").is_some());
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    assert!(from_here(&second).is_some());
    drop(neighbour);
}

#[test]
fn an_internal_network_leads_nowhere() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "--internal", "inner"]);
    let first = serve(&host, "first", &["--network", "inner"]);
    host.ok([
        "run",
        "--detach",
        "--name",
        "second",
        "--network",
        "inner",
        "--cap-add",
        "net_admin",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert!(from_container(&host, "second", &first).is_some());
    assert!(!host.ok(["exec", "second", "ip", "route"]).contains("default"));
    // Nor by a route of its own making.
    let line = "ip route add default via $(ip -4 -o address show eth0 | sed 's/.*inet \\([0-9.]*\\)\\.[0-9]*\\/.*/\\1.1/') && \
                ping -c 1 -W 1 10.99.0.2";
    assert_ne!(host.run(["exec", "second", "sh", "-c", line]).code(), Some(0));
    assert_eq!(from_there(&neighbour, &first), None);
    drop(neighbour);
}

#[test]
fn containers_of_a_network_may_be_kept_from_each_other() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "--opt", "com.docker.network.bridge.enable_icc=false", "quiet"]);
    let first = serve(&host, "first", &["--network", "quiet"]);
    serve(&host, "second", &["--network", "quiet"]);
    assert_eq!(from_container(&host, "second", &first), None);
    assert!(from_here(&first).is_some());
    host.ok(["exec", "second", "ping", "-c", "1", "-W", "5", "10.99.0.2"]);
    drop(neighbour);
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "one"]);
    host.ok(["network", "create", "two"]);
    let first = serve(&host, "first", &["--network", "one", "-p", "8080:80"]);
    serve(&host, "second", &["--network", "two"]);
    assert_eq!(from_container(&host, "second", &first), None);
    host.ok(["network", "connect", "--alias", "helm", "one", "second"]);
    assert!(from_container(&host, "second", &first).is_some());
    let place = host.inspect("second", "/NetworkSettings/Networks/one");
    assert_eq!(place["Aliases"], json!(["helm"]), "{place}");
    let address = place["IPAddress"].as_str().expect("an address");
    assert!(host.ok(["exec", "second", "cat", "/etc/hosts"]).contains(&format!("{address}\t")));
    assert!(from_container(&host, "first", address).is_some());
    let said = host.refused(1, ["network", "connect", "one", "second"]);
    assert!(said.ends_with("endpoint with name second already exists in network one"), "{said}");
    host.ok(["network", "disconnect", "one", "second"]);
    assert_eq!(from_container(&host, "second", &first), None);
    assert!(host.refused(1, ["network", "disconnect", "one", "second"]).contains("is not connected to network one"));
    // A published port moves with the way out.
    host.ok(["network", "connect", "two", "first"]);
    host.ok(["network", "disconnect", "one", "first"]);
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    host.ok(["exec", "first", "ping", "-c", "1", "-W", "5", "10.99.0.2"]);
    // One that does not run finds its networks at its next start.
    host.ok(["stop", "-t", "0", "first"]);
    host.ok(["network", "connect", "one", "first"]);
    host.ok(["start", "first"]);
    let networks = host.inspect("first", "/NetworkSettings/Networks");
    assert_eq!(networks.as_object().expect("networks").keys().collect::<Vec<_>>(), ["one", "two"]);
    assert!(networks.as_object().expect("networks").values().all(|place| place["IPAddress"] != ""), "{networks}");
}

#[test]
fn one_that_waits_for_its_restart_is_connected_and_disconnected() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "web"]);
    let links = ["run", "--detach", "--restart", "always", "--name", "it", "busybox", "sh", "-c"];
    host.ok(links.iter().chain(&["echo $(ls /sys/class/net)"]).copied());
    let waits = || {
        eventually("it waits for its restart", || host.inspect("it", "/State/Status") == "restarting");
    };
    let last = || host.ok(["logs", "--tail", "1", "it"]);
    eventually("it has been started", || last() == "eth0 lo");
    waits();
    host.ok(["network", "connect", "web", "it"]);
    eventually("it has both", || last() == "eth0 eth1 lo");
    waits();
    host.ok(["network", "disconnect", "bridge", "it"]);
    eventually("it has one", || last() == "eth0 lo");
    host.ok(["rm", "--force", "it"]);
    host.ok(["network", "rm", "web"]);
}

#[test]
fn several_networks_and_one_way_out() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "--subnet", "10.61.0.0/24", "a"]);
    host.ok(["network", "create", "--subnet", "10.62.0.0/24", "b"]);
    let run = |flags: &[&str]| {
        let line = "ip -4 -o address show | sed 's/.*inet \\([^ ]*\\).*/\\1/'; ip route | grep default";
        host.ok(["run", "--rm"].iter().chain(flags).chain(&["busybox", "sh", "-c", line]).copied())
    };
    let said = run(&["--network", "b", "--network", "a"]);
    assert_eq!(said.trim(), "127.0.0.1/8\n10.61.0.2/24\n10.62.0.2/24\ndefault via 10.61.0.1 dev eth0");
    let said = run(&["--network", "a", "--network", "name=b,gw-priority=1"]);
    assert!(said.contains("default via 10.62.0.1 dev eth1"), "{said}");
}

#[test]
fn addresses_that_hold_on_one_link() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "--ipv6", "both"]);
    host.ok(["network", "create", "four"]);
    let stay = |flags: &[&str]| {
        let fixed = ["run", "--detach"];
        host.ok(fixed.iter().chain(flags).chain(&["busybox", "sleep", "1000"]).copied())
    };
    stay(&["--name", "first", "--network", "both", "--link-local-ip", "169.254.8.8", "--link-local-ip", "fe80::8"]);
    stay(&["--name", "second", "--network", "name=both,link-local-ip=169.254.9.9"]);
    for (name, address) in [("second", "169.254.8.8"), ("second", "fe80::8%eth0"), ("first", "169.254.9.9")] {
        host.ok(["exec", name, "ping", "-c", "1", "-W", "5", address]);
    }
    let asked = host.inspect("first", "/NetworkSettings/Networks/both/IPAMConfig/LinkLocalIPs");
    assert_eq!(asked, json!(["169.254.8.8", "fe80::8"]));
    host.ok(["network", "connect", "--link-local-ip", "169.254.7.7", "four", "first"]);
    let addresses = host.ok(["exec", "first", "ip", "-4", "-o", "address", "show", "dev", "eth1"]);
    assert!(addresses.contains("169.254.7.7/16"), "{addresses}");
    // They are the container's, at every start.
    host.ok(["restart", "-t", "0", "first"]);
    host.ok(["exec", "first", "ping", "-c", "1", "-W", "5", "169.254.9.9"]);
    host.ok(["exec", "second", "ping", "-c", "1", "-W", "5", "169.254.8.8"]);
    let refused = |flags: &[&str]| {
        let fixed = ["run", "--rm", "--name", "third"];
        let output = host.run(fixed.iter().chain(flags).chain(&["busybox", "true"]).copied());
        assert_eq!(output.code(), Some(125), "{output}");
        output.stderr()
    };
    for (flags, why) in [
        (&["--network", "four", "--link-local-ip", "x"][..], "invalid link-local IP address: x"),
        (&["--network", "four", "--link-local-ip", "10.0.0.1"], "10.0.0.1 is no link-local address"),
        (&["--network", "four", "--link-local-ip", "fe80::1"], "IPv6 is not enabled on network four"),
        (
            &["--network", "name=four,link-local-ip=169.254.1.1", "--link-local-ip", "169.254.1.2"],
            "cannot specify both --link-local-ip and per-network link-local IP addresses",
        ),
    ] {
        let said = refused(flags);
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(host.ok(["ps", "-aq", "--filter", "name=third"]), "");
}

#[test]
fn networks_of_both_families() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("ip")) else { return };
    host.ok(["network", "create", "--ipv6", "both"]);
    let subnet = host.inspect("both", "/IPAM/Config/1/Subnet");
    assert!(subnet.as_str().is_some_and(|text| text.starts_with("fd") && text.ends_with("/64")), "{subnet}");
    serve(&host, "it", &["--network", "both", "-p", "8080:80", "-p", "[::1]:8081:80"]);
    for address in ["127.0.0.1:8080", "[::1]:8080", "[::1]:8081"] {
        assert!(from_here(address).is_some(), "{address}");
    }
    let place = host.inspect("it", "/NetworkSettings/Networks/both");
    let six = place["GlobalIPv6Address"].as_str().expect("an address of IPv6").to_owned();
    host.ok(["exec", "it", "ping", "-c", "1", "-W", "5", "fd99::2"]);
    assert_eq!(from_there(&neighbour, "[fd99::1]:8080").as_deref(), Some("fd99::2"));
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    assert_eq!(from_there(&neighbour, &format!("[{six}]")), None, "its own address is not published");
    assert!(from_here("[fd99::1]:8080").is_some());
    let ports = host.ok(["port", "it"]);
    assert_eq!(ports, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n80/tcp -> [::1]:8081");
    // On a network of IPv4 alone the kernel makes no address of IPv6 up.
    assert_eq!(host.ok(["run", "--rm", "busybox", "ip", "-6", "address", "show", "dev", "eth0"]), "");
}

#[test]
fn a_network_of_ipv6_alone() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("ip")) else { return };
    let said = host.refused(1, ["network", "create", "--ipv4=false", "none-at-all"]);
    assert!(said.contains("IPv4 or IPv6 must be enabled"), "{said}");
    host.ok(["network", "create", "--ipv4=false", "--ipv6", "six"]);
    assert_eq!(serve(&host, "it", &["--network", "six", "-p", "8080:80"]), "", "no address of IPv4");
    assert_eq!(host.ok(["exec", "it", "ip", "-4", "address", "show", "dev", "eth0"]), "");
    assert_eq!(host.ok(["port", "it"]), "80/tcp -> [::]:8080");
    for address in ["[::1]:8080", "[fd99::1]:8080"] {
        assert!(from_here(address).is_some(), "{address}");
    }
    assert_eq!(from_here("127.0.0.1:8080"), None);
    assert_eq!(from_there(&neighbour, "[fd99::1]:8080").as_deref(), Some("fd99::2"));
    host.ok(["exec", "it", "ping", "-c", "1", "-W", "5", "fd99::2"]);
    // Its name is that of its one address.
    let other = ["run", "--rm", "--network", "six", "busybox", "ping", "-c", "1", "-W", "5", "it"];
    let six = host.inspect("it", "/NetworkSettings/Networks/six/GlobalIPv6Address");
    assert!(host.ok(other).contains(six.as_str().expect("an address of IPv6")));
    drop(neighbour);
}

#[test]
fn one_container_is_connected_to_many_networks_at_once() {
    let Some(host) = Host::with_busybox() else { return };
    let host = &host;
    const NETWORKS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    for network in NETWORKS {
        host.ok(["network", "create", network]);
    }
    host.ok(["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]);
    let at_once = |verb: &str, networks: &[&str]| {
        thread::scope(|scope| {
            for network in networks {
                scope.spawn(move || host.ok(["network", verb, network, "it"]));
            }
        });
    };
    let links =
        || host.ok(["exec", "it", "ls", "/sys/class/net"]).lines().filter(|link| link.starts_with("eth")).count();
    let inside = || host.ok(["exec", "it", "ip", "-4", "-o", "address", "show"]);
    at_once("connect", &NETWORKS);
    assert_eq!(links(), 7);
    for network in NETWORKS {
        let address = host.inspect("it", &format!("/NetworkSettings/Networks/{network}/IPAddress"));
        let address = address.as_str().expect("an address").to_owned();
        assert!(inside().contains(&format!(" {address}/")), "{address} of {network} in {}", inside());
    }
    at_once("disconnect", &NETWORKS[..3]);
    assert_eq!(links(), 4);
    // To the same one twice at once: once.
    let connect = || host.run(["network", "connect", "a", "it"]).code() == Some(0);
    let done: Vec<bool> = thread::scope(|scope| {
        let both = [scope.spawn(connect), scope.spawn(connect)];
        both.into_iter().map(|one| one.join().expect("it ran")).collect()
    });
    assert_eq!((done.iter().filter(|done| **done).count(), links()), (1, 5));
    host.ok(["restart", "-t", "0", "it"]);
    assert_eq!(links(), 5);
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
            for worker in 0..10 {
                scope.spawn(move || {
                    for number in 0..5 {
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
