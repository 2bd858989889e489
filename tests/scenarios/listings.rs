//! What lists and inspections print, and how they are told to.

#[path = "../golden/compare.rs"]
mod compare;

use crate::fixture::Host;
use serde_json::Value;

#[test]
fn columns_of_ps() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.ok([
        "create",
        "--network",
        "none",
        "--name",
        "first",
        "-l",
        "a=b",
        "busybox",
        "echo",
        "a long line of words",
    ]);
    host.ok(["create", "--network", "none", "--name", "second", "-l", "a=c", "-v", "/anonymous", "busybox"]);
    let table = host.ok(["ps", "-a"]);
    let lines: Vec<&str> = table.lines().collect();
    let titles: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|title| !title.is_empty()).collect();
    assert_eq!(titles, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].ends_with("second") && lines[2].ends_with("first"), "newest first: {table}");
    assert!(lines[2].starts_with(&id[..12]) && lines[2].contains("\"echo 'a long line o…\""), "{table}");
    assert!(lines[2].contains(" ago ") && lines[2].contains("Created"), "{table}");
    let json: Value = serde_json::from_str(&host.ok(["ps", "-a", "-l", "--format", "json"])).expect("JSON");
    for (key, value) in
        [("Names", "second"), ("State", "created"), ("Labels", "a=c"), ("LocalVolumes", "1"), ("Networks", "none")]
    {
        assert_eq!(json[key], value, "{key}: {json}");
    }
    for (args, expected) in [
        (vec!["-aq", "--no-trunc", "-f", "name=first"], id.as_str()),
        (vec!["-aq", "-f", "label=a=b"], &id[..12]),
        (vec!["-a", "--format", "{{.Names}} {{.Label \"a\"}}"], "second c\nfirst b"),
        (vec!["-a", "-f", "label=a", "-n", "1", "--format", "{{.Names}}"], "second"),
        (vec!["-n", "2", "--format", "{{.Names}}"], "second\nfirst"),
        (vec!["-l", "--format", "table {{.Names}}"], "NAMES\nsecond"),
        (vec!["--format", "{{.Names}}"], ""),
        (vec!["-a", "-f", "status=exited", "-q"], ""),
        (vec!["-a", "-f", "ancestor=busybox", "-f", "name=^/first$", "--format", "{{.Names}}"], "first"),
        (vec!["-a", "-f", "volume=/anonymous", "--format", "{{.Names}}"], "second"),
    ] {
        assert_eq!(host.ok(["ps"].into_iter().chain(args.iter().copied())), expected, "{args:?}");
    }
    // An image on another one, though neither has changed a file.
    for (tag, text) in [("hull", "FROM busybox\nLABEL a=b"), ("boat", "FROM hull\nLABEL c=d")] {
        host.dhow(["build", "-q", "-t", tag, "-"]).input(text).ok();
        host.ok(["create", "--network", "none", "--name", &format!("of-{tag}"), tag]);
    }
    for (image, expected) in [
        ("busybox", "of-boat\nof-hull\nsecond\nfirst"),
        ("hull", "of-boat\nof-hull"),
        ("boat", "of-boat"),
        ("ghost", ""),
    ] {
        let ancestor = format!("ancestor={image}");
        assert_eq!(host.ok(["ps", "-a", "-f", &ancestor, "--format", "{{.Names}}"]), expected, "{image}");
    }
    let sized = host.ok(["ps", "-a", "-s"]);
    assert!(sized.lines().next().is_some_and(|titles| titles.ends_with("SIZE")), "{sized}");
    assert!(sized.contains("(virtual "), "{sized}");
}

