//! Published ports: who reaches them, by the rules that are loaded, and what keeps them so.

use crate::fixture::Command;
use crate::fixture::network::{
    Neighbour, WHO, ask, briefly, datagram, from_container, from_here, from_there, seconds, serve, serve_datagrams,
};
use crate::fixture::{Host, eventually, need, tool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;

/// Published, and by whom it is reached.
fn listed(host: &Host) -> String {
    host.ok(["ports", "--format", "{{.Published}} {{.Name}}: {{.Reach}}"])
}

#[test]
fn ports_tells_who_reaches_them() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("nft")) else { return };
    assert_eq!(listed(&host), "", "nothing is published");
    host.ok(["network", "create", "--ipv6", "both"]);
    let ports = ["-p", "80", "-p", "127.0.0.1:8081:80", "-p", "10.99.0.1:8082:80", "-p", "8083:80/udp"];
    let from = ["-p", "8084:80,from=10.99.0.0/24,from=fd99::/64"];
    let detached = ["run", "--detach", "--network", "both", "--name", "it", "-p", "8080:80"];
    host.ok(detached.iter().chain(&ports[2..]).chain(&from).chain(&["busybox", "sleep", "1000"]).copied());
    let expected = "0.0.0.0:8080/tcp it: everyone\n[::]:8080/tcp it: everyone\n127.0.0.1:8081/tcp it: this host\n\
                    10.99.0.1:8082/tcp it: LAN\n0.0.0.0:8083/udp it: everyone\n[::]:8083/udp it: everyone\n\
                    0.0.0.0:8084/tcp it: 10.99.0.0/24, fd99::/64\n[::]:8084/tcp it: fd99::/64";
    // A rule is of one family, and says what holds in it.
    let expected = expected.replace("10.99.0.0/24, fd99::/64", "10.99.0.0/24");
    assert_eq!(listed(&host), expected);
    let table = host.ok(["ports"]);
    let head = table.lines().next().unwrap_or_default().split("  ").map(str::trim).filter(|it| !it.is_empty());
    assert_eq!(head.collect::<Vec<_>>(), ["PUBLISHED", "LEADS TO", "NAME", "REACHED BY"], "{table}");
    // It is the loaded rules that are told, not what was asked for.
    let rules = tool("nft", ["--handle", "list", "tables"]);
    let ours = rules.lines().find(|line| line.contains("dhow-")).expect("our table").split_whitespace().nth(2);
    let ours = ours.expect("its name");
    tool("nft", ["delete", "element", "inet", ours, "any", "{ tcp . 8080 }"]);
    assert!(listed(&host).starts_with("0.0.0.0:8080/tcp it: nobody\n[::]:8080/tcp it: everyone\n"));
    drop(neighbour);
}

#[test]
fn a_port_may_be_open_to_some_only() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(far) = Neighbour::on("far0", 98) else { return };
    serve(&host, "it", &["-p", "8080:80,from=10.99.0.2", "-p", "10.98.0.1:8081:80"]);
    host.ok(["run", "--detach", "--name", "other", "busybox", "sleep", "1000"]);
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    assert_eq!(briefly(|| from_there(&far, "10.98.0.1:8080")), None);
    assert_eq!(from_there(&far, "10.98.0.1:8081").as_deref(), Some("10.98.0.2"), "that one is open to all");
    assert!(from_here("127.0.0.1:8080").is_some() && from_here("10.98.0.1:8080").is_some());
    assert_eq!(briefly(|| from_container(&host, "other", "10.99.0.1:8080")), None, "nor was this one named");
    // Stock clients say it by a label. The rule goes with the port.
    host.ok(["rm", "--force", "it"]);
    serve(&host, "it", &["--label", "dhow.publish.from=10.98.0.0/16", "-p", "8080:80"]);
    assert_eq!(briefly(|| from_there(&neighbour, "10.99.0.1:8080")), None);
    assert_eq!(from_there(&far, "10.98.0.1:8080").as_deref(), Some("10.98.0.2"));
    host.ok(["rm", "--force", "it"]);
    serve(&host, "it", &["-p", "8080:80"]);
    assert_eq!(from_there(&neighbour, "10.99.0.1:8080").as_deref(), Some("10.99.0.2"));
    // Rules by the hundred.
    host.ok(["run", "--rm", "-p", "20000-20599:20000-20599,from=10.99.0.0/24", "busybox", "true"]);
    let said = host.refused(125, ["run", "--rm", "-p", "8090:80,from=nowhere", "busybox", "true"]);
    assert!(said.ends_with("invalid source of a published port: \"nowhere\""), "{said}");
}

