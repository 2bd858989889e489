//! What create was asked to mount: `--volume`, `--mount`, `--volumes-from` and an image's volumes, by Docker's rules.
//! [`plan`] is pure; [`settle`] makes the volumes and the missing sources.

mod image;
mod spelling;

pub use image::tree as image_tree;
pub use spelling::clean;

use super::images;
use super::propagation;
use super::record::Mounted;
use super::store::{self, Lease, Store};
use super::volumes::{self, Made};
use crate::api::Refusal;
use crate::api::types::{HostConfig, MountPoint, Nothing};
use crate::order;
use crate::order::Map;
use anyhow::{Context, Result};
use spelling::{PROPAGATIONS, bind, check_target, check_tmpfs, depth, mount, volumes_from};
use std::path::Path;

/// What a plan has to look up.
pub struct Around<'a> {
    /// The mounts of another container, by its name or id; 404 where there is none.
    pub from: &'a dyn Fn(&str) -> Result<Vec<Mounted>>,
    /// Whether a path is there on the host.
    pub exists: &'a dyn Fn(&str) -> bool,
    /// Where the store is.
    pub root: &'a Path,
    /// What is mounted below a read-only bind stays writable, whatever was asked.
    pub read_only_non_recursive: bool,
}

/// A mount as it is to be recorded, but for what its volume adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    pub mounted: Mounted,
    /// Of a bind: a missing source is made, as a directory.
    pub make_source: bool,
    /// Of a volume: how it is made where it is missing.
    pub volume: Option<NewVolume>,
    /// An image whose files are mounted, by its name or id.
    pub image: Option<String>,
}

/// A volume that a container uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewVolume {
    /// Empty for an anonymous one.
    pub name: String,
    pub driver: String,
    pub options: Option<Map<String, String>>,
    pub labels: Option<Map<String, String>>,
    /// It is to survive a power cut. The anonymous ones of a `--rm` container need not.
    pub durable: bool,
}

/// Leaves what is mounted below a read-only bind writable, where that was all that clients knew.
fn flatten(asked: &mut Asked, around: &Around) {
    let point = &asked.mounted.point;
    asked.mounted.read_only_non_recursive |= around.read_only_non_recursive && point.r#type == "bind" && !point.rw;
}

