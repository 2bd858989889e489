//! Volumes: `volumes/<name>/{volume.json,_data}`. One that exists is complete, because it is made in tmp/ and renamed.
//!
//! A volume is used while a container's record names it, or a lease does; who removes one looks at both under the
//! exclusive `gc` lock, and who is about to use one leases it under the shared lock before he looks whether it exists.

mod content;
mod local;

pub use content::copy_up;
pub use local::{enter, leave};

use super::absent::NO_MANAGER;
use super::events;
use super::filters::Filters;
use super::mounts::NewVolume;
use super::names;
use super::record::{self, Record};
use super::store::{self, Lease, Store};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{Volume, VolumeCreate, VolumeList, VolumeUsage, VolumesPruned};
use crate::json;
use crate::json::fields::fields;
use crate::order;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The version of volume.json that this program writes; a newer one is refused by name.
const VERSION: u32 = 1;

/// The label of a volume that was given no name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What a lease says of a volume without a name that was made under it; so that one whose maker was killed before a
/// container had it, and which nobody knows, is found by who finds the lease.
pub const MADE: &str = "made:";

fields! {
    /// volume.json.
    #[derive(Clone, Debug, Default)]
    struct Description {
        version: u32,
        /// RFC 3339, seconds.
        created: String,
        labels: Option<Map<String, String>>,
        options: Option<Map<String, String>>,
    }
}

fn path(store: &Store, name: &str) -> PathBuf {
    store.volumes().join(name)
}

/// Where a volume's content is.
pub fn data(store: &Store, name: &str) -> PathBuf {
    path(store, name).join("_data")
}

fn load(store: &Store, name: &str) -> Result<Option<Description>> {
    // A name that cannot be is not looked up: it may hold slashes.
    if !names::is_valid(name) {
        return Ok(None);
    }
    let path = path(store, name).join("volume.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let description: Description = json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    if description.version > VERSION {
        bail!("{} was written by a newer dhow (version {})", path.display(), description.version);
    }
    Ok(Some(description))
}

fn shown(store: &Store, name: &str, description: Description) -> Volume {
    Volume {
        created_at: description.created,
        driver: "local".into(),
        labels: description.labels,
        mountpoint: data(store, name).to_string_lossy().into_owned(),
        name: name.into(),
        options: description.options,
        scope: "local".into(),
        usage_data: None,
    }
}

/// Makes a volume, or gives the one that has the name already.
pub fn create(store: &Store, asked: &VolumeCreate) -> Result<Volume> {
    if asked.cluster_volume_spec.is_some() {
        bail!(Refusal::Unavailable(NO_MANAGER.to_owned()));
    }
    let lease = store.lease()?;
    let mut made = Made::new(store);
    let asked = NewVolume {
        name: asked.name.clone(),
        driver: asked.driver.clone(),
        options: asked.driver_opts.clone().filter(|options| !options.is_empty()),
        labels: asked.labels.clone(),
        durable: true,
    };
    let volume = take(store, &lease, &asked, &mut made)?;
    made.keep();
    Ok(volume)
}

/// Leases a volume, and makes it where it is missing; `made` then knows it.
pub fn take(store: &Store, lease: &Lease, asked: &NewVolume, made: &mut Made) -> Result<Volume> {
    let anonymous = asked.name.is_empty();
    let name = if anonymous { names::id()? } else { asked.name.clone() };
    check(&name, &asked.driver, asked.options.as_ref())?;
    {
        let _gc = store.gc_shared()?;
        lease.uses(&format!("volume:{name}"))?;
        if let Some(description) = load(store, &name)? {
            return Ok(shown(store, &name, description));
        }
        if anonymous {
            lease.uses(&format!("{MADE}{name}"))?;
        }
    }
    let mut labels = asked.labels.clone();
    if anonymous {
        labels.get_or_insert_default().insert(ANONYMOUS.into(), String::new());
    }
    let created = Time { nanos: 0, ..Time::now() }.to_string();
    let description = Description { version: VERSION, created, labels, options: asked.options.clone() };
    let temporary = lease.tmp()?.join(format!("volume-{name}"));
    let build = || -> Result<()> {
        DirBuilder::new().mode(0o711).create(&temporary)?;
        let content = temporary.join("_data");
        DirBuilder::new().mode(0o755).create(&content)?;
        // The mode is the container's business, not that of whoever's umask makes it.
        fs::set_permissions(&content, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let bytes = serde_json::to_vec(&description)?;
        store::write_file(&temporary.join("volume.json"), &bytes, asked.durable)
    };
    build().with_context(|| format!("make volume {name}"))?;
    crate::failpoint::reach("volume.built");
    match fs::rename(&temporary, path(store, &name)) {
        Ok(()) => made.names.push(name.clone()),
        // Another one was quicker to make it; the lease holds it already.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {
            store::remove(&temporary)?;
            let description = load(store, &name)?.with_context(|| format!("read volume {name}"))?;
            return Ok(shown(store, &name, description));
        }
        Err(error) => return Err(error).with_context(|| format!("make volume {name}")),
    }
    if asked.durable {
        File::open(store.volumes()).and_then(|dir| dir.sync_all()).with_context(|| format!("sync volume {name}"))?;
    }
    crate::failpoint::reach("volume.made");
    events::other(store, "volume", "create", &name, &[("driver", "local")]);
    Ok(shown(store, &name, description))
}