#[test]
fn where_ports_are_published_by_default_is_a_setting() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    if host.has_daemon() {
        // The environment is that of the commands, and the daemon has one of its own.
        return;
    }
    let run = |name: &str, flags: &[&str]| {
        let words = ["run", "--detach", "--name", name];
        let words = words.iter().chain(flags).chain(&["busybox", "httpd", "-f", "-p", "80"]).copied();
        host.dhow(words).env("DHOW_PUBLISH_DEFAULT", "127.0.0.1").ok();
    };
    run("it", &["-p", "8080:80", "-p", "0.0.0.0:8081:80"]);
    assert_eq!(listed(&host), "127.0.0.1:8080/tcp it: this host\n0.0.0.0:8081/tcp it: everyone");
    assert_eq!(host.inspect("it", "/HostConfig/PortBindings/80~1tcp/0/HostIp"), "", "as it was asked for");
    // It stays what it was made as.
    host.ok(["restart", "-t", "0", "it"]);
    assert!(listed(&host).starts_with("127.0.0.1:8080/tcp it: this host\n"));
    host.ok(["network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=10.99.0.1", "web"]);
    run("web", &["--network", "web", "-p", "8082:80"]);
    assert!(listed(&host).ends_with("10.99.0.1:8082/tcp web: LAN"), "a network's own word is meant");
    host.ok(["rm", "--force", "it", "web"]);
    let file = host.file("daemon.json", r#"{"ip": "127.0.0.1"}"#);
    let config = ["--config", file.to_str().expect("UTF-8")];
    for (network, expected) in [("bridge", "127.0.0.1"), ("web", "10.99.0.1"), ("other", "0.0.0.0")] {
        if network == "other" {
            host.ok(["network", "create", "other"]);
        }
        let words = ["run", "--detach", "--name", "it", "--network", network, "-p", "80", "busybox", "sleep", "1000"];
        host.ok(config.iter().chain(&words).copied());
        let ip = host.inspect("it", "/NetworkSettings/Ports/80~1tcp/0/HostIp");
        assert_eq!(ip, expected, "{network}: Docker's key is for the default bridge");
        host.ok(["rm", "--force", "it"]);
    }
    // Ours is for all, but for a network that says something itself.
    let file = host.file("daemon.json", r#"{"publish-default": "127.0.0.1"}"#);
    let config = ["--config", file.to_str().expect("UTF-8")];
    for (network, expected) in [("bridge", "127.0.0.1"), ("web", "10.99.0.1"), ("other", "127.0.0.1")] {
        let words = ["run", "--detach", "--name", "it", "--network", network, "-p", "80", "busybox", "sleep", "1000"];
        host.ok(config.iter().chain(&words).copied());
        assert_eq!(host.inspect("it", "/NetworkSettings/Ports/80~1tcp/0/HostIp"), expected, "{network}");
        host.ok(["rm", "--force", "it"]);
    }
    drop(neighbour);
}

/// Each drops what is forwarded of IPv6 alone.
const FIREWALLS_OF_IPV6: [&str; 4] = [
    "ip6tables -P FORWARD DROP",
    "ip6tables-legacy -P FORWARD DROP",
    "nft 'add table ip6 theirs { chain forward { type filter hook forward priority 0 ; policy drop ; } ; }'",
    "nft 'add table inet theirs { chain forward { type filter hook forward priority 0 ; policy accept ; \
     meta nfproto ipv6 drop ; } ; }'",
];

#[test]
fn firewalls_of_others_that_drop_ipv6_are_told_and_opened() {
    let programs = ["nft", "ip6tables", "ip6tables-legacy"].iter().all(|program| need(program).is_some());
    for (number, line) in FIREWALLS_OF_IPV6.iter().enumerate().filter(|_| programs) {
        let link = format!("lan{number}");
        let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::on(&link, 99)) else { return };
        host.ok(["network", "create", "--ipv6", "--subnet", &format!("fd6{number}::/64"), "sea"]);
        sh(line);
        serve(&host, "it", &["--network", "sea", "-p", "8080:80"]);
        let comes = |address: &str| from_there(&neighbour, &format!("{address}:8080")).is_some();
        assert_eq!((comes("10.99.0.1"), briefly(|| comes("[fd99::1]"))), (true, false), "{line}");
        let said = told(&host);
        assert!(said.iter().any(|line| line.contains("drops what others send to published ports")), "{line}: {said:?}");
        serve(&host, "asks", &["--network", "sea", "-p", "8081:80", "--firewall-cooperate"]);
        let other = |address: &str| from_there(&neighbour, &format!("{address}:8081")).is_some();
        assert_eq!((other("10.99.0.1"), other("[fd99::1]")), (true, true), "{line}");
        host.ok(["rm", "--force", "asks"]);
        eventually("it is closed again", || !briefly(|| comes("[fd99::1]")));
        for line in &said {
            let line = line.split("this lets it through: ").nth(1).and_then(|rest| rest.split(';').next());
            sh(line.expect("a line that helps"));
        }
        assert!(comes("[fd99::1]"), "{line}: {said:?}");
        host.ok(["rm", "--force", "it"]);
        drop(neighbour);
        drop(host);
        sh("nft flush ruleset; ip6tables-legacy -P FORWARD ACCEPT; ip6tables-legacy -F; ip6tables-legacy -X");
    }
}

