//! Tables: what a file may say, and how it is refused.

use super::*;

/// As `nvidia-ctk cdi generate` writes it.
const NVIDIA: &str = "---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidia-modeset
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - ../libnvidia-allocator.so.1::/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so
    env:
    - NVIDIA_CTK_DEBUG=false
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/bin/nvidia-smi
    hostPath: /usr/bin/nvidia-smi
    options:
    - ro
    - nosuid
    - nodev
    - rbind
    - rprivate
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /host/nvidia0
      fileMode: 438
      permissions: rw
      gid: 44
  name: \"0\"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: all
kind: nvidia.com/gpu
";

#[test]
fn what_nvidia_ctk_writes_is_read() {
    let spec = Spec::parse(NVIDIA).unwrap();
    assert_eq!((spec.kind.as_str(), spec.devices.len()), ("nvidia.com/gpu", 2));
    assert_eq!(spec.edits.env, ["NVIDIA_VISIBLE_DEVICES=void"]);
    let (moment, hook) = &spec.edits.hooks[0];
    assert_eq!((*moment, hook.args.len(), hook.env.len()), (Moment::CreateContainer, 4, 1));
    assert_eq!(spec.edits.mounts[0].options, ["ro", "nosuid", "nodev", "rbind", "rprivate"]);
    assert_eq!(spec.edits.mounts[0].kind, "bind");
    let node = &spec.devices[0].edits.nodes[0];
    assert_eq!((spec.devices[0].name.as_str(), node.host_path.as_str()), ("0", "/host/nvidia0"));
    assert_eq!((node.file_mode, node.access.as_str(), node.uid, node.gid), (Some(0o666), "rw", None, Some(44)));
    let node = &spec.devices[1].edits.nodes[0];
    assert_eq!((node.host_path.as_str(), node.access.as_str()), ("/dev/nvidia0", "rwm"));
}

fn json(version: &str, kind: &str, device: &str) -> String {
    format!(r#"{{"cdiVersion": "{version}", "kind": "{kind}", "devices": [{device}]}}"#)
}

fn with(edits: &str) -> String {
    json("1.1.0", "a.b/c", &format!(r#"{{"name": "d", "containerEdits": {edits}}}"#))
}

#[test]
fn edits_of_every_kind() {
    let spec = Spec::parse(&with(
        r#"{"env": ["A=B"], "additionalGIDs": [5, 0], "mounts": [{"hostPath": "/a", "containerPath": "/b"},
            {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs", "options": ["mode=755"]},
            {"hostPath": "x", "containerPath": "/d", "type": "ext4"}],
            "hooks": [{"hookName": "startContainer", "path": "/x"}, {"hookName": "poststop", "path": "/y", "timeout": 3}],
            "deviceNodes": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "permissions": "none"}],
            "netDevices": [{"hostInterfaceName": "eth1", "name": "e"}], "intelRdt": {"closID": "x", "schemata": ["L3"]}}"#,
    ))
    .unwrap();
    let edits = &spec.devices[0].edits;
    assert_eq!(edits.gids, [5, 0]);
    assert_eq!(edits.lacking, ["a mount of type ext4", "hooks of startContainer", "intelRdt", "netDevices"]);
    assert_eq!(edits.mounts[0].options, ["bind"]);
    assert_eq!((edits.mounts[1].kind.as_str(), edits.mounts[1].options.len()), ("tmpfs", 1));
    assert_eq!((edits.hooks[0].0, edits.hooks[0].1.timeout), (Moment::Poststop, Some(3)));
    assert_eq!((edits.nodes[0].major, edits.nodes[0].minor, edits.nodes[0].access.as_str()), (1, 3, ""));
}

