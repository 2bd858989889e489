//! One step of a plan: what the child between clone and exec does, as data. `walk.rs` does them.

use crate::sys::process::Strings;
use std::ffi::{CStr, CString};
use std::fmt;

/// A step. Paths of the container are relative to its root (no leading slash) and resolved inside it by the kernel;
/// `slot` is the place among the descriptors that [`super::Prepared`] opened before the clone.
#[derive(Debug)]
pub enum Step {
    /// Nobody who meets this process in the container's pid namespace may look into it before it has executed, and
    /// no file is made with fewer rights than it was given.
    Hide,
    /// The lock that says "a shim lives" must not live on in init.
    CloseLock,
    /// What its starter ignores or blocks is not the container's business.
    DefaultSignals,
    /// Opens what says in which AppArmor profile this process shall be: in the host's proc, which no image can replace.
    OpenProfile {
        now: bool,
    },
    /// Opens what says which SELinux label the next has that is executed: in the host's proc, too.
    OpenLabel,
    /// The SELinux label of keys that are made from here on; without one it is the policy's choice again.
    KeyLabel(Option<CString>),
    /// Enters a namespace of another container or process.
    JoinNamespace {
        slot: usize,
        path: CString,
    },
    /// Enters all namespaces of the process that a pidfd names: what `exec` does.
    JoinProcess {
        slot: usize,
        flags: i32,
    },
    /// In a user namespace: its root, whose all that is made from here on is.
    BecomeRoot,
    /// A session of its own, of processes and of keys; a terminal becomes its controlling one when stdio is set.
    NewSession,
    /// Nothing that is mounted here shows outside, and the other way round.
    PrivateMounts,
    /// The container's root file system, mounted detached before the clone, comes into this mount namespace.
    AttachRoot {
        at: CString,
    },
    /// A new file system, mounted here because it belongs to a namespace of this process (proc, sysfs, mqueue, cgroup2).
    NewMount {
        kind: CString,
        config: Vec<(CString, Option<CString>)>,
        attributes: u64,
        target: CString,
    },
    /// The SELinux label of what stands there, where its file system has one for each file.
    LabelFile {
        path: CString,
        label: CString,
    },
    /// A detached mount of `slot`: bind mounts, tmpfs, devpts. `alike`: with the mode of the directory that it covers.
    Attach {
        slot: usize,
        target: CString,
        alike: bool,
    },
    MakeDirectory {
        path: CString,
    },
    MakeNode {
        path: CString,
        mode: u32,
        device: u64,
        uid: u32,
        gid: u32,
    },
    MakeSymlink {
        path: CString,
        target: CString,
    },
    /// /dev/console is the terminal: of the devpts in `slot`, or of the host's.
    Console {
        slot: Option<usize>,
        target: CString,
    },
    /// Hidden: /dev/null over a file, an empty read-only tmpfs over a directory. A missing path is hidden already.
    Mask {
        path: CString,
    },
    ReadonlyPath {
        path: CString,
    },
    ReadonlyRoot,
    /// Tells the parent that all is mounted, and waits until it has run the hooks.
    Meet,
    /// The container's root becomes `/`, the host's is let go.
    Pivot,
    /// A new network namespace has one, but down.
    Loopback,
    Hostname(CString),
    Domainname(CString),
    /// Written through the descriptor of our own proc mount, so that no path of the image can redirect it.
    Sysctl {
        path: CString,
        value: CString,
    },
    /// Waits until the parent has done its part: cgroup, limits, network.
    WaitForGo,
    /// Descriptors 0, 1 and 2; pipes are given to the user so that /dev/stdout opens.
    Stdio {
        terminal: bool,
        /// Nobody where the parent has given them to him already.
        owner: Option<u32>,
    },
    /// The AppArmor profile of what is executed, or of this process from now on.
    Profile {
        name: CString,
        words: CString,
    },
    /// The SELinux label of what is executed.
    Label(CString),
    /// Nothing of ours but the report pipe is open from here on.
    CloseDescriptors,
    /// Only now, when no descriptor leads outside: a working directory such as /proc/self/fd/7 finds nothing.
    ChangeDirectory {
        path: CString,
    },
    Umask(u32),
    /// Drops from the bounding set all that is not in it.
    Bounding(u64),
    /// Permitted capabilities outlive the change of user.
    KeepCapabilities,
    Groups(Vec<u32>),
    Gid(u32),
    Uid(u32),
    Capabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
    },
    Ambient(u64),
    /// Killed when the shim is; after the last credential change, which would clear it.
    DeathSignal,
    NoNewPrivileges,
    /// Next to last: what comes before need not be allowed by it.
    Seccomp {
        program: Vec<libc::sock_filter>,
        flags: u64,
    },
    /// From here a child goes on, and this process does PID 1's duties: reap, and forward signals.
    Init {
        /// What it shows for its arguments: it is a fork of who starts the container, whose own tell of the host.
        title: Vec<u8>,
    },
    Exec(Exec),
}

