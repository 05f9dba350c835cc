//! Where control group hierarchies are mounted, by /proc/self/mountinfo.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Controllers of version 1 that we use. Not `cpuset`: sessions are kept to CPUs by their mask, and a
/// group that limits nothing would be made, joined and removed with each.
const CONTROLLERS: &[&str] = &[
    "blkio", "cpu", "cpuacct", "devices", "freezer", "memory", "pids",
];

/// The hierarchies of a node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupMounts {
    /// Mount point by controller; controllers may share one.
    pub(crate) v1: BTreeMap<String, PathBuf>,
    /// Where version 2 is mounted.
    pub(crate) v2: Option<UnifiedMount>,
}

/// A mount of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnifiedMount {
    /// Where.
    pub(crate) point: PathBuf,
    /// Which group is seen there, as /proc/self/cgroup names groups.
    pub(crate) root: PathBuf,
}

/// Reads this process's mounts. None are found if that fails.
pub(crate) fn find() -> GroupMounts {
    parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// The first mount of each controller counts. A line is `id parent device root POINT options
/// [optional fields] - TYPE source SUPER-OPTIONS`.
fn parse(mountinfo: &str) -> GroupMounts {
    let mut found = GroupMounts::default();
    for line in mountinfo.lines() {
        let Some((mount, system)) = line.split_once(" - ") else {
            continue;
        };
        let mut fields = mount.split(' ').skip(3).map(unescape);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else {
            continue;
        };
        let mut system = system.split(' ');
        match system.next() {
            Some("cgroup2") if found.v2.is_none() => {
                found.v2 = Some(UnifiedMount { point, root });
            }
            Some("cgroup") => {
                for option in system.nth(1).unwrap_or_default().split(',') {
                    if CONTROLLERS.contains(&option) {
                        let place = found.v1.entry(option.to_owned());
                        place.or_insert_with(|| point.clone());
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Paths have space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3);
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    PathBuf::from(out)
}

#[cfg(test)]
mod tests {
    use super::{UnifiedMount, parse};
    use std::path::Path;

    #[test]
    fn shared_and_separate_hierarchies_are_found() {
        let found = parse(
            "31 23 0:28 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /mnt/a\\040b rw - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 /a /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n",
        );
        let point = |name: &str| found.v1.get(name).map(|path| path.as_path());
        assert_eq!(point("cpu"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(point("cpu"), point("cpuacct"));
        assert_eq!(point("memory"), Some(Path::new("/mnt/a b")));
        assert_eq!(point("pids"), None);
        let unified = UnifiedMount {
            point: "/sys/fs/cgroup/unified".into(),
            root: "/a".into(),
        };
        assert_eq!(found.v2, Some(unified));
    }
}
