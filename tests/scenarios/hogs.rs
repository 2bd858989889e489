//! Containers that take all they can get: the host and the neighbours go on. (Memory and a bomb of forks against limits
//! of cgroups: `guest::…::memory_is_limited`, `processes_are_limited`.)

use crate::fixture::{Host, SmallDisk, busybox_tar, eventually, need};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// That everybody else can work: a container beside it, a new one, and the engine.
fn others_go_on(host: &Host, neighbour: &str) {
    assert_eq!(host.ok(["exec", neighbour, "echo", "here"]), "here");
    assert_eq!(host.sh(&[], "echo new >/file && cat /file"), "new");
    assert!(host.ok(["ps", "-q", "--no-trunc"]).contains(neighbour));
}

#[test]
fn a_hog_of_descriptors() {
    let Some(host) = Host::with_probe() else { return };
    let neighbour = host.detached(&[], &["sleep", "1000"]);
    // Two hundred processes that hold as many descriptors as they may: as one user has them, 200 000.
    let hog = host.detached(&["--ulimit", "nofile=1000"], &["probe", "hog", "200"]);
    eventually("all of them have all they get", || host.ok(["logs", &hog]).lines().count() == 200);
    let said = host.ok(["logs", &hog]);
    assert!(said.lines().all(|error| error == "EMFILE"), "{said}");
    let pid = host.inspect(&hog, "/State/Pid");
    assert_eq!(fs::read_dir(format!("/proc/{pid}/fd")).expect("list").count(), 1000);
    others_go_on(&host, &neighbour);
    host.ok(["rm", "-f", &hog]);
}

#[test]
fn a_hog_of_inodes() {
    let Some(host) = Host::with_busybox() else { return };
    let neighbour = host.detached(&[], &["sleep", "1000"]);
    let line = "mkdir /t/a; cd /t/a; n=0; while true 2>/dev/null >$n; do n=$((n+1)); done; echo full; sleep 1000";
    let hog = host.detached(&["--tmpfs", "/t:nr_inodes=5000"], &["sh", "-c", line]);
    eventually("it is full", || host.ok(["logs", &hog]).contains("full"));
    others_go_on(&host, &neighbour);
    // What it made in its own layer goes with it, however much.
    let many = "mkdir -p /m; cd /m; n=0; while [ $n -lt 20000 ]; do : >$n; n=$((n+1)); done; echo made; sleep 1000";
    let other = host.detached(&[], &["sh", "-c", many]);
    eventually("it has made them", || host.ok(["logs", &other]) == "made");
    others_go_on(&host, &neighbour);
    host.ok(["rm", "-f", &hog, &other]);
}

/// Makes files in the working directory until there can be no more, and stays.
const HOG: &str = "n=0; while true 2>/dev/null >$n; do n=$((n+1)); done; echo full; exec sleep 1000";

fn has_inodes(disk: &SmallDisk) -> bool {
    nix::sys::statvfs::statvfs(&disk.point).expect("ask for free inodes").files_free() > 0
}

#[test]
fn a_hog_of_a_disks_inodes_in_a_volume() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("mkfs.ext4")) else { return };
    let disk = SmallDisk::of_inodes(&host, 64, 2000);
    let neighbour = host.detached(&[], &["sleep", "1000"]);
    let volume = format!("{}:/v", disk.point.display());
    let hog = host.detached(&["-v", &volume, "-w", "/v"], &["sh", "-c", HOG]);
    eventually("it is full", || host.ok(["logs", &hog]) == "full");
    assert!(!has_inodes(&disk));
    others_go_on(&host, &neighbour);
    host.ok(["rm", "-f", &hog, &neighbour]);
}

