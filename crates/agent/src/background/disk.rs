//! Measures what members have on disk, and how much of the file system is free.

use crate::files::{ENTRIES_LIMIT, held_open, measure};
use crate::shared::{Shared, chain, running_in};
use domain::MemberId;
use engine_api::layout;
use lifecycle::agent::{
    AgentEventKind, DISK_LOOK_MOST_MICROS, DiskUsage, disk_line, disk_look_micros, disk_unpromised,
};
use node_api::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a member is measured, at most, while there is room.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// The same for one that has as much as when it was measured before.
const MEASURE_UNCHANGED_EVERY: Duration = Duration::from_secs(30);
/// A tree that takes long to walk is walked less often: this many times what it took.
const REST_FACTOR: u32 = 50;
/// Entries of one tree that are looked at when it has to be quick: some 20 ms.
const HURRY_ENTRIES: u64 = 10_000;
/// On a disk that is nearly full the members are measured again when so much more was lost.
const STEP_BYTES: u64 = 1 << 20;

/// When a member is measured next.
#[derive(Debug, Default)]
struct Plan {
    due: BTreeMap<MemberId, Instant>,
    /// Members that were not measured to the end: they have at least what was counted.
    truncated: BTreeSet<MemberId>,
}

/// How the members are measured when the disk is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Only those that are due.
    Usual,
    /// All, but not to the end.
    Quick,
    /// All, and what they hold open that has no name.
    Thorough,
}

/// The rounds since the disk became nearly full.
#[derive(Clone, Copy, Debug, Default)]
struct Shortage {
    rounds: u32,
    /// What was free at the last of them.
    free_bytes: u64,
}

impl Shortage {
    /// First a quick round, then a thorough one; from then on one after the other, as long as the
    /// disk loses more. Where it does not, there is nobody to find.
    fn next(&mut self, free_bytes: u64, line_bytes: u64) -> Round {
        if free_bytes >= line_bytes {
            *self = Self::default();
            return Round::Usual;
        }
        let lost = self.free_bytes.saturating_sub(free_bytes) >= STEP_BYTES;
        if self.rounds >= 2 && !lost {
            // What was freed may be lost again.
            self.free_bytes = self.free_bytes.max(free_bytes);
            return Round::Usual;
        }
        self.free_bytes = free_bytes;
        self.rounds = self.rounds.saturating_add(1);
        match self.rounds % 2 {
            1 => Round::Quick,
            _ => Round::Thorough,
        }
    }
}

/// Goes on for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut plan = Plan::default();
    let mut shortage = Shortage::default();
    loop {
        shared.release_files_of_ended().await;
        let pause = match space(&shared).await {
            Some(space) => {
                let round = shortage.next(space.free_bytes, disk_line(space.total_bytes));
                look(&shared, &mut plan, round, &space).await;
                disk_look_micros(space.free_bytes, space.total_bytes)
            }
            None => DISK_LOOK_MOST_MICROS,
        };
        rest(Duration::from_micros(pause), shared.report.clone()).await;
    }
}

/// Waits for `pause` from when some command runs, at most for the longest pause.
async fn rest(pause: Duration, mut report: watch::Receiver<Arc<Report>>) {
    let writing = async {
        let begins = |report: &Arc<Report>| running_in(report).next().is_some();
        // Without anybody who reports, nothing will be started.
        let some_run = report.wait_for(begins).await.is_ok();
        if some_run {
            tokio::time::sleep(pause).await;
        } else {
            std::future::pending().await
        }
    };
    let longest = Duration::from_micros(DISK_LOOK_MOST_MICROS);
    // At the latest then, whoever writes.
    let _ = tokio::time::timeout(longest, writing).await;
}

/// Measures who is to be measured, and tells the owner.
async fn look(shared: &Arc<Shared>, plan: &mut Plan, round: Round, space: &Space) {
    let measured = plan.measure(shared, round, space).await;
    if !measured && round == Round::Usual {
        return;
    }
    let mut members = current(shared);
    if round == Round::Thorough {
        // Only now: it looks at every process of the node.
        for (member, held) in held(shared).await {
            if let Some(bytes) = members.get_mut(&member) {
                *bytes = bytes.saturating_add(held);
            }
        }
    }
    let disk = DiskUsage {
        free_bytes: space.free_bytes,
        total_bytes: space.total_bytes,
        began: shared.disk_began(members.keys()),
        with_own_disk: with_own_disk(shared, members.keys()),
        members,
        truncated: plan.truncated.clone(),
    };
    shared.tell(AgentEventKind::DiskMeasured { disk }).await;
}

