//! Networks that users make: who is on them, with which addresses, and who is not.

use crate::fixture::network::{Neighbour, briefly, from_container, from_here, from_there, links, serve};
use crate::fixture::{Host, eventually, need};
use serde_json::json;

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
    assert_eq!(host.ok(["network", "rm", "--force", "web"]), "");
    assert!(
        host.refused(125, ["run", "--rm", "--network", "web", "busybox", "true"]).ends_with("network web not found")
    );
    let option = ["--network", "name=bridge,driver-opt=com.docker.network.endpoint.anchor=sea"];
    let said = host.refused(125, ["run", "--rm"].iter().chain(&option).chain(&["busybox", "true"]).copied());
    assert!(said.contains("com.docker.network.endpoint.anchor of a container on a network is not supported"), "{said}");
    host.ok(["network", "create", "one"]);
    assert_eq!(host.ok(["network", "prune", "--force"]), "Deleted Networks:\none\n");
    let said = host.refused(1, ["network", "rm", "bridge"]);
    assert!(said.ends_with("bridge is a pre-defined network and cannot be removed"), "{said}");
}

#[test]
fn a_link_has_sysctls_of_its_own() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "sea"]);
    let with = |sysctl: &str| format!("name=sea,driver-opt=com.docker.network.endpoint.sysctls={sysctl}");
    let network = with("net.ipv4.conf.IFNAME.log_martians=1");
    let show = "cd /proc/sys/net/ipv4/conf; cat eth0/log_martians eth1/log_martians default/log_martians";
    let flags = ["create", "--name", "it", "--network", "name=bridge", "--network", &network];
    host.ok(flags.iter().chain(&["busybox", "sh", "-c", show]));
    for _ in 0..2 {
        assert_eq!(host.ok(["start", "--attach", "it"]), "0\n1\n0", "that of its link, and no other");
    }
    host.ok(["rm", "it"]);
    for (sysctl, words) in [
        (
            "net.ipv4.conf.eth0.log_martians=1",
            "unrecognised network interface sysctl 'net.ipv4.conf.eth0.log_martians=1'",
        ),
        ("net.ipv4.conf.IFNAME.nope=1", "/proc/sys/net/ipv4/conf/eth0/nope is not a sysctl file"),
    ] {
        let network = with(sysctl);
        let said = host.run(["run", "--rm", "--network", &network, "busybox", "true"]);
        assert!(said.code() == Some(125) && said.stderr().contains(words), "{sysctl}: {said}");
    }
    let of_container = ["run", "--rm", "--sysctl", "net.ipv4.conf.eth0.log_martians=1", "busybox", "true"];
    let said = host.refused(125, of_container);
    assert!(said.contains("must be supplied using driver option 'com.docker.network.endpoint.sysctls'"), "{said}");
    host.ok(["network", "rm", "sea"]);
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
        ("10.56.0.1", "no configured subnet or ip-range contain the IP address 10.56.0.1"),
        ("nonsense", "invalid IPv4 address: nonsense"),
        ("fd00::1", "invalid IPv4 address: fd00::1"),
        ("0.0.0.0", "invalid IPv4 address: 0.0.0.0"),
    ] {
        let output = run(&["--ip", address]);
        assert!(output.code() == Some(125) && output.stderr().contains(words), "{output}");
    }
    let output = run(&["--ip6", "10.55.7.8"]);
    assert!(output.code() == Some(125) && output.stderr().contains("invalid IPv6 address: 10.55.7.8"), "{output}");
    for network in ["host", "container:it"] {
        let mac = ["--mac-address", "02:42:00:00:00:09", "busybox", "true"];
        let said = host.refused(125, ["run", "--rm", "--network", network].iter().chain(&mac).copied());
        assert!(said.ends_with("conflicting options: mac-address and the network mode"), "{said}");
    }
    for network in ["bridge", "host", "none", "container:it"] {
        let said = host.refused(125, ["run", "--rm", "--network", network, "--ip", "172.17.0.9", "busybox", "true"]);
        assert!(said.ends_with("user specified IP address is supported on user defined networks only"), "{said}");
    }
    host.ok(["network", "create", "found"]);
    let first = host.ok(["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "found"]);
    let address = format!("{}77", first.strip_suffix('1').unwrap());
    let words = "user specified IP address is supported only when connecting to networks with user configured subnets";
    for (code, command) in [(125, "run --network found busybox"), (1, "network connect found it")] {
        let (verb, rest) = command.split_at(command.find(" --n").or(command.find(" f")).unwrap());
        let output = host.run(verb.split(' ').chain(["--ip", &address]).chain(rest.split_whitespace()));
        assert!(output.code() == Some(code) && output.stderr().contains(words), "{output}");
    }
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
    assert_eq!(briefly(|| from_container(&host, "third", &first)), None);
    assert_eq!(briefly(|| from_container(&host, "third", &second)), None);
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
    assert_eq!(briefly(|| from_there(&neighbour, &first)), None);
    drop(neighbour);
}

#[test]
fn containers_of_a_network_may_be_kept_from_each_other() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(server) = neighbour.serve() else { return };
    host.ok(["network", "create", "--opt", "com.docker.network.bridge.enable_icc=false", "quiet"]);
    let first = serve(&host, "first", &["--network", "quiet", "--cap-add", "net_admin"]);
    let second = serve(&host, "second", &["--network", "quiet", "--cap-add", "net_admin"]);
    assert_eq!(briefly(|| from_container(&host, "second", &first)), None);
    // Nor by way of this host, where both are set on it.
    for (name, other) in [("first", &second), ("second", &first)] {
        let line = format!("ip route add {other}/32 via $(ip route | sed -n 's/^default via \\([0-9.]*\\) .*/\\1/p')");
        host.ok(["exec", name, "sh", "-c", &line]);
    }
    assert_eq!(briefly(|| from_container(&host, "second", &first)), None);
    assert!(from_here(&first).is_some());
    assert_eq!(from_container(&host, "second", "10.99.0.2").as_deref(), Some("10.99.0.1"));
    drop((server, neighbour));
}

