//! A machine of qemu, emulated without hardware support, which a test's host may not have: its kernel, its files, and
//! what its checks say.

use crate::fixture::{Command, network};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a boot with all its checks may take. A bound on a hang: ten minutes are usual on two processors.
const PATIENCE: Duration = Duration::from_secs(5400);

/// A kernel of a distribution.
pub struct Kernel {
    pub name: &'static str,
    pub suite: &'static str,
    /// How its version begins.
    pub release: &'static str,
    /// The file system of the initramfs.
    pub root: &'static str,
    pub arch: Arch,
}

/// What it runs on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    fn qemu(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Arch::Amd64 => ("qemu-system-x86_64", &["-cpu", "max,la57=off"]),
            // An older one, which has less to emulate.
            Arch::Arm64 => ("qemu-system-aarch64", &["-machine", "virt,gic-version=3", "-cpu", "cortex-a72"]),
        }
    }

    fn console(self) -> &'static str {
        match self {
            Arch::Amd64 => "ttyS0",
            Arch::Arm64 => "ttyAMA0",
        }
    }

    /// Its name in dpkg, where it is not this machine's.
    fn foreign(self) -> Option<&'static str> {
        (self == Arch::Arm64).then_some("arm64")
    }
}

/// A file for the guest.
pub struct File {
    name: String,
    source: PathBuf,
    mode: u32,
}

impl File {
    pub fn program(name: &str, source: PathBuf) -> File {
        File { name: name.to_owned(), source, mode: 0o100_755 }
    }

    pub fn data(name: &str, source: PathBuf) -> File {
        File { name: name.to_owned(), source, mode: 0o100_644 }
    }

    /// All files below a directory.
    pub fn tree(name: &str, source: &Path) -> Vec<File> {
        let mut files = Vec::new();
        for entry in fs::read_dir(source).expect("list a directory").flatten() {
            let name = format!("{name}/{}", entry.file_name().to_str().expect("UTF-8"));
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => files.extend(File::tree(&name, &entry.path())),
                false => files.push(File::data(&name, entry.path())),
            }
        }
        files
    }
}

/// A machine with its disk, not running.
pub struct Machine {
    dir: PathBuf,
    kernel: PathBuf,
    root: &'static str,
    arch: Arch,
}

/// One boot of it.
pub struct Boot<'a> {
    /// Words for the kernel's command line.
    pub append: &'a str,
    /// The machine is killed when its checks say this line.
    pub last: &'static str,
}

/// How the checks ended, and what they said.
#[derive(Default)]
pub struct Report {
    checks: BTreeMap<String, (Option<i32>, String)>,
    rest: String,
}

impl Machine {
    pub fn make(kernel: &Kernel, dir: &Path, files: &[File]) -> Machine {
        let built = built(kernel).expect("it was built before");
        let mut initrd = fs::read(built.join("base.cpio")).expect("read the base");
        initrd.extend(cpio(files));
        fs::write(dir.join("initrd"), initrd).expect("write the initramfs");
        let disk = dir.join("disk");
        let made = fs::File::create(&disk).and_then(|file| file.set_len(2 << 30));
        made.expect("make the guest's disk");
        let options = ["-q", "-F", "-O", "project,quota", "-E", "lazy_itable_init=1,quotatype=prjquota"];
        crate::fixture::tool("mkfs.ext4", options.iter().chain(&[disk.to_str().expect("UTF-8")]));
        // As small as one may be.
        let other = dir.join("xfs");
        let made = fs::File::create(&other).and_then(|file| file.set_len(300 << 20));
        made.expect("make the guest's second disk");
        crate::fixture::tool("mkfs.xfs", ["-q", other.to_str().expect("UTF-8")]);
        Machine { dir: dir.to_owned(), kernel: built.join("vmlinux"), root: kernel.root, arch: kernel.arch }
    }

