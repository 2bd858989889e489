//! In a guest of qemu: a kernel with nothing but version 2 of cgroups, this executable as the only engine and busybox
//! as the only userland. The checks are shell functions in `tests/vm/checks`; each kernel boots once for all of them
//! (and once more after its power was cut), and each check is a test here, by its name.

mod machine;

use crate::fixture::{Host, Image, Packing, Registry, Tar, need, probe_tar, skip};
use machine::{Arch, Boot, File, Kernel, Machine, Report};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Declares the tests of one kernel.
macro_rules! checks {
    ($($check:ident)*) => {
        /// Linux 6.12, of Debian 13.
        mod linux_6_12 {
            $(#[test] fn $check() { super::passed(0, stringify!($check)); })*
        }
        /// Linux 6.1, of Debian 12, for what an older kernel does otherwise.
        mod linux_6_1 {
            $(#[test] fn $check() { super::passed(1, stringify!($check)); })*
        }
        const CHECKS: &[&str] = &[$(stringify!($check)),*];
    };
}

checks! {
    the_root_is_a_ramfs
    a_container_lives_on_a_ramfs_root
    nobody_climbs_out_on_a_ramfs_root
    a_container_on_a_ramfs_root_sees_no_mount_of_the_host
    mounts_and_terminals_on_a_ramfs_root
    nothing_is_left_on_a_ramfs_root

    the_root_is_no_ramfs
    images_come_from_tars_and_archives
    what_is_built_is_what_the_host_builds
    the_root_of_a_container_is_an_overlay
    a_registry_on_the_loopback_is_pulled_from
    exit_codes_streams_and_environment
    root_in_a_user_namespace_is_nobody_outside
    one_in_the_background_is_looked_at_from_all_sides
    volumes_binds_and_tmpfs
    restart_policies
    health
    a_daemon_serves_the_same_store
    apparmor_profiles_hold
    names_on_a_network
    links_of_the_host_are_shared
    from_a_bridge_of_others_to_another_one_nothing_is_forwarded
    a_port_of_sctp_is_published

    devices_are_confined
    what_is_paused_stands_still
    what_is_killed_takes_all_along
    every_controller_is_used
    each_limit_is_in_its_file
    commands_of_a_build_are_limited
    limits_that_cannot_be_are_refused
    memory_is_limited
    processes_are_limited
    processors_are_limited
    rates_of_devices_are_limited
    limits_are_updated
    cgroup_parents_and_namespaces
    stats_are_the_kernels_own
    huge_pages_are_limited
    an_oom_kill_takes_the_group_along
    weights_of_devices_share_them
    what_is_written_is_limited
    what_is_written_is_limited_on_xfs
    an_ordinary_user_has_limits_in_the_cgroup_that_he_was_given

    containers_outlive_a_killed_daemon_and_init_starts_another
    a_shim_that_is_killed_is_started_again_by_the_daemon
    the_power_is_cut

    what_should_run_is_started_by_init
    networks_are_there_again
    what_ended_with_the_power_says_so
    what_was_acknowledged_is_there
    what_was_built_is_not_built_again
    what_was_not_is_cleared

    selinux_labels_hold
}

const SELINUX: &str = "selinux_labels_hold";

const KERNELS: [Kernel; 2] = [
    Kernel { name: "linux_6_12", suite: "trixie", release: "6.12.", root: "ramfs", arch: Arch::Amd64 },
    Kernel { name: "linux_6_1", suite: "bookworm", release: "6.1.", root: "tmpfs", arch: Arch::Amd64 },
];

/// What a kernel's boots reported. The first who asks starts both kernels, side by side: the others only wait.
fn report(number: usize) -> Option<&'static Report> {
    static REPORTS: [OnceLock<Report>; KERNELS.len()] = [const { OnceLock::new() }; KERNELS.len()];
    static CAN: OnceLock<bool> = OnceLock::new();
    if !*CAN.get_or_init(|| can().is_some()) {
        return skip("no guest can be started here");
    }
    // Where only some scenarios are asked for by name, only their kernel is started.
    if !std::env::args().any(|word| word.contains("guest")) {
        for (report, kernel) in REPORTS.iter().zip(&KERNELS) {
            std::thread::spawn(|| report.get_or_init(|| boot(kernel)));
        }
    }
    Some(REPORTS[number].get_or_init(|| boot(&KERNELS[number])))
}

fn can() -> Option<()> {
    if !nix::unistd::geteuid().is_root() {
        return skip("not root");
    }
    if std::env::consts::ARCH != "x86_64" {
        return skip("guests are started from x86-64 so far");
    }
    for program in [
        "qemu-system-x86_64",
        "busybox",
        "cpio",
        "depmod",
        "xz",
        "zstd",
        "python3",
        "apt-get",
        "mkfs.ext4",
        "mkfs.xfs",
        "secilc",
        "strip",
    ] {
        need(program)?;
    }
    need("docker-registry")?;
    need("apparmor_parser")?;
    probe_tar()?;
    for kernel in &KERNELS {
        if let Err(why) = machine::built(kernel) {
            return skip(&why);
        }
    }
    Some(())
}

/// Boots a kernel for all checks up to the power cut, for those that come after it, and with SELinux in the place of AppArmor
/// for the one that is about that. DHOW_GUEST_ONLY names those that are wanted, while one of them is written.
fn boot(kernel: &Kernel) -> Report {
    let dir = crate::fixture::scratch("guest");
    let mut files = files();
    files.push(File::program("usr/local/bin/dhow", executable(&dir)));
    files.push(File::data("vm/probe.tar", probe_tar().expect("an image")));
    files.push(File::data("vm/layers.tar", layers(&dir, &layered())));
    files.extend(registry(&dir));
    files.extend(built_here(&dir));
    files.extend(apparmor_parser());
    files.push(File::data("vm/policy", selinux_policy(&dir)));
    let machine = Machine::make(kernel, &dir, &files);
    let names = std::env::var("DHOW_GUEST_ONLY").unwrap_or_default();
    let only = if names.is_empty() { String::new() } else { format!("only={names}") };
    let mut report = Report::default();
    if names != SELINUX {
        report.add(machine.run(&Boot { append: &only, last: "@cut" }));
    }
    if names.is_empty() || names.split(',').any(|name| name == "the_power_is_cut") {
        report.add(machine.run(&Boot { append: &format!("after-power-cut {only}"), last: "" }));
    }
    if names.is_empty() || names.split(',').any(|name| name == SELINUX) {
        report.add(machine.run(&Boot { append: "security=selinux", last: "" }));
    }
    let _ = fs::remove_dir_all(&dir);
    report
}

/// The checks of arm64: an executable for it, of debugging's kind, in one boot of some of the same.
mod arm64 {
    use super::*;

    macro_rules! checks {
        ($($check:ident)*) => {
            $(#[test] fn $check() {
                if let Some(report) = report() {
                    report.assert_passed(stringify!($check));
                }
            })*
            const CHECKS: &[&str] = &[$(stringify!($check)),*];
        };
    }

    checks! {
        images_come_from_tars_and_archives
        the_root_of_a_container_is_an_overlay
        exit_codes_streams_and_environment
        names_on_a_network
        devices_are_confined
        every_controller_is_used
        memory_is_limited
        processes_are_limited
    }

    const KERNEL: Kernel =
        Kernel { name: "arm64", suite: "trixie", release: "6.12.", root: "ramfs", arch: Arch::Arm64 };

    fn report() -> Option<&'static Report> {
        static REPORT: OnceLock<Option<Report>> = OnceLock::new();
        REPORT.get_or_init(boot).as_ref()
    }

    fn boot() -> Option<Report> {
        super::can()?;
        need("qemu-system-aarch64")?;
        need("aarch64-linux-gnu-gcc")?;
        let built = match machine::built(&KERNEL) {
            Ok(built) => built,
            Err(why) => return skip(&why),
        };
        let executable = cross()?;
        let dir = crate::fixture::scratch("guest");
        let root = crate::fixture::root_of(fs::read(built.join("busybox")).expect("read busybox"));
        fs::write(dir.join("busybox.tar"), &root).expect("write an image");
        let mut files = files();
        files.push(File::program("usr/local/bin/dhow", executable));
        files.push(File::data("vm/probe.tar", dir.join("busybox.tar")));
        files.push(File::data("vm/layers.tar", layers(&dir, &layers_on(root).platform("arm64", Some("v8")))));
        let machine = Machine::make(&KERNEL, &dir, &files);
        let report = machine.run(&Boot { append: &format!("only={}", CHECKS.join(",")), last: "" });
        let _ = fs::remove_dir_all(&dir);
        Some(report)
    }

    /// Builds the executable. Where the compiler has nothing for arm64, and no network to fetch it, nothing is shown.
    fn cross() -> Option<PathBuf> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/cross");
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("arm64");
        // With the environment of who runs the tests: Rust is where he has it.
        let build = || std::process::Command::new(&script).arg(&dir).output();
        let output = crate::fixture::network::outside(build).expect("run tests/vm/cross");
        let (out, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match output.status.code() {
            Some(0) => Some(PathBuf::from(out.trim())),
            Some(77) => skip(&format!("nothing is shown of arm64: {}", told.trim())),
            _ => panic!("tests/vm/cross: {}: {told}", output.status),
        }
    }
}