/// Those that have a file system of their own.
fn with_own_disk<'a>(
    shared: &Shared,
    members: impl Iterator<Item = &'a MemberId>,
) -> BTreeSet<MemberId> {
    let has_disk = |member: &&MemberId| has_own_disk(shared, **member);
    members.filter(has_disk).copied().collect()
}

fn has_own_disk(shared: &Shared, member: MemberId) -> bool {
    let image = shared.member(member).entry(layout::DISK);
    std::fs::symlink_metadata(image).is_ok()
}

/// The file system of the members.
#[derive(Debug)]
struct Space {
    /// Bytes that can still be written and are promised to nobody.
    free_bytes: u64,
    total_bytes: u64,
    /// What members' own file systems have in memory.
    promised: BTreeMap<MemberId, u64>,
}

/// What the images of members' own file systems will still grow by, in bytes. Blocks for some
/// microseconds for each.
pub(crate) fn promised(shared: &Shared) -> BTreeMap<MemberId, u64> {
    let held = shared.held_files().into_iter();
    held.filter_map(|(member, files)| Some((member, files.own_disk()?.promised_bytes())))
        .collect()
}

async fn space(shared: &Arc<Shared>) -> Option<Space> {
    let context = Arc::clone(shared);
    let asking = tokio::task::spawn_blocking(move || {
        // First what is free: what is written out meanwhile then counts neither way, and for one
        // look. The other way round it would count twice, and could end somebody.
        let stat = rustix::fs::statvfs(context.directory.members())?;
        Ok::<_, rustix::io::Errno>((stat, promised(&context)))
    });
    match asking.await {
        Ok(Ok((stat, promised))) => {
            let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
            let promises = promised.values().copied();
            Some(Space {
                free_bytes: disk_unpromised(bytes(stat.f_bavail), promises),
                total_bytes: bytes(stat.f_blocks),
                promised,
            })
        }
        Ok(Err(error)) => {
            tracing::warn!("the file system's free space is not known: {error}");
            None
        }
        Err(_) => None,
    }
}

/// The last measurements of members that run.
fn current(shared: &Shared) -> BTreeMap<MemberId, u64> {
    let running = shared.running().into_iter();
    running
        .filter_map(|member| Some((member, shared.disk_bytes_of(member)?)))
        .collect()
}

/// What the members hold open that has no name any more, in bytes. Known only where members have
/// user ids of their own.
async fn held(shared: &Arc<Shared>) -> BTreeMap<MemberId, u64> {
    let context = Arc::clone(shared);
    let looking = tokio::task::spawn_blocking(move || {
        let slots: BTreeMap<u32, MemberId> = context
            .running()
            .into_iter()
            .filter_map(|member| {
                let work = context.member(member).entry(layout::WORK);
                let owner = std::fs::symlink_metadata(work).ok()?.uid();
                Some((context.slot_of(owner)?, member))
            })
            .collect();
        let whose = |user| slots.get(&context.slot_of(user)?).copied();
        held_open(&context.directory.members(), whose)
    });
    looking.await.unwrap_or_default()
}

/// Holds the file system of a member that an earlier process started, from now on.
async fn hold(shared: &Arc<Shared>, member: MemberId) {
    let context = Arc::clone(shared);
    let holding = tokio::task::spawn_blocking(move || {
        let held = context.held_files().contains_key(&member);
        if !held && has_own_disk(&context, member) {
            context.hold_files(member).map(drop)
        } else {
            Ok(())
        }
    });
    if let Ok(Err(error)) = holding.await {
        let reason = chain(&error);
        tracing::warn!(member.id = %member, "what it has in memory is not counted: {reason}");
    }
}

