//! What `--format` prints, of real containers.

use crate::fixture::Host;

#[test]
fn inspect_by_a_template() {
    let Some(host) = Host::with_busybox() else { return };
    let flags = ["--name", "web", "--label", "com.example.tier=front", "-e", "A=1", "-v", "gv:/data"];
    let id =
        host.ok(["create", "--network", "none"].iter().chain(&flags).chain(&["busybox", "sleep", "1000"]).copied());
    let cases = [
        ("{{.Id}} {{.ID}}", format!("{id} {id}")),
        ("{{.Name}} {{.State.Status}} {{.State.Running}} {{.State.Pid}}", "/web created false 0".into()),
        ("{{index .Config.Labels \"com.example.tier\"}}|{{index .Config.Labels \"nope\"}}", "front|".into()),
        ("{{range .Mounts}}{{.Type}}:{{.Name}}:{{.Destination}}:{{.RW}}{{end}}", "volume:gv:/data:true".into()),
        ("{{json .Config.Cmd}} {{join .Config.Cmd \"+\"}}", "[\"sleep\",\"1000\"] sleep+1000".into()),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}no health{{end}}", "no health".into()),
        ("{{with .HostConfig}}{{.NetworkMode}} {{.PidsLimit}} {{.Privileged}}{{end}}", "none <nil> false".into()),
        ("{{range $key, $value := .Config.Labels}}{{$key}}={{$value}}{{end}}", "com.example.tier=front".into()),
        ("{{slice .Id 0 12}} {{upper .Path}} {{len .Args}}", format!("{} SLEEP 1", &id[..12])),
        ("{{printf \"%-6s|%03d\" .Path .RestartCount}}", "sleep |000".into()),
    ];
    for (template, expected) in cases {
        assert_eq!(host.ok(["inspect", "--format", template, "web"]), expected, "{template}");
    }
    // In the order of the API, which is not that of the alphabet.
    let state = host.ok(["inspect", "-f", "{{json .State}}", "web"]);
    assert!(state.starts_with("{\"Status\":\"created\",\"Running\":false,"), "{state}");
    for (code, template, expected) in [
        (1, "{{.Nope}}", "template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""),
        (64, "{{.Name", "template: :1: unclosed action"),
        (64, "{{template \"x\"}}", "{{template}} is not supported"),
        (64, "{{.Name | frobnicate}}", "function \"frobnicate\" not defined"),
    ] {
        let output = host.run(["inspect", "--format", template, "web"]);
        assert_eq!(output.code(), Some(code), "{template}: {output}");
        assert!(output.stderr().contains(expected), "{template}: {output}");
    }
}

#[test]
fn lists_in_every_format() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["create", "--network", "none", "--name", "web", "--label", "tier=front", "busybox", "sleep", "1000"]);
    host.ok(["volume", "create", "--label", "kind=a", "gv"]);
    let cases: &[(&[&str], &str)] = &[
        (&["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Label \"tier\"}}|{{.Label \"x\"}}"], "web created front|"),
        (&["ps", "-a", "--format", "table {{.Names}}\\t{{.Image}}"], "NAMES     IMAGE\nweb       busybox"),
        (&["ps", "-a", "--format", "table {{.Names}}\\t{{.Label \"tier\"}}"], "NAMES     tier\nweb       front"),
        (&["ps", "--format", "{{.Nope}}"], ""),
        (&["volume", "ls"], "DRIVER    VOLUME NAME\nlocal     gv"),
        (&["volume", "ls", "--format", "{{.Name}} {{.Labels}}"], "gv kind=a"),
        (&["volume", "ls", "--filter", "label=kind=b", "-q"], ""),
        (&["images", "--format", "{{.Repository}}:{{.Tag}}"], "busybox:latest"),
    ];
    for (args, expected) in cases {
        assert_eq!(host.ok(args.iter().copied()), *expected, "{args:?}");
    }
    let row = host.ok(["ps", "-a", "--format", "json"]);
    let row: serde_json::Value = serde_json::from_str(&row).expect("JSON");
    assert_eq!((row["Names"].as_str(), row["Labels"].as_str()), (Some("web"), Some("tier=front")));
    let output = host.run(["ps", "-a", "--format", "{{.Nope}}"]);
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr().contains("can't evaluate field Nope in type *formatter.ContainerContext"), "{output}");
}
