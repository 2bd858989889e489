//! compose, both of them: the old one in Python with its own words, and docker's plugin. The project is
//! `tests/clients/compose`.

use crate::fixture::{Command, Daemon, Host, clients, eventually, need, redis_tar};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Copies the project; gives its folder.
pub fn project(host: &Host) -> String {
    let text = fs::read_to_string(clients::source("tests/clients/compose/compose.yaml")).expect("read the project");
    host.file("sea/chart/name", "dhow\n");
    let file = host.file("sea/compose.yaml", text);
    file.parent().expect("a folder").to_str().expect("UTF-8").to_owned()
}

/// One of the two composes, on a project of its own.
struct Compose {
    daemon: Daemon,
    host: Host,
    folder: String,
    program: &'static str,
    config: String,
}

impl Compose {
    /// The distribution's docker-compose, as long as it is the one in Python.
    fn old() -> Option<Compose> {
        need("docker-compose")?;
        let said = Command::new("docker-compose", ["version", "--short"]).run().stdout();
        if !said.starts_with("1.") {
            return crate::fixture::skip(&format!("docker-compose is {said}, not the one in Python"));
        }
        Compose::of("docker-compose", String::new())
    }

    /// docker's plugin.
    fn plugin() -> Option<Compose> {
        let config = clients::compose_plugin()?;
        Compose::of("docker", config.to_str().expect("UTF-8").to_owned())
    }

    fn of(program: &'static str, config: String) -> Option<Compose> {
        let host = Host::with_busybox()?;
        let folder = project(&host);
        Some(Compose { daemon: Daemon::start(&host), host, folder, program, config })
    }

    /// The same program with a project of three services, and a real Redis among them.
    fn with_three(mut self) -> Option<Compose> {
        let image = redis_tar()?;
        self.host.ok(["import", image.to_str().expect("UTF-8"), "redis"]);
        let text = fs::read_to_string(clients::source("tests/clients/compose/three.yaml")).expect("read the project");
        for (service, line) in [
            ("web", "busybox wget -q -O- http://app:8000/cgi-bin/visit"),
            ("app", "echo $(redis-cli -h db incr visits) $(busybox hostname)"),
        ] {
            let script = format!("#!/bin/busybox sh\nprintf '\\n'\n{line}\n");
            let file = self.host.file(&format!("quay/{service}/cgi-bin/visit"), script);
            fs::set_permissions(file, PermissionsExt::from_mode(0o755)).expect("chmod");
        }
        let file = self.host.file("quay/compose.yaml", text);
        self.folder = file.parent().expect("a folder").to_str().expect("UTF-8").to_owned();
        Some(self)
    }

    /// The addresses that a service finds for a name, as busybox finds them.
    fn finds(&self, service: &str, name: &str) -> Vec<String> {
        let said = self.command(&format!("exec -T {service} busybox nslookup {name}.")).run().stdout();
        let (_, answer) = said.split_once("\n\n").unwrap_or_default();
        answer.lines().filter_map(|line| Some(line.strip_prefix("Address: ")?.to_owned())).collect()
    }

    fn command(&self, line: &str) -> Command {
        let first: &[&str] = if self.config.is_empty() { &[] } else { &["compose", "--ansi", "never"] };
        let mut command = Command::new(self.program, first.iter().copied().chain(line.split(' ')));
        command.inner().current_dir(&self.folder);
        let command = clients::speaking(command, &self.host, &self.daemon);
        if self.config.is_empty() { command } else { command.env("DOCKER_CONFIG", &self.config) }
    }

    fn ok(&self, line: &str) -> String {
        self.command(line).ok()
    }

    /// Runs it, expects success and these words on standard error, where progress is shown.
    fn tells(&self, line: &str, words: &[&str]) {
        let output = self.command(line).run();
        output.ok();
        for word in words {
            assert!(output.stderr().contains(word), "{word:?} is not in {output}");
        }
    }

    /// The rows of a table, each space of which is one: without the head, in order.
    fn rows(&self, line: &str) -> Vec<String> {
        let text = self.ok(line);
        let rows = text.lines().skip(1).filter(|line| !line.starts_with("---"));
        rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }
}

