//! `dhow build`: what is made anew though it was made before, and what others have made.

use super::builds::{build, folder, id, made, says};
use crate::fixture::{Host, eventually};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn stages_can_be_made_anew() {
    let Some(host) = Host::with_busybox() else { return };
    let run = |file: &str| format!("RUN cat /proc/sys/kernel/random/uuid > /{file}\n");
    let text = format!(
        "FROM busybox AS one\n{}FROM busybox\n{}FROM busybox AS Three\n{}COPY --from=one /one /\nCOPY --from=1 /two /\n",
        run("one"),
        run("two"),
        run("three")
    );
    let files = [("Dockerfile", text.as_str())];
    let mut said: Vec<String> = Vec::new();
    let mut changed = |flags: &[&str]| {
        let told = made(&host, &files, flags);
        let now: Vec<String> = says(&host, "cat /one /two /three").lines().map(str::to_owned).collect();
        let changed: Vec<bool> = now.iter().enumerate().map(|(at, line)| said.get(at) != Some(line)).collect();
        said = now;
        (changed, told)
    };
    assert_eq!(changed(&[]).0, [true, true, true]);
    assert_eq!(changed(&[]).0, [false, false, false]);
    assert_eq!(changed(&["--no-cache-filter", "ONE"]).0, [true, false, false]);
    assert_eq!(changed(&["--no-cache-filter", "1,three"]).0, [false, true, true]);
    assert_eq!(changed(&["--no-cache-filter", "one", "--no-cache-filter", "1"]).0, [true, true, false]);
    let (same, told) = changed(&["--no-cache-filter", "four"]);
    assert_eq!(same, [false, false, false]);
    assert!(told.contains("no stage is called \"four\""), "{told}");
}

/// What a cache gives is what would be made anew: whatever was built before, and of a base with another time.
#[test]
fn the_time_that_is_asked_for_is_a_part_of_the_key() {
    let Some(host) = Host::with_busybox() else { return };
    let epoch = |seconds: i64| format!("SOURCE_DATE_EPOCH={seconds}");
    for (base, seconds) in [("old", 1_000_000_000), ("new", 1_500_000_000)] {
        let dir = folder(&host, base, &[("Dockerfile", "FROM busybox\nLABEL a=b\n")]);
        build(&host, &dir, &["-t", base, "--build-arg", &epoch(seconds)]).ok();
    }
    let text = "ARG BASE\nFROM $BASE AS other\nCOPY file /deep/down/file\nFROM $BASE AS files\nWORKDIR /w\nCOPY file /made/dir/file\n\
                COPY --from=other /deep /deep\nFROM files\nRUN touch /late\n";
    let dir = folder(&host, "context", &[("Dockerfile", text), ("file", "x")]);
    let build_id = |flags: &[&str]| {
        build(&host, &dir, &[&["-t", "made"], flags].concat()).ok();
        id(&host, "made")
    };
    let mut before = Vec::new();
    for base in ["old", "new"] {
        for seconds in [None, Some(1_200_000_000), Some(1_600_000_000), None] {
            let base = format!("BASE={base}");
            let mut flags = vec!["--build-arg".to_owned(), base];
            flags.extend(seconds.map(epoch).into_iter().flat_map(|it| ["--build-arg".to_owned(), it]));
            let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            // What a command writes has a time of its own.
            flags.extend(if seconds.is_none() { &["--target", "files"][..] } else { &[] });
            let warm = build_id(&flags);
            assert_eq!(warm, build_id(&[&["--no-cache"], &flags[..]].concat()), "{flags:?}");
            before.push(warm);
        }
    }
    assert_eq!((&before[0], &before[4]), (&before[3], &before[7]));
    let different: std::collections::BTreeSet<_> = before.iter().collect();
    assert_eq!(different.len(), 6);
}

