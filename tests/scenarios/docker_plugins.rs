//! Called `docker`, we hear the advice of plugins after a command, and have them build, as the docker command does.

use crate::called_docker::Both;
use crate::fixture::Terminal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

impl Both {
    fn plugin(&self, name: &str, script: &str) -> PathBuf {
        let path = self.config().join(format!("cli-plugins/docker-{name}"));
        fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
        let metadata = r#"{"SchemaVersion":"0.1.0","Vendor":"the yard"}"#;
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = docker-cli-plugin-metadata ]; then echo '{metadata}'; exit; fi\n{script}\n"
        );
        fs::write(&path, script).expect("write a plugin");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    fn settings(&self, settings: &serde_json::Value) {
        fs::create_dir_all(self.config()).expect("make a directory");
        fs::write(self.config().join("config.json"), settings.to_string()).expect("write");
    }

    /// Runs a line on a terminal, and gives its exit code and what was shown, with what the plugin was asked.
    fn shows(&self, ours: bool, line: &str, hooks: &str) -> (Option<i32>, String, String) {
        let asked = self.docker.host.dir().join("asked");
        let _ = fs::remove_file(&asked);
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let command = self.command(ours, &words).env("DOCKER_CLI_HOOKS", hooks).env("DOCKER_CLI_HINTS", "");
        let output = Terminal::start(command.env("ASKED", asked.to_str().expect("UTF-8"))).finish();
        let shown = self.plain(ours, "\0", &String::from_utf8_lossy(&output.out));
        (output.code(), shown, fs::read_to_string(&asked).unwrap_or_default())
    }
}

/// Says what it was asked, and has advice in each form.
const ADVISER: &str = r#"
if [ "$2" != docker-cli-plugin-hooks ]; then
    case "$*" in *fail*) exit 3;; *) echo "rigged: $*"; exit;; esac
fi
printf '%s\n' "$# $1 $3 ${DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND##*/}" >> $ASKED
case "$3" in
    *'"RootCmd":"logs"'*) printf '{"Type":1,"Template":"no"}';;
    *'"RootCmd":"tag"'*) printf 'no JSON';;
    *'"RootCmd":"wait"'*) printf '{"Template":" \\n "}';;
    *'"RootCmd":"port"'*) printf '{"Template":"{{flag . \"nosuch\"}}"}';;
    *'"RootCmd":"top"'*) printf '{"Template":"yes"}'; exit 1;;
    *'"RootCmd":"rig"'*) printf '{"Type":0,"Template":"{{.Name}} {{flag . \\"debug\\"}} {{arg . 0}}."}';;
    *) printf '{"Type":0,"Template":"ran {{.Name}}\\n\\nwith {{arg . 0}} {{arg . 1}} {{arg . 7}}|"}';;
esac
"#;

