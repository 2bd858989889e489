//! Containers that come to networks and leave them while they run, and what goes along: ways out, ports, addresses.

use crate::fixture::network::{Neighbour, address, briefly, from_container, from_here, from_there, ip, links, serve};
use crate::fixture::{Command, Host, copy_program, eventually, need, tool};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(server) = neighbour.serve() else { return };
    host.ok(["network", "create", "one"]);
    host.ok(["network", "create", "two"]);
    let first = serve(&host, "first", &["--network", "one", "-p", "8080:80"]);
    serve(&host, "second", &["--network", "two"]);
    assert_eq!(briefly(|| from_container(&host, "second", &first)), None);
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
    assert_eq!(briefly(|| from_container(&host, "second", &first)), None);
    assert!(host.refused(1, ["network", "disconnect", "one", "second"]).contains("is not connected to network one"));
    // A published port moves with the way out.
    host.ok(["network", "connect", "two", "first"]);
    host.ok(["network", "disconnect", "one", "first"]);
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    assert_eq!(from_container(&host, "first", "10.99.0.2").as_deref(), Some("10.99.0.1"));
    drop(server);
    // One that does not run finds its networks at its next start.
    host.ok(["stop", "-t", "0", "first"]);
    host.ok(["network", "connect", "one", "first"]);
    host.ok(["start", "first"]);
    let networks = host.inspect("first", "/NetworkSettings/Networks");
    assert_eq!(networks.as_object().expect("networks").keys().collect::<Vec<_>>(), ["one", "two"]);
    assert!(networks.as_object().expect("networks").values().all(|place| place["IPAddress"] != ""), "{networks}");
}

#[test]
fn who_starts_on_no_network_may_come_to_one() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "one"]);
    host.ok(["run", "--detach", "--name", "there", "--network", "one", "busybox", "sleep", "1000"]);
    for first in ["one", "bridge"] {
        host.ok(["create", "--name", "it", "--network", first, "busybox", "sleep", "1000"]);
        host.ok(["network", "disconnect", first, "it"]);
        host.ok(["start", "it"]);
        assert_eq!(host.inspect("it", "/NetworkSettings/Networks"), json!({}));
        // Also after a restart, which keeps what there is.
        host.ok(["restart", "-t", "0", "it"]);
        host.ok(["network", "connect", "one", "it"]);
        assert!(host.ok(["exec", "it", "ping", "-c", "1", "-W", "5", "there"]).contains("1 packets received"));
        host.ok(["rm", "--force", "it"]);
    }
}

