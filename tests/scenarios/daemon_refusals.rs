//! What the routes of containers refuse, with the status and the words of dockerd 28.

use crate::fixture::{Daemon, Host, eventually};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";

fn host() -> Option<(Host, Daemon)> {
    let host = Host::with_busybox()?;
    let daemon = Daemon::start(&host);
    Some((host, daemon))
}

/// Status and message of an answer; without one, its body.
fn ask(daemon: &Daemon, line: &str, body: &str) -> (u16, String) {
    let (head, answer) = daemon.ask_with(line, if body.is_empty() { "" } else { JSON }, body);
    let status = head[9..12].parse().expect("a status");
    let message = serde_json::from_str::<Value>(&answer).ok().and_then(|it| it["message"].as_str().map(str::to_owned));
    (status, message.unwrap_or_else(|| answer.trim_end_matches("\r\n").to_owned()))
}

/// Asserts on a table of requests, their bodies, statuses and messages.
fn refuses(daemon: &Daemon, table: &[(&str, &str, u16, &str)]) {
    for (line, body, status, message) in table {
        assert_eq!(ask(daemon, line, body), (*status, (*message).to_owned()), "{line} {body}");
    }
}

#[test]
fn each_route_says_what_is_in_its_way() {
    let Some((host, daemon)) = host() else { return };
    host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let id = host.inspect("hull", "/Id").as_str().expect("an id").to_owned();
    host.ok(["create", "--name", "keel", "busybox", "true"]);
    let keel = host.inspect("keel", "/Id").as_str().expect("an id").to_owned();
    host.ok(["create", "--rm", "--name", "brief", "busybox", "true"]);
    let brief = host.inspect("brief", "/Id").as_str().expect("an id").to_owned();
    let conflict = format!(
        "Conflict. The container name \"/hull\" is already in use by container \"{id}\". You have to remove (or rename) \
         that container to be able to reuse that name."
    );
    let no = |name: &str| format!("No such container: {name}");
    let of_keel = |words: &str| format!("container {keel} {words}");
    for (line, body, status, message) in [
        // Of no container.
        ("GET /containers/nope/json", "", 404, no("nope")),
        ("POST /containers/nope/start", "", 404, no("nope")),
        ("POST /containers/nope/stop", "", 404, no("nope")),
        ("POST /containers/nope/restart", "", 404, no("nope")),
        ("POST /containers/nope/kill", "", 404, format!("cannot kill container: nope: {}", no("nope"))),
        ("POST /containers/nope/pause", "", 404, no("nope")),
        ("POST /containers/nope/unpause", "", 404, no("nope")),
        ("POST /containers/nope/rename?name=x2", "", 404, no("nope")),
        ("POST /containers/nope/wait", "", 404, no("nope")),
        ("POST /containers/nope/attach", "", 404, no("nope")),
        ("POST /containers/nope/resize?h=1&w=1", "", 404, no("nope")),
        ("POST /containers/nope/update", "{}", 404, no("nope")),
        ("POST /containers/nope/exec", r#"{"Cmd":["true"]}"#, 404, no("nope")),
        ("GET /containers/nope/logs?stdout=1", "", 404, no("nope")),
        ("GET /containers/nope/top", "", 404, no("nope")),
        ("GET /containers/nope/changes", "", 404, no("nope")),
        ("GET /containers/nope/export", "", 404, no("nope")),
        ("GET /containers/nope/stats", "", 404, no("nope")),
        ("GET /containers/nope/archive?path=/", "", 404, no("nope")),
        ("PUT /containers/nope/archive?path=/", "", 404, no("nope")),
        ("DELETE /containers/nope", "", 404, no("nope")),
        ("POST /commit?container=nope", "", 404, no("nope")),
        ("GET /exec/nope/json", "", 404, "No such exec instance: nope".to_owned()),
        ("POST /exec/nope/start", "{}", 404, "No such exec instance: nope".to_owned()),
        ("POST /exec/nope/resize?h=1&w=1", "", 404, "No such exec instance: nope".to_owned()),
        // What is asked wrongly is said before whom it is asked of.
        ("POST /containers/nope/kill?signal=FOO", "", 400, "cannot kill container: nope: invalid signal: FOO".to_owned()),
        (
            "POST /containers/nope/kill?signal=99",
            "",
            400,
            "cannot kill container: nope: the linux daemon does not support signal 99".to_owned(),
        ),
        ("POST /containers/nope/rename", "", 400, "Neither old nor new names may be empty".to_owned()),
        ("POST /containers/nope/wait?condition=odd", "", 400, "invalid condition: \"odd\"".to_owned()),
        ("GET /containers/nope/logs", "", 400, "Bad parameters: you must choose at least one stream".to_owned()),
        ("POST /containers/nope/exec", "{}", 400, "No exec command specified".to_owned()),
        (
            "POST /containers/nope/attach?detachKeys=odd",
            "",
            400,
            "Invalid detach keys (odd) provided".to_owned(),
        ),
        (
            "POST /containers/nope/attach?detachKeys=ctrl-A",
            "",
            400,
            "Invalid detach keys (ctrl-A) provided".to_owned(),
        ),
        ("DELETE /images/%20", "", 400, "image name cannot be blank".to_owned()),
        ("POST /containers/create", r#"{"Image":""}"#, 400, "no command specified".to_owned()),
        (
            "POST /containers/create",
            r#"{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"aa80"}]}}}"#,
            400,
            "invalid port specification: \"aa80\"".to_owned(),
        ),
        (
            "POST /containers/create",
            r#"{"Image":"busybox","HostConfig":{"PortBindings":{"aa/tcp":[]}}}"#,
            400,
            "invalid port specification: \"aa\"".to_owned(),
        ),
        (
            "POST /containers/create",
            r#"{"Image":"busybox","HostConfig":{"NetworkMode":"container"}}"#,
            400,
            "invalid network mode: invalid container format container:<name|id>".to_owned(),
        ),
        (
            "POST /containers/create",
            r#"{"Image":"busybox","HostConfig":{"NetworkMode":"container:nope","Links":["hull:a"]}}"#,
            400,
            "conflicting options: container type network can't be used with links. This would result in undefined \
             behavior"
                .to_owned(),
        ),
        (
            "POST /containers/keel/start?checkpoint=x",
            "",
            400,
            "checkpoint is only supported in experimental mode".to_owned(),
        ),
        ("POST /containers/keel/resize?h=x&w=1", "", 400, "invalid resize height \"x\": invalid syntax".to_owned()),
        (
            "GET /containers/hull/stats?stream=1&one-shot=1",
            "",
            400,
            "cannot have stream=true and one-shot=true".to_owned(),
        ),
        ("POST /containers/create?name=hull", r#"{"Image":"busybox"}"#, 409, conflict.clone()),
        (
            "POST /containers/create?name=a+b",
            r#"{"Image":"busybox"}"#,
            400,
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed".to_owned(),
        ),
        ("POST /containers/create", r#"{"Image":"nope"}"#, 404, "No such image: nope:latest".to_owned()),
        ("POST /commit", "", 400, "invalid name or ID supplied: \"\"".to_owned()),
        ("POST /networks/bridge/connect", "{}", 400, "invalid name or ID supplied: \"\"".to_owned()),
        ("GET /containers/json?filters=%7B%22ancestor%22:%5B%22UPPER%22%5D%7D", "", 200, "[]\n".to_owned()),
        // Of one that runs.
        ("POST /containers/hull/start", "", 304, String::new()),
        (
            "POST /containers/hull/stop?signal=FOO",
            "",
            500,
            "cannot stop container: hull: invalid signal: FOO".to_owned(),
        ),
        (
            "DELETE /containers/hull",
            "",
            409,
            "cannot remove container \"hull\": container is running: stop the container before removing or force remove"
                .to_owned(),
        ),
        (
            "POST /containers/hull/rename?name=hull",
            "",
            400,
            "Renaming a container with the same name as its current name".to_owned(),
        ),
        (
            "POST /containers/hull/rename?name=a+b",
            "",
            400,
            "Error when allocating new name: Invalid container name (/a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
                .to_owned(),
        ),
        (
            "POST /containers/keel/rename?name=hull",
            "",
            409,
            format!("Error when allocating new name: {conflict}"),
        ),
        ("POST /containers/hull/unpause", "", 500, format!("Container {id} is not paused")),
        (
            "POST /containers/hull/exec",
            r#"{"Cmd":["true"],"User":"nope"}"#,
            400,
            "unable to find user nope: no matching entries in passwd file".to_owned(),
        ),
        (
            "POST /containers/hull/exec",
            r#"{"Cmd":["true"],"User":"0:nope"}"#,
            400,
            "unable to find group nope: no matching entries in group file".to_owned(),
        ),
        (
            "POST /containers/hull/exec",
            r#"{"Cmd":["true"],"DetachKeys":"odd"}"#,
            500,
            "Invalid escape keys (odd) provided".to_owned(),
        ),
        (
            "GET /containers/hull/archive?path=/nope",
            "",
            404,
            "Could not find the file /nope in container hull".to_owned(),
        ),
        (
            "PUT /containers/hull/archive?path=/nope",
            "",
            404,
            "Could not find the file /nope in container hull".to_owned(),
        ),
        ("PUT /containers/hull/archive?path=/etc/passwd", "", 400, "extraction point is not a directory".to_owned()),
        // Of one that does not.
        ("POST /containers/keel/stop", "", 304, String::new()),
        (
            "POST /containers/keel/kill",
            "",
            409,
            format!("cannot kill container: keel: {}", of_keel("is not running")),
        ),
        ("POST /containers/keel/pause", "", 409, of_keel("is not running")),
        ("POST /containers/keel/unpause", "", 500, format!("Container {keel} is not paused")),
        ("POST /containers/keel/resize?h=1&w=1", "", 409, of_keel("is not running")),
        ("POST /containers/keel/exec", r#"{"Cmd":["true"]}"#, 409, of_keel("is not running")),
        ("GET /containers/keel/top", "", 409, of_keel("is not running")),
        (
            "DELETE /containers/keel?link=1",
            "",
            500,
            "Conflict, cannot remove the default link name of the container".to_owned(),
        ),
        (
            "POST /containers/brief/update",
            r#"{"RestartPolicy":{"Name":"always"},"Memory":8000000}"#,
            409,
            format!(
                "Cannot update container {brief}: Restart policy cannot be updated because AutoRemove is enabled for \
                 the container"
            ),
        ),
    ] {
        assert_eq!(ask(&daemon, line, body), (status, message), "{line} {body}");
    }
    assert_eq!(host.inspect("brief", "/HostConfig/Memory"), 0, "what is refused changes nothing");
    host.ok(["rm", "--force", "hull", "keel", "brief"]);
}

#[test]
fn what_is_paused_or_restarts_says_so() {
    let Some((host, daemon)) = host() else { return };
    host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let id = host.inspect("hull", "/Id").as_str().expect("an id").to_owned();
    host.ok(["pause", "hull"]);
    refuses(
        &daemon,
        &[
            ("POST /containers/hull/pause", "", 409, &format!("Container {id} is already paused")),
            ("POST /containers/hull/start", "", 409, "cannot start a paused container, try unpause instead"),
            (
                "POST /containers/hull/attach?stream=1&stdout=1",
                "",
                409,
                "container hull is paused, unpause the container before attach",
            ),
            (
                "POST /containers/hull/exec",
                r#"{"Cmd":["true"]}"#,
                409,
                "Container hull is paused, unpause the container before exec",
            ),
            (
                "DELETE /containers/hull",
                "",
                409,
                "cannot remove container \"hull\": container is paused and must be unpaused first",
            ),
        ],
    );
    host.ok(["rm", "--force", "hull"]);
    host.detached(&["--name", "wheel", "--restart", "always"], &["false"]);
    let id = host.inspect("wheel", "/Id").as_str().expect("an id").to_owned();
    // The pause before the next one is long enough by now.
    eventually("it was restarted five times, and waits", || {
        host.inspect("wheel", "/RestartCount").as_i64() >= Some(5) && host.inspect("wheel", "/State/Restarting") == true
    });
    let restarting = format!("Container {id} is restarting, wait until the container is running");
    refuses(
        &daemon,
        &[
            ("POST /containers/wheel/start", "", 304, ""),
            ("POST /containers/wheel/pause", "", 409, &restarting),
            ("GET /containers/wheel/top", "", 409, &restarting),
            ("POST /containers/wheel/exec", r#"{"Cmd":["true"]}"#, 409, &restarting),
            (
                "POST /containers/wheel/attach?stream=1&stdout=1",
                "",
                409,
                "container wheel is restarting, wait until the container is running",
            ),
            (
                "DELETE /containers/wheel",
                "",
                409,
                "cannot remove container \"wheel\": container is restarting: stop the container before removing or \
                 force remove",
            ),
        ],
    );
    host.ok(["rm", "--force", "wheel"]);
}

/// Each has one life: that of its container in which it was made, and one start in it.
#[test]
fn execs_go_with_the_life_of_their_container() {
    let Some((host, daemon)) = host() else { return };
    host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let make = |command: &str| {
        let (head, answer) = daemon.ask_with(
            "POST /containers/hull/exec",
            JSON,
            &json!({"Cmd": command.split(' ').collect::<Vec<_>>()}).to_string(),
        );
        assert!(head.starts_with("HTTP/1.1 201 "), "{head} {answer}");
        serde_json::from_str::<Value>(&answer).expect("JSON")["Id"].as_str().expect("an id").to_owned()
    };
    let detached = |exec: &str| ask(&daemon, &format!("POST /exec/{exec}/start"), r#"{"Detach":true}"#);
    let listed = || {
        let mut ids: Vec<String> = serde_json::from_value(host.inspect("hull", "/ExecIDs")).expect("a list");
        ids.sort();
        ids
    };
    let mut execs = [make("sleep 1000"), make("true"), make("true")];
    execs.sort_by_key(|id| id.clone());
    assert_eq!(listed(), execs, "those that were not started, too");
    let [long, quick, never] = [make("sleep 1000"), make("true"), execs[0].clone()];
    assert_eq!(detached(&long).0, 200);
    assert_eq!(detached(&long), (409, format!("exec command {long} is already running")));
    assert_eq!(detached(&quick).0, 200);
    eventually("it has run", || !listed().contains(&quick));
    assert_eq!(detached(&quick), (409, format!("exec command {quick} has already run")));
    assert!(listed().contains(&long) && listed().contains(&never));
    let id = host.inspect("hull", "/Id").as_str().expect("an id").to_owned();
    host.ok(["stop", "--time", "0", "hull"]);
    assert_eq!(host.inspect("hull", "/ExecIDs"), Value::Null);
    let gone = (404, format!("No such exec instance: {never}"));
    assert_eq!(detached(&never), gone);
    assert_eq!(detached(&quick), (409, format!("container {id} is not running")));
    host.ok(["start", "hull"]);
    assert_eq!(detached(&never), gone, "nor in the next life");
    assert_eq!(ask(&daemon, &format!("GET /exec/{never}/json"), ""), gone);
    assert_eq!(ask(&daemon, &format!("POST /exec/{never}/resize?h=1&w=1"), ""), gone);
    assert_eq!(ask(&daemon, &format!("GET /exec/{quick}/json"), "").0, 200, "how one ended is kept");
    assert_eq!(host.inspect("hull", "/ExecIDs"), Value::Null);
    host.ok(["rm", "--force", "hull"]);
}

/// As Go's router has it: a name may have slashes, a page may not end with one, and there is no other method of a page.
#[test]
fn pages_are_where_docker_has_them() {
    let Some((host, daemon)) = host() else { return };
    host.ok(["create", "--name", "keel", "busybox", "true"]);
    for line in [
        "GET /info/",
        "GET /_ping/",
        "GET /containers/json/",
        "GET /containers/keel/json/",
        "POST /containers/keel/start/",
        "GET /images/busybox/json/",
        "POST /info",
        "PUT /containers/json",
        "PATCH /containers/keel/json",
        "HEAD /info",
        "GET /",
        "GET /v1.51",
        "GET /v1.51/",
        "GET /v1.51/info/",
        "DELETE /containers",
    ] {
        let message = if line.starts_with("HEAD") { "" } else { "page not found" };
        assert_eq!(ask(&daemon, line, ""), (404, message.to_owned()), "{line}");
    }
    for line in ["GET /networks/", "GET /containers//keel/json", "GET /v1.51/containers/keel/json", "OPTIONS /any/page"]
    {
        assert_eq!(ask(&daemon, line, "").0, 200, "{line}");
    }
    assert_eq!(ask(&daemon, "DELETE /containers/keel/", ""), (404, "No such container: keel/".to_owned()));
    assert_eq!(host.ok(["ps", "--all", "--format", "{{.Names}}"]), "keel");
}

#[test]
fn one_removal_at_a_time() {
    let Some((host, daemon)) = host() else { return };
    // One that takes its time to end.
    for round in 0..3 {
        let name = format!("hull{round}");
        host.detached(&["--name", &name], &["sleep", "1000"]);
        let line = format!("DELETE /containers/{name}?force=1");
        let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| ask(&daemon, &line, ""))).collect();
            asked.into_iter().map(|it| it.join().expect("an answer")).collect()
        });
        assert!(answers.contains(&(204, String::new())), "{answers:?}");
        for answer in answers {
            let expected = [
                (204, String::new()),
                (404, format!("No such container: {name}")),
                (409, format!("removal of container {name} is already in progress")),
            ];
            assert!(expected.contains(&answer), "{answer:?}");
        }
        assert_eq!(ask(&daemon, &format!("GET /containers/{name}/json"), "").0, 404);
    }
}

#[test]
fn one_pause_at_a_time() {
    let Some((host, daemon)) = host() else { return };
    let id = host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let expected = [
        (204, String::new()),
        (409, format!("Container {id} is already paused")),
        (500, format!("Container {id} is not paused")),
    ];
    let daemon = &daemon;
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let lines = ["POST /containers/hull/pause", "POST /containers/hull/unpause"];
        let asked = lines.into_iter().cycle().take(16).map(|line| scope.spawn(move || ask(daemon, line, "")));
        let asked: Vec<_> = asked.collect();
        asked.into_iter().map(|it| it.join().expect("an answer")).collect()
    });
    assert!(answers.iter().all(|answer| expected.contains(answer)), "{answers:?}");
    host.ok(["rm", "--force", "hull"]);
}

/// A link gives its target a second name.
#[test]
fn links_are_names() {
    let Some((host, daemon)) = host() else { return };
    host.ok(["create", "--name", "db", "busybox", "true"]);
    host.ok(["create", "--name", "web", "--link", "db:store", "--link", "db", "busybox", "true"]);
    // They are looked at where they lead nowhere, too.
    let nowhere = r#"{"Image":"busybox","HostConfig":{"NetworkMode":"none","Links":["nope"]}}"#;
    let words = "could not get container for nope: No such container: nope";
    refuses(&daemon, &[("POST /containers/create", nowhere, 400, words)]);
    let id = host.inspect("db", "/Id");
    let names = || {
        let list: Value = serde_json::from_str(&daemon.ask("GET /containers/json?all=1").1).expect("JSON");
        let of_db = list.as_array().expect("a list").iter().find(|one| one["Id"] == id);
        of_db.map(|one| one["Names"].clone()).expect("db is listed")
    };
    assert_eq!(names(), json!(["/db", "/web/db", "/web/store"]));
    for path in ["web/store", "/web/store", "web%2Fstore"] {
        let found: Value = serde_json::from_str(&daemon.ask(&format!("GET /containers/{path}/json")).1).expect("JSON");
        assert_eq!((&found["Id"], &found["Name"]), (&id, &json!("/db")), "{path}");
    }
    assert_eq!(host.inspect("web/store", "/Name"), "/db");
    assert_eq!(host.ok(["ps", "--all", "--format", "{{.Names}}"]), "web\ndb");
    assert_eq!(host.ok(["ps", "--all", "--no-trunc", "--format", "{{.Names}}"]), "web\ndb,web/db,web/store");
    host.ok(["rename", "web", "shop"]);
    assert_eq!(names(), json!(["/db", "/shop/db", "/shop/store"]));
    refuses(
        &daemon,
        &[
            ("GET /containers/web/store/json", "", 404, "No such container: web/store"),
            ("DELETE /containers/shop/nope?link=1", "", 404, "No such container: shop/nope"),
            ("DELETE /containers/nope/store?link=1", "", 404, "No such container: nope/store"),
            ("DELETE /containers/shop/store?link=1", "", 204, ""),
            ("GET /containers/shop/store/json", "", 404, "No such container: shop/store"),
        ],
    );
    assert_eq!(names(), json!(["/db", "/shop/db"]));
    // Without the word link it is the container that goes.
    refuses(
        &daemon,
        &[("DELETE /containers/shop/db", "", 204, ""), ("GET /containers/db/json", "", 404, "No such container: db")],
    );
}

/// Bodies as Go's library reads them, and what it does not read.
#[test]
fn bodies_are_one_value_of_json() {
    let Some((host, daemon)) = host() else { return };
    let create = "POST /containers/create?name=hull";
    for (body, message) in [
        (r#"{"Image":"busybox"} {}"#, "unexpected content after JSON"),
        (r#"{"Image":"busybox"}x"#, "unexpected content after JSON"),
        (" ", "invalid JSON: got EOF while reading request body"),
        ("{", "invalid JSON: unexpected EOF"),
        (
            r#"{"Image":"busybox","Tty":"yes"}"#,
            "invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.Tty of type bool",
        ),
        (
            r#"{"Image":7}"#,
            "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Image of type string",
        ),
        (
            r#"{"Image":"busybox","Cmd":5}"#,
            "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Cmd of type string",
        ),
        ("null", "config cannot be empty in order to create a container"),
        (r#"{"HostConfig":{}}"#, "config cannot be empty in order to create a container"),
    ] {
        assert_eq!(ask(&daemon, create, body), (400, message.to_owned()), "{body}");
    }
    for line in
        ["POST /networks/create", "POST /volumes/create", "POST /containers/nope/update", "POST /exec/nope/start"]
    {
        assert_eq!(ask(&daemon, line, "{}[]"), (400, "unexpected content after JSON".to_owned()), "{line}");
    }
    assert_eq!(ask(&daemon, "POST /volumes/create", "null").0, 201, "nothing is what was left out");
    // Words may come as one, and what is not known is nobody's mistake.
    let body = r#"{"Image":"busybox","Cmd":"true","Entrypoint":"env","Odd":1,
        "HostConfig":{"CapAdd":"SYS_TIME","CapDrop":"KILL","Odd":{}}}
        "#;
    assert_eq!(ask(&daemon, create, body).0, 201);
    assert_eq!(host.inspect("hull", "/HostConfig/CapAdd"), json!(["SYS_TIME"]));
    assert_eq!(host.inspect("hull", "/HostConfig/CapDrop"), json!(["KILL"]));
    assert_eq!(host.inspect("hull", "/Config/Cmd"), json!(["true"]));
    host.ok(["rm", "hull"]);
}

/// What cannot be written is a mistake of who asks, and what is no archive has a status of its own.
#[test]
fn archives_that_have_no_place() {
    let Some((host, daemon)) = host() else { return };
    host.detached(&["--name", "hull", "--read-only", "-v", "hold:/hold:ro", "-v", "deck:/deck"], &["sleep", "1000"]);
    host.ok(["create", "--name", "keel", "--read-only", "-v", "hold:/hold:ro", "busybox", "true"]);
    let empty = "\0".repeat(1024);
    let put = |name: &str, path: &str, body: &str| {
        let line = format!("PUT /containers/{name}/archive?path={path}");
        let (head, answer) = daemon.ask_with(&line, "Content-Type: application/x-tar\r\n", body);
        (head[9..12].to_owned(), answer)
    };
    for name in ["hull", "keel"] {
        for (path, message) in
            [("/", "container rootfs is marked read-only"), ("/hold", "mounted volume is marked read-only")]
        {
            let expected = ("400".to_owned(), format!("{{\"message\":\"{message}\"}}\n"));
            assert_eq!(put(name, path, &empty), expected, "{name} {path}");
        }
    }
    assert_eq!(put("hull", "/deck", &empty).0, "200");
    let (status, answer) = put("hull", "/deck", "no archive");
    assert!(status.starts_with(['4', '5']) && answer.contains("message"), "{status} {answer}");
    for body in ["no archive", &"x".repeat(2000)] {
        let tar = "Content-Type: application/x-tar\r\n";
        let (head, answer) = daemon.ask_with("POST /images/create?fromSrc=-&repo=hull", tar, body);
        assert!(head.starts_with("HTTP/1.1 500 ") && answer.starts_with("{\"message\":"), "{head} {answer}");
    }
    assert_eq!(host.ok(["images", "--quiet", "hull"]), "");
    let (head, answer) = daemon.ask_with("POST /images/create?fromSrc=-&repo=hull", "", &empty);
    assert!(head.starts_with("HTTP/1.1 200 ") && answer.contains("{\"status\":\"sha256:"), "{head} {answer}");
    host.ok(["rm", "--force", "hull", "keel"]);
}

/// What the operating system says is told in the words that people and clients know, wherever it is told.
#[test]
fn the_operating_system_speaks_as_with_docker() {
    let Some((host, daemon)) = host() else { return };
    let flags = ["--name", "hull", "--health-cmd", "true", "--health-interval", "200ms"];
    host.detached(&flags, &["sh", "-c", "ln -sf passwd /etc/passwd; sleep 1000"]);
    let words = "open the image's /etc/passwd: too many levels of symbolic links";
    eventually("the file is a loop", || {
        let log = host.inspect("hull", "/State/Health/Log").to_string();
        assert!(!log.contains("os error"), "{log}");
        log.contains(words)
    });
    let named = ask(&daemon, "POST /containers/hull/exec", r#"{"Cmd":["true"],"User":"cook"}"#);
    assert_eq!(named, (400, words.to_owned()));
    let (_, made) = daemon.ask_with("POST /containers/hull/exec", JSON, r#"{"Cmd":["true"]}"#);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let line = format!("POST /exec/{}/start", made["Id"].as_str().expect("an id"));
    let (_, streamed) = daemon.ask_with(&line, JSON, "{}");
    assert!(streamed.contains(words), "{streamed}");
    let said = host.dhow(["exec", "hull", "true"]).run().stderr();
    assert!(said.contains(words) && !said.contains("os error"), "{said}");
    host.ok(["rm", "--force", "hull"]);
}

#[test]
fn filters_and_networks_refuse_in_dockers_words() {
    let Some((host, daemon)) = host() else { return };
    let list = |what: &str, key: &str, values: &str| {
        ask(&daemon, &format!("GET /{what}?filters=%7B%22{key}%22:%5B{values}%5D%7D"), "")
    };
    for (what, key, values, message) in [
        (
            "containers/json",
            "exited",
            "%22x%22",
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ("containers/json", "is-task", "%22x%22", "invalid filter 'is-task=[x]'"),
        ("volumes", "dangling", "%22yes%22", "invalid filter 'dangling=[yes]'"),
        (
            "networks",
            "dangling",
            "%22yes%22",
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
        ),
        ("networks", "dangling", "%221%22,%220%22", "got more than one value for filter key \"dangling\""),
    ] {
        assert_eq!(list(what, key, values), (400, message.to_owned()));
    }
    host.ok(["network", "create", "sea"]);
    host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let id = host.inspect("hull", "/Id").as_str().expect("an id").to_owned();
    let leave = || ask(&daemon, "POST /networks/sea/disconnect", r#"{"Container":"hull"}"#);
    assert_eq!(leave(), (500, format!("container {id} is not connected to network sea")));
    host.ok(["stop", "--time", "0", "hull"]);
    assert_eq!(leave(), (500, format!("container {id} is not connected to the network sea")));
}

/// What need not be there yet when a container is made is missed by its start.
#[test]
fn what_is_missing_is_told_by_the_start() {
    let Some((host, daemon)) = host() else { return };
    host.ok(["create", "--name", "still", "busybox", "true"]);
    let still = host.inspect("still", "/Id").as_str().expect("an id").to_owned();
    let joins = |kind: &str| format!("failed to join {kind} namespace: container {still} is not running");
    let nowhere = "failed to create task for container: exec: \"\": executable file not found in $PATH";
    for (number, (body, status, message)) in [
        (
            r#""HostConfig":{"NetworkMode":"sea"}"#,
            404,
            "failed to set up container networking: network sea not found".into(),
        ),
        (
            r#""HostConfig":{"NetworkMode":"container:still"}"#,
            409,
            "cannot join network namespace of a non running container: container still is created".into(),
        ),
        (
            r#""HostConfig":{"NetworkMode":"container:nope"}"#,
            500,
            "joining network namespace of container: No such container: nope".into(),
        ),
        (r#""HostConfig":{"PidMode":"container:still"}"#, 500, joins("PID")),
        (r#""HostConfig":{"IpcMode":"container:still"}"#, 409, joins("IPC")),
        (r#""Cmd":[""]"#, 400, nowhere.into()),
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(r#"{{"Image":"busybox",{body}}}"#);
        assert_eq!(ask(&daemon, &format!("POST /containers/create?name=hull{number}"), &body).0, 201, "{body}");
        let start = format!("POST /containers/hull{number}/start");
        assert_eq!(ask(&daemon, &start, ""), (status, message), "{body}");
    }
    host.ok(["network", "create", "sea"]);
    assert_eq!(ask(&daemon, "POST /containers/hull0/start", "").0, 204);
    host.ok(["wait", "hull0"]);
    // What comes later is joined, by its name then, and in whose network one is has its name.
    host.detached(&["--name", "nope", "--hostname", "mast"], &["sleep", "1000"]);
    assert_eq!(ask(&daemon, "POST /containers/hull2/start", "").0, 204);
    host.ok(["wait", "hull2"]);
    assert_eq!(host.inspect("hull2", "/Config/Hostname"), "mast");
    // What is there is noted by its id: a new name does not matter.
    host.ok([
        "create",
        "--name",
        "boat",
        "--network",
        "container:nope",
        "--pid",
        "container:nope",
        "busybox",
        "hostname",
    ]);
    host.ok(["rename", "nope", "deck"]);
    assert_eq!(host.ok(["start", "--attach", "boat"]), "mast");
    let id = host.inspect("deck", "/Id").as_str().expect("an id").to_owned();
    for mode in ["NetworkMode", "PidMode"] {
        assert_eq!(host.inspect("boat", &format!("/HostConfig/{mode}")), format!("container:{id}"));
    }
    // What would go by what security options others have is refused at once.
    for mode in ["PidMode", "IpcMode"] {
        let body = format!(r#"{{"Image":"busybox","HostConfig":{{"{mode}":"container:ghost"}}}}"#);
        let said = ask(&daemon, "POST /containers/create", &body);
        assert_eq!(said, (400, "No such container: ghost".to_owned()));
    }
    host.ok(["rm", "--force", "deck"]);
}
