//! What containers change: told, exported, and made an image of.

use crate::fixture::{Host, Tar, tool};
use std::fs;

const WORK: &str = "rm /etc/group; rm -rf /home; mkdir /home; echo new >/home/new; chmod 600 /etc/passwd; \
                    mkdir -p /srv/deep; echo 1 >/srv/deep/a; ln /srv/deep/a /srv/b; ln -s b /srv/l; mkfifo /srv/p; \
                    mknod /srv/null c 1 3; touch /tmp/coming; rm /tmp/coming; chown 12:34 /srv/deep; \
                    truncate -s 100M /srv/holes; echo end >>/srv/holes";

#[test]
fn diff_tells_what_a_container_changed() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["create", "--network", "none", "--name", "idle", "busybox"]);
    assert_eq!(host.ok(["diff", "idle"]), "");
    host.ok(["run", "--network", "none", "--name", "calm", "busybox", "true"]);
    assert_eq!(host.ok(["diff", "calm"]), "", "what a start makes is not told");
    host.ok(["run", "--network", "none", "--name", "busy", "-v", "vol:/data", "busybox", "sh", "-c", WORK]);
    let expected = "A /data\nC /etc\nD /etc/group\nC /etc/passwd\nC /home\nA /home/new\nA /srv\nA /srv/b\nA /srv/deep\n\
                    A /srv/deep/a\nA /srv/holes\nA /srv/l\nA /srv/null\nA /srv/p";
    let told = host.ok(["diff", "busy"]);
    // A directory whose files came and went is changed in nothing that is told.
    assert_eq!(told, expected);
    assert!(host.refused(1, ["diff", "absent"]).contains("No such container: absent"));
    host.assert_tidy();
}

#[test]
fn export_is_the_root_without_its_mounts() {
    let Some(host) = Host::with_busybox() else { return };
    host.detached(
        &["--name", "it", "-v", "vol:/data", "--tmpfs", "/quick"],
        &[
            "sh",
            "-c",
            "echo v >/data/in-volume; \
        echo q >/quick/in-tmpfs; echo mine >/etc/mine; sleep 1000",
        ],
    );
    crate::fixture::eventually("it is written", || host.run(["exec", "it", "cat", "/etc/mine"]).stdout() == "mine");
    let file = host.dir().join("out.tar");
    let file = file.to_str().expect("UTF-8");
    for state in ["running", "exited"] {
        if state == "exited" {
            host.ok(["stop", "-t", "0", "it"]);
        }
        assert_eq!(host.inspect("it", "/State/Status"), state);
        host.ok(["export", "--output", file, "it"]);
        let listed = tool("tar", ["tf", file]);
        let has = |name: &str| listed.lines().any(|line| line == name);
        assert!(has("bin/busybox") && has("etc/mine") && has("data/"), "{listed}");
        assert!(!listed.contains("in-volume") && !listed.contains("in-tmpfs") && !has("proc/1/"), "{listed}");
        assert_eq!(host.dhow(["export", "it"]).run().out, fs::read(file).expect("read"), "the same on stdout");
    }
    // It comes back as an image.
    host.ok(["import", file, "again"]);
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "again", "cat", "/etc/mine"]), "mine");
    host.assert_tidy();
}