#[test]
fn an_image_that_is_named_is_a_cache() {
    let Some((host, registry)) = Host::with_busybox().zip(crate::fixture::Registry::shared()) else { return };
    let name = format!("{}/{}", registry.host(), crate::fixture::name().replace("::", "-"));
    let text = "FROM busybox AS base\nWORKDIR /w\nENV who=me\nCOPY a /a\nRUN cat /proc/sys/kernel/random/uuid > /one\n\
                FROM base\nARG what=x\nRUN echo $what > /two\nRUN true\nCOPY sub /sub\n";
    let mounts = format!("{text}RUN --mount=type=cache,target=/c cat /proc/sys/kernel/random/uuid > /three\n");
    let files = |text| [("Dockerfile", text), ("a", "a"), ("sub/b", "b")];
    let forget = || host.ok(["builder", "prune", "--all", "--force"]);
    // By the history, also where what is copied has other times.
    made(&host, &files(text), &[]);
    let (one, image) = (says(&host, "cat /one"), id(&host, "made"));
    forget();
    let at = |name: &str| fs::File::open(host.dir().join("context").join(name)).expect("open");
    let later = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let dir = host.dir().join("context");
    fs::write(dir.join("a"), "a").expect("write");
    for name in ["a", "sub/b", "sub"] {
        at(name).set_modified(later).expect("set a time");
    }
    let told = build(&host, &dir, &["-t", "made", "--cache-from", "made"]);
    let told = format!("{}{}", told.ok(), told.stderr());
    assert_eq!((told.matches("CACHED").count(), id(&host, "made")), (6, image.clone()), "{told}");
    // Who does not name it does not get it, nor what was made on top of it.
    let told = made(&host, &files(text), &[]);
    assert_ne!(says(&host, "cat /one"), one, "{told}");
    // With its keys: all of it, also what the history does not tell enough of.
    forget();
    made(&host, &files(&mounts), &["--cache-to", "type=inline", "-t", &name]);
    let (said, image) = (says(&host, "cat /one /three"), id(&host, "made"));
    host.ok(["push", "-q", &name]);
    for flags in [&["--cache-from", "nothere:1,made"][..], &["--cache-from", &format!("type=registry,ref={name}")]] {
        forget();
        let told = made(&host, &files(&mounts), &[flags, &["--build-arg", "BUILDKIT_INLINE_CACHE=1"]].concat());
        assert_eq!((told.matches("CACHED").count(), id(&host, "made")), (7, image.clone()), "{told}");
        assert_eq!(host.ok(["images", "-q", "--no-trunc", "nothere"]), "");
        // From there it is pulled.
        host.ok(["rmi", "--force", &name, "made"]);
        host.ok(["image", "prune", "--force"]);
    }
    assert_eq!(host.ok(["images", "-q", &name]), "");
    let named = ["--cache-from", name.as_str()];
    made(&host, &files(&mounts), &named);
    assert_eq!(says(&host, "cat /one /three"), said);
    // What lies below counts, and so does what a command may be told.
    let other = mounts.replace("who=me", "who=you");
    for (more, flags, cached) in [
        ([("Dockerfile", mounts.as_str()), ("a", "other"), ("sub/b", "b")], &[][..], 1),
        (files(&mounts), &["--build-arg", "what=y"], 3),
        (files(&other), &[], 2),
    ] {
        forget();
        let told = made(&host, &more, &[&named, flags].concat());
        assert_eq!(told.matches("CACHED").count(), cached, "{told}");
    }
    forget();
    let told = made(&host, &files(&mounts), &["--no-cache", "--cache-from", "made"]);
    assert!(!told.contains("CACHED"), "{told}");
    host.assert_tidy();
}

