//! What every engine must do, as named cases that run against any of them.
//!
//! An engine's tests implement [`Harness`] and run [`CASES`]; what they find is a [`Report`],
//! from which the table in `docs/engines.md` is generated. A case about a row of the capability
//! table that the engine does not have passes as [`Verdict::NotSupported`]; a promise that is
//! broken is a [`Violation`].

mod bench;
mod files;
mod isolation;
mod lifetime;
mod limits;
mod pause;
mod pressure;
mod removal;
mod report;
mod waiting;
mod work;

use crate::container::ContainerSpec;
use crate::engine::{Engine, EngineError, StartError};
use async_trait::async_trait;
use bench::Bench;
use domain::{ExitRecord, MemberId, Network};
use std::future::Future;
use std::pin::Pin;

pub use report::{CaseResult, Report};
pub use work::{Layer, Work};

/// What a test of an engine must offer to the cases.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The engine.
    fn engine(&self) -> &dyn Engine;

    /// The member with this number; two harnesses that run at once give different ones.
    fn member(&self, number: u32) -> MemberId;

    /// Makes everything that a container needs before [`Engine::start`]: its directory with the
    /// entries of [`crate::layout`] and its root.
    async fn prepare(&self, plan: &Plan) -> ContainerSpec;

    /// Starts a container that is prepared by another engine with the same settings, whose process
    /// is killed after it.
    async fn start_and_die(&self, container: &ContainerSpec);

    /// What the command of [`Work::UseMount`] left in the directory that is mounted; `None` if
    /// nothing.
    async fn made_in_mount(&self, container: &ContainerSpec) -> Option<MadeInMount>;

    /// Lets so much time pass.
    async fn advance(&self, milliseconds: u32);

    /// The record that the guest left, once it has.
    async fn record(&self, container: &ContainerSpec) -> Option<ExitRecord>;

    /// What the command wrote to its standard output so far, or until it ended.
    async fn output(&self, container: &ContainerSpec) -> Vec<u8>;

    /// Whether working directory, logs and record of the container are there.
    async fn kept(&self, container: &ContainerSpec) -> Kept;

    /// What [`Work::NameNetwork`] would write on the node itself.
    fn node_network(&self) -> String;

    /// Removes what [`Harness::prepare`] made. The engine has removed its part.
    async fn discard(&self, container: &ContainerSpec);
}

/// A file that a command made in a user's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeInMount {
    /// What is in it.
    pub text: String,
    /// It belongs to the user whose directory it is.
    pub is_users: bool,
}

/// A container that a case wants. What its work needs beside that stands with [`Work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose.
    pub member: MemberId,
    /// What it does.
    pub work: Work,
    /// CPU time in ten-thousandths of a CPU.
    pub cpu: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// What it can reach.
    pub network: Network,
    /// Bytes of a file system of its own ([`Engine::make_disk`]), if it has one.
    pub disk_bytes: Option<u64>,
    /// Nothing of the root can be written.
    pub read_only: bool,
    /// Accept limits that cannot be enforced.
    pub best_effort: bool,
}

/// What is there of a member's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The working directory, with what was in it.
    pub work: bool,
    /// The logs.
    pub logs: bool,
    /// The exit record.
    pub record: bool,
}

/// How a case ended that broke no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The engine did what it must.
    Passed,
    /// The engine says that it does not have this row of the capability table.
    NotSupported {
        /// The row.
        row: &'static str,
    },
}