    /// Boots it and waits until it turns itself off, or is killed.
    pub fn run(&self, boot: &Boot) -> Report {
        let at = |name: &str| self.dir.join(name).to_str().expect("UTF-8").to_owned();
        for name in ["out", "console", "qemu"] {
            fs::write(self.dir.join(name), "").expect("make a file for what the guest says");
        }
        let append = format!(
            "console={} quiet loglevel=4 panic=-1 nokaslr mitigations=off audit=0 random.trust_cpu=on \
             cryptomgr.notests no_timer_check rootfstype={} {}",
            self.arch.console(),
            self.root,
            boot.append
        );
        let (out, console, initrd) = (at("out"), at("console"), at("initrd"));
        let (disk, other) = (at("disk"), at("xfs"));
        let args = [
            "-accel",
            "tcg,thread=multi,tb-size=256",
            "-smp",
            "2",
            "-m",
            "1024",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-kernel",
            self.kernel.to_str().expect("UTF-8"),
            "-initrd",
            &initrd,
            "-append",
            &append,
            "-serial",
            &format!("file:{console}"),
            "-device",
            "virtio-serial-pci",
            "-chardev",
            &format!("file,id=out,path={out}"),
            "-device",
            "virtserialport,chardev=out,name=out",
            "-drive",
            &format!("file={disk},format=raw,if=none,id=disk,cache=writeback"),
            "-device",
            "virtio-blk-pci,drive=disk",
            "-drive",
            &format!("file={other},format=raw,if=none,id=other,cache=writeback"),
            "-device",
            "virtio-blk-pci,drive=other",
        ];
        let (program, machine) = self.arch.qemu();
        let mut command = std::process::Command::new(program);
        let log = fs::File::create(self.dir.join("qemu")).expect("make a log");
        command.args(machine).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SAFETY: one system call between fork and exec. The thread that starts it is the one that waits for it.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(std::io::Error::from)
            });
        }
        let mut child = command.spawn().expect("start qemu");
        let why = self.wait(&mut child, boot.last);
        let _ = child.kill();
        let _ = child.wait();
        let read = |name| String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned();
        let mut report = Report::parse(&read("out"));
        let console = read("console");
        let lines: Vec<&str> = console.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        let _ = write!(report.rest, "{why}\nqemu: {}\nconsole:\n{end}", read("qemu"));
        report
    }

    fn wait(&self, child: &mut Child, last: &str) -> &'static str {
        let start = Instant::now();
        loop {
            if child.try_wait().expect("wait for qemu").is_some() {
                return "the machine turned itself off";
            }
            let said = fs::read(self.dir.join("out")).unwrap_or_default();
            if !last.is_empty() && String::from_utf8_lossy(&said).lines().any(|line| line.trim() == last) {
                return "the power was cut";
            }
            if start.elapsed() > PATIENCE {
                return "the machine came to no end";
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Report {
    fn parse(text: &str) -> Report {
        let mut report = Report::default();
        let mut current: Option<String> = None;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            if let Some(name) = line.strip_prefix("@check ") {
                report.checks.insert(name.to_owned(), (None, String::new()));
                current = Some(name.to_owned());
            } else if let Some((name, code)) = line.strip_prefix("@end ").and_then(|rest| rest.split_once(' ')) {
                report.checks.entry(name.to_owned()).or_default().0 = code.parse().ok();
                current = None;
            } else if line == "@cut" {
                // What comes now is not told any more.
                if let Some(check) = current.take().and_then(|name| report.checks.get_mut(&name)) {
                    check.0 = Some(0);
                }
            } else {
                let into = current.as_ref().and_then(|name| report.checks.get_mut(name));
                let into = into.map_or(&mut report.rest, |(_, said)| said);
                let _ = writeln!(into, "{line}");
            }
        }
        report
    }

    pub fn add(&mut self, other: Report) {
        self.checks.extend(other.checks);
        let _ = write!(self.rest, "\nnext boot: {}", other.rest);
    }

    pub fn assert_passed(&self, check: &str) {
        match self.checks.get(check) {
            Some((Some(0), _)) => {}
            Some((Some(code), said)) => panic!("in the guest: exit code {code}\n{said}"),
            Some((None, said)) => panic!("in the guest: no end\n{said}\n{}", self.rest),
            None => panic!("in the guest: not reached\n{}", self.rest),
        }
    }
}

/// The kernel and the base of its initramfs, built from the distribution's packages where they are not there yet. Why
/// they cannot be: without a network, or without such packages.
pub fn built(kernel: &Kernel) -> Result<PathBuf, String> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one = BUILDING.lock().unwrap_or_else(|broken| broken.into_inner());
    let source = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm").join(name);
    // Named for the scripts, so that what older ones made is not taken for it.
    let scripts = ["build", "vmlinux.py"].map(|name| fs::read(source(name)).expect("read how guests are built"));
    let foreign = kernel.arch.foreign();
    let of = format!("{}{}", kernel.suite, foreign.map_or(String::new(), |arch| format!("-{arch}")));
    let name = format!("guest-{of}-{}", &crate::fixture::digest(&scripts.concat())[7..19]);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !dir.join("release").exists() {
        let args = [kernel.suite, dir.to_str().expect("UTF-8")].into_iter().chain(foreign);
        let output =
            network::outside(|| Command::new(source("build").to_str().expect("UTF-8"), args).patiently().run());
        if !output.status.success() {
            return Err(format!("no kernel of {of}: {}", output.stderr()));
        }
    }
    let release = fs::read_to_string(dir.join("release")).expect("read which kernel it is");
    assert!(release.starts_with(kernel.release), "{} is {release}", kernel.name);
    Ok(dir)
}

/// An archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst, "newc").
fn cpio(files: &[File]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut inode = 1_000_000;
    let mut entry = |name: &str, mode: u32, content: &[u8]| {
        inode += 1;
        let _ = write!(archive, "070701");
        let fields = [inode, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        for field in fields {
            let _ = write!(archive, "{field:08x}");
        }
        archive.extend(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    let mut made = std::collections::BTreeSet::new();
    for file in files {
        let parents = Path::new(&file.name).ancestors().skip(1).filter(|path| *path != Path::new(""));
        let parents: Vec<&Path> = parents.collect();
        for parent in parents.into_iter().rev() {
            if made.insert(parent.to_owned()) {
                entry(parent.to_str().expect("UTF-8"), 0o040_755, &[]);
            }
        }
        let content = fs::read(&file.source).unwrap_or_else(|error| panic!("read {}: {error}", file.source.display()));
        entry(&file.name, file.mode, &content);
    }
    entry("TRAILER!!!", 0, &[]);
    archive
}