#[test]
fn commit_makes_an_image_of_a_container() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["run", "--network", "none", "--name", "it", "-e", "A=1", "busybox", "sh", "-c", WORK]);
    let id = host.ok([
        "commit",
        "-a",
        "me <me@here>",
        "-m",
        "what it did",
        "-c",
        "CMD [\"cat\", \"/home/new\"]",
        "-c",
        "ENV B=$A",
        "-c",
        "LABEL x=y",
        "it",
        "made:1",
    ]);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let run = |line: &str| host.ok(["run", "--rm", "--network", "none", "made:1", "sh", "-c", line]);
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "made:1"]), "new");
    assert_eq!(
        run("echo $A $B; ls /etc/group /home 2>&1; true"),
        "1 1\nls: /etc/group: No such file or directory\n/home:\nnew"
    );
    let stat =
        "stat -c '%n %u:%g %a %h %F %s' /etc/passwd /srv/b /srv/deep /srv/l /srv/p /srv/null /srv/holes; du /srv/holes";
    let expected = "/etc/passwd 0:0 600 1 regular file 80\n/srv/b 0:0 644 2 regular file 2\n\
                    /srv/deep 12:34 755 2 directory 4096\n/srv/l 0:0 777 1 symbolic link 1\n/srv/p 0:0 644 1 fifo 0\n\
                    /srv/null 0:0 644 1 character special file 0\n/srv/holes 0:0 644 1 regular file 104857604\n";
    let seen = run(stat);
    for line in expected.lines().filter(|line| !line.starts_with("/srv/deep") && !line.starts_with("/etc/passwd")) {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    assert!(
        seen.contains("/etc/passwd 0:0 600 1 regular file") && seen.contains("/srv/deep 12:34 755 2 directory"),
        "{seen}"
    );
    let blocks: u64 = seen.lines().last().and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("du");
    assert!(blocks < 1000, "holes stay holes: {seen}");
    let history = host.ok(["history", "--format", "{{.Comment}}|{{.CreatedBy}}", "--no-trunc", "made:1"]);
    assert!(history.starts_with("what it did|sh -c rm /etc/group"), "{history}");
    assert_eq!(
        host.ok(["inspect", "--format", "{{.Author}} {{.Config.Labels.x}} {{len .RootFS.Layers}}", "made:1"]),
        "me <me@here> y 2"
    );
    // The same again is the same layer; nothing changed is none at all.
    let again = host.ok(["commit", "it"]);
    let layers = |image: &str| host.inspect(image, "/RootFS/Layers");
    assert_eq!(layers(&again), layers("made:1"));
    host.ok(["create", "--network", "none", "--name", "idle", "busybox"]);
    let same = host.ok(["commit", "idle", "same"]);
    assert_eq!(layers(&same), layers("busybox"));
    // A new entrypoint makes nothing of the old command.
    host.ok(["commit", "-c", "ENTRYPOINT [\"echo\", \"entered\"]", "idle", "entered"]);
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "entered"]), "entered");
    // The layers of a commit are committed again.
    host.ok(["run", "--network", "none", "--name", "second", "made:1", "rm", "-r", "/srv/deep", "/home/new"]);
    host.ok(["commit", "second", "made:2"]);
    assert_eq!(
        host.ok(["run", "--rm", "--network", "none", "made:2", "ls", "/srv", "/home"]),
        "/home:\n\n/srv:\nb\nholes\nl\nnull\np"
    );
    for bad in [vec!["commit", "absent"], vec!["commit", "it", "UPPER"], vec!["commit", "-c", "RUN x", "it"]] {
        let output = host.dhow(bad).run();
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{output}");
    }
    host.ok(["rm", "it", "second", "idle"]);
    host.ok(["rmi", "made:1", "made:2", "same", "entered", &again]);
    host.assert_tidy();
}

#[test]
fn a_running_container_stands_still_for_a_commit() {
    let Some(host) = Host::with_busybox() else { return };
    host.detached(&["--name", "it"], &["sh", "-c", "while :; do echo 1 >/tmp/new; mv /tmp/new /tmp/a; done"]);
    crate::fixture::eventually("it writes", || host.run(["exec", "it", "cat", "/tmp/a"]).stdout() == "1");
    host.ok(["commit", "it", "made"]);
    assert_eq!(host.inspect("it", "/State/Status"), "running");
    host.ok(["commit", "--pause=false", "it", "unpaused"]);
    let filters = ["--filter", "container=it", "--filter", "event=pause", "--filter", "event=unpause"];
    let told = host.ok(["events", "--since", "0", "--until", "0s", "--format", "{{.Action}}"].iter().chain(&filters));
    assert_eq!(told, "pause\nunpause", "it is told, as with Docker");
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "made", "cat", "/tmp/a"]), "1");
    host.assert_tidy();
}

#[test]
fn capabilities_of_files_are_committed() {
    let Some(host) = Host::with_busybox() else { return };
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    host.ok(["create", "--network", "none", "--name", "it", "busybox"]);
    let tar = Tar::new().pax("SCHILY.xattr.security.capability", capability).file("able", 0o755, "x").end();
    host.dhow(["cp", "-", "it:/bin"]).input(tar).ok();
    host.ok(["commit", "it", "made"]);
    host.ok(["create", "--network", "none", "--name", "other", "made"]);
    let packed = host.dhow(["cp", "other:/bin/able", "-"]).run().out;
    let key = b"SCHILY.xattr.security.capability=";
    let at = packed.windows(key.len()).position(|window| window == key).expect("it has the attribute");
    assert_eq!(packed[at + key.len()..][..20], capability);
}
