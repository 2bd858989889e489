use super::*;

#[test]
fn a_name_that_was_found_and_taken_is_found_anew() {
    let dir = std::env::temp_dir().join(format!("dhow-names-{}", std::process::id()));
    let store = Store::open(&dir.join("root"), &dir.join("run")).unwrap();
    let make = |id: &str| {
        let record = Record { id: id.repeat(64), name: "brave_curie".to_owned(), ..Record::default() };
        fs::create_dir_all(store.container(&record.id)).unwrap();
        record.save(&store).unwrap();
        record
    };
    let (mut first, mut second) = (make("a"), make("b"));
    take_name(&store, &mut first, true).unwrap();
    let error = take_name(&store, &mut second, false).unwrap_err();
    assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(409));
    take_name(&store, &mut second, true).unwrap();
    assert_ne!(second.name, first.name);
    for record in [first, second] {
        assert_eq!(containers::named(&store, &record.name).unwrap(), Some(record.id));
    }
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_belongs_to_who_has_the_network() {
    let shared = |more: &str| format!(r#"{{"HostConfig":{{"NetworkMode":"container:x"{more}}}}}"#);
    for (body, expected) in [
        (shared(""), None),
        (shared(r#","Dns":["1.1.1.1"]"#), Some("dns and the network mode")),
        (shared(r#","ExtraHosts":["a:1"]"#), Some("custom host-to-IP mapping and the network mode")),
        (shared(r#","PublishAllPorts":true"#), Some("port publishing and the container type network mode")),
        (
            r#"{"ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"container:x"}}"#.to_owned(),
            Some("port exposing and the container type network mode"),
        ),
        (
            r#"{"Hostname":"a","HostConfig":{"NetworkMode":"container:x"}}"#.to_owned(),
            Some("hostname and the network mode"),
        ),
        (r#"{"Hostname":"a","HostConfig":{"UTSMode":"host"}}"#.to_owned(), Some("hostname and the UTS mode")),
        (r#"{"Hostname":"a","HostConfig":{"NetworkMode":"host","Dns":["1.1.1.1"]}}"#.to_owned(), None),
    ] {
        let asked: ContainerCreate = crate::json::from_str(&body).unwrap();
        assert_eq!(clash(&asked.config, &asked.host_config), expected, "{body}");
    }
}

#[test]
fn the_request_wins_over_the_image() {
    let text = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let merged = merge_env(text(&["PATH=/bin", "A=1", "B=2"]), text(&["A=9", "C=3", "B"]));
    assert_eq!(merged, text(&["A=9", "C=3", "B", "PATH=/bin"]));
}
