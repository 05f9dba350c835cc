//! What the guest is told: the command, its whole environment, and its limits.

use crate::images::Identity;
use domain::amounts::WHOLE;
use domain::{MemberId, StdinMode};
use guest_api::files::LOG_LIMIT_BYTES;
use guest_api::{GuestConfig, PROTOCOL_VERSION};
use node_api::MemberSpec;
use std::collections::BTreeMap;

/// How long a follower that was announced, or has left, is waited for before output may be
/// dropped.
const FOLLOWER_HOLD_MS: u64 = 30_000;
/// From SIGTERM to SIGKILL when the time limit is reached.
const TIME_LIMIT_GRACE_MS: u64 = 10_000;
/// The kernel ends the command before the guest when memory is short.
const COMMAND_OOM_SCORE_ADJ: i32 = 500;
/// Open files of the command.
const OPEN_FILES_LIMIT: u64 = 16_384;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/games";
/// Variables by which libraries and languages choose their number of threads. Some of them count
/// the machine's CPUs in ways that nothing covers, so they are told.
const THREAD_VARIABLES: [&str; 14] = [
    "BLIS_NUM_THREADS",
    "DOTNET_PROCESSOR_COUNT",
    "GOMAXPROCS",
    "JULIA_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "PYTHON_CPU_COUNT",
    "RAYON_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
];

pub(super) fn guest_config(member: MemberId, spec: &MemberSpec, identity: Identity) -> GuestConfig {
    let session = &spec.session;
    GuestConfig {
        protocol: PROTOCOL_VERSION,
        member,
        command: session.command.clone(),
        env: environment(member, spec, &identity).into_iter().collect(),
        workdir: session
            .workdir
            .clone()
            .unwrap_or_else(|| "/work".to_owned()),
        run_as: identity.run_as,
        stdin_pipe: session.stdin == StdinMode::Pipe,
        merge_output: session.merge_output,
        log_limit_bytes: LOG_LIMIT_BYTES,
        follower_hold_ms: if session.follower_expected {
            FOLLOWER_HOLD_MS
        } else {
            0
        },
        time_limit_ms: session.time_limit.map(|limit| limit.0),
        time_limit_grace_ms: TIME_LIMIT_GRACE_MS,
        command_oom_score_adj: COMMAND_OOM_SCORE_ADJ,
        open_files_limit: OPEN_FILES_LIMIT,
        terminal: session.terminal,
    }
}

/// Ours first, then those of the image and of the user, which win. `PYTHONUNBUFFERED` is set because output is followed
/// live, and Python would keep it back for kilobytes.
fn environment(
    member: MemberId,
    spec: &MemberSpec,
    identity: &Identity,
) -> BTreeMap<String, String> {
    let cpus = spec.session.slots.cpu().div_ceil(WHOLE).max(1).to_string();
    let threads = THREAD_VARIABLES.map(|name| (name, cpus.clone()));
    let fixed = [
        ("HOME", identity.home.clone()),
        ("LANG", "C.UTF-8".to_owned()),
        ("LOGNAME", identity.name.clone()),
        ("PATH", PATH.to_owned()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        ("SHELL", "/bin/sh".to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
        ("USER", identity.name.clone()),
        ("INSULA_ATTEMPT", member.attempt.to_string()),
        ("INSULA_MEMBER_INDEX", member.index.to_string()),
        ("INSULA_SESSION", spec.shown_name()),
        ("INSULA_SESSION_ID", member.session.to_string()),
    ];
    let index = spec.array_index.map(|index| {
        let name = ("INSULA_ARRAY_NAME", spec.name.to_string());
        [("INSULA_ARRAY_INDEX", index.to_string()), name]
    });
    let size = spec
        .array_size
        .map(|size| ("INSULA_ARRAY_SIZE", size.to_string()));
    let array = index.into_iter().flatten().chain(size);
    // What a terminal can do is known to whoever sits at it, and they say so; this is the least.
    let terminal = spec.session.terminal.map(|_| ("TERM", "xterm".to_owned()));
    let ours = fixed
        .into_iter()
        .chain(threads)
        .chain(array)
        .chain(terminal);
    let ours = ours.map(|(name, value)| (name.to_owned(), value));
    let users = spec
        .session
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    ours.chain(users).collect()
}
