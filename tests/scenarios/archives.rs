//! Images as files: save and load, to and from what others write.

use crate::fixture::{Command, Host, Image, Layout, Packing, Registry, Tar, Terminal, digest, need, tool};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

fn small(text: &str) -> Vec<u8> {
    Tar::new().dir("d", 0o755).file("d/file", 0o644, text).end()
}

/// A layer with what is easily lost on the way.
fn odd() -> Vec<u8> {
    Tar::new()
        .owner(12, 34)
        .file("once", 0o4755, "first")
        .hardlink("twice", "once")
        .symlink("link", "once")
        .fifo("pipe", 0o600)
        .pax("SCHILY.xattr.user.colour", "red")
        .pax("mtime", "1700000000.123456789")
        .file("coloured", 0o640, "content")
        .file("once", 0o644, "an entry that comes again")
        .file(".wh.gone", 0o644, "")
        .end()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What is in a tar, by name.
fn members(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its content");
        if entry.header().entry_type().is_file() {
            found.insert(name, bytes);
        }
    }
    found
}

fn json_of(members: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&members[name]).expect("JSON")
}

/// A host with an image of three layers, packed in three ways, under two names.
fn with_image() -> Option<(Host, Image)> {
    let (host, registry) = (Host::new()?, Registry::shared()?);
    let image = Image::new(small("base")).layer(odd(), Packing::Zstd).layer(small("top"), Packing::Plain);
    let image = image.config(json!({ "Cmd": ["/x"], "Env": ["A=b"] }));
    registry.upload(&image, "archives/odd", "v1");
    let name = registry.name("archives/odd:v1");
    host.ok(["pull", "-q", &name]);
    host.ok(["tag", &name, "odd:one"]);
    host.ok(["tag", &name, "odd:two"]);
    host.ok(["rmi", &name]);
    Some((host, image))
}

fn id(host: &Host, name: &str) -> Value {
    host.inspect(name, "/Id")
}

