//! How mounts are spelt: `HostConfig.Binds`, `Mounts`, `VolumesFrom`, and tmpfs's options. Errors are without the words
//! that come before them.

use super::{Asked, NewVolume};
use crate::api::types::{Mount, MountPoint, TmpfsOptions};
use crate::engine::record::Mounted;

pub const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// `source:target[:modes]`, a path or a volume's name, from `HostConfig.Binds`.
pub fn bind(spec: &str, driver: &str) -> Result<Asked, String> {
    let invalid = || format!("invalid volume specification: '{spec}'");
    let parts: Vec<&str> = spec.splitn(4, ':').collect();
    let (source, target, modes) = match parts.as_slice() {
        ["", ..] => return Err(invalid()),
        [target] => ("", *target, ""),
        // A target with modes is no volume: /data:rw.
        [_, modes] if is_mode(modes) => return Err(invalid()),
        [source, target] => (*source, *target, ""),
        [source, target, modes] => (*source, *target, *modes),
        _ => return Err(invalid()),
    };
    if !is_mode(modes) {
        return Err(format!("invalid mode: {modes}"));
    }
    if target.is_empty() {
        return Err(format!("{}: field Target must not be empty", invalid()));
    }
    let is_bind = source.starts_with('/');
    let kind = if is_bind { "bind" } else { "volume" };
    check_target(target).map_err(|why| format!("{}: invalid mount config for type \"{kind}\": {why}", invalid()))?;
    if source.contains('\0') {
        return Err(invalid());
    }
    let has = |mode: &str| modes.split(',').any(|word| word == mode);
    let propagation = PROPAGATIONS.iter().find(|propagation| has(propagation));
    let mut point = MountPoint {
        r#type: kind.into(),
        destination: clean(target),
        mode: modes.into(),
        rw: !has("ro"),
        ..MountPoint::default()
    };
    if is_bind {
        if has("nocopy") {
            return Err(format!(
                "{}: invalid mount config for type \"bind\": field VolumeOptions must not be specified",
                invalid()
            ));
        }
        point.source = clean(source);
        point.propagation = propagation.unwrap_or(&"rprivate").to_string();
        let mounted = Mounted { point, ..Mounted::default() };
        return Ok(Asked { mounted, make_source: true, ..Asked::default() });
    }
    if propagation.is_some() {
        return Err(format!(
            "{}: invalid mount config for type \"volume\": field BindOptions must not be specified",
            invalid()
        ));
    }
    if modes.is_empty() {
        point.mode = "z".into();
    }
    let volume = NewVolume { name: source.into(), driver: driver.into(), ..NewVolume::default() };
    let mounted = Mounted { point, anonymous: source.is_empty(), no_copy: has("nocopy"), ..Mounted::default() };
    Ok(Asked { mounted, volume: Some(volume), ..Asked::default() })
}

/// Whether these are modes of a bind: at most one of each kind.
fn is_mode(modes: &str) -> bool {
    if modes.is_empty() {
        return true;
    }
    let kinds: [&[&str]; 5] = [
        &["rw", "ro"],
        &["z", "Z"],
        PROPAGATIONS,
        &["copy", "nocopy"],
        &["default", "consistent", "cached", "delegated"],
    ];
    let mut seen = [false; 5];
    modes.split(',').all(|mode| {
        let kind = kinds.iter().position(|kind| kind.contains(&mode) && mode != "copy" && mode != "default");
        kind.is_some_and(|kind| !std::mem::replace(&mut seen[kind], true))
    })
}

