//! Everything the child of a start needs, made before it exists: it allocates nothing.

use crate::filter::Filter;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// Longest reason of a failed act in the child: an act, an index, an errno.
pub(super) const FAILURE_BYTES: usize = 8;

/// A mount that is not attached yet.
#[derive(Debug)]
pub(super) enum Source {
    /// Made by the launcher with root's rights.
    Made(OwnedFd),
    /// To be made by the child, which has the right in its own namespaces only.
    Path(SourcePath),
    /// A directory of the container's own file system, which the child attaches before: of a mount
    /// that is attached nowhere no part can be mounted.
    OnDisk(CString),
    /// It comes when the container gets its member: see [`super::spare`].
    Awaited,
}

/// Where the child finds a file system, and what it makes of it.
#[derive(Debug)]
pub(super) struct SourcePath {
    pub(super) path: CString,
    /// With all that is mounted below.
    pub(super) recursive: bool,
    /// A link is not followed.
    pub(super) no_follow: bool,
    /// Attributes of the mount.
    pub(super) attributes: u64,
}

impl Source {
    /// The launcher's mount.
    pub(super) fn made(&self) -> Option<&OwnedFd> {
        match self {
            Self::Made(mount) => Some(mount),
            Self::Path(_) | Self::OnDisk(_) | Self::Awaited => None,
        }
    }
}

/// How the child gets its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// All numbers below 65,536 are mapped: it becomes root, and then the guest's user.
    Many,
    /// One is mapped, which it has already.
    One,
}

/// A network of the container's own, whose loopback device has to be brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnNetwork {
    /// It has the node's.
    No,
    /// Nobody but it has to do with it.
    Alone,
    /// The launcher connects it, so that it is there from the beginning.
    Connected,
}

/// Descriptors, names and texts for the child.
#[derive(Debug)]
pub(super) struct Plan {
    /// Files to write `0` into, to join the groups.
    pub(super) groups: Vec<OwnedFd>,
    /// One byte comes from the launcher when the id maps are written and the mounts idmapped.
    pub(super) sync: OwnedFd,
    /// Where a failed act is told; closed by exec.
    pub(super) error: OwnedFd,
    /// What is mounted.
    pub(super) mounts: MountPlan,
    /// What it sees of the node.
    pub(super) picture: PicturePlan,
    /// Name of the host inside.
    pub(super) hostname: String,
    /// How it gets its ids.
    pub(super) ids: Ids,
    /// Whether it has a network of its own.
    pub(super) network: OwnNetwork,
    /// Which system calls it may make.
    pub(super) filter: Filter,
    /// On the node's network as a user of the node: abstract sockets of the user's other programs
    /// would take it for the user.
    pub(super) close_abstract_sockets: bool,
    /// What the guest inherits of its member, in the order of its numbers from [`FIRST_INHERITED`]
    /// on.
    pub(super) inherited: Inherited,
    /// What it inherits behind that: *go* and *ready*.
    pub(super) pipes: [OwnedFd; 2],
    /// The guest's program.
    pub(super) guest: OwnedFd,
}

/// What a guest has of its member: configuration, listener, the directories of the record and of
/// the log, lock.
pub(super) const OF_MEMBER: usize = 5;

/// A member's descriptors.
#[derive(Debug)]
pub(super) enum Inherited {
    /// They are there.
    Known([OwnedFd; OF_MEMBER]),
    /// They come through this socket when the container gets its member.
    Awaited(OwnedFd),
}

/// The number of the first descriptor that the guest inherits.
pub(super) const FIRST_INHERITED: i32 = guest_api::descriptors::CONFIG;

/// The numbers of the writable layer and the scratch directory where the child opens them: among
/// the low ones that are free.
pub(super) const WRITABLE_NUMBERS: [i32; 2] = [20, 21];

/// The file systems of a container, in the order they are mounted.
#[derive(Debug)]
pub(super) struct MountPlan {
    /// Lower layers, the lowest first: a detached mount and a name to attach it by.
    pub(super) layers: Vec<(Source, CString)>,
    /// The container's own file system, if it has one.
    pub(super) disk: Option<OwnedFd>,
    /// How the layers become the root. `None`: there is one layer, nothing of it is written, and
    /// it has every mount point, so it is the root itself. On a disk an overlay costs a start
    /// some milliseconds, and its removal again.
    pub(super) overlay: Option<Overlay>,
    /// Nothing of the root can be written.
    pub(super) read_only: bool,
    /// The node's sysfs, where the network is the node's: a new one cannot be mounted then.
    pub(super) sys: Option<Source>,
    /// `sys` comes with all that is mounted in it.
    pub(super) sys_is_whole: bool,
    /// `/work`, `/home/user`, and what was asked for.
    pub(super) binds: Vec<BindPlan>,
    /// Size of `/tmp` and of `/dev/shm`, in bytes.
    pub(super) tmpfs_size: CString,
    /// Most files in each of them.
    pub(super) tmpfs_inodes: CString,
    /// `/etc/hosts` and its kin.
    pub(super) small_files: Vec<SmallFile>,
}