/// What an image says of steps that it does not have leads to nothing, and what it has leads no further than its build.
#[test]
fn an_image_that_lies_is_no_cache() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nRUN echo honest > /said\nRUN test ! -e /evil\n";
    let files = [("Dockerfile", text)];
    // It has done something else under the same words.
    host.ok(["run", "--name", "other", "--network", "none", "busybox", "sh", "-c", "echo evil > /said; touch /evil"]);
    host.ok(["commit", "other", "liar"]);
    host.ok(["rm", "other"]);
    let tar = host.dir().join("liar.tar");
    let dir = host.dir().join("liar");
    fs::create_dir(&dir).expect("make a directory");
    let (tar, dir_name) = (tar.to_str().expect("UTF-8"), dir.to_str().expect("UTF-8"));
    host.ok(["save", "-o", tar, "liar"]);
    crate::fixture::tool("tar", ["-C", dir_name, "-xf", tar]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("manifest.json")).expect("read")).expect("JSON");
    let config = dir.join(manifest[0]["Config"].as_str().expect("a name"));
    let honest: serde_json::Value = serde_json::from_slice(&fs::read(&config).expect("read")).expect("JSON");
    let lie = |history: serde_json::Value, steps: serde_json::Value| {
        let mut lying = honest.clone();
        let list = lying["history"].as_array_mut().expect("a list");
        list.pop();
        list.extend(history.as_array().expect("a list").iter().cloned());
        lying["dhow.steps"] = steps;
        let bytes = serde_json::to_vec(&lying).expect("encode");
        fs::write(dir.join("lie.json"), bytes).expect("write");
        let mut manifest = manifest.clone();
        manifest[0]["Config"] = "lie.json".into();
        manifest[0]["RepoTags"] = serde_json::json!(["liar:latest"]);
        fs::write(dir.join("manifest.json"), manifest.to_string()).expect("write");
        let _ = fs::remove_file(dir.join("index.json"));
        let _ = fs::remove_file(dir.join("oci-layout"));
        crate::fixture::tool("tar", ["-C", dir_name, "-cf", tar, "."]);
        host.ok(["load", "-q", "-i", tar]);
    };
    let said = serde_json::json!({"created_by": "RUN /bin/sh -c echo honest > /said"});
    let far = serde_json::json!([{"key": "x", "below": 99, "layer": true, "clock": 1}]);
    for (history, steps) in [
        (serde_json::json!([said, said, said, {"created_by": "x"}]), serde_json::json!("no list")),
        (serde_json::json!([]), far),
    ] {
        lie(history.clone(), steps);
        host.ok(["builder", "prune", "--all", "--force"]);
        let output = build(&host, &host.dir().join("none"), &[]);
        assert!(!output.status.success(), "{output}");
        let dir = folder(&host, "context", &files);
        let output = build(&host, &dir, &["-t", "made", "--cache-from", "liar"]);
        // It is believed where it was named and has such a layer, as a base would be.
        let believed = !history.as_array().expect("a list").is_empty();
        assert_eq!(output.status.success(), !believed, "{output}");
        assert_eq!(output.stderr().contains("CACHED"), believed, "{output}");
        let told = made(&host, &files, &[]);
        assert_eq!(told.contains("CACHED"), !believed, "{told}");
        assert_eq!(says(&host, "cat /said"), "honest");
    }
    host.assert_tidy();
}

#[test]
fn the_cache_is_counted_and_pruned() {
    let Some(host) = Host::with_busybox() else { return };
    made(&host, &[("Dockerfile", "FROM busybox\nRUN head -c 100000 /dev/zero > /big\n")], &[]);
    made(&host, &[("Dockerfile", "FROM busybox\nRUN head -c 200000 /dev/zero > /other\n")], &[]);
    // The first image has lost its name; its layer is held by it, by the cache, or by both.
    host.ok(["image", "prune", "--force"]);
    let line =
        host.ok(["system", "df"]).lines().find(|line| line.starts_with("Build Cache")).expect("a line").to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[2..], ["2", "0", "100kB", "100kB"], "{line}");
    // What of it goes can be said, and what stays.
    let prune = |flags: &[&str]| host.ok([&["builder", "prune", "--force", "--all"], flags].concat());
    for flags in [
        ["--filter", "inuse=true"],
        ["--filter", "parent=some"],
        ["--filter", "description=RUN"],
        ["--reserved-space", "100kb"],
        ["--keep-storage", "1m"],
        ["--max-used-space", "1m"],
        ["--min-free-space", "1"],
    ] {
        let told = prune(&flags);
        assert!(!told.contains("ID") && told.contains("Total reclaimed space: 0B"), "{flags:?}: {told}");
    }
    let refused = host.dhow(["builder", "prune", "-f", "--min-free-space", "much"]).run();
    assert!(refused.stderr().contains("invalid argument \"much\" for --min-free-space"), "{refused}");
    let text = prune(&["--min-free-space", "1000p", "--filter", "shared=false"]);
    assert!(text.contains("Total reclaimed space: 100kB"), "{text}");
    let told = made(&host, &[("Dockerfile", "FROM busybox\nRUN head -c 200000 /dev/zero > /other\n")], &[]);
    assert!(told.contains("CACHED"), "what an image has is known: {told}");
    host.ok(["builder", "prune", "--all", "--force"]);
    let told = made(&host, &[("Dockerfile", "FROM busybox\nRUN head -c 200000 /dev/zero > /other\n")], &[]);
    assert!(!told.contains("CACHED"), "{told}");
    host.ok(["rmi", "--force", "made"]);
    host.ok(["builder", "prune", "--all", "--force"]);
    host.ok(["image", "prune", "--force"]);
    assert_eq!(fs::read_dir(host.root().join("layers")).expect("list").count(), 1, "busybox's alone");
}

