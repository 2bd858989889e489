//! Capabilities: names, numbers, sets, and what `--cap-add` and `--cap-drop` make of them.

use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::sys::process;

/// Names in the order of their numbers, without `CAP_` (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container gets when nothing else is asked for.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, one bit each, as the kernel numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    pub const EMPTY: CapSet = CapSet(0);
    /// Every one that has a name.
    pub const NAMED: CapSet = CapSet((1 << NAMES.len()) - 1);

    /// Docker's default.
    pub fn default_of_docker() -> CapSet {
        DEFAULT.iter().filter_map(|name| number(name)).fold(CapSet::EMPTY, CapSet::with)
    }

    /// From names as a runtime spec has them; an unknown one is an error.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<CapSet> {
        names.iter().try_fold(CapSet::EMPTY, |set, name| match number(name.as_ref()) {
            Some(cap) => Ok(set.with(cap)),
            None => bail!("unknown capability {:?}", name.as_ref()),
        })
    }

    /// `CAP_…` in the kernel's order.
    pub fn names(self) -> Vec<String> {
        let numbered = (0u8..).zip(NAMES);
        numbered.filter(|(cap, _)| self.has(*cap)).map(|(_, name)| format!("CAP_{name}")).collect()
    }

    pub fn has(self, cap: u8) -> bool {
        self.0 & (1 << cap) != 0
    }

    /// Whether it has the one of that name, with or without `CAP_`; an unknown one it has not.
    pub fn has_named(self, name: &str) -> bool {
        number(name).is_some_and(|cap| self.has(cap))
    }

    pub fn with(self, cap: u8) -> CapSet {
        CapSet(self.0 | 1 << cap)
    }

    pub fn union(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }

    pub fn without(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    pub fn intersection(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }
}

/// The number of a capability, `CAP_` and case optional.
pub fn number(name: &str) -> Option<u8> {
    let bare = match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    };
    NAMES.iter().position(|known| known.eq_ignore_ascii_case(bare)).map(|cap| cap as u8)
}

/// The bits of capabilities by name, as capset(2) takes them; an unknown name is an error.
pub fn set(names: &[String]) -> Result<u64> {
    CapSet::from_names(names).map(|set| set.0)
}

/// All that this process could give: its bounding set. Where it cannot be read, everything: the kernel refuses what
/// is too much.
pub fn held() -> u64 {
    // Asked once: nothing here drops from the set but what then executes.
    static HELD: OnceLock<u64> = OnceLock::new();
    *HELD.get_or_init(|| {
        let asked = |cap: u64| process::prctl(libc::PR_CAPBSET_READ, cap, 0).ok();
        // The kernel refuses the first number that it has no capability for.
        let known: Vec<i32> = (0..64).map_while(asked).collect();
        match known.is_empty() {
            true => u64::MAX,
            false => known.iter().enumerate().map(|(cap, held)| u64::from(*held == 1) << cap).sum(),
        }
    })
}

/// Those of [`held`] that have a name.
pub fn available() -> CapSet {
    CapSet(held()).intersection(CapSet::NAMED)
}

/// The capabilities of a container. `available` is what the kernel and our bounding set have.
/// The words of the errors are Docker's.
pub fn of_container(add: &[String], drop: &[String], privileged: bool, available: CapSet) -> Result<CapSet> {
    let (add, add_all) = parse(add, available).context("invalid CapAdd")?;
    let (drop, drop_all) = parse(drop, available).context("invalid CapDrop")?;
    Ok(if privileged {
        available
    } else if add_all {
        available.without(drop)
    } else if drop_all {
        add
    } else {
        // What was asked for by name must be there; of the default we give what we have.
        CapSet::default_of_docker().intersection(available).without(drop).union(add)
    })
}

/// The named ones, and whether `ALL` was among them.
fn parse(names: &[String], available: CapSet) -> Result<(CapSet, bool)> {
    let mut set = CapSet::EMPTY;
    let mut all = false;
    for name in names {
        if name.eq_ignore_ascii_case("ALL") {
            all = true;
            continue;
        }
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match number(&full) {
            None => bail!("unknown capability: {full:?}"),
            Some(cap) if !available.has(cap) => {
                bail!("capability not supported by your kernel or not available in the current environment: {full:?}")
            }
            Some(cap) => set = set.with(cap),
        }
    }
    Ok((set, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(names: &str) -> CapSet {
        CapSet::from_names(&names.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    fn strings(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("cap_sys_admin"), Some(21));
        assert_eq!(number("Sys_Admin"), Some(21));
        assert_eq!(number("CHECKPOINT_RESTORE"), Some(40));
        for unknown in ["", "CAP_", "CAP_CAP_CHOWN", "ALL", "çap"] {
            assert_eq!(number(unknown), None, "{unknown}");
        }
        assert_eq!(CapSet::default_of_docker().0, 0xa80425fb);
        assert_eq!(caps("KILL CHOWN").names(), ["CAP_CHOWN", "CAP_KILL"]);
        assert!(CapSet::from_names(&["CAP_NOPE"]).is_err());
    }

    #[test]
    fn what_add_and_drop_make() {
        let default = CapSet::default_of_docker();
        let all = CapSet::NAMED;
        for (add, drop, privileged, expected) in [
            ("", "", false, default),
            ("SYS_ADMIN", "", false, default.union(caps("SYS_ADMIN"))),
            ("cap_sys_admin", "chown", false, default.union(caps("SYS_ADMIN")).without(caps("CHOWN"))),
            ("CHOWN", "CHOWN", false, default),
            ("", "ALL", false, CapSet::EMPTY),
            ("KILL", "all", false, caps("KILL")),
            ("ALL", "", false, all),
            ("ALL", "SYS_ADMIN", false, all.without(caps("SYS_ADMIN"))),
            ("ALL", "ALL", false, all),
            ("", "CHOWN", true, all),
        ] {
            let got = of_container(&strings(add), &strings(drop), privileged, all).unwrap();
            assert_eq!(got, expected, "add {add:?}, drop {drop:?}, privileged {privileged}");
        }
    }

    #[test]
    fn what_is_refused() {
        let refused = |add: &str, drop: &str, available| {
            format!("{:#}", of_container(&strings(add), &strings(drop), false, available).unwrap_err())
        };
        assert_eq!(refused("x", "", CapSet::NAMED), r#"invalid CapAdd: unknown capability: "CAP_X""#);
        assert_eq!(refused("", "CAP_Y", CapSet::NAMED), r#"invalid CapDrop: unknown capability: "CAP_Y""#);
        assert_eq!(
            refused("BPF", "", caps("CHOWN")),
            "invalid CapAdd: capability not supported by your kernel or not available in the current environment: \
             \"CAP_BPF\""
        );
    }
}