#[test]
fn what_is_saved_is_byte_for_byte_what_came() {
    let Some((host, image)) = with_image() else { return };
    let output = host.run(["save", "odd"]);
    assert!(output.status.success() && output.err.is_empty(), "{output}");
    let found = members(&output.out);
    for (layer, _) in &image.layers {
        let name = digest(layer).replace(':', "/");
        assert_eq!(&found[&format!("blobs/{name}")], layer, "the tar of a layer");
    }
    for (name, bytes) in found.iter().filter(|(name, _)| name.starts_with("blobs/")) {
        assert_eq!(*name, format!("blobs/{}", digest(bytes).replace(':', "/")));
    }
    let config = &image.blobs()[3].bytes;
    let config_name = format!("blobs/{}", digest(config).replace(':', "/"));
    assert_eq!(&found[&config_name], config);

    let manifest = json_of(&found, "manifest.json");
    assert_eq!(manifest.as_array().map(Vec::len), Some(1), "{manifest}");
    assert_eq!(manifest[0]["RepoTags"], json!(["odd:one", "odd:two"]));
    assert_eq!(manifest[0]["Config"], json!(config_name));
    let index = json_of(&found, "index.json");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index}");
    let notes = &index["manifests"][0]["annotations"];
    assert_eq!(notes["io.containerd.image.name"], "docker.io/library/odd:one");
    assert_eq!(notes["org.opencontainers.image.ref.name"], "one");
    assert_eq!(json_of(&found, "oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
    let top = digest(&image.layers[2].0).replace("sha256:", "");
    assert_eq!(json_of(&found, "repositories"), json!({ "odd": { "one": top, "two": top } }));
    // One tag is one name, an id is none.
    let names = |of: &str| json_of(&members(&host.run(["save", of]).out), "manifest.json")[0]["RepoTags"].clone();
    assert_eq!(names("odd:two"), json!(["odd:two"]));
    assert_eq!(names(&digest(config)), Value::Null);
    assert_eq!(names(&digest(config)["sha256:".len()..][..12]), Value::Null);
    host.assert_tidy();
}

#[test]
fn what_is_saved_is_loaded_elsewhere_as_the_same_image() {
    let (Some((host, _)), Some(other)) = (with_image(), Host::new()) else { return };
    host.ok(["tag", "odd:one", "registry.example:5000/team/again:v2"]);
    let file = host.dir().join("saved.tar");
    host.ok(["save", "-o", text(&file), "odd", "registry.example:5000/team/again:v2"]);
    assert_eq!(
        fs::metadata(&file).map(|meta| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777).ok(),
        Some(0o600)
    );
    let told = other.ok(["load", "-i", text(&file)]);
    let expected = "Loaded image: odd:one\nLoaded image: odd:two\nLoaded image: registry.example:5000/team/again:v2";
    assert_eq!(told, expected);
    for name in ["odd:one", "odd:two", "registry.example:5000/team/again:v2"] {
        assert_eq!(id(&other, name), id(&host, "odd:one"));
    }
    let again = other.run(["save", "odd", "registry.example:5000/team/again:v2"]);
    assert!(again.out == fs::read(&file).expect("read"), "what was loaded is saved as it was");
    // By a pipe, into a store that has it.
    let saved = host.run(["image", "save", &id(&host, "odd:one").as_str().expect("an id")[7..]]).out;
    let told = other.dhow(["image", "load", "--quiet"]).input(saved).ok();
    assert_eq!(told, format!("Loaded image ID: {}", id(&host, "odd:one").as_str().expect("an id")));
    other.assert_tidy();
}

#[test]
fn skopeo_reads_what_is_saved() {
    let (Some(()), Some((host, image))) = (need("skopeo"), with_image()) else { return };
    let file = host.dir().join("saved.tar");
    host.ok(["save", "--output", text(&file), "odd:one"]);
    let diff_ids: Vec<String> = image.layers.iter().map(|(tar, _)| digest(tar)).collect();
    for from in ["docker-archive", "oci-archive"] {
        let from = format!("{from}:{}", file.display());
        let config = tool("skopeo", ["inspect", "--config", &from]);
        let config: Value = serde_json::from_str(&config).expect("JSON");
        assert_eq!(config["rootfs"]["diff_ids"], json!(diff_ids), "{from}");
        let to = format!("oci:{}:it", host.dir().join("copied").display());
        let args = ["--insecure-policy", "copy", "-q", &from, &to];
        Command::new("skopeo", args).env("HOME", "/nonexistent").ok();
        fs::remove_dir_all(host.dir().join("copied")).expect("remove");
    }
}

#[test]
fn what_skopeo_writes_is_loaded() {
    let (Some(()), Some(host)) = (need("skopeo"), Host::new()) else { return };
    let mut layout = Layout::new(host.dir().join("layout"));
    let image = Image::new(small("one")).layer(odd(), Packing::Gzip).layer(small("one"), Packing::Gzip);
    layout.add(&image, "it");
    let expected = digest(&image.blobs()[3].bytes);
    for kind in ["docker-archive", "oci-archive"] {
        let file = host.dir().join(kind);
        let to = format!("{kind}:{}:{}", file.display(), "made/by:skopeo");
        let args = ["--insecure-policy", "copy", "-q", &layout.reference("it"), &to];
        Command::new("skopeo", args).env("HOME", "/nonexistent").ok();
        let plain = fs::read(&file).expect("read");
        let packed = [("gzip", ["-c"]), ("zstd", ["-c"])]
            .map(|(program, args)| need(program).map(|()| Command::new(program, args).input(plain.clone()).run().out));
        for archive in packed.into_iter().flatten().chain([plain]) {
            assert_eq!(host.dhow(["load"]).input(archive).ok(), "Loaded image: made/by:skopeo");
            if kind == "oci-archive" {
                assert_eq!(id(&host, "made/by:skopeo"), json!(expected));
            }
            assert_eq!(host.inspect("made/by:skopeo", "/RootFS/Layers/1"), json!(digest(&odd())));
            host.assert_tidy();
            host.ok(["rmi", "made/by:skopeo"]);
        }
    }
}

/// The parts of an archive in Docker's old form: a directory a layer, and links where one comes twice.
fn old(image: &Image) -> Vec<(String, Vec<u8>)> {
    let blobs = image.blobs();
    let config = &blobs[image.layers.len()].bytes;
    let name = format!("{}.json", digest(config).replace("sha256:", ""));
    let layer = |at: usize| format!("{at}{at}/layer.tar");
    let layers: Vec<String> = (0..image.layers.len()).map(layer).collect();
    let manifest = json!([{ "Config": name, "RepoTags": ["old:style"], "Layers": layers }]);
    let mut parts = vec![(name, config.clone()), ("manifest.json".to_owned(), manifest.to_string().into_bytes())];
    for (at, (tar, _)) in image.layers.iter().enumerate() {
        parts.push((format!("{at}{at}/VERSION"), b"1.0".to_vec()));
        parts.push((format!("{at}{at}/json"), b"{}".to_vec()));
        parts.push((layer(at), tar.clone()));
    }
    parts
}

fn packed(parts: &[(String, Vec<u8>)]) -> Tar {
    parts.iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name, 0o644, bytes))
}