#[test]
fn what_cannot_be_is_refused() {
    let device = r#"{"name": "d", "containerEdits": {"env": ["A=B"]}}"#;
    for (text, words) in [
        ("".to_owned(), "no Spec data"),
        ("a".to_owned(), "the Spec is no map"),
        ("{".to_owned(), "EOF while parsing"),
        ("{}".to_owned(), "invalid vendor of kind \"\""),
        (json("2.0.0", "a.b/c", device), "invalid version \"2.0.0\""),
        (json("0.5", "a.b/c", device), "invalid version \"0.5\""),
        (json("0.5.0", "c", device), "invalid vendor of kind \"c\""),
        (json("0.5.0", "a/", device), "invalid class of kind \"a/\""),
        (json("0.5.0", "1a/b", device), "invalid vendor of kind \"1a/b\""),
        (json("0.5.0", "a/b$c", device), "invalid class of kind \"a/b$c\": invalid character '$'"),
        (json("0.5.0", "a/b.c", device), "the spec version must be at least v0.6.0"),
        (json("0.5.0", "a/b", ""), "no devices"),
        (json("0.5.0", "a/b", &format!("{device},{device}")), "multiple device \"d\""),
        (json("0.5.0", "a/b", r#"{"name": "-d"}"#), "invalid device name \"-d\""),
        (json("0.5.0", "a/b", r#"{"name": "d"}"#), "invalid device \"d\": empty device edits"),
        (json("0.5.0", "a/b", r#"{"name": "d", "containerEdits": {}}"#), "invalid device \"d\": empty device edits"),
        (
            json("0.4.0", "a/b", r#"{"name": "0", "containerEdits": {"env": ["A=B"]}}"#),
            "the spec version must be at least v0.5.0",
        ),
        (
            json("0.6.0", "a/b", r#"{"name": "d", "containerEdits": {"additionalGids": [1]}}"#),
            "the spec version must be at least v0.7.0",
        ),
        (
            json(
                "1.0.0",
                "a/b",
                r#"{"name": "d", "containerEdits": {"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}}"#,
            ),
            "the spec version must be at least v1.1.0",
        ),
        (
            json(
                "0.3.0",
                "a/b",
                r#"{"name": "d", "containerEdits": {"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]}}"#,
            ),
            "the spec version must be at least v0.4.0",
        ),
        (with(r#"{"boat": 1}"#), "invalid device \"d\": unknown field \"boat\" of containerEdits"),
        (with(r#"{"env": ["=B"]}"#), "invalid device \"d\": invalid environment variable \"=B\""),
        (with(r#"{"env": "A=B"}"#), "invalid device \"d\": env is no list"),
        (with(r#"{"env": [["A=B"]]}"#), "invalid device \"d\": env is no text"),
        (with(r#"{"deviceNodes": [{}]}"#), "invalid device \"d\": invalid (empty) device path"),
        (
            with(r#"{"deviceNodes": [{"path": "x"}]}"#),
            "invalid device \"d\": device \"x\": \"x\" is not an absolute path",
        ),
        (
            with(r#"{"deviceNodes": [{"path": "/x", "type": "d"}]}"#),
            "invalid device \"d\": device \"/x\": invalid type \"d\"",
        ),
        (
            with(r#"{"deviceNodes": [{"path": "/x", "permissions": "rx"}]}"#),
            "invalid device \"d\": device \"/x\": invalid permissions \"rx\"",
        ),
        (
            with(r#"{"deviceNodes": [{"path": "/x", "uid": -1}]}"#),
            "invalid device \"d\": device \"/x\": uid is not such a number: -1",
        ),
        (with(r#"{"mounts": [{"hostPath": "/a"}]}"#), "invalid device \"d\": invalid mount, empty container path"),
        (
            with(r#"{"mounts": [{"hostPath": "a", "containerPath": "/b"}]}"#),
            "invalid device \"d\": mount on \"/b\": \"a\" is not an absolute path",
        ),
        (
            with(r#"{"hooks": [{"hookName": "prefinish", "path": "/x"}]}"#),
            "invalid device \"d\": invalid hook name \"prefinish\"",
        ),
        (
            with(r#"{"hooks": [{"hookName": "poststop", "path": "x"}]}"#),
            "invalid device \"d\": invalid hook \"poststop\": \"x\" is not an absolute path",
        ),
        (
            with(r#"{"hooks": [{"hookName": "poststop", "path": "/x", "timeout": 0}]}"#),
            "invalid device \"d\": invalid hook \"poststop\": its timeout is 0",
        ),
        (with(r#"{"intelRdt": {"closID": "a/b"}}"#), "invalid device \"d\": invalid ClosID"),
        (
            with(
                r#"{"netDevices": [{"hostInterfaceName": "a", "name": "b"}, {"hostInterfaceName": "a", "name": "c"}]}"#,
            ),
            "invalid device \"d\": duplicate netDevice",
        ),
    ] {
        let said = format!("{:#}", Spec::parse(&text).unwrap_err());
        assert!(said.starts_with(words), "{text}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn later_directories_win_and_equals_conflict() {
    use super::super::{Registry, qualified};
    let dir = std::env::temp_dir().join(format!("dhow-cdi-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let (one, two) = (dir.join("one"), dir.join("two"));
    for dir in [&one, &two] {
        std::fs::create_dir_all(dir.join("sub.json")).unwrap();
    }
    let write = |path: &std::path::Path, name: &str, env: &str| {
        let device = format!(r#"{{"name": "{name}", "containerEdits": {{"env": ["A={env}"]}}}}"#);
        std::fs::write(path, json("0.5.0", "a.b/c", &device)).unwrap();
    };
    write(&one.join("1.json"), "both", "first");
    write(&two.join("1.yaml"), "both", "second");
    write(&one.join("2.json"), "twice", "x");
    write(&one.join("3.json"), "twice", "y");
    write(&one.join("4.txt"), "unseen", "z");
    std::fs::write(one.join("5.json"), b"\xff").unwrap();
    std::fs::write(one.join("6.yaml"), "a: |\n").unwrap();
    std::fs::write(one.join("7.json"), vec![b' '; (4 << 20) + 1]).unwrap();
    nix::unistd::mkfifo(&one.join("8.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let registry = Registry::read(&[one.clone(), two, dir.join("missing")]);
    assert_eq!(registry.names().collect::<Vec<_>>(), ["a.b/c=both"]);
    let edits = |name: &str| registry.edits(&[name.to_owned()]);
    assert_eq!(edits("a.b/c=both").unwrap().env, ["A=second"]);
    let faults: Vec<&str> = registry.faults.iter().map(|(_, why)| why.as_str()).collect();
    let expected = [
        "conflicting device \"a.b/c=twice\"",
        "5.json\": it is not UTF-8",
        "6.yaml\": line 1: a block scalar",
        "7.json\": it is larger than 4 MiB",
        "8.json\": it is no file",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, words) in faults.iter().zip(expected) {
        assert!(fault.contains(words), "{fault}");
    }
    let said = edits("a.b/c=twice").unwrap_err().to_string();
    assert!(said.starts_with("unresolvable CDI devices a.b/c=twice (conflicting device"), "{said}");
    std::fs::remove_dir_all(&dir).unwrap();

    assert_eq!(qualified("nvidia.com/gpu=0"), Some(("nvidia.com", "gpu", "0")));
    for name in ["/dev/x", "/dev/a=b", "a/b", "a=b", "a/b=", "a/b=c$", "a/b/c=d", ""] {
        assert_eq!(qualified(name), None, "{name}");
    }
}
