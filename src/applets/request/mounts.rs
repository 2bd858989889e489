//! `-v`, `--mount`, `--tmpfs` and `--device`. All pure.

use super::values;
use crate::api::types::{BindOptions, DeviceMapping, Mount, VolumeDriver, VolumeOptions};
use crate::order::Map;
use std::path::Path;

/// What one `-v` asks for.
#[derive(Debug, PartialEq)]
pub enum Volume {
    /// `-v /data`: a volume without a name.
    Anonymous(String),
    /// `-v source:target[:options]`, the source made absolute.
    Bind(String),
}

/// Reads one `-v`.
pub fn volume(spec: &str, cwd: &Path) -> Result<Volume, String> {
    if spec.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("invalid spec: {spec}: empty section between colons"));
    }
    match parts[..] {
        [target] => Ok(Volume::Anonymous(target.to_owned())),
        [source, ref rest @ ..] if rest.len() <= 2 => {
            let source = if source.starts_with('.') { absolute(source, cwd) } else { source.to_owned() };
            Ok(Volume::Bind([&source, ":", &rest.join(":")].concat()))
        }
        _ => Err(format!("invalid spec: {spec}: too many colons")),
    }
}

/// Joins a relative path to the working directory and resolves its dots by name, as a shell would.
fn absolute(path: &str, cwd: &Path) -> String {
    let mut whole = cwd.to_path_buf();
    for part in Path::new(path).components() {
        match part {
            std::path::Component::ParentDir => drop(whole.pop()),
            std::path::Component::CurDir => {}
            other => whole.push(other),
        }
    }
    whole.to_string_lossy().into_owned()
}

/// `path[:options]` → the key and value of `HostConfig.Tmpfs`.
pub fn tmpfs(specs: &[String]) -> Map<String, String> {
    let pair = |spec: &String| {
        let (path, options) = spec.split_once(':').unwrap_or((spec, ""));
        (path.to_owned(), options.to_owned())
    };
    Map::from_iter(specs.iter().map(pair))
}

/// Reads one `--mount`: a line of CSV with `key=value` fields.
pub fn mount(spec: &str, cwd: &Path) -> Result<Mount, String> {
    let mut mount = Mount { r#type: "volume".to_owned(), ..Default::default() };
    let spec = spec.trim();
    if spec.is_empty() {
        return Err("value is empty".to_owned());
    }
    for field in values::csv(spec)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if key.trim() != key {
            return Err(format!("invalid option '{}' in '{field}': option should not have whitespace", key.trim()));
        }
        if let Some(value) = value {
            if value.trim().is_empty() {
                return Err(format!("invalid value for '{key}': value is empty"));
            }
            if value.trim() != value {
                return Err(format!("invalid value for '{key}' in '{field}': value should not have whitespace"));
            }
        }
        let key = key.to_ascii_lowercase();
        set(&mut mount, &key, value, &field, cwd)?;
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    agree(&mount)?;
    Ok(mount)
}

/// Whether a mount says something in a way that docker warns of.
pub fn is_outdated(spec: &str) -> bool {
    let is_old =
        |field: &String| field.split('=').next().is_some_and(|key| key.eq_ignore_ascii_case("bind-nonrecursive"));
    values::csv(spec.trim()).is_ok_and(|fields| fields.iter().any(is_old))
}

fn set(mount: &mut Mount, key: &str, given: Option<&str>, field: &str, cwd: &Path) -> Result<(), String> {
    let alone = matches!(key, "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive" | "bind-create-src");
    if given.is_none() && !alone {
        return Err(format!("invalid field '{field}' must be a key=value pair"));
    }
    let value = given.unwrap_or("true");
    let owned = value.to_owned();
    match key {
        "type" => mount.r#type = value.to_ascii_lowercase(),
        "source" | "src" if value.starts_with('.') => mount.source = absolute(value, cwd),
        "source" | "src" => mount.source = owned,
        "target" | "dst" | "destination" => mount.target = owned,
        "readonly" | "ro" => mount.read_only = truth(key, value)?,
        "consistency" => mount.consistency = value.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_ascii_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = truth(key, value)?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                let known = r#"(must be "enabled", "disabled", "writable", or "readonly")"#;
                return Err(format!("invalid value for {key}: {value} {known}"));
            }
        },
        "bind-create-src" => bind(mount).create_mountpoint = truth(key, value)?,
        "volume-subpath" => volume_options(mount).subpath = owned,
        "volume-nocopy" => volume_options(mount).no_copy = truth(key, value)?,
        "volume-label" => add(&mut volume_options(mount).labels, value),
        "volume-driver" => driver(mount).name = owned,
        "volume-opt" => add(&mut driver(mount).options, value),
        "image-subpath" => mount.image_options.get_or_insert_default().subpath = owned,
        "tmpfs-size" => {
            let size = values::bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_options.get_or_insert_default().size_bytes = size;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_options.get_or_insert_default().mode = mode;
        }
        _ => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume_options(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut VolumeDriver {
    volume_options(mount).driver_config.get_or_insert_default()
}

fn add(map: &mut Option<Map<String, String>>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !key.is_empty() {
        map.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    }
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!(
            r#"invalid value for '{key}': invalid boolean value ("{value}"): must be one of "true", "1", "false", or "0" (default "true")"#
        )),
    }
}

