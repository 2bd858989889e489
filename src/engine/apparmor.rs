//! AppArmor: the profile of a container, and the default one, which this host's apparmor_parser compiles and loads when it
//! is first needed.

use crate::sys::{kernel, process};
use anyhow::{Context, Result, bail};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The profile of a container that asks for none.
pub const DEFAULT: &str = "dhow-default";
/// No profile.
pub const UNCONFINED: &str = "unconfined";

/// The kernel's word on each profile that it has: `name (enforce)`.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// What a host has of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Support {
    #[default]
    None,
    /// Profiles that somebody has loaded, but nobody who would compile the default one.
    Loaded,
    All,
}

/// Asks the kernel. Whether a user namespace may change its profiles is not ours to say: there is none in one, as in
/// Docker's without root.
pub fn support() -> Support {
    let enabled = || fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
    if !Path::new(PROFILES).exists() || !enabled() || !kernel::is_first_user_namespace() {
        Support::None
    } else if parser().is_some() || is_loaded(DEFAULT).unwrap_or(false) {
        Support::All
    } else {
        Support::Loaded
    }
}

fn parser() -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin"]
        .iter()
        .map(|dir| Path::new(dir).join("apparmor_parser"))
        .find(|path| path.exists())
}

fn is_loaded(name: &str) -> Result<bool> {
    let text = fs::read_to_string(PROFILES).with_context(|| format!("read {PROFILES}"))?;
    Ok(text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(" ("))))
}

/// The profile of a container, as Docker decides it; empty where it stays in that of its starter.
pub fn profile(asked: Option<&str>, privileged: bool, support: Support) -> &str {
    match asked {
        _ if support == Support::None => "",
        _ if privileged => UNCONFINED,
        None | Some("") if support == Support::All => DEFAULT,
        None | Some("") => "",
        Some(name) => name,
    }
}

/// Loads the default profile, if that is the one and it is not there: others may have taken it away since. Called by a
/// shim, which has one thread.
pub fn ensure(profile: &str) -> Result<()> {
    if profile != DEFAULT || is_loaded(DEFAULT)? {
        return Ok(());
    }
    let parser = parser().context("there is no apparmor_parser any more");
    parser
        .and_then(|parser| load(&parser, &text(&peer())))
        .with_context(|| format!("AppArmor enabled on system but the {DEFAULT} profile could not be loaded"))
}

/// In which profile we are ourselves.
fn peer() -> String {
    let current = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let name = current.split_whitespace().next().unwrap_or_default();
    if name.is_empty() { UNCONFINED.to_owned() } else { name.to_owned() }
}

fn load(parser: &Path, profile: &str) -> Result<()> {
    let program = CString::new(parser.as_os_str().as_bytes())?;
    // No cache, and in place of one of that name that came meanwhile.
    let args = process::Strings::new(vec![program.clone(), c"-Kr".to_owned()]);
    let env = process::Strings::new(vec![c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]);
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("make a pipe");
    let ((input, gives), (hears, output)) = (pipe()?, pipe()?);
    let pid = match process::fork().context("fork")? {
        0 => {
            let placed = || -> std::io::Result<()> {
                process::dup_to(input.as_fd(), 0)?;
                process::dup_to(output.as_fd(), 1)?;
                process::dup_to(output.as_fd(), 2)?;
                // Whether a shim lives is asked of the lock.
                process::close_range(3, i32::MAX)
            };
            if placed().is_ok() {
                process::execve(&program, &args, &env);
            }
            process::exit_now(127)
        }
        pid => pid,
    };
    drop((input, output));
    // All of it has room in the pipe.
    let given = File::from(gives).write_all(profile.as_bytes());
    let mut said = String::new();
    let _ = File::from(hears).read_to_string(&mut said);
    let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).context("wait for apparmor_parser")?;
    match (given, ended) {
        (Ok(()), nix::sys::wait::WaitStatus::Exited(_, 0)) => Ok(()),
        _ => bail!("running `{} -Kr` failed with output: {}", parser.display(), said.trim().replace('\n', "; ")),
    }
}

/// The default profile: what Docker's denies is denied, for what a container may touch of the kernel is the same. `peer` is
/// the profile of those who signal from outside.
fn text(peer: &str) -> String {
    let there = |name: &str| Path::new("/etc/apparmor.d").join(name).exists();
    let global = if there("tunables/global") { "include <tunables/global>" } else { "@{PROC}=/proc/" };
    // From 4.0 on `network` is without sockets of files, which every container has: what is written here is 3.0's.
    let abi = if there("abi/3.0") { "abi <abi/3.0>,\n" } else { "" };
    let base = if there("abstractions/base") { "  include <abstractions/base>\n" } else { "" };
    format!(
        "{abi}{global}
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
{base}
  network,
  # Much of the kernel's cryptography, by way of which files were changed that may only be read (CVE-2026-31431). A filter
  # of system calls does not see the family where it lies in memory (socketcall of 32 bits).
  deny network alg,
  capability,
  file,
  umount,

  # From outside: kill, stop, and init passing them on. Among each other: everything.
  signal (receive) peer=unconfined,
  signal (receive) peer={peer},
  signal (send,receive) peer={DEFAULT},
  ptrace (trace,read,tracedby,readby) peer={DEFAULT},

  deny mount,

  # Of proc only what is a process's own, and kernel/shm*.
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,

  # Of sys only cgroups; what tells of the machine not even to be read.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_profile_a_container_has() {
        use Support::{All, Loaded, None as No};
        for (asked, privileged, support, expected) in [
            (None, false, All, DEFAULT),
            (Some(""), false, All, DEFAULT),
            (Some("mine"), false, All, "mine"),
            (Some("unconfined"), false, All, UNCONFINED),
            (None, true, All, UNCONFINED),
            // As Docker has it: who is privileged is held by none.
            (Some("mine"), true, All, UNCONFINED),
            // Nobody can compile the default one; others are there or not.
            (None, false, Loaded, ""),
            (Some("mine"), false, Loaded, "mine"),
            (None, true, Loaded, UNCONFINED),
            (Some("mine"), false, No, ""),
            (None, true, No, ""),
        ] {
            assert_eq!(profile(asked, privileged, support), expected, "{asked:?}, {privileged}, {support:?}");
        }
    }

    #[test]
    fn the_default_profile_names_its_peers() {
        let text = text("/usr/bin/dhow");
        assert!(text.contains("profile dhow-default flags=(attach_disconnected,mediate_deleted) {\n"), "{text}");
        assert!(
            text.contains("\n  signal (receive) peer=/usr/bin/dhow,\n")
                && text.contains("\n  deny @{PROC}/* w,\n")
                && text.contains("\n  deny network alg,\n")
        );
        assert!(text.len() < 65_536, "it has room in a pipe");
    }

    #[test]
    fn the_default_profile_compiles() {
        let Some(parser) = parser() else {
            return crate::skip::skip("apparmor_parser is not installed").unwrap_or_default();
        };
        let mut command = std::process::Command::new(parser);
        let piped = std::process::Stdio::piped;
        let mut child =
            command.args(["-QKT", "--warn=all"]).stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text(UNCONFINED).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