#[test]
fn what_is_wrong_with_a_list_is_said() {
    let Some(host) = Host::with_busybox() else { return };
    for (code, args, words) in [
        (125, vec!["ps", "-f", "name"], "bad format of filter"),
        (125, vec!["ps", "-n", "x"], "not a number"),
        (1, vec!["ps", "-f", "colour=red"], "colour"),
        (1, vec!["ps", "-f", "status=sailing"], "sailing"),
        (1, vec!["ps", "--format", "{{.Nmaes}}", "-a"], "Nmaes"),
        (1, vec!["ps", "--format", "{{.Names"], "unclosed action"),
        (1, vec!["images", "-f", "colour=red"], "colour"),
        (1, vec!["volume", "ls", "-f", "colour=red"], "colour"),
        (64, vec!["inspect", "-f", "{{", "busybox"], "template"),
        (1, vec!["inspect", "--type", "boat", "busybox"], "unknown type"),
        (1, vec!["inspect", "--type", "secret", "busybox"], "not a swarm manager"),
        (1, vec!["inspect", "--type", "network", "busybox"], "network busybox not found"),
        (1, vec!["inspect", "-f", "{{.Nope}}", "busybox"], "Nope"),
    ] {
        host.ok(["create", "--network", "none", "busybox"]);
        let output = host.run(args.iter().copied());
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(code), 1), "{output}");
        assert!(output.stderr().contains(words), "{output}");
    }
}

#[test]
fn containers_are_found_by_what_became_of_them() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = host.dir().join("hold");
    std::fs::create_dir(&dir).expect("make a directory");
    let hold = dir.to_str().expect("UTF-8").to_owned();
    let sea = host.ok(["network", "create", "sea"]);
    host.run(["run", "--name", "old", "--network", "none", "busybox", "sh", "-c", "exit 3"]);
    let volume = format!("{hold}:/hold");
    let flags =
        ["run", "-d", "--name", "mid", "--network", "sea", "-p", "127.0.0.1::80", "--expose", "90", "-v", &volume];
    host.ok(flags.iter().chain(&["busybox", "sleep", "1000"]));
    host.ok(["create", "--name", "new", "--network", "none", "--publish", "81", "busybox", "true"]);
    let shown = host.ok(["port", "mid", "80"]);
    let port = shown.rsplit(':').next().expect("a port").to_owned();
    let filters = |table: &[(&[&str], &str)]| {
        for (flags, expected) in table {
            let listed = host.ok(["ps", "--format", "{{.Names}}"].iter().chain(*flags));
            assert_eq!(listed.split_whitespace().collect::<Vec<_>>().join(" "), *expected, "{flags:?}");
        }
    };
    let (publish, by_id, by_source) =
        (format!("publish={port}"), format!("network={}", &sea[..12]), format!("volume={hold}"));
    filters(&[
        (&["-a"], "new mid old"),
        (&["-af", "exited=3"], "old"),
        // Only a state asks for those that do not run.
        (&["-f", "exited=3"], ""),
        (&["-f", "status=exited"], "old"),
        // What never ran has not ended well.
        (&["-af", "exited=0"], ""),
        (&["-af", "before=mid"], "old"),
        (&["-af", "since=mid"], "new"),
        (&["-af", "since=old", "-f", "before=new"], "mid"),
        (&["-f", "since=old"], "mid"),
        (&["-f", &by_id], "mid"),
        (&["-f", "network=sea"], "mid"),
        (&["-f", &by_source], "mid"),
        (&["-f", "volume=/hold"], "mid"),
        (&["-af", &publish], "mid"),
        (&["-af", "publish=80"], ""),
        (&["-af", "expose=80"], "mid"),
        (&["-af", "expose=85-95"], "mid"),
        (&["-af", "expose=81"], ""),
        (&["-af", "expose=80/udp"], ""),
    ]);
    host.ok(["kill", "mid"]);
    filters(&[
        (&["-af", "exited=137"], "mid"),
        (&["-af", "exited=3", "-f", "exited=137"], "mid old"),
        (&["-af", &by_id], "mid"),
        (&["-af", &by_source], "mid"),
        // It has none any more.
        (&["-af", &publish], ""),
        (&["-af", "expose=90"], ""),
    ]);
    host.ok(["rm", "mid"]);
    host.ok(["network", "rm", "sea"]);
}