#[test]
fn containers_of_a_network_may_be_seen_under_their_own_address() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(server) = neighbour.serve() else { return };
    let option = "com.docker.network.bridge.enable_ip_masquerade=false";
    host.ok(["network", "create", "--ipv6", "--opt", option, "plain"]);
    let four = serve(&host, "it", &["--network", "plain", "-p", "8080:80"]);
    let six = host.inspect("it", "/NetworkSettings/Networks/plain/GlobalIPv6Address");
    let six = six.as_str().expect("an address of IPv6");
    assert_eq!(from_container(&host, "it", "10.99.0.2").as_deref(), Some(four.as_str()));
    assert_eq!(from_container(&host, "it", "[fd99::2]").as_deref(), Some(six));
    // What is not published is no more open for that.
    assert_eq!(briefly(|| from_there(&neighbour, &four)), None);
    assert_eq!(briefly(|| from_there(&neighbour, &format!("[{six}]"))), None);
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    drop((server, neighbour));
}

#[test]
fn an_address_of_ipv6_may_be_asked_for() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "--ipv6", "--subnet", "10.61.0.0/24", "--subnet", "fd61::/64", "sea"]);
    let run = ["run", "--detach", "--network", "sea", "--ip6", "fd61::7", "--name", "it", "busybox", "sleep", "1000"];
    host.ok(run);
    host.ok(["run", "--detach", "--name", "other", "busybox", "sleep", "1000"]);
    let connect = |address: &str, name: &str| host.run(["network", "connect", "--ip6", address, "sea", name]);
    assert!(connect("fd61::7", "other").stderr().ends_with("Address already in use: fd61::7"));
    let said = connect("fd62::8", "other").stderr();
    assert!(said.ends_with("no configured subnet or ip-range contain the IP address fd62::8"), "{said}");
    connect("fd61::8", "other").ok();
    for (name, link, address) in [("it", "eth0", "fd61::7"), ("other", "eth1", "fd61::8")] {
        let place = host.inspect(name, "/NetworkSettings/Networks/sea");
        let asked = json!({"IPv6Address": address});
        assert_eq!((&place["GlobalIPv6Address"], &place["IPAMConfig"]), (&json!(address), &asked), "{place}");
        let shown = host.ok(["exec", name, "ip", "-6", "-o", "address", "show", "dev", link]);
        assert!(shown.contains(&format!("{address}/64")), "{shown}");
    }
    host.ok(["exec", "other", "ping", "-6", "-c", "1", "-W", "5", "fd61::7"]);
    // It is asked for with every start.
    host.ok(["stop", "--time", "0", "it"]);
    host.ok(["start", "it"]);
    assert_eq!(host.inspect("it", "/NetworkSettings/Networks/sea/GlobalIPv6Address"), "fd61::7");
}

#[test]
fn a_network_is_shared_with_another_container() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(server) = neighbour.serve() else { return };
    host.ok(["network", "create", "sea"]);
    let inside = serve(&host, "it", &["--network", "sea", "-p", "8080:80", "-p", "8081:81"]);
    let serves = ["busybox", "sh", "-c", "mkdir /www; echo guest >/www/name; exec httpd -f -p 81 -h /www"];
    host.ok(["run", "--detach", "--name", "guest", "--network", "container:it"].iter().chain(&serves).copied());
    host.ok(["run", "--detach", "--name", "other", "--network", "sea", "busybox", "sleep", "1000"]);
    // Each is at the other's loopback, and both are at one address and have one name.
    let name = host.ok(["exec", "it", "hostname"]);
    assert_eq!(
        host.ok(["exec", "guest", "sh", "-c", "hostname; echo $HOSTNAME; cat /etc/hostname"]),
        [name.as_str(); 3].join("\n")
    );
    assert_eq!(host.inspect("guest", "/Config/Hostname"), name);
    assert_eq!(from_container(&host, "guest", "127.0.0.1").as_deref(), Some("127.0.0.1"));
    let get = |name: &str, address: &str| {
        host.run(["exec", name, "timeout", "60", "wget", "-q", "-O-", &format!("http://{address}/name")]).stdout()
    };
    eventually("it serves", || get("it", "127.0.0.1:81") == "guest");
    assert_eq!(get("other", &format!("{inside}:81")), "guest");
    assert!(from_container(&host, "other", &inside).is_some());
    // Its way out is that of the other one, and so are names and published ports.
    assert_eq!(from_container(&host, "guest", "10.99.0.2").as_deref(), Some("10.99.0.1"));
    assert!(briefly(|| from_container(&host, "guest", "other")).is_none(), "nobody serves there");
    host.ok(["exec", "guest", "ping", "-c", "1", "-W", "5", "other"]);
    let published = ["60", "busybox", "wget", "-q", "-O-", "http://10.99.0.1:8081/name"];
    assert_eq!(neighbour.run("timeout", &published).ok(), "guest");
    drop(server);
}