#[test]
fn published_ports_follow_the_way_out() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let six = ["--ipv6", "--subnet", "fd71::/64", "two"];
    host.ok(["network", "create", "one"]);
    host.ok(["network", "create"].iter().chain(&six).copied());
    serve(&host, "it", &["--network", "one", "-p", "8080:80", "-p", "8081:80,from=10.99.0.0/16"]);
    let pid = host.inspect("it", "/State/Pid").to_string();
    let set = |link: &str, state: &str| {
        Command::new("nsenter", ["--target", &pid, "--net", "ip", "link", "set", link, state]).ok();
    };
    let reached = |port: &str| from_there(&neighbour, &format!("10.99.0.1:{port}")).as_deref() == Some("10.99.0.2");
    // A program leads there what comes to [::1], and it is at work from the first time on.
    let all_reached = || {
        reached("8080") && reached("8081") && ["127.0.0.1:8080", "[::1]:8080"].iter().all(|at| from_here(at).is_some())
    };
    assert!(all_reached());
    // One that is no better changes nothing, and one that is takes the ports along.
    host.ok(["network", "connect", "--gw-priority", "-1", "two", "it"]);
    set("eth1", "down");
    assert!(all_reached());
    set("eth1", "up");
    host.ok(["network", "disconnect", "two", "it"]);
    host.ok(["network", "connect", "--gw-priority", "5", "two", "it"]);
    set("eth0", "down");
    assert!(all_reached());
    set("eth0", "up");
    host.ok(["network", "disconnect", "two", "it"]);
    assert!(all_reached());
    // Where it is on no network any more they wait for the next one, and nobody else has them meanwhile.
    host.ok(["network", "disconnect", "one", "it"]);
    assert_eq!((host.ok(["port", "it"]), reached("8080")), (String::new(), false));
    let said = host.refused(125, ["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(said.contains("port is already allocated"), "{said}");
    host.ok(["network", "connect", "one", "it"]);
    assert!(all_reached());
    assert!(host.ok(["port", "it"]).contains("80/tcp -> 0.0.0.0:8081"));
    // Nothing of it is left.
    host.ok(["rm", "--force", "it"]);
    assert!(!briefly(|| reached("8080")));
    drop(neighbour);
}

#[test]
fn each_family_has_its_way_out() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "four"]);
    host.ok(["network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd73::/64", "six"]);
    host.ok(["network", "create", "--ipv6", "--subnet", "fd74::/64", "zoth"]);
    serve(&host, "it", &["--network", "four", "--network", "six", "-p", "8080:80"]);
    let ways = || {
        let way = |family: &str| {
            let said = host.ok(["exec", "it", "ip", family, "route", "show", "default"]);
            said.split_whitespace().skip_while(|word| *word != "via").nth(1).unwrap_or_default().to_owned()
        };
        (way("-4"), way("-6"))
    };
    let four = host.ok(["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "four"]);
    assert_eq!(ways(), (four.clone(), "fd73::1".to_owned()));
    let answers = || ["127.0.0.1:8080", "[::1]:8080"].map(|at| from_here(at).is_some());
    assert_eq!(answers(), [true; 2]);
    // A priority holds for each; of equals one that has both has both, whatever it is called.
    host.ok(["network", "connect", "--gw-priority", "-1", "zoth", "it"]);
    assert_eq!(ways(), (four.clone(), "fd73::1".to_owned()));
    host.ok(["network", "disconnect", "zoth", "it"]);
    host.ok(["network", "connect", "zoth", "it"]);
    assert_eq!(ways().1, "fd74::1");
    assert_ne!(ways().0, four);
    assert_eq!(answers(), [true; 2]);
    host.ok(["network", "disconnect", "zoth", "it"]);
    assert_eq!(ways(), (four.clone(), "fd73::1".to_owned()));
    assert_eq!(answers(), [true; 2]);
    host.ok(["network", "disconnect", "six", "it"]);
    assert_eq!(ways(), (four, String::new()));
    assert_eq!(answers(), [true; 2], "a program passes on what comes by IPv6");
    assert!(from_there(&neighbour, "[fd99::1]:8080").is_some());
    drop(neighbour);
}

#[test]
fn ports_of_who_began_on_internal_networks_wait_for_a_way_out() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "--internal", "inside"]);
    host.ok(["network", "create", "web"]);
    serve(&host, "it", &["--network", "inside", "-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    let here = |port: &str| from_here(&format!("127.0.0.1:{port}")).is_some();
    let there = || from_there(&neighbour, "10.99.0.1:8080");
    // A program takes what comes to [::1], and does not keep who asks waiting.
    let ways = || [here("8080"), here("8081"), there().is_some(), from_here("[::1]:8080").is_some()];
    assert_eq!((host.ok(["port", "it"]), ways()), (String::new(), [false; 4]));
    // Nobody has them meanwhile; who begins on internal networks alone does not mind yet.
    let said = host.refused(125, ["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(said.contains("port is already allocated"), "{said}");
    serve(&host, "late", &["--network", "inside", "-p", "8080:80"]);
    host.ok(["network", "connect", "web", "it"]);
    assert_eq!(ways(), [true; 4]);
    assert_eq!(there().as_deref(), Some("10.99.0.2"));
    let said = host.refused(1, ["network", "connect", "web", "late"]);
    assert!(said.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{said}");
    assert_eq!(host.inspect("late", "/NetworkSettings/Networks").as_object().map(serde_json::Map::len), Some(1));
    host.ok(["rm", "--force", "late"]);
    // And back.
    host.ok(["network", "disconnect", "web", "it"]);
    assert_eq!((host.ok(["port", "it"]), ways()), (String::new(), [false; 4]));
    host.ok(["network", "connect", "web", "it"]);
    assert_eq!(ways(), [true; 4]);
}

#[test]
fn a_restart_by_hand_keeps_namespace_address_and_ports() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.ok(["network", "create", "web"]);
    let flags = ["--network", "web", "-p", "8080:80", "--restart", "unless-stopped"];
    let first = serve(&host, "it", &flags);
    let pid = || host.inspect("it", "/State/Pid");
    let namespace = || host.ok(["exec", "it", "readlink", NAMESPACE]);
    let answers = || from_here("127.0.0.1:8080").is_some();
    let restarts = |prepare: &dyn Fn()| {
        let last = pid();
        prepare();
        host.ok(["restart", "--time", "0", "it"]);
        assert_ne!(pid(), last);
        eventually("it serves", answers);
        assert_eq!(
            (host.inspect("it", "/RestartCount"), host.inspect("it", "/State/Running")),
            (0.into(), true.into())
        );
        (address(&host, "it"), namespace())
    };
    let same = (first, namespace());
    for prepare in [&|| {}, &|| drop(host.ok(["pause", "it"]))] as [&dyn Fn(); 2] {
        // Who comes next would be given the address.
        host.ok(["run", "--rm", "--network", "web", "busybox", "true"]);
        assert_eq!(restarts(prepare), same);
    }
    // It ends by itself, and its policy counts from nought.
    host.ok(["kill", "--signal", "KILL", "it"]);
    host.ok(["start", "it"]);
    let first = address(&host, "it");
    // One that lost its bridge gets another one, and all that is on it.
    let bridge = format!("br-{}", &id[..12]);
    let again = restarts(&|| ip(&["link", "delete", &bridge]));
    assert!(links().contains(&bridge) && again.0 != first, "{again:?}");
    if need("nft").is_some() {
        restarts(&|| drop(tool("nft", ["flush", "ruleset"])));
    }
    // Who shares its network has it still.
    let words = ["run", "--detach", "--network", "container:it", "busybox", "sleep", "1000"];
    let (one, two) = (namespace(), host.ok(words));
    restarts(&|| {});
    assert_eq!((namespace(), host.ok(["exec", &two, "readlink", NAMESPACE])), (one.clone(), one));
    // After an upgrade its shim is another one.
    let (old, new) = (env!("CARGO_BIN_EXE_dhow"), host.dir().join("dhow"));
    copy_program(old, &new);
    let runs = |path: &Path| {
        let exe = fs::metadata(format!("/proc/{}/exe", host.shim("it"))).expect("look at the shim");
        exe.ino() == fs::metadata(path).expect("look at the program").ino()
    };
    assert!(runs(old.as_ref()));
    let upgraded = Command::new(new.to_str().expect("UTF-8"), ["restart", "--time", "0", "it"]);
    let state = [("DHOW_ROOT", host.root()), ("DHOW_RUN", host.run_dir())];
    state.iter().fold(upgraded, |all, (name, path)| all.env(name, path.to_str().expect("UTF-8"))).ok();
    assert!(runs(&new));
    eventually("it serves", answers);
    host.ok(["rm", "--force", "it", &two]);
    host.ok(["run", "--rm", "-p", "8080:80", "busybox", "true"]);
}

const NAMESPACE: &str = "/proc/self/ns/net";

#[test]
fn a_network_that_is_gone_is_left_by_force() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "web"]);
    host.ok(["run", "--detach", "--name", "it", "--network", "web", "busybox", "sleep", "1000"]);
    let part = |flags: &[&str], name: &str, container: &str| {
        host.run(["network", "disconnect"].iter().chain(flags).chain(&[name, container]).copied())
    };
    let refused = |flags: &[&str], name: &str, container: &str, words: &str| {
        let output = part(flags, name, container);
        assert!(output.code() == Some(1) && output.stderr().ends_with(words), "{output}");
    };
    // From one that is there it makes no difference, as with Docker.
    assert_eq!(part(&["--force"], "web", "it").ok(), "");
    assert_eq!(host.ok(["exec", "it", "ls", "/sys/class/net"]), "lo");
    for flags in [&[][..], &["--force"]] {
        refused(flags, "web", "it", "is not connected to network web");
        refused(flags, "web", "nobody", "No such container: nobody");
    }
    host.ok(["stop", "-t", "0", "it"]);
    host.ok(["network", "connect", "web", "it"]);
    host.ok(["network", "rm", "web"]);
    refused(&[], "web", "it", "network web not found");
    refused(&["--force"], "web", "nobody", "network web not found");
    assert_eq!(part(&["-f"], "web", "it").ok(), "");
    refused(&["--force"], "web", "it", "network web not found");
    host.ok(["start", "it"]);
    host.ok(["rm", "--force", "it"]);
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
