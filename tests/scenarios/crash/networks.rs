//! What is killed while a network comes or goes, and what is left of one in the kernel.

use super::mark;
use crate::fixture::network::{WHO, from_here, links};
use crate::fixture::{Host, eventually, need, tool};
use std::fs;

/// Whether this scenario's network namespace passes packets on.
pub fn forwarding() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("read").trim().to_owned()
}

/// Nobody is on a network any more: who was killed may have left rules, which the next command takes away, and forwarding
/// is as it was found. Who left the mark may not have died of it yet.
pub fn rests(host: &Host, found: &str) {
    eventually("forwarding is as it was found", || {
        host.ok(["ps"]);
        forwarding() == found
    });
    if need("nft").is_some() {
        eventually("no table of ours is left", || {
            host.ok(["ps"]);
            !tool("nft", ["list", "tables"]).contains("dhow")
        });
    }
}

/// On a network, and with a published port: what was given is there for the next one.
pub fn at_network(host: &Host, point: &str) {
    let found = forwarding();
    host.ok(["create", "--name", "it", "-p", "8080:80", "busybox", "sleep", "1000"]);
    host.dhow(["start", "it"]).fail(point, &mark(host)).run();
    host.dhow(["stop", "--time", "0", "it"]).fail(point, &mark(host)).run();
    eventually("the point is reached", || mark(host).exists());
    host.ok(["rm", "--force", "it"]);
    rests(host, &found);
    host.ok(["run", "--detach", "--name", "it", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let inside = host.inspect("it", "/NetworkSettings/IPAddress");
    // Hosts that came before in this scenario have left their bridges: the subnet is another one each time.
    assert!(inside.as_str().is_some_and(|address| address.starts_with("172.")), "{inside}");
}

pub fn at_connection(host: &Host, point: &str) {
    host.ok(["network", "create", "web"]);
    host.ok(["run", "--detach", "--name", "it", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let links = || host.ok(["exec", "it", "ls", "/sys/class/net"]).split_whitespace().count();
    host.dhow(["network", "connect", "web", "it"]).fail(point, &mark(host)).run();
    // Once more, if it came to nothing: what was begun is in nobody's way.
    let is_there = host.inspect("it", "/NetworkSettings/Networks").get("web").is_some();
    if !is_there {
        host.ok(["network", "connect", "web", "it"]);
    }
    assert_eq!(links(), 3);
    host.dhow(["network", "disconnect", "bridge", "it"]).fail(point, &mark(host)).run();
    if host.inspect("it", "/NetworkSettings/Networks").get("bridge").is_some() {
        host.ok(["network", "disconnect", "bridge", "it"]);
    }
    assert_eq!(links(), 2);
    let port = host.ok(["ports", "--format", "{{.Published}} {{.Reach}}"]);
    assert_eq!(port, "0.0.0.0:8080/tcp everyone\n[::]:8080/tcp everyone");
    host.ok(["rm", "--force", "it"]);
    host.ok(["network", "rm", "web"]);
}

/// Nobody is on a network any more: what was begun to be taken back is so with the next command.
pub fn at_rest(host: &Host, point: &str) {
    assert_eq!(forwarding(), "0");
    host.dhow(["run", "--rm", "busybox", "true"]).fail(point, &mark(host)).run();
    eventually("the point is reached", || mark(host).exists());
    rests(host, "0");
}

/// Another store's containers live by the forwarding that this one turned on.
pub fn at_heir(host: &Host, point: &str) {
    let Some(other) = Host::with_busybox() else { return };
    let stay = ["run", "--detach", "--name", "it", "busybox", "sleep", "1000"];
    host.dhow(stay).fail(point, &mark(host)).run();
    other.ok(stay);
    host.ok(["rm", "--force", "it"]);
    eventually("the point is reached", || mark(host).exists());
    if need("nft").is_some() {
        eventually("its table is gone", || {
            host.ok(["ps"]);
            tool("nft", ["list", "tables"]).lines().count() == 1
        });
        assert!(tool("nft", ["list", "ruleset"]).contains("drop"));
    }
    assert_eq!(forwarding(), "1");
    other.ok(["rm", "--force", "it"]);
    rests(&other, "0");
}

/// A firewall of somebody else is opened for it, and closed again by whoever finds what is left.
pub fn at_cooperation(host: &Host, point: &str) {
    if need("nft").is_none() {
        fs::write(mark(host), "").expect("nothing to reach");
        return;
    }
    let drops = "add table inet theirs { chain forward { type filter hook forward priority 0 ; policy drop ; } ; }";
    tool("nft", [drops]);
    let has_old = need("iptables-legacy").is_some();
    if has_old {
        tool("iptables-legacy", ["-P", "FORWARD", "DROP"]);
    }
    let theirs = || {
        let old = if has_old { tool("iptables-legacy", ["-S"]) } else { String::new() };
        tool("nft", ["list", "table", "inet", "theirs"]) + &old
    };
    let before = theirs();
    host.ok(["create", "--name", "it", "-p", "8080:80", "--firewall-cooperate", "busybox", "sleep", "1000"]);
    host.dhow(["start", "it"]).fail(point, &mark(host)).run();
    eventually("the point is reached", || mark(host).exists());
    host.ok(["rm", "--force", "it"]);
    // Who left the mark may not have died of it yet.
    eventually("it is closed again", || {
        host.ok(["ps"]);
        theirs() == before
    });
    tool("nft", ["delete", "table", "inet", "theirs"]);
    if has_old {
        tool("iptables-legacy", ["-P", "FORWARD", "ACCEPT"]);
    }
}

pub fn at_network_of_users(host: &Host, point: &str) {
    host.dhow(["network", "create", "web"]).fail(point, &mark(host)).run();
    if host.ok(["network", "ls", "--quiet", "--filter", "name=web"]).is_empty() {
        host.ok(["network", "create", "web"]);
    }
    host.ok(["run", "--rm", "--network", "web", "busybox", "ip", "address", "show", "dev", "eth0"]);
    host.dhow(["network", "rm", "web"]).fail(point, &mark(host)).run();
    if !host.ok(["network", "ls", "--quiet", "--filter", "name=web"]).is_empty() {
        host.ok(["network", "rm", "web"]);
    }
    assert!(!links().iter().any(|name| name.starts_with("br-")));
}

pub fn at_resolver(host: &Host, point: &str) {
    host.ok(["network", "create", "web"]);
    let words = ["run", "--detach", "--name", "it", "--network", "web", "busybox", "sleep", "1000"];
    let found = forwarding();
    host.dhow(words).fail(point, &mark(host)).run();
    host.run(["rm", "--force", "it"]);
    rests(host, &found);
    host.ok(words);
    host.ok(["exec", "it", "nslookup", "it."]);
    host.ok(["rm", "--force", "it"]);
    host.ok(["network", "rm", "web"]);
}

/// A container that began on a routed network has its first ports of this host when it comes to another one.
pub fn at_ports(host: &Host, point: &str) {
    let routed = "com.docker.network.bridge.gateway_mode_ipv4=routed";
    host.ok(["network", "create", "--opt", routed, "open"]);
    let flags = ["--network", "open", "--publish", "8080:80"];
    let serve = ["run", "--detach", "--name", "it"].iter().chain(&flags).chain(&["busybox", "sh", "-c", WHO]);
    host.ok(serve.copied());
    let connect = ["network", "connect", "--gw-priority", "1", "bridge", "it"];
    host.dhow(connect).fail(point, &mark(host)).run();
    assert_eq!(host.ok(["port", "it"]), "80/tcp -> 0.0.0.0:", "it leads nowhere yet");
    host.ok(connect);
    eventually("it is reached", || from_here("127.0.0.1:8080").is_some());
    // Its shim holds it.
    let taken = std::net::TcpListener::bind(("0.0.0.0", 8080)).map(drop);
    assert_eq!(taken.map_err(|error| error.kind()), Err(std::io::ErrorKind::AddrInUse));
    host.ok(["rm", "--force", "it"]);
    host.ok(["network", "rm", "open"]);
}
