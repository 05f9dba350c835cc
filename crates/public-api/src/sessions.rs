//! Sessions on the wire.

use crate::arrays::ArrayView;
use crate::pauses::PausedView;
use crate::pressure::PressureView;
use crate::processes::TerminalView;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Asks for a session. Absent fields have the defaults of the site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// A name, unique among your living sessions: 1 to 63 of a-z, 0-9 and inner hyphens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its kind; `batch` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindView>,
    /// The image; `host` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Program and arguments; the image's own if empty. Behind the entrypoint, if there is one.
    #[serde(default)]
    pub command: Vec<String>,
    /// What stands before the command, in place of the image's own; an empty list for nothing.
    /// Given, it also drops the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Who the command is inside: `USER` or `USER:GROUP`, by name or number; the image's user if
    /// absent, else 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The command is root inside, of the session's own users only.
    #[serde(default)]
    pub root: bool,
    /// Variables added to the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory inside, absolute; the image's if absent, else `/work`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// CPUs as a decimal with at most four places: `0.5`. `1` if absent; least 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Memory in bytes, or with k, m, g, t as powers of 1024: `512m`. 1 GiB or a quarter of the
    /// smallest node if absent; least 8 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Most processes and threads; 4,096 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Most that it may have on a node's disk, in bytes, or with k, m, g, t: `10g`. Where the node
    /// can, it is the size of a file system for work, home and writable layer; elsewhere these and
    /// the output are measured, and with more it is ended. No limit of its own if absent; least
    /// 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Longest running time: `90s`, `10m`, `1h30m`. No limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// What it can reach; the site's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkView>,
    /// Paths of the node shown inside.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::object::many"
    )]
    pub mounts: Vec<MountView>,
    /// The id of an upload whose files are put into `/work`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// One pipe for both output streams, so that their order is exact.
    #[serde(default)]
    pub merge: bool,
    /// Standard input is a pipe that clients write to; otherwise it is at its end.
    #[serde(default)]
    pub stdin: bool,
    /// The command gets a terminal of this size: its input and both outputs.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::object::optional"
    )]
    pub terminal: Option<TerminalView>,
    /// A lossless follower of the output will come.
    #[serde(default)]
    pub follower: bool,
    /// Accept limits that cannot be enforced.
    #[serde(default)]
    pub best_effort: bool,
    /// Of what waits for a place a higher priority goes first, and of the same the older: 0 to 100, 50
    /// if absent. Nothing that runs is stopped for it, and what has a low one may wait for as long as
    /// there is work of a higher one.
    #[schema(minimum = 0, maximum = 100)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// How many further attempts it gets when one fails, 0 to 20. A failed attempt is one whose
    /// command ended with another code than 0 or by a signal, that ran out of memory, could not
    /// be prepared or started, or was lost with its node; not one that was stopped or reached its
    /// time limit, nor one whose command was not found or could not be run. Before the
    /// n-th further attempt it waits 2^(n - 1) seconds, at most 60.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry: u32,
    /// Sessions and arrays that have to end before it is placed; at most 100.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::object::many"
    )]
    pub after: Vec<AfterOrder>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Something that has to end before a session is placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AfterOrder {
    /// A session or an array, by id or name; of an array all elements. Resolved when the request
    /// is made.
    pub session: String,
    /// How it has to end; `succeeded` if absent.
    #[serde(default)]
    pub need: AfterNeed,
}

/// How something has to end before a session that waits for it is placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AfterNeed {
    /// With success. Once that can no longer be, the waiting session ends as cancelled.
    #[default]
    Succeeded,
    /// In any way.
    Ended,
}

/// What a session waits, or waited, for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AfterView {
    /// The id of a session or an array.
    pub id: String,
    /// Its name when this session was asked for.
    pub name: String,
    /// How it has to end.
    pub need: AfterNeed,
    /// `waiting`, `met` or `failed`; the last two stay, even if the other session is removed.
    pub state: String,
}

