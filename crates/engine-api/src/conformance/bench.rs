//! What the cases do again and again.

use super::{Harness, Plan, Violation, Work};
use crate::container::ContainerSpec;
use crate::engine::{Engine, Found};
use domain::{Capability, ExitRecord, MemberId, Network};
use std::sync::Mutex;

/// Members that one case may make.
const MEMBERS_PER_CASE: u32 = 100;
/// Milliseconds between two looks at something that is awaited.
pub(super) const ROUND_MS: u32 = 20;
/// Looks before a case gives up: a minute.
pub(super) const ROUNDS: u32 = 3_000;

/// A harness at the service of one case, and what the case has made.
pub(super) struct Bench<'a> {
    pub(super) harness: &'a dyn Harness,
    case: u32,
    made: Mutex<Vec<ContainerSpec>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(harness: &'a dyn Harness, case: u32) -> Self {
        Self {
            harness,
            case,
            made: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn engine(&self) -> &'a dyn Engine {
        self.harness.engine()
    }

    /// The case's member of this number.
    pub(super) fn member(&self, number: u32) -> MemberId {
        self.harness.member(self.case * MEMBERS_PER_CASE + number)
    }

    /// A plan with limits that hurt no work of a case.
    pub(super) fn plan(&self, number: u32, work: Work) -> Plan {
        Plan {
            member: self.member(number),
            work,
            cpu: 10_000,
            memory_bytes: 64 << 20,
            pids: 100,
            network: Network::None,
            disk_bytes: None,
            read_only: true,
            best_effort: true,
        }
    }

    /// Makes what the plan needs, without starting it.
    pub(super) async fn prepare(&self, plan: &Plan) -> ContainerSpec {
        let container = self.harness.prepare(plan).await;
        self.made
            .lock()
            .expect("nobody panics while holding it")
            .push(container.clone());
        container
    }

    /// Prepares and starts.
    pub(super) async fn start(&self, plan: &Plan) -> Result<ContainerSpec, Violation> {
        let container = self.prepare(plan).await;
        let started = self.engine().start(&container).await?;
        ensure(
            "a first start is not one that was there already",
            !started.already,
            &started,
        )?;
        Ok(container)
    }

    /// Prepares, starts and waits for the end; the record that the guest left.
    pub(super) async fn run(&self, plan: &Plan) -> Result<(ContainerSpec, ExitRecord), Violation> {
        let container = self.start(plan).await?;
        let record = self.ended(&container).await?;
        Ok((container, record))
    }

    /// Waits for the record of `container` and for the end of its guest.
    pub(super) async fn ended(&self, container: &ContainerSpec) -> Result<ExitRecord, Violation> {
        for _ in 0..ROUNDS {
            let record = self.harness.record(container).await;
            if let Some(record) = record {
                self.gone(container).await?;
                return Ok(record);
            }
            self.harness.advance(ROUND_MS).await;
        }
        broken(
            "a command that ends leaves a record",
            &"none after a minute",
        )
    }

    /// Waits until the guest of `container` is not alive.
    pub(super) async fn gone(&self, container: &ContainerSpec) -> Result<(), Violation> {
        for _ in 0..ROUNDS {
            if !self
                .found(container.member)
                .await?
                .is_some_and(|found| found.alive)
            {
                return Ok(());
            }
            self.harness.advance(ROUND_MS).await;
        }
        broken(
            "an ended container is not listed as alive",
            &"it is, after a minute",
        )
    }

    /// What the engine's list says of `member`.
    pub(super) async fn found(&self, member: MemberId) -> Result<Option<Found>, Violation> {
        let list = self.engine().list().await?;
        let mut found = list.iter().filter(|found| found.member == member);
        let first = found.next().copied();
        ensure("a member is listed once", found.next().is_none(), &list)?;
        Ok(first)
    }

    /// Whether the engine has this row.
    pub(super) async fn has(&self, row: &str) -> Result<bool, Violation> {
        let fingerprint = self.engine().fingerprint().await?;
        Ok(fingerprint.capabilities.get(row) == Some(&Capability::Yes))
    }

    /// What the command of an ended container wrote, as text.
    pub(super) async fn text(&self, container: &ContainerSpec) -> String {
        String::from_utf8_lossy(&self.harness.output(container).await).into_owned()
    }

    /// Removes everything that the case has made.
    pub(super) async fn clean(&self) -> Result<(), Violation> {
        let made = std::mem::take(&mut *self.made.lock().expect("nobody panics holding it"));
        let mut result = Ok(());
        for container in made {
            let removed = self
                .engine()
                .remove(container.member, &container.directory)
                .await;
            if let Err(error) = removed {
                result = Err(error.into());
            } else {
                self.harness.discard(&container).await;
            }
        }
        result
    }
}

/// A promise that holds, or a violation that shows what was seen.
pub(super) fn ensure(
    promise: &'static str,
    holds: bool,
    seen: &(dyn std::fmt::Debug + Sync),
) -> Result<(), Violation> {
    if holds { Ok(()) } else { broken(promise, seen) }
}

pub(super) fn broken<T>(
    promise: &'static str,
    seen: &(dyn std::fmt::Debug + Sync),
) -> Result<T, Violation> {
    Err(Violation::Broken {
        promise,
        seen: format!("{seen:?}"),
    })
}
