//! Which system calls a container may make.
//!
//! A filter is made of several, each of which hands on what it lets through ([`in_a_row`]): to
//! install one takes the kernel a while, however short it is. The first ([`numbers`]) knows every
//! call: it lets through what is allowed, answers `EPERM` to what is known and forbidden, and
//! `ENOSYS` to other numbers, so that a C library of tomorrow falls back to what it did before. The
//! second looks at arguments of a few calls that the first lets through, and answers `EPERM`; a
//! third one answers for protocols that are not there what a kernel without them does. Where a
//! directory of the node can be written, another one ([`set_id`]) refuses set-user-id bits; where
//! guest and command are one user, yet another refuses limits on others. One answers that all is
//! well and does nothing: see [`limits_of_dumps`]. The last has the guest answer some calls.

mod numbers;
mod set_id;
mod table;

use engine_api::UidRange;
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// Flags of clone(2) that make a namespace.
const NAMESPACE_FLAGS: &[i32] = &[
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];
/// ioctl(2) requests that put characters into another's terminal.
const FORBIDDEN_REQUESTS: &[u64] = &[libc::TIOCSTI, libc::TIOCLINUX];
/// Socket families that may be used.
const FAMILIES: &[i32] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];
/// personality(2) values that may be set: Linux, an older version number, no randomisation (for
/// debuggers), and the question.
const PERSONALITIES: &[u64] = &[0, 0x002_0000, 0x004_0000, 0x008, 0xffff_ffff];

/// Calls that change ids, and which arguments are ids. Nobody becomes the guest's user: root inside
/// may become anybody else, and would be the equal of PID 1.
const ID_ARGUMENTS: &[(i64, &[u8])] = &[
    (libc::SYS_setfsgid, &[0]),
    (libc::SYS_setfsuid, &[0]),
    (libc::SYS_setgid, &[0]),
    (libc::SYS_setregid, &[0, 1]),
    (libc::SYS_setresgid, &[0, 1, 2]),
    (libc::SYS_setresuid, &[0, 1, 2]),
    (libc::SYS_setreuid, &[0, 1]),
    (libc::SYS_setuid, &[0]),
];

/// The filters that one is made of.
#[derive(Debug)]
pub(crate) struct Filters {
    /// For every container.
    always: [BpfProgram; 4],
    /// For one that can write to a directory of the node.
    set_id: BpfProgram,
    /// For one whose guest is the same user as its command.
    others: BpfProgram,
}

/// What a container's filter depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// It can write to a directory of the node.
    pub(crate) refuse_set_id: bool,
    /// Its guest is the same user as its command.
    pub(crate) one_user: bool,
    /// The guest answers what tells of memory.
    pub(crate) answers_memory: bool,
    /// The guest answers which CPUs may be run on.
    pub(crate) answers_affinity: bool,
}

/// A container's filter.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Where nobody can be asked.
    pub(crate) plain: BpfProgram,
    /// The same, and the guest is asked for some answers.
    pub(crate) asking: Option<BpfProgram>,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Filters {
    /// Compiles the filters. It fails only by a mistake in the rules.
    pub(crate) fn compile() -> Result<Self, seccompiler::Error> {
        Ok(Self {
            always: [
                numbers::program(),
                refuse(forbidden_arguments()?, Errno::PERM)?,
                refuse(absent_protocols()?, Errno::PROTONOSUPPORT)?,
                answer(limits_of_dumps()?, 0)?,
            ],
            set_id: refuse(set_id::rules()?, Errno::PERM)?,
            others: refuse(limits_of_others()?, Errno::PERM)?,
        })
    }

    pub(crate) fn choose(&self, needs: Needs) -> Filter {
        let set_id = needs.refuse_set_id.then_some(&self.set_id);
        let others = needs.one_user.then_some(&self.others);
        let parts: Vec<&BpfProgram> = self.always.iter().chain(set_id).chain(others).collect();
        let asks = needs.answers_memory || needs.answers_affinity;
        let asking = asks.then(|| {
            let last = numbers::asking(needs.answers_memory, needs.answers_affinity);
            in_a_row(parts.iter().copied().chain([&last]))
        });
        Filter {
            plain: in_a_row(parts),
            asking,
        }
    }
}

/// One program of several: what one lets through is looked at by the next. What one does not is
/// decided, so no two of them may decide of the same.
fn in_a_row<'a>(programs: impl IntoIterator<Item = &'a BpfProgram>) -> BpfProgram {
    let mut row = BpfProgram::new();
    for program in programs {
        let hand_on = |(place, step): (usize, &sock_filter)| {
            let left = program.len() - 1 - place;
            let is_let_through = (step.code, step.k) == (numbers::RETURN, numbers::VERDICT_ALLOW);
            match u32::try_from(left) {
                Ok(left) if is_let_through => numbers::instruction(numbers::JUMP, 0, 0, left),
                Ok(_) | Err(_) => step.clone(),
            }
        };
        row.extend(program.iter().enumerate().map(hand_on));
    }
    row.push(numbers::instruction(
        numbers::RETURN,
        0,
        0,
        numbers::VERDICT_ALLOW,
    ));
    row
}

