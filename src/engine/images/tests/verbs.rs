//! Lists, removal, prune and import, on images that are put into the store without a tar.

use super::*;
use crate::engine::filters::Filters;
use crate::engine::locks;
use crate::engine::record::Record;

fn filters(text: &str) -> Filters {
    Filters::parse(Some(text)).unwrap()
}

/// A record of a container of the image.
fn container(store: &Store, id: char, image: &Image) -> String {
    let id = id.to_string().repeat(64);
    store::make_dirs(&store.container(&id), 0o700).unwrap();
    let record = Record { id: id.clone(), image: image.id.to_string(), layers: image.layer_ids(), ..Record::default() };
    record.save(store).unwrap();
    id
}

fn uncontain(store: &Store, id: &str) {
    std::fs::remove_dir_all(store.container(id)).unwrap();
}

/// Rows as `rmi` prints them, ids shortened.
fn rows(rows: Vec<crate::api::types::ImageDeleted>) -> Vec<String> {
    rows.into_iter()
        .map(|row| match row.deleted.strip_prefix("sha256:") {
            Some(hex) => format!("Deleted: {}", &hex[..12]),
            None => format!("Untagged: {}", row.untagged),
        })
        .collect()
}

fn deleted(id: &Digest) -> String {
    format!("Deleted: {}", id.short())
}

fn conflict(store: &Store, name: &str, force: bool) -> String {
    let error = remove(store, name, force, true).unwrap_err();
    assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(409), "{error:#}");
    error.to_string()
}

fn layers_in(store: &Store) -> usize {
    store::read_dir(&store.layers()).unwrap().len()
}

#[test]
fn the_last_name_takes_the_image_and_its_own_layers_along() {
    let temp = TempStore::new();
    let store = &temp.0;
    let empty = temp.files();
    let one = image(store, &["base", "one"], json!(null));
    let two = image(store, &["base", "two"], json!(null));
    let digest = one.manifests[0].digest.clone();
    named(store, &one, "box");
    named(store, &one, "box:1");
    named(store, &one, &format!("box@{digest}"));
    named(store, &two, "other/box");

    assert_eq!(rows(remove(store, "box:1", false, true).unwrap()), ["Untagged: box:1"]);
    // A name that is also the start of the id is a name.
    let start = &one.hex()[..6];
    named(store, &one, start);
    assert_eq!(rows(remove(store, start, false, true).unwrap()), [format!("Untagged: {start}:latest")]);
    assert_eq!(
        rows(remove(store, "box", false, true).unwrap()),
        [
            "Untagged: box:latest".to_owned(),
            format!("Untagged: box@{digest}"),
            deleted(&one.id),
            deleted(&one.layers[1].chain_id),
        ]
    );
    assert_eq!(layers_in(store), 2);
    assert_eq!(
        rows(remove(store, &two.hex()[..12], false, true).unwrap()),
        [
            "Untagged: other/box:latest".to_owned(),
            deleted(&two.id),
            deleted(&two.layers[1].chain_id),
            deleted(&two.layers[0].chain_id),
        ]
    );
    assert_eq!(temp.files(), empty);
    assert_eq!(missing(store, "box"), (404, "No such image: box:latest".to_owned()));
}

#[test]
fn what_containers_use_stays() {
    let temp = TempStore::new();
    let store = &temp.0;
    let one = image(store, &["base", "one"], json!(null));
    named(store, &one, "box");
    let id = container(store, 'a', &one);
    let (c, i) = ("a".repeat(12), one.id.short().to_owned());
    assert_eq!(
        conflict(store, "box", false),
        format!(
            "conflict: unable to remove repository reference \"box\" (must force) - container {c} is using its referenced image {i}"
        )
    );
    assert_eq!(
        conflict(store, &i, false),
        format!("conflict: unable to delete {i} (must be forced) - image is being used by stopped container {c}")
    );
    store::make_dirs(&store.live(&id), 0o700).unwrap();
    let running = locks::exclusive(&store.live(&id).join("lock"), locks::byte::INIT).unwrap();
    assert_eq!(
        conflict(store, &i, true),
        format!("conflict: unable to delete {i} (cannot be forced) - image is being used by running container {c}")
    );
    // The name may go by force; image and layers stay.
    assert_eq!(rows(remove(store, "box", true, true).unwrap()), ["Untagged: box:latest"]);
    drop(running);
    assert_eq!(layers_in(store), 2);
    // By force the image goes too, but not the layers under a container.
    assert_eq!(rows(remove(store, one.hex(), true, true).unwrap()), [deleted(&one.id)]);
    assert_eq!((all(store).unwrap().len(), layers_in(store)), (0, 2));
    uncontain(store, &id);
    prune(store, &filters("")).unwrap();
    assert_eq!(layers_in(store), 0);
}