#[test]
fn the_cache_is_kept_at_its_size() {
    let Some(host) = Host::with_busybox() else { return };
    let config = host.file("daemon.json", r#"{"builder": {"gc": {"defaultKeepStorage": "150000"}}}"#);
    let config = config.to_str().expect("UTF-8");
    let of = |name: &str| {
        let text = format!("FROM busybox\nRUN head -c 100000 /dev/zero > /{name}\n");
        let dir = folder(&host, "context", &[("Dockerfile", &text)]);
        let line = ["--config", config, "build", "--network", "none", "-t", "made", dir.to_str().expect("UTF-8")];
        let output = host.local(line).run();
        output.ok();
        host.ok(["rmi", "made"]);
        output.stderr().contains("CACHED")
    };
    // All were of use just now, which is no time to let them go.
    for name in ["newest", "oldest", "middle"] {
        assert!(!of(name), "{name}");
    }
    let age = |name: &str, hours: u64| {
        let records = host.root().join("build/records");
        for entry in fs::read_dir(records).expect("list").flatten() {
            if fs::read_to_string(entry.path()).expect("read a record").contains(&format!("> /{name}")) {
                let file = fs::File::options().append(true).open(entry.path()).expect("open a record");
                let then = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
                file.set_modified(then).expect("set a time");
            }
        }
    };
    // A cache of commands is one of them.
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c head -c 100000 /dev/zero > /c/f\n";
    made(&host, &[("Dockerfile", text)], &[]);
    let mounts = host.root().join("build/mounts");
    for entry in fs::read_dir(&mounts).expect("list").flatten().filter(|entry| entry.path().is_file()) {
        let then = std::time::SystemTime::now() - Duration::from_secs(4 * 3600);
        let file = fs::File::options().append(true).open(entry.path()).expect("open");
        file.set_modified(then).expect("set a time");
    }
    for (name, hours) in [("newest", 1), ("oldest", 3), ("middle", 2)] {
        age(name, hours);
    }
    assert!(of("middle"), "what is of use is the newest again");
    assert!(of("newest") && of("middle"));
    assert!(!of("oldest"), "the longest unused is gone");
    assert_eq!(fs::read_dir(&mounts).expect("list").count(), 0);
    let line = host.ok(["system", "df"]);
    assert!(line.contains("Build Cache"), "{line}");
}

#[test]
fn who_waits_for_a_cache_may_be_called_off() {
    let Some(host) = Host::with_busybox() else { return };
    let start = |name: &str, line: &str| {
        let text =
            format!("FROM busybox\nRUN echo {name}\nRUN --mount=type=cache,target=/c,id=one,sharing=locked {line}\n");
        let dir = folder(&host, name, &[("Dockerfile", &text)]);
        host.dhow(["build", "--network", "none", dir.to_str().expect("UTF-8")]).spawn()
    };
    let known = |name: &str| {
        let found = crate::fixture::Command::new(
            "grep",
            ["-rl", name, host.root().join("build/records").to_str().expect("UTF-8")],
        )
        .run();
        !found.stdout().is_empty()
    };
    let first = start("holder", "echo held; sleep 1000");
    eventually("the first has the cache", || known("holder") && !host.ok(["ps", "-q"]).is_empty());
    let second = start("waiter", "true");
    eventually("the second is about to wait", || known("waiter"));
    second.signal(Signal::SIGINT);
    assert_eq!(second.wait().code(), Some(130));
    assert!(!host.ok(["ps", "-q"]).is_empty(), "the first goes on");
    first.signal(Signal::SIGINT);
    assert_eq!(first.wait().code(), Some(130));
    eventually("nothing of it is left", || host.ok(["ps", "-aq"]).is_empty());
    // A daemon clears away behind the back of who has gone.
    host.assert_tidy();
}

/// A cache of commands goes as BuildKit's does: with or without `--all`, by its type, and not while a build has it.
#[test]
fn caches_of_commands_are_pruned() {
    let Some(host) = Host::with_busybox() else { return };
    let text = |line: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c,id=one {line}\nRUN --mount=type=cache,target=/c,id=two,sharing=locked echo > /c/x\n"
        )
    };
    made(&host, &[("Dockerfile", text("head -c 100000 /dev/zero > /c/big").as_str())], &[]);
    let listed = || host.ok(["system", "df", "-v"]);
    assert_eq!(listed().matches("exec.cachemount").count(), 2, "{}", listed());
    let prune = |flags: &[&str]| host.ok([&["builder", "prune", "--force"], flags].concat());
    for (flags, reclaimed) in [
        (&["--filter", "type=regular"][..], "0B"),
        (&["--filter", "type=exec.cachemount", "--filter", "until=1h"], "0B"),
        (&["--filter", "type=exec.cachemount", "--filter", "id=nothing"], "0B"),
    ] {
        let told = prune(flags);
        assert!(told.contains(&format!("Total reclaimed space: {reclaimed}")), "{flags:?}: {told}");
        assert_eq!(listed().matches("exec.cachemount").count(), 2);
    }
    // One that is being used stays, with what is in it.
    let dir = folder(
        &host,
        "user",
        &[(
            "Dockerfile",
            &text("echo here > /c/mine; until [ -e /c/go ]; do sleep 0.1; done; cat /c/mine /c/big | wc -c"),
        )],
    );
    let running = host.dhow(["build", "--network", "none", dir.to_str().expect("UTF-8")]).spawn();
    let mounts = host.root().join("build/mounts");
    let mine = || {
        let dirs = fs::read_dir(&mounts).expect("list").flatten();
        dirs.map(|entry| entry.path()).find(|path| path.join("mine").exists())
    };
    eventually("the command has its cache", || mine().is_some());
    prune(&["--all"]);
    assert_eq!(listed().matches("exec.cachemount").count(), 1, "the other one is gone");
    fs::write(mine().expect("it is there").join("go"), "").expect("write");
    let output = running.wait();
    output.ok();
    let told = prune(&["--filter", "type=exec.cachemount"]);
    assert!(told.contains("Total reclaimed space: 100kB"), "{told}");
    assert_eq!(listed().matches("exec.cachemount").count(), 0);
    assert_eq!(fs::read_dir(&mounts).expect("list").count(), 0, "nothing of it is left");
    let refused = host.dhow(["builder", "prune", "-f", "--filter", "until=1h", "--filter", "unused-for=1h"]).run();
    assert!(refused.stderr().contains("conflicting filters"), "{refused}");
    host.assert_tidy();
}

