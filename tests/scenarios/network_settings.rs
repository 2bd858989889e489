//! What the configuration says of networks.

use crate::fixture::network::{Neighbour, WHO, address, briefly, from_container, from_here, from_there, ip, links};
use crate::fixture::{Command, Daemon, Host, eventually};
use serde_json::json;
use std::fs;

#[test]
fn keys_of_the_configuration_that_speak_of_networks() {
    let Some(host) = Host::with_busybox() else { return };
    let with = |keys: &str, words: &[&str]| {
        let file = host.file("daemon.json", keys);
        host.run(["--config", file.to_str().expect("UTF-8")].iter().chain(words).copied())
    };
    let show = "ip -4 -o address show eth0 | sed 's/.*inet \\([^ ]*\\).*/\\1/'; cat /sys/class/net/eth0/mtu; \
                ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'; sed -n 's/\\thost.docker.internal//p' /etc/hosts";
    let run = |keys: &str, flags: &[&str]| {
        let fixed = ["run", "--rm", "--add-host", "host.docker.internal:host-gateway"];
        let words: Vec<&str> = fixed.iter().chain(flags).chain(&["busybox", "sh", "-c", show]).copied().collect();
        with(keys, &words).ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(run("{}", &[]), ["172.17.0.2/16", "1500", "172.17.0.1", "172.17.0.1"]);
    let keys = r#"{"bip": "10.77.0.9/24", "fixed-cidr": "10.77.0.128/25", "mtu": 1400, "host-gateway-ip": "10.1.2.3"}"#;
    assert_eq!(run(keys, &[]), ["10.77.0.128/24", "1400", "10.77.0.9", "10.1.2.3"]);
    let keys = r#"{"bip": "10.78.0.9/24", "default-gateway": "10.78.0.1"}"#;
    assert_eq!(run(keys, &[]), ["10.78.0.2/24", "1500", "10.78.0.1", "10.78.0.9"]);
    assert_eq!(host.inspect("bridge", "/IPAM/Config/0/Gateway"), "10.78.0.9", "whoever looks next sees it too");
    // With somebody on it, it stays.
    with(r#"{"bip": "10.77.0.9/24"}"#, &["run", "--detach", "--name", "it", "busybox", "sleep", "1000"]).ok();
    let output = with(r#"{"bip": "10.79.0.9/24"}"#, &["run", "--rm", "busybox", "true"]);
    assert!(output.stderr().contains("they hold once no container is on it"), "{output}");
    host.ok(["rm", "--force", "it"]);
    let pools =
        r#"{"default-address-pools": [{"base": "10.80.0.0/16", "size": 24}, {"base": "fd80::/48", "size": 64}]}"#;
    with(pools, &["network", "create", "--ipv6", "web"]).ok();
    let config = host.inspect("web", "/IPAM/Config");
    assert_eq!((&config[0]["Subnet"], &config[1]["Subnet"]), (&json!("10.80.0.0/24"), &json!("fd80::/64")));
    assert_eq!(run(pools, &[])[0], "10.80.1.2/24", "the default bridge, too");
    with(
        r#"{"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}}}"#,
        &["network", "create", "small"],
    )
    .ok();
    assert_eq!(run("{}", &["--network", "small"])[1], "1300");
    assert_eq!(with(r#"{"bridge": "none"}"#, &["run", "--rm", "busybox", "ls", "/sys/class/net"]).ok(), "lo");
    // Kept from each other, and seen under their own address.
    let keys = r#"{"icc": false, "ip-masq": false}"#;
    with(keys, &["run", "--rm", "busybox", "true"]).ok();
    for key in ["enable_icc", "enable_ip_masquerade"] {
        let option = format!("/Options/com.docker.network.bridge.{key}");
        assert_eq!(host.inspect("bridge", &option), "false");
    }
    let keys = r#"{"ipv6": true, "fixed-cidr-v6": "fd77::/64"}"#;
    let words = ["run", "--rm", "busybox", "ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "global"];
    assert!(with(keys, &words).ok().contains("fd77::2/64"));
    let output = with(r#"{"bridge": "none"}"#, &["run", "--rm", "--network", "bridge", "busybox", "true"]);
    assert!(output.stderr().contains("network bridge not found"), "{output}");
}

#[test]
fn containers_of_the_default_bridge_may_be_kept_apart_or_seen_as_they_are() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(server) = neighbour.serve() else { return };
    for (keys, apart, hidden) in
        [(r#"{"icc": false}"#, true, true), (r#"{"ip-masq": false}"#, false, false), ("{}", false, true)]
    {
        let file = host.file("daemon.json", keys);
        let address = |name: &str| {
            let config = ["--config", file.to_str().expect("UTF-8")];
            let words = ["run", "--detach", "--name", name, "busybox", "sh", "-c", WHO];
            host.ok(config.iter().chain(&words).copied());
            eventually("it serves", || from_container(&host, name, "127.0.0.1").is_some());
            address(&host, name)
        };
        let (first, second) = (address("first"), address("second"));
        let ask = || from_container(&host, "second", &first);
        let from = if apart { briefly(ask) } else { ask() };
        assert_eq!(from.as_deref(), (!apart).then_some(second.as_str()), "{keys}");
        assert_eq!(from_here(&first).as_deref(), Some("172.17.0.1"), "{keys}");
        let seen = if hidden { "10.99.0.1" } else { &second };
        assert_eq!(from_container(&host, "second", "10.99.0.2").as_deref(), Some(seen), "{keys}");
        assert_eq!(briefly(|| from_there(&neighbour, &first)), None, "{keys}");
        host.ok(["rm", "--force", "first", "second"]);
    }
    drop((server, neighbour));
}

/// As the LAN's bridge of a host, with the LAN on it.
#[test]
fn a_bridge_of_somebody_elses_is_used_and_left_as_it_was() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(far) = Neighbour::on("far0", 98) else { return };
    let Some(server) = far.serve() else { return };
    let with = |keys: &str, words: &[&str]| {
        let file = host.file("daemon.json", keys);
        host.run(["--config", file.to_str().expect("UTF-8")].iter().chain(words).copied())
    };
    let lines = "link add br0 type bridge; address flush dev lan0; link set lan0 master br0; link set br0 mtu 1450; \
                 address add 10.99.0.1/24 dev br0; address add 10.99.0.130/24 dev br0; address add fd99::1/64 dev br0 nodad; \
                 link set br0 up; link add bare type bridge";
    for line in lines.split("; ") {
        ip(&line.split_whitespace().collect::<Vec<_>>());
    }
    let stands = || {
        let out = |words: &[&str]| Command::new("ip", words.iter().copied()).ok();
        let keys = ["ipv4/conf/br0/route_localnet", "ipv6/conf/br0/disable_ipv6", "ipv6/conf/br0/proxy_ndp"];
        let keys = keys.map(|key| fs::read_to_string(format!("/proc/sys/net/{key}")).expect("a key of the kernel"));
        let link = out(&["-o", "-d", "link", "show", "br0"]);
        // Timers of the bridge go on.
        let link: Vec<&str> = link.split_whitespace().filter(|word| !word.contains('.')).collect();
        format!("{}\n{}\n{keys:?}", link.join(" "), out(&["-o", "address", "show", "br0", "scope", "global"]))
    };
    let before = stands();
    let keys = r#"{"bridge": "br0", "fixed-cidr": "10.99.0.128/25", "ipv6": true, "fixed-cidr-v6": "fd99::8:0/112"}"#;
    let serve = |keys: &str, name: &str, flags: &[&str]| {
        let words = ["run", "--detach", "--name", name];
        with(keys, &words.iter().chain(flags).chain(&["busybox", "sh", "-c", WHO]).copied().collect::<Vec<_>>()).ok();
        let there = || from_container(&host, name, "127.0.0.1");
        eventually("it serves", || there().is_some());
        address(&host, name)
    };
    let first = serve(keys, "first", &["-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    assert_eq!(first, "10.99.0.128");
    let shown = host.ok(["exec", "first", "sh", "-c", "ip route; cat /sys/class/net/eth0/mtu; ip address show eth0"]);
    for words in ["default via 10.99.0.1 dev eth0", "\n1450", "fd99::8:0/64", "10.99.0.128/24"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let second = serve(keys, "second", &["-p", "[::]:8083:80"]);
    assert_eq!(second, "10.99.0.129");
    assert_eq!(host.inspect("bridge", "/IPAM/Config/0/AuxiliaryAddresses/br0_1"), "10.99.0.130");
    // On one link with the LAN, and with each other.
    assert_eq!(from_there(&neighbour, &first).as_deref(), Some("10.99.0.2"));
    assert_eq!(from_container(&host, "second", &first).as_deref(), Some("10.99.0.129"));
    // Published ports, from everywhere; this host's loopback is a program's to serve.
    for address in ["127.0.0.1:8080", "127.0.0.1:8081", "10.99.0.1:8080", "10.98.0.1:8080", "[::1]:8083", &first] {
        assert!(from_here(address).is_some(), "{address}");
    }
    assert_eq!(from_there(&far, "10.98.0.1:8080").as_deref(), Some("10.98.0.2"));
    assert!(from_there(&neighbour, "10.99.0.1:8080").is_some());
    assert_eq!(briefly(|| ["10.98.0.1:8081", "10.99.0.1:8081"].map(|it| from_there(&far, it))), [None, None]);
    assert!(from_container(&host, "first", "10.99.0.1:8080").is_some(), "its own port");
    let listed = host.ok(["ports", "--format", "{{.Published}} {{.Name}}: {{.Reach}}"]);
    let expected = "0.0.0.0:8080/tcp first: everyone\n[::]:8080/tcp first: everyone\n127.0.0.1:8081/tcp first: this host\n\
                    [::]:8083/tcp second: everyone";
    assert_eq!(listed, expected);
    // What is not published is not reached by others of this host, who reach it as before.
    assert_eq!(briefly(|| from_there(&far, &first)), None);
    let ping = |from: &Neighbour, to: &str| from.run("ping", &["-c", "1", "-W", "1", to]).run().code() == Some(0);
    eventually("this host is there for others", || ping(&far, "10.99.0.1") && ping(&neighbour, "10.99.0.1"));
    assert!(!ping(&far, "10.99.0.2"), "forwarding was off before");
    assert_eq!(from_container(&host, "first", "10.98.0.2").as_deref(), Some("10.98.0.1"), "its way out");
    assert_eq!(from_container(&host, "first", "[fd98::2]").as_deref(), Some("fd98::1"));
    assert_eq!(stands(), before, "nothing of it has changed");
    // While it is in use it stays what it is, for all that the settings say.
    let output = with("{}", &["run", "--rm", "busybox", "true"]);
    assert!(output.stderr().contains("they hold once no container is on it"), "{output}");
    with(keys, &["rm", "--force", "first", "second"]).ok();
    assert!(with("{}", &["run", "--rm", "busybox", "ip", "address"]).ok().contains("inet 172.17.0."));
    assert_eq!(stands(), before);
    // A network of a user's may have it too.
    let create = |name: &str, more: &[&str]| {
        let option = format!("com.docker.network.bridge.name={name}");
        let words = ["network", "create", "-o", &option];
        with("{}", &words.iter().chain(more).chain(&["lan"]).copied().collect::<Vec<_>>())
    };
    create("br0", &["--ip-range", "10.99.0.64/26", "--subnet", "10.99.0.0/24"]).ok();
    assert_eq!(host.inspect("lan", "/IPAM/Config/0/Gateway"), "10.99.0.1");
    assert_eq!(serve("{}", "first", &["--network", "lan", "-p", "8080:80"]), "10.99.0.64");
    assert!(from_here("127.0.0.1:8080").is_some() && from_there(&far, "10.98.0.1:8080").is_some());
    host.ok(["rm", "--force", "first"]);
    host.ok(["network", "rm", "lan"]);
    assert_eq!(stands(), before);
    // What cannot be is said.
    for (result, words) in [
        (create("br0", &["--subnet", "10.97.0.0/24"]), "bridge br0 is not dhow's, and has no address in 10.97.0.0/24"),
        (create("lan0", &[]), "lan0 is a link of this host's, and no bridge"),
        (create("bare", &[]), "bridge bare has no IPv4 address: it is not dhow's, and is given none"),
        (
            with(r#"{"bridge": "nowhere"}"#, &["run", "--rm", "busybox", "true"]),
            "bridge device with non default name nowhere must be created manually",
        ),
    ] {
        assert!(result.code() != Some(0) && result.stderr().contains(words), "{result}");
    }
    drop((server, neighbour, far));
}

#[test]
fn no_store_takes_the_bridge_of_another() {
    let (Some(one), Some(two)) = (Host::with_busybox(), Host::with_busybox()) else { return };
    let name = ["network", "create", "-o", "com.docker.network.bridge.name=shared0", "web"];
    one.ok(name);
    let said = two.refused(1, name);
    assert!(said.contains("bridge shared0 is that of a network of another store"), "{said}");
    one.ok(["network", "rm", "web"]);
    two.ok(name);
    two.ok(["network", "rm", "web"]);
    assert!(!links().contains(&"shared0".to_owned()));
}

#[test]
fn flags_of_the_daemon_that_speak_of_networks() {
    let Some(host) = Host::with_busybox() else { return };
    let ask = |flags: &[&str], words: &[&str]| {
        let daemon = Daemon::start_with(&host, flags);
        let said = host.local(words.iter().copied()).env("DOCKER_HOST", &daemon.address()).ok();
        daemon.stop();
        said
    };
    let show = "ip -o address show eth0 scope global | sed 's/.*inet6\\? \\([^ ]*\\).*/\\1/'; cat /sys/class/net/eth0/mtu; \
                ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'; sed -n 's/\\thost.docker.internal//p' /etc/hosts";
    let run = |flags: &[&str], more: &[&str]| {
        let fixed = ["run", "--rm", "--add-host", "host.docker.internal:host-gateway"];
        let words: Vec<&str> = fixed.iter().chain(more).chain(&["busybox", "sh", "-c", show]).copied().collect();
        ask(flags, &words).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let flags =
        ["--bip", "10.77.0.9/24", "--fixed-cidr=10.77.0.128/25", "--mtu", "1400", "--host-gateway-ip", "10.1.2.3"];
    assert_eq!(run(&flags, &[]), ["10.77.0.128/24", "1400", "10.77.0.9", "10.1.2.3"]);
    let flags = ["--bip=10.78.0.9/24", "--default-gateway", "10.78.0.1", "--icc=false", "--ip-masq=false"];
    assert_eq!(run(&flags, &[]), ["10.78.0.2/24", "1500", "10.78.0.1", "10.78.0.9"]);
    for key in ["enable_icc", "enable_ip_masquerade"] {
        assert_eq!(host.inspect("bridge", &format!("/Options/com.docker.network.bridge.{key}")), "false");
    }
    let said = run(&["--ipv6", "--fixed-cidr-v6", "fd77::/64", "--bip", "10.79.0.1/24"], &[]);
    assert_eq!(said[..2], ["10.79.0.2/24", "fd77::2/64"], "{said:?}");
    let pools = ["--default-address-pool", "base=10.80.0.0/16,size=24", "--default-network-opt", SMALL];
    ask(&pools, &["network", "create", "web"]);
    assert_eq!(host.inspect("web", "/IPAM/Config/0/Subnet"), "10.80.0.0/24");
    assert_eq!(run(&["--ip-forward-no-drop"], &["--network", "web"])[..2], ["10.80.0.2/24", "1300"]);
    assert_eq!(ask(&["--bridge", "none"], &["run", "--rm", "busybox", "ls", "/sys/class/net"]), "lo");
    for (flag, expected) in [("--ip", "127.0.0.1"), ("--publish-default", "127.0.0.1")] {
        ask(&[flag, expected], &["run", "--detach", "--name", "it", "-p", "80", "busybox", "sleep", "1000"]);
        assert_eq!(host.inspect("it", "/NetworkSettings/Ports/80~1tcp/0/HostIp"), expected, "{flag}");
        host.ok(["rm", "--force", "it"]);
    }
    // What holds in neither place is refused, and what stands in both.
    let file = host.file("both.json", r#"{"mtu": 1400}"#);
    for (flags, words) in [
        (&["--fixed-cidr", "10.1"][..], "fixed-cidr"),
        (&["--default-network-opt", "web"], "not driver=key=value"),
        (&["--config-file", file.to_str().expect("UTF-8"), "--mtu", "1300"], "mtu"),
    ] {
        let said = Daemon::command(&host, flags).run();
        assert!(said.code() != Some(0) && said.stderr().contains(words), "{said}");
    }
}

const SMALL: &str = "bridge=com.docker.network.driver.mtu=1300";

#[test]
fn forwarding_is_left_alone_where_that_is_said() {
    let Some(host) = Host::with_busybox() else { return };
    let file = host.file("daemon.json", r#"{"ip-forward": false}"#);
    let config = ["--config", file.to_str().expect("UTF-8")];
    host.ok(config.iter().chain(&["run", "--rm", "busybox", "true"]).copied());
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "0");
    host.ok(["run", "--rm", "busybox", "true"]);
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
}