/// Options of one type do not go with another.
fn agree(mount: &Mount) -> Result<(), String> {
    let Mount { bind_options, volume_options, image_options, tmpfs_options, .. } = mount;
    let groups: [(&str, bool); 4] = [
        ("bind", bind_options.is_some()),
        ("volume", volume_options.is_some()),
        ("image", image_options.is_some()),
        ("tmpfs", tmpfs_options.is_some()),
    ];
    for (kind, present) in groups {
        if present && mount.r#type != kind {
            return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.r#type));
        }
    }
    let Some(bind) = bind_options else { return Ok(()) };
    let needs = |recursive: &str, other: &str| {
        Err(format!("option 'bind-recursive={recursive}' requires '{other}' to be specified in conjunction"))
    };
    if bind.read_only_non_recursive && !mount.read_only {
        return needs("writable", "readonly");
    }
    if bind.read_only_force_recursive && !mount.read_only {
        return needs("readonly", "readonly");
    }
    if bind.read_only_force_recursive && bind.propagation != "rprivate" {
        return needs("readonly", "bind-propagation=rprivate");
    }
    Ok(())
}

/// Reads one `--device`: `path[:path inside][:rwm]`.
pub fn device(spec: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = spec.split(':').collect();
    let (host, inside, permissions) = match parts[..] {
        ["", ..] => return Err(format!("bad format for path: {spec}")),
        [host] => (host, host, "rwm"),
        [host, mode] if permissions(mode) => (host, host, mode),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, mode] if permissions(mode) => (host, inside, mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("bad format for path: {spec}")),
    };
    if !inside.starts_with('/') {
        return Err(format!("{inside} is not an absolute path"));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: inside.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

/// Some of `r`, `w` and `m`, each at most once.
fn permissions(mode: &str) -> bool {
    let once = |c: char| mode.matches(c).count() == 1;
    !mode.is_empty() && mode.chars().all(|c| "rwm".contains(c) && once(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ImageOptions, TmpfsOptions};

    #[test]
    fn volumes() {
        let cwd = Path::new("/home/me");
        let bind = |text: &str| Ok(Volume::Bind(text.to_owned()));
        let table = [
            ("/data", Ok(Volume::Anonymous("/data".into()))),
            ("/a:/b", bind("/a:/b")),
            ("name:/b:ro,z", bind("name:/b:ro,z")),
            ("./a:/b", bind("/home/me/a:/b")),
            ("..:/b:ro", bind("/home:/b:ro")),
            (".:/b", bind("/home/me:/b")),
            ("", Err("invalid empty volume spec".to_owned())),
            (":/b", Err("invalid spec: :/b: empty section between colons".to_owned())),
            ("/a::ro", Err("invalid spec: /a::ro: empty section between colons".to_owned())),
            ("/a:/b:ro:x", Err("invalid spec: /a:/b:ro:x: too many colons".to_owned())),
        ];
        for (spec, expected) in table {
            assert_eq!(volume(spec, cwd), expected, "{spec}");
        }
    }

    #[test]
    fn mounts() {
        let cwd = Path::new("/home/me");
        let base = |kind: &str, source: &str| Mount {
            r#type: kind.into(),
            source: source.into(),
            target: "/t".into(),
            ..Default::default()
        };
        let table = [
            ("target=/t", base("volume", "")),
            ("type=bind,src=./a,dst=/t", base("bind", "/home/me/a")),
            ("type=bind,\"src=/a,b\",dst=/t", base("bind", "/a,b")),
            ("type=bind,source=/a,destination=/t,readonly", Mount { read_only: true, ..base("bind", "/a") }),
            ("type=bind,source=/a,target=/t,ro=false", base("bind", "/a")),
            (
                "type=bind,src=/a,dst=/t,bind-propagation=rslave,bind-recursive=disabled",
                Mount {
                    bind_options: Some(BindOptions {
                        propagation: "rslave".into(),
                        non_recursive: true,
                        ..Default::default()
                    }),
                    ..base("bind", "/a")
                },
            ),
            (
                "src=v,dst=/t,volume-nocopy,volume-subpath=s,volume-label=a=b,volume-driver=local,volume-opt=o=x=y",
                Mount {
                    volume_options: Some(VolumeOptions {
                        no_copy: true,
                        subpath: "s".into(),
                        labels: Some([("a".to_owned(), "b".to_owned())].into()),
                        driver_config: Some(VolumeDriver {
                            name: "local".into(),
                            options: Some([("o".to_owned(), "x=y".to_owned())].into()),
                        }),
                    }),
                    ..base("volume", "v")
                },
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
                Mount {
                    tmpfs_options: Some(TmpfsOptions { size_bytes: 1 << 20, mode: 0o1770, options: None }),
                    ..base("tmpfs", "")
                },
            ),
            (
                "type=image,src=x,dst=/t,image-subpath=s",
                Mount { image_options: Some(ImageOptions { subpath: "s".into() }), ..base("image", "x") },
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(mount(spec, cwd), Ok(expected), "{spec}");
        }
        let wrong = [
            ("", "value is empty"),
            ("type=bind,src", "invalid field 'src' must be a key=value pair"),
            ("type=bind,src=", "invalid value for 'src': value is empty"),
            ("type=bind, src=/a", "invalid option 'src' in ' src=/a': option should not have whitespace"),
            ("type=bind,colour=red", "unknown option 'colour' in 'colour=red'"),
            ("type=bind,src=/a", "target is required"),
            ("type=bind,dst=/t,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("type=tmpfs,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
            (
                "type=bind,ro=perhaps",
                r#"invalid value for 'ro': invalid boolean value ("perhaps"): must be one of "true", "1", "false", or "0" (default "true")"#,
            ),
            (
                "type=bind,dst=/t,bind-recursive=readonly",
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
            ),
            ("\"type=bind", "a quote is not closed in \"\\\"type=bind\""),
        ];
        for (spec, message) in wrong {
            assert_eq!(mount(spec, cwd), Err(message.to_owned()), "{spec}");
        }
    }

    #[test]
    fn devices() {
        let mapping = |host: &str, inside: &str, mode: &str| {
            Ok(DeviceMapping {
                path_on_host: host.into(),
                path_in_container: inside.into(),
                cgroup_permissions: mode.into(),
            })
        };
        let table = [
            ("/dev/null", mapping("/dev/null", "/dev/null", "rwm")),
            ("/dev/null:r", mapping("/dev/null", "/dev/null", "r")),
            ("/dev/null:/dev/x", mapping("/dev/null", "/dev/x", "rwm")),
            ("/dev/null:/dev/x:rw", mapping("/dev/null", "/dev/x", "rw")),
            ("/dev/null:/dev/x:rr", Err("bad mode specified: rr".to_owned())),
            ("/dev/null:x", Err("x is not an absolute path".to_owned())),
            ("a:/b:r:w", Err("bad format for path: a:/b:r:w".to_owned())),
            (":/b", Err("bad format for path: :/b".to_owned())),
        ];
        for (spec, expected) in table {
            assert_eq!(device(spec), expected, "{spec}");
        }
    }
}
