//! Called `docker`, we say what the docker command says: each line is run by both, against our daemon.

use crate::daemon_docker::Docker;
use crate::fixture::{Command, Host, clients, skip};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// The docker command, and ourselves by that name.
pub struct Both {
    pub docker: Docker,
    /// Its version and the API that it speaks.
    version: String,
    api: String,
}

/// Exit code, stdout and stderr.
type Said = (Option<i32>, String, String);

/// Lines that tell of a build, which ours is none of, or of programs that we are not made of.
const OF_BUILDS: [&str; 7] =
    ["Go version:", "Git commit:", "Built:", "Kernel:", "containerd version:", "runc version:", "init version:"];
/// What docker says of its own two ways to build.
const DEPRECATED: &str = "DEPRECATED: The legacy builder is deprecated and will be removed in a future release.\n            \
     BuildKit is currently disabled; enable it by removing the DOCKER_BUILDKIT=0\n            \
     environment-variable.\n\n";

impl Both {
    pub fn new() -> Option<Both> {
        let docker = Docker::new()?;
        let told = |field: &str| docker.command(&["version", "--format", &format!("{{{{.Client.{field}}}}}")]).ok();
        let (version, api) = (told("Version"), told("DefaultAPIVersion"));
        if !version.starts_with("28.") {
            return skip(&format!("docker {version} has words of its own: those of 28 are compared with"));
        }
        symlink(env!("CARGO_BIN_EXE_dhow"), docker.host.dir().join("docker")).expect("link");
        Some(Both { docker, version, api })
    }

    pub fn config(&self) -> PathBuf {
        self.docker.host.dir().join("home/.docker")
    }

    pub fn command(&self, ours: bool, args: &[String]) -> Command {
        let link = self.docker.host.dir().join("docker");
        let program = if ours { link.to_str().expect("UTF-8") } else { "docker" };
        let command = clients::speaking(Command::new(program, args), &self.docker.host, &self.docker.daemon);
        let mut command = command.env("DOCKER_BUILDKIT", "0").input("");
        command.inner().current_dir(self.docker.host.dir());
        command
    }

    /// Runs a line: words, of which those with `=` in front of all are the environment's. `@` is another word for
    /// each program, so that both may make a thing of that name.
    pub fn says(&self, ours: bool, line: &str) -> Said {
        // As long as each other, for they stand in columns.
        let own = if ours { "dhows" } else { "docks" };
        let mut words = split(&line.replace('@', own));
        let count = words.iter().take_while(|word| word.split_once('=').is_some_and(|(name, _)| is_name(name))).count();
        let rest = words.split_off(count);
        let command = self.command(ours, &rest);
        let command = words
            .iter()
            .filter_map(|word| word.split_once('='))
            .fold(command, |command, (name, value)| command.env(name, value));
        let output = command.run();
        let text = |bytes: &[u8]| self.plain(ours, own, &String::from_utf8_lossy(bytes));
        (output.code(), text(&output.out), text(&output.err))
    }

    /// What was said, with what must differ out of the way.
    pub fn plain(&self, ours: bool, own: &str, text: &str) -> String {
        let text = text.replace(DEPRECATED, "").replace(own, "@");
        // A slip of 28's.
        let text = text.replace("\nSRun '", "\nRun '");
        let text = match ours {
            true => text.replace("build dhow", "build -"),
            false => text.replace(&format!("Version:    {}", self.version), "Version:    0.1.0"),
        };
        let text = text.replace(&format!("Version:           {}", self.version), "Version:           0.1.0");
        // What the client speaks at most; docker knows an older one than ours.
        let text = text.replace(&format!("API version:       {}", self.api), "API version:       1.51");
        let text = text.replace(&format!("downgraded from {}", self.api), "downgraded from 1.51");
        let mut lines = Vec::new();
        for line in text.trim_end().lines() {
            match line.trim_start() {
                told if OF_BUILDS.iter().any(|title| told.starts_with(title)) => {}
                told if told.starts_with("Runtimes: ") => {
                    let mut words: Vec<&str> = told.split(' ').collect();
                    words.sort_unstable();
                    lines.push(words.join(" "));
                }
                _ => lines.push(without_ids(line)),
            }
        }
        lines.join("\n")
    }

    /// Asserts that each line does the same by both.
    pub fn compare(&self, lines: &str) {
        let mut differ = Vec::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (docker, ours) = (self.says(false, line), self.says(true, line));
            if docker != ours {
                differ.push(format!("{line}\n  docker: {docker:?}\n  ours:   {ours:?}"));
            }
        }
        assert!(differ.is_empty(), "{} lines differ:\n{}", differ.len(), differ.join("\n"));
    }
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Words; what stands between single quotes is one.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, piece) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(piece.split_whitespace().map(str::to_owned)),
            _ => words.push(piece.to_owned()),
        }
    }
    words
}