#[test]
fn firewalls_of_others_are_opened_where_the_environment_says_so() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("nft")) else { return };
    if host.has_daemon() {
        return;
    }
    tool("nft", ["add table inet theirs { chain forward { type filter hook forward priority 0 ; policy drop ; } ; }"]);
    for (word, opens) in [("0", false), ("1", true)] {
        let words = ["run", "--detach", "--name", "it", "-p", "8080:80", "busybox", "sh", "-c", WHO];
        host.dhow(words).env("DHOW_FIREWALL_COOPERATE", word).ok();
        eventually("it serves", || from_container(&host, "it", "127.0.0.1").is_some());
        let comes = || from_there(&neighbour, "10.99.0.1:8080").is_some();
        assert_eq!(if opens { comes() } else { briefly(comes) }, opens);
        assert_eq!(tool("nft", ["list", "table", "inet", "theirs"]).contains("comment \"dhow-"), opens);
        host.ok(["rm", "--force", "it"]);
    }
    tool("nft", ["delete", "table", "inet", "theirs"]);
}

#[test]
fn a_flush_of_the_firewall_is_mended_without_a_start() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("nft")) else { return };
    let watch = host.run_dir().join("firewall.watch");
    serve(&host, "first", &["-p", "8080:80"]);
    let watcher = || {
        let bytes = fs::read(&watch).unwrap_or_default();
        bytes.try_into().map_or(0, i32::from_ne_bytes)
    };
    eventually("somebody watches", || watcher() != 0);
    serve(&host, "second", &["-p", "8081:80"]);
    let reached = |port: &str| from_there(&neighbour, &format!("10.99.0.1:{port}")).as_deref() == Some("10.99.0.2");
    let dirty = || {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", watcher())).expect("the watcher lives");
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("its memory").trim();
        line.trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = dirty();
    for _ in 0..3 {
        tool("nft", ["flush", "ruleset"]);
        eventually("the table is loaded again", || reached("8080") && reached("8081"));
    }
    let tables = tool("nft", ["list", "tables"]);
    let ours = tables.split_whitespace().find(|word| word.starts_with("dhow-")).expect("our table").to_owned();
    tool("nft", ["flush", "chain", "inet", &ours, "prerouting"]);
    eventually("its chain is filled again", || reached("8080"));
    assert!(dirty() <= before + 16, "what it hears costs it no memory: {before} KiB, then {}", dirty());
    // When the one that watches is killed, the other one takes over.
    let pid = watcher();
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill the shim");
    eventually("the other one watches", || watcher() != pid);
    tool("nft", ["flush", "ruleset"]);
    eventually("the table is loaded again", || reached("8081"));
    let _: Value = host.inspect("first", "/State/ExitCode");
    drop(neighbour);
}