/// A program that answers `errno` where a rule matches.
fn refuse(rules: Rules, errno: Errno) -> Result<BpfProgram, seccompiler::Error> {
    answer(rules, errno.raw_os_error().cast_unsigned())
}

/// The same with a number, of which 0 is none: the call is said to be done.
fn answer(rules: Rules, errno: u32) -> Result<BpfProgram, seccompiler::Error> {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        ARCHITECTURE,
    )?;
    Ok(filter.try_into()?)
}

/// The limit of dumps stays what the launcher made it, 1 byte, by which the kernel runs no program
/// on the node for a crash: with any other, 0 too, it would. Programs that set it to 0, so that
/// their secrets are not dumped, go on: nothing is dumped.
fn limits_of_dumps() -> Result<Rules, seccompiler::Error> {
    let mut rules = Rules::new();
    let dumps = u64::from(libc::RLIMIT_CORE);
    rules.insert(
        libc::SYS_setrlimit,
        vec![all(&[(0, SeccompCmpOp::Eq, dumps)])?],
    );
    rules.insert(libc::SYS_prlimit64, vec![sets_dumps(SeccompCmpOp::Eq)?]);
    Ok(rules)
}

/// prlimit64(2) that sets the limit of dumps, by a process number compared to 0. The new limit's
/// place is as wide as addresses are.
fn sets_dumps(compared: SeccompCmpOp) -> Result<SeccompRule, seccompiler::Error> {
    let (word, address) = (SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword);
    let dumps = u64::from(libc::RLIMIT_CORE);
    Ok(SeccompRule::new(vec![
        SeccompCondition::new(0, word.clone(), compared, 0)?,
        SeccompCondition::new(1, word, SeccompCmpOp::Eq, dumps)?,
        SeccompCondition::new(2, address, SeccompCmpOp::Ne, 0)?,
    ])?)
}

/// Limits of another process, which the kernel lets anybody set who has the same user id: with one
/// on its CPU time a command could end its guest. A process's own are set as number 0.
fn limits_of_others() -> Result<Rules, seccompiler::Error> {
    let mut rules = Rules::new();
    let another = all(&[(0, SeccompCmpOp::Ne, 0)])?;
    rules.insert(libc::SYS_prlimit64, vec![another]);
    Ok(rules)
}

/// The arguments with which calls are refused that are allowed with others.
fn forbidden_arguments() -> Result<Rules, seccompiler::Error> {
    let mut rules = Rules::new();
    let mut clone = Vec::new();
    for flag in NAMESPACE_FLAGS {
        let flag = u64::from(flag.cast_unsigned());
        clone.push(all(&[(0, SeccompCmpOp::MaskedEq(flag), flag)])?);
    }
    rules.insert(libc::SYS_clone, clone);
    let mut requests = Vec::new();
    for request in FORBIDDEN_REQUESTS {
        requests.push(all(&[(1, SeccompCmpOp::Eq, *request)])?);
    }
    rules.insert(libc::SYS_ioctl, requests);
    let other_family: Vec<_> = FAMILIES
        .iter()
        .map(|family| (0, SeccompCmpOp::Ne, u64::from(family.cast_unsigned())))
        .collect();
    rules.insert(libc::SYS_socket, vec![all(&other_family)?]);
    for (number, arguments) in ID_ARGUMENTS {
        let guest = u64::from(UidRange::GUEST);
        let is_guest = |argument: &u8| all(&[(*argument, SeccompCmpOp::Eq, guest)]);
        let each: Result<Vec<_>, _> = arguments.iter().map(is_guest).collect();
        rules.insert(*number, each?);
    }
    let other_personality: Vec<_> = PERSONALITIES
        .iter()
        .map(|value| (0, SeccompCmpOp::Ne, *value))
        .collect();
    rules.insert(libc::SYS_personality, vec![all(&other_personality)?]);
    rules.insert(libc::SYS_prlimit64, vec![sets_dumps(SeccompCmpOp::Ne)?]);
    Ok(rules)
}

/// Netlink but for routes: the kernel's audit, its events, its firewall. Programs that would use
/// these if they could (useradd, sudo, login: the audit) go on where the kernel has none, and end
/// where they are forbidden to.
fn absent_protocols() -> Result<Rules, seccompiler::Error> {
    let mut rules = Rules::new();
    let netlink = u64::from(libc::AF_NETLINK.cast_unsigned());
    let route = u64::from(libc::NETLINK_ROUTE.cast_unsigned());
    let other = [(0, SeccompCmpOp::Eq, netlink), (2, SeccompCmpOp::Ne, route)];
    rules.insert(libc::SYS_socket, vec![all(&other)?]);
    Ok(rules)
}