impl Plan {
    /// Measures the members that are due, or all of them; true if there were any.
    async fn measure(&mut self, shared: &Arc<Shared>, round: Round, space: &Space) -> bool {
        let writers = shared.running();
        self.due.retain(|member, _| writers.contains(member));
        self.truncated.retain(|member| writers.contains(member));
        let mut any = false;
        for member in writers {
            let now = Instant::now();
            let waits = self.due.get(&member).is_some_and(|due| *due > now);
            if round == Round::Usual && waits {
                continue;
            }
            hold(shared, member).await;
            let promised = space.promised.get(&member).copied().unwrap_or(0);
            let directory = shared.member(member).path().to_path_buf();
            let entries = match round {
                Round::Quick => HURRY_ENTRIES,
                Round::Usual | Round::Thorough => ENTRIES_LIMIT,
            };
            let walking = tokio::task::spawn_blocking(move || measure(&directory, entries));
            let Ok(found) = walking.await else {
                continue;
            };
            any = true;
            let bytes = found.bytes.saturating_add(promised);
            if round == Round::Quick {
                shared.saw_disk_bytes(member, bytes);
                continue;
            }
            if found.truncated {
                self.truncated.insert(member);
            } else {
                self.truncated.remove(&member);
            }
            let least = if shared.disk_bytes_of(member) == Some(bytes) {
                MEASURE_UNCHANGED_EVERY
            } else {
                MEASURE_EVERY
            };
            let rest = now.elapsed().saturating_mul(REST_FACTOR).max(least);
            self.due.insert(member, Instant::now() + rest);
            shared.set_disk_bytes(member, bytes);
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::{Round, STEP_BYTES, Shortage, rest};
    use domain::{MemberId, MemberPause, MemberState, NodeId, SessionId, Timestamp};
    use node_api::{Report, ReportedMember};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::watch;
    use tokio::time::Instant;

    #[test]
    fn a_nearly_full_disk_is_measured_as_long_as_it_loses_more() {
        use Round::{Quick, Thorough, Usual};
        let mut shortage = Shortage::default();
        let line = 1_000 * STEP_BYTES;
        for (free, expected) in [
            (2_000, Usual),
            (1_000, Usual),
            (999, Quick),
            (999, Thorough),
            (999, Usual),
            (999, Usual),
            (998, Quick),
            (998, Usual),
            (997, Thorough),
            // Something was removed, and written again.
            (999, Usual),
            (998, Quick),
            (1_000, Usual),
            (999, Quick),
            (999, Thorough),
        ] {
            let found = shortage.next(free * STEP_BYTES, line);
            assert_eq!(found, expected, "{free}");
        }
        assert_eq!(shortage.next(999 * STEP_BYTES - 1, line), Usual);
    }

    fn report(states: Vec<MemberState>) -> Arc<Report> {
        let members = (1..).zip(states).map(|(session, state)| ReportedMember {
            id: MemberId {
                session: SessionId(session),
                attempt: 1,
                index: 0,
            },
            state,
            pause: MemberPause::default(),
            unclaimed: false,
            spec: None,
        });
        Arc::new(Report {
            node: NodeId(1),
            sequence: 1,
            incarnation: 1,
            epoch: 1,
            generation: 1,
            members: members.collect(),
            settled: Vec::new(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_begins_to_write_is_looked_at_as_soon_as_it_could_matter() {
        let pause = Duration::from_millis(30);
        let runs = || {
            report(vec![MemberState::Running {
                since: Timestamp(1),
            }])
        };
        let (sender, receiver) = watch::channel(report(vec![MemberState::Starting]));
        let rested = async || {
            let began = Instant::now();
            rest(pause, receiver.clone()).await;
            began.elapsed().as_millis()
        };
        assert_eq!(rested().await, 2_000, "nobody writes");
        let starting = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            sender.send_replace(runs());
        };
        let (took, ()) = tokio::join!(rested(), starting);
        assert_eq!(took, 530);
        assert_eq!(rested().await, 30);
        // What has ended writes nothing; a report that never comes is not waited for.
        sender.send_replace(report(vec![MemberState::Gone]));
        drop(sender);
        assert_eq!(rested().await, 2_000);
    }
}