/// Firewalls as others set them up, by the program that they use. Each lets what it knows through, and none knows us.
const FIREWALLS: [(&str, &str); 5] = [
    (
        "nftables",
        "nft 'add table inet theirs { chain forward { type filter hook forward priority 0 ; policy drop ; \
         ct state established,related accept ; tcp dport { 22, 443 } accept ; } ; }'",
    ),
    (
        "ufw",
        "for t in iptables ip6tables; do $t -P FORWARD DROP; for c in before-logging before user after; do $t -N ufw-$c-forward; \
         $t -A FORWARD -j ufw-$c-forward; done; $t -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; done; \
         iptables -A ufw-before-forward -p icmp --icmp-type destination-unreachable -j ACCEPT; \
         iptables -A ufw-user-forward -p tcp -m multiport --dports 22,443 -j ACCEPT; \
         iptables -A ufw-after-forward -m limit --limit 3/min -j LOG --log-prefix '[UFW BLOCK] '",
    ),
    (
        "iptables-legacy",
        "iptables-legacy -P FORWARD DROP; iptables-legacy -N theirs; iptables-legacy -A FORWARD -j theirs; \
         iptables-legacy -A theirs -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; \
         iptables-legacy -A theirs -i docker0 -j ACCEPT; iptables-legacy -A FORWARD -p tcp --dport 443 -j ACCEPT",
    ),
    (
        "docker",
        "iptables -P FORWARD DROP; for c in DOCKER-USER DOCKER-FORWARD DOCKER DOCKER-CT; do iptables -N $c; done; \
         iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -j DOCKER-FORWARD; iptables -A DOCKER-FORWARD -j DOCKER-CT; \
         iptables -A DOCKER-FORWARD -i docker0 -j ACCEPT; iptables -A DOCKER-FORWARD -o docker0 -j DOCKER; \
         iptables -A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; \
         iptables -A DOCKER ! -i docker0 -o docker0 -j DROP; iptables -A DOCKER-USER -j RETURN",
    ),
    (
        "firewalld",
        "nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10 ; policy accept ; \
         ct state { established, related } accept ; ct status dnat accept ; iifname \"lo\" accept ; ct state invalid drop ; \
         ip6 daddr { ::/96, 2002::/24 } reject ; jump filter_FORWARD_POLICIES ; reject with icmpx admin-prohibited ; } ; \
         chain filter_FORWARD_POLICIES { iifname \"eth9\" oifname \"eth9\" accept ; } ; }'",
    ),
];

#[test]
fn who_never_stops_sending_is_led_to_who_has_the_port_now() {
    let (Some(host), Some(neighbour), Some(())) = (Host::with_busybox(), Neighbour::new(), need("python3")) else {
        return;
    };
    // Always the same one, as far as the kernel is concerned.
    let line = datagram("10.99.0.1", 5353).replace("s.settimeout", "s.bind(('', 5555))\ns.settimeout");
    let answer = || ask(neighbour.run("python3", &["-c", &line]));
    host.ok(["run", "--rm", "busybox", "true"]);
    assert_eq!(answer(), None, "nobody is there yet");
    for name in ["first", "second"] {
        host.ok(["run", "--detach", "--name", name, "-p", "5353:53/udp", "busybox", "sleep", "1000"]);
        let server = serve_datagrams(&host, name, 53);
        eventually("it answers", || answer().as_deref() == Some("10.99.0.2"));
        host.ok(["stop", "--time", "0", name]);
        drop(server);
        assert_eq!(answer(), None, "{name} is gone");
    }
}

fn sh(line: &str) {
    Command::new("sh", ["-ec", line]).ok();
}

fn told(host: &Host) -> Vec<String> {
    let output = host.run(["ports"]);
    output.stderr().lines().map(str::to_owned).collect()
}