/// What every guest finds beside its busybox: the checks, and what runs them.
fn files() -> Vec<File> {
    let source = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut files = vec![
        File::program("init", source("tests/vm/init")),
        File::data("vm/inittab", source("contrib/busybox/inittab")),
    ];
    files.extend(
        ["run", "settle"].map(|name| File::program(&format!("vm/{name}"), source(&format!("tests/vm/{name}")))),
    );
    for name in [
        "lib.sh",
        "checks/ramfs.sh",
        "checks/main.sh",
        "checks/limits.sh",
        "checks/service.sh",
        "checks/after.sh",
        "checks/selinux.sh",
    ] {
        files.push(File::data(&format!("vm/{name}"), source(&format!("tests/vm/{name}"))));
    }
    files
}

/// Where nobody looks for it, with the libraries of this distribution.
fn apparmor_parser() -> Vec<File> {
    let program =
        ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"].into_iter().find(|path| Path::new(path).exists());
    let program = program.expect("apparmor_parser");
    let libraries = libraries(program).into_iter();
    let mut files: Vec<File> = libraries
        .map(|path| File::program(path.to_str().expect("UTF-8").trim_start_matches('/'), path.clone()))
        .collect();
    files.push(File::program("vm/apparmor_parser", PathBuf::from(program)));
    files.push(File::data("vm/abi-3.0", PathBuf::from("/etc/apparmor.d/abi/3.0")));
    files
}