#[test]
fn dockers_old_form_is_loaded() {
    let Some(host) = Host::new() else { return };
    let image = Image::new(small("one")).layer(small("two"), Packing::Gzip).layer(small("one"), Packing::Gzip);
    let mut parts = old(&image);
    let twice = parts.iter().position(|(name, _)| name == "22/layer.tar").expect("a layer");
    parts.remove(twice);
    let archive = packed(&parts).symlink("22/layer.tar", "../00/layer.tar").end();
    assert_eq!(host.dhow(["load"]).input(archive).ok(), "Loaded image: old:style");
    assert_eq!(id(&host, "old:style"), json!(digest(&image.blobs()[3].bytes)));
    assert_eq!(host.inspect("old:style", "/RootFS/Layers/2"), json!(digest(&small("one"))));
    host.assert_tidy();
}

#[test]
fn a_name_moves_and_that_is_said() {
    let Some(host) = Host::new() else { return };
    let load = |text: &str| host.dhow(["load"]).input(packed(&old(&Image::new(small(text)))).end()).ok();
    load("one");
    let before = id(&host, "old:style").as_str().expect("an id").to_owned();
    let told = load("two");
    let said = format!("The image old:style already exists, renaming the old one with ID {before} to empty string");
    assert_eq!(told, format!("{said}\nLoaded image: old:style"));
    assert_ne!(id(&host, "old:style"), json!(before));
}

#[test]
fn several_images_share_their_layers() {
    let (Some(host), Some(other)) = (Host::new(), Host::new()) else { return };
    for (name, top) in [("first", "1"), ("second", "2")] {
        let image = Image::new(small("shared")).layer(small(top), Packing::Gzip);
        let parts: Vec<_> = old(&image)
            .into_iter()
            .map(|(path, bytes)| match path.as_str() {
                "manifest.json" => (
                    path,
                    String::from_utf8(bytes)
                        .expect("UTF-8")
                        .replace("old:style", name)
                        .replace(name, &format!("{name}:1"))
                        .into_bytes(),
                ),
                _ => (path, bytes),
            })
            .collect();
        assert_eq!(host.dhow(["load"]).input(packed(&parts).end()).ok(), format!("Loaded image: {name}:1"));
    }
    let saved = host.run(["save", "first", "second:1"]).out;
    let layers = members(&saved).keys().filter(|name| name.starts_with("blobs/")).count();
    assert_eq!(layers, 3 + 2 + 2, "three layers, two configs, two manifests");
    let told = other.dhow(["load"]).input(saved).ok();
    assert_eq!(told, "Loaded image: first:1\nLoaded image: second:1");
    let count = fs::read_dir(other.root().join("layers")).expect("list").count();
    assert_eq!(count, 3);
}

