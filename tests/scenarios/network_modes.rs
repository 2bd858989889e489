//! Networks that are no usual bridge: gateway modes, bridges without an address, names of links, configurations.

use crate::fixture::network::{Neighbour, address, briefly, from_container, from_here, from_there, serve};
use crate::fixture::{Command, Daemon, Host};
use serde_json::json;

const MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";

#[test]
fn on_a_routed_network_what_is_published_is_reached_by_its_own_address() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(server) = neighbour.serve() else { return };
    let (four, six) = (format!("{MODE4}=routed"), format!("{MODE6}=routed"));
    host.ok(["network", "create", "--ipv6", "--subnet", "10.73.0.0/24", "--opt", &four, "--opt", &six, "open"]);
    host.ok(["network", "create", "other"]);
    let first = serve(&host, "first", &["--network", "open", "-p", "80:80", "-p", "127.0.0.1:81:80"]);
    // The host has no port for it, so that nobody takes one from another.
    let second = serve(&host, "second", &["--network", "open", "-p", "80:80"]);
    let hidden = serve(&host, "hidden", &["--network", "open"]);
    let bindings = json!([{"HostIp": "0.0.0.0", "HostPort": ""}, {"HostIp": "::", "HostPort": ""}]);
    assert_eq!(host.inspect("second", "/NetworkSettings/Ports")["80/tcp"], bindings);
    let six = host.inspect("first", "/NetworkSettings/Networks/open/GlobalIPv6Address");
    let six = format!("[{}]", six.as_str().expect("an address of IPv6"));
    for address in [&first, &second, &six] {
        assert!(from_there(&neighbour, address).is_some(), "{address}");
    }
    assert_eq!(briefly(|| [from_there(&neighbour, &hidden), from_there(&neighbour, "10.99.0.1")]), [None, None]);
    neighbour.run("ping", &["-c", "1", "-W", "5", &hidden]).ok();
    assert_eq!(from_container(&host, "hidden", "10.99.0.2").as_deref(), Some(hidden.as_str()), "under its own address");
    // From another network of ours as from anywhere.
    serve(&host, "far", &["--network", "other"]);
    assert!(from_container(&host, "far", &first).is_some());
    assert_eq!(briefly(|| from_container(&host, "far", &hidden)), None);
    let told = host.ok(["ports"]);
    let line = told.lines().find(|line| line.contains(" second ")).expect("a line of it").to_owned();
    assert!(line.starts_with(&format!("{second}:80/tcp ")) && line.contains("everyone"), "{told}");
    // What the container leaves is closed, and nothing else.
    host.ok(["rm", "--force", "second"]);
    let third = serve(&host, "third", &["--network", "open", "--ip", &second]);
    assert_eq!(briefly(|| from_there(&neighbour, &third)), None);
    assert!(from_there(&neighbour, &first).is_some());
    host.ok(["network", "connect", "other", "first"]);
    host.ok(["network", "disconnect", "open", "first"]);
    serve(&host, "fourth", &["--network", "open", "--ip", &first]);
    assert_eq!(briefly(|| from_there(&neighbour, &first)), None);
    drop((server, neighbour));
}

#[test]
fn a_routed_port_is_open_to_some_only_and_loaded_again() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "--opt", &format!("{MODE4}=routed"), "open"]);
    let ours = serve(&host, "ours", &["--network", "open", "-p", "80,from=10.99.0.0/24"]);
    let theirs = serve(&host, "theirs", &["--network", "open", "-p", "80,from=10.98.0.0/24"]);
    let holds = || {
        assert!(from_there(&neighbour, &ours).is_some());
        assert_eq!(briefly(|| from_there(&neighbour, &theirs)), None);
    };
    holds();
    let told = host.ok(["ports"]);
    let reach = |name: &str| told.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    assert!(reach(" ours ").contains("10.99.0.0/24") && reach(" theirs ").contains("10.98.0.0/24"), "{told}");
    if crate::fixture::need("nft").is_some() {
        Command::new("nft", ["flush", "ruleset"]).ok();
        // Without rules nothing is closed.
        crate::fixture::eventually("it is loaded again", || briefly(|| from_there(&neighbour, &theirs)).is_none());
        holds();
    }
    drop(neighbour);
}

