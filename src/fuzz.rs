//! What comes from outside, and must never do more than be refused: the targets of the fuzzers. The unit tests run
//! each for a moment, with inputs that are made from those in tests/corpus by a generator which is the same every time;
//! libFuzzer's turn is among the scenarios.
//!
//! An input that once did harm stays in tests/corpus.

use crate::api::http::fuzz as http;
use crate::api::types::{
    AuthConfig, ContainerCreate, ExecCreate, ExecStart, HostConfig, NetworkCreate, ProgressLine, VolumeCreate,
};
use crate::api::version::ApiVersion;
use crate::api::{base64, time, units};
use crate::applets::fuzz as applets;
use crate::build::fuzz as build;
use crate::cgroup;
use crate::engine::filters::Filters;
use crate::engine::protocol::Message;
use crate::engine::{DEFAULT_ROOT, Record, Settings, create, devices, logs, older, query};
use crate::fs::unpack;
use crate::json;
use crate::net::dns::message::fuzz as dns;
use crate::ns::caps::CapSet;
use crate::ns::{self, Given, Step, profile};
use crate::oci::auth::Credentials;
use crate::oci::image::{Document, ImageConfig, chain_ids};
use crate::oci::registry;
use crate::oci::runtime::{Seccomp, Spec};
use crate::oci::{self, Digest, Platform, Reference, archive};
use std::path::Path;

/// One way in.
pub type Target = fn(&[u8]);

/// All of them; the names are those of the folders in tests/corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("http", http::requests),
    ("answers", http::answers),
    ("frames", frames),
    ("json", json),
    ("filters", filters),
    ("reference", reference),
    ("manifest", manifest),
    ("layer", layer),
    ("spec", spec),
    ("seccomp", seccomp),
    ("log", log),
    ("template", applets::template),
    ("dockerfile", build::dockerfile),
    ("names", dns::messages),
    ("cdi", cdi),
];

/// The streams of a container, as frames, as messages of a WebSocket, and as a shim's protocol.
pub fn frames(bytes: &[u8]) {
    applets::frames(bytes);
    http::websocket(bytes);
    if let Some(header) = bytes.first_chunk() {
        let _ = Message::decode(header);
    }
}

/// Bodies of requests, and files that people and other builds write.
pub fn json(bytes: &[u8]) {
    if let Ok(mut asked) = json::from_slice::<ContainerCreate>(bytes)
        && older::create(ApiVersion::new(1, 24), true, &mut asked).is_ok()
    {
        let _ = create::examine(&Settings::default(), Path::new(DEFAULT_ROOT), asked);
    }
    let _ = json::from_slice::<HostConfig>(bytes);
    let _ = json::from_slice::<ExecCreate>(bytes);
    let _ = json::from_slice::<ExecStart>(bytes);
    let _ = json::from_slice::<VolumeCreate>(bytes);
    let _ = json::from_slice::<NetworkCreate>(bytes);
    let _ = json::from_slice::<AuthConfig>(bytes);
    let _ = json::from_slice::<ProgressLine>(bytes);
    if let Ok(record) = json::from_slice::<Record>(bytes) {
        let again = serde_json::to_vec(&record).expect("a record is JSON");
        assert_eq!(json::from_slice::<Record>(&again).expect("and is read again"), record);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Settings::parse(text);
    }
    applets::context(bytes);
}

/// Filters, and the small languages of values: times, sizes, device rules.
pub fn filters(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(filters) = Filters::parse(Some(text)) {
        let _ = (filters.accept(&["label"]), filters.flag("dangling"), query::Prune::new(&filters).is_ok());
        let _ = (filters.labels(&Default::default()), filters.matches("name", "web"), filters.is("id", "0"));
    }
    let _ = query::point(text);
    let _ = (time::Time::parse(text), time::Time::parse_local(text), time::parse_duration(text));
    let _ = (units::parse_binary(text), units::parse_decimal(text), devices::rule(text));
    if let Some(plain) = base64::decode(text) {
        assert_eq!(base64::decode(&base64::encode(&plain)), Some(plain));
    }
    let _ = Credentials::from_header(text);
}

/// Names of images, digests and platforms: what is taken is written as it was read.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = Reference::parse(text) {
        let spelt = reference.to_string();
        assert_eq!(Reference::parse(&spelt).expect("its own name"), reference, "{text:?} as {spelt:?}");
        assert!(!reference.path.contains("..") && !reference.path.starts_with('/'), "{text:?}");
        // Not read again: without its domain a name of Docker Hub's may look like one of another's, as in Docker.
        let _ = (reference.familiar(), reference.familiar_name(), reference.manifest_name(), reference.or_latest());
    }
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    if let Ok(platform) = Platform::parse(text) {
        let _ = (platform.to_string(), platform.normalised());
    }
}