#[test]
fn hostile_archives_leave_nothing() {
    let Some(host) = Host::new() else { return };
    let image = Image::new(small("base")).layer(small("top"), Packing::Gzip);
    let good = old(&image);
    let without =
        |name: &str| -> Vec<(String, Vec<u8>)> { good.iter().filter(|(path, _)| path != name).cloned().collect() };
    let with = |name: &str, bytes: &[u8]| packed(&without(name)).file(name, 0o644, bytes);
    let manifest = |text: &str| with("manifest.json", text.as_bytes()).end();
    let config = good[0].0.clone();
    let mut cut = packed(&good).end();
    cut.truncate(cut.len() / 2);
    let layers = |layers: Value| manifest(&json!([{ "Config": config, "Layers": layers }]).to_string());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing at all", Vec::new(), "empty"),
        ("no tar", vec![b'x'; 4096], "checksum"),
        ("cut short", cut, "cut short"),
        ("no images", Tar::new().file("file", 0o644, "x").end(), "holds no images"),
        ("a name that climbs", packed(&good).file("../../etc/passwd", 0o644, "x").end(), "leads out"),
        (
            "a link out",
            packed(&without("11/layer.tar")).symlink("11/layer.tar", "../../../etc/passwd").end(),
            "leads out",
        ),
        ("an absolute link", packed(&without("11/layer.tar")).symlink("11/layer.tar", "/etc/passwd").end(), "no file"),
        ("a circle", packed(&without("11/layer.tar")).symlink("11/layer.tar", "layer.tar").end(), "leads nowhere"),
        ("a hard link out", packed(&without("11/layer.tar")).hardlink("11/layer.tar", "/etc/passwd").end(), "no file"),
        ("a device", packed(&good).char_device("device", 0o600, (1, 3)).end(), "neither a file"),
        ("a file twice", packed(&good).file("11/layer.tar", 0o644, "x").end(), "twice"),
        ("a layer missing", packed(&without("11/layer.tar")).end(), "no file"),
        ("a config missing", packed(&without(&config)).end(), "no file"),
        ("another layer", with("11/layer.tar", &small("another")).end(), "diffID"),
        ("a layer that is none", with("11/layer.tar", &[b'x'; 2048]).end(), "checksum"),
        ("a config that is no JSON", with(&config, b"x").end(), "config is not valid"),
        ("a manifest that is no JSON", manifest("x"), "manifest.json"),
        ("a manifest of null", manifest("null"), "cannot be null"),
        ("too few layers", layers(json!(["00/layer.tar"])), "length mismatch"),
        ("layers elsewhere", layers(json!(["00/layer.tar", "../../../etc/passwd"])), "leads out"),
        (
            "an invalid tag",
            manifest(&String::from_utf8(good[1].1.clone()).expect("UTF-8").replace("old:style", "A b")),
            "invalid tag",
        ),
    ];
    for (what, archive, words) in cases {
        let output = host.dhow(["load"]).input(archive).run();
        let said = output.stderr();
        assert_eq!((output.code(), said.lines().count()), (Some(1), 1), "{what}: {output}");
        assert!(said.contains(words) && output.out.is_empty(), "{what}: {output}");
        assert_eq!(host.ok(["images", "-q", "-a"]), "", "{what}");
        assert_eq!(fs::read_dir(host.root().join("layers")).expect("list").count(), 0, "{what}");
        host.assert_tidy();
    }
    // What is good still loads, however it is packed.
    for program in ["bzip2", "xz"] {
        let Some(()) = need(program) else { continue };
        let mut archive = Command::new(program, ["-c"]).input(packed(&good).end()).run().out;
        host.dhow(["load"]).input(archive.clone()).ok();
        let middle = archive.len() / 2;
        archive[middle] ^= 4;
        let said = host.dhow(["load"]).input(archive).run();
        assert_eq!(said.code(), Some(1), "{said}");
    }
    host.dhow(["load"]).input(packed(&good).end()).ok();
}

