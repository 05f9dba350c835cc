//! The filter by call numbers: one of three verdicts for each number there is.
//!
//! It is written as a binary search, because the kernel runs a new filter once for every number it
//! knows (to remember what needs no run), and compiles it, at each installation: 330 comparisons
//! in a row cost a start 1 ms, eight cost next to nothing. Later calls cost the same either way.

use super::table::{ALLOWED, FORBIDDEN};
use guest_api::picture::AFFINITY_BYTES;
use rustix::io::Errno;
use seccompiler::{BpfProgram, sock_filter};

/// `struct seccomp_data`: the number of the call, and the architecture it was made for.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
/// The lower half of the first and of the second argument.
const FIRST_ARGUMENT_OFFSET: u32 = 16;
const SECOND_ARGUMENT_OFFSET: u32 = 24;
#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURE: u32 = 0xc000_00b7;

/// The guest's number.
const GUEST: u32 = 1;

/// Load a word of the data.
const LOAD: u16 = 0x20;
/// Jump if equal, or if greater or equal.
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_LESS: u16 = 0x35;
/// Return a constant.
pub(super) const RETURN: u16 = 0x06;
/// Jump over so many instructions.
pub(super) const JUMP: u16 = 0x05;

pub(super) const VERDICT_ALLOW: u32 = 0x7fff_0000;
const VERDICT_NOTIFY: u32 = 0x7fc0_0000;
const VERDICT_ERROR: u32 = 0x0005_0000;
const VERDICT_KILL_PROCESS: u32 = 0x8000_0000;

/// The verdict for all numbers from one on, up to the next range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    verdict: u32,
}

/// The program: another architecture's calls (whose numbers mean other things) end the process,
/// unknown numbers answer `ENOSYS`, forbidden ones `EPERM`, the others go through.
pub(super) fn program() -> BpfProgram {
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE_OFFSET),
        instruction(JUMP_EQUAL, 1, 0, ARCHITECTURE),
        instruction(RETURN, 0, 0, VERDICT_KILL_PROCESS),
        instruction(LOAD, 0, 0, NUMBER_OFFSET),
    ];
    program.extend(search(&ranges()));
    program
}

/// A program by which the guest is asked for the answer of `sysinfo` (`memory`), and of
/// `sched_getaffinity` (`affinity`), unless that is asked about the guest (as its own C library
/// does when it starts), or the mask has the length that the guest itself asks with.
pub(super) fn asking(memory: bool, affinity: bool) -> BpfProgram {
    let number = |call: i64| u32::try_from(call).expect("numbers of calls are small");
    let own = u32::try_from(AFFINITY_BYTES).expect("it is short");
    let mut program = vec![instruction(LOAD, 0, 0, NUMBER_OFFSET)];
    if memory {
        program.extend([
            instruction(JUMP_EQUAL, 0, 1, number(libc::SYS_sysinfo)),
            instruction(RETURN, 0, 0, VERDICT_NOTIFY),
        ]);
    }
    if affinity {
        program.extend([
            instruction(JUMP_EQUAL, 0, 5, number(libc::SYS_sched_getaffinity)),
            instruction(LOAD, 0, 0, FIRST_ARGUMENT_OFFSET),
            instruction(JUMP_EQUAL, 3, 0, GUEST),
            instruction(LOAD, 0, 0, SECOND_ARGUMENT_OFFSET),
            instruction(JUMP_EQUAL, 1, 0, own),
            instruction(RETURN, 0, 0, VERDICT_NOTIFY),
        ]);
    }
    program.push(instruction(RETURN, 0, 0, VERDICT_ALLOW));
    program
}

pub(super) fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn error(errno: Errno) -> u32 {
    VERDICT_ERROR | errno.raw_os_error().cast_unsigned()
}

/// The tables as ranges, sorted, the first from 0 on.
fn ranges() -> Vec<Range> {
    let allowed = ALLOWED.iter().map(|number| (*number, VERDICT_ALLOW));
    let refused = FORBIDDEN.iter().map(|number| (*number, error(Errno::PERM)));
    let mut known: Vec<(u32, u32)> = allowed
        .chain(refused)
        .map(|(number, verdict)| {
            let number = u32::try_from(number).expect("numbers of calls are small");
            (number, verdict)
        })
        .collect();
    known.sort_unstable();
    let unknown = error(Errno::NOSYS);
    let mut ranges: Vec<Range> = Vec::new();
    let mut next = 0;
    for (number, verdict) in known {
        if number > next {
            push(&mut ranges, next, unknown);
        }
        push(&mut ranges, number, verdict);
        next = number + 1;
    }
    push(&mut ranges, next, unknown);
    ranges
}

/// Adds a range, unless the last one goes on.
fn push(ranges: &mut Vec<Range>, first: u32, verdict: u32) {
    if ranges.last().map(|last| last.verdict) != Some(verdict) {
        ranges.push(Range { first, verdict });
    }
}

/// Finds the range of the loaded number.
fn search(ranges: &[Range]) -> BpfProgram {
    if let [range] = ranges {
        return vec![instruction(RETURN, 0, 0, range.verdict)];
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let lower = search(below);
    let distance = u8::try_from(lower.len()).expect("few enough ranges; a test makes sure");
    let mut program = vec![instruction(JUMP_NOT_LESS, distance, 0, above[0].first)];
    program.extend(lower);
    program.extend(search(above));
    program
}

#[cfg(test)]
mod tests {
    use super::super::table::{ALLOWED, FORBIDDEN};
    use super::{
        ARCHITECTURE, JUMP_EQUAL, JUMP_NOT_LESS, LOAD, RETURN, VERDICT_ALLOW, error, program,
    };
    use rustix::io::Errno;
    use seccompiler::sock_filter;

    /// What the kernel does with the program.
    fn run(program: &[sock_filter], architecture: u32, number: u32) -> u32 {
        let (mut place, mut loaded) = (0, 0);
        loop {
            let step = &program[place];
            place += 1;
            let holds = match step.code {
                LOAD => {
                    loaded = if step.k == 0 { number } else { architecture };
                    continue;
                }
                RETURN => return step.k,
                JUMP_EQUAL => loaded == step.k,
                JUMP_NOT_LESS => loaded >= step.k,
                other => panic!("unknown instruction {other}"),
            };
            place += usize::from(if holds { step.jt } else { step.jf });
        }
    }

    #[test]
    fn every_number_has_the_verdict_of_its_table() {
        let program = program();
        for number in (0..2_000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let expected = if ALLOWED.contains(&number.into()) {
                VERDICT_ALLOW
            } else if FORBIDDEN.contains(&number.into()) {
                error(Errno::PERM)
            } else {
                error(Errno::NOSYS)
            };
            assert_eq!(run(&program, ARCHITECTURE, number), expected, "{number}");
        }
    }

    #[test]
    fn calls_of_another_architecture_end_the_process() {
        assert_eq!(run(&program(), 0x4000_0003, 1), 0x8000_0000);
    }

    #[test]
    fn the_program_is_a_search() {
        assert!(program().len() < 400, "{}", program().len());
    }
}