/// A promise that the engine broke, or a call that failed.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// A promise is broken.
    #[error("{promise}, but was seen: {seen}")]
    Broken {
        /// What should be.
        promise: &'static str,
        /// What is.
        seen: String,
    },
    /// A start failed that must not.
    #[error("a start failed")]
    Start(#[from] StartError),
    /// Another call failed that must not.
    #[error("a call failed")]
    Call(#[from] EngineError),
    /// There is no case of this name.
    #[error("there is no such case")]
    NoSuchCase,
}

type CaseFuture<'a> = Pin<Box<dyn Future<Output = Result<Verdict, Violation>> + Send + 'a>>;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its stable name.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub shows: &'static str,
    run: for<'a> fn(&'a Bench<'a>) -> CaseFuture<'a>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Case")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

macro_rules! case {
    ($name:literal, $module:ident :: $function:ident, $shows:literal) => {
        Case {
            name: $name,
            shows: $shows,
            run: |bench| Box::pin($module::$function(bench)),
        }
    };
}

/// Every case, in the order of the generated table.
pub const CASES: &[Case] = &[
    case!(
        "fingerprint.complete",
        lifetime::fingerprint_is_complete,
        "the fingerprint has every row of the capability table and no other"
    ),
    case!(
        "start.listed",
        lifetime::a_started_container_is_listed_alive,
        "a started container is listed, alive"
    ),
    case!(
        "start.many",
        lifetime::many_live_side_by_side,
        "several live side by side"
    ),
    case!(
        "start.idempotent",
        lifetime::starting_twice_is_starting_once,
        "starting twice is starting once"
    ),
    case!(
        "start.once",
        lifetime::an_ended_member_is_not_run_again,
        "a member that has ended is not run again, before or after its removal"
    ),
    case!(
        "exit.code",
        lifetime::the_exit_code_is_recorded,
        "the exit code is recorded"
    ),
    case!(
        "exit.output",
        lifetime::output_is_recorded,
        "what the command wrote is recorded"
    ),
    case!(
        "signal.kill",
        lifetime::kill_ends_the_container,
        "SIGKILL ends the whole container"
    ),
    case!(
        "signal.absent",
        lifetime::a_signal_to_nobody_is_success,
        "a signal to nobody succeeds"
    ),
    case!(
        "wait.end",
        waiting::waiting_ends_with_the_guest,
        "waiting ends when the guest does"
    ),
    case!(
        "wait.ended",
        waiting::waiting_for_the_ended_returns_at_once,
        "waiting for what has ended, or never was, ends at once"
    ),
    case!(
        "pause.stands-still",
        pause::a_paused_container_stands_still,
        "a paused container writes nothing, and goes on where it was; one that is not paused writes"
    ),
    case!(
        "pause.listed",
        pause::a_pause_is_listed,
        "the list tells what stands still, and what once did"
    ),
    case!(
        "pause.idempotent",
        pause::both_may_be_repeated,
        "pausing and resuming twice, or for nothing, succeeds"
    ),
    case!(
        "pause.killed",
        pause::a_paused_container_is_killed,
        "SIGKILL ends a paused container"
    ),
    case!(
        "pause.removed",
        pause::a_paused_container_is_removed,
        "a paused container is removed"
    ),
    case!(
        "remove.living",
        removal::removing_ends_the_living,
        "removing a living container ends it"
    ),
    case!(
        "remove.idempotent",
        removal::removing_twice_is_success,
        "removing twice succeeds"
    ),
    case!(
        "remove.absent",
        removal::removing_nothing_is_success,
        "removing nothing succeeds"
    ),
    case!(
        "remove.keeps",
        removal::removing_keeps_what_is_the_agents,
        "removing leaves working directory, logs and record"
    ),
    case!(
        "usage.absent",
        removal::usage_of_nothing_is_absent,
        "the usage of nothing is an error"
    ),
    case!(
        "usage.living",
        limits::usage_is_told,
        "the usage of a living container is told"
    ),
    case!(
        "limits.refused",
        limits::what_cannot_be_enforced_is_refused,
        "a limit that cannot be enforced is refused by its row, unless best effort is accepted"
    ),
    case!(
        "limits.cpu",
        limits::cpu_time_is_limited,
        "CPU time is limited"
    ),
    case!(
        "limits.memory",
        limits::memory_is_limited,
        "a kill by the memory limit is recognised"
    ),
    case!(
        "limits.pids",
        limits::processes_are_limited,
        "processes are limited"
    ),
    case!(
        "pressure.told",
        pressure::what_is_waited_for_is_told,
        "one that may use a tenth of a CPU and wants more is told to wait for it, and one that sleeps is not"
    ),
    case!(
        "disk.own",
        files::a_disk_of_its_own_is_full_when_it_is_full,
        "whoever fills a file system of its own, with bytes or with files, is told so and goes on"
    ),
    case!(
        "network.none",
        isolation::network_none_has_only_loopback,
        "only a loopback device"
    ),
    case!(
        "network.host",
        isolation::network_host_is_the_nodes,
        "the node's network, where another container has one of its own"
    ),
    case!(
        "network.egress",
        isolation::network_egress_has_a_device_of_its_own,
        "a loopback device and one other, and no other"
    ),
    case!(
        "root.read-only",
        isolation::the_root_cannot_be_written,
        "the root cannot be written"
    ),
    case!(
        "root.layers",
        files::layers_are_one_root_with_its_own_changes,
        "layers are seen as one root, and what is changed there only its container sees"
    ),
    case!(
        "mount.user",
        files::a_users_directory_can_be_used,
        "a user's private directory can be read and written, and new files are the user's"
    ),
    case!(
        "identity.range",
        isolation::user_ids_are_its_own,
        "user ids are its own"
    ),
    case!(
        "system-calls.filtered",
        isolation::system_calls_are_filtered,
        "a filter is in force"
    ),
    case!(
        "devices.filtered",
        isolation::only_harmless_devices_can_be_opened,
        "/dev has the harmless devices, and others cannot be opened from elsewhere"
    ),
    case!(
        "guest.outlives-agent",
        lifetime::the_guest_outlives_the_agent,
        "a container runs on when the process that started it is killed, and obeys the next one"
    ),
];

/// Runs one case and removes what it made, whatever happened.
pub async fn run_case(name: &str, harness: &dyn Harness) -> Result<Verdict, Violation> {
    let place = CASES.iter().position(|case| case.name == name);
    let place = place.ok_or(Violation::NoSuchCase)?;
    let bench = Bench::new(harness, u32::try_from(place).expect("there are few cases"));
    let result = (CASES[place].run)(&bench).await;
    let cleaned = bench.clean().await;
    let verdict = result?;
    cleaned?;
    Ok(verdict)
}
