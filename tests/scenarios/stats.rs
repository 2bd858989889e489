//! What containers use is shown, as far as this host can tell.

use crate::fixture::{Host, eventually};
use serde_json::Value;

#[test]
fn what_a_busy_container_uses() {
    let Some(host) = Host::with_busybox() else { return };
    let busy = host.detached(&["--name", "busy"], &["sh", "-c", "while :; do :; done"]);
    host.ok(["create", "--name", "idle", "busybox"]);
    let shown = |args: &[&str]| -> Vec<Value> {
        let text = host.ok(["stats", "--no-stream", "--format", "json"].iter().chain(args).copied());
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    };
    let running = shown(&[]);
    assert_eq!(running.len(), 1, "{running:?}");
    let row = &running[0];
    assert_eq!((row["Name"].as_str(), row["ID"].as_str()), (Some("busy"), Some(&busy[..12])));
    let percent = |row: &Value| -> f64 {
        let text = row["CPUPerc"].as_str().and_then(|text| text.strip_suffix('%'));
        text.and_then(|text| text.parse().ok()).unwrap_or(-1.0)
    };
    assert!(percent(row) > 0.0, "{row}");
    assert!(!row["MemUsage"].as_str().unwrap_or("0B ").starts_with("0B "), "{row}");
    assert_eq!(row["PIDs"], "1", "{row}");
    let all = shown(&["--all", "--no-trunc"]);
    assert_eq!(all.len(), 2, "{all:?}");
    let idle = all.iter().find(|row| row["Name"] == "idle").expect("the one that does not run");
    assert_eq!(
        (percent(idle), idle["MemUsage"].as_str(), idle["PIDs"].as_str()),
        (0.0, Some("0B / 0B"), Some("0")),
        "{idle}"
    );
    let table = host.ok(["stats", "--no-stream", "busy"]);
    assert!(table.starts_with("CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT"), "{table}");
    let refused = host.refused(1, ["stats", "--no-stream", "ghost"]);
    assert!(refused.contains("No such container: ghost"), "{refused}");
}

#[test]
fn what_starts_later_is_shown_too() {
    let Some(host) = Host::with_busybox() else { return };
    let shown = host.dir().join("shown");
    let mut command = host.dhow(["stats", "--format", "{{.Name}}={{.PIDs}}"]);
    command.inner().stdin(std::process::Stdio::null());
    command.inner().stdout(std::fs::File::create(&shown).expect("make a file"));
    let mut running = command.inner().spawn().expect("start stats");
    host.detached(&["--name", "late"], &["sleep", "1000"]);
    let text = || std::fs::read_to_string(&shown).unwrap_or_default();
    eventually("a container that started later is shown", || text().contains("late=1\n"));
    running.kill().and_then(|()| running.wait()).expect("end stats");
    assert!(!text().contains('\x1b'), "nothing is drawn where there is no terminal");
}
