//! Device rules as a program of the kernel's.
//!
//! It looks at the rules from the last to the first. What an access still asks for is in a register: a rule that
//! allows takes its part away, and nothing left is a yes; a rule that denies a part of what is left is a no.
//! Other makers of such programs leave the rule when it does not cover the whole access. Then `O_RDWR` opens a
//! device that may only be read, once everything is allowed but writing to it.

use super::rule::{Access, Rule, Rules};

/// `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    operation: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `R0`: what the program returns, 1 for yes; of other use before.
const VERDICT: u8 = 0;
/// `R1`: at first the address of a `struct bpf_cgroup_dev_ctx`, then of no use.
const CONTEXT: u8 = 1;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
/// What is asked for and not yet allowed.
const LEFT: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The program of a list.
pub(super) fn assemble(rules: &Rules) -> Vec<Instruction> {
    // access_type has the access in its upper half and the type in its lower; then come major and minor.
    let mut program = vec![
        load(KIND, 0),
        copy(LEFT, KIND),
        and(KIND, 0xffff),
        shift_right(LEFT, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        program.extend(check(rule));
        // The kernel refuses a program with a part that is never reached.
        if rule.is_everything() {
            return program;
        }
    }
    program.extend(deny());
    program
}

/// The end of a program, and one of its own.
pub(super) fn deny() -> [Instruction; 2] {
    verdict(false)
}

/// One rule: returns, or goes on behind itself.
///
/// The differences between the device and the rule's are gathered and compared once. Compared one by one, they would
/// tell the kernel's verifier what the device is, and it would go through the rest of the program for each answer:
/// some hundred rules would be too many for it.
fn check(rule: &Rule) -> Vec<Instruction> {
    let decision = decide(rule);
    let mut out = Vec::new();
    for (register, value) in [
        (KIND, rule.kind.map(|kind| kind as i32)),
        (MAJOR, rule.major),
        (MINOR, rule.minor),
    ] {
        let Some(value) = value else {
            continue;
        };
        if out.is_empty() {
            out.extend([copy(SCRATCH, register), xor(SCRATCH, value)]);
        } else {
            out.extend([
                copy(VERDICT, register),
                xor(VERDICT, value),
                or(SCRATCH, VERDICT),
            ]);
        }
    }
    if !out.is_empty() {
        out.push(skip_unless_equal(SCRATCH, 0, decision.len()));
    }
    out.extend(decision);
    out
}

fn decide(rule: &Rule) -> Vec<Instruction> {
    let [answer, exit] = verdict(rule.allow);
    let access = |access: Access| i32::from(access.0);
    match (rule.allow, rule.access) {
        (_, Access::ALL) => vec![answer, exit],
        (true, some) => vec![
            and(LEFT, access(!some)),
            skip_unless_equal(LEFT, 0, 2),
            answer,
            exit,
        ],
        (false, some) => vec![
            copy(SCRATCH, LEFT),
            and(SCRATCH, access(some)),
            skip_if_equal(SCRATCH, 0, 2),
            answer,
            exit,
        ],
    }
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [
        instruction(0xb7, VERDICT, 0, 0, i32::from(allow)), // BPF_ALU64 | BPF_MOV | BPF_K
        instruction(0x95, 0, 0, 0, 0),                      // BPF_JMP | BPF_EXIT
    ]
}

/// A 32-bit word of the context.
fn load(to: u8, offset: i16) -> Instruction {
    instruction(0x61, to, CONTEXT, offset, 0) // BPF_LDX | BPF_MEM | BPF_W
}

fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbc, to, from, 0, 0) // BPF_ALU | BPF_MOV | BPF_X
}

fn and(register: u8, value: i32) -> Instruction {
    instruction(0x54, register, 0, 0, value) // BPF_ALU | BPF_AND | BPF_K
}

fn or(register: u8, other: u8) -> Instruction {
    instruction(0x4c, register, other, 0, 0) // BPF_ALU | BPF_OR | BPF_X
}

fn xor(register: u8, value: i32) -> Instruction {
    instruction(0xa4, register, 0, 0, value) // BPF_ALU | BPF_XOR | BPF_K
}

fn shift_right(register: u8, bits: i32) -> Instruction {
    instruction(0x74, register, 0, 0, bits) // BPF_ALU | BPF_RSH | BPF_K
}

fn skip_if_equal(register: u8, value: i32, skipped: usize) -> Instruction {
    instruction(0x15, register, 0, distance(skipped), value) // BPF_JMP | BPF_JEQ | BPF_K
}

fn skip_unless_equal(register: u8, value: i32, skipped: usize) -> Instruction {
    instruction(0x55, register, 0, distance(skipped), value) // BPF_JMP | BPF_JNE | BPF_K
}

/// No jump leaves its rule, which has a dozen instructions.
fn distance(skipped: usize) -> i16 {
    i16::try_from(skipped).unwrap_or(i16::MAX)
}

fn instruction(operation: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    // Two bit fields of four bits, the destination first.
    let registers = if cfg!(target_endian = "little") {
        from << 4 | to
    } else {
        to << 4 | from
    };
    Instruction {
        operation,
        registers,
        offset,
        immediate,
    }
}

#[cfg(test)]
mod tests;
