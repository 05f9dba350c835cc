//! The range of ids that the administrator lent to a user, and the programs that may map it.

use engine_api::UidRange;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

/// A command has one id of its own, so one less than all has to be lent.
const LEAST_COUNT: u32 = UidRange::LENGTH - 1;
/// Where programs that root has to own are looked for: never in a user's PATH.
const PROGRAM_PLACES: &[&str] = &["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];
/// Bytes for a user's entry of the user database.
const ENTRY_BYTES: usize = 16 << 10;

/// A range of users and one of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    /// First user id of the node.
    pub(crate) first_uid: u32,
    /// First group id of the node.
    pub(crate) first_gid: u32,
    /// newuidmap.
    pub(crate) uid_program: PathBuf,
    /// newgidmap.
    pub(crate) gid_program: PathBuf,
}

/// Why there is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LentGap {
    /// No line for this user, or one that is too short.
    #[error("{file} lends {user} no range of {LEAST_COUNT} ids")]
    NoLine {
        /// Which file.
        file: &'static str,
        /// The user.
        user: String,
    },
    /// newuidmap or newgidmap is not there.
    #[error("{program} is not installed")]
    NoProgram {
        /// Which.
        program: &'static str,
    },
    /// The programs are there and could not do it.
    #[error("the range cannot be used: {reason}")]
    Refused {
        /// What they said.
        reason: String,
    },
}

impl LentGap {
    /// What an administrator does about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoLine { user, .. } => format!(
                "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user} \
                 (or another range that {SUBUID} and {SUBGID} do not name yet)"
            ),
            Self::NoProgram { .. } => {
                "install them: Debian's and Ubuntu's package is uidmap, Fedora's shadow-utils"
                    .to_owned()
            }
            Self::Refused { .. } => {
                "they have to be set-user-id root, or have the capability for it, and no range \
                 may be lent twice"
                    .to_owned()
            }
        }
    }
}

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// The ids that the administrator lent to this process's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LentRange {
    /// First user id of the node.
    pub first_uid: u32,
    /// First group id of the node.
    pub first_gid: u32,
}

/// The range that is lent to this process's user, or why there is none. Whether it can be used,
/// only using it tells.
pub fn lent_range() -> Result<LentRange, LentGap> {
    let lent = find_lent()?;
    Ok(LentRange {
        first_uid: lent.first_uid,
        first_gid: lent.first_gid,
    })
}

/// What is lent to this process's user. Nothing is tried: whether it can be used, only using it
/// tells.
pub(crate) fn find_lent() -> Result<Lent, LentGap> {
    let uid = geteuid().as_raw();
    let name = user_name(uid);
    let first = |file: &'static str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let user = name.clone().unwrap_or_else(|| uid.to_string());
        first_of(&text, name.as_deref(), uid).ok_or(LentGap::NoLine { file, user })
    };
    let (first_uid, first_gid) = (first(SUBUID)?, first(SUBGID)?);
    Ok(Lent {
        first_uid,
        first_gid,
        uid_program: program("newuidmap")?,
        gid_program: program("newgidmap")?,
    })
}

/// The first id of the first range that is long enough. A line is `USER:FIRST:COUNT`.
fn first_of(text: &str, name: Option<&str>, uid: u32) -> Option<u32> {
    let uid = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let user = fields.next()?;
        if Some(user) != name && user != uid {
            return None;
        }
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        (count >= LEAST_COUNT && first.checked_add(count).is_some()).then_some(first)
    })
}

fn program(name: &'static str) -> Result<PathBuf, LentGap> {
    let places = PROGRAM_PLACES
        .iter()
        .map(|place| Path::new(place).join(name));
    let mut there = places.filter(|path| path.is_file());
    there.next().ok_or(LentGap::NoProgram { program: name })
}

/// The name of a user, by the system's own means: it may come from a directory service.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let mut buffer = vec![0_u8; ENTRY_BYTES];
    // SAFETY: all fields are integers or pointers, for which zero is valid.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: the buffer is as long as is said, and everything outlives the call.
    let result = unsafe {
        libc::getpwuid_r(
            uid,
            &raw mut entry,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            &raw mut found,
        )
    };
    if result != 0 || found.is_null() || entry.pw_name.is_null() {
        return None;
    }
    // SAFETY: the name is a text with its end in the buffer, which is still there.
    let name = unsafe { CStr::from_ptr(entry.pw_name) };
    name.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{first_of, user_name};

    #[test]
    fn the_first_range_that_is_long_enough_is_taken() {
        let text = "ann:100000:1000\nben:200000:65536\nann:300000:65536\n1001:400000:65535\n\
                    broken\nann:4294967000:65536\n";
        let check = |name: Option<&str>, uid, expected: Option<u32>| {
            assert_eq!(first_of(text, name, uid), expected, "{name:?}");
        };
        check(Some("ann"), 1_000, Some(300_000));
        check(Some("ben"), 1_002, Some(200_000));
        check(Some("eve"), 1_001, Some(400_000));
        check(None, 1_001, Some(400_000));
        check(Some("eve"), 1_003, None);
        check(Some("broken"), 1_003, None);
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(u32::MAX - 7), None);
    }
}