#[test]
fn firewalls_of_others_that_drop_are_told_with_the_line_that_helps() {
    let programs = ["nft", "iptables", "iptables-legacy"].iter().all(|program| need(program).is_some());
    for (number, (firewall, line)) in FIREWALLS.iter().enumerate().filter(|_| programs) {
        // The kernel takes a link away in its own time.
        let link = format!("lan{number}");
        let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::on(&link, 99)) else { return };
        sh(line);
        sh("ip route add default via 10.99.0.2");
        serve(&host, "it", &["-p", "0.0.0.0:8080:80"]);
        let comes = || from_there(&neighbour, "10.99.0.1:8080").is_some();
        let leaves = || {
            let ping = ["exec", "it", "ping", "-c", "1", "-W", "1", "10.99.0.2"];
            host.run(ping).code() == Some(0)
        };
        let of = |said: &[String], words: &str| said.iter().any(|line| line.contains(words));
        let said = told(&host);
        let closed = of(&said, "drops what others send to published ports");
        assert_eq!(if closed { briefly(comes) } else { comes() }, !closed, "{firewall}: {said:?}");
        // Where a rule asks for a protocol or a port, it is some of that.
        assert!(of(&said, "what containers send"), "{firewall}: {said:?}");
        assert!(!leaves(), "{firewall} drops something");
        assert_eq!(listed(&host).ends_with("it: this host"), closed, "{firewall}");
        // The command that publishes says it too, and goes on.
        let output = host.run(["create", "--name", "other", "-p", "8081:80", "busybox", "true"]);
        assert!(output.code() == Some(0) && output.stderr().contains("the firewall of this host drops"), "{output}");
        // One line each lets through what it says.
        for line in &said {
            let line = line.split("this lets it through: ").nth(1).and_then(|rest| rest.split(';').next());
            sh(line.expect("a line that helps"));
        }
        assert!(comes() && told(&host).is_empty(), "{firewall}: {:?}", told(&host));
        eventually(&format!("{firewall} lets through what leaves"), leaves);
        assert_eq!(listed(&host), "0.0.0.0:8080/tcp it: everyone");
        host.ok(["rm", "--force", "it", "other"]);
        drop(neighbour);
        drop(host);
        sh("nft flush ruleset; for t in iptables-legacy; do $t -P FORWARD ACCEPT; $t -F; $t -X; done");
    }
}

#[test]
fn firewalls_of_others_are_opened_for_those_who_ask() {
    let programs = ["nft", "iptables", "iptables-legacy"].iter().all(|program| need(program).is_some());
    for (number, (firewall, line)) in FIREWALLS.iter().enumerate().filter(|_| programs) {
        let link = format!("lan{number}");
        let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::on(&link, 99)) else { return };
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("turn forwarding on");
        sh(line);
        let is_legacy = *firewall == "iptables-legacy";
        if is_legacy {
            // What rules have counted is theirs, too.
            sh(
                "iptables-legacy -I FORWARD -c 7 77 -d 192.0.2.1 -j DROP; iptables-legacy -A FORWARD; ip6tables-legacy -L",
            );
        }
        // What nft has loaded itself it lists as it was.
        sh(RELOAD);
        let rules = || tool("nft", ["--stateless", "list", "ruleset"]) + &old_rules();
        let before = rules();
        serve(&host, "it", &["-p", "8080:80", "--firewall-cooperate"]);
        assert!(from_there(&neighbour, "10.99.0.1:8080").is_some(), "{firewall}");
        host.ok(["exec", "it", "ping", "-c", "1", "-W", "5", "10.99.0.2"]);
        assert_eq!(told(&host), [""; 0], "{firewall}");
        let during = rules();
        let tagged =
            |rules: &str| rules.lines().filter(|line| line.contains("comment") && line.contains("dhow-")).count();
        assert!(tagged(&during) > 0, "{firewall}: {during}");
        // Another one needs no more of it, and keeps it.
        serve(&host, "other", &["-p", "8081:80", "--firewall-cooperate"]);
        assert_eq!(tagged(&rules()), tagged(&during), "{firewall}");
        // Their firewall is loaded anew, without what we put there: it comes back, by itself, or with the next command
        // where the kernel tells nobody.
        sh(if is_legacy { "iptables-legacy-save -c | grep -v dhow- | iptables-legacy-restore -c" } else { RELOAD });
        if is_legacy {
            assert_eq!(tagged(&rules()), 0);
            host.ok(["ps"]);
        }
        eventually("it is open again", || tagged(&rules()) == tagged(&during));
        assert!(from_there(&neighbour, "10.99.0.1:8081").is_some(), "{firewall}");
        host.ok(["rm", "--force", "it"]);
        assert!(from_there(&neighbour, "10.99.0.1:8081").is_some(), "{firewall}");
        host.ok(["rm", "--force", "other"]);
        eventually(&format!("nothing of it stays in {firewall}"), || rules() == before);
        if is_legacy {
            assert!(before.contains("\n[7:77] -A FORWARD -d 192.0.2.1/32 -j DROP\n"), "{before}");
            // Somebody else changes it at the same time, and neither loses anything.
            let line = "for i in $(seq 100); do iptables-legacy -w -A INPUT -s 192.0.2.$i -j DROP; done";
            let writer = Command::new("sh", ["-ec", line]).spawn();
            for _ in 0..5 {
                host.ok(["run", "--rm", "-p", "8080:80", "--firewall-cooperate", "busybox", "true"]);
            }
            assert_eq!(writer.wait().code(), Some(0));
            let after = rules();
            assert_eq!((after.matches("-A INPUT").count(), tagged(&after)), (100, 0), "{after}");
        }
        drop(neighbour);
        drop(host);
        sh("nft flush ruleset; iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F; iptables-legacy -X");
    }
}

