//! Who a command is: names and numbers looked up in the lists of users and groups that are inside,
//! by Docker's rules. Agent and guest use the same ones: the agent before a session begins, the
//! guest in the session as it is then.

use crate::config::RunAs;
use domain::CommandUser;

/// Greatest user or group of a command; the next is the guest's own.
pub const LAST_USER: u32 = 65_534;
/// Largest list of users or groups that is read, in bytes.
pub const LIST_LIMIT_BYTES: u64 = 1 << 20;
/// The user inside who runs commands where nobody says another.
const ORDINARY: u32 = 1_000;
/// What root of a session may do there, by the numbers of the capabilities: CHOWN, DAC_OVERRIDE,
/// FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
pub const ROOT_CAPABILITIES: [u8; 10] = [0, 1, 3, 4, 5, 6, 7, 10, 18, 31];
/// Lines of a list of users or groups that are read.
const LINES_LIMIT: usize = 100_000;
/// Most groups beside the first one: as many as a process may have.
const GROUPS_LIMIT: usize = 65_536;

/// A user that is not inside, or that no session can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No line, and no number.
    #[error("/etc/passwd inside has no user `{name}`")]
    NoUser {
        /// The name.
        name: String,
    },
    /// The same of a group.
    #[error("/etc/group inside has no group `{name}`")]
    NoGroup {
        /// The name.
        name: String,
    },
    /// A number that is the guest's, or nobody's.
    #[error("a session has no user or group {id}, only 0 to {LAST_USER}")]
    Beyond {
        /// The number.
        id: u32,
    },
}

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
    /// Its home directory, as the line has it.
    pub home: String,
}

/// A line of `/etc/group`.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// The lists of users and groups.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    users: Vec<User>,
    groups: Vec<Group>,
}

impl Lists {
    /// Reads both texts; lines that are none are passed over.
    pub fn parse(passwd: &str, group: &str) -> Self {
        Self {
            users: passwd.lines().take(LINES_LIMIT).filter_map(user).collect(),
            groups: group
                .lines()
                .take(LINES_LIMIT)
                .filter_map(group_of)
                .collect(),
        }
    }

    /// The first line of a user.
    pub fn user(&self, uid: u32) -> Option<&User> {
        self.users.iter().find(|user| user.uid == uid)
    }

    /// Whether a group has a line.
    pub fn has_group(&self, gid: u32) -> bool {
        self.groups.iter().any(|group| group.gid == gid)
    }

    /// Who somebody is inside. Root by a person's wish has its capabilities, whatever it is called
    /// and whichever its group is; others have none, and root by the image's wish neither.
    pub fn run_as(&self, who: &CommandUser) -> Result<RunAs, UserError> {
        let (uid, gid, groups, capabilities) = match who {
            CommandUser::Ordinary => (ORDINARY, ORDINARY, Vec::new(), Vec::new()),
            CommandUser::Root => (0, 0, Vec::new(), ROOT_CAPABILITIES.to_vec()),
            CommandUser::Named { name, asked } => {
                let (uid, gid, groups) = self.named(name)?;
                let capabilities = match (uid, asked) {
                    (0, true) => ROOT_CAPABILITIES.to_vec(),
                    _ => Vec::new(),
                };
                (uid, gid, groups, capabilities)
            }
        };
        for id in [uid, gid].iter().chain(&groups) {
            if *id > LAST_USER {
                return Err(UserError::Beyond { id: *id });
            }
        }
        Ok(RunAs {
            uid,
            gid,
            groups,
            capabilities,
        })
    }

