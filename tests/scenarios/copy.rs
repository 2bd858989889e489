//! Files in and out of containers.

use crate::fixture::{Host, Tar, tool};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn into_and_out_of_containers_in_every_state() {
    let Some(host) = Host::with_busybox() else { return };
    let file = host.file("file", "here\n");
    host.ok(["create", "--network", "none", "--name", "cc", "busybox", "sh", "-c", "cat /tmp/in; sleep 1000"]);
    host.ok(["cp", path(&file), "cc:/tmp/in"]);
    host.ok(["start", "cc"]);
    crate::fixture::eventually("it was there at the start", || host.ok(["logs", "cc"]) == "here");
    host.ok(["cp", path(&file), "cc:/tmp"]);
    assert_eq!(host.ok(["exec", "cc", "cat", "/tmp/file"]), "here");
    host.ok(["exec", "cc", "sh", "-c", "echo there >/tmp/out; chmod 640 /tmp/out; chown 12:34 /tmp/out"]);
    for state in ["running", "paused", "exited"] {
        match state {
            "paused" => drop(host.ok(["pause", "cc"])),
            "exited" => drop((host.ok(["unpause", "cc"]), host.ok(["stop", "-t", "0", "cc"]))),
            _ => {}
        }
        assert_eq!(host.inspect("cc", "/State/Status"), state);
        let out = host.dir().join(state);
        host.ok(["cp", "cc:/tmp/out", path(&out)]);
        assert_eq!(text(&out), "there\n");
        let meta = fs::metadata(&out).expect("it is there");
        assert_eq!((meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777), (0, 0, 0o640));
        host.ok(["cp", "--archive", "cc:/tmp/out", path(&out)]);
        let meta = fs::metadata(&out).expect("it is there");
        assert_eq!((meta.uid(), meta.gid()), (12, 34));
    }
    // What came while it was stopped is there when it runs again.
    host.ok(["cp", path(&file), "cc:/tmp/late"]);
    host.ok(["start", "cc"]);
    assert_eq!(host.ok(["exec", "cc", "cat", "/tmp/late"]), "here");
    host.assert_tidy();
}

#[test]
fn into_a_working_directory_that_the_image_has_not() {
    let Some(host) = Host::with_busybox() else { return };
    let file = host.file("file", "here\n");
    host.ok(["create", "--network", "none", "--name", "cc", "-w", "/srv/app", "busybox", "cat", "file"]);
    host.ok(["cp", path(&file), "cc:/srv/app/"]);
    assert_eq!(host.ok(["diff", "cc"]).lines().next_back(), Some("A /srv/app/file"));
    assert_eq!(host.ok(["start", "-a", "cc"]), "here");
    host.ok(["create", "--rm", "--network", "none", "--name", "brief", "-w", "/srv/app", "busybox", "pwd"]);
    host.ok(["cp", path(&file), "brief:/srv/app/"]);
    assert_eq!(host.ok(["start", "-a", "brief"]), "/srv/app");
    let text = host.refused(1, ["create", "-w", "/etc/passwd/x", "busybox"]);
    assert!(text.contains("make the working directory /etc/passwd/x"), "{text}");
    let text = host.refused(1, ["create", "-w", "/etc/passwd", "busybox"]);
    assert!(text.contains("Cannot mkdir: /etc/passwd is not a directory"), "{text}");
    assert_eq!(host.ok(["ps", "-a", "--format", "{{.Names}}"]), "cc");
    host.assert_tidy();
}