/// A policy for SELinux, compiled.
fn selinux_policy(dir: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/policy");
    let policy = dir.join("policy");
    crate::fixture::tool(script.to_str().expect("UTF-8"), [policy.to_str().expect("UTF-8")]);
    policy
}

/// What a program is linked with.
fn libraries(program: &str) -> Vec<PathBuf> {
    let listed = crate::fixture::tool("ldd", [program]);
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// DHOW_GUEST_EXECUTABLE, which may be the one that is shipped and with which an emulated machine is quicker by far; or else
/// the one of the tests, without what only a debugger reads.
fn executable(dir: &Path) -> PathBuf {
    if let Some(given) = std::env::var_os("DHOW_GUEST_EXECUTABLE") {
        return given.into();
    }
    let stripped = dir.join("dhow");
    crate::fixture::tool("strip", ["-o", stripped.to_str().expect("UTF-8"), env!("CARGO_BIN_EXE_dhow")]);
    stripped
}

fn layered() -> Image {
    layers_on(fs::read(probe_tar().expect("an image")).expect("read an image"))
}

fn layers_on(busybox: Vec<u8>) -> Image {
    let below =
        Tar::new().file("kept", 0o644, "kept\n").file("gone", 0o644, "gone\n").file("opaque/old", 0o644, "").end();
    let above =
        Tar::new().file("zstd", 0o644, "of zstd\n").file(".wh.gone", 0o644, "").file("opaque/.wh..wh..opq", 0o644, "");
    let above = above.file("opaque/new", 0o644, "").end();
    let config = serde_json::json!({ "Cmd": ["/bin/sh"] });
    Image::new(busybox).layer(below, Packing::Plain).layer(above, Packing::Zstd).config(config)
}

/// An OCI archive of three layers, packed in three ways.
fn layers(dir: &Path, image: &Image) -> PathBuf {
    let layout = dir.join("layout");
    crate::fixture::Layout::new(layout.clone()).add(image, "layers:latest");
    let (layout, tar) = (layout.to_str().expect("UTF-8").to_owned(), dir.join("layers.tar"));
    crate::fixture::tool("tar", ["-C", &layout, "-cf", tar.to_str().expect("UTF-8"), "."]);
    tar
}

/// A Dockerfile that begins with nothing, and the id of the image that this host makes of it: another kernel, file system
/// and day than the guest's.
fn built_here(dir: &Path) -> Vec<File> {
    let context = dir.join("context");
    fs::create_dir_all(&context).expect("make a context");
    let text = "FROM scratch\nADD probe.tar /\nWORKDIR /w\nCOPY <<end /doc\ntext\nend\n\
                RUN mkdir -p a/b && echo made > a/f && ln -s f a/l && ln a/f a/twin && chown 5:6 a && rm /doc\nCOPY Dockerfile /\n";
    fs::write(context.join("Dockerfile"), text).expect("write a Dockerfile");
    fs::copy(probe_tar().expect("an image"), context.join("probe.tar")).expect("copy a tar");
    let host = Host::new().expect("a store");
    let line = ["build", "-q", "--network", "none", "--build-arg", "SOURCE_DATE_EPOCH=1500000000"];
    let id = host.ok(line.into_iter().chain(context.to_str()));
    fs::write(dir.join("built.id"), id).expect("write an id");
    let files = [("vm/built.Dockerfile", context.join("Dockerfile")), ("vm/built.id", dir.join("built.id"))];
    files.map(|(name, path)| File::data(name, path)).into()
}

/// The distribution's registry with the same image in it, its libraries, and its configuration.
fn registry(dir: &Path) -> Vec<File> {
    let of_host = Registry::start(false, None).expect("a registry");
    of_host.upload(&layered(), "layers", "latest");
    let data = dir.join("data");
    let (from, to) = (of_host.data(), data.to_str().expect("UTF-8").to_owned());
    crate::fixture::tool("cp", ["-r", from.to_str().expect("UTF-8"), &to]);
    let config = "version: 0.1\nlog: {level: error}\nhttp: {addr: '127.0.0.1:5000'}\n\
                  storage: {filesystem: {rootdirectory: /registry/data}}\n";
    fs::write(dir.join("config.yml"), config).expect("write");
    let mut files = vec![
        File::program("registry/docker-registry", PathBuf::from("/usr/bin/docker-registry")),
        File::data("registry/config.yml", dir.join("config.yml")),
    ];
    for library in libraries("/usr/bin/docker-registry") {
        let mut name = library.file_name().and_then(|name| name.to_str()).expect("a library's name").to_owned();
        if name.starts_with("ld-linux") {
            name = "ld.so".to_owned();
        }
        files.push(File::program(&format!("registry/lib/{name}"), library));
    }
    files.extend(File::tree("registry/data/docker/registry/v2", &data));
    files
}

fn passed(kernel: usize, check: &str) {
    let Some(report) = report(kernel) else { return };
    report.assert_passed(check);
}

/// A function that is forgotten in the list above would run and be seen by nobody.
#[test]
fn every_check_has_a_name_here() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/checks");
    let mut found: Vec<String> = Vec::new();
    for entry in fs::read_dir(dir).expect("list the checks").flatten() {
        let text = fs::read_to_string(entry.path()).expect("read checks");
        // Those that run takes, too: what begins otherwise is a part of one.
        let names = text.lines().filter_map(|line| line.strip_suffix("() {"));
        let names = names.filter(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()));
        found.extend(names.map(str::to_owned));
    }
    found.sort();
    let mut named: Vec<String> = CHECKS.iter().map(|name| (*name).to_owned()).collect();
    named.sort();
    assert_eq!(found, named);
}
