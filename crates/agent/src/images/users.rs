//! Who a command is inside an image: names are looked up in the image's own lists.

use super::merged::Merged;
use domain::CommandUser;
use engine_api::UidRange;
use guest_api::RunAs;
use guest_api::users::{Lists, UserError};

/// Where every user can write, whatever the image says.
const HOME: &str = "/home/user";

/// Who a command is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) run_as: RunAs,
    pub(crate) name: String,
    pub(crate) home: String,
}

impl Identity {
    /// Who `user` is in an image. `writable`: its root can be written, so a home in it is of use.
    pub(crate) fn of(
        user: &CommandUser,
        image: &Merged,
        writable: bool,
    ) -> Result<Self, UserError> {
        let lists = lists(image);
        let run_as = lists.run_as(user)?;
        let known = lists.user(run_as.uid);
        let home = known.map(|user| user.home.as_str());
        let home = home.filter(|home| writable && home.len() > 1 && image.is_directory(home));
        let name = known.map(|user| user.name.clone());
        Ok(Self {
            run_as,
            name: name.unwrap_or_else(|| "user".to_owned()),
            home: home.unwrap_or(HOME).to_owned(),
        })
    }
}

fn lists(image: &Merged) -> Lists {
    let text = |path| image.text(path).unwrap_or_default();
    Lists::parse(&text("/etc/passwd"), &text("/etc/group"))
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
    let lists = lists(image);
    let (has_user, has_group) = (lists.user(id).is_some(), lists.has_group(id));
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
    use super::{Identity, Merged, UserError, lists_with_user};
    use domain::CommandUser;
    use engine_api::UidRange;
    use guest_api::users::{LAST_USER, ROOT_CAPABILITIES};
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
    fn a_home_is_one_that_is_there_and_of_use() {
        let kept = tempfile::tempdir().expect("a directory");
        let image = image(kept.path());
        for (user, home) in [
            ("www-data", "/var/www"),
            ("33:staff", "/var/www"),
            ("7", "/home/user"),
            ("4242", "/home/user"),
            ("root:staff", "/root"),
        ] {
            let found = Identity::of(&CommandUser::named(user), &image, true);
            assert_eq!(found.expect(user).home, home, "{user}");
        }
        let ann = Identity::of(&CommandUser::named("ann"), &image, true);
        let name = "ann".to_owned();
        assert_eq!(ann, Err(UserError::NoUser { name }));
        assert_eq!(UidRange::GUEST - 1, LAST_USER);
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