#[test]
fn names_where_copies_arrive() {
    let Some(host) = Host::with_busybox() else { return };
    host.detached(&["--name", "cc"], &["sleep", "1000"]);
    let tree = host.file("tree/deep/file", "1");
    let tree = tree.parent().and_then(Path::parent).expect("a directory");
    let here = |name: &str| format!("{}/{name}", host.dir().display());
    let find = |at: &str| host.ok(["exec", "cc", "sh", "-c", &format!("cd {at} && find . | sort | tr '\\n' ' '")]);
    // A directory that is not there takes the tree's place; one that is there takes it in; /. is what is in it.
    host.ok(["cp", path(tree), "cc:/tmp/new"]);
    assert_eq!(find("/tmp/new"), ". ./deep ./deep/file ");
    host.ok(["cp", path(tree), "cc:/tmp/new"]);
    assert_eq!(find("/tmp/new"), ". ./deep ./deep/file ./tree ./tree/deep ./tree/deep/file ");
    host.ok(["exec", "cc", "mkdir", "/tmp/into"]);
    host.ok(["cp", &format!("{}/.", path(tree)), "cc:/tmp/into/"]);
    assert_eq!(find("/tmp/into"), ". ./deep ./deep/file ");
    host.ok(["cp", "cc:/tmp/into/.", &here("out")]);
    assert_eq!(text(here("out/deep/file")), "1");
    host.ok(["cp", "cc:/tmp/into", &here("out")]);
    assert_eq!(text(here("out/into/deep/file")), "1");
    host.ok(["cp", "cc:/tmp/into/deep/file", &here("out/renamed")]);
    assert_eq!(text(here("out/renamed")), "1");
    // Onto a link: what it leads to, on either side.
    host.ok(["exec", "cc", "sh", "-c", "ln -s into /tmp/link; ln -s nothing /tmp/dangling"]);
    host.ok(["cp", &here("out/renamed"), "cc:/tmp/link"]);
    assert_eq!(find("/tmp/into"), ". ./deep ./deep/file ./renamed ");
    host.ok(["cp", &here("out/renamed"), "cc:/tmp/dangling"]);
    assert_eq!(host.ok(["exec", "cc", "cat", "/tmp/nothing"]), "1");
    host.ok(["cp", "cc:/tmp/link", &here("as-it-is")]);
    assert_eq!(fs::read_link(here("as-it-is")).expect("a link").to_str(), Some("into"));
    host.ok(["cp", "-L", "cc:/tmp/link", &here("followed")]);
    assert_eq!(text(here("followed/renamed")), "1");
    symlink("tree", here("way")).expect("make a link");
    host.ok(["cp", "-L", &here("way"), "cc:/tmp/way"]);
    assert_eq!(find("/tmp/way"), ". ./deep ./deep/file ");
    // What cannot be.
    let renamed = here("out/renamed");
    let refused = [
        (vec!["cp", path(tree), "cc:/tmp/nothing"], "cannot copy directory"),
        (vec!["cp", &renamed, "cc:/tmp/absent/"], "no such directory"),
        (vec!["cp", "cc:/absent", "."], "Could not find the file /absent in container cc"),
        (vec!["cp", "absent:/x", "."], "No such container: absent"),
        (vec!["cp", "cc:/tmp/into", "cc:/x"], "copying between containers is not supported"),
        (vec!["cp", "/a", "/b"], "must specify at least one container source"),
        (vec!["cp", "-", "cc:/tmp/nothing"], "destination \"cc:/tmp/nothing\" must be a directory"),
        (vec!["cp", "cc:/tmp/into", "/absent/x"], "invalid output path: directory \"/absent\" does not exist"),
        (vec!["cp", &renamed, "cc:/absent/deeper/x"], "Could not find the file /absent/deeper in container cc"),
    ];
    for (line, expected) in refused {
        let said = host.refused(1, line);
        assert!(said.contains(expected), "{said}");
    }
    host.file("out2/deep", "a file");
    let said = host.refused(1, ["cp", "cc:/tmp/into/.", &here("out2")]);
    assert!(said.contains("cannot overwrite non-directory"), "{said}");
    // What is told is told on stderr, and only where it is wanted.
    let output = host.dhow(["cp", "--quiet=false", &here("out/renamed"), "cc:/tmp/told"]).run();
    assert_eq!((output.stdout().as_str(), output.stderr().trim()), ("", "Successfully copied 3.07kB to cc:/tmp/told"));
    let output = host.dhow(["cp", &here("out/renamed"), "cc:/tmp/told"]).run();
    assert_eq!((output.stdout().as_str(), output.stderr().trim()), ("", ""));
    host.assert_tidy();
}

