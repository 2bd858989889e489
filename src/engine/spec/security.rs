//! `--security-opt`.

use crate::api::units::parse_bool;
use anyhow::{Result, bail};

use super::Host;
use crate::ns::caps::CapSet;
use crate::ns::{profile, seccomp};
use crate::oci::runtime::{self, Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};
use crate::sys::quota;

/// What the security options say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Security {
    pub no_new_privileges: bool,
    pub writable_cgroups: Option<bool>,
    /// Nothing is masked or read-only.
    pub system_paths: bool,
    /// `unconfined`, `builtin`, a profile as JSON, or nothing.
    pub seccomp: Option<String>,
    pub apparmor: Option<String>,
    pub labels: Vec<String>,
}

impl Security {
    /// Reads the options, the last of a kind deciding. The words of the errors are Docker's.
    pub fn parse(options: &[String]) -> Result<Security> {
        let mut security = Security::default();
        for option in options {
            match option.as_str() {
                "no-new-privileges" => security.no_new_privileges = true,
                "writable-cgroups" => security.writable_cgroups = Some(true),
                "disable" => security.labels.push("disable".to_owned()),
                _ => security.read(option)?,
            }
        }
        Ok(security)
    }

    fn read(&mut self, option: &str) -> Result<()> {
        let Some((key, value)) = option.split_once('=').or_else(|| option.split_once(':')) else {
            bail!("invalid --security-opt 1: {option:?}");
        };
        let wrong = || anyhow::anyhow!("invalid --security-opt 2: {option:?}");
        match key {
            "label" => self.labels.push(value.to_owned()),
            "apparmor" => self.apparmor = Some(value.to_owned()),
            "seccomp" => self.seccomp = Some(value.to_owned()),
            "no-new-privileges" => self.no_new_privileges = parse_bool(value).ok_or_else(wrong)?,
            "writable-cgroups" => self.writable_cgroups = Some(parse_bool(value).ok_or_else(wrong)?),
            "systempaths" if value == "unconfined" => self.system_paths = true,
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// Refuses what this host would need more of us for than we do. Where a host has no AppArmor or SELinux the
    /// options for them mean nothing, as with Docker.
    pub fn check(&self, host: &Host) -> Result<()> {
        if !host.seccomp && !matches!(self.seccomp.as_deref(), None | Some("" | "unconfined" | "builtin")) {
            bail!("seccomp is not enabled in your kernel, cannot run a custom seccomp profile");
        }
        // Rules may be there with a capability only, or without one only.
        for caps in [CapSet::NAMED, CapSet::EMPTY] {
            if let Some(filter) = self.filter(true, caps, host)? {
                seccomp::compile(&filter)?;
            }
        }
        Ok(())
    }

    /// The system call filter of a container with that bounding set.
    pub fn filter(&self, privileged: bool, caps: CapSet, host: &Host) -> Result<Option<runtime::Seccomp>> {
        let facts = profile::Host { caps, arch: profile::ARCH, kernel: host.kernel };
        match self.seccomp.as_deref() {
            Some("unconfined") => Ok(None),
            None | Some("" | "builtin") if privileged || !host.seccomp => Ok(None),
            None | Some("" | "builtin") => Ok(Some(profile::default_profile(facts))),
            Some(json) => profile::load(json, facts),
        }
    }
}

/// Nobody in the container takes files out of the project that its quota is about: who owns a file may, in the first
/// user namespace (`FS_IOC_FSSETXATTR`, and `FS_IOC_SETFLAGS` of the flag that a directory passes its project on).
pub fn keep_in_project(filter: &mut Seccomp) {
    let rule = |action, errno_ret, arg| SeccompRule { names: vec!["ioctl".into()], action, errno_ret, args: vec![arg] };
    let masked = |value, value_two| SeccompArg { index: 1, value, value_two, op: SeccompOp::MaskedEq };
    let mut rules: Vec<SeccompRule> = [quota::SET_ATTRIBUTES, quota::SET_FLAGS[0], quota::SET_FLAGS[1]]
        .map(|call| rule(SeccompAction::Errno, Some(libc::EPERM as u32), masked(u32::MAX.into(), call.into())))
        .into();
    // A rule without conditions would replace these.
    let mut all = None;
    for known in filter.syscalls.iter_mut().filter(|known| known.args.is_empty()) {
        let before = known.names.len();
        known.names.retain(|name| name != "ioctl");
        if known.names.len() < before {
            all.get_or_insert((known.action, known.errno_ret));
        }
    }
    filter.syscalls.retain(|known| !known.names.is_empty());
    if let Some((action, errno)) = all {
        rules.push(rule(action, errno, masked(0, 0)));
    }
    filter.syscalls.splice(0..0, rules);
}