/// The candidates of PATH in order, and what they get.
pub struct Exec {
    pub name: CString,
    pub paths: Vec<CString>,
    pub args: Strings,
    pub env: Strings,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("name", &self.name).field("paths", &self.paths).finish()
    }
}

impl fmt::Display for Step {
    /// What was being done, for `starting web: mount proc on /proc: permission denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |path: &CStr| path.to_string_lossy().into_owned();
        match self {
            Step::Hide => write!(f, "become undumpable"),
            Step::DefaultSignals => write!(f, "reset signals"),
            Step::CloseLock => write!(f, "close the lock"),
            Step::OpenProfile { .. } | Step::OpenLabel => write!(f, "open /proc/thread-self/attr"),
            Step::KeyLabel(None) => write!(f, "reset the label of keys"),
            Step::LabelFile { path, label } => write!(f, "label /{} {}", text(path), text(label)),
            Step::KeyLabel(Some(label)) | Step::Label(label) => {
                write!(f, "unable to apply SELinux label {}", text(label))
            }
            Step::Profile { name, .. } => write!(f, "unable to apply apparmor profile {}", text(name)),
            Step::JoinNamespace { path, .. } => write!(f, "join namespace {}", text(path)),
            Step::JoinProcess { .. } => write!(f, "join the container's namespaces"),
            Step::BecomeRoot => write!(f, "become root of the user namespace"),
            Step::NewSession => write!(f, "make a session"),
            Step::PrivateMounts => write!(f, "make mounts private"),
            Step::AttachRoot { at } => write!(f, "mount the root file system on {}", text(at)),
            Step::NewMount { kind, target, .. } => write!(f, "mount {} on /{}", text(kind), text(target)),
            Step::Attach { target, .. } => write!(f, "mount on /{}", text(target)),
            Step::MakeDirectory { path } => write!(f, "make directory /{}", text(path)),
            Step::MakeNode { path, .. } => write!(f, "make device /{}", text(path)),
            Step::MakeSymlink { path, .. } => write!(f, "make symbolic link /{}", text(path)),
            Step::Console { .. } => write!(f, "mount /dev/console"),
            Step::Mask { path } => write!(f, "mask /{}", text(path)),
            Step::ReadonlyPath { path } => write!(f, "make /{} read-only", text(path)),
            Step::ReadonlyRoot => write!(f, "make the root read-only"),
            Step::Meet => write!(f, "wait for hooks"),
            Step::Pivot => write!(f, "pivot into the root"),
            Step::Loopback => write!(f, "set the loopback up"),
            Step::Hostname(name) => write!(f, "set host name {}", text(name)),
            Step::Domainname(name) => write!(f, "set domain name {}", text(name)),
            Step::Sysctl { path, .. } => write!(f, "set sysctl {}", text(path)),
            Step::WaitForGo => write!(f, "wait for the parent"),
            Step::Stdio { .. } => write!(f, "set up stdio"),
            Step::CloseDescriptors => write!(f, "close descriptors"),
            Step::ChangeDirectory { path } => write!(f, "change to working directory {}", text(path)),
            Step::Umask(mask) => write!(f, "set umask {mask:o}"),
            Step::Bounding(_) => write!(f, "drop capabilities from the bounding set"),
            Step::KeepCapabilities => write!(f, "keep capabilities"),
            Step::Groups(_) => write!(f, "set groups"),
            Step::Gid(gid) => write!(f, "set gid {gid}"),
            Step::Uid(uid) => write!(f, "set uid {uid}"),
            Step::Capabilities { .. } => write!(f, "set capabilities"),
            Step::Ambient(_) => write!(f, "raise ambient capabilities"),
            Step::DeathSignal => write!(f, "set the parent-death signal"),
            Step::NoNewPrivileges => write!(f, "set no_new_privs"),
            Step::Seccomp { .. } => write!(f, "load the seccomp filter"),
            Step::Init { .. } => write!(f, "start init"),
            Step::Exec(exec) => write!(f, "exec: {:?}", text(&exec.name)),
        }
    }
}
