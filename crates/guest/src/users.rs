//! Who a further command is: looked up in the session as it is at that moment, with what its
//! commands have changed in it.
//!
//! The lists are the command's to write, so they may be anything: what is no file, or a file that
//! the kernel makes up, is no list, and opening one never waits.

use domain::CommandUser;
use guest_api::RunAs;
use guest_api::users::{LIST_LIMIT_BYTES, Lists, UserError};
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, fstatfs, open},
    io::Errno,
};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Where somebody lives who has no home.
const NO_HOME: &str = "/";
/// What statfs tells of a proc file system.
const PROC_MAGIC: i64 = 0x9fa0;
/// Numbers of users and of groups that there are in this container.
const MAPS: [&str; 2] = ["/proc/self/uid_map", "/proc/self/gid_map"];

/// A user, and the variables that tell a program who it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) run_as: RunAs,
    pub(crate) env: Vec<(String, String)>,
}

/// The user cannot be had in this session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoUser {
    #[error(transparent)]
    Unknown(#[from] UserError),
    /// Without a range of ids the container has one user only.
    #[error("{what} {id} does not exist in this session: it has the ids of one user only")]
    NotMapped { what: &'static str, id: u32 },
}

impl NoUser {
    /// What the one who asked can do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Unknown(UserError::NoUser { .. }) => {
                "`insula exec SESSION -- cat /etc/passwd` lists them; a number needs no line there"
            }
            Self::Unknown(UserError::NoGroup { .. }) => {
                "`insula exec SESSION -- cat /etc/group` lists them; a number needs no line there"
            }
            Self::Unknown(UserError::Beyond { .. }) => "name a lower number",
            Self::NotMapped { .. } => {
                "start a session as this user (`insula run --user USER` or `--root`), or have a \
                 range of ids lent to you: `insula doctor` says how"
            }
        }
        .to_owned()
    }
}

/// Who `text` is, `USER` or `USER:GROUP`. `main`: who the main command is.
pub(crate) fn look_up(text: &str, main: &RunAs) -> Result<Found, NoUser> {
    let lists = Lists::parse(&list("/etc/passwd"), &list("/etc/group"));
    let run_as = lists.run_as(&CommandUser::named(text))?;
    let ids = [("user", run_as.uid), ("group", run_as.gid)];
    for ((what, id), path) in ids.into_iter().zip(MAPS) {
        let map = std::fs::read_to_string(path).unwrap_or_default();
        if !is_mapped(&map, id) {
            return Err(NoUser::NotMapped { what, id });
        }
    }
    let mut env = Vec::new();
    // The main command's own variables are right for its user, whatever set them.
    if run_as.uid != main.uid {
        let known = lists.user(run_as.uid);
        let home = known.map(|user| user.home.as_str());
        let home = home.filter(|home| Path::new(home).is_dir());
        let name = known.map_or_else(|| run_as.uid.to_string(), |user| user.name.clone());
        env.push(("HOME".to_owned(), home.unwrap_or(NO_HOME).to_owned()));
        env.push(("LOGNAME".to_owned(), name.clone()));
        env.push(("USER".to_owned(), name));
    }
    Ok(Found { run_as, env })
}

/// What a list holds; nothing if it is none, or not text.
fn list(path: &str) -> String {
    read_list(path).unwrap_or_default()
}

fn read_list(path: &str) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::empty())?;
    let is_file = FileType::from_raw_mode(fstat(&opened)?.st_mode) == FileType::RegularFile;
    if !is_file || fstatfs(&opened)?.f_type == PROC_MAGIC {
        return Err(Errno::INVAL);
    }
    let mut bytes = Vec::new();
    let read = File::from(opened)
        .take(LIST_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes);
    read.map_err(|_| Errno::IO)?;
    // Cut in the middle of a line it would say something else: then rather nothing, as in images.
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LIST_LIMIT_BYTES) {
        return Err(Errno::FBIG);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether `id` is in a map as the kernel shows it: first inside, first outside, count. Where no
/// map can be read, every number may be there.
fn is_mapped(map: &str, id: u32) -> bool {
    let mut lines = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let first = numbers.next()?.ok()?;
        let count = numbers.nth(1)?.ok()?;
        Some(first..first + count)
    });
    map.is_empty() || lines.any(|range| range.contains(&u64::from(id)))
}

#[cfg(test)]
mod tests {
    use super::{LIST_LIMIT_BYTES, is_mapped, read_list};

    #[test]
    fn a_map_tells_which_numbers_there_are() {
        let map = "      1000       1001          1\n         0     100000       1000\n";
        for (id, expected) in [(1_000, true), (0, true), (999, true), (1_001, false)] {
            assert_eq!(is_mapped(map, id), expected, "{id}");
        }
        assert!(is_mapped("         0          0 4294967295\n", 65_534));
        assert!(is_mapped("", 7), "where nothing can be known");
    }

    #[test]
    fn what_is_no_file_is_no_list() {
        for path in ["/etc", "/dev/zero", "/proc/self/status", "/no/such"] {
            assert!(read_list(path).is_err(), "{path}");
        }
        assert!(
            read_list("/etc/passwd")
                .expect("the control")
                .contains("root")
        );
    }

    #[test]
    fn what_is_longer_than_a_list_may_be_is_none() {
        let name = format!("insula-list-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let text = path.to_str().expect("text");
        let length = usize::try_from(LIST_LIMIT_BYTES).expect("small");
        for (length, expected) in [(length, Some(length)), (length + 1, None)] {
            std::fs::write(&path, vec![b'g'; length]).expect("written");
            let found = read_list(text);
            assert_eq!(found.ok().map(|text| text.len()), expected);
        }
        std::fs::remove_file(&path).expect("removed");
    }
}
