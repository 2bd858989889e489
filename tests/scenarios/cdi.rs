//! Devices by the Container Device Interface: `--device vendor.com/class=name`, from files of vendors.

use super::builds::{build, folder, says};
use crate::fixture::{Host, eventually, name};
use serde_json::{Value, json};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A file of a vendor of this test's own, where every engine finds it; gone with the test.
pub struct Vendor {
    path: PathBuf,
    /// `vendor.com/class`
    pub kind: String,
}

const USUAL: &str = "/var/run/cdi";

impl Vendor {
    pub fn new() -> Vendor {
        let name = format!("{}-{}.test", name().replace("::", "."), std::process::id());
        Vendor { path: Path::new(USUAL).join(format!("{name}.json")), kind: format!("{name}/boat") }
    }

    /// Says what devices there are, by name, and what holds for all.
    pub fn says(&self, devices: &[(&str, Value)], all: Value) {
        self.write(&spec(&self.kind, devices, all));
    }

    /// The same with an annotation that says true, and the class `boats`.
    pub fn annotated(&self, annotation: &str, devices: &[(&str, Value)]) {
        let mut text: Value = serde_json::from_str(&spec(&self.kind, devices, json!({}))).expect("JSON");
        text["annotations"] = json!({annotation: "true", "org.mobyproject.buildkit.device.class": "boats"});
        self.write(&text.to_string());
    }

    /// At once, for others read it too; and they take the directory away when they find it empty.
    fn write(&self, text: &str) {
        let new = self.path.with_extension("new");
        eventually("the file of devices is written", || {
            fs::create_dir_all(USUAL).expect("make a directory");
            match fs::write(&new, text).and_then(|()| fs::rename(&new, &self.path)) {
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                done => done.map(|()| true).expect("write a file of devices"),
            }
        });
    }

    pub fn device(&self, name: &str) -> String {
        format!("{}={name}", self.kind)
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(USUAL);
    }
}

pub fn spec(kind: &str, devices: &[(&str, Value)], all: Value) -> String {
    let devices: Vec<Value> =
        devices.iter().map(|(name, edits)| json!({"name": name, "containerEdits": edits})).collect();
    json!({"cdiVersion": "1.1.0", "kind": kind, "devices": devices, "containerEdits": all}).to_string()
}

#[test]
fn what_a_vendor_says_becomes_of_a_container() {
    let (Some(host), vendor) = (Host::with_busybox(), Vendor::new()) else { return };
    let file = host.file("lent/word", "ahoy\n");
    let lent = file.parent().expect("a directory").display().to_string();
    let edits = json!({
        "env": ["HULL=oak", "PATH=/lent:/bin"],
        "deviceNodes": [
            {"path": "/dev/deep/full", "hostPath": "/dev/full", "permissions": "rw"},
            {"path": "/dev/made", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "gid": 7},
            {"path": "/dev/shut", "hostPath": "/dev/kmsg", "permissions": "none"},
        ],
        "mounts": [
            {"hostPath": lent, "containerPath": "/lent", "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]},
            {"hostPath": "tmpfs", "containerPath": "/lent-too", "type": "tmpfs", "options": ["size=64k"]},
        ],
        "additionalGids": [0, 4711],
    });
    vendor.says(&[("one", edits), ("two", json!({"env": ["MAST=2"]}))], json!({"env": ["ALL=1"]}));
    let (one, two) = (vendor.device("one"), vendor.device("two"));
    let line = "echo $ALL $HULL $MAST $PATH; cat /lent/word; (touch /lent/x) 2>/dev/null || echo sealed; \
                (echo >/dev/deep/full) 2>&1; head -c 3 /dev/made | od -An -c; stat -c '%a %u %g' /dev/made; \
                (: </dev/shut) 2>/dev/null || echo shut; id -G; grep -c ' /lent-too tmpfs' /proc/mounts";
    let flags = ["--device", &one, "--device", &two, "-e", "MAST=1"];
    let said = host.sh(&flags, line);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["1 oak 2 /lent:/bin", "ahoy", "sealed"], "{said}");
    assert!(lines[3].ends_with("No space left on device"), "{said}");
    assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>(), ["\\0"; 3], "{said}");
    assert_eq!(lines[5..7], ["640 0 7", "shut"], "{said}");
    assert!(lines[7].split_whitespace().any(|gid| gid == "4711"), "{said}");
    assert_eq!(lines[8], "1", "{said}");
    let user = host.sh(&["--device", &one, "-u", "9:8"], "stat -c '%u %g' /dev/deep/full /dev/made");
    assert_eq!(user, "9 8\n9 7", "what the vendor leaves open is the user's");

    // The files are read at each start; what was asked for is told.
    let id = host.detached(&["--device", &two], &["sh", "-c", "echo $MAST"]);
    let asked = host.inspect(&id, "/HostConfig/DeviceRequests");
    let expected = json!([{"Driver": "cdi", "Count": 0, "DeviceIDs": [two], "Capabilities": null, "Options": null}]);
    assert_eq!(asked, expected);
    host.ok(["wait", &id]);
    vendor.says(&[("two", json!({"env": ["MAST=3"]}))], json!({}));
    host.ok(["start", &id]);
    host.ok(["wait", &id]);
    assert_eq!(host.ok(["logs", &id]), "2\n3");
    host.ok(["rm", &id]);
    let info: Value = serde_json::from_str(&host.ok(["info", "-f", "json"])).expect("JSON");
    assert_eq!(info["CDISpecDirs"], json!(["/etc/cdi", USUAL]));
    let found = info["DiscoveredDevices"].as_array().cloned().unwrap_or_default();
    assert!(found.contains(&json!({"Source": "cdi", "ID": two})), "{found:?}");
    let shown = host.ok(["info"]);
    assert!(shown.contains(&format!("\n Discovered Devices:\n  cdi: {two}\n")) || found.len() > 1, "{shown}");
}

