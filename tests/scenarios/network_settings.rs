//! What the configuration says of networks.

use crate::fixture::Host;
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
    let output = with(r#"{"bridge": "br0"}"#, &["ps"]);
    assert!(output.stderr().contains("bridge \"br0\" is not supported"), "{output}");
}

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