/// What the old iptables has loaded, with what the rules that nobody meets have counted.
fn old_rules() -> String {
    let all = tool("iptables-legacy-save", ["-c"]) + "\n" + &tool("ip6tables-legacy-save", [] as [&str; 0]);
    let counted = |line: &str| match line.split_once("] ") {
        Some((counters, rule)) if !rule.contains("192.0.2.1/") => format!("{}] {rule}", &counters[..1]),
        _ => line.split(" [").next().unwrap_or_default().to_owned(),
    };
    all.lines().filter(|line| !line.starts_with('#')).map(|line| counted(line) + "\n").collect()
}

/// Everything that nf_tables has but ours is flushed, and loaded again in a second step, as a service's restart does.
const RELOAD: &str = "nft list ruleset | awk '/^table/ { ours = $3 ~ /^dhow-/ } !ours' | sed '/comment \"dhow-/d' >/tmp/reload.$$; \
                      sed -n 's/^table \\(.*\\) {$/delete table \\1/p' /tmp/reload.$$ | nft -f -; nft -f /tmp/reload.$$; \
                      rm /tmp/reload.$$";

#[test]
fn addresses_of_ipv6_reach_a_container_of_ipv4() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    sh("ip route add default via 10.99.0.2");
    serve(&host, "it", &["-p", "8080:80", "-p", "[::1]:8081:80", "-p", "[fd99::1]:8082:80,from=fd99::2"]);
    for address in ["127.0.0.1:8080", "[::1]:8080", "[::1]:8081", "[fd99::1]:8082"] {
        assert!(from_here(address).is_some(), "{address}");
    }
    // A program asks the container, so that sees this host ask.
    assert_eq!(from_there(&neighbour, "[fd99::1]:8082").as_deref(), Some("172.17.0.1"));
    assert_eq!(from_there(&neighbour, "[fd99::1]:8080").as_deref(), Some("172.17.0.1"));
    let expected = "0.0.0.0:8080/tcp it: everyone\n[::]:8080/tcp it: everyone\n[::1]:8081/tcp it: this host\n[fd99::1]:8082/tcp it: fd99::2/128";
    assert_eq!(listed(&host), expected);
    // That program is on this host: what is meant for the host itself is what a firewall may drop.
    if need("nft").is_some() {
        let drops = "add table inet theirs { chain input { type filter hook input priority 0 ; policy drop ; iif lo accept ; \
                     ct state established,related accept ; meta l4proto icmpv6 accept ; } ; }";
        tool("nft", [drops]);
        assert_eq!(briefly(|| from_there(&neighbour, "[fd99::1]:8082")), None);
        let said = told(&host);
        assert_eq!(said.len(), 2);
        let listed = listed(&host);
        assert!(listed.contains("\n[::]:8080/tcp it: this host\n"), "{listed}");
        assert!(listed.ends_with("[fd99::1]:8082/tcp it: this host"), "{listed}");
        for said in said {
            assert!(said.contains("(chain input of table inet theirs)"), "{said}");
            sh(said.split("this lets it through: ").nth(1).and_then(|rest| rest.split(';').next()).expect("a line"));
        }
        assert!(from_there(&neighbour, "[fd99::1]:8082").is_some() && told(&host).is_empty());
        tool("nft", ["delete table inet theirs"]);
    }
    // The ports are free when it has ended, whoever was still connected.
    let idle = std::net::TcpStream::connect("[::1]:8080").expect("connect");
    host.ok(["stop", "-t", "0", "it"]);
    drop(std::net::TcpListener::bind("[::1]:8080").expect("the port is free"));
    drop(idle);
    // What was there before is left alone.
    let theirs = std::net::TcpListener::bind("[::1]:8080").expect("listen");
    host.ok(["run", "--rm", "-p", "0.0.0.0:8080:80", "busybox", "true"]);
    for port in ["8080:80", "[::1]:8080:80"] {
        let said = host.refused(125, ["run", "--rm", "-p", port, "busybox", "true"]);
        assert!(said.ends_with("address already in use"), "{said}");
    }
    drop(theirs);
}