#[test]
fn what_did_not_change_is_not_made_again() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /one\nCOPY a /a\nRUN cat /a > /two\nCOPY b /b\n";
    let files = [("Dockerfile", text), ("a", "a"), ("b", "b")];
    let first = made(&host, &files, &[]);
    assert!(!first.contains("CACHED"), "{first}");
    let (one, image) = (says(&host, "cat /one"), id(&host, "made"));
    let second = made(&host, &files, &[]);
    assert_eq!(second.matches("CACHED").count(), 4, "{second}");
    assert_eq!(id(&host, "made"), image);
    // Times and names of the folder say nothing.
    let later = fs::File::options().append(true).open(host.dir().join("context/a")).expect("open");
    later.set_modified(UNIX_EPOCH + Duration::from_secs(1_900_000_000)).expect("set a time");
    fs::rename(host.dir().join("context"), host.dir().join("elsewhere")).expect("rename");
    let third = build(&host, &host.dir().join("elsewhere"), &["-t", "made"]);
    assert_eq!(third.stderr().matches("CACHED").count(), 4, "{third}");
    assert_eq!(id(&host, "made"), image);
    // One file changes what is made of it, and nothing before.
    let fourth = made(&host, &[("Dockerfile", text), ("a", "a"), ("b", "bb")], &[]);
    assert_eq!(fourth.matches("CACHED").count(), 3, "{fourth}");
    assert_eq!(says(&host, "cat /one /two /b"), format!("{one}\nabb"));
    let mode = PermissionsExt::from_mode(0o755);
    fs::set_permissions(host.dir().join("context/a"), mode).expect("chmod");
    let fifth = made(&host, &[("Dockerfile", text), ("b", "bb")], &[]);
    assert_eq!(fifth.matches("CACHED").count(), 1, "a mode counts: {fifth}");
    let sixth = made(&host, &files, &["--no-cache"]);
    assert!(!sixth.contains("CACHED"), "{sixth}");
    assert_ne!(says(&host, "cat /one"), one);
}