/// Ids, times and numbers of processes are never the same.
fn without_ids(line: &str) -> String {
    let is_hex = |char: char| char.is_ascii_digit() || ('a'..='f').contains(&char);
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(is_hex) {
        let word: String = rest[at..].chars().take_while(|char| is_hex(*char)).collect();
        text += &rest[..at];
        text += if matches!(word.len(), 12 | 64) { "<id>" } else { &word };
        rest = &rest[at + word.len()..];
    }
    text + rest
}

#[test]
fn errors_are_in_the_docker_commands_words() {
    let Some(both) = Both::new() else { return };
    both.docker.command(&["create", "--name", "wreck", "--network", "none", "busybox", "true"]).ok();
    both.docker.command(&["run", "-d", "--name", "hull", "--network", "none", "busybox", "sleep", "1000"]).ok();
    both.compare(ERRORS);
}

#[test]
fn what_we_have_not_is_refused_as_by_the_docker_command() {
    let Some(both) = Both::new() else { return };
    both.compare(ELSEWHERE);
    for (line, code, why) in [
        ("swarm init", 1, "swarm mode is not part of dhow"),
        ("plugin install x", 1, "plugins are not part of dhow"),
        ("trust sign x", 1, "images are not signed by dhow"),
        ("image ls --tree", 1, "--tree: the tree of platforms comes with a later release of dhow"),
    ] {
        let said = both.says(true, line);
        assert!(said.0 == Some(code) && said.2.starts_with(why), "{line}: {said:?}");
    }
}

#[test]
fn what_is_done_is_told_as_the_docker_command_does() {
    let Some(both) = Both::new() else { return };
    both.compare(DONE);
}