#[test]
fn hooks_are_run_where_they_belong() {
    let (Some(host), vendor) = (Host::with_busybox(), Vendor::new()) else { return };
    let dir = host.dir().join("told");
    fs::create_dir(&dir).expect("make a directory");
    let at = |name: &str| dir.join(name);
    let hook = |moment: &str, line: &str| json!({"hookName": moment, "path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin", "WHO=vendor"]});
    // As nvidia-cdi-hook does it: by way of the bundle to where the root lies.
    let inside = format!(
        "bundle=$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/'); \
         root=$(sed 's/.*\"root\":{{\"path\":\"\\([^\"]*\\)\".*/\\1/' $bundle/config.json); \
         echo $WHO >$root/etc/hooked; test -e $root/proc/self && for one in mnt pid uts net ipc; do readlink /proc/self/ns/$one; done >{}",
        at("inside").display()
    );
    let tell = |moment: &str, extra: &str| hook(moment, &format!("cat >{}; {extra}", at(moment).display()));
    let edits = json!({"hooks": [
        tell("prestart", ""),
        tell("createRuntime", &format!("readlink /proc/self/ns/mnt >{}", at("outside").display())),
        hook("createContainer", &inside),
        tell("poststart", ""),
        tell("poststop", &format!("grep CapEff /proc/self/status >{}", at("caps").display())),
    ]});
    vendor.says(&[("one", edits)], json!({}));
    let device = vendor.device("one");
    let line = "cat /etc/hooked; for one in mnt pid uts net ipc; do readlink /proc/self/ns/$one; done";
    let id = host.detached(&["--device", &device, "--read-only"], &["sh", "-c", line]);
    host.ok(["wait", &id]);
    let said = host.ok(["logs", &id]);
    let told = |name: &str| fs::read_to_string(at(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(said, format!("vendor\n{}", told("inside").trim()), "in the container's own namespaces");
    assert!(!said.contains(told("outside").trim()), "{said}");
    eventually("the last hook", || fs::read(at("caps")).is_ok_and(|text| text.ends_with(b"\n")));
    let state = |name: &str| serde_json::from_str::<Value>(&told(name)).expect("a state is JSON");
    for (name, status) in
        [("prestart", "creating"), ("createRuntime", "creating"), ("poststart", "running"), ("poststop", "stopped")]
    {
        let state = state(name);
        assert_eq!((&state["id"], &state["status"]), (&json!(id), &json!(status)), "{state}");
        assert_eq!(state["pid"].as_i64().is_some_and(|pid| pid > 1), name != "poststop", "{state}");
        assert_eq!(state["bundle"], json!(host.run_dir().join("containers").join(&id)), "{state}");
    }
    let own = fs::read_to_string("/proc/self/status").expect("our own status");
    let own = own.lines().find(|line| line.starts_with("CapEff")).expect("our capabilities");
    assert_eq!(told("caps").trim(), own, "the last hook may do what the first may");
    host.ok(["rm", &id]);

    // Nobody enters before the root is the container's own.
    let line = format!(
        "cat >/dev/null; touch {}; until test -e {}; do sleep 0.02; done",
        at("there").display(),
        at("go").display()
    );
    vendor.says(&[("one", json!({"hooks": [hook("createContainer", &line)]}))], json!({}));
    host.ok(["create", "--name", "slow", "--network", "none", "--device", &device, "busybox", "cat", "/etc/hostname"]);
    let starting = host.dhow(["start", "slow"]).spawn();
    eventually("the hook", || at("there").exists());
    assert_eq!(host.inspect("slow", "/State/Status"), "created");
    let text = host.refused(1, ["exec", "slow", "ls", "/"]);
    assert!(text.contains("is not running"), "{text}");
    fs::write(at("go"), "").expect("let it go on");
    assert!(starting.wait().status.success());
    assert_eq!(host.ok(["wait", "slow"]), "0");
    host.ok(["rm", "slow"]);

    // A restart runs them anew, with all that they may.
    let line = format!("cat >/dev/null; grep CapEff /proc/self/status >>{}", at("again").display());
    vendor.says(&[("one", json!({"hooks": [hook("createContainer", &line)]}))], json!({}));
    let id = host.detached(&["--device", &device, "--restart", "on-failure:1"], &["false"]);
    eventually("the restart", || {
        host.inspect(&id, "/RestartCount") == 1 && host.inspect(&id, "/State/Status") == "exited"
    });
    assert_eq!(told("again"), format!("{own}\n{own}\n"));
    host.ok(["rm", &id]);

    // One that fails ends the start, in words, and leaves nothing.
    for (moment, line, timeout, words) in [
        (
            "createRuntime",
            "echo reef ahead >&2; exit 3",
            None,
            "error running createRuntime hook #0 (/bin/sh): exit status 3, output: reef ahead",
        ),
        (
            "createContainer",
            "echo one; echo two; exit 4",
            None,
            "error running createContainer hook #0 (/bin/sh): exit status 4, output: one; two",
        ),
        ("createContainer", "kill -9 $$", None, "error running createContainer hook #0 (/bin/sh): signal: SIGKILL"),
        ("createContainer", "sleep 1000", Some(1), "error running createContainer hook #0 (/bin/sh): timed out"),
        ("prestart", "sleep 1000", Some(1), "error running prestart hook #0 (/bin/sh): timed out"),
        ("poststart", "exit 5", None, "error running poststart hook #0 (/bin/sh): exit status 5"),
    ] {
        let mut bad = hook(moment, line);
        if let Some(seconds) = timeout {
            bad["timeout"] = json!(seconds);
        }
        vendor.says(&[("one", json!({"hooks": [bad]}))], json!({}));
        let output = host.busybox(&["--device", &device], &["sleep", "1000"]).run();
        assert!(!output.status.success() && output.stderr().contains(words), "{moment}: {output}");
    }
    // What others have set up is taken back by the last one, too, where the command is not there.
    fs::remove_file(at("poststop")).expect("forget what was told");
    vendor.says(&[("one", json!({"hooks": [tell("createRuntime", ""), tell("poststop", "")]}))], json!({}));
    host.busybox(&["--device", &device], &["no-such-program"]).refused(127);
    assert_eq!(state("poststop")["status"], json!("stopped"));
    let missing = json!({"hookName": "createContainer", "path": "/no/such/hook"});
    vendor.says(&[("one", json!({"hooks": [missing]}))], json!({}));
    let output = host.busybox(&["--device", &device], &["true"]).run();
    let words =
        "error running createContainer hook #0 (/no/such/hook): exit status 127, output: No such file or directory";
    assert!(output.stderr().contains(words), "{output}");
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

/// Which has no time limit.
#[test]
fn a_hook_that_does_not_end_goes_with_the_container() {
    let (Some(host), vendor) = (Host::with_busybox(), Vendor::new()) else { return };
    let told = host.dir().join("told");
    // Those that run, by their environment.
    let named = format!("TOLD={}", told.display());
    let runs = || {
        let all = fs::read_dir("/proc").expect("list processes").flatten();
        let environments = all.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
        environments.filter(|text| text.split(|byte| *byte == 0).any(|one| one == named.as_bytes())).count()
    };
    // At the second time, where there is one.
    let line = |from: usize| {
        let told = told.display();
        format!("cat >/dev/null; echo $$ >>{told}; [ $(wc -l <{told}) -lt {from} ] || exec sleep 1000")
    };
    let hook = |moment: &str, line: &str| json!({"hookName": moment, "path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin", named]});
    for (moment, from) in
        [("prestart", 1), ("createRuntime", 1), ("createContainer", 1), ("poststart", 1), ("createRuntime", 2)]
    {
        let _ = fs::remove_file(&told);
        vendor.says(&[("one", json!({"hooks": [hook(moment, &line(from))]}))], json!({}));
        let (device, policy) = (vendor.device("one"), if from == 2 { "always" } else { "no" });
        host.ok([
            "create",
            "--name",
            "it",
            "--network",
            "none",
            "--restart",
            policy,
            "--device",
            &device,
            "busybox",
            "false",
        ]);
        let starting = host.dhow(["start", "it"]).spawn();
        let hooks = || fs::read_to_string(&told).unwrap_or_default();
        eventually("it hangs", || hooks().lines().count() == from);
        host.ok(["rm", "--force", "it"]);
        eventually(&format!("no hook of {moment} is left"), || runs() == 0);
        let output = starting.wait();
        assert_eq!(output.status.success(), from == 2, "{moment}: {output}");
        assert_eq!(host.ok(["ps", "-aq"]), "");
    }
    // Without force it is waited for, and runs then.
    let go = host.dir().join("go");
    let waits =
        format!("cat >/dev/null; touch {}; until test -e {}; do sleep 0.02; done", told.display(), go.display());
    let _ = fs::remove_file(&told);
    vendor.says(&[("one", json!({"hooks": [hook("createRuntime", &waits)]}))], json!({}));
    let starting =
        host.busybox(&["--detach", "--name", "it", "--device", &vendor.device("one")], &["sleep", "1000"]).spawn();
    eventually("the hook", || told.exists());
    let removing = host.dhow(["rm", "it"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(200));
    fs::write(&go, "").expect("let it go on");
    assert!(removing.wait().stderr().contains("container is running"));
    assert!(starting.wait().status.success());
    assert_eq!(host.inspect("it", "/State/Status"), "running");
    host.ok(["rm", "--force", "it"]);
}

/// Those after the end: they have ten seconds once somebody wants the container to be gone.
#[test]
fn a_hook_after_the_end_that_does_not_end_goes_with_the_container() {
    let (Some(host), vendor) = (Host::with_busybox(), Vendor::new()) else { return };
    let (told, later) = (host.dir().join("told"), host.dir().join("later"));
    let hook = |line: String| json!({"hookName": "poststop", "path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]});
    let hangs = hook(format!("echo $$ >{}.new; mv {0}.new {0}; exec sleep 1000", told.display()));
    let hooks = json!({"hooks": [hangs, hook(format!("touch {}", later.display()))]});
    vendor.says(&[("one", hooks)], json!({}));
    let device = vendor.device("one");
    let hanging = || {
        eventually("it hangs", || told.exists());
        let pid = fs::read_to_string(&told).expect("its number").trim().to_owned();
        fs::remove_file(&told).expect("forget it");
        Path::new("/proc").join(pid)
    };
    let gone = |hook: &Path| {
        assert!(!hook.exists(), "it goes on");
        fs::remove_file(&later).expect("the hook after it has run, too");
    };

    // The container has ended by itself: it is there until its hooks are, and holds up nobody who looks.
    host.ok(["create", "--name", "it", "--network", "none", "--device", &device, "busybox", "true"]);
    host.ok(["start", "it"]);
    let hook = hanging();
    assert!(host.ok(["ps"]).contains("Up "));
    assert_eq!(host.inspect("it", "/State/Status"), "running");
    for verb in [&["exec", "it", "true"][..], &["top", "it"], &["attach", "it"]] {
        let text = host.dhow(verb.iter().copied()).run();
        assert!(!text.status.success() && text.stderr().contains("is not running"), "{verb:?}: {text}");
    }
    assert!(host.refused(1, ["rm", "it"]).contains("container is running"));
    assert!(hook.exists());
    host.ok(["rm", "--force", "it"]);
    gone(&hook);
    assert_eq!(host.ok(["ps", "-aq"]), "");

    // It is stopped: that says what became of the hook.
    let id = host.detached(&["--device", &device], &["sleep", "1000"]);
    let stopping = host.dhow(["stop", "--time", "0", &id]).spawn();
    let hook = hanging();
    assert!(stopping.wait().status.success());
    gone(&hook);
    assert_eq!(host.inspect(&id, "/State/Status"), "exited");
    let error = host.inspect(&id, "/State/Error").to_string();
    assert!(error.contains("error running poststop hook #0 (/bin/sh): called off"), "{error}");
    host.ok(["rm", &id]);
}

/// Also where what failed had nothing to do with it: nobody else would bury it.
#[test]
fn a_start_that_fails_leaves_no_child() {
    let (Some(host), vendor) = (Host::with_busybox(), Vendor::new()) else { return };
    let (told, breaks) = (host.dir().join("told"), host.dir().join("breaks"));
    // From the second start on the state of its health cannot be written.
    let line = format!(
        "bundle=$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/'); echo $PPID >>{0}; \
         [ $(wc -l <{0}) = 1 ] || ! test -e {1} || {{ rm -rf $bundle/health.json; mkdir $bundle/health.json; }}",
        told.display(),
        breaks.display()
    );
    let hook = json!({"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]});
    vendor.says(&[("one", json!({"hooks": [hook]}))], json!({}));
    fs::write(&breaks, "").expect("let it break");
    let device = vendor.device("one");
    let flags = ["--name", "it", "--restart", "always", "--health-cmd", "true", "--device", &device];
    let id = host.detached(&flags, &["false"]);
    let shims = || fs::read_to_string(&told).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    eventually("two starts that fail", || shims().len() > 3);
    let shim = shims().pop().expect("the shim");
    let dead = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest: Vec<String> = stat.rsplit(") ").next().unwrap_or_default().split(' ').map(str::to_owned).collect();
        rest[0] == "Z" && rest[1] == shim
    };
    let all = fs::read_dir("/proc").expect("list processes").flatten();
    let left = all.filter(|entry| dead(&entry.file_name().to_string_lossy())).count();
    // The one of this moment may be there.
    assert!(left <= 1, "{left} children of {shim} are left");
    fs::remove_file(&breaks).expect("let it start");
    eventually("a start", || {
        let _ = fs::remove_dir(host.run_dir().join("containers").join(&id).join("health.json"));
        host.dhow(["rm", "--force", "it"]).run().status.success()
    });
}

#[test]
fn what_a_device_lacks_is_told() {
    let (Some(host), vendor) = (Host::with_busybox(), Vendor::new()) else { return };
    let interface = json!({"netDevices": [{"hostInterfaceName": "eth7", "name": "eth0"}]});
    let hook = json!({"hooks": [{"hookName": "startContainer", "path": "/bin/true"}]});
    let node = |path: &str| json!({"deviceNodes": [{"path": path}]});
    vendor.says(
        &[
            ("net", interface),
            ("hook", hook),
            ("rdt", json!({"intelRdt": {"closID": "x"}})),
            ("disk", json!({"mounts": [{"hostPath": "/dev/sdz", "containerPath": "/d", "type": "ext4"}]})),
            ("gone", node("/dev/no-such-boat")),
            ("file", node("/etc/hostname")),
            ("covers", json!({"mounts": [{"hostPath": "/etc", "containerPath": "/proc/sys"}]})),
        ],
        json!({}),
    );
    for (name, words) in [
        ("none", "CDI device injection failed: unresolvable CDI devices {}"),
        ("net", "CDI device injection failed: {} wants netDevices, which is not supported"),
        ("hook", "CDI device injection failed: {} wants hooks of startContainer, which is not supported"),
        ("rdt", "CDI device injection failed: {} wants intelRdt, which is not supported"),
        ("disk", "CDI device injection failed: {} wants a mount of type ext4, which is not supported"),
        ("gone", "CDI device injection failed: failed to stat CDI host device \"/dev/no-such-boat\": no such file"),
        ("file", "CDI device injection failed: failed to stat CDI host device \"/etc/hostname\": not a device node"),
        ("covers", "mount on /proc/sys: operation not permitted"),
    ] {
        let device = vendor.device(name);
        let output = host.busybox(&["--device", &device], &["true"]).run();
        assert!(
            !output.status.success() && output.stderr().contains(&words.replace("{}", &device)),
            "{name}: {output}"
        );
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
    let text = host.busybox(&["--gpus", "driver=boat"], &["true"]).refused(125);
    assert!(text.contains("could not select device driver \"boat\" with capabilities: [[gpu]]"), "{text}");
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

#[test]
fn a_command_of_a_dockerfile_is_given_devices() {
    let (Some(host), vendor) = (Host::with_busybox(), Vendor::new()) else { return };
    let lent = host.file("lent/word", "ahoy\n").parent().expect("a directory").display().to_string();
    let edits = |word: &str| {
        json!({
            "env": [format!("WORD={word}")],
            "deviceNodes": [{"path": "/dev/deep", "hostPath": "/dev/full"}],
            "mounts": [{"hostPath": lent, "containerPath": "/lent", "options": ["ro", "rbind"]}],
        })
    };
    let two = || ("two", json!({"env": ["TWO=2"]}));
    vendor.says(&[("one", edits("first")), two()], json!({}));
    let one = vendor.device("one");
    let of = |text: &str| folder(&host, "boat", &[("Dockerfile", &format!("FROM busybox\n{text}"))]);
    let text =
        format!("RUN --device={one} test -c /dev/deep && cp /lent/word /got && echo $WORD > /word\nRUN env > /later\n");
    let dir = of(&text);
    let output = build(&host, &dir, &[]);
    let words =
        format!("device {one} is requested by the build but not allowed: build with --allow device={one} if you trust");
    assert!(!output.status.success() && output.stderr().contains(&words), "{output}");
    let made = |rights: &[&str]| {
        let flags: Vec<&str> = ["-t", "made"].iter().chain(rights).copied().collect();
        let output = build(&host, &dir, &flags);
        output.ok();
        output.stderr().matches("CACHED").count()
    };
    let allow = format!("device={one}");
    assert_eq!(made(&["--allow", &allow]), 0);
    let line = "cat /got /word; test -e /lent || echo tidy; grep -c WORD /later || true";
    assert_eq!(says(&host, line), "ahoy\nfirst\ntidy\n0");
    assert_eq!(made(&["--allow", "device"]), 2, "whoever allows it, it is the same step");
    vendor.says(&[("one", edits("second")), two()], json!({}));
    assert_eq!(made(&["--allow", "device"]), 0, "what a device does is of its step");
    assert_eq!(says(&host, "cat /word"), "second");
    let (kind, alias) = (&vendor.kind, format!("{allow},alias=hull"));
    for (text, rights, words) in [
        (format!("RUN --device={kind}=* test $WORD$TWO = second2"), &["--allow", "device"][..], None),
        (format!("RUN --device={kind} test $WORD$TWO = second"), &["--allow", "device"], None),
        (format!("RUN --device=name={kind}=two,required test $TWO = 2"), &["--allow", "device"], None),
        ("RUN --device=hull,required test $WORD = second".to_owned(), &["--allow", &alias], None),
        (format!("RUN --device={kind}=none,required=false true"), &[], None),
        (
            format!("RUN --device={kind}=none,required true"),
            &["--allow", "device"],
            Some(format!("required device \"{kind}=none\" is not registered")),
        ),
        (format!("RUN --device={one},boat=1 true"), &[], Some("unexpected key 'boat' in 'boat=1'".to_owned())),
    ] {
        let output = build(&host, &of(&text), rights);
        match words {
            None => drop(output.ok()),
            Some(words) => assert!(!output.status.success() && output.stderr().contains(&words), "{text}: {output}"),
        }
    }
    vendor.annotated("org.mobyproject.buildkit.device.autoallow", &[("one", edits("third"))]);
    build(&host, &of("RUN --device=boats,required test $WORD = third"), &[]).ok();
    build(&host, &of("RUN --device=boats true"), &["--check"]).ok();
    build(&host, &of("RUN --device=boats true"), &["--call", "outline"]).ok();
}
