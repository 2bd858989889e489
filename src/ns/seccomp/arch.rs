//! Architectures, and the numbers that their system calls have.

use crate::order;
use anyhow::{Result, bail};

/// In an x86_64 number: the call is of the x32 ABI.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// ARM's own calls lie above these, out of the common order.
const ARM_PRIVATE: u32 = 0x0f_0000;
/// x32's own calls lie between this and 547, out of the common order.
const X32_PRIVATE: u32 = 512;

/// An architecture whose calls we can number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
}

#[cfg(target_arch = "x86_64")]
pub const NATIVE: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
pub const NATIVE: Arch = Arch::Aarch64;

/// The names of an architecture's calls as a text, a line for each number: a sixth of what it takes to ask the crate for
/// each by its number.
macro_rules! names {
    ($arch:ident) => {{
        use syscalls::$arch::Sysno;

        const fn name(nr: usize) -> &'static [u8] {
            match Sysno::new(nr) {
                Some(call) => call.name().as_bytes(),
                None => b"",
            }
        }
        const COUNT: usize = Sysno::last().id() as usize + 1;
        const LEN: usize = {
            let (mut len, mut nr) = (0, 0);
            while nr < COUNT {
                len += name(nr).len() + 1;
                nr += 1;
            }
            len
        };
        const TEXT: [u8; LEN] = {
            let (mut text, mut len, mut nr) = ([b'\n'; LEN], 0, 0);
            while nr < COUNT {
                let (_, rest) = text.split_at_mut(len);
                let (place, _) = rest.split_at_mut(name(nr).len());
                place.copy_from_slice(name(nr));
                len += name(nr).len() + 1;
                nr += 1;
            }
            text
        };
        const NAMES: &str = match str::from_utf8(&TEXT) {
            Ok(names) => names,
            Err(_) => panic!(),
        };
        NAMES
    }};
}

fn table(names: &'static str) -> Vec<(u32, &'static str)> {
    (0..).zip(names.lines()).filter(|(_, name)| !name.is_empty()).collect()
}

/// Which of the two families this program can run on: the tables of the other would be ten kilobytes for nothing.
const X86: bool = cfg!(any(test, target_arch = "x86_64"));
const ARM: bool = cfg!(any(test, target_arch = "aarch64"));

impl Arch {
    /// `None` for one that does not exist on our machines: its calls are refused with all unknown ones.
    pub(super) fn parse(name: &str) -> Result<Option<Arch>> {
        Ok(match name {
            "SCMP_ARCH_NATIVE" => Some(NATIVE),
            "SCMP_ARCH_X86_64" => X86.then_some(Arch::X86_64),
            "SCMP_ARCH_X32" => X86.then_some(Arch::X32),
            "SCMP_ARCH_X86" => X86.then_some(Arch::X86),
            "SCMP_ARCH_AARCH64" => ARM.then_some(Arch::Aarch64),
            "SCMP_ARCH_ARM" => ARM.then_some(Arch::Arm),
            "SCMP_ARCH_MIPS"
            | "SCMP_ARCH_MIPS64"
            | "SCMP_ARCH_MIPS64N32"
            | "SCMP_ARCH_MIPSEL"
            | "SCMP_ARCH_MIPSEL64"
            | "SCMP_ARCH_MIPSEL64N32"
            | "SCMP_ARCH_PPC"
            | "SCMP_ARCH_PPC64"
            | "SCMP_ARCH_PPC64LE"
            | "SCMP_ARCH_S390"
            | "SCMP_ARCH_S390X"
            | "SCMP_ARCH_PARISC"
            | "SCMP_ARCH_PARISC64"
            | "SCMP_ARCH_RISCV64"
            | "SCMP_ARCH_LOONGARCH64"
            | "SCMP_ARCH_M68K"
            | "SCMP_ARCH_SH"
            | "SCMP_ARCH_SHEB" => None,
            _ => bail!("unknown seccomp architecture {name:?}"),
        })
    }

    /// What the kernel says in `seccomp_data.arch` (AUDIT_ARCH_…).
    pub(super) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Every call, ascending.
    pub(in crate::ns) fn calls(self) -> Vec<(u32, &'static str)> {
        let mut calls = match self {
            Arch::X86_64 if X86 => table(names!(x86_64)),
            Arch::X86 if X86 => table(names!(x86)),
            Arch::Aarch64 if ARM => table(names!(aarch64)),
            Arch::Arm if ARM => {
                let own = ["breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"];
                let mut calls = table(names!(arm));
                calls.extend((ARM_PRIVATE + 1..).zip(own));
                calls
            }
            Arch::X32 if X86 => {
                let mut calls = Arch::X86_64.calls();
                for (nr, name) in &mut calls {
                    *nr =
                        X32_BIT | X32_OWN.iter().position(|own| own == name).map_or(*nr, |at| X32_PRIVATE + at as u32);
                }
                order::by_key(&mut calls, |(nr, _)| *nr);
                calls
            }
            _ => Vec::new(),
        };
        for (_, name) in &mut calls {
            *name = match name.strip_prefix("r#").unwrap_or(name) {
                // The kernel's headers, and with them profiles, have another name for number 79 of arm64 than the crate.
                "fstatat" => "newfstatat",
                name => name,
            };
        }
        calls
    }

    /// Whether a number stands where new calls are added, so that one beyond it is new.
    pub(super) fn in_order(self, nr: u32) -> bool {
        nr & !X32_BIT < if self == Arch::X32 { X32_PRIVATE } else { ARM_PRIVATE }
    }
}

/// From number 512 on (arch/x86/entry/syscalls/syscall_64.tbl): those whose structures differ from 64 bit ones.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// On 32 bit x86 these also go through one call, which takes their number as its first argument.
pub(super) const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
pub(super) const IPC: [(u64, &str); 12] = [
    (1, "semop"),
    (2, "semget"),
    (3, "semctl"),
    (4, "semtimedop"),
    (11, "msgsnd"),
    (12, "msgrcv"),
    (13, "msgget"),
    (14, "msgctl"),
    (21, "shmat"),
    (22, "shmdt"),
    (23, "shmget"),
    (24, "shmctl"),
];