/// What a container sees of its node: see `launcher::picture`.
#[derive(Debug)]
pub(super) struct PicturePlan {
    /// The guest's `Picture`.
    pub(super) content: Vec<u8>,
    /// A limit of memory holds.
    pub(super) memory: bool,
    /// Its CPUs, if they are not all.
    pub(super) cpus: Option<CpuDirectory>,
    /// Its control groups.
    pub(super) groups: Option<GroupsPlan>,
    /// What begins its clock since boot.
    pub(super) boot_offset: Vec<u8>,
}

/// The shown CPUs.
#[derive(Debug)]
pub(super) struct CpuDirectory {
    /// Content of /proc/cpuinfo.
    pub(super) cpuinfo: Vec<u8>,
    /// Which they are, as a line.
    pub(super) list: Vec<u8>,
    /// The highest number, as a line.
    pub(super) last: Vec<u8>,
    /// The name of each in /sys/devices/system/cpu.
    pub(super) names: Vec<CString>,
}

/// Control groups that are mounted inside.
#[derive(Debug)]
pub(super) enum GroupsPlan {
    /// A directory for each hierarchy, and its controllers.
    V1(Vec<(CString, Vec<CString>)>),
    /// The one.
    V2,
}

/// A writable layer above the others.
#[derive(Debug)]
pub(super) struct Overlay {
    /// The member's directory, which holds the writable layer, unless the disk does.
    pub(super) member: Option<Source>,
    /// The writable layer and overlayfs's scratch directory, on the mount of `member`; named in
    /// `options` by their numbers. `None`: the child opens them, as [`WRITABLE_NUMBERS`].
    pub(super) writable: Option<[OwnedFd; 2]>,
    /// Options of the overlay.
    pub(super) options: CString,
}

/// A detached mount and where it goes.
#[derive(Debug)]
pub(super) struct BindPlan {
    pub(super) mount: Source,
    pub(super) target: Target,
}

/// A place below the root.
#[derive(Debug)]
pub(super) struct Target {
    /// The whole path, relative to the root.
    pub(super) path: CString,
    /// Its components, to make what is missing one by one.
    pub(super) components: Vec<CString>,
    /// It is a directory; a file otherwise.
    pub(super) directory: bool,
}

/// A file with a given content that hides one of the image, where the image has it.
#[derive(Debug)]
pub(super) struct SmallFile {
    pub(super) name: CString,
    pub(super) target: CString,
    pub(super) content: Vec<u8>,
    /// Where the root has a writable layer it is made if it is missing, also in place of a link.
    pub(super) make: bool,
    /// A line with the host's name follows behind these words.
    pub(super) named: Option<&'static str>,
}

impl Plan {
    /// The numbers the child needs, in order. All others are closed first thing, so that it does
    /// not keep another container's pipes open.
    pub(super) fn kept(&self) -> Vec<u32> {
        let mounts = &self.mounts;
        let one = [&self.sync, &self.error, &self.guest];
        let of_member = match &self.inherited {
            Inherited::Known(descriptors) => descriptors.as_slice(),
            Inherited::Awaited(socket) => std::slice::from_ref(socket),
        };
        let overlay = mounts.overlay.iter();
        let mut kept: Vec<u32> = one
            .into_iter()
            .chain(&self.groups)
            .chain(of_member)
            .chain(&self.pipes)
            .chain(overlay.flat_map(|overlay| {
                let writable = overlay.writable.iter().flatten();
                let member = overlay.member.iter();
                writable.chain(member.filter_map(Source::made))
            }))
            .chain(&mounts.disk)
            .chain(mounts.layers.iter().filter_map(|(mount, _)| mount.made()))
            .chain(mounts.sys.iter().filter_map(Source::made))
            .chain(mounts.binds.iter().filter_map(|bind| bind.mount.made()))
            .filter_map(|descriptor| u32::try_from(descriptor.as_raw_fd()).ok())
            .collect();
        kept.sort_unstable();
        kept
    }
}