/// What registries and archives say of images.
pub fn manifest(bytes: &[u8]) {
    for hint in ["", "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"] {
        let _ = Document::parse(bytes, hint);
    }
    if let Ok(config) = ImageConfig::parse(bytes)
        && config.check_layers().is_ok()
    {
        let _ = (config.platform(), chain_ids(&config.rootfs.diff_ids));
    }
    let _ = json::from_slice::<Vec<archive::Item>>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        registry::fuzz(text);
    }
}

/// The tar of a layer: whatever it says, nothing is written beside the place that it was given.
pub fn layer(bytes: &[u8]) {
    let base = if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm").to_owned() } else { std::env::temp_dir() };
    let home = base.join(format!("dhow-fuzz-{}-{:?}", std::process::id(), std::thread::current().id()));
    let staging = home.join("staging");
    std::fs::create_dir_all(&staging).expect("make a directory");
    let _ = unpack::unpack(&mut &bytes[..bytes.len().min(1 << 20)], &staging);
    let beside = std::fs::read_dir(&home).expect("list").count();
    crate::fs::remove::tree(&home).expect("remove what was unpacked");
    assert_eq!(beside, 1, "something lies beside the layer");
}

/// The configuration of a container, as the runtime specification has it: what is taken is planned in an order that holds.
pub fn spec(bytes: &[u8]) {
    let Ok(spec) = json::from_slice::<Spec>(bytes) else { return };
    let again = serde_json::to_vec(&spec).expect("a specification is JSON");
    assert_eq!(json::from_slice::<Spec>(&again).expect("and is read again"), spec);
    if let Some(resources) = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
        let plans = [true, false].map(|bfq| cgroup::limits::plan(resources, bfq).unwrap_or_default());
        let files = plans.iter().flatten().map(|setting| &setting.file);
        files.for_each(|file| assert!(!file.contains('/'), "{file:?} is not of the cgroup"));
        let _ = cgroup::devices::compile(&resources.devices);
    }
    let Ok(plan) = ns::plan(&spec, Given::default()) else { return };
    let at = |is: fn(&Step) -> bool| plan.steps.iter().position(is);
    let pivot = at(|step| matches!(step, Step::Pivot)).expect("a root");
    let capabilities = at(|step| matches!(step, Step::Capabilities { .. })).expect("capabilities that are given up");
    assert!(pivot < capabilities && matches!(plan.steps.last(), Some(Step::Exec(_))), "{:?}", plan.steps);
    let mounts = |step: &Step| matches!(step, Step::Attach { .. } | Step::Mask { .. } | Step::ReadonlyPath { .. });
    assert!(!plan.steps[pivot..].iter().any(mounts), "{:?}", plan.steps);
}

/// Profiles of system calls, in Docker's format and the specification's: what is taken is a program that ends.
pub fn seccomp(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut profiles: Vec<Seccomp> = json::from_slice(bytes).into_iter().collect();
    for caps in [CapSet::EMPTY, CapSet::NAMED] {
        let host = profile::Host { caps, arch: profile::ARCH, kernel: (6, 12) };
        profiles.extend(profile::load(text, host).ok().flatten());
    }
    for profile in &profiles {
        let Ok((program, _)) = ns::seccomp::compile(profile) else { continue };
        for (at, one) in program.iter().enumerate() {
            let jumps = match u32::from(one.code) {
                libc::BPF_JMP => [one.k as usize; 2],
                code if code & 7 == libc::BPF_JMP => [one.jt.into(), one.jf.into()],
                code if code & 7 == libc::BPF_RET => continue,
                _ => [0; 2],
            };
            jumps.into_iter().for_each(|jump| assert!(at + 1 + jump < program.len(), "{at} leads out of {program:?}"));
        }
    }
}

/// Files that describe devices, in JSON and YAML.
pub fn cdi(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        oci::cdi::fuzz(text);
    }
}

