//! Refuses to set set-user-id and set-group-id bits.
//!
//! A user's directory is mounted so that new files belong to the user on the node, and only inside
//! do their set-id bits nothing: without this a session of root's could leave a set-user-id-root
//! program in a directory that others of the node reach.

use super::{Rules, all};
use rustix::fs::Mode;
use seccompiler::{SeccompCmpOp, SeccompRule};

/// The bits that are refused.
const BITS: [u32; 2] = [Mode::SUID.bits(), Mode::SGID.bits()];
/// open(2) looks at its mode only if it may make a file: by name, or without one (the bit of
/// `O_TMPFILE` that is its own).
const MAKES_FILE: [i32; 2] = [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY];

/// The calls that set permission bits. `openat2` is among them whatever its mode is: that lies in
/// memory, where no filter sees it, and programs go on with `openat` when it is refused. `mkdir`
/// is not: the kernel takes no set-id bits from it.
pub(super) fn rules() -> Result<Rules, seccompiler::Error> {
    let mut rules = Rules::new();
    for (number, argument) in MODE_ARGUMENTS {
        rules.insert(*number, mode_rules(*argument, None)?);
    }
    for (number, flags) in OPEN_FLAGS {
        let mut either = Vec::new();
        for makes in MAKES_FILE {
            let makes = u64::from(makes.cast_unsigned());
            either.extend(mode_rules(flags + 1, Some((*flags, makes)))?);
        }
        rules.insert(*number, either);
    }
    rules.insert(libc::SYS_openat2, Vec::new());
    Ok(rules)
}

/// Calls and the place of their mode.
#[cfg(target_arch = "x86_64")]
const MODE_ARGUMENTS: &[(i64, u8)] = &[
    (libc::SYS_chmod, 1),
    (libc::SYS_creat, 1),
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (libc::SYS_fchmodat2, 2),
    (libc::SYS_mknod, 1),
    (libc::SYS_mknodat, 2),
];
#[cfg(not(target_arch = "x86_64"))]
const MODE_ARGUMENTS: &[(i64, u8)] = &[
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (libc::SYS_fchmodat2, 2),
    (libc::SYS_mknodat, 2),
];
/// Calls and the place of their flags, which their mode follows.
#[cfg(target_arch = "x86_64")]
const OPEN_FLAGS: &[(i64, u8)] = &[(libc::SYS_open, 1), (libc::SYS_openat, 2)];
#[cfg(not(target_arch = "x86_64"))]
const OPEN_FLAGS: &[(i64, u8)] = &[(libc::SYS_openat, 2)];

/// A rule for each bit in the mode, where the flags have a bit too if one is given.
fn mode_rules(
    argument: u8,
    with: Option<(u8, u64)>,
) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let flag = with.map(|(argument, bit)| (argument, SeccompCmpOp::MaskedEq(bit), bit));
    let rules = BITS.map(|bit| {
        let bit = u64::from(bit);
        let mut conditions = vec![(argument, SeccompCmpOp::MaskedEq(bit), bit)];
        conditions.extend(flag.clone());
        all(&conditions)
    });
    rules.into_iter().collect()
}
