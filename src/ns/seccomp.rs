//! A system call filter: from the runtime spec's rules to the kernel's classic BPF program.
//!
//! Rules of one call combine as libseccomp combines them: one without conditions replaces all that have some, the
//! first of several decides; among those with conditions the first whose conditions hold does. A number above all
//! that the profile names is newer than the profile: it answers ENOSYS, so that a C library falls back to what it
//! knows, instead of the profile's own refusal.
//!
//! Sources: seccomp(2), linux/seccomp.h, linux/audit.h.

use anyhow::{Result, bail};
use libc::sock_filter;

use crate::oci::runtime::{Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// In an x86_64 number: the call is of the x32 ABI.
const X32_BIT: u32 = 0x4000_0000;
/// ARM's own calls lie above these, out of the common order.
const ARM_PRIVATE: u32 = 0x0f_0000;
/// x32's own calls lie between this and 547, out of the common order.
const X32_PRIVATE: u32 = 512;
/// BPF_MAXINSNS
const LONGEST: usize = 4096;

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

impl Arch {
    /// `None` for one that does not exist on our machines: its calls are refused with all unknown ones.
    fn parse(name: &str) -> Result<Option<Arch>> {
        Ok(match name {
            "SCMP_ARCH_NATIVE" => Some(NATIVE),
            "SCMP_ARCH_X86_64" => Some(Arch::X86_64),
            "SCMP_ARCH_X32" => Some(Arch::X32),
            "SCMP_ARCH_X86" => Some(Arch::X86),
            "SCMP_ARCH_AARCH64" => Some(Arch::Aarch64),
            "SCMP_ARCH_ARM" => Some(Arch::Arm),
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
    fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Every call, ascending.
    pub(super) fn calls(self) -> Vec<(u32, &'static str)> {
        macro_rules! table {
            ($arch:ident) => {
                (0..=syscalls::$arch::Sysno::last().id() as u32)
                    .filter_map(|nr| syscalls::$arch::Sysno::new(nr as usize).map(|call| (nr, call.name())))
                    .collect::<Vec<_>>()
            };
        }
        let mut calls = match self {
            Arch::X86_64 => table!(x86_64),
            Arch::X86 => table!(x86),
            Arch::Aarch64 => table!(aarch64),
            Arch::Arm => {
                let own = ["breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"];
                let mut calls = table!(arm);
                calls.extend((ARM_PRIVATE + 1..).zip(own));
                calls
            }
            Arch::X32 => {
                let mut calls = table!(x86_64);
                for (nr, name) in &mut calls {
                    *nr =
                        X32_BIT | X32_OWN.iter().position(|own| own == name).map_or(*nr, |at| X32_PRIVATE + at as u32);
                }
                calls.sort_unstable();
                calls
            }
        };
        for (_, name) in &mut calls {
            *name = name.strip_prefix("r#").unwrap_or(name);
        }
        calls
    }

    /// Whether a number stands where new calls are added, so that one beyond it is new.
    fn in_order(self, nr: u32) -> bool {
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
const SOCKETCALL: [&str; 20] = [
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
const IPC: [(u64, &str); 12] = [
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

/// Compiles a filter for this machine: what seccomp(2) is given, program and `SECCOMP_FILTER_FLAG_…`.
/// Errors: what the profile asks for cannot be had.
pub fn compile(profile: &Seccomp) -> Result<(Vec<sock_filter>, u64)> {
    compile_for(profile, NATIVE)
}

fn compile_for(profile: &Seccomp, native: Arch) -> Result<(Vec<sock_filter>, u64)> {
    let mut arches = vec![native];
    for name in &profile.architectures {
        if let Some(arch) = Arch::parse(name)?
            && !arches.contains(&arch)
        {
            arches.push(arch);
        }
    }
    let default = action(profile.default_action, profile.default_errno_ret)?;
    // A default that lets through lets new calls through as well; a tracer answers for itself.
    let unknown = match profile.default_action {
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace => default,
        _ => RET_ERRNO | libc::ENOSYS as u32,
    };
    let rules = Rules::new(profile)?;
    let outcomes = &mut vec![Outcome::Return(default), Outcome::Return(unknown), Outcome::Return(RET_KILL_PROCESS)];
    let mut sections: Vec<(u32, Vec<Range>)> = Vec::new();
    for arch in arches {
        let mut ranges = rules.ranges(arch, outcomes);
        match sections.iter_mut().find(|(audit, _)| *audit == arch.audit()) {
            // x32 and x86_64 are one architecture to the kernel; the bit in the number tells them apart.
            Some((_, known)) => known.append(&mut ranges),
            None => sections.push((arch.audit(), ranges)),
        }
    }
    for (_, ranges) in sections.iter_mut().filter(|(audit, _)| *audit == Arch::X86_64.audit()) {
        ranges.sort_unstable_by_key(|range| range.start);
        close_x32(ranges);
    }
    let mut program = emit(&sections, outcomes);
    program.reverse();
    if program.len() > LONGEST {
        bail!("seccomp profile is too long: {} instructions, the kernel takes {LONGEST}", program.len());
    }
    Ok((program, flags(profile)?))
}

/// Calls of x32 where the profile does not list it are those of a foreign architecture. All ones is what a tracer
/// leaves of a call that it has dropped: not x32's.
fn close_x32(ranges: &mut Vec<Range>) {
    if ranges.last().is_some_and(|range| range.start < X32_BIT) {
        ranges.push(Range { start: X32_BIT, outcome: FOREIGN });
        ranges.push(Range { start: u32::MAX, outcome: UNKNOWN });
    }
    if ranges.first().is_some_and(|range| range.start != 0) {
        ranges.insert(0, Range { start: 0, outcome: FOREIGN });
    }
}

/// `SECCOMP_FILTER_FLAG_…` by name; without any, that of no speculation control, which costs much and gains nothing
/// (prctl(2), PR_SET_SPECULATION_CTRL).
fn flags(profile: &Seccomp) -> Result<u64> {
    let Some(names) = &profile.flags else { return Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) };
    names.iter().try_fold(0, |flags, name| {
        Ok(flags
            | match name.as_str() {
                // There is one thread.
                "SECCOMP_FILTER_FLAG_TSYNC" => 0,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                _ => bail!("seccomp flag {name:?} is not supported"),
            })
    })
}

/// The filter's return value for an action.
fn action(action: SeccompAction, errno: Option<u32>) -> Result<u32> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        SeccompAction::Kill | SeccompAction::KillThread => RET_KILL_THREAD,
        SeccompAction::KillProcess => RET_KILL_PROCESS,
        SeccompAction::Trap => RET_TRAP,
        // MAX_ERRNO: more would look like an address to the C library.
        SeccompAction::Errno if errno > 4095 => bail!("seccomp errno {errno} is out of range"),
        SeccompAction::Errno => RET_ERRNO | errno,
        SeccompAction::Trace if errno > 0xffff => bail!("seccomp trace value {errno} is out of range"),
        SeccompAction::Trace => RET_TRACE | errno,
        SeccompAction::Log => RET_LOG,
        SeccompAction::Allow => RET_ALLOW,
        SeccompAction::Notify => bail!("seccomp action SCMP_ACT_NOTIFY is not supported"),
    })
}

/// What a call gets.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Return(u32),
    /// The first whose conditions hold, or else the default.
    Conditional(Vec<(Vec<SeccompArg>, u32)>),
}

/// Places in the list of outcomes that every filter has.
const DEFAULT: usize = 0;
const UNKNOWN: usize = 1;
const FOREIGN: usize = 2;

/// Numbers from `start` to the next range's.
struct Range {
    start: u32,
    outcome: usize,
}

/// A profile's rules, found by the name of a call.
struct Rules<'a> {
    rules: Vec<(&'a SeccompRule, u32)>,
    /// Name, place in `rules`, and the next entry of the same bucket: those of one call in the profile's order.
    entries: Vec<(&'a str, usize, usize)>,
    /// The first entry of each bucket. A power of two of them.
    buckets: Vec<usize>,
}

/// No further entry.
const NONE: usize = usize::MAX;

/// FNV-1a: names are short, and a profile's author can slow down nobody but himself.
fn hash(name: &str) -> usize {
    name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)) as usize
}

impl<'a> Rules<'a> {
    fn new(profile: &'a Seccomp) -> Result<Rules<'a>> {
        let mut rules = Vec::with_capacity(profile.syscalls.len());
        let mut entries = Vec::with_capacity(512);
        for rule in &profile.syscalls {
            if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
                bail!("seccomp rule for {}: no argument {}", rule.names.join(", "), arg.index);
            }
            entries.extend(rule.names.iter().map(|name| (&**name, rules.len(), NONE)));
            rules.push((rule, action(rule.action, rule.errno_ret)?));
        }
        let mut buckets = vec![NONE; (2 * entries.len()).next_power_of_two()];
        let mask = buckets.len() - 1;
        // From the last to the first, so that a bucket begins with its first.
        for place in (0..entries.len()).rev() {
            let bucket = &mut buckets[hash(entries[place].0) & mask];
            entries[place].2 = std::mem::replace(bucket, place);
        }
        Ok(Rules { rules, entries, buckets })
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &(&'a SeccompRule, u32)> {
        let first = self.buckets[hash(name) & (self.buckets.len() - 1)];
        let chain = std::iter::successors(self.entries.get(first), |(_, _, next)| self.entries.get(*next));
        chain.filter(move |(known, _, _)| *known == name).map(|(_, rule, _)| &self.rules[*rule])
    }

    /// `None`: the profile does not know the call.
    fn outcome(&self, arch: Arch, name: &str) -> Option<Outcome> {
        let mut conditional = Vec::new();
        for (rule, ret) in self.of(name) {
            if rule.args.is_empty() {
                return Some(Outcome::Return(*ret));
            }
            let repeated = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
            if repeated {
                // Two conditions on one argument are two rules: runc's reading, which profiles count on.
                conditional.extend(rule.args.iter().map(|arg| (vec![*arg], *ret)));
            } else {
                conditional.push((rule.args.clone(), *ret));
            }
        }
        match name {
            "socketcall" if arch == Arch::X86 => {
                let numbered = (1..).zip(SOCKETCALL);
                self.multiplexed(numbered, u64::MAX, &mut conditional);
            }
            // The upper half of the number is a version.
            "ipc" if arch == Arch::X86 => self.multiplexed(IPC.into_iter(), 0xffff, &mut conditional),
            _ => {}
        }
        (!conditional.is_empty()).then_some(Outcome::Conditional(conditional))
    }

    /// What rules for calls say about the one call through which they also go. Their arguments lie in memory then:
    /// a permission that depends on them is not given, a refusal that does is given always.
    fn multiplexed<'n>(
        &self,
        calls: impl Iterator<Item = (u64, &'n str)>,
        mask: u64,
        conditional: &mut Vec<(Vec<SeccompArg>, u32)>,
    ) {
        for (number, name) in calls {
            let lets = |ret: u32| matches!(ret & 0xffff_0000, RET_ALLOW | RET_LOG | RET_TRACE);
            let plain = self.of(name).find(|(rule, _)| rule.args.is_empty());
            if let Some((_, ret)) = plain.or_else(|| self.of(name).find(|(_, ret)| !lets(*ret))) {
                let number = SeccompArg { index: 0, value: mask, value_two: number, op: SeccompOp::MaskedEq };
                conditional.push((vec![number], *ret));
            }
        }
    }

    /// Every number of an architecture, ascending, neighbours with one outcome joined.
    fn ranges(&self, arch: Arch, outcomes: &mut Vec<Outcome>) -> Vec<Range> {
        let calls: Vec<(u32, Outcome)> =
            arch.calls().into_iter().filter_map(|(nr, name)| Some((nr, self.outcome(arch, name)?))).collect();
        let newest = calls.iter().map(|(nr, _)| *nr).filter(|nr| arch.in_order(*nr)).max();
        let mut ranges: Vec<Range> = Vec::with_capacity(128);
        let mut push = |start, outcome| {
            if ranges.last().is_none_or(|last| last.outcome != outcome) {
                ranges.push(Range { start, outcome });
            }
        };
        // A profile that names no call of this architecture tells nothing about which are new.
        let gap = |from: u32, to: u32, push: &mut dyn FnMut(u32, usize)| {
            let new = newest.map_or(to, |newest| newest + 1);
            if from < to.min(new) {
                push(from, DEFAULT);
            }
            if from.max(new) < to {
                push(from.max(new), UNKNOWN);
            }
        };
        let mut next = if arch == Arch::X32 { X32_BIT } else { 0 };
        for (nr, outcome) in calls {
            gap(next, nr, &mut push);
            let place = outcomes.iter().position(|known| *known == outcome).unwrap_or_else(|| {
                outcomes.push(outcome);
                outcomes.len() - 1
            });
            push(nr, place);
            next = nr + 1;
        }
        gap(next, u32::MAX, &mut push);
        ranges
    }
}

// Instructions (linux/bpf_common.h) and what they load (struct seccomp_data).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A program, written from its end, because jumps go forward only: where they lead is known when they are written.
/// A place is counted from the end.
struct Emitter<'a> {
    code: Vec<sock_filter>,
    outcomes: &'a [Outcome],
    /// Where an outcome was last written.
    written: Vec<Option<usize>>,
}

/// The whole program, last instruction first.
fn emit(sections: &[(u32, Vec<Range>)], outcomes: &[Outcome]) -> Vec<sock_filter> {
    let mut emitter = Emitter { code: Vec::with_capacity(512), outcomes, written: vec![None; outcomes.len()] };
    let starts: Vec<usize> = sections
        .iter()
        .rev()
        .map(|(_, ranges)| {
            let root = emitter.tree(ranges);
            emitter.fall_to(root);
            emitter.push(LOAD, NUMBER)
        })
        .collect();
    let mut otherwise = emitter.outcome(FOREIGN);
    for ((audit, _), start) in sections.iter().rev().zip(starts) {
        otherwise = emitter.branch(EQUAL, *audit, start, otherwise);
    }
    emitter.push(LOAD, ARCHITECTURE);
    emitter.code
}

impl Emitter<'_> {
    fn push(&mut self, code: u16, k: u32) -> usize {
        self.code.push(sock_filter { code, jt: 0, jf: 0, k });
        self.code.len() - 1
    }

    /// What is written next goes on at that place.
    fn fall_to(&mut self, place: usize) {
        let distance = self.code.len() - place - 1;
        if distance > 0 {
            self.push(JUMP, distance as u32);
        }
    }

    /// A conditional jump to two places, which may be far.
    fn branch(&mut self, code: u16, k: u32, mut yes: usize, mut no: usize) -> usize {
        // An unconditional jump in between for what is too far; writing it moves the other one away by one.
        const FAR: usize = 250;
        for place in [&mut yes, &mut no] {
            let distance = self.code.len() - *place - 1;
            if distance > FAR {
                *place = self.push(JUMP, distance as u32);
            }
        }
        let (jt, jf) = (self.code.len() - yes - 1, self.code.len() - no - 1);
        self.code.push(sock_filter { code, jt: jt as u8, jf: jf as u8, k });
        self.code.len() - 1
    }

    /// A balanced tree of comparisons with the number that is loaded.
    fn tree(&mut self, ranges: &[Range]) -> usize {
        if let [only] = ranges {
            return self.outcome(only.outcome);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let above = self.tree(high);
        let below = self.tree(low);
        self.branch(GREATER_OR_EQUAL, high[0].start, above, below)
    }

    fn outcome(&mut self, outcome: usize) -> usize {
        let near = self.written[outcome].filter(|place| self.code.len() - place < 200);
        let outcomes = self.outcomes;
        let place = near.unwrap_or_else(|| match &outcomes[outcome] {
            Outcome::Return(value) => self.push(RETURN, *value),
            Outcome::Conditional(rules) => {
                let mut next = self.outcome(DEFAULT);
                for (args, value) in rules.iter().rev() {
                    let mut place = self.push(RETURN, *value);
                    for arg in args.iter().rev() {
                        place = self.condition(arg, place, next);
                    }
                    next = place;
                }
                next
            }
        });
        self.written[outcome] = Some(place);
        place
    }

    /// Compares an argument, in two halves: the machine has 32 bits.
    fn condition(&mut self, arg: &SeccompArg, yes: usize, no: usize) -> usize {
        let low_half = ARGUMENTS + 8 * arg.index;
        let high_half = low_half + 4;
        let (mask, value) = match arg.op {
            SeccompOp::MaskedEq => (arg.value, arg.value_two),
            _ => (u64::MAX, arg.value),
        };
        let (low, high) = (value as u32, (value >> 32) as u32);
        match arg.op {
            SeccompOp::Eq | SeccompOp::MaskedEq => {
                let low = self.half(low_half, mask as u32, low, yes, no);
                self.half(high_half, (mask >> 32) as u32, high, low, no)
            }
            SeccompOp::Ne => {
                let low = self.half(low_half, u32::MAX, low, no, yes);
                self.half(high_half, u32::MAX, high, low, yes)
            }
            SeccompOp::Gt => self.ordered(low_half, GREATER, low, high, yes, no),
            SeccompOp::Ge => self.ordered(low_half, GREATER_OR_EQUAL, low, high, yes, no),
            SeccompOp::Lt => self.ordered(low_half, GREATER_OR_EQUAL, low, high, no, yes),
            SeccompOp::Le => self.ordered(low_half, GREATER, low, high, no, yes),
        }
    }

    /// Whether one half, masked, is equal.
    fn half(&mut self, offset: u32, mask: u32, value: u32, yes: usize, no: usize) -> usize {
        if (mask, value) == (0, 0) {
            return yes;
        }
        self.branch(EQUAL, value, yes, no);
        if mask != u32::MAX {
            self.push(AND, mask);
        }
        self.push(LOAD, offset)
    }

    fn ordered(&mut self, low_half: u32, code: u16, low: u32, high: u32, yes: usize, no: usize) -> usize {
        self.branch(code, low, yes, no);
        let low = self.push(LOAD, low_half);
        let equal = self.branch(EQUAL, high, low, no);
        self.branch(GREATER, high, yes, equal);
        self.push(LOAD, low_half + 4)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a program as the kernel does.
    pub fn run(program: &[sock_filter], arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
        let load = |offset: u32| match offset {
            NUMBER => nr,
            ARCHITECTURE => arch.audit(),
            16..64 if offset.is_multiple_of(8) => args[(offset as usize - 16) / 8] as u32,
            20..64 if offset.is_multiple_of(4) => (args[(offset as usize - 20) / 8] >> 32) as u32,
            _ => panic!("load of {offset}"),
        };
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match code {
                LOAD => accumulator = load(k),
                AND => accumulator &= k,
                EQUAL => jump(accumulator == k),
                GREATER => jump(accumulator > k),
                GREATER_OR_EQUAL => jump(accumulator >= k),
                JUMP => at += k as usize,
                RETURN => return k,
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    fn number(arch: Arch, name: &str) -> u32 {
        arch.calls().into_iter().find(|(_, known)| *known == name).unwrap_or_else(|| panic!("{name}?")).0
    }

    fn profile(value: serde_json::Value) -> Seccomp {
        serde_json::from_value(value).unwrap()
    }

    const EPERM: u32 = RET_ERRNO | 1;
    const ENOSYS: u32 = RET_ERRNO | 38;
    const NONE: [u64; 6] = [0; 6];

    #[test]
    fn numbers_of_every_architecture() {
        for (arch, name, nr) in [
            (Arch::X86_64, "read", 0),
            (Arch::X86_64, "openat2", 437),
            (Arch::X86, "break", 17),
            (Arch::X86, "socketcall", 102),
            (Arch::Aarch64, "openat", 56),
            (Arch::Arm, "set_tls", 0x0f_0005),
            (Arch::X32, "read", X32_BIT),
            (Arch::X32, "ioctl", X32_BIT | 514),
            (Arch::X32, "pwritev2", X32_BIT | 547),
        ] {
            assert_eq!(number(arch, name), nr, "{name} on {arch:?}");
        }
        for arch in [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm] {
            assert!(arch.calls().is_sorted(), "{arch:?}");
        }
    }

    #[test]
    fn every_action_and_what_it_defaults_to() {
        let rule = |name: &str, action: &str, errno: Option<u32>| serde_json::json!({"names": [name], "action": action, "errnoRet": errno});
        let filter = compile_for(
            &profile(serde_json::json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 99,
                "syscalls": [
                    rule("read", "SCMP_ACT_ALLOW", None), rule("write", "SCMP_ACT_KILL", None),
                    rule("open", "SCMP_ACT_KILL_THREAD", None), rule("close", "SCMP_ACT_KILL_PROCESS", None),
                    rule("stat", "SCMP_ACT_TRAP", None), rule("fstat", "SCMP_ACT_ERRNO", None),
                    rule("lstat", "SCMP_ACT_ERRNO", Some(0)), rule("poll", "SCMP_ACT_TRACE", Some(7)),
                    rule("lseek", "SCMP_ACT_LOG", None), rule("no_such_call", "SCMP_ACT_ALLOW", None),
                    rule("getpid", "SCMP_ACT_ALLOW", None),
                ],
            })),
            Arch::X86_64,
        )
        .unwrap();
        assert_eq!(filter.1, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
        for (nr, expected) in [
            (0, RET_ALLOW),
            (1, RET_KILL_THREAD),
            (2, RET_KILL_THREAD),
            (3, RET_KILL_PROCESS),
            (4, RET_TRAP),
            (5, EPERM),
            (6, RET_ERRNO),
            (7, RET_TRACE | 7),
            (8, RET_LOG),
            (9, RET_ERRNO | 99),
            (38, RET_ERRNO | 99),
            (39, RET_ALLOW),
            (40, ENOSYS),
            (u32::MAX, ENOSYS),
            (X32_BIT, RET_KILL_PROCESS),
            (X32_BIT | 39, RET_KILL_PROCESS),
        ] {
            assert_eq!(run(&filter.0, Arch::X86_64, nr, NONE), expected, "call {nr:#x}");
        }
        // An architecture that the profile does not list.
        assert_eq!(run(&filter.0, Arch::X86, 0, NONE), RET_KILL_PROCESS);
    }

    #[test]
    fn every_operator_over_all_64_bits() {
        const BIG: u64 = 0x1_0000_0005;
        for (op, value, value_two, holds, fails) in [
            ("EQ", BIG, 0u64, vec![BIG], vec![5, BIG + 1, 0x2_0000_0005]),
            ("NE", BIG, 0, vec![5, BIG - 1, 0x1_0000_0000], vec![BIG]),
            ("LT", BIG, 0, vec![0, 6, BIG - 1], vec![BIG, BIG + 1, 0x2_0000_0000, u64::MAX]),
            ("LE", BIG, 0, vec![0, 6, BIG], vec![BIG + 1, 0x2_0000_0000]),
            ("GE", BIG, 0, vec![BIG, BIG + 1, 0x2_0000_0000], vec![0, 6, BIG - 1]),
            ("GT", BIG, 0, vec![BIG + 1, 0x2_0000_0000], vec![0, 6, BIG]),
            ("MASKED_EQ", 0xf0, 0x10, vec![0x10, 0x1f, 0xff00_0000_0000_0011], vec![0, 0x20, 0x30]),
            ("MASKED_EQ", 0xf_0000_0000, 0x1_0000_0000, vec![0x1_0000_0000, 0xf1_ffff_ffff], vec![0, 0x2_0000_0000]),
            ("MASKED_EQ", 0, 0, vec![0, u64::MAX], vec![]),
            ("MASKED_EQ", 1, 2, vec![], vec![0, 1, 2, 3]),
        ] {
            for index in [0, 5] {
                let arg = serde_json::json!(
                    {"index": index, "value": value, "valueTwo": value_two, "op": format!("SCMP_CMP_{op}")});
                let rule = serde_json::json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [arg]});
                let profile = profile(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}));
                let filter = compile_for(&profile, Arch::X86_64).unwrap();
                for (argument, expected) in
                    holds.iter().map(|value| (*value, RET_ALLOW)).chain(fails.iter().map(|value| (*value, EPERM)))
                {
                    let mut args = NONE;
                    args[index] = argument;
                    assert_eq!(run(&filter.0, Arch::X86_64, 0, args), expected, "{argument:#x} {op} {value:#x}");
                }
            }
        }
    }

    #[test]
    fn how_rules_of_one_call_combine() {
        let eq = |index: u32, value: u64| serde_json::json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
        let rule = |action: &str, args: Vec<serde_json::Value>| serde_json::json!({"names": ["read"], "action": format!("SCMP_ACT_{action}"), "args": args});
        for (name, rules, cases) in [
            (
                "all conditions of a rule",
                vec![rule("ALLOW", vec![eq(0, 1), eq(1, 2)])],
                vec![([1, 2], RET_ALLOW), ([1, 3], EPERM), ([0, 2], EPERM)],
            ),
            (
                "two conditions on one argument are two rules",
                vec![rule("ALLOW", vec![eq(0, 1), eq(0, 2)])],
                vec![([1, 0], RET_ALLOW), ([2, 0], RET_ALLOW), ([3, 0], EPERM)],
            ),
            (
                "the first that holds",
                vec![rule("LOG", vec![eq(0, 1)]), rule("ALLOW", vec![eq(1, 1)])],
                vec![([1, 1], RET_LOG), ([0, 1], RET_ALLOW), ([0, 0], EPERM)],
            ),
            (
                "one without conditions replaces",
                vec![rule("LOG", vec![eq(0, 1)]), rule("ALLOW", vec![])],
                vec![([1, 0], RET_ALLOW), ([0, 0], RET_ALLOW)],
            ),
            ("the first without conditions", vec![rule("LOG", vec![]), rule("ALLOW", vec![])], vec![([0, 0], RET_LOG)]),
        ] {
            let profile = profile(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
            let filter = compile_for(&profile, Arch::X86_64).unwrap();
            for ([first, second], expected) in cases {
                let args = [first, second, 0, 0, 0, 0];
                assert_eq!(run(&filter.0, Arch::X86_64, 0, args), expected, "{name}: {first}, {second}");
            }
        }
    }

    #[test]
    fn calls_that_go_through_another_one() {
        let filter = |default: &str, action: &str| {
            let rule = serde_json::json!({"names": ["socket", "shmget"], "action": action});
            let by_family = serde_json::json!({"names": ["bind"], "action": action,
                "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}]});
            let value = serde_json::json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86"],
                "syscalls": [rule, by_family]});
            compile_for(&profile(value), Arch::X86_64).unwrap().0
        };
        let allows = filter("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW");
        let refuses = filter("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
        for (nr, argument, allowed, refused) in [
            (102, 1, RET_ALLOW, EPERM),
            (102, 2, EPERM, EPERM),
            (102, 3, EPERM, RET_ALLOW),
            (117, 23, RET_ALLOW, EPERM),
            (117, 0x1_0017, RET_ALLOW, EPERM),
            (117, 24, EPERM, RET_ALLOW),
        ] {
            let args = [argument, 0, 0, 0, 0, 0];
            assert_eq!(run(&allows, Arch::X86, nr, args), allowed, "{nr} {argument}");
            assert_eq!(run(&refuses, Arch::X86, nr, args), refused, "{nr} {argument}");
        }
    }

    #[test]
    fn long_programs_jump_far_and_too_long_ones_are_refused() {
        let long = |count: u64| {
            let rules: Vec<_> = (0..count)
                .map(|value| {
                    serde_json::json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 1, "value": value * 2, "op": "SCMP_CMP_EQ"}]})
                })
                .collect();
            compile_for(
                &profile(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})),
                Arch::X86_64,
            )
        };
        let program = long(500).unwrap().0;
        for value in 0..1002 {
            let expected = if value % 2 == 0 && value < 1000 { RET_ALLOW } else { EPERM };
            assert_eq!(run(&program, Arch::X86_64, 16, [0, value, 0, 0, 0, 0]), expected, "{value}");
        }
        assert!(long(2000).is_err());
    }

    #[test]
    fn every_call_keeps_its_own_answer() {
        // As many ranges as can be: every other call allowed, on all architectures.
        let calls = Arch::X86_64.calls();
        let names: Vec<_> = calls.iter().step_by(2).map(|(_, name)| name).collect();
        let value = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_ARM", "SCMP_ARCH_S390X"],
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
        let program = compile_for(&profile(value), Arch::X86_64).unwrap().0;
        for arch in [Arch::X86_64, Arch::X32, Arch::X86, Arch::Arm] {
            for (nr, name) in arch.calls() {
                let got = run(&program, arch, nr, NONE);
                match names.contains(&&name) {
                    true => assert_eq!(got, RET_ALLOW, "{name} on {arch:?}"),
                    false => assert!(got == EPERM || got == ENOSYS, "{name} on {arch:?}: {got:#x}"),
                }
            }
        }
    }

    #[test]
    fn a_filter_without_rules() {
        let value = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]});
        let filter = compile_for(&profile(value), Arch::X86_64).unwrap();
        assert_eq!(filter.1, libc::SECCOMP_FILTER_FLAG_LOG);
        for (arch, nr, expected) in [
            (Arch::X86_64, 0, RET_ALLOW),
            (Arch::X86_64, u32::MAX, RET_ALLOW),
            (Arch::X86_64, X32_BIT, RET_KILL_PROCESS),
            (Arch::X86, 7, RET_ALLOW),
            (Arch::Arm, 7, RET_KILL_PROCESS),
        ] {
            assert_eq!(run(&filter.0, arch, nr, NONE), expected, "{nr:#x} on {arch:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, expected) in [
            (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#,
                "NOTIFY",
            ),
            (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}"#, "4096"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_Z80"]}"#, "SCMP_ARCH_Z80"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}"#, "NEW_LISTENER"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL",
                    "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
                "no argument 6",
            ),
        ] {
            let error = compile(&serde_json::from_str(text).unwrap()).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{text}: {error:?}");
        }
    }
}