#[test]
fn hooks_of_plugins_are_run_as_by_the_docker_command() {
    let Some(both) = Both::new() else { return };
    let adviser = both.plugin("rig", ADVISER);
    // One that is no plugin for its metadata is asked, too.
    fs::copy(&adviser, adviser.with_file_name("docker-ps")).expect("copy a plugin");
    let hooks = "ps,image ls,run,inspect,logs,tag,wait,port,top,rig,docker,start,image,help,volume";
    both.settings(&serde_json::json!({
        "plugins": {"rig": {"hooks": hooks}, "nosuch": {"hooks": "ps"}},
        "features": {"hooks": "true"},
    }));
    both.docker.command(&["run", "-d", "--name", "hull", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let mut differ = Vec::new();
    for line in [
        "ps -q --filter name=none",
        "ps --quiet=false --all --format {{.Names}}",
        "container ps --format {{.Names}}",
        "images -q nosuch",
        "image ls -q nosuch",
        "run --rm --network none -e A=b -ti=false busybox echo ahoy",
        "run --rm --network none busybox sh -c exit${IFS}4",
        "run --rm --network none busybox:<&> true",
        "inspect --format {{.Name}} hull",
        "inspect nope",
        "start nope nada",
        "logs hull",
        "tag busybox tagged",
        "wait nope",
        "port hull",
        "top nope",
        "rig up -d --file x",
        "rig fail",
        "--log-level warn rig up",
        "help rig",
        "nosuch a",
        "ps --nosuch",
        "ps -a --nosuch",
        "image nosuch",
        "volume inspect nope",
        "version --format x",
    ] {
        let (docker, ours) = (both.shows(false, line, ""), both.shows(true, line, ""));
        if docker != ours {
            differ.push(format!("{line}\n  docker: {docker:?}\n  ours:   {ours:?}"));
        }
    }
    assert!(differ.is_empty(), "{} lines differ:\n{}", differ.len(), differ.join("\n"));
    let (_, shown, asked) = both.shows(true, "ps -q --filter name=none", "");
    assert_eq!(shown, "\u{1b}[1m\nWhat's next:\u{1b}[0m\n    ran ps\n    \n    with   |");
    assert_eq!(
        asked,
        "3 rig {\"RootCmd\":\"ps\",\"Flags\":{\"filter\":\"\",\"quiet\":\"true\"},\"CommandError\":\"\"} docker\n"
    );
    // Only where they are wanted, and only on a terminal.
    for (hooks, wanted) in [("0", false), ("nonsense", false), ("1", true)] {
        for ours in [false, true] {
            let (_, shown, asked) = both.shows(ours, "ps -q", hooks);
            assert_eq!((shown.contains("ran ps"), !asked.is_empty()), (wanted, wanted), "{ours} {hooks}");
        }
    }
    assert_eq!(both.says(true, "ps -q --filter name=none"), (Some(0), String::new(), String::new()));
}

/// What 29.3 brought, which the docker command here is too old for.
#[test]
fn hooks_of_what_failed_are_run() {
    let Some(both) = Both::new() else { return };
    both.plugin("rig", ADVISER);
    both.settings(&serde_json::json!({"plugins": {"rig": {"error-hooks": "ps,run,rig"}}}));
    for (line, code, asked) in [
        ("ps -q", 0, ""),
        ("ps -x", 125, "\"RootCmd\":\"ps\",\"Flags\":{},\"CommandError\":\"unknown shorthand flag: 'x' in -x\\n"),
        ("run --rm --network none busybox false", 1, "\"CommandError\":\"exited with code 1\"}"),
        ("rig up", 0, ""),
        (
            "rig fail --hard",
            3,
            "\"RootCmd\":\"rig\",\"Flags\":{\"hard\":\"\"},\"CommandError\":\"exited with code 3\"}",
        ),
    ] {
        let (ended, shown, told) = both.shows(true, line, "1");
        assert!(ended == Some(code) && told.contains(asked), "{line}: {ended:?} {told} {shown}");
        assert_eq!((told.is_empty(), shown.contains("What's next:")), (asked.is_empty(), !asked.is_empty()), "{line}");
    }
}

/// Who is called off has no advice, and a plugin that we wait for hears of its end.
#[test]
fn a_plugin_with_hooks_is_ended_by_ctrl_c_and_by_signals() {
    let Some(both) = Both::new() else { return };
    both.plugin("rig", "trap 'echo caught; exit 5' INT TERM\necho ready\nwhile :; do sleep 0.05; done");
    both.settings(&serde_json::json!({"plugins": {"rig": {"hooks": "rig", "error-hooks": "rig"}}}));
    for by_key in [true, false] {
        let command = both.command(true, &["rig".to_owned()]).env("DOCKER_CLI_HOOKS", "1");
        let mut terminal = Terminal::start(command);
        terminal.expect("ready");
        match by_key {
            true => terminal.send([3]),
            false => {
                let pid = nix::unistd::Pid::from_raw(terminal.pid());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("end it");
            }
        }
        terminal.expect("caught");
        let output = terminal.finish();
        assert_eq!(output.code(), Some(5), "{output}");
        assert!(!String::from_utf8_lossy(&output.out).contains("next"), "{output}");
    }
}

/// A daemon that says of itself only by what it builds.
fn daemon_that_builds_with(builder: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = format!("tcp://{}", listener.local_addr().expect("its address"));
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut lines = BufReader::new(connection.try_clone().expect("share a connection")).lines();
            while let Some(Ok(line)) = lines.next() {
                if line.is_empty() {
                    let head = format!("API-Version: 1.50\r\nOstype: linux\r\nBuilder-Version: {builder}");
                    let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: 0\r\n\r\n");
                    if connection.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        }
    });
    address
}

#[test]
fn builds_are_buildxs_where_the_daemon_or_an_alias_says_so() {
    let Some(both) = Both::new() else { return };
    let others = daemon_that_builds_with("2");
    // Words of the environment come first in a line.
    let each = |lines: &[&str]| -> String {
        let line = |line: &&str| {
            let at = line.split(' ').take_while(|word| word.contains('=')).map(|word| word.len() + 1).sum::<usize>();
            format!("{}-H {others} {}\n", &line[..at], &line[at..])
        };
        lines.iter().map(line).collect()
    };
    both.compare(&each(&[
        "DOCKER_BUILDKIT= build /nope",
        "DOCKER_BUILDKIT=1 build /nope",
        "DOCKER_BUILDKIT=1 builder prune -f",
        "DOCKER_BUILDKIT=x ps",
        "DOCKER_BUILDKIT=0 bake",
        "bake x",
    ]));
    both.plugin("buildx", "echo \"$*\"; echo \"$BUILDX_BUILDER $OTEL_RESOURCE_ATTRIBUTES\"; exit 3");
    let lines = [
        "DOCKER_BUILDKIT= build -t x .",
        "DOCKER_BUILDKIT=1 build --builder=far .",
        "DOCKER_BUILDKIT=1 BUILDX_BUILDER=far build .",
        "DOCKER_BUILDKIT= image build .",
        "DOCKER_BUILDKIT= builder prune -f",
        "DOCKER_BUILDKIT= builder",
        "DOCKER_BUILDKIT=0 bake x",
        "DOCKER_BUILDKIT=0 build /nope",
        "buildx build .",
    ];
    both.compare(&each(&lines));
    // An alias says it of every daemon.
    both.plugin("rig", "echo \"rigged $*\"; echo \"$BUILDX_BUILDER $OTEL_RESOURCE_ATTRIBUTES\"");
    for meant in ["buildx", "rig", "nosuch"] {
        both.settings(&serde_json::json!({"aliases": {"builder": meant}}));
        both.compare(&each(&lines));
        both.compare(
            "DOCKER_BUILDKIT= build -t x .
             DOCKER_BUILDKIT= image build .
             DOCKER_BUILDKIT= builder prune -f
             DOCKER_BUILDKIT=0 builder prune
             DOCKER_BUILDKIT=0 build /nope",
        );
    }
    // Where our daemon is asked without one, we build; what it does not speak is said by buildx only if that is called.
    both.settings(&serde_json::json!({}));
    both.docker.host.file("hold/Dockerfile", "FROM busybox\nRUN echo ahoy > /said\n");
    for buildkit in ["", "1", "0"] {
        let said = both.says(true, &format!("DOCKER_BUILDKIT={buildkit} build -q --network none -t told hold"));
        assert!(said.0 == Some(0) && said.1.starts_with("sha256:"), "{buildkit:?}: {said:?}");
        assert_eq!(both.says(true, &format!("DOCKER_BUILDKIT={buildkit} builder prune -f")).0, Some(0));
    }
    // One that builds as we do is asked, too.
    let alike = daemon_that_builds_with("1");
    let said = both.says(true, &format!("DOCKER_BUILDKIT=1 -H {alike} build /nope"));
    assert!(said.0 == Some(1) && said.2.contains("/nope"), "{said:?}");
}