/// Everything that is to be mounted in a container, parents before what lies inside of them. `volumes` are those of
/// the image and of `-v /path`. `HostConfig.Tmpfs` is looked at for what it collides with; it is no mount point.
///
/// Errors: 400 with Docker's words.
pub fn plan(host: &HostConfig, volumes: Option<&Map<String, Option<Nothing>>>, around: &Around) -> Result<Vec<Asked>> {
    let nothing = Map::new();
    let tmpfs = host.tmpfs.as_ref().unwrap_or(&nothing);
    for (target, options) in tmpfs {
        check_target(target).map_err(bad)?;
        check_tmpfs(options).map_err(bad)?;
    }
    let mut points: Map<String, Asked> = Map::new();
    for spec in host.volumes_from.iter().flatten() {
        let (container, writable) = volumes_from(spec).map_err(bad)?;
        let mounts = (around.from)(container).map_err(|error| bad(format!("{error:#}")))?;
        for mut mounted in mounts {
            mounted.point.rw &= writable;
            // Whose it was said it of his.
            mounted.point.mode.clear();
            mounted.no_copy = true;
            let volume = (mounted.point.r#type == "volume").then(|| NewVolume {
                name: mounted.point.name.clone(),
                driver: mounted.point.driver.clone(),
                durable: true,
                ..NewVolume::default()
            });
            let image = Some(mounted.point.name.clone()).filter(|_| !mounted.image.is_empty());
            let target = mounted.point.destination.clone();
            points.insert(target, Asked { mounted, volume, image, make_source: false });
        }
    }
    let mut taken: Map<String, ()> = Map::from_iter(tmpfs.keys().map(|target| (clean(target), ())));
    for spec in host.binds.iter().flatten() {
        let mut asked = bind(spec, &host.volume_driver).map_err(bad)?;
        let said = asked.mounted.point.mode.split(',').any(|word| PROPAGATIONS.contains(&word));
        follow(&mut asked, said, around.root)?;
        flatten(&mut asked, around);
        let target = asked.mounted.point.destination.clone();
        if taken.insert(target.clone(), ()).is_some() {
            return Err(bad(format!("Duplicate mount point: {target}")));
        }
        points.insert(target, asked);
    }
    for asked in host.mounts.iter().flatten() {
        let invalid = |why: String| format!("invalid mount config for type \"{}\": {why}", asked.r#type);
        let target = asked.target.clone();
        let said = asked.bind_options.as_ref().is_some_and(|options| !options.propagation.is_empty());
        let mut asked = mount(asked, around.exists).map_err(|why| bad(invalid(why)))?;
        follow(&mut asked, said, around.root)?;
        flatten(&mut asked, around);
        let cleaned = asked.mounted.point.destination.clone();
        if taken.insert(cleaned.clone(), ()).is_some() {
            return Err(bad(format!("Duplicate mount point: {target}")));
        }
        points.insert(cleaned, asked);
    }
    for target in volumes.into_iter().flat_map(Map::keys) {
        check_target(target).map_err(|why| bad(format!("invalid volume specification: '{target}': {why}")))?;
        let target = clean(target);
        if points.contains_key(&target) || taken.contains_key(&target) {
            continue;
        }
        let point =
            MountPoint { r#type: "volume".into(), destination: target.clone(), rw: true, ..MountPoint::default() };
        let volume = NewVolume { driver: host.volume_driver.clone(), durable: true, ..NewVolume::default() };
        let mounted = Mounted { point, anonymous: true, ..Mounted::default() };
        points.insert(target, Asked { mounted, volume: Some(volume), ..Asked::default() });
    }
    let mut asked: Vec<Asked> = points.into_values().collect();
    let place = |asked: &Asked| asked.mounted.point.destination.clone();
    order::by_key(&mut asked, |asked| (depth(&asked.mounted.point.destination), place(asked)));
    for asked in &mut asked {
        if let Some(volume) = &mut asked.volume {
            volume.durable = !(host.auto_remove && volume.name.is_empty());
        }
    }
    Ok(asked)
}

/// Lets a bind of what holds the store, or lies in it, hear of the host's mounts; another propagation is refused if
/// it was `said`.
fn follow(asked: &mut Asked, said: bool, root: &Path) -> Result<()> {
    let point = &mut asked.mounted.point;
    let propagation = said.then_some(point.propagation.as_str());
    if point.r#type == "bind" && propagation::implied(&point.source, propagation, root)? {
        point.propagation = "rslave".into();
        asked.mounted.propagation_implied = true;
    }
    Ok(())
}

/// Makes the volumes that are missing and leases all of them, makes the missing sources of binds, and gives the
/// mounts as they are to be recorded. [`Made::keep`] is to be called once they are recorded; otherwise the volumes
/// that were made go again.
pub fn settle(store: &Store, lease: &Lease, asked: Vec<Asked>) -> Result<(Vec<Mounted>, Made)> {
    let mut made = Made::new(store);
    let mut mounts = Vec::with_capacity(asked.len());
    for Asked { mut mounted, make_source, volume, image } in asked {
        if let Some(name) = image {
            // Not 404: clients would pull the container's own image then.
            let missing = |error| bad(format!("invalid mount config for type \"image\": {error:#}"));
            if mounted.layers.is_empty() {
                let image = images::take(store, lease, &name).map_err(missing)?;
                mounted.image = image.id.to_string();
                mounted.layers = image.layer_ids();
            } else {
                // Another container has it, which the image itself need not have outlived.
                images::hold(store, lease, &mounted.layers).map_err(missing)?;
            }
        }
        let point = &mut mounted.point;
        if let Some(volume) = volume {
            let volume = volumes::take(store, lease, &volume, &mut made)?;
            point.name = volume.name;
            point.driver = volume.driver;
            point.source = volume.mountpoint;
        }
        if make_source && std::fs::symlink_metadata(&point.source).is_err() {
            store::make_dirs(Path::new(&point.source), 0o755)
                .with_context(|| format!("make the source of mount {}", point.destination))?;
        }
        mounts.push(mounted);
    }
    Ok((mounts, made))
}

fn bad(why: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Refusal::BadParameter(why.into()))
}