/// The count, and which container counted: by the published port of one service, and the names of the others.
fn visit() -> Option<(u32, String)> {
    let said = Command::new("busybox", ["wget", "-q", "-O-", "http://127.0.0.1:8480/cgi-bin/visit"]).run().stdout();
    let (count, host) = said.trim().split_once(' ')?;
    Some((count.parse().ok()?, host.to_owned()))
}

fn three_services_find_each_other(quay: &Compose) {
    quay.ok("up -d");
    eventually("all of them work together", || visit().is_some());
    let (before, after) = (visit().expect("a count"), visit().expect("a count"));
    assert_eq!(after, (before.0 + 1, before.1.clone()));
    assert_eq!((quay.finds("web", "app").len(), quay.finds("web", "desk").len()), (1, 1));
    assert_eq!(quay.finds("app", "db").len(), 1);
    assert_eq!(quay.finds("web", "db").len(), 0, "they share no network");
    quay.ok("up -d --scale app=3");
    eventually("three answers for one name", || quay.finds("web", "app").len() == 3);
    let mut hosts = BTreeSet::new();
    eventually("each of them works", || {
        hosts.extend(visit().map(|(_, host)| host));
        hosts.len() == 3
    });
    // A container that comes back is found again, wherever it is.
    quay.ok("restart -t 0 db");
    eventually("the store is found again", || visit().is_some());
    quay.ok("up -d --scale app=1");
    eventually("one answer", || quay.finds("web", "app").len() == 1);
    quay.ok("down");
    assert_eq!(quay.host.ok(["ps", "--all", "--quiet"]), "");
    assert_eq!(quay.host.ok(["network", "ls", "--filter", "type=custom", "--quiet"]), "");
}

#[test]
fn three_services_of_the_old_compose_find_each_other() {
    let Some(quay) = Compose::old().and_then(Compose::with_three) else { return };
    three_services_find_each_other(&quay);
}

#[test]
fn three_services_of_the_plugin_find_each_other() {
    let Some(quay) = Compose::plugin().and_then(Compose::with_three) else { return };
    three_services_find_each_other(&quay);
}

#[test]
fn the_old_compose_brings_a_project_up_and_down() {
    let Some(sea) = Compose::old() else { return };
    sea.tells("up -d", &["Creating volume \"sea_hold\" with default driver", "Creating sea_crew_1 ... done"]);
    let rows = sea.rows("ps");
    assert!(rows.iter().any(|row| row.starts_with("sea_hold_1") && row.ends_with("Up (healthy)")), "{rows:?}");
    assert!(rows.iter().any(|row| row.starts_with("sea_crew_1") && row.ends_with("Up")), "{rows:?}");
    let said = "Attaching to sea_crew_1\ncrew_1  | mate has tea";
    eventually("the crew speaks", || sea.ok("logs --no-color crew") == said);
    let output = sea.command("exec -T crew cat /hold/cargo /chart/name").run();
    assert_eq!(output.ok(), "tea\ndhow");
    assert_eq!(sea.command("exec -T hold sh -c exit\t7").run().code(), Some(7));
    sea.tells("up -d --scale crew=2", &["sea_hold_1 is up-to-date", "Creating sea_crew_2 ... done"]);
    assert!(sea.ok("top crew").contains("sleep 0.1"));
    sea.tells("restart -t 5 crew", &["Restarting sea_crew_1 ... done", "Restarting sea_crew_2 ... done"]);
    // What changed is made anew, with the volume of before. For that it reads what a daemon tells in 1.44 and before
    // only: at 1.51, which it picks by itself, it breaks off with Docker's own daemon, too.
    let again = sea.command("up -d --no-deps crew").env("RANK", "master").env("COMPOSE_API_VERSION", "1.44");
    let output = again.run();
    assert!(output.stderr().contains("Recreating sea_crew_1            ... done"), "{output}");
    eventually("the new crew speaks", || sea.ok("logs --no-color crew").contains("crew_1  | master has tea"));
    assert_eq!(sea.command("run --rm -T once").run().ok(), "dhow");
    sea.tells("stop", &["Stopping sea_hold_1 ... done"]);
    assert!(sea.rows("ps").iter().all(|row| row.ends_with("Exit 0")), "{:?}", sea.rows("ps"));
    sea.tells("start", &["Starting crew ... done"]);
    sea.tells("kill crew", &["Killing sea_crew_1 ... done"]);
    sea.tells("rm -f crew", &["Removing sea_crew_1 ... done"]);
    // Attached, to its end.
    let output = sea.command("--profile once up --exit-code-from once --no-color once").run();
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(output.stdout().contains("once_1  | dhow\nsea_once_1 exited with code 0"), "{output}");
    sea.tells("down -v", &["Removing sea_hold_1 ... done", "Removing volume sea_hold"]);
    assert_eq!(sea.host.ok(["ps", "--all", "--quiet"]), "");
    assert_eq!(sea.host.ok(["volume", "ls", "--quiet"]), "");
}

