//! A system call filter: from the runtime spec's rules to the kernel's classic BPF program.
//!
//! Rules of one call combine as libseccomp combines them: one without conditions replaces all that have some, the
//! first of several decides; among those with conditions the first whose conditions hold does. A number above all
//! that the profile names is newer than the profile: it answers ENOSYS, so that a C library falls back to what it
//! knows, instead of the profile's own refusal.
//!
//! Sources: seccomp(2), linux/seccomp.h, linux/audit.h.

mod arch;
mod emit;

use anyhow::{Result, bail};
use libc::sock_filter;

use super::caps::CapSet;
use super::profile::{self, Host, default_profile};
use crate::oci::runtime::{Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};
use crate::order;
use arch::{IPC, SOCKETCALL, X32_BIT};
use emit::emit;

pub use arch::{Arch, NATIVE};

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// BPF_MAXINSNS
const LONGEST: usize = 4096;

/// What [`compile_for`] makes of [`usual`], which a unit test compares: nearly all containers have it, and to compile it
/// takes longer than most of what a start does besides.
#[cfg(target_arch = "x86_64")]
const USUAL: &[sock_filter] = include!("seccomp/usual/x86_64.rs");
#[cfg(target_arch = "aarch64")]
const USUAL: &[sock_filter] = include!("seccomp/usual/aarch64.rs");

/// An instruction in there.
const fn at(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Docker's default profile for its default capabilities, on an architecture by Docker's name.
fn usual(arch: &str) -> Seccomp {
    default_profile(Host { caps: CapSet::default_of_docker(), arch, kernel: (5, 12) })
}

/// Compiles a filter for this machine: what seccomp(2) is given, program and `SECCOMP_FILTER_FLAG_…`.
/// Errors: what the profile asks for cannot be had.
pub fn compile(profile: &Seccomp) -> Result<(Vec<sock_filter>, u64)> {
    if *profile == usual(profile::ARCH) {
        return Ok((USUAL.to_vec(), flags(profile)?));
    }
    compile_for(profile, NATIVE)
}

fn compile_for(profile: &Seccomp, native: Arch) -> Result<(Vec<sock_filter>, u64)> {
    if !profile.listener_path.is_empty() || !profile.listener_metadata.is_empty() {
        bail!("seccomp listenerPath is not supported: calls are decided by the kernel alone");
    }
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
        order::by_key(ranges, |range| range.start);
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
        SeccompAction::Notify => {
            bail!("seccomp action SCMP_ACT_NOTIFY is not supported: calls are decided by the kernel alone")
        }
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

#[cfg(test)]
pub(super) mod tests;