/// What is full is the store's own disk: those that run go on, what is new is refused, and who hogs is removed.
#[test]
fn a_hog_of_a_disks_inodes_in_its_root() {
    let (Some(host), Some(()), Some(tar)) = (Host::new(), need("mkfs.ext4"), busybox_tar()) else { return };
    let disk = SmallDisk::of_inodes(&host, 64, 2000);
    let root = disk.point.join("root");
    let dhow = |args: &[&str]| host.dhow(args.iter().copied()).env("DHOW_ROOT", root.to_str().expect("UTF-8")).run();
    dhow(&["import", tar.to_str().expect("UTF-8"), "busybox"]).ok();
    let run = |line: &str| dhow(&["run", "-d", "--network", "none", "busybox", "sh", "-c", line]).ok();
    let neighbour = run("exec sleep 1000");
    let hog = run(&format!("mkdir /m; cd /m; {HOG}"));
    eventually("it is full", || dhow(&["logs", &hog]).ok() == "full");
    assert!(!has_inodes(&disk));
    assert_eq!(dhow(&["exec", &neighbour, "sh", "-c", "echo x >/dev/shm/x && cat /dev/shm/x"]).ok(), "x");
    assert_eq!(dhow(&["ps", "-q", "--no-trunc"]).ok().lines().count(), 2);
    let output = dhow(&["run", "--rm", "--network", "none", "busybox", "true"]);
    assert!(!output.status.success() && output.stderr().contains("no space left on device"), "{output}");
    assert_eq!(output.stderr().lines().count(), 1, "{output}");
    dhow(&["rm", "-f", &hog]).ok();
    assert!(has_inodes(&disk));
    assert_eq!(dhow(&["run", "--rm", "--network", "none", "busybox", "echo", "new"]).ok(), "new");
    dhow(&["rm", "-f", &neighbour]).ok();
}

#[test]
fn a_flood_of_log() {
    let Some(host) = Host::with_busybox() else { return };
    let neighbour = host.detached(&[], &["sleep", "1000"]);
    let flags = ["--log-opt", "max-size=1m", "--log-opt", "max-file=2"];
    let hog = host.detached(&flags, &["yes", "a line that comes again and again"]);
    let dir = host.root().join("containers").join(&hog);
    let logs = || {
        let entries = fs::read_dir(&dir).expect("list").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().contains("json.log")).collect::<Vec<_>>()
    };
    eventually("it is rotated", || logs().len() == 2);
    for _ in 0..5 {
        others_go_on(&host, &neighbour);
        let bytes: u64 = logs().iter().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.size()).sum();
        assert!(bytes < 3 << 20, "{bytes} bytes of log");
    }
    // Nor does it hold up who stops it.
    host.ok(["stop", "-t", "0", &hog]);
    host.ok(["rm", &hog]);
}

/// Where no cgroup limits processes, a limit of the user's does; its end takes them all along.
#[test]
fn a_bomb_of_forks() {
    let Some(host) = Host::with_busybox() else { return };
    let neighbour = host.detached(&[], &["sleep", "1000"]);
    let bomb = "bomb() { sleep 1000 & bomb & bomb; }; bomb 2>/dev/null & exec sleep 1000";
    let hog = host.detached(&["--ulimit", "nproc=60", "-u", "31337", "--log-driver", "none"], &["sh", "-c", bomb]);
    let of_bomb = || {
        let all = fs::read_dir("/proc").expect("list processes").flatten();
        all.filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == 31337)).count()
    };
    eventually("it has grown", || of_bomb() > 30);
    others_go_on(&host, &neighbour);
    host.ok(["rm", "-f", &hog]);
    eventually("all of it has ended", || of_bomb() == 0);
    others_go_on(&host, &neighbour);
}

#[test]
fn many_stages_take_few_threads() {
    use std::os::unix::process::CommandExt;
    let Some(host) = Host::with_busybox() else { return };
    let stages: String = (0..800).map(|at| format!("FROM scratch AS s{at}\nCOPY {at} /\n")).collect();
    let of = |group: usize| (0..80).map(move |at| format!("COPY --from=s{0} /{0} /\n", group * 80 + at));
    let groups: String = (0..10).map(|at| format!("FROM scratch AS g{at}\n{}", of(at).collect::<String>())).collect();
    let last: String = (0..10).map(|at| format!("COPY --from=g{at} / /all/\n")).collect();
    let file = host.file("many/Dockerfile", format!("{stages}{groups}FROM busybox\n{last}"));
    for at in 0..800 {
        host.file(&format!("many/{at}"), format!("{at}"));
    }
    let mut command = host.local(["build", "-q", file.parent().expect("a folder").to_str().expect("UTF-8")]);
    let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.inner().pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    // A stack for each stage would not have had room.
    let id = command.run().ok();
    assert_eq!(host.ok(["run", "--rm", "--network", "none", &id, "sh", "-c", "ls /all | wc -l"]), "800");
}