/// Lines of a log, which a full disk or another program may have broken.
pub fn log(bytes: &[u8]) {
    let mut text = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let before = text.len();
        if logs::decode(line, &mut text).is_none() {
            text.truncate(before);
        }
    }
    assert!(text.len() <= bytes.len() * 3, "{} bytes of {}", text.len(), bytes.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant};

    /// The crate for libFuzzer has modules and dependencies of its own, which are to be these.
    #[test]
    fn the_crate_for_libfuzzer_is_made_of_the_same() {
        let modules = |text: &str| -> Vec<String> {
            // The last is of tests alone.
            let named = text.lines().filter(|line| line.starts_with("mod ") && *line != "mod skip;");
            named.map(str::to_owned).collect()
        };
        assert_eq!(modules(include_str!("main.rs")), modules(include_str!("../fuzz/src/modules.rs")));
        let dependencies = |text: &str| -> Vec<String> {
            let lines = text.lines().skip_while(|line| *line != "[dependencies]").skip(1);
            lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect()
        };
        let mut theirs = dependencies(include_str!("../fuzz/Cargo.toml"));
        theirs.retain(|line| !line.starts_with("libfuzzer-sys "));
        assert_eq!(dependencies(include_str!("../Cargo.toml")), theirs);
        // And cargo-fuzz is told of each target.
        for (name, _) in TARGETS {
            assert!(include_str!("../fuzz/Cargo.toml").contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
        }
    }

    /// Seeds that were refused at the door would lead nowhere.
    #[test]
    fn what_the_corpora_begin_with_is_taken() {
        let read = |name: &str| {
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)).unwrap()
        };
        let plan = ns::plan(&serde_json::from_str(&read("spec/whole")).unwrap(), Given::default()).unwrap();
        assert!(plan.steps.len() > 30, "{:?}", plan.steps);
        let host = profile::Host { caps: CapSet::EMPTY, arch: profile::ARCH, kernel: (6, 12) };
        for name in ["seccomp/docker", "seccomp/oci"] {
            let profile = profile::load(&read(name), host).unwrap().unwrap();
            assert!(ns::seccomp::compile(&profile).unwrap().0.len() > 30, "{name}");
        }
    }

    /// Marsaglia's xorshift: the same numbers every time.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % below.max(1) as u64) as usize
        }
    }

    /// Bytes that have broken programs before.
    const WORDS: [&[u8]; 22] = [
        b"\0",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\r\n",
        b"\n\n",
        b"-1",
        b"0",
        b"99999999999999999999",
        b"9223372036854775807",
        b"1e400",
        b"null",
        b"[]",
        b"{}",
        b"\"\"",
        b"\\u0000",
        b"\\ud800",
        b"../",
        b"//",
        b"%00",
        b"\xc3\x28",
        b":",
        b",",
    ];

    fn mutate(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[numbers.next(corpus.len())].clone();
        for _ in 0..=numbers.next(6) {
            let (at, length) = (numbers.next(bytes.len() + 1), numbers.next(40));
            let end = (at + length).min(bytes.len());
            match numbers.next(8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << numbers.next(8),
                1 if at < bytes.len() => bytes[at] = numbers.next(256) as u8,
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let piece = bytes[at..end].to_vec();
                    let to = numbers.next(bytes.len() + 1);
                    bytes.splice(to..to, piece);
                }
                4 => drop(bytes.splice(at..at, WORDS[numbers.next(WORDS.len())].iter().copied())),
                5 => drop(bytes.splice(at..end, WORDS[numbers.next(WORDS.len())].iter().copied())),
                6 => {
                    let other = &corpus[numbers.next(corpus.len())];
                    let from = numbers.next(other.len() + 1);
                    bytes.splice(at.., other[from..].iter().copied());
                }
                _ => bytes.truncate(at.max(1)),
            }
            bytes.truncate(64 << 10);
        }
        bytes
    }

    /// How long each target is tried: libFuzzer, which makes more of its time, has more.
    const PATIENCE: Duration = Duration::from_secs(1);

    fn run(name: &str) {
        let target = TARGETS.iter().find(|(known, _)| *known == name).expect("a target").1;
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
        let mut paths: Vec<_> =
            std::fs::read_dir(&dir).expect("its corpus").map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!corpus.is_empty());
        let try_one = |bytes: &[u8]| {
            if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
                panic!("{name}: keep this input in {}: \"{}\"", dir.display(), bytes.escape_ascii());
            }
        };
        corpus.iter().for_each(|bytes| try_one(bytes));
        let (start, mut numbers) = (Instant::now(), Numbers(0x9e37_79b9_7f4a_7c15));
        while start.elapsed() < PATIENCE {
            for _ in 0..16 {
                try_one(&mutate(&mut numbers, &corpus));
            }
        }
    }

    macro_rules! targets {
        ($($name:ident)*) => {
            $(#[test] fn $name() { run(stringify!($name)); })*

            #[test]
            fn none_is_left_out() {
                let named: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
                assert_eq!(named, [$(stringify!($name)),*]);
            }
        };
    }

    targets! { http answers frames json filters reference manifest layer spec seccomp log template dockerfile names cdi }
}