#[test]
fn tars_go_through_pipes() {
    let Some(host) = Host::with_busybox() else { return };
    host.detached(&["--name", "cc", "--user", "user"], &["sleep", "1000"]);
    let tar = Tar::new().owner(12, 34).dir("d", 0o750).file("d/f", 0o640, "piped").hardlink("d/g", "d/f").end();
    host.dhow(["cp", "-", "cc:/tmp"]).input(tar.clone()).ok();
    assert_eq!(
        host.ok(["exec", "-u", "0", "cc", "stat", "-c", "%u:%g %a %h %Y", "/tmp/d/f"]),
        "12:34 640 2 1700000000"
    );
    for pack in [crate::fixture::Packing::Gzip, crate::fixture::Packing::Zstd] {
        host.dhow(["cp", "--archive", "-", "cc:/tmp"]).input(pack.pack(&tar)).ok();
        assert_eq!(host.ok(["exec", "cc", "stat", "-c", "%u:%g %a", "/tmp/d/g"]), "1000:1000 640");
    }
    let output = host.dhow(["cp", "cc:/tmp/d", "-"]).run();
    host.file("out.tar", &output.out);
    let listed = tool("tar", ["tvf", &format!("{}/out.tar", host.dir().display())]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains(" d/\n") && listed.contains(" d/f\n") && listed.contains("d/g link to d/f"), "{listed}");
    for program in ["bzip2", "xz"] {
        let Some(()) = crate::fixture::need(program) else { continue };
        let packed = crate::fixture::Command::new(program, ["-c"]).input(tar.clone()).run().out;
        host.dhow(["cp", "--archive", "-", "cc:/tmp"]).input(packed).ok();
    }
    // Half a tar, no tar, and what is packed in no way.
    for (bytes, expected) in [
        (tar[..700].to_vec(), "cut short"),
        (vec![b'0'; 2048], "not a tar header"),
        (b"BZh9 nothing of that kind".to_vec(), "damaged bzip2"),
        (Tar::new().file("../../x", 0o644, "x").end(), "leads out of the directory"),
    ] {
        let output = host.dhow(["cp", "-", "cc:/tmp"]).input(bytes).run();
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{output}");
        assert!(output.stderr().contains(expected), "{output}");
    }
    host.assert_tidy();
}

#[test]
fn volumes_and_directories_of_the_host_are_seen() {
    let Some(host) = Host::with_busybox() else { return };
    let shared = host.file("shared/file", "theirs");
    let shared = path(shared.parent().expect("a directory")).to_owned();
    let file = host.file("new", "new");
    let binds = [format!("{shared}:/bound"), "vol:/vol".to_owned(), format!("{shared}:/fixed:ro")];
    let mut line = vec!["create", "--network", "none", "--name", "cc", "--tmpfs", "/quick"];
    for bind in &binds {
        line.extend(["-v", bind]);
    }
    line.extend(["busybox", "sleep", "1000"]);
    host.ok(line);
    for running in [false, true] {
        if running {
            host.ok(["start", "cc"]);
        }
        let out = host.dir().join(format!("out{running}"));
        host.ok(["cp", "cc:/bound/file", path(&out)]);
        assert_eq!(text(&out), "theirs");
        host.ok(["cp", path(&file), &format!("cc:/bound/{running}")]);
        assert_eq!(text(format!("{shared}/{running}")), "new");
        host.ok(["cp", path(&file), &format!("cc:/vol/{running}")]);
        assert_eq!(host.sh(&["-v", "vol:/v"], &format!("cat /v/{running}")), "new");
        let said = host.refused(1, ["cp", path(&file), "cc:/fixed/x"]);
        assert!(said.contains("mounted volume is marked read-only"), "{said}");
    }
    // As the container sees it.
    host.ok(["exec", "cc", "sh", "-c", "echo quick >/quick/file"]);
    host.ok(["cp", "cc:/quick/file", &format!("{}/quick", host.dir().display())]);
    assert_eq!(text(host.dir().join("quick")), "quick\n");
    host.ok([
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "rr",
        "--read-only",
        "-v",
        "vol:/vol",
        "busybox",
        "sleep",
        "100",
    ]);
    for running in [true, false] {
        if !running {
            host.ok(["stop", "-t", "0", "rr"]);
        }
        let said = host.refused(1, ["cp", path(&file), "rr:/tmp/x"]);
        assert!(said.contains("container rootfs is marked read-only"), "{said}");
        host.ok(["cp", path(&file), "rr:/vol/fine"]);
    }
    host.assert_tidy();
}

