//! The entries of a member's directory. The agent makes those of every member ([`WORK`], [`HOME`],
//! [`LOGS`], [`RECORD`]); engine and guest fill them, and make the others where there is need.

/// The agent's own record of the member; see the agent.
pub const SPECIFICATION: &str = "member.json";
/// The working directory, `/work` inside.
pub const WORK: &str = "work";
/// The home directory of the command's user, `/home/user` inside; not kept after the end.
pub const HOME: &str = "home";
/// The writable layer of a root that has one; not kept after the end. The engine makes it, or the
/// agent where something lies in it from the beginning.
pub const UPPER: &str = "upper";
/// overlayfs's own scratch directory, beside the upper layer.
pub const OVERLAY_WORK: &str = "overlay";
/// A file system as an image: where it is, the entries of [`ON_DISK`] are in it, and those beside it
/// are empty.
pub const DISK: &str = "disk.img";
/// What lies on a container's own file system, if it has one.
pub const ON_DISK: &[&str] = &[WORK, HOME, UPPER, OVERLAY_WORK];
/// Log segments, written by the guest.
pub const LOGS: &str = "logs";
/// The exit record, written by the guest.
pub const RECORD: &str = "record";
/// The file whose lock says that the guest lives.
pub const LOCK: &str = "guest.lock";
/// What the engine remembers of the guest's process. Written before the guest is told *go*: after a
/// crash the agent takes a member without it (and without logs and record) for one that never ran,
/// and starts it.
pub const GUEST: &str = "guest.json";