#[test]
fn ports_on_routed_networks_come_and_go_with_a_container_that_runs() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "usual"]);
    host.ok(["network", "create", "--subnet", "10.73.0.0/24", "--opt", &format!("{MODE4}=routed"), "open"]);
    let flags = ["-p", "8080:80", "-p", "8081:81,from=10.98.0.0/16"];
    serve(&host, "it", &["--network", "usual"].iter().chain(&flags).copied().collect::<Vec<_>>());
    let ours = |number: u8| format!("10.73.0.{number}");
    let by_host = || [from_there(&neighbour, "10.99.0.1:8080"), from_here("127.0.0.1:8080"), from_here("[::1]:8080")];
    let by_host = || by_host().iter().filter(|answer| answer.is_some()).count();
    let by_address = |address: &str| from_there(&neighbour, address).is_some();
    let told = |word: &str| host.ok(["ports"]).lines().filter(|line| line.contains(word)).count();
    assert_eq!((by_host(), told("10.73.0.")), (3, 0));
    // Its way out stays where it is, and so do the ports of the host.
    host.ok(["network", "connect", "--gw-priority", "-1", "--ip", &ours(9), "open", "it"]);
    assert_eq!((by_host(), by_address(&ours(9))), (3, true));
    assert_eq!((told("10.73.0.9:80/tcp"), told("10.98.0.0/16")), (1, 3), "{}", host.ok(["ports"]));
    if crate::fixture::need("nft").is_some() {
        Command::new("nft", ["flush", "ruleset"]).ok();
        crate::fixture::eventually("it is loaded again", || by_host() == 3);
        assert!(by_address(&ours(9)));
    }
    host.ok(["network", "disconnect", "open", "it"]);
    serve(&host, "other", &["--network", "open", "--ip", &ours(9)]);
    assert_eq!((by_host(), briefly(|| by_address(&ours(9))), told("10.73.0.")), (3, false, 0));
    // With its way out the host's ports go, and come back with it; nobody has them meanwhile.
    host.ok(["network", "connect", "--gw-priority", "5", "--ip", &ours(10), "open", "it"]);
    assert_eq!((briefly(by_host), by_address(&ours(10))), (0, true));
    assert_eq!(host.ok(["port", "it", "80"]), "0.0.0.0:");
    let said = host.refused(125, ["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(said.contains("port is already allocated"), "{said}");
    host.ok(["network", "disconnect", "open", "it"]);
    assert_eq!((by_host(), briefly(|| by_address(&ours(10)))), (3, false));
    drop(neighbour);
}

#[test]
fn who_began_on_a_routed_network_has_ports_of_the_host_on_the_next_one() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    host.ok(["network", "create", "usual"]);
    host.ok(["network", "create", "--subnet", "10.73.0.0/24", "--opt", &format!("{MODE4}=routed"), "open"]);
    for name in ["first", "second"] {
        serve(&host, name, &["--network", "open", "-p", "8080:80", "--restart", "always"]);
    }
    let by_host = || [from_there(&neighbour, "10.99.0.1:8080"), from_here("127.0.0.1:8080"), from_here("[::1]:8080")];
    let by_host = || by_host().iter().filter(|answer| answer.is_some()).count();
    let places = |name: &str| host.inspect(name, "/NetworkSettings/Networks").as_object().map(serde_json::Map::len);
    let usual = ["network", "connect", "--gw-priority", "1", "usual"];
    let connect = |name: &str| host.run(usual.iter().chain(&[name]).copied());
    // Somebody of this host has it.
    let taken = std::net::TcpListener::bind(("0.0.0.0", 8080)).expect("take the port");
    let said = connect("first");
    assert!(said.code() == Some(1) && said.stderr().contains("address already in use"), "{said}");
    assert_eq!(places("first"), Some(1));
    drop(taken);
    assert_eq!(connect("first").code(), Some(0));
    assert_eq!(by_host(), 3);
    assert!(from_there(&neighbour, &address(&host, "first")).is_some(), "and its own");
    let said = connect("second");
    assert!(said.stderr().contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{said}");
    assert_eq!(places("second"), Some(1));
    // Its shim holds them, over restarts too.
    Command::new("kill", ["-9", &host.inspect("first", "/State/Pid").to_string()]).ok();
    crate::fixture::eventually("it is there again", || host.inspect("first", "/RestartCount") == 1 && by_host() == 3);
    assert!(std::net::TcpListener::bind(("0.0.0.0", 8080)).is_err());
    // Who leaves the routed network does without what another one has.
    host.ok(["network", "connect", "--gw-priority", "-1", "bridge", "second"]);
    host.ok(["network", "disconnect", "open", "second"]);
    assert_eq!((host.ok(["port", "second"]), by_host()), (String::new(), 3));
    host.ok(["rm", "--force", "first"]);
    assert_eq!(briefly(by_host), 0);
    drop(neighbour);
}

#[test]
fn an_unprotected_network_is_reached_by_whoever_has_a_route() {
    let (Some(host), Some(neighbour)) = (Host::with_busybox(), Neighbour::new()) else { return };
    let Some(server) = neighbour.serve() else { return };
    host.ok(["network", "create", "--ipv6", "--opt", &format!("{MODE4}=nat-unprotected"), "open"]);
    let four = serve(&host, "it", &["--network", "open", "-p", "8080:80"]);
    let six = host.inspect("it", "/NetworkSettings/Networks/open/GlobalIPv6Address");
    let six = format!("[{}]", six.as_str().expect("an address of IPv6"));
    assert!(from_there(&neighbour, &four).is_some());
    assert!(from_there(&neighbour, "10.99.0.1:8080").is_some());
    assert_eq!(briefly(|| from_there(&neighbour, &six)), None, "of the other family nothing was said");
    assert_eq!(from_container(&host, "it", "10.99.0.2").as_deref(), Some("10.99.0.1"));
    drop((server, neighbour));
}

#[test]
fn who_comes_by_a_link_that_is_trusted_reaches_published_ports_at_their_containers() {
    let (Some(host), Some(near), Some(far)) = (Host::with_busybox(), Neighbour::new(), Neighbour::on("far0", 98))
    else {
        return;
    };
    let option = "com.docker.network.bridge.trusted_host_interfaces";
    let refusal = host.refused(1, ["network", "create", "--opt", &format!("{option}=far0:a/b"), "web"]);
    assert!(refusal.contains(&format!("failed to parse {option} value")), "{refusal}");
    host.ok(["network", "create", "--ipv6", "--opt", &format!("{option}=gone0:far0"), "web"]);
    assert_eq!(host.inspect("web", "/Options")[option], "gone0:far0");
    let ours = serve(&host, "it", &["--network", "web", "-p", "8080:80", "-p", "8081:81,from=10.97.0.0/16"]);
    let six = host.inspect("it", "/NetworkSettings/Networks/web/GlobalIPv6Address");
    let six = format!("[{}]", six.as_str().expect("an address of IPv6"));
    let hidden = serve(&host, "hidden", &["--network", "web"]);
    host.ok(["exec", "--detach", "it", "httpd", "-p", "81", "-h", "/www"]);
    let holds = || {
        for address in [&ours, &six] {
            assert!(from_there(&far, address).is_some(), "{address}");
            assert_eq!(briefly(|| from_there(&near, address)), None, "{address}");
        }
        // What is not published, and what others alone may reach.
        assert_eq!(briefly(|| [from_there(&far, &hidden), from_there(&far, &format!("{ours}:81"))]), [None, None]);
        assert!(from_there(&near, "10.99.0.1:8080").is_some() && from_there(&far, "10.98.0.1:8080").is_some());
    };
    holds();
    let told = host.ok(["ports", "--format", "{{.Notes}}"]);
    assert!(told.contains(&format!("{ours}:80/tcp is open, too, to who comes by gone0, far0")), "{told}");
    // It goes with the port, to networks that trust nobody, and comes with it.
    host.ok(["network", "create", "usual"]);
    host.ok(["network", "connect", "--gw-priority", "1", "usual", "it"]);
    assert_eq!(briefly(|| from_there(&far, &ours)), None);
    host.ok(["network", "disconnect", "usual", "it"]);
    holds();
    if crate::fixture::need("nft").is_some() {
        Command::new("nft", ["flush", "ruleset"]).ok();
        crate::fixture::eventually("it is loaded again", || from_there(&near, "10.99.0.1:8080").is_some());
        holds();
        host.ok(["rm", "--force", "it"]);
        assert!(!crate::fixture::tool("nft", ["list", "ruleset"]).contains("trusts"));
    }
    drop((near, far));
}

#[test]
fn the_host_has_no_address_on_some_bridges() {
    let Some(host) = Host::with_busybox() else { return };
    let isolated = [format!("{MODE4}=isolated"), format!("{MODE6}=isolated")];
    let make = |name: &str, flags: &[&str]| {
        host.ok(["network", "create"].iter().chain(flags).chain(&[name]).copied());
        let id = host.inspect(name, "/Id");
        format!("br-{}", &id.as_str().expect("an id")[..12])
    };
    let addresses = |link: &str| Command::new("ip", ["-o", "address", "show", "dev", link]).ok();
    let refusal = host.refused(1, ["network", "create", "--opt", &isolated[0], "alone"]);
    assert!(refusal.contains("gateway mode 'isolated' can only be used for an internal network"), "{refusal}");
    let flags = ["--internal", "--ipv6", "--opt", &isolated[0], "--opt", &isolated[1]];
    let link = make("alone", &flags);
    assert!(!host.ok(["network", "inspect", "alone"]).contains("Gateway\":"));
    let first = serve(&host, "first", &["--network", "alone"]);
    serve(&host, "second", &["--network", "alone"]);
    assert_eq!(addresses(&link), "");
    assert!(from_container(&host, "second", &first).is_some());
    assert_eq!(briefly(|| from_here(&first)), None);
    assert!(!host.ok(["exec", "first", "ip", "route"]).contains("default"));
    // A bridge with a way out that is another's.
    let inhibit = "com.docker.network.bridge.inhibit_ipv4=true";
    let link = make("sea", &["--subnet", "10.70.0.0/24", "--gateway", "10.70.0.9", "--opt", inhibit]);
    serve(&host, "third", &["--network", "sea"]);
    assert_eq!(addresses(&link), "");
    assert!(host.ok(["exec", "third", "ip", "route"]).contains("default via 10.70.0.9"));
    let refusal = host.refused(1, ["network", "create", "--opt", "com.docker.network.bridge.inhibit_ipv4=x", "y"]);
    assert!(refusal.contains("failed to parse com.docker.network.bridge.inhibit_ipv4 value: x"), "{refusal}");
}

#[test]
fn links_are_called_as_their_network_or_container_says() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["network", "create", "--opt", "com.docker.network.container_iface_prefix=sea", "a"]);
    host.ok(["network", "create", "b"]);
    host.ok(["network", "create", "c"]);
    let name =
        |network: &str, link: &str| format!("name={network},driver-opt=com.docker.network.endpoint.ifname={link}");
    let links = || host.ok(["exec", "it", "ls", "/sys/class/net"]).split_whitespace().collect::<Vec<_>>().join(" ");
    // The one that was asked for is kept for who asked, whoever comes first.
    let flags = ["--network", "a", "--network", "b", "--network", &name("c", "eth0")];
    serve(&host, "it", &flags);
    assert_eq!(links(), "eth0 eth1 lo sea0");
    host.ok(["network", "disconnect", "b", "it"]);
    host.ok(["network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=lan", "b", "it"]);
    assert_eq!(links(), "eth0 lan lo sea0");
    host.ok(["restart", "-t", "0", "it"]);
    assert_eq!(links(), "eth0 lan lo sea0");
    host.ok(["network", "disconnect", "b", "it"]);
    let option = "com.docker.network.endpoint.ifname=eth0";
    let refusal = host.refused(1, ["network", "connect", "--driver-opt", option, "b", "it"]);
    assert!(refusal.contains("error renaming interface") && refusal.contains("file exists"), "{refusal}");
    assert_eq!(links(), "eth0 lo sea0");
    for wrong in ["lo", "a/b", "longer-than-the-kernel-has-it"] {
        let output = host.run(["create", "--network", &name("b", wrong), "busybox"]);
        assert!(output.code() == Some(1) && output.stderr().contains("invalid name of an interface"), "{output}");
    }
}

