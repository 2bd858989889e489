//! SELinux: which labels a container has, by the rules of go-selinux. A process has one of its own, and files another of
//! the same level: two categories that no other container of the store has, so that none reads what is another's.

use super::locks;
use super::record::Record;
use super::store::{self, Lease, Store};
use crate::api::types::HostConfig;
use crate::sys::kernel;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Categories of a policy: c0 to c1023, as in all that are known.
const CATEGORIES: u32 = 1024;
/// The level of files of containers that no label holds: nobody who is held by one has it.
const UNHELD: &str = "s0:c1022,c1023";
/// Where packages of containers say what theirs are called, before the policy does.
const OF_CONTAINERS: &str = "/usr/share/containers/selinux/contexts";

/// What a host has of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Support {
    /// It is not there, or turned off by the settings.
    #[default]
    None,
    /// There are no labels for containers, for this reason.
    Lacking(String),
    All(Contexts),
}

/// What processes and files of containers are called in the policy, without categories.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contexts {
    pub process: String,
    pub file: String,
    /// Of layers, which all containers read.
    pub layers: String,
}

/// The labels of a container. Empty ones are those that the policy gives by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    pub process: String,
    pub mount: String,
    /// The level was not asked for, and is to be nobody else's.
    pub alone: bool,
}

/// Whether the kernel has it, with a policy.
pub fn is_enabled() -> bool {
    // Without a policy everything is called `kernel`. The file is that of whichever module has the labels.
    Path::new("/sys/fs/selinux/enforce").exists()
        && fs::read("/proc/self/attr/current").is_ok_and(|label| label.trim_ascii_end() != b"kernel\0")
}

/// Asks the kernel, and the files of its policy. `wanted` is the setting `selinux-enabled`.
pub fn support(wanted: Option<bool>) -> Support {
    if wanted == Some(false) || !is_enabled() {
        return Support::None;
    }
    if !kernel::is_first_user_namespace() {
        return Support::Lacking("an ordinary user gives none".to_owned());
    }
    let of_policy = policy().join("contexts/lxc_contexts");
    let text = fs::read_to_string(OF_CONTAINERS).or_else(|_| fs::read_to_string(&of_policy));
    match contexts(&text.unwrap_or_default()) {
        Some(contexts) => Support::All(contexts),
        None => Support::Lacking(format!("{} names none (container-selinux brings it)", of_policy.display())),
    }
}

/// The directory of the policy that is in use.
fn policy() -> PathBuf {
    let text = fs::read_to_string("/etc/selinux/config").unwrap_or_default();
    let kind = assignments(&text).find(|(key, _)| *key == "SELINUXTYPE").map_or("", |(_, value)| value);
    Path::new("/etc/selinux").join(kind)
}

/// `key = "value"`, with comments between.
fn assignments(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with([';', '#']));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
}

fn contexts(text: &str) -> Option<Contexts> {
    let find = |name: &str| assignments(text).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    let (process, file) = (find("process")?, find("file")?);
    let layers = find("ro_file").unwrap_or_else(|| file.clone());
    let all = [&process, &file, &layers].map(|context| Context::parse(context).is_some());
    all.iter().all(|known| *known).then_some(Contexts { process, file, layers })
}

/// `user:role:type:level`, of which a policy without levels has no last part.
#[derive(Clone, Debug, PartialEq)]
struct Context {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl Context {
    fn parse(text: &str) -> Option<Context> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        Some(Context { user: parts.next()?, role: parts.next()?, kind: parts.next()?, level: parts.next() })
    }

    fn text(&self) -> String {
        let Context { user, role, kind, level } = self;
        level.as_ref().map_or_else(|| format!("{user}:{role}:{kind}"), |level| format!("{user}:{role}:{kind}:{level}"))
    }
}