#[test]
fn what_is_a_swarms_is_kept_and_changes_nothing() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "--attachable", "--ipam-opt", "a=b", "sea"]);
    let told = host.ok(["network", "inspect", "sea"]);
    assert_eq!(host.ok(["network", "inspect", "--verbose", "sea"]), told);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told[0]["Attachable"], &told[0]["IPAM"]["Options"]), (&json!(true), &json!({"a": "b"})));
    host.ok(["run", "--rm", "--network", "sea", "busybox", "true"]);
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
    let Some(server) = neighbour.serve() else { return };
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
    // It is seen as this host.
    assert_eq!(from_container(&host, "it", "[fd99::2]").as_deref(), Some("fd99::1"));
    assert_eq!(from_container(&host, "it", "10.99.0.2").as_deref(), Some("10.99.0.1"));
    assert_eq!(from_there(&neighbour, "[fd99::1]:8080").as_deref(), Some("fd99::2"));
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    assert_eq!(briefly(|| from_there(&neighbour, &format!("[{six}]"))), None, "its own address is not published");
    assert!(from_here("[fd99::1]:8080").is_some());
    let ports = host.ok(["port", "it"]);
    assert_eq!(ports, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n80/tcp -> [::1]:8081");
    // On a network of IPv4 alone the kernel makes no address of IPv6 up.
    assert_eq!(host.ok(["run", "--rm", "busybox", "ip", "-6", "address", "show", "dev", "eth0"]), "");
    drop(server);
}

#[test]
fn families_that_are_said_otherwise() {
    let Some(host) = Host::with_busybox() else { return };
    // A subnet of a family that the network has not is kept, told, and of no use.
    let output = host.run(["network", "create", "--subnet", "fd72::/64", "four"]);
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(output.stderr().contains("subnet fd72::/64 is not used: IPv6 is not enabled for this network"), "{output}");
    let shown = "{{.EnableIPv4}} {{.EnableIPv6}} {{range .IPAM.Config}}{{.Subnet}} {{end}}";
    let of = |name: &str| host.ok(["network", "inspect", "--format", shown, name]);
    assert!(of("four").starts_with("true false ") && of("four").contains("fd72::/64"), "{}", of("four"));
    let line = "ip -o addr show eth0 scope global | wc -l";
    let addresses = |name: &str| host.ok(["run", "--rm", "--network", name, "busybox", "sh", "-c", line]);
    assert_eq!(addresses("four"), "1");
    let option = ["network", "create", "-o", "com.docker.network.enable_ipv6=true"];
    host.ok(option.iter().chain(&["--subnet", "fd72::/64", "both"]).copied());
    assert!(of("both").starts_with("true true "), "{}", of("both"));
    assert_eq!(addresses("both"), "2");
}

#[test]
fn a_network_of_ipv6_alone() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("ip")) else { return };
    let said = host.refused(1, ["network", "create", "--ipv4=false", "none-at-all"]);
    assert!(said.contains("IPv4 or IPv6 must be enabled"), "{said}");
    let Some(server) = neighbour.serve() else { return };
    host.ok(["network", "create", "--ipv4=false", "--ipv6", "six"]);
    assert_eq!(serve(&host, "it", &["--network", "six", "-p", "8080:80"]), "", "no address of IPv4");
    assert_eq!(host.ok(["exec", "it", "ip", "-4", "address", "show", "dev", "eth0"]), "");
    assert_eq!(host.ok(["port", "it"]), "80/tcp -> [::]:8080");
    for address in ["[::1]:8080", "[fd99::1]:8080"] {
        assert!(from_here(address).is_some(), "{address}");
    }
    assert_eq!(briefly(|| from_here("127.0.0.1:8080")), None);
    assert_eq!(from_there(&neighbour, "[fd99::1]:8080").as_deref(), Some("fd99::2"));
    host.ok(["exec", "it", "ping", "-c", "1", "-W", "5", "fd99::2"]);
    assert_eq!(from_container(&host, "it", "[fd99::2]").as_deref(), Some("fd99::1"));
    // Its name is that of its one address.
    let other = ["run", "--rm", "--network", "six", "busybox", "ping", "-c", "1", "-W", "5", "it"];
    let six = host.inspect("it", "/NetworkSettings/Networks/six/GlobalIPv6Address");
    assert!(host.ok(other).contains(six.as_str().expect("an address of IPv6")));
    drop((server, neighbour));
}