#[test]
fn a_layout_that_lies_is_refused() {
    let Some(host) = Host::new() else { return };
    let image = Image::new(small("base"));
    let mut layout = Layout::new(host.dir().join("layout"));
    layout.add(&image, "name:tag");
    let dir = host.dir().join("layout");
    let archive = || Command::new("tar", ["-C", text(&dir), "-cf", "-", "."]).run().out;
    for (at, blob) in image.blobs().into_iter().enumerate() {
        let path = dir.join("blobs/sha256").join(digest(&blob.bytes).replace("sha256:", ""));
        let mut bytes = blob.bytes.clone();
        // A letter that leaves JSON and tar what they are.
        let last = bytes.len() - 1;
        if at == 0 {
            bytes[last] ^= 1
        } else {
            bytes.push(b' ')
        }
        fs::write(&path, bytes).expect("damage");
        let said = host.dhow(["load"]).input(archive()).refused(1);
        assert!(said.contains("digest mismatch"), "{said}");
        assert_eq!(host.ok(["images", "-q", "-a"]), "");
        host.assert_tidy();
        fs::write(&path, &blob.bytes).expect("mend");
    }
    assert_eq!(host.dhow(["load"]).input(archive()).ok(), "Loaded image: name:tag");
}

#[test]
fn of_many_platforms_one_is_loaded() {
    let Some(host) = Host::new() else { return };
    let of = |architecture: &str| Image::new(small(architecture)).platform(architecture, None);
    let mut layout = Layout::new(host.dir().join("layout"));
    layout.add_index(&[of("s390x"), of("amd64"), of("arm64")], "multi:all");
    let archive = Command::new("tar", ["-C", text(&host.dir().join("layout")), "-cf", "-", "."]).run().out;
    let load = |platform: &str| host.dhow(["load", "--platform", platform]).input(archive.clone());
    load("linux/s390x").ok();
    assert_eq!(host.inspect("multi:all", "/Architecture"), "s390x");
    load("linux/arm64").ok();
    assert_eq!(host.inspect("multi:all", "/Architecture"), "arm64");
    let said = load("linux/riscv64").refused(1);
    assert!(said.contains("no image for platform linux/riscv64"), "{said}");
    let said = host.refused(1, ["save", "--platform", "linux/s390x", "multi:all"]);
    assert!(said.contains("does not match the specified platform"), "{said}");
    assert!(!host.run(["save", "--platform", "linux/arm64", "multi:all"]).out.is_empty());
}

#[test]
fn save_refuses_clearly() {
    let Some(host) = Host::new() else { return };
    let file = host.dir().join("file");
    let said = host.refused(1, ["save", "-o", text(&file), "no-such"]);
    assert!(said.contains("No such image: no-such"), "{said}");
    assert!(
        !file.exists()
            && fs::read_dir(host.dir())
                .expect("list")
                .flatten()
                .all(|e| !e.file_name().to_string_lossy().starts_with("file"))
    );
    let said = host.refused(1, ["save"]);
    assert!(said.contains("requires at least 1 argument"), "{said}");
    let said = host.refused(1, ["save", "-o", "/no/such/dir/file", "x"]);
    assert!(said.contains("/no/such/dir/file"), "{said}");
    let said = host.refused(1, ["load", "-i", "/no/such/file"]);
    assert!(said.contains("/no/such/file"), "{said}");
    let mut terminal = Terminal::start(host.dhow(["save", "x"]));
    terminal.expect("cowardly refusing to save to a terminal. Use the -o flag or redirect");
    assert!(!terminal.end().success());
    let mut terminal = Terminal::start(host.dhow(["load"]));
    terminal.expect("requested load from stdin, but stdin is empty");
    assert!(!terminal.end().success());
}

#[test]
fn a_damaged_layer_is_not_saved() {
    let Some((host, _)) = with_image() else { return };
    let layers = fs::read_dir(host.root().join("layers")).expect("list").flatten();
    let path = layers.map(|layer| layer.path().join("fs/coloured")).find(|path| path.exists()).expect("the layer");
    fs::write(&path, "CONTENT").expect("damage");
    let file = host.dir().join("saved.tar");
    let said = host.refused(1, ["save", "-o", text(&file), "odd"]);
    // A daemon's answer has begun by then, and only breaks off.
    let told = if host.has_daemon() { "unexpected end of file" } else { "is not what was unpacked" };
    assert!(said.contains(told), "{said}");
    assert!(!file.exists());
}