/// As on a kernel without nf_tables, and where rules are turned off.
fn published_by_a_program(host: &Host, lacks: bool) {
    let (Some(neighbour), Some(())) = (Neighbour::new(), need("python3")) else { return };
    let file = host.file("daemon.json", r#"{"iptables": false}"#);
    let run = |words: &[&str]| match lacks {
        true => host.dhow(words.iter().copied()).env("DHOW_LACKS", "nf_tables").run(),
        false => host.dhow(["--config", file.to_str().expect("UTF-8")].iter().chain(words).copied()).run(),
    };
    let output = run(&[
        "run",
        "--detach",
        "--name",
        "it",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:8081:80",
        "-p",
        "8082:80,from=10.98.0.0/16",
        "-p",
        "5353:53/udp",
        "-p",
        "127.0.0.1:5354:53/udp",
        "-p",
        "5355:53/udp,from=10.98.0.0/16",
        "busybox",
        "httpd",
        "-f",
        "-p",
        "80",
        "-h",
        "/etc",
    ]);
    let said = output.stderr();
    assert!(output.code() == Some(0) && said.contains("published ports are passed on by a program"), "{output}");
    // No rule keeps a container from this host's loopback then, so the kernel does.
    let routes = Command::new("sh", ["-c", "cat /proc/sys/net/ipv4/conf/dhow*/route_localnet"]).ok();
    assert!(routes.contains('0') && !routes.contains('1'), "{routes}");
    let get = |address: &str| {
        let url = format!("http://{address}/hostname");
        Command::new("timeout", ["60", "busybox", "wget", "-q", "-O-", &url])
    };
    if !lacks {
        let shim = format!("/proc/{}/cmdline", host.shim("it"));
        let settled = || fs::read(&shim).is_ok_and(|text| String::from_utf8_lossy(&text).contains("\0watch\0"));
        eventually("its shim has settled", settled);
        assert!(!host.run_dir().join("firewall.watch").exists(), "there is no table to watch over");
        assert!(!tool("nft", ["list", "tables"]).contains("dhow"));
    }
    let name = host.ok(["exec", "it", "cat", "/etc/hostname"]);
    for address in ["127.0.0.1:8080", "10.99.0.1:8080", "127.0.0.1:8081", "[::1]:8080", "127.0.0.1:8082"] {
        eventually("it answers", || get(address).run().code() == Some(0));
        assert_eq!(get(address).ok(), name, "{address}");
    }
    let there = |port: &str| {
        let url = format!("http://10.99.0.1:{port}/hostname");
        neighbour.run("timeout", &[seconds(), "busybox", "wget", "-q", "-O-", &url]).run().code() == Some(0)
    };
    assert!(there("8080") && !briefly(|| there("8081") || there("8082")));
    let server = serve_datagrams(host, "it", 53);
    let here = |port| Command::new("python3", ["-c", &datagram("127.0.0.1", port)]).run().stdout();
    eventually("datagrams are answered", || here(5353) == "172.17.0.1");
    for port in [5354, 5355] {
        eventually("there, too", || here(port) == "172.17.0.1");
    }
    let there = |port| neighbour.run("python3", &["-c", &datagram("10.99.0.1", port)]).run().stdout();
    eventually("and elsewhere", || there(5353) == "172.17.0.1");
    assert_eq!([there(5354), there(5355)], ["", ""]);
    drop(server);
    // Nothing is forwarded, and nothing is loaded.
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "0");
    assert_eq!(tool("nft", ["list", "tables"]), "");
    host.ok(["rm", "--force", "it"]);
    drop(std::net::TcpListener::bind("0.0.0.0:8080").expect("the port is free"));
}

#[test]
fn without_nf_tables_a_program_passes_on_what_comes_to_ports() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("nft")) else { return };
    // The engine that must lack it is the one that starts containers.
    if cfg!(feature = "failpoints") && !host.has_daemon() {
        published_by_a_program(&host, true);
    }
}

#[test]
fn without_rules_a_program_passes_on_what_comes_to_ports() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("nft")) else { return };
    if !host.has_daemon() {
        published_by_a_program(&host, false);
    }
}
