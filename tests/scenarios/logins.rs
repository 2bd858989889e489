//! Who we are to registries, and what they tell without a pull: login, logout, search, distribution; and import by URL.

use crate::fixture::{Front, Host, Login, Registry, Running, Say, Tar, Terminal, eventually};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

const PASSWORD: &str = Login::SAILOR.password;

/// The configuration of the host's user.
fn config(host: &Host) -> Value {
    let text = fs::read(host.dir().join("home/.docker/config.json")).expect("the configuration");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn who_has_logged_in_may_pull_until_the_logout() {
    let Some(host) = Host::new() else { return };
    let Some(registry) = Registry::start(false, Some(Login::SAILOR)) else { return };
    let Some(image) = registry.busybox() else { return };
    // Keys are the same in whatever case, and stay as they are.
    host.file("home/.docker/config.json", r#"{"HttpHeaders":{"a":"b"},"Auths":{"other.example":{"auth":"eDp5"}}}"#);
    let login = |password: &str| {
        host.dhow(["login", "-u", "sailor", "--password-stdin", &registry.host()]).input(password.to_owned())
    };
    let said = login("not this\n").refused(1);
    assert!(said.contains("401 Unauthorized"), "{said}");
    assert!(!said.contains("not this"), "a password is not printed: {said}");
    assert_eq!(config(&host)["Auths"].as_object().map(|auths| auths.len()), Some(1), "nothing was kept");

    let output = login(&format!("{PASSWORD}\r\n")).run();
    assert_eq!(output.ok(), "Login Succeeded");
    assert!(output.stderr().contains("stored unencrypted in"), "{output}");
    let kept = config(&host);
    assert_eq!(kept["HttpHeaders"], json!({ "a": "b" }), "what is not ours stays");
    assert_eq!(kept["Auths"]["other.example"], json!({ "auth": "eDp5" }));
    assert_eq!(kept["Auths"][registry.host()], json!({ "auth": "c2FpbG9yOmFob3kgdGhlcmU=" }));
    let mode = fs::metadata(host.dir().join("home/.docker/config.json")).expect("it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    host.ok(["pull", "-q", &image]);
    let again = host.run(["login", &registry.host()]);
    assert_eq!(again.ok(), "Login Succeeded");
    assert!(again.stderr().contains("existing credentials... [Username: sailor]"), "{again}");
    assert!(!again.stderr().contains("stored unencrypted"), "nothing new is kept: {again}");

    assert_eq!(host.ok(["logout", &registry.host()]), format!("Removing login credentials for {}", registry.host()));
    assert_eq!(config(&host)["Auths"], json!({ "other.example": { "auth": "eDp5" } }));
    host.ok(["rmi", &image]);
    host.refused(1, ["pull", "-q", &image]);
    let held = json!({ "auths": { registry.host(): { "auth": "c2FpbG9yOmFob3kgdGhlcmU=" } } }).to_string();
    host.dhow(["pull", "-q", &image]).env("DOCKER_AUTH_CONFIG", &held).ok();
    let out = host.dhow(["logout", &registry.host()]).env("DOCKER_AUTH_CONFIG", &held).run();
    assert!(out.stderr().starts_with("WARNING: DOCKER_AUTH_CONFIG is set and takes precedence.\n"), "{out}");
}

#[test]
fn a_helper_keeps_what_it_is_given() {
    let Some(host) = Host::new() else { return };
    let Some(registry) = Registry::start(false, Some(Login::SAILOR)) else { return };
    let Some(image) = registry.busybox() else { return };
    let kept = host.dir().join("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > '{0}' ;;\nerase) cat >> '{0}.erased'; echo >> '{0}.erased'; rm -f '{0}' ;;\n\
         get) [ -e '{0}' ] && cat '{0}' || {{ echo credentials not found in native keychain; exit 1; }} ;;\nesac\n",
        kept.display()
    );
    let helper = host.program("bin/docker-credential-locker", script);
    let path = format!("{}:/usr/bin:/bin", helper.parent().expect("a directory").display());
    host.file("home/.docker/config.json", r#"{"credsStore":"locker"}"#);
    let run = |args: &[&str]| host.dhow(args.iter().copied()).env("PATH", &path);
    let output = run(&["login", "-u", "sailor", "--password-stdin", &registry.host()]).input(PASSWORD).run();
    assert_eq!((output.ok().as_str(), output.stderr().as_str()), ("Login Succeeded", ""));
    let stored: Value = serde_json::from_slice(&fs::read(&kept).expect("the helper's file")).expect("JSON");
    assert_eq!(stored, json!({ "ServerURL": registry.host(), "Username": "sailor", "Secret": PASSWORD }));
    assert_eq!(config(&host)["auths"], json!({ registry.host(): {} }));
    run(&["pull", "-q", &image]).ok();
    run(&["logout", &registry.host()]).ok();
    assert!(!kept.exists());
    let erased = fs::read_to_string(kept.with_file_name("kept.erased")).expect("what was erased");
    let forms = ["", "http://", "https://"].map(|scheme| format!("{scheme}{}\n", registry.host()));
    assert_eq!(erased, forms.concat(), "it may have any of these forms");
    assert_eq!(config(&host), json!({ "auths": {}, "credsStore": "locker" }));
    run(&["pull", "-q", &image]).refused(1);
}

#[test]
fn a_password_is_typed_unseen() {
    let Some(host) = Host::new() else { return };
    let Some(registry) = Registry::start(false, Some(Login::SAILOR)) else { return };
    let mut terminal = Terminal::start(host.dhow(["login", &registry.host()]));
    terminal.expect("Username: ");
    terminal.send("sailor\n");
    terminal.expect("Password: ");
    terminal.send(format!("{PASSWORD}\n"));
    terminal.expect("Login Succeeded");
    let screen = terminal.screen_text();
    assert!(!screen.contains(PASSWORD), "{screen}");
    assert!(terminal.end().success());
    assert!(config(&host)["auths"][registry.host()]["auth"].is_string());
    // Ctrl-C gives the terminal back as it was.
    let mut terminal = Terminal::start(host.dhow(["login", "-u", "sailor", &registry.host()]));
    terminal.expect("Password: ");
    terminal.send([3]);
    assert!(!terminal.end().success());
    assert!(terminal.settings().local_flags.contains(nix::sys::termios::LocalFlags::ECHO));
}

#[test]
fn a_login_that_cannot_be() {
    let host = Host::anyone();
    for (args, words) in [
        (&["login", "x.example"][..], "non TTY device"),
        (&["login", "-u", "me", "x.example"], "non TTY device"),
        (&["login", "--password-stdin", "x.example"], "requires --username"),
        (&["login", "-u", "", "x.example"], "username is empty"),
        (&["login", "-u", "me", "--password-stdin", "x.example"], "password is empty"),
        (
            &["login", "-u", "me", "-p", "x", "--password-stdin", "x.example"],
            "cannot specify both --password and --password-stdin",
        ),
    ] {
        let said = host.refused(1, args.iter().copied());
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert!(!host.dir().join("home/.docker").exists());
}

#[test]
fn search_says_that_it_is_not_there() {
    let Some(host) = Host::new() else { return };
    let said = host.refused(1, ["search", "busybox"]);
    assert!(said.contains("search is not supported") && said.contains("hub.docker.com"), "{said}");
}

/// The daemon of a host, on a socket.
struct Daemon(Option<Running>, String);

impl Daemon {
    fn start(host: &Host) -> Daemon {
        let socket = host.dir().join("sock");
        let url = format!("unix://{}", socket.display());
        let running = host.dhow(["daemon", "-H", &url]).spawn();
        eventually("the daemon listens", || UnixStream::connect(&socket).is_ok());
        Daemon(Some(running), url)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.1.trim_start_matches("unix://")).expect("connect");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("hear");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("JSON expected: {answer}")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.signal(nix::sys::signal::Signal::SIGTERM);
            running.wait();
        }
    }
}

#[test]
fn a_daemon_asks_registries_for_others() {
    let Some(host) = Host::new() else { return };
    // It has a daemon of its own.
    if host.has_daemon() {
        return;
    }
    let Some(registry) = Registry::start(false, Some(Login::SAILOR)) else { return };
    let Some(image) = registry.busybox() else { return };
    let daemon = Daemon::start(&host);
    let login = |password: &str| {
        let who = json!({ "username": "sailor", "password": password, "serveraddress": registry.host() });
        daemon.ask("POST", "/v1.47/auth", &who.to_string())
    };
    assert_eq!(login(PASSWORD), (200, json!({ "Status": "Login Succeeded", "IdentityToken": "" })));
    let (status, answer) = login("wrong");
    assert_eq!(status, 401, "{answer}");
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("401 Unauthorized")), "{answer}");
    let (status, answer) = daemon.ask("GET", &format!("/v1.47/distribution/{image}/json"), "");
    assert_eq!(status, 401, "{answer}");
    let (status, answer) = daemon.ask("GET", "/images/search?term=x", "");
    assert_eq!(status, 501, "{answer}");

    let Some(open) = Registry::shared() else { return };
    let Some(image) = open.busybox() else { return };
    let (status, answer) = daemon.ask("GET", &format!("/v1.47/distribution/{image}/json"), "");
    assert_eq!(status, 200, "{answer}");
    assert!(answer["Descriptor"]["digest"].as_str().is_some_and(|text| text.starts_with("sha256:")), "{answer}");
    assert!(answer["Descriptor"]["size"].as_u64().is_some_and(|size| size > 100), "{answer}");
    assert_eq!(answer["Platforms"][0]["os"], "linux", "{answer}");
    let (status, answer) = daemon.ask("GET", &format!("/distribution/{image}:nope/json"), "");
    assert_eq!(status, 404, "{answer}");

    // Images come and go over the socket as they do without one.
    let remote = |args: &[&str]| host.dhow(["-H", &daemon.1].iter().chain(args).copied());
    remote(&["pull", "-q", &image]).ok();
    let saved = remote(&["save", &image]).run();
    assert!(saved.status.success() && saved.out.len() > 100_000, "{}", saved.line);
    remote(&["rmi", &image]).ok();
    assert_eq!(remote(&["load"]).input(saved.out).ok(), format!("Loaded image: {image}:latest"));
    let said = remote(&["save", "no-such"]).refused(1);
    assert!(said.contains("No such image: no-such"), "{said}");
}

#[test]
fn a_tar_is_imported_from_where_it_lies() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let tar = Tar::new().file("file", 0o644, "content").end();
    let cut = tar.clone();
    let front = Front::start(&registry, move |asked, _| {
        Some(match asked.line.as_str() {
            "GET /file.tar" => Say::new(200, tar.clone()),
            "GET /moved" => Say::new(302, "").with("Location", "/file.tar"),
            "GET /cut" => Say { cut: Some(700), ..Say::new(200, cut.clone()) },
            _ => Say::new(404, "no such page"),
        })
    });
    let url = |path: &str| format!("http://{}{path}", front.address);
    let told = host.ok(["import", "-c", "CMD [\"/x\"]", &url("/moved"), "fetched:v1"]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], format!("Downloading from {}", url("/moved")), "{told}");
    assert_eq!(host.inspect("fetched:v1", "/Id"), json!(lines[1]));
    assert_eq!(host.inspect("fetched:v1", "/Comment"), json!(format!("Imported from {}", url("/moved"))));
    assert_eq!(host.inspect("fetched:v1", "/Config/Cmd/0"), "/x");
    host.ok(["rmi", "fetched:v1"]);
    for (path, words) in [("/none", "404"), ("/cut", "")] {
        let output = host.run(["import", &url(path), "never:v1"]);
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{output}");
        assert!(output.stderr().contains(words), "{output}");
        assert_eq!(host.ok(["images", "-q", "-a"]), "");
        host.assert_tidy();
    }
    let said = host.refused(1, ["import", "http://127.0.0.1:1/x"]);
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