#[test]
fn names_in_two_repositories_and_children() {
    let temp = TempStore::new();
    let store = &temp.0;
    let parent = image(store, &["base"], json!(null));
    let child = {
        let lease = store.lease().unwrap();
        let diff_ids = layers_of(store, &lease, &["base", "child"]);
        let config = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
        register(store, &lease, None, config.as_bytes(), Some(&parent.id)).unwrap()
    };
    named(store, &parent, "a");
    named(store, &parent, "b");
    let i = parent.id.short().to_owned();
    assert_eq!(
        conflict(store, parent.hex(), true),
        format!("conflict: unable to delete {i} (cannot be forced) - image has dependent child images")
    );
    named(store, &child, "c");
    named(store, &child, "d");
    assert_eq!(
        conflict(store, child.hex(), false),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            child.id.short()
        )
    );
    assert_eq!(rows(remove(store, "a", false, true).unwrap()), ["Untagged: a:latest"]);
    assert_eq!(rows(remove(store, "b", false, true).unwrap()), ["Untagged: b:latest"]);
    // Nobody wants the parent once the child has gone.
    assert_eq!(
        rows(remove(store, child.hex(), true, true).unwrap()),
        [
            "Untagged: c:latest".to_owned(),
            "Untagged: d:latest".to_owned(),
            deleted(&child.id),
            deleted(&child.layers[1].chain_id),
            deleted(&parent.id),
            deleted(&parent.layers[0].chain_id),
        ]
    );
}

#[test]
fn what_a_lease_names_stays() {
    let temp = TempStore::new();
    let store = &temp.0;
    let lease = store.lease().unwrap();
    let diff_ids = layers_of(store, &lease, &["base", "one"]);
    prune(store, &filters("")).unwrap();
    assert_eq!(layers_in(store), 2);
    let config = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
    let image = register(store, &lease, None, config.as_bytes(), None).unwrap();
    prune(store, &filters("")).unwrap();
    assert!(conflict(store, image.hex(), true).ends_with("image is being used by another command"));
    drop(lease);
    assert_eq!(prune(store, &filters("")).unwrap().space_reclaimed, 7);
    assert_eq!(layers_in(store), 0);
}