#[test]
fn the_plugin_brings_a_project_up_and_down() {
    let Some(sea) = Compose::plugin() else { return };
    sea.tells(
        "up -d",
        &["Volume \"sea_hold\"  Created", "Container sea-hold-1  Healthy", "Container sea-crew-1  Started"],
    );
    let form = "ps --format {{.Name}}|{{.Service}}|{{.State}}|{{.Health}}|{{.Image}}";
    assert_eq!(sea.ok(form), "sea-crew-1|crew|running||busybox\nsea-hold-1|hold|running|healthy|busybox");
    // Compose clears the line that it writes to, whatever that is.
    let said = || sea.ok("logs --no-color --no-log-prefix crew");
    eventually("the crew speaks", || said().trim_start_matches("\x1b[2K") == "mate has tea");
    assert_eq!(sea.ok("exec -T crew cat /hold/cargo /chart/name"), "tea\ndhow");
    assert_eq!(sea.command("exec -T crew no-such-program").run().code(), Some(127));
    assert_eq!(sea.ok("exec -T --user user --env A=b crew id -un"), "user");
    sea.tells("up -d --wait --scale crew=2", &["Container sea-hold-1  Running", "Container sea-crew-2  Started"]);
    assert!(sea.ok("top crew").contains("sleep 0.1"));
    assert!(sea.rows("images").iter().any(|row| row.starts_with("sea-crew-2 busybox latest ")));
    assert!(sea.ok("stats --no-stream --format {{.Name}}").contains("sea-crew-1"));
    sea.tells("restart -t 5 crew", &["Container sea-crew-1  Started"]);
    let output = sea.command("up -d --no-deps crew").env("RANK", "master").run();
    assert!(output.stderr().contains("Container sea-crew-1  Recreated"), "{output}");
    eventually("the new crew speaks", || sea.ok("logs --no-color --no-log-prefix crew").contains("master has tea"));
    assert_eq!(sea.command("run --rm -T once").run().ok(), "dhow");
    sea.ok("cp hold:/hold/cargo brought");
    assert_eq!(fs::read_to_string(format!("{}/brought", sea.folder)).expect("it was brought"), "tea\n");
    sea.tells("pause hold", &["Container sea-hold-1  Paused"]);
    sea.tells("unpause hold", &["Container sea-hold-1  Unpaused"]);
    let listed = sea.ok("ls --format json");
    assert!(listed.contains("\"Name\":\"sea\",\"Status\":\"running(2)\""), "{listed}");
    // Events and logs are followed until the project goes.
    let events = sea.command("events --json").spawn();
    let logs = sea.command("logs --no-color --no-log-prefix --follow hold").spawn();
    logs.says("laden");
    sea.tells("kill hold", &["Container sea-hold-1  Killed"]);
    assert!(logs.wait().stdout().contains("laden"));
    let output = sea.command("up --no-color --exit-code-from once once").run();
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(output.stdout().contains("once-1  | dhow\nonce-1 exited with code 0"), "{output}");
    sea.tells("rm -f once", &["Container sea-once-1  Removed"]);
    sea.tells("down -v", &["Container sea-crew-1  Removed", "Volume sea_hold  Removed"]);
    for action in ["\"action\":\"destroy\"", "\"service\":\"crew\""] {
        events.says(action);
    }
    events.signal(nix::sys::signal::Signal::SIGINT);
    events.wait();
    assert_eq!(sea.host.ok(["ps", "--all", "--quiet"]), "");
    assert_eq!(sea.host.ok(["volume", "ls", "--quiet"]), "");
}