#[test]
fn plugins_and_settings_are_the_docker_commands() {
    let Some(both) = Both::new() else { return };
    let config = both.config();
    let extra = both.docker.host.dir().join("extra");
    plugin(
        &both.docker.host,
        PLUGINS_OF_HOME,
        "rig",
        r#"{"SchemaVersion":"0.1.0","Vendor":"the yard","ShortDescription":"Rigs"}"#,
    );
    plugin(&both.docker.host, PLUGINS_OF_HOME, "sail", r#"{"SchemaVersion":"0.1.0","Vendor":"the yard"}"#);
    plugin(&both.docker.host, PLUGINS_OF_HOME, "ps", r#"{"SchemaVersion":"0.1.0","Vendor":"the yard"}"#);
    plugin(&both.docker.host, PLUGINS_OF_HOME, "old", r#"{"SchemaVersion":"0.0.1","Vendor":"the yard"}"#);
    plugin(&both.docker.host, PLUGINS_OF_HOME, "nobodys", r#"{"SchemaVersion":"0.1.0"}"#);
    plugin(&both.docker.host, PLUGINS_OF_HOME, "with-dash", r#"{"SchemaVersion":"0.1.0","Vendor":"the yard"}"#);
    plugin(
        &both.docker.host,
        "extra",
        "rig",
        r#"{"SchemaVersion":"0.1.0","Vendor":"another","Version":"v3","URL":"https://yard"}"#,
    );
    let settings = serde_json::json!({
        "cliPluginsExtraDirs": [extra],
        "aliases": {"builder": "rig"},
        "psFormat": "{{.Names}}!",
        "imagesFormat": "{{.Repository}}!",
        "networksFormat": "{{.Name}}!",
        "volumesFormat": "{{.Name}}!",
        "statsFormat": "{{.Name}}!",
        "detachKeys": "nonsense",
        "pruneFilters": ["label=none"],
        "proxies": {"default": {"httpProxy": "http://proxy:1", "noProxy": "sea"}},
    });
    let write =
        |settings: &serde_json::Value| fs::write(config.join("config.json"), settings.to_string()).expect("write");
    write(&settings);
    both.docker.command(&["run", "-d", "--name", "hull", "--network", "none", "busybox", "sleep", "1000"]).ok();
    both.docker.command(&["volume", "create", "hold"]).ok();
    both.docker.host.file("hold/Dockerfile", "FROM busybox\nRUN echo $http_proxy $NO_PROXY > /via\n");
    both.compare(PLUGINS);
    // The directory of both is the same, and so is what ours says in a help text of its own.
    let help = both.says(true, "--help").1;
    for line in [
        "  rig*        ",
        "  sail*       ",
        "Invalid plugins:",
        "  ps          plugin \"ps\" duplicates builtin command",
    ] {
        assert!(help.contains(line), "{line:?} is not in {help}");
    }
    // docker passes over labels among these (28 does), though it documents them.
    both.docker.command(&["create", "--name", "wreck", "--network", "none", "busybox"]).ok();
    let said = both.says(true, "container prune -f");
    assert_eq!(said, (Some(0), "Total reclaimed space: 0B".to_owned(), String::new()));
    assert_eq!(
        both.says(true, "container prune -f --filter label!=none").1.lines().next(),
        Some("Deleted Containers:")
    );
    // Its keys are those that detach, wherever no flag says others.
    let said = both.says(true, "attach hull");
    assert!(said.0 == Some(1) && said.2.contains("nonsense"), "{said:?}");
    for aliases in [serde_json::json!({"run": "rig"}), serde_json::json!({"builder": "ps"})] {
        write(&serde_json::json!({"aliases": aliases}));
        both.compare("ps");
    }
}

#[test]
fn headers_of_the_settings_are_sent() {
    let Some(both) = Both::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = format!("tcp://{}", listener.local_addr().expect("its address"));
    fs::create_dir_all(both.config()).expect("make a directory");
    let settings = r#"{"HttpHeaders": {"X-Sea": "rough", "User-Agent": "another", "Host": "another"}}"#;
    fs::write(both.config().join("config.json"), settings).expect("write");
    // The variable stands in their place.
    for (ours, variable, sent) in [
        (false, "", "X-Sea: rough"),
        (true, "", "X-Sea: rough"),
        (false, "x-wind=a b,Y=", "X-Wind: a b"),
        (true, "x-wind=a b,Y=", "X-Wind: a b"),
    ] {
        let words = ["-H", &address, "ps"].map(str::to_owned);
        let running = both.command(ours, &words).env("DOCKER_CUSTOM_HEADERS", variable).spawn();
        let (mut connection, _) = listener.accept().expect("a client");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            connection.read_exact(&mut byte).expect("read a head");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("UTF-8");
        let has = |line: &str| head.to_lowercase().contains(&format!("\r\n{}\r\n", line.to_lowercase()));
        assert!(has(sent) && !head.contains("another"), "{head}");
        assert_eq!(has("X-Sea: rough"), variable.is_empty(), "{head}");
        // It first: told that nobody answers, it would ask again, and be taken for the next.
        drop(running);
        drop(connection);
    }
}

/// Where docker looks for plugins first.
const PLUGINS_OF_HOME: &str = "home/.docker/cli-plugins";

fn plugin(host: &Host, dir: &str, name: &str, metadata: &str) {
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = docker-cli-plugin-metadata ]; then echo '{metadata}'; exit; fi\n\
         echo \"$0: $*\"; echo \"$OTEL_RESOURCE_ATTRIBUTES\"; [ \"$1\" = help ] || exit 3\n"
    );
    host.program(&format!("{dir}/docker-{name}"), script);
}

const ERRORS: &str = "
    -v ps --quiet --filter name=nope
    start nope
    start nope nada
    start -a nope
    stop nope
    stop nope nada
    kill nope
    kill wreck
    rm nope
    rm -f nope
    rm hull
    rmi nope
    rmi -f nope
    inspect nope
    inspect nope nada hull --format {{.Name}}
    inspect --type container nope
    inspect --type foo nope
    inspect --type image nope
    container inspect nope
    image inspect nope
    volume inspect nope
    network inspect nope
    logs nope
    exec nope true
    exec wreck true
    exec hull nosuch
    attach nope
    attach wreck
    cp nope:/x /tmp/x
    cp hull:/nope /tmp/x
    cp /tmp /var
    diff nope
    export nope
    port nope
    port hull
    port hull 80
    port wreck
    pause nope
    pause wreck
    unpause hull
    rename nope x
    rename hull wreck
    restart nope
    top nope
    top wreck
    update nope
    update --memory 1 hull
    wait nope
    wait nope nada
    tag nope x
    tag busybox BAD
    history nope
    save nope -o /tmp/xx
    load -i /nope
    import /nope
    commit nope
    stats --no-stream nope
    run --rm nope:no:pe true
    run --rm --network nope busybox true
    run --rm --network none busybox nosuch
    run --name hull busybox true
    run -d -a stdout busybox true
    run --pull bad busybox
    run -e
    run --bad
    run -z
    run
    run --memory x busybox
    run --restart foo busybox true
    run -v /x busybox true
    run -p x busybox true
    run --rm --network none busybox sh -c 'exit 3'
    create --name hull busybox
    network rm nope
    network rm none
    network create none
    network connect nope hull
    network disconnect none nope
    network create --driver nope x
    volume rm nope
    volume create --driver nope x
    volume rm -f nope
    container prune --filter x
    ps --filter bad=1
    ps --format {{.Nope}}
    ps --format {{
    images --filter bad=1
    images a b
    nosuch
    --nosuch
    -z
    container nosuch
    image nosuch
    container --nosuch
    help nosuch
    ps --nosuch
    ps a
    login -u x
    logout
    -H tcp://127.0.0.1:1 ps
    -H unix:///nope run busybox true
    -H unix:///nope start x y
    -H unix:///nope info
    -H unix:///nope version
    -H unix:///nope inspect x
    -c a -H b ps
    --log-level foo ps
    -l
    events --filter bad=1 --since 1 --until 2
    build
    build /nope
    -H unix:///nope ps
    info nope
    pull BAD
    push BAD
    run --rm --mount type=bind busybox true
    --context nope ps
    build -f
    -H a -H a ps
    search
    run --rm --network none -e busybox
    run --rm --network none --env-file /nope busybox true
    run --rm --label-file /nope busybox true
    run --rm -v /a:/b:/c:/d busybox true
    run --rm -v relative/x:/x busybox true
    run --rm --mount type=x,target=/y busybox true
    run --rm --mount foo busybox true
    run --rm --tmpfs /x:bad busybox true
    run --rm --ulimit nofile busybox true
    run --rm --ulimit nofile=3:2 busybox true
    run --rm --cpus x busybox true
    run --rm --cpus 1000 busybox true
    run --rm --cap-add nope busybox true
    run --rm --security-opt nope busybox true
    run --rm --security-opt seccomp=/nope busybox true
    run --rm --device /x:/y:z:w busybox true
    run --rm --add-host x busybox true
    run --rm --link x busybox true
    run --rm --dns x busybox true
    run --rm --mac-address x busybox true
    run --rm --network container:x -p 80 busybox true
    run --rm --pid x busybox true
    run --rm --uts x busybox true
    run --rm --userns x busybox true
    run --rm --cgroupns x busybox true
    run --rm --log-driver x busybox true
    run --rm --log-opt x busybox true
    run --rm --gpus x busybox true
    run --rm --platform linux/arm64 --pull never busybox true
    run --rm --sysctl x busybox true
    run --rm --restart always busybox true
    run --rm --restart on-failure:x busybox true
    run --rm --stop-timeout x busybox true
    run --rm --shm-size x busybox true
    run --rm --oom-score-adj 2000 busybox true
    run --rm --pids-limit x busybox true
    run --rm --blkio-weight 5 busybox true
    run --rm --health-cmd x --no-healthcheck busybox true
    run --rm --health-interval x busybox true
    run --rm --expose x busybox true
    run --rm -p 1:2:3:4 busybox true
    run --rm -p 99999:80 busybox true
    run --rm --publish 80-81:80 busybox true
    run --rm --storage-opt x busybox true
    run --rm --runtime nope busybox true
    run --rm --isolation nope busybox true
    run --rm --volumes-from nope busybox true
    run --rm -u nope busybox true
    run --rm -w rel busybox true
    run --rm --entrypoint '' busybox true
    run --rm -a bad busybox true
    run --rm -h bad_host_ busybox true
    create --pull bad busybox
    create -e
    inspect busybox --format {{.Nope}}
    inspect busybox --format {{
    images --format {{
    images --format {{.Nope}}
    network ls --format {{.Nope}}
    volume ls --format {{.Nope}}
    stats --no-stream --format {{.Nope}}
    context ls
    context show
    context inspect nope
    login -u x -p y 127.0.0.1:1
    logout 127.0.0.1:1
    tag busybox x:y:z
    tag BAD x
    rmi BAD
    inspect BAD
    image inspect BAD
    image history BAD
    history BAD
    save BAD
    export
    logs
    events --since x
";

/// What dhow has not.
const ELSEWHERE: &str = "
    plugin ls
    plugin ls -q
    plugin ls --format json
    plugin list --no-trunc
    plugin inspect x
    plugin inspect x y
    plugin rm x
    plugin enable x
    plugin disable x
    plugin nosuch
    swarm leave
    swarm ca
    swarm join-token worker
    swarm nosuch
    node ls
    node ps
    node inspect self
    node rm x
    node rm x y
    node promote x
    node demote x
    node update x
    service ls
    service create busybox
    service inspect x
    service logs x
    service ps x
    service rm x
    service update x
    service rollback x
    secret ls
    secret inspect x
    secret rm x
    config ls
    config inspect x
    config rm x
    stack ls
    stack ps x
    stack rm x
    stack services x
    checkpoint ls hull
    checkpoint create hull x
    checkpoint rm hull x
    inspect --type node x
    inspect --type plugin x
    inspect --type secret x
    inspect --type service x
    inspect --type config x
    inspect --type task x
    -H unix:///nowhere/x node ls
";

const DONE: &str = "
    create --name c-@ --network none busybox sleep 1000
    start c-@
    start c-@
    ps -a --filter name=c-@ --format 'table {{.Names}}\\t{{.Image}}\\t{{.Command}}\\t{{.Ports}}'
    ps --filter name=c-@ --format '{{json .Names}}'
    ps --no-trunc --filter name=c-@ --format 'table {{.ID}}\\t{{.Command}}'
    ps -s --filter name=c-@ --format {{.Names}}
    exec c-@ echo ahoy
    exec c-@ sh -c 'exit 4'
    exec -d c-@ true
    exec -w /tmp -e A=b c-@ sh -c 'echo $PWD $A'
    cp /etc/hostname c-@:/tmp/hostname
    cp c-@:/tmp/hostname cp-@
    cp c-@:/tmp/hostname /nowhere/x
    diff c-@
    logs c-@
    logs --since x c-@
    stats --no-stream --format {{.Name}} c-@
    port c-@
    pause c-@
    pause c-@
    exec c-@ true
    unpause c-@
    update --memory 100m --memory-swap 200m c-@
    rename c-@ d-@
    restart -t 0 d-@
    stop -t 0 d-@
    stop d-@
    wait d-@
    kill d-@
    commit d-@ img-@
    commit -m x -a y --change 'CMD [\"x\"]' d-@ img-@:two
    images img-@:two --format {{.Repository}}:{{.Tag}}
    history img-@ --format {{.CreatedBy}}
    tag img-@ tagged-@
    save img-@ -o save-@.tar
    rmi tagged-@
    rmi img-@:two
    rmi img-@
    load -i save-@.tar
    load -q -i save-@.tar
    rmi -f img-@
    export -o exp-@.tar d-@
    import -m hello exp-@.tar imp-@
    rmi imp-@
    rm d-@
    volume create v-@
    volume create
    volume ls -q --filter name=v-@
    volume inspect v-@ --format {{.Name}}
    volume rm v-@
    network create n-@
    network ls --filter name=n-@
    network inspect n-@ --format {{.Driver}}
    network rm n-@
    run --rm --network none busybox echo hi
    run --rm --network none busybox sh -c 'echo err >&2; exit 9'
    run --rm --network none busybox /etc
    run -d --network none --name e-@ busybox sleep 1000
    run --rm --network none -m 4k busybox true
    run --rm -it busybox true
    run --rm --network none --cidfile cid-@ busybox true
    run --rm --network none --cidfile cid-@ busybox true
    kill -s FOO e-@
    rm e-@
    rm -f e-@
    rm -f e-@
    container prune -f
    volume prune -f --filter label=none
    image prune -f
";

const PLUGINS: &str = "
    run --rm --network none --detach-keys ctrl-p -e http_proxy=mine busybox sh -c 'env | grep -i proxy | sort'
    build -q --network none -t via-@ hold
    run --rm --network none --detach-keys ctrl-p via-@ cat /via
    rig up -d
    OTEL_RESOURCE_ATTRIBUTES=a=b rig
    --log-level warn rig
    help rig
    help rig up
    rig --help
    sail
    ps
    with-dash
    old
    nobodys
    help old
    builder prune
    builder
    ps -a
    ps -q
    ps -qa --format x
    ps --format {{.Image}}
    images busybox
    images -q busybox
    network ls
    volume ls
    stats --no-stream
    stats --no-stream --format {{.PIDs}} hull
    info --format '{{range .ClientInfo.Plugins}}{{.Path}}: {{.Vendor}} {{.URL}} {{.ShortDescription}} {{.ShadowedPaths}} {{.Err}}, {{end}}'
    info --format '{{len .ClientInfo.Plugins}} {{.ClientInfo.Context}} {{.Name}}'
    info --format '{{range .ClientInfo.Plugins}}{{.Name}},{{.Version}};{{end}}'
    -H unix:///nowhere/x info --format '{{range .ClientInfo.Plugins}}{{.Name}};{{end}}'
    info
    version
    DOCKER_API_VERSION=1.41 version
    -H unix:///nowhere/x version
    DOCKER_API_VERSION=1.41 -H unix:///nowhere/x version
";