#[test]
fn a_hostile_container_leads_nowhere() {
    let Some(host) = Host::with_busybox() else { return };
    let secret = host.file("outside/secret", "secret");
    let outside = path(secret.parent().expect("a directory")).to_owned();
    let file = host.file("file", "ours");
    let line = format!(
        "ln -s {outside} /way; ln -s /proc/1/root{outside} /magic; ln -s {outside}/secret /one; mkfifo /pipe; \
         mkdir -p /loop /real; touch /real/x; truncate -s 1000G /huge; echo ready; \
         while :; do ln -sfn {outside} /loop/x; ln -sfn /real /loop/x; done"
    );
    host.detached(&["--name", "cc"], &["sh", "-c", &line]);
    crate::fixture::eventually("it is ready", || host.ok(["logs", "cc"]).contains("ready"));
    let out = host.dir().join("out");
    let out = path(&out);
    for (source, expected) in [
        ("cc:/way/secret", "Could not find the file"),
        ("cc:/way/", "Could not find the file"),
        ("cc:/magic/secret", "too many levels of symbolic links"),
        ("cc:/proc/1/root/etc/passwd", "too many levels of symbolic links"),
        ("cc:/proc/kmsg", "Could not find the file"),
        ("cc:/proc/sysrq-trigger", "Could not find the file"),
    ] {
        let said = host.refused(1, ["cp", source, out]);
        assert!(said.contains(expected), "{source}: {said}");
    }
    for target in ["cc:/way/x", "cc:/magic/x", "cc:/proc/sys/kernel/core_pattern", "cc:/proc/1/root/x", "cc:/sys/x"] {
        let output = host.dhow(["cp", path(&file), target]).run();
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{output}");
    }
    // Whole directories with everything that could hold a reader up; their links are copied as links.
    host.ok(["cp", "cc:/pipe", out]);
    assert!(fs::symlink_metadata(out).expect("it is there").file_type().is_fifo());
    fs::remove_file(out).expect("remove it");
    let output = host.dhow(["cp", "cc:/huge", out]).run();
    assert_eq!(output.code(), Some(0), "{output}");
    let meta = fs::metadata(out).expect("it is there");
    assert!(meta.len() == 1000 << 30 && meta.blocks() < 100, "{meta:?}");
    fs::remove_file(out).expect("remove it");
    let all = host.dhow(["cp", "cc:/proc", "-"]).run();
    assert!(all.code() == Some(0) && all.out.len() < 4096, "{all}");
    host.ok(["cp", "cc:/dev", out]);
    assert!(!Path::new(out).join("null").exists(), "devices come with --archive only");
    host.ok(["cp", "-a", "cc:/dev/null", &format!("{out}/null")]);
    assert!(fs::metadata(format!("{out}/null")).expect("it is there").file_type().is_char_device());
    // Links that are swapped while we look.
    for round in 0..40 {
        let _ = host.dhow(["cp", path(&file), "cc:/loop/x/ours"]).run();
        let got = host.dir().join(format!("got{round}"));
        let _ = host.dhow(["cp", "cc:/loop/x/secret", path(&got)]).run();
        assert!(!got.exists(), "the host's own file came out");
    }
    let there: Vec<_> = fs::read_dir(&outside).expect("list it").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(there, ["secret"]);
    assert_eq!(text(secret), "secret");
    // The same once it has stopped.
    host.ok(["kill", "cc"]);
    host.ok(["wait", "cc"]);
    for source in ["cc:/way/secret", "cc:/magic/secret"] {
        assert!(host.refused(1, ["cp", source, out]).contains("Could not find the file"));
    }
    assert_eq!(host.dhow(["cp", path(&file), "cc:/way/x"]).run().code(), Some(1));
    host.assert_tidy();
}

#[test]
fn a_start_waits_for_what_comes_in() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["create", "--network", "none", "--name", "cc", "busybox", "sleep", "1000"]);
    let tar = Tar::new().file("slow", 0o644, vec![b'x'; 100_000]).end();
    let mut slow = host.dhow(["cp", "-", "cc:/tmp"]).spawn();
    slow.write(&tar[..50_000]);
    crate::fixture::eventually("it has begun", || {
        host.root()
            .join("containers")
            .join(host.inspect("cc", "/Id").as_str().unwrap_or_default())
            .join("upper/tmp/slow")
            .exists()
    });
    // A start waits for it: nobody sees half of what comes in.
    let mut start = host.dhow(["start", "cc"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!start.has_ended());
    slow.write(&tar[50_000..]);
    slow.close_input();
    assert_eq!(slow.wait().code(), Some(0));
    assert_eq!(start.wait().code(), Some(0));
    assert_eq!(host.ok(["exec", "cc", "stat", "-c", "%s", "/tmp/slow"]), "100000");
    // One that is killed leaves nothing that is in the way.
    host.ok(["stop", "-t", "0", "cc"]);
    let mut killed = host.dhow(["cp", "-", "cc:/tmp"]).spawn();
    killed.write(&tar[..50_000]);
    killed.signal(nix::sys::signal::Signal::SIGKILL);
    killed.wait();
    host.ok(["start", "cc"]);
    host.assert_tidy();
}