/// What `--security-opt label=…` make of the policy's contexts, with a level where none is asked for. Errors: in the
/// words of go-selinux what is no option; what this host has not.
pub fn labels(options: &[String], support: &Support, level: impl FnOnce() -> Result<String>) -> Result<Labels> {
    for option in options.iter().filter(|option| *option != "disable") {
        if !matches!(option.split_once(':'), Some(("user" | "role" | "type" | "level" | "filetype", _))) {
            bail!(
                "bad label option {option:?}, valid options 'disable' or \n'user, role, level, type, filetype' followed \
                 by ':' and a value"
            );
        }
    }
    let disabled = options.iter().any(|option| option == "disable");
    let contexts = match support {
        Support::All(contexts) => contexts,
        Support::Lacking(why) if !options.is_empty() && !disabled => {
            bail!("label={}: there are no SELinux labels for containers: {why}", options[0])
        }
        _ => return Ok(Labels::default()),
    };
    let wrong = || format!("the SELinux contexts of containers {contexts:?}");
    let mut process = Context::parse(&contexts.process).with_context(wrong)?;
    let mut mount = Context::parse(&contexts.file).with_context(wrong)?;
    let levels = process.level.is_some();
    if disabled {
        mount.level = mount.level.and(Some(UNHELD.to_owned()));
        return Ok(Labels { mount: mount.text(), ..Labels::default() });
    }
    let mut alone = levels;
    for (key, value) in options.iter().filter_map(|option| option.split_once(':')) {
        match key {
            "user" => {
                process.user = value.to_owned();
                mount.user = value.to_owned();
            }
            "role" => process.role = value.to_owned(),
            "type" => process.kind = value.to_owned(),
            "filetype" => mount.kind = value.to_owned(),
            _ => {
                process.level = Some(value.to_owned());
                mount.level = Some(value.to_owned());
                alone = false;
            }
        }
    }
    if alone {
        let level = level()?;
        process.level = Some(level.clone());
        mount.level = Some(level);
    }
    Ok(Labels { process: process.text(), mount: mount.text(), alone })
}

/// Two categories by chance.
pub fn any_level() -> Result<String> {
    loop {
        let number = u64::from_ne_bytes(store::random_bytes()?);
        let (one, other) = (number as u32 % CATEGORIES, (number >> 32) as u32 % CATEGORIES);
        let level = format!("s0:c{},c{}", one.min(other), one.max(other));
        if one != other && level != UNHELD {
            return Ok(level);
        }
    }
}

/// What is added to the options of a container that names no label: who shares the host's processes or memory, or is
/// privileged, is held by none; who shares another container's has its label.
pub fn implied(host: &HostConfig, label_of: &dyn Fn(&str) -> Result<String>) -> Result<Vec<String>> {
    let named = |option: &String| option.split(['=', ':']).next() == Some("label");
    if host.security_opt.iter().flatten().any(named) {
        return Ok(Vec::new());
    }
    if host.privileged || host.ipc_mode == "host" || host.pid_mode == "host" {
        return Ok(vec!["label=disable".to_owned()]);
    }
    let of = |mode: &str| mode.strip_prefix("container:").map(|name| label_of(name).map(|label| options_of(&label)));
    match (of(&host.ipc_mode).transpose()?, of(&host.pid_mode).transpose()?) {
        (Some(ipc), Some(pid)) if ipc != pid => bail!("--ipc and --pid containers SELinux labels aren't the same"),
        (ipc, pid) => Ok(ipc.or(pid).unwrap_or_default()),
    }
}

/// The options that give another container the same label.
fn options_of(label: &str) -> Vec<String> {
    let Some(Context { user, role, kind, level }) = Context::parse(label) else { return Vec::new() };
    let mut options = vec![format!("label=user:{user}"), format!("label=role:{role}"), format!("label=type:{kind}")];
    options.extend(level.map(|level| format!("label=level:{level}")));
    options
}

fn level_of(label: &str) -> Option<String> {
    // Others are not a container's alone.
    Context::parse(label)?.level.filter(|level| level.contains(":c"))
}

/// Takes the level of a container that is being made, exclusively: where another one has it, the next. A level that was
/// asked for may have several owners, of which the first is noted, lest it be given to one that asks for none.
pub fn take(store: &Store, lease: &Lease, id: &str, labels: &mut Labels, durable: bool) -> Result<()> {
    let Some(mut level) = level_of(&labels.process) else { return Ok(()) };
    let places = store.root.join("labels");
    store::make_dirs(&places, 0o700)?;
    loop {
        // Its own until there is a record that says so.
        lease.uses(&claimed(&level, id))?;
        if claim(store, &places, id, &level)? || !labels.alone {
            break;
        }
        level = any_level()?;
        for label in [&mut labels.process, &mut labels.mount] {
            let context = Context::parse(label).context("a container's label")?;
            *label = Context { level: Some(level.clone()), ..context }.text();
        }
    }
    if durable { super::containers::sync_dir(&places) } else { Ok(()) }
}

fn claimed(level: &str, id: &str) -> String {
    format!("label:{level}:{id}")
}

