//! Who a command is inside an image: names are looked up in the image's own lists.

use super::merged::Merged;
use domain::CommandUser;
use engine_api::UidRange;
use guest_api::RunAs;

/// What root of a session may do there, by the numbers of the capabilities: CHOWN, DAC_OVERRIDE,
/// FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
const ROOT_CAPABILITIES: [u8; 10] = [0, 1, 3, 4, 5, 6, 7, 10, 18, 31];
/// Where every user can write, whatever the image says.
const HOME: &str = "/home/user";
/// Lines of a list of users or groups that are read.
const LINES_LIMIT: usize = 100_000;
/// Most groups beside the first one: as many as a process may have.
const GROUPS_LIMIT: usize = 65_536;

/// Who a command is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) run_as: RunAs,
    pub(crate) name: String,
    pub(crate) home: String,
}

/// A user that the image does not have, or that no session can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("the image's /etc/passwd has no user `{name}`")]
    NoUser { name: String },
    #[error("the image's /etc/group has no group `{name}`")]
    NoGroup { name: String },
    #[error("a session has no user or group {id}, only 0 to {}", UidRange::GUEST - 1)]
    Beyond { id: u32 },
}

/// A line of `/etc/passwd`.
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// A line of `/etc/group`.
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Identity {
    /// Who `user` is in an image. `writable`: its root can be written, so a home in it is of use.
    pub(crate) fn of(
        user: &CommandUser,
        image: &Merged,
        writable: bool,
    ) -> Result<Self, UserError> {
        let users = users(image);
        let (uid, gid, groups, capabilities) = match user {
            CommandUser::Ordinary => (UidRange::COMMAND, UidRange::COMMAND, Vec::new(), vec![]),
            CommandUser::Root => (0, 0, Vec::new(), ROOT_CAPABILITIES.to_vec()),
            CommandUser::Named { name } => {
                let (uid, gid, groups) = named(name, &users, &groups(image))?;
                (uid, gid, groups, Vec::new())
            }
        };
        for id in [uid, gid].iter().chain(&groups) {
            if *id >= UidRange::GUEST {
                return Err(UserError::Beyond { id: *id });
            }
        }
        let known = users.iter().find(|user| user.uid == uid);
        let home = known.map(|user| user.home.as_str());
        let home = home.filter(|home| writable && home.len() > 1 && image.is_directory(home));
        let name = known.map(|user| user.name.clone());
        Ok(Self {
            run_as: RunAs {
                uid,
                gid,
                groups,
                capabilities,
            },
            name: name.unwrap_or_else(|| "user".to_owned()),
            home: home.unwrap_or(HOME).to_owned(),
        })
    }
}

/// User, group and further groups of `USER` or `USER:GROUP`, as Docker finds them: a name comes
/// before a number; a number that has no line has group 0; a given group is the only one.
fn named(text: &str, users: &[User], groups: &[Group]) -> Result<(u32, u32, Vec<u32>), UserError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let number = user.parse::<u32>().ok();
    let known = users
        .iter()
        .find(|known| known.name == user)
        .or_else(|| users.iter().find(|known| Some(known.uid) == number));
    let uid = known.map(|known| known.uid).or(number);
    let uid = uid.ok_or_else(|| UserError::NoUser {
        name: user.to_owned(),
    })?;
    if let Some(group) = group {
        let known = groups.iter().find(|known| known.name == group);
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
    let further = groups.iter().filter(with).map(|group| group.gid);
    Ok((uid, known.gid, further.take(GROUPS_LIMIT).collect()))
}

fn users(image: &Merged) -> Vec<User> {
    let text = image.text("/etc/passwd").unwrap_or_default();
    let lines = text.lines().take(LINES_LIMIT);
    let user = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(User {
            name: (*fields.first()?).to_owned(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: (*fields.get(5)?).to_owned(),
        })
    };
    lines.filter_map(user).collect()
}

fn groups(image: &Merged) -> Vec<Group> {
    let text = image.text("/etc/group").unwrap_or_default();
    let lines = text.lines().take(LINES_LIMIT);
    let group = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let members = fields.get(3).copied().unwrap_or_default().split(',');
        Some(Group {
            name: (*fields.first()?).to_owned(),
            gid: fields.get(2)?.parse().ok()?,
            members: members.map(|name| name.trim().to_owned()).collect(),
        })
    };
    lines.filter_map(group).collect()
}