#[cfg(test)]
mod tests {
    use super::spelling::is_local;
    use super::*;
    use serde_json::{Value, json};

    fn host(value: Value) -> HostConfig {
        serde_json::from_value(value).unwrap()
    }

    fn planned(value: Value, volumes: &[&str]) -> Result<Vec<Asked>> {
        planned_for(value, volumes, false)
    }

    /// `older`: for who knows of no binds that are read-only below their source as well.
    fn planned_for(value: Value, volumes: &[&str], older: bool) -> Result<Vec<Asked>> {
        let volumes = volumes.iter().map(|target| (target.to_string(), Some(Nothing {}))).collect();
        let from = |name: &str| -> Result<Vec<Mounted>> {
            if name != "other" {
                return Err(anyhow::Error::new(Refusal::NotFound(format!("No such container: {name}"))));
            }
            let mounts = ["gv:/data", "/etc:/etc2:ro"].map(|spec| bind(spec, "local").unwrap().mounted);
            Ok(mounts
                .into_iter()
                .map(|mut mounted| {
                    if mounted.point.r#type == "volume" {
                        mounted.point.name = "gv".into();
                        mounted.point.driver = "local".into();
                    }
                    mounted
                })
                .collect())
        };
        let root = Path::new("/var/lib/dhow");
        let around = Around { from: &from, exists: &|path| path == "/there", root, read_only_non_recursive: older };
        plan(&host(value), Some(&volumes), &around)
    }

    #[test]
    fn read_only_is_the_source_alone_before_1_44() {
        let asked = json!({"Binds": ["/a:/a:ro", "/b:/b", "v:/v:ro"], "Mounts": [
            {"Type": "bind", "Source": "/there", "Target": "/t", "ReadOnly": true},
            {"Type": "tmpfs", "Target": "/tmp", "ReadOnly": true}]});
        for (older, expected) in [(true, vec!["/a", "/t"]), (false, vec![])] {
            let planned = planned_for(asked.clone(), &[], older).unwrap();
            let flat = planned.iter().filter(|asked| asked.mounted.read_only_non_recursive);
            let flat: Vec<_> = flat.map(|asked| asked.mounted.point.destination.as_str()).collect();
            assert_eq!(flat, expected);
        }
    }

    /// Each mount as `type name|source destination mode rw propagation`, with what else is set.
    fn shown(asked: &Asked) -> String {
        let Asked { mounted, make_source, volume, .. } = asked;
        let point = &mounted.point;
        let volume_name = volume.as_ref().map(|volume| volume.name.clone()).unwrap_or_default();
        let mut text = format!(
            "{} {}{} {} '{}' {}",
            point.r#type,
            point.source,
            volume_name,
            point.destination,
            point.mode,
            if point.rw { "rw" } else { "ro" }
        );
        for (set, word) in [
            (!point.propagation.is_empty(), point.propagation.as_str()),
            (*make_source, "make"),
            (mounted.anonymous, "anonymous"),
            (mounted.no_copy, "nocopy"),
            (mounted.non_recursive, "nonrecursive"),
            (mounted.read_only_non_recursive, "readonlynonrecursive"),
            (!mounted.subpath.is_empty(), mounted.subpath.as_str()),
            (!mounted.options.is_empty(), mounted.options.as_str()),
        ] {
            if set {
                text = format!("{text} {word}");
            }
        }
        text
    }

    #[test]
    fn plans() {
        let mount = |mount: Value| json!({ "Mounts": [mount] });
        let cases = [
            (json!({"Binds": ["gv:/data"]}), vec![], vec!["volume gv /data 'z' rw"]),
            (
                json!({"Binds": ["/a/../b/:/c//d/:ro,rslave,Z"]}),
                vec![],
                vec!["bind /b /c/d 'ro,rslave,Z' ro rslave make"],
            ),
            (
                mount(json!({"Type": "image", "Source": "data", "Target": "/i", "ImageOptions": {"Subpath": "a/b"}})),
                vec![],
                vec!["image  /i '' ro rprivate a/b"],
            ),
            (json!({"Binds": ["/a:/b"]}), vec![], vec!["bind /a /b '' rw rprivate make"]),
            (json!({"Binds": ["/anon"]}), vec![], vec!["volume  /anon 'z' rw anonymous"]),
            (json!({"Binds": ["v:/b:nocopy,ro"]}), vec![], vec!["volume v /b 'nocopy,ro' ro nocopy"]),
            (
                json!({"Binds": ["/a:/x/y/z", "/b:/x", "/c:/x/y"]}),
                vec![],
                vec![
                    "bind /b /x '' rw rprivate make",
                    "bind /c /x/y '' rw rprivate make",
                    "bind /a /x/y/z '' rw rprivate make",
                ],
            ),
            (json!({}), vec!["/v", "/w/"], vec!["volume  /v '' rw anonymous", "volume  /w '' rw anonymous"]),
            // What is mounted there already keeps an image's volume away.
            (
                json!({"Binds": ["/a:/v"], "Tmpfs": {"/w": "size=1m,noexec"}}),
                vec!["/v", "/w"],
                vec!["bind /a /v '' rw rprivate make"],
            ),
            (
                json!({"VolumesFrom": ["other"]}),
                vec!["/data"],
                vec!["volume gv /data '' rw nocopy", "bind /etc /etc2 '' ro rprivate nocopy"],
            ),
            (
                json!({"VolumesFrom": ["other:ro"], "Binds": ["/a:/etc2"]}),
                vec![],
                vec!["volume gv /data '' ro nocopy", "bind /a /etc2 '' rw rprivate make"],
            ),
            (
                mount(
                    json!({"Type": "bind", "Source": "/there", "Target": "/t", "ReadOnly": true, "BindOptions": {"Propagation": "rshared", "NonRecursive": true, "ReadOnlyNonRecursive": true}}),
                ),
                vec![],
                vec!["bind /there /t '' ro rshared nonrecursive readonlynonrecursive"],
            ),
            (
                mount(
                    json!({"Type": "bind", "Source": "/new", "Target": "/t", "BindOptions": {"CreateMountpoint": true}}),
                ),
                vec![],
                vec!["bind /new /t '' rw rprivate make"],
            ),
            (
                mount(
                    json!({"Type": "volume", "Source": "v", "Target": "/t", "VolumeOptions": {"Subpath": "a/../b", "NoCopy": true}}),
                ),
                vec![],
                vec!["volume v /t 'z' rw nocopy a/../b"],
            ),
            (mount(json!({"Type": "volume", "Target": "/t"})), vec![], vec!["volume  /t 'z' rw anonymous"]),
            (
                mount(
                    json!({"Type": "tmpfs", "Target": "/t", "ReadOnly": true, "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 1023, "Options": [["noexec"]]}}),
                ),
                vec![],
                vec!["tmpfs  /t '' ro ro,mode=1777,size=1048576,noexec"],
            ),
        ];
        for (value, volumes, expected) in cases {
            let got: Vec<String> = planned(value.clone(), &volumes).unwrap().iter().map(shown).collect();
            assert_eq!(got, expected, "{value}");
        }
    }

    #[test]
    fn refusals() {
        let bind = |spec: &str| json!({ "Binds": [spec] });
        let mount = |mount: Value| json!({ "Mounts": [mount] });
        let cases = [
            (bind(""), "invalid volume specification: ''"),
            (bind(":/a"), "invalid volume specification: ':/a'"),
            (bind("/a:rw"), "invalid volume specification: '/a:rw'"),
            (bind("/a:/b:rw:x"), "invalid volume specification: '/a:/b:rw:x'"),
            (bind("/a:/b:bad"), "invalid mode: bad"),
            (bind("/a:/b:ro,rw"), "invalid mode: ro,rw"),
            (bind("/a:/b:z,Z"), "invalid mode: z,Z"),
            (bind("/a:/b:ro,"), "invalid mode: ro,"),
            (
                bind("/a:b"),
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            (
                bind("/a:/b/.."),
                "invalid volume specification: '/a:/b/..': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (
                bind("/a:/b:nocopy"),
                "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            (
                bind("v:/b:rshared"),
                "invalid volume specification: 'v:/b:rshared': invalid mount config for type \"volume\": field BindOptions must not be specified",
            ),
            (json!({"Binds": ["/a:/x", "/b:/x/"]}), "Duplicate mount point: /x"),
            (json!({"Binds": ["/a:/x"], "Tmpfs": {"/x": ""}}), "Duplicate mount point: /x"),
            (json!({"Binds": ["/a:/x"], "Mounts": [{"Type": "tmpfs", "Target": "/x"}]}), "Duplicate mount point: /x"),
            (json!({"Tmpfs": {"x": ""}}), "invalid mount path: 'x' mount path must be absolute"),
            (json!({"Tmpfs": {"/x": "size=1m,nope"}}), "invalid tmpfs option \"nope\""),
            (json!({"VolumesFrom": [""]}), "volumes-from specification cannot be an empty string"),
            (json!({"VolumesFrom": ["nope"]}), "No such container: nope"),
            (json!({"VolumesFrom": ["other:rshared"]}), "invalid mode: rshared"),
            (
                mount(json!({"Type": "bind", "Source": "/x", "Target": "/t"})),
                "invalid mount config for type \"bind\": bind source path does not exist: /x",
            ),
            (
                mount(json!({"Type": "bind", "Target": "/t"})),
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                mount(json!({"Type": "bind", "Source": "/there"})),
                "invalid mount config for type \"bind\": field Target must not be empty",
            ),
            (
                mount(json!({"Type": "bind", "Source": "there", "Target": "/t"})),
                "invalid mount config for type \"bind\": invalid mount path: 'there' mount path must be absolute",
            ),
            (
                mount(json!({"Type": "bind", "Source": "/there", "Target": "/t", "BindOptions": {"Propagation": "x"}})),
                "invalid mount config for type \"bind\": invalid propagation mode: x",
            ),
            (
                mount(json!({"Type": "bind", "Source": "/there", "Target": "/t", "VolumeOptions": {}})),
                "invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            (
                mount(
                    json!({"Type": "bind", "Source": "/there", "Target": "/t", "BindOptions": {"ReadOnlyNonRecursive": true}}),
                ),
                "invalid mount config for type \"bind\": mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive",
            ),
            (
                mount(json!({"Type": "volume", "Target": "/t", "VolumeOptions": {"Subpath": "a"}})),
                "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
            ),
            (
                mount(
                    json!({"Type": "volume", "Source": "v", "Target": "/t", "VolumeOptions": {"Subpath": "a/../.."}}),
                ),
                "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
            ),
            (
                mount(json!({"Type": "tmpfs", "Source": "x", "Target": "/t"})),
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                mount(json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["suid"]]}})),
                "invalid mount config for type \"tmpfs\": invalid option: suid",
            ),
            (mount(json!({"Type": "x", "Target": "/t"})), "invalid mount config for type \"x\": mount type unknown"),
        ];
        for (value, expected) in cases {
            let refusal = planned(value.clone(), &[]).map(|plan| format!("{plan:?}")).unwrap_err();
            assert_eq!(refusal.to_string(), expected, "{value}");
            assert_eq!(refusal.downcast_ref::<Refusal>().map(Refusal::status), Some(400), "{value}");
        }
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("//a///b/", "/a/b"),
            ("/../../a", "/a"),
            ("a/../..", ".."),
            ("../a/../..", "../.."),
            ("/a/./b/..", "/a"),
            ("./a", "a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        for (path, expected) in
            [("a", true), ("", true), ("a/../b", true), ("../a", false), ("a/../..", false), ("/a", false)]
        {
            assert_eq!(is_local(path), expected, "{path}");
        }
    }

    #[test]
    fn random_specs_do_not_panic() {
        let pieces = ["/", ":", ",", "ro", "rw", "z", "nocopy", "rshared", "a", "..", "é", "\0", "volume", " "];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut accepted = 0;
        for _ in 0..10_000 {
            let mut spec = String::new();
            for _ in 0..state % 9 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                spec.push_str(pieces[state as usize % pieces.len()]);
            }
            state = state.wrapping_add(0x2545_f491_4f6c_dd1d);
            if let Ok(asked) = bind(&spec, "") {
                accepted += 1;
                let target = &asked.mounted.point.destination;
                assert!(
                    target.starts_with('/') && target.len() > 1 && !target.contains("//") && !target.contains('\0')
                );
            }
            let _ = (volumes_from(&spec), check_tmpfs(&spec));
        }
        assert!(accepted > 100);
    }
}