    /// User, group and further groups of `USER` or `USER:GROUP`: a name comes before a number; a
    /// number that has no line has group 0; a given group is the only one.
    fn named(&self, text: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let number = user.parse::<u32>().ok();
        let known = self.users.iter().find(|known| known.name == user);
        let known = known.or_else(|| self.user(number?));
        let uid = known.map(|known| known.uid).or(number);
        let uid = uid.ok_or_else(|| UserError::NoUser {
            name: user.to_owned(),
        })?;
        if let Some(group) = group {
            let known = self.groups.iter().find(|known| known.name == group);
            let gid = known.map(|known| known.gid).or_else(|| group.parse().ok());
            let gid = gid.ok_or_else(|| UserError::NoGroup {
                name: group.to_owned(),
            })?;
            return Ok((uid, gid, Vec::new()));
        }
        let Some(known) = known else {
            return Ok((uid, 0, Vec::new()));
        };
        let with = |group: &&Group| group.members.contains(&known.name) && group.gid != known.gid;
        let further = self.groups.iter().filter(with).map(|group| group.gid);
        Ok((uid, known.gid, further.take(GROUPS_LIMIT).collect()))
    }
}

fn user(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    Some(User {
        name: (*fields.first()?).to_owned(),
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
        home: (*fields.get(5)?).to_owned(),
    })
}

fn group_of(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let members = fields.get(3).copied().unwrap_or_default().split(',');
    Some(Group {
        name: (*fields.first()?).to_owned(),
        gid: fields.get(2)?.parse().ok()?,
        members: members.map(|name| name.trim().to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Lists, ROOT_CAPABILITIES, UserError};
    use domain::CommandUser;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n\
                          broken\n7:x:70:71::/nowhere:/bin/sh\nbig:x:65535:1::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:\nstaff:x:50:ann,www-data\n";

    #[test]
    fn users_are_found_as_docker_does() {
        let lists = Lists::parse(PASSWD, GROUP);
        for (user, expected) in [
            ("www-data", Ok((33, 33, vec![50]))),
            ("33", Ok((33, 33, vec![50]))),
            ("www-data:staff", Ok((33, 50, vec![]))),
            ("www-data:7", Ok((33, 7, vec![]))),
            // A name that looks like a number is a name.
            ("7", Ok((70, 71, vec![]))),
            ("4242", Ok((4242, 0, vec![]))),
            ("65534", Ok((65_534, 0, vec![]))),
            ("root:staff", Ok((0, 50, vec![]))),
            ("ann", Err("has no user `ann`")),
            ("", Err("has no user ``")),
            ("-1", Err("has no user `-1`")),
            ("root:ann", Err("has no group `ann`")),
            ("65535", Err("no user or group 65535")),
            ("big", Err("no user or group 65535")),
            ("1:4294967295", Err("no user or group 4294967295")),
            ("1:2:3", Err("has no group `2:3`")),
        ] {
            match (lists.run_as(&CommandUser::named(user)), expected) {
                (Ok(found), Ok((uid, gid, groups))) => {
                    assert_eq!((found.uid, found.gid, found.groups), (uid, gid, groups));
                    assert_eq!(found.capabilities.is_empty(), uid != 0, "{user}");
                }
                (Err(error), Err(text)) => {
                    assert!(error.to_string().contains(text), "{user}: {error}");
                }
                (found, expected) => panic!("{user}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn root_by_request_has_its_capabilities_whatever_it_is_called() -> Result<(), UserError> {
        let passwd = "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n";
        let lists = Lists::parse(passwd, "root:x:0:\nstaff:x:50:\n");
        for (name, gid) in [
            ("root", 0),
            ("0", 0),
            ("root:root", 0),
            ("0:0", 0),
            ("0:root", 0),
            ("root:0", 0),
            ("0:", 0),
            ("00", 0),
            ("toor", 0),
            ("root:staff", 50),
        ] {
            let root = lists.run_as(&CommandUser::named(name))?;
            assert_eq!((root.uid, root.gid), (0, gid), "{name}");
            assert_eq!(root.capabilities, ROOT_CAPABILITIES, "{name}");
            // The control: an image that names it did not ask anybody.
            let images = lists.run_as(&CommandUser::Named {
                name: name.to_owned(),
                asked: false,
            })?;
            assert_eq!((images.uid, images.gid), (0, gid), "{name}");
            assert!(images.capabilities.is_empty(), "{name}");
        }
        let ordinary = lists.run_as(&CommandUser::Ordinary)?;
        assert_eq!((ordinary.uid, ordinary.gid), (1_000, 1_000));
        assert!(ordinary.capabilities.is_empty());
        Ok(())
    }
}