/// The image's lists with the ordinary user of every session in them; `None` where it is already.
pub(super) fn lists_with_user(image: &Merged) -> (Option<String>, Option<String>) {
    let id = UidRange::COMMAND;
    let shell = if image.exists("/bin/bash") {
        "/bin/bash"
    } else {
        "/bin/sh"
    };
    let user = format!("user:x:{id}:{id}:user:{HOME}:{shell}\n");
    let has_user = users(image).iter().any(|user| user.uid == id);
    let has_group = groups(image).iter().any(|group| group.gid == id);
    let list = |path: &str, line: String| {
        let mut text = image.text(path).unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text + &line
    };
    (
        (!has_user).then(|| list("/etc/passwd", user)),
        (!has_group).then(|| list("/etc/group", format!("user:x:{id}:\n"))),
    )
}

#[cfg(test)]
mod tests {
    use super::{Identity, Merged, ROOT_CAPABILITIES, UserError, lists_with_user};
    use domain::CommandUser;
    use std::fs;
    use std::path::Path;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n\
                          broken\n7:x:70:71::/nowhere:/bin/sh\nbig:x:65535:1::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:\nstaff:x:50:ann,www-data\n";

    fn image(root: &Path) -> Merged {
        fs::create_dir_all(root.join("etc")).expect("made");
        fs::create_dir_all(root.join("var/www")).expect("made");
        fs::create_dir_all(root.join("root")).expect("made");
        fs::write(root.join("etc/passwd"), PASSWD).expect("written");
        fs::write(root.join("etc/group"), GROUP).expect("written");
        Merged::open(&[root.to_path_buf()]).expect("opened")
    }

    #[test]
    fn users_are_found_as_docker_does() {
        let kept = tempfile::tempdir().expect("a directory");
        let image = image(kept.path());
        for (user, expected) in [
            ("www-data", Ok((33, 33, vec![50], "/var/www"))),
            ("33", Ok((33, 33, vec![50], "/var/www"))),
            ("www-data:staff", Ok((33, 50, vec![], "/var/www"))),
            ("www-data:7", Ok((33, 7, vec![], "/var/www"))),
            // A name that looks like a number is a name.
            ("7", Ok((70, 71, vec![], "/home/user"))),
            ("4242", Ok((4242, 0, vec![], "/home/user"))),
            ("root", Ok((0, 0, vec![], "/root"))),
            ("ann", Err("has no user `ann`")),
            ("root:ann", Err("has no group `ann`")),
            ("65535", Err("no user or group 65535")),
            ("big", Err("no user or group 65535")),
            ("1:4294967295", Err("no user or group 4294967295")),
        ] {
            let name = user.to_owned();
            let found = Identity::of(&CommandUser::Named { name }, &image, true);
            match (found, expected) {
                (Ok(found), Ok((uid, gid, groups, home))) => {
                    let run_as = &found.run_as;
                    assert_eq!((run_as.uid, run_as.gid), (uid, gid), "{user}");
                    assert_eq!((&run_as.groups, found.home.as_str()), (&groups, home));
                    assert!(run_as.capabilities.is_empty());
                }
                (Err(error), Err(text)) => {
                    assert!(error.to_string().contains(text), "{user}: {error}");
                }
                (found, expected) => panic!("{user}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn root_is_root_and_others_are_ordinary() -> Result<(), UserError> {
        let kept = tempfile::tempdir().expect("a directory");
        let image = image(kept.path());
        let root = Identity::of(&CommandUser::Root, &image, true)?;
        assert_eq!((root.run_as.uid, root.home.as_str()), (0, "/root"));
        assert_eq!(root.run_as.capabilities, ROOT_CAPABILITIES);
        let closed = Identity::of(&CommandUser::Root, &image, false)?;
        assert_eq!(closed.home, "/home/user");
        let ordinary = Identity::of(&CommandUser::Ordinary, &image, true)?;
        assert_eq!(
            (ordinary.run_as.uid, ordinary.name.as_str()),
            (1_000, "user")
        );
        assert!(ordinary.run_as.capabilities.is_empty());
        Ok(())
    }

    #[test]
    fn the_ordinary_user_is_added_to_lists_that_lack_it() {
        let kept = tempfile::tempdir().expect("a directory");
        let image = image(kept.path());
        let (passwd, group) = lists_with_user(&image);
        let passwd = passwd.expect("it lacks it");
        assert!(passwd.starts_with(PASSWD), "{passwd}");
        assert!(passwd.ends_with("user:x:1000:1000:user:/home/user:/bin/sh\n"));
        assert!(group.expect("it lacks it").ends_with("user:x:1000:\n"));
        fs::write(kept.path().join("etc/passwd"), passwd).expect("written");
        assert!(lists_with_user(&image).0.is_none());
    }
}
