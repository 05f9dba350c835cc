//! Which system calls a container may make.
//!
//! Two filters are installed one above the other. The first ([`numbers`]) knows every call: it lets
//! through what is allowed, answers `EPERM` to what is known and forbidden, and `ENOSYS` to other
//! numbers, so that a C library of tomorrow falls back to what it did before. The second looks at
//! arguments of a few calls that the first lets through, and answers `EPERM`; a third one answers
//! for protocols that are not there what a kernel without them does. The kernel takes the sterner
//! answer. Where a directory of the node can be written, another one ([`set_id`]) refuses
//! set-user-id bits; where guest and command are one user, yet another refuses limits on others.
//! One answers that all is well and does nothing: see [`limits_of_dumps`].

mod numbers;
mod set_id;
mod table;

use engine_api::UidRange;
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
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

/// The programs.
#[derive(Debug)]
pub(crate) struct Filters {
    /// For every container, in the order they are installed.
    pub(crate) always: [BpfProgram; 4],
    /// For one that can write to a directory of the node.
    pub(crate) set_id: BpfProgram,
    /// For one whose guest is the same user as its command.
    pub(crate) others: BpfProgram,
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
    use super::{Filters, forbidden_arguments};

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

    #[test]
    fn the_programs_are_short_enough_for_the_kernel() {
        const PROGRAM_LIMIT: usize = 4096;
        let filters = Filters::compile().expect("compiled");
        for program in filters
            .always
            .iter()
            .chain([&filters.set_id, &filters.others])
        {
            assert!(program.len() < PROGRAM_LIMIT, "{}", program.len());
        }
    }
}
