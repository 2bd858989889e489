//! Links that are not our bridges: those that containers share with this host, and those of others.

use crate::fixture::network::{Neighbour, briefly, from_container, from_here, from_there, ip, serve};
use crate::fixture::{Command, Host, eventually, need, skip};
use std::fs;

#[test]
fn containers_share_a_link_of_this_host() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let subnet = ["--subnet", "10.99.0.0/24", "--gateway", "10.99.0.2", "--ip-range", "10.99.0.64/26"];
    let create = |driver: &str, name: &str, more: &[&str]| {
        let words = ["network", "create", "-d", driver];
        host.run(words.iter().chain(more).chain(&[name]).copied())
    };
    let output = create("macvlan", "lan", &[&subnet[..], &["-o", "parent=lan0"]].concat());
    if output.stderr().contains("this kernel has no links of the kind macvlan") {
        return skip("no macvlan in this kernel").unwrap_or_default();
    }
    output.ok();
    let first = serve(&host, "first", &["--network", "lan"]);
    assert_eq!(first, "10.99.0.64");
    // It is a machine on the LAN: under its own address, to the neighbour and from it; this host is not in between.
    assert_eq!(from_there(&neighbour, &first).as_deref(), Some("10.99.0.2"));
    assert_eq!(briefly(|| from_here(&first)), None);
    let second =
        serve(&host, "second", &["--network", "lan", "--ip", "10.99.0.99", "--mac-address", "02:42:00:00:00:99"]);
    assert_eq!(from_container(&host, "first", &second).as_deref(), Some(first.as_str()), "in the mode bridge");
    assert_eq!(host.ok(["exec", "second", "cat", "/sys/class/net/eth0/address"]), "02:42:00:00:00:99");
    assert!(from_there(&neighbour, &second).is_some());
    assert!(host.ok(["exec", "second", "ip", "route"]).contains("default via 10.99.0.2 dev eth0"));
    // Whoever has the address next is known on the LAN at once.
    host.ok(["rm", "--force", "second"]);
    let known = || neighbour.run("ip", &["neighbour", "show", "to", "10.99.0.99"]).run().stdout();
    host.ok(["run", "--detach", "--network", "lan", "--ip", "10.99.0.99", "busybox", "sleep", "1000"]);
    eventually("the neighbour hears of it", || known().contains("02:42:0a:63:00:63"));
    host.ok(["network", "create", "web"]);
    host.ok(["network", "connect", "web", "first"]);
    host.ok(["network", "disconnect", "lan", "first"]);
    assert!(!host.ok(["exec", "first", "ip", "link"]).contains("eth0"));
    // Each is kept from the others where the mode says so, and has no way out of an internal one.
    create(
        "macvlan",
        "apart",
        &["--subnet", "10.98.0.0/24", "--internal", "-o", "parent=lan0", "-o", "macvlan_mode=private"],
    )
    .ok();
    let third = serve(&host, "third", &["--network", "apart"]);
    serve(&host, "fourth", &["--network", "apart"]);
    assert_eq!(briefly(|| from_container(&host, "fourth", &third)), None);
    assert!(!host.ok(["exec", "third", "ip", "route"]).contains("default"));
    let output = host.run(["create", "--network", "lan", "-p", "80", "busybox", "true"]);
    assert!(output.stderr().contains("Published ports are discarded when using macvlan network"), "{output}");
    for (driver, options, words) in [
        ("macvlan", ["parent=nowhere", ""], "-o parent interface was not found on the host: nowhere"),
        ("macvlan", ["parent=lo", ""], "loopback interface is not a valid macvlan parent link"),
        ("macvlan", ["parent=lan0", "macvlan_mode=boat"], "requested macvlan mode 'boat' is not valid"),
        ("macvlan", ["parent=lan0", "macvlan_mode=passthru"], "is already using parent interface lan0"),
        ("macvlan", ["parent=lan0", "colour=red"], "unknown option of the driver macvlan: colour"),
        ("ipvlan", ["parent=lan0", ""], "is already using parent interface lan0"),
    ] {
        let more: Vec<&str> = options.iter().filter(|it| !it.is_empty()).flat_map(|it| ["-o", *it]).collect();
        let output = create(driver, "other", &more);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{output}");
    }
    drop(neighbour);
}

#[test]
fn kinds_of_links_that_the_kernel_lacks_are_refused_by_name() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let output =
        host.run(["network", "create", "-d", "ipvlan", "--subnet", "10.99.0.0/24", "-o", "parent=lan0", "lan"]);
    match output.code() {
        Some(0) => {
            let address = serve(&host, "it", &["--network", "lan", "--ip", "10.99.0.64"]);
            assert_eq!(from_there(&neighbour, &address).as_deref(), Some("10.99.0.2"));
        }
        _ => assert!(output.stderr().ends_with("this kernel has no links of the kind ipvlan"), "{output}"),
    }
    // Nor is a port of SCTP said to be open where nobody could serve it.
    let output = host.run(["run", "--rm", "-p", "9:9/sctp", "busybox", "true"]);
    let has_sctp = fs::read_to_string("/proc/net/protocols").is_ok_and(|text| text.contains("SCTP"));
    assert!(output.code() == Some(0) || !has_sctp && output.stderr().ends_with("this kernel has no SCTP"), "{output}");
}

