//! `dhow build`: what is made anew though it was made before, and what others have made.

use super::builds::{build, folder, id, made, says};
use crate::fixture::Host;
use std::fs;

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
    let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_900_000_000);
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