/// One try to run a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Its number, from 1.
    pub attempt: u32,
    /// The node of its main member.
    pub node: String,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeView>,
    /// When its main member began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

/// The kind of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KindView {
    /// For a person at a keyboard.
    Interactive,
    /// Runs to its end.
    Batch,
    /// Runs until it is stopped.
    Service,
}

/// What a session can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkView {
    /// Nothing but itself.
    None,
    /// What the node can reach.
    Host,
    /// Outgoing connections through the node; neither the node itself, nor other sessions, nor
    /// link-local addresses.
    Egress,
}

/// A path of the node shown inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MountView {
    /// Absolute path on the node.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Nothing can be written through it.
    #[serde(default)]
    pub read_only: bool,
}

/// The answer to a creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Created {
    /// The session.
    pub session: SessionView,
    /// The same idempotency key had made it before.
    pub already: bool,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// Its name; `NAME.INDEX` for an element of an array.
    pub name: String,
    /// Its kind.
    pub kind: KindView,
    /// Its domain.
    pub domain: String,
    /// Its project.
    pub project: String,
    /// Its user.
    pub user: String,
    /// The array it is an element of, and its index there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    /// Its index in the array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_index: Option<u32>,
    /// `pending`, `placed`, `preparing`, `starting`, `running`, `stopping` or `ended`.
    pub state: String,
    /// Who goes first while it waits for a place: the highest.
    #[serde(default = "crate::priorities::usual")]
    pub priority: u32,
    /// It is to stand still; only while it is `running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedView>,
    /// It was asked to go on, and its nodes have not told yet that it does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resuming: bool,
    /// It is being removed with all it left.
    #[serde(default)]
    pub removing: bool,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeView>,
    /// The image, as it was asked for.
    pub image: String,
    /// Which image that was; absent for `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Who the command is inside: `1000`, `root`, or as it was asked for.
    #[serde(default)]
    pub run_as: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory inside.
    pub workdir: String,
    /// What each member gets.
    pub resources: ResourcesView,
    /// What it can reach.
    pub network: NetworkView,
    /// Paths of the node shown inside.
    pub mounts: Vec<MountView>,
    /// Longest running time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    /// Both output streams are one.
    pub merge: bool,
    /// Standard input is a pipe, or a terminal.
    pub stdin: bool,
    /// The command has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// The current try, from 1; 0 before it was placed.
    pub attempt: u32,
    /// How many further attempts it was given for those that fail.
    #[serde(default)]
    pub retry: u32,
    /// How many of them are left.
    #[serde(default)]
    pub retries_left: u32,
    /// When the next attempt may begin, while it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// All attempts, the first first; empty before it was placed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
    /// What has to end before it is placed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<AfterView>,
    /// Limits of it that its node does not enforce, by their rows of the capability table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<String>,
    /// It asked for a disk limit, and no file system of its own keeps it: what it has on disk is
    /// measured, and with more it is ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disk_measured: bool,
    /// Its members.
    pub members: Vec<MemberView>,
    /// When it was asked for, RFC 3339 in UTC.
    pub created_at: String,
    /// When it first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeView {
    /// `succeeded`, `failed`, `stopped`, `cancelled`, `expired` or `lost`.
    pub outcome: String,
    /// A stable code for the cause: `exit_code`, `signal`, `out_of_memory`, ...; the outcome's
    /// word where there is no further cause.
    pub cause: String,
    /// One sentence.
    pub reason: String,
    /// The exit code of a foreground `run`.
    pub exit_code: u8,
}

/// Amounts in people's units and exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourcesView {
    /// CPUs as a decimal.
    pub cpu: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Most processes and threads.
    pub pids: u32,
    /// Most bytes on its node's disk, if it asked for a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

