mod verbs;

use super::*;
use crate::engine::layers::{Staged, commit, dir_id, exists};
use serde_json::json;
use std::path::Path;

/// A store in a directory of its own, gone with the value.
pub struct TempStore(pub Store, PathBuf);

impl TempStore {
    pub fn new() -> TempStore {
        let dir = std::env::temp_dir().join(format!("dhow-images-{}", store::random_name().unwrap()));
        TempStore(Store::open(&dir.join("root"), &dir.join("run")).unwrap(), dir)
    }

    /// Every file and directory of the store that is not a lock, below its root.
    /// But for the leases, whose files stay.
    pub fn files(&self) -> Vec<String> {
        fn walk(dir: &Path, root: &Path, files: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                files.push(path.strip_prefix(root).unwrap().display().to_string());
                if path.is_dir() {
                    walk(&path, root, files);
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.0.root, &self.0.root, &mut files);
        files.retain(|path| !path.starts_with("leases/"));
        files.sort();
        files
    }
}

impl Drop for TempStore {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

/// Puts layers with one file each into the store, as if they had been unpacked; `words` are their contents.
pub fn layers_of(store: &Store, lease: &Lease, words: &[&str]) -> Vec<Digest> {
    let diff_ids: Vec<Digest> = words.iter().map(|word| Digest::of(word.as_bytes())).collect();
    let stage = |(word, chain): (&&str, Digest)| {
        if exists(store, lease, &dir_id(&chain)).unwrap() {
            return None;
        }
        let dir = lease.tmp().unwrap().join(word);
        std::fs::create_dir_all(dir.join("fs")).unwrap();
        std::fs::write(dir.join("fs/file"), word).unwrap();
        Some(Staged { dir, size: word.len() as u64, opaque: *word == "opaque" })
    };
    let staged: Vec<_> = words.iter().zip(chain_ids(&diff_ids)).map(stage).collect();
    commit(store, lease, &diff_ids, &staged).unwrap();
    diff_ids
}

/// An image of such layers that came by a manifest.
pub fn image(store: &Store, words: &[&str], labels: serde_json::Value) -> Image {
    let lease = store.lease().unwrap();
    let diff_ids = layers_of(store, &lease, words);
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z",
        "config": {"Cmd": ["sh"], "Labels": labels}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|id| json!({"created": "2023-11-14T22:13:20Z", "created_by": format!("ADD {id}")})).collect::<Vec<_>>(),
    });
    let config = config.to_string();
    let descriptor = |bytes: &[u8]| serde_json::to_value(Descriptor::of("x", bytes)).unwrap();
    let manifest = json!({"schemaVersion": 2, "config": descriptor(config.as_bytes()),
        "layers": words.iter().map(|word| descriptor(word.as_bytes())).collect::<Vec<_>>()});
    let manifest = manifest.to_string();
    register(store, &lease, Some(("m", manifest.as_bytes())), config.as_bytes(), None).unwrap()
}

pub fn named(store: &Store, image: &Image, name: &str) {
    set_reference(store, &Reference::parse(name).unwrap().or_latest(), image).unwrap();
}

fn missing(store: &Store, name: &str) -> (u16, String) {
    let error = find(store, name).unwrap_err();
    (error.downcast_ref::<Refusal>().map_or(500, Refusal::status), error.to_string())
}

#[test]
fn layers_are_named_for_their_chain() {
    let one = Digest::parse("sha256:36f8a824fd8e66c071b6e483748ba9adae3914a2d2f66d0f1cca7de607556761").unwrap();
    // As `xxd -r -p | base32 | tr A-Z a-z | cut -c-26` has it.
    assert_eq!(dir_id(&one), "g34kqjh5rztma4nw4sbxjc5jvw");
}

#[test]
fn what_is_committed_is_shared() {
    let temp = TempStore::new();
    let store = &temp.0;
    let one = image(store, &["base", "one"], json!(null));
    let two = image(store, &["base", "two"], json!(null));
    assert_eq!(one.layers[0].id, two.layers[0].id);
    assert_eq!(store::read_dir(&store.layers()).unwrap().len(), 3);
    assert_eq!(store::read_dir(&store.root.join("tmp")).unwrap(), Vec::<String>::new());
    assert_eq!(one.layer_ids(), [one.layers[1].id.clone(), one.layers[0].id.clone()]);
    assert_eq!(one.size, 7);
    let top = std::fs::read_to_string(store.layer(&one.layer_ids()[0]).join("fs/file")).unwrap();
    assert_eq!(top, "one");
    // The same image again is the same record, and its blobs are there.
    assert_eq!(image(store, &["base", "one"], json!(null)).id, one.id);
    assert_eq!(all(store).unwrap().len(), 2);
    for hex in [one.hex(), one.manifests[0].digest.hex()] {
        Digest::parse(&format!("sha256:{hex}")).unwrap().verify(&std::fs::read(store.blob(hex)).unwrap()).unwrap();
    }
}

#[test]
fn nothing_below_an_opaque_layer_is_mounted() {
    let temp = TempStore::new();
    let image = image(&temp.0, &["base", "opaque", "top"], json!(null));
    assert_eq!(image.layer_ids(), [image.layers[2].id.clone(), image.layers[1].id.clone()]);
}