/// One of `HostConfig.Mounts`.
pub fn mount(asked: &Mount, exists: &dyn Fn(&str) -> bool) -> Result<Asked, String> {
    let kind = asked.r#type.as_str();
    let extra = |name: &str| Err(format!("field {name} must not be specified"));
    let missing = |name: &str| Err(format!("field {name} must not be empty"));
    match asked {
        Mount { bind_options: Some(_), .. } if kind != "bind" => return extra("BindOptions"),
        Mount { volume_options: Some(_), .. } if kind != "volume" => return extra("VolumeOptions"),
        Mount { image_options: Some(_), .. } if kind != "image" => return extra("ImageOptions"),
        Mount { tmpfs_options: Some(_), .. } if kind != "tmpfs" => return extra("TmpfsOptions"),
        _ => {}
    }
    if asked.target.is_empty() {
        return missing("Target");
    }
    check_target(&asked.target)?;
    let mut point = MountPoint {
        r#type: kind.into(),
        destination: clean(&asked.target),
        rw: !asked.read_only,
        ..MountPoint::default()
    };
    match kind {
        "bind" => {
            let options = asked.bind_options.clone().unwrap_or_default();
            if asked.source.is_empty() {
                return missing("Source");
            }
            if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
                return Err(format!("invalid propagation mode: {}", options.propagation));
            }
            check_absolute(&asked.source)?;
            if options.read_only_non_recursive && (!asked.read_only || options.read_only_force_recursive) {
                let other = if asked.read_only { "BindOptions.ReadOnlyForceRecursive" } else { "!ReadOnly" };
                return Err(format!("mount options conflict: {other} && BindOptions.ReadOnlyNonRecursive"));
            }
            if options.read_only_force_recursive && !asked.read_only {
                return Err("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive".into());
            }
            point.source = clean(&asked.source);
            if !options.create_mountpoint && !exists(&point.source) {
                return Err(format!("bind source path does not exist: {}", asked.source));
            }
            point.propagation = match options.propagation.as_str() {
                "" => "rprivate".into(),
                propagation => propagation.into(),
            };
            let mounted = Mounted {
                point,
                non_recursive: options.non_recursive,
                read_only_non_recursive: options.read_only_non_recursive,
                ..Mounted::default()
            };
            Ok(Asked { mounted, make_source: options.create_mountpoint, ..Asked::default() })
        }
        "volume" => {
            let options = asked.volume_options.clone().unwrap_or_default();
            if !options.subpath.is_empty() {
                if asked.source.is_empty() {
                    return Err("must not set Subpath when using anonymous volumes".into());
                }
                if !is_local(&options.subpath) {
                    return Err("subpath must be a relative path within the volume".into());
                }
            }
            point.mode = "z".into();
            let driver = options.driver_config.unwrap_or_default();
            let volume = NewVolume {
                name: asked.source.clone(),
                driver: driver.name,
                options: driver.options.filter(|options| !options.is_empty()),
                labels: options.labels,
                durable: true,
            };
            let mounted = Mounted {
                point,
                subpath: options.subpath,
                anonymous: asked.source.is_empty(),
                no_copy: options.no_copy,
                ..Mounted::default()
            };
            Ok(Asked { mounted, volume: Some(volume), ..Asked::default() })
        }
        "tmpfs" => {
            if !asked.source.is_empty() {
                return extra("Source");
            }
            let options = tmpfs_options(asked.tmpfs_options.as_ref(), asked.read_only)?;
            Ok(Asked { mounted: Mounted { point, options, ..Mounted::default() }, ..Asked::default() })
        }
        "image" => {
            if asked.source.is_empty() {
                return missing("Source");
            }
            let subpath = asked.image_options.clone().unwrap_or_default().subpath;
            if !subpath.is_empty() && !is_local(&subpath) {
                return Err("subpath must be a relative path within the volume".into());
            }
            point.name.clone_from(&asked.source);
            point.propagation = "rprivate".into();
            // Whatever was asked for: nobody has a writable layer of it.
            point.rw = false;
            let mounted = Mounted { point, subpath, ..Mounted::default() };
            Ok(Asked { mounted, image: Some(asked.source.clone()), ..Asked::default() })
        }
        "cluster" | "npipe" => Err("this type of mount is not supported".into()),
        _ => Err("mount type unknown".into()),
    }
}

/// The options of `--mount type=tmpfs` as mount(8) spells them.
fn tmpfs_options(options: Option<&TmpfsOptions>, read_only: bool) -> Result<String, String> {
    let mut words = Vec::new();
    if read_only {
        words.push("ro".to_string());
    }
    let Some(options) = options else { return Ok(words.join(",")) };
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes < 0 {
        return Err(format!("invalid size: {}", options.size_bytes));
    }
    if options.size_bytes != 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    for option in options.options.iter().flatten() {
        match option.as_slice() {
            [name] if name == "exec" || name == "noexec" => words.push(name.clone()),
            [name, ..] if name == "exec" || name == "noexec" => return Err("invalid option array length".into()),
            [name, ..] => return Err(format!("invalid option: {name}")),
            [] => return Err("invalid option array length".into()),
        }
    }
    Ok(words.join(","))
}

/// Refuses a word in the options of `--tmpfs` that is none of tmpfs(5)'s.
pub fn check_tmpfs(options: &str) -> Result<(), String> {
    const FLAGS: &[&str] = &[
        "async",
        "atime",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "mand",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "nolazytime",
        "nomand",
        "norelatime",
        "nosuid",
        "private",
        "rprivate",
        "relatime",
        "ro",
        "rshared",
        "rslave",
        "runbindable",
        "rw",
        "shared",
        "slave",
        "strictatime",
        "suid",
        "sync",
        "unbindable",
    ];
    const VALUES: &[&str] = &["gid", "huge", "mode", "mpol", "nr_blocks", "nr_inodes", "size", "uid"];
    let wrong = |word: &&str| match word.split_once('=') {
        Some((name, value)) => !VALUES.contains(&name) || value.is_empty(),
        None => !word.is_empty() && !FLAGS.contains(word),
    };
    match options.split(',').find(wrong) {
        Some(word) => Err(format!("invalid tmpfs option \"{word}\"")),
        None => Ok(()),
    }
}

/// `container[:ro|rw|z|Z]`; whether what it mounts may be written to.
pub fn volumes_from(spec: &str) -> Result<(&str, bool), String> {
    if spec.is_empty() {
        return Err("volumes-from specification cannot be an empty string".into());
    }
    let (container, modes) = spec.split_once(':').unwrap_or((spec, ""));
    // Propagation and copying are those of the other container.
    let is_other = |mode: &str| PROPAGATIONS.contains(&mode) || mode == "nocopy";
    if !is_mode(modes) || modes.split(',').any(is_other) {
        return Err(format!("invalid mode: {modes}"));
    }
    Ok((container, !modes.split(',').any(|mode| mode == "ro")))
}

pub fn check_target(target: &str) -> Result<(), String> {
    if clean(target) == "/" {
        return Err("invalid specification: destination can't be '/'".into());
    }
    check_absolute(target)
}

fn check_absolute(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("invalid mount path: '{path}' mount path must be absolute"));
    }
    if path.contains('\0') {
        return Err("invalid mount path: it holds a zero byte".into());
    }
    Ok(())
}

/// How many directories a path goes down: what lies inside of a mount is mounted after it.
pub fn depth(path: &str) -> usize {
    path.matches('/').count()
}

/// Whether a relative path stays inside of where it starts, by its text.
pub fn is_local(path: &str) -> bool {
    let mut depth = 0_i64;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return false;
        }
    }
    !path.starts_with('/') && !path.contains('\0')
}

/// The shortest path of the same meaning, by its text, as Go's `path.Clean`.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}
