//! Whether the system's settings let this user make user namespaces at all.

use crate::identity::Identity;
use crate::kernel::can_close_abstract_sockets;
use std::fs;

/// A setting that forbids user namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceGap {
    /// The kernel was built without them.
    #[error("the kernel has no user namespaces")]
    None,
    /// `user.max_user_namespaces` is 0.
    #[error("user namespaces are switched off (sysctl user.max_user_namespaces is 0)")]
    SwitchedOff,
    /// Debian's `kernel.unprivileged_userns_clone` is 0.
    #[error("user namespaces are for root only (sysctl kernel.unprivileged_userns_clone is 0)")]
    RootOnly,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns` is 1.
    #[error(
        "AppArmor restricts user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns \
         is 1)"
    )]
    AppArmor,
}

impl NamespaceGap {
    /// What an administrator does about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::None => "boot a kernel that has them (CONFIG_USER_NS)",
            Self::SwitchedOff => "as root: sysctl -w user.max_user_namespaces=65536",
            Self::RootOnly => "as root: sysctl -w kernel.unprivileged_userns_clone=1",
            Self::AppArmor => {
                "give this executable an AppArmor profile with `userns,`, or as root: sysctl -w \
                 kernel.apparmor_restrict_unprivileged_userns=0"
            }
        }
    }
}

/// Whether a session on the node's network can be kept from the abstract Unix sockets of the user
/// it runs as, which take it for that user: an X server, for example.
pub fn closes_abstract_sockets() -> bool {
    can_close_abstract_sockets()
}

/// Looks at the settings; whether it then works, only a trial tells. Two of them do not concern
/// root.
pub fn user_namespaces() -> Result<(), NamespaceGap> {
    let read = |path: &str| fs::read_to_string(path).ok();
    if read("/proc/self/uid_map").is_none() {
        return Err(NamespaceGap::None);
    }
    look(Identity::is_root(), read)
}

fn look(is_root: bool, read: impl Fn(&str) -> Option<String>) -> Result<(), NamespaceGap> {
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return Err(NamespaceGap::SwitchedOff);
    }
    if is_root {
        return Ok(());
    }
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Err(NamespaceGap::RootOnly);
    }
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return Err(NamespaceGap::AppArmor);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{NamespaceGap, look};

    #[test]
    fn each_setting_is_named() {
        let check = |is_root, name: &str, value: &str, expected| {
            let read = |path: &str| path.ends_with(name).then(|| format!("{value}\n"));
            assert_eq!(look(is_root, read), expected, "{name} {value} {is_root}");
        };
        let off = Err(NamespaceGap::SwitchedOff);
        check(false, "/max_user_namespaces", "0", off);
        check(true, "/max_user_namespaces", "0", off);
        check(false, "/max_user_namespaces", "65536", Ok(()));
        let root_only = Err(NamespaceGap::RootOnly);
        check(false, "/unprivileged_userns_clone", "0", root_only);
        check(true, "/unprivileged_userns_clone", "0", Ok(()));
        check(false, "/unprivileged_userns_clone", "1", Ok(()));
        let restricted = Err(NamespaceGap::AppArmor);
        let name = "/apparmor_restrict_unprivileged_userns";
        check(false, name, "1", restricted);
        check(true, name, "1", Ok(()));
        check(false, name, "0", Ok(()));
        check(false, "none of them", "0", Ok(()));
    }
}