#[test]
fn things_are_found_whatever_they_are() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.ok(["create", "--network", "none", "--name", "thing", "busybox"]);
    host.ok(["volume", "create", "--label", "a=b", "hold"]);
    let image = host.ok(["inspect", "-f", "{{.Id}}", "busybox"]);
    assert!(image.starts_with("sha256:"), "{image}");
    assert_eq!(host.ok(["inspect", "-f", "{{.Name}} {{.Image}}", "thing"]), format!("/thing {image}"));
    assert_eq!(host.ok(["inspect", "-f", "{{.Id}}", &id[..5]]), id);
    assert_eq!(host.ok(["inspect", "-f", "{{json .Labels}}", "hold"]), r#"{"a":"b"}"#);
    assert_eq!(host.ok(["volume", "inspect", "-f", "{{.Driver}} {{.Scope}}", "hold"]), "local local");
    assert_eq!(host.ok(["container", "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "thing"]), "created 0");
    assert_eq!(host.ok(["image", "inspect", "-f", "{{.Os}} {{len .RootFS.Layers}}", "busybox"]), "linux 1");
    // Several at once; what is not there is told after what is.
    let output = host.run(["inspect", "-f", "{{.Id}}", "thing", "ghost", "busybox"]);
    assert_eq!((output.code(), output.stdout()), (Some(1), format!("{id}\n{image}")), "{output}");
    assert!(output.stderr().contains("no such object: ghost"), "{output}");
    let output = host.run(["container", "inspect", "busybox"]);
    assert_eq!((output.code(), output.stdout().as_str()), (Some(1), "[]"), "{output}");
    let text = host.ok(["inspect", "thing"]);
    assert!(text.starts_with("[\n    {\n        \"Id\": \""), "in lines and in Docker's order: {text}");
    let line = host.ok(["inspect", "-f", "json", "thing"]);
    assert_eq!(line.lines().count(), 1);
    assert!(line.starts_with("[{\"Id\":\""), "{line}");
    assert!(host.ok(["inspect", "-s", "-f", "{{.SizeRootFs}}", "thing"]).parse::<u64>().is_ok_and(|size| size > 0));
}

#[test]
fn columns_of_images_and_volumes() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["tag", "busybox", "localhost:5000/fleet/boat:1"]);
    let table = host.ok(["images"]);
    assert!(table.starts_with("REPOSITORY "), "{table}");
    assert!(table.lines().any(|line| line.starts_with("localhost:5000/fleet/boat   1 ")), "{table}");
    assert_eq!(host.ok(["images", "--format", "{{.Repository}}:{{.Tag}}", "busybox"]), "busybox:latest");
    assert_eq!(host.ok(["images", "-q", "busybox"]).len(), 12);
    assert!(host.ok(["image", "ls", "-q", "--no-trunc", "busybox"]).starts_with("sha256:"));
    assert!(host.ok(["images", "--digests"]).contains("DIGEST"));
    assert_eq!(host.ok(["images", "nothing"]).lines().count(), 1);
    let history = host.ok(["history", "busybox"]);
    assert!(history.starts_with("IMAGE "), "{history}");
    let size = host.ok(["history", "-H=false", "--format", "{{.Size}}", "busybox"]);
    assert!(size.lines().all(|size| size.parse::<u64>().is_ok()), "{size}");
    for name in ["v10", "v2"] {
        host.ok(["volume", "create", name]);
    }
    assert_eq!(host.ok(["volume", "ls"]), "DRIVER    VOLUME NAME\nlocal     v2\nlocal     v10");
    assert_eq!(host.ok(["volume", "ls", "-q", "-f", "name=v1"]), "v10");
    assert_eq!(
        host.ok(["volume", "ls", "--format", "{{.Name}}={{.Mountpoint}}", "-f", "name=v2"]),
        format!("v2={}/volumes/v2/_data", host.root().display())
    );
}

/// A real dockerd was asked of such a container.
#[test]
fn a_running_container_has_dockers_fields() {
    let Some(host) = Host::with_busybox() else { return };
    let flags = ["--label", "a=b", "--volume", "gv:/data", "--expose", "80", "--stop-signal", "QUIT", "-e", "X=1"];
    let id = host.detached(&flags, &["sleep", "1000"]);
    let shape: Value = serde_json::from_str(include_str!("../golden/container.json")).expect("JSON");
    let found = compare::differences(&shape, &host.inspect(&id, ""));
    assert!(found.is_empty(), "{found:#?}");
    for (pointer, expected) in [
        ("/Path", Value::from("sleep")),
        ("/Driver", "overlay2".into()),
        ("/Platform", "linux".into()),
        ("/State/Status", "running".into()),
        ("/State/FinishedAt", "0001-01-01T00:00:00Z".into()),
        ("/HostConfig/NetworkMode", "none".into()),
        ("/HostConfig/Binds/0", "gv:/data".into()),
        ("/Mounts/0/Mode", "z".into()),
        ("/Config/Hostname", id[..12].into()),
        ("/Config/StopSignal", "QUIT".into()),
    ] {
        assert_eq!(host.inspect(&id, pointer), expected, "{pointer}");
    }
    let merged = host.inspect(&id, "/GraphDriver/Data/MergedDir");
    let merged = merged.as_str().map(std::path::Path::new).expect("a path");
    assert!(merged.join("bin/busybox").symlink_metadata().is_ok(), "the host sees it there: {}", merged.display());
}

#[test]
fn the_networks_that_there_are() {
    let Some(host) = Host::with_busybox() else { return };
    let table = host.ok(["network", "ls"]);
    assert!(table.starts_with("NETWORK ID     NAME      DRIVER    SCOPE\n"), "{table}");
    assert_eq!(host.ok(["network", "ls", "--format", "{{.Name}} {{.Driver}}"]), "bridge bridge\nhost host\nnone null");
    let id = host.detached(&["--name", "web"], &["sleep", "1000"]);
    let members = host.ok(["network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", "none"]);
    assert_eq!(members, "web");
    let network = host.ok(["network", "inspect", "-f", "{{.Id}}", "none"]);
    assert_eq!(host.inspect(&id, "/NetworkSettings/Networks/none/NetworkID"), Value::from(network));
    host.ok(["kill", "web"]);
    host.ok(["wait", "web"]);
    assert_eq!(host.inspect(&id, "/NetworkSettings/Networks/none/NetworkID"), "");
}

#[test]
fn the_version_and_the_host() {
    let Some(host) = Host::with_busybox() else { return };
    assert!(host.ok(["--version"]).starts_with("dhow version "));
    let version = host.ok(["version", "--format", "{{.Server.Version}} {{.Client.Version}}"]);
    assert_eq!(version, format!("{0} {0}", env!("CARGO_PKG_VERSION")));
    let text = host.ok(["version"]);
    assert!(text.starts_with("Client:\n Version:           "), "{text}");
    assert!(text.contains("\nServer: dhow\n Engine:\n  Version:          "), "{text}");
    assert!(text.contains("\n  API version:      1.51 (minimum version 1.24)\n"), "{text}");
    assert_eq!(host.ok(["info", "--format", "{{.Images}} {{.OSType}}"]), "1 linux");
    let info = host.ok(["info"]);
    for line in [
        "Client:",
        "Server:",
        " Images: 1",
        " Storage Driver: overlay2",
        "  Supports d_type: true",
        " Swarm: inactive",
        "  seccomp",
        "   Profile: builtin",
        &format!(" Docker Root Dir: {}", host.root().display()),
    ] {
        assert!(info.lines().any(|given| given == line), "no {line:?} in {info}");
    }
    let id = host.ok(["info", "--format", "{{.ID}}"]);
    assert_eq!(host.ok(["system", "info", "--format", "{{.ID}}"]), id, "an id stays");
    assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
    // What cgroups of this host do not limit is named.
    let warned = host.run(["info"]).stderr();
    assert_eq!(warned.contains("No memory limit support"), host.ok(["info", "-f", "{{.MemoryLimit}}"]) == "false");
}
