use super::*;

fn wants(bindings: &[(&str, &str, &str)]) -> HostConfig {
    let mut map = PortMap::new();
    for (key, ip, port) in bindings {
        let (host_ip, host_port) = ((*ip).to_owned(), (*port).to_owned());
        let binding = PortBinding { host_ip, host_port, from: Vec::new() };
        map.entry((*key).to_owned()).or_default().get_or_insert_default().push(binding);
    }
    HostConfig { port_bindings: Some(map), ..HostConfig::default() }
}

#[test]
fn what_is_asked_for_is_read_and_sorted() {
    let host = wants(&[("80/tcp", "", "8080"), ("80/tcp", "127.0.0.1", ""), ("53/udp", "::1", "53-60")]);
    let line = |port, protocol, host: &str, ports| {
        let host = host.parse().ok();
        Asked { protocol, port, host, ports, from: Vec::new() }
    };
    let asked = |host, exposed: &Set<String>| super::asked(host, exposed, &Labels::new());
    assert_eq!(
        asked(&host, &Set::new()).unwrap(),
        [
            line(53, port::UDP, "::1", 53..=60),
            line(80, port::TCP, "127.0.0.1", 0..=0),
            line(80, port::TCP, "", 8080..=8080),
        ]
    );
    let all = HostConfig { publish_all_ports: true, ..wants(&[("80/tcp", "", "8080")]) };
    let exposed = Set::from(["80/tcp".to_owned(), "9/sctp".to_owned()]);
    assert_eq!(asked(&all, &exposed).unwrap(), [line(9, port::SCTP, "", 0..=0), line(80, port::TCP, "", 8080..=8080)]);
    for wrong in [
        ("x/tcp", "", "1"),
        ("0/tcp", "", "1"),
        ("80/icmp", "", "1"),
        ("80/tcp", "nowhere", "1"),
        ("80/tcp", "", "x"),
        ("80/tcp", "", "9-8"),
        ("80/tcp", "", "70000"),
    ] {
        assert!(check(&wants(&[wrong]), None).is_err(), "{wrong:?}");
    }
}

#[test]
fn sources_come_with_a_port_or_by_labels() {
    let mut host = wants(&[("80/tcp", "", "8080"), ("9/udp", "", "9")]);
    let label = |key: &str, text: &str| Labels::from([(key.to_owned(), text.to_owned())]);
    let from = |host: &HostConfig, labels: &Labels| {
        let all = asked(host, &Set::new(), labels).map_err(|error| error.to_string())?;
        Ok(all
            .iter()
            .map(|it| format!("{} {:?};", it.port, it.from.iter().map(Subnet::to_string).collect::<Vec<_>>()))
            .collect::<String>())
    };
    for (labels, expected) in [
        (Labels::new(), Ok(r#"9 [];80 [];"#)),
        (
            label(FROM, "10.0.0.0/8, fd00::1"),
            Ok(r#"9 ["10.0.0.0/8", "fd00::1/128"];80 ["10.0.0.0/8", "fd00::1/128"];"#),
        ),
        (label("dhow.publish.from.80/tcp", "10.0.0.0/8"), Ok(r#"9 [];80 ["10.0.0.0/8"];"#)),
        (label("dhow.publish.from.80/boat", "10.0.0.0/8"), Err("invalid port specification: \"80/boat\"")),
        (label(FROM, "here"), Err("invalid source of a published port: \"here\"")),
        (label(FROM, ""), Err("no source in a label dhow.publish.from")),
    ] {
        assert_eq!(from(&host, &labels), expected.map(str::to_owned).map_err(str::to_owned), "{labels:?}");
    }
    let bindings = host.port_bindings.as_mut().unwrap().get_mut("80/tcp").unwrap().as_mut().unwrap();
    bindings[0].from = vec!["10.0.0.1".to_owned()];
    assert_eq!(from(&host, &label(FROM, "10.0.0.2")).unwrap(), r#"9 ["10.0.0.2/32"];80 ["10.0.0.1/32"];"#);
}

#[test]
fn a_family_that_the_container_lacks_is_left_out_or_passed_on() {
    let given = |address: &str| Some(join::Given { address: address.parse().unwrap(), prefix: 64, gateway: None });
    let four = Place { ipv4: given("172.17.0.2"), ..Place::default() };
    let both = Place { ipv6: given("fd00::2"), ..four.clone() };
    let six = Place { ipv4: None, ..both.clone() };
    let of = |host: &str, place: &Place, protocol, proxy| -> String {
        let asked = Asked { protocol, port: 80, host: host.parse().ok(), ports: 80..=80, from: Vec::new() };
        let all = super::hosts(&asked, place, Ipv4Addr::UNSPECIFIED.into(), proxy);
        all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
    };
    let hosts = |host: &str, place: &Place| of(host, place, port::TCP, true);
    assert_eq!(hosts("", &four), "0.0.0.0 ::");
    assert_eq!(of("", &four, port::TCP, false), "0.0.0.0");
    assert_eq!(of("", &four, port::SCTP, true), "0.0.0.0");
    assert_eq!(hosts("", &six), "::");
    assert_eq!(hosts("", &both), "0.0.0.0 ::");
    assert_eq!(hosts("::1", &four), "::1");
    assert_eq!(leads_to(&four, "::1".parse().unwrap()), Some(("172.17.0.2".parse().unwrap(), true)));
    assert_eq!(leads_to(&both, "::1".parse().unwrap()), Some(("fd00::2".parse().unwrap(), false)));
    assert_eq!(hosts("127.0.0.1", &both), "127.0.0.1");
}