/// The acts of the child, for its failure report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Act {
    MakeNamespaces,
    JoinGroup,
    HideGroups,
    WaitForLauncher,
    BecomeRoot,
    SetHostname,
    RaiseLoopback,
    DetachMounts,
    OpenLayer,
    OpenBind,
    OpenMember,
    OpenSys,
    MakeStaging,
    AttachDisk,
    AttachLayer,
    MountRoot,
    MakeMountPoint,
    MountProc,
    HideProc,
    ShowShare,
    MountSys,
    MountDevices,
    MountTmp,
    AttachBind,
    WriteSmallFile,
    CloseRoot,
    ChangeRoot,
    PassDescriptors,
    GiveUpPrivileges,
    CloseSockets,
    FilterCalls,
    RunGuest,
}

/// All acts, in the order of their numbers, with their words.
const ACTS: &[(Act, &str)] = &[
    (Act::MakeNamespaces, "make namespaces"),
    (Act::JoinGroup, "join a control group"),
    (Act::HideGroups, "make a cgroup namespace"),
    (Act::WaitForLauncher, "wait for the launcher"),
    (Act::BecomeRoot, "become root of the user namespace"),
    (Act::SetHostname, "set the host name"),
    (Act::RaiseLoopback, "bring the loopback device up"),
    (Act::DetachMounts, "make all mounts private"),
    (Act::OpenLayer, "open a layer of the image"),
    (Act::OpenBind, "open what is mounted"),
    (Act::OpenMember, "open the member's directory"),
    (Act::OpenSys, "open /sys"),
    (Act::MakeStaging, "mount a staging directory on /tmp"),
    (Act::AttachDisk, "attach the container's file system"),
    (Act::AttachLayer, "attach a layer of the image"),
    (Act::MountRoot, "mount the root file system"),
    (Act::MakeMountPoint, "make the mount point"),
    (Act::MountProc, "mount /proc"),
    (Act::HideProc, "hide a part of /proc"),
    (Act::ShowShare, "show the container's share of the node"),
    (Act::MountSys, "mount /sys"),
    (Act::MountDevices, "mount /dev"),
    (Act::MountTmp, "mount /tmp"),
    (Act::AttachBind, "attach the mount"),
    (Act::WriteSmallFile, "make /etc/hosts"),
    (Act::CloseRoot, "make the root read-only"),
    (Act::ChangeRoot, "change to the new root"),
    (Act::PassDescriptors, "hand over the guest's descriptors"),
    (Act::GiveUpPrivileges, "give up privileges"),
    (Act::CloseSockets, "close the abstract sockets of others"),
    (Act::FilterCalls, "install the filter of system calls"),
    (Act::RunGuest, "run the guest"),
];

/// A failed act of the child: which, on which of several things, and the error's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) act: Act,
    pub(super) index: u16,
    pub(super) errno: i32,
}

impl Failed {
    pub(super) fn encode(self) -> [u8; FAILURE_BYTES] {
        let mut bytes = [0; FAILURE_BYTES];
        bytes[..2].copy_from_slice(&(self.act as u16).to_le_bytes());
        bytes[2..4].copy_from_slice(&self.index.to_le_bytes());
        bytes[4..].copy_from_slice(&self.errno.to_le_bytes());
        bytes
    }

    /// `None` for bytes that no child sends.
    pub(super) fn decode(bytes: [u8; FAILURE_BYTES]) -> Option<Self> {
        let [a, b, c, d, errno @ ..] = bytes;
        let (act, _) = ACTS.get(usize::from(u16::from_le_bytes([a, b])))?;
        Some(Self {
            act: *act,
            index: u16::from_le_bytes([c, d]),
            errno: i32::from_le_bytes(errno),
        })
    }

    pub(super) fn words(self) -> &'static str {
        ACTS[usize::from(self.act as u16)].1
    }
}

#[cfg(test)]
mod tests {
    use super::{ACTS, Failed};

    #[test]
    fn every_act_has_its_words_and_survives_the_pipe() {
        for (number, (act, words)) in ACTS.iter().enumerate() {
            assert_eq!(usize::from(*act as u16), number, "{words}");
            let failed = Failed {
                act: *act,
                index: 7,
                errno: 13,
            };
            assert_eq!(Failed::decode(failed.encode()), Some(failed));
            assert_eq!(failed.words(), *words);
        }
        assert_eq!(Failed::decode([255; 8]), None);
    }
}