/// A member of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its id: session, attempt and index.
    pub id: String,
    /// The name of its node.
    pub node: String,
    /// `assigned`, `preparing`, `starting`, `running`, `stopping`, `exited` or `gone`.
    pub state: String,
}

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Ended ones too.
    #[serde(default)]
    pub all: bool,
    /// Only those with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most sessions on the page, 1 to 500; 100 if absent. With `grouped`, most sessions and
    /// arrays together.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only elements of this array, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    /// Only the element with this index; with `array` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Leave elements of arrays out, and tell their arrays instead.
    #[serde(default)]
    pub grouped: bool,
}

/// A page of sessions, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// With `grouped`: the arrays that stand between them, newest first. `created_at` tells where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<ArrayView>,
    /// Asks for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Asks for a session to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopSession {
    /// The first signal, 1 to 64; 15 if absent.
    #[schema(minimum = 1, maximum = 64)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// From the first signal to SIGKILL: `10s`. 10 seconds if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
}

/// How to remove a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    /// Stop it first if it lives; otherwise a living session is refused.
    #[serde(default)]
    pub force: bool,
}

/// A signal for a session's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalOrder {
    /// Its number, 1 to 64.
    #[schema(minimum = 1, maximum = 64)]
    pub signal: i32,
    /// Whoever sends it wants an end of the session: no further attempt follows, whatever the
    /// command makes of it. A command of `exec` knows nothing of this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_attempt: bool,
}

impl SignalOrder {
    /// A signal that means no more than what the command makes of it.
    pub fn plain(signal: i32) -> Self {
        let last_attempt = false;
        Self {
            signal,
            last_attempt,
        }
    }

    /// A signal by which a user means the session, not only this attempt.
    pub fn last(signal: i32) -> Self {
        let last_attempt = true;
        Self {
            signal,
            last_attempt,
        }
    }
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which part of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// First byte wanted, from 0.
    #[serde(default)]
    pub offset: u64,
    /// Only output written in this last length of time: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Go on until the session has ended.
    #[serde(default)]
    pub follow: bool,
    /// The program waits rather than that this follower misses a byte.
    #[serde(default)]
    pub lossless: bool,
    /// Only the bytes, without frames: gaps are not told.
    #[serde(default)]
    pub raw: bool,
    /// The output of this attempt, from 1; of the last one that was placed if absent, or of the
    /// next one where it is followed and none is placed. A stream is of one attempt and ends with
    /// it: the header `insula-attempt` of the answer tells which. A reader that follows a session
    /// with retries asks again with the next number until the session has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// Where a piece of standard input belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StdinQuery {
    /// Where the body stands in the whole input.
    pub offset: u64,
    /// Nothing comes after the body.
    #[serde(default)]
    pub close: bool,
}

/// How far standard input has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StdinView {
    /// The next byte wanted; may be less than what was sent.
    pub offset: u64,
    /// It takes no more.
    pub closed: bool,
}

/// Which files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct FilesQuery {
    /// Relative to `/work`; all of it if absent. Absolute: read inside, while the session runs.
    #[serde(default)]
    pub path: String,
    /// Only files that are new or differ from what was uploaded.
    #[serde(default)]
    pub changed: bool,
    /// The files of this attempt, from 1; of the last one that was placed if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// A staged upload. It is kept for a day unless a session names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// Its id.
    pub id: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What the members of a session use now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// CPU time so far, in microseconds.
    pub cpu_micros: u64,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// The most memory, in bytes.
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Out-of-memory kills so far.
    pub out_of_memory_kills: u64,
    /// Bytes on disk, as last measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Bytes read from block devices so far, where the engine knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Bytes written to block devices so far, where the engine knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bytes: Option<u64>,
    /// What they wait for, where the engine knows; of several members the largest share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureView>,
    /// When it was looked at, in microseconds of a clock of the node that is never set. A rate is
    /// the difference of two samples over the difference of these; 0 if not known.
    #[serde(default)]
    pub sampled_micros: u64,
}

/// Gives a session another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSession {
    /// The new name: 1 to 63 of a-z, 0-9 and inner hyphens, not the name of another living session
    /// of its owner.
    pub name: String,
}
