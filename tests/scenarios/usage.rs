//! How much room things take, and what gives it back.

use crate::fixture::Host;
use serde_json::Value;

#[test]
fn sizes_of_containers_are_told() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok([
        "run",
        "--network",
        "none",
        "--name",
        "it",
        "busybox",
        "sh",
        "-c",
        "head -c 3000 /dev/zero >/a; ln /a /b; rm /etc/group",
    ]);
    let rw = |name: &str, pointer: &str| {
        let text = host.ok(["inspect", "--size", "--type", "container", name]);
        let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        all.pointer(pointer).and_then(serde_json::Value::as_i64)
    };
    let image = host.inspect("busybox", "/Size").as_i64().expect("a size");
    assert_eq!(rw("it", "/0/SizeRw"), Some(3000));
    assert_eq!(rw("it", "/0/SizeRootFs"), Some(3000 + image));
    assert!(host.ok(["ps", "-a", "-s", "--format", "{{.Size}}"]).starts_with("3kB (virtual "));
    assert_eq!(host.inspect("it", "/Name"), "/it");
    assert!(!host.ok(["inspect", "it"]).contains("SizeRw"), "only where it is asked for");
}

#[test]
fn df_counts_everything_once() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok([
        "run",
        "--network",
        "none",
        "--name",
        "old",
        "-v",
        "used:/v",
        "busybox",
        "sh",
        "-c",
        "head -c 5000 /dev/zero >/a; \
        head -c 700 /dev/zero >/v/b",
    ]);
    host.ok(["commit", "old", "made"]);
    host.detached(&["--name", "live"], &["sleep", "1000"]);
    host.ok(["volume", "create", "idle"]);
    let lines =
        host.ok(["system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"]);
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].starts_with("Images|2|1|") && lines[0].ends_with("%)"), "{lines:?}");
    assert_eq!(lines[1], "Containers|2|1|5kB|5kB (100%)");
    assert_eq!(lines[2], "Local Volumes|2|1|700B|0B (0%)");
    assert_eq!(lines[3], "Build Cache|0|0|0B|0B");
    let table = host.ok(["system", "df"]);
    assert!(table.starts_with("TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\nImages "), "{table}");
    let verbose = host.ok(["system", "df", "-v"]);
    for words in [
        "Images space usage:",
        "SHARED SIZE   UNIQUE SIZE   CONTAINERS",
        "LOCAL VOLUMES",
        "used          1         700B",
    ] {
        assert!(verbose.contains(words), "{words} in {verbose}");
    }
    let made = verbose.lines().find(|line| line.starts_with("made ")).expect("a line of the image");
    assert!(made.contains(" 5kB "), "what is its own: {made}");
    let template = "{{range .Volumes}}{{.Name}} {{.Links}}\\n{{end}}";
    assert!(host.ok(["system", "df", "-v", "--format", template]).lines().all(|line| line.split(' ').count() == 2));
    let all: Value = serde_json::from_str(&host.ok(["system", "df", "-v", "--format", "json"])).expect("JSON");
    assert!(all["Images"].is_array() && all["BuildCache"].is_array(), "{all}");
}

#[test]
fn system_prune_takes_what_nothing_uses() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok([
        "run",
        "--network",
        "none",
        "--name",
        "old",
        "-v",
        "/anonymous",
        "busybox",
        "sh",
        "-c",
        "head -c 5000 /dev/zero >/a",
    ]);
    host.ok(["commit", "old", "made"]);
    host.ok(["volume", "create", "named"]);
    let live = host.detached(&["--name", "live"], &["sleep", "1000"]);
    let refused = host.dhow(["system", "prune"]).input("n\n").run();
    assert!(refused.code() == Some(1) && refused.stderr().contains("system prune has been cancelled"), "{refused}");
    assert!(refused.stdout().contains("WARNING! This will remove:\n  - all stopped containers\n"), "{refused}");
    let said = host.ok(["system", "prune", "--force", "--filter", "label=none-has-it"]);
    assert_eq!(said, "Total reclaimed space: 0B");
    let said = host.ok(["system", "prune", "--force"]);
    assert!(said.starts_with("Deleted Containers:\n") && said.ends_with("Total reclaimed space: 5kB"), "{said}");
    assert_eq!(host.ok(["ps", "-aq", "--no-trunc"]), live);
    assert_eq!(host.ok(["images", "-q"]).lines().count(), 2, "the named ones stay");
    assert_eq!(host.ok(["volume", "ls", "-q"]).lines().count(), 2);
    let said = host.ok(["system", "prune", "--force", "--all", "--volumes"]);
    assert!(said.contains("Deleted Volumes:\n") && said.contains("untagged: made:latest"), "{said}");
    assert_eq!(host.ok(["volume", "ls", "-q"]), "named");
    assert_eq!(host.ok(["images", "--format", "{{.Repository}}"]), "busybox", "one that a container uses stays");
    host.assert_tidy();
}

#[test]
fn update_changes_what_it_can_and_refuses_the_rest() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["create", "--network", "none", "--name", "it", "busybox"]);
    assert_eq!(host.ok(["update", "--restart", "on-failure:3", "it"]), "it");
    assert_eq!(host.inspect("it", "/HostConfig/RestartPolicy/Name"), "on-failure");
    assert_eq!(host.inspect("it", "/HostConfig/RestartPolicy/MaximumRetryCount"), 3);
    assert_eq!(host.ok(["update", "--restart", "no", "it"]), "it");
    for (line, expected) in [
        (vec!["update", "--memory", "1m", "it"], "Minimum memory limit allowed is 6MB"),
        (vec!["update", "--cpus", "5000", "it"], "CPU"),
        (vec!["update", "--restart", "sometimes", "it"], "sometimes"),
        (vec!["update", "--restart", "always:3", "it"], "maximum retry count"),
        (vec!["update", "it"], "you must provide one or more flags"),
        (vec!["update", "--restart", "no", "absent"], "No such container: absent"),
    ] {
        let said = host.refused(1, line);
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(host.ok(["port", "it"]), "");
    assert!(host.refused(1, ["port", "it", "80"]).contains("no public port '80/tcp' published for it"));
}