#[test]
fn the_slower_of_two_drops_its_own() {
    let temp = TempStore::new();
    let store = &temp.0;
    let lease = store.lease().unwrap();
    let diff_ids = [Digest::of(b"x")];
    for word in ["first", "second"] {
        let dir = lease.tmp().unwrap().join(word);
        std::fs::create_dir_all(dir.join("fs")).unwrap();
        std::fs::write(dir.join("fs/file"), word).unwrap();
        commit(store, &lease, &diff_ids, &[Some(Staged { dir, size: 1, opaque: false })]).unwrap();
    }
    assert_eq!(std::fs::read_to_string(store.layer(&dir_id(&diff_ids[0])).join("fs/file")).unwrap(), "first");
}

#[test]
fn an_image_needs_its_layers() {
    let temp = TempStore::new();
    let store = &temp.0;
    let lease = store.lease().unwrap();
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [Digest::of(b"nowhere")]}}).to_string();
    assert!(register(store, &lease, None, config.as_bytes(), None).is_err());
    assert!(all(store).unwrap().is_empty());
}

#[test]
fn found_by_name_digest_and_id() {
    let temp = TempStore::new();
    let store = &temp.0;
    let one = image(store, &["base", "one"], json!(null));
    let two = image(store, &["base", "two"], json!(null));
    named(store, &one, "box");
    named(store, &one, "localhost:5000/box/in:1");
    named(store, &one, "localhost:5000/box:1");
    let digest = one.manifests[0].digest.clone();
    named(store, &one, &format!("box@{digest}"));
    let by_digest = format!("box@{digest}");
    let tag_and_digest = format!("box:other@{digest}");
    for name in [
        "box",
        "box:latest",
        "docker.io/library/box",
        "localhost:5000/box/in:1",
        "localhost:5000/box:1",
        &by_digest,
        &tag_and_digest,
        &one.id.to_string(),
        one.hex(),
        &one.hex()[..12],
        &format!("sha256:{}", &one.hex()[..20]),
    ] {
        assert_eq!(find(store, name).unwrap().id, one.id, "{name}");
    }
    // The name wins over the id that it is the start of.
    named(store, &two, &one.hex()[..4]);
    assert_eq!(find(store, &one.hex()[..4]).unwrap().id, two.id);

    let none = "0".repeat(64);
    for (name, status, words) in [
        ("nope", 404, "No such image: nope:latest".to_owned()),
        ("nope:1", 404, "No such image: nope:1".to_owned()),
        ("box:1", 404, "No such image: box:1".to_owned()),
        ("box/in", 404, "No such image: box/in:latest".to_owned()),
        (&format!("nope@{digest}"), 404, format!("No such image: nope@{digest}")),
        (&none, 404, format!("No such image: sha256:{none}")),
        ("localhost:5000/x", 404, "No such image: localhost:5000/x:latest".to_owned()),
        ("Upper", 400, "invalid reference format: repository name (library/Upper) must be lowercase".to_owned()),
        ("..", 400, "invalid reference format".to_owned()),
        ("a/../../b", 400, "invalid reference format".to_owned()),
    ] {
        let (found, said) = missing(store, name);
        assert_eq!(found, status, "{name}: {said}");
        assert!(said.starts_with(&words) || name == "Upper", "{name}: {said}");
    }
}

#[test]
fn references_move_and_go() {
    let temp = TempStore::new();
    let store = &temp.0;
    let one = image(store, &["one"], json!(null));
    let two = image(store, &["two"], json!(null));
    let before = temp.files();
    named(store, &one, "a/b/c:1");
    named(store, &one, "a/b:1");
    named(store, &two, "a/b:1");
    let names = references::all(store).unwrap();
    let shown: Vec<_> = names.iter().map(|(reference, id)| (reference.familiar(), id.clone())).collect();
    assert_eq!(shown, [("a/b:1".to_owned(), two.id.clone()), ("a/b/c:1".to_owned(), one.id.clone())]);
    for (reference, _) in &names {
        assert!(references::remove(store, reference).unwrap());
        assert!(!references::remove(store, reference).unwrap());
    }
    assert_eq!(temp.files(), before);
}

#[test]
fn a_platform_is_checked() {
    let temp = TempStore::new();
    let image = image(&temp.0, &["one"], json!(null));
    let check = |text: &str| check_platform(&image, "x", Some(&Platform::parse(text).unwrap()));
    check("linux/amd64").unwrap();
    assert_eq!(foreign(&image).is_some(), std::env::consts::ARCH != "x86_64");
    check_platform(&image, "x", None).unwrap();
    assert_eq!(
        check("linux/arm64").unwrap_err().to_string(),
        "image with reference x was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)"
    );
}

/// An image of one layer with such a config, and a name; as dockerd's answers were taken from.
pub fn golden(store: &Store, config: serde_json::Value, name: &str) {
    let lease = store.lease().unwrap();
    let diff_ids = layers_of(store, &lease, &["rootfs"]);
    let created = "2023-11-14T22:13:20Z";
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": created, "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [{"created": created, "created_by": "ADD rootfs /"}],
    });
    let image = register(store, &lease, None, config.to_string().as_bytes(), None).unwrap();
    named(store, &image, name);
}

/// One more name of an image, by its id.
pub fn named_by(store: &Store, id: &str, name: &str) {
    named(store, &find(store, id).unwrap(), name);
}
