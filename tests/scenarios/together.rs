//! Several commands at once on the same things.

use crate::fixture::{Host, Output, Registry, Running};

fn all(running: Vec<Running>) -> Vec<Output> {
    running.into_iter().map(Running::wait).collect()
}

#[test]
fn four_commands_on_one_container() {
    let Some(host) = Host::with_busybox() else { return };
    for _ in 0..5 {
        host.ok(["create", "--network", "none", "--name", "one", "busybox", "sleep", "1000"]);
        for output in all((0..4).map(|_| host.dhow(["start", "one"]).spawn()).collect()) {
            assert_eq!(output.code(), Some(0), "starting what runs changes nothing: {output}");
        }
        assert_eq!(host.inspect("one", "/State/Running"), true);
        for output in all((0..4).map(|_| host.dhow(["restart", "--time", "0", "one"]).spawn()).collect()) {
            assert!(output.code() == Some(0) || output.stderr().lines().count() == 1, "{output}");
        }
        for output in all((0..4).map(|_| host.dhow(["stop", "--time", "0", "one"]).spawn()).collect()) {
            assert_eq!(output.code(), Some(0), "{output}");
        }
        assert_eq!(host.inspect("one", "/State/Running"), false);
        let outputs = all((0..4).map(|_| host.dhow(["rm", "one"]).spawn()).collect());
        let removed = outputs.iter().filter(|output| output.status.success()).count();
        assert!(removed >= 1, "{}", outputs[0]);
        assert_eq!(host.ok(["ps", "-aq"]), "");
    }
}

#[test]
fn start_and_rm_in_any_order() {
    let Some(host) = Host::with_busybox() else { return };
    for _ in 0..10 {
        host.ok(["create", "--network", "none", "--name", "one", "busybox", "sleep", "1000"]);
        let commands = [vec!["start", "one"], vec!["rm", "-f", "one"], vec!["kill", "one"], vec!["inspect", "one"]];
        for output in all(commands.into_iter().map(|args| host.dhow(args).spawn()).collect()) {
            assert!(output.status.success() || output.stderr().lines().count() == 1, "{output}");
        }
        host.run(["rm", "-f", "one"]);
        assert_eq!(host.ok(["ps", "-aq"]), "");
    }
}

#[test]
fn one_name_for_one() {
    let Some(host) = Host::with_busybox() else { return };
    for _ in 0..10 {
        let args = ["create", "--network", "none", "--name", "wanted", "busybox"];
        let outputs = all((0..4).map(|_| host.dhow(args).spawn()).collect());
        assert_eq!(outputs.iter().filter(|output| output.status.success()).count(), 1);
        for output in outputs.iter().filter(|output| !output.status.success()) {
            assert!(output.stderr().contains("is already in use by container"), "{output}");
        }
        assert_eq!(host.ok(["ps", "-aq"]).lines().count(), 1);
        host.ok(["rm", "wanted"]);
    }
}

#[test]
fn four_pulls_of_one_image() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let Some(name) = registry.busybox() else { return };
    for _ in 0..5 {
        for output in all((0..4).map(|_| host.dhow(["pull", "-q", &name]).spawn()).collect()) {
            assert_eq!(output.code(), Some(0), "{output}");
        }
        assert_eq!(std::fs::read_dir(host.root().join("layers")).expect("list").count(), 1);
        assert_eq!(host.ok(["run", "--rm", "--network", "none", &name, "echo", "whole"]), "whole");
        host.ok(["rmi", &name]);
        host.assert_tidy();
    }
}

#[test]
fn pull_run_and_rmi_of_one_image() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let Some(name) = registry.busybox() else { return };
    for _ in 0..10 {
        let run = ["run", "--rm", "--network", "none", name.as_str(), "echo", "whole"];
        let commands = [vec!["pull", "-q", &name], vec!["rmi", &name], run.to_vec(), vec!["rmi", "-f", &name]];
        let outputs = all(commands.into_iter().map(|args| host.dhow(args).spawn()).collect());
        for output in outputs {
            assert!(!output.stderr().contains("panicked"), "{output}");
            // A container that was started saw a whole image.
            assert!(output.code() != Some(0) || !output.line.contains("run") || output.stdout() == "whole", "{output}");
        }
        host.ok(["pull", "-q", &name]);
        assert_eq!(host.ok(["run", "--rm", "--network", "none", &name, "echo", "whole"]), "whole");
        host.assert_tidy();
    }
}

#[test]
fn many_containers_at_once() {
    let Some(host) = Host::with_busybox() else { return };
    let all_of_them =
        (0..16).map(|n| host.busybox(&[], &["sh", "-c", &format!("echo {n}; exit {n}")]).spawn()).collect();
    for (n, output) in all(all_of_them).into_iter().enumerate() {
        assert_eq!((output.code(), output.stdout()), (i32::try_from(n).ok(), n.to_string()), "{output}");
    }
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

#[test]
fn the_cgroups_of_a_store_go_with_its_last_container_and_come_with_the_next() {
    let Some(host) = Host::with_busybox() else { return };
    for _ in 0..20 {
        let mut commands: Vec<_> = (0..4).map(|_| host.busybox(&[], &["true"]).spawn()).collect();
        commands.extend((0..4).map(|_| host.dhow(["ps", "--all"]).spawn()));
        for output in all(commands) {
            assert_eq!(output.code(), Some(0), "{output}");
        }
        let id = host.detached(&[], &["sleep", "1000"]);
        assert_eq!(host.inspect(&id, "/State/Running"), true);
        host.ok(["rm", "--force", &id]);
    }
    // That nothing is left is asserted at the end of every scenario.
}

#[test]
fn builds_leave_each_others_steps_alone() {
    let Some(host) = Host::with_busybox() else { return };
    let dirs: Vec<String> = (0..5).map(|n| host.dir().join(format!("context{n}")).display().to_string()).collect();
    for (n, dir) in dirs.iter().enumerate() {
        std::fs::create_dir_all(dir).expect("make a directory");
        let text = format!("FROM busybox\nRUN --network=none true {n}\nRUN --network=none true again\n");
        std::fs::write(format!("{dir}/Dockerfile"), text).expect("write");
    }
    // Each looks first for what killed builds have left, while the others make containers.
    for _ in 0..12 {
        let builds = dirs.iter().map(|dir| host.dhow(["build", "--quiet", "--no-cache", dir]).spawn());
        for output in all(builds.collect()) {
            assert_eq!(output.code(), Some(0), "{output}");
        }
    }
}