#[test]
fn frames_on_bridges_of_others_are_left_alone() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("ip")) else { return };
    let (Some(one), Some(two)) = (Neighbour::on("vm1", 97), Neighbour::on("vm2", 96)) else { return };
    let call = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if fs::write(call, "1").is_err() {
        return skip("no br_netfilter in this kernel").unwrap_or_default();
    }
    ip(&["link", "add", "theirs", "type", "bridge"]);
    for (neighbour, link, address) in [(&one, "vm1", "172.17.0.2/16"), (&two, "vm2", "172.17.0.3/16")] {
        ip(&["address", "flush", "dev", link]);
        ip(&["link", "set", link, "master", "theirs"]);
        neighbour.run("ip", &["address", "add", address, "dev", link]).ok();
    }
    ip(&["link", "set", "theirs", "up"]);
    let reaches = || one.run("busybox", &["ping", "-c", "1", "-W", "2", "172.17.0.3"]).run().code() == Some(0);
    eventually("the bridge forwards", reaches);
    // Our containers have the same addresses, on another bridge.
    let address = serve(&host, "it", &["-p", "8080:80"]);
    assert_eq!(address, "172.17.0.2");
    assert!(reaches(), "frames of others pass as before");
    assert!(from_here("127.0.0.1:8080").is_some() && from_here(&address).is_some());
}

#[test]
fn from_a_bridge_of_others_to_another_one_nothing_is_forwarded() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("ip")) else { return };
    // A bridge with two machines on it, and this host as their router.
    let bridge = |name: &str, links: [&str; 2], net: u8| {
        ip(&["link", "add", name, "type", "bridge"]);
        ip(&["address", "add", &format!("10.{net}.0.1/24"), "dev", name]);
        ip(&["link", "set", name, "up"]);
        let machine = |(link, number): (&str, u8)| {
            let machine = Neighbour::on(link, net)?;
            ip(&["address", "flush", "dev", link]);
            ip(&["link", "set", link, "master", name]);
            machine.run("ip", &["address", "flush", "dev", link]).ok();
            machine.run("ip", &["address", "add", &format!("10.{net}.0.{number}/24"), "dev", link]).ok();
            machine.run("ip", &["route", "add", "default", "via", &format!("10.{net}.0.1")]).ok();
            Some(machine)
        };
        Some([machine((links[0], 2))?, machine((links[1], 3))?])
    };
    let reaches =
        |from: &Neighbour, to: &str| from.run("busybox", &["ping", "-c", "1", "-W", "1", to]).run().code() == Some(0);
    let (Some(one), Some(two)) = (bridge("one", ["vm1", "vm2"], 97), bridge("two", ["vm3", "vm4"], 96)) else { return };
    host.ok(["run", "--detach", "busybox", "sleep", "1000"]);
    // One that is made while the rules are loaded.
    let Some(three) = bridge("three", ["vm5", "vm6"], 95) else { return };
    let call = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let has_bridge_netfilter = fs::write(call, "0").is_ok();
    for called in ["0", "1"].iter().take(if has_bridge_netfilter { 2 } else { 1 }) {
        if has_bridge_netfilter {
            fs::write(call, called).expect("have the firewall see frames, or not");
        }
        for (on, net, other) in [(&one, 97, "10.96.0.2"), (&two, 96, "10.95.0.2"), (&three, 95, "10.97.0.2")] {
            eventually("the bridge passes frames on", || reaches(&on[0], &format!("10.{net}.0.3")));
            assert!(reaches(&on[1], &format!("10.{net}.0.1")), "this host itself is reached");
            assert!(!reaches(&on[0], other), "from {net} to {other}, frames are seen: {called}");
        }
    }
}

#[test]
fn a_store_forwards_for_another_ones_containers_on_a_bridge_of_others() {
    let (Some(one), Some(two)) = (Host::with_busybox(), Host::with_busybox()) else { return };
    let (Some(neighbour), Some(machine)) = (Neighbour::new(), Neighbour::on("vm1", 97)) else { return };
    let Some(server) = neighbour.serve() else { return };
    if need("nft").is_none() {
        return;
    }
    for line in [
        "link add theirs type bridge",
        "address flush dev vm1",
        "link set vm1 master theirs",
        "address add 10.97.0.1/24 dev theirs",
        "link set theirs up",
    ] {
        ip(&line.split(' ').collect::<Vec<_>>());
    }
    // The first one turns forwarding on.
    let inside = serve(&one, "it", &[]);
    let words = ["network", "create", "-o", "com.docker.network.bridge.name=theirs", "--subnet", "10.97.0.0/24"];
    two.ok(words.iter().chain(&["--ip-range", "10.97.0.64/26", "web"]).copied());
    let visitor = serve(&two, "it", &["--network", "web", "-p", "8080:80"]);
    let goes = || {
        from_container(&two, "it", "10.99.0.2").as_deref() == Some("10.99.0.1")
            && from_there(&neighbour, "10.99.0.1:8080").as_deref() == Some("10.99.0.2")
    };
    assert!(goes(), "out, and to its port");
    let closed = || {
        let to = [from_container(&two, "it", &inside), from_container(&one, "it", &visitor)];
        (to, from_there(&neighbour, &visitor), from_there(&machine, "10.99.0.2"))
    };
    assert_eq!(
        briefly(closed),
        ([None, None], None, None),
        "each table says what comes to its own, and others are as before"
    );
    // Its table is loaded anew.
    one.ok(["network", "create", "more"]);
    eventually("the table is whole again", goes);
    one.ok(["run", "--rm", "--network", "more", "busybox", "true"]);
    assert!(goes(), "it stays so");
    let rules = || Command::new("nft", ["list", "ruleset"]).ok();
    assert!(rules().contains(" from theirs 10.97.0.64/26"), "{}", rules());
    two.ok(["rm", "--force", "it"]);
    eventually("its rules are gone", || !rules().contains(" theirs "));
    one.ok(["rm", "--force", "it"]);
    drop(server);
}
