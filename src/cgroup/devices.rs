//! Which devices the processes of a cgroup may use: rules compiled to a program that the kernel asks at every open and
//! mknod. It needs no controller, so it works where controllers are bound to version 1.
//!
//! As in version 1, the last rule that matches decides, for each of read, write and mknod by itself.
//! Source: linux/bpf.h (`struct bpf_cgroup_dev_ctx`, `struct bpf_insn`).

use crate::oci::runtime::DeviceRule;
use crate::sys::bpf;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// The beginning of the names of cgroups that only keep a program, for [`attach`].
pub const KEEPER: &str = "devices-";

/// Lets the processes of a cgroup use those devices only. `cgroup` is its directory in the version 2 tree.
///
/// To load a program costs the kernel the proof that it is harmless, a good part of a container's start. One that many
/// containers share is kept by a cgroup without processes in the directory `keep`, and taken from there.
pub fn attach(cgroup: BorrowedFd, rules: &[DeviceRule], keep: Option<&Path>) -> Result<()> {
    if allows_everything(rules) {
        return Ok(());
    }
    let code = compile(rules)?;
    let keeper = keep.map(|dir| dir.join(format!("{KEEPER}{:016x}", digest(&code))));
    let attach = |program: &OwnedFd| {
        bpf::attach_device_program(cgroup, program.as_fd(), false).context("attach the program that decides on devices")
    };
    if let Some(path) = &keeper
        && let Ok(directory) = File::open(path)
        && let Ok(program) = bpf::attached_device_program(directory.as_fd())
    {
        return attach(&program);
    }
    let program = load(&code)?;
    attach(&program)?;
    if let Some(path) = &keeper
        && let Ok(directory) = super::create(path)
    {
        // Where it cannot be kept, the next one is loaded as this one was.
        let _ = bpf::attach_device_program(directory.as_fd(), program.as_fd(), true);
    }
    Ok(())
}

/// Whether this kernel takes such programs.
pub fn support() -> Result<()> {
    load(&compile(&[])?).map(drop)
}

fn load(code: &[u64]) -> Result<OwnedFd> {
    if crate::failpoint::lacks("bpf") {
        bail!("this kernel has no BPF");
    }
    bpf::load_device_program(code).context("load the program that decides on devices")
}