/// Refuses what no local volume can be, with 400 and Docker's words.
fn check(name: &str, driver: &str, options: Option<&Map<String, String>>) -> Result<()> {
    let why = if name.len() == 1 {
        "volume name is too short, names should be at least two alphanumeric characters".into()
    } else if !names::is_valid(name) {
        format!(
            "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        )
    } else if !matches!(driver, "" | "local") {
        bail!(Refusal::NotFound(format!(
            "create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found"
        )));
    } else if let Err(why) = options.map_or(Ok(()), local::check) {
        why
    } else {
        return Ok(());
    };
    bail!(Refusal::BadParameter(format!("create {name}: {why}")))
}

/// Volumes that were made for something which may still fail: they go again unless they are kept.
pub struct Made {
    store: Store,
    names: Vec<String>,
}

impl Made {
    pub fn new(store: &Store) -> Made {
        Made { store: store.clone(), names: Vec::new() }
    }

    /// What they were made for is on record.
    pub fn keep(mut self) {
        self.names.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for name in &self.names {
            // One lease is that of this process. What cannot be removed stays as an unused volume.
            let _ = remove_unless(&self.store, name, 1);
        }
    }
}

/// One volume; 404 with Docker's words where there is none.
pub fn inspect(store: &Store, name: &str) -> Result<Volume> {
    match load(store, name)? {
        Some(description) => Ok(shown(store, name, description)),
        None => Err(missing(name).into()),
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::NotFound(format!("get {name}: no such volume"))
}

/// Which containers use which volume, by the ids of their records.
fn references(store: &Store) -> Result<Map<String, Vec<String>>> {
    let mut users: Map<String, Vec<String>> = Map::new();
    for id in record::ids(store)? {
        let Some(record) = Record::load(store, &id)? else { continue };
        for mounted in record.mounts.into_iter().filter(|mounted| mounted.point.r#type == "volume") {
            let ids = users.entry(mounted.point.name).or_default();
            if !ids.contains(&id) {
                ids.push(id.clone());
            }
        }
    }
    Ok(users)
}

fn all(store: &Store) -> Result<Vec<Volume>> {
    let mut volumes = Vec::new();
    for name in store::read_dir(&store.volumes())? {
        if let Some(description) = load(store, &name)? {
            volumes.push(shown(store, &name, description));
        }
    }
    order::by(&mut volumes, |a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

/// The volumes by the filters dangling, driver, label and name, sorted by name.
pub fn list(store: &Store, filters: &Filters) -> Result<VolumeList> {
    filters.accept(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.flag("dangling")?;
    let users = if dangling.is_some() { references(store)? } else { Map::new() };
    let mut volumes = all(store)?;
    volumes.retain(|volume| {
        let unused = !users.contains_key(&volume.name);
        dangling.is_none_or(|dangling| dangling == unused)
            && filters.is("driver", &volume.driver)
            && filters.matches("name", &volume.name)
            && filters.labels(volume.labels.as_ref().unwrap_or(&Map::new()))
    });
    Ok(VolumeList { volumes, warnings: None })
}

/// The volumes with the bytes in them and how many containers name them; but not those whose files are elsewhere.
pub fn usage(store: &Store) -> Result<Vec<Volume>> {
    let users = references(store)?;
    let mut volumes = all(store)?;
    volumes.retain(|volume| volume.options.as_ref().is_none_or(|options| !options.contains_key("device")));
    for volume in &mut volumes {
        let size = content::size(&data(store, &volume.name)) as i64;
        let ref_count = users.get(&volume.name).map_or(0, Vec::len) as i64;
        volume.usage_data = Some(VolumeUsage { ref_count, size });
    }
    Ok(volumes)
}

/// Removes a volume. 409 where it is in use; 404 where there is none, unless `force`.
pub fn remove(store: &Store, name: &str, force: bool) -> Result<()> {
    match remove_unless(store, name, 0) {
        Err(error) if force && matches!(error.downcast_ref(), Some(Refusal::NotFound(_))) => Ok(()),
        other => other,
    }
}

/// Removes a volume that a killed command made, and whose lease the caller holds, unless a container has it.
pub fn abandoned(store: &Store, name: &str) -> Result<()> {
    match remove_unless(store, name, 1) {
        Err(error) if matches!(error.downcast_ref(), Some(Refusal::Conflict(_) | Refusal::NotFound(_))) => Ok(()),
        other => other,
    }
}

/// Removes a volume that no record names, and no more than that many leases.
fn remove_unless(store: &Store, name: &str, leases: usize) -> Result<()> {
    let lease = store.lease()?;
    let grave = lease.tmp()?.join("volume");
    {
        let _gc = store.gc_exclusive()?;
        if load(store, name)?.is_none() {
            bail!(missing(name));
        }
        let word = format!("volume:{name}");
        // Before the records: a lease ends when the record is there, so that one of the two is seen.
        let leased = store.leased()?.iter().filter(|used| **used == word).count();
        if let Some(users) = references(store)?.get(name) {
            bail!(Refusal::Conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        if leased > leases {
            bail!(Refusal::Conflict(format!("remove {name}: volume is in use")));
        }
        // Otherwise what is mounted there would be removed too.
        local::unmount(store, name)?;
        crate::failpoint::reach("volume.unused");
        fs::rename(path(store, name), &grave).with_context(|| format!("remove volume {name}"))?;
        File::open(store.volumes())
            .and_then(|dir| dir.sync_all())
            .with_context(|| format!("sync the removal of volume {name}"))?;
    }
    crate::failpoint::reach("volume.renamed");
    events::other(store, "volume", "destroy", name, &[("driver", "local")]);
    crate::fs::remove::tree(&grave)
}

/// Removes the unused anonymous volumes, with the filter all=true the named ones too; never one with driver options.
pub fn prune(store: &Store, filters: &Filters) -> Result<VolumesPruned> {
    filters.accept(&["all", "label", "label!"])?;
    let everything = filters.flag("all")?.unwrap_or(false);
    let users = references(store)?;
    let mut pruned = VolumesPruned { volumes_deleted: Some(Vec::new()), ..VolumesPruned::default() };
    for volume in all(store)? {
        let labels = volume.labels.unwrap_or_default();
        let wanted = (everything || labels.contains_key(ANONYMOUS)) && filters.labels(&labels);
        if !wanted || users.contains_key(&volume.name) || volume.options.is_some() {
            continue;
        }
        let size = content::size(&data(store, &volume.name));
        match remove(store, &volume.name, false) {
            Ok(()) => {
                pruned.space_reclaimed += size;
                pruned.volumes_deleted.get_or_insert_default().push(volume.name);
            }
            // Taken or removed by another one meanwhile.
            Err(error) if matches!(error.downcast_ref(), Some(Refusal::Conflict(_) | Refusal::NotFound(_))) => {}
            Err(error) => return Err(error),
        }
    }
    events::other(store, "volume", "prune", "", &[("reclaimed", &pruned.space_reclaimed.to_string())]);
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::MountPoint;
    use crate::engine::record::Mounted;

    struct Home(PathBuf, Store);

    impl Home {
        fn new(name: &str) -> Home {
            let path = std::env::temp_dir().join(format!("dhow-volumes-{name}-{}", std::process::id()));
            let store = Store::open(&path.join("root"), &path.join("run")).unwrap();
            Home(path, store)
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn asked(name: &str) -> VolumeCreate {
        VolumeCreate { name: name.into(), ..VolumeCreate::default() }
    }

    /// A record that uses a volume.
    fn container(store: &Store, id: &str, volume: &str) {
        let point = MountPoint { r#type: "volume".into(), name: volume.into(), ..MountPoint::default() };
        let mounts = vec![Mounted { point, ..Mounted::default() }];
        fs::create_dir_all(store.container(id)).unwrap();
        Record { version: 1, id: id.into(), mounts, ..Record::default() }.save(store).unwrap();
    }

    fn names(store: &Store, filters: &str) -> Vec<String> {
        let filters = Filters::parse(Some(filters)).unwrap();
        list(store, &filters).unwrap().volumes.into_iter().map(|volume| volume.name).collect()
    }

    fn refused(result: Result<impl Sized>) -> (u16, String) {
        let error = result.map(drop).unwrap_err();
        (error.downcast_ref::<Refusal>().map_or(500, Refusal::status), error.to_string())
    }

    #[test]
    fn a_volume_and_its_life() {
        let home = Home::new("life");
        let store = &home.1;
        let made = create(store, &asked("gv")).unwrap();
        assert_eq!(made, inspect(store, "gv").unwrap());
        assert_eq!(made.mountpoint, store.volumes().join("gv/_data").to_str().unwrap());
        assert_eq!((made.labels, made.options, made.scope.as_str()), (None, None, "local"));
        fs::write(data(store, "gv").join("file"), "12345").unwrap();
        // Made again, it is the same one.
        create(store, &asked("gv")).unwrap();
        assert!(data(store, "gv").join("file").exists());
        container(store, "c1", "gv");
        assert_eq!(refused(remove(store, "gv", false)), (409, "remove gv: volume is in use - [c1]".into()));
        assert_eq!(refused(remove(store, "gv", true)).0, 409);
        fs::remove_dir_all(store.container("c1")).unwrap();
        {
            let lease = store.lease().unwrap();
            let wanted = NewVolume { name: "gv".into(), ..NewVolume::default() };
            take(store, &lease, &wanted, &mut Made::new(store)).unwrap();
            assert_eq!(refused(remove(store, "gv", false)), (409, "remove gv: volume is in use".into()));
        }
        remove(store, "gv", false).unwrap();
        assert_eq!(refused(remove(store, "gv", false)), (404, "get gv: no such volume".into()));
        assert!(remove(store, "gv", true).is_ok());
        for name in ["../x", "", ".", "a/b"] {
            assert_eq!(refused(inspect(store, name)).0, 404, "{name}");
            assert_eq!(refused(remove(store, name, false)).0, 404, "{name}");
        }
        assert!(store::read_dir(&store.root.join("tmp")).unwrap().is_empty());
        assert!(store.leased().unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_made() {
        let home = Home::new("refused");
        let store = &home.1;
        let cases = [
            (
                "x",
                "",
                "",
                400,
                "create x: volume name is too short, names should be at least two alphanumeric characters",
            ),
            (
                "a/b",
                "",
                "",
                400,
                "create a/b: \"a/b\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
            ),
            ("ab", "", "nope", 400, "create ab: invalid option: \"nope\""),
            ("ab", "rclone", "", 404, "create ab: error looking up volume plugin rclone: plugin \"rclone\" not found"),
        ];
        for (name, driver, option, status, words) in cases {
            let driver_opts = (!option.is_empty()).then(|| Map::from([(option.to_string(), String::new())]));
            let asked = VolumeCreate { driver: driver.into(), driver_opts, ..asked(name) };
            assert_eq!(refused(create(store, &asked)), (status, words.into()));
        }
        assert_eq!(names(store, ""), [""; 0]);
    }

    #[test]
    fn what_fails_half_way_leaves_no_volume() {
        let home = Home::new("half");
        let store = &home.1;
        let lease = store.lease().unwrap();
        let mut made = Made::new(store);
        for name in ["", "named"] {
            take(store, &lease, &NewVolume { name: name.into(), ..NewVolume::default() }, &mut made).unwrap();
        }
        assert_eq!(names(store, "").len(), 2);
        drop(made);
        assert_eq!(names(store, "").len(), 0);
    }

    #[test]
    fn a_new_volume_begins_as_the_image() {
        use std::os::fd::AsFd;
        use std::os::unix::fs::PermissionsExt;
        let home = Home::new("copy");
        let store = &home.1;
        let image = home.0.join("image");
        fs::create_dir_all(image.join("data/sub")).unwrap();
        fs::write(image.join("data/sub/file"), "from the image").unwrap();
        fs::write(image.join("file"), "no directory").unwrap();
        std::os::unix::fs::symlink("/data", image.join("link")).unwrap();
        fs::create_dir(image.join("mode")).unwrap();
        fs::set_permissions(image.join("mode"), fs::Permissions::from_mode(0o1777)).unwrap();
        let root = crate::fs::path::open_root(&image).unwrap();
        let fill = |volume: &str, destination: &str, no_copy: bool, subpath: &str| {
            let lease = store.lease().unwrap();
            let mut made = Made::new(store);
            let wanted = NewVolume { name: volume.into(), durable: true, ..NewVolume::default() };
            take(store, &lease, &wanted, &mut made).unwrap();
            let point = MountPoint {
                r#type: "volume".into(),
                name: volume.into(),
                destination: destination.into(),
                ..MountPoint::default()
            };
            let mounted = Mounted { point, no_copy, subpath: subpath.into(), ..Mounted::default() };
            copy_up(store, &lease, root.as_fd(), &mounted, true).unwrap();
            made.keep();
        };
        let has = |volume: &str| fs::read_to_string(data(store, volume).join("sub/file")).ok();
        for (volume, destination, no_copy, subpath, filled) in [
            ("plain", "/data", false, "", true),
            ("link", "/link", false, "", true),
            ("nocopy", "/data", true, "", false),
            ("part", "/data", false, "x", false),
            ("missing", "/nope", false, "", false),
            ("file", "/file/x", false, "", false),
            ("up", "/../../../..", false, "", false),
        ] {
            fill(volume, destination, no_copy, subpath);
            assert_eq!(has(volume).is_some(), filled, "{volume}");
        }
        // The image's root, not that of the host.
        assert!(data(store, "up").join("data/sub/file").exists() && !data(store, "up").join("etc").exists());
        fill("mode", "/mode", false, "");
        assert_eq!(fs::metadata(data(store, "mode")).unwrap().permissions().mode() & 0o7777, 0o1777);
        // What is there already stays as it is.
        fs::write(data(store, "plain").join("sub/file"), "changed").unwrap();
        fill("plain", "/data", false, "");
        assert_eq!(has("plain").unwrap(), "changed");
        // An empty volume that another container uses is filled without being replaced.
        create(store, &asked("shared")).unwrap();
        container(store, "c1", "shared");
        let before = std::os::unix::fs::MetadataExt::ino(&fs::metadata(data(store, "shared")).unwrap());
        fill("shared", "/data", false, "");
        assert!(has("shared").is_some());
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&fs::metadata(data(store, "shared")).unwrap()), before);
        assert!(store::read_dir(&store.root.join("tmp")).unwrap().is_empty());
    }

    #[test]
    fn lists_and_prunes() {
        let home = Home::new("lists");
        let store = &home.1;
        for (name, label) in [("used", None), ("one", Some("a=b")), ("other", Some("a=c")), ("tmp", None)] {
            let labels = label.and_then(|label| label.split_once('='));
            let labels = labels.map(|(key, value)| Map::from([(key.to_string(), value.to_string())]));
            let options =
                [("type", "tmpfs"), ("device", "tmpfs")].map(|(key, value)| (key.to_string(), value.to_string()));
            let driver_opts = (name == "tmp").then(|| Map::from(options));
            create(store, &VolumeCreate { labels, driver_opts, ..asked(name) }).unwrap();
        }
        let anonymous = create(store, &asked("")).unwrap();
        assert_eq!(anonymous.name.len(), 64);
        assert_eq!(anonymous.labels.unwrap().get(ANONYMOUS).map(String::as_str), Some(""));
        fs::write(data(store, &anonymous.name).join("file"), "12345").unwrap();
        container(store, "c1", "used");
        let unused = |names: Vec<String>| -> Vec<String> { names.into_iter().filter(|name| name.len() < 64).collect() };
        for (filters, expected) in [
            ("", vec!["one", "other", "tmp", "used"]),
            (r#"{"dangling":["true"]}"#, vec!["one", "other", "tmp"]),
            (r#"{"dangling":["0"]}"#, vec!["used"]),
            (r#"{"label":{"a":true}}"#, vec!["one", "other"]),
            (r#"{"label":["a=b"]}"#, vec!["one"]),
            (r#"{"name":["^o"]}"#, vec!["one", "other"]),
            (r#"{"driver":["x"]}"#, vec![]),
        ] {
            assert_eq!(unused(names(store, filters)), expected, "{filters}");
        }
        assert_eq!(
            refused(list(store, &Filters::parse(Some(r#"{"x":["y"]}"#)).unwrap())),
            (400, "invalid filter 'x'".into())
        );
        let pruned = |filters: &str| prune(store, &Filters::parse(Some(filters)).unwrap()).unwrap();
        let first = pruned("");
        assert_eq!((first.volumes_deleted, first.space_reclaimed), (Some(vec![anonymous.name]), 5));
        assert_eq!(pruned(r#"{"all":["true"],"label":["a=b"]}"#).volumes_deleted, Some(vec!["one".to_string()]));
        assert_eq!(pruned(r#"{"all":["1"]}"#).volumes_deleted, Some(vec!["other".to_string()]));
        assert_eq!(names(store, ""), ["tmp", "used"]);
    }
}