#[test]
fn prune_takes_what_its_filters_say() {
    let temp = TempStore::new();
    let store = &temp.0;
    let [used, tagged, bare, kept] =
        ["used", "tagged", "bare", "kept"].map(|word| image(store, &[word], json!({"name": word})));
    for (image, name) in [(&used, "used:1"), (&used, "used:2"), (&tagged, "tagged")] {
        named(store, image, name);
    }
    container(store, 'b', &used);
    let gone = |text: &str| {
        prune(store, &filters(text))
            .map(|pruned| (rows(pruned.images_deleted.unwrap_or_default()), pruned.space_reclaimed))
    };
    assert_eq!(gone(r#"{"label":["name=nobody"]}"#).unwrap(), (vec![], 0));
    assert_eq!(gone(r#"{"until":["2020-01-01"]}"#).unwrap(), (vec![], 0));
    let both = |image: &Image| vec![deleted(&image.id), deleted(&image.layers[0].chain_id)];
    assert_eq!(gone(r#"{"label!":["name=kept"]}"#).unwrap(), (both(&bare), 4));
    assert_eq!(gone(r#"{"until":["1h"]}"#).unwrap(), (both(&kept), 4));
    let (rows, _) = gone(r#"{"dangling":["false"]}"#).unwrap();
    assert_eq!(rows, [vec!["Untagged: tagged:latest".to_owned()], both(&tagged)].concat());
    assert_eq!(references::all(store).unwrap().len(), 2);
    for bad in [r#"{"until":["x"]}"#, r#"{"until":["1h","2h"]}"#, r#"{"dangling":["x"]}"#, r#"{"before":["x"]}"#] {
        assert_eq!(gone(bad).unwrap_err().downcast_ref::<Refusal>().map(Refusal::status), Some(400), "{bad}");
    }
}

#[test]
fn lists_and_their_filters() {
    let temp = TempStore::new();
    let store = &temp.0;
    let one = image(store, &["base", "one"], json!({"a": "b"}));
    let two = image(store, &["base", "two"], json!(null));
    named(store, &one, "box:1");
    named(store, &one, "quay.io/x/box:2");
    container(store, 'c', &one);
    let shown = |text: &str| -> Vec<Vec<String>> {
        list(store, false, false, &filters(text)).unwrap().into_iter().map(|image| image.repo_tags).collect()
    };
    let (tags, none) = (vec!["box:1".to_owned(), "quay.io/x/box:2".to_owned()], Vec::new());
    for (text, expected) in [
        (r#"{"dangling":["true"]}"#, vec![none.clone()]),
        (r#"{"dangling":["false"]}"#, vec![tags.clone()]),
        (r#"{"label":["a=b"]}"#, vec![tags.clone()]),
        (r#"{"reference":["box"]}"#, vec![vec![tags[0].clone()]]),
        (r#"{"reference":["*/*/box:*"]}"#, vec![vec![tags[1].clone()]]),
        (r#"{"reference":["nope"]}"#, vec![]),
        (r#"{"before":["box:1"]}"#, vec![]),
        (r#"{"until":["1h"],"dangling":["false"]}"#, vec![tags.clone()]),
        (r#"{"since":["box:1"]}"#, vec![]),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
    let all = list(store, false, true, &filters("")).unwrap();
    let first = all.iter().find(|image| image.id == one.id.to_string()).unwrap();
    assert_eq!((first.size, first.shared_size, first.containers, first.created), (7, 4, 1, 1_700_000_000));
    assert!(all.iter().any(|image| image.id == two.id.to_string() && image.repo_tags.is_empty()));
    for (bad, status) in [
        (r#"{"nope":["x"]}"#, 400),
        (r#"{"before":["nope"]}"#, 404),
        (r#"{"reference":["["]}"#, 400),
        (r#"{"until":["x"]}"#, 400),
    ] {
        let error = list(store, false, false, &filters(bad)).unwrap_err();
        assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(status), "{bad}: {error:#}");
    }
}

#[test]
fn tagged_inspected_and_its_history() {
    let temp = TempStore::new();
    let store = &temp.0;
    let one = image(store, &["base", "one"], json!({"a": "b"}));
    named(store, &one, "box");
    tag(store, "box", "localhost:5000/mine", "v1").unwrap();
    tag(store, one.hex(), "mine:v2", "").unwrap();
    let shown = inspect(store, "mine:v2").unwrap();
    assert_eq!(shown.repo_tags, ["box:latest", "mine:v2", "localhost:5000/mine:v1"]);
    assert_eq!(shown.created, "2023-11-14T22:13:20Z");
    assert_ne!(shown.metadata.last_tag_time, crate::api::types::NEVER);
    assert_eq!(shown.root_fs.layers.unwrap().len(), 2);
    assert_eq!((shown.config.cmd, shown.config.env), (Some(vec!["sh".to_owned()]), None));
    let data = shown.graph_driver.data.unwrap();
    assert!(Path::new(&data["UpperDir"]).is_dir() && Path::new(&data["LowerDir"]).is_dir());

    let steps = history(store, "box").unwrap();
    assert_eq!(
        steps.iter().map(|step| (step.id.as_str(), step.size)).collect::<Vec<_>>(),
        [(&*one.id.to_string(), 3), ("<missing>", 4)]
    );
    assert_eq!(steps[0].tags.as_ref().unwrap().len(), 3);
    assert_eq!(steps[1].tags, None);

    for (image, repository, name, status, words) in [
        ("nope", "x", "", 404, "No such image: nope:latest"),
        ("box", "", "v1", 400, "invalid reference format"),
        ("box", "X", "", 400, "invalid reference format: repository name (library/X) must be lowercase"),
        ("box", "x", "a/b", 400, "invalid tag format"),
        ("box", &format!("x@{}", one.id), "", 400, "refusing to create a tag with a digest reference"),
        ("box", "sha256", "1", 400, "refusing to create an ambiguous tag using digest algorithm as name"),
    ] {
        let error = tag(store, image, repository, name).unwrap_err();
        assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(status), "{repository}: {error:#}");
        assert!(error.to_string().starts_with(words.split(" (library").next().unwrap()), "{error:#}");
    }
}

/// A tar of one file.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("bin/file").unwrap();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, content).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn imports_plain_and_packed() {
    let temp = TempStore::new();
    let store = &temp.0;
    let plain = tar(b"content");
    let packed = zstd::encode_all(&plain[..], 1).unwrap();
    let changes = ["CMD [\"/bin/file\"]".to_owned(), "ENV A=b".to_owned()];
    let asked = |name: &str| Import::asked(name, "", "from the test", "linux/arm64", &changes).unwrap();
    let id = import(store, asked("new:1"), &plain[..]).unwrap();
    let image = find(store, "new:1").unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.platform.to_string(), "linux/arm64");
    assert_eq!(image.layers[0].diff_id, Digest::of(&plain));
    assert_eq!(image.config.config.env, ["A=b"]);
    assert_eq!(history(store, "new:1").unwrap()[0].comment, "from the test");
    let file = store.layer(&image.layer_ids()[0]).join("fs/bin/file");
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    // The same layer, packed: no second copy of it.
    import(store, asked(""), &packed[..]).unwrap();
    assert_eq!(layers_in(store), 1);
    assert_eq!(list(store, false, false, &filters(r#"{"dangling":["true"]}"#)).unwrap().len(), 1);
}

#[test]
fn an_import_that_fails_leaves_nothing() {
    let temp = TempStore::new();
    let store = &temp.0;
    let before = temp.files();
    let whole = tar(b"content");
    for bad in [&whole[..515], b"no tar at all, but longer than six bytes", b"\x1f\x8b\x08no gzip"] {
        let asked = Import::asked("x", "", "", "", &[]).unwrap();
        assert!(import(store, asked, bad).is_err());
        assert_eq!(temp.files(), before);
    }
    for (name, tag, platform, change) in
        [("X", "", "", ""), ("x", "", "windows", ""), ("x", "", "a b", ""), ("x", "", "", "RUN x")]
    {
        let error = Import::asked(name, tag, "", platform, &[change.to_owned()]).unwrap_err();
        assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(400), "{error:#}");
    }
}

/// Verbs of several processes at once, as far as threads can play them: locks are of open files.
#[test]
fn verbs_at_once_leave_a_whole_store() {
    let temp = TempStore::new();
    let store = &temp.0;
    let empty = temp.files();
    let tars = [tar(b"one"), tar(b"two"), tar(b"three")];
    let refused = |result: Result<()>| match result {
        // Another was faster.
        Err(error) if error.downcast_ref::<Refusal>().is_none() => panic!("{error:#}"),
        _ => {}
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..12 {
                let asked = Import::asked("x", "", "", "", &[]).unwrap();
                refused(import(store, asked, &tars[round % 3][..]).map(drop));
            }
        });
        scope.spawn(|| (0..24).for_each(|round| refused(tag(store, "x", "y", &round.to_string()))));
        scope.spawn(|| (0..24).for_each(|round| refused(remove(store, "x", round % 2 == 0, true).map(drop))));
        scope.spawn(|| (0..12).for_each(|_| refused(prune(store, &filters("")).map(drop))));
        scope.spawn(|| (0..24).for_each(|_| refused(list(store, false, false, &filters("")).map(drop))));
    });
    let images = all(store).unwrap();
    for layer in images.iter().flat_map(|image| &image.layers) {
        assert!(store.layer(&layer.id).join("fs/bin/file").exists());
    }
    for (name, id) in references::all(store).unwrap() {
        assert!(images.iter().any(|image| image.id == id), "{name} names nothing");
    }
    prune(store, &filters(r#"{"dangling":["false"]}"#)).unwrap();
    assert_eq!(temp.files(), empty);
}
