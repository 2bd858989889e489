//! The order of the steps, which is what isolation hangs on.

use super::*;
use serde_json::{Value, json};

fn spec(change: impl FnOnce(&mut Value)) -> Spec {
    let mount = |target: &str, kind: &str| json!({"destination": target, "type": kind, "source": kind, "options": []});
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "boat",
        "mounts": [
            mount("/proc", "proc"), mount("/dev", "tmpfs"), mount("/dev/pts", "devpts"), mount("/sys", "sysfs"),
            mount("/dev/mqueue", "mqueue"),
            {"destination": "/lent", "type": "bind", "source": "/srv", "options": ["rbind", "rprivate"]},
        ],
        "process": {
            "args": ["true"], "cwd": "/", "terminal": true, "noNewPrivileges": true,
            "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
            "apparmorProfile": "mine", "selinuxLabel": "u:r:t:s0:c1,c2",
        },
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}],
            "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}],
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
            "mountLabel": "u:o:f:s0:c1,c2",
        },
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}

/// The names of the steps.
fn names(plan: &Plan) -> Vec<String> {
    let name = |step: &Step| {
        let text = format!("{step:?}");
        text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
    };
    plan.steps.iter().map(name).collect()
}

fn at(names: &[String], name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| panic!("{name} is not in {names:?}"))
}

const MOUNTS: &str = "AttachRoot NewMount Attach LabelFile MakeDirectory MakeNode MakeSymlink Console Mask ReadonlyPath \
                      ReadonlyRoot Pivot";

#[test]
fn privileges_go_in_their_order() {
    for init in [false, true] {
        let steps = names(&plan(&spec(|_| ()), Given { init, ..Given::default() }).unwrap());
        assert_eq!(steps[..3], ["Hide", "CloseLock", "DefaultSignals"]);
        // The filter is next to last: what comes before need not be allowed by it.
        let end = if init {
            &["NoNewPrivileges", "Seccomp", "Init", "Exec"][..]
        } else {
            &["NoNewPrivileges", "Seccomp", "Exec"]
        };
        assert_eq!(steps[steps.len() - end.len()..], *end, "{steps:?}");
        let order: Vec<usize> = [
            // Nothing of the image is there to stand in for the host's proc.
            "OpenProfile",
            "OpenLabel",
            "JoinNamespace",
            "NewSession",
            "PrivateMounts",
            "AttachRoot",
            "NewMount",
            "Sysctl",
            "ReadonlyPath",
            "Mask",
            "ReadonlyRoot",
            "Pivot",
            "Hostname",
            "WaitForGo",
            "Stdio",
            "Profile",
            "Label",
            // No descriptor leads out when a path of the image is followed.
            "CloseDescriptors",
            "ChangeDirectory",
            "Bounding",
            "KeepCapabilities",
            "Gid",
            "Uid",
            "Capabilities",
            // What a change of credentials would clear.
            "DeathSignal",
        ]
        .map(|name| at(&steps, name))
        .into();
        assert!(order.is_sorted(), "{steps:?}");
        let dropped = at(&steps, "Bounding");
        let late = steps[dropped..].iter().find(|name| MOUNTS.split(' ').any(|mount| mount == *name));
        assert_eq!(late, None, "nothing is mounted when capabilities have gone");
    }
}

#[test]
fn hooks_find_the_mounts_made_and_nothing_hidden() {
    let hooks = |moment: &str| {
        let hooks = json!({moment: [{"path": "/bin/true"}]});
        plan(&spec(|spec| spec["hooks"] = hooks), Given::default()).unwrap()
    };
    for moment in ["prestart", "createRuntime", "createContainer"] {
        let plan = hooks(moment);
        assert!(plan.meets());
        let steps = names(&plan);
        let meet = at(&steps, "Meet");
        for before in ["AttachRoot", "NewMount", "Attach", "MakeNode", "Console"] {
            assert!(steps.iter().rposition(|step| step == before).unwrap() < meet, "{before}: {steps:?}");
        }
        for after in ["Sysctl", "Mask", "ReadonlyPath", "ReadonlyRoot", "Pivot", "WaitForGo"] {
            assert!(meet < at(&steps, after), "{after}: {steps:?}");
        }
    }
    for moment in ["poststart", "poststop"] {
        assert!(!hooks(moment).meets());
    }
}

#[test]
fn labels_are_where_they_have_to_be() {
    let labelled = plan(&spec(|_| ()), Given::default()).unwrap();
    let steps = names(&labelled);
    let session = at(&steps, "NewSession");
    assert_eq!((steps[session - 1].as_str(), steps[session + 1].as_str()), ("KeyLabel", "KeyLabel"));
    let texts: Vec<String> = labelled.steps.iter().map(|step| format!("{step:?}")).collect();
    assert_eq!(texts[session - 1], "KeyLabel(Some(\"u:r:t:s0:c1,c2\"))");
    assert_eq!(texts[session + 1], "KeyLabel(None)");
    assert!(texts.contains(&"Label(\"u:r:t:s0:c1,c2\")".to_owned()), "{texts:?}");
    assert!(texts.contains(&"LabelFile { path: \"dev/mqueue\", label: \"u:o:f:s0:c1,c2\" }".to_owned()), "{texts:?}");
    assert_eq!(labelled.label.as_deref(), Some(c"u:o:f:s0:c1,c2"));
    let with_context = |plan: &Plan| {
        let context = |source: &&Source| match source {
            Source::Mount { config, .. } => config.iter().any(|(key, _)| key.as_c_str() == c"context"),
            _ => false,
        };
        plan.sources.iter().filter(context).count()
    };
    assert_eq!(with_context(&labelled), 2, "/dev and /dev/pts");

    let plain = spec(|spec| {
        spec["process"]["selinuxLabel"] = json!("");
        spec["linux"]["mountLabel"] = json!("");
    });
    let plain = plan(&plain, Given::default()).unwrap();
    let steps = names(&plain);
    assert!(!steps.iter().any(|name| name.contains("Label")), "{steps:?}");
    assert_eq!((with_context(&plain), plain.label), (0, None));
    // With label=disable only files have one.
    let disabled = spec(|spec| spec["process"]["selinuxLabel"] = json!(""));
    let disabled = plan(&disabled, Given::default()).unwrap();
    assert!(!names(&disabled).contains(&"OpenLabel".to_owned()) && with_context(&disabled) == 2);
}

#[test]
fn nothing_is_mounted_on_what_the_host_shares() {
    let bound = |target: &str, propagation: &str| {
        let bind = json!({"destination": target, "type": "bind", "source": target, "options": ["rbind", propagation]});
        plan(&spec(|spec| spec["mounts"].as_array_mut().unwrap().push(bind)), Given::default())
    };
    let has_console = |propagation| names(&bound("/dev", propagation).unwrap()).contains(&"Console".to_owned());
    assert!(has_console("rprivate") && has_console("rslave") && !has_console("rshared"));
    for (target, path) in [("/proc", "/proc/sys"), ("/proc/sys", "/proc/sys"), ("/proc/kcore", "/proc/kcore")] {
        assert!(bound(target, "rslave").is_ok());
        let error = bound(target, "rshared").unwrap_err().to_string();
        assert!(error.starts_with(&format!("{path} cannot be hidden from the container alone")), "{error}");
    }
    assert!(bound("/procs", "rshared").is_ok() && bound("/lent", "shared").is_ok());
}