/// False where the level is another container's. What neither a record nor a lease agrees with is nobody's.
fn claim(store: &Store, places: &Path, id: &str, level: &str) -> Result<bool> {
    let _lock = locks::exclusive(&store.run.join("labels.lock"), 0)?;
    let place = places.join(level);
    match fs::read_link(&place) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("look up the level {level}")),
        Ok(owner) => {
            let owner = owner.to_string_lossy();
            let has = |record: Record| level_of(&record.process_label).as_deref() == Some(level);
            if store.leased()?.contains(&claimed(level, &owner)) || Record::load(store, &owner)?.is_some_and(has) {
                return Ok(false);
            }
            store::remove(&place)?;
        }
    }
    std::os::unix::fs::symlink(id, &place).with_context(|| format!("take the level {level}"))?;
    Ok(true)
}

/// Gives back the level of a container that goes.
pub fn release(store: &Store, id: &str, label: &str) -> Result<()> {
    let Some(level) = level_of(label) else { return Ok(()) };
    let place = store.root.join("labels").join(level);
    let _lock = locks::exclusive(&store.run.join("labels.lock"), 0)?;
    if fs::read_link(&place).is_ok_and(|owner| owner == Path::new(id)) {
        store::remove(&place)?;
    }
    Ok(())
}

/// The label of what several containers share.
pub fn shared(label: &str) -> String {
    match Context::parse(label) {
        Some(context) if context.level.is_some() => Context { level: Some("s0".to_owned()), ..context }.text(),
        _ => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Support {
        let text = "# of containers\nprocess = \"system_u:system_r:container_t:s0\"\n\n\
                    file = \"system_u:object_r:container_file_t:s0\"\nro_file=\"system_u:object_r:container_ro_file_t:s0\"\n";
        Support::All(contexts(text).unwrap())
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn labels_are_those_of_go_selinux() {
        for (options, process, mount) in [
            (&[][..], "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"),
            (&["disable"], "", "system_u:object_r:container_file_t:s0:c1022,c1023"),
            (&["type:x_t", "disable"], "", "system_u:object_r:container_file_t:s0:c1022,c1023"),
            (&["type:x_t"], "system_u:system_r:x_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"),
            (&["filetype:x_t"], "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:x_t:s0:c1,c2"),
            (&["user:u", "role:r"], "u:r:container_t:s0:c1,c2", "u:object_r:container_file_t:s0:c1,c2"),
            (&["level:s0:c9"], "system_u:system_r:container_t:s0:c9", "system_u:object_r:container_file_t:s0:c9"),
        ] {
            let labels = labels(&strings(options), &all(), || Ok("s0:c1,c2".to_owned())).unwrap();
            assert_eq!((labels.process.as_str(), labels.mount.as_str()), (process, mount), "{options:?}");
            assert_eq!(labels.alone, process.ends_with("c1,c2"), "{options:?}");
        }
        // A policy without levels.
        let flat = Support::All(Contexts { process: "u:r:t".into(), file: "u:o:f".into(), layers: String::new() });
        let of = |options: &[&str]| labels(&strings(options), &flat, || unreachable!()).unwrap();
        assert_eq!(of(&[]), Labels { process: "u:r:t".into(), mount: "u:o:f".into(), alone: false });
        assert_eq!(of(&["disable"]).mount, "u:o:f");
    }

    #[test]
    fn options_mean_something_where_they_can() {
        let of = |options: &[&str], support: &Support| labels(&strings(options), support, any_level);
        let lacking = Support::Lacking("it is Sunday".to_owned());
        for option in ["x", "x:y", "disabled", "level"] {
            for support in [&Support::None, &lacking, &all()] {
                assert!(of(&[option], support).unwrap_err().to_string().starts_with("bad label option"), "{option}");
            }
        }
        let none = Labels::default();
        assert_eq!(of(&["type:x"], &Support::None).unwrap(), none);
        for options in [&[][..], &["disable"]] {
            assert_eq!(of(options, &lacking).unwrap(), none);
        }
        let error = of(&["type:x"], &lacking).unwrap_err().to_string();
        assert_eq!(error, "label=type:x: there are no SELinux labels for containers: it is Sunday");
        assert_eq!(contexts("process = \"x\"\nfile = \"u:r:t\""), None);
        assert_eq!(contexts("file = \"u:r:t\""), None);
        let layers = |text: &str| contexts(&format!("process = \"u:r:t\"\nfile = \"u:o:f\"\n{text}")).unwrap().layers;
        assert_eq!((layers(""), layers("ro_file = \"u:o:l\"")), ("u:o:f".to_owned(), "u:o:l".to_owned()));
    }

    #[test]
    fn levels_are_two_categories() {
        for _ in 0..1000 {
            let level = any_level().unwrap();
            let (one, other) = level.strip_prefix("s0:c").unwrap().split_once(",c").unwrap();
            let (one, other): (u32, u32) = (one.parse().unwrap(), other.parse().unwrap());
            assert!(one < other && other < CATEGORIES && level != UNHELD, "{level}");
        }
        assert_eq!(shared("u:r:t:s0:c1,c2"), "u:r:t:s0");
        assert_eq!(shared("u:r:t"), "u:r:t");
    }

    #[test]
    fn what_is_implied() {
        let of = |change: &dyn Fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            let label = |name: &str| match name {
                "held" => Ok("u:r:t:s0:c1,c2".to_owned()),
                "other" => Ok("u:r:t:s0:c3,c4".to_owned()),
                _ => Ok(String::new()),
            };
            implied(&host, &label).map_err(|error| error.to_string())
        };
        let held = Ok(strings(&["label=user:u", "label=role:r", "label=type:t", "label=level:s0:c1,c2"]));
        let disabled = Ok(strings(&["label=disable"]));
        assert_eq!(of(&|_| {}), Ok(Vec::new()));
        assert_eq!(of(&|host| host.privileged = true), disabled);
        assert_eq!(of(&|host| host.pid_mode = "host".into()), disabled);
        assert_eq!(of(&|host| host.ipc_mode = "host".into()), disabled);
        let said = |host: &mut HostConfig| host.security_opt = Some(strings(&["label=type:x"]));
        assert_eq!(
            of(&|host| {
                said(host);
                host.privileged = true;
            }),
            Ok(Vec::new())
        );
        assert_eq!(of(&|host| host.ipc_mode = "container:held".into()), held);
        assert_eq!(of(&|host| host.pid_mode = "container:held".into()), held);
        assert_eq!(of(&|host| host.pid_mode = "container:free".into()), Ok(Vec::new()));
        let both = |pid: &'static str| {
            of(&move |host| {
                host.ipc_mode = "container:held".into();
                host.pid_mode = pid.into();
            })
        };
        assert_eq!(both("container:held"), held);
        assert_eq!(both("container:other"), Err("--ipc and --pid containers SELinux labels aren't the same".into()));
    }

    #[test]
    fn no_level_is_given_twice() {
        let dir = std::env::temp_dir().join(format!("dhow-levels-{}", store::random_name().unwrap()));
        let store = Store::open(&dir.join("root"), &dir.join("run")).unwrap();
        let take_by = |lease: &Lease, id: &str, level: &str, alone| {
            let (process, mount) = (format!("u:r:t:{level}"), format!("u:o:f:{level}"));
            let mut labels = Labels { process, mount, alone };
            take(&store, lease, &id.repeat(64), &mut labels, true).unwrap();
            assert_eq!(level_of(&labels.process), level_of(&labels.mount));
            labels.process
        };
        let made = |id: &str, level: &str, alone| {
            let lease = store.lease().unwrap();
            let process_label = take_by(&lease, id, level, alone);
            let version = crate::engine::record::VERSION;
            let record = Record { version, id: id.repeat(64), process_label, ..Record::default() };
            store::make_dirs(&store.container(&record.id), 0o700).unwrap();
            record.save_new(&record.path(&store)).unwrap();
            record.process_label
        };
        let first = made("1", "s0:c1,c2", true);
        assert_eq!(first, "u:r:t:s0:c1,c2");
        assert_ne!(made("2", "s0:c1,c2", true), first);
        // Who asks for it has it.
        assert_eq!(made("3", "s0:c1,c2", false), first);
        release(&store, &"3".repeat(64), &first).unwrap();
        assert_ne!(made("4", "s0:c1,c2", true), first, "it is still the first one's");
        release(&store, &"1".repeat(64), &first).unwrap();
        assert_eq!(made("5", "s0:c1,c2", true), first);
        // A claim of one that is not there any more is void.
        fs::remove_dir_all(store.container(&"5".repeat(64))).unwrap();
        let lease = store.lease().unwrap();
        assert_eq!(take_by(&lease, "6", "s0:c1,c2", true), first);
        // One that is being made is there.
        assert_ne!(made("7", "s0:c1,c2", true), first);
        drop(lease);
        assert_eq!(made("8", "s0:c1,c2", true), first);
        fs::remove_dir_all(&dir).unwrap();
    }
}