#[test]
fn the_same_is_made_of_the_same() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nWORKDIR /app/deep\nCOPY . .\nCOPY <<doc /doc\ntext\ndoc\nCOPY --from=busybox /bin/busybox /new/\nENV a=b\n";
    let ids: Vec<String> = [(0, 1_600_000_000), (1000, 1_700_000_000)]
        .into_iter()
        .map(|(uid, seconds)| {
            let name = format!("context{uid}");
            let dir = folder(&host, &name, &[("Dockerfile", text), ("z", "z"), ("a/b", "b"), ("a/c", "c")]);
            for file in ["z", "a/b", "a/c", "a", "Dockerfile", ""] {
                let path = dir.join(file);
                std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("chown");
                let open = fs::File::open(&path).expect("open");
                open.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).expect("set a time");
            }
            let epoch = ["--no-cache", "-t", "made", "--build-arg", "SOURCE_DATE_EPOCH=1500000000"];
            build(&host, &dir, &epoch).ok();
            id(&host, "made")
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert!(host.inspect("made", "/Created").as_str().is_some_and(|it| it.starts_with("2017-07-14T02:40:00")));
    // Without a date, the files' own times are kept, and nothing else of the day or the place is in it.
    let ids: Vec<String> = ["context0", "elsewhere"]
        .into_iter()
        .map(|name| {
            if name == "elsewhere" {
                crate::fixture::tool(
                    "cp",
                    ["-a", host.dir().join("context0").to_str().unwrap(), host.dir().join(name).to_str().unwrap()],
                );
                std::thread::sleep(Duration::from_millis(1100));
            }
            build(&host, &host.dir().join(name), &["--no-cache", "-t", "made"]).ok();
            id(&host, "made")
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(says(&host, "stat -c %Y /app/deep/z"), "1600000000");
}

#[test]
fn layers_of_a_cache_are_fetched_when_they_are_used() {
    let Some((host, registry)) = Host::with_busybox().zip(crate::fixture::Registry::shared()) else { return };
    let front = crate::fixture::Front::start(&registry, |_, _| None);
    let name = front.name(&crate::fixture::name().replace("::", "-"));
    let text =
        |last: &str| format!("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /one\nRUN echo {last} > /two\n");
    let files = |text| [("Dockerfile", text)];
    let (first, second) = (text("first"), text("second"));
    made(&host, &files(first.as_str()), &["--cache-to", "type=inline", "-t", &name]);
    let one = says(&host, "cat /one");
    host.ok(["push", "-q", &name]);
    let forget = || {
        host.ok(["rmi", "--force", &name, "made"]);
        host.ok(["builder", "prune", "--all", "--force"]);
        host.ok(["image", "prune", "--force"]);
    };
    let cache = format!("type=registry,ref={name}");
    for (text, cached, blobs) in [(second.as_str(), 1, 2), (first.as_str(), 2, 3)] {
        forget();
        let before = front.seen().len();
        let told = made(&host, &files(text), &["--cache-from", &cache]);
        assert_eq!((told.matches("CACHED").count(), says(&host, "cat /one")), (cached, one.clone()), "{told}");
        let seen = front.seen();
        let fetched =
            seen[before..].iter().filter(|asked| asked.line.starts_with("GET ") && asked.line.contains("/blobs/"));
        assert_eq!(fetched.count(), blobs, "the config, and the layers of the steps");
        assert_eq!(host.ok(["images", "-q", &name]), "", "it is only looked at");
        host.ok(["tag", "made", &name]);
    }
    host.ok(["rmi", "--force", &name]);
}

/// On whatever it lies there, and here: by its keys, and by the text that the history has; of a registry without what lies below it.
#[test]
fn a_linked_layer_of_a_cache_fits_every_base() {
    let Some((host, registry)) = Host::with_busybox().zip(crate::fixture::Registry::shared()) else { return };
    let front = crate::fixture::Front::start(&registry, |_, _| None);
    let name = front.name(&crate::fixture::name().replace("::", "-"));
    let base = folder(&host, "base", &[("Dockerfile", "FROM busybox\nLABEL a=b\n")]);
    build(&host, &base, &["-t", "old", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"]).ok();
    let at = |first: u64, time: u64, flags: &[&str]| {
        let (text, first_name) =
            (format!("FROM old\nCOPY {first} /\nCOPY --link file /deep/down/\n"), first.to_string());
        let files = [("Dockerfile", text.as_str()), (first_name.as_str(), "1"), ("file", "x")];
        let dir = folder(&host, "context", &files);
        for (name, time) in [(first_name.as_str(), first), ("file", time)] {
            let file = fs::File::options().write(true).open(dir.join(name)).expect("open");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(time)).expect("set a time");
        }
        let before = front.seen().len();
        let output = build(&host, &dir, &[&["-t", "made"], flags].concat());
        output.ok();
        let blobs = |asked: &&crate::fixture::Asked| asked.line.starts_with("GET ") && asked.line.contains("/blobs/");
        let fetched = front.seen()[before..].iter().filter(blobs).count();
        let layers = host.inspect("made", "/RootFS/Layers").as_array().expect("layers").clone();
        let created = host.inspect("made", "/Created").as_str().expect("a time").to_owned();
        (layers.last().expect("one").clone(), output.stderr().matches("CACHED").count(), fetched, created)
    };
    let forget = |images: &[&str]| {
        images.iter().for_each(|image| drop(host.ok(["rmi", "--force", image])));
        host.ok(["builder", "prune", "--all", "--force"]);
        host.ok(["image", "prune", "--force"]);
    };
    for (flags, image) in [(&[][..], "plain"), (&["--cache-to", "type=inline"], "keyed")] {
        let (layer, cached, ..) = at(1_800_000_000, 1_500_000_000, flags);
        assert_eq!(cached, 0);
        host.ok(["tag", "made", image]);
        host.ok(["tag", "made", &name]);
        host.ok(["push", "-q", &name]);
        forget(&["made", &name]);
        // Older than what lies below it there, so that this is no part of what is found.
        let later = at(1_550_000_000, 1_600_000_000, &["--cache-from", image]);
        assert_eq!(later, (layer.clone(), 1, 0, "2019-02-12T19:33:20Z".to_owned()), "{image}");
        assert_eq!(says(&host, "cat /deep/down/file; ls /1550000000"), "x/1550000000");
        assert_ne!(at(1_550_000_000, 1_600_000_000, &[]).0, layer, "who does not name it does not get it");
        forget(&["made", image]);
        let cache = format!("type=registry,ref={name}");
        let (same, cached, fetched, _) = at(1_550_000_000, 1_600_000_000, &["--cache-from", &cache]);
        assert_eq!(
            (same, cached, fetched),
            (layer, 1, 3),
            "{image}: the config, the layer, and the copy that is no other"
        );
        forget(&["made"]);
    }
    host.assert_tidy();
}

/// Its files are there once.
#[test]
fn a_linked_layer_is_counted_once() {
    let Some(host) = Host::with_busybox() else { return };
    let big = "x".repeat(100_000);
    let on = |first: &str| {
        let text = format!("FROM busybox\nRUN touch /{first}\nCOPY --link big /deep/\n");
        made(&host, &[("Dockerfile", text.as_str()), ("big", big.as_str())], &["-t", first]);
    };
    let cache = || {
        let listed = host.ok(["system", "df"]);
        let line = listed.lines().find(|line| line.starts_with("Build Cache")).expect("a line");
        line.split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    on("one");
    on("two");
    host.ok(["rmi", "made"]);
    assert_eq!(cache(), ["3", "0", "0B", "0B"], "images have it too");
    host.ok(["rmi", "one"]);
    assert_eq!(cache()[2..], ["0B", "0B"], "one image has it");
    host.ok(["rmi", "two"]);
    assert_eq!(cache()[2..], ["100kB", "100kB"]);
    let text = host.ok(["builder", "prune", "--all", "--force"]);
    assert!(text.contains("Total reclaimed space: 100kB"), "{text}");
}

/// Of the clock nothing is in it, or the same would be another image tomorrow.
#[test]
fn an_image_is_as_new_as_its_newest_file() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nCOPY file /\nLABEL a=b\n"), ("file", "x")]);
    let file = fs::File::options().write(true).open(dir.join("file")).expect("open");
    // Also of one that is to come: 2100.
    file.set_modified(UNIX_EPOCH + Duration::from_secs(4_102_444_800)).expect("set a time");
    let created = |flags: &[&str]| {
        build(&host, &dir, &[&["-t", "made"], flags].concat()).ok();
        host.inspect("made", "/Created").as_str().expect("a time").to_owned()
    };
    assert_eq!(created(&[]), "2100-01-01T00:00:00Z");
    assert!(host.ok(["images", "made"]).contains("made") && host.ok(["history", "made"]).contains("COPY file"));
    assert_eq!(created(&["--build-arg", "SOURCE_DATE_EPOCH=1000000000"]), "2001-09-09T01:46:40Z");
}
