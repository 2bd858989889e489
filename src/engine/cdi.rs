//! Devices that are asked for by name, `--device vendor.com/class=name` and `--gpus`: what the files of their vendors
//! make of a container's specification, at each start anew.

use super::devices::Granted;
use super::mounts;
use super::users::User;
use crate::api::types::DeviceRequest;
use crate::oci::cdi::{Edits, Moment, Node, Registry};
use crate::oci::runtime::{Device, Hooks, Mount, Spec};
use crate::order;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Who has GPUs, and by which words `--gpus` may ask for them.
const VENDORS: [(&str, &[&str]); 2] = [
    ("nvidia", &["gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"]),
    ("amd", &["gpu", "amd"]),
];

/// What is made of these requests. The words of the errors are Docker's.
pub fn edits(requests: &[DeviceRequest], directories: &[PathBuf]) -> Result<Edits> {
    if requests.is_empty() {
        return Ok(Edits::default());
    }
    let registry = Registry::read(directories);
    let mut names: Vec<String> = Vec::new();
    for request in requests {
        for name in wanted(request, &registry)? {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    ensure!(
        names.is_empty() || !directories.is_empty(),
        "CDI device injection failed: no CDI specification directories specified"
    );
    registry.edits(&names).context("CDI device injection failed")
}

/// The qualified names of what one request asks for.
fn wanted(request: &DeviceRequest, registry: &Registry) -> Result<Vec<String>> {
    let ids = request.device_ids.clone().unwrap_or_default();
    if request.driver == "cdi" {
        ensure!(request.count == 0, "unexpected count in CDI device request");
        let options = request.options.as_ref().is_some_and(|options| !options.is_empty());
        ensure!(!options, "unexpected options in CDI device request");
        return Ok(ids);
    }
    let capabilities = request.capabilities.as_deref().unwrap_or_default();
    // Of the sets of words one is to be met; a driver that is named has no say in them.
    let fits = |(vendor, words): &(&str, &[&str])| match request.driver.as_str() {
        "" => capabilities.iter().any(|set| set.iter().all(|word| words.contains(&word.as_str()))),
        "nvidia.cdi" => *vendor == "nvidia",
        driver => *vendor == driver,
    };
    let has_gpus = |vendor: &str| registry.names().any(|name| name.starts_with(&format!("{vendor}.com/gpu=")));
    let Some((vendor, _)) = VENDORS.iter().filter(|known| fits(known)).find(|(vendor, _)| has_gpus(vendor)) else {
        let sets: Vec<String> = capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
        bail!("could not select device driver {:?} with capabilities: [{}]", request.driver, sets.join(" "));
    };
    ensure!(request.count == 0 || ids.is_empty(), "cannot set both Count and DeviceIDs on device request");
    let ids = match request.count {
        0 => ids,
        count if count < 0 => vec!["all".to_owned()],
        count => (0..count.min(1024)).map(|number| number.to_string()).collect(),
    };
    Ok(ids.into_iter().map(|id| if id.contains('=') { id } else { format!("{vendor}.com/gpu={id}") }).collect())
}

/// The device nodes, with what the files leave to the host.
pub fn granted(edits: &Edits, user: &User) -> Result<Vec<Granted>> {
    edits.nodes.iter().map(|node| grant(node, user).context("CDI device injection failed")).collect()
}

fn grant(node: &Node, user: &User) -> Result<Granted> {
    // Vendors may say all of it of a device that is not there yet.
    let is_whole = !node.kind.is_empty() && (node.major != 0 || node.kind == "p");
    let there = look(&node.host_path);
    let (mut kind, mut numbers, mut mode) = (node.kind.clone(), (node.major, node.minor), node.file_mode);
    match there {
        Ok((found, major, minor, permissions)) => {
            mode = mode.or(Some(permissions));
            if !is_whole {
                if !kind.is_empty() && kind != found {
                    bail!("CDI device ({:?}, {:?}), host type mismatch ({kind}, {found})", node.path, node.host_path);
                }
                kind = found.to_owned();
                numbers = if node.major == 0 { (major, minor) } else { numbers };
            }
        }
        Err(error) if !is_whole => {
            return Err(error).with_context(|| format!("failed to stat CDI host device {:?}", node.host_path));
        }
        Err(_) => {}
    }
    let own = |id: Option<u32>, of_user: u32| id.or((of_user > 0).then_some(of_user));
    let device = Device {
        path: mounts::clean(&node.path),
        // The unbuffered ones are character devices like the others.
        kind: if kind == "u" { "c".to_owned() } else { kind },
        major: Some(numbers.0),
        minor: Some(numbers.1),
        file_mode: mode,
        uid: own(node.uid, user.uid),
        gid: own(node.gid, user.gid),
    };
    Ok(Granted { device, source: PathBuf::from(&node.host_path), access: node.access.clone() })
}

/// Kind, numbers and permissions of a device on the host.
fn look(path: &str) -> Result<(&'static str, i64, i64, u32)> {
    let meta = fs::symlink_metadata(path)?;
    let kind = match meta.file_type() {
        kind if kind.is_block_device() => "b",
        kind if kind.is_char_device() => "c",
        kind if kind.is_fifo() => "p",
        _ => bail!("not a device node"),
    };
    let number = meta.rdev();
    let (major, minor) = (nix::sys::stat::major(number) as i64, nix::sys::stat::minor(number) as i64);
    Ok((kind, major, minor, meta.permissions().mode() & 0o7777))
}

/// All but the nodes. `root` is where the container's root lies while hooks are run.
pub fn apply(edits: &Edits, spec: &mut Spec, root: &Path) -> Result<()> {
    if let Some(process) = &mut spec.process {
        for entry in &edits.env {
            let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
            match process.env.iter_mut().find(|known| name(known) == name(entry)) {
                Some(known) => known.clone_from(entry),
                None => process.env.push(entry.clone()),
            }
        }
        for gid in edits.gids.iter().filter(|gid| **gid != 0) {
            if !process.user.additional_gids.contains(gid) {
                process.user.additional_gids.push(*gid);
            }
        }
    }
    if !edits.mounts.is_empty() {
        for mount in &edits.mounts {
            let destination = mounts::clean(&mount.destination);
            spec.mounts.retain(|known| known.destination != destination);
            spec.mounts.push(Mount { destination, ..mount.clone() });
        }
        order::by_key(&mut spec.mounts, |mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());
    }
    if edits.hooks.is_empty() {
        return Ok(());
    }
    let own_ids = spec.linux.as_ref().is_some_and(|linux| !linux.uid_mappings.is_empty());
    let mut hooks = Hooks::default();
    for (moment, hook) in &edits.hooks {
        ensure!(
            !(own_ids && *moment == Moment::CreateContainer),
            "CDI device injection failed: hooks of createContainer are not supported in a user namespace"
        );
        let of_moment = match moment {
            Moment::Prestart => &mut hooks.prestart,
            Moment::CreateRuntime => &mut hooks.create_runtime,
            Moment::CreateContainer => &mut hooks.create_container,
            Moment::Poststart => &mut hooks.poststart,
            Moment::Poststop => &mut hooks.poststop,
        };
        of_moment.push(hook.clone());
    }
    spec.hooks = Some(hooks);
    if let Some(known) = &mut spec.root {
        known.path = root.to_str().context("the container's root is not UTF-8")?.to_owned();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Map;

    fn registry(name: &str, kinds: &[&str]) -> (PathBuf, Vec<PathBuf>) {
        let dir = std::env::temp_dir().join(format!("dhow-requests-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for (at, kind) in kinds.iter().enumerate() {
            let device = |name: &str| format!("- name: \"{name}\"\n  containerEdits:\n    env: [\"{name}=1\"]\n");
            let devices: String = ["0", "1", "all"].map(device).concat();
            let text = format!("cdiVersion: 0.5.0\nkind: {kind}\ncontainerEdits:\n  env: [S=1]\ndevices:\n{devices}");
            fs::write(dir.join(format!("{at}.yaml")), text).unwrap();
        }
        (dir.clone(), vec![dir])
    }

    fn gpus(count: i64, ids: &[&str], words: &[&str]) -> DeviceRequest {
        DeviceRequest {
            count,
            device_ids: (!ids.is_empty()).then(|| ids.iter().map(|id| (*id).to_owned()).collect()),
            capabilities: Some(vec![words.iter().map(|word| (*word).to_owned()).collect()]),
            ..DeviceRequest::default()
        }
    }

    #[test]
    fn gpus_are_devices_of_the_first_vendor_that_has_some() {
        let (nvidia, none) = (registry("nvidia", &["amd.com/gpu", "nvidia.com/gpu"]), registry("none", &["a.b/gpu"]));
        let amd = registry("amd", &["amd.com/gpu"]);
        let named = |driver: &str| DeviceRequest { driver: driver.to_owned(), ..gpus(-1, &[], &["x"]) };
        let cdi = |ids: &[&str]| DeviceRequest { driver: "cdi".to_owned(), capabilities: None, ..gpus(0, ids, &[]) };
        for (request, dirs, expected) in [
            (gpus(-1, &[], &["gpu"]), &nvidia.1, Ok("nvidia.com/gpu=all")),
            (gpus(2, &[], &["gpu", "compute"]), &nvidia.1, Ok("nvidia.com/gpu=0 nvidia.com/gpu=1")),
            (gpus(0, &["1", "a.b/c=0"], &["gpu"]), &nvidia.1, Ok("nvidia.com/gpu=1 a.b/c=0")),
            (gpus(0, &[], &["gpu"]), &nvidia.1, Ok("")),
            (gpus(-1, &[], &["gpu"]), &amd.1, Ok("amd.com/gpu=all")),
            (gpus(-1, &[], &["amd", "gpu"]), &nvidia.1, Ok("amd.com/gpu=all")),
            (named("nvidia"), &nvidia.1, Ok("nvidia.com/gpu=all")),
            (named("nvidia.cdi"), &nvidia.1, Ok("nvidia.com/gpu=all")),
            (named("boat"), &nvidia.1, Err("could not select device driver \"boat\" with capabilities: [[x]]")),
            (
                gpus(-1, &[], &["gpu", "utility"]),
                &amd.1,
                Err("could not select device driver \"\" with capabilities: [[gpu utility]]"),
            ),
            (gpus(-1, &[], &["gpu"]), &none.1, Err("could not select device driver \"\" with capabilities: [[gpu]]")),
            (gpus(1, &["0"], &["gpu"]), &nvidia.1, Err("cannot set both Count and DeviceIDs on device request")),
            (cdi(&["a.b/gpu=0", "x"]), &none.1, Ok("a.b/gpu=0 x")),
            (DeviceRequest { count: 1, ..cdi(&[]) }, &none.1, Err("unexpected count in CDI device request")),
            (
                DeviceRequest { options: Some(Map::from([Default::default()])), ..cdi(&[]) },
                &none.1,
                Err("unexpected options in CDI device request"),
            ),
        ] {
            let given =
                wanted(&request, &Registry::read(dirs)).map(|names| names.join(" ")).map_err(|it| it.to_string());
            assert_eq!(given, expected.map(str::to_owned).map_err(str::to_owned), "{request:?}");
        }
        // Twice the same is once; what holds for all of a file, too.
        let both = edits(&[cdi(&["a.b/gpu=1", "a.b/gpu=0"]), cdi(&["a.b/gpu=1"])], &none.1).unwrap();
        assert_eq!(both.env, ["S=1", "1=1", "0=1"]);
        let said = edits(&[cdi(&["a.b/gpu=7", "x"])], &none.1).unwrap_err();
        assert_eq!(format!("{said:#}"), "CDI device injection failed: unresolvable CDI devices a.b/gpu=7, x");
        let said = edits(&[cdi(&["a.b/gpu=1"])], &[]).unwrap_err();
        assert_eq!(format!("{said:#}"), "CDI device injection failed: no CDI specification directories specified");
        for (dir, _) in [nvidia, none, amd] {
            fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn nodes_are_as_on_the_host_where_nothing_else_is_said() {
        let user = User { uid: 7, ..User::default() };
        let node = |path: &str, host: &str| Node {
            path: path.to_owned(),
            host_path: host.to_owned(),
            access: "rw".to_owned(),
            ..Node::default()
        };
        let full = grant(&node("/dev//x", "/dev/full"), &user).unwrap();
        let Device { path, kind, major, minor, file_mode, uid, gid } = full.device;
        assert_eq!((path.as_str(), kind.as_str(), major, minor), ("/dev/x", "c", Some(1), Some(7)));
        assert_eq!((file_mode, uid, gid), (Some(0o666), Some(7), None));
        let whole = Node { kind: "u".to_owned(), major: 9, minor: 8, uid: Some(0), ..node("/dev/y", "/dev/not-there") };
        let device = grant(&whole, &user).unwrap().device;
        assert_eq!((device.kind.as_str(), device.major, device.minor, device.uid), ("c", Some(9), Some(8), Some(0)));
        for (node, words) in [
            (node("/dev/z", "/dev/not-there"), "failed to stat CDI host device \"/dev/not-there\": No such file"),
            (node("/dev/z", "/etc/hostname"), "failed to stat CDI host device \"/etc/hostname\": not a device node"),
            (
                Node { kind: "b".to_owned(), ..node("/dev/z", "/dev/null") },
                "CDI device (\"/dev/z\", \"/dev/null\"), host type mismatch (b, c)",
            ),
        ] {
            let said = format!("{:#}", grant(&node, &user).unwrap_err());
            assert!(said.starts_with(words), "{said}");
        }
    }
}