/// A rule that matches where all `(argument, comparison, value)` do. All of these arguments are
/// 32 bits wide, and the kernel looks at no more of them either.
fn all(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::Error> {
    let conditions: Result<Vec<_>, _> = conditions
        .iter()
        .map(|(argument, comparison, value)| {
            let width = SeccompCmpArgLen::Dword;
            SeccompCondition::new(*argument, width, comparison.clone(), *value)
        })
        .collect();
    Ok(SeccompRule::new(conditions?)?)
}

#[cfg(test)]
mod tests {
    use super::table::{ALLOWED, FORBIDDEN};
    use super::{Filters, Needs, forbidden_arguments};
    use proptest::prelude::*;
    use seccompiler::sock_filter;

    #[test]
    fn no_call_is_both_allowed_and_forbidden() {
        for number in FORBIDDEN {
            assert!(!ALLOWED.contains(number), "{number}");
        }
        // clone3's flags lie in memory, where no filter sees them: it has to be unknown.
        assert!(!ALLOWED.contains(&libc::SYS_clone3));
        assert!(!FORBIDDEN.contains(&libc::SYS_clone3));
        let rules = forbidden_arguments().expect("rules");
        for number in rules
            .keys()
            .chain(super::set_id::rules().expect("rules").keys())
        {
            assert!(ALLOWED.contains(number), "{number} is looked at in vain");
        }
    }

    fn all_needs() -> impl Iterator<Item = Needs> {
        (0..16).map(|bits| Needs {
            refuse_set_id: bits & 1 != 0,
            one_user: bits & 2 != 0,
            answers_memory: bits & 4 != 0,
            answers_affinity: bits & 8 != 0,
        })
    }

    #[test]
    fn the_programs_are_short_enough_for_the_kernel() {
        const PROGRAM_LIMIT: usize = 4096;
        let filters = Filters::compile().expect("compiled");
        for filter in all_needs().map(|needs| filters.choose(needs)) {
            for program in [Some(filter.plain), filter.asking].into_iter().flatten() {
                assert!(program.len() < PROGRAM_LIMIT, "{}", program.len());
            }
        }
    }

    proptest! {
        /// The kernel takes the sternest answer of several filters, whose numbers are lower as they
        /// are sterner; one in a row with the others has to answer the same.
        #[test]
        fn filters_in_a_row_answer_as_each_by_itself(
            known in prop::sample::select(ALLOWED.to_vec()),
            other in 0..600_i64,
            is_known in prop::bool::weighted(0.9),
            arguments in prop::array::uniform6(prop_oneof![
                Just(0_u64), Just(1), Just(16), Just(4), Just(9), Just(16_877), Just(0o4755), Just(65_535),
                Just(u64::from(libc::CLONE_NEWUSER.cast_unsigned())), Just(libc::TIOCSTI),
                0..0x1_0000_0000_u64, any::<u64>(),
            ]),
        ) {
            let number = if is_known { known } else { other };
            let filters = Filters::compile().expect("compiled");
            for needs in all_needs() {
                let set_id = needs.refuse_set_id.then_some(&filters.set_id);
                let others = needs.one_user.then_some(&filters.others);
                let parts = filters.always.iter().chain(set_id).chain(others);
                let answers = parts.map(|part| run(part, number, &arguments));
                let expected = answers.min().expect("several");
                let filter = filters.choose(needs);
                prop_assert_eq!(run(&filter.plain, number, &arguments), expected);
                let Some(asking) = &filter.asking else { continue };
                let asks = match number {
                    libc::SYS_sysinfo => needs.answers_memory,
                    libc::SYS_sched_getaffinity => needs.answers_affinity
                        && low(arguments[0]) != 1 && low(arguments[1]) != 8_200,
                    _ => false,
                };
                let expected = if asks { NOTIFY } else { expected };
                prop_assert_eq!(run(asking, number, &arguments), expected);
            }
        }
    }

    const NOTIFY: u32 = 0x7fc0_0000;

    fn low(argument: u64) -> u32 {
        u32::try_from(argument & u64::from(u32::MAX)).expect("32 bits")
    }

    /// What the kernel does with a program: the instructions that ours have.
    fn run(program: &[sock_filter], number: i64, arguments: &[u64; 6]) -> u32 {
        let mut data = vec![
            u32::try_from(number).expect("small"),
            super::numbers::ARCHITECTURE,
            0,
            0,
        ];
        for argument in arguments {
            data.extend([low(*argument), low(argument >> 32)]);
        }
        let (mut place, mut loaded) = (0, 0_u32);
        loop {
            let step = &program[place];
            place += 1;
            let distance = usize::try_from(step.k).expect("it fits");
            let holds = match step.code {
                0x20 => {
                    loaded = data[distance / 4];
                    continue;
                }
                0x05 => {
                    place += distance;
                    continue;
                }
                0x54 => {
                    loaded &= step.k;
                    continue;
                }
                0x06 => return step.k,
                0x15 => loaded == step.k,
                0x25 => loaded > step.k,
                0x35 => loaded >= step.k,
                other => panic!("unknown instruction {other:#x}"),
            };
            place += usize::from(if holds { step.jt } else { step.jf });
        }
    }
}