#[test]
fn a_network_is_made_after_a_configuration() {
    let Some(host) = Host::with_busybox() else { return };
    let flags = ["--config-only", "--subnet", "10.71.0.0/24", "--ipv6", "--label", "of=plan"];
    let option = ["--opt", "com.docker.network.driver.mtu=1400"];
    host.ok(["network", "create"].iter().chain(&flags).chain(&option).chain(&["plan"]).copied());
    let plan = host.inspect("plan", "");
    assert_eq!((&plan["Driver"], &plan["ConfigOnly"]), (&json!("null"), &json!(true)));
    assert_eq!(plan["IPAM"]["Config"], json!([{"Subnet": "10.71.0.0/24"}]));
    let refusal = host.refused(125, ["run", "--rm", "--network", "plan", "busybox", "true"]);
    assert!(refusal.contains("cannot create endpoint on configuration-only network"), "{refusal}");
    host.ok(["network", "create", "--config-from", "plan", "web"]);
    let web = host.inspect("web", "");
    assert_eq!(web["ConfigFrom"], json!({"Network": "plan"}));
    assert_eq!((&web["Driver"], &web["EnableIPv6"]), (&json!("bridge"), &json!(true)));
    assert_eq!((&web["Labels"], &web["Options"]), (&plan["Labels"], &plan["Options"]));
    let show = "ip -4 -o address show eth0 | sed 's/.*inet \\([^ ]*\\).*/\\1/'; cat /sys/class/net/eth0/mtu";
    assert_eq!(host.ok(["run", "--rm", "--network", "web", "busybox", "sh", "-c", show]), "10.71.0.2/24\n1400");
    // Its subnet is in use now, and the plan as well.
    assert!(host.refused(1, ["network", "create", "--config-from", "plan", "more"]).contains("Pool overlaps"));
    let refusal = host.refused(1, ["network", "rm", "plan"]);
    assert!(refusal.contains("configuration network \"plan\" is in use"), "{refusal}");
    host.ok(["network", "prune", "--force"]);
    assert!(host.refused(1, ["network", "inspect", "web"]).contains("network web not found"));
    host.ok(["network", "rm", "plan"]);
    for (flags, words) in [
        (&["--config-only", "--internal"][..], "configuration network can only contain network specific fields"),
        (&["--config-from", "plan"], "configuration network \"plan\" does not exist"),
        (&["--config-from", "plan", "--subnet", "10.72.0.0/24"], "user specified configurations are not supported"),
    ] {
        let refusal = host.refused(1, ["network", "create"].iter().chain(flags).chain(&["x"]).copied());
        assert!(refusal.contains(words), "{refusal}");
    }
}

#[test]
fn options_of_addresses_are_null_where_nobody_spoke_of_them() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    for (name, ipam, expected) in [
        ("silent", r#""Driver":"bridge""#, json!(null)),
        ("some", r#""IPAM":{"Driver":"default","Config":[{"Subnet":"10.74.0.0/24"}]}"#, json!(null)),
        ("none", r#""IPAM":{"Driver":"default","Options":{}}"#, json!({})),
        ("one", r#""IPAM":{"Options":{"a":"b"}}"#, json!({"a": "b"})),
    ] {
        let name = format!("of-{name}");
        let body = format!(r#"{{"Name":"{name}",{ipam}}}"#);
        let (head, answer) = daemon.ask_with("POST /networks/create", "Content-Type: application/json\r\n", &body);
        assert!(head.starts_with("HTTP/1.1 201 "), "{answer}");
        assert_eq!(host.inspect(&name, "/IPAM/Options"), expected, "{name}");
    }
}