/// What tells one program from another (FNV-1a).
fn digest(code: &[u64]) -> u64 {
    let bytes = code.iter().flat_map(|instruction| instruction.to_ne_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// What is as if there were no rules.
pub fn allows_everything(rules: &[DeviceRule]) -> bool {
    matches!(rules, [only] if only.allow && is_everything(only))
}

fn is_everything(rule: &DeviceRule) -> bool {
    matches!(rule.kind.as_str(), "" | "a")
        && rule.major.is_none_or(|major| major < 0)
        && rule.minor.is_none_or(|minor| minor < 0)
        && access(rule).is_ok_and(|access| access == MKNOD | READ | WRITE)
}

// Registers: what is answered, what is given, and what we read from it.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
/// Bits of access on which no rule has decided.
const OPEN: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;
/// Kind, major (12 bits) and minor (20 bits) in one number.
const DEVICE: u8 = 7;

// Instructions (class, operation, source).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const SHIFT_LEFT: u8 = 0x67;
const OR_REGISTER: u8 = 0x4f;
/// Of 64 bits, the upper half in a second instruction.
const LOAD_LONG: u8 = 0x18;
const JUMP_IF_SAME: u8 = 0x1d;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = value.to_ne_bytes();
    // The registers share a byte, the destination in the low half where the machine is little-endian.
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    u64::from_ne_bytes([code, registers, low, high, a, b, c, d])
}

/// The program of such rules.
pub fn compile(rules: &[DeviceRule]) -> Result<Vec<u64>> {
    let mut code = vec![
        instruction(LOAD_WORD, OPEN, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, KIND, OPEN, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, OPEN, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        instruction(MOVE_REGISTER, DEVICE, KIND, 0, 0),
        instruction(SHIFT_LEFT, DEVICE, 0, 0, 12),
        instruction(OR_REGISTER, DEVICE, MAJOR, 0, 0),
        instruction(SHIFT_LEFT, DEVICE, 0, 0, 20),
        instruction(OR_REGISTER, DEVICE, MINOR, 0, 0),
    ];
    // Jumps to the end that allows.
    let mut allowing = Vec::new();
    // From the last to the first: a rule decides on the bits on which no later one has.
    for rule in rules.iter().rev() {
        let access = access(rule)?;
        if let (true, Some(device)) = (rule.allow && access == MKNOD | READ | WRITE, device(rule)) {
            // The most common kind, in one comparison: a program costs its start as much as the kernel has to prove.
            code.push(instruction(LOAD_LONG, SCRATCH, 0, 0, device as i32));
            code.push(instruction(0, 0, 0, 0, (device >> 32) as i32));
            allowing.push(code.len());
            code.push(instruction(JUMP_IF_SAME, DEVICE, SCRATCH, 0, 0));
            continue;
        }
        let mut conditions = Vec::new();
        match rule.kind.as_str() {
            "" | "a" => {}
            "b" => conditions.push((KIND, BLOCK)),
            "c" | "u" => conditions.push((KIND, CHARACTER)),
            other => bail!("device rule: unknown type {other:?}"),
        }
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number.filter(|number| *number >= 0) {
                conditions.push((register, i32::try_from(number).context("device rule: a number is out of range")?));
            }
        }
        let body = if rule.allow {
            vec![
                instruction(AND, OPEN, 0, 0, !access & (MKNOD | READ | WRITE)),
                instruction(JUMP_IF_NOT_EQUAL, OPEN, 0, 2, 0),
                instruction(MOVE, ANSWER, 0, 0, 1),
                instruction(EXIT, 0, 0, 0, 0),
            ]
        } else {
            vec![
                instruction(MOVE_REGISTER, SCRATCH, OPEN, 0, 0),
                instruction(AND, SCRATCH, 0, 0, access),
                instruction(JUMP_IF_EQUAL, SCRATCH, 0, 2, 0),
                instruction(MOVE, ANSWER, 0, 0, 0),
                instruction(EXIT, 0, 0, 0, 0),
            ]
        };
        for (place, (register, number)) in conditions.iter().enumerate() {
            let skip = conditions.len() - place - 1 + body.len();
            code.push(instruction(JUMP_IF_NOT_EQUAL, *register, 0, skip as i16, *number));
        }
        code.extend(body);
    }
    code.push(instruction(MOVE, ANSWER, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    if !allowing.is_empty() {
        for place in allowing {
            code[place] = instruction(JUMP_IF_SAME, DEVICE, SCRATCH, (code.len() - place - 1) as i16, 0);
        }
        code.push(instruction(MOVE, ANSWER, 0, 0, 1));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    Ok(code)
}

/// The one device that a rule is about, as the program numbers it; none for a rule about several.
fn device(rule: &DeviceRule) -> Option<u64> {
    let kind = match rule.kind.as_str() {
        "b" => BLOCK,
        "c" | "u" => CHARACTER,
        _ => return None,
    };
    let major = rule.major.filter(|major| (0..1 << 12).contains(major))?;
    let minor = rule.minor.filter(|minor| (0..1 << 20).contains(minor))?;
    Some((kind as u64) << 32 | (major as u64) << 20 | minor as u64)
}

fn access(rule: &DeviceRule) -> Result<i32> {
    rule.access.chars().try_fold(0, |bits, letter| match letter {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MKNOD),
        _ => bail!("device rule: unknown access {:?}", rule.access),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does: whether it allows.
    fn run(code: &[u64], access: i32, kind: i32, major: u32, minor: u32) -> bool {
        let context = [(access << 16 | kind) as u32, major, minor];
        let mut registers = [0u64; 8];
        let code_of = |at: usize| {
            let [.., a, b, c, d] = code[at].to_ne_bytes();
            u64::from(u32::from_ne_bytes([a, b, c, d]))
        };
        let mut at = 0;
        loop {
            let [code, both, low, high, a, b, c, d] = code[at].to_ne_bytes();
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            let offset = i16::from_ne_bytes([low, high]);
            let value = i32::from_ne_bytes([a, b, c, d]) as i64 as u64;
            at += 1;
            match code {
                LOAD_WORD => registers[to] = u64::from(context[offset as usize / 4]),
                MOVE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                SHIFT_LEFT => registers[to] <<= value,
                OR_REGISTER => registers[to] |= registers[from],
                LOAD_LONG => {
                    registers[to] = value & 0xffff_ffff | code_of(at) << 32;
                    at += 1;
                }
                JUMP_IF_SAME if registers[to] == registers[from] => at += offset as usize,
                JUMP_IF_SAME => {}
                JUMP_IF_EQUAL if registers[to] == value => at += offset as usize,
                JUMP_IF_NOT_EQUAL if registers[to] != value => at += offset as usize,
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0] == 1,
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
        DeviceRule { allow, kind: kind.to_owned(), major, minor, access: access.to_owned() }
    }

    #[test]
    fn the_last_rule_decides_for_each_access() {
        let code = compile(&[
            rule(false, "", None, None, "rwm"),
            rule(true, "c", None, None, "m"),
            rule(true, "b", None, None, "m"),
            rule(true, "c", Some(1), Some(3), "rwm"),
            rule(true, "c", Some(136), Some(-1), "rw"),
            rule(true, "c", Some(4095), Some(1_048_575), "rwm"),
            rule(true, "b", Some(8), Some(0), "rw"),
            rule(false, "b", Some(8), Some(0), "w"),
            rule(true, "c", Some(10), Some(229), "r"),
            rule(true, "c", Some(10), Some(229), "w"),
        ])
        .unwrap();
        for (what, access, kind, major, minor, allowed) in [
            ("null", READ | WRITE, CHARACTER, 1, 3, true),
            ("making null", MKNOD, CHARACTER, 1, 3, true),
            ("a block device with null's numbers", READ, BLOCK, 1, 3, false),
            ("mem", READ, CHARACTER, 1, 1, false),
            ("making mem", MKNOD, CHARACTER, 1, 1, true),
            ("making and reading", MKNOD | READ, CHARACTER, 1, 1, false),
            ("any terminal", READ | WRITE, CHARACTER, 136, 77, true),
            ("reading the disk", READ, BLOCK, 8, 0, true),
            ("writing the disk", WRITE, BLOCK, 8, 0, false),
            ("both", READ | WRITE, BLOCK, 8, 0, false),
            ("its partition", READ, BLOCK, 8, 1, false),
            ("a device with large numbers", WRITE, CHARACTER, 4095, 1_048_575, true),
            ("its neighbour", WRITE, CHARACTER, 4095, 1_048_574, false),
            ("what two rules allow together", READ | WRITE, CHARACTER, 10, 229, true),
        ] {
            assert_eq!(run(&code, access, kind, major, minor), allowed, "{what}");
        }
        assert!(!run(&compile(&[]).unwrap(), READ, CHARACTER, 1, 3));
    }

    #[test]
    fn the_kernel_takes_a_program() {
        let rules = [
            rule(false, "", None, None, "rwm"),
            rule(true, "c", None, None, "m"),
            rule(true, "c", Some(1), Some(3), "rwm"),
            rule(false, "b", Some(8), None, "w"),
        ];
        match bpf::load_device_program(&compile(&rules).unwrap()) {
            Ok(_) => {}
            // Not root, or in a container.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}"),
        }
    }

    #[test]
    fn what_is_refused() {
        assert!(compile(&[rule(true, "x", None, None, "r")]).is_err());
        assert!(compile(&[rule(true, "c", None, None, "x")]).is_err());
        assert!(compile(&[rule(true, "c", Some(1 << 40), None, "r")]).is_err());
    }
}
