//! What is killed while an image comes, goes or is made.

use super::{STAY, mark};
use crate::fixture::{Command, Host, Image, Registry, Tar, eventually};

pub fn at_import(host: &Host, point: &str) {
    let tar = host.file("a.tar", Tar::new().file("a", 0o644, "a").end());
    let args = ["import", tar.to_str().expect("UTF-8"), "small"];
    assert!(host.dhow(args).fail(point, &mark(host)).run().killed());
    // Either it is there and whole, or it is not there.
    let listed = host.ok(["images", "-q", "small"]);
    if !listed.is_empty() {
        host.ok(["history", "small"]);
    }
    host.ok(args);
    host.ok(["rmi", "small"]);
}

/// Whoever made the container stand still for it has gone.
pub fn at_commit(host: &Host, point: &str) {
    host.ok(["run", "--detach"].iter().chain(&STAY).copied());
    host.ok(["exec", "it", "touch", "/new"]);
    assert!(host.dhow(["commit", "it", "made"]).fail(point, &mark(host)).run().killed());
    eventually("it goes on", || host.inspect("it", "/State/Status") == "running");
    host.ok(["commit", "it", "made"]);
    // A pause that comes right after it is not undone.
    host.ok(["pause", "it"]);
    assert_eq!(host.inspect("it", "/State/Status"), "paused");
    host.ok(["unpause", "it"]);
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "made", "ls", "/new"]), "/new");
    host.ok(["rmi", "made"]);
}

pub fn at_rmi(host: &Host, point: &str) {
    let tar = host.file("a.tar", Tar::new().file("a", 0o644, "a").end());
    host.ok(["import", tar.to_str().expect("UTF-8"), "small"]);
    assert!(host.dhow(["rmi", "small"]).fail(point, &mark(host)).run().killed());
    host.ok(["image", "prune", "--force"]);
    assert_eq!(host.ok(["images", "-q"]).lines().count(), 1);
}

pub fn at_pull(host: &Host, point: &str) {
    let Some(registry) = Registry::shared() else { return };
    registry.upload(&Image::new(Tar::new().file("a", 0o644, "a").end()), "crash/small", "v1");
    let name = registry.name("crash/small:v1");
    assert!(host.dhow(["pull", "-q", &name]).fail(point, &mark(host)).run().killed());
    if !host.ok(["images", "-q", &name]).is_empty() {
        host.ok(["history", &name]);
    }
    host.ok(["pull", "-q", &name]);
    host.ok(["rmi", &name]);
}

/// What was made before the step in flight need not be made again.
pub fn at_build(host: &Host, point: &str) {
    let text = "FROM busybox\nRUN --mount=type=secret,id=token test -s /run/secrets/token && echo 1 > /one\nCOPY Dockerfile /two\n";
    let dir = host.file("context/Dockerfile", text);
    let dir = dir.parent().expect("a folder").to_str().expect("UTF-8");
    let secret = format!("id=token,src={}", host.file("token", "hush-hush-hush").display());
    let args = ["build", "--network", "none", "--secret", &secret, "-t", "made", dir];
    let told = || {
        let dirs = [host.root(), host.run_dir()].map(|dir| dir.display().to_string());
        Command::new("grep", ["-rl", "hush-hush-hush", &dirs[0], &dirs[1]]).run().stdout()
    };
    assert!(host.dhow(args).fail(point, &mark(host)).run().killed());
    // The command has not got it yet.
    if point != "build.created" {
        assert_eq!(told(), "");
    }
    host.ok(args);
    assert_eq!(told(), "");
    assert_eq!(host.dhow(args).run().stderr().matches("CACHED").count(), 2);
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "made", "cat", "/one"]), "1");
    host.ok(["rmi", "made"]);
    host.ok(["builder", "prune", "--all", "--force"]);
}
